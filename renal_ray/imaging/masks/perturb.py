"""Masks as another reader might have drawn them: wider, tighter, or some millimetres aside, in the
axial plane."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.ndimage import distance_transform_edt

from renal_ray.imaging.geometry.grid import PatientSlices

ROUNDING_MM = 1e-6  # distances between pixels are sums of squares of decimals
ASIDE = {
    "anterior": (-1, 0),
    "posterior": (1, 0),
    "right": (0, -1),
    "left": (0, 1),
}  # the patient's, in rows and columns of the axial display


@dataclass(frozen=True)
class Perturbation:
    """One way in which a mask could be another.

    Args:
        kind: original, dilate, erode or shift.
        mm: how far.
        direction: of a shift: anterior, posterior, right or left, of the patient.
    """

    kind: Literal["original", "dilate", "erode", "shift"] = "original"
    mm: float = 0
    direction: str = ""

    @property
    def name(self) -> str:
        """As in tables: dilate 2 mm, shift 2 mm anterior."""
        return (
            self.kind
            if self.kind == "original"
            else f"{self.kind} {self.mm:g} mm {self.direction}".strip()
        )


ORIGINAL = Perturbation()


def perturbations(distances_mm: Sequence[float]) -> list[Perturbation]:
    """The original, then for each distance a wider mask, a tighter one, and four that are
    shifted."""
    found = [ORIGINAL]
    for mm in distances_mm:
        found += [
            Perturbation("dilate", mm),
            Perturbation("erode", mm),
            *(Perturbation("shift", mm, direction) for direction in ASIDE),
        ]
    return found


def perturbed(slices: PatientSlices, how: Perturbation) -> PatientSlices | None:
    """The same slices of a patient with another mask of the lesion that is shown.

    Slices on which nothing of it is left are dropped.

    Args:
        slices: kept slices with their masks.
        how: the perturbation.

    Returns:
        The slices that still show the lesion; None when there is none.
    """
    masks = [perturb(mask, how, slices.spacing_mm) for mask in slices.shown]
    left = np.array([number for number, mask in enumerate(masks) if mask.any()], dtype=int)
    if not len(left):
        return None
    mask = np.stack([masks[number] for number in left])
    area = np.count_nonzero(mask, axis=(1, 2)) * slices.spacing_mm[0] * slices.spacing_mm[1]
    return replace(
        slices.take(left), mask=mask, largest=None, lesion_area_mm2=area.astype(np.float32)
    )


def perturb(mask: np.ndarray, how: Perturbation, spacing_mm: tuple[float, float]) -> np.ndarray:
    """One axial mask, dilated or eroded by a disc, or shifted by whole pixels.

    Args:
        mask: bool (rows, cols); rows anterior to posterior, columns patient right to left.
        how: the perturbation. A dilated mask holds every pixel within so many mm of the lesion,
            middle to middle; an eroded one those farther than so many mm from every pixel outside,
            and beyond the image all is outside. A shift is rounded to whole pixels; what leaves the
            image is lost.
        spacing_mm: distance between rows and between columns.

    Returns:
        bool (rows, cols).
    """
    if how.kind == "original":
        return mask
    if how.kind == "dilate":
        away = distance_transform_edt(~mask, sampling=spacing_mm)
        return np.asarray(away <= how.mm + ROUNDING_MM) if mask.any() else mask
    if how.kind == "erode":
        inside = distance_transform_edt(np.pad(mask, 1), sampling=spacing_mm)[1:-1, 1:-1]
        return np.asarray(inside > how.mm + ROUNDING_MM)
    down, across = (
        round(sign * how.mm / step)
        for sign, step in zip(ASIDE[how.direction], spacing_mm, strict=True)
    )
    rows, columns = mask.shape
    out = np.zeros_like(mask)
    if abs(down) >= rows or abs(across) >= columns:
        return out
    out[max(0, down) : rows + min(0, down), max(0, across) : columns + min(0, across)] = mask[
        max(0, -down) : rows + min(0, -down), max(0, -across) : columns + min(0, -across)
    ]
    return out
