"""Whatever the study file names as its cohort, as one table."""

from pathlib import Path

import pandas as pd

from renal_ray.cohort.kits import read_kits
from renal_ray.cohort.manifest import read_manifest
from renal_ray.config import Cohort
from renal_ray.problems import Code, Quarantined, trouble


def load_cohort(cohort: Cohort) -> tuple[pd.DataFrame, list[Quarantined]]:
    """Finds the patients of a study.

    Args:
        cohort: a manifest, a folder in the KiTS layout, or a folder of DICOM with a table of
            labels.

    Returns:
        The usable patients in the manifest's columns, label without missing values and paths
        absolute, and the patients that cannot be used.

    Raises:
        StudyError: the source itself cannot be read.
    """
    if cohort.kits is not None:
        return read_kits(cohort.kits)
    if cohort.dicom is not None and cohort.labels is not None:
        from renal_ray.cohort.dicom_tree import (
            read_dicom_tree,
        )  # pydicom loads slowly and the other sources do without it

        return read_dicom_tree(
            cohort.dicom, cohort.labels, keep_ids=cohort.keep_ids, phase=cohort.phase
        )
    assert cohort.manifest is not None
    table = read_manifest(cohort.manifest)
    problems = [
        _problem(row.patient_id, row.label, row.image, row.mask) for row in table.itertuples()
    ]
    usable = [problem is None for problem in problems]
    return table[usable].reset_index(drop=True), [problem for problem in problems if problem]


def _problem(patient_id: str, label: object, image: str, mask: str) -> Quarantined | None:
    if pd.isna(label):
        return Quarantined(
            patient_id,
            "",
            Code.LABEL_MISSING,
            "the manifest gives no label; enter 0, 1, benign or malignant",
        )
    return file_problem(patient_id, image, mask)


def file_problem(patient_id: str, image: str, mask: str) -> Quarantined | None:
    """Why the files that a manifest's row names cannot be opened; None where they can.

    Args:
        patient_id: as in the manifest.
        image, mask: as `read_manifest` gives them.
    """
    for column, name in (("image", image), ("mask", mask)):
        if not name:
            return Quarantined(
                patient_id, "", Code.FILE_MISSING, f"the manifest names no {column}; enter its path"
            )
        if not Path(name).is_absolute():
            message = (
                f"{column}: the relative path leads out of the manifest's "
                "folder; give it absolutely if it is meant"
            )
            return Quarantined(patient_id, name, Code.PATH_OUTSIDE, message)
        if found := trouble(Path(name)):
            return Quarantined(patient_id, name, found[0], f"{column}: {found[1]}")
    return None
