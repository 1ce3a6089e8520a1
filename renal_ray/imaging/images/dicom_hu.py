"""From stored values of a DICOM CT image to attenuation, and the refusal of values that are
none."""

import re
from dataclasses import dataclass

import numpy as np
from pydicom import Dataset

from renal_ray.dicom.flat import FlatDataset
from renal_ray.dicom.headers import Header, readable
from renal_ray.dicom.pixels import pixels, unsigned_precision, within_bits
from renal_ray.imaging.geometry.resample import OUTSIDE_HU
from renal_ray.imaging.geometry.stack import Plane
from renal_ray.imaging.images.source import HU_RANGE, require_ct_range
from renal_ray.problems import Code, PatientError

MOST_WHOLE = 2**14  # slope or intercept with which 16-bit pixels stay within 32 bits
UNSAID = frozenset({"US", "UNSPECIFIED", "NONE", "UNKNOWN"})
MAPS = re.compile(
    r"PERFUSION|R?CB[FV]|MTT|TTP|TMAX|PERMEABILITY|IODINE|CALCIUM|FAT_|WATER|EFF_ATOMIC_NUM|Z_?EFF|RHO|ELECTRON_DENSITY|MAT_|UNCERTAINTY|DOSE"
)
AIR_HU, FAT_HU, SOFT_HU = (-1100, -850), (-150, -30), (-20, 150)
LEAST_AIR, LEAST_FAT, LEAST_SOFT = 0.01, 0.005, 0.02  # share of the pixels
LEAST_NEGATIVE_HU = -1100


@dataclass(frozen=True)
class CtSlice:
    """One slice of a series before its pixels are read.

    Args:
        header: of its file.
        frame: which frame of a multi-frame image, from 0.
        plane: where it lies.
        slope, intercept: from stored values to HU.
        hounsfield: whether its unit is HU by its header; else the values have to show it.
    """

    header: Header
    frame: int | None
    plane: Plane
    slope: float
    intercept: float
    hounsfield: bool = True


def is_hounsfield(header: Header, rescale_type: str) -> bool:
    """Whether rescaled values are HU: the type says so, or is absent, as it is where the unit is
    HU, or is left open in an original image (PS3.3, C.8.2.1).

    Args:
        header: of the file.
        rescale_type: RescaleType of the image or frame.

    Returns:
        False where a derived image leaves its unit open: then the values have to show it.

    Raises:
        PatientError: NOT_CT where the unit is another one.
    """
    if rescale_type in ("HU", ""):
        return True
    unit = re.sub(r"[^A-Z]", "", rescale_type.upper())
    if unit in ("HU", "HUMOD") or unit.startswith("HOUNSFIELD") or not rescale_type.strip():
        return True
    kinds = header.text("ImageType").upper()
    original = kinds.strip("[]'").startswith("ORIGINAL")
    if unit not in UNSAID or (not original and MAPS.search(kinds)):
        raise PatientError(
            Code.NOT_CT,
            f"file {header.number} by name holds values in another unit than "
            "HU (a derived map); use the original series",
        )
    return original


def looks_like_ct(hu: np.ndarray) -> bool:
    """Whether values are those of a body in HU: soft tissue where it belongs, and air or fat where
    they do.

    Args:
        hu: some slices.
    """

    def share(low: int, high: int) -> float:
        return float(np.mean((hu >= low) & (hu <= high)))

    return share(*SOFT_HU) >= LEAST_SOFT and (
        share(*AIR_HU) >= LEAST_AIR or share(*FAT_HU) >= LEAST_FAT
    )


def attenuation(item: CtSlice, whole: Dataset | None, native: np.ndarray | None) -> np.ndarray:
    """HU of one slice as stored.

    Args:
        item: the slice.
        whole: its file, parsed; None where its pixels are plain.
        native: its plain pixels.

    Returns:
        (rows, cols), integer where slope and intercept are; padding is air.

    Raises:
        PatientError: FILE_UNREADABLE, HU_OUT_OF_RANGE, or what stops the decoding.
    """
    where = f"file {item.header.number} by name"
    dataset: Dataset | FlatDataset = item.header.dataset if whole is None else whole
    stored = native if whole is None else pixels(whole, frame=item.frame, number=item.header.number)
    assert stored is not None
    if stored.shape != item.plane.shape:
        raise PatientError(
            Code.FILE_UNREADABLE,
            f"{where} has pixels of another matrix than its header says; export it again",
        )
    padding = _padding(dataset, stored, where)
    if whole is not None and (precision := unsigned_precision(whole)):
        stored = _signed_or_not(stored, padding, precision, item)
    ends = int(stored.min()), int(stored.max())
    hu: np.ndarray
    if (
        item.slope.is_integer()
        and item.intercept.is_integer()
        and abs(item.slope) < MOST_WHOLE
        and abs(item.intercept) < MOST_WHOLE
    ):
        hu = whole_hu(stored, int(item.slope), int(item.intercept), ends)
    else:
        hu = stored * item.slope + item.intercept
    if padding is not None:
        hu[padding] = OUTSIDE_HU
    reach = [end * item.slope + item.intercept for end in ends]
    if min(reach) < HU_RANGE[0] or max(reach) > HU_RANGE[1]:  # as it may by its padding alone
        require_ct_range(hu)
    return hu


def _padding(dataset: Dataset | FlatDataset, stored: np.ndarray, where: str) -> np.ndarray | None:
    """Which pixels are padding; None where the header names no such value."""
    with readable(where):
        values = [
            dataset.get(keyword) for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit")
        ]
        bits = int(dataset.get("BitsStored") or 8 * stored.dtype.itemsize)
    # a wrong sign in the header wraps right, and so does a value that needs more bits than are
    # stored
    ends = [
        within_bits(np.array(int(value)).astype(stored.dtype), bits)
        for value in values
        if isinstance(value, int)
    ]
    return (stored >= min(ends)) & (stored <= max(ends)) if ends else None


def _signed_or_not(
    stored: np.ndarray, padding: np.ndarray | None, precision: int, item: CtSlice
) -> np.ndarray:
    """The one of two readings that can be a CT, where a codestream says unsigned and the header
    signed.

    Encoders that know no sign write negative values as large ones, and headers are wrong about the
    sign.

    Raises:
        PatientError: FILE_UNREADABLE where both can be.
    """
    negative = stored < 0 if padding is None else (stored < 0) & ~padding
    if not negative.any():
        return stored
    unsigned = np.where(stored < 0, stored.astype(np.int32) + (1 << precision), stored)
    below = stored[negative] * item.slope + item.intercept
    as_signed = ((below >= LEAST_NEGATIVE_HU) & (below < 0)).any() or np.ptp(
        below
    ) == 0  # air, fat, or a padding of one value
    values = unsigned * item.slope + item.intercept
    as_unsigned = values.min() < FAT_HU[1] and values.max() <= HU_RANGE[1]
    if as_signed and as_unsigned:
        raise PatientError(
            Code.FILE_UNREADABLE,
            f"file {item.header.number} by name: its JPEG 2000 "
            "codestream says that pixels are unsigned,"
            " its header that they are signed; export it uncompressed",
        )
    return stored if as_signed else unsigned


def whole_hu(stored: np.ndarray, slope: int, intercept: int, ends: tuple[int, int]) -> np.ndarray:
    """stored * slope + intercept: in 16 bits where neither stored values nor what becomes of them
    need more, as in nearly every CT.

    Args:
        stored: integer, of any shape.
        slope, intercept: whole numbers.
        ends: the smallest and the largest stored value.
    """
    steps = (
        *ends,
        *(end * slope for end in ends),
        *(end * slope + intercept for end in ends),
        slope,
        intercept,
    )
    if min(steps) >= -(2**15) and max(steps) < 2**15:
        hu = stored.astype(np.int16)
        if slope != 1:
            hu *= np.int16(slope)
        hu += np.int16(intercept)
        return hu
    return stored.astype(np.int64 if stored.dtype.itemsize > 2 else np.int32) * slope + intercept
