"""Where the lesion lies in stored slices: its mask, read once more from the patient's files,
because slices are stored without."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from renal_ray.config import Study
from renal_ray.imaging.patient import read_patient
from renal_ray.imaging.regions import dataset_images, dataset_masks
from renal_ray.problems import PatientError, reason
from renal_ray.store.slices import Slices
from renal_ray.types import Dataset

DRAWN = ""
GONE = "the cohort no longer lists the patient"
NO_COHORT = "the cohort's files cannot be read here"
OTHER_PIXELS = "the files give other pixels than those stored"


@dataclass(frozen=True)
class Lesion:
    """The lesion in one stored slice.

    Args:
        masks: bool (size, size) for each dataset; empty where there is a trouble.
        trouble: why there is no mask, as the end of a sentence; empty where there is one.
    """

    masks: Mapping[Dataset, np.ndarray]
    trouble: str = DRAWN


def largest_slice(slices: Slices, patient_id: str) -> int:
    """The row of a patient's slice with the largest lesion; of several, the one nearest to the
    head."""
    return int(slices.lesion_area_mm2(patient_id).argmax())


def read_lesion(
    study: Study,
    slices: Mapping[Dataset, Slices],
    row: Mapping[str, Any] | None,
    patient_id: str,
    datasets: Collection[Dataset],
) -> Lesion:
    """The lesion in a patient's largest stored slice, as each dataset shows it.

    The files are read as `renal-ray prepare` reads them, and believed only where they give exactly
    the pixels that are stored.

    Args:
        study: how patients are read.
        slices: of the datasets; a sealed patient is refused here, before a file is opened.
        row: the patient in the cohort: image, mask, series, lesion; None where the cohort does not
            list them.
        patient_id: who.
        datasets: which masks.

    Raises:
        SealError: the patient is sealed away for the test.
    """
    first = slices[min(datasets)]
    at = largest_slice(first, patient_id)
    number = int(first.slice_index(patient_id)[at])
    stored = {dataset: slices[dataset].images(patient_id)[at] for dataset in datasets}
    if row is None:
        return Lesion({}, GONE)
    try:
        asked = {"series": row["series"], "lesion": row["lesion"]}
        found = read_patient(
            Path(row["image"]),
            Path(row["mask"]),
            cohort=study.cohort,
            selection=study.selection,
            **asked,
        )
    except PatientError as error:
        return Lesion({}, f"the patient's files cannot be read any more ({error.code})")
    except OSError as error:
        return Lesion({}, f"the patient's files cannot be read any more ({reason(error)})")
    where = np.flatnonzero(found.slice_index == number)
    if not len(where):
        return Lesion({}, OTHER_PIXELS)
    one = found.take(where)
    images = dataset_images(one, images=study.images, datasets=datasets)
    if any(not np.array_equal(images[dataset][0], stored[dataset]) for dataset in datasets):
        return Lesion({}, OTHER_PIXELS)
    return Lesion(
        {
            dataset: mask[0]
            for dataset, mask in dataset_masks(one, images=study.images, datasets=datasets).items()
        }
    )
