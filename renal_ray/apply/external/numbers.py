"""What the votes on an external cohort come to, per patient."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from renal_ray.protocol.bootstrap import bootstrap_interval
from renal_ray.protocol.calibration import CalibrationLine, Reliability, brier, expected_calibration_error, reliability, slope_and_intercept
from renal_ray.protocol.delong import auc_interval
from renal_ray.protocol.intervals import wilson
from renal_ray.protocol.metrics import METRICS, Confusion, auc, confusion
from renal_ray.types import DATASETS, HEADS, Dataset, Head, Label

Interval = tuple[float, float] | None
MOST_BINS, PATIENTS_A_BIN = 5, 10


@dataclass(frozen=True)
class Result:
    """The vote of one dataset's fold models with one head.

    Args:
        dataset, freeze_point, head: whose.
        n, malignant: patients.
        confusion: of the vote.
        values: metric -> value; AUC of the mean score, the others of the vote.
        intervals: metric -> 95 % interval: DeLong for the AUC, Wilson for proportions, bootstrap over patients for MCC.
        brier, ece: of the mean score.
        line: calibration slope and intercept.
        curve: reliability.
        labels, scores: (n,) per patient.
    """

    dataset: Dataset
    freeze_point: str
    head: Head
    n: int
    malignant: int
    confusion: Confusion
    values: dict[str, float | None]
    intervals: dict[str, Interval]
    brier: float
    ece: float
    line: CalibrationLine
    curve: Reliability
    labels: np.ndarray
    scores: np.ndarray


def results(votes: pd.DataFrame, *, seed: int, resamples: int) -> Iterator[Result]:
    """The numbers of every dataset and head, in their order.

    Args:
        votes: rows of votes.parquet; those per patient are used, because slices of a patient are not independent.
        seed, resamples: of the bootstrap.
    """
    per_patient = votes[votes["level"] == "patient"]
    groups = {(Dataset(dataset), Head(head)): (point, table) for (dataset, point, head), table in per_patient.groupby(["dataset", "freeze_point", "head"])}
    for (dataset, head), (point, table) in sorted(groups.items(), key=lambda pair: (DATASETS.index(pair[0][0]), HEADS.index(pair[0][1]))):
        yield _result(dataset, str(point), head, table.sort_values("patient_id"), seed, resamples)


def _result(dataset: Dataset, point: str, head: Head, table: pd.DataFrame, seed: int, resamples: int) -> Result:
    labels, scores, decisions = (table[name].to_numpy() for name in ("label", "score", "decision"))
    counts, bins = confusion(labels, decisions), max(2, min(MOST_BINS, len(table) // PATIENTS_A_BIN))
    values = {"auc": auc(labels, scores), **counts.metrics()}
    return Result(
        dataset=dataset,
        freeze_point=point,
        head=head,
        n=len(table),
        malignant=int((labels == Label.MALIGNANT).sum()),
        confusion=counts,
        values=values,
        intervals=_intervals(labels, scores, decisions, counts, seed, resamples),
        brier=brier(labels, scores),
        ece=expected_calibration_error(labels, scores, bins),
        line=slope_and_intercept(labels, scores),
        curve=reliability(labels, scores, bins),
        labels=labels,
        scores=scores,
    )


def _intervals(labels: np.ndarray, scores: np.ndarray, decisions: np.ndarray, counts: Confusion, seed: int, resamples: int) -> dict[str, Interval]:
    found: dict[str, Interval] = dict.fromkeys(METRICS)
    if told := auc_interval(labels, scores):
        found["auc"] = (told.lower, told.upper)
    tp, fn, fp, tn = counts.tp, counts.fn, counts.fp, counts.tn
    for name, part, whole in (("acc", tp + tn, tp + fn + fp + tn), ("sen", tp, tp + fn), ("spec", tn, tn + fp), ("ppv", tp, tp + fp), ("npv", tn, tn + fn)):
        found[name] = wilson(part, whole)
    drawn = bootstrap_interval(_mcc, labels, decisions == Label.MALIGNANT, n=resamples, seed=seed, method="percentile")
    found["mcc"] = (drawn.lower, drawn.upper) if drawn.lower is not None and drawn.upper is not None else None
    return found


def _mcc(truth: np.ndarray, called: np.ndarray) -> float:
    """Matthews' correlation of bool (n,), 0 where one of them is all alike, as `Confusion.metrics` has it; without its checks, for thousands of resamples."""
    n, malignant, said, both = len(truth), int(truth.sum()), int(called.sum()), int((truth & called).sum())
    square = malignant * (n - malignant) * said * (n - said)
    return float((n * both - malignant * said) / square**0.5) if square else 0.0
