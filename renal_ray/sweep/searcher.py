"""Tells Tune which trial comes next: what is not finished, can run now, and takes longest."""

from typing import Any

from ray.tune.search import Searcher

from renal_ray.store.ledger import Ledger
from renal_ray.store.place import Place
from renal_ray.trial.plan import Plan, finished_results
from renal_ray.trial.spec import TrialSpec


class StudySearcher(Searcher):
    """Walks the plan: image trials, then, as soon as a dataset's freeze point is selected, its patient-level heads and controls.

    Args:
        plan: the study's trials.
        work: its work directory, whose ledger says what is finished.
    """

    def __init__(self, plan: Plan, work: Place) -> None:
        super().__init__(metric="val_auc", mode="max")
        self._plan = plan
        self._ledger = Ledger(work)
        self._results = finished_results(work)
        self._specs = plan.specs(self._results)
        self._running: dict[str, TrialSpec] = {}
        self.failed: set[str] = set()

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial's specification, None while others must finish first, FINISHED when nothing is left."""
        settled = self._results.keys() | self.failed | {spec.trial_id for spec in self._running.values()}
        for spec in self._specs:
            if spec.trial_id not in settled and (spec.image_trial is None or spec.image_trial in self._results):
                self._running[trial_id] = spec
                return {"spec": spec.to_json()}
        return None if self._running else Searcher.FINISHED

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        """Looks the trial up in the ledger: what is on disk decides, not what Tune heard."""
        spec = self._running.pop(trial_id, None)
        if spec is None:
            return
        found = self._ledger.result(spec.trial_id)
        if found is None:
            self.failed.add(spec.trial_id)
        else:
            self._results[spec.trial_id] = found
            self._specs = self._plan.specs(self._results)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is the state, and a new run starts from it."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, see `save`."""
