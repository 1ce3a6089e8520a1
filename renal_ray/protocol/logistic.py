"""Logistic regression without a penalty, for few coefficients."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

FIT_LIMIT = 1e-7  # float32's own resolution below 1: nearer to 0 or 1 a score says nothing that a fit should follow
MOST_STEPS = 100


@dataclass(frozen=True)
class LogisticFit:
    """Coefficients of maximal likelihood.

    Args:
        coefficients: (c,).
        covariance: (c, c), the inverse of Fisher's information.
        log_likelihood: at the maximum.
    """

    coefficients: NDArray[np.float64]
    covariance: NDArray[np.float64]
    log_likelihood: float


def logit(scores: NDArray[np.float64], limit: float = FIT_LIMIT) -> NDArray[np.float64]:
    """log(score / (1 - score)), scores nearer to 0 or 1 than the limit taken as that near."""
    held = np.clip(scores, limit, 1 - limit)
    return np.log(held) - np.log1p(-held)


def separated(truth: NDArray[np.bool_], values: NDArray[np.float64]) -> bool:
    """Whether no malignant value is below a benign one or none is above, so that no finite slope is the likeliest.

    A. Albert and J. A. Anderson, On the existence of maximum likelihood estimates in logistic regression models, Biometrika 71 (1984) 1-10.
    """
    if truth.all() or not truth.any():
        return True
    malignant, benign = values[truth], values[~truth]
    return bool(benign.max() <= malignant.min() or malignant.max() <= benign.min())


def fit_logistic(design: NDArray[np.float64], targets: NDArray[np.float64], offset: NDArray[np.float64] | float = 0.0) -> LogisticFit:
    """Newton's method with step halving, on P = expit(design @ coefficients + offset).

    Args:
        design: (n, c) with its column of ones, if any.
        targets: (n,) in 0..1.
        offset: (n,) a part whose coefficient is fixed at 1.

    Raises:
        ValueError: no finite maximum is found; the caller looks for separated classes first.
    """
    coefficients = np.zeros(design.shape[1])
    best = _log_likelihood(design @ coefficients + offset, targets)
    for _ in range(MOST_STEPS):
        fitted = expit(design @ coefficients + offset)
        information = design.T @ (design * (fitted * (1 - fitted))[:, None])
        gradient = design.T @ (targets - fitted)
        try:
            step = np.linalg.solve(information, gradient)
            covariance = np.linalg.inv(information)
        except np.linalg.LinAlgError as error:
            raise ValueError("logistic regression: the coefficients cannot be told apart") from error
        if gradient @ step < 1e-16 * max(1, len(targets)):  # twice the log-likelihood still to be gained
            return LogisticFit(coefficients, covariance, best)
        size = 1.0
        while (found := _log_likelihood(design @ (coefficients + size * step) + offset, targets)) < best and size > 1e-10:
            size /= 2
        coefficients, best = coefficients + size * step, max(found, best)
    raise ValueError(f"logistic regression: no finite maximum within {MOST_STEPS} steps")


def _log_likelihood(linear: NDArray[np.float64], targets: NDArray[np.float64]) -> float:
    return float(-(targets * np.logaddexp(0, -linear) + (1 - targets) * np.logaddexp(0, linear)).sum())
