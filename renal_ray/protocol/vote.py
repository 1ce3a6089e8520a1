"""The fold models' majority."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

EVEN_ODDS = 0.5


@dataclass(frozen=True)
class VoteResult:
    """What k models say together of n samples.

    Args:
        votes: (n,) models that said malignant.
        decision: (n,) 1 malignant, 0 benign.
        score: (n,) mean P(malignant), for the ROC curve of the vote.
    """

    votes: NDArray[np.int64]
    decision: NDArray[np.int64]
    score: NDArray[np.float64]


def majority(decisions: ArrayLike, scores: ArrayLike) -> VoteResult:
    """Lets the fold models vote, each with the decision at its own threshold.

    Zhou et al. 2019: at least 3 of 5 models. In general more than half of k; where exactly half of
    an even k say malignant, the mean score
    decides: malignant when it is at least 0.5, that is when the models together hold malignant to
        be at least as probable as benign.

    Args:
        decisions: (k, n) 0 or 1.
        scores: (k, n) P(malignant), in 0..1.

    Returns:
        Votes, decision and mean score of each sample.

    Raises:
        ValueError: the shapes differ, there is no model, a decision is neither 0 nor 1, or a score
            is not in 0..1.
    """
    called, values = np.asarray(decisions), np.asarray(scores, dtype=np.float64)
    if called.ndim != 2 or called.shape != values.shape or len(called) == 0:
        raise ValueError(
            f"decisions {called.shape} and scores {values.shape}: both are "
            "(models, samples), with at least one model"
        )
    if not np.isin(called, (0, 1)).all():
        raise ValueError("decisions: a value is neither 0 nor 1")
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError("scores: a value is not a probability in 0..1")
    models = len(called)
    votes = called.astype(np.int64).sum(axis=0)
    score = values.mean(axis=0)
    tie_to_malignant = (2 * votes == models) & (score >= EVEN_ODDS)
    return VoteResult(
        votes=votes,
        decision=((2 * votes > models) | tie_to_malignant).astype(np.int64),
        score=score,
    )
