"""Whether the fold models that vote say the same."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Spread:
    """How far the voters are apart on each patient.

    Args:
        mean: (n,) mean score.
        sd: (n,) standard deviation (ddof = 1); 0 with a single voter.
        lowest, highest: (n,) of the scores.
    """

    mean: NDArray[np.float64]
    sd: NDArray[np.float64]
    lowest: NDArray[np.float64]
    highest: NDArray[np.float64]


def fleiss_kappa(decisions: ArrayLike) -> float | None:
    """Agreement of several voters beyond chance: 1 is perfect, 0 is chance.

    J. L. Fleiss, Measuring nominal scale agreement among many raters, Psychol Bull 76 (1971)
    378-382.

    Args:
        decisions: (k, n) categories (0 or 1 for votes) that k voters give to n patients.

    Returns:
        Kappa; None where all decisions are the same, so that chance alone would agree always.

    Raises:
        ValueError: the shape is not (k, n) with at least two voters and one patient, or a category
            is not a whole number.
    """
    called = _as_decisions(decisions)
    voters, n = called.shape
    counts = np.stack([(called == category).sum(axis=0) for category in np.unique(called)])
    chance = float(((counts.sum(axis=1) / (voters * n)) ** 2).sum())
    agreed = float(((counts**2).sum(axis=0) - voters).mean()) / (voters * (voters - 1))
    return (agreed - chance) / (1 - chance) if len(counts) > 1 else None


def cohen_kappa(a: ArrayLike, b: ArrayLike) -> float | None:
    """Agreement of two voters beyond chance, each with its own shares of the categories.

    J. Cohen, A coefficient of agreement for nominal scales, Educ Psychol Meas 20 (1960) 37-46.

    Args:
        a, b: (n,) categories (0 or 1 for votes) that either gives to the same patients.

    Returns:
        Kappa; None where both give one and the same category to everybody.

    Raises:
        ValueError: the lengths differ, there is no patient, or a category is not a whole number.
    """
    if np.shape(a) != np.shape(b):
        raise ValueError(
            f"decisions of shapes {np.shape(a)} and {np.shape(b)}: the same patients are needed"
        )
    first, second = _as_decisions(np.stack([np.asarray(a), np.asarray(b)]))
    chance = sum(
        float((first == category).mean() * (second == category).mean())
        for category in np.unique(first)
    )
    return (
        float(((first == second).mean() - chance) / (1 - chance))
        if len(np.unique([first, second])) > 1
        else None
    )


def pairwise_agreement(decisions: ArrayLike) -> NDArray[np.float64]:
    """Share of patients on which each two voters agree.

    Args:
        decisions: (k, n) categories that k voters give to n patients.

    Returns:
        (k, k), symmetric, 1 on the diagonal.

    Raises:
        ValueError: as fleiss_kappa.
    """
    called = _as_decisions(decisions)
    return np.asarray((called[:, None, :] == called[None, :, :]).mean(axis=2))


def spread(scores: ArrayLike) -> Spread:
    """How far the voters' scores are apart on each patient.

    Args:
        scores: (k, n) P(malignant) of k voters, in 0..1.

    Raises:
        ValueError: the shape is not (k, n) with at least one voter, or a score is not in 0..1.
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 2 or len(values) == 0 or not ((values >= 0) & (values <= 1)).all():
        raise ValueError(
            f"scores {values.shape}: expected (voters, patients) of probabilities in 0..1"
        )
    sd = values.std(axis=0, ddof=1) if len(values) > 1 else np.zeros(values.shape[1])
    return Spread(values.mean(axis=0), sd, values.min(axis=0), values.max(axis=0))


def _as_decisions(decisions: ArrayLike) -> NDArray[np.int64]:
    called = np.asarray(decisions)
    if called.ndim != 2 or len(called) < 2 or called.shape[1] == 0:
        raise ValueError(
            f"decisions {called.shape}: expected (voters, patients) of "
            "at least two voters and one patient"
        )
    if called.dtype.kind not in "biu":
        raise ValueError(f"decisions of {called.dtype}: expected whole numbers")
    return called.astype(np.int64)
