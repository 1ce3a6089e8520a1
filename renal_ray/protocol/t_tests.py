"""Plain t tests, as papers print them of AUCs of folds or freeze points."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.stats import t as student

from renal_ray.protocol.intervals import as_level
from renal_ray.protocol.metrics import mean_sd


@dataclass(frozen=True)
class TTest:
    """A t test with the difference first.

    Args:
        difference: mean of a - mean of b.
        lower, upper: bounds of its interval; None where there is no spread.
        d: difference in standard deviations: of the differences for pairs (d_z), pooled for groups,
            residual for blocks; with Hedges's factor; None where there is no spread, or only one
            degree of freedom of it.
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


def paired_t(
    a: Sequence[float | None], b: Sequence[float | None], level: float = 0.95
) -> TTest | None:
    """Student's paired t test, as papers apply it to AUCs of folds or freeze points.

    This one takes folds for independent, which they are not:
    `cross_validation.corrected_difference` is the honest one, this stands beside it for comparison
    with print.

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
    differences = _finite(
        [None if x is None or y is None else x - y for x, y in zip(a, b, strict=True)]
    )
    mean, sd = mean_sd(differences)
    if mean is None or sd is None:
        return None
    df = len(differences) - 1
    spread = sd if max(differences) > min(differences) else 0.0
    return _t_test(mean, spread / math.sqrt(len(differences)), df, spread, df, level)


def welch(
    a: Sequence[float | None], b: Sequence[float | None], level: float = 0.95
) -> TTest | None:
    """Welch's t test of two independent groups of unequal variance.

    B. L. Welch, The generalization of "Student's" problem when several different population
    variances are involved, Biometrika 34 (1947) 28-35.

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
    df = (
        (var_a + var_b) ** 2 / (var_a**2 / (len(first) - 1) + var_b**2 / (len(second) - 1))
        if se
        else float(freedom)
    )
    return _t_test(mean_a - mean_b, se, df, pooled, freedom, level)


def blocked_lsd(
    values: Mapping[str, Sequence[float | None]], level: float = 0.95
) -> dict[tuple[str, str], TTest] | None:
    """Fisher's least significant difference after an analysis of variance of groups by blocks:
    datasets by freeze points, say.

    Zhou et al. 2019 print P = .001 (ROI against Slice), .008 (RBR against Slice) and .101 (ROI
    against RBR) for the AUCs of Figure 4D and name no test. With one pooled error the first two t
    values differ by the third, which leaves 5 to 9 degrees of freedom: three datasets by five
    freeze points have
    8. A one-way analysis (12) would have printed < .001, and rank tests of five against five do not
        get down to .001. A paired t test each is possible
    too. All take AUCs of one cohort for independent; they stand here for comparison with print.

    R. A. Fisher, The Design of Experiments, 1935.

    Args:
        values: of each group, one a block, the blocks in the same order; a block with an undefined
            value (None) is left out.
        level: confidence, in 0..1.

    Returns:
        The test of each two groups, first minus second in the given order; d is over the residual
        SD. None with fewer than two groups or blocks.

    Raises:
        ValueError: the lengths differ, a value is not finite, or the level is not between 0 and 1.
    """
    as_level(level)
    names = list(values)
    if len({len(row) for row in values.values()}) > 1:
        raise ValueError(
            f"values: {[len(row) for row in values.values()]} "
            "blocks; each group needs the same ones"
        )
    kept = [column for column in zip(*values.values(), strict=True) if None not in column]
    table = np.array([_finite(column) for column in kept]).T
    if len(names) < 2 or len(kept) < 2:
        return None
    means = table.mean(axis=1)
    residuals = table - means[:, None] - table.mean(axis=0) + table.mean()
    df = (len(names) - 1) * (len(kept) - 1)
    sd = math.sqrt(float((residuals**2).sum()) / df)
    sd = sd if sd > 1e-12 * float(np.abs(table).max()) else 0.0  # rounding is no spread
    se = sd * math.sqrt(2 / len(kept))
    pairs = combinations(range(len(names)), 2)
    return {
        (names[i], names[j]): _t_test(float(means[i] - means[j]), se, df, sd, df, level)
        for i, j in pairs
    }


def _t_test(difference: float, se: float, df: float, sd: float, sd_df: int, level: float) -> TTest:
    if se == 0:
        return TTest(difference, None, None, None, None, None, 1.0 if difference == 0 else None)
    half = float(student.ppf((1 + level) / 2, df)) * se
    t = difference / se
    factor = hedges_factor(sd_df)
    d = None if factor is None else factor * difference / sd
    return TTest(
        difference,
        difference - half,
        difference + half,
        d,
        t,
        df,
        float(2 * student.sf(abs(t), df)),
    )


def hedges_factor(df: int) -> float | None:
    """What takes the upward bias out of a standardised difference of few values.

    L. V. Hedges, Distribution theory for Glass's estimator of effect size and related estimators, J
    Educ Stat 6 (1981) 107-128, exact form.

    Args:
        df: degrees of freedom of the standard deviation.

    Returns:
        The factor; None with one degree of freedom, where no unbiased estimate exists.
    """
    return (
        math.exp(math.lgamma(df / 2) - math.lgamma((df - 1) / 2)) / math.sqrt(df / 2)
        if df > 1
        else None
    )


def _finite(values: Sequence[float | None]) -> list[float]:
    known = [float(value) for value in values if value is not None]
    if not all(math.isfinite(value) for value in known):
        raise ValueError("values: one is not finite; an undefined value is None")
    return known
