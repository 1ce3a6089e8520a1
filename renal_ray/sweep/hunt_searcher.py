"""Tells Tune which trial of a search comes next: folds of configurations, as
`renal_ray.trial.search.hunt` wants them."""

from collections.abc import Callable
from typing import Any

from ray.tune.search import Searcher

from renal_ray.store.ledger import Ledger
from renal_ray.store.place import Place
from renal_ray.sweep.attempts import Attempts
from renal_ray.sweep.searcher import Running
from renal_ray.trial.packing import Share
from renal_ray.trial.plan import finished_results
from renal_ray.trial.search.hunt import Hunt
from renal_ray.trial.spec import TrialSpec


class HuntSearcher(Searcher):
    """Walks a search. A trial is named when a worker is free for it, of the short ones one ahead,
    see `renal_ray.sweep.searcher.StudySearcher`.

    Args:
        hunt: the search.
        work: its work directory, whose ledger says what is finished.
        share: what a trial is promised.
        room: how many trials of a share fit on the cluster at once.
        attempts: decides which lost trials are tried again.
    """

    def __init__(
        self,
        hunt: Hunt,
        work: Place,
        *,
        share: Callable[[TrialSpec], Share],
        room: Callable[[Share], int],
        attempts: Attempts,
    ) -> None:
        super().__init__(metric="val_auc", mode="max")
        self._hunt, self._ledger, self._share, self._room = hunt, Ledger(work), share, room
        self.attempts = attempts
        self.results = finished_results(work)
        self.failed: set[str] = set()
        self._running: dict[str, Running] = {}  # by Tune's name
        self._resting: dict[str, TrialSpec] = {}  # by trial id

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial's specification and share, None while others must end first, FINISHED when
        nothing is left."""
        # Asked before the search is: what it names may be a new configuration, drawn from what is
        # known at that moment.
        if self._running and not any(
            self._has_room(one.share, one.spec) for one in self._running.values()
        ):
            return None
        spec = self._next()
        if spec is None:
            return None if self._running or self._resting else Searcher.FINISHED
        share = self._share(spec)
        if self._running and not self._has_room(share, spec):
            return None
        self._resting.pop(spec.trial_id, None)
        self._running[trial_id] = Running(spec, share)
        return {"spec": spec.to_json(), "share": share._asdict()}

    def _next(self) -> TrialSpec | None:
        for spec in self._resting.values():
            if self.attempts.is_ready(spec.trial_id):
                return spec
        busy = (
            {one.spec.trial_id for one in self._running.values()}
            | self._resting.keys()
            | self.attempts.postponed
        )
        return self._hunt.next(self.results, self.failed, busy)

    def _has_room(self, share: Share, spec: TrialSpec) -> bool:
        taken = sum(
            one.share.gpu / share.gpu if share.gpu else one.share.cpu / share.cpu
            for one in self._running.values()
        )
        return self._room(share) - taken + (1 if spec.is_short else 0) >= 1 - 1e-9

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Looks the trial up in the ledger: what is on disk decides, not what Tune heard."""
        if trial_id not in self._running:
            return
        spec = self._running.pop(trial_id).spec
        found = self._ledger.result(spec.trial_id)
        if found is not None:
            self.results[spec.trial_id] = found
            return
        if not self.attempts.goes_on(spec):
            self.failed.add(spec.trial_id)
        elif spec.trial_id not in self.attempts.postponed:
            self._resting[spec.trial_id] = spec
        if spec.image_trial in self.results and self._ledger.result(spec.image_trial) is None:
            del self.results[spec.image_trial]  # damaged, and found so by the trial that read it

    def save(self, checkpoint_path: str) -> None:
        """Nothing: ledger and record are the state, and a new run starts from them."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, see `save`."""
