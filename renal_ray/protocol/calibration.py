"""Whether a score of 0.8 is malignant in 80 of 100 patients."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm

from renal_ray.protocol.calibrators import KINDS, Calibrator, fit_calibrator
from renal_ray.protocol.intervals import as_level, wilson
from renal_ray.protocol.logistic import LogisticFit, fit_intercept, fit_logistic, logit, separated
from renal_ray.protocol.metrics import as_probabilities

__all__ = [
    "KINDS",
    "CalibrationLine",
    "Calibrator",
    "Estimate",
    "Reliability",
    "ReliabilityBin",
    "brier",
    "brier_skill",
    "expected_calibration_error",
    "fit_calibrator",
    "reliability",
    "slope_and_intercept",
]

Bins = Literal["count", "width"]


@dataclass(frozen=True)
class ReliabilityBin:
    """Patients of about the same score.

    Args:
        n: patients.
        malignant: of them.
        mean_score: predicted share.
        observed: malignant / n.
        lower, upper: 95 % Wilson interval of the observed share.
    """

    n: int
    malignant: int
    mean_score: float
    observed: float
    lower: float
    upper: float


@dataclass(frozen=True)
class Reliability:
    """A reliability curve, from low to high scores; bins without patients are left out.

    Args:
        bins: its points.
        strategy: "count" or "width", how the scores were divided.
    """

    bins: tuple[ReliabilityBin, ...]
    strategy: Bins


@dataclass(frozen=True)
class Estimate:
    """A coefficient with its Wald interval.

    Args:
        value: the coefficient.
        se: standard error.
        lower, upper: bounds.
    """

    value: float
    se: float
    lower: float
    upper: float


@dataclass(frozen=True)
class CalibrationLine:
    """logit P(malignant) = intercept + slope * logit(score); perfect scores have 0 and 1.

    Args:
        slope: below 1: scores too extreme; None where the data give none.
        intercept: None where the data give none.
        in_the_large: the intercept when the slope is held at 1: above 0, scores too low on the
            whole; None with a single class.
        problem: why something is None.
    """

    slope: Estimate | None
    intercept: Estimate | None
    in_the_large: Estimate | None
    problem: str | None


def reliability(
    labels: ArrayLike, scores: ArrayLike, bins: int = 10, *, strategy: Bins = "count"
) -> Reliability:
    """Observed against predicted share of malignant patients.

    Equal scores are never divided between bins. Wilson intervals take the samples as independent:
    use one score a patient.

    Args:
        labels: (n,) 0 or 1.
        scores: (n,) P(malignant), in 0..1.
        bins: most of them.
        strategy: "count": about equally many patients a bin (edges at quantiles); "width": edges at
            equal distances in 0..1.

    Raises:
        ValueError: the lengths differ, there is no sample, a label is neither 0 nor 1, a score is
            not in 0..1, or bins or strategy is unusable.
    """
    truth, values = as_probabilities(labels, scores)
    if bins < 1 or strategy not in ("count", "width"):
        raise ValueError(f"bins: {bins} by {strategy!r}; expected at least one, by count or width")
    marks = np.linspace(0, 1, bins + 1)
    edges = np.quantile(values, marks) if strategy == "count" else marks
    place = np.searchsorted(edges[1:-1], values, side="left")
    points = []
    for there in (place == k for k in range(bins)):
        n, malignant = int(there.sum()), int(truth[there].sum())
        if interval := wilson(malignant, n):
            points.append(
                ReliabilityBin(n, malignant, float(values[there].mean()), malignant / n, *interval)
            )
    return Reliability(tuple(points), strategy)


def brier(labels: ArrayLike, scores: ArrayLike) -> float:
    """Mean squared difference of score and label: 0 is perfect, 0.25 is a score of 0.5 for
    everybody.

    G. W. Brier, Verification of forecasts expressed in terms of probability, Mon Weather Rev 78
    (1950) 1-3, for two classes and one of them counted.

    Args:
        labels: (n,) 0 or 1.
        scores: (n,) P(malignant), in 0..1.

    Raises:
        ValueError: the lengths differ, there is no sample, a label is neither 0 nor 1, or a score
            is not in 0..1.
    """
    truth, values = as_probabilities(labels, scores)
    return float(np.mean((values - truth) ** 2))


def brier_skill(labels: ArrayLike, scores: ArrayLike) -> float | None:
    """How much of the Brier score of "everybody has the mean risk" is gone: 1 is perfect, 0 is no
    gain.

    E. W. Steyerberg et al., Assessing the performance of prediction models, Epidemiology 21 (2010)
    128-138 (there: scaled Brier score).

    Args:
        labels: (n,) 0 or 1.
        scores: (n,) P(malignant), in 0..1.

    Returns:
        None with a single class.

    Raises:
        ValueError: as brier.
    """
    truth, values = as_probabilities(labels, scores)
    share = float(truth.mean())
    return 1 - brier(truth, values) / (share * (1 - share)) if 0 < share < 1 else None


def expected_calibration_error(
    labels: ArrayLike, scores: ArrayLike, bins: int = 10, *, strategy: Bins = "width"
) -> float:
    """Mean distance of observed and predicted share over the bins, each weighed by its patients.

    M. P. Naeini, G. F. Cooper and M. Hauskrecht, Obtaining well calibrated probabilities using
    Bayesian binning, AAAI 2015. Few patients a bin raise it by chance alone.

    Args:
        labels: (n,) 0 or 1.
        scores: (n,) P(malignant), in 0..1.
        bins: most of them.
        strategy: as reliability.

    Raises:
        ValueError: as reliability.
    """
    points = reliability(labels, scores, bins, strategy=strategy).bins
    return math.fsum(point.n * abs(point.observed - point.mean_score) for point in points) / sum(
        point.n for point in points
    )


def slope_and_intercept(
    labels: ArrayLike, scores: ArrayLike, level: float = 0.95
) -> CalibrationLine:
    """Calibration slope and intercept by logistic regression on the logit of the score, without a
    penalty.

    D. R. Cox, Two further applications of a model for binary regression, Biometrika 45 (1958)
    562-565; B. Van Calster et al., A calibration hierarchy for risk models, J Clin Epidemiol 74
    (2016) 167-176. Scores nearer to 0 or 1 than 1e-7 are taken as that near.

    Args:
        labels: (n,) 0 or 1, of independent patients.
        scores: (n,) P(malignant), in 0..1.
        level: confidence, in 0..1.

    Returns:
        The line; classes that the scores separate have no finite slope, and the result says so.

    Raises:
        ValueError: the lengths differ, there is no sample, a label is neither 0 nor 1, a score is
            not in 0..1, or the level is not between 0 and 1.
    """
    truth, values = as_probabilities(labels, scores)
    z = float(norm.ppf((1 + as_level(level)) / 2))
    malignant = int(truth.sum())
    if malignant in (0, len(truth)):
        return CalibrationLine(
            None,
            None,
            None,
            f"{malignant} malignant and {len(truth) - malignant} "
            "benign: calibration needs both classes",
        )
    x, targets = logit(values), truth.astype(np.float64)
    in_the_large = _estimate(fit_intercept(targets, x), 0, z)
    if np.ptp(x) == 0:
        return CalibrationLine(None, None, in_the_large, "all scores are equal: they have no slope")
    fitted = (
        None
        if separated(truth, x)
        else fit_logistic(np.column_stack([x, np.ones(len(x))]), targets)
    )
    if fitted is None:
        return CalibrationLine(
            None,
            None,
            in_the_large,
            "the scores separate the classes: no finite slope is the likeliest",
        )
    return CalibrationLine(_estimate(fitted, 0, z), _estimate(fitted, 1, z), in_the_large, None)


def _estimate(fitted: LogisticFit, place: int, z: float) -> Estimate:
    value, se = float(fitted.coefficients[place]), math.sqrt(fitted.covariance[place, place])
    return Estimate(value, se, value - z * se, value + z * se)
