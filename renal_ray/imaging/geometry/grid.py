"""A patient's kept slices, and the voxel grid in patient coordinates that every image and mask is
brought to."""

from dataclasses import dataclass, replace
from itertools import permutations, product
from typing import Literal, Self

import numpy as np

from renal_ray.problems import Code, Finding, PatientError

MAX_OBLIQUITY = np.cos(
    np.deg2rad(5.0)
)  # an axis further than this from its patient axis is not axial
MAX_SHEAR = 0.005  # cosine allowed between two grid axes: 0.3 degrees
GRID_TOLERANCE = 0.2  # of a voxel, in every axis, between a mask's grid and the image's
AXIAL_DISPLAY = np.array(
    [[0, 0, -1], [0, 1, 0], [1, 0, 0]], float
)  # slices to the feet, rows to the back, columns to the left, in LPS

Policy = Literal["refuse", "resample"]


@dataclass(frozen=True)
class LesionExtent:
    """How large one of a patient's separate lesions is, and where.

    Slices are numbered as in `PatientSlices.slice_index`.

    Args:
        max_diameter_mm: largest in-plane Feret diameter.
        volume_mm3: volume.
        first: its uppermost slice.
        last: its lowest slice.
        largest: the slice with its largest area; of several, the uppermost.
    """

    max_diameter_mm: float
    volume_mm3: float
    first: int
    last: int
    largest: int


@dataclass(frozen=True)
class PatientSlices:
    """The kept axial slices of one patient in the standard axial display: rows anterior to
    posterior, columns patient right to left.

    Args:
        slice_index: int32 (n,), place in the whole series ordered head to foot; 0 is the most
            superior.
        position_mm: float32 (n,), position along the slice normal in patient coordinates, superior
            positive.
        lesion_area_mm2: float32 (n,), area of all lesions in the slice.
        hu: int16 or float32 (n, rows, cols), attenuation in HU.
        mask: bool (n, rows, cols), every lesion; `shown` is what roi, rbr and measurements are of.
        spacing_mm: distance between rows and between columns.
        n_slices_total: slices of the whole series.
        max_diameter_mm: largest in-plane Feret diameter of the largest lesion - of all together
            where they are shown so -, over all of its slices, kept or not.
        image_facts: what the image is, one sentence for a person: kind of file, slices, matrix,
            spacing, codec.
        mask_facts: what the mask is, one sentence.
        findings: what is to be reported of the patient.
        fingerprint: digests of the HU of some slices: two patients who share one have the same
            image.
        lesions: every separate lesion of the patient, shown or not, the largest volume first.
        largest: bool (n, rows, cols), in each slice the largest of the lesions that it has; None
            where the whole mask is (`config.Selection.lesions`).
    """

    slice_index: np.ndarray
    position_mm: np.ndarray
    lesion_area_mm2: np.ndarray
    hu: np.ndarray
    mask: np.ndarray
    spacing_mm: tuple[float, float]
    n_slices_total: int
    max_diameter_mm: float
    image_facts: str = ""
    mask_facts: str = ""
    findings: tuple[Finding, ...] = ()
    fingerprint: frozenset[str] = frozenset()
    lesions: tuple[LesionExtent, ...] = ()
    largest: np.ndarray | None = None

    @property
    def shown(self) -> np.ndarray:
        """The lesion that roi and rbr show, bool (n, rows, cols), not empty in any slice."""
        return self.mask if self.largest is None else self.largest

    def take(self, rows: np.ndarray | list[int]) -> Self:
        """The same patient with some of the kept slices only.

        Args:
            rows: int (k,), places among the kept slices, ascending.
        """
        per_slice = [
            "slice_index",
            "position_mm",
            "lesion_area_mm2",
            "hu",
            "mask",
            *(["largest"] if self.largest is not None else []),
        ]
        return replace(self, **{name: getattr(self, name)[rows] for name in per_slice})


@dataclass(frozen=True)
class Grid:
    """A regular voxel grid in patient coordinates.

    Args:
        shape: slices, rows, columns.
        origin: (3,) centre of voxel (0, 0, 0) in mm, DICOM's axes: x to the left, y to the back, z
            to the head (LPS).
        steps: (3, 3), row i is the step along array axis i in mm.
    """

    shape: tuple[int, int, int]
    origin: np.ndarray
    steps: np.ndarray

    @property
    def spacing(self) -> np.ndarray:
        """(3,) distance between slices, rows and columns in mm."""
        return np.asarray(np.linalg.norm(self.steps, axis=1))

    def position_mm(self) -> np.ndarray:
        """(slices,) position of each slice along the normal that points to the head, in mm."""
        up = -self.steps[0] / self.spacing[0]
        origins = self.origin + np.arange(self.shape[0])[:, None] * self.steps[0]
        return np.asarray(origins @ up)

    def index_of(self, points: np.ndarray) -> np.ndarray:
        """Array indices, with fractions, of points (..., 3) in patient coordinates."""
        return np.asarray((points - self.origin) @ np.linalg.inv(self.steps))

    def corners(self) -> tuple[np.ndarray, np.ndarray]:
        """The eight corner voxels: their indices (8, 3) and the patient coordinates (8, 3) of their
        centres."""
        index = np.array(list(product(*((0, n - 1) for n in self.shape))), float)
        return index, self.origin + index @ self.steps

    def matches(self, other: "Grid") -> bool:
        """Whether another grid has the same voxels, to within a fifth of a voxel."""
        if self.shape != other.shape:
            return False
        index, points = other.corners()
        return bool(np.abs(self.index_of(points) - index).max() <= GRID_TOLERANCE)


@dataclass(frozen=True)
class Turn:
    """How a stored array is brought to the standard axial display: axes permuted, then flipped.

    Args:
        axes: stored axis that becomes slices, rows, columns.
        flips: whether that axis then runs backwards.
    """

    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]

    def apply(self, stored: np.ndarray) -> np.ndarray:
        """The array in the standard axial display; a view."""
        return stored.transpose(self.axes)[
            tuple(slice(None, None, -1 if flip else None) for flip in self.flips)
        ]

    def grid(self, stored: Grid) -> Grid:
        """The grid of the turned array."""
        shape = [stored.shape[axis] for axis in self.axes]
        steps = stored.steps[list(self.axes)]
        flips = np.array(self.flips)
        origin = stored.origin + (flips * (np.array(shape) - 1)) @ steps
        return Grid((shape[0], shape[1], shape[2]), origin, np.where(flips[:, None], -steps, steps))


AS_STORED = Turn((0, 1, 2), (False, False, False))


def turn_to_axial(
    grid: Grid, *, tilt: Policy = "refuse", oblique: Policy = "refuse"
) -> Turn | None:
    """Finds the turn from a stored grid to the standard axial display.

    Args:
        grid: the grid as stored, its axes in any order and direction.
        tilt: what to do where the axes are not at right angles.
        oblique: what to do where they are more than 5 degrees off the patient's.

    Returns:
        The turn; slices head to foot, rows anterior to posterior, columns patient right to left.
        None where the volume is to be resampled.

    Raises:
        PatientError: TILT or NOT_AXIAL where that is to be refused.
    """
    cosines = AXIAL_DISPLAY @ (grid.steps / grid.spacing[:, None]).T
    turn = nearest_turn(grid)
    near = np.abs(cosines[np.arange(3), turn.axes]) >= MAX_OBLIQUITY
    lean = _lean(grid)
    if lean > MAX_SHEAR and tilt == "refuse":
        angle = np.rad2deg(np.arcsin(lean))
        raise PatientError(
            Code.TILT,
            f"the slices are shifted against their normal by {angle:.1f} degrees "
            "(gantry tilt); set cohort.tilt: resample, or leave out",
        )
    if near.sum() < (
        2 if lean > MAX_SHEAR else 3
    ):  # a leaning gantry takes one axis with it: the columns, or the way of the table against them
        if oblique == "refuse":
            raise PatientError(
                Code.NOT_AXIAL,
                "the slices are oblique to the patient's axes by more than 5 degrees; "
                "use axial slices, or set cohort.oblique: resample",
            )
        if min(grid.shape) == 1:
            raise PatientError(
                Code.NOT_AXIAL,
                "a single oblique slice is no volume that axial slices could "
                "be resampled from; use the whole series",
            )
        return None
    return turn if lean <= MAX_SHEAR else None


def nearest_turn(grid: Grid) -> Turn:
    """The turn that brings each axis of a grid to the display axis nearest to it, each to one of
    its own, however oblique they are."""
    cosines = AXIAL_DISPLAY @ (grid.steps / grid.spacing[:, None]).T
    axes = max(
        permutations(range(3)), key=lambda axes: float(np.abs(cosines[np.arange(3), axes]).sum())
    )
    return _turn(np.array(axes), cosines[np.arange(3), axes])


def _lean(grid: Grid) -> float:
    """Sine of the largest angle between an axis and the normal of the other two: 0 for axes at
    right angles."""
    units = grid.steps / grid.spacing[:, None]
    normals = np.cross(units[[1, 2, 0]], units[[2, 0, 1]])
    height = np.abs(np.sum(units * normals, axis=1) / np.linalg.norm(normals, axis=1))
    return float(np.sqrt(max(0.0, 1 - height.min() ** 2)))


def turn_onto(grid: Grid, target: Grid) -> Turn:
    """Finds the turn that brings a grid's axes nearest to another's.

    Args:
        grid: as stored.
        target: whose axes are wanted.

    Raises:
        PatientError: MASK_OFF_GRID when their axes do not correspond one to one.
    """
    cosines = (target.steps / target.spacing[:, None]) @ (grid.steps / grid.spacing[:, None]).T
    axes = np.abs(cosines).argmax(axis=1)
    if len(set(axes)) < 3:
        raise PatientError(
            Code.MASK_OFF_GRID,
            "the mask's axes are oblique to the image's; use the mask that was drawn on this image",
        )
    return _turn(axes, cosines[np.arange(3), axes])


def _turn(axes: np.ndarray, along: np.ndarray) -> Turn:
    return Turn(
        (int(axes[0]), int(axes[1]), int(axes[2])),
        (bool(along[0] < 0), bool(along[1] < 0), bool(along[2] < 0)),
    )
