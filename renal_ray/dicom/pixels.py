"""Pixels of DICOM objects, with a reason where they cannot be had."""

from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID, RLELossless

from renal_ray.dicom.headers import DICOM_FAULTS, Header, readable, syntax_of
from renal_ray.dicom.limits import Codestream, codestream, require_bounded_inflation, require_sane
from renal_ray.problems import Code, PatientError


def require_decoder(syntax: str) -> None:
    """Refuses a transfer syntax that nothing installed here decodes.

    Args:
        syntax: transfer syntax UID.

    Raises:
        PatientError: UNDECODABLE_SYNTAX, with the syntax by its name and what to install.
    """
    uid = UID(str(syntax))  # several values, in a damaged file
    name = uid.name if uid.is_valid else "a transfer syntax that is no UID"
    try:
        decoder = get_decoder(uid)
    except NotImplementedError:
        raise PatientError(
            Code.UNDECODABLE_SYNTAX, f"{name}: no decoder exists; export the series uncompressed"
        ) from None
    if not decoder.is_available:
        missing = " or ".join(decoder.missing_dependencies)
        raise PatientError(
            Code.UNDECODABLE_SYNTAX,
            f"{name}: no decoder is installed ({missing}); install "
            "one, or export the series uncompressed",
        )


def load(path: Path, *, number: int = 1) -> Dataset:
    """Reads a whole DICOM file.

    Args:
        path: the file.
        number: place among the files of its folder by name, for messages.

    Raises:
        PatientError: FILE_UNREADABLE.
    """
    with readable(f"file {number} by name"):
        require_bounded_inflation(path, where=f"file {number} by name")
        dataset = dcmread(path, force=True)
        dataset.file_meta.TransferSyntaxUID = UID(syntax_of(dataset))
        return dataset


def pixels(dataset: Dataset, *, frame: int | None = None, number: int = 1) -> np.ndarray:
    """Decodes the pixels of a dataset.

    Args:
        dataset: from `load`.
        frame: which frame of a multi-frame object, from 0; all when omitted.
        number: place among the files of its folder by name, for messages.

    Returns:
        Stored values, integer, (rows, cols) or (frames, rows, cols). Of JPEG 2000 whose codestream
        says that samples are signed they are, whatever the header says; where it says unsigned and
        the header signed, they are the two's complement that the header speaks of.

    Raises:
        PatientError: NO_PIXEL_DATA, FILE_TRUNCATED, FILE_UNREADABLE or UNDECODABLE_SYNTAX.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    require_decoder(syntax)
    where = f"file {number} by name"
    if "PixelData" not in dataset:
        raise PatientError(
            Code.FILE_TRUNCATED, f"{where} ends before its pixel data does; copy or export it again"
        )
    with readable(where):
        length, encoded = _native_length(dataset), dataset.PixelData
        get = dataset.get
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
            where=where,
        )
        stored, high = _bits(dataset, where)
        coded = declared(dataset) if syntax.is_encapsulated else None
    if not syntax.is_encapsulated and len(encoded) < length:
        raise PatientError(
            Code.FILE_TRUNCATED,
            f"{where} has fewer pixels than its header says; copy or export it again",
        )
    if coded and coded.shape != (dataset.Rows, dataset.Columns):
        raise PatientError(
            Code.FILE_UNREADABLE,
            f"{where} has pixels of another matrix than its header says; export it again",
        )
    raised = high != stored - 1  # the pixel stands above the lowest bits
    if raised and syntax.is_encapsulated and syntax != RLELossless:
        if coded is None or coded.precision != stored:
            raise PatientError(
                Code.FILE_UNREADABLE,
                f"{where} is compressed, and which bits of its samples are the "
                "pixel is unclear; export it uncompressed",
            )
        raised = False
    if coded and coded.signed:
        dataset.PixelRepresentation = 1
    try:
        values, _ = get_decoder(syntax).as_array(
            dataset,
            index=frame,
            correct_unused_bits=not raised,  # type: ignore[arg-type]  # pydicom lacks an Unpack
        )
    except DICOM_FAULTS:
        raise PatientError(
            Code.UNDECODABLE_SYNTAX,
            f"{syntax.name}: {where} cannot be decoded by what is "
            "installed, or is damaged; export it uncompressed",
        ) from None
    return within_bits(values, stored, high) if raised else values


def _bits(dataset: Dataset, where: str) -> tuple[int, int]:
    """BitsStored and HighBit, which many take as given; HighBit stands apart from BitsStored - 1 in
    files of before 2014 alone.

    Raises:
        PatientError: FILE_UNREADABLE.
    """
    allocated, stored = int(dataset.BitsAllocated), dataset.get("BitsStored")
    if stored is None or not 1 <= int(stored) <= allocated:
        raise PatientError(
            Code.FILE_UNREADABLE,
            f"{where} does not say how many bits its pixels have; export it again",
        )
    high = dataset.get("HighBit")
    high = int(stored) - 1 if high is None else int(high)
    if not int(stored) - 1 <= high < allocated:
        raise PatientError(
            Code.FILE_UNREADABLE,
            f"{where} says of its pixels that they lie in bits that "
            "they cannot lie in; export it again",
        )
    return int(stored), high


def unsigned_precision(dataset: Dataset) -> int | None:
    """Bits of a sample where a JPEG 2000 codestream says unsigned and the header signed; None where
    they do not contradict each other so.

    Args:
        dataset: from `load`.
    """
    if (
        not dataset.file_meta.TransferSyntaxUID.is_encapsulated
        or dataset.get("PixelRepresentation") != 1
    ):
        return None
    found = declared(dataset)
    return found.precision if found and found.signed is False else None


def declared(dataset: Dataset) -> Codestream | None:
    """What the first frame's codestream declares: a decoder takes memory for its matrix, whatever
    the header says.

    Args:
        dataset: from `load`, compressed.
    """
    encapsulated = dataset.PixelData
    start = (
        8 + int.from_bytes(encapsulated[4:8], "little") + 8
    )  # the offset table's item, and the first fragment's head (PS3.5, A.4)
    return codestream(encapsulated[start : start + 4096])


def native_pixels(header: Header) -> np.ndarray | None:
    """The pixels of a plain single-frame image straight from its file, without parsing it again.

    Args:
        header: from `read_header`, with BitsAllocated, BitsStored, HighBit and PixelRepresentation
            among its tags.

    Returns:
        Stored values, int16 or uint16 (rows, cols); None where the file is not that plain.
    """
    get = header.dataset.get
    plain = (
        get("BitsAllocated") == 16
        and get("SamplesPerPixel") in (1, None)
        and get("NumberOfFrames") in (1, None)
    )
    if (
        header.native_at is None
        or not plain
        or get("PixelRepresentation") not in (0, 1)
        or get("BitsStored") not in range(1, 17)
    ):
        return None
    stored = int(header.dataset.BitsStored)
    high = stored - 1 if get("HighBit") is None else get("HighBit")
    if high not in range(stored - 1, 16):
        return None
    shape = int(header.dataset.Rows), int(header.dataset.Columns)
    with readable(f"file {header.number} by name"):
        values = np.fromfile(
            header.path,
            "<i2" if get("PixelRepresentation") else "<u2",
            shape[0] * shape[1],
            offset=header.native_at,
        )
        return within_bits(values.reshape(shape), stored, high)


def within_bits(values: np.ndarray, stored: int, high: int | None = None) -> np.ndarray:
    """What the bits of a pixel say, the sign extended where it is signed: the bits above and below
    are no part of it (PS3.5, 8.1.1).

    Args:
        values: int16 or another integer type, of any shape.
        stored: BitsStored.
        high: HighBit, the place of the pixel's highest bit; stored - 1 when omitted.
    """
    width = 8 * values.dtype.itemsize
    above = width - 1 - (stored - 1 if high is None else high)
    return values << above >> width - stored if width > stored else values


def _native_length(dataset: Dataset) -> int:
    """Bytes of native pixel data, without the padding byte (DICOM PS3.5, 8.1.1)."""
    samples = (
        int(dataset.Rows)
        * int(dataset.Columns)
        * int(dataset.get("SamplesPerPixel") or 1)
        * int(dataset.get("NumberOfFrames") or 1)
    )
    return (samples * int(dataset.BitsAllocated) + 7) // 8
