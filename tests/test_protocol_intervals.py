"""Intervals of proportions against scipy's."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from renal_ray.protocol.intervals import clopper_pearson, wilson

COUNTS = st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@settings(max_examples=60, deadline=None)
@given(COUNTS, st.sampled_from([0.5, 0.9, 0.95, 0.999]))
def test_clopper_pearson_equals_scipy(counts, level):
    oracle = binomtest(*counts).proportion_ci(level, method="exact")
    assert clopper_pearson(*counts, level) == pytest.approx((oracle.low, oracle.high), abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(COUNTS)
def test_wilson_equals_scipy(counts):
    oracle = binomtest(*counts).proportion_ci(0.95, method="wilson")
    assert wilson(*counts) == pytest.approx((oracle.low, oracle.high), abs=1e-9)


def test_rule_of_three_and_no_patients():
    lower, upper = clopper_pearson(25, 25)
    assert upper == 1.0
    assert lower == pytest.approx(
        0.025 ** (1 / 25)
    )  # all of n: the share that gives n of n with probability 0.025
    assert clopper_pearson(0, 0) is None
    assert wilson(0, 0) is None


@pytest.mark.parametrize(
    ("counts", "level", "message"),
    [
        ((3, 2), 0.95, "successes"),
        ((-1, 2), 0.95, "successes"),
        ((1, 2), 1.0, "level"),
        ((1, 2), 0, "level"),
    ],
)
def test_refuses(counts, level, message):
    with pytest.raises(ValueError, match=message):
        clopper_pearson(*counts, level)
