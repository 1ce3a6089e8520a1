"""Metrics, thresholds, votes, selection and balancing against independent arithmetic."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from renal_ray.problems import StudyError
from renal_ray.protocol.balance import balanced_epoch
from renal_ray.protocol.metrics import METRICS, Confusion, auc, confusion, evaluate, mean_sd
from renal_ray.protocol.selection import select_freeze_point
from renal_ray.protocol.thresholds import youden_threshold
from renal_ray.protocol.vote import majority
from renal_ray.types import FreezePoint

SAMPLES = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 10).map(lambda tenth: tenth / 10)),
    min_size=2,
    max_size=40,
)


@pytest.mark.parametrize(
    ("counts", "printed"),
    [
        (Confusion(tp=24, fn=1, fp=1, tn=13), (0.95, 0.96, 0.93, 0.96, 0.93, 0.89)),
        (Confusion(tp=25, fn=0, fp=2, tn=12), (0.95, 1.00, 0.86, 0.93, 1.00, 0.89)),
    ],
)
def test_table_3_of_the_paper(counts, printed):
    values = counts.metrics()
    assert (
        tuple(round(values[name], 2) for name in ("acc", "sen", "spec", "ppv", "npv", "mcc"))
        == printed
    )


@settings(max_examples=150, deadline=None)
@given(SAMPLES, st.integers(0, 10).map(lambda tenth: tenth / 10))
def test_evaluate_equals_scikit_learn(samples, threshold):
    labels, scores = np.array([s[0] for s in samples]), np.array([s[1] for s in samples])
    called = (scores >= threshold).astype(int)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns where ours is None
        expected = {
            "auc": oracle.roc_auc_score(labels, scores) if len(set(labels)) == 2 else None,
            "acc": oracle.accuracy_score(labels, called),
            "sen": oracle.recall_score(labels, called) if labels.any() else None,
            "spec": oracle.recall_score(labels, called, pos_label=0) if not labels.all() else None,
            "ppv": oracle.precision_score(labels, called) if called.any() else None,
            "npv": oracle.precision_score(labels, called, pos_label=0)
            if not called.all()
            else None,
            "mcc": oracle.matthews_corrcoef(labels, called),
        }
    ours = evaluate(labels, scores, threshold)
    assert tuple(ours) == METRICS
    assert ours == pytest.approx(expected, abs=1e-12)


def test_undefined_is_none():
    assert evaluate([1, 1], [0.9, 0.8], 0.5) == {
        "auc": None,
        "acc": 1.0,
        "sen": 1.0,
        "spec": None,
        "ppv": 1.0,
        "npv": None,
        "mcc": 0.0,
    }
    assert evaluate([0, 1], [0.1, 0.2], 0.5)["ppv"] is None
    assert evaluate([0, 1], [0.6, 0.7], 0.5)["npv"] is None
    assert set(Confusion(0, 0, 0, 0).metrics().values()) == {None}


def test_score_at_the_threshold_is_malignant():
    assert evaluate([1, 0], [0.5, 0.4], 0.5)["sen"] == 1.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: confusion([0, 1], [1]), "2 labels and 1 decisions"),
        (lambda: confusion([0, 2], [1, 1]), "labels: expected"),
        (lambda: auc([0, 1], [0.1]), "one score a label"),
        (lambda: auc([0, 1], [0.1, float("nan")]), "not finite"),
        (lambda: youden_threshold([1, 1], [0.1, 0.2]), "both classes"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@settings(max_examples=150, deadline=None)
@given(SAMPLES.filter(lambda samples: len({label for label, _ in samples}) == 2))
def test_youden_equals_the_highest_best_threshold_of_the_roc_curve(samples):
    labels, scores = [s[0] for s in samples], [s[1] for s in samples]
    fpr, tpr, thresholds = oracle.roc_curve(labels, scores, drop_intermediate=False)
    j = (tpr - fpr)[1:]
    best = [t for t, value in zip(thresholds[1:], j, strict=True) if value > j.max() - 1e-9]
    assert youden_threshold(labels, scores) == max(best)


def test_youden_tie_goes_to_the_highest():
    assert youden_threshold([1, 0, 1, 0], [0.9, 0.8, 0.7, 0.6]) == 0.9


def test_mean_sd():
    assert mean_sd([0.9, 0.8, None, 1.0]) == pytest.approx(
        (0.9, float(np.std([0.9, 0.8, 1.0], ddof=1)))
    )
    assert mean_sd([0.5]) == (0.5, None)
    assert mean_sd([None]) == (None, None)


def test_vote_of_five_needs_three():
    decisions = np.array([[1, 1, 0], [1, 1, 0], [1, 0, 0], [0, 0, 1], [0, 0, 1]])
    scores = np.full((5, 3), 0.3)
    scores[0] = 0.8
    result = majority(decisions, scores)
    assert result.votes.tolist() == [3, 2, 2]
    assert result.decision.tolist() == [1, 0, 0]
    assert result.score.tolist() == pytest.approx([0.4, 0.4, 0.4])


def test_even_vote_is_broken_by_the_mean_score():
    result = majority([[1, 1, 1, 0], [0, 0, 1, 0]], [[0.8, 0.6, 0.2, 0.9], [0.2, 0.3, 0.2, 0.9]])
    assert result.decision.tolist() == [
        1,
        0,
        1,
        0,
    ]  # mean .50, mean .45, both say malignant, both say benign


@pytest.mark.parametrize(
    ("decisions", "scores"),
    [
        ([1, 0], [0.5, 0.5]),
        ([[1]], [[0.5, 0.5]]),
        ([[2]], [[0.5]]),
        ([[1]], [[1.5]]),
        ([[1]], [[float("nan")]]),
    ],
)
def test_vote_refuses(decisions, scores):
    with pytest.raises(ValueError, match=r"decisions|scores"):
        majority(decisions, scores)


def test_selection_takes_the_highest_mean_and_the_deepest_of_equals():
    aucs = {
        FreezePoint.MIXED0: [0.8, 0.9],
        FreezePoint.MIXED6: [0.9, 0.8],
        FreezePoint.MIXED3: [0.85, 0.85],
        FreezePoint.MIXED10: [0.7, None],
    }
    assert select_freeze_point(aucs) is FreezePoint.MIXED6
    assert select_freeze_point({**aucs, FreezePoint.MIXED10: [None, 0.99]}) is FreezePoint.MIXED10
    with pytest.raises(StudyError, match="no freeze point"):
        select_freeze_point({FreezePoint.MIXED0: [None]})


@settings(deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 100))
def test_balanced_epoch(benign, malignant, seed):
    labels = np.random.default_rng(seed).permutation([0] * benign + [1] * malignant)
    chosen = balanced_epoch(labels, np.random.default_rng(seed))
    larger = max(benign, malignant)
    assert chosen.dtype == np.int64
    assert np.bincount(labels[chosen]).tolist() == [larger, larger]
    times = np.bincount(chosen, minlength=len(labels))
    assert times.min() >= 1
    if benign != malignant:
        assert set(times[labels == (benign < malignant)]) == {1}


def test_balanced_epoch_is_drawn_anew_and_seeded():
    labels = np.array([0] * 3 + [1] * 20)
    rng = np.random.default_rng(4)
    first, second = balanced_epoch(labels, rng), balanced_epoch(labels, rng)
    assert first.tolist() != second.tolist()
    assert first.tolist() == balanced_epoch(labels, np.random.default_rng(4)).tolist()
    assert 0 < labels[first][:20].sum() < 20  # shuffled: no half of a single class
    with pytest.raises(ValueError, match="single class"):
        balanced_epoch([1, 1], rng)
