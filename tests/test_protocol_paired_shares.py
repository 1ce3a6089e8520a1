"""The difference of two shares of the same patients: against published examples and its own coverage."""

import numpy as np
import pytest
from scipy.stats import multinomial

from renal_ray.protocol.paired_shares import paired_difference


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ((36, 12, 2, 0), (0.0569, 0.3404)),  # Newcombe 1998, method 10
        ((1, 1, 7, 12), (-0.507, -0.026)),  # Bentur et al. 2009, as analysed by Fagerland, Lydersen and Laake, Stat Med 33 (2014) 2850-2875
    ],
)
def test_published_examples(counts, expected):
    digits = len(str(expected[0]).partition(".")[2])
    assert paired_difference(*counts) == pytest.approx(expected, abs=0.6 * 10**-digits)


def test_swapped_models_have_the_mirrored_interval():
    lower, upper = paired_difference(20, 9, 3, 7)
    assert paired_difference(20, 3, 9, 7) == pytest.approx((-upper, -lower))


def test_it_covers_the_true_difference():
    both, only_a, only_b, neither = shares = (0.6, 0.2, 0.1, 0.1)
    n = 30
    tables = [(a, b, c, n - a - b - c) for a in range(n + 1) for b in range(n + 1 - a) for c in range(n + 1 - a - b)]
    weights = multinomial.pmf(np.array(tables), n, shares)
    intervals = np.array([paired_difference(*table) if weight > 1e-7 else (-1, 1) for table, weight in zip(tables, weights, strict=True)])
    covered = weights[(intervals[:, 0] <= only_a - only_b) & (intervals[:, 1] >= only_a - only_b)].sum()
    assert both + neither == pytest.approx(0.7)
    assert 0.94 < covered < 0.985


def test_the_ends_and_bad_input():
    assert paired_difference(0, 0, 0, 0) is None
    assert paired_difference(0, 9, 0, 0)[1] == 1
    lower, upper = paired_difference(12, 0, 0, 0)
    assert lower == pytest.approx(-upper)
    assert lower < 0
    with pytest.raises(ValueError, match="below 0"):
        paired_difference(1, -1, 0, 0)
