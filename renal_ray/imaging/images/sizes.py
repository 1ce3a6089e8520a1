"""What a volume file declares, checked before memory is taken for it and before anything is placed
by it."""

from math import prod

import numpy as np

from renal_ray.imaging.geometry.grid import Grid
from renal_ray.problems import Code, PatientError

MOST_PIXELS = 8192  # along one axis; CT matrices end at 2048
MOST_PLANE = 2**24  # voxels of a plane
MOST_VOXELS = 2**31
MOST_DEFLATED = 1032  # bytes that deflate makes of one at the very most
SPACING_MM = (0.01, 100.0)
FARTHEST_MM = 1e5
LEAST_VOLUME = 1e-3  # of the box of the three steps: less, and they lie in one plane


def require_sane(shape: tuple[int, ...], itemsize: int, stored: int, *, compressed: bool) -> None:
    """Refuses a volume whose header declares more than any CT series has, or than its file can
    hold.

    Args:
        shape: voxels along each axis, the fastest first.
        itemsize: bytes of a voxel.
        stored: bytes of the file from the first voxel on.
        compressed: whether they are deflated.

    Raises:
        PatientError: TOO_LARGE or FILE_TRUNCATED.
    """
    if max(shape) > MOST_PIXELS or prod(shape[:2]) > MOST_PLANE or prod(shape) > MOST_VOXELS:
        raise PatientError(
            Code.TOO_LARGE,
            f"the header declares {' x '.join(map(str, shape[::-1]))} voxels, "
            "more than any CT series has; export it again",
        )
    if prod(shape) * itemsize > stored * (MOST_DEFLATED if compressed else 1):
        raise PatientError(
            Code.FILE_TRUNCATED,
            "the file holds fewer voxels than its header declares; copy it again",
        )


def require_placed(grid: Grid, kind: str) -> None:
    """Refuses a grid that `misplaced` finds fault with.

    Args:
        grid: as the header gives it.
        kind: names the file in the message.

    Raises:
        PatientError: NO_POSITION or NO_PIXEL_SPACING.
    """
    if found := misplaced(grid):
        code, what = found
        raise PatientError(code, f"the header of the {kind} gives {what}; convert the series again")


def misplaced(grid: Grid) -> tuple[Code, str] | None:
    """Whether a grid's numbers are none of a patient's: not finite, no volume, voxels or distances
    that no scanner has.

    Args:
        grid: as the header gives it.

    Returns:
        NO_POSITION or NO_PIXEL_SPACING with what the grid gives, in words; None where it can be
        one.
    """
    finite = (
        np.isfinite(grid.steps).all()
        and np.isfinite(grid.origin).all()
        and np.abs(grid.origin).max() < FARTHEST_MM
    )
    if not finite or np.abs(grid.steps).max() == 0:
        return Code.NO_POSITION, "no place in the patient"
    low, high = SPACING_MM
    if grid.spacing.min() < low or grid.spacing.max() > high:
        return (
            Code.NO_PIXEL_SPACING,
            f"voxels of {grid.spacing.min():.3g} to {grid.spacing.max():.3g} mm",
        )
    if abs(np.linalg.det(grid.steps / grid.spacing[:, None])) < LEAST_VOLUME:
        return Code.NO_POSITION, "axes that span no volume"
    return None
