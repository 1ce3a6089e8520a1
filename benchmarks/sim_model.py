"""An event model of a cluster under Tune: nodes that die and come back, workers that are reused,
trials that end. The searcher in it is the real one."""

import heapq
import math
import random
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from statistics import mean
from time import perf_counter
from typing import Any

from renal_ray.store.place import Place
from renal_ray.sweep.attempts import PAUSE_S, Attempts
from renal_ray.sweep.searcher import StudySearcher
from renal_ray.sweep.waiting import kind_of
from renal_ray.trial.packing import Share, room, share
from renal_ray.trial.plan import Plan
from renal_ray.trial.spec import TrialSpec, main_level
from renal_ray.types import Head


@dataclass(frozen=True)
class Costs:
    """What things take, in seconds.

    Args:
        trial: steps and files of a trial, on a worker that has compiled its kind.
        compile: of a kind.
        start: of a worker's process and its imports.
        driver: of Tune and our driver for a trial, one after another.
        notice: until the driver hears that a node died.
        checkpoint: between two checkpoints of a trial; infinite without them.
    """

    trial: Callable[[TrialSpec], float]
    compile: Callable[[TrialSpec], float]
    start: float = 8.0
    driver: float = 0.028
    notice: float = 30.0
    checkpoint: float = 600.0


@dataclass(frozen=True)
class Failures:
    """How nodes die.

    Args:
        per_hour: share of the nodes that die in an hour.
        back_s: seconds after which a dead node returns; None: never.
        seed: of the draw.
    """

    per_hour: float = 0.0
    back_s: float | None = 600.0
    seed: int = 0


@dataclass
class Node:
    resources: dict[str, float]
    up: bool = True
    known: bool = True  # whether the driver counts on it
    free: dict[str, float] = field(default_factory=dict)
    workers: "set[Worker]" = field(default_factory=set)


@dataclass(eq=False)
class Worker:
    node: Node
    share: Share
    compiled: set[str] = field(default_factory=set)
    tasks: int = 0
    started: bool = False
    trial: "Trial | None" = None


@dataclass(eq=False)
class Trial:
    name: str  # Tune's
    spec: TrialSpec
    share: Share
    begun: float = 0.0  # when its steps began, start-up and compilation done


class Patience(Attempts):
    """The real pauses on the clock of the simulation; a trial whose node died is tried again
    however often that happens."""

    def __init__(self, work: Place, now: Callable[[], float]) -> None:
        super().__init__(work, most=0)
        self._now = now
        self.until: dict[str, float] = {}

    def goes_on(self, spec: TrialSpec) -> bool:
        self._count[spec.trial_id] += 1
        self.until[spec.trial_id] = self._now() + PAUSE_S
        return True

    def is_ready(self, trial_id: str) -> bool:
        return self.until.get(trial_id, 0.0) <= self._now()


class Searcher(StudySearcher):
    """The real one on a ledger in memory, with the real time of each of its answers."""

    def __init__(
        self, plan: Plan, work: Place, results: dict[str, dict[str, Any]], **told: Any
    ) -> None:
        super().__init__(plan, work, **told)
        self._ledger: Any = type("Memory", (), {"result": staticmethod(results.get)})
        self.real_s: list[float] = []

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        begun = perf_counter()
        found = super().suggest(trial_id)
        self.real_s.append(perf_counter() - begun)
        return found

    def on_trial_complete(
        self, trial_id: str, result: dict | None = None, error: bool = False
    ) -> None:
        begun = perf_counter()
        super().on_trial_complete(trial_id, result, error)
        self.real_s.append(perf_counter() - begun)


@dataclass(frozen=True)
class Outcome:
    """How a sweep went.

    Args:
        makespan: seconds until the last trial ended; None where no node was left.
        ran: finished trials.
        losses: how often each lost trial was lost.
        redone_s: seconds of steps that were lost with nodes.
        overhead_s: seconds of start-up and compilation, summed over workers.
        slot_s: seconds that slots were there until the end, summed.
        scheduler_ms: seconds of real time of the searcher: mean and longest call.
    """

    makespan: float | None
    ran: list[TrialSpec]
    losses: Counter[str]
    redone_s: float
    overhead_s: float
    slot_s: float
    scheduler_ms: tuple[float, float]


class Simulation:
    """One sweep.

    Args:
        plan: the trials.
        costs: what they take.
        auc: validation AUC of a trial, which selects the freeze points.
        nodes: resources of each node.
        failures: how nodes die.
    """

    def __init__(
        self,
        plan: Plan,
        costs: Costs,
        auc: Callable[[TrialSpec], float],
        nodes: list[dict[str, float]],
        failures: Failures,
    ) -> None:
        self._plan, self._costs, self._auc, self._failures = plan, costs, auc, failures
        self._nodes = [Node(one, free=dict(one)) for one in nodes]
        self._random = random.Random(failures.seed)
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._number, self._names = count(), count()
        self._results: dict[str, dict[str, Any]] = {}
        self._saved: dict[str, float] = {}  # seconds of a trial that its checkpoint holds
        self._named: list[Trial] = []
        self._idle: list[Worker] = []
        self._now, self._driver_free, self._lost_s, self._overhead_s, self._slot_s = (
            0.0,
            0.0,
            0.0,
            0.0,
            0.0,
        )
        self._losses: Counter[str] = Counter()
        self._ran: list[TrialSpec] = []
        self._running = 0

    def run(self) -> Outcome:
        """From the first trial to the last."""
        resources = self._plan.study.resources

        def room_for(one: Share) -> int:
            return room([node.resources for node in self._nodes if node.known], one)

        with tempfile.TemporaryDirectory() as empty:
            work = Place(empty)
            attempts = Patience(work, lambda: self._now)
            self._searcher = Searcher(
                self._plan,
                work,
                self._results,
                share=lambda spec: share(resources, spec, None),
                room=room_for,
                attempts=attempts,
            )
        for node in self._nodes:
            self._expect_death(node)
        finished = self._schedule()
        while not finished and self._events:
            when, _, happen, about = heapq.heappop(self._events)
            self._slot_s += (when - self._now) * sum(
                node.resources["GPU"] for node in self._nodes if node.up
            )
            self._now = when
            happen(*about)
            finished = self._schedule()
            if not (self._running or any(node.up for node in self._nodes) or self._failures.back_s):
                break
        real_ms = [1e3 * one for one in self._searcher.real_s]
        end = self._now if finished else None
        return Outcome(
            end,
            self._ran,
            self._losses,
            self._lost_s,
            self._overhead_s,
            self._slot_s,
            (mean(real_ms), max(real_ms)),
        )

    def _at(self, when: float, happen: Callable[..., None], *about: Any) -> None:
        heapq.heappush(self._events, (when, next(self._number), happen, about))

    def _schedule(self) -> bool:
        """What Tune does between two events: asks for trials, gives them to workers. True when
        nothing is left."""
        self._place()
        while isinstance(found := self._searcher.suggest(name := f"t{next(self._names)}"), dict):
            self._named.append(
                Trial(name, TrialSpec.from_json(found["spec"]), Share(**found["share"]))
            )
            self._place()
        if not self._named:
            for worker in self._idle[1:]:  # Tune keeps one that nobody waits for
                self._end_worker(worker)
            del self._idle[1:]
        return found == StudySearcher.FINISHED and not self._named

    def _place(self) -> None:
        while self._named and (worker := self._worker(self._named[0].share)):
            self._begin(worker, self._named.pop(0))

    def _worker(self, wanted: Share) -> Worker | None:
        for worker in self._idle:
            if worker.share == wanted:
                self._idle.remove(worker)
                return worker
        fitting = [node for node in self._nodes if node.up and room([node.free], wanted)]
        if not fitting:
            return None
        node = max(fitting, key=lambda one: one.free["GPU"])
        worker = Worker(node, wanted)
        node.workers.add(worker)
        self._occupy(worker, -1)
        return worker

    def _occupy(self, worker: Worker, sign: int) -> None:
        for name, amount in (("CPU", worker.share.cpu), ("GPU", worker.share.gpu)):
            worker.node.free[name] += sign * amount

    def _end_worker(self, worker: Worker) -> None:
        worker.node.workers.discard(worker)
        self._occupy(worker, 1)

    def _begin(self, worker: Worker, trial: Trial) -> None:
        if worker.tasks >= self._plan.study.resources.trials_per_process:
            worker.compiled, worker.tasks, worker.started = set(), 0, False
        kind, _ = kind_of(trial.spec)
        before = (0.0 if worker.started else self._costs.start) + (
            0.0 if kind in worker.compiled else self._costs.compile(trial.spec)
        )
        worker.compiled.add(kind)
        worker.tasks, worker.started, worker.trial = worker.tasks + 1, True, trial
        self._overhead_s += before
        self._running += 1
        trial.begun = self._now + before
        left = self._costs.trial(trial.spec) - self._saved.get(trial.spec.trial_id, 0.0)
        self._at(trial.begun + left, self._finish, worker, trial)

    def _finish(self, worker: Worker, trial: Trial) -> None:
        if worker.trial is not trial:  # lost meanwhile
            return
        if self._driver_free > self._now:
            self._at(self._driver_free, self._finish, worker, trial)
            return
        self._driver_free = self._now + self._costs.driver
        self._running -= 1
        worker.trial = None
        self._idle.append(worker)
        self._ran.append(trial.spec)
        level = main_level(trial.spec.head)
        self._results[trial.spec.trial_id] = {
            "levels": {level: {"metrics": {"auc": self._auc(trial.spec)}}}
        }
        self._searcher.on_trial_complete(trial.name)

    def _expect_death(self, node: Node) -> None:
        if self._failures.per_hour:
            rate = -math.log(1 - self._failures.per_hour) / 3600
            self._at(self._now + self._random.expovariate(rate), self._die, node)

    def _die(self, node: Node) -> None:
        node.up = False
        self._idle = [worker for worker in self._idle if worker.node is not node]
        lost = [worker.trial for worker in node.workers if worker.trial]
        for worker in node.workers:
            worker.trial = None
        for trial in lost:
            passed = max(0.0, self._now - trial.begun)
            kept = (
                passed - passed % self._costs.checkpoint
                if math.isfinite(self._costs.checkpoint)
                else 0.0
            )
            self._saved[trial.spec.trial_id] = self._saved.get(trial.spec.trial_id, 0.0) + kept
            self._lost_s += passed - kept
            self._losses[trial.spec.trial_id] += 1
        node.workers, node.free = set(), dict(node.resources)
        self._at(self._now + self._costs.notice, self._notice, node, lost)
        if self._failures.back_s is not None:
            self._at(self._now + max(self._failures.back_s, self._costs.notice), self._return, node)

    def _notice(self, node: Node, lost: list[Trial]) -> None:
        node.known = False
        for trial in lost:
            self._running -= 1
            self._searcher.on_trial_complete(trial.name, error=True)
        self._at(
            self._now + PAUSE_S, lambda: None
        )  # Tune asks all the time; here somebody must ask when they have rested

    def _return(self, node: Node) -> None:
        node.up = node.known = True
        self._expect_death(node)


def ideal(ran: list[TrialSpec], seconds: Callable[[TrialSpec], float], slots: int) -> float:
    """Seconds below which no schedule without start-up, compilation or loss can come.

    The largest of: all work over all slots; the longest chain of an image trial and what waits for
    its dataset's selection; and, as nothing that waits can begin before some dataset's longest
    image trial has ended, that time and then the waiting work over all slots.
    """
    images: dict[str, float] = {}
    after: dict[str, list[float]] = {}
    work = [seconds(spec) for spec in ran]
    for spec, took in zip(ran, work, strict=True):
        if spec.head is Head.IMAGE and spec.labels == "true":
            images[spec.dataset] = max(images.get(spec.dataset, 0.0), took)
        else:
            after.setdefault(spec.dataset, []).append(took)
    chain = max(first + max(after.get(dataset, [0.0])) for dataset, first in images.items())
    return max(
        sum(work) / slots, chain, min(images.values()) + sum(map(sum, after.values())) / slots
    )
