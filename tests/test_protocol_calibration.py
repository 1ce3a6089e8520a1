"""Calibration against scikit-learn, closed forms and known truths."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.special import expit
from scipy.special import logit as scipy_logit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV, calibration_curve
from sklearn.frozen import FrozenEstimator
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, roc_auc_score

from renal_ray.problems import StudyError
from renal_ray.protocol.calibration import (
    KINDS,
    Calibrator,
    brier,
    brier_skill,
    expected_calibration_error,
    fit_calibrator,
    reliability,
    slope_and_intercept,
)
from renal_ray.protocol.calibrators import SLOPES
from renal_ray.protocol.intervals import wilson

RNG = np.random.default_rng(31)
LABELS = (RNG.random(200) < 0.6).astype(int)
SCORES = expit(2.5 * (LABELS - 0.4) + RNG.normal(0, 2, 200))
SAMPLES = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 20).map(lambda part: part / 20)),
    min_size=4,
    max_size=40,
)
TWO_CLASSES = SAMPLES.filter(lambda rows: len({row[0] for row in rows}) == 2)


@pytest.mark.parametrize(("strategy", "theirs"), [("count", "quantile"), ("width", "uniform")])
@pytest.mark.parametrize("bins", [1, 5, 10])
def test_reliability_equals_scikit_learn(strategy, theirs, bins):
    for labels, scores in ((LABELS, SCORES), (LABELS, np.round(SCORES, 1))):
        found = reliability(labels, scores, bins, strategy=strategy).bins
        observed, predicted = calibration_curve(labels, scores, n_bins=bins, strategy=theirs)
        assert [point.observed for point in found] == pytest.approx(list(observed))
        assert [point.mean_score for point in found] == pytest.approx(list(predicted))
        assert sum(point.n for point in found) == 200
        assert [(point.lower, point.upper) for point in found] == [
            wilson(point.malignant, point.n) for point in found
        ]


@given(SAMPLES)
def test_equal_scores_stay_in_one_bin(rows):
    labels, scores = (np.array(column) for column in zip(*rows, strict=True))
    for strategy in ("count", "width"):
        points = reliability(labels, scores, 4, strategy=strategy).bins
        assert sum(point.n for point in points) == len(rows)
        borders = np.cumsum([0] + [point.n for point in points])
        ordered = np.sort(scores)
        assert all(ordered[border - 1] < ordered[border] for border in borders[1:-1])


def test_brier_equals_scikit_learn_and_ece_worked_by_hand():
    assert brier(LABELS, SCORES) == pytest.approx(brier_score_loss(LABELS, SCORES))
    assert brier_skill(LABELS, np.full(200, LABELS.mean())) == pytest.approx(0)
    assert brier_skill([1, 0], [1, 0]) == 1
    assert brier_skill([1, 1], [0.5, 0.6]) is None
    labels, scores = [0, 1, 0, 1, 1], [0.10, 0.20, 0.70, 0.80, 0.90]
    assert expected_calibration_error(labels, scores, 2) == pytest.approx(
        2 / 5 * abs(0.5 - 0.15) + 3 / 5 * abs(2 / 3 - 0.8)
    )


def test_slope_and_intercept_equal_scikit_learn():
    found = slope_and_intercept(LABELS, SCORES)
    x = scipy_logit(SCORES)[:, None]
    oracle = LogisticRegression(C=np.inf, tol=1e-12, max_iter=1000).fit(x, LABELS)
    assert (found.slope.value, found.intercept.value) == pytest.approx(
        (oracle.coef_[0, 0], oracle.intercept_[0]), abs=1e-5
    )
    assert found.in_the_large.value == pytest.approx(
        brentq(lambda a: expit(x[:, 0] + a).mean() - LABELS.mean(), -9, 9)
    )
    assert found.slope.upper - found.slope.value == pytest.approx(1.959964 * found.slope.se)
    assert found.problem is None


def test_slope_of_two_scores_in_closed_form():
    """Scores 0.2 and 0.8, malignant 10 of 40 and 45 of 50: slope = log odds ratio over the distance
    of the logits, its variance the sum of 1/count."""
    labels = np.repeat([1, 0, 1, 0], [10, 30, 45, 5])
    scores = np.repeat([0.2, 0.2, 0.8, 0.8], [10, 30, 45, 5])
    found, distance = slope_and_intercept(labels, scores), 2 * math.log(4)
    assert found.slope.value == pytest.approx(math.log((45 / 5) / (10 / 30)) / distance)
    assert found.slope.se == pytest.approx(math.sqrt(1 / 10 + 1 / 30 + 1 / 45 + 1 / 5) / distance)
    assert found.intercept.value == pytest.approx(
        math.log(10 / 30) + found.slope.value * math.log(4)
    )


def test_overconfident_scores_have_a_slope_below_one():
    rng = np.random.default_rng(4)
    truth = rng.normal(0.3, 1.5, 20_000)
    labels = rng.random(20_000) < expit(truth)
    found = slope_and_intercept(labels, expit(2 * truth + 1))
    assert found.slope.value == pytest.approx(0.5, abs=0.02)
    assert found.intercept.value == pytest.approx(-0.5, abs=0.05)
    perfect = slope_and_intercept(labels, expit(truth))
    assert perfect.slope.lower < 1 < perfect.slope.upper
    assert perfect.in_the_large.lower < 0 < perfect.in_the_large.upper


@pytest.mark.parametrize(
    ("labels", "scores", "problem", "in_the_large"),
    [
        ([0, 0, 1, 1], [0.1, 0.2, 0.3, 0.4], "separate", True),
        ([0, 0, 1, 1], [0.4, 0.3, 0.2, 0.1], "separate", True),
        ([0, 0, 1, 1], [0.1, 0.3, 0.3, 0.4], "separate", True),  # touching in a tie is as bad
        (
            [0, 0, 1, 1],
            [0.1, 0.3, 0.3 - 1e-16, 0.4],
            "separate",
            True,
        ),  # and so is a difference of rounding
        ([0, 0, 1, 1], [0.5] * 4, "equal", True),
        ([1, 1, 1], [0.1, 0.5, 0.9], "both classes", False),
    ],
)
def test_what_has_no_finite_slope_says_so(labels, scores, problem, in_the_large):
    found = slope_and_intercept(labels, scores)
    assert (found.slope, found.intercept) == (None, None)
    assert problem in found.problem
    assert (found.in_the_large is not None) == in_the_large


@settings(max_examples=80, deadline=None)
@given(TWO_CLASSES)
def test_overlapping_classes_always_have_a_finite_slope(rows):
    labels, scores = (np.array(column) for column in zip(*rows, strict=True))
    found = slope_and_intercept(labels, scores)
    if found.problem is None:
        x, targets = scipy_logit(np.clip(scores, 1e-7, 1 - 1e-7)), labels
        residual = targets - expit(found.intercept.value + found.slope.value * x)
        assert residual.sum() == pytest.approx(0, abs=1e-5)  # the likelihood's equations
        assert (residual * x).sum() == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("wrong", [1e-30, 1e-9, 0.0])
def test_a_sure_network_that_is_wrong_has_a_finite_line(wrong):
    """Plain Newton from 0 goes astray on such scores."""
    labels = np.array([1] * 30 + [0] * 10)
    scores = np.concatenate(
        [np.linspace(0.9, 1, 28), [wrong, wrong], np.geomspace(1e-12, 1e-2, 9), [1 - 1e-9]]
    )
    found = slope_and_intercept(labels, scores)
    x = scipy_logit(np.clip(scores, 1e-7, 1 - 1e-7))
    oracle = LogisticRegression(C=np.inf, tol=1e-12, max_iter=5000, solver="newton-cholesky").fit(
        x[:, None], labels
    )
    assert (found.slope.value, found.intercept.value) == pytest.approx(
        (oracle.coef_[0, 0], oracle.intercept_[0]), abs=1e-4
    )
    assert fit_calibrator("platt", labels, scores).slope == pytest.approx(
        found.slope.value, abs=0.1
    )


class Logits(ClassifierMixin, BaseEstimator):
    """A fitted classifier whose decision function is its only column."""

    classes_ = np.array([0, 1])

    def fit(self, x, y):
        self.fitted_ = True
        return self

    def decision_function(self, x):
        return x[:, 0]

    def predict(self, x):
        return (x[:, 0] > 0).astype(int)


def test_platt_equals_scikit_learn():
    x = scipy_logit(SCORES)[:, None]
    oracle = CalibratedClassifierCV(
        FrozenEstimator(Logits().fit(x, LABELS)), method="sigmoid", cv=3, ensemble=False
    ).fit(x, LABELS)
    fitted = fit_calibrator("platt", LABELS, SCORES)
    assert fitted(SCORES) == pytest.approx(oracle.predict_proba(x)[:, 1], abs=1e-4)


def test_isotonic_equals_scikit_learn():
    fitted = fit_calibrator("isotonic", LABELS, SCORES)
    oracle = IsotonicRegression(out_of_bounds="clip").fit(SCORES, LABELS)
    new = np.linspace(0, 1, 301)
    assert fitted(new) == pytest.approx(oracle.predict(new), abs=1e-12)


def test_temperature_finds_the_least_loss_and_a_known_temperature():
    fitted = fit_calibrator("temperature", LABELS, SCORES)
    malignant, benign = LABELS.sum(), (1 - LABELS).sum()
    targets = np.where(LABELS == 1, (malignant + 1) / (malignant + 2), 1 / (benign + 2))

    def loss(slope):
        p = expit(slope * scipy_logit(SCORES))
        return -(targets * np.log(p) + (1 - targets) * np.log(1 - p)).sum()

    grid = np.linspace(0.05, 3, 3000)
    assert fitted.slope == pytest.approx(grid[np.argmin([loss(slope) for slope in grid])], abs=1e-3)
    rng = np.random.default_rng(9)
    truth = rng.normal(0, 1.5, 20_000)
    assert fit_calibrator(
        "temperature", rng.random(20_000) < expit(truth), expit(3 * truth)
    ).slope == pytest.approx(1 / 3, abs=0.01)


@pytest.mark.parametrize("kind", ["platt", "isotonic", "temperature"])
def test_calibration_helps_new_patients(kind):
    rng = np.random.default_rng(10)
    truth = rng.normal(0.5, 1.5, 3000)
    labels, scores = rng.random(3000) < expit(truth), expit(4 * truth)
    fitted = fit_calibrator(kind, labels[:1000], scores[:1000])
    assert brier(labels[1000:], fitted(scores[1000:])) < brier(labels[1000:], scores[1000:]) - 0.01
    assert expected_calibration_error(labels[1000:], fitted(scores[1000:])) < 0.04


@settings(max_examples=80, deadline=None)
@given(TWO_CLASSES, st.sampled_from(KINDS))
def test_order_of_patients_is_kept(rows, kind):
    labels, scores = (np.array(column) for column in zip(*rows, strict=True))
    calibrated = fit_calibrator(kind, labels, scores)(scores)
    assert ((calibrated >= 0) & (calibrated <= 1)).all()
    assert (np.diff(calibrated[np.argsort(scores, kind="stable")]) >= 0).all()
    if kind != "isotonic" and scores.min() > 0 and scores.max() < 1:
        assert roc_auc_score(labels, calibrated) == roc_auc_score(labels, scores)


@pytest.mark.parametrize("kind", ["platt", "temperature"])
def test_scores_that_say_nothing_or_the_contrary_are_not_turned_round(kind):
    fitted = fit_calibrator(kind, 1 - LABELS, SCORES)
    assert fitted.slope == pytest.approx(SLOPES[0])
    assert fitted.at_limit
    assert not fit_calibrator(kind, LABELS, SCORES).at_limit
    assert np.argsort(fitted(SCORES)).tolist() == np.argsort(SCORES).tolist()
    assert fit_calibrator(
        kind, [0] * 9 + [1] * 9, [0.4999] * 9 + [0.5001] * 9
    ).at_limit  # nor blown up without end
    share = (1 - LABELS).mean()
    assert kind == "temperature" or fitted(SCORES).mean() == pytest.approx(share, abs=0.01)
    constant = fit_calibrator(kind, [0, 1, 1, 1], [0.5] * 4)
    assert kind == "temperature" or constant([0.5]) == pytest.approx(
        [(1 / 3 + 3 * 4 / 5) / 4]
    )  # the mean of Platt's targets


@pytest.mark.parametrize("kind", KINDS)
def test_separated_classes_of_a_small_fold_stay_finite(kind):
    fitted = fit_calibrator(kind, [0] * 6 + [1] * 20, np.linspace(0.01, 0.99, 26))
    assert SLOPES[0] < fitted.slope < 10
    assert kind == "none" or 0.9 < fitted([0.99])[0] <= 1
    assert json.dumps(fitted.to_json(), allow_nan=False)


def test_extreme_scores_of_a_sure_network_stay_apart():
    scores = np.array([1e-30, 1e-20, 1e-12, 1e-7, 0.3, 0.6, 1 - 6e-8, 1 - 1e-12])
    fitted = fit_calibrator("temperature", LABELS, SCORES)
    assert (np.diff(fitted(scores)) > 0).all()
    assert fitted([0.0, 1.0]) == pytest.approx([0, 1], abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_json_round_trip(kind):
    fitted = fit_calibrator(kind, LABELS, SCORES)
    read = Calibrator.from_json(json.loads(json.dumps(fitted.to_json(), allow_nan=False)))
    assert read == fitted
    assert read(SCORES).tolist() == fitted(SCORES).tolist()


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        {"kind": "spline"},
        {"kind": ["platt"]},
        {"kind": "platt", "slope": 1.0},
        {"kind": "platt", "slope": -1.0, "intercept": 0.0},
        {"kind": "temperature", "slope": float("nan"), "intercept": 0.0},
        {"kind": "temperature", "slope": 1.0, "intercept": "x"},
        {"kind": "isotonic", "scores": [0.1, 0.5], "probabilities": [0.5, 0.1]},
        {"kind": "isotonic", "scores": [0.5, 0.1], "probabilities": [0.1, 0.5]},
        {"kind": "isotonic", "scores": [], "probabilities": []},
        {"kind": "isotonic", "scores": [0.1], "probabilities": [1.5]},
        {"kind": "isotonic", "scores": 3, "probabilities": [0.5]},
    ],
)
def test_json_of_no_calibrator_is_refused(value):
    with pytest.raises(StudyError, match="calibrator"):
        Calibrator.from_json(value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: brier([0, 1], [0.1, 1.2]), "not probabilities"),
        (lambda: brier([], []), "at least one sample"),
        (lambda: reliability([0, 1], [0.1, 0.2], 0), "bins"),
        (lambda: reliability([0, 1], [0.1, 0.2], strategy="kmeans"), "bins"),
        (lambda: slope_and_intercept([0, 1], [0.1]), "one score a label"),
        (lambda: slope_and_intercept([0, 1], [0.1, 0.2], level=1), "level"),
        (lambda: fit_calibrator("platt", [1, 1], [0.1, 0.2]), "both classes"),
        (lambda: fit_calibrator("beta", [0, 1], [0.1, 0.2]), "kind"),
        (lambda: Calibrator("none")([1.5]), "probability"),
        (lambda: Calibrator("none")([float("nan")]), "probability"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()
