"""Subgroups: worked by hand, against scikit-learn's likelihood, and false alarms by simulation."""

import math

import numpy as np
import pytest
from scipy.special import expit
from scipy.special import logit as scipy_logit
from scipy.stats import chi2, norm
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from renal_ray.protocol.delong import DELONG_LOGIT, NEWCOMBE, auc_interval
from renal_ray.protocol.subgroups import interaction, subgroup_aucs


def cohort(rng, shift_of, sizes=(30, 15)):
    """Patients of each level with malignant scores shifted by that level's amount."""
    labels, scores, groups = [], [], []
    for level, shift in shift_of.items():
        truth = np.array([1] * sizes[0] + [0] * sizes[1])
        labels.append(truth)
        scores.append(expit(shift * (truth - 0.5) + rng.normal(size=sum(sizes))))
        groups += [level] * sum(sizes)
    return np.concatenate(labels), np.concatenate(scores), groups


LABELS, SCORES, GROUPS = cohort(np.random.default_rng(41), {"small": 0.8, "large": 2.2})


def test_q_of_two_levels_is_the_square_of_their_difference_in_errors():
    found = interaction(LABELS, SCORES, GROUPS)
    assert [level.level for level in found.levels] == ["large", "small"]
    places, variances = [], []
    for level in found.levels:
        there = np.array(GROUPS) == level.level
        alone = auc_interval(LABELS[there], SCORES[there])
        assert (level.n, level.malignant, level.benign, level.auc, level.lower, level.upper) == (
            45,
            30,
            15,
            alone.auc,
            alone.lower,
            alone.upper,
        )
        places.append(math.log(alone.auc / (1 - alone.auc)))
        variances.append((alone.se / (alone.auc * (1 - alone.auc))) ** 2)
    q = (places[0] - places[1]) ** 2 / sum(variances)
    assert (found.q, found.df, found.p) == pytest.approx((q, 1, 2 * norm.sf(math.sqrt(q))))
    assert found.tested == ("large", "small")
    assert found.p < 0.05


def test_the_interval_is_called_by_the_method_that_made_it():
    """Newcombe's, where all pairs are in order or a class is one patient."""
    labels = [1, 1, 0, 0, 1, 1, 0, 0, 1, 0, 0]
    scores = [0.9, 0.8, 0.2, 0.1, 0.9, 0.3, 0.4, 0.2, 0.7, 0.8, 0.1]
    groups = ["in order"] * 4 + ["mixed"] * 4 + ["one"] * 3
    methods = {level.level: level.method for level in subgroup_aucs(labels, scores, groups)}
    assert methods == {"in order": NEWCOMBE, "mixed": DELONG_LOGIT, "one": NEWCOMBE}
    assert [level.method for level in subgroup_aucs([1, 1], [0.2, 0.4], ["a", "a"])] == [""]


def test_slope_test_equals_scikit_learns_likelihoods():
    rng = np.random.default_rng(43)
    labels, scores, groups = cohort(rng, {"a": 0.8, "b": 2.0, "c": 1.0})
    x, level = scipy_logit(scores), np.array(groups)
    dummies = np.column_stack([level == name for name in "abc"]).astype(float)

    def log_likelihood(design):
        fitted = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10, max_iter=5000).fit(
            design, labels
        )
        return -log_loss(labels, fitted.predict_proba(design), normalize=False)

    own = log_likelihood(np.column_stack([dummies, dummies * x[:, None]]))
    common = log_likelihood(np.column_stack([dummies, x]))
    found = interaction(labels, scores, groups)
    assert found.slope_statistic == pytest.approx(2 * (own - common), abs=1e-4)
    assert found.slope_p == pytest.approx(chi2.sf(2 * (own - common), 2), abs=1e-4)


def test_false_alarms_are_about_one_in_twenty_and_differences_are_found():
    rng = np.random.default_rng(44)
    same = [interaction(*cohort(rng, {"a": 1.5, "b": 1.5, "c": 1.5})).p < 0.05 for _ in range(300)]
    other = [interaction(*cohort(rng, {"a": 0.3, "b": 2.5}, (60, 30))).p < 0.05 for _ in range(60)]
    assert 0.015 < np.mean(same) < 0.09
    assert np.mean(other) > 0.9


def test_too_small_a_level_is_shown_and_not_tested():
    labels = np.concatenate([LABELS, [1] * 20 + [0] * 9])
    scores = np.concatenate([SCORES, np.linspace(0.01, 0.99, 29)])
    found = interaction(labels, scores, GROUPS + ["endophytic"] * 29)
    small = found.levels[0]
    assert (small.level, small.n) == ("endophytic", 29)
    assert (
        small.too_small == "20 malignant and 9 benign: fewer than 10 of a class are too few to say"
    )
    assert small.auc is not None
    assert found.tested == ("large", "small")
    assert (found.q, found.p) == (
        interaction(LABELS, SCORES, GROUPS).q,
        interaction(LABELS, SCORES, GROUPS).p,
    )
    assert subgroup_aucs(labels, scores, GROUPS + ["endophytic"] * 29) == found.levels


def test_nothing_to_compare_says_so():
    found = interaction(LABELS, SCORES, ["one"] * 90)
    assert (found.q, found.p, found.slope_p) == (None, None, None)
    assert found.problem.startswith("1 of 1 levels")
    single = interaction([1, 1, 0], [0.3, 0.4, 0.5], ["a", "a", "b"])
    assert [level.auc for level in single.levels] == [None, None]


def test_unknown_is_no_level():
    found = interaction(np.append(LABELS, 1), np.append(SCORES, 0.5), [*GROUPS, None])
    assert found.unknown == 1
    assert (found.q, found.levels) == (
        interaction(LABELS, SCORES, GROUPS).q,
        interaction(LABELS, SCORES, GROUPS).levels,
    )


def test_faultless_level_is_tested_with_a_finite_error():
    labels, scores, groups = cohort(np.random.default_rng(45), {"a": 0.5, "b": 1.0})
    there = np.array(groups) == "b"
    scores[there] = np.where(labels[there] == 1, 0.9, 0.1) + np.linspace(0, 0.05, 45)
    found = interaction(labels, scores, groups)
    assert (found.levels[1].auc, found.p) == (1.0, pytest.approx(0, abs=0.02))
    assert "separate" in found.problem
    assert found.slope_p is None
    scores[~there] = scores[there]
    assert interaction(labels, scores, groups).p == pytest.approx(1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0, 1], [0.1, 0.2], ["a"]), "one group a label"),
        (([0, 1], [0.1, 1.2], ["a", "b"]), "not probabilities"),
        (([0, 3], [0.1, 0.2], ["a", "b"]), "labels: expected"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        interaction(*arguments)
