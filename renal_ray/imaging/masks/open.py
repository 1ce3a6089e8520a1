"""The lesion mask of a patient, whatever kind of file it is."""

from pathlib import Path
from typing import Protocol

import numpy as np

from renal_ray.config import Cohort
from renal_ray.dicom.files import require_unpacked
from renal_ray.dicom.headers import Header, read_headers
from renal_ray.imaging.images.dicom_series import TAGS
from renal_ray.imaging.images.source import ImageSource, References
from renal_ray.imaging.images.volume import is_volume, open_voxels
from renal_ray.imaging.masks.image_series import ImageSeriesMask
from renal_ray.imaging.masks.label_map import LabelMap
from renal_ray.imaging.masks.lesion import Lesion
from renal_ray.imaging.masks.rtstruct import open_rtstruct
from renal_ray.imaging.masks.seg import open_seg
from renal_ray.problems import Code, Finding, PatientError

OBJECTS = ("SEG", "RTSTRUCT")


class Mask(Protocol):
    """A mask whose header has been read."""

    @property
    def references(self) -> References:
        """What it says of the image it was drawn on."""
        ...

    @property
    def facts(self) -> str:
        """What it is, in words for a person; complete once the lesion was asked for."""
        ...

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What is to be reported of it; complete once the lesion was asked for."""
        ...

    def lesion(self, image: ImageSource) -> Lesion:
        """The lesion on the image's grid."""
        ...


def open_mask(path: Path, cohort: Cohort, lesion: str = "") -> Mask:
    """Opens a lesion mask; each kind of file has its reader here.

    Args:
        path: DICOM SEG or RTSTRUCT, a folder that holds one, a folder of a mask kept as an image
            series, or a label map in a volume file.
        cohort: which values, segments or ROIs are the lesion, and what to do with a mask off the
            image's grid.
        lesion: those of this mask, separated by semicolons, in place of the cohort's.

    Returns:
        The mask, its pixels still to be placed on an image.

    Raises:
        PatientError: MASK_UNSUPPORTED for another kind of file, SEVERAL_MASKS, or what stops the
            reading.
    """
    names = [name.strip() for name in lesion.split(";") if name.strip()]
    if is_volume(path):
        return LabelMap(
            open_voxels(path), _labels(names) or cohort.lesion_labels, resample=cohort.mask_resample
        )
    headers = read_headers(path, ["Modality"])  # a SEG is large: its groups are not looked at twice
    if not headers:
        require_unpacked(path)
    objects = [header for header in headers if header.text("Modality") in OBJECTS]
    if len(objects) > 1:
        raise PatientError(
            Code.SEVERAL_MASKS, f"the folder holds {len(objects)} masks; name the file of one"
        )
    if objects:
        return _open_object(objects[0], cohort, names)
    if not any(header.text("Rows") for header in headers):
        raise PatientError(
            Code.MASK_UNSUPPORTED,
            "the mask is none of DICOM SEG, RTSTRUCT, DICOM images, "
            "NIfTI, NRRD and MetaImage; convert it to one",
        )
    images = [header for header in read_headers(path, TAGS) if header.text("Rows")]
    return ImageSeriesMask(
        images, _labels(names) or cohort.lesion_labels, resample=cohort.mask_resample
    )


def _open_object(header: Header, cohort: Cohort, names: list[str]) -> Mask:
    if header.text("Modality") == "SEG":
        segments: list[str | int] | None = list(names) or cohort.lesion_segments
        return open_seg(
            header.path,
            segments=segments,
            threshold=cohort.fractional_threshold,
            resample=cohort.mask_resample,
        )
    return open_rtstruct(
        header.path, rois=names or cohort.lesion_rois, resample=cohort.mask_resample
    )


def _labels(names: list[str]) -> list[int]:
    try:
        values = [float(name) for name in names]
    except ValueError:
        values = [np.nan]
    if not all(value.is_integer() for value in values):
        raise PatientError(
            Code.MASK_EMPTY,
            f"the manifest's lesion {names} is no value of a label map; "
            "give whole numbers separated by semicolons",
        )
    return [int(value) for value in values]
