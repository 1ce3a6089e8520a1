"""The voxels of a volume file, streamed: of a long case only what is wanted ever stands in memory."""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import BinaryIO, Literal, Protocol

import numpy as np
from isal import igzip, igzip_lib

from renal_ray.imaging.geometry.grid import Grid
from renal_ray.imaging.images.source import HuStack
from renal_ray.problems import Code, PatientError

UNPACKING_FAULTS: tuple[type[Exception], ...] = (OSError, ValueError, zlib.error, igzip_lib.IsalError)  # type: ignore[assignment] # a class, though its stub says otherwise
LEAST_LABEL = -100  # label maps may use a few negative values for what is not labelled; air and fat lie below
BLOCK = 8 << 20  # bytes of voxels that are unpacked at once
CHUNK = 512 << 10  # bytes of a packed file that are read at once
GZIP_MAGIC = b"\x1f\x8b"
Packing = Literal["raw", "deflated"]


@dataclass(frozen=True)
class Voxels:
    """The voxels of a volume file, still on disk.

    Args:
        path: the file that holds them.
        grid: as stored, the fastest axis first.
        dtype: of a stored voxel.
        kind: what kind of file it is, in words.
        start: bytes of the file before the voxels, or before the packed stream that they are in.
        offset: bytes of the unpacked stream before the first voxel; 0 for raw voxels.
        packing: whether they are raw, or in a gzip or zlib stream.
        slope: of the scaling; 1 where there is none.
        intercept: of the scaling.
    """

    path: Path
    grid: Grid
    dtype: np.dtype
    kind: str
    start: int
    offset: int = 0
    packing: Packing = "raw"
    slope: float = 1.0
    intercept: float = 0.0

    def take(self, axis: int, places: np.ndarray) -> np.ndarray:
        """Attenuation at ascending places along one axis, the others whole, int16 or float32; voxels that are not a number are air.

        Raises:
            PatientError: FILE_TRUNCATED or FILE_UNREADABLE.
        """
        shape = tuple(len(places) if one == axis else n for one, n in enumerate(self.grid.shape))
        out = HuStack(shape, order="C" if axis == 0 else "F")  # as the display will want it
        wanted = slice(int(places[0]), int(places[-1]) + 1) if places[-1] - places[0] + 1 == len(places) else places
        planes = np.ones(self.grid.shape[2], bool)
        if axis == 2:
            planes = np.isin(np.arange(self.grid.shape[2]), places)
        for first, block in self._blocks(planes):
            here = slice(first, first + block.shape[2])
            if axis == 2:
                inside = (places >= first) & (places < here.stop)
                out.put((slice(None), slice(None), inside), self._scaled(block[:, :, places[inside] - first]))
            else:
                out.put((slice(None), slice(None), here), self._scaled(block[wanted] if axis == 0 else block[:, wanted]))
        return out.array

    def hits(self, axis: int, labels: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """Places along an axis where any rounded value is one of the labels, ascending, and there where: bool, the others whole.

        Raises:
            PatientError: MASK_UNSUPPORTED when the values are those of an image, FILE_TRUNCATED or FILE_UNREADABLE.
        """
        rows, columns, depth = self.grid.shape
        packed: dict[int, np.ndarray] = {}  # a plane's bits, eight to the byte: a label map is as large as its image
        hit = np.zeros(self.grid.shape[axis], bool)
        for first, block in self._blocks(np.ones(depth, bool)):
            values = self._whole(block)
            if values.dtype.kind != "u" and (values < LEAST_LABEL).any():
                least = float(np.nanmin(values))
                raise PatientError(Code.MASK_UNSUPPORTED, f"the mask holds values down to {least:.0f}, as a CT image does; name the label map as the mask")
            mask = reduce(np.logical_or, (values == label for label in labels))  # several times faster than a set test
            for k in np.flatnonzero(mask.any(axis=(0, 1))).tolist():
                packed[first + k] = np.packbits(mask[:, :, k].T)
                if axis == 2:
                    hit[first + k] = True
                else:
                    hit |= mask[:, :, k].any(axis=1 - axis)
        places = np.flatnonzero(hit)
        shape = tuple(len(places) if one == axis else n for one, n in enumerate(self.grid.shape))
        out = np.zeros(shape, bool, order="C" if axis == 0 else "F")
        for k, bits in packed.items():
            plane = np.unpackbits(bits, count=rows * columns).reshape(columns, rows).view(bool).T
            if axis == 2:
                out[:, :, np.searchsorted(places, k)] = plane
            else:
                out[:, :, k] = plane[places] if axis == 0 else plane[:, places]
        return places, out

    def values(self) -> list[int]:
        """Up to ten of the rounded values that it holds.

        Raises:
            PatientError: FILE_TRUNCATED or FILE_UNREADABLE.
        """
        found: set[int] = set()
        for _, block in self._blocks(np.ones(self.grid.shape[2], bool)):
            values = self._whole(block)
            found |= {int(value) for value in np.unique(values[np.isfinite(values)])[:11]}
            if len(found) > 10:
                break
        return sorted(found)[:10]

    def sample(self, planes: np.ndarray) -> np.ndarray:
        """Values of whole planes along the slowest axis, scaled, as they come; unlike what `take` gives, those that are not a number stay so.

        Args:
            planes: ascending.

        Raises:
            PatientError: FILE_TRUNCATED or FILE_UNREADABLE.
        """
        wanted = np.isin(np.arange(self.grid.shape[2]), planes)
        return np.concatenate([self._scaled(block[:, :, wanted[first : first + block.shape[2]]]).ravel() for first, block in self._blocks(wanted)])

    def _scaled(self, block: np.ndarray) -> np.ndarray:
        return block if (self.slope, self.intercept) == (1, 0) else block * np.float64(self.slope) + self.intercept

    def _whole(self, block: np.ndarray) -> np.ndarray:
        """Scaled values, rounded: label maps are often saved as floating point."""
        scaled = self._scaled(block)
        return scaled if scaled.dtype.kind in "iu" else np.rint(scaled)

    def _blocks(self, wanted: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """Unpacks planes along the slowest axis, block by block, up to the last one wanted.

        Args:
            wanted: bool, a plane each; blocks without one are passed over.

        Returns:
            First plane, and stored values (i, j, planes).
        """
        rows, columns, depth = self.grid.shape
        plane = rows * columns * self.dtype.itemsize
        planes = max(1, BLOCK // plane)
        last = int(np.flatnonzero(wanted)[-1]) + 1
        with self._stream() as stream:
            stream.skip(self.offset)
            for first in range(0, last, planes):
                count = min(planes, last - first)
                if not wanted[first : first + count].any():
                    stream.skip(count * plane)
                    continue
                yield first, np.frombuffer(stream.read(count * plane), self.dtype).reshape((rows, columns, count), order="F")
            if last == depth:
                stream.verify()

    @contextmanager
    def _stream(self) -> Iterator["_Stream"]:
        """The bytes of the file from the voxels on, unpacked as they are asked for."""
        try:
            # read, not mapped: mapped pages that were looked at count as memory of the process, and a file that shrinks meanwhile ends it
            with self.path.open("rb") as file:
                file.seek(self.start)
                yield _Raw(file) if self.packing == "raw" else _Deflated(file)
        except EOFError:
            raise PatientError(Code.FILE_TRUNCATED, f"the {self.kind} ends before its voxels do; copy it again") from None
        except UNPACKING_FAULTS:
            raise PatientError(Code.FILE_UNREADABLE, f"the {self.kind} is damaged: its voxels cannot be unpacked; copy it again") from None


class _Stream(Protocol):
    def read(self, count: int) -> bytes:
        """So many bytes; EOFError where there are fewer."""
        ...

    def skip(self, count: int) -> None:
        """Passes over bytes."""
        ...

    def verify(self) -> None:
        """Compares the checksum at the end of the stream, where there is one."""
        ...


class _Raw:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, count: int) -> bytes:
        data = self._file.read(count)
        if len(data) < count:
            raise EOFError
        return data

    def skip(self, count: int) -> None:
        self._file.seek(count, 1)

    def verify(self) -> None:
        """Raw voxels carry no checksum."""


class _Deflated:
    """A gzip stream of one or more members, or a zlib stream."""

    def __init__(self, file: BinaryIO) -> None:
        start = file.tell()
        gzipped = file.read(2) == GZIP_MAGIC
        file.seek(start)
        self._stream = igzip.IGzipFile(fileobj=file, mode="rb") if gzipped else _Zlib(file)

    def read(self, count: int) -> bytes:
        data = self._stream.read(count)
        if len(data) < count:
            raise EOFError
        return data

    def skip(self, count: int) -> None:
        while count > 0:
            count -= len(self.read(min(count, BLOCK)))

    def verify(self) -> None:
        """The checksum is compared once the end is reached; what follows the voxels in the stream is left alone."""
        self._stream.read(1)


class _Zlib:
    def __init__(self, file: BinaryIO) -> None:
        self._file, self._inflate = file, igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_ZLIB)

    def read(self, count: int) -> bytes:
        """So many bytes, fewer at the end of the stream; EOFError where the file ends before the stream does."""
        parts = []
        while count > 0 and not self._inflate.eof:
            more = self._file.read(CHUNK) if self._inflate.needs_input else b""
            if self._inflate.needs_input and not more:
                raise EOFError
            parts.append(self._inflate.decompress(more, count))
            count -= len(parts[-1])
        return b"".join(parts)
