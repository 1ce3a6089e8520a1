"""What a DICOM file may declare, checked before memory is taken for it."""

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom.uid import DeflatedExplicitVRLittleEndian

from renal_ray.problems import Code, PatientError

MOST_PIXELS = 4096  # rows or columns; CT matrices end at 2048
MOST_FRAMES = 1 << 16
MOST_FRAME_BYTES = 64 << 20
INFLATED_FREE, INFLATED_RATIO = (
    32 << 20,
    64,
)  # a deflated file may become so many bytes, and so many times its size
BLOCK = 1 << 18


def require_sane(
    rows: Any, columns: Any, frames: Any, bits: Any, samples: Any, *, where: str
) -> None:
    """Refuses an image whose header declares more than any CT has.

    Args:
        rows, columns, frames, bits, samples: Rows, Columns, NumberOfFrames, BitsAllocated,
            SamplesPerPixel, or None.
        where: names the file in the message.

    Raises:
        PatientError: TOO_LARGE.
    """
    height, width = (1 if value in (None, "") else int(value) for value in (rows, columns))
    count, depth, channels = (int(value or 1) for value in (frames, bits, samples))
    if min(height, width, count, depth, channels) < 1:
        raise PatientError(
            Code.FILE_UNREADABLE,
            f"{where} declares a matrix of less than one pixel; export it again",
        )
    if (
        max(height, width) > MOST_PIXELS
        or count > MOST_FRAMES
        or height * width * channels * depth > 8 * MOST_FRAME_BYTES
    ):
        raise PatientError(
            Code.TOO_LARGE,
            f"{where} declares {count} frames of {height} x {width}, "
            "more than any CT has; export it again",
        )


def require_bounded_inflation(path: Path, *, where: str) -> None:
    """Refuses a deflated file that would become absurdly large; other files pass.

    Args:
        path: a DICOM file.
        where: names it in the message.

    Raises:
        PatientError: TOO_LARGE.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(1024)
        at = start.find(DeflatedExplicitVRLittleEndian.encode(), 132)
        if at < 0 or start[128:132] != b"DICM" or start[132:140] != b"\x02\x00\x00\x00UL\x04\x00":
            return
        file.seek(144 + int.from_bytes(start[140:144], "little"))
        inflater, total = zlib.decompressobj(-zlib.MAX_WBITS), 0
        while data := inflater.unconsumed_tail or file.read(BLOCK):
            total += len(
                inflater.decompress(data, BLOCK)
            )  # zlib.error where it is damaged: for the caller to name
            if total > INFLATED_FREE + INFLATED_RATIO * size:
                raise PatientError(
                    Code.TOO_LARGE,
                    f"{where} inflates to far more than its size; export it uncompressed",
                )
            if inflater.eof:
                return


@dataclass(frozen=True)
class Codestream:
    """What the codestream of a compressed image says of itself.

    Args:
        shape: rows, columns.
        precision: bits of a sample.
        signed: whether samples are signed; None where its kind cannot say, as JPEG and JPEG-LS.
        lossy: whether it surely lost something: the irreversible wavelet, or the cosine transform.
    """

    shape: tuple[int, int]
    precision: int
    signed: bool | None
    lossy: bool


def codestream(data: bytes) -> Codestream | None:
    """What a JPEG, JPEG-LS or JPEG 2000 codestream declares.

    Args:
        data: its first kilobytes.

    Returns:
        None where it is no such codestream or says nothing.
    """
    siz = data.find(
        b"\xff\x4f\xff\x51"
    )  # SOC and SIZ of JPEG 2000 (ISO 15444-1, A.5.1), alone or in a JP2 box
    if siz >= 0 and len(data) >= siz + 43:
        x, y, x0, y0 = (
            int.from_bytes(data[siz + 8 + 4 * k : siz + 12 + 4 * k], "big") for k in range(4)
        )
        depth = data[siz + 42]
        cod = data.find(b"\xff\x52", siz)  # its 14th byte names the wavelet (A.6.1)
        return Codestream(
            (y - y0, x - x0),
            (depth & 0x7F) + 1,
            bool(depth & 0x80),
            cod >= 0 and data[cod + 13 : cod + 14] == b"\0",
        )
    at = 2 if data[:2] == b"\xff\xd8" else len(data)
    while at + 9 <= len(
        data
    ):  # JPEG and JPEG-LS: segments up to the start of frame (ISO 10918-1, B.2.2)
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
        elif (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)) or marker == 0xF7:
            rows, columns = (int.from_bytes(data[at + k : at + k + 2], "big") for k in (5, 7))
            return Codestream((rows, columns), data[at + 4], None, marker in (0xC0, 0xC1, 0xC2))
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None
