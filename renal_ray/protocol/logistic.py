"""Logistic regression without a penalty, for few coefficients."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

# Float32's own resolution below 1: nearer to 0 or 1 a score says nothing that a fit should follow.
FIT_LIMIT = 1e-7
MOST_STEPS = 200
LEAST_DAMPING = 1e-6
WORST_CONDITION = 1e14


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
    """Whether no malignant value is below a benign one or none is above, but for rounding, so that
    no finite slope is the likeliest.

    A. Albert and J. A. Anderson, On the existence of maximum likelihood estimates in logistic
    regression models, Biometrika 71 (1984) 1-10.
    """
    if truth.all() or not truth.any():
        return True
    malignant, benign = values[truth], values[~truth]
    rounding = 1e-9 * float(np.ptp(values))
    return bool(
        benign.max() <= malignant.min() + rounding or malignant.max() <= benign.min() + rounding
    )


def fit_logistic(
    design: NDArray[np.float64],
    targets: NDArray[np.float64],
    offset: NDArray[np.float64] | float = 0.0,
) -> LogisticFit | None:
    """Newton's method on P = expit(design @ coefficients + offset), damped (Levenberg, Marquardt)
    where a full step does not help.

    Where a sure network is wrong, the information is all but singular far from the maximum, and
    plain Newton goes astray.

    Args:
        design: (n, c) with its column of ones, if any.
        targets: (n,) in 0..1.
        offset: (n,) a part whose coefficient is fixed at 1.

    Returns:
        The fit; None where no finite maximum is found: the classes are separated, or all but for
        rounding, or the columns depend on each other.
    """
    orthogonal, triangle = np.linalg.qr(
        design
    )  # scores that are all but equal, or far from 0, are then no harder than others
    place, damping = np.zeros(design.shape[1]), 0.0
    best = _log_likelihood(orthogonal @ place + offset, targets)
    for _ in range(MOST_STEPS):
        fitted = expit(orthogonal @ place + offset)
        information = orthogonal.T @ (orthogonal * (fitted * (1 - fitted))[:, None])
        gradient = orthogonal.T @ (targets - fitted)
        damped = information + damping * np.eye(len(place))
        if np.linalg.cond(damped) > WORST_CONDITION:
            damping = max(10 * damping, LEAST_DAMPING)
            continue
        step = np.linalg.solve(damped, gradient)
        if damping == 0 and gradient @ step < 1e-14 * len(
            targets
        ):  # twice the log-likelihood still to be gained
            back = np.linalg.inv(triangle)
            return LogisticFit(back @ place, back @ np.linalg.inv(information) @ back.T, best)
        found = _log_likelihood(orthogonal @ (place + step) + offset, targets)
        if found >= best - 1e-12 * abs(best):  # less is rounding
            place, best = place + step, found
            damping = damping / 10 if damping > LEAST_DAMPING else 0.0
        else:
            damping = max(10 * damping, LEAST_DAMPING)
    return None


def fit_intercept(
    targets: NDArray[np.float64], offset: NDArray[np.float64] | float = 0.0
) -> LogisticFit:
    """The intercept alone, everything else being in the offset.

    Args:
        targets: (n,) in 0..1, neither all 0 nor all 1.
        offset: (n,) a part whose coefficient is fixed at 1.

    Raises:
        ValueError: the targets are all 0 or all 1.
    """
    found = fit_logistic(np.ones((len(targets), 1)), targets, offset)
    if found is None:
        raise ValueError("targets: all 0 or all 1; no finite intercept is the likeliest")
    return found


def _log_likelihood(linear: NDArray[np.float64], targets: NDArray[np.float64]) -> float:
    return float(
        -(targets * np.logaddexp(0, -linear) + (1 - targets) * np.logaddexp(0, linear)).sum()
    )
