"""NRRD and MetaImage headers: the geometry as ITK reads it; the voxels are streamed, so that their size is bounded."""

import re
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from renal_ray.imaging.geometry.grid import Grid
from renal_ray.imaging.images.sizes import require_placed, require_sane
from renal_ray.imaging.images.voxels import Packing, Voxels
from renal_ray.problems import Code, PatientError

MOST_HEADER = 1 << 20  # bytes in which the text header must end
NRRD_FIELD = re.compile(r"([^:]+): (.*)")
META_FIELD = re.compile(r"(\w+)\s*=\s*(.*)")
ANATOMICAL = {"leftposteriorsuperior", "lps", "rightanteriorsuperior", "ras", "leftanteriorsuperior", "las"}  # other spaces are no place in a patient
Fields = dict[str, str]


def open_itk(path: Path) -> Voxels:
    """Reads the header of an NRRD or MetaImage file and checks what it declares.

    Args:
        path: .nrrd, .nhdr, .mha or .mhd; a header's data file must lie in or below the header's folder.

    Returns:
        Its voxels, still on disk.

    Raises:
        PatientError: FILE_UNREADABLE, FILE_MISSING, NO_POSITION, NO_PIXEL_SPACING, NO_RESCALE, PATH_OUTSIDE, TOO_LARGE or FILE_TRUNCATED.
    """
    nrrd = path.suffix.lower() in (".nrrd", ".nhdr")
    kind = "NRRD volume" if nrrd else "MetaImage volume"
    fields, end = _fields(path, kind, nrrd=nrrd)
    data = _data_file(path, fields.get("datafile" if nrrd else "elementdatafile", ""))
    packing, big_endian = _nrrd(fields) if nrrd else _meta_image(fields)
    reader = _information(path, kind)
    size = tuple(int(n) for n in reader.GetSize())
    if len(size) != 3 or reader.GetNumberOfComponents() != 1 or min(size) < 1:
        raise PatientError(Code.FILE_UNREADABLE, f"the {kind} is no single volume of numbers; give one image")
    dtype = _dtype(reader, kind).newbyteorder(">" if big_endian else "<")
    stored = data.stat().st_size
    start = _start(fields.get("byteskip" if nrrd else "headersize", "0"), end if data == path else 0, stored - prod(size) * dtype.itemsize, packing)
    require_sane(size, dtype.itemsize, stored - start, compressed=packing != "raw")
    direction = np.array(reader.GetDirection()).reshape(3, 3)
    grid = Grid(size, np.array(reader.GetOrigin()), (direction * np.array(reader.GetSpacing())).T)
    require_placed(grid, kind)
    return Voxels(data, grid, dtype, kind, start, packing=packing)


def _nrrd(fields: Fields) -> tuple[Packing, bool]:
    """How NRRD voxels are stored: packing, and whether big-endian."""
    space = fields.get("space", "").replace("-", "").replace(" ", "").lower()
    if space not in ANATOMICAL or not fields.keys() >= {"spaceorigin", "spacedirections"}:
        raise PatientError(Code.NO_POSITION, "the NRRD header names no anatomical space, origin or directions; convert the series again")
    units = re.findall(r'"([^"]*)"', fields.get("spaceunits", ""))
    if any(unit.strip().lower() not in ("mm", "millimeter", "millimeters", "millimetre", "millimetres", "", "???") for unit in units):
        raise PatientError(Code.NO_PIXEL_SPACING, "the NRRD header gives distances in another unit than mm; convert the series again, in mm")
    if fields.get("lineskip", "0") != "0":
        raise PatientError(Code.FILE_UNREADABLE, "the NRRD header skips lines of its data file; convert it to one .nrrd file")
    encoding = fields.get("encoding", "").lower()
    return _packing(encoding), fields.get("endian", "little").lower() == "big"


def _meta_image(fields: Fields) -> tuple[Packing, bool]:
    """How MetaImage voxels are stored: packing, and whether big-endian."""
    if not fields.keys() & {"transformmatrix", "rotation", "orientation"} or not fields.keys() & {"offset", "position", "origin"}:
        raise PatientError(Code.NO_POSITION, "the MetaImage header gives no orientation and origin; convert the series again")
    if _number(fields, "elementtointensityfunctionslope", 1) != 1 or _number(fields, "elementtointensityfunctionoffset", 0) != 0:
        raise PatientError(Code.NO_RESCALE, "the MetaImage header scales its values, which not every program heeds; convert the series again, in HU")
    if not _true(fields, "binarydata", default=True):
        return _packing("text"), False
    compressed = _true(fields, "compresseddata", default=False)
    big = _true(fields, "binarydatabyteordermsb", default=False) or _true(fields, "elementbyteordermsb", default=False)
    return "deflated" if compressed else "raw", big


def _packing(encoding: str) -> Packing:
    if encoding in ("raw", "gzip", "gz"):
        return "raw" if encoding == "raw" else "deflated"
    raise PatientError(Code.FILE_UNREADABLE, "the volume is stored as text or in an encoding other than raw and gzip; convert it")


def _true(fields: Fields, name: str, *, default: bool) -> bool:
    return fields.get(name, str(default)).lower()[:1] in ("t", "1", "y")


def _number(fields: Fields, name: str, default: float) -> float:
    try:
        return float(fields.get(name, default))
    except ValueError:
        raise PatientError(Code.FILE_UNREADABLE, "the volume's header holds text where a number belongs; convert it again") from None


def _start(skip: str, header: int, last: int, packing: Packing) -> int:
    """Bytes of the data file before the voxels.

    Args:
        skip: what the header says is to be skipped; -1 means that the voxels are the end of the file.
        header: bytes of the header where the voxels follow it.
        last: where the voxels begin if they are the end of the file.
        packing: of the voxels.
    """
    count = int(_number({"skip": skip}, "skip", 0)) if len(skip) < 12 else -2
    if count == -1 and packing == "raw":
        return max(last, header)
    if count < 0 or (count and packing != "raw"):
        raise PatientError(Code.FILE_UNREADABLE, "the volume's header skips bytes of its data file that cannot be skipped; convert it to one file")
    return header + count


def _information(path: Path, kind: str) -> Any:
    import SimpleITK

    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)  # its warnings name files and quote headers
    reader = SimpleITK.ImageFileReader()
    try:
        reader.SetImageIO("NrrdImageIO" if kind.startswith("NRRD") else "MetaImageIO")  # no other reader may take the file for its own
        reader.SetFileName(str(path))
        reader.ReadImageInformation()
    except RuntimeError:
        raise PatientError(Code.FILE_UNREADABLE, f"not readable as {kind}; convert the series again") from None
    return reader


def _dtype(reader: Any, kind: str) -> np.dtype:
    import SimpleITK

    match = re.fullmatch(r"(\d+)-bit (unsigned integer|signed integer|float)", SimpleITK.GetPixelIDValueAsString(reader.GetPixelID()))
    if not match:
        raise PatientError(Code.FILE_UNREADABLE, f"the {kind} holds no plain numbers; give one image")
    return np.dtype(f"{match[2][0].replace('s', 'i')}{int(match[1]) // 8}")


def _fields(path: Path, kind: str, *, nrrd: bool) -> tuple[Fields, int]:
    """The text header.

    Returns:
        Field, in lower case without spaces -> value, and the bytes of the header.

    Raises:
        PatientError: FILE_UNREADABLE.
    """
    fields: Fields = {}
    broken = PatientError(Code.FILE_UNREADABLE, f"not readable as {kind}: its header is damaged, or says something twice; convert the series again")
    for line, end in _lines(path):
        if nrrd and not line.strip():
            return fields, end
        match = (NRRD_FIELD if nrrd else META_FIELD).fullmatch(line.strip())
        if not match or line.startswith("#") or (nrrd and ":=" in line.split(": ")[0]):  # comments, and NRRD's key:=value pairs: nothing of the voxels
            continue
        name = match[1].replace(" ", "").lower()
        if name in fields:
            raise broken
        fields[name] = match[2].strip()
        if name == "elementdatafile" and not nrrd:
            return fields, end
    if nrrd and path.suffix.lower() == ".nhdr":  # a detached header may end with its file
        return fields, path.stat().st_size
    raise broken


def _lines(path: Path) -> Iterator[tuple[str, int]]:
    """Lines of the header, and where each ends."""
    with path.open("rb") as file:
        while file.tell() < MOST_HEADER and (line := file.readline(MOST_HEADER)):
            yield line.decode("utf-8", "replace").rstrip("\r\n"), file.tell()


def _data_file(header: Path, name: str) -> Path:
    """The file that holds the voxels.

    Raises:
        PatientError: PATH_OUTSIDE, FILE_MISSING, or FILE_UNREADABLE for lists of files.
    """
    if name.upper() in ("", "LOCAL"):
        return header
    if name.upper().startswith("LIST") or "%" in name:
        raise PatientError(Code.FILE_UNREADABLE, "the volume is spread over a list of files; convert it to one")
    try:
        data = (header.parent / name).resolve()
        inside, there = data.is_relative_to(header.parent.resolve()), data.is_file()
    except (OSError, ValueError):
        raise PatientError(Code.FILE_UNREADABLE, "the header names a data file that no file can be; convert it to one file") from None
    if not inside:
        raise PatientError(Code.PATH_OUTSIDE, "the header names a data file outside of its folder; put both into one folder")
    if not there:
        raise PatientError(Code.FILE_MISSING, "the header names a data file that is not there; copy it too")
    return data
