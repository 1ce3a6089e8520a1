"""Volume files: NIfTI, NRRD and MetaImage, as images and as label maps."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from renal_ray.config import Cohort
from renal_ray.imaging.geometry.grid import Grid, Turn, nearest_turn, turn_to_axial
from renal_ray.imaging.images.source import References, require_ct_range, sized
from renal_ray.imaging.images.voxels import Voxels
from renal_ray.problems import Code, Finding, PatientError

NIFTI_ENDINGS = (".nii", ".nii.gz")
ITK_ENDINGS = (".nrrd", ".nhdr", ".mha", ".mhd")
MAX_PIXEL_ASPECT = 2.0


@dataclass(frozen=True)
class VolumeImage:
    """A volume file as a CT image; an ImageSource.

    Args:
        grid: in the standard axial display, or as near to it as a turn brings it.
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
        """Attenuation of some slices, int16 or float32 (n, rows, cols) in HU.

        Raises:
            PatientError: HU_OUT_OF_RANGE, FILE_TRUNCATED or FILE_UNREADABLE.
        """
        flipped = self.turn.flips[0]
        places = self.grid.shape[0] - 1 - slices[::-1] if flipped else slices
        hu = self.voxels.take(self.turn.axes[0], places)
        require_ct_range(hu)
        return np.ascontiguousarray(self.turn.apply(hu))


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
    if turn is not None and _axial(turn.grid(voxels.grid), cohort):
        return VolumeImage(turn.grid(voxels.grid), voxels, turn, straight=True)
    turn = nearest_turn(voxels.grid)  # so that a straight slice needs few of its slices
    return VolumeImage(turn.grid(voxels.grid), voxels, turn, straight=False)


def _axial(grid: Grid, cohort: Cohort) -> bool:
    """Whether the slices were acquired as axial ones: a volume file names no slice axis, but pixels
    that are long in the axial plane and fine along
    the patient betray another plane.

    Raises:
        PatientError: NOT_AXIAL where that is to be refused.
    """
    slices, rows, columns = grid.spacing
    if max(rows, columns) <= MAX_PIXEL_ASPECT * min(rows, columns) or slices > 1.01 * min(
        rows, columns
    ):
        return True
    if cohort.oblique == "resample":
        return False
    raise PatientError(
        Code.NOT_AXIAL,
        f"the volume is a coronal or sagittal stack (axial pixels of {rows:.2f} x "
        f"{columns:.2f} mm); use the axial series, or set cohort.oblique: resample",
    )
