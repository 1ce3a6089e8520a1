"""One race: configurations against each other, fold by fold. What has been asked, how far each came
and why it was given up is all that is kept of it."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from renal_ray.config.search import Value
from renal_ray.protocol.racing import Verdict, promoted, rungs, verdict
from renal_ray.trial.plan import Results
from renal_ray.trial.search.configurations import Bench, own_values
from renal_ray.trial.search.sampler import Past, ask, grid
from renal_ray.trial.spec import TrialSpec

State = Literal["complete", "beaten", "hopeless", "screened", "failed", "running"]


@dataclass(frozen=True)
class End:
    """Why a configuration was given up.

    Args:
        reason: beaten or hopeless, see `renal_ray.protocol.racing.verdict`, or screened: others did
            better on one fold with fewer epochs.
        folds: folds that were compared; for screened the epochs of the rung.
        against: number of the best configuration then; None for screened.
        difference: mean of its AUC minus the best one's on these folds; None for screened.
        p: one-sided p value; None unless beaten.
    """

    reason: Literal["beaten", "hopeless", "screened"]
    folds: int
    against: int | None = None
    difference: float | None = None
    p: float | None = None


@dataclass(frozen=True)
class Entry:
    """A configuration in a race.

    Args:
        number: 0 for the study file's own settings, then in the order of asking.
        values: by dimension.
        rung: rung of the screening that it has reached; the number of rungs when it races on all
            folds.
        end: why it was given up; None while it was not.
    """

    number: int
    values: Mapping[str, Value]
    rung: int = 0
    end: End | None = None

    def to_json(self) -> dict[str, Any]:
        """As kept in the record."""
        return {
            "number": self.number,
            "values": dict(self.values),
            "rung": self.rung,
            "end": None if self.end is None else asdict(self.end),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Entry":
        """What `to_json` wrote."""
        return cls(
            data["number"],
            data["values"],
            data["rung"],
            None if data["end"] is None else End(**data["end"]),
        )


class Race:
    """Finds the configuration with the highest mean AUC over folds.

    Every decision follows from the record and the results in the ledger. The study file's own
    settings race first and on all folds; a configuration runs a fold at a time, and after each is
    compared with the best complete one, see `renal_ray.protocol.racing.verdict`.

    Args:
        bench: makes the trials.
        folds: that judge.
        outer: fold that is left out altogether; None in the search over all.
        entries: the record of an earlier run.
        keep: called with the record whenever it changes.
    """

    def __init__(
        self,
        bench: Bench,
        *,
        folds: Sequence[int],
        outer: int | None = None,
        entries: Sequence[Entry] = (),
        keep: Callable[[Sequence[Entry]], None] = lambda entries: None,
    ) -> None:
        self._bench, self._search = bench, bench.search
        self.folds, self.outer = list(folds), outer
        self._keep = keep
        screen = self._search.screen
        self.rungs = (
            []
            if screen is None
            else rungs(bench.epochs, min_epochs=screen.min_epochs, eta=screen.eta)
        )
        self._screening_fold = (
            self.folds[0] if screen is None or screen.fold not in self.folds else screen.fold
        )
        own = own_values(bench.study)
        self._grid = list(grid(self._search, own)) if self._search.sampler == "grid" else None
        self.limit = 1 + len(self._grid) if self._grid is not None else self._search.configurations
        self._exhausted = False
        self._kept = bool(entries)
        self.entries = list(entries) or [Entry(0, own, len(self.rungs))]

    def chain(self, entry: Entry, fold: int) -> list[TrialSpec]:
        """The trials that give a configuration's AUC on a fold."""
        return self._bench.chain(entry.values, fold, outer=self.outer)

    def scores(self, entry: Entry, results: Results) -> dict[int, float]:
        """A configuration's AUC on every fold that it has finished."""
        found = {fold: self._bench.auc(self.chain(entry, fold), results) for fold in self.folds}
        return {fold: auc for fold, auc in found.items() if auc is not None}

    def mean(self, entry: Entry, results: Results) -> float | None:
        """A configuration's mean AUC once all folds are finished."""
        scores = self.scores(entry, results)
        return (
            sum(scores[fold] for fold in self.folds) / len(self.folds)
            if len(scores) == len(self.folds)
            else None
        )

    def best(self, results: Results) -> Entry | None:
        """The complete configuration with the highest mean; of equal ones the first."""
        means = [
            (mean, -entry.number, entry)
            for entry in self.entries
            if (mean := self.mean(entry, results)) is not None
        ]
        return max(means, key=lambda one: one[:2])[2] if means else None

    def state(self, entry: Entry, results: Results, failed: Collection[str]) -> State:
        """Where a configuration stands."""
        if self.mean(entry, results) is not None:
            return "complete"
        if entry.end is not None:
            return entry.end.reason
        return (
            "failed"
            if any(spec.trial_id in failed for chain in self._wanted(entry) for spec in chain)
            else "running"
        )

    def decide(self, results: Results, failed: Collection[str]) -> list[Entry]:
        """Gives up what has lost and lets go on what has won on one fold, from the results as they
        are.

        Returns:
            The configurations that were given up now.
        """
        before = list(self.entries)
        self._screen(results, failed)
        best, stop = self.best(results), self._search.stop
        if best is not None and stop is not None:
            theirs = self.scores(best, results)
            for place, entry in enumerate(self.entries):
                if (
                    self.state(entry, results, failed) == "running"
                    and entry.rung >= len(self.rungs)
                    and entry.number
                ):
                    found = verdict(
                        self.scores(entry, results), theirs, min_folds=stop.folds, alpha=stop.alpha
                    )
                    if found is not None:
                        self.entries[place] = replace(entry, end=_end(found, best))
        if self.entries != before or not self._kept:
            self._kept = True
            self._keep(self.entries)
        known = {entry.number for entry in before if entry.end is not None}
        return [
            entry for entry in self.entries if entry.end is not None and entry.number not in known
        ]

    def _screen(self, results: Results, failed: Collection[str]) -> None:
        """Moves configurations from rung to rung; gives up those that stay behind for good."""
        closed = self.is_full
        for rung, epochs in enumerate(self.rungs):
            there = [entry for entry in self.entries if entry.number and entry.rung >= rung]
            found = {entry.number: self.rung_auc(entry, rung, results) for entry in there}
            scores = {number: auc for number, auc in found.items() if auc is not None}
            dead = {
                entry.number
                for entry in there
                if any(spec.trial_id in failed for spec in self.rung_chain(entry, rung))
            }
            closed = closed and len(scores) + len(dead - scores.keys()) == len(there)
            gone = {entry.number for entry in there if entry.rung > rung}
            on = set(
                promoted(
                    scores,
                    gone,
                    eta=self._search.screen.eta if self._search.screen else 2,
                    closed=closed,
                )
            )
            for place, entry in enumerate(self.entries):
                if entry.number in on and entry.rung == rung and entry.end is None:
                    self.entries[place] = replace(entry, rung=rung + 1)
                elif (
                    closed
                    and entry.number in scores
                    and entry.rung == rung
                    and entry.end is None
                    and entry.number
                ):
                    self.entries[place] = replace(entry, end=End("screened", epochs))

    def rung_chain(self, entry: Entry, rung: int) -> list[TrialSpec]:
        """The trials that give a configuration's AUC on a rung of the screening."""
        return self._bench.chain(
            entry.values, self._screening_fold, outer=self.outer, epochs=self.rungs[rung]
        )

    def rung_auc(self, entry: Entry, rung: int, results: Results) -> float | None:
        """A configuration's AUC on a rung of the screening, None while it is not finished."""
        return self._bench.auc(self.rung_chain(entry, rung), results)

    @property
    def is_full(self) -> bool:
        """Whether no more configuration is asked for."""
        return self._exhausted or len(self.entries) >= self.limit

    def most(self) -> int:
        """Judged trials if nothing is given up and nothing is shared."""
        others = self.limit - 1
        return len(self.folds) * (1 + others) + len(self.rungs) * others

    def is_over(self, results: Results, failed: Collection[str]) -> bool:
        """Whether nothing is left to be trained."""
        return self.is_full and all(
            self.state(entry, results, failed) != "running" for entry in self.entries
        )

    def _wanted(self, entry: Entry) -> list[list[TrialSpec]]:
        """The chains that a configuration needs next, all that may run now; the screening fold
        first."""
        if entry.rung < len(self.rungs):
            return [self.rung_chain(entry, entry.rung)]
        return [self.chain(entry, fold) for fold in self._in_order]

    @property
    def _in_order(self) -> list[int]:
        return sorted(
            self.folds, key=lambda fold: (bool(self.rungs) and fold != self._screening_fold, fold)
        )

    def next(
        self, results: Results, failed: Collection[str], busy: Collection[str]
    ) -> Iterator[TrialSpec]:
        """Trials that could start now, the most wanted first. Configurations are asked for when
        they are reached.

        Args:
            results: of finished trials.
            failed: ids of trials that are not tried again.
            busy: ids of trials that run, or rest after they were lost.
        """
        for entry in self.entries:
            if self.state(entry, results, failed) == "running":
                waiting, running = self._open(entry, results, busy)
                if waiting and (entry.number == 0 or not running):
                    yield from waiting
        while (asked := self._ask(results, failed)) is not None:
            self.decide(results, failed)  # an earlier run may have trained some of it
            entry = self.entries[asked.number]
            if self.state(entry, results, failed) == "running":
                waiting, running = self._open(entry, results, busy)
                if waiting and not running:
                    yield waiting[0]

    def more(
        self, results: Results, failed: Collection[str], busy: Collection[str]
    ) -> Iterator[TrialSpec]:
        """Further folds of configurations that run one already, for workers that have nothing else
        to do."""
        for entry in self.entries:
            if self.state(entry, results, failed) == "running":
                yield from self._open(entry, results, busy)[0]

    def _open(
        self, entry: Entry, results: Results, busy: Collection[str]
    ) -> tuple[list[TrialSpec], bool]:
        """What of a configuration waits, a trial a fold, and whether any of it runs."""
        waiting, running = [], False
        for chain in self._wanted(entry):
            first = next((spec for spec in chain if spec.trial_id not in results), None)
            if first is not None and first.trial_id in busy:
                running = True
            elif first is not None:
                waiting.append(first)
        return waiting, running

    def _ask(self, results: Results, failed: Collection[str]) -> Entry | None:
        if self.is_full:
            return None
        number = len(self.entries)
        if self._grid is not None:
            values: Mapping[str, Value] | None = self._grid[number - 1]
        else:
            seed = [str(self._bench.study.seed), "all" if self.outer is None else str(self.outer)]
            values = ask(
                self._search,
                [self._past(entry, results, failed) for entry in self.entries],
                seed=seed,
            )
        if values is None:
            self._exhausted = True
            return None
        self.entries.append(Entry(number, values))
        self._keep(self.entries)
        return self.entries[-1]

    def _past(self, entry: Entry, results: Results, failed: Collection[str]) -> Past:
        state = self.state(entry, results, failed)
        if state == "complete":
            return Past(entry.values, "complete", self.mean(entry, results))
        if state in ("running", "failed"):
            return Past(entry.values, "running" if state == "running" else "failed")
        if state == "screened":
            return Past(
                entry.values, "given-up", self.rung_auc(entry, entry.rung, results), entry.rung
            )
        scores = self.scores(entry, results)
        return Past(
            entry.values,
            "given-up",
            sum(scores.values()) / len(scores),
            len(self.rungs) + len(scores),
        )


def _end(found: Verdict, best: Entry) -> End:
    reason: Literal["beaten", "hopeless"] = "beaten" if found.reason == "beaten" else "hopeless"
    return End(reason, found.folds, best.number, found.difference, found.p)
