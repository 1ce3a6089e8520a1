"""From one voxel grid to another: tilted and oblique images to straight axial slices, masks to the
image's voxels."""

from collections.abc import Callable
from itertools import product

import numpy as np
from scipy.ndimage import map_coordinates

from renal_ray.imaging.geometry.grid import AXIAL_DISPLAY, Grid, nearest_turn

OUTSIDE_HU = -1000.0  # air: what lies outside the scanner's field of view
EDGE = 1e-3  # of a voxel: rounding of what lies on the outermost voxels
MOST_HELD = 64 << 20  # voxels of the source that are held at once


def straight_grid(grid: Grid) -> Grid:
    """The grid in the standard axial display that covers a tilted or oblique one.

    Slices are as far apart as those of the grid are along the patient. Pixels are square, as of
    every axial CT, with the edge of the finer of the grid's axes that lie nearest to rows and
    columns: of a coronal series the slice distance would make pixels several times as long as wide.

    Args:
        grid: axes in any order and direction.

    Returns:
        Slices head to foot, rows front to back, columns patient right to left, at right angles
        along the patient's axes.
    """
    axes = list(nearest_turn(grid).axes)
    met = abs(
        float(AXIAL_DISPLAY[0] @ np.linalg.inv(grid.steps)[:, axes[0]])
    )  # slices in a mm along the patient
    pixel = grid.spacing[axes[1:]].min()
    spacing = np.array([1 / max(met, 1 / grid.spacing[axes[0]]), pixel, pixel])
    corners = grid.corners()[1] @ AXIAL_DISPLAY.T  # along the display's axes
    low, high = corners.min(axis=0), corners.max(axis=0)
    shape = np.ceil((high - low) / spacing - EDGE).astype(int) + 1
    return Grid(
        (int(shape[0]), int(shape[1]), int(shape[2])),
        low @ AXIAL_DISPLAY,
        AXIAL_DISPLAY * spacing[:, None],
    )


def resample_linear(
    read: Callable[[np.ndarray], np.ndarray],
    source: Grid,
    target: Grid,
    slices: np.ndarray,
    *,
    most: int | None = None,
) -> np.ndarray:
    """Resamples slices of a target grid by trilinear interpolation.

    Of the source only the slices that are needed are read, in blocks: each once, but for the one
    that two blocks share.

    Args:
        read: gives slices of the source, (n, rows, cols), for ascending indices.
        source: the grid that is read.
        target: the grid that is wanted.
        slices: int (n,), ascending, of the target.
        most: source slices that are held at once; as many as make 64 million voxels when omitted.

    Returns:
        float32 (n, rows, cols); -1000 outside the source.
    """
    out = np.full((len(slices), *target.shape[1:]), OUTSIDE_HU, np.float32)
    reach = np.array([_reach(source, target, int(k)) for k in slices]).reshape(-1, 2)
    needed = np.zeros(source.shape[0], bool)
    for low, high in reach:
        needed[low : high + 1] = True
    most = max(2, most or MOST_HELD // (source.shape[1] * source.shape[2]))
    for first, last in _blocks(np.flatnonzero(needed), most):
        values = read(np.arange(first, last + 1))
        ends = (
            first == 0 or not needed[first - 1],
            last == source.shape[0] - 1 or not needed[last + 1],
        )
        for n in np.flatnonzero((reach[:, 0] <= last) & (reach[:, 1] >= first)):
            places = _places(source, target, int(slices[n]))
            # what lies between two slices belongs to the block that holds both; the outermost
            # slices reach a rounding error further
            low, high = first - EDGE if ends[0] else first, last + EDGE if ends[1] else last
            inside = (
                _within(source, places)
                & (places[0] >= low)
                & ((places[0] <= high) if ends[1] else (places[0] < high))
            )
            chosen = places[:, inside]
            chosen[0] -= first
            out[n][inside] = map_coordinates(
                values, chosen, output=np.float32, order=1, mode="nearest"
            )
    return out


def _blocks(needed: np.ndarray, most: int) -> list[tuple[int, int]]:
    """Runs of ascending indices, first and last, none longer than `most`; where a run is divided,
    both parts hold the index between them."""
    blocks = []
    for run in np.split(needed, np.flatnonzero(np.diff(needed) > 1) + 1):
        starts = range(0, max(1, len(run) - 1), most - 1)
        blocks += [
            (int(run[start]), int(run[min(start + most, len(run)) - 1]))
            for start in starts
            if len(run)
        ]
    return blocks


def resample_nearest(
    mask: np.ndarray, slices: np.ndarray, source: Grid, target: Grid
) -> dict[int, np.ndarray]:
    """Resamples a mask by nearest neighbour.

    Args:
        mask: bool (n, rows, cols), some slices of the source grid.
        slices: int (n,), ascending: which.
        source: the mask's grid.
        target: the grid that is wanted.

    Returns:
        Slice of the target -> bool (rows, cols); only those that are not empty.
    """
    spans = np.stack([slices - 0.5, slices + 0.5], axis=1)
    return resample_planes(mask, spans, np.zeros((len(slices), 2)), source, target)


def resample_planes(
    mask: np.ndarray, spans: np.ndarray, shifts: np.ndarray, source: Grid, target: Grid
) -> dict[int, np.ndarray]:
    """Resamples planes at any distances by nearest neighbour: each voxel takes the plane in whose
    span it lies, and there the nearest pixel.

    Args:
        mask: bool (n, rows, cols), the planes.
        spans: float (n, 2), ascending and apart: from where to where, in steps along the source's
            first axis, each plane reaches.
        shifts: float (n, 2): rows and columns by which each plane lies beside the source's rows and
            columns.
        source: the frame in which spans and shifts are counted; its shape does not matter.
        target: the grid that is wanted.

    Returns:
        Slice of the target -> bool (rows, cols); only those that are not empty.
    """
    found: dict[int, np.ndarray] = {}
    held, *box = (np.flatnonzero(mask.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1)))
    if not len(held):
        return found
    inner = np.array([[one[0] - 0.5, one[-1] + 0.5] for one in box])  # outer edges of the pixels
    reach = inner + np.stack([shifts[held].min(axis=0), shifts[held].max(axis=0)], axis=1)
    corners = np.array(list(product((spans[held[0], 0], spans[held[-1], 1]), *reach)))
    places = target.index_of(source.origin + corners @ source.steps)
    low = np.maximum(np.ceil(places.min(axis=0) - EDGE).astype(int), 0)
    high = np.minimum(np.floor(places.max(axis=0) + EDGE).astype(int), np.array(target.shape) - 1)
    if (low > high).any():
        return found
    window = (slice(low[1], high[1] + 1), slice(low[2], high[2] + 1))
    for k in range(low[0], high[0] + 1):
        along, *across = _places(source, target, k, window)
        plane = (
            np.searchsorted(spans[:, 0], along, side="right") - 1
        )  # -1: before the first, which ends behind it
        inside = (plane >= 0) & (along < spans[plane, 1])
        at = [
            np.floor(one - shifts[plane, axis] + 0.5).astype(int) for axis, one in enumerate(across)
        ]
        for one, count in zip(at, mask.shape[1:], strict=True):
            inside &= (one >= 0) & (one < count)
        hit = np.zeros(target.shape[1:], bool)
        hit[window][inside] = mask[plane[inside], at[0][inside], at[1][inside]]
        if hit.any():
            found[k] = hit
    return found


def _reach(source: Grid, target: Grid, k: int) -> tuple[int, int]:
    """First and last slice of a source that a slice of a target needs; the first is after the last
    where it needs none."""
    corners = np.array(
        [
            [k, row, column]
            for row in (0, target.shape[1] - 1)
            for column in (0, target.shape[2] - 1)
        ],
        float,
    )
    places = source.index_of(target.origin + corners @ target.steps)[:, 0]
    return max(0, int(np.floor(places.min() + EDGE))), min(
        source.shape[0] - 1, int(np.ceil(places.max() - EDGE))
    )


def _places(
    source: Grid, target: Grid, k: int, window: tuple[slice, slice] = (slice(None), slice(None))
) -> np.ndarray:
    """Source indices (3, rows, cols) of the voxels of a target's slice, or of a window of it."""
    inverse = np.linalg.inv(source.steps)
    start = (target.origin + k * target.steps[0] - source.origin) @ inverse
    per_row, per_column = target.steps[1] @ inverse, target.steps[2] @ inverse
    rows, columns = (
        np.arange(target.shape[1])[window[0], None],
        np.arange(target.shape[2])[None, window[1]],
    )
    return np.stack(
        [start[axis] + rows * per_row[axis] + columns * per_column[axis] for axis in range(3)]
    )


def _within(source: Grid, places: np.ndarray) -> np.ndarray:
    """Which places lie inside the source, to within a rounding error."""
    return np.asarray(
        np.all(
            [
                (places[axis] >= -EDGE) & (places[axis] <= source.shape[axis] - 1 + EDGE)
                for axis in range(3)
            ],
            axis=0,
        )
    )
