"""A patient's CT image, whatever kind of file it is."""

from pathlib import Path

from renal_ray.config import Cohort
from renal_ray.imaging.images.dicom_series import open_series
from renal_ray.imaging.images.source import ImageSource, References
from renal_ray.imaging.images.volume import is_volume, open_volume_image


def open_image(path: Path, wanted: References, cohort: Cohort, *, series: str = "") -> ImageSource:
    """Opens an image; each kind of file has its reader here.

    Args:
        path: a volume file, a folder of DICOM, or one DICOM file.
        wanted: what the mask refers to: decides between several series.
        cohort: what to do with tilted and oblique images.
        series: `dicom.series.series_key` of the series to take; empty where mask or folder decide.

    Raises:
        PatientError: with the code of what is wrong.
    """
    return (
        open_volume_image(path, cohort)
        if is_volume(path)
        else open_series(path, wanted, cohort, series=series)
    )
