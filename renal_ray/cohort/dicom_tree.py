"""A folder of DICOM as it comes from an archive, joined with a table of labels by patient."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from renal_ray.cohort.manifest import (
    COLUMNS,
    LABEL_COLUMNS,
    normal_id,
    read_table,
    refuse_duplicates,
)
from renal_ray.cohort.scan.hashing import KEY_FILE, keyed_hash
from renal_ray.cohort.scan.look import look, not_found, same_person
from renal_ray.cohort.scan.propose import Proposal
from renal_ray.config import Phase
from renal_ray.problems import Code, PatientError, Quarantined, Severity, StudyError, trouble


def read_dicom_tree(
    folder: Path, labels: Path, *, keep_ids: bool, phase: Phase | None = None
) -> tuple[pd.DataFrame, list[Quarantined]]:
    """Finds each labelled patient's CT series and the mask that was drawn on it, by headers alone,
    as `scan` does.

    Args:
        folder: any folder structure of DICOM files.
        labels: CSV or Parquet with patient_id (the DICOM PatientID), label and optional columns.
        keep_ids: use the DICOM PatientID; otherwise the patient_id of the result is a keyed hash of
            it (`keyed_hash`), the key beside the labels.
        phase: which series is taken where a patient has several.

    Returns:
        The usable patients as in a manifest, and the patients that cannot be used.

    Raises:
        StudyError: the folder or the table cannot be read, or no key can be kept.
    """
    if trouble(folder) or not folder.is_dir():
        raise StudyError(
            f"{folder}: no such folder, or it may not be read; "
            "cohort.dicom is a folder of DICOM files"
        )
    table = read_table(
        labels, required=("patient_id", "label"), known=LABEL_COLUMNS, safe_ids=keep_ids
    )
    conflicting = _conflicting(table)
    refuse_duplicates(table[~table["patient_id"].isin(conflicting)], labels, show_id=keep_ids)
    key_file = labels.absolute().parent / KEY_FILE

    def hidden(patient: str) -> str:
        return keyed_hash(key_file)(patient)

    # Without a row in the labels an id comes from DICOM alone, and then leaves it only as a hash.
    name: Callable[[str], str] = str if keep_ids else keyed_hash(key_file)
    records = {normal_id(str(record["patient_id"])): record for record in table.to_dict("records")}
    seen = look([folder], phase or Phase(), labelled=records)
    quarantined = [Quarantined("", one.file, one.code, one.message) for one in seen.problems]
    found = {proposal.person.patient: proposal for proposal in seen.proposals}
    damaged = [
        *seen.broken,
        *(
            (proposal.person.patient, error)
            for proposal in seen.proposals
            for error in proposal.damaged
        ),
    ]
    for patient, error in damaged:
        owner = "" if not patient else name(patient) if patient in records else hidden(patient)
        where = str(
            Path(error.file).parent
        )  # the file's name may be a UID, and the message says which one it is
        quarantined.append(Quarantined(owner, where, error.code, error.message))
    missing = not_found(records, found)
    rows: list[dict[str, Any]] = []
    for patient in [*records, *sorted(set(found) - set(records))]:
        shown = name(patient) if patient in records else hidden(patient) if patient else ""
        try:
            record = _labelled(patient, records, conflicting)
            if patient in missing:
                raise missing[patient]
            files = _files(found[patient])
        except PatientError as error:
            quarantined.append(Quarantined(shown, error.file, error.code, error.message))
        else:
            rows += [] if found[patient].damaged else [{**record, "patient_id": shown, **files}]
            warnings = (
                one for one in found[patient].problems if one.code.severity is not Severity.ERROR
            )
            quarantined += [Quarantined(shown, one.file, one.code, one.message) for one in warnings]
    for patient, others in sorted(
        same_person([proposal.person for proposal in seen.proposals]).items()
    ):
        if patient in records:
            named = ", ".join(
                sorted(name(other) if other in records else hidden(other) for other in others)
            )
            message = (
                f"seems to be the same person as {named} (a study, or "
                "name and birth date); keep one id"
            )
            quarantined.append(Quarantined(name(patient), "", Code.SAME_PERSON, message))
    columns = [
        column for column in COLUMNS if column in table or column in ("image", "mask", "series")
    ]
    kinds = {"label": "Int8"} | {
        column: table[column].dtype for column in columns if column in table and column != "label"
    }
    return pd.DataFrame(rows, columns=columns).astype(kinds), quarantined


def _files(proposal: Proposal) -> dict[str, str]:
    """Image, mask and series of a proposal.

    Raises:
        PatientError: whatever stands in its way.
    """
    for error in proposal.obstacles:
        raise error
    assert proposal.series is not None
    return {
        "image": str(Path(proposal.image or "").resolve()),
        "mask": str(Path(proposal.mask or "").resolve()),
        "series": proposal.series.key,
    }


def _conflicting(table: pd.DataFrame) -> set[str]:
    """Patients whose rows give different labels."""
    labels = table.dropna(subset=["label"]).groupby("patient_id")["label"].nunique()
    return set(labels.index[labels > 1])


def _labelled(
    patient: str, records: dict[str, dict[str, Any]], conflicting: set[str]
) -> dict[str, Any]:
    if not patient:
        raise PatientError(
            Code.LABEL_MISSING,
            "DICOM files with an empty PatientID cannot be joined "
            "with labels; use a manifest for them",
        )
    if patient not in records:
        raise PatientError(
            Code.LABEL_MISSING,
            "DICOM files of a patient without a row in the table of "
            "labels; add one or move the files",
        )
    if patient in conflicting:
        raise PatientError(
            Code.LABEL_CONFLICT, "the table of labels gives this patient both labels; keep one row"
        )
    if pd.isna(records[patient]["label"]):
        raise PatientError(
            Code.LABEL_MISSING,
            "the table of labels has no label for this patient; enter 0, 1, benign or malignant",
        )
    return records[patient]
