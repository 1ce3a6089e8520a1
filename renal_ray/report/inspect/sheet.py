"""One patient's contact sheet: the kept slices with the lesion's outline, the three windows, the
three datasets."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import binary_erosion

from renal_ray.config import Cohort, Images, Selection
from renal_ray.imaging.geometry.grid import PatientSlices
from renal_ray.imaging.patient import read_patient
from renal_ray.imaging.regions import dataset_images, fit_square
from renal_ray.imaging.windows import three_windows
from renal_ray.problems import Code, Finding, PatientError
from renal_ray.types import DATASETS

THUMB, DETAIL = 168, 224  # pixels
MOST_THUMBS, MOST_OTHERS = 12, 4
OUTLINE, OTHER_OUTLINE = (
    np.array([255, 196, 0], np.uint8),
    np.array([64, 176, 255], np.uint8),
)  # of what roi and rbr show, and of what they do not
EVERYTHING = Selection(min_area_fraction=0, lesions="all")
WINDOW_NAMES = ("renal -110 to 190 HU", "high 20 to 120 HU", "low -40 to 60 HU")


@dataclass(frozen=True)
class Request:
    """A patient to be shown: as the manifest names them, and how the study reads them."""

    patient_id: str
    image: Path
    mask: Path
    series: str
    lesion: str
    cohort: Cohort
    selection: Selection


@dataclass(frozen=True)
class Picture:
    """A picture as a data URI, with its caption and edge in pixels."""

    uri: str
    caption: str
    edge: int


@dataclass(frozen=True)
class Sheet:
    """A patient's sheet.

    Args:
        patient_id: who.
        facts: what was read, in sentences.
        findings: what is to be reported; for a patient who cannot be read the one reason.
        thumbs: kept slices with the outline; of several lesions also the largest slice of each.
        details: windows and datasets of the slice with the largest lesion.
    """

    patient_id: str
    facts: tuple[str, ...]
    findings: tuple[Finding, ...]
    thumbs: tuple[Picture, ...] = ()
    details: tuple[Picture, ...] = ()


def draw(request: Request) -> Sheet:
    """Reads a patient anew and draws the sheet; who cannot be read has a sheet that says why."""
    reason = None
    if not request.image.name or not request.mask.name:
        reason = Finding(
            Code.FILE_MISSING, "the manifest names no image or no mask yet; enter its path"
        )
    elif not (request.image.is_absolute() and request.mask.is_absolute()):
        reason = Finding(
            Code.PATH_OUTSIDE,
            "a relative path leads out of the manifest's folder; give it absolutely if it is meant",
        )
    if reason:
        return Sheet(request.patient_id, (), (reason,))
    try:
        found = _read(request, request.selection)
        whole = _read(request, EVERYTHING) if len(found.lesions) > 1 else found
    except PatientError as error:
        return Sheet(request.patient_id, (), (Finding(error.code, error.message),))
    largest = int(found.lesion_area_mm2.argmax())
    return Sheet(
        request.patient_id,
        _facts(found),
        found.findings,
        _thumbs(found, whole),
        _details(found, largest),
    )


def _read(request: Request, selection: Selection) -> PatientSlices:
    return read_patient(
        request.image,
        request.mask,
        cohort=request.cohort,
        selection=selection,
        series=request.series,
        lesion=request.lesion,
    )


def _facts(found: PatientSlices) -> tuple[str, ...]:
    down = (
        abs(float(found.position_mm[-1] - found.position_mm[0]))
        if len(found.position_mm) > 1
        else 0.0
    )
    kept = (
        f"{len(found.hu)} of {found.n_slices_total} slices kept, number {found.slice_index[0]} "
        f"to {found.slice_index[-1]} from the head, over {down:.1f} mm; "
        f"lesion {found.max_diameter_mm:.1f} mm across, "
        f"{found.hu[found.shown].mean():.0f} HU on average"
    )
    return found.image_facts, found.mask_facts, kept, *_lesions(found)


def _lesions(found: PatientSlices) -> list[str]:
    """Where each of several lesions lies, in a sentence."""
    if len(found.lesions) < 2:
        return []
    each = (
        (
            f"{one.max_diameter_mm:.1f} mm across, "
            f"{one.volume_mm3 / 1000:.1f} ml, slices {one.first} to "
            f"{one.last}"
        )
        for one in found.lesions
    )
    return [f"{len(found.lesions)} lesions: {'; '.join(each)}"]


def _thumbs(found: PatientSlices, whole: PatientSlices) -> tuple[Picture, ...]:
    """Some kept slices, and the largest slices of further lesions, in order.

    Args:
        found: the kept slices with the lesion that is shown.
        whole: every slice with any lesion.
    """
    kept = found.slice_index[
        np.unique(
            np.rint(np.linspace(0, len(found.hu) - 1, min(MOST_THUMBS, len(found.hu)))).astype(int)
        )
    ]
    others = [one.largest for one in found.lesions[1 : 1 + MOST_OTHERS]]
    return tuple(
        _thumb(found, whole, int(number)) for number in np.union1d(kept, others).astype(int)
    )


def _thumb(found: PatientSlices, whole: PatientSlices, number: int) -> Picture:
    every, kept = (np.flatnonzero(one.slice_index == number) for one in (whole, found))
    n = int(every[0])
    shown = found.shown[kept[0]] if len(kept) else np.zeros_like(whole.mask[n])
    picture = fit_square(
        three_windows(whole.hu[n])[..., :1].repeat(3, axis=2), found.spacing_mm, THUMB
    ).copy()
    for mask, colour in ((whole.mask[n] & ~shown, OTHER_OUTLINE), (shown, OUTLINE)):
        inside = (
            fit_square(
                np.repeat(mask[..., None] * np.uint8(255), 3, axis=2), found.spacing_mm, THUMB
            )[..., 0]
            > 127
        )
        picture[inside & ~binary_erosion(inside)] = colour
    area = f"{found.lesion_area_mm2[kept[0]]:.0f} mm²" if len(kept) else "not kept"
    return _picture(picture, f"{number}: {whole.position_mm[n]:.1f} mm, {area}")


def _details(found: PatientSlices, n: int) -> tuple[Picture, ...]:
    rgb = three_windows(found.hu[n])
    windows = [
        _picture(fit_square(rgb[..., [c] * 3], found.spacing_mm, DETAIL), WINDOW_NAMES[c])
        for c in range(3)
    ]
    made = dataset_images(found.take([n]), images=Images(size=DETAIL))
    return (*windows, *(_picture(made[dataset][0], f"dataset {dataset}") for dataset in DATASETS))


def _picture(pixels: np.ndarray, caption: str) -> Picture:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", quality=72, method=2)
    return Picture(
        "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode(),
        caption,
        pixels.shape[0],
    )
