"""How far a proportion of few patients can be trusted."""

import math

from scipy.stats import beta

Z_95 = 1.959963984540054  # 97.5th percentile of the standard normal distribution


def wilson(successes: int, n: int) -> tuple[float, float] | None:
    """The 95 % Wilson score interval of a proportion of independent patients; never use it on
    slices, which are not independent.

    E. B. Wilson, Probable inference, the law of succession, and statistical inference, J Am Stat
    Assoc 22 (1927) 209-212.

    Args:
        successes: patients with the property, 0 to n.
        n: patients.

    Returns:
        (lower, upper), or None without patients.

    Raises:
        ValueError: successes is not in 0..n.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"successes: {successes} of {n}")
    if n == 0:
        return None
    share, z2 = successes / n, Z_95**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, centre - half), min(1.0, centre + half)


def clopper_pearson(successes: int, n: int, level: float = 0.95) -> tuple[float, float] | None:
    """The exact (conservative) interval of a proportion of independent patients.

    C. J. Clopper and E. S. Pearson, The use of confidence or fiducial limits illustrated in the
    case of the binomial, Biometrika 26 (1934) 404-413.

    Args:
        successes: patients with the property, 0 to n.
        n: patients.
        level: confidence, in 0..1.

    Returns:
        (lower, upper), or None without patients.

    Raises:
        ValueError: successes is not in 0..n, or the level not between 0 and 1.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"successes: {successes} of {n}")
    half_alpha = (1 - as_level(level)) / 2
    if n == 0:
        return None
    lower = 0.0 if successes == 0 else float(beta.ppf(half_alpha, successes, n - successes + 1))
    upper = 1.0 if successes == n else float(beta.ppf(1 - half_alpha, successes + 1, n - successes))
    return lower, upper


def as_level(level: float) -> float:
    """Checks a level of confidence.

    Raises:
        ValueError: it is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise ValueError(f"level: {level} is not between 0 and 1; 0.95 is usual")
    return level
