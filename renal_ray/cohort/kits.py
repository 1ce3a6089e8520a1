"""The KiTS layout: case_NNNNN/imaging.nii.gz and segmentation.nii.gz, and one JSON file with the
pathology."""

import json
import os
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Any

import pandas as pd

from renal_ray.cohort.manifest import label_of
from renal_ray.problems import Code, Quarantined, StudyError, trouble

HOMES = (
    "",
    "dataset",
    "data",
    "kits21/data",
)  # where the case folders lie in clones of KiTS23, KiTS19 and KiTS21
TABLES = ("kits23.json", "kits.json")
IMAGE = "imaging.nii.gz"
# KiTS21 has three outlines of each lesion and publishes three ways to join them, of different
# sizes: never two of them in one cohort.
MASKS = (
    ("segmentation.nii.gz", "aggregated_MAJ_seg.nii.gz"),
    ("aggregated_OR_seg.nii.gz",),
    ("aggregated_AND_seg.nii.gz",),
)
UNKNOWN = ("", "na", "not_applicable")
SIZE_CM, AGE = "radiographic_size", "age_at_nephrectomy"


def read_kits(folder: Path) -> tuple[pd.DataFrame, list[Quarantined]]:
    """Reads a folder in the KiTS layout; its cases are the case folders that are there.

    Args:
        folder: holds case folders, or is a clone of KiTS19, KiTS21 or KiTS23.

    Returns:
        The usable patients as in a manifest (radiographic size in cm becomes max_diameter_mm,
        pathological T stage and ISUP grade keep their text), and the cases that cannot be used.

    Raises:
        StudyError: the folder or its JSON file is absent or malformed, or there is no case.
    """
    if trouble(folder) or not folder.is_dir():
        raise StudyError(
            f"{folder}: no such folder, or it may not be read; give a folder in the KiTS layout"
        )
    cases = case_folders(folder)
    file = pathology_file(cases[0].parent)
    if file is None:
        raise StudyError(
            f"{cases[0].parent}: none of {' and '.join(TABLES)} is there or one folder "
            "above; put the pathology table beside the case folders"
        )
    pathology = read_pathology(file)
    masks = mask_names(cases)
    rows: list[dict[str, Any]] = []
    quarantined: list[Quarantined] = []
    for case in cases:
        problem = _problem(case, masks, pathology)
        if problem:
            quarantined.append(problem)
        else:
            rows.append(_row(case, masks, pathology[case.name]))
    columns = [
        "patient_id",
        "label",
        "image",
        "mask",
        "sex",
        "age",
        "histology",
        "max_diameter_mm",
        "stage",
        "grade",
    ]
    table = pd.DataFrame(rows, columns=columns)
    texts = dict.fromkeys(
        ("patient_id", "image", "mask", "sex", "histology", "stage", "grade"), "str"
    )
    return table.astype(
        {"label": "Int8", "age": "float64", "max_diameter_mm": "float64", **texts}
    ), quarantined


def case_folders(folder: Path) -> list[Path]:
    """The case folders, in the order of their names.

    Args:
        folder: as `read_kits` takes it.

    Raises:
        StudyError: there is none.
    """
    for home in HOMES:
        if cases := sorted(path for path in (folder / home).glob("case_*") if path.is_dir()):
            return cases
    if (folder / "imagesTr").is_dir():
        raise StudyError(
            f"{folder}: nnU-Net's layout; let `renal-ray scan` make a "
            "manifest of it and name that as cohort.manifest"
        )
    raise StudyError(f"{folder}: no folder named case_NNNNN; give a folder in the KiTS layout")


def mask_names(cases: Sequence[Path]) -> tuple[str, ...]:
    """The names that a segmentation has in these cases, the preferred one first: of one kind for
    all of them.

    Args:
        cases: case folders.
    """
    return next((names for names in MASKS if any(mask_of(case, names) for case in cases)), MASKS[0])


def mask_of(case: Path, names: Sequence[str]) -> Path | None:
    """The first of the named files that the case folder holds."""
    return next((case / name for name in names if os.path.exists(case / name)), None)


def pathology_file(home: Path) -> Path | None:
    """The JSON file with the pathology, beside the case folders or one folder above.

    Args:
        home: the folder that holds the case folders.
    """
    return next(
        (
            folder / name
            for folder in (home, home.absolute().parent)
            for name in TABLES
            if (folder / name).is_file()
        ),
        None,
    )


def read_pathology(file: Path) -> dict[str, dict[str, Any]]:
    """Reads the pathology of KiTS.

    Args:
        file: kits23.json or kits.json.

    Returns:
        case_id -> the case's entry as the file has it; of its values only size and age are checked:
        numbers, or unknown.

    Raises:
        StudyError: the file is malformed.
    """
    try:
        records = json.loads(
            file.read_bytes()
        )  # as bytes, of which a byte order mark may be the first
        pathology = {str(record["case_id"]): record for record in records}
    except (OSError, ValueError, TypeError, KeyError):
        raise StudyError(
            f"{file}: expected a JSON list of cases, each with a "
            "case_id; take the file of the KiTS release"
        ) from None
    if len(pathology) != len(records):
        raise StudyError(f"{file}: a case_id repeats; take the file of the KiTS release")
    for case, record in pathology.items():
        for key in (SIZE_CM, AGE):
            try:
                number_in(record, key)
            except ValueError:
                raise StudyError(
                    f"{file}: {case}: {key} is {_shown(record[key])}, not a "
                    "number of zero or more; enter one, or null"
                ) from None
    return pathology


def number_in(record: dict[str, Any], key: str) -> float | None:
    """A number of an entry, also where it is written as text; None where it is not known.

    Args:
        record: entry of the pathology file.
        key: of the number.

    Raises:
        ValueError: it is no number of zero or more.
    """
    if _text(record.get(key)) is None:
        return None
    value = record[key]
    number = float(value) if isinstance(value, str) else value
    if (
        isinstance(number, bool)
        or not isinstance(number, int | float)
        or not isfinite(number)
        or number < 0
    ):
        raise ValueError(key)
    return number


def label_in(record: dict[str, Any]) -> int | None:
    """The label that an entry of the pathology file gives, as a truth value, number or word; None
    where it gives none."""
    return label_of(str(record.get("malignant")))


def _problem(
    case: Path, masks: Sequence[str], pathology: dict[str, dict[str, Any]]
) -> Quarantined | None:
    if case.name not in pathology:
        number = case.name.removeprefix("case_").lstrip("0")
        alike = next(
            (name for name in pathology if name.removeprefix("case_").lstrip("0") == number), ""
        )
        remedy = (
            f"there is one named {alike}: rename the folder if it is meant"
            if alike
            else "add it or remove the folder"
        )
        return Quarantined(
            case.name,
            str(case),
            Code.LABEL_MISSING,
            f"the case has no entry of its name in the pathology table; {remedy}",
        )
    if label_in(pathology[case.name]) is None:
        value = pathology[case.name].get("malignant")
        said = (
            "does not say whether the tumour is malignant"
            if _text(value) is None
            else f"says {_shown(value)} for malignant; enter true or false"
        )
        return Quarantined(case.name, str(case), Code.LABEL_MISSING, f"the pathology table {said}")
    for file in (case / IMAGE, mask_of(case, masks) or case / masks[0]):
        found = trouble(file)
        if found and found[0] is Code.FILE_UNREADABLE:
            return Quarantined(case.name, str(file), *found)
        if found:
            wanted = IMAGE if file.name == IMAGE else " or ".join(masks)
            there = [
                name
                for name in (IMAGE, *(name for names in MASKS for name in names))
                if os.path.exists(case / name)
            ]
            message = (
                f"{wanted} is missing from the case folder, which holds "
                f"{' and '.join(there) or 'no file of KiTS'}; download it"
            )
            return Quarantined(case.name, str(file), Code.FILE_MISSING, message)
    return None


def _row(case: Path, masks: Sequence[str], record: dict[str, Any]) -> dict[str, Any]:
    size_cm = number_in(record, SIZE_CM)
    return {
        "patient_id": case.name,
        "label": label_in(record),
        "image": str((case / IMAGE).resolve()),
        "mask": str((mask_of(case, masks) or case / masks[0]).resolve()),
        "sex": _text(record.get("gender")),
        "age": number_in(record, AGE),
        "histology": _text(record.get("tumor_histologic_subtype")),
        "max_diameter_mm": None if size_cm is None else round(size_cm * 10, 6),
        "stage": _text(record.get("pathology_t_stage")),
        "grade": _text(record.get("tumor_isup_grade")),
    }


def _text(value: Any) -> str | None:
    return None if value is None or str(value).strip().lower() in UNKNOWN else str(value).strip()


def _shown(value: Any) -> str:
    return repr(value)[:40]
