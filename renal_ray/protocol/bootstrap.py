"""The interval of any statistic, by drawing the patients anew."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri

from renal_ray.protocol.clusters import Clusters, as_clusters
from renal_ray.protocol.intervals import as_level
from renal_ray.protocol.metrics import as_labels

Statistic = Callable[..., float | None]
Method = Literal["bca", "percentile"]


@dataclass(frozen=True)
class BootstrapInterval:
    """A statistic and its bootstrap interval.

    Args:
        value: on the patients as they are; None where undefined.
        lower, upper: bounds; None where the value is undefined, or where all resamples agree and
            the bootstrap has nothing to say (an AUC of 1).
        n_valid: resamples in which the statistic was defined; the bounds are theirs.
        n: resamples drawn.
        method: "bca"; "percentile" where asked for, or where BCa does not exist: all resamples on
            one side of the value, or an undefined jackknife value.
    """

    value: float | None
    lower: float | None
    upper: float | None
    n_valid: int
    n: int
    method: Method


def bootstrap_interval(
    statistic: Statistic,
    labels: ArrayLike,
    *arrays: ArrayLike,
    patients: ArrayLike | None = None,
    n: int = 2000,
    seed: int,
    method: Method = "bca",
    level: float = 0.95,
) -> BootstrapInterval:
    """Draws patients with replacement within each class, all samples of a patient together, and
    takes the statistic of each draw.

    B. Efron, Better bootstrap confidence intervals, J Am Stat Assoc 82 (1987) 171-185 (BCa;
    acceleration by the jackknife over patients, in its form for several samples: A. C. Davison and
    D. V. Hinkley, Bootstrap Methods and their Application, 1997, chapter 5); clusters drawn whole:
    C. A. Field and A. H. Welsh, J R Stat Soc B 69 (2007) 369-390. With `patients` given, the draw
    does not depend on the order of the samples.

    Args:
        statistic: takes labels (bool) and arrays of the drawn samples; None or NaN where it is
            undefined. `rank_auc` is a fast one.
        labels: (n,) 0 or 1.
        arrays: (n, ...) each, drawn along the first axis.
        patients: (n,) whose sample it is; None when each is a patient's only one. A patient has one
            label.
        n: resamples.
        seed: of the draw.
        method: "bca" or "percentile".
        level: confidence, in 0..1.

    Returns:
        The value and its interval; undefined resamples are left out and counted.

    Raises:
        ValueError: the lengths differ, a label is neither 0 nor 1, a patient has two labels, there
            is no sample, or n, method or level is unusable.
    """
    truth = as_labels(labels)
    columns = [np.asarray(array) for array in arrays]
    if any(column.ndim == 0 or len(column) != len(truth) for column in columns):
        raise ValueError(
            f"{len(truth)} labels and arrays of shapes "
            f"{[column.shape for column in columns]}; one row a label is needed"
        )
    if len(truth) == 0 or n < 1 or method not in ("bca", "percentile"):
        raise ValueError(
            f"{len(truth)} labels, {n} resamples, method {method!r}: expected "
            "at least one of both, and bca or percentile"
        )
    as_level(level)
    clusters = as_clusters(truth, patients)

    def of(rows: NDArray[np.intp]) -> float:
        value = statistic(truth[rows], *(column[rows] for column in columns))
        return math.nan if value is None else float(value)

    value = of(np.arange(len(truth)))
    if math.isnan(value):
        return BootstrapInterval(None, None, None, 0, n, method)
    drawn = np.array([of(rows) for rows in _resamples(clusters, n, np.random.default_rng(seed))])
    left_out = _left_out(of, clusters) if method == "bca" else np.empty(0)
    return bounds(value, drawn, left_out, clusters.labels, method=method, level=level)


def bounds(
    value: float,
    resamples: NDArray[np.float64],
    left_out: NDArray[np.float64],
    malignant: NDArray[np.bool_],
    *,
    method: Method,
    level: float = 0.95,
) -> BootstrapInterval:
    """The interval from what a statistic was on the resamples.

    Args:
        value: on the patients as they are.
        resamples: (n,) NaN where undefined.
        left_out: (patients,) without each patient, for BCa; percentile needs none.
        malignant: (patients,) class of each patient.
        method: "bca" or "percentile".
        level: confidence, in 0..1.
    """
    half_alpha = (1 - as_level(level)) / 2
    valid = np.sort(resamples[~np.isnan(resamples)])
    if len(valid) < 2 or valid[0] == valid[-1]:
        return BootstrapInterval(value, None, None, len(valid), len(resamples), method)
    at = (
        _bca_shares(valid, value, _acceleration(left_out, malignant), half_alpha)
        if method == "bca"
        else None
    )
    lower, upper = (
        float(bound) for bound in np.quantile(valid, at or (half_alpha, 1 - half_alpha))
    )
    return BootstrapInterval(
        value, lower, upper, len(valid), len(resamples), "bca" if at else "percentile"
    )


def rank_auc(labels: ArrayLike, scores: ArrayLike) -> float | None:
    """AUC by ranks, without the checks of metrics.auc, for thousands of resamples of what was
    checked once.

    Args:
        labels: (n,) bool.
        scores: (n,) finite.

    Returns:
        The AUC; None where a class is missing.
    """
    truth, values = np.asarray(labels, dtype=bool), np.asarray(scores)
    benign, malignant = np.sort(values[~truth]), values[truth]
    if not len(benign) or not len(malignant):
        return None
    below = np.searchsorted(benign, malignant, side="left").sum()
    not_above = np.searchsorted(benign, malignant, side="right").sum()
    return float(below + not_above) / (2 * len(benign) * len(malignant))


def _resamples(clusters: Clusters, n: int, rng: np.random.Generator) -> Iterator[NDArray[np.intp]]:
    rows_of = clusters.rows()
    members = [
        patients
        for of_class in (clusters.labels, ~clusters.labels)
        if len(patients := np.flatnonzero(of_class))
    ]
    for _ in range(n):
        chosen = np.concatenate(
            [patients[rng.integers(len(patients), size=len(patients))] for patients in members]
        )
        yield np.concatenate([rows_of[patient] for patient in chosen])


def _left_out(of: Callable[[NDArray[np.intp]], float], clusters: Clusters) -> NDArray[np.float64]:
    """The value without each patient; without the only one of a class it is not asked for."""
    only = [label for label, n in ((True, clusters.malignant), (False, clusters.benign)) if n == 1]
    return np.array(
        [
            math.nan if label in only else of(np.flatnonzero(clusters.of != patient))
            for patient, label in enumerate(clusters.labels.tolist())
        ]
    )


def _acceleration(left_out: NDArray[np.float64], malignant: NDArray[np.bool_]) -> float:
    """Acceleration from leaving out one patient after the other; NaN where a value is undefined."""
    cubes = squares = 0.0
    for of_class in (malignant, ~malignant):
        values = left_out[of_class]
        if len(values) < 2:
            continue  # a class of one patient is drawn alike in every resample: it adds no spread
        influence = (len(values) - 1) * (values.mean() - values) / len(values)
        cubes, squares = cubes + float((influence**3).sum()), squares + float((influence**2).sum())
    return cubes / (6 * squares**1.5) if squares > 0 or math.isnan(squares) else math.nan


def _bca_shares(
    valid: NDArray[np.float64], value: float, acceleration: float, half_alpha: float
) -> tuple[float, float] | None:
    """The quantiles at which BCa reads the resamples; None where they do not exist."""
    share = (
        np.searchsorted(valid, value, side="left") + np.searchsorted(valid, value, side="right")
    ) / (2 * len(valid))
    if not 0 < share < 1 or math.isnan(acceleration):
        return None
    bias = ndtri(share)
    shifted = [bias + ndtri(alpha) for alpha in (half_alpha, 1 - half_alpha)]
    lower, upper = (float(ndtr(bias + shift / (1 - acceleration * shift))) for shift in shifted)
    return lower, upper
