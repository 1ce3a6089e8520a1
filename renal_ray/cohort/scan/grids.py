"""Whether a mask in a volume file can have been drawn on an image: by both grids."""

from enum import IntEnum
from pathlib import Path

import numpy as np

from renal_ray.cohort.scan.series import CtSeries
from renal_ray.imaging.geometry.grid import GRID_TOLERANCE, Grid
from renal_ray.imaging.geometry.stack import plane_steps
from renal_ray.imaging.images.volume import open_voxels
from renal_ray.problems import PatientError


class Fit(IntEnum):
    """How a mask's grid fits an image's."""

    OTHER = 0  # of another size
    UNKNOWN = 1  # the image is no volume as it stands, or a header cannot be read
    SIZE = 2  # of the same size
    SAME = 3  # in size, spacing and position


def volume_grid(path: Path) -> Grid | None:
    """The grid of a volume file; None where its header cannot be read."""
    try:
        return open_voxels(path).grid
    except PatientError:
        return None


def fit(image: Grid | None, mask: Grid | None) -> Fit:
    """Compares two grids, whatever the order and direction of their axes."""
    if image is None or mask is None:
        return Fit.UNKNOWN
    if sorted(image.shape) != sorted(mask.shape):
        return Fit.OTHER
    return (
        Fit.SAME if _covers(image.index_of(mask.corners()[1]), np.array(image.shape)) else Fit.SIZE
    )


def fit_series(series: CtSeries, mask: Grid | None) -> Fit:
    """Compares a mask with a series; of one that is no volume, with the matrix of its first
    image."""
    if series.grid is not None or mask is None or not series.planes:
        return fit(series.grid, mask)
    plane = series.planes[0]
    index = Grid((1, *plane.shape), plane.position, plane_steps(plane)).index_of(mask.corners()[1])[
        :, 1:
    ]
    return Fit.UNKNOWN if _covers(index, np.array(plane.shape)) else Fit.OTHER


def _covers(index: np.ndarray, shape: np.ndarray) -> bool:
    """Whether corners, given by indices (8, n) on an image, are the image's own."""
    return bool(
        np.abs(index.min(axis=0)).max() <= GRID_TOLERANCE
        and np.abs(index.max(axis=0) - (shape - 1)).max() <= GRID_TOLERANCE
    )
