"""The trials of a work directory that belong to the study as it stands now: those that its plan
names."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from renal_ray.config import Study
from renal_ray.report.text import without_folders
from renal_ray.store.ledger import Ledger
from renal_ray.store.place import Place
from renal_ray.store.seal import FIRST_RULE
from renal_ray.trial.decide import at_level, decision, rule_of, scored_levels
from renal_ray.trial.plan import Plan, Results
from renal_ray.trial.spec import TRUE_LABELS, TrialSpec


@dataclass(frozen=True)
class Trial:
    """One finished trial.

    Args:
        spec: what it is.
        result: its result.json.
        validation: predictions on its validation fold: patient_id, slice_index, label, score.
        history: its epochs: loss, accuracy, val_loss, val_accuracy, val_auc.
        levels: threshold and validation metrics at the slice and the patient level, under the rule
            of the study as it stands.
    """

    spec: TrialSpec
    result: Mapping[str, Any]
    validation: pd.DataFrame
    history: pd.DataFrame
    levels: Mapping[str, Mapping[str, Any]]

    def metrics(self, level: str) -> dict[str, float | None]:
        """Validation metrics at the slice or the patient level."""
        metrics: dict[str, float | None] = self.levels[level]["metrics"]
        return metrics

    def threshold(self, level: str) -> float:
        """The threshold on the calibrated P(malignant) at the slice or the patient level."""
        return float(self.levels[level]["threshold"])


@dataclass(frozen=True)
class Unfinished:
    """A trial without a result.

    Args:
        trial_id: its name.
        reason: last line of its traceback, paths cut to file names; empty when it was interrupted.
    """

    trial_id: str
    reason: str


@dataclass(frozen=True)
class Trials:
    """The trials of a study.

    Args:
        true: trained on the pathology, by dataset, freeze point, head and fold.
        controls: trained on permuted labels; never among the others.
        repeats: of the study's repeats from 1 on, with other folds; never among the others.
        beside: on a share of the training patients, or without one scanner; never among the others.
        unfinished: failed or interrupted ones.
        set_aside: finished trials that the plan does not name now, which enter nothing: of other
            settings, data, splits or selected freeze points.
    """

    true: tuple[Trial, ...]
    controls: tuple[Trial, ...]
    repeats: tuple[Trial, ...]
    beside: tuple[Trial, ...]
    unfinished: tuple[Unfinished, ...]
    set_aside: int

    @property
    def finished(self) -> tuple[Trial, ...]:
        """All of them that are finished."""
        return (*self.true, *self.controls, *self.repeats, *self.beside)


def read_trials(plan: Plan, results: Results, work: Place) -> Trials:
    """Reads the trials that the plan names now; what else lies in the work directory is counted and
    left aside.

    Args:
        plan: the plan of the study as it stands, on what is prepared now.
        results: results of all finished trials in the work directory, from `finished_results`.
        work: the study's work directory.

    Raises:
        StudyError: a file of a trial is damaged.
    """
    ledger = Ledger(work)
    planned = plan.specs(results)
    done = [
        _read(ledger, spec, results[spec.trial_id], plan.study)
        for spec in planned
        if spec.trial_id in results
    ]
    done.sort(
        key=lambda t: (
            t.spec.dataset,
            t.spec.freeze_point,
            t.spec.head,
            t.spec.labels,
            t.spec.apart,
            t.spec.fold,
        )
    )
    waiting = sorted(spec.trial_id for spec in planned if spec.trial_id not in results)
    return Trials(
        true=tuple(t for t in done if not t.spec.apart),
        controls=tuple(t for t in done if t.spec.labels != TRUE_LABELS),
        repeats=tuple(t for t in done if t.spec.is_repeat),
        beside=tuple(t for t in done if t.spec.sides is not None and not t.spec.is_repeat),
        unfinished=tuple(
            Unfinished(trial_id, _reason(ledger, trial_id))
            for trial_id in waiting
            if ledger.state(trial_id) != "absent"
        ),
        set_aside=len(results) - len(done),
    )


def _reason(ledger: Ledger, trial_id: str) -> str:
    """The last line of a failed trial's traceback, its paths cut to file names; empty for an
    interrupted trial."""
    lines = ledger.error(trial_id).split("\n") if ledger.state(trial_id) == "failed" else []
    return without_folders(next((line.strip() for line in reversed(lines) if line.strip()), ""))


def _read(ledger: Ledger, spec: TrialSpec, result: Mapping[str, Any], study: Study) -> Trial:
    predictions = _parquet(
        ledger.read_checked(spec.trial_id, "predictions.parquet"),
        ["patient_id", "slice_index", "label", "score", "part"],
    )
    history = _parquet(ledger.read_checked(spec.trial_id, "history.parquet"))
    validation = (
        predictions[predictions["part"] == "validation"].drop(columns="part").reset_index(drop=True)
    )
    levels = result["levels"] if rule_of(study) == FIRST_RULE else _levels(spec, validation, study)
    return Trial(
        spec=spec,
        result=result,
        validation=validation,
        history=history.sort_values("epoch", ignore_index=True),
        levels=levels,
    )


def _levels(spec: TrialSpec, validation: pd.DataFrame, study: Study) -> dict[str, dict[str, Any]]:
    """What result.json says under the rule that every trial is finished with, under another one."""
    levels = {}
    for level in scored_levels(spec.head):
        decided, table = decision(spec, validation, study, level), at_level(spec, validation, level)
        metrics = decided.evaluate(table["label"].to_numpy(), table["score"].to_numpy())
        levels[level] = {"threshold": decided.threshold, "metrics": metrics}
    return levels


def _parquet(data: bytes, columns: list[str] | None = None) -> pd.DataFrame:
    return pq.read_table(io.BytesIO(data), columns=columns).to_pandas()
