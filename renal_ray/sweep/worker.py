"""The actor that Tune runs trials in: thin, and under it a process that lives for many trials."""

import os
from collections.abc import Iterator
from time import monotonic
from typing import Any

import ray
from ray import tune

from renal_ray.config import Study
from renal_ray.store.ledger import Ledger
from renal_ray.store.place import Place
from renal_ray.sweep.metrics import TrialMetrics
from renal_ray.sweep.naming import worker_name
from renal_ray.trial.packing import Share
from renal_ray.trial.process import Setup, TrialProcess
from renal_ray.trial.progress import NODE_ADDRESS
from renal_ray.trial.spec import TrialSpec, main_level

REPORT_S = 1.0  # a step ends after this long at the latest when there is something new to say


class StudyWorker(tune.Trainable):
    """Runs one trial after another in its process."""

    _name = "StudyWorker"

    def __repr__(self) -> str:
        """The actor's name in Ray's dashboard, which asks once: it must be right for all trials to
        come. Its calls name each, see `naming`."""
        return self._name

    def setup(self, config: dict[str, Any], study: Study, work: Place, computed: list[str]) -> None:
        """Called once in the actor's life, with its first trial."""
        share = Share(**config["share"])
        resources = study.resources
        os.environ[NODE_ADDRESS] = ray.util.get_node_ip_address()  # goes on to the process
        self._seen = TrialMetrics(study.name)
        setup = Setup.of(study, share, computed)
        self._process = TrialProcess(
            setup,
            most_tasks=resources.trials_per_process,
            most_mib=resources.process_mb,
            silence_s=resources.trial_timeout * 60,
        )
        self._ledger = Ledger(work)
        self._begin(config)
        self._name = worker_name(self._spec)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Takes the next trial into the same actor."""
        self._begin(new_config)
        return True

    def cleanup(self) -> None:
        """Ends the process with the actor."""
        self._process.close()
        self._seen.close()

    def _begin(self, config: dict[str, Any]) -> None:
        self._spec = TrialSpec.from_json(config["spec"])
        self._seen.begin(self._spec)
        self._told: Iterator[dict[str, Any]] = self._process.run(self._spec)

    def step(self) -> dict[str, Any]:
        """Listens on; the step that ends the trial carries its validation AUC."""
        until = monotonic() + REPORT_S
        for told in self._told:
            self._seen.tell(told)
            if told["notes"] or monotonic() >= until:
                return {"trial": self._spec.trial_id, **told}
        self._seen.end()
        result = self._ledger.result(self._spec.trial_id)
        if result is None:
            raise RuntimeError(f"{self._spec.trial_id}: the trial ended without a result")
        return {
            "done": True,
            "trial": self._spec.trial_id,
            "epoch": self._spec.epochs,
            "epochs": self._spec.epochs,
            "val_auc": result["levels"][main_level(self._spec.head)]["metrics"]["auc"],
            "images_per_second": result["images_per_second"],
            "eta_s": 0.0,
            "seconds": result["seconds"]["total"],
        }
