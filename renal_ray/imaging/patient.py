"""One patient: from the image and mask that the manifest names to the kept slices."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from renal_ray.config import Cohort, Selection
from renal_ray.dicom.headers import quiet
from renal_ray.imaging.checks import lesion_findings, without_nan
from renal_ray.imaging.geometry.grid import PatientSlices
from renal_ray.imaging.images.open import open_image
from renal_ray.imaging.images.straightened import Straightened
from renal_ray.imaging.masks.lesion import kept, max_diameter_mm
from renal_ray.imaging.masks.open import open_mask
from renal_ray.imaging.masks.separate import lesion_count_findings, separate_lesions
from renal_ray.imaging.survey import fingerprint, require_ct, survey_findings, survey_slices
from renal_ray.problems import PatientError, trouble


def read_patient(
    image: Path,
    mask: Path,
    *,
    cohort: Cohort,
    selection: Selection,
    series: str = "",
    lesion: str = "",
) -> PatientSlices:
    """Reads the slices of a patient that the selection keeps.

    The geometry is verified on headers and the mask is read first, so that pixels are decoded only
    for slices that are kept.

    Args:
        image: folder of DICOM, a single DICOM file, or a volume file.
        mask: DICOM SEG or RTSTRUCT, a folder that holds one, a folder of a mask kept as an image
            series, or a label map.
        cohort: which labels or segments of the mask are the lesion.
        selection: which slices are kept, by the area of all lesions, and which of several lesions
            roi and rbr show.
        series: which CT series of the image's folder (`dicom.series.series_key`); empty where the
            mask or the folder decides.
        lesion: what of this mask is the lesion, in place of the study's: values, segments or ROIs,
            separated by semicolons.

    Returns:
        The kept slices, head to foot, in the standard axial display.

    Raises:
        PatientError: with the code of what is wrong and the file at fault.
    """
    with _blame(mask):
        drawn = open_mask(mask, cohort, lesion)
    with _blame(image):
        source = open_image(image, drawn.references, cohort, series=series)
    with _blame(mask):
        found = drawn.lesion(source)
        if not source.straight:
            source = Straightened(source)
            found = source.carry(found)
    lesions = separate_lesions(found, source.grid.spacing)
    alone = selection.lesions == "largest"
    chosen = kept(found, selection)
    slices, survey = found.slices[chosen], survey_slices(source.grid.shape[0])
    wanted = np.union1d(slices, survey)
    with _blame(image):
        hu = source.read(wanted)  # once: a compressed file is unpacked to its end
        hu, unknown = without_nan(hu, found.mask[chosen], np.searchsorted(wanted, slices))
        surveyed = hu[np.searchsorted(wanted, survey)]
        require_ct(surveyed)
    row_spacing, column_spacing = (float(value) for value in source.grid.spacing[1:])
    patient = PatientSlices(
        slice_index=slices.astype(np.int32),
        position_mm=source.grid.position_mm()[slices].astype(np.float32),
        lesion_area_mm2=(found.pixels[chosen] * row_spacing * column_spacing).astype(np.float32),
        hu=hu[np.searchsorted(wanted, slices)],
        mask=found.mask[chosen],
        spacing_mm=(row_spacing, column_spacing),
        n_slices_total=source.grid.shape[0],
        max_diameter_mm=lesions.extents[0].max_diameter_mm
        if alone
        else max_diameter_mm(found, (row_spacing, column_spacing)),
        image_facts=source.facts,
        mask_facts=drawn.facts,
        findings=(
            *source.findings,
            *drawn.findings,
            *unknown,
            *survey_findings(surveyed, source.grid.spacing),
        ),
        fingerprint=fingerprint(surveyed),
        lesions=lesions.extents,
        largest=lesions.shown[chosen] if alone and lesions.shown is not found.mask else None,
    )
    return replace(
        patient,
        findings=(
            *patient.findings,
            *lesion_count_findings(lesions, selection.lesions),
            *lesion_findings(patient),
        ),
    )


@contextmanager
def _blame(path: Path) -> Iterator[None]:
    """Names the file in errors that arise inside, refuses one that cannot be opened, and lets no
    value of it out in a warning."""
    try:
        if found := trouble(path):
            raise PatientError(*found)
        with quiet():
            yield
    except PatientError as error:
        error.file = error.file or str(path)
        raise
