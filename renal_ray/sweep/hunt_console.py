"""What a person sees of a search: a line a trial, and one whenever a configuration is complete or
given up."""

from pathlib import Path
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial

from renal_ray.store.ledger import Ledger
from renal_ray.store.place import Place
from renal_ray.sweep.console import auc_text, reason
from renal_ray.sweep.hunt_searcher import HuntSearcher
from renal_ray.sweep.naming import name_call
from renal_ray.trial.search.hunt import Hunt
from renal_ray.trial.search.race import Entry, Race
from renal_ray.trial.spec import TrialSpec


class HuntConsole(Callback):
    """Follows a search.

    Args:
        hunt: the search.
        work: its work directory.
        searcher: knows results and failures.
    """

    def __init__(self, hunt: Hunt, work: Place, searcher: HuntSearcher) -> None:
        self._hunt, self._ledger, self._searcher = hunt, Ledger(work), searcher
        self._said: set[str] = set()
        self._states = self._look()

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles callbacks with its experiment; this one has nothing that a next run
        needs."""
        return {}

    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Names the worker's calls."""
        name_call(trial, TrialSpec.from_json(trial.config["spec"]))

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Says what a running trial has to say, once."""
        if "loss" in result:
            name_call(trial, TrialSpec.from_json(trial.config["spec"]), result)
        for note in result.get("notes", []):
            if note not in self._said:
                self._said.add(note)
                print(note, flush=True)

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Says a finished trial's AUC and what follows from it."""
        spec = TrialSpec.from_json(trial.config["spec"])
        result = self._ledger.result(spec.trial_id)
        if result is not None:
            self._searcher.results.setdefault(spec.trial_id, result)
            self._say(
                spec, f"validation AUC {auc_text(spec, result)}, {result['seconds']['total']:.1f} s"
            )

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Says that a trial failed, or was lost and is tried again."""
        spec = TrialSpec.from_json(trial.config["spec"])
        if spec.trial_id not in self._searcher.failed:
            self._say(
                spec,
                f"lost ({reason(trial)}); is tried again, attempt "
                f"{self._searcher.attempts.made(spec.trial_id) + 1}",
            )
            return
        if self._ledger.state(spec.trial_id) != "failed":  # lost too often: it could not write why
            told = Path(trial.error_file) if trial.error_file else None
            self._ledger.fail(
                spec.trial_id,
                told.read_text(encoding="utf-8")
                if told and told.is_file()
                else "the worker process ended before the trial did\n",
            )
        self._say(spec, f"failed ({reason(trial)}); trials/{spec.trial_id}/error.txt says more")

    def _say(self, spec: TrialSpec, what: str) -> None:
        place = self._hunt.places().get(spec.trial_id, "judging on its outer fold")
        print(f"{place} ({spec.trial_id}): {what}", flush=True)
        for race in self._hunt.races:
            race.decide(self._searcher.results, self._searcher.failed)
        before, self._states = self._states, self._look()
        for key, state in self._states.items():
            if state != before.get(key, "running") and state != "running":
                race = next(race for race in self._hunt.races if race.outer == key[0])
                print(f"  {self._news(race, race.entries[key[1]], state)}", flush=True)

    def _look(self) -> dict[tuple[int | None, int], str]:
        results, failed = self._searcher.results, self._searcher.failed
        return {
            (race.outer, entry.number): race.state(entry, results, failed)
            for race in self._hunt.races
            for entry in race.entries
        }

    def _news(self, race: Race, entry: Entry, state: str) -> str:
        within = "" if race.outer is None else f" without fold {race.outer}"
        name = f"configuration {entry.number}{within}"
        if state == "complete":
            mean, best = race.mean(entry, self._searcher.results), race.best(self._searcher.results)
            mark = ", the best so far" if best is not None and best.number == entry.number else ""
            return f"{name} is complete: mean AUC {mean:.3f} over {len(race.folds)} folds{mark}"
        if state == "screened":
            return (
                f"{name} is given up: others did better on one fold after "
                f"{entry.end.folds if entry.end else 0} epochs"
            )
        if entry.end is None or entry.end.difference is None:
            return f"{name} failed"
        why = "it cannot win any more" if entry.end.p is None else f"p = {entry.end.p:.3f}"
        return (
            f"{name} is given up after {entry.end.folds} folds: AUC "
            f"{entry.end.difference:+.3f} against configuration {entry.end.against} ({why})"
        )
