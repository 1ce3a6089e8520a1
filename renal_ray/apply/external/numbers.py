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
from renal_ray.types import Dataset, Head, Label

Interval = tuple[float, float] | None
BINS = 5


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
    """The numbers of every dataset and head.

    Args:
        votes: rows of votes.parquet; those per patient are used, because slices of a patient are not independent.
        seed, resamples: of the bootstrap.
    """
    per_patient = votes[votes["level"] == "patient"]
    for (dataset, point, head), table in per_patient.groupby(["dataset", "freeze_point", "head"], sort=False):
        yield _result(Dataset(dataset), str(point), Head(head), table.sort_values("patient_id"), seed, resamples)


def _result(dataset: Dataset, point: str, head: Head, table: pd.DataFrame, seed: int, resamples: int) -> Result:
    labels, scores, decisions = (table[name].to_numpy() for name in ("label", "score", "decision"))
    counts = confusion(labels, decisions)
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
        ece=expected_calibration_error(labels, scores, BINS),
        line=slope_and_intercept(labels, scores),
        curve=reliability(labels, scores, BINS),
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
    drawn = bootstrap_interval(lambda truth, said: confusion(truth, said).metrics()["mcc"], labels, decisions, n=resamples, seed=seed, method="percentile")
    found["mcc"] = (drawn.lower, drawn.upper) if drawn.lower is not None and drawn.upper is not None else None
    return found
