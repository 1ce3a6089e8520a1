"""Is one better than the other: paired decisions, several tests at once, and the t tests of
papers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binomtest

from renal_ray.protocol.intervals import wilson
from renal_ray.protocol.t_tests import TTest, blocked_lsd, hedges_factor, paired_t, welch

__all__ = [
    "McNemar",
    "TTest",
    "blocked_lsd",
    "hedges_factor",
    "holm",
    "mcnemar",
    "paired_t",
    "welch",
]


@dataclass(frozen=True)
class McNemar:
    """Decisions of two models on the same patients.

    Args:
        only_a: patients that a alone decides rightly.
        only_b: patients that b alone decides rightly.
        difference: share decided rightly by a - by b, that is the difference in accuracy; None
            without patients.
        lower, upper: bounds of its 95 % interval; None without patients.
        p: exact two-sided P value of no difference.
    """

    only_a: int
    only_b: int
    difference: float | None
    lower: float | None
    upper: float | None
    p: float


def mcnemar(correct_a: ArrayLike, correct_b: ArrayLike) -> McNemar:
    """McNemar's test, exact: given the patients on which two models differ, either is right equally
    often.

    Q. McNemar, Psychometrika 12 (1947) 153-157; the exact form is the binomial test of the patients
    on which they differ. The interval of the difference is R. G. Newcombe's, Improved confidence
    intervals for the difference between binomial proportions based on paired data, Stat Med 17
    (1998) 2635-2650, method 10; being of another construction, it may leave 0 out where p is a
    little above 0.05.

    Args:
        correct_a, correct_b: (n,) 0 or 1, whether the decision on each patient is right.

    Raises:
        ValueError: the lengths differ, or a value is neither 0 nor 1.
    """
    a, b = np.asarray(correct_a), np.asarray(correct_b)
    if (
        a.ndim != 1
        or a.shape != b.shape
        or not np.isin(a, (0, 1)).all()
        or not np.isin(b, (0, 1)).all()
    ):
        raise ValueError(
            f"correct: shapes {a.shape} and {b.shape}; expected 0 or 1 for the same patients"
        )
    right_a, right_b = a.astype(bool), b.astype(bool)
    both, neither = int((right_a & right_b).sum()), int((~right_a & ~right_b).sum())
    only_a, only_b = int((right_a & ~right_b).sum()), int((~right_a & right_b).sum())
    if len(a) == 0:
        return McNemar(0, 0, None, None, None, 1.0)
    p = float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
    return McNemar(
        only_a,
        only_b,
        (only_a - only_b) / len(a),
        *_paired_shares(both, only_a, only_b, neither),
        p,
    )


def _paired_shares(both: int, only_a: int, only_b: int, neither: int) -> tuple[float, float]:
    """Newcombe's 95 % interval of the difference of two shares of the same patients (1998, method
    10): Wilson's bounds, squared and added."""
    n = both + only_a + only_b + neither
    margins = (both + only_a) * (only_b + neither) * (both + only_b) * (only_a + neither)
    excess = both * neither - only_a * only_b
    held = (
        max(excess - n / 2, 0.0) if excess > 0 else excess
    )  # method 10's correction for continuity
    phi = held / math.sqrt(margins) if margins else 0.0
    shares, bounds = [], []
    for right in (both + only_a, both + only_b):
        shares.append(right / n)
        bounds.append(wilson(right, n) or (0.0, 1.0))

    def side(mine: float, other: float) -> float:
        return math.sqrt(max(0.0, mine**2 - 2 * phi * mine * other + other**2))

    difference = shares[0] - shares[1]
    lower = difference - side(shares[0] - bounds[0][0], bounds[1][1] - shares[1])
    upper = difference + side(bounds[0][1] - shares[0], shares[1] - bounds[1][0])
    return max(-1.0, lower), min(1.0, upper)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """P values adjusted for their number by Holm's step-down procedure.

    S. Holm, A simple sequentially rejective multiple test procedure, Scand J Stat 6 (1979) 65-70.

    Args:
        p_values: in 0..1; None for a test that could not be made, which does not count.

    Returns:
        Adjusted P values in the given order; None stays None.

    Raises:
        ValueError: a value is not in 0..1.
    """
    made = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    if any(not 0 <= p <= 1 for p, _ in made):
        raise ValueError(f"p_values: {p_values}; expected values in 0..1")
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for place, (p, i) in enumerate(made):
        largest = max(largest, min(1.0, (len(made) - place) * p))
        adjusted[i] = largest
    return adjusted
