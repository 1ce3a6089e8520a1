"""What a lesion cannot be: in the air, as dense as bone, larger than a kidney's room, smaller than
a pixel, without values."""

import numpy as np
from scipy import ndimage

from renal_ray.imaging.geometry.grid import PatientSlices
from renal_ray.imaging.geometry.resample import OUTSIDE_HU
from renal_ray.imaging.images.source import compact_hu
from renal_ray.problems import Code, Finding, PatientError

AIR_HU = -300.0
LESION_HU = (
    -130.0,
    300.0,
)  # mean: fat of an angiomyolipoma to a strongly enhancing clear cell carcinoma
LARGEST_MM, SMALLEST_MM = 160.0, 3.0


def lesion_findings(slices: PatientSlices) -> list[Finding]:
    """What is implausible in a patient's lesion.

    Args:
        slices: the kept slices.

    Returns:
        MASK_OUTSIDE_BODY, LESION_HU_IMPLAUSIBLE, LESION_TOO_LARGE, LESION_TOO_SMALL, as far as they
        apply.
    """
    values = slices.hu[slices.shown].astype(np.float32)
    mean, size = float(values.mean()), slices.max_diameter_mm
    found = []
    if np.mean(values < AIR_HU) > 0.5:
        message = (
            "most of the lesion lies in air; the mask is flipped, shifted or "
            "of another series: compare it with the image"
        )
        found.append(Finding(Code.MASK_OUTSIDE_BODY, message))
    elif not LESION_HU[0] <= mean <= LESION_HU[1]:
        found.append(
            Finding(
                Code.LESION_HU_IMPLAUSIBLE,
                f"the lesion's mean is {mean:.0f} HU, which no renal "
                "mass has; compare mask and image",
            )
        )
    if size > LARGEST_MM:
        found.append(
            Finding(
                Code.LESION_TOO_LARGE,
                f"the lesion measures {size:.0f} mm across; look whether the mask is the lesion",
            )
        )
    if size < SMALLEST_MM:
        found.append(
            Finding(
                Code.LESION_TOO_SMALL,
                f"the lesion measures {size:.1f} mm across; look whether the mask is the lesion",
            )
        )
    return found


def without_nan(
    hu: np.ndarray, mask: np.ndarray, places: np.ndarray
) -> tuple[np.ndarray, list[Finding]]:
    """Attenuation with air where the image has no number: sound outside of the body alone.

    Args:
        hu: int16 or float32 (n, rows, cols), in HU.
        mask: bool (m, rows, cols), the lesion in the kept slices.
        places: int (m,), where in `hu` these are.

    Returns:
        The attenuation, int16 where that loses nothing, and IMAGE_HU_IMPLAUSIBLE where NaN is
        enclosed by tissue.

    Raises:
        PatientError: HU_OUT_OF_RANGE where pixels of the lesion are NaN.
    """
    unknown = np.isnan(hu)
    if not unknown.any():
        return hu, []
    if lost := int(np.count_nonzero(unknown[places] & mask)):
        raise PatientError(
            Code.HU_OUT_OF_RANGE,
            f"{lost} of {np.count_nonzero(mask)} pixels of the lesion are not a number (NaN), "
            "so their HU are unknown; convert the original series again",
        )
    enclosed = sum(
        _in_tissue(values, gaps) for values, gaps in zip(hu, unknown, strict=True) if gaps.any()
    )
    message = (
        f"{enclosed} pixels within the body are not a number (NaN) and were "
        "read as air; convert the original series again"
    )
    return compact_hu(np.where(unknown, np.float32(OUTSIDE_HU), hu)), [
        Finding(Code.IMAGE_HU_IMPLAUSIBLE, message)
    ] if enclosed else []


def _in_tissue(hu: np.ndarray, unknown: np.ndarray) -> int:
    """Pixels of one slice in gaps that do not reach its edge, most neighbours of which are no
    air."""
    gaps, count = ndimage.label(unknown & ndimage.binary_fill_holes(~unknown))
    found = 0
    for number, box in enumerate(ndimage.find_objects(gaps), 1) if count else ():
        around = tuple(slice(max(0, one.start - 1), one.stop + 1) for one in box)
        gap = gaps[around] == number
        ring = ndimage.binary_dilation(gap) & ~unknown[around]
        found += int(np.count_nonzero(gap)) if np.mean(hu[around][ring] > AIR_HU) > 0.5 else 0
    return found
