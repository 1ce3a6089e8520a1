"""What an image is to the rest of the room, whatever files it comes from."""

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from renal_ray.imaging.geometry.grid import Grid
from renal_ray.problems import Code, Finding, PatientError

HU_RANGE = (-20_000, 20_000)  # no tissue, metal or padding of a CT lies beyond


@dataclass(frozen=True)
class References:
    """What a mask says of the image it was drawn on; everything is empty where it says nothing.

    Args:
        series: SeriesInstanceUIDs.
        frame_of_reference: FrameOfReferenceUID.
        images: SOPInstanceUIDs of the slices that it was drawn on.
    """

    series: frozenset[str] = frozenset()
    frame_of_reference: str = ""
    images: frozenset[str] = frozenset()


class ImageSource(Protocol):
    """A CT image whose geometry is verified and whose pixels are still on disk."""

    @property
    def grid(self) -> Grid:
        """Its grid: in the standard axial display, or as stored where it is not straight."""
        ...

    @property
    def straight(self) -> bool:
        """False for a tilted or oblique image, which is to be resampled once the mask lies on
        it."""
        ...

    @property
    def facts(self) -> str:
        """What it is, in words for a person: kind of file, slices, matrix, spacing."""
        ...

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What is to be reported of it."""
        ...

    @property
    def references(self) -> References:
        """Its own series and frame of reference."""
        ...

    def slices_named(self, sop_uids: set[str]) -> set[int]:
        """Slices with these SOPInstanceUIDs; empty where the image knows none of them or has no
        unique UIDs."""
        ...

    def read(self, slices: np.ndarray) -> np.ndarray:
        """Attenuation of some slices, int16 or float32 (n, rows, cols) in HU, in the standard axial
        display."""
        ...


def compact_hu(hu: np.ndarray) -> np.ndarray:
    """The same attenuation as int16 where that loses nothing, else as float32; voxels that are not
    a number stay so."""
    if hu.dtype == np.int16:
        return hu
    if not np.issubdtype(hu.dtype, np.integer):
        with np.errstate(
            over="ignore"
        ):  # what float32 does not hold is infinite then, and beyond any CT
            hu = hu.astype(np.float32)
        if not np.array_equal(hu, np.rint(hu)):
            return hu
    limits = np.iinfo(np.int16)
    whole = hu.size == 0 or (hu.min() >= limits.min and hu.max() <= limits.max)
    return hu.astype(np.int16 if whole else np.float32)


def require_ct_range(hu: np.ndarray) -> None:
    """Refuses attenuation that no CT has, as a wrong sign, slope or type of the stored values makes
    it.

    Args:
        hu: in HU, of any shape, padding already replaced; NaN is passed over.

    Raises:
        PatientError: HU_OUT_OF_RANGE.
    """
    if hu.size == 0:
        return
    low, high = (
        float(np.fmin.reduce(hu, axis=None)),
        float(np.fmax.reduce(hu, axis=None)),
    )  # which pass over NaN
    if low < HU_RANGE[0] or high > HU_RANGE[1]:
        raise PatientError(
            Code.HU_OUT_OF_RANGE,
            f"values from {low:.0f} to {high:.0f} HU, and no CT lies "
            f"beyond {HU_RANGE[0]:,} to {HU_RANGE[1]:,};"
            " the values' sign, slope or type was lost, or they are padding: "
            "export the series again, with padding at -1024",
        )


class HuStack:
    """Attenuation that arrives piece by piece: int16 as long as that loses nothing, float32 from
    the first piece on that it would.

    Args:
        shape: of the whole.
        order: C or F, of the array in memory.
    """

    def __init__(self, shape: tuple[int, ...], *, order: Literal["C", "F"] = "C") -> None:
        self.array = np.empty(shape, np.int16, order=order)

    def put(self, where: Any, hu: np.ndarray) -> None:
        """Sets a part.

        Args:
            where: an index of the array.
            hu: its values, of any type.
        """
        compact = compact_hu(hu)
        if compact.dtype == np.float32 and self.array.dtype == np.int16:
            self.array = self.array.astype(np.float32)
        self.array[where] = compact


def sized(grid: Grid) -> str:
    """Slices, matrix and spacing of a grid, in words: slices, then rows, then columns."""
    down, rows, columns = grid.spacing
    return (
        f"{grid.shape[0]} slices of {grid.shape[1]} x {grid.shape[2]}, {down:.2f} "
        f"mm apart, pixels of {rows:.2f} x {columns:.2f} mm"
    )
