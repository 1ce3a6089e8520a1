"""Where a study stands, in lines for a person: from its work directory alone, on any machine that
sees it, also when nothing runs any more."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from renal_ray.config import Study
from renal_ray.store.ledger import PROGRESS, Ledger
from renal_ray.store.lock import is_held
from renal_ray.store.place import Place
from renal_ray.store.seal import openings
from renal_ray.trial import prepared
from renal_ray.trial.changed import CohortState, cohort_state
from renal_ray.trial.forecast import Forecast
from renal_ray.trial.masks import mask_parts, masks_wanted
from renal_ray.trial.plan import Plan, family, finished_results, make_plan
from renal_ray.trial.probe import read_probe
from renal_ray.trial.progress import BEAT_S
from renal_ray.trial.search.outcome import search_status
from renal_ray.trial.spec import TrialSpec
from renal_ray.trial.status import clock, cpu_slots, slots_of

STALE_S = 3 * BEAT_S  # a process that lives writes more often
ERROR_LENGTH = 200


@dataclass(frozen=True)
class Sign:
    """What a trial that has begun and not ended told last.

    Args:
        trial_id: the trial.
        told: content of its progress.json.
        age_s: seconds since it was written.
    """

    trial_id: str
    told: Mapping[str, Any]
    age_s: float

    @property
    def is_stale(self) -> bool:
        """Whether its process must be gone, or cut off from the work directory."""
        return self.age_s > STALE_S

    @property
    def node(self) -> tuple[str, str]:
        """Host and address of the node."""
        return node_of(self.told)

    def line(self, node: str) -> str:
        """One line for a person."""
        told = self.told
        where = f"{node}, process {told['pid']}" if "pid" in told else node
        at = f"epoch {told['epoch']}/{told['epochs']}" if told["epoch"] else "starting"
        if self.is_stale:
            return (
                f"{self.trial_id}: last seen {_ago(self.age_s)} ago, {at} "
                f"({where}); the next sweep goes on with it"
            )
        rate = (
            ""
            if told["images_per_second"] is None
            else f", {told['images_per_second']:.1f} samples/s"
        )
        stage = ", scoring" if told.get("stage") == "scoring" else ""
        left = "" if told["eta_s"] is None or stage else f", {clock(told['eta_s'])} left"
        return f"{self.trial_id}: {at}{stage}{rate}{left} ({where}, seen {_ago(self.age_s)} ago)"


def node_of(kept: Mapping[str, Any]) -> tuple[str, str]:
    """Host and address of a node as kept with a trial; a question mark where an older version kept
    none."""
    return str(kept.get("host") or "?"), str(kept.get("address") or "")


def node_names(nodes: set[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """A name for each node: its host, and its address too where several have the same host."""
    shared = Counter(host for host, _ in nodes)
    return {
        (host, address): f"{host} {address}".strip() if shared[host] > 1 else host
        for host, address in nodes
    }


@dataclass(frozen=True)
class Look:
    """A study at one moment.

    Args:
        counts: finished, failed, running and waiting trials, in one line.
        summary: the same with the time that is left.
        lines: everything, the summary first.
        is_over: whether nothing more is going to happen without a new sweep.
    """

    counts: str
    summary: str
    lines: list[str]
    is_over: bool


class Standing:
    """Looks at a study again and again; results that were read are kept.

    Args:
        study: the study.
        work: its work directory.
    """

    def __init__(self, study: Study, work: Place) -> None:
        self._study, self._work, self._ledger = study, work, Ledger(work)
        self._plan: Plan | None = None
        self._results: dict[str, dict[str, Any]] | None = None
        self._specs: dict[str, TrialSpec] = {}

    def look(self) -> Look:
        """What is finished, running, waiting and failed now."""
        if self._plan is None:
            if not self._work.exists(prepared.MARKER):
                line = f"{self._study.name}: not prepared yet; run `renal-ray prepare`"
                return Look(line, line, [line], not is_held(self._work))
            self._plan = make_plan(self._study, self._work)
        there = set(self._ledger.trial_ids())
        results = self._refresh(self._plan, there)
        begun = [
            trial_id for trial_id in self._specs if trial_id in there and trial_id not in results
        ]  # nothing is asked about the others
        states = {trial_id: self._ledger.state(trial_id) for trial_id in begun}
        signs = [
            sign
            for trial_id, state in states.items()
            if state == "unfinished" and (sign := self._sign(trial_id))
        ]
        return self._look(self._plan, results, states, signs)

    @cached_property
    def _cohort(self) -> CohortState:
        return cohort_state(self._study, self._work)

    def _refresh(self, plan: Plan, there: set[str]) -> dict[str, dict[str, Any]]:
        before = self._results
        if before is None:
            self._results = finished_results(self._work)
        else:
            new = {
                trial_id: result
                for trial_id in there - before.keys()
                if (result := self._ledger.result(trial_id)) is not None
            }
            self._results = {
                trial_id: result for trial_id, result in before.items() if trial_id in there
            } | new
        if before is None or before.keys() != self._results.keys():
            self._specs = {spec.trial_id: spec for spec in plan.specs(self._results)}
        return self._results

    def _sign(self, trial_id: str) -> Sign | None:
        """What a begun trial told last; None in its first seconds, and when it has ended
        meanwhile."""
        try:
            told: dict[str, Any] = self._ledger.folder(trial_id).read_json(PROGRESS)
        except FileNotFoundError:
            return None
        age = datetime.now(UTC) - datetime.fromisoformat(told["time"])
        return Sign(
            trial_id, told, max(0.0, age.total_seconds())
        )  # clocks of two machines may differ

    def _look(
        self,
        plan: Plan,
        results: dict[str, dict[str, Any]],
        states: Mapping[str, str],
        signs: list[Sign],
    ) -> Look:
        running = [sign for sign in signs if not sign.is_stale]
        failed = [trial_id for trial_id, state in states.items() if state == "failed"]
        finished = [trial_id for trial_id in self._specs if trial_id in results]
        begun = sum(state == "unfinished" for state in states.values()) - len(running)
        waiting = plan.total() - len(finished) - len(failed) - len(running) - begun
        counts = (
            f"{plan.study.name}: {len(finished)} of {plan.total()} trials finished, "
            f"{len(failed)} failed, {len(running)} running, {waiting} waiting"
        )
        counts += f", {begun} begun and not heard of" if begun else ""
        lines = [
            counts,
            *_by_kind(plan, self._specs, results, self._work),
            *_by_node([results[one] for one in finished], running),
        ]
        names = node_names({sign.node for sign in signs})
        lines += [
            sign.line(names[sign.node]) for sign in sorted(signs, key=lambda sign: sign.is_stale)
        ]
        alive = bool(running) or is_held(self._work)
        if not alive:
            lines.append("no sweep is running here")
        probe = read_probe(self._work, plan.study)
        slots = len(running) or (slots_of(plan.study, probe) if probe else cpu_slots(plan.study))
        remaining = Forecast(plan, results, probe).remaining(slots)
        lines += [f"left: about {clock(remaining)}"] if remaining else []
        lines += [f"{trial_id}: failed: {self._last_error(trial_id)}" for trial_id in failed]
        lines += search_status(plan.study, self._work) if plan.study.search is not None else []
        opened = len(openings(self._work))
        lines.append(
            f"the seal on the test patients was opened, {opened} x"
            if opened
            else "the seal on the test patients is closed"
        )
        lines += self._cohort.lines
        return Look(
            counts,
            f"{counts}; about {clock(remaining)} left" if remaining else counts,
            lines,
            not alive,
        )

    def _last_error(self, trial_id: str) -> str:
        told = self._ledger.error(trial_id).strip()
        last = " ".join(told.splitlines()[-1].split()) if told else "error.txt is empty"
        return last if len(last) <= ERROR_LENGTH else f"{last[:ERROR_LENGTH]}..."


def _by_kind(
    plan: Plan, specs: Mapping[str, TrialSpec], results: Mapping[str, Any], work: Place
) -> Iterator[str]:
    kinds: dict[str, int] = {}
    beside: dict[
        str, tuple[int, int]
    ] = {}  # repeats and robustness: a line each, however many trials they are
    for trial_id, spec in specs.items():
        if spec.sides is None:
            kind = f"{spec.dataset} {spec.freeze_point} {spec.head} {spec.apart}".strip()
            kinds[kind] = kinds.get(kind, 0) + (trial_id in results)
        else:
            finished, known = beside.get(family(spec), (0, 0))
            beside[family(spec)] = finished + (trial_id in results), known + 1
    for kind, done in kinds.items():
        yield f"  {kind}: {done} of {len(plan.study.fold_numbers)} folds finished"
    if wanted := masks_wanted(plan.study):
        yield (
            "  masks drawn otherwise: "
            f"{sum(work.exists(part.file) for part in mask_parts(plan, results))} of "
            f"{wanted} folds measured"
        )
    for name, (finished, known) in beside.items():
        yield f"  {name}: {finished} of {max(known, plan.beside()[name])} trials finished"


def _by_node(finished: list[dict[str, Any]], running: list[Sign]) -> Iterator[str]:
    done = Counter(node_of(result["node"]) for result in finished if "node" in result)
    now = Counter(sign.node for sign in running)
    names = node_names(done.keys() | now.keys())
    for node in sorted(names, key=names.__getitem__):
        yield f"  {names[node]}: {now[node]} running, {done[node]} finished"


def _ago(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.0f} h"


def describe(study: Study, work: Place) -> list[str]:
    """What is finished, running, waiting and failed, with the last line of every error.

    Args:
        study: the study.
        work: its work directory.
    """
    return Standing(study, work).look().lines
