"""Polygons to pixels: those whose centre lies inside, by the even-odd rule."""

import numpy as np

CROSSINGS = 1 << 20  # handled at once, so that memory does not grow with the number of points


def fill(points: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The pixels whose centre lies in a closed polygon.

    A centre is inside where a ray along its row towards smaller columns crosses the outline an odd number of times. Both intervals are
    half-open, so that of two polygons with a common edge exactly one holds a centre on it.

    Args:
        points: (n, 2), row and column in pixels; pixel centres are whole numbers.
        shape: rows, columns.

    Returns:
        bool of that shape.
    """
    start, end = points, np.roll(points, -1, axis=0)
    low, high = np.minimum(start[:, 0], end[:, 0]), np.maximum(start[:, 0], end[:, 0])
    first = np.clip(np.ceil(low), 0, shape[0]).astype(int)  # rows first .. last - 1 are crossed
    last = np.clip(np.ceil(high), 0, shape[0]).astype(int)
    crossed = np.flatnonzero(last > first)
    toggles = np.zeros(shape[0] * (shape[1] + 1), np.int64)
    counts = (last - first)[crossed]
    for edges in np.split(crossed, np.flatnonzero(np.diff(np.cumsum(counts) // CROSSINGS)) + 1):
        rows_of = last[edges] - first[edges]
        edge = np.repeat(edges, rows_of)
        within = np.arange(rows_of.sum()) - np.repeat(np.cumsum(rows_of) - rows_of, rows_of)
        row = first[edge] + within
        share = (row - start[edge, 0]) / (end[edge, 0] - start[edge, 0])
        column = start[edge, 1] + share * (end[edge, 1] - start[edge, 1])
        place = np.clip(np.ceil(column), 0, shape[1]).astype(int)
        toggles += np.bincount(row * (shape[1] + 1) + place, minlength=len(toggles))
    inside = np.cumsum(toggles.reshape(shape[0], shape[1] + 1), axis=1)[:, : shape[1]]
    return inside % 2 == 1
