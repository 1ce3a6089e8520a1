"""How far each plane of a mask reaches: planes may be missing, jitter, or lie at other distances
here and there."""

from itertools import pairwise

import numpy as np
from scipy.ndimage import median_filter

from renal_ray.imaging.geometry.stack import ROUNDING_MM, UNIFORM

SAME_HEIGHT_MM = 0.05  # planes of one height, but for rounding
HOLE = 1.5  # of the gaps around: wider ones are holes, not planes that are thicker
THICKER = 4  # equal gaps in a row are a part of the stack with thicker slices, not missing planes
AROUND = 5  # gaps that say what is usual


def heights_of(along: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The heights at which planes lie.

    Args:
        along: (n,) place of each plane along their normal in mm.

    Returns:
        The m heights, ascending, and int (n,): which of them is each plane's.
    """
    order = np.argsort(along, kind="stable")
    groups = np.zeros(len(along), int)
    first = along[order[0]]
    for before, this in pairwise(order):
        begins = along[this] - first > SAME_HEIGHT_MM
        groups[this] = groups[before] + begins
        first = along[this] if begins else first
    return np.bincount(groups, along) / np.bincount(groups), groups


def plane_spans(heights: np.ndarray, *, declared: float, alone: float) -> np.ndarray:
    """From where to where each plane reaches: half way to its neighbours, and at a hole or an end
    half of its own distance.

    The step comes from all gaps, each a whole number of it. Where they are none, the gaps around
    say what is usual.

    Args:
        heights: (n,) ascending, in mm.
        declared: distance between planes that the file declares in mm; 0 where it says nothing.
        alone: thickness of a plane of which nothing says how thick it is, in mm.

    Returns:
        (n, 2) in mm; neighbours share an edge, and none overlap.
    """
    gaps = np.diff(heights)
    step, joined = (
        _neighbours(gaps, declared) if len(gaps) else (declared or alone, np.zeros(0, bool))
    )
    beside = np.where(joined, gaps, np.inf)
    own = np.minimum(np.append(np.inf, beside), np.append(beside, np.inf))
    half = np.where(np.isfinite(own), own, step) / 2
    middle = (heights[:-1] + heights[1:]) / 2
    upper, lower = heights + half, heights - half
    upper[:-1] = np.where(joined, middle, np.minimum(upper[:-1], middle))
    lower[1:] = np.where(joined, middle, np.maximum(lower[1:], middle))
    return np.stack([lower, upper], axis=1)


def _neighbours(gaps: np.ndarray, declared: float) -> tuple[float, np.ndarray]:
    """The step in mm, and bool (n,): between which planes none is missing."""
    step = _step(gaps, declared)
    count = np.rint(gaps / step)
    if (np.abs(gaps - count * step) > max(UNIFORM * step, min(ROUNDING_MM, step / 4))).any():
        return float(np.median(gaps)), gaps <= HOLE * median_filter(gaps, AROUND, mode="mirror")
    joined = count == 1
    for run in np.split(np.arange(len(gaps)), np.flatnonzero(np.diff(count)) + 1):
        joined[run] |= len(run) >= THICKER
    return step, joined


def _step(gaps: np.ndarray, declared: float) -> float:
    """The distance of which each gap is a whole number; known the better, the more gaps were looked
    at, the narrow ones first."""
    step = declared if 0 < HOLE * declared < gaps.min() else float(gaps.min())
    length, steps = 0.0, 0
    for gap in np.sort(gaps):
        length, steps = length + gap, steps + max(1, round(gap / step))
        step = length / steps
    return step
