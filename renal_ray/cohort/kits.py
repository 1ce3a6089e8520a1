"""The KiTS layout: case_NNNNN/imaging.nii.gz and segmentation.nii.gz, and one JSON file with the pathology."""

import json
from math import isfinite
from pathlib import Path
from typing import Any

import pandas as pd

from renal_ray.problems import Code, Quarantined, StudyError, trouble

TABLES = ("kits23.json", "kits.json")
IMAGE, MASK = "imaging.nii.gz", "segmentation.nii.gz"
UNKNOWN = ("", "na", "not_applicable")
SIZE_CM, AGE = "radiographic_size", "age_at_nephrectomy"


def read_kits(folder: Path) -> tuple[pd.DataFrame, list[Quarantined]]:
    """Reads a folder in the KiTS layout; its cases are the case folders that are there.

    Args:
        folder: holds case folders and kits23.json or kits.json.

    Returns:
        The usable patients as in a manifest (radiographic size in cm becomes max_diameter_mm, pathological T stage and ISUP grade keep their
        text), and the cases that cannot be used.

    Raises:
        StudyError: the folder or its JSON file is absent or malformed, or there is no case.
    """
    if trouble(folder) or not folder.is_dir():
        raise StudyError(f"{folder}: no such folder, or it may not be read; give a folder in the KiTS layout")
    pathology = read_pathology(folder)
    cases = sorted(path for path in folder.glob("case_*") if path.is_dir())
    if not cases:
        raise StudyError(f"{folder}: no folder named case_NNNNN; give a folder in the KiTS layout")
    rows: list[dict[str, Any]] = []
    quarantined: list[Quarantined] = []
    for case in cases:
        record = pathology.get(case.name)
        problem = _problem(case, record)
        if problem:
            quarantined.append(problem)
        else:
            rows.append(_row(case, record or {}))
    columns = ["patient_id", "label", "image", "mask", "sex", "age", "histology", "max_diameter_mm", "stage", "grade"]
    table = pd.DataFrame(rows, columns=columns)
    texts = dict.fromkeys(("patient_id", "image", "mask", "sex", "histology", "stage", "grade"), "str")
    return table.astype({"label": "Int8", "age": "float64", "max_diameter_mm": "float64", **texts}), quarantined


def read_pathology(folder: Path) -> dict[str, dict[str, Any]]:
    """Reads the pathology of a folder in the KiTS layout.

    Args:
        folder: holds kits23.json or kits.json.

    Returns:
        case_id -> the case's entry as the file has it; of its values only size and age are checked: numbers, or null.

    Raises:
        StudyError: the file is absent or malformed.
    """
    file = next((folder / name for name in TABLES if (folder / name).is_file()), None)
    if file is None:
        raise StudyError(f"{folder}: none of {' and '.join(TABLES)} is there; put the pathology table beside the case folders")
    try:
        records = json.loads(file.read_text(encoding="utf-8"))
        pathology = {str(record["case_id"]): record for record in records}
    except (OSError, ValueError, TypeError, KeyError):
        raise StudyError(f"{file}: expected a JSON list of cases, each with a case_id; take the file of the KiTS release") from None
    if len(pathology) != len(records):
        raise StudyError(f"{file}: a case_id repeats; take the file of the KiTS release")
    for case, record in pathology.items():
        for key in (SIZE_CM, AGE):
            value = record.get(key)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value) or value < 0):
                raise StudyError(f"{file}: {case}: {key} is not a number of zero or more; enter one, or null")
    return pathology


def _problem(case: Path, record: dict[str, Any] | None) -> Quarantined | None:
    if record is None:
        return Quarantined(case.name, str(case), Code.LABEL_MISSING, "the case has no entry in the pathology table; add it or remove the folder")
    if not isinstance(record.get("malignant"), bool):
        return Quarantined(case.name, str(case), Code.LABEL_MISSING, "the pathology table does not say whether the tumour is malignant")
    for name in (IMAGE, MASK):
        found = trouble(case / name)
        if found and found[0] is Code.FILE_UNREADABLE:
            return Quarantined(case.name, str(case / name), *found)
        if found:
            return Quarantined(case.name, str(case / name), Code.FILE_MISSING, f"{name} is missing from the case folder; download it")
    return None


def _row(case: Path, record: dict[str, Any]) -> dict[str, Any]:
    size_cm = record.get(SIZE_CM)
    return {
        "patient_id": case.name,
        "label": int(record["malignant"]),
        "image": str((case / IMAGE).resolve()),
        "mask": str((case / MASK).resolve()),
        "sex": _text(record.get("gender")),
        "age": record.get(AGE),
        "histology": _text(record.get("tumor_histologic_subtype")),
        "max_diameter_mm": None if size_cm is None else round(float(size_cm) * 10, 6),
        "stage": _text(record.get("pathology_t_stage")),
        "grade": _text(record.get("tumor_isup_grade")),
    }


def _text(value: Any) -> str | None:
    return None if value is None or str(value).strip().lower() in UNKNOWN else str(value).strip()
