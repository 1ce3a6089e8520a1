"""Agreement of voters against published tables and scikit-learn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from renal_ray.protocol.agreement import cohen_kappa, fleiss_kappa, pairwise_agreement, spread

# Diagnoses of 30 patients by 6 psychiatrists each, Fleiss 1971, sorted within a patient.
FLEISS = """
444444 222555 233335 555555 222444 113333 333355 113334 114444 555555 144444 124444 222333 144444
224445 333335 111455 111112 224444 133555 555555 244444 224555 114444 144445 222224 111155 224444
133333 555555
"""
BITS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=30)


def test_diagnoses_of_fleiss_1971():
    decisions = np.array([list(row) for row in FLEISS.split()], dtype=int).T
    assert decisions.shape == (6, 30)
    assert fleiss_kappa(decisions) == pytest.approx(0.430, abs=5e-4)
    assert fleiss_kappa(decisions) == pytest.approx((500 / 900 - 7126 / 32400) / (1 - 7126 / 32400))


def test_five_voters_worked_by_hand():
    """Votes 5, 3, 0 of 5: patients agree 1, (6 + 2) / 20, 1; mean 0.8; malignant 8 of 15: chance
    (64 + 49) / 225."""
    decisions = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [0, 0, 0, 0, 0]]).T
    assert fleiss_kappa(decisions) == pytest.approx((0.8 - 113 / 225) / (1 - 113 / 225))
    agreed = pairwise_agreement(decisions)
    assert agreed.shape == (5, 5)
    assert (agreed[0].tolist(), agreed[3].tolist()) == (
        [1, 1, 1, 2 / 3, 2 / 3],
        [2 / 3, 2 / 3, 2 / 3, 1, 1],
    )


def test_kappa_of_the_sure_and_of_chance():
    assert fleiss_kappa([[0, 1, 1], [0, 1, 1]]) == 1.0
    assert fleiss_kappa([[1, 1], [1, 1]]) is None
    assert fleiss_kappa([[0], [1]]) == -1.0
    assert fleiss_kappa(np.random.default_rng(1).integers(0, 2, (5, 20_000))) == pytest.approx(
        0, abs=0.01
    )


@given(BITS)
def test_cohen_kappa_equals_scikit_learn(pairs):
    a, b = np.array(pairs).T
    if len({*a.tolist(), *b.tolist()}) == 1:
        assert cohen_kappa(a, b) is None
    else:
        assert cohen_kappa(a, b) == pytest.approx(cohen_kappa_score(a, b))


def test_spread_of_the_voters_scores():
    found = spread([[0.2, 0.9], [0.4, 0.9], [0.9, 0.9]])
    assert found.mean == pytest.approx([0.5, 0.9])
    assert found.sd == pytest.approx([np.std([0.2, 0.4, 0.9], ddof=1), 0])
    assert (found.lowest.tolist(), found.highest.tolist()) == ([0.2, 0.9], [0.9, 0.9])
    assert spread([[0.3]]).sd.tolist() == [0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fleiss_kappa([[0, 1]]), "at least two voters"),
        (lambda: fleiss_kappa([0, 1]), "at least two voters"),
        (lambda: fleiss_kappa([[], []]), "one patient"),
        (lambda: pairwise_agreement([[0.5], [0.5]]), "whole numbers"),
        (lambda: cohen_kappa([0, 1], [1]), "same patients"),
        (lambda: spread([[1.2]]), "probabilities"),
        (lambda: spread([]), "voters, patients"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()
