"""What can happen to a file: Hypothesis draws a list of these, and shrinks it when a reader falls
over."""

import gzip
import zlib
from dataclasses import dataclass
from typing import Literal

from hypothesis import strategies as st

NASTY = (
    0,
    1,
    2,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFF,
    0xFFFE,
    60_000,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFE,
    0xFFFFFFFF,
)
Kind = Literal["bytes", "number", "cut", "insert", "repeat", "delete", "length", "swap"]


@dataclass(frozen=True)
class Mutation:
    """One change.

    Args:
        kind: what is done.
        where: place in the file, as a share of its length; of the places that the kind touches for
            `length`.
        value: what is written, or how much is cut, inserted or repeated.
        header: only the first kilobyte is touched, where the structure is.
    """

    kind: Kind
    where: float
    value: int
    header: bool

    def apply(self, data: bytes) -> bytes:
        """The changed bytes."""
        if not data:
            return data
        at = int(self.where * (min(len(data), 1024) if self.header else len(data)))
        size = 1 + self.value % 64
        nasty = NASTY[self.value % len(NASTY)]
        match self.kind:
            case "bytes":
                return (
                    data[:at]
                    + (data[at] ^ (1 << (self.value % 8)) if at < len(data) else 0).to_bytes(
                        1, "little"
                    )
                    + data[at + 1 :]
                )
            case "number":
                width = (1, 2, 4, 8)[self.value % 4]
                return (
                    data[:at]
                    + (nasty % (1 << 8 * width)).to_bytes(
                        width, ("little", "big")[self.value // 4 % 2]
                    )
                    + data[at + width :]
                )
            case "cut":
                return data[:at]
            case "insert":
                return data[:at] + nasty.to_bytes(4, "little") * size + data[at:]
            case "repeat":
                return data[:at] + data[at : at + size] * (2 + self.value % 50) + data[at + size :]
            case "delete":
                return data[:at] + data[at + size :]
            case "length":
                return self._element_length(data, nasty)
            case "swap":
                return data[at:] + data[:at]

    def _element_length(self, data: bytes, nasty: int) -> bytes:
        """Changes the length or the value's first bytes of one DICOM element with an explicit
        VR."""
        places = [
            place
            for vr in (b"SQ", b"OW", b"OB", b"US", b"DS", b"IS", b"UI", b"CS", b"UL", b"LO", b"UN")
            for place in _places(data, vr)
        ]
        if not places:
            return data
        at = sorted(places)[int(self.where * len(places)) % len(places)]
        long = data[at : at + 2] in (b"SQ", b"OW", b"OB", b"UN")
        start, width = (at + 4, 4) if long else (at + 2, 2)
        if self.value % 3 == 0:
            start, width = start + width, 2
        return (
            data[:start]
            + (nasty % (1 << 8 * width)).to_bytes(width, "little")
            + data[start + width :]
        )


def _places(data: bytes, vr: bytes) -> list[int]:
    found, at = [], data.find(vr)
    while at >= 0 and len(found) < 200:
        found.append(at)
        at = data.find(vr, at + 1)
    return found


MUTATIONS = st.lists(
    st.builds(
        Mutation,
        kind=st.sampled_from(
            (
                "bytes",
                "number",
                "cut",
                "insert",
                "repeat",
                "delete",
                "length",
                "length",
                "number",
                "swap",
            )
        ),
        where=st.floats(0, 1, exclude_max=True, width=32),
        value=st.integers(0, 2**16 - 1),
        header=st.booleans(),
    ),
    min_size=1,
    max_size=5,
)


def mutate(data: bytes, mutations: list[Mutation], *, inside: bool) -> bytes:
    """Applies mutations.

    Args:
        data: a file's bytes.
        mutations: in order.
        inside: change what a gzip or deflated DICOM file holds, and compress it again; otherwise
            change the bytes as they are.
    """
    deflated = inside and b"1.2.840.10008.1.2.1.99" in data[:1024]
    if inside and data[:2] == b"\x1f\x8b":
        return gzip.compress(_each(gzip.decompress(data), mutations), 1)
    if deflated:
        start = 144 + int.from_bytes(
            data[140:144], "little"
        )  # preamble, DICM, group length and what it counts
        packer = zlib.compressobj(wbits=-15)
        return (
            data[:start]
            + packer.compress(_each(zlib.decompressobj(-15).decompress(data[start:]), mutations))
            + packer.flush()
        )
    return _each(data, mutations)


def _each(data: bytes, mutations: list[Mutation]) -> bytes:
    for mutation in mutations:
        data = mutation.apply(data)
    return data
