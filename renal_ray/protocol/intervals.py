"""How far a proportion of few patients can be trusted."""

import math

Z_95 = 1.959963984540054  # 97.5th percentile of the standard normal distribution


def wilson(successes: int, n: int) -> tuple[float, float] | None:
    """The 95 % Wilson score interval of a proportion of independent patients; never use it on slices, which are not independent.

    E. B. Wilson, Probable inference, the law of succession, and statistical inference, J Am Stat Assoc 22 (1927) 209-212.

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
