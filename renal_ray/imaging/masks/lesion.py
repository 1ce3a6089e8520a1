"""The lesion on the image's grid: where it is, how large, and which slices are kept."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist

from renal_ray.config import Selection
from renal_ray.imaging.regions import Box, lesion_box
from renal_ray.problems import Code, PatientError


@dataclass(frozen=True)
class Lesion:
    """A lesion mask, only its slices that are not empty.

    Args:
        slices: int (n,), ascending, on the image's grid.
        mask: bool (n, rows, cols).
    """

    slices: np.ndarray
    mask: np.ndarray

    @cached_property
    def pixels(self) -> np.ndarray:
        """int (n,), lesion pixels of each slice."""
        return np.asarray(np.count_nonzero(self.mask[:, *self.box], axis=(1, 2)))

    @cached_property
    def box(self) -> Box:
        """The smallest rectangle, in rows and columns, that holds the lesion in every slice."""
        return lesion_box(np.asarray(self.mask.any(axis=0)))


def lesion_of(frames: dict[int, np.ndarray], why_empty: str) -> Lesion:
    """Gathers a lesion from masks (rows, cols) by slice.

    Args:
        frames: slice -> bool mask; empty ones are dropped.
        why_empty: message of the error when nothing is left.

    Raises:
        PatientError: MASK_EMPTY.
    """
    slices = sorted(k for k, mask in frames.items() if mask.any())
    if not slices:
        raise PatientError(Code.MASK_EMPTY, why_empty)
    mask = np.stack([frames[k] for k in slices])
    return Lesion(np.array(slices), mask)


def kept(lesion: Lesion, selection: Selection) -> np.ndarray:
    """Which of a lesion's slices are kept.

    Args:
        lesion: the lesion.
        selection: least area as a share of the patient's largest, and most slices.

    Returns:
        int (k,), ascending places in `lesion.slices`. Beyond `max_slices` the largest stay; of
        equal ones those nearer to the lesion's middle, then the upper.
    """
    pixels = lesion.pixels
    enough = np.flatnonzero(pixels >= selection.min_area_fraction * pixels.max() * (1 - 1e-12))
    if selection.max_slices is None or len(enough) <= selection.max_slices:
        return enough
    off_centre = np.abs(lesion.slices[enough] - (lesion.slices[0] + lesion.slices[-1]) / 2)
    order = np.lexsort((enough, off_centre, -pixels[enough]))
    return np.sort(enough[order[: selection.max_slices]])


def max_diameter_mm(lesion: Lesion, spacing_mm: tuple[float, float]) -> float:
    """Largest in-plane Feret diameter: the longest distance between two points of the outline in
    any one slice.

    The outline runs through the middles of the outer pixel edges, so that one pixel is one pixel
    wide.

    Args:
        lesion: the lesion.
        spacing_mm: distance between rows and between columns.

    Returns:
        Diameter in mm.
    """
    rows, columns = lesion.box
    return max(
        _feret(mask, spacing_mm, (rows.start, columns.start))
        for mask in lesion.mask[:, rows, columns]
    )


def _feret(mask: np.ndarray, spacing_mm: tuple[float, float], origin: tuple[int, int]) -> float:
    rows = np.flatnonzero(mask.any(axis=1))
    first = mask[rows].argmax(axis=1)
    last = mask.shape[1] - 1 - mask[rows, ::-1].argmax(axis=1)
    # only the outermost pixels of a row can lie on the convex hull; each contributes the middles of
    # its four edges
    pixels = np.concatenate(
        [np.stack([rows, first], axis=1), np.stack([rows, last], axis=1)]
    ) + np.array(origin, float)
    edges = np.array([[0.5, 0], [-0.5, 0], [0, 0.5], [0, -0.5]])
    points = (pixels[:, None] + edges).reshape(-1, 2) * spacing_mm
    return float(pdist(points[ConvexHull(points).vertices]).max())
