"""A whole search: the race over all folds, where it is nested a race without each fold, and the
winner of that one judged on the fold."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from renal_ray.store.place import Place, digest
from renal_ray.trial.plan import Results
from renal_ray.trial.search.configurations import Bench, own_values
from renal_ray.trial.search.race import Entry, Race
from renal_ray.trial.spec import TrialSpec

FOLDER = "search"


@dataclass(frozen=True)
class Outer:
    """One outer fold of a nested cross-validation.

    Args:
        fold: the outer fold.
        race: the search among the patients of the other folds.
    """

    fold: int
    race: Race


class Hunt:
    """All races of a search, and which trial comes next.

    Args:
        bench: makes the trials.
        work: the study's work directory, which keeps the record of each race.
        record: whether changes are written there; a reader does not.
    """

    def __init__(self, bench: Bench, work: Place, *, record: bool = True) -> None:
        self.bench, self._work, self._record = bench, work, record
        folds = bench.study.fold_numbers
        self.folder = f"{FOLDER}/{self._key()}"
        self.main = self._race("race", folds, None)
        self.outer: list[Outer] = []
        if bench.search.nested:
            self.outer = [
                Outer(
                    fold, self._race(f"outer-{fold}", [one for one in folds if one != fold], fold)
                )
                for fold in folds
            ]

    def _key(self) -> str:
        """Names the search by what decides its course, but for how long it goes on: a longer one
        continues it."""
        search = self.bench.search.model_dump_json(exclude={"configurations", "nested"})
        own = own_values(self.bench.study)
        trials = [
            spec.trial_id
            for fold in self.bench.study.fold_numbers
            for spec in self.bench.chain(own, fold)
        ]
        return digest([search, *trials])[:8]

    def _race(self, name: str, folds: Sequence[int], outer: int | None) -> Race:
        file = f"{self.folder}/{name}.json"
        entries: list[Entry] = []
        if self._work.exists(file):
            entries = [
                Entry.from_json(one) for one in self._work.read_checked_json(file)["configurations"]
            ]

        def keep(changed: Sequence[Entry]) -> None:
            if self._record:
                self._work.write_checked_json(
                    file,
                    {
                        "outer": outer,
                        "folds": list(folds),
                        "configurations": [entry.to_json() for entry in changed],
                    },
                )

        return Race(self.bench, folds=folds, outer=outer, entries=entries, keep=keep)

    @property
    def races(self) -> list[Race]:
        """All races, the one over all folds first."""
        return [self.main, *(one.race for one in self.outer)]

    def next(
        self, results: Results, failed: Collection[str], busy: Collection[str]
    ) -> TrialSpec | None:
        """The trial that should start now; None where nothing can before something ends.

        Args:
            results: of finished trials.
            failed: ids of trials that are not tried again.
            busy: ids of trials that run, or rest after they were lost.
        """
        for race in self.races:
            race.decide(results, failed)
        for waiting in (
            self._first(results, failed, busy),
            self._judged(results, failed, busy),
            self._more(results, failed, busy),
        ):
            found = next(
                (
                    spec
                    for spec in waiting
                    if spec.trial_id not in failed and spec.trial_id not in busy
                ),
                None,
            )
            if found is not None:
                return found
        return None

    def _first(
        self, results: Results, failed: Collection[str], busy: Collection[str]
    ) -> Iterator[TrialSpec]:
        for race in self.races:
            full = race.is_full
            yield from race.next(results, failed, busy)
            if race.is_full and not full:  # the last was asked for: rungs may be closed by that
                race.decide(results, failed)
                yield from race.next(results, failed, busy)

    def _more(
        self, results: Results, failed: Collection[str], busy: Collection[str]
    ) -> Iterator[TrialSpec]:
        for race in self.races:
            yield from race.more(results, failed, busy)

    def _judged(
        self, results: Results, failed: Collection[str], busy: Collection[str]
    ) -> Iterator[TrialSpec]:
        """Trials of each finished inner search's winner, and of the study file's own settings, on
        the outer fold."""
        for one in self.outer:
            for chain in self.judged_chains(one, results, failed):
                first = next((spec for spec in chain if spec.trial_id not in results), None)
                if first is not None:
                    yield first

    def judged_chains(
        self, outer: Outer, results: Results, failed: Collection[str]
    ) -> list[list[TrialSpec]]:
        """What judges an outer fold: the inner winner's trials there, trained on all other folds,
        then those of the own settings. None before the end."""
        best = outer.race.best(results)
        if best is None or not outer.race.is_over(results, failed):
            return []
        return [
            self.bench.chain(best.values, outer.fold),
            self.bench.chain(outer.race.entries[0].values, outer.fold),
        ]

    def is_over(self, results: Results, failed: Collection[str]) -> bool:
        """Whether nothing is left to be trained."""
        return all(race.is_over(results, failed) for race in self.races) and not any(
            spec.trial_id not in results and spec.trial_id not in failed
            for one in self.outer
            for chain in self.judged_chains(one, results, failed)
            for spec in chain
        )

    def places(self) -> dict[str, str]:
        """Where each trial made so far stands in the search, by trial id: configuration, fold and
        outer fold, for a person."""
        found: dict[str, str] = {}
        for race in self.races:
            within = "" if race.outer is None else f" without fold {race.outer}"
            for entry in race.entries:
                for rung, epochs in enumerate(race.rungs[: entry.rung + 1]):
                    for spec in race.rung_chain(entry, rung):
                        found.setdefault(
                            spec.trial_id,
                            f"configuration {entry.number}{within}, screened with {epochs} epochs",
                        )
                for fold in race.folds:
                    for spec in race.chain(entry, fold):
                        found.setdefault(
                            spec.trial_id, f"configuration {entry.number}{within}, fold {fold}"
                        )
        return found

    def most(self) -> int:
        """Trials if nothing is given up and nothing is shared."""
        per = len(self.bench.chain(self.main.entries[0].values, self.main.folds[0]))
        return per * (sum(race.most() for race in self.races) + len(self.outer))
