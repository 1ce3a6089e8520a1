"""Reading one patient as prepare reads those of the study."""

import traceback
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from renal_ray.apply.case import Case
from renal_ray.config import Study
from renal_ray.imaging.geometry.grid import PatientSlices
from renal_ray.imaging.patient import read_patient
from renal_ray.imaging.regions import dataset_images, fit_square, lesion_box, region
from renal_ray.problems import Code, PatientError
from renal_ray.types import Dataset


@dataclass(frozen=True)
class Seen:
    """A patient who was read.

    Args:
        case: who.
        slices: the kept slices.
        images: dataset -> uint8 (n, size, size, 3): the models' dataset, and roi, in which
            attenuation is measured.
    """

    case: Case
    slices: PatientSlices
    images: dict[Dataset, np.ndarray]


def read_case(case: Case, study: Study, dataset: Dataset) -> Seen:
    """Reads a patient with the study's selection, windows, regions and size.

    Raises:
        PatientError: with the code of what is wrong and nothing of the file's name.
    """
    try:
        slices = read_patient(
            case.image,
            case.mask,
            cohort=study.cohort,
            selection=study.selection,
            series=case.series,
            lesion=case.lesion,
        )
        return Seen(
            case,
            slices,
            dataset_images(slices, images=study.images, datasets={dataset, Dataset.ROI}),
        )
    except PatientError as error:
        raise PatientError(error.code, error.message) from None
    except Exception as error:  # noqa: BLE001 - one patient must not end the others; what the exception says may quote the files
        last = traceback.extract_tb(error.__traceback__)[-1]
        message = (
            f"{type(error).__name__} at "
            f"{Path(last.filename).name}:{last.lineno}; report this, with the "
            "file if you may"
        )
        raise PatientError(Code.UNEXPECTED, message) from None


def lesion_masks(seen: Seen, study: Study, dataset: Dataset) -> np.ndarray:
    """Where the lesion is in the images that the models see.

    Args:
        seen: the patient.
        study: size and cropping.
        dataset: the models'.

    Returns:
        bool (n, size, size).
    """
    masks = []
    for mask in seen.slices.shown:
        white = np.repeat(mask[..., None] * np.uint8(255), 3, axis=2)
        shown = region(white, mask, lesion_box(mask), dataset=dataset, crop=study.images.crop)
        masks.append(fit_square(shown, seen.slices.spacing_mm, study.images.size)[..., 0] > 127)
    return np.stack(masks)
