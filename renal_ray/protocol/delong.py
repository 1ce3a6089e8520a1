"""How far an AUC, or a difference of two on the same patients, can be trusted."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.stats import norm, rankdata

from renal_ray.protocol.clusters import Clusters, as_clusters
from renal_ray.protocol.intervals import as_level
from renal_ray.protocol.metrics import as_labels_and_scores

DELONG_LOGIT = "DeLong, logit"
NEWCOMBE = "Newcombe"
MOVER = "Newcombe, MOVER"
DELONG = "DeLong"


@dataclass(frozen=True)
class AucInterval:
    """An AUC and how far it can be trusted.

    Args:
        auc: area under the ROC curve.
        se: DeLong's standard error; 0 where it says nothing, see method.
        lower, upper: bounds of the confidence interval, in 0..1.
        method: DELONG_LOGIT, or NEWCOMBE where DeLong's variance is 0 (all pairs in order) or a
            class is a single patient.
    """

    auc: float
    se: float
    lower: float
    upper: float
    method: str


@dataclass(frozen=True)
class AucDifference:
    """Two AUCs of the same patients; the difference is a - b.

    Args:
        a, b: the AUCs.
        difference: a - b.
        se: DeLong's standard error of the difference.
        lower, upper: bounds of the confidence interval of the difference, in -1..1.
        z: difference / se; None where se is 0.
        p: two-sided P value of no difference; None where se is 0 though the AUCs differ.
        method: DELONG, or MOVER where the variance of the difference is 0 or a class is a single
            patient.
    """

    a: float
    b: float
    difference: float
    se: float
    lower: float
    upper: float
    z: float | None
    p: float | None
    method: str


def auc_interval(
    labels: ArrayLike, scores: ArrayLike, level: float = 0.95, *, patients: ArrayLike | None = None
) -> AucInterval | None:
    """AUC with DeLong's standard error and an interval on the logit scale.

    E. R. DeLong, D. M. DeLong and D. L. Clarke-Pearson, Biometrics 44 (1988) 837-845; by midranks
    in O(n log n): X. Sun and W. Xu, IEEE Signal Process Lett 21 (2014) 1389-1393; slices of one
    patient kept together: N. A. Obuchowski, Biometrics 53 (1997) 567-578. The logit keeps the
    bounds in 0..1 and covers better than auc +- z se when the AUC is near 1 (M. S. Pepe, The
    Statistical Evaluation of Medical Tests, 2003; G. Qin and L. Hotilovac, Stat Methods Med Res 17
    (2008) 207-221); of 2,000 simulated cohorts of 45 and 20 patients with a true AUC of 0.97 it
    covers 95 %, the plain one 83 %. Where all pairs are in order the variance is 0 and [1, 1] would
    be a false certainty: there the score interval of R. G. Newcombe, Stat Med 25 (2006) 559-573,
    method 5, on the numbers of patients.

    Args:
        labels: (n,) 0 or 1.
        scores: (n,) P(malignant).
        level: confidence, in 0..1.
        patients: (n,) whose sample it is; None when each is a patient's only one. A patient has one
            label.

    Returns:
        The interval; None where a class is missing.

    Raises:
        ValueError: the lengths differ, a label is neither 0 nor 1, a score is not finite, a patient
            has two labels, or the level is not between 0 and 1.
    """
    truth, values = as_labels_and_scores(labels, scores)
    z = float(norm.ppf((1 + as_level(level)) / 2))
    clusters = as_clusters(truth, patients)
    if truth.all() or not truth.any():
        return None
    return _interval(truth, values, clusters, z)


def compare_aucs(
    labels: ArrayLike,
    scores_a: ArrayLike,
    scores_b: ArrayLike,
    level: float = 0.95,
    *,
    patients: ArrayLike | None = None,
) -> AucDifference | None:
    """The difference of two AUCs on the same patients, and DeLong's paired test of it.

    DeLong, DeLong and Clarke-Pearson 1988; slices of one patient kept together: Obuchowski 1997.
    Where the variance of the difference is 0 (both rank all patients alike, say both without a
    fault), the interval is put together from those of the two AUCs (MOVER: G. Y. Zou and A. Donner,
    Stat Med 27 (2008) 1693-1702, with correlation 0, which is too wide rather than too narrow).

    Args:
        labels: (n,) 0 or 1.
        scores_a, scores_b: (n,) P(malignant) by two models.
        level: confidence, in 0..1.
        patients: (n,) whose sample it is; None when each is a patient's only one.

    Returns:
        The difference; None where a class is missing.

    Raises:
        ValueError: as auc_interval.
    """
    truth, first = as_labels_and_scores(labels, scores_a)
    _, second = as_labels_and_scores(labels, scores_b)
    z = float(norm.ppf((1 + as_level(level)) / 2))
    clusters = as_clusters(truth, patients)
    if truth.all() or not truth.any():
        return None
    components_a, components_b = (
        structural_components(truth, first),
        structural_components(truth, second),
    )
    a, b = _mean_auc(truth, components_a), _mean_auc(truth, components_b)
    difference = a - b
    se = math.sqrt(_variance(truth, components_a - components_b, clusters, difference))
    if not _is_spread(se, clusters):
        ours, theirs = _interval(truth, first, clusters, z), _interval(truth, second, clusters, z)
        lower = difference - math.hypot(a - ours.lower, theirs.upper - b)
        upper = difference + math.hypot(ours.upper - a, b - theirs.lower)
        return AucDifference(
            a,
            b,
            difference,
            0.0,
            max(-1.0, lower),
            min(1.0, upper),
            None,
            1.0 if difference == 0 else None,
            MOVER,
        )
    statistic = difference / se
    p = float(2 * norm.sf(abs(statistic)))
    return AucDifference(
        a,
        b,
        difference,
        se,
        max(-1.0, difference - z * se),
        min(1.0, difference + z * se),
        statistic,
        p,
        DELONG,
    )


def structural_components(
    truth: NDArray[np.bool_], values: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Share of the other class that a sample is on the right side of, a tie being half; by
    midranks.

    Args:
        truth: (n,) both classes.
        values: (n,) finite.

    Returns:
        (n,) V10 of malignant and V01 of benign samples; the mean over either class is the AUC.
    """
    ranks = rankdata(values)
    components = np.empty(len(values))
    malignant, benign = int(truth.sum()), int((~truth).sum())
    components[truth] = (ranks[truth] - rankdata(values[truth])) / benign
    components[~truth] = 1 - (ranks[~truth] - rankdata(values[~truth])) / malignant
    return components


def newcombe(auc: float, malignant: int, benign: int, z: float) -> tuple[float, float]:
    """The score interval of an AUC from nothing but its value and the numbers of patients.

    R. G. Newcombe, Confidence intervals for an effect size measure based on the Mann-Whitney
    statistic, part 2, Stat Med 25 (2006) 559-573, method 5: the AUCs from which the observed one is
    z standard errors away, the standard error of J. A. Hanley and B. J. McNeil, Radiology 143
    (1982) 29-36.

    Args:
        auc: observed, in 0..1.
        malignant, benign: patients.
        z: quantile of the standard normal distribution.

    Returns:
        (lower, upper), in 0..1.
    """
    spare = (malignant + benign) / 2 - 1

    def excess(theta: float) -> float:
        variance = (
            theta
            * (1 - theta)
            * (1 + spare * ((1 - theta) / (2 - theta) + theta / (1 + theta)))
            / (malignant * benign)
        )
        return (auc - theta) ** 2 - z * z * variance

    edge = 1e-12
    lower = (
        0.0
        if auc <= edge
        else float(brentq(excess, 0.0, auc - edge if excess(auc - edge) < 0 else auc))
    )
    upper = (
        1.0
        if auc >= 1 - edge
        else float(brentq(excess, auc + edge if excess(auc + edge) < 0 else auc, 1.0))
    )
    return lower, upper


def _interval(
    truth: NDArray[np.bool_], values: NDArray[np.float64], clusters: Clusters, z: float
) -> AucInterval:
    components = structural_components(truth, values)
    auc = _mean_auc(truth, components)
    se = math.sqrt(_variance(truth, components, clusters, auc))
    if not _is_spread(se, clusters) or not 0 < auc < 1:
        lower, upper = newcombe(auc, clusters.malignant, clusters.benign, z)
        return AucInterval(auc, 0.0, lower, upper, NEWCOMBE)
    centre, half = math.log(auc / (1 - auc)), z * se / (auc * (1 - auc))
    return AucInterval(
        auc, se, 1 / (1 + math.exp(half - centre)), 1 / (1 + math.exp(-half - centre)), DELONG_LOGIT
    )


def _mean_auc(truth: NDArray[np.bool_], components: NDArray[np.float64]) -> float:
    return math.fsum(components[truth]) / int(truth.sum())


def _is_spread(se: float, clusters: Clusters) -> bool:
    """Whether DeLong's variance says anything: it needs two patients a class, and components that
    are not all alike."""
    return min(clusters.malignant, clusters.benign) > 1 and se > 1e-9


def _variance(
    truth: NDArray[np.bool_], components: NDArray[np.float64], clusters: Clusters, mean: float
) -> float:
    """Obuchowski's variance; with one sample a patient it is DeLong's. A patient is of one class,
    so no covariance between the classes is left."""
    sums = np.bincount(clusters.of, weights=components - mean, minlength=len(clusters.labels))
    variance = 0.0
    for of_class, samples in ((clusters.labels, truth), (~clusters.labels, ~truth)):
        n = int(of_class.sum())
        if n > 1:
            variance += n / (n - 1) * float((sums[of_class] ** 2).sum()) / int(samples.sum()) ** 2
    return variance
