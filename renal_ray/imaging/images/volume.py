"""Volume files: NIfTI, NRRD and MetaImage, as images and as label maps."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from renal_ray.config import Cohort
from renal_ray.imaging.geometry.grid import AS_STORED, Grid, Turn, turn_to_axial
from renal_ray.imaging.images.source import References, compact_hu, sized
from renal_ray.problems import Code, Finding, PatientError

NIFTI_ENDINGS = (".nii", ".nii.gz")
ITK_ENDINGS = (".nrrd", ".nhdr", ".mha", ".mhd")
MAX_PIXEL_ASPECT = 2.0


class Voxels(Protocol):
    """The voxels of a file, still on disk, in the axes in which they are stored."""

    @property
    def grid(self) -> Grid:
        """The grid as stored."""
        ...

    @property
    def kind(self) -> str:
        """What kind of file it is."""
        ...

    def take(self, axis: int, places: np.ndarray) -> np.ndarray:
        """Scaled values at ascending places along one axis, the others whole."""
        ...

    def hits(self, axis: int, labels: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """Places along an axis where any rounded value is one of the labels, ascending, and there where: bool, the others whole."""
        ...

    def values(self) -> list[int]:
        """Up to ten of the rounded values that it holds."""
        ...


@dataclass(frozen=True)
class VolumeImage:
    """A volume file as a CT image; an ImageSource.

    Args:
        grid: in the standard axial display, or as stored where it is not straight.
        voxels: the file.
        turn: from the stored axes to the grid's.
        straight: False for a tilted or oblique volume.
    """

    grid: Grid
    voxels: Voxels
    turn: Turn
    straight: bool
    findings: tuple[Finding, ...] = ()

    @property
    def references(self) -> References:
        """A volume file knows no series."""
        return References()

    @property
    def facts(self) -> str:
        """Kind of file, slices, matrix and spacing."""
        return f"{self.voxels.kind} of {sized(self.grid)}"

    def slices_named(self, sop_uids: set[str]) -> set[int]:
        """A volume file does not know which DICOM objects it came from."""
        return set()

    def read(self, slices: np.ndarray) -> np.ndarray:
        """Attenuation of some slices, int16 or float32 (n, rows, cols) in HU."""
        flipped = self.turn.flips[0]
        places = self.grid.shape[0] - 1 - slices[::-1] if flipped else slices
        return np.ascontiguousarray(compact_hu(self.turn.apply(self.voxels.take(self.turn.axes[0], places))))


def is_volume(path: Path) -> bool:
    """Whether a file is a volume file by its name."""
    return path.name.lower().endswith(NIFTI_ENDINGS + ITK_ENDINGS)


def open_voxels(path: Path) -> Voxels:
    """Reads the header of a volume file and checks what it declares.

    Args:
        path: .nii, .nii.gz, .nrrd, .nhdr, .mha or .mhd.

    Raises:
        PatientError: FILE_UNREADABLE, TOO_LARGE, FILE_TRUNCATED, NO_POSITION or PATH_OUTSIDE.
    """
    if path.name.lower().endswith(ITK_ENDINGS):
        from renal_ray.imaging.images.itk import open_itk

        return open_itk(path)
    from renal_ray.imaging.images.nifti import open_nifti

    return open_nifti(path)


def open_volume_image(path: Path, cohort: Cohort) -> VolumeImage:
    """Opens a volume file as an image and verifies its geometry.

    Args:
        path: the file.
        cohort: what to do with tilted and oblique volumes.

    Raises:
        PatientError: as `open_voxels`, TILT, NOT_AXIAL.
    """
    voxels = open_voxels(path)
    turn = turn_to_axial(voxels.grid, tilt=cohort.tilt, oblique=cohort.oblique)
    if turn is None:
        return VolumeImage(voxels.grid, voxels, AS_STORED, straight=False)
    axial = turn.grid(voxels.grid)
    _require_axial_stack(axial)
    return VolumeImage(axial, voxels, turn, straight=True)


def _require_axial_stack(axial: Grid) -> None:
    """A volume file names no slice axis; pixels that are long in the axial plane and fine along the patient betray another plane."""
    slices, rows, columns = axial.spacing
    if max(rows, columns) > MAX_PIXEL_ASPECT * min(rows, columns) and slices <= 1.01 * min(rows, columns):
        raise PatientError(Code.NOT_AXIAL, f"the volume is a coronal or sagittal stack (axial pixels of {rows:.2f} x {columns:.2f} mm); use the axial series")
