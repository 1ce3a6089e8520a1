"""Is one better than the other: paired decisions, several tests at once, and plain t tests as papers print them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binomtest
from scipy.stats import t as student

from renal_ray.protocol.intervals import as_level
from renal_ray.protocol.metrics import mean_sd


@dataclass(frozen=True)
class McNemar:
    """Decisions of two models on the same patients.

    Args:
        only_a: patients that a alone decides rightly.
        only_b: patients that b alone decides rightly.
        difference: share decided rightly by a - by b, that is the difference in accuracy; None without patients.
        p: exact two-sided P value of no difference.
    """

    only_a: int
    only_b: int
    difference: float | None
    p: float


@dataclass(frozen=True)
class TTest:
    """A t test with the difference first.

    Args:
        difference: mean of a - mean of b.
        lower, upper: bounds of its interval; None where there is no spread.
        d: standardised difference: of pairs, mean / SD of the differences (d_z); of groups, over the pooled SD. Hedges' small-sample factor is applied.
        t: statistic; None where there is no spread.
        df: degrees of freedom; None where there is no spread.
        p: two-sided P value; where there is no spread 1 for equal means, else None.
    """

    difference: float
    lower: float | None
    upper: float | None
    d: float | None
    t: float | None
    df: float | None
    p: float | None


def mcnemar(correct_a: ArrayLike, correct_b: ArrayLike) -> McNemar:
    """McNemar's test, exact: given the patients on which two models differ, either is right equally often.

    Q. McNemar, Psychometrika 12 (1947) 153-157; the exact form is the binomial test of the patients on which they differ.

    Args:
        correct_a, correct_b: (n,) 0 or 1, whether the decision on each patient is right.

    Raises:
        ValueError: the lengths differ, or a value is neither 0 nor 1.
    """
    a, b = np.asarray(correct_a), np.asarray(correct_b)
    if a.ndim != 1 or a.shape != b.shape or not np.isin(a, (0, 1)).all() or not np.isin(b, (0, 1)).all():
        raise ValueError(f"correct: shapes {a.shape} and {b.shape}; expected 0 or 1 for the same patients")
    right_a, right_b = a.astype(bool), b.astype(bool)
    only_a, only_b = int((right_a & ~right_b).sum()), int((~right_a & right_b).sum())
    p = float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
    return McNemar(only_a, only_b, (only_a - only_b) / len(a) if len(a) else None, p)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """P values adjusted for their number by Holm's step-down procedure.

    S. Holm, A simple sequentially rejective multiple test procedure, Scand J Stat 6 (1979) 65-70.

    Args:
        p_values: in 0..1; None for a test that could not be made, which does not count.

    Returns:
        Adjusted P values in the given order; None stays None.

    Raises:
        ValueError: a value is not in 0..1.
    """
    made = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    if any(not 0 <= p <= 1 for p, _ in made):
        raise ValueError(f"p_values: {p_values}; expected values in 0..1")
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for place, (p, i) in enumerate(made):
        largest = max(largest, min(1.0, (len(made) - place) * p))
        adjusted[i] = largest
    return adjusted


def paired_t(a: Sequence[float | None], b: Sequence[float | None], level: float = 0.95) -> TTest | None:
    """Student's paired t test, as papers apply it to AUCs of folds or freeze points.

    Zhou et al. 2019 print P = .001, .008 and .101 for the datasets' AUCs (Figure 4D) and name no test. This one takes folds for independent,
    which they are not: `cross_validation.corrected_difference` is the honest one, this stands beside it for comparison with print.

    Args:
        a, b: values in pairs; a pair where either is undefined (None) is left out.
        level: confidence, in 0..1.

    Returns:
        The test; None with fewer than two pairs.

    Raises:
        ValueError: the lengths differ, a value is not finite, or the level is not between 0 and 1.
    """
    as_level(level)
    if len(a) != len(b):
        raise ValueError(f"{len(a)} and {len(b)} values; pairs are needed")
    differences = _finite([None if x is None or y is None else x - y for x, y in zip(a, b, strict=True)])
    mean, sd = mean_sd(differences)
    if mean is None or sd is None:
        return None
    df = len(differences) - 1
    spread = sd if max(differences) > min(differences) else 0.0
    return _t_test(mean, spread / math.sqrt(len(differences)), df, spread, df, level)


def welch(a: Sequence[float | None], b: Sequence[float | None], level: float = 0.95) -> TTest | None:
    """Welch's t test of two independent groups of unequal variance.

    B. L. Welch, The generalization of "Student's" problem when several different population variances are involved, Biometrika 34 (1947) 28-35.

    Args:
        a, b: values of either group; an undefined one (None) is left out.
        level: confidence, in 0..1.

    Returns:
        The test; None when a group has fewer than two values.

    Raises:
        ValueError: a value is not finite, or the level is not between 0 and 1.
    """
    as_level(level)
    first, second = _finite(a), _finite(b)
    (mean_a, sd_a), (mean_b, sd_b) = mean_sd(first), mean_sd(second)
    if mean_a is None or mean_b is None or sd_a is None or sd_b is None:
        return None
    var_a = sd_a**2 / len(first) if max(first) > min(first) else 0.0
    var_b = sd_b**2 / len(second) if max(second) > min(second) else 0.0
    freedom = len(first) + len(second) - 2
    pooled = math.sqrt(((len(first) - 1) * sd_a**2 + (len(second) - 1) * sd_b**2) / freedom)
    se = math.sqrt(var_a + var_b)
    df = (var_a + var_b) ** 2 / (var_a**2 / (len(first) - 1) + var_b**2 / (len(second) - 1)) if se else float(freedom)
    return _t_test(mean_a - mean_b, se, df, pooled, freedom, level)


def _t_test(difference: float, se: float, df: float, sd: float, sd_df: int, level: float) -> TTest:
    if se == 0:
        return TTest(difference, None, None, None, None, None, 1.0 if difference == 0 else None)
    half = float(student.ppf((1 + level) / 2, df)) * se
    t = difference / se
    return TTest(difference, difference - half, difference + half, hedges_factor(sd_df) * difference / sd, t, df, float(2 * student.sf(abs(t), df)))


def hedges_factor(df: int) -> float:
    """What takes the upward bias out of a standardised difference of few values.

    L. V. Hedges, Distribution theory for Glass's estimator of effect size and related estimators, J Educ Stat 6 (1981) 107-128, exact form.
    """
    return math.exp(math.lgamma(df / 2) - math.lgamma((df - 1) / 2)) / math.sqrt(df / 2) if df > 1 else 0.0


def _finite(values: Sequence[float | None]) -> list[float]:
    known = [float(value) for value in values if value is not None]
    if not all(math.isfinite(value) for value in known):
        raise ValueError("values: one is not finite; an undefined value is None")
    return known
