"""The bytes of a volume file, raw or unpacked as they are asked for."""

import zlib
from typing import BinaryIO, Protocol

from isal import igzip_lib

UNPACKING_FAULTS: tuple[type[Exception], ...] = (
    OSError,
    ValueError,
    zlib.error,
    igzip_lib.IsalError,
)  # type: ignore[assignment] # a class, though its stub says otherwise
BLOCK = 4 << 20  # bytes of voxels that are unpacked at once; more leave the processor's cache
CHUNK = 512 << 10  # bytes of a packed file that are read at once
GZIP_MAGIC = b"\x1f\x8b"


class Stream(Protocol):
    """Bytes one after another."""

    def read(self, count: int) -> bytes:
        """So many bytes; EOFError where there are fewer."""
        ...

    def skip(self, count: int) -> None:
        """Passes over bytes."""
        ...

    def verify(self) -> None:
        """Compares the checksum at the end of the stream, where there is one."""
        ...


class Raw:
    """The bytes of a file as they are.

    Args:
        file: at the first byte.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, count: int) -> bytes:
        """So many bytes; EOFError where there are fewer."""
        data = self._file.read(count)
        if len(data) < count:
            raise EOFError
        return data

    def skip(self, count: int) -> None:
        """Passes over bytes."""
        self._file.seek(count, 1)

    def verify(self) -> None:
        """Raw voxels carry no checksum."""


class Deflated:
    """A zlib stream (RFC 1950), or a gzip stream of one or more members (RFC 1952). As for gzip,
    what follows the last member and is none is no part of it.

    Args:
        file: at the first byte.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._left = file, file.read(CHUNK)
        self._another = self._left.startswith(GZIP_MAGIC)  # whether members can follow
        self._inflate = igzip_lib.IgzipDecompressor(
            flag=igzip_lib.DECOMP_GZIP if self._another else igzip_lib.DECOMP_ZLIB
        )

    def read(self, count: int) -> bytes:
        """So many bytes; EOFError where the stream or its file ends before."""
        data = self.read_up_to(count)
        if len(data) < count:
            raise EOFError
        return data

    def read_up_to(self, count: int) -> bytes:
        """So many bytes, fewer at the end of the stream; EOFError where the file ends before the
        stream does."""
        parts = []
        while count > 0 and (not self._inflate.eof or self._next_member()):
            more = (self._left or self._file.read(CHUNK)) if self._inflate.needs_input else b""
            if self._inflate.needs_input and not more:
                raise EOFError
            if more:
                self._left = b""
            parts.append(self._inflate.decompress(more, count))
            count -= len(parts[-1])
        return b"".join(parts)

    def _next_member(self) -> bool:
        """Begins the next member of a gzip stream behind any zeros; False where there is none."""
        if not self._another:
            return False
        rest = (self._inflate.unused_data + self._left).lstrip(b"\0")
        while len(rest) < len(GZIP_MAGIC) and (more := self._file.read(CHUNK)):
            rest = (rest + more).lstrip(b"\0")
        self._another = rest.startswith(GZIP_MAGIC)
        if self._another:
            self._left, self._inflate = (
                rest,
                igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP),
            )
        return self._another

    def skip(self, count: int) -> None:
        """Passes over bytes; EOFError where there are fewer."""
        while count > 0:
            count -= len(self.read(min(count, BLOCK)))

    def verify(self) -> None:
        """The checksum is compared once the end is reached; what follows the voxels in the stream
        is left alone."""
        self.read_up_to(1)
