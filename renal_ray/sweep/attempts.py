"""Which trials that were lost - their process, node or disk went, or a file they read was damaged -
are tried again."""

from collections import Counter
from time import monotonic

from renal_ray.store.ledger import Ledger
from renal_ray.store.place import Place
from renal_ray.trial.checkpoint import NAME
from renal_ray.trial.spec import TrialSpec
from renal_ray.types import Head

# Before the second attempt, twice that before the third: a node or a disk needs time to come back.
PAUSE_S = 10.0


class Attempts:
    """Counts attempts in a row without progress; a trial that raised by itself is not tried again
    before the next sweep.

    Args:
        work: the study's work directory.
        most: attempts at one trial since its last checkpoint: a long one on machines that come and
            go is lost many times, and yet ends.
        computed: freeze points whose activations are not cached.
        pause_s: seconds before the second attempt.
    """

    def __init__(
        self,
        work: Place,
        *,
        most: int,
        computed: frozenset[str] = frozenset(),
        pause_s: float = PAUSE_S,
    ) -> None:
        self._work = work
        self._ledger = Ledger(work)
        self._most = most
        self._computed = computed
        self._pause_s = pause_s
        self._count: Counter[str] = Counter()
        self._last: dict[str, str] = {}  # checkpoint that a trial had when it was lost
        self._not_before: dict[str, float] = {}
        self.postponed: set[str] = (
            set()
        )  # what they read is gone, and is made anew between two runs of Tune

    def goes_on(self, spec: TrialSpec) -> bool:
        """Notes that a trial ended without a result; whether it is to be tried again."""
        trial = spec.trial_id
        reached = self._reached(trial)
        self._count[trial] = self._count[trial] + 1 if reached == self._last.get(trial) else 1
        self._last[trial] = reached
        if self._ledger.state(trial) == "failed" or self._count[trial] >= self._most:
            return False
        if not self._has_inputs(spec):
            self.postponed.add(trial)
            return True
        self._not_before[trial] = monotonic() + self._pause_s * self._count[trial]
        return True

    def made(self, trial_id: str) -> int:
        """How often a trial was lost since its last progress."""
        return self._count[trial_id]

    def is_ready(self, trial_id: str) -> bool:
        """Whether a trial may be named now."""
        return trial_id not in self.postponed and self._not_before.get(trial_id, 0.0) <= monotonic()

    def _reached(self, trial_id: str) -> str:
        """Names the checkpoint that a trial would continue from."""
        try:
            return str(self._ledger.folder(trial_id).read_json(NAME)["file"])
        except (OSError, ValueError, KeyError):  # none, or none that could be read
            return ""

    def _has_inputs(self, spec: TrialSpec) -> bool:
        if spec.head is not Head.IMAGE:
            return True
        from renal_ray.trial.workshop import backbone_file

        cached = spec.freeze_point in self._computed or spec.activations.exists(self._work)
        return cached and self._work.exists(backbone_file(spec.inputs.weights))
