"""How good decisions and scores are; malignant is the positive class."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

METRICS = ("auc", "acc", "sen", "spec", "ppv", "npv", "mcc")


@dataclass(frozen=True)
class Confusion:
    """Counts of decisions against pathology.

    Args:
        tp: malignant called malignant.
        fn: malignant called benign.
        fp: benign called malignant.
        tn: benign called benign.
    """

    tp: int
    fn: int
    fp: int
    tn: int

    def metrics(self) -> dict[str, float | None]:
        """ACC, SEN, SPEC, PPV, NPV and MCC; None where the denominator is empty.

        MCC follows scikit-learn: 0 where all decisions, or all labels, are of one class.
        """
        tp, fn, fp, tn = self.tp, self.fn, self.fp, self.tn
        product = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
        mcc = (tp * tn - fp * fn) / math.sqrt(product) if product else 0.0
        return {
            "acc": _ratio(tp + tn, tp + fn + fp + tn),
            "sen": _ratio(tp, tp + fn),
            "spec": _ratio(tn, tn + fp),
            "ppv": _ratio(tp, tp + fp),
            "npv": _ratio(tn, tn + fn),
            "mcc": mcc if tp + fn + fp + tn else None,
        }


def confusion(labels: ArrayLike, decisions: ArrayLike) -> Confusion:
    """Counts decisions against labels.

    Args:
        labels: (n,) 0 or 1.
        decisions: (n,) 0 or 1.

    Raises:
        ValueError: the lengths differ, or a value is neither 0 nor 1.
    """
    truth, called = _binary(labels, "labels"), _binary(decisions, "decisions")
    if len(truth) != len(called):
        raise ValueError(f"{len(truth)} labels and {len(called)} decisions; one of each is needed")
    tp, fn = int((truth & called).sum()), int((truth & ~called).sum())
    fp, tn = int((~truth & called).sum()), int((~truth & ~called).sum())
    return Confusion(tp=tp, fn=fn, fp=fp, tn=tn)


def auc(labels: ArrayLike, scores: ArrayLike) -> float | None:
    """Area under the ROC curve (scikit-learn's); None where a class is missing.

    Args:
        labels: (n,) 0 or 1.
        scores: (n,) P(malignant).

    Raises:
        ValueError: the lengths differ, a label is neither 0 nor 1, or a score is not finite.
    """
    from sklearn.metrics import roc_auc_score  # see `protocol.draw`

    truth, values = as_labels_and_scores(labels, scores)
    return float(roc_auc_score(truth, values)) if truth.any() and not truth.all() else None


def evaluate(labels: ArrayLike, scores: ArrayLike, threshold: float) -> dict[str, float | None]:
    """AUC of the scores, and the metrics of the decisions at a threshold that was chosen elsewhere.

    Args:
        labels: (n,) 0 or 1.
        scores: (n,) P(malignant).
        threshold: a score at or above it is malignant.

    Returns:
        auc, acc, sen, spec, ppv, npv, mcc; None where undefined.

    Raises:
        ValueError: the lengths differ, a label is neither 0 nor 1, or a score is not finite.
    """
    truth, values = as_labels_and_scores(labels, scores)
    return {"auc": auc(truth, values), **confusion(truth, values >= threshold).metrics()}


def mean_sd(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    """Mean and sample standard deviation (ddof = 1) over folds.

    Args:
        values: one a fold; an undefined one (None) is left out.

    Returns:
        (mean, SD); the mean is None without values, the SD with fewer than two.
    """
    known = [float(value) for value in values if value is not None]
    if not known:
        return None, None
    mean = math.fsum(known) / len(known)
    if len(known) < 2:
        return mean, None
    return mean, math.sqrt(math.fsum((value - mean) ** 2 for value in known) / (len(known) - 1))


def as_labels_and_scores(
    labels: ArrayLike, scores: ArrayLike
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Checks labels and scores of the same samples.

    Args:
        labels: (n,) 0 or 1.
        scores: (n,) finite.

    Returns:
        (n,) bool, (n,) float64.

    Raises:
        ValueError: the lengths differ, a label is neither 0 nor 1, or a score is not finite.
    """
    truth = _binary(labels, "labels")
    values = np.asarray(scores, dtype=np.float64)
    if values.shape != truth.shape:
        raise ValueError(
            f"{len(truth)} labels and scores of shape {values.shape}; one score a label is needed"
        )
    if not np.isfinite(values).all():
        raise ValueError(
            f"scores: {int((~np.isfinite(values)).sum())} of "
            f"{len(values)} are not finite; the model diverged"
        )
    return truth, values


def as_labels(labels: ArrayLike) -> NDArray[np.bool_]:
    """Checks labels.

    Args:
        labels: (n,) 0 or 1.

    Raises:
        ValueError: a label is neither 0 nor 1.
    """
    return _binary(labels, "labels")


def as_probabilities(
    labels: ArrayLike, scores: ArrayLike
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Checks labels and scores that are to be read as probabilities.

    Args:
        labels: (n,) 0 or 1.
        scores: (n,) P(malignant), in 0..1.

    Returns:
        (n,) bool, (n,) float64; at least one.

    Raises:
        ValueError: the lengths differ, there is no sample, a label is neither 0 nor 1, or a score
            is not in 0..1.
    """
    truth, values = as_labels_and_scores(labels, scores)
    if len(truth) == 0:
        raise ValueError("labels: none; at least one sample is needed")
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError(
            f"scores: {int(((values < 0) | (values > 1)).sum())} of "
            f"{len(values)} are not probabilities in 0..1"
        )
    return truth, values


def _binary(values: ArrayLike, name: str) -> NDArray[np.bool_]:
    array = np.asarray(values)
    if array.ndim != 1 or not np.isin(array, (0, 1)).all():
        raise ValueError(f"{name}: expected one dimension of 0 and 1, got shape {array.shape}")
    return array.astype(bool)


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
