"""Slices to a volume: order and spacing from positions alone, and every reason to refuse a
stack."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from renal_ray.imaging.geometry.grid import MAX_SHEAR, Grid
from renal_ray.problems import Code, PatientError

SAME_DIRECTION = 2e-3  # between direction cosines of one series: about 0.1 degrees
SAME_SPACING = 1e-3  # relative, between the pixel spacings of one series
UNIFORM = 0.05  # relative, between the distances of neighbouring slices
ROUNDING_MM = 0.11  # positions are often rounded to 0.1 mm; up to a quarter of the distance
DUPLICATE_MM = 0.01
DRIFT_MM = (
    0.2  # sideways shift between slices that rounding explains, and the slope of 0.3 degrees beyond
)
DRIFT_SLOPE = 0.005
MOST_HOLES = 3  # told in a message


@dataclass(frozen=True)
class Plane:
    """Where one slice lies.

    Args:
        position: (3,) centre of the first pixel in mm, LPS.
        orientation: (6,) direction of a row, then of a column.
        spacing: distance between rows and between columns in mm.
        shape: rows, columns.
    """

    position: np.ndarray
    orientation: np.ndarray
    spacing: tuple[float, float]
    shape: tuple[int, int]


def plane_steps(plane: Plane) -> np.ndarray:
    """(3, 3): the unit normal, the step from row to row and the step from column to column, in
    mm."""
    along_row, along_column = plane.orientation[:3], plane.orientation[3:]
    return np.stack(
        [
            np.cross(along_row, along_column),
            along_column * plane.spacing[0],
            along_row * plane.spacing[1],
        ]
    )


def stack(planes: Sequence[Plane]) -> tuple[np.ndarray, Grid]:
    """Orders slices by their position along the normal and verifies that they are a volume.

    Spacing comes from the positions; SliceThickness says how thick a slice is, not where the next
    one lies.

    Args:
        planes: the slices in any order.

    Returns:
        The order, int (n,), along the normal (row direction x column direction), and the grid in
        that order, sheared where the gantry was tilted; the step of a single slice is 1 mm.

    Raises:
        PatientError: MIXED_ORIENTATION, MIXED_GRID, DUPLICATE_POSITION, MISSING_SLICE or
            NON_UNIFORM_SPACING.
    """
    first = planes[0]
    _same_grid(planes)
    normal, row_step, column_step = plane_steps(first)
    positions = np.array([plane.position for plane in planes])
    along = positions @ normal
    order = np.argsort(along, kind="stable")
    along, positions = along[order], positions[order]
    gaps = np.diff(along)
    if len(gaps) and gaps.min() < DUPLICATE_MM:
        raise PatientError(
            Code.DUPLICATE_POSITION,
            f"{int((gaps < DUPLICATE_MM).sum())} of {len(planes)} slices lie where "
            "another one lies; keep one phase and one copy of the series",
        )
    _one_volume(positions, along, normal)
    _uniform(gaps, positions, along)
    step = _step(positions, along, normal)
    return order, Grid(
        (len(planes), *first.shape), positions[0], np.stack([step, row_step, column_step])
    )


def _same_grid(planes: Sequence[Plane]) -> None:
    first = planes[0]
    orientations = np.array([plane.orientation for plane in planes])
    if np.abs(orientations - first.orientation).max() > SAME_DIRECTION:
        raise PatientError(
            Code.MIXED_ORIENTATION,
            "the slices of the series have different orientations; keep the axial ones alone",
        )
    spacings = np.array([plane.spacing for plane in planes])
    if len({plane.shape for plane in planes}) > 1 or not np.allclose(
        spacings, first.spacing, rtol=SAME_SPACING, atol=0
    ):
        raise PatientError(
            Code.MIXED_GRID,
            "the slices of the series differ in matrix or pixel spacing; keep one reconstruction",
        )


def _shifted(positions: np.ndarray, along: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Which slices are shifted sideways by more than rounding explains."""
    distance = along - along[0]
    sideways = positions - positions[0] - distance[:, None] * normal
    return np.asarray(np.linalg.norm(sideways, axis=1) > DRIFT_MM + DRIFT_SLOPE * distance)


def _one_volume(positions: np.ndarray, along: np.ndarray, normal: np.ndarray) -> None:
    """Refuses slices that are shifted sideways against each other, unless all by the same step:
    then the gantry was tilted, and the grid shows it."""
    if not _shifted(positions, along, normal).any():
        return
    line = (positions[-1] - positions[0]) / (along[-1] - along[0])
    off = np.linalg.norm(positions - positions[0] - (along - along[0])[:, None] * line, axis=1)
    if (off > DRIFT_MM + DRIFT_SLOPE * (along - along[0])).any():
        raise PatientError(
            Code.MIXED_GRID,
            "the slices are shifted sideways against each other, not all "
            "by the same step; keep one reconstruction",
        )


def _step(positions: np.ndarray, along: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """(3,) from slice to slice: as the positions run, but along the normal where they leave it by
    no more than rounding explains."""
    if len(positions) == 1:
        return normal
    line: np.ndarray = (positions[-1] - positions[0]) / (len(positions) - 1)
    upright: np.ndarray = normal * (along[-1] - along[0]) / (len(positions) - 1)
    leans = np.linalg.norm(line - upright) > MAX_SHEAR * np.linalg.norm(line)
    return upright if leans and not _shifted(positions, along, normal).any() else line


def _uniform(gaps: np.ndarray, positions: np.ndarray, along: np.ndarray) -> None:
    """Refuses gaps between neighbouring slices that differ; wide ones that are multiples of the
    usual gap are missing slices."""
    if not len(gaps):
        return
    usual = np.sort(gaps)[(len(gaps) - 1) // 2]
    ratio = gaps / usual
    allowed = max(UNIFORM, min(ROUNDING_MM / usual, 0.25))
    if np.abs(ratio - 1).max() <= allowed:
        return
    wide = (ratio > 1.5) & ((np.abs(ratio - np.rint(ratio)) <= 2 * allowed) | (ratio >= 3))
    if (wide | (np.abs(ratio - 1) <= allowed)).all():
        missing = int(np.rint(ratio[wide] - 1).sum())
        raise PatientError(
            Code.MISSING_SLICE,
            f"about {missing} slice{'s are' if missing > 1 else ' is'} "
            f"missing from the series ({usual:.2f} mm apart): "
            f"{_holes(wide, positions, along)}; export it again, complete",
        )
    raise PatientError(
        Code.NON_UNIFORM_SPACING,
        f"neighbouring slices are between {gaps.min():.2f} and "
        f"{gaps.max():.2f} mm apart; use a series with one spacing",
    )


def _holes(wide: np.ndarray, positions: np.ndarray, along: np.ndarray) -> str:
    """Where slices are missing, from the head down where the slices have a head side."""
    upright = abs(positions[-1, 2] - positions[0, 2]) > 0.7 * (along[-1] - along[0])
    places = positions[:, 2] if upright else along
    before = np.flatnonzero(wide)
    steps = [(k + 1, places[k], places[k + 1]) for k in before]
    if upright and places[-1] > places[0]:
        steps = [(len(places) - 1 - k, places[k + 1], places[k]) for k in before[::-1]]
    axis = "z" if upright else "the slices' normal"
    shown = [
        f"after slice {n} of {len(places)} (between {one:.2f} and {other:.2f} mm along {axis})"
        for n, one, other in steps[:MOST_HOLES]
    ]
    return ", ".join(shown) + (" and elsewhere" if len(steps) > MOST_HOLES else "")
