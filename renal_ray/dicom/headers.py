"""DICOM files by their headers alone: which files are DICOM, what they are, whether their pixels
are there."""

import logging
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import BinaryIO

from pydicom import Dataset, dcmread
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    LegacyConvertedEnhancedCTImageStorage,
)

from renal_ray.dicom.files import files_below
from renal_ray.dicom.flat import FlatDataset, read_flat
from renal_ray.dicom.limits import require_bounded_inflation, require_sane
from renal_ray.dicom.unknown import read_as_known
from renal_ray.problems import Code, PatientError

read_as_known()

# What pydicom and its decoders raise on broken files. Their texts quote values of the file, so they
# are never passed on.
DICOM_FAULTS = (
    BytesLengthException,
    InvalidDicomError,
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    NotImplementedError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
CT_STORAGE = frozenset(
    {CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage}
)
COMPANIONS = frozenset(
    {
        "SEG",
        "RTSTRUCT",
        "RTDOSE",
        "RTPLAN",
        "RTIMAGE",
        "RTRECORD",
        "SR",
        "PR",
        "KO",
        "REG",
        "FID",
        "DOC",
        "OT",
        "RWV",
        "SMR",
        "ANN",
    }
)
"""Modalities that lie beside an image series and are no images of it."""

IMAGING = frozenset(
    {"MR", "PT", "NM", "US", "CR", "DX", "MG", "XA", "RF", "ES", "SM", "XC", "OP", "OPT", "ECG"}
)
NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)
PIXEL_TAGS = {
    b"\xe0\x7f\x10\x00",
    b"\xe0\x7f\x08\x00",
    b"\xe0\x7f\x09\x00",
    b"\x7f\xe0\x00\x10",
    b"\x7f\xe0\x00\x08",
    b"\x7f\xe0\x00\x09",
}
IDENTITY = (
    *("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "Modality", "SOPClassUID"),
    *("ImageType", "AcquisitionNumber", "ImagePositionPatient"),
)
BEFORE_PIXELS = ("Rows", "Columns", "BitsAllocated", "SamplesPerPixel", "NumberOfFrames")


class Pixels(Enum):
    """Whether the pixels that a header promises are in the file."""

    PRESENT = "present"
    ABSENT = "absent"
    CUT_OFF = "cut off"


@dataclass(frozen=True)
class Header:
    """The header of one DICOM file.

    Args:
        path: the file.
        number: place among the files of its folder by name, from 1: names one file in a message
            without its name, which may hold a UID.
        dataset: the elements asked for.
        pixels: whether the pixels are there.
        native_at: offset of native little-endian pixels in the file; None where they are
            encapsulated, or only a general parser finds them.
        fault: why the file cannot be used; the dataset then holds who and what it is, as far as
            that can be read.
    """

    path: Path
    number: int
    dataset: Dataset | FlatDataset
    pixels: Pixels
    native_at: int | None = None
    fault: PatientError | None = None

    def text(self, keyword: str) -> str:
        """An element as text; empty when absent or empty."""
        value = self.dataset.get(keyword)
        return "" if value is None else str(value).strip()

    @property
    def is_ct(self) -> bool:
        """Whether this is a CT image: modality CT, and a CT storage class where one is given."""
        return self.text("Modality") == "CT" and (
            not self.text("SOPClassUID") or self.text("SOPClassUID") in CT_STORAGE
        )

    @property
    def is_localizer(self) -> bool:
        """Whether this is a scout view."""
        return "LOCALIZER" in self.text("ImageType")


def shown_modality(modality: str) -> str:
    """A modality for a message: as it stands where it is one of DICOM's terms; a header may hold
    anything in its place."""
    return modality if modality in IMAGING | COMPANIONS | {"CT"} else "unknown"


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps pydicom, highdicom and nibabel from printing values of a file in warnings and log
    lines, also when elements are converted as they are asked for."""
    loggers = [logging.getLogger(name) for name in ("pydicom", "highdicom.base", "nibabel.global")]
    before = [logger.disabled for logger in loggers]
    try:
        for logger in loggers:
            logger.disabled = True
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, state in zip(loggers, before, strict=True):
            logger.disabled = state


@contextmanager
def readable(what: str) -> Iterator[None]:
    """Turns what pydicom raises on a broken file into FILE_UNREADABLE, without the values that its
    message quotes.

    Args:
        what: names the file in the message.
    """
    try:
        yield
    except DICOM_FAULTS:
        raise PatientError(
            Code.FILE_UNREADABLE,
            f"{what} is damaged or holds values that are none of their kind; export it again",
        ) from None


def read_headers(folder: Path, tags: list[str], *, keep_broken: bool = False) -> list[Header]:
    """Reads the headers of all DICOM files in and below a folder, pixels left alone; other files
    and hidden ones are passed over.

    Args:
        folder: a folder, or one DICOM file.
        tags: keywords of the elements wanted.
        keep_broken: as for `read_header`.

    Returns:
        One header a DICOM file, in the order of the names.

    Raises:
        PatientError: a DICOM file cannot be parsed or opened.
    """
    headers = (
        read_header(path, tags, number=number, keep_broken=keep_broken)
        for number, path in enumerate(files_below(folder), 1)
    )
    return [header for header in headers if header is not None]


def read_header(
    path: Path, tags: list[str], *, number: int = 1, keep_broken: bool = False
) -> Header | None:
    """Reads the header of one file.

    Args:
        path: any file.
        tags: keywords of the elements wanted.
        number: place among the files of its folder, for messages.
        keep_broken: give a DICOM file that cannot be used as a header with its fault, and with
            those elements of `IDENTITY` that can be read.

    Returns:
        The header; None when the file is not DICOM.

    Raises:
        PatientError: a DICOM file cannot be parsed or opened.
    """
    try:
        return _read_header(path, tags, number)
    except PatientError as error:
        if not keep_broken:
            raise
        return Header(path, number, _identity(path, number), Pixels.ABSENT, fault=error)


def _read_header(path: Path, tags: list[str], number: int) -> Header | None:
    with readable(f"file {number} by name"), path.open("rb") as file:
        if not _looks_like_dicom(file.read(132)):
            return None
        file.seek(0)
        size = path.stat().st_size
        header = _flat(file, path, number, size, tags) or _parsed(file, path, number, size, tags)
        get = header.dataset.get
        require_sane(
            *(
                get(keyword)
                for keyword in (
                    "Rows",
                    "Columns",
                    "NumberOfFrames",
                    "BitsAllocated",
                    "SamplesPerPixel",
                )
            ),
            where=f"file {number} by name",
        )
        if header.pixels is Pixels.ABSENT and get("Rows") is None and _is_ct_storage(header):
            raise PatientError(
                Code.FILE_TRUNCATED,
                f"file {number} by name ends within its header; copy or export it again",
            )
        return header


def _is_ct_storage(header: Header) -> bool:
    """Whether the file is to be a CT image, by whatever of its header is there."""
    meta = getattr(header.dataset, "file_meta", None) or {}
    return header.is_ct or (
        not header.text("Modality") and str(meta.get("MediaStorageSOPClassUID")) in CT_STORAGE
    )


def _identity(path: Path, number: int) -> FlatDataset:
    """Who and what a broken file is, each element for itself: empty where not even that can be
    read."""
    found = FlatDataset()
    try:
        require_bounded_inflation(path, where=f"file {number} by name")
        dataset = dcmread(path, force=True, stop_before_pixels=True, specific_tags=[*IDENTITY])
    except (*DICOM_FAULTS, PatientError):
        return found
    for keyword in IDENTITY:
        try:
            found[keyword] = str(dataset.get(keyword) or "")
        except DICOM_FAULTS:
            continue
    return found


def _flat(file: BinaryIO, path: Path, number: int, size: int, tags: list[str]) -> Header | None:
    """The header of a plain file; None where it is not plain."""
    found = read_flat(file, (*tags, *BEFORE_PIXELS))
    if found is None:
        return None
    if found.pixels_length is None:
        return Header(path, number, found.dataset, Pixels.PRESENT)
    there = min(found.pixels_length, size - found.pixels_at) >= native_bits(found.dataset) // 8
    return Header(
        path, number, found.dataset, Pixels.PRESENT if there else Pixels.CUT_OFF, found.pixels_at
    )


def _parsed(file: BinaryIO, path: Path, number: int, size: int, tags: list[str]) -> Header:
    """The header of any file, by pydicom."""
    require_bounded_inflation(path, where=f"file {number} by name")
    file.seek(0)
    dataset = dcmread(
        file, force=True, stop_before_pixels=True, specific_tags=[*tags, *BEFORE_PIXELS]
    )
    pixels = _pixels(file, dataset, size)
    for element in (
        dataset.iterall()
    ):  # pydicom converts a value when it is first asked for: here, where a bad one is expected
        _ = element.value
    return Header(path, number, dataset, pixels)


def _looks_like_dicom(start: bytes) -> bool:
    """Part 10 files say so after the preamble; older ones without it begin with an element of group
    0002 or 0008."""
    return (
        start[128:132] == b"DICM"
        or start[:2] in (b"\x02\x00", b"\x08\x00")
        or start[:4] == b"\x00\x08\x00\x05"
    )


def syntax_of(dataset: Dataset | FlatDataset) -> str:
    """The transfer syntax UID; files without a meta header are one of the three native ones, as
    pydicom read them."""
    meta = getattr(dataset, "file_meta", None)
    if meta and (given := meta.get("TransferSyntaxUID")):
        return str(given)
    implicit, little = dataset.original_encoding
    return str(
        ImplicitVRLittleEndian
        if implicit
        else ExplicitVRLittleEndian
        if little
        else ExplicitVRBigEndian
    )


def _pixels(file: BinaryIO, dataset: Dataset, size: int) -> Pixels:
    """Looks at what follows the header: the pixel element's tag, and for native pixels enough
    bytes."""
    syntax = syntax_of(dataset)
    if (
        syntax == DeflatedExplicitVRLittleEndian
    ):  # read whole by pydicom; what is missing shows when the pixels are decoded
        return Pixels.PRESENT
    left = size - file.tell()
    if file.read(4) not in PIXEL_TAGS:
        return Pixels.ABSENT
    if syntax in NATIVE and left < 8 + native_bits(dataset) // 8:
        return Pixels.CUT_OFF
    return Pixels.PRESENT


def native_bits(dataset: Dataset | FlatDataset) -> int:
    """Bits that the pixels of an image take without compression (PS3.5, 8.1.1)."""
    samples = (
        int(dataset.get("Rows") or 0)
        * int(dataset.get("Columns") or 0)
        * int(dataset.get("SamplesPerPixel") or 1)
    )
    return (
        samples * int(dataset.get("NumberOfFrames") or 1) * int(dataset.get("BitsAllocated") or 0)
    )
