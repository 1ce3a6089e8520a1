"""The arithmetic of the figures: curves averaged over folds. Draws nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import roc_curve

from renal_ray.protocol.metrics import as_labels_and_scores, mean_sd
from renal_ray.types import FreezePoint

FPR_GRID = np.linspace(0, 1, 201)
# Interquartile ranges above the upper quartile: J. W. Tukey, Exploratory Data Analysis (1977),
# chapter 2.
FAR_OUT = 3.0
ALIKE = 4.0  # panels whose highest losses differ less than this share one axis


@dataclass(frozen=True)
class Curve:
    """A curve averaged over folds.

    Args:
        x: (n,) common grid: false positive rate, or epoch.
        mean: (n,) mean over folds.
        sd: (n,) sample standard deviation (ddof = 1); 0 with a single fold.
        n_folds: folds averaged.
    """

    x: NDArray[np.float64]
    mean: NDArray[np.float64]
    sd: NDArray[np.float64]
    n_folds: int


def roc(
    labels: ArrayLike, scores: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """False and true positive rates of one ROC curve, or None where a class is missing."""
    truth, values = as_labels_and_scores(labels, scores)
    if truth.all() or not truth.any():
        return None
    fpr, tpr, _ = roc_curve(truth, values)
    return fpr, tpr


def mean_roc(folds: Sequence[tuple[ArrayLike, ArrayLike]]) -> Curve | None:
    """The vertical average of ROC curves: mean sensitivity at each false positive rate of a common
    grid.

    T. Fawcett, An introduction to ROC analysis, Pattern Recognit Lett 27 (2006) 861-874, section
    8.1.

    Args:
        folds: labels and scores of each validation fold.

    Returns:
        The averaged curve from (0, 0) to (1, 1), or None when no fold has both classes.
    """
    curves = []
    for labels, scores in folds:
        if (rates := roc(labels, scores)) is not None:
            tpr = np.interp(FPR_GRID, *rates)
            tpr[0], tpr[-1] = 0.0, 1.0
            curves.append(tpr)
    return _average(FPR_GRID, curves)


def mean_trace(histories: Sequence[pd.DataFrame], column: str) -> Curve | None:
    """A column of the training histories, averaged over folds epoch by epoch.

    Args:
        histories: one a fold, with `epoch` and the column; the shortest sets the length.
        column: loss, accuracy, val_loss, val_accuracy or val_auc.
    """
    if not histories:
        return None
    length = min(len(history) for history in histories)
    epochs = histories[0]["epoch"].to_numpy(float)[:length]
    return _average(epochs, [history[column].to_numpy(float)[:length] for history in histories])


def loss_limit(curves: Sequence[Curve]) -> float:
    """Where a loss axis from 0 ends: above every mean and band that is not far out among them
    (Tukey's outer fence).

    Args:
        curves: the losses of one panel.

    Returns:
        The upper limit, above 0; 1 where no loss is a finite positive number.
    """
    heights = (
        np.concatenate([np.concatenate([curve.mean, curve.mean + curve.sd]) for curve in curves])
        if curves
        else np.empty(0)
    )
    heights = heights[np.isfinite(heights)]
    if not heights.size or heights.max() <= 0:
        return 1.0
    lower, upper = np.quantile(heights, [0.25, 0.75])
    return 1.05 * float(heights[heights <= upper + FAR_OUT * (upper - lower)].max()) or 1.0


def shared_limits(limits: Mapping[FreezePoint, float]) -> dict[FreezePoint, float]:
    """One limit for the panels of a dataset; each its own where they differ more than fourfold and
    one would flatten another."""
    highest = max(limits.values(), default=1.0)
    return {
        point: highest if highest <= ALIKE * min(limits.values()) else limit
        for point, limit in limits.items()
    }


def cut_bars(mean: ArrayLike, sd: ArrayLike, *, lowest: float) -> NDArray[np.float64]:
    """Lengths of error bars of ± 1 SD, down and up, cut where the metric ends.

    Args:
        mean: (n,) within lowest..1.
        sd: (n,) at least 0.
        lowest: 0, or -1 for the Matthews correlation coefficient.

    Returns:
        (2, n) lengths below and above the mean.
    """
    middle, length = np.asarray(mean, dtype=float), np.asarray(sd, dtype=float)
    return np.stack([np.minimum(length, middle - lowest), np.minimum(length, 1 - middle)]).clip(
        min=0
    )


def _average(x: NDArray[np.float64], curves: Sequence[NDArray[np.float64]]) -> Curve | None:
    if not curves:
        return None
    points = [mean_sd([float(value) for value in column]) for column in np.stack(curves, axis=1)]
    mean = np.array([point[0] for point in points], dtype=float)
    sd = np.array([point[1] or 0.0 for point in points], dtype=float)
    return Curve(x=x, mean=mean, sd=sd, n_folds=len(curves))
