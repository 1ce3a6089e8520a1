"""The plain header of a plain DICOM file, many times faster than a general parser: what is unusual
is left to pydicom."""

import struct
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from typing import Any, BinaryIO

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

CHUNK = 1 << 16  # bytes in which an ordinary header ends
LONG = frozenset(
    (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
)  # PS3.5, 7.1.2: four bytes of length
NUMBERS = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FD": "d", "FL": "f"}
TEXTS = frozenset(("AE", "AS", "CS", "DA", "DT", "LO", "LT", "PN", "SH", "ST", "TM", "UI"))
UNDEFINED = 0xFFFFFFFF
PIXELS = 0x7FE00010
LAST_BEFORE_PIXELS = 0x7FDFFFFF


class FlatDataset(dict[str, Any]):
    """Elements by keyword, with as much of a pydicom Dataset's manners as readers of headers
    use."""

    file_meta: dict[str, str]

    def __getattr__(self, keyword: str) -> Any:
        try:
            return self[keyword]
        except KeyError:
            raise AttributeError(keyword) from None


@dataclass(frozen=True)
class FlatHeader:
    """What was found.

    Args:
        dataset: the elements asked for.
        pixels_at: offset of the pixel element's value.
        pixels_length: its length in bytes; None where it is encapsulated.
    """

    dataset: FlatDataset
    pixels_at: int
    pixels_length: int | None


@cache
def _wanted(keywords: tuple[str, ...]) -> dict[int, tuple[str, str]]:
    tags = {keyword: tag_for_keyword(keyword) for keyword in keywords}
    return {tag: (keyword, dictionary_VR(tag)) for keyword, tag in tags.items() if tag is not None}


def read_flat(file: BinaryIO, keywords: Collection[str]) -> FlatHeader | None:
    """Reads wanted elements of the top level, up to the pixels.

    Args:
        file: at its start.
        keywords: elements wanted.

    Returns:
        The header; None where anything is not plain: no preamble, deflated, big endian, a wanted
        sequence, an unknown value representation, text that is not ASCII, an odd length, no pixels
        within the first 64 KiB. Then a general parser has to look.
    """
    data = file.read(CHUNK)
    if data[128:132] != b"DICM":
        return None
    try:
        meta, start = _meta(data)
        syntax = meta.get("TransferSyntaxUID", "")
        if syntax in ("", DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian):
            return None
        return _elements(
            data, start, meta, _wanted(tuple(keywords)), implicit=syntax == ImplicitVRLittleEndian
        )
    except (struct.error, IndexError, UnicodeDecodeError):
        return None


def _meta(data: bytes) -> tuple[dict[str, str], int]:
    """The transfer syntax and storage class of the file meta information, which is explicit little
    endian, and where the dataset begins."""
    if data[132:140] != b"\x02\x00\x00\x00UL\x04\x00":
        raise IndexError
    end, at = 144 + int(struct.unpack_from("<I", data, 140)[0]), 144
    found = {}
    names = {0x0010: "TransferSyntaxUID", 0x0002: "MediaStorageSOPClassUID"}
    while at < end:
        group, element, vr, length = struct.unpack_from("<HH2sH", data, at)
        if group != 2:
            raise IndexError
        at += 8
        if vr in LONG:
            (length,) = struct.unpack_from("<I", data, at)
            at += 4
        if element in names:
            found[names[element]] = data[at : at + length].decode("ascii").rstrip("\0 ")
        at += length
    return found, end


def _elements(
    data: bytes,
    at: int,
    meta: dict[str, str],
    wanted: dict[int, tuple[str, str]],
    *,
    implicit: bool,
) -> FlatHeader | None:
    dataset = FlatDataset()
    dataset.file_meta = meta
    before, size = 0, len(data)
    unpack = struct.Struct("<HHI" if implicit else "<HH2sH").unpack_from
    while at + 8 <= size:
        if implicit:
            group, element, length = unpack(data, at)
            vr = b""
            at += 8
        else:
            group, element, vr, length = unpack(data, at)
            at += 8
            if vr in LONG:
                (length,) = struct.unpack_from("<I", data, at)
                at += 4
            elif not vr.isalpha():
                return None
        tag = group << 16 | element
        if tag <= before:  # elements stand in ascending order
            return None
        before = tag
        if tag > LAST_BEFORE_PIXELS:
            plain = tag == PIXELS and vr in (b"", b"OB", b"OW")
            return (
                FlatHeader(dataset, at, None if length == UNDEFINED else length) if plain else None
            )
        if length == UNDEFINED or length % 2:
            return None
        if tag in wanted:
            keyword, expected = wanted[tag]
            kind = vr.decode() or expected
            if kind not in expected and not (kind in TEXTS and expected in TEXTS):
                return None
            value = _value(data[at : at + length], kind if " or " not in kind else "", length)
            if value is None or at + length > size:
                return None
            dataset[keyword] = value
        at += length
    return None


def _value(raw: bytes, kind: str, length: int) -> Any:
    """A value as pydicom gives it: text, a number, or a list of them; None for kinds that are left
    to pydicom."""
    if kind in NUMBERS:
        values: list[Any] = list(
            struct.unpack(f"<{length // struct.calcsize(NUMBERS[kind])}{NUMBERS[kind]}", raw)
        )
    elif kind in TEXTS or kind in ("DS", "IS"):
        text = raw.decode("ascii")
        if kind in TEXTS and "\\" not in text:
            return text.strip(" \0")
        values = [part.strip(" \0") for part in text.split("\\")]
        if kind in ("DS", "IS") and values != [""]:
            convert = float if kind == "DS" else int
            try:
                values = [convert(part) for part in values]
            except ValueError:
                return None
    else:
        return None
    return values[0] if len(values) == 1 else values
