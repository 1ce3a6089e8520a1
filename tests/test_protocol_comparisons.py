"""Paired decisions, several tests, and plain t tests, against scipy and by hand."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, ttest_ind, ttest_rel

from renal_ray.protocol.comparisons import TTest, hedges_factor, holm, mcnemar, paired_t, welch

A, B = [0.80, 0.90, 0.85, 0.70, 0.95], [0.70, 0.80, 0.80, 0.70, 0.90]
BITS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=60)


@settings(max_examples=60, deadline=None)
@given(BITS)
def test_mcnemar_equals_the_binomial_test(pairs):
    a, b = np.array(pairs).T
    found = mcnemar(a, b)
    only_a, only_b = pairs.count((1, 0)), pairs.count((0, 1))
    assert (found.only_a, found.only_b) == (only_a, only_b)
    assert found.p == pytest.approx(binomtest(only_b, only_a + only_b, 0.5).pvalue if only_a + only_b else 1.0)
    assert found.difference == pytest.approx(a.mean() - b.mean())


def test_mcnemar_worked_by_hand():
    """One against six: (1 + 7) / 2^7 on one side, doubled."""
    found = mcnemar([1] + [0] * 6 + [1] * 20, [0] + [1] * 6 + [1] * 20)
    assert (found.only_a, found.only_b, found.p) == (1, 6, pytest.approx(0.125))


def test_holm_worked_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.001, 0.008, 0.101]) == pytest.approx([0.003, 0.016, 0.101])  # Figure 4D of Zhou et al. 2019
    assert holm([0.6, None, 0.7]) == [1.0, None, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_is_the_closure_of_bonferroni(p_values):
    """Adjusted P: the largest Bonferroni P value of all sets of tests that hold the one."""
    places = range(len(p_values))
    sets = [s for size in range(1, len(p_values) + 1) for s in itertools.combinations(places, size)]
    expected = [max(min(1.0, len(s) * min(p_values[j] for j in s)) for s in sets if i in s) for i in places]
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
    assert (found.t, found.p, found.df) == pytest.approx((oracle.statistic, oracle.pvalue, oracle.df))
    assert (found.lower, found.upper) == pytest.approx((interval.low, interval.high))
    pooled = math.sqrt((4 * np.var(A, ddof=1) + 6 * np.var(b, ddof=1)) / 10)
    assert found.d == pytest.approx(hedges_factor(10) * found.difference / pooled)


def test_hedges_factor_takes_the_bias_out():
    assert hedges_factor(4) == pytest.approx(0.797885, abs=1e-6)  # sqrt(2 / pi): gamma(2) / (sqrt(2) gamma(1.5))
    assert hedges_factor(40) == pytest.approx(1 - 3 / (4 * 40 - 1), abs=1e-4)  # Hedges's approximation
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
    ],
)
def test_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()
