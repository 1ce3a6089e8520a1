"""The voxels of a volume file, streamed: of a long case only what is wanted ever stands in
memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Literal

import numpy as np

from renal_ray.imaging.geometry.grid import Grid
from renal_ray.imaging.images.labels import LEAST_LABEL, fractions, refuse_fractions, whole_within
from renal_ray.imaging.images.source import HuStack
from renal_ray.imaging.images.streams import BLOCK, UNPACKING_FAULTS, Deflated, Raw, Stream
from renal_ray.problems import Code, PatientError

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
        """Attenuation at ascending places along one axis, the others whole, int16 or float32;
        voxels that are not a number stay so.

        Raises:
            PatientError: FILE_TRUNCATED or FILE_UNREADABLE.
        """
        shape = tuple(len(places) if one == axis else n for one, n in enumerate(self.grid.shape))
        out = HuStack(shape, order="C" if axis == 0 else "F")  # as the display will want it
        wanted = (
            slice(int(places[0]), int(places[-1]) + 1)
            if places[-1] - places[0] + 1 == len(places)
            else places
        )
        planes = np.ones(self.grid.shape[2], bool)
        if axis == 2:
            planes = np.isin(np.arange(self.grid.shape[2]), places)
        for first, block in self._blocks(planes):
            here = slice(first, first + block.shape[2])
            if axis == 2:
                inside = (places >= first) & (places < here.stop)
                out.put(
                    (slice(None), slice(None), inside),
                    self._scaled(block[:, :, places[inside] - first]),
                )
            else:
                out.put(
                    (slice(None), slice(None), here),
                    self._scaled(block[wanted] if axis == 0 else block[:, wanted]),
                )
        return out.array

    def hits(self, axis: int, labels: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """Places along an axis where any rounded value is one of the labels, ascending, and there
        where: bool, the others whole.

        Raises:
            PatientError: MASK_UNSUPPORTED when the values are those of an image, MASK_INTERPOLATED,
                FILE_TRUNCATED or FILE_UNREADABLE.
        """
        rows, columns, depth = self.grid.shape
        packed: dict[
            int, np.ndarray
        ] = {}  # a plane's bits, eight to the byte: a label map is as large as its image
        hit = np.zeros(self.grid.shape[axis], bool)
        for first, block in self._blocks(np.ones(depth, bool)):
            values = self._whole(block)
            if values is None or (values.dtype.kind != "u" and (values < LEAST_LABEL).any()):
                raise self._no_labels()
            mask = reduce(
                np.logical_or, (values == label for label in labels)
            )  # several times faster than a set test
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
        """Up to ten of the values that a label map holds.

        Raises:
            PatientError: FILE_TRUNCATED or FILE_UNREADABLE.
        """
        found: set[int] = set()
        for _, block in self._blocks(np.ones(self.grid.shape[2], bool)):
            found |= {round(value) for value in np.unique(self._scaled(block))[:11].tolist()}
            if len(found) > 10:
                break
        return sorted(found)[:10]

    def sample(self, planes: np.ndarray) -> np.ndarray:
        """Values of whole planes along the slowest axis, scaled, as they come.

        Args:
            planes: ascending.

        Raises:
            PatientError: FILE_TRUNCATED or FILE_UNREADABLE.
        """
        wanted = np.isin(np.arange(self.grid.shape[2]), planes)
        return np.concatenate(
            [
                self._scaled(block[:, :, wanted[first : first + block.shape[2]]]).ravel()
                for first, block in self._blocks(wanted)
            ]
        )

    def _scaled(self, block: np.ndarray) -> np.ndarray:
        return (
            block
            if (self.slope, self.intercept) == (1, 0)
            else block * np.float64(self.slope) + self.intercept
        )

    def _whole(self, block: np.ndarray) -> np.ndarray | None:
        """Scaled values, rounded: label maps are often saved as floating point. None where they are
        no whole numbers."""
        scaled = self._scaled(block)
        if scaled.dtype.kind in "iu":
            return scaled
        with np.errstate(
            invalid="ignore"
        ):  # what 16 bits do not hold, or is infinite, is another number then
            short = scaled.astype(np.int16)
            if np.array_equal(short, scaled):
                return short
            whole = np.rint(scaled)
            off, within = scaled - whole, whole_within(self.dtype, self.slope)
        return whole if off.max() <= within and off.min() >= -within else None

    def _no_labels(self) -> PatientError:
        """Why the values are no labels, from all of them."""
        odd, held, finite, ends = 0, 0, True, list[float]()
        for _, block in self._blocks(np.ones(self.grid.shape[2], bool)):
            values = self._scaled(block)
            odd += int(np.count_nonzero(fractions(values, whole_within(self.dtype, self.slope))))
            held += int(np.count_nonzero(values))
            known = values[np.isfinite(values)]
            finite = finite and known.size == values.size
            ends += [float(known.min()), float(known.max())] if known.size else []
        return refuse_fractions(
            odd / held, min(ends, default=0.0), max(ends, default=0.0), finite=finite
        )

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
                yield (
                    first,
                    np.frombuffer(stream.read(count * plane), self.dtype).reshape(
                        (rows, columns, count), order="F"
                    ),
                )
            if last == depth:
                stream.verify()

    @contextmanager
    def _stream(self) -> Iterator[Stream]:
        """The bytes of the file from the voxels on, unpacked as they are asked for."""
        try:
            # read, not mapped: mapped pages that were looked at count as memory of the process, and
            # a file that shrinks meanwhile ends it
            with self.path.open("rb") as file:
                file.seek(self.start)
                yield Raw(file) if self.packing == "raw" else Deflated(file)
        except EOFError:
            raise PatientError(
                Code.FILE_TRUNCATED, f"the {self.kind} ends before its voxels do; copy it again"
            ) from None
        except UNPACKING_FAULTS:
            raise PatientError(
                Code.FILE_UNREADABLE,
                f"the {self.kind} is damaged: its voxels cannot be unpacked; copy it again",
            ) from None
