"""Pixels of DICOM objects, with a reason where they cannot be had."""

from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.pixels import get_decoder
from pydicom.uid import UID

from renal_ray.dicom.headers import DICOM_FAULTS, readable, syntax_of
from renal_ray.problems import Code, PatientError


def require_decoder(syntax: str) -> None:
    """Refuses a transfer syntax that nothing installed here decodes.

    Args:
        syntax: transfer syntax UID.

    Raises:
        PatientError: UNDECODABLE_SYNTAX, with the syntax by its name and what to install.
    """
    try:
        decoder = get_decoder(UID(syntax))
    except NotImplementedError:
        raise PatientError(Code.UNDECODABLE_SYNTAX, f"{UID(syntax).name}: no decoder exists; export the series uncompressed") from None
    if not decoder.is_available:
        missing = " or ".join(decoder.missing_dependencies)
        raise PatientError(Code.UNDECODABLE_SYNTAX, f"{UID(syntax).name}: no decoder is installed ({missing}); install one, or export the series uncompressed")


def load(path: Path, *, number: int = 1) -> Dataset:
    """Reads a whole DICOM file.

    Args:
        path: the file.
        number: place among the files of its folder by name, for messages.

    Raises:
        PatientError: FILE_UNREADABLE.
    """
    with readable(f"file {number} by name"):
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
        length = _native_length(dataset)
    if not syntax.is_encapsulated and len(dataset.PixelData) < length:
        raise PatientError(Code.FILE_TRUNCATED, f"file {number} by name has fewer pixels than its header says; copy or export it again")
    try:
        return get_decoder(syntax).as_array(dataset, index=frame)[0]
    except DICOM_FAULTS:
        raise PatientError(
            Code.UNDECODABLE_SYNTAX, f"{syntax.name}: file {number} by name cannot be decoded by what is installed, or is damaged; export it uncompressed"
        ) from None


def _native_length(dataset: Dataset) -> int:
    """Bytes of native pixel data, without the padding byte (DICOM PS3.5, 8.1.1)."""
    samples = int(dataset.Rows) * int(dataset.Columns) * int(dataset.get("SamplesPerPixel") or 1) * int(dataset.get("NumberOfFrames") or 1)
    return (samples * int(dataset.BitsAllocated) + 7) // 8
