"""Contours on the image's grid: where they may lie, and what those of one plane enclose."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from renal_ray.imaging.geometry.grid import GRID_TOLERANCE, Grid
from renal_ray.imaging.geometry.spans import heights_of, plane_spans
from renal_ray.imaging.images.source import ImageSource, References
from renal_ray.imaging.masks.beyond import require_inside, side_of
from renal_ray.imaging.masks.placing import ANOTHER_SLICE
from renal_ray.imaging.masks.polygons import Enclosed, Outline, enclosed
from renal_ray.imaging.masks.rois import Contour
from renal_ray.problems import Code, PatientError

FURTHEST = 1e6  # slices from the image at which a coordinate is no place any more
SAME_PLANE = 0.19  # of a slice between planes that are one; less than a fifth, as 1 mm lies to 5 mm
APART = 2  # as far as its own height, at least, such a plane is from the next ones
MARGIN = 0.5  # of the image's edge: contours further out were not drawn on it


@dataclass(frozen=True)
class Placed:
    """A contour that encloses an area, on the image's grid.

    Args:
        contour: the contour.
        points: (n, 2), row and column in pixels.
        level: where it lies along the slices, in slices.
    """

    contour: Contour
    points: np.ndarray
    level: float


@dataclass(frozen=True)
class RoiPlanes:
    """The planes of an ROI.

    Args:
        levels: (n,) ascending, where they lie, in slices.
        areas: what the contours of each enclose.
    """

    levels: np.ndarray
    areas: list[Enclosed]


def placed(contour: Contour, grid: Grid) -> Placed:
    """Puts a contour on a grid.

    Args:
        contour: in mm.
        grid: the image's.

    Raises:
        PatientError: MASK_OFF_GRID where it lies far outside, or is not in the plane of a slice.
    """
    index = grid.index_of(contour.points)
    room = MARGIN * np.array(grid.shape[1:])
    outside = (index[:, 1:] < -room).any() or (index[:, 1:] > grid.shape[1:] + room).any()
    if outside or np.abs(index[:, 0]).max() > FURTHEST:
        raise PatientError(
            Code.MASK_OFF_GRID,
            "a contour of the RTSTRUCT lies far outside of the image; "
            "use the series that it was drawn on",
        )
    if np.ptp(index[:, 0]) > 2 * GRID_TOLERANCE:
        raise PatientError(
            Code.MASK_OFF_GRID,
            "a contour of the RTSTRUCT is not in the plane of a slice; "
            "use the series that it was drawn on",
        )
    return Placed(contour, index[:, 1:], float(index[:, 0].mean()))


def require_on_slices(
    contours: Sequence[Placed], references: References, image: ImageSource, *, resample: bool
) -> str:
    """Refuses contours that lie on no slice of the image.

    Args:
        contours: of the lesion.
        references: what the RTSTRUCT was drawn on.
        image: the image.
        resample: those between slices, beyond the ends or beside the pixels are let pass.

    Returns:
        What lies beyond the ends of the image, in words; empty where nothing does.

    Raises:
        PatientError: MASK_OFF_GRID.
    """
    count = image.grid.shape[0]
    for one in contours:
        named = image.slices_named(set(one.contour.sources))
        if named and np.abs(np.array(sorted(named)) - one.level).min() >= ANOTHER_SLICE:
            raise PatientError(
                Code.MASK_OFF_GRID,
                "a contour of the RTSTRUCT refers to one slice and "
                "lies on another; export it again",
            )
    inside = [one for one in contours if -0.5 <= one.level <= count - 0.5]
    between = [one for one in inside if abs(one.level - round(one.level)) > GRID_TOLERANCE]
    where = _missing(contours, between, references, image)
    if resample:
        return where
    if where:
        raise PatientError(Code.MASK_OFF_GRID, where)
    edges = np.array(image.grid.shape[1:]) - 0.5
    beside = [
        one
        for one in contours
        if (one.points.max(axis=0) < -0.5).any() or (one.points.min(axis=0) > edges).any()
    ]
    advice = "use the series that they were drawn on"
    if between:
        raise PatientError(
            Code.MASK_OFF_GRID,
            f"{_several(between, image.grid)} between the image's "
            f"slices; {advice}, or cohort.mask_resample",
        )
    if beside:
        raise PatientError(
            Code.MASK_OFF_GRID, f"{_several(beside, image.grid)} wholly beside the image; {advice}"
        )
    return ""


def _missing(
    contours: Sequence[Placed],
    between: Sequence[Placed],
    references: References,
    image: ImageSource,
) -> str:
    """Where slices are missing, in words: beyond the ends, or where contours name lost ones."""
    count = image.grid.shape[0]
    ends = _ends([one for one in contours if not -0.5 <= one.level <= count - 0.5], image.grid)
    known = {uid for one in contours for uid in one.contour.sources if image.slices_named({uid})}
    named = [one for one in between if one.contour.sources and not one.contour.sources & known]
    if known and named:
        ends.append(
            f"{_several(named, image.grid)} between its slices and name images that are not there"
        )
    where = " and ".join(ends)
    if where and (known or references.series & image.references.series):
        return (
            "slices are missing of the series that the RTSTRUCT was "
            f"drawn on: {where}; use the whole series"
        )
    if where:
        return (
            f"{where}: slices are missing there, or it is another series; use "
            "the whole series that the RTSTRUCT was drawn on"
        )
    return ""


def _ends(contours: Sequence[Placed], grid: Grid) -> list[str]:
    """How many contours lie beyond each end of the image, and how far."""
    found = []
    for way, edge in ((-1, 0), (1, grid.shape[0] - 1)):
        its = [one for one in contours if way * (one.level - edge) > 0]
        if its:
            furthest = max(way * (one.level - edge) for one in its) * grid.spacing[0]
            found.append(
                f"{_several(its, grid)} up to {furthest:.1f} mm beyond its last "
                f"slice towards the {side_of(way * grid.steps[0])}"
            )
    return found


def _several(contours: Sequence[Placed], grid: Grid) -> str:
    """How many contours, at how many heights."""
    levels = np.array([one.level for one in contours])
    count, heights = len(contours), len(heights_of(levels * grid.spacing[0])[0])
    contour, height = f"contour{'s' * (count > 1)}", f"height{'s' * (heights > 1)}"
    return f"{count} {contour} at {heights} {height} lie{'s' * (count == 1)}"


def planes_of(contours: Sequence[Placed], grid: Grid) -> RoiPlanes:
    """The planes of an ROI: contours of one height, but for rounding, are of one plane.

    So are heights much nearer to each other than the slices, and than to the next heights: a hole
    drawn a little beside its outline stays one, while dense planes stay apart.

    Args:
        contours: of one ROI, at least one.
        grid: the image's.
    """
    along = np.array([one.level for one in contours])
    heights, height = heights_of(along * grid.spacing[0])
    planes = _one_plane(heights / grid.spacing[0])
    plane = np.repeat(np.arange(len(planes)), [len(its) for its in planes])[height]
    outlines: list[list[Outline]] = [[] for _ in planes]
    for n, one in zip(plane, contours, strict=True):
        outlines[n].append(Outline(one.points, one.contour.toggles))
    return RoiPlanes(
        np.bincount(plane, along) / np.bincount(plane), [enclosed(its) for its in outlines]
    )


def _one_plane(levels: np.ndarray) -> list[np.ndarray]:
    """Which heights (n,), ascending and in slices, are one plane: places in `levels`, in order."""
    gaps = np.concatenate([[np.inf], np.diff(levels), [np.inf]])
    planes: list[np.ndarray] = []
    for run in np.split(np.arange(len(levels)), np.flatnonzero(gaps[1:-1] > SAME_PLANE) + 1):
        extent = np.ptp(levels[run])
        one = extent <= SAME_PLANE and min(gaps[run[0]], gaps[run[-1] + 1]) >= APART * extent
        planes += [run] if one else np.split(run, len(run))
    return planes


def require_within(rois: Sequence[RoiPlanes], grid: Grid, ends: str) -> str:
    """Refuses a lesion of which more than 1 % lies outside of the image.

    Args:
        rois: its planes.
        grid: the image's.
        ends: what lies beyond the ends of the image, in words.

    Returns:
        What share lies outside, in words; empty where nothing does.

    Raises:
        PatientError: MASK_BEYOND_IMAGE.
    """
    planes, step = [], float(grid.spacing[0])
    for roi in rois:
        thickness = np.diff(plane_spans(roi.levels * step, declared=step, alone=step))[:, 0]
        for level, area, thick in zip(roi.levels, roi.areas, thickness.tolist(), strict=True):
            planes.append(
                (area.mask, grid.origin + np.array([level, *area.corner]) @ grid.steps, thick)
            )
    try:
        return require_inside(planes, grid.steps[1:], grid)
    except PatientError as error:
        raise PatientError(
            error.code, f"{error.message} ({ends})" if ends else error.message
        ) from None


def paste(area: Enclosed, frame: np.ndarray) -> None:
    """Adds what contours enclose to a slice; what lies outside of it is cut off.

    Args:
        area: of one plane.
        frame: bool (rows, cols), the slice; changed.
    """
    start = np.maximum(area.corner, 0)
    stop = np.minimum(np.array(area.corner) + area.mask.shape, frame.shape)
    if (start < stop).all():
        own = [
            slice(low - first, high - first)
            for low, high, first in zip(start, stop, area.corner, strict=True)
        ]
        frame[start[0] : stop[0], start[1] : stop[1]] |= area.mask[own[0], own[1]]
