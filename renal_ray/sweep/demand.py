"""What a sweep asks of an autoscaler: room for all trials that could run at once, and less as they
finish."""

from contextlib import ExitStack
from time import monotonic
from types import TracebackType
from typing import Any, Self

from ray.tune import Callback
from ray.tune.experiment import Trial

from renal_ray.sweep.scaling import bundle, keeper, scaling
from renal_ray.trial.packing import Share

MOST_BUNDLES = 1000  # the autoscaler packs them onto nodes anew every few seconds
TELL_EVERY_S = 10.0


class Demand(Callback):
    """A context manager that asks, because the searcher names a trial only when a worker is free
    for it: without, a cluster would not grow.

    Where no autoscaler runs nothing is asked.

    Args:
        share: what a trial is promised.
        trials: how many are left.
    """

    def __init__(self, share: Share, trials: int) -> None:
        self._bundle = bundle(share)
        self._left = trials
        self._stack = ExitStack()
        self._keeper: Any = None
        self._next = 0.0

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles callbacks with its experiment; this one has nothing that a next run
        needs."""
        return {}

    def __enter__(self) -> Self:
        if scaling().runs:
            self._keeper = self._stack.enter_context(keeper())
            self._tell()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """One fewer is left."""
        self._lower()

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """A failed one is not waited for either."""
        self._lower()

    def _lower(self) -> None:
        self._left = max(0, self._left - 1)
        if self._keeper is not None and monotonic() >= self._next:
            self._tell()

    def _tell(self) -> None:
        self._next = monotonic() + TELL_EVERY_S
        self._keeper.ask.remote([self._bundle] * min(self._left, MOST_BUNDLES))
