"""Masks that are stacks of planes, put on the image's slices: by where they lie, or by nearest
neighbour where the study asks for it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from renal_ray.imaging.geometry.grid import GRID_TOLERANCE, Grid, turn_onto
from renal_ray.imaging.geometry.resample import resample_planes
from renal_ray.imaging.geometry.spans import heights_of, plane_spans
from renal_ray.imaging.geometry.stack import SAME_DIRECTION, SAME_SPACING, Plane, plane_steps
from renal_ray.imaging.images.source import ImageSource, References, sized
from renal_ray.imaging.masks.beyond import require_inside, side_of
from renal_ray.problems import Code, Finding, PatientError

ANOTHER_SLICE = 0.75  # slices between a plane and the one that it names: it was drawn on another
STRAIGHT = 0.9999  # cosine of the angle between two axes that are one


@dataclass(frozen=True)
class MaskPlane:
    """One plane of a mask.

    Args:
        plane: where it lies.
        mask: bool (rows, cols), as stored.
        sources: SOPInstanceUIDs of the slices that it says it was drawn on.
        name: names it in messages.
        step_mm: distance to the next plane that it declares; 0 where it says nothing.
    """

    plane: Plane
    mask: np.ndarray
    sources: frozenset[str]
    name: str
    step_mm: float = 0.0


def require_same_place(what: str, mask: References, image: ImageSource) -> list[Finding]:
    """Refuses a mask that says it was drawn on another series, or in another frame of reference.

    Some programs invent the frame of reference. A mask that names the image's series and slices of
    it, and no other slice, is believed against it.

    Args:
        what: names the mask in messages.
        mask: what it refers to.
        image: the image.

    Returns:
        FRAME_CONTRADICTS, where that is so.

    Raises:
        PatientError: MASK_WITHOUT_SERIES or MASK_OFF_GRID.
    """
    ours = image.references
    if mask.series and ours.series and not mask.series & ours.series:
        raise PatientError(
            Code.MASK_WITHOUT_SERIES,
            f"the {what} was drawn on another series than the image; pair it with its own series",
        )
    if (
        not mask.frame_of_reference
        or not ours.frame_of_reference
        or mask.frame_of_reference == ours.frame_of_reference
    ):
        return []
    named = image.slices_named(set(mask.images))
    if not mask.series & ours.series or not named or len(named) != len(mask.images):
        raise PatientError(
            Code.MASK_OFF_GRID,
            f"the {what} has another frame of reference than the image, "
            "so their positions do not compare; "
            "use what was drawn on this image, and name that alone",
        )
    message = (
        f"the {what} has another frame of reference than the image, but names its "
        f"series and {len(named)} of its slices, which were believed"
    )
    return [Finding(Code.FRAME_CONTRADICTS, message)]


def place(
    planes: Sequence[MaskPlane], image: ImageSource, *, resample: bool
) -> tuple[dict[int, np.ndarray], list[Finding]]:
    """Puts planes on the slices of an image; planes at one position are united.

    Args:
        planes: those that are not empty.
        image: the image.
        resample: what is off the grid is resampled by nearest neighbour, and reported.

    Returns:
        Slice -> bool (rows, cols), and what is to be reported.

    Raises:
        PatientError: MASK_OFF_GRID, MASK_BEYOND_IMAGE or MASK_EMPTY.
    """
    for item in planes:
        _require_named(item, image)
    try:
        frames = _on_slices(planes, image)
    except PatientError as error:
        if not resample or error.code is not Code.MASK_OFF_GRID:
            raise
        frames, message = _resampled(planes, image)
        return frames, [Finding(Code.MASK_RESAMPLED, message)]
    sources = {uid for plane in planes for uid in plane.sources}
    absent = sources and not image.slices_named(sources) and image.references.series
    message = "the mask refers to images that are not in the series; it was matched by position"
    return frames, [Finding(Code.REFERENCES_ABSENT, message)] if absent else []


def compared(mask: Grid, image: Grid) -> str:
    """Says how a label map's grid differs from the image's.

    Args:
        mask: the label map's, turned to the image's axes.
        image: the image's.
    """
    along = [
        float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))
        for one, other in zip(mask.steps, image.steps, strict=True)
    ]
    stretched = (
        np.abs(mask.spacing / image.spacing - 1) * (np.array(mask.shape) - 1) > GRID_TOLERANCE
    )
    differs = [
        name
        for name, there in (
            ("size", mask.shape != image.shape),
            ("spacing", stretched.any()),
            ("orientation", min(along) < STRAIGHT),
        )
        if there
    ]
    off = image.index_of(mask.origin)
    if differs == ["size"] and np.abs(off - np.rint(off)).max() <= GRID_TOLERANCE:
        differs = ["size alone, and where both have voxels they are the same"]
    elif np.abs(off).max() > GRID_TOLERANCE:
        differs.append(
            f"position (the first voxel lies {np.linalg.norm(off @ image.steps):.1f} mm off)"
        )
    return (
        f"the label map ({sized(mask)}) is not on the voxels of the image "
        f"({sized(image)}): it differs in {' and '.join(differs)}"
    )


def _on_slices(planes: Sequence[MaskPlane], image: ImageSource) -> dict[int, np.ndarray]:
    """The planes on the slices on which they lie."""
    placed = [_on_lattice(item, image.grid) for item in planes]
    places = [k for k, _ in placed]
    above, below = -min(places), max(places) - image.grid.shape[0] + 1
    if above > 0 or below > 0:
        ends = [
            f"{count} towards the {side_of(way * image.grid.steps[0])}"
            for count, way in ((above, -1), (below, 1))
            if count > 0
        ]
        raise PatientError(
            Code.MASK_OFF_GRID,
            f"the mask reaches beyond the image's {image.grid.shape[0]} slices, by "
            f"{' and '.join(ends)}: slices are missing there, or it is another series; "
            "use the whole series that the mask was drawn on",
        )
    frames: dict[int, np.ndarray] = {}
    for k, mask in placed:
        frames[k] = frames[k] | mask if k in frames else mask
    return frames


def _on_lattice(item: MaskPlane, grid: Grid) -> tuple[int, np.ndarray]:
    """The slice on which a plane lies, counted on beyond the image's ends, and its mask turned to
    the image's axes."""
    stored = Grid((1, *item.plane.shape), item.plane.position, plane_steps(item.plane))
    turn = turn_onto(stored, grid)
    turned = turn.grid(stored)
    corners, points = turned.corners()
    found = grid.index_of(points)
    k = round(float(found[0, 0]))
    if (
        turn.axes[0] != 0
        or turned.shape[1:] != grid.shape[1:]
        or np.abs(found - corners - [k, 0, 0]).max() > GRID_TOLERANCE
    ):
        raise PatientError(
            Code.MASK_OFF_GRID,
            f"{item.name} lies on no slice of the image; use the series that "
            "it was drawn on, or set cohort.mask_resample",
        )
    return k, turn.apply(item.mask[None])[0]


def _require_named(item: MaskPlane, image: ImageSource) -> None:
    """Refuses a plane that names slices of the image and lies on none of them."""
    named = image.slices_named(set(item.sources))
    if not named:
        return
    middle = (
        item.plane.position + (np.array(item.plane.shape) - 1) / 2 @ plane_steps(item.plane)[1:]
    )
    if np.abs(np.array(sorted(named)) - image.grid.index_of(middle)[0]).min() >= ANOTHER_SLICE:
        raise PatientError(
            Code.MASK_OFF_GRID,
            f"{item.name} refers to one slice and lies on another; export it again",
        )


def _resampled(
    planes: Sequence[MaskPlane], image: ImageSource
) -> tuple[dict[int, np.ndarray], str]:
    """The planes brought to the image's grid, each at its own height and place; and what is to be
    said of it."""
    first = planes[0].plane
    for item in planes:
        turned = not np.allclose(item.plane.orientation, first.orientation, atol=SAME_DIRECTION)
        if (
            item.plane.shape != first.shape
            or turned
            or not np.allclose(item.plane.spacing, first.spacing, rtol=SAME_SPACING, atol=0)
        ):
            raise PatientError(
                Code.MASK_OFF_GRID,
                "the mask's planes differ in matrix, pixel spacing or "
                "orientation, so they are no volume to resample",
            )
    frame = Grid((1, *first.shape), first.position, plane_steps(first))
    places = frame.index_of(
        np.array([item.plane.position for item in planes])
    )  # mm along the normal, rows, columns
    heights, level = heights_of(places[:, 0])
    masks, shifts = np.zeros((len(heights), *first.shape), bool), np.zeros((len(heights), 2))
    for k, place, item in zip(level, places, planes, strict=True):
        if masks[k].any() and np.abs(place[1:] - shifts[k]).max() > GRID_TOLERANCE:
            raise PatientError(
                Code.MASK_OFF_GRID,
                f"{item.name} lies beside another one of its height; export the mask again",
            )
        masks[k], shifts[k] = masks[k] | item.mask, place[1:]
    spans = plane_spans(heights, declared=planes[0].step_mm, alone=float(image.grid.spacing[0]))
    origins = frame.origin + np.column_stack([heights, shifts]) @ frame.steps
    beyond = require_inside(
        zip(masks, origins, np.diff(spans)[:, 0].tolist(), strict=True), frame.steps[1:], image.grid
    )
    frames = resample_planes(masks, spans, shifts, frame, image.grid)
    if not frames:
        raise PatientError(
            Code.MASK_EMPTY,
            "no voxel of the image lies in the lesion, which is smaller "
            "than one; use the mask that was drawn on it",
        )
    rows, columns = first.spacing
    ours = (
        f"{len(heights)} planes of {first.shape[0]} x {first.shape[1]}, "
        f"pixels of {rows:.2f} x {columns:.2f} mm"
    )
    return frames, resampled(ours, image.grid, beyond)


def resampled(mask: str, image: Grid, beyond: str) -> str:
    """Says that a mask was resampled.

    Args:
        mask: size and spacing of the mask, in words.
        image: the image's grid.
        beyond: what of the lesion was cut off, from `require_inside`.
    """
    cut = f"; {beyond} and was cut off" if beyond else ""
    return (
        f"the mask ({mask}) is not on the voxels of the image "
        f"({sized(image)}); it was resampled by nearest neighbour{cut}"
    )
