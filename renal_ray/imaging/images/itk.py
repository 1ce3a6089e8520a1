"""NRRD and MetaImage, the formats of ITK and 3D Slicer.

The headers are read here and not by SimpleITK, whose parsers crash on damaged ones; the tests hold
that both see the same volume.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Literal

import numpy as np

from renal_ray.dicom.files import PACKED_MESSAGE, is_packed
from renal_ray.imaging.geometry.grid import Grid
from renal_ray.imaging.images.sizes import require_placed, require_sane
from renal_ray.imaging.images.voxels import Packing, Voxels
from renal_ray.problems import Code, PatientError

MOST_HEADER = 1 << 20  # bytes in which the text header must end
ANATOMICAL = {  # NRRD spaces that say where the patient is, and what turns them to LPS
    **dict.fromkeys(("leftposteriorsuperior", "lps"), (1, 1, 1)),
    **dict.fromkeys(("rightanteriorsuperior", "ras"), (-1, -1, 1)),
    **dict.fromkeys(("leftanteriorsuperior", "las"), (1, -1, 1)),
}
MILLIMETRES = ("mm", "millimeter", "millimeters", "millimetre", "millimetres", "", "???")
NRRD_TYPES = {
    **dict.fromkeys(("signed char", "int8", "int8_t"), "i1"),
    **dict.fromkeys(("uchar", "unsigned char", "uint8", "uint8_t"), "u1"),
    **dict.fromkeys(
        ("short", "short int", "signed short", "signed short int", "int16", "int16_t"), "i2"
    ),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), "u2"),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t"), "i4"),
    **dict.fromkeys(("uint", "unsigned int", "uint32", "uint32_t"), "u4"),
    **dict.fromkeys(
        (
            "longlong",
            "long long",
            "long long int",
            "signed long long",
            "signed long long int",
            "int64",
            "int64_t",
        ),
        "i8",
    ),
    **dict.fromkeys(
        ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"), "u8"
    ),
    **{"float": "f4", "double": "f8"},
}
ORDERS: dict[str, Literal["<", ">"]] = {"little": "<", "big": ">"}
META_TYPES = {
    **{
        "met_char": "i1",
        "met_uchar": "u1",
        "met_short": "i2",
        "met_ushort": "u2",
        "met_int": "i4",
        "met_uint": "u4",
        "met_long": "i4",
        "met_ulong": "u4",
    },
    **{"met_long_long": "i8", "met_ulong_long": "u8", "met_float": "f4", "met_double": "f8"},
}


@dataclass(frozen=True)
class Described:
    """What a header says of its volume.

    Args:
        size: voxels along each axis, the fastest first.
        steps: (3, 3), row i is the step along axis i in mm, LPS.
        origin: (3,) centre of the first voxel.
        dtype: of a voxel.
        packing: of the voxels.
        skip: bytes of the data file before the voxels; -1 where they are its end.
    """

    size: tuple[int, ...]
    steps: np.ndarray
    origin: np.ndarray
    dtype: np.dtype
    packing: Packing
    skip: int


def open_itk(path: Path) -> Voxels:
    """Reads the header of an NRRD or MetaImage file and checks what it declares.

    Args:
        path: .nrrd, .nhdr, .mha or .mhd; a header's data file must lie in or below the header's
            folder.

    Returns:
        Its voxels, still on disk.

    Raises:
        PatientError: FILE_UNREADABLE, FILE_MISSING, NO_POSITION, NO_PIXEL_SPACING, NO_RESCALE,
            PATH_OUTSIDE, TOO_LARGE or FILE_TRUNCATED.
    """
    nrrd = path.suffix.lower() in (".nrrd", ".nhdr")
    kind = "NRRD volume" if nrrd else "MetaImage volume"
    if is_packed(path):
        raise PatientError(Code.FILE_UNREADABLE, f"the {kind} {PACKED_MESSAGE}")
    try:
        fields, end = _nrrd_fields(path) if nrrd else _meta_fields(path)
        data = _data_file(path, fields.get("datafile" if nrrd else "elementdatafile", ""))
        told = _nrrd(fields) if nrrd else _meta_image(fields)
    except (LookupError, ValueError, OverflowError):
        message = (
            f"not readable as {kind}: its header is damaged, says something twice, or "
            "describes no single volume of numbers; convert the series again"
        )
        raise PatientError(Code.FILE_UNREADABLE, message) from None
    stored, bytes_of_all = data.stat().st_size, prod(told.size) * told.dtype.itemsize
    raw = told.packing == "raw"
    if told.skip < -1 or (told.skip and not raw):
        raise PatientError(
            Code.FILE_UNREADABLE,
            f"the header of the {kind} skips bytes of its data that "
            "cannot be skipped; convert it to one file",
        )
    start = end if data == path else 0
    start = max(start, stored - bytes_of_all) if told.skip == -1 else start + told.skip
    require_sane(told.size, told.dtype.itemsize, max(0, stored - start), compressed=not raw)
    grid = Grid((told.size[0], told.size[1], told.size[2]), told.origin, told.steps)
    require_placed(grid, kind)
    return Voxels(data, grid, told.dtype, kind, start, packing=told.packing)


def _nrrd(fields: dict[str, str]) -> Described:
    """Reads NRRD fields (teem, NRRD0001 to NRRD0005).

    Raises:
        LookupError, ValueError: a field is absent or of another kind.
    """
    space = re.sub(r"[- ]", "", fields.get("space", "").lower())
    if space not in ANATOMICAL or not fields.keys() >= {"spaceorigin", "spacedirections"}:
        raise PatientError(
            Code.NO_POSITION,
            "the NRRD header names no anatomical space, or no origin or "
            "directions in it; convert the series again",
        )
    if any(
        unit.strip().lower() not in MILLIMETRES
        for unit in re.findall(r'"([^"]*)"', fields.get("spaceunits", ""))
    ):
        raise PatientError(
            Code.NO_PIXEL_SPACING,
            "the NRRD header gives distances in another unit than "
            "mm; convert the series again, in mm",
        )
    if int(fields.get("lineskip", "0")):
        raise PatientError(
            Code.FILE_UNREADABLE,
            "the NRRD header skips lines of its data file; convert it to one .nrrd file",
        )
    encoding, turn = fields["encoding"].lower(), np.array(ANATOMICAL[space])
    if encoding not in ("raw", "gzip", "gz"):
        raise PatientError(
            Code.FILE_UNREADABLE,
            "the NRRD volume is neither raw nor compressed by gzip; convert it",
        )
    directions = [
        _vector(part) for part in re.findall(r"\([^()]*\)|none", fields["spacedirections"])
    ]
    dtype = np.dtype(NRRD_TYPES[fields["type"].lower()])
    if int(fields["dimension"]) != 3 or len(directions) != 3:
        raise ValueError
    if dtype.itemsize > 1:
        dtype = dtype.newbyteorder(ORDERS[fields["endian"].lower()])
    packing: Packing = "raw" if encoding == "raw" else "deflated"
    size, skip = _size(fields["sizes"]), int(fields.get("byteskip", "0"))
    return Described(
        size,
        np.stack(directions) * turn,
        _vector(fields["spaceorigin"]) * turn,
        dtype,
        packing,
        skip,
    )


def _meta_image(fields: dict[str, str]) -> Described:
    """Reads MetaImage fields (MetaIO); as in ITK, AnatomicalOrientation says nothing beside the
    matrix.

    Raises:
        LookupError, ValueError: a field is absent or of another kind.
    """
    matrix = [
        fields[name] for name in ("transformmatrix", "rotation", "orientation") if name in fields
    ]
    origin = [fields[name] for name in ("offset", "position", "origin") if name in fields]
    if not matrix or not origin:
        raise PatientError(
            Code.NO_POSITION,
            "the MetaImage header gives no orientation or no origin; convert the series again",
        )
    if "elementspacing" not in fields:
        raise PatientError(
            Code.NO_PIXEL_SPACING, "the MetaImage header gives no spacing; convert the series again"
        )
    if (
        float(fields.get("elementtointensityfunctionslope", 1)) != 1
        or float(fields.get("elementtointensityfunctionoffset", 0)) != 0
    ):
        raise PatientError(
            Code.NO_RESCALE,
            "the MetaImage header scales its values, which not every "
            "program heeds; convert the series again, in HU",
        )
    if not _true(fields.get("binarydata", "True")):
        raise PatientError(
            Code.FILE_UNREADABLE, "the MetaImage volume is stored as text; convert it"
        )
    if (
        int(fields["ndims"]) != 3
        or int(fields.get("elementnumberofchannels", 1)) != 1
        or len(matrix) > 1
        or len(origin) > 1
    ):
        raise ValueError
    big = _true(fields.get("binarydatabyteordermsb", "")) or _true(
        fields.get("elementbyteordermsb", "")
    )
    dtype = np.dtype(META_TYPES[fields["elementtype"].lower()]).newbyteorder(">" if big else "<")
    axes = np.array(_numbers(matrix[0])).reshape(
        3, 3
    )  # the direction of each axis, one after the other
    steps = axes * _vector(fields["elementspacing"])[:, None]
    packing: Packing = "deflated" if _true(fields.get("compresseddata", "")) else "raw"
    return Described(
        _size(fields["dimsize"]),
        steps,
        _vector(origin[0]),
        dtype,
        packing,
        int(fields.get("headersize", 0)),
    )


def _true(text: str) -> bool:
    return text[:1] in ("T", "t", "1")


def _numbers(text: str) -> list[float]:
    return [float(word) for word in text.split()]


def _vector(text: str) -> np.ndarray:
    """Three numbers: (1,0,0), or 1 0 0."""
    vector = np.array(_numbers(text.strip("()").replace(",", " ")))
    if vector.shape != (3,):
        raise ValueError
    return vector


def _size(text: str) -> tuple[int, ...]:
    size = tuple(int(word) for word in text.split())
    if len(size) != 3 or min(size) < 1:
        raise ValueError
    return size


def _nrrd_fields(path: Path) -> tuple[dict[str, str], int]:
    """The fields of an NRRD header, names in lower case without spaces, and the bytes of the
    header.

    Raises:
        ValueError: it is none, or says something twice.
    """
    fields: dict[str, str] = {}
    for line, end in _lines(path):
        if not fields and not line.startswith("NRRD"):
            raise ValueError
        fields.setdefault("", line)
        if not line:
            return fields, end
        if match := re.fullmatch(
            r"([^:=#]+): (.*)", line
        ):  # neither a comment nor one of the key:=value pairs, which say nothing of the voxels
            _add(fields, match[1].replace(" ", ""), match[2])
    return fields, path.stat().st_size  # a detached header may end with its file


def _meta_fields(path: Path) -> tuple[dict[str, str], int]:
    """The fields of a MetaImage header, names in lower case, and the bytes of the header.

    Raises:
        ValueError: it is none, or says something twice.
    """
    fields: dict[str, str] = {}
    for line, end in _lines(path):
        if match := re.fullmatch(r"\s*(\w+)\s*[=:]\s*(.*)", line):
            _add(fields, match[1], match[2])
        if "elementdatafile" in fields:  # the last one
            return fields, end
    raise ValueError


def _add(fields: dict[str, str], name: str, value: str) -> None:
    if name.lower() in fields:
        raise ValueError
    fields[name.lower()] = value.strip()


def _lines(path: Path) -> Iterator[tuple[str, int]]:
    """Lines of a text header, and where each ends in the file."""
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
        raise PatientError(
            Code.FILE_UNREADABLE, "the volume is spread over a list of files; convert it to one"
        )
    try:
        data = (header.parent / name).resolve()
        inside, there = data.is_relative_to(header.parent.resolve()), data.is_file()
    except (OSError, ValueError, RuntimeError):
        raise PatientError(
            Code.FILE_UNREADABLE,
            "the header names a data file that no file can be; convert it to one file",
        ) from None
    if not inside:
        raise PatientError(
            Code.PATH_OUTSIDE,
            "the header names a data file outside of its folder; put both into one folder",
        )
    if not there:
        raise PatientError(
            Code.FILE_MISSING, "the header names a data file that is not there; copy it too"
        )
    return data
