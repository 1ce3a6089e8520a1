"""Nadeau and Bengio's correction, worked by hand, and what it is for, by simulation."""

import math

import numpy as np
import pytest
from scipy.stats import t as student
from scipy.stats import ttest_1samp

from renal_ray.protocol.cross_validation import (
    CorrectedDifference,
    CorrectedMean,
    corrected_difference,
    corrected_mean,
)

AUCS = [0.80, 0.90, 0.85, 0.70, 0.95]


def test_mean_worked_by_hand():
    """Mean 0.84, deviations -.04 .06 .01 -.14 .11, squares sum to .037, s^2 = .00925; five folds of
    100: 1/5 + 20/80 = .45."""
    found = corrected_mean(AUCS, 80, 20)
    assert found.mean == pytest.approx(0.84)
    assert found.se == pytest.approx(math.sqrt(0.45 * 0.00925))
    assert found.df == 4
    half = 2.7764451 * 0.0645174  # 97.5th percentile of t with 4 degrees of freedom
    assert (found.lower, found.upper) == pytest.approx((0.84 - half, 0.84 + half), abs=1e-6)


def test_difference_worked_by_hand():
    """Differences .1 .1 .05 0 .05: mean .06, squares of deviations sum to .007, s^2 = .00175; t =
    .06 / sqrt(.45 * .00175)."""
    found = corrected_difference(AUCS, [0.7, 0.8, 0.8, 0.7, 0.9], 80, 20)
    t = 0.06 / math.sqrt(0.45 * 0.00175)
    assert (found.mean, found.t) == pytest.approx((0.06, t))
    assert found.p == pytest.approx(2 * student.sf(t, 4))
    assert found.lower < 0 < found.upper


def test_without_validation_weight_it_is_the_usual_t_interval():
    found = corrected_mean(AUCS, 1e12, 1)
    usual = ttest_1samp(AUCS, 0).confidence_interval()
    assert (found.lower, found.upper) == pytest.approx((usual.low, usual.high))


def test_undefined_folds_are_left_out_with_their_patients():
    whole = corrected_mean([0.8, 0.9, 0.7], [80, 90, 100], [20, 30, 40])
    assert corrected_mean([0.8, None, 0.9, 0.7], [80, 5, 90, 100], [20, 5, 30, 40]) == whole
    assert whole.se == pytest.approx(math.sqrt((1 / 3 + 90 / 270) * 0.01))
    assert corrected_difference([0.8, None, 0.9], [0.7, 0.6, None], 80, 20) is None
    assert corrected_mean([0.8, None], 80, 20) is None
    assert corrected_mean([], 80, 20) is None


def test_equal_values_say_nothing_of_their_spread():
    assert corrected_mean([1.0] * 5, 80, 20) == CorrectedMean(1.0, 0.0, None, None, 4)
    assert corrected_difference(AUCS, AUCS, 80, 20) == CorrectedDifference(
        0.0, 0.0, None, None, 4, None, 1.0
    )
    assert corrected_difference([2, 3, 4], [1, 2, 3], 80, 20).p is None


def test_plain_t_rejects_too_often_where_the_corrected_one_does_not():
    """Ten random divisions of 60 patients, validated on 15: the mean of validation accuracies of a
    rule fitted on the rest against its true value."""
    rng = np.random.default_rng(6)
    plain, corrected = [], []
    for _ in range(250):
        labels = np.tile([0, 1], 30)
        x = labels * 0.5 + rng.normal(0, 1, 60)
        differences = []
        for _ in range(10):
            order = rng.permutation(60)
            train, validation = order[:45], order[45:]
            cut = (x[train][labels[train] == 0].mean() + x[train][labels[train] == 1].mean()) / 2
            accuracy = ((x[validation] > cut) == labels[validation]).mean()
            differences.append(
                accuracy - 0.5987
            )  # 0.5987 = Phi(0.25): the best cut, to which the fitted one is near
        plain.append(ttest_1samp(differences, 0).pvalue < 0.05)
        corrected.append(corrected_difference(differences, [0.0] * 10, 45, 15).p < 0.05)
    assert np.mean(plain) > 0.2
    assert np.mean(corrected) < 0.1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: corrected_mean(AUCS, 0, 20), "n_train"),
        (lambda: corrected_mean(AUCS, 80, [20, 20]), "n_validation"),
        (lambda: corrected_mean([0.8, float("nan")], 80, 20), "not finite"),
        (lambda: corrected_difference(AUCS, AUCS[:4], 80, 20), "same folds"),
        (lambda: corrected_mean(AUCS, 80, 20, level=0), "level"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()
