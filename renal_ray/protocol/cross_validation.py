"""A mean over folds, whose models share most of their training patients."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import t as student

from renal_ray.protocol.intervals import as_level
from renal_ray.protocol.metrics import mean_sd


@dataclass(frozen=True)
class CorrectedMean:
    """A mean over folds with the corrected standard error.

    Args:
        mean: over the defined values.
        se: corrected standard error.
        lower, upper: bounds of the t interval, not cut off at 0 or 1; None where all values are
            equal, which says nothing about their spread.
        df: degrees of freedom, defined values - 1.
    """

    mean: float
    se: float
    lower: float | None
    upper: float | None
    df: int


@dataclass(frozen=True)
class CorrectedDifference(CorrectedMean):
    """The mean difference of two configurations on the same folds.

    Args:
        mean, se, lower, upper, df: as CorrectedMean, of a - b.
        t: mean / se; None where all differences are equal.
        p: two-sided P value of no difference; 1 where all differences are 0, None where they are
            equal and not 0.
    """

    t: float | None
    p: float | None


def corrected_mean(
    values: Sequence[float | None],
    n_train: float | Sequence[float],
    n_validation: float | Sequence[float],
    level: float = 0.95,
) -> CorrectedMean | None:
    """Mean over folds with Nadeau and Bengio's variance, (1/k + n_validation/n_train) s^2.

    C. Nadeau and Y. Bengio, Inference for the generalization error, Mach Learn 52 (2003) 239-281.
    The folds share training patients, so s^2/k is too small. Derived for repeated random divisions;
    for (repeated) cross-validation it is the usual approximation: R. R. Bouckaert and E. Frank,
    Evaluating the replicability of significance tests, PAKDD 2004, 3-12.

    Args:
        values: one a fold, or one a fold and repeat; an undefined one (None) is left out.
        n_train: patients that train, of all folds alike or one a value.
        n_validation: patients that validate, likewise.
        level: confidence, in 0..1.

    Returns:
        The mean with its t interval; None with fewer than two values.

    Raises:
        ValueError: a value is not finite, a number of patients is not positive or not one a value,
            or the level is not between 0 and 1.
    """
    as_level(level)
    kept = [i for i, value in enumerate(values) if value is not None]
    ratio = _ratio(n_train, n_validation, len(values), kept)
    known = [float(values[i]) for i in kept]  # type: ignore[arg-type]
    if not all(math.isfinite(value) for value in known):
        raise ValueError("values: one is not finite; an undefined value is None")
    mean, sd = mean_sd(known)
    if mean is None or sd is None:
        return None
    df = len(known) - 1
    if max(known) == min(known):
        return CorrectedMean(known[0], 0.0, None, None, df)
    se = sd * math.sqrt(1 / len(known) + ratio)
    half = float(student.ppf((1 + level) / 2, df)) * se
    return CorrectedMean(mean, se, mean - half, mean + half, df)


def corrected_difference(
    a: Sequence[float | None],
    b: Sequence[float | None],
    n_train: float | Sequence[float],
    n_validation: float | Sequence[float],
    level: float = 0.95,
) -> CorrectedDifference | None:
    """Mean difference of two configurations on the same folds, with the corrected resampled t test
    of Nadeau and Bengio (2003).

    Args:
        a, b: values on the same folds in the same order; a fold where either is undefined (None) is
            left out.
        n_train, n_validation: patients, as corrected_mean.
        level: confidence, in 0..1.

    Returns:
        The difference with interval and test; None with fewer than two folds.

    Raises:
        ValueError: the lengths differ, or as corrected_mean.
    """
    if len(a) != len(b):
        raise ValueError(f"{len(a)} and {len(b)} values; the same folds are needed")
    differences = [None if x is None or y is None else x - y for x, y in zip(a, b, strict=True)]
    found = corrected_mean(differences, n_train, n_validation, level)
    if found is None:
        return None
    if found.se == 0:
        return CorrectedDifference(
            found.mean, 0.0, None, None, found.df, None, 1.0 if found.mean == 0 else None
        )
    t = found.mean / found.se
    return CorrectedDifference(
        found.mean,
        found.se,
        found.lower,
        found.upper,
        found.df,
        t,
        float(2 * student.sf(abs(t), found.df)),
    )


def _ratio(
    n_train: float | Sequence[float],
    n_validation: float | Sequence[float],
    n: int,
    kept: Sequence[int],
) -> float:
    """Validating over training patients; of unequal folds the ratio of the sums."""
    sums = []
    for name, counts in (("n_train", n_train), ("n_validation", n_validation)):
        each = (
            [float(counts)] * n
            if isinstance(counts, int | float)
            else [float(count) for count in counts]
        )
        if len(each) != n or not all(math.isfinite(count) and count > 0 for count in each):
            raise ValueError(
                f"{name}: {counts}; expected a positive number of "
                f"patients, or one for each of {n} values"
            )
        sums.append(math.fsum(each[i] for i in kept))
    return sums[1] / sums[0] if kept else 0.0
