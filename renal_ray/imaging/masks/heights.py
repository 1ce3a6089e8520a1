"""Which of a mask's planes a slice takes, where the planes do not lie on the slices."""

import numpy as np

from renal_ray.imaging.geometry.spans import plane_spans

TIE = 3  # decimals of a slice: planes that are as near


def nearest_planes(levels: np.ndarray, count: int, step: float) -> dict[int, list[int]]:
    """The planes that each slice takes.

    A slice takes the nearest of the planes that lie within it, both where two are as near: that is
    the section of the lesion nearest to the slice's middle, where all of them together would be
    the widest. A slice between two planes that has none of its own takes the nearer one, unless
    planes are missing there (`plane_spans`). Nothing is added beyond the first and the last plane.

    Args:
        levels: (n,) ascending, where the planes lie, in slices.
        count: slices of the image.
        step: distance between slices in mm.

    Returns:
        Slice -> places in `levels`; also of slices beyond the ends of the image.
    """
    rounded = np.round(levels, TIE)
    own = np.floor(rounded + 0.5).astype(int)
    own[rounded == count - 0.5] = count - 1  # the lower edge belongs to the last slice
    taken = {int(k): _nearest(rounded, np.flatnonzero(own == k), k) for k in np.unique(own)}
    spans = plane_spans(levels * step, declared=step, alone=step)
    for n in np.flatnonzero(spans[1:, 0] <= spans[:-1, 1]):
        for k in range(int(own[n]) + 1, int(own[n + 1])):
            taken[k] = _nearest(rounded, np.array([n, n + 1]), k)
    return taken


def _nearest(levels: np.ndarray, planes: np.ndarray, k: int) -> list[int]:
    away = np.round(np.abs(levels[planes] - k), TIE)
    return [int(n) for n in planes[away == away.min()]]
