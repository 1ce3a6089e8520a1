"""A folder of DICOM as it comes from an archive, joined with a table of labels by patient."""

import hashlib
import hmac
import os
import secrets
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from renal_ray.cohort.access import trouble
from renal_ray.cohort.manifest import COLUMNS, read_table, refuse_duplicates
from renal_ray.dicom.headers import Header, quiet, read_header
from renal_ray.problems import Code, PatientError, Quarantined, StudyError

TAGS = ["PatientID", "Modality", "SOPClassUID", "ImageType", "SeriesInstanceUID", "FrameOfReferenceUID", "ReferencedSeriesSequence"]
KEY_FILE = ".renal-ray-key"
LABEL_COLUMNS = tuple(column for column in COLUMNS if column not in ("image", "mask"))


@dataclass
class Series:
    """One CT series: the folders of its files, its frame of reference, and whether it holds scout views alone."""

    folders: set[Path] = field(default_factory=set)
    frame_of_reference: str = ""
    scout: bool = True

    @property
    def folder(self) -> Path:
        """The folder that holds all files of the series."""
        return Path(os.path.commonpath([str(folder) for folder in self.folders]))


@dataclass(frozen=True)
class Seg:
    """One DICOM SEG and what it refers to."""

    path: Path
    series: frozenset[str]
    frame_of_reference: str


@dataclass
class Found:
    """What lies in the folder for one patient; series by SeriesInstanceUID."""

    series: dict[str, Series] = field(default_factory=lambda: defaultdict(Series))
    segs: list[Seg] = field(default_factory=list)


def read_dicom_tree(folder: Path, labels: Path, *, keep_ids: bool) -> tuple[pd.DataFrame, list[Quarantined]]:
    """Finds each labelled patient's CT series and the SEG that was drawn on it, by headers alone.

    Args:
        folder: any folder structure of DICOM files.
        labels: CSV or Parquet with patient_id (the DICOM PatientID), label and optional columns.
        keep_ids: use the DICOM PatientID; otherwise the patient_id of the result is a keyed hash of it (`keyed_hash`), the key beside the labels.

    Returns:
        The usable patients as in a manifest, and the patients that cannot be used.

    Raises:
        StudyError: the folder or the table cannot be read, or no key can be kept.
    """
    if trouble(folder) or not folder.is_dir():
        raise StudyError(f"{folder}: no such folder, or it may not be read; cohort.dicom is a folder of DICOM files")
    table = read_table(labels, required=("patient_id", "label"), known=LABEL_COLUMNS, safe_ids=keep_ids)
    conflicting = _conflicting(table)
    refuse_duplicates(table[~table["patient_id"].isin(conflicting)], labels, show_id=keep_ids)
    key_file = labels.absolute().parent / KEY_FILE

    def hidden(patient: str) -> str:
        return keyed_hash(key_file)(patient)

    # Without a row in the labels an id comes from DICOM alone, and then leaves it only as a hash.
    name: Callable[[str], str] = str if keep_ids else keyed_hash(key_file)
    found, quarantined = _walk(folder)
    records = {str(record["patient_id"]): record for record in table.to_dict("records")}
    rows: list[dict[str, Any]] = []
    for patient in [*records, *sorted(set(found) - set(records))]:
        shown = name(patient) if patient in records else hidden(patient) if patient else ""
        try:
            record = _labelled(patient, records, conflicting)
            image, mask = _pair(found.get(patient, Found()))
        except PatientError as error:
            quarantined.append(Quarantined(shown, error.file, error.code, error.message))
        else:
            rows.append({**record, "patient_id": shown, "image": str(image.resolve()), "mask": str(mask.resolve())})
    columns = [column for column in COLUMNS if column in table or column in ("image", "mask")]
    kinds = {"label": "Int8"} | {column: table[column].dtype for column in columns if column in table and column != "label"}
    return pd.DataFrame(rows, columns=columns).astype(kinds), quarantined


def keyed_hash(key_file: Path) -> Callable[[str], str]:
    """A function from a DICOM PatientID to a patient_id that says nothing without the key.

    Args:
        key_file: holds the key in hexadecimal; made when absent, readable by its owner alone.

    Returns:
        Function that gives the first 16 hexadecimal digits of HMAC-SHA256(key, id).

    Raises:
        StudyError: the key cannot be made or read.
    """
    try:
        if not key_file.exists():
            handle = os.open(key_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "w", encoding="ascii") as file:
                file.write(secrets.token_hex(32))
        key = bytes.fromhex(key_file.read_text(encoding="ascii").strip())
    except (OSError, ValueError):
        raise StudyError(f"{key_file}: the key of cohort.keep_ids: false cannot be made or read; make its folder writable or restore the key") from None
    if len(key) < 16:
        raise StudyError(f"{key_file}: the key is shorter than 16 bytes; restore it, or remove it to make a new one")
    return lambda patient: hmac.new(key, patient.encode(), hashlib.sha256).hexdigest()[:16]


def _conflicting(table: pd.DataFrame) -> set[str]:
    """Patients whose rows give different labels."""
    labels = table.dropna(subset=["label"]).groupby("patient_id")["label"].nunique()
    return set(labels.index[labels > 1])


def _labelled(patient: str, records: dict[str, dict], conflicting: set[str]) -> dict[str, Any]:
    if not patient:
        raise PatientError(Code.LABEL_MISSING, "DICOM files with an empty PatientID cannot be joined with labels; use a manifest for them")
    if patient not in records:
        raise PatientError(Code.LABEL_MISSING, "DICOM files of a patient without a row in the table of labels; add one or move the files")
    if patient in conflicting:
        raise PatientError(Code.LABEL_CONFLICT, "the table of labels gives this patient both labels; keep one row")
    if pd.isna(records[patient]["label"]):
        raise PatientError(Code.LABEL_MISSING, "the table of labels has no label for this patient; enter 0, 1, benign or malignant")
    return records[patient]


def _walk(folder: Path) -> tuple[dict[str, Found], list[Quarantined]]:
    """What lies in a folder, by PatientID, and the DICOM files whose header cannot be read."""
    found: dict[str, Found] = defaultdict(Found)
    broken: list[Quarantined] = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            with quiet():
                header = read_header(path, TAGS)
                if header is not None:
                    _file(header, found)
        except PatientError as error:
            broken.append(Quarantined("", str(path.parent), error.code, "a DICOM file in this folder has a header that cannot be read; export it again"))
    return found, broken


def _file(header: Header, found: dict[str, Found]) -> None:
    """Adds one file to its patient's series or masks; other objects are passed over."""
    frame_of_reference = header.text("FrameOfReferenceUID")
    if header.is_ct:
        series = found[header.text("PatientID")].series[header.text("SeriesInstanceUID")]
        series.folders.add(header.path.parent)
        series.frame_of_reference = frame_of_reference
        series.scout = series.scout and header.is_localizer
    elif header.text("Modality") == "SEG":
        references = header.dataset.get("ReferencedSeriesSequence") or []
        uids = frozenset(str(item.get("SeriesInstanceUID") or "") for item in references) - {""}
        found[header.text("PatientID")].segs.append(Seg(header.path, uids, frame_of_reference))


def _pair(found: Found) -> tuple[Path, Path]:
    """The folder of the patient's one series that has a mask, and the mask.

    Raises:
        PatientError: FILE_MISSING, MASK_WITHOUT_SERIES, SERIES_WITHOUT_MASK, SEVERAL_SERIES or SEVERAL_MASKS.
    """
    series = {uid: item for uid, item in found.series.items() if not item.scout}
    if not series:
        if found.segs:
            raise PatientError(Code.MASK_WITHOUT_SERIES, "a SEG but no CT series; add the series")
        raise PatientError(Code.FILE_MISSING, "no CT series of this patient in the folder; add it, or check that patient_id is the DICOM PatientID")
    if not found.segs:
        raise PatientError(Code.SERIES_WITHOUT_MASK, "a CT series but no DICOM SEG; add the mask, or pair the files in a manifest")
    pairs = [(uid, seg) for seg in found.segs for uid in _drawn_on(seg, series)]
    if not pairs:
        if all(seg.series for seg in found.segs):
            raise PatientError(Code.MASK_WITHOUT_SERIES, "the SEG was drawn on a series that is not in the folder; add that series")
        raise PatientError(Code.SEVERAL_SERIES, f"{len(series)} CT series, and the SEG does not say on which it was drawn; keep one")
    if len({uid for uid, _ in pairs}) > 1:
        raise PatientError(Code.SEVERAL_SERIES, "masks on several CT series; keep the series and the mask of one phase")
    if len(pairs) > 1:
        raise PatientError(Code.SEVERAL_MASKS, f"{len(pairs)} SEG objects on one CT series; keep one")
    uid, seg = pairs[0]
    return series[uid].folder, seg.path


def _drawn_on(seg: Seg, series: dict[str, Series]) -> list[str]:
    """Series that a SEG can belong to: those it refers to, else those of its frame of reference, else the only one."""
    if seg.series:
        return [uid for uid in series if uid in seg.series]
    if seg.frame_of_reference:
        return [uid for uid, item in series.items() if item.frame_of_reference == seg.frame_of_reference]
    return list(series) if len(series) == 1 else []
