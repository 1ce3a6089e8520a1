"""What a lesion cannot be: in the air, as dense as bone, larger than a kidney's room, smaller than a pixel."""

import numpy as np

from renal_ray.imaging.geometry.grid import PatientSlices
from renal_ray.problems import Code, Finding

AIR_HU = -300.0
LESION_HU = (-130.0, 300.0)  # mean: fat of an angiomyolipoma to a strongly enhancing clear cell carcinoma
LARGEST_MM, SMALLEST_MM = 160.0, 3.0


def lesion_findings(slices: PatientSlices) -> list[Finding]:
    """What is implausible in a patient's lesion.

    Args:
        slices: the kept slices.

    Returns:
        MASK_OUTSIDE_BODY, LESION_HU_IMPLAUSIBLE, LESION_TOO_LARGE, LESION_TOO_SMALL, as far as they apply.
    """
    values = slices.hu[slices.shown].astype(np.float32)
    mean, size = float(values.mean()), slices.max_diameter_mm
    found = []
    if np.mean(values < AIR_HU) > 0.5:
        message = "most of the lesion lies in air; the mask is flipped, shifted or of another series: compare it with the image"
        found.append(Finding(Code.MASK_OUTSIDE_BODY, message))
    elif not LESION_HU[0] <= mean <= LESION_HU[1]:
        found.append(Finding(Code.LESION_HU_IMPLAUSIBLE, f"the lesion's mean is {mean:.0f} HU, which no renal mass has; compare mask and image"))
    if size > LARGEST_MM:
        found.append(Finding(Code.LESION_TOO_LARGE, f"the lesion measures {size:.0f} mm across; look whether the mask is the lesion"))
    if size < SMALLEST_MM:
        found.append(Finding(Code.LESION_TOO_SMALL, f"the lesion measures {size:.1f} mm across; look whether the mask is the lesion"))
    return found
