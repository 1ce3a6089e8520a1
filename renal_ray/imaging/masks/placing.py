"""Masks that are stacks of planes, put on the image's slices: by where they lie, or by nearest neighbour where the study asks for it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from renal_ray.imaging.geometry.grid import GRID_TOLERANCE, Grid, turn_onto
from renal_ray.imaging.geometry.resample import resample_nearest
from renal_ray.imaging.geometry.stack import Plane, plane_steps
from renal_ray.imaging.images.source import ImageSource, References
from renal_ray.problems import Code, Finding, PatientError


@dataclass(frozen=True)
class MaskPlane:
    """One plane of a mask.

    Args:
        plane: where it lies.
        mask: bool (rows, cols), as stored.
        sources: SOPInstanceUIDs of the slices that it says it was drawn on.
        name: names it in messages.
    """

    plane: Plane
    mask: np.ndarray
    sources: frozenset[str]
    name: str


def require_same_place(what: str, mask: References, image: References) -> None:
    """Refuses a mask that says it was drawn on another series, or in another frame of reference.

    Args:
        what: names the mask in messages.
        mask: what it refers to.
        image: what the image is.

    Raises:
        PatientError: MASK_WITHOUT_SERIES or MASK_OFF_GRID.
    """
    if mask.series and image.series and not mask.series & image.series:
        raise PatientError(Code.MASK_WITHOUT_SERIES, f"the {what} was drawn on another series than the image; pair it with its own series")
    if mask.frame_of_reference and image.frame_of_reference and mask.frame_of_reference != image.frame_of_reference:
        raise PatientError(Code.MASK_OFF_GRID, f"the {what} has another frame of reference than the image, so their positions do not compare")


def place(planes: Sequence[MaskPlane], image: ImageSource, *, resample: bool) -> tuple[dict[int, np.ndarray], list[Finding]]:
    """Puts planes on the slices of an image; planes at one position are united.

    Args:
        planes: those that are not empty.
        image: the image.
        resample: what is off the grid is resampled by nearest neighbour, and reported.

    Returns:
        Slice -> bool (rows, cols), and what is to be reported.

    Raises:
        PatientError: MASK_OFF_GRID.
    """
    frames: dict[int, np.ndarray] = {}
    try:
        for plane in planes:
            k, turned = _on_slice(plane, image)
            frames[k] = frames[k] | turned if k in frames else turned
    except PatientError as error:
        if not resample or error.code is not Code.MASK_OFF_GRID:
            raise
        mask, slices, grid = _stacked(planes)
        frames = resample_nearest(mask, slices, grid, image.grid)
        if not frames:
            raise PatientError(Code.MASK_OFF_GRID, "the mask lies outside of the image; use the mask that was drawn on it") from None
        return frames, [Finding(Code.MASK_RESAMPLED, resampled(grid, image.grid))]
    sources = {uid for plane in planes for uid in plane.sources}
    absent = sources and not image.slices_named(sources) and image.references.series
    message = "the mask refers to images that are not in the series; it was matched by position"
    return frames, [Finding(Code.REFERENCES_ABSENT, message)] if absent else []


def resampled(mask: Grid, image: Grid) -> str:
    """Says how a mask's grid differs from the image's."""
    ours, theirs = (f"{grid.shape[0]} x {grid.shape[1]} x {grid.shape[2]} at {' x '.join(f'{one:.2f}' for one in grid.spacing)} mm" for grid in (mask, image))
    return f"the mask's grid ({ours}) is not the image's ({theirs}); it was resampled by nearest neighbour"


def _on_slice(item: MaskPlane, image: ImageSource) -> tuple[int, np.ndarray]:
    stored = Grid((1, *item.plane.shape), item.plane.position, plane_steps(item.plane))
    turn = turn_onto(stored, image.grid)
    grid = turn.grid(stored)
    corners, points = grid.corners()
    found = image.grid.index_of(points)
    k = round(float(found[0, 0]))
    off = np.abs(found - corners - [k, 0, 0]).max()
    if turn.axes[0] != 0 or grid.shape[1:] != image.grid.shape[1:] or off > GRID_TOLERANCE or not 0 <= k < image.grid.shape[0]:
        raise PatientError(Code.MASK_OFF_GRID, f"{item.name} lies on no slice of the image; use the series that it was drawn on")
    named = image.slices_named(set(item.sources))
    if named and k not in named:
        raise PatientError(Code.MASK_OFF_GRID, f"{item.name} refers to one slice and lies on another; export it again")
    return k, turn.apply(item.mask[None])[0]


def _stacked(planes: Sequence[MaskPlane]) -> tuple[np.ndarray, np.ndarray, Grid]:
    """The planes as a volume of their own: mask bool (n, rows, cols), their places along it, and its grid."""
    first = planes[0].plane
    alike = all(item.plane.shape == first.shape and np.allclose(item.plane.orientation, first.orientation, atol=1e-3) for item in planes)
    if not alike:
        raise PatientError(Code.MASK_OFF_GRID, "the mask's planes differ in matrix or orientation, so they are no volume that could be resampled")
    normal, row_step, column_step = plane_steps(first)
    along = np.array([item.plane.position @ normal for item in planes])
    levels = np.unique(np.round(along, 2))
    step = float(np.diff(levels).min()) if len(levels) > 1 else 1.0
    places = np.rint((along - levels[0]) / step).astype(int)
    merged: dict[int, np.ndarray] = {}
    for k, item in zip(places, planes, strict=True):
        merged[int(k)] = merged[int(k)] | item.mask if int(k) in merged else item.mask
    slices = np.array(sorted(merged))
    origin = planes[int(along.argmin())].plane.position
    grid = Grid((int(slices[-1]) + 1, *first.shape), origin, np.stack([normal * step, row_step, column_step]))
    return np.stack([merged[int(k)] for k in slices]), slices, grid
