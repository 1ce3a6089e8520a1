"""What of a lesion lies outside of the image: said, or refused where it is more than a rim."""

from collections.abc import Iterable
from itertools import product

import numpy as np

from renal_ray.imaging.geometry.grid import Grid
from renal_ray.imaging.geometry.resample import EDGE
from renal_ray.problems import Code, PatientError

MOST_BEYOND = 0.01  # of the lesion's volume
SIDES = (
    ("right", "left"),
    ("front", "back"),
    ("foot", "head"),
)  # of the patient, down and up each axis of LPS


def require_inside(
    planes: Iterable[tuple[np.ndarray, np.ndarray, float]], steps: np.ndarray, image: Grid
) -> str:
    """Refuses a lesion of which more than 1 % lies outside of the image; a voxel lies where its
    centre does.

    Args:
        planes: of the mask: bool (rows, cols), centre (3,) of its first pixel in mm, and how thick
            the plane is.
        steps: (2, 3), from row to row and from column to column of the planes in mm.
        image: the image's grid.

    Returns:
        What share lies outside and on which side of the patient, in words; empty where nothing
        does.

    Raises:
        PatientError: MASK_BEYOND_IMAGE.
    """
    whole, beyond, sides = 0.0, 0.0, np.zeros((3, 2))
    for mask, origin, thickness in planes:
        count, on_side = _outside(mask, origin, steps, image)
        whole += thickness * np.count_nonzero(mask)
        beyond += thickness * count
        sides += thickness * on_side
    if not beyond:
        return ""
    share = (
        f"{100 * beyond / whole:.3g} % of the lesion lies outside of the "
        f"image ({', '.join(_named(sides, image))})"
    )
    if beyond > MOST_BEYOND * whole:
        raise PatientError(
            Code.MASK_BEYOND_IMAGE,
            f"{share}; use an image that holds all of it, or the mask that was drawn on this one",
        )
    return share


def side_of(direction: np.ndarray) -> str:
    """The side of the patient to which a direction (3,) in LPS points most."""
    axis = int(np.abs(direction).argmax())
    return SIDES[axis][int(direction[axis] > 0)]


def _outside(
    mask: np.ndarray, origin: np.ndarray, steps: np.ndarray, image: Grid
) -> tuple[int, np.ndarray]:
    """Pixels of a plane's mask outside of the image, and how many lie beyond each end of each of
    its axes, (3, 2)."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return 0, np.zeros((3, 2))
    corners = np.array(list(product(rows[[0, -1]], columns[[0, -1]])))
    if not _beyond(corners, origin, steps, image).any():
        return 0, np.zeros((3, 2))
    beyond = _beyond(np.argwhere(mask), origin, steps, image)
    return int(beyond.any(axis=(1, 2)).sum()), beyond.sum(axis=0)


def _beyond(pixels: np.ndarray, origin: np.ndarray, steps: np.ndarray, image: Grid) -> np.ndarray:
    """For pixels (n, 2) of a plane, whether each lies beyond the low and the high end of the
    image's axes, (n, 3, 2)."""
    index = image.index_of(origin + pixels @ steps)
    return np.stack([index < -0.5 - EDGE, index > np.array(image.shape) - 0.5 + EDGE], axis=-1)


def _named(sides: np.ndarray, image: Grid) -> list[str]:
    """The sides of the patient beyond which something lies, the one with most of it first."""
    most_first = sorted(
        zip(sides.ravel(), product(range(3), (-1, 1)), strict=True), key=lambda one: -one[0]
    )
    return list(
        dict.fromkeys(
            side_of(sign * image.steps[axis]) for amount, (axis, sign) in most_first if amount
        )
    )
