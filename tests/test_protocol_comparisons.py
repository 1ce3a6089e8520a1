"""Paired decisions, several tests, and plain t tests, against scipy and by hand."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, ttest_ind, ttest_rel
from scipy.stats import t as student

from renal_ray.protocol.comparisons import (
    TTest,
    blocked_lsd,
    hedges_factor,
    holm,
    mcnemar,
    paired_t,
    welch,
)

A, B = [0.80, 0.90, 0.85, 0.70, 0.95], [0.70, 0.80, 0.80, 0.70, 0.90]
BITS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=60)


@settings(max_examples=60, deadline=None)
@given(BITS)
def test_mcnemar_equals_the_binomial_test(pairs):
    a, b = np.array(pairs).T
    found = mcnemar(a, b)
    only_a, only_b = pairs.count((1, 0)), pairs.count((0, 1))
    assert (found.only_a, found.only_b) == (only_a, only_b)
    assert found.p == pytest.approx(
        binomtest(only_b, only_a + only_b, 0.5).pvalue if only_a + only_b else 1.0
    )
    assert found.difference == pytest.approx(a.mean() - b.mean())


def test_mcnemar_worked_by_hand():
    """One against six: (1 + 7) / 2^7 on one side, doubled."""
    found = mcnemar([1] + [0] * 6 + [1] * 20, [0] + [1] * 6 + [1] * 20)
    assert (found.only_a, found.only_b, found.p) == (1, 6, pytest.approx(0.125))


@pytest.mark.parametrize(
    ("counts", "interval"),
    [
        ((36, 12, 2, 0), (0.0569, 0.3404)),
        ((43, 0, 0, 0), (-0.0820, 0.0820)),
        ((0, 0, 0, 0), (None, None)),
    ],
)
def test_interval_of_the_difference_is_newcombes(counts, interval):
    """The first row is an example of Newcombe 1998; without a difference the bounds are Wilson's
    width for 43 of 43."""
    both, only_a, only_b, neither = counts
    a = [1] * both + [1] * only_a + [0] * only_b + [0] * neither
    b = [1] * both + [0] * only_a + [1] * only_b + [0] * neither
    found = mcnemar(a, b)
    assert (found.lower, found.upper) == pytest.approx(interval, abs=5e-5)
    turned = mcnemar(b, a)
    assert found.lower is None or (turned.lower, turned.upper) == pytest.approx(
        (-found.upper, -found.lower)
    )


def test_interval_of_the_difference_where_the_models_agree():
    """Method 10 written out for 20 both right, 5 and 2 one of them, 8 neither: ad - bc = 150, less
    n/2 = 17.5."""
    found = mcnemar([1] * 25 + [0] * 10, [1] * 20 + [0] * 5 + [1] * 2 + [0] * 8)
    phi = (150 - 17.5) / math.sqrt(25 * 10 * 22 * 13)
    first, second = (
        binomtest(right, 35).proportion_ci(0.95, method="wilson") for right in (25, 22)
    )
    down, up = (
        (25 / 35 - first.low, second.high - 22 / 35),
        (first.high - 25 / 35, 22 / 35 - second.low),
    )
    widths = [math.sqrt(mine**2 - 2 * phi * mine * other + other**2) for mine, other in (down, up)]
    assert (found.lower, found.upper) == pytest.approx((3 / 35 - widths[0], 3 / 35 + widths[1]))


def test_interval_of_the_difference_covers():
    rng, covered = np.random.default_rng(17), []
    for _ in range(400):
        hard = rng.random(60) < 0.3  # patients whom both models tend to miss
        a, b = (rng.random(60) < np.where(hard, low, 0.95) for low in (0.6, 0.3))
        found = mcnemar(a, b)
        covered.append(found.lower <= 0.3 * 0.3 <= found.upper)
    assert 0.92 <= np.mean(covered) <= 0.985


def test_holm_worked_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.001, 0.008, 0.101]) == pytest.approx(
        [0.003, 0.016, 0.101]
    )  # Figure 4D of Zhou et al. 2019
    assert holm([0.6, None, 0.7]) == [1.0, None, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_is_the_closure_of_bonferroni(p_values):
    """Adjusted P: the largest Bonferroni P value of all sets of tests that hold the one."""
    places = range(len(p_values))
    sets = [s for size in range(1, len(p_values) + 1) for s in itertools.combinations(places, size)]
    expected = [
        max(min(1.0, len(s) * min(p_values[j] for j in s)) for s in sets if i in s) for i in places
    ]
    assert holm(p_values) == pytest.approx(expected)


def test_paired_t_equals_scipy():
    found, oracle = paired_t(A, B), ttest_rel(A, B)
    interval = oracle.confidence_interval()
    assert (found.t, found.p, found.df) == pytest.approx((oracle.statistic, oracle.pvalue, 4))
    assert (found.lower, found.upper) == pytest.approx((interval.low, interval.high))
    assert found.d == pytest.approx(hedges_factor(4) * 0.06 / math.sqrt(0.00175))


def test_welch_equals_scipy():
    b = [*B, 0.6, 0.99]
    found, oracle = welch(A, b), ttest_ind(A, b, equal_var=False)
    interval = oracle.confidence_interval()
    assert (found.t, found.p, found.df) == pytest.approx(
        (oracle.statistic, oracle.pvalue, oracle.df)
    )
    assert (found.lower, found.upper) == pytest.approx((interval.low, interval.high))
    pooled = math.sqrt((4 * np.var(A, ddof=1) + 6 * np.var(b, ddof=1)) / 10)
    assert found.d == pytest.approx(hedges_factor(10) * found.difference / pooled)


def test_blocked_lsd_equals_least_squares():
    rng = np.random.default_rng(5)
    table = {
        name: list(rng.normal(0.9, 0.03, 5) - drop * np.arange(5))
        for name, drop in (("roi", 0.01), ("rbr", 0.015), ("slice", 0.03))
    }
    y = np.concatenate(list(table.values()))
    group, block = np.repeat(np.eye(3), 5, axis=0), np.tile(np.eye(5), (3, 1))
    design = np.column_stack([group, block[:, 1:]])
    coefficients, residual, *_ = np.linalg.lstsq(design, y, rcond=None)
    covariance = residual[0] / 8 * np.linalg.inv(design.T @ design)
    found = blocked_lsd(table)
    assert list(found) == [("roi", "rbr"), ("roi", "slice"), ("rbr", "slice")]
    for (i, j), test in zip(((0, 1), (0, 2), (1, 2)), found.values(), strict=True):
        se = math.sqrt(covariance[i, i] + covariance[j, j] - 2 * covariance[i, j])
        assert (test.difference, test.t, test.df) == pytest.approx(
            (coefficients[i] - coefficients[j], (coefficients[i] - coefficients[j]) / se, 8)
        )
        assert test.p == pytest.approx(2 * student.sf(abs(test.t), 8))


def test_blocked_lsd_of_two_groups_is_the_paired_t_test():
    (test,) = blocked_lsd({"a": [*A, None], "b": [*B, 0.5]}).values()
    paired = paired_t(A, B)
    assert (test.difference, test.lower, test.upper, test.t, test.p) == pytest.approx(
        (paired.difference, paired.lower, paired.upper, paired.t, paired.p)
    )
    assert blocked_lsd({"a": A}) is None
    assert blocked_lsd({"a": [0.5, None], "b": [0.4, 0.3]}) is None
    assert blocked_lsd({"a": [0.1, 0.7, 0.9], "b": [0.2, 0.8, 1.0]})["a", "b"].p is None


def test_which_pooled_tests_could_have_printed_figure_4d():
    """t(ROI, Slice) = t(ROI, RBR) + t(RBR, Slice): only 5 to 9 degrees of freedom round to .001
    from .008 and .101."""
    possible = []
    for df in range(2, 73):
        least, most = (
            2 * student.sf(student.isf(rbr_slice / 2, df) + student.isf(roi_rbr / 2, df), df)
            for rbr_slice, roi_rbr in ((0.0075, 0.1005), (0.0085, 0.1015))
        )
        if most >= 0.0005 and least < 0.0015:
            possible.append(df)
    assert possible == [5, 6, 7, 8, 9]


def test_two_pairs_have_no_standardised_difference():
    """Hedges's factor has no value at one degree of freedom, and 0 would say that there is no
    difference."""
    assert hedges_factor(1) is None
    found = paired_t([0.9, 0.8], [0.7, 0.75])
    assert found.d is None
    assert found.difference == pytest.approx(0.125)


def test_hedges_factor_takes_the_bias_out():
    assert hedges_factor(4) == pytest.approx(
        0.797885, abs=1e-6
    )  # sqrt(2 / pi): gamma(2) / (sqrt(2) gamma(1.5))
    assert hedges_factor(40) == pytest.approx(
        1 - 3 / (4 * 40 - 1), abs=1e-4
    )  # Hedges's approximation
    rng = np.random.default_rng(2)
    drawn = [paired_t(rng.normal(0.8, 1, 6), [0.0] * 6).d for _ in range(4000)]
    assert np.mean(drawn) == pytest.approx(0.8, abs=0.03)


def test_undefined_values_are_left_out():
    assert paired_t([*A, None, 0.5], [*B, 0.5, None]) == paired_t(A, B)
    assert welch([*A, None], B) == welch(A, B)
    assert paired_t([0.5, None], [0.4, 0.3]) is None
    assert welch([0.5], [0.4, 0.3]) is None


def test_no_spread_is_no_test():
    assert paired_t([1, 1, 1], [1, 1, 1]) == TTest(0.0, None, None, None, None, None, 1.0)
    assert paired_t([2, 2], [1, 1]) == TTest(1.0, None, None, None, None, None, None)
    assert welch([2, 2], [1, 1]).p is None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mcnemar([0, 1], [1]), "same patients"),
        (lambda: mcnemar([0, 2], [1, 1]), "0 or 1"),
        (lambda: holm([0.1, 1.2]), "p_values"),
        (lambda: holm([float("nan")]), "p_values"),
        (lambda: paired_t([0.1], [0.1, 0.2]), "pairs"),
        (lambda: welch([0.1, float("inf")], [0.1, 0.2]), "not finite"),
        (lambda: paired_t(A, B, level=2), "level"),
        (lambda: blocked_lsd({"a": A, "b": B[:4]}), "same ones"),
        (lambda: blocked_lsd({"a": [0.1, 0.2], "b": [0.1, float("nan")]}), "not finite"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()
