"""Tells Tune which trial comes next: what is not finished, can run now, and takes longest - on the
worker that compiled its kind, if one is free."""

from collections import Counter
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

from ray.tune.search import Searcher

from renal_ray.store.ledger import Ledger
from renal_ray.store.place import Place
from renal_ray.sweep.attempts import Attempts
from renal_ray.sweep.waiting import Kind, Waiting, kind_of
from renal_ray.trial.packing import Share
from renal_ray.trial.plan import Plan, finished_results
from renal_ray.trial.spec import TrialSpec
from renal_ray.types import Dataset


class Running(NamedTuple):
    """A trial that Tune was told to run, and what it was promised."""

    spec: TrialSpec
    share: Share


class StudySearcher(Searcher):
    """Walks the plan: image trials, then, as soon as a dataset's freeze point is selected, its
    patient-level heads, controls and robustness trials.

    Tune gives a trial to the worker that has just become free, if it asks for the same share. So no
    long trial is named before a worker is free, and then one of the kind that the worker has just
    run, else the longest kind that nobody runs - unless a longer one would then end last. Of the
    short ones, which cost nothing to compile, one is named ahead: a worker that becomes free while
    none waits may be ended by Tune.

    A trial that the plan has named is in one of these places: waiting, blocked by its image trial,
    running, resting after it was lost, in the results, failed, or among those that `attempts` has
    postponed.

    Args:
        plan: the study's trials.
        work: its work directory, whose ledger says what is finished.
        share: what a trial is promised.
        room: how many trials of a share fit on the cluster at once.
        attempts: decides which lost trials are tried again.
    """

    def __init__(
        self,
        plan: Plan,
        work: Place,
        *,
        share: Callable[[TrialSpec], Share],
        room: Callable[[Share], int],
        attempts: Attempts,
    ) -> None:
        super().__init__(metric="val_auc", mode="max")
        self._plan = plan
        self._ledger = Ledger(work)
        self._share = share
        self._room = room
        self.attempts = attempts
        self.results = finished_results(work)
        self._running: dict[str, Running] = {}  # by Tune's name
        self._taken: Counter[tuple[Kind, Share]] = Counter()  # of the running ones
        self._resting: list[TrialSpec] = []
        self._freed: dict[Kind, None] = {}  # kinds that workers have just run, the last one last
        self.failed: set[str] = set()
        self._name()

    def _name(self) -> None:
        """Asks the plan for all trials that can be named: at the start, and whenever a freeze point
        is selected, or is not any more."""
        self._specs = self._plan.specs(self.results)
        self._places = {spec.trial_id: place for place, spec in enumerate(self._specs)}
        self._unselected = {
            dataset: self._unfinished_images(dataset) for dataset in self._plan.study.datasets
        }  # 0: its freeze point is selected
        self._resting = [spec for spec in self._resting if spec.trial_id in self._places]
        self._waiting = Waiting()
        self._blocked: dict[
            str, list[TrialSpec]
        ] = {}  # by the image trial whose embeddings they read
        elsewhere = {one.spec.trial_id for one in self._running.values()} | {
            spec.trial_id for spec in self._resting
        }
        settled = self.results.keys() | self.failed | self.attempts.postponed | elsewhere
        for spec in self._specs:
            if spec.trial_id not in settled:
                self._wait(spec)

    def _unfinished_images(self, dataset: Dataset) -> int:
        """Trials that the selection of a dataset's freeze point waits for."""
        return sum(
            spec.trial_id not in self.results
            for point in self._plan.study.freeze_points
            for spec in self._plan.selecting_specs(dataset, point)
        )

    def _wait(self, spec: TrialSpec) -> None:
        if spec.image_trial is None or spec.image_trial in self.results:
            self._waiting.add(self._places[spec.trial_id], spec)
        else:
            self._blocked.setdefault(spec.image_trial, []).append(spec)

    @property
    def slots(self) -> int:
        """How many of the longest waiting trials fit at once."""
        return max(1, self._room(self._share(self._specs[0])))

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial's specification and share, None while others must finish first, FINISHED
        when nothing is left."""
        self._wake()
        if not self._waiting:
            return None if self._running or self._resting else Searcher.FINISHED
        room = cache(self._room)  # the cluster may be asked for it
        busy = {kind for (kind, _), count in self._taken.items() if count}
        longest = self._share(self._waiting.longest())
        kind = self._waiting.choose(
            freed=reversed(self._freed), busy=busy, slots=max(1, room(longest))
        )
        spec = self._waiting.first(kind)
        share = self._share(spec)
        # What runs takes its part of the room, whatever its own share is.
        taken = sum(
            count * (one.gpu / share.gpu if share.gpu else one.cpu / share.cpu)
            for (_, one), count in self._taken.items()
        )
        free = room(share) - taken + (1 if spec.is_short else 0)
        if self._running and free < 1 - 1e-9:
            return None
        self._running[trial_id] = Running(self._waiting.take(kind), share)
        self._taken[kind, share] += 1
        self._freed.pop(kind, None)
        return {"spec": spec.to_json(), "share": share._asdict()}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Looks the trial up in the ledger: what is on disk decides, not what Tune heard."""
        if trial_id not in self._running:
            return
        spec = self._end(trial_id)
        found = self._ledger.result(spec.trial_id)
        if found is None:
            self._lose(spec)
            return
        kind = kind_of(spec)
        self._freed.pop(kind, None)
        self._freed[kind] = None
        self._finish(spec, found)

    def _end(self, trial_id: str) -> TrialSpec:
        """Takes a trial from those that run; its worker's room is free."""
        spec, share = self._running.pop(trial_id)
        self._taken[kind_of(spec), share] -= 1
        return spec

    def _lose(self, spec: TrialSpec) -> None:
        """Lets a trial rest that ended without a result, where it is to be tried again."""
        if not self.attempts.goes_on(spec):
            self.failed.add(spec.trial_id)
        elif (
            spec.trial_id not in self.attempts.postponed and spec.trial_id in self._places
        ):  # else the plan will name it once more
            self._resting.append(spec)
        # The image trial can be damaged, and be found so by the trial that read it.
        if spec.image_trial in self.results and self._ledger.result(spec.image_trial) is None:
            del self.results[spec.image_trial]
            self._name()

    def _wake(self) -> None:
        """Lets those wait that have rested."""
        rested = [spec for spec in self._resting if self.attempts.is_ready(spec.trial_id)]
        for spec in rested:
            self._resting.remove(spec)
            self._wait(spec)

    def _finish(self, spec: TrialSpec, found: dict[str, Any]) -> None:
        """Lets those wait whom the trial has blocked."""
        self.results[spec.trial_id] = found
        for blocked in self._blocked.pop(spec.trial_id, []):
            self._wait(blocked)
        if spec.selects:
            self._unselected[spec.dataset] -= 1
            if not self._unselected[spec.dataset]:
                self._name()

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is the state, and a new run starts from it."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, see `save`."""
