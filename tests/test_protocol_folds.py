"""Folds of about equal numbers of images."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from renal_ray.protocol.folds import approximate_equal_folds

COUNTS = st.lists(st.integers(1, 40), min_size=1, max_size=60)


def dealt_by_the_words(counts: list[int], n_folds: int) -> list[int]:
    """The definition read aloud, fold by fold, over a queue of patients."""
    average = Fraction(sum(counts), n_folds)
    queue = list(counts)
    folds: list[int] = []
    for fold in range(n_folds):
        content: list[int] = []
        while queue:
            last_fold, empty = fold == n_folds - 1, not content
            space = average - sum(content)
            if last_fold or empty or queue[0] <= space:
                content.append(queue.pop(0))
            elif queue[0] > 2 * space:
                break
            else:
                content.append(queue.pop(0))
                break
            if not last_fold and sum(content) >= average:
                break
        folds += [fold] * len(content)
    return folds


def test_worked_example():
    assert approximate_equal_folds([6, 6, 3, 5, 9, 1, 7, 3], 4) == [0, 0, 1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize(
    ("counts", "n_folds", "expected"),
    [
        ([5, 5, 5, 5], 2, [0, 0, 1, 1]),  # exactly full is closed
        (
            [50, 1, 1, 1],
            3,
            [0, 1, 1, 1],
        ),  # an empty fold takes even a patient of more than twice its size
        ([1, 50, 1], 2, [0, 0, 1]),  # 50 is not more than twice the space of 25: he joins
        ([2, 50, 1], 2, [0, 1, 1]),  # average 26.5, space 24.5, 50 > 49: he opens the next fold
        ([4, 2, 4], 2, [0, 0, 1]),  # average 5, space 1, 2 is not more than 2: he joins
    ],
)
def test_edges(counts, n_folds, expected):
    assert approximate_equal_folds(counts, n_folds) == expected


def test_average_that_is_no_binary_fraction():
    """Average 10/3: after 3 images a third of one is left, so a patient of one image (more than
    2/3) opens the next fold."""
    assert approximate_equal_folds([3, 1, 3, 1, 2], 3) == [0, 1, 1, 2, 2]


def test_last_fold_takes_the_rest():
    assert approximate_equal_folds([4, 4, 1, 1, 1, 1, 1, 1], 2) == [0, 0, 1, 1, 1, 1, 1, 1]


@given(COUNTS, st.integers(1, 8))
def test_equals_the_definition(counts, n_folds):
    assert approximate_equal_folds(counts, n_folds) == dealt_by_the_words(counts, n_folds)


@given(COUNTS, st.integers(1, 8))
def test_every_patient_whole_in_one_fold_in_order(counts, n_folds):
    folds = approximate_equal_folds(counts, n_folds)
    assert len(folds) == len(counts)
    assert folds == sorted(folds)
    assert set(folds) <= set(range(n_folds))
    assert sum(count for count, _ in zip(counts, folds, strict=True)) == sum(counts)


@pytest.mark.parametrize(("counts", "n_folds"), [([3, 0], 2), ([3, -1], 2), ([3, 4], 0)])
def test_refuses(counts, n_folds):
    with pytest.raises(ValueError, match=r"image_counts|n_folds"):
        approximate_equal_folds(counts, n_folds)
