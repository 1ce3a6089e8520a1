"""Whether acting on the scores does more good than acting on everybody, or on nobody."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from renal_ray.protocol.metrics import as_probabilities


@dataclass(frozen=True)
class DecisionCurve:
    """Net benefit at each threshold probability, in true positives per patient.

    Args:
        probabilities: (t,) threshold probabilities.
        model: (t,) of treating who scores at or above the threshold.
        treat_all: (t,) of treating everybody.
        treat_none: (t,) of treating nobody: 0.
    """

    probabilities: NDArray[np.float64]
    model: NDArray[np.float64]
    treat_all: NDArray[np.float64]
    treat_none: NDArray[np.float64]


def net_benefit(labels: ArrayLike, scores: ArrayLike, probabilities: ArrayLike) -> DecisionCurve:
    """Decision curve: TP/n - FP/n * p/(1 - p), where p is the probability at which a patient or
    surgeon would just act.

    A. J. Vickers and E. B. Elkin, Decision curve analysis, Med Decis Making 26 (2006) 565-574. The
    scores are read as probabilities: calibrate them first.

    Args:
        labels: (n,) 0 or 1.
        scores: (n,) P(malignant), in 0..1.
        probabilities: (t,) threshold probabilities, at least 0 and below 1.

    Raises:
        ValueError: the lengths differ, there is no sample, a label is neither 0 nor 1, a score is
            not in 0..1, or a threshold probability not in [0, 1).
    """
    truth, values = as_probabilities(labels, scores)
    at = np.asarray(probabilities, dtype=np.float64)
    if at.ndim != 1 or not ((at >= 0) & (at < 1)).all():
        raise ValueError(
            "probabilities: expected one dimension of threshold "
            "probabilities, at least 0 and below 1"
        )
    n, malignant = len(truth), int(truth.sum())
    tp = malignant - np.searchsorted(np.sort(values[truth]), at, side="left")
    fp = n - malignant - np.searchsorted(np.sort(values[~truth]), at, side="left")
    odds = at / (1 - at)
    return DecisionCurve(
        at, (tp - fp * odds) / n, (malignant - (n - malignant) * odds) / n, np.zeros(len(at))
    )
