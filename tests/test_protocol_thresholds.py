"""Every rule against a search of all cuts in exact arithmetic."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import matthews_corrcoef

from renal_ray.protocol.thresholds import (
    RULES,
    choose_threshold,
    cost_threshold,
    sensitivity_threshold,
    youden_threshold,
)

SAMPLES = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 10).map(lambda tenth: tenth / 10)),
    min_size=2,
    max_size=30,
)
TWO_CLASSES = SAMPLES.filter(lambda rows: len({row[0] for row in rows}) == 2)


def merits(labels, scores, at, sensitivity, cost_ratio):
    called = [score >= at for score in scores]
    tp = sum(c and y for c, y in zip(called, labels, strict=True))
    fp = sum(c and not y for c, y in zip(called, labels, strict=True))
    positives, negatives = sum(labels), len(labels) - sum(labels)
    sen, fpr = Fraction(tp, positives), Fraction(fp, negatives)
    return {
        "youden": sen - fpr,
        "closest": -((1 - sen) ** 2) - fpr**2,
        "mcc": round(matthews_corrcoef(labels, called), 12) if len(set(called)) == 2 else 0.0,
        "sensitivity": sen >= sensitivity,
        "cost": -(cost_ratio * (positives - tp) + fp),
    }


@settings(max_examples=150, deadline=None)
@given(
    TWO_CLASSES,
    st.sampled_from(RULES),
    st.integers(1, 20),
    st.sampled_from(["0.1", "0.5", "1", "3", "20"]),
)
def test_equals_the_highest_of_the_best_of_all_cuts(rows, rule, twentieths, ratio):
    labels, scores = [row[0] for row in rows], [row[1] for row in rows]
    cuts = sorted(set(scores), reverse=True)
    found = {
        at: merits(labels, scores, at, Fraction(twentieths, 20), Fraction(ratio))[rule]
        for at in cuts
    }
    best = next(at for at in cuts if found[at] == max(found.values()))
    assert (
        choose_threshold(rule, labels, scores, sensitivity=twentieths / 20, cost_ratio=float(ratio))
        == best
    )


def test_each_rule_has_its_own_choice():
    """Ten malignant and ten benign patients on which the rules part ways."""
    labels = [1] * 5 + [0, 0] + [1, 1] + [0, 0, 0] + [1] + [0] * 3 + [1, 0, 1, 0]
    scores = np.linspace(0.95, 0.0, 20)
    chosen = {
        rule: labels[
            : int(
                (
                    scores
                    >= choose_threshold(rule, labels, scores, sensitivity=0.8, cost_ratio=5.0)
                ).sum()
            )
        ]
        for rule in RULES
    }
    assert {rule: (sum(called), len(called)) for rule, called in chosen.items()} == {
        "youden": (5, 5),
        "closest": (7, 9),
        "mcc": (5, 5),
        "sensitivity": (8, 13),
        "cost": (10, 19),
    }


def test_sensitivity_is_of_the_decimal_as_written():
    labels, scores = [1] * 100 + [0], np.arange(100, -1, -1)
    assert 0.07 * 100 > 7  # the trap
    assert sensitivity_threshold(labels, scores, 0.07) == 94
    assert sensitivity_threshold(labels, scores, 1.0) == 1
    assert sensitivity_threshold(labels, scores, 0.001) == 100


def test_cost_of_equal_errors_in_a_balanced_fold_is_youdens():
    rng = np.random.default_rng(3)
    labels = np.tile([0, 1], 40)
    scores = labels + rng.normal(0, 1, 80)
    assert cost_threshold(labels, scores, 1) == youden_threshold(labels, scores)
    assert (
        cost_threshold(labels, scores, 1000)
        <= cost_threshold(labels, scores, 1)
        <= cost_threshold(labels, scores, 0.001)
    )


@pytest.mark.parametrize("rule", RULES)
def test_refuses_a_single_class(rule):
    with pytest.raises(ValueError, match="both classes"):
        choose_threshold(rule, [1, 1], [0.1, 0.2])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: choose_threshold("best", [0, 1], [0.1, 0.2]), "rule"),
        (lambda: sensitivity_threshold([0, 1], [0.1, 0.2], 0), "sensitivity"),
        (lambda: sensitivity_threshold([0, 1], [0.1, 0.2], 95), "sensitivity"),
        (lambda: cost_threshold([0, 1], [0.1, 0.2], 0), "cost_ratio"),
        (lambda: cost_threshold([0, 1], [0.1, 0.2], float("inf")), "cost_ratio"),
        (lambda: choose_threshold("mcc", [0, 1], [0.1, float("nan")]), "not finite"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()
