"""NIfTI headers: where the voxels are, of what kind, and where they lie in the patient."""

from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from renal_ray.dicom.files import PACKED_MESSAGE, begins_packed
from renal_ray.imaging.geometry.grid import Grid
from renal_ray.imaging.images.sizes import misplaced, require_placed, require_sane
from renal_ray.imaging.images.streams import GZIP_MAGIC, UNPACKING_FAULTS, Deflated
from renal_ray.imaging.images.voxels import Voxels
from renal_ray.problems import Code, PatientError

RAS_TO_LPS = np.array([-1.0, -1.0, 1.0])
HEADER_FAULTS = (
    *UNPACKING_FAULTS,
    HeaderDataError,
    WrapStructError,
    ArithmeticError,
    EOFError,
    LookupError,
    TypeError,
)
HEADER_BYTES = {348: nib.Nifti1Header, 540: nib.Nifti2Header}
MM = {
    "mm": 1.0,
    "unknown": 1.0,
    "meter": 1000.0,
    "micron": 0.001,
}  # no unit means mm, in which every CT program writes
MOST_EXTENSIONS = 64 << 20  # bytes between header and voxels
ONE_PLACE = 0.5  # of a voxel, between sform and qform
LONGEST = 1 + 1e-5  # a quaternion that rounding made longer than 1


def open_nifti(path: Path) -> Voxels:
    """Reads the header of a NIfTI file and checks what it declares.

    The sform goes before the qform where both are set, as in nibabel; where they disagree by more
    than half a voxel the file is refused. A qform that gives no place says nothing beside a sform.

    Args:
        path: .nii or .nii.gz file, NIfTI-1 or NIfTI-2, with one volume; trailing axes of length one
            are allowed.

    Returns:
        Its voxels, still on disk.

    Raises:
        PatientError: FILE_UNREADABLE, NO_POSITION when the header has no orientation or two,
            TOO_LARGE, FILE_TRUNCATED.
    """
    start, packed = b"", False
    try:
        start, packed = _start(path)
        second = 540 in (int.from_bytes(start[:4], order) for order in ("little", "big"))
        length = 540 if second else 348
        header = HEADER_BYTES[length](start[:length], check=False)
        sized = bool((header["pixdim"][1:4] > 0).all())
        header.check_fix()  # takes the sign from a negative size, and 0 mm for 1 mm
        shape, dtype, offset = (
            header.get_data_shape(),
            header.get_data_dtype(),
            int(header.get_data_offset()),
        )
        slope, intercept = (float(header[name]) for name in ("scl_slope", "scl_inter"))
        forms = {
            "sform": header.get_sform(coded=True)[0],
            "qform": _qform(header) if sized else None,
        }
        unit = MM[header.get_xyzt_units()[0]]
        single = bytes(header["magic"].tobytes())[:2] == b"n+"
    except HEADER_FAULTS:
        what = (
            f"the NIfTI file {PACKED_MESSAGE}"
            if begins_packed(start)
            else "not readable as NIfTI; give a .nii or .nii.gz file"
        )
        raise PatientError(Code.FILE_UNREADABLE, what) from None
    if (
        not single
        or len(shape) < 3
        or any(n != 1 for n in shape[3:])
        or min(shape) < 1
        or dtype.kind not in "iuf"
        or dtype.itemsize > 8
    ):
        raise PatientError(
            Code.FILE_UNREADABLE,
            f"a NIfTI file of {' x '.join(map(str, shape[::-1]))} voxels of type {dtype} "
            "is no volume of numbers; give one image in one file",
        )
    shape = (int(shape[0]), int(shape[1]), int(shape[2]))
    if not length <= offset <= MOST_EXTENSIONS:
        raise PatientError(
            Code.FILE_UNREADABLE,
            "the NIfTI header says that the voxels begin inside it or "
            "far behind; convert the series again",
        )
    size = path.stat().st_size
    require_sane(shape, dtype.itemsize, size if packed else size - offset, compressed=packed)
    before = (0, offset) if packed else (offset, 0)
    slope, intercept = _scaling(slope, intercept)
    return Voxels(
        path,
        _grid(shape, forms, unit, told=bool(header["qform_code"])),
        dtype,
        "NIfTI volume",
        *before,
        "deflated" if packed else "raw",
        slope,
        intercept,
    )


def _start(path: Path) -> tuple[bytes, bool]:
    """The bytes of the header, and whether the file is compressed: by what is in it, for many a
    .nii.gz is not, and the reverse."""
    with path.open("rb") as file:
        packed = file.read(2) == GZIP_MAGIC
        file.seek(0)
        return Deflated(file).read_up_to(540) if packed else file.read(540), packed


def _scaling(slope: float, intercept: float) -> tuple[float, float]:
    """Slope and intercept; a slope of 0 means that there is none (NIfTI-1, scl_slope), and so does
    one that is not a number (as SPM writes it).

    Raises:
        PatientError: NO_RESCALE where there is a slope and the intercept is not a number.
    """
    if not np.isfinite(slope) or slope == 0:
        return 1.0, 0.0
    if not np.isfinite(intercept):
        raise PatientError(
            Code.NO_RESCALE,
            "the NIfTI header has a slope (scl_slope) and no intercept "
            "(scl_inter), so the HU are unknown; convert it again",
        )
    return slope, intercept


def _qform(header: nib.Nifti1Header) -> np.ndarray | None:
    """The qform, float (4, 4), as nibabel reads it; its quaternion brought back to 1 where rounding
    made it longer. None where it is none, or is not set."""
    fields = ("quatern_b", "quatern_c", "quatern_d")
    length = float(np.linalg.norm([float(header[name]) for name in fields]))
    if length > LONGEST:
        return None
    for name in fields if length > 1 else ():
        header[name] = header[name] / length
    form: np.ndarray | None = header.get_qform(coded=True)[0]
    return form


def _grid(
    shape: tuple[int, int, int], forms: dict[str, np.ndarray | None], unit: float, *, told: bool
) -> Grid:
    """The grid of the first affine.

    Args:
        shape: voxels along each axis.
        forms: affines (4, 4), RAS, by their names; None where there is none.
        unit: of them, in mm.
        told: whether the header says that there is a qform.

    Raises:
        PatientError: NO_POSITION or NO_PIXEL_SPACING.
    """
    grids = {
        name: Grid(shape, at[:3, 3] * RAS_TO_LPS * unit, at[:3, :3].T * RAS_TO_LPS * unit)
        for name, at in forms.items()
        if at is not None
    }
    if not grids and told:
        what = "its quaternion is longer than 1, or its voxels (pixdim) are not larger than 0"
        raise PatientError(
            Code.NO_POSITION,
            f"the qform of the NIfTI header is damaged ({what}) and no "
            "sform is set; convert the series again",
        )
    if not grids:
        raise PatientError(
            Code.NO_POSITION,
            "the NIfTI header has no orientation (neither sform nor "
            "qform is set); convert the series again",
        )
    (name, grid), *others = grids.items()
    require_placed(grid, f"NIfTI volume, in its {name},")
    index, points = grid.corners()
    for other in (other for _, other in others if misplaced(other) is None):
        if np.abs(other.index_of(points) - index).max() > ONE_PLACE:
            raise PatientError(
                Code.NO_POSITION,
                "the sform and the qform of the NIfTI header give "
                "different places; remove the wrong one",
            )
    return grid
