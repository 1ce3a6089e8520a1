"""Pixels of DICOM objects, with a reason where they cannot be had."""

from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.pixels import get_decoder
from pydicom.uid import UID

from renal_ray.dicom.headers import DICOM_FAULTS, Header, readable, syntax_of
from renal_ray.dicom.limits import codestream_size, require_bounded_inflation, require_sane
from renal_ray.problems import Code, PatientError


def require_decoder(syntax: str) -> None:
    """Refuses a transfer syntax that nothing installed here decodes.

    Args:
        syntax: transfer syntax UID.

    Raises:
        PatientError: UNDECODABLE_SYNTAX, with the syntax by its name and what to install.
    """
    uid = UID(syntax)
    name = uid.name if uid.is_valid else "a transfer syntax that is no UID"
    try:
        decoder = get_decoder(uid)
    except NotImplementedError:
        raise PatientError(Code.UNDECODABLE_SYNTAX, f"{name}: no decoder exists; export the series uncompressed") from None
    if not decoder.is_available:
        missing = " or ".join(decoder.missing_dependencies)
        raise PatientError(Code.UNDECODABLE_SYNTAX, f"{name}: no decoder is installed ({missing}); install one, or export the series uncompressed")


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
        Stored values, integer, (rows, cols) or (frames, rows, cols).

    Raises:
        PatientError: NO_PIXEL_DATA, FILE_TRUNCATED or UNDECODABLE_SYNTAX.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    require_decoder(syntax)
    if "PixelData" not in dataset:
        raise PatientError(Code.FILE_TRUNCATED, f"file {number} by name ends before its pixel data does; copy or export it again")
    with readable(f"file {number} by name"):
        length, encoded = _native_length(dataset), dataset.PixelData
        get = dataset.get
        require_sane(*(get(keyword) for keyword in ("Rows", "Columns", "NumberOfFrames", "BitsAllocated", "SamplesPerPixel")), where=f"file {number} by name")
    if not syntax.is_encapsulated and len(encoded) < length:
        raise PatientError(Code.FILE_TRUNCATED, f"file {number} by name has fewer pixels than its header says; copy or export it again")
    if syntax.is_encapsulated and (size := _declared_size(encoded)) and size != (dataset.Rows, dataset.Columns):
        raise PatientError(Code.FILE_UNREADABLE, f"file {number} by name has pixels of another matrix than its header says; export it again")
    try:
        return get_decoder(syntax).as_array(dataset, index=frame)[0]
    except DICOM_FAULTS:
        raise PatientError(
            Code.UNDECODABLE_SYNTAX, f"{syntax.name}: file {number} by name cannot be decoded by what is installed, or is damaged; export it uncompressed"
        ) from None


def _declared_size(encapsulated: bytes) -> tuple[int, int] | None:
    """Rows and columns that the first frame's codestream declares: a decoder takes memory for them, whatever the header says."""
    start = 8 + int.from_bytes(encapsulated[4:8], "little") + 8  # the offset table's item, and the first fragment's head (PS3.5, A.4)
    return codestream_size(encapsulated[start : start + 4096])


def native_pixels(header: Header) -> np.ndarray | None:
    """The pixels of a plain single-frame image straight from its file, without parsing it again.

    Args:
        header: from `read_header`, with BitsAllocated, BitsStored and PixelRepresentation among its tags.

    Returns:
        Stored values, int16 or uint16 (rows, cols); None where the file is not that plain.
    """
    get = header.dataset.get
    plain = get("BitsAllocated") == 16 and get("SamplesPerPixel") in (1, None) and get("NumberOfFrames") in (1, None)
    if header.native_at is None or not plain or get("PixelRepresentation") not in (0, 1) or get("BitsStored") not in range(1, 17):
        return None
    shape = int(header.dataset.Rows), int(header.dataset.Columns)
    with readable(f"file {header.number} by name"):
        values = np.fromfile(header.path, "<i2" if get("PixelRepresentation") else "<u2", shape[0] * shape[1], offset=header.native_at)
        return within_bits(values.reshape(shape), int(header.dataset.BitsStored))


def within_bits(values: np.ndarray, stored: int) -> np.ndarray:
    """What the lowest bits of stored values say, the sign extended where they are signed: the bits above are no part of a pixel (PS3.5, 8.1.1).

    Args:
        values: int16 or another integer type, of any shape.
        stored: BitsStored.
    """
    unused = 8 * values.dtype.itemsize - stored
    return values << unused >> unused if unused > 0 else values


def _native_length(dataset: Dataset) -> int:
    """Bytes of native pixel data, without the padding byte (DICOM PS3.5, 8.1.1)."""
    samples = int(dataset.Rows) * int(dataset.Columns) * int(dataset.get("SamplesPerPixel") or 1) * int(dataset.get("NumberOfFrames") or 1)
    return (samples * int(dataset.BitsAllocated) + 7) // 8
