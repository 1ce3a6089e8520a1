"""The actor that Tune runs trials in: one framework import and one compiled model per shape, for many trials."""

from collections.abc import Iterator
from time import monotonic
from typing import Any

from ray import tune

from renal_ray.config import Study
from renal_ray.protocol.splits import SplitSet
from renal_ray.store.ledger import Ledger
from renal_ray.store.place import Place
from renal_ray.trial.run import attempt_trial
from renal_ray.trial.spec import TrialSpec, main_level
from renal_ray.trial.train import Epoch
from renal_ray.trial.workshop import Workshop, configure_keras

REPORT_S = 1.0  # an epoch of a small head takes milliseconds: Tune hears of several at once


class StudyWorker(tune.Trainable):
    """Runs one trial after another; a step is as many epochs as fit into a second."""

    def setup(self, config: dict[str, Any], study: Study, work: Place, splits: SplitSet) -> None:
        """Called once in the actor's life, with its first trial."""
        configure_keras(study.backend, int(study.resources.cpus_per_trial))
        self._work = work
        self._splits = splits
        self._workshop = Workshop(work)
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Takes the next trial into the same actor."""
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        self._spec = TrialSpec.from_json(config["spec"])
        self._epochs: Iterator[Epoch] = attempt_trial(self._spec, self._work, self._splits, self._workshop)

    def step(self) -> dict[str, Any]:
        """Trains on; the step that ends the trial carries its validation AUC."""
        until = monotonic() + REPORT_S
        epoch: Epoch | None = None
        for epoch in self._epochs:
            if monotonic() >= until:
                return self._report(epoch)
        result = Ledger(self._work).result(self._spec.trial_id)
        if result is None:
            raise RuntimeError(f"{self._spec.trial_id}: the trial ended without a result")
        return {
            "done": True,
            "trial": self._spec.trial_id,
            "epoch": self._spec.epochs,
            "epochs": self._spec.epochs,
            "val_auc": result["levels"][main_level(self._spec.head)]["metrics"]["auc"],
            "images_per_second": result["images_per_second"],
            "seconds": result["seconds"]["total"],
        }

    def _report(self, epoch: Epoch) -> dict[str, Any]:
        return {"trial": self._spec.trial_id, "epoch": epoch.epoch, "epochs": self._spec.epochs, "loss": epoch.loss, "val_auc": epoch.val_auc}
