"""From one voxel grid to another: tilted and oblique images to straight axial slices, masks to the image's voxels."""

from collections.abc import Callable

import numpy as np
from scipy.ndimage import map_coordinates

from renal_ray.imaging.geometry.grid import AXIAL_DISPLAY, Grid

OUTSIDE_HU = -1000.0  # air: what lies outside the scanner's field of view


def straight_grid(grid: Grid) -> Grid:
    """The grid in the standard axial display that covers a tilted or oblique one, with its spacing.

    Args:
        grid: axes in any order and direction.

    Returns:
        Slices head to foot, rows front to back, columns patient right to left, at right angles along the patient's axes. Each axis has
        the spacing of the grid's axis nearest to it.
    """
    cosines = np.abs(AXIAL_DISPLAY @ (grid.steps / grid.spacing[:, None]).T)
    spacing = grid.spacing[cosines.argmax(axis=1)]
    corners = grid.corners()[1] @ AXIAL_DISPLAY.T  # along the display's axes
    low, high = corners.min(axis=0), corners.max(axis=0)
    shape = np.floor((high - low) / spacing + 1e-6).astype(int) + 1
    return Grid((int(shape[0]), int(shape[1]), int(shape[2])), low @ AXIAL_DISPLAY, AXIAL_DISPLAY * spacing[:, None])


def slices_through(source: Grid, target: Grid, k: int) -> tuple[int, int]:
    """First and last slice of a source that lie at a slice of a target; the first is after the last where none does."""
    corners = np.array([[k, row, column] for row in (0, target.shape[1] - 1) for column in (0, target.shape[2] - 1)], float)
    places = source.index_of(target.origin + corners @ target.steps)[:, 0]
    return max(0, int(np.floor(places.min()))), min(source.shape[0] - 1, int(np.ceil(places.max())))


def resample_linear(read: Callable[[np.ndarray], np.ndarray], source: Grid, target: Grid, slices: np.ndarray, *, most: int = 64) -> np.ndarray:
    """Resamples slices of a target grid by trilinear interpolation.

    Args:
        read: gives slices of the source, (n, rows, cols), for ascending indices.
        source: the grid that is read.
        target: the grid that is wanted.
        slices: int (n,), ascending, of the target.
        most: source slices that are held at once.

    Returns:
        float32 (n, rows, cols); -1000 outside the source.
    """
    out = np.full((len(slices), *target.shape[1:]), OUTSIDE_HU, np.float32)
    held, values = (0, -1), np.empty(0)
    for n, k in enumerate(slices):
        low, high = slices_through(source, target, int(k))
        if low > high:
            continue
        if low < held[0] or high > held[1]:
            following = [slices_through(source, target, int(later))[1] for later in slices[n:]]
            held = low, max([high, *(last for last in following if last < low + most)])
            values = read(np.arange(held[0], held[1] + 1)).astype(np.float32)
        places = _places(source, target, int(k))
        places[0] -= held[0]
        inside = map_coordinates(values, places, order=1, mode="nearest")
        out[n] = np.where(_within(source, places, held[0]), inside, OUTSIDE_HU)
    return out


def resample_nearest(mask: np.ndarray, slices: np.ndarray, source: Grid, target: Grid) -> dict[int, np.ndarray]:
    """Resamples a mask by nearest neighbour.

    Args:
        mask: bool (n, rows, cols), some slices of the source grid.
        slices: int (n,), ascending: which.
        source: the mask's grid.
        target: the grid that is wanted.

    Returns:
        Slice of the target -> bool (rows, cols); only those that are not empty.
    """
    row = np.full(source.shape[0], -1)
    row[slices] = np.arange(len(slices))
    first, last = np.argwhere(mask.any(axis=0)).min(axis=0), np.argwhere(mask.any(axis=0)).max(axis=0)
    corners = np.array([[s, r, c] for s in (slices[0], slices[-1]) for r in (first[0], last[0]) for c in (first[1], last[1])], float)
    reach = target.index_of(source.origin + corners @ source.steps)[:, 0]
    extent = float((np.abs(source.steps) @ np.abs(np.linalg.inv(target.steps)))[:, 0].sum())
    found = {}
    for k in range(max(0, int(reach.min() - extent)), min(target.shape[0] - 1, int(reach.max() + extent + 1)) + 1):
        places = np.rint(_places(source, target, k)).astype(int)
        inside = np.all([(places[axis] >= 0) & (places[axis] < source.shape[axis]) for axis in range(3)], axis=0)
        clipped = [np.clip(places[axis], 0, source.shape[axis] - 1) for axis in range(3)]
        which = row[clipped[0]]
        hit = inside & (which >= 0) & mask[np.maximum(which, 0), clipped[1], clipped[2]]
        if hit.any():
            found[k] = hit
    return found


def _places(source: Grid, target: Grid, k: int) -> np.ndarray:
    """Source indices (3, rows, cols) of the voxels of a target's slice."""
    inverse = np.linalg.inv(source.steps)
    start = (target.origin + k * target.steps[0] - source.origin) @ inverse
    per_row, per_column = target.steps[1] @ inverse, target.steps[2] @ inverse
    rows, columns = np.arange(target.shape[1])[:, None], np.arange(target.shape[2])[None, :]
    return np.stack([start[axis] + rows * per_row[axis] + columns * per_column[axis] for axis in range(3)])


def _within(source: Grid, places: np.ndarray, first: int) -> np.ndarray:
    """Which places lie inside the source, to within a rounding error."""
    edge = 1e-3
    limits = ((-first - edge, source.shape[0] - 1 - first + edge), (-edge, source.shape[1] - 1 + edge), (-edge, source.shape[2] - 1 + edge))
    return np.asarray(np.all([(places[axis] >= low) & (places[axis] <= high) for axis, (low, high) in enumerate(limits)], axis=0))
