"""When a configuration is given up before all its folds are trained, and which goes on from one
fold to all."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats

BEST_AUC = 1.0


@dataclass(frozen=True)
class Verdict:
    """Why a configuration was given up.

    Args:
        reason: hopeless (even an AUC of 1 in all other folds would not make it the best) or beaten
            (paired comparison).
        folds: number of folds that were compared.
        difference: mean of its AUC minus the best configuration's, over these folds.
        p: one-sided p value of the paired t test; None for hopeless.
    """

    reason: str
    folds: int
    difference: float
    p: float | None


def verdict(
    challenger: Mapping[int, float], best: Mapping[int, float], *, min_folds: int, alpha: float
) -> Verdict | None:
    """Compares a configuration with the best complete one on the folds that both have: no fold is
    compared with another, no fold before its end.

    Given up is what can no longer win, whatever its other folds say; and, from `min_folds` folds
    on, what is worse by a one-sided paired t test (Maron and Moore 1997, racing; Birattari et al.
    2002, F-Race; López-Ibáñez et al. 2016, irace, whose t test this is; Krueger et al. 2015, for
    folds of a cross-validation). The level is a rate of giving up and no proof: folds share
    training patients, and the test is repeated after each of them.

    Args:
        challenger: AUC by fold, some folds.
        best: AUC by fold, all folds.
        min_folds: folds before the paired test, at least 2.
        alpha: one-sided level.

    Returns:
        The reason to give it up, None to go on.

    Raises:
        ValueError: the challenger has a fold that the best one lacks.
    """
    if foreign := sorted(set(challenger) - set(best)):
        raise ValueError(
            f"fold {foreign[0]} has no AUC of the best configuration to be compared with"
        )
    if not challenger or len(challenger) == len(best):
        return None
    differences = np.array([challenger[fold] - best[fold] for fold in sorted(challenger)])
    mean = float(differences.mean())
    most = math.fsum(challenger.values()) + BEST_AUC * (len(best) - len(challenger))
    if most <= math.fsum(best.values()):
        return Verdict("hopeless", len(differences), mean, None)
    if len(differences) < min_folds or mean >= 0:
        return None
    p = worse_p(differences)
    return Verdict("beaten", len(differences), mean, p) if p < alpha else None


def worse_p(differences: np.ndarray) -> float:
    """One-sided p value of a paired t test that the mean difference is below 0.

    Args:
        differences: (n,) of paired values, n at least 2.

    Returns:
        The probability of a mean this low or lower where there is no difference; where all
        differences are equal 0 for negative, 1 for positive ones and 0.5 for none.
    """
    n, spread = len(differences), float(differences.std(ddof=1))
    mean = float(differences.mean())
    if spread < 1e-12:
        return 0.5 if abs(mean) < 1e-12 else float(mean > 0)
    return float(stats.t.cdf(mean / (spread / math.sqrt(n)), n - 1))


def promoted(
    rung: Mapping[int, float], already: Collection[int], *, eta: int, closed: bool
) -> list[int]:
    """Which configurations go on from a rung of asynchronous successive halving (Li et al. 2020,
    algorithm 2).

    Args:
        rung: score of each configuration that has finished the rung.
        already: those that have gone on.
        eta: one of so many goes on.
        closed: whether no more will finish the rung; one then goes on even where there are fewer
            than `eta`.

    Returns:
        Those that go on now, the best first; of equal ones the one with the lower number.
    """
    places = len(rung) // eta
    if closed and rung:
        places = max(1, places)
    best = sorted(rung, key=lambda number: (-rung[number], number))[:places]
    return [number for number in best if number not in already]


def rungs(epochs: int, *, min_epochs: int, eta: int) -> list[int]:
    """Epochs of the rungs below the last one, which has all epochs.

    Args:
        epochs: all of them.
        min_epochs: epochs of the first rung.
        eta: factor from rung to rung.
    """
    found = []
    while min_epochs < epochs:
        found.append(min_epochs)
        min_epochs *= eta
    return found
