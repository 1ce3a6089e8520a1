"""Net benefit, worked by hand and by brute force."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from renal_ray.protocol.decision_curve import net_benefit
from renal_ray.protocol.metrics import confusion

LABELS = [1, 1, 1, 0, 0, 0, 0, 0, 1, 0]
SCORES = [0.9, 0.8, 0.3, 0.7, 0.2, 0.2, 0.1, 0.1, 0.2, 0.4]


def test_worked_by_hand():
    """At 0.2: TP 4, FP 4 of 10, odds 1/4: (4 - 1) / 10. At 0.5: TP 2, FP 1, odds 1. All: 4/10 -
    6/10 x odds."""
    found = net_benefit(LABELS, SCORES, [0.0, 0.2, 0.5, 0.75])
    assert found.model == pytest.approx([0.4, 0.3, 0.1, 0.2])
    assert found.treat_all == pytest.approx([0.4, 0.25, -0.2, 0.4 - 0.6 * 3])
    assert found.treat_none.tolist() == [0, 0, 0, 0]


@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 10)), min_size=1, max_size=40),
    st.integers(0, 9),
)
def test_equals_brute_force(rows, tenth):
    labels, scores = np.array([row[0] for row in rows]), np.array([row[1] for row in rows]) / 10
    at = tenth / 10
    counts = confusion(labels, scores >= at)
    assert net_benefit(labels, scores, [at]).model[0] == pytest.approx(
        (counts.tp - counts.fp * at / (1 - at)) / len(rows)
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((LABELS, SCORES, [1.0]), "threshold probabilities"),
        ((LABELS, SCORES, [-0.1]), "threshold probabilities"),
        ((LABELS, SCORES, [float("nan")]), "threshold probabilities"),
        ((LABELS, SCORES, 0.5), "one dimension"),
        (([0, 1], [0.5, 1.5], [0.5]), "not probabilities"),
        (([], [], [0.5]), "at least one sample"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        net_benefit(*arguments)
