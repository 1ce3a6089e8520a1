"""NIfTI, streamed: of a compressed file only what is wanted ever stands in memory."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import nibabel as nib
import numpy as np
from isal import igzip
from isal.igzip_lib import IsalError
from nibabel.spatialimages import HeaderDataError
from nibabel.volumeutils import apply_read_scaling
from nibabel.wrapstruct import WrapStructError

from renal_ray.imaging.geometry.grid import Grid
from renal_ray.imaging.images.sizes import require_sane
from renal_ray.problems import Code, PatientError

RAS_TO_LPS = np.array([-1.0, -1.0, 1.0])
HEADER_FAULTS: tuple[type[Exception], ...] = (
    HeaderDataError,
    WrapStructError,
    ArithmeticError,
    EOFError,
    OSError,
    ValueError,
    LookupError,
    TypeError,
    zlib.error,
    IsalError,
)  # type: ignore[assignment]  # isal's stub
STREAM_FAULTS: tuple[type[Exception], ...] = (EOFError, OSError, ValueError, zlib.error, IsalError)  # type: ignore[assignment]
LEAST_LABEL = -100  # label maps may use a few negative values for what is not labelled; air and fat lie below
BLOCK = 8 << 20  # bytes of voxels that are unpacked at once


@dataclass(frozen=True)
class NiftiVoxels:
    """The voxels of a NIfTI file.

    Args:
        path: the file.
        grid: as stored.
        dtype: of a stored voxel.
        offset: bytes before the first voxel, unpacked.
        slope: of the scaling; 1 where there is none.
        intercept: of the scaling.
    """

    path: Path
    grid: Grid
    dtype: np.dtype
    offset: int
    slope: float
    intercept: float
    kind: str = "NIfTI volume"

    def take(self, axis: int, places: np.ndarray) -> np.ndarray:
        """Scaled values at ascending places along one axis, the others whole."""
        shape = tuple(len(places) if one == axis else n for one, n in enumerate(self.grid.shape))
        out = np.empty(shape, self.dtype, order="F")
        last = int(places[-1]) + 1 if axis == 2 else self.grid.shape[2]
        for first, block in self._blocks(last):
            if axis == 2:
                inside = (places >= first) & (places < first + block.shape[2])
                out[:, :, inside] = block[:, :, places[inside] - first]
            else:
                out[:, :, first : first + block.shape[2]] = block[places] if axis == 0 else block[:, places]
        return apply_read_scaling(out, self.slope, self.intercept)

    def hits(self, axis: int, labels: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """Places along an axis where any rounded value is one of the labels, and there where.

        Raises:
            PatientError: MASK_UNSUPPORTED when the values are those of an image, or what stops the reading.
        """
        packed: list[np.ndarray | None] = []  # a plane's bits, eight to the byte: a label map is as large as its image
        hit = np.zeros(self.grid.shape[axis], bool)
        for first, block in self._blocks(self.grid.shape[2]):
            rounded = self._rounded(block)
            if rounded.dtype.kind == "i" and rounded.min() < LEAST_LABEL:
                raise PatientError(Code.MASK_UNSUPPORTED, f"the mask holds values down to {rounded.min()}, as a CT image does; name the label map as the mask")
            mask = reduce(np.logical_or, (rounded == label for label in labels))  # several times faster than a set test
            where = mask.any(axis=tuple(one for one in range(3) if one != axis))
            if axis == 2:
                hit[first : first + len(where)] = where
            else:
                hit |= where
            packed += [np.packbits(mask[:, :, k]) if mask[:, :, k].any() else None for k in range(mask.shape[2])]
        places = np.flatnonzero(hit)
        shape = tuple(len(places) if one == axis else n for one, n in enumerate(self.grid.shape))
        out = np.zeros(shape, bool, order="F")
        for k, bits in enumerate(packed):
            if bits is not None:
                plane = np.unpackbits(bits, count=shape_area(self.grid.shape)).reshape(self.grid.shape[:2]).view(bool)
                if axis == 2:
                    out[:, :, np.searchsorted(places, k)] = plane
                else:
                    out[:, :, k] = plane[places] if axis == 0 else plane[:, places]
        return places, out

    def values(self) -> list[int]:
        """Up to ten of the rounded values that it holds."""
        found: set[int] = set()
        for _, block in self._blocks(self.grid.shape[2]):
            found |= set(np.unique(self._rounded(block)).tolist())
            if len(found) > 10:
                break
        return sorted(found)[:10]

    def _rounded(self, block: np.ndarray) -> np.ndarray:
        """Whole numbers: label maps are often saved as floating point."""
        scaled = apply_read_scaling(block, self.slope, self.intercept)
        if np.issubdtype(scaled.dtype, np.integer):
            return scaled
        return np.rint(np.clip(np.nan_to_num(scaled), -(2**31), 2**31 - 1)).astype(np.int64)

    def _blocks(self, last: int) -> Iterator[tuple[int, np.ndarray]]:
        """First place along the slowest axis, and stored values (i, j, planes), block by block up to a last plane."""
        rows, columns, _ = self.grid.shape
        plane = rows * columns * self.dtype.itemsize
        planes = max(1, BLOCK // plane)
        try:
            if not _compressed(self.path):  # mapped: only the pages that are looked at are read
                whole = np.memmap(self.path, self.dtype, "r", self.offset, self.grid.shape, order="F")
                yield from ((first, np.asarray(whole[:, :, first : min(first + planes, last)])) for first in range(0, last, planes))
                return
            with igzip.open(self.path, "rb") as stream:
                _skip(stream, self.offset)
                for first in range(0, last, planes):
                    count = min(planes, last - first)
                    data = stream.read(count * plane)
                    if len(data) < count * plane:
                        raise EOFError
                    yield first, np.frombuffer(data, self.dtype).reshape((rows, columns, count), order="F")
        except STREAM_FAULTS:
            raise PatientError(Code.FILE_TRUNCATED, "the NIfTI file ends before its voxels do, or is damaged; copy it again") from None


def shape_area(shape: tuple[int, int, int]) -> int:
    """Voxels of a plane along the slowest axis."""
    return shape[0] * shape[1]


def _compressed(path: Path) -> bool:
    return path.name.lower().endswith(".gz")


def _skip(stream: igzip.IGzipFile, count: int) -> None:
    while count > 0:
        read = len(stream.read(min(count, BLOCK)))
        if not read:
            raise EOFError
        count -= read


def open_nifti(path: Path) -> NiftiVoxels:
    """Reads the header of a NIfTI file and checks what it declares.

    The sform goes before the qform where both are set, as in nibabel; where they disagree by more than half a voxel the file is refused.

    Args:
        path: .nii or .nii.gz file with one volume; trailing axes of length one are allowed.

    Returns:
        Its voxels, still on disk.

    Raises:
        PatientError: FILE_UNREADABLE, NO_POSITION when the header has no orientation or two, TOO_LARGE, FILE_TRUNCATED.
    """
    try:
        with igzip.open(path, "rb") if _compressed(path) else path.open("rb") as stream:
            start = stream.read(540)
        second = int.from_bytes(start[:4], "little") == 540 or int.from_bytes(start[:4], "big") == 540
        header = nib.Nifti2Header(start[:540]) if second else nib.Nifti1Header(start[:348])
        shape, dtype, offset = header.get_data_shape(), header.get_data_dtype(), int(header.get_data_offset())
        slope, intercept = (float(value) for value in (header["scl_slope"], header["scl_inter"]))
        forms = [np.asarray(form, float) for form, code in (header.get_sform(coded=True), header.get_qform(coded=True)) if code]
        single = bytes(header["magic"].tobytes())[:2] == b"n+"
    except HEADER_FAULTS:
        raise PatientError(Code.FILE_UNREADABLE, "not readable as NIfTI; give a .nii or .nii.gz file") from None
    if not single or len(shape) < 3 or any(n != 1 for n in shape[3:]) or min(shape) < 1 or dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise PatientError(Code.FILE_UNREADABLE, f"a NIfTI file of shape {shape} and type {dtype} is no volume of numbers; give one image")
    shape = (int(shape[0]), int(shape[1]), int(shape[2]))
    smallest = 540 if second else 348
    if offset < smallest:
        raise PatientError(Code.FILE_UNREADABLE, "the NIfTI header says that the voxels begin inside it; convert the series again")
    size = path.stat().st_size
    require_sane(shape, dtype.itemsize, size if _compressed(path) else size - offset, compressed=_compressed(path))
    grid = _grid(shape, forms)
    usable = np.isfinite(slope) and slope != 0
    return NiftiVoxels(path, grid, dtype, offset, slope if usable else 1.0, intercept if usable and np.isfinite(intercept) else 0.0)


def _grid(shape: tuple[int, int, int], forms: list[np.ndarray]) -> Grid:
    """The grid of the first affine (RAS, millimetres).

    Raises:
        PatientError: NO_POSITION.
    """
    grids = []
    for affine in forms:
        steps = affine[:3, :3].T * RAS_TO_LPS
        if np.isfinite(affine).all() and np.abs(affine).max() < 1e6 and abs(np.linalg.det(steps)) > 1e-9:
            grids.append(Grid(shape, affine[:3, 3] * RAS_TO_LPS, steps))
    if not grids or len(grids) < len(forms):
        raise PatientError(Code.NO_POSITION, "the NIfTI header has no orientation (sform and qform are unset or empty); convert the series again")
    index, points = grids[0].corners()
    if len(grids) > 1 and np.abs(grids[1].index_of(points) - index).max() > 0.5:
        raise PatientError(Code.NO_POSITION, "the sform and the qform of the NIfTI header give different places; remove the wrong one")
    return grids[0]
