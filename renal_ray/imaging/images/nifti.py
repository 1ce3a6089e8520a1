"""NIfTI images and label maps, stored in any axis order, brought to the standard axial display."""

import zlib
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.volumeutils import apply_read_scaling

from renal_ray.imaging.geometry.grid import Grid, Turn, turn_to_axial
from renal_ray.imaging.images.source import References, compact_hu
from renal_ray.problems import Code, PatientError

RAS_TO_LPS = np.array([-1.0, -1.0, 1.0])
NIFTI_FAULTS = (ImageFileError, HeaderDataError, ArithmeticError, EOFError, MemoryError, OSError, ValueError, IndexError, TypeError, zlib.error)
MAX_PIXEL_ASPECT = 2.0
LEAST_LABEL = -100  # label maps may use a few negative values for what is not labelled; air and fat lie below


@dataclass(frozen=True)
class NiftiVolume:
    """A NIfTI volume whose geometry is verified and whose voxels are still on disk; an ImageSource when it is an image.

    Args:
        grid: in the standard axial display.
        turn: from the stored axes to it.
        stored: nibabel's array on disk; slope and intercept are applied when it is sliced.
    """

    grid: Grid
    turn: Turn
    stored: Any

    @property
    def references(self) -> References:
        """A NIfTI file knows no series."""
        return References()

    def slices_named(self, sop_uids: set[str]) -> set[int]:
        """A NIfTI file does not know which DICOM objects it came from."""
        return set()

    def read(self, slices: np.ndarray) -> np.ndarray:
        """Attenuation of some slices, int16 or float32 (n, rows, cols) in HU."""
        return np.ascontiguousarray(compact_hu(self.values(slices)))

    def values(self, slices: np.ndarray) -> np.ndarray:
        """Scaled values of some slices (n, rows, cols), in whichever type the file gives."""
        count = self.grid.shape[0]
        places = count - 1 - slices if self.turn.flips[0] else slices
        low, high = int(places.min()), int(places.max()) + 1
        in_place = Turn(self.turn.axes, (False, *self.turn.flips[1:]))
        return in_place.apply(self._block(low, high))[places - low]

    def labelled(self, labels: list[int]) -> tuple[np.ndarray, np.ndarray, list[int]]:
        """Where a label map holds any of some labels.

        Args:
            labels: values that count; the map's own are rounded first, for label maps are often saved as floating point.

        Returns:
            Slices that hold any, ascending; their masks, bool (n, rows, cols); and when there is none the first ten values that the map holds.

        Raises:
            PatientError: FILE_TRUNCATED, or MASK_UNSUPPORTED when the values are those of an image.
        """
        stored = self._block(0, self.grid.shape[0])
        if not np.issubdtype(stored.dtype, np.integer):
            stored = np.rint(np.nan_to_num(stored)).astype(np.int32)
        if stored.dtype.kind == "i" and stored.min() < LEAST_LABEL:
            raise PatientError(Code.MASK_UNSUPPORTED, f"the mask holds values down to {stored.min()}, as a CT image does; name the label map as the mask")
        mask = reduce(np.logical_or, (stored == label for label in labels))  # several times faster than a set test
        in_plane = tuple(axis for axis in range(3) if axis != self.turn.axes[0])
        hit = mask.any(axis=in_plane)
        present = [] if hit.any() else np.unique(stored)[:10].tolist()
        slices = np.flatnonzero(hit[::-1] if self.turn.flips[0] else hit)
        return slices, self.turn.apply(mask)[slices], present

    def _block(self, low: int, high: int) -> np.ndarray:
        """Scaled values in the stored axes, from one place to another along the slice axis."""
        try:  # an uncompressed file is mapped, so that only the slices' pages are read; a compressed one has to be unpacked to its end
            whole = self.stored.get_unscaled().reshape(self.stored.shape[:3], order="F")
            return apply_read_scaling(whole[(slice(None),) * self.turn.axes[0] + (slice(low, high),)], self.stored.slope, self.stored.inter)
        except NIFTI_FAULTS:
            raise PatientError(Code.FILE_TRUNCATED, "the NIfTI file ends before its voxels do, or is damaged; copy it again") from None


def open_nifti(path: Path) -> NiftiVolume:
    """Reads the header of a NIfTI file and verifies its geometry.

    Args:
        path: .nii or .nii.gz file with one volume; trailing axes of length one are allowed.

    Returns:
        The volume in the standard axial display.

    Raises:
        PatientError: FILE_UNREADABLE, NO_POSITION when the header has no orientation, TILT, NOT_AXIAL.
    """
    try:
        image = nib.load(path)
        shape, affine, header = image.shape, np.asarray(image.affine, float), image.header
        known = int(header["sform_code"]) > 0 or int(header["qform_code"]) > 0
    except (*NIFTI_FAULTS, KeyError):
        raise PatientError(Code.FILE_UNREADABLE, "not readable as NIfTI; give a .nii or .nii.gz file") from None
    if len(shape) < 3 or any(n != 1 for n in shape[3:]) or 0 in shape or image.get_data_dtype().kind not in "iuf":
        raise PatientError(Code.FILE_UNREADABLE, f"a NIfTI file of shape {shape} and type {image.get_data_dtype()} is no volume of numbers; give one image")
    steps = affine[:3, :3].T * RAS_TO_LPS
    if not known or not np.isfinite(affine).all() or abs(np.linalg.det(steps)) < 1e-9:
        raise PatientError(Code.NO_POSITION, "the NIfTI header has no orientation (sform and qform are unset or empty); convert the series again")
    grid = Grid((shape[0], shape[1], shape[2]), affine[:3, 3] * RAS_TO_LPS, steps)
    turn = turn_to_axial(grid)
    axial = turn.grid(grid)
    _require_axial_stack(axial)
    return NiftiVolume(axial, turn, image.dataobj)


def _require_axial_stack(axial: Grid) -> None:
    """A NIfTI file names no slice axis; pixels that are long in the axial plane and fine along the patient betray another plane."""
    slices, rows, columns = axial.spacing
    if max(rows, columns) > MAX_PIXEL_ASPECT * min(rows, columns) and slices <= 1.01 * min(rows, columns):
        raise PatientError(Code.NOT_AXIAL, f"the volume is a coronal or sagittal stack (axial pixels of {rows:.2f} x {columns:.2f} mm); use the axial series")
