"""The trials that could run now, by kind, and which of them a free worker should take."""

import heapq
from collections.abc import Collection, Iterable

from renal_ray.model.flops import suffix_gflops
from renal_ray.trial.probe import kind_name
from renal_ray.trial.spec import TrialSpec
from renal_ray.types import Head

Kind = tuple[str, str]  # what is compiled, and whose activations are at hand


def kind_of(spec: TrialSpec) -> Kind:
    """Trials of one kind follow each other in one worker: compiled step and activations stay."""
    return kind_name(spec.head, spec.freeze_point), spec.dataset


def length(spec: TrialSpec) -> float:
    """How long a trial is beside others: the arithmetic of its suffix, images of an epoch left out;
    nothing for heads, which end at once."""
    return (
        spec.epochs * suffix_gflops(spec.size, spec.freeze_point)
        if spec.head is Head.IMAGE
        else 0.0
    )


class Waiting:
    """Trials that can run now. Every question costs as much as there are kinds, however many trials
    wait."""

    def __init__(self) -> None:
        self._queues: dict[
            Kind, list[tuple[int, TrialSpec]]
        ] = {}  # heaps, by place in the plan; none is empty

    def __bool__(self) -> bool:
        return bool(self._queues)

    def add(self, place: int, spec: TrialSpec) -> None:
        """Lets a trial wait at its place in the plan, whose order is the longest first."""
        heapq.heappush(self._queues.setdefault(kind_of(spec), []), (place, spec))

    def take(self, kind: Kind) -> TrialSpec:
        """Removes the first trial of a kind."""
        queue = self._queues[kind]
        _, spec = heapq.heappop(queue)
        if not queue:
            del self._queues[kind]
        return spec

    def first(self, kind: Kind) -> TrialSpec:
        """The first trial of a kind."""
        return self._queues[kind][0][1]

    def longest(self) -> TrialSpec:
        """The first trial of all in the plan's order."""
        return min(queue[0] for queue in self._queues.values())[1]

    def choose(self, *, freed: Iterable[Kind], busy: Collection[Kind], slots: int) -> Kind:
        """The kind that a free worker should take from: its own, unless a longer trial would then
        be the last to end.

        Args:
            freed: kinds that workers have just run, the last one first.
            busy: kinds that some worker runs.
            slots: trials at once.
        """
        kinds = sorted(self._queues, key=lambda kind: self._queues[kind][0][0])
        chosen = self._preferred(kinds, list(freed), busy)
        longest = kinds[0]
        return longest if self._would_be_late(longest, chosen, slots) else chosen

    def _preferred(self, kinds: list[Kind], freed: list[Kind], busy: Collection[Kind]) -> Kind:
        """What needs no compilation and no other activations, else what nobody runs."""
        for kind in freed:
            if kind in self._queues:
                return kind
        for kind in freed:
            for other in kinds:
                if other[0] == kind[0]:
                    return other
        return next((kind for kind in kinds if kind not in busy), kinds[0])

    def _would_be_late(self, longest: Kind, chosen: Kind, slots: int) -> bool:
        """Whether too little that is shorter waits to fill the other places while the longest trial
        runs: it would be what the sweep ends with."""
        most, mine = length(self.first(longest)), length(self.first(chosen))
        if mine >= most:
            return False
        shorter = (
            length(queue[0][1]) * len(queue)
            for queue in self._queues.values()
            if length(queue[0][1]) <= mine
        )
        return sum(shorter) < most * (slots - 1)
