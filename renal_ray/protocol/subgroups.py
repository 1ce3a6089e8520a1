"""Whether the model is as good in one kind of patient as in another."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import chi2

from renal_ray.protocol.delong import auc_interval
from renal_ray.protocol.intervals import Z_95
from renal_ray.protocol.logistic import fit_logistic, logit, separated
from renal_ray.protocol.metrics import as_labels_and_scores, as_probabilities

EVEN = 0.5
# Of either class: with 10 and 10 the standard error of an AUC of 0.8 is 0.1 (Hanley and McNeil
# 1982), so the interval spans 0.4.
FEWEST = 10


@dataclass(frozen=True)
class SubgroupAuc:
    """The AUC in one level of a grouping.

    Args:
        level: its name.
        n, malignant, benign: patients.
        auc, lower, upper: AUC with its 95 % interval; None where a class is missing.
        method: of the interval; empty where there is none.
        too_small: why the level says too little, or None.
    """

    level: str
    n: int
    malignant: int
    benign: int
    auc: float | None
    lower: float | None
    upper: float | None
    method: str
    too_small: str | None


@dataclass(frozen=True)
class Interaction:
    """Whether the levels of a grouping differ.

    Args:
        levels: each with its AUC, in the order of their names.
        tested: names of the levels that are large enough to be tested.
        unknown: patients without a level; they are in none.
        q, df, p: Cochran's Q of the tested levels' AUCs on the logit scale, chi-squared under equal
            AUCs; p is None where fewer than two levels can be tested.
        slope_statistic, slope_p: likelihood ratio of an interaction of group and logit(score) on df
            degrees; None where it cannot be fitted.
        problem: why something is None.
    """

    levels: tuple[SubgroupAuc, ...]
    tested: tuple[str, ...]
    unknown: int
    q: float | None
    df: int | None
    p: float | None
    slope_statistic: float | None
    slope_p: float | None
    problem: str | None


def subgroup_aucs(
    labels: ArrayLike, scores: ArrayLike, groups: Sequence[str | None]
) -> tuple[SubgroupAuc, ...]:
    """AUC with interval in each level.

    Args:
        labels: (n,) 0 or 1, of independent patients.
        scores: (n,) P(malignant).
        groups: (n,) level of each patient; None where it is not known.

    Raises:
        ValueError: the lengths differ, a label is neither 0 nor 1, or a score is not finite.
    """
    truth, values = as_labels_and_scores(labels, scores)
    return tuple(
        _subgroup(name, truth[there], values[there]) for name, there in _levels(groups, len(truth))
    )


def interaction(labels: ArrayLike, scores: ArrayLike, groups: Sequence[str | None]) -> Interaction:
    """Tests whether the AUC is the same in all levels, and whether a score means the same.

    Cochran's Q of independent AUCs on the logit scale with DeLong's errors: W. G. Cochran, The
    combination of estimates from different experiments, Biometrics 10 (1954) 101-129. Beside it the
    likelihood-ratio test of label ~ logit(score) * group against label ~ logit(score) + group.
    Levels with fewer than 10 patients of a class are shown and not tested. A P value above 0.05
    from few patients is no evidence of equality.

    Args:
        labels: (n,) 0 or 1, of independent patients.
        scores: (n,) P(malignant), in 0..1.
        groups: (n,) level of each patient; None where it is not known.

    Raises:
        ValueError: the lengths differ, there is no patient, a label is neither 0 nor 1, or a score
            is not in 0..1.
    """
    truth, values = as_probabilities(labels, scores)
    members = _levels(groups, len(truth))
    levels = tuple(_subgroup(name, truth[there], values[there]) for name, there in members)
    kept = [
        there for level, (_, there) in zip(levels, members, strict=True) if level.too_small is None
    ]
    tested = tuple(level.level for level in levels if level.too_small is None)
    unknown = sum(group is None for group in groups)
    if len(kept) < 2:
        problem = (
            f"{len(kept)} of {len(levels)} levels have at least {FEWEST} "
            "patients of each class: nothing to compare"
        )
        return Interaction(levels, tested, unknown, None, None, None, None, None, problem)
    q, df = _cochran_q(truth, values, kept), len(kept) - 1
    p = float(chi2.sf(q, df))
    statistic = (
        None
        if any(separated(truth[there], logit(values[there])) for there in kept)
        else _slope_ratio(truth, values, kept)
    )
    if statistic is None:
        problem = "the scores separate the classes in a level: the slopes cannot be compared"
        return Interaction(levels, tested, unknown, q, df, p, None, None, problem)
    return Interaction(
        levels, tested, unknown, q, df, p, statistic, float(chi2.sf(statistic, df)), None
    )


def _levels(groups: Sequence[str | None], n: int) -> list[tuple[str, NDArray[np.bool_]]]:
    if len(groups) != n:
        raise ValueError(f"{n} labels and {len(groups)} groups; one group a label is needed")
    names = sorted({group for group in groups if group is not None})
    return [(name, np.array([group == name for group in groups], dtype=bool)) for name in names]


def _subgroup(name: str, truth: NDArray[np.bool_], values: NDArray[np.float64]) -> SubgroupAuc:
    malignant, benign = int(truth.sum()), int((~truth).sum())
    reason = None
    if min(malignant, benign) < FEWEST:
        reason = (
            f"{malignant} malignant and {benign} benign: fewer than "
            f"{FEWEST} of a class are too few to say"
        )
    found = auc_interval(truth, values)
    auc, lower, upper, method = (
        (found.auc, found.lower, found.upper, found.method) if found else (None, None, None, "")
    )
    return SubgroupAuc(name, len(truth), malignant, benign, auc, lower, upper, method, reason)


def _cochran_q(
    truth: NDArray[np.bool_], values: NDArray[np.float64], kept: list[NDArray[np.bool_]]
) -> float:
    places, ses = np.array([_on_logit(truth[there], values[there]) for there in kept]).T
    weights = 1 / ses**2
    return float((weights * (places - (weights * places).sum() / weights.sum()) ** 2).sum())


def _on_logit(truth: NDArray[np.bool_], values: NDArray[np.float64]) -> tuple[float, float]:
    """logit(AUC) and its standard error.

    An AUC without a fault has neither: half a pair is then taken to be out of order, and the
    distance to the score bound, z standard errors, stands in.
    """
    found = auc_interval(truth, values)
    if found is None:
        raise ValueError("labels: a level without both classes cannot be tested")
    if found.se:
        return _logit(found.auc), found.se / (found.auc * (1 - found.auc))
    pairs = int(truth.sum()) * int((~truth).sum())
    place = _logit((pairs * found.auc + 0.5) / (pairs + 1))
    bound = found.lower if found.auc > EVEN else found.upper
    return place, abs(place - _logit(bound)) / Z_95


def _logit(share: float) -> float:
    return math.log(share / (1 - share))


def _slope_ratio(
    truth: NDArray[np.bool_], values: NDArray[np.float64], kept: list[NDArray[np.bool_]]
) -> float | None:
    rows = np.any(kept, axis=0)
    x, targets = logit(values[rows]), truth[rows].astype(np.float64)
    group = np.column_stack([there[rows].astype(np.float64) for there in kept])
    common = fit_logistic(np.column_stack([group, x]), targets)
    own = fit_logistic(np.column_stack([group, group * x[:, None]]), targets)
    return (
        None
        if common is None or own is None
        else max(0.0, 2 * (own.log_likelihood - common.log_likelihood))
    )
