"""NRRD and MetaImage, through SimpleITK."""

import re
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np

from renal_ray.imaging.geometry.grid import Grid
from renal_ray.imaging.images.nifti import LEAST_LABEL
from renal_ray.imaging.images.sizes import require_sane
from renal_ray.problems import Code, PatientError

HEADER = 1 << 16  # bytes in which the text header must end
FIELD = re.compile(rb"^\s*([A-Za-z][A-Za-z 0-9]*?)\s*(?::=|:|=)\s*(.*?)\s*$")


@dataclass(frozen=True)
class ItkVoxels:
    """The voxels of an NRRD or MetaImage file.

    Args:
        path: the file.
        grid: as stored, slowest axis first.
        kind: what kind of file it is.
    """

    path: Path
    grid: Grid
    kind: str

    def take(self, axis: int, places: np.ndarray) -> np.ndarray:
        """Values at ascending places along one axis, the others whole."""
        return np.take(self._array(), places, axis=axis)

    def hits(self, axis: int, labels: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """Places along an axis where any rounded value is one of the labels, and there where.

        Raises:
            PatientError: MASK_UNSUPPORTED when the values are those of an image, or what stops the reading.
        """
        values = self._rounded()
        if values.dtype.kind == "i" and values.min() < LEAST_LABEL:
            raise PatientError(Code.MASK_UNSUPPORTED, f"the mask holds values down to {values.min()}, as a CT image does; name the label map as the mask")
        mask = reduce(np.logical_or, (values == label for label in labels))
        places = np.flatnonzero(mask.any(axis=tuple(one for one in range(3) if one != axis)))
        return places, np.take(mask, places, axis=axis)

    def values(self) -> list[int]:
        """Up to ten of the rounded values that it holds."""
        return [int(value) for value in np.unique(self._rounded())[:10]]

    def _rounded(self) -> np.ndarray:
        values = self._array()
        return values if np.issubdtype(values.dtype, np.integer) else np.rint(np.nan_to_num(values)).astype(np.int64)

    def _array(self) -> np.ndarray:
        import SimpleITK

        try:
            return np.asarray(SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(self.path))))
        except RuntimeError:
            raise PatientError(Code.FILE_TRUNCATED, f"the {self.kind} ends before its voxels do, or is damaged; copy it again") from None


def open_itk(path: Path) -> ItkVoxels:
    """Reads the header of an NRRD or MetaImage file and checks what it declares.

    Args:
        path: .nrrd, .nhdr, .mha or .mhd; a header's data file must lie in or below the header's folder.

    Raises:
        PatientError: FILE_UNREADABLE, NO_POSITION, PATH_OUTSIDE, TOO_LARGE or FILE_TRUNCATED.
    """
    nrrd = path.suffix.lower() in (".nrrd", ".nhdr")
    kind = "NRRD volume" if nrrd else "MetaImage volume"
    fields = _fields(path)
    data = _data_file(path, fields.get("data file", fields.get("datafile", "")) if nrrd else fields.get("elementdatafile", ""))
    placed = "space" in fields and "space origin" in fields if nrrd else fields.keys() >= {"transformmatrix", "offset"}
    if not placed:
        raise PatientError(Code.NO_POSITION, f"the header of the {kind} gives no orientation and origin; convert the series again")
    reader = _information(path, kind)
    size = tuple(reader.GetSize())
    if len(size) != 3 or reader.GetNumberOfComponents() != 1 or min(size) < 1:
        raise PatientError(Code.FILE_UNREADABLE, f"the {kind} is no single volume of numbers; give one image")
    compressed = fields.get("encoding", "raw").lower() != "raw" if nrrd else fields.get("compresseddata", "false").lower() == "true"
    require_sane(size, _bytes(reader), data.stat().st_size, compressed=compressed)
    direction = np.array(reader.GetDirection()).reshape(3, 3)
    steps = (direction * np.array(reader.GetSpacing())).T[::-1]
    if not np.isfinite(steps).all() or abs(np.linalg.det(steps)) < 1e-9:
        raise PatientError(Code.NO_POSITION, f"the header of the {kind} gives axes that span no volume; convert the series again")
    return ItkVoxels(path, Grid((size[2], size[1], size[0]), np.array(reader.GetOrigin()), steps), kind)


def _information(path: Path, kind: str) -> Any:
    import SimpleITK

    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)  # its warnings name files and quote headers
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        raise PatientError(Code.FILE_UNREADABLE, f"not readable as {kind}; convert the series again") from None
    return reader


def _bytes(reader: Any) -> int:
    import SimpleITK

    name = SimpleITK.GetPixelIDValueAsString(reader.GetPixelID())
    bits = re.match(r"(\d+)-bit (un)?signed integer|(\d+)-bit float", name)
    if not bits:
        raise PatientError(Code.FILE_UNREADABLE, "the volume holds no plain numbers; give one image")
    return int(bits[1] or bits[3]) // 8


def _fields(path: Path) -> dict[str, str]:
    """The text header: field in lower case -> value; ends at NRRD's empty line or at MetaImage's data file."""
    with path.open("rb") as file:
        start = file.read(HEADER)
    fields: dict[str, str] = {}
    for line in start.split(b"\n"):
        if match := FIELD.match(line):
            name = match[1].decode("ascii").lower()
            fields[name] = match[2].decode("utf-8", "replace")
            if name == "elementdatafile":
                break
        elif not line.strip():
            break
    return fields


def _data_file(header: Path, name: str) -> Path:
    """The file that holds the voxels.

    Raises:
        PatientError: PATH_OUTSIDE, FILE_MISSING, or FILE_UNREADABLE for lists of files.
    """
    if name.upper() in ("", "LOCAL"):
        return header
    if name.upper().startswith("LIST") or "%" in name:
        raise PatientError(Code.FILE_UNREADABLE, "the volume is spread over a list of files; convert it to one")
    data = (header.parent / name).resolve()
    if not data.is_relative_to(header.parent.resolve()):
        raise PatientError(Code.PATH_OUTSIDE, "the header names a data file outside of its folder; put both into one folder")
    if not data.is_file():
        raise PatientError(Code.FILE_MISSING, "the header names a data file that is not there; copy it too")
    return data
