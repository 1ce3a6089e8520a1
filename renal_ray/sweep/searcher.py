"""Tells Tune which trial comes next: what is not finished, can run now, and takes longest - on the worker that compiled its kind, if one is free."""

from collections.abc import Callable
from typing import Any

from ray.tune.search import Searcher

from renal_ray.store.ledger import Ledger
from renal_ray.store.place import Place
from renal_ray.sweep.attempts import Attempts
from renal_ray.trial.packing import Share
from renal_ray.trial.plan import Plan, finished_results
from renal_ray.trial.probe import kind_name
from renal_ray.trial.spec import TrialSpec

Kind = tuple[str, str]  # what is compiled, and whose activations are at hand


def kind_of(spec: TrialSpec) -> Kind:
    """Trials of one kind follow each other in one worker: compiled step and activations stay."""
    return kind_name(spec.head, spec.freeze_point), spec.dataset


class StudySearcher(Searcher):
    """Walks the plan: image trials, then, as soon as a dataset's freeze point is selected, its patient-level heads and controls.

    Tune gives a trial to the worker that has just become free, if it asks for the same share. So no long trial is named before a worker is free,
    and then one of the kind that the worker has just run, else the longest kind that nobody runs. Of the short ones, which cost nothing to compile,
    one is named ahead: a worker that becomes free while none waits may be ended by Tune.

    Args:
        plan: the study's trials.
        work: its work directory, whose ledger says what is finished.
        share: what a trial is promised.
        room: how many trials of a share fit on the cluster at once.
        attempts: decides which lost trials are tried again.
    """

    def __init__(self, plan: Plan, work: Place, *, share: Callable[[TrialSpec], Share], room: Callable[[Share], int], attempts: Attempts) -> None:
        super().__init__(metric="val_auc", mode="max")
        self._plan = plan
        self._ledger = Ledger(work)
        self._share = share
        self._room = room
        self.attempts = attempts
        self._results = finished_results(work)
        self._specs = plan.specs(self._results)
        self._running: dict[str, TrialSpec] = {}
        self._freed: list[Kind] = []  # kinds that workers have just run, the last one last
        self.failed: set[str] = set()

    @property
    def slots(self) -> int:
        """How many of the longest waiting trials fit at once."""
        return max(1, self._room(self._share(self._specs[0])))

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial's specification and share, None while others must finish first, FINISHED when nothing is left."""
        settled = self._results.keys() | self.failed | {spec.trial_id for spec in self._running.values()}
        waiting = [spec for spec in self._specs if spec.trial_id not in settled and (spec.image_trial is None or spec.image_trial in self._results)]
        if not waiting or all(spec.trial_id in self.attempts.postponed for spec in waiting):
            return None if self._running else Searcher.FINISHED
        waiting = [spec for spec in waiting if self.attempts.is_ready(spec.trial_id)]
        if not waiting:
            return None
        spec = self._choose(waiting)
        share = self._share(spec)
        # What runs takes its part of the room, whatever its own share is.
        taken = sum(self._share(one).gpu / share.gpu if share.gpu else self._share(one).cpu / share.cpu for one in self._running.values())
        free = self._room(share) - taken + (1 if spec.is_short else 0)
        if self._running and free < 1 - 1e-9:
            return None
        self._freed = [kind for kind in self._freed if kind != kind_of(spec)]
        self._running[trial_id] = spec
        return {"spec": spec.to_json(), "share": share._asdict()}

    def _choose(self, waiting: list[TrialSpec]) -> TrialSpec:
        for compiled_only in (False, True):
            for kind in reversed(self._freed):
                for spec in waiting:
                    if kind_of(spec) == kind or (compiled_only and kind_of(spec)[0] == kind[0]):
                        return spec
        busy = {kind_of(spec) for spec in self._running.values()}
        return next((spec for spec in waiting if kind_of(spec) not in busy), waiting[0])

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        """Looks the trial up in the ledger: what is on disk decides, not what Tune heard."""
        spec = self._running.pop(trial_id, None)
        if spec is None:
            return
        found = self._ledger.result(spec.trial_id)
        if found is None:
            if spec.image_trial is not None and self._ledger.result(spec.image_trial) is None:  # damaged, and found so by the trial that read it
                self._results.pop(spec.image_trial, None)
                self._specs = self._plan.specs(self._results)
            if not self.attempts.goes_on(spec):
                self.failed.add(spec.trial_id)
            return
        self._freed.append(kind_of(spec))
        self._results[spec.trial_id] = found
        self._specs = self._plan.specs(self._results)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is the state, and a new run starts from it."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, see `save`."""
