"""One patient's contact sheet: the kept slices with the lesion's outline, the three windows, the three datasets."""

import base64
import io
from dataclasses import dataclass, replace
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
MOST_THUMBS = 12
OUTLINE = np.array([255, 196, 0], np.uint8)
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
        thumbs: kept slices with the outline.
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
        reason = Finding(Code.FILE_MISSING, "the manifest names no image or no mask yet; enter its path")
    elif not (request.image.is_absolute() and request.mask.is_absolute()):
        reason = Finding(Code.PATH_OUTSIDE, "a relative path leads out of the manifest's folder; give it absolutely if it is meant")
    if reason:
        return Sheet(request.patient_id, (), (reason,))
    try:
        found = read_patient(request.image, request.mask, cohort=request.cohort, selection=request.selection, series=request.series, lesion=request.lesion)
    except PatientError as error:
        return Sheet(request.patient_id, (), (Finding(error.code, error.message),))
    largest = int(found.lesion_area_mm2.argmax())
    shown = np.unique(np.rint(np.linspace(0, len(found.hu) - 1, min(MOST_THUMBS, len(found.hu)))).astype(int))
    return Sheet(request.patient_id, _facts(found), found.findings, tuple(_thumb(found, int(n)) for n in shown), _details(found, largest))


def _facts(found: PatientSlices) -> tuple[str, ...]:
    down = abs(float(found.position_mm[-1] - found.position_mm[0])) if len(found.position_mm) > 1 else 0.0
    kept = (
        f"{len(found.hu)} of {found.n_slices_total} slices kept, number {found.slice_index[0]} to {found.slice_index[-1]} from the head, over {down:.1f} mm; "
        f"lesion {found.max_diameter_mm:.1f} mm across, {found.hu[found.mask].mean():.0f} HU on average"
    )
    return found.image_facts, found.mask_facts, kept


def _thumb(found: PatientSlices, n: int) -> Picture:
    grey = three_windows(found.hu[n])[..., :1].repeat(3, axis=2)
    inside = fit_square(np.repeat(found.mask[n][..., None] * np.uint8(255), 3, axis=2), found.spacing_mm, THUMB)[..., 0] > 127
    picture = fit_square(grey, found.spacing_mm, THUMB).copy()
    picture[inside & ~binary_erosion(inside)] = OUTLINE
    return _picture(picture, f"{found.slice_index[n]}: {found.position_mm[n]:.1f} mm, {found.lesion_area_mm2[n]:.0f} mm²")


def _details(found: PatientSlices, n: int) -> tuple[Picture, ...]:
    rgb = three_windows(found.hu[n])
    windows = [_picture(fit_square(rgb[..., [c] * 3], found.spacing_mm, DETAIL), WINDOW_NAMES[c]) for c in range(3)]
    kept = {name: getattr(found, name)[n : n + 1] for name in ("slice_index", "position_mm", "lesion_area_mm2", "hu", "mask")}
    one = replace(found, **kept)
    made = dataset_images(one, images=Images(size=DETAIL))
    return (*windows, *(_picture(made[dataset][0], f"dataset {dataset}") for dataset in DATASETS))


def _picture(pixels: np.ndarray, caption: str) -> Picture:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", quality=72, method=2)
    return Picture("data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode(), caption, pixels.shape[0])
