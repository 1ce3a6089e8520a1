"""The DICOM images that a patient's slices came from, as later objects refer to them."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread

from renal_ray.apply.case import Case
from renal_ray.config import Cohort
from renal_ray.dicom.headers import quiet, readable
from renal_ray.imaging.images.dicom_series import DicomSeries
from renal_ray.imaging.images.open import open_image
from renal_ray.imaging.masks.open import open_mask

NEEDED = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
MAY_BE_EMPTY = (  # type 2: has to be there in what is written, if only empty
    *(
        "PatientID",
        "PatientName",
        "PatientBirthDate",
        "PatientSex",
        "AccessionNumber",
        "StudyID",
        "StudyDate",
        "StudyTime",
        "ReferringPhysicianName",
    ),
)


@dataclass(frozen=True)
class Source:
    """One object that slices were read from.

    Args:
        header: its dataset without pixels; holds who the patient is, and goes nowhere but into
            DICOM objects of the same patient.
        frames: which of its frames, from 1; empty for a single-frame image.
    """

    header: Dataset
    frames: tuple[int, ...]


@dataclass(frozen=True)
class Sources:
    """The images of a patient's kept slices.

    Args:
        images: in slice order; empty where nothing can be referred to.
        why_none: why not, one sentence.
    """

    images: tuple[Source, ...]
    why_none: str = ""


def read_sources(case: Case, slice_index: np.ndarray, cohort: Cohort) -> Sources:
    """Finds the DICOM images of a patient's kept slices.

    Args:
        case: the patient, who was read without error.
        slice_index: int (n,), the kept slices.
        cohort: as for reading.

    Returns:
        The images; of a tilted or oblique series, from which straight slices were resampled, all of
        them.

    Raises:
        PatientError: a file was changed since it was read.
    """
    with quiet():
        drawn = open_mask(case.mask, cohort, case.lesion)
        image = open_image(case.image, drawn.references, cohort, series=case.series)
        if not isinstance(image, DicomSeries):
            return Sources(
                (), "the image is no DICOM, so there is nothing that a DICOM report could refer to"
            )
        wanted = slice_index if image.straight else np.arange(len(image.slices))
        frames: dict[Path, list[int | None]] = defaultdict(list)
        for k in wanted:
            frames[image.slices[k].header.path].append(image.slices[k].frame)
        found = tuple(_source(path, numbers) for path, numbers in frames.items())
    return _usable(found)


def _source(path: Path, frames: list[int | None]) -> Source:
    with readable("an image of the series"):
        header = dcmread(path, stop_before_pixels=True, force=True)
        for element in header.iterall():  # converted here, where a bad value is expected
            _ = element.value
    for keyword in MAY_BE_EMPTY:
        if keyword not in header:
            setattr(header, keyword, "")
    return Source(header, tuple(frame + 1 for frame in frames if frame is not None))


def _usable(found: tuple[Source, ...]) -> Sources:
    """The images, if each has an identity and all are of one study."""
    for keyword in NEEDED:
        if any(not str(one.header.get(keyword) or "") for one in found):
            return Sources(
                (), f"the images have no {keyword}, so no DICOM report can refer to them"
            )
    if len({str(one.header.SOPInstanceUID) for one in found}) != len(found):
        return Sources(
            (),
            "several images share one SOPInstanceUID, so no DICOM report can refer to one of them",
        )
    if len({str(one.header.StudyInstanceUID) for one in found}) != 1:
        return Sources((), "the images are of several studies, and a DICOM report belongs to one")
    return Sources(found)
