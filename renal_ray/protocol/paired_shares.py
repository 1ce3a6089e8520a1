"""How far the difference of two shares of the same patients can be trusted."""

import math

from renal_ray.protocol.intervals import wilson


def paired_difference(both: int, only_a: int, only_b: int, neither: int) -> tuple[float, float] | None:
    """The 95 % interval of share a - share b where both are of the same patients.

    R. G. Newcombe, Improved confidence intervals for the difference between binomial proportions based on paired data, Stat Med 17 (1998) 2635-2650,
    method 10: Wilson's intervals of the two shares put together with their correlation, continuity-corrected.

    Args:
        both: patients with both properties, say decided rightly by both models.
        only_a: with the first alone.
        only_b: with the second alone.
        neither: with none.

    Returns:
        (lower, upper) in -1..1, or None without patients.

    Raises:
        ValueError: a count is below 0.
    """
    if min(both, only_a, only_b, neither) < 0:
        raise ValueError(f"counts {(both, only_a, only_b, neither)}: none can be below 0")
    n = both + only_a + only_b + neither
    first, second = wilson(both + only_a, n), wilson(both + only_b, n)
    if first is None or second is None:
        return None
    a, b = (both + only_a) / n, (both + only_b) / n
    product = (both + only_a) * (only_b + neither) * (both + only_b) * (only_a + neither)
    excess = both * neither - only_a * only_b
    phi = (max(excess - n / 2, 0.0) if excess > 0 else excess) / math.sqrt(product) if product else 0.0
    down = _joined(a - first[0], second[1] - b, phi)
    up = _joined(first[1] - a, b - second[0], phi)
    return max(-1.0, a - b - down), min(1.0, a - b + up)


def _joined(own: float, other: float, phi: float) -> float:
    return math.sqrt(max(0.0, own**2 - 2 * phi * own * other + other**2))
