"""One patient: from the image and mask that the manifest names to the kept slices."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from renal_ray.cohort.access import trouble
from renal_ray.config import Cohort, Selection
from renal_ray.dicom.headers import quiet
from renal_ray.imaging.geometry.grid import PatientSlices
from renal_ray.imaging.images.dicom_series import open_series
from renal_ray.imaging.images.nifti import open_nifti
from renal_ray.imaging.images.source import ImageSource, References
from renal_ray.imaging.masks.lesion import kept, max_diameter_mm
from renal_ray.imaging.masks.open import is_nifti, open_mask
from renal_ray.problems import PatientError


def read_patient(image: Path, mask: Path, *, cohort: Cohort, selection: Selection, series: str = "", lesion: str = "") -> PatientSlices:
    """Reads the slices of a patient that the selection keeps.

    The geometry is verified on headers and the mask is read first, so that pixels are decoded only for slices that are kept.

    Args:
        image: folder of DICOM, a single DICOM file, or a volume file.
        mask: DICOM SEG or RTSTRUCT, a folder that holds one, a folder of a mask kept as an image series, or a label map.
        cohort: which labels or segments of the mask are the lesion.
        selection: which slices are kept.
        series: which CT series of the image's folder (`dicom.headers.series_key`); empty where the mask or the folder decides.
        lesion: what of this mask is the lesion, in place of the study's: values, segments or ROIs, separated by semicolons.

    Returns:
        The kept slices, head to foot, in the standard axial display.

    Raises:
        PatientError: with the code of what is wrong and the file at fault.
    """
    with _blame(mask):
        drawn = open_mask(mask, cohort)
    with _blame(image):
        source = _open_image(image, drawn.references)
    with _blame(mask):
        lesion = drawn.lesion(source)
    chosen = kept(lesion, selection)
    slices = lesion.slices[chosen]
    with _blame(image):
        hu = source.read(slices)
    row_spacing, column_spacing = (float(value) for value in source.grid.spacing[1:])
    return PatientSlices(
        slice_index=slices.astype(np.int32),
        position_mm=source.grid.position_mm()[slices].astype(np.float32),
        lesion_area_mm2=(lesion.pixels[chosen] * row_spacing * column_spacing).astype(np.float32),
        hu=hu,
        mask=lesion.mask[chosen],
        spacing_mm=(row_spacing, column_spacing),
        n_slices_total=source.grid.shape[0],
        max_diameter_mm=max_diameter_mm(lesion, (row_spacing, column_spacing)),
    )


def _open_image(path: Path, wanted: References) -> ImageSource:
    return open_nifti(path) if is_nifti(path) else open_series(path, wanted)


@contextmanager
def _blame(path: Path) -> Iterator[None]:
    """Names the file in errors that arise inside, refuses one that cannot be opened, and lets no value of it out in a warning."""
    try:
        if found := trouble(path):
            raise PatientError(*found)
        with quiet():
            yield
    except PatientError as error:
        error.file = error.file or str(path)
        raise
