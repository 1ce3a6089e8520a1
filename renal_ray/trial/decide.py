"""From the scores of a finished trial to probabilities and decisions: what the study file says,
worked out on the trial's own validation predictions.

Nothing is trained for it, and nothing of it is in a trial's name: another rule in the study file
gives other decisions of the same trials.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray

from renal_ray.config import Study
from renal_ray.protocol.calibrators import Calibrator, fit_calibrator
from renal_ray.protocol.metrics import auc, confusion
from renal_ray.protocol.thresholds import choose_threshold
from renal_ray.store.ledger import Ledger
from renal_ray.store.place import Place
from renal_ray.trial.spec import TrialSpec
from renal_ray.types import Head

Decisions = Mapping[str, Mapping[str, "Decision"]]  # trial_id -> level -> its decision


@dataclass(frozen=True)
class Decision:
    """How one model decides at one level, fixed on its validation fold.

    Args:
        threshold: a probability at or above it is malignant.
        calibrator: from the model's scores to probabilities.
    """

    threshold: float
    calibrator: Calibrator

    def probabilities(self, scores: ArrayLike) -> NDArray[np.float64]:
        """Calibrated P(malignant) of scores (n,), to the precision of float32, in which scores are
        kept: equal on disk is equal at the threshold."""
        values = np.asarray(scores, dtype=np.float64)
        if self.calibrator.kind == "none":
            return values
        return np.asarray(self.calibrator(values), dtype=np.float32).astype(np.float64)

    def malignant(self, scores: ArrayLike) -> NDArray[np.int8]:
        """1 for each of the scores (n,) that the model calls malignant, 0 for the others."""
        return (self.probabilities(scores) >= self.threshold).astype(np.int8)

    def evaluate(self, labels: ArrayLike, scores: ArrayLike) -> dict[str, float | None]:
        """AUC of the model's own scores, and the metrics of its decisions, as
        `renal_ray.protocol.metrics.evaluate` names them.

        The AUC is that of what the model ranks: calibration, which may tie scores, is no part of
        it, and no threshold is.
        """
        return {"auc": auc(labels, scores), **confusion(labels, self.malignant(scores)).metrics()}


def scored_levels(head: Head) -> tuple[str, ...]:
    """Levels at which a head is scored: slice and patient for the image head, patient for the
    others."""
    return ("slice", "patient") if head is Head.IMAGE else ("patient",)


def patient_scores(predictions: pd.DataFrame) -> pd.DataFrame:
    """Mean score over each patient's slices: patient_id, label, score, in the order of patient
    ids."""
    return (
        predictions.groupby("patient_id", sort=True)
        .agg(label=("label", "first"), score=("score", "mean"))
        .reset_index()
    )


def at_level(spec: TrialSpec, predictions: pd.DataFrame, level: str) -> pd.DataFrame:
    """The predictions of a trial at one of its levels: as they are, or each patient's mean
    score."""
    return (
        patient_scores(predictions)
        if spec.head is Head.IMAGE and level == "patient"
        else predictions
    )


def decision(spec: TrialSpec, validation: pd.DataFrame, study: Study, level: str) -> Decision:
    """Fits the calibrator and then finds the threshold, both on a trial's validation predictions.

    Args:
        spec: the trial.
        validation: its rows of predictions.parquet with the part `validation`: patient_id, label,
            score.
        study: its `calibrate` and `threshold` say how.
        level: slice or patient.

    Returns:
        The decision; the same for the same rows and settings.

    Raises:
        ValueError: a class is missing among the validation samples.
    """
    table = at_level(spec, validation, level)
    labels, scores = table["label"].to_numpy(), table["score"].to_numpy(np.float64)
    uncut = Decision(float("nan"), fit_calibrator(study.calibrate, labels, scores))
    wanted = study.threshold
    threshold = choose_threshold(
        wanted.rule,
        labels,
        uncut.probabilities(scores),
        sensitivity=wanted.sensitivity,
        cost_ratio=wanted.cost_ratio,
    )
    return Decision(threshold, uncut.calibrator)


def decisions_of(spec: TrialSpec, work: Place, study: Study) -> dict[str, Decision]:
    """The decisions of a finished trial at each of its levels.

    Raises:
        DamagedFileError: its predictions are not those that it wrote.
    """
    table = pq.read_table(
        io.BytesIO(Ledger(work).read_checked(spec.trial_id, "predictions.parquet"))
    )
    predictions = table.to_pandas()
    validation = predictions[predictions["part"] == "validation"]
    return {level: decision(spec, validation, study, level) for level in scored_levels(spec.head)}


def rule_of(study: Study) -> dict[str, Any]:
    """What of the study file decides: calibrate, threshold, and the number that this threshold
    depends on."""
    wanted = study.threshold
    number = {
        "sensitivity": {"sensitivity": wanted.sensitivity},
        "cost": {"cost_ratio": wanted.cost_ratio},
    }.get(wanted.rule, {})
    return {"calibrate": study.calibrate, "threshold": wanted.rule, **number}
