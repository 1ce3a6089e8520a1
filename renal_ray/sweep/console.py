"""What a person sees of a sweep: a live table of fold metrics on a terminal, one line a trial
elsewhere."""

import re
from datetime import timedelta
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Any, Self

from ray.tune import Callback
from ray.tune.experiment import Trial
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from renal_ray.store.ledger import Ledger
from renal_ray.store.place import Place
from renal_ray.sweep.metrics import Follower, SweepMetrics
from renal_ray.sweep.mlflow_runs import MlflowRuns
from renal_ray.sweep.naming import name_call
from renal_ray.sweep.searcher import StudySearcher
from renal_ray.trial.forecast import Forecast
from renal_ray.trial.plan import Plan
from renal_ray.trial.probe import read_probe
from renal_ray.trial.spec import TrialSpec, main_level

FORECAST_EVERY_S = 10.0
GONE = re.compile(
    r"[Tt]he actor (died|is dead|is unavailable|is temporarily)|[Tt]he node .* (died|is dead)"
)  # Ray's words


class SweepConsole(Callback):
    """Follows a sweep; a context manager, so that the terminal is given back whatever happens.

    Args:
        plan: the study's trials.
        work: its work directory.
        searcher: knows which lost trials are tried again.
    """

    def __init__(self, plan: Plan, work: Place, searcher: StudySearcher) -> None:
        self._plan = plan
        self._work = work
        self._searcher = searcher
        self._slots = searcher.slots
        self._console = Console()
        self._live = (
            Live(console=self._console, auto_refresh=False) if self._console.is_terminal else None
        )
        self._probe = read_probe(work, plan.study)
        self._next_forecast, self._remaining = 0.0, ""
        self._ledger = Ledger(work)
        self._results = results = dict(searcher.results)
        self._cells: dict[tuple[str, ...], dict[int, str]] = {}
        self._specs = {spec.trial_id: spec for spec in plan.specs(results)}
        self._done = sum(trial_id in results for trial_id in self._specs)
        for trial_id, spec in self._specs.items():
            if trial_id in results:
                self._put(spec, auc_text(spec, results[trial_id]))
        self._said: set[str] = set()
        self._metrics: SweepMetrics | None = None
        self._followers: list[Follower] = []

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles callbacks with its experiment; a terminal cannot travel."""
        return {}

    def __enter__(self) -> Self:
        self._metrics = SweepMetrics(self._plan, self._results, self._specs)
        self._followers.append(self._metrics)
        if self._plan.study.tracking.mlflow is not None:
            runs = MlflowRuns(self._plan.study, self._work, self._notice)
            self._followers.append(runs)
            for trial_id in self._specs.keys() & self._results.keys():
                runs.finished(
                    self._specs[trial_id], self._results[trial_id]
                )  # what an earlier sweep could not hand in
        if self._live:
            self._live.start()
            self._draw()
        elif self._done:
            print(f"{self._done} of {self._plan.total()} trials are finished already")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for follower in self._followers:
            follower.close()
        if self._live:
            self._live.stop()

    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Names the worker's calls, and tells the followers."""
        spec = TrialSpec.from_json(trial.config["spec"])
        name_call(trial, spec)
        for follower in self._followers:
            follower.started(spec)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Shows how far a running trial is, and what it has to say."""
        for note in result.get("notes", []):
            self._notice(note)
        if "loss" not in result:
            return
        spec = TrialSpec.from_json(trial.config["spec"])
        name_call(trial, spec, result)
        for follower in self._followers:
            follower.told(spec, result)
        self._left()
        if self._live:
            left = (
                ""
                if result.get("eta_s") is None
                else f", {timedelta(seconds=round(result['eta_s']))} left"
            )
            self._put(
                spec,
                f"[dim]{result['epoch']}/{result['epochs']}, "
                f"{result['images_per_second']:.3g}/s{left}[/dim]",
            )
            self._draw()

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Shows a finished trial's validation AUC."""
        spec = TrialSpec.from_json(trial.config["spec"])
        result = self._ledger.result(spec.trial_id)
        if result is None:
            return
        self._done += 1
        self._results[spec.trial_id] = result
        for follower in self._followers:
            follower.finished(spec, result)
        self._put(spec, auc_text(spec, result))
        self._say(
            f"{spec.trial_id}: validation AUC {auc_text(spec, result)}, "
            f"{result['seconds']['total']:.1f} s"
        )

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Shows a failed trial and where its traceback is, or a lost one and that it is tried
        again."""
        spec = TrialSpec.from_json(trial.config["spec"])
        if spec.trial_id not in self._searcher.failed:
            again = f"is tried again, attempt {self._searcher.attempts.made(spec.trial_id) + 1}"
            for follower in self._followers:
                follower.lost(spec)
            self._put(spec, "[yellow]lost[/yellow]")
            self._say(f"{spec.trial_id}: lost ({reason(trial)}); {again}")
            return
        if self._ledger.state(spec.trial_id) != "failed":  # lost too often: it could not write why
            self._keep_error(spec, trial)
        for follower in self._followers:
            follower.failed(spec)
        self._put(spec, "[red]failed[/red]")
        self._say(
            f"{spec.trial_id}: failed ({reason(trial)}); "
            f"trials/{spec.trial_id}/error.txt says more, the next sweep tries it "
            "again"
        )

    def _keep_error(self, spec: TrialSpec, trial: Trial) -> None:
        told = Path(trial.error_file) if trial.error_file else None
        try:
            self._ledger.fail(
                spec.trial_id,
                told.read_text(encoding="utf-8")
                if told and told.is_file()
                else "the worker process ended before the trial did\n",
            )
        except OSError as error:  # most likely what the trial was lost to
            self._notice(
                f"{spec.trial_id}: its error.txt cannot be written ({error.strerror or error})"
            )

    def _put(self, spec: TrialSpec, text: str) -> None:
        head = f"{spec.head} {spec.apart}".strip()
        self._cells.setdefault((spec.dataset, spec.freeze_point, head), {})[spec.fold] = text

    def _say(self, line: str) -> None:
        if self._live:
            self._draw()
        else:
            print(f"[{self._done}/{self._plan.total()}] {line}{self._left()}", flush=True)

    def _notice(self, line: str) -> None:
        """Says something that is of no single trial, once."""
        if line not in self._said:
            self._said.add(line)
            self._console.print(line, markup=False, soft_wrap=True)

    def _left(self) -> str:
        if (
            monotonic() >= self._next_forecast
        ):  # it counts all trials: not for each of a thousand short ones
            self._next_forecast = monotonic() + FORECAST_EVERY_S
            remaining = Forecast(self._plan, self._results, self._probe).remaining(self._slots)
            if self._metrics:
                self._metrics.left(remaining)
            self._remaining = (
                f"; about {timedelta(seconds=round(remaining))} left" if remaining else ""
            )
        return self._remaining if self._done < self._plan.total() else ""

    def _draw(self) -> None:
        table = Table(title="validation AUC by fold")
        for name in (
            "dataset",
            "freeze point",
            "head",
            *(f"fold {fold}" for fold in self._plan.study.fold_numbers),
        ):
            table.add_column(name)
        for key, folds in self._cells.items():
            table.add_row(*key, *(folds.get(fold, "") for fold in self._plan.study.fold_numbers))
        if self._live:
            self._live.update(
                Group(
                    table,
                    Text(f"{self._done} of {self._plan.total()} trials finished{self._left()}"),
                ),
                refresh=True,
            )


def reason(trial: Trial) -> str:
    """Why a trial ended, in one line: the last of its traceback, or what Ray says of its worker."""
    told = (
        Path(trial.error_file).read_text(encoding="utf-8")
        if trial.error_file and Path(trial.error_file).is_file()
        else ""
    )
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    if not lines:
        return "its worker ended before it did"
    if GONE.search(told):
        return "its worker, or the node it ran on, is gone"
    return lines[-1].rpartition("Error: ")[2][:300]


def auc_text(spec: TrialSpec, result: dict[str, Any]) -> str:
    auc = result["levels"][main_level(spec.head)]["metrics"]["auc"]
    return "-" if auc is None else f"{auc:.3f}"
