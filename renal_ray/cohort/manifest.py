"""The manifest: one row a patient, with label, image and mask."""

import difflib
import os
import re
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd

from renal_ray.cohort.cells import read_cells
from renal_ray.problems import StudyError
from renal_ray.types import Label

REQUIRED = ("patient_id", "label", "image", "mask")
NUMBERS = ("age", "max_diameter_mm")
TEXTS = ("sex", "histology", "location", "stage", "grade", "scanner", "phase", "series", "lesion")
COLUMNS = (
    *REQUIRED,
    "sex",
    "age",
    "histology",
    "max_diameter_mm",
    "location",
    "stage",
    "grade",
    "scanner",
    "phase",
    "series",
    "lesion",
)
LABEL_COLUMNS = tuple(
    column for column in COLUMNS if column not in ("image", "mask", "series", "lesion")
)
LABELS = {"0": 0, "1": 1, "false": 0, "true": 1} | {
    label.name.lower(): int(label) for label in Label
}
SEXES = {"m": "male", "f": "female"}
UNSAFE_ID = re.compile(
    r"[/\\\x00-\x1f\x7f]|^\.{1,2}$"
)  # ids become names of rows, shards and folders
MAX_ID = 128
_CHANGED = re.compile(
    r"\d([.,]\d+)?[eE][+-]\d+|[='].*|#+|#(N/A|NV|[A-Z/0]+[!?])"
)  # what a spreadsheet makes of an id: 1.23E+05, a formula, #####, #NAME?
_WHOLE = re.compile(r"\A([01])[.,]0+\Z")
_DECIMAL_COMMA = re.compile(r"\A([+-]?\d*),(\d+([eE][+-]?\d+)?)\Z")


def normal_id(text: str) -> str:
    """The normal form of a patient's id: ids that look the same become the same text. Case and
    leading zeros stay.

    Unicode NFC (UAX #15); full-width and half-width letters and digits as ordinary ones (UAX #11);
    without invisible characters (category Cf: zero-width, direction marks, soft hyphens); every
    kind of space an ordinary one (category Zs); none at the ends.

    Args:
        text: an id as a table or a DICOM header has it.
    """
    if text.isascii():
        return text.strip()
    plain = (
        unicodedata.normalize("NFKC", char)
        if unicodedata.east_asian_width(char) in ("F", "H")
        else char
        for char in text
    )
    visible = (
        " " if unicodedata.category(char) == "Zs" else char
        for char in "".join(plain)
        if unicodedata.category(char) != "Cf"
    )
    return unicodedata.normalize("NFC", "".join(visible)).strip()


def label_of(word: str) -> int | None:
    """The label that a word or number stands for, in any case; None where it stands for neither."""
    return LABELS.get(_WHOLE.sub(r"\1", word.strip()).lower())


def read_manifest(path: Path, *, labelled: bool = True) -> pd.DataFrame:
    """Reads and validates a manifest.

    Args:
        path: CSV or Parquet, as `read_table` reads it, with patient_id, label, image, mask and
            optional columns. A label is 0, 1, benign, malignant or empty; a relative image or mask
            is relative to the manifest's folder and may not lead out of it. `series` says which CT
            series of the image's folder is meant, as `scan` names it; `lesion` what of the mask is
            the lesion, in place of the study's setting.
        labelled: whether the column `label` has to be there.

    Returns:
        One row a patient in the file's order: patient_id str, label Int8 (missing where empty),
        image and mask as absolute paths (empty where the file has none), and of sex, age,
        histology, max_diameter_mm, location, stage, grade, scanner, phase, series and lesion those
        that the file has.

    Raises:
        StudyError: the file is absent or unreadable, a column is unknown or missing, an id repeats
            or is unsafe, a value does not fit.
    """
    required = tuple(column for column in REQUIRED if labelled or column != "label")
    table = read_table(path, required=required, known=COLUMNS)
    for column in ("image", "mask"):
        table[column] = [
            _placed(path.absolute().parent, name) if name else "" for name in table[column]
        ]
    refuse_duplicates(table, path)
    return table.reset_index(drop=True)


def write_manifest(table: pd.DataFrame, path: Path) -> None:
    """Writes a manifest that `read_manifest` reads back; files below the manifest's folder are
    named relative to it, so that the folder can move.

    Args:
        table: as from `read_manifest`; other columns are left out.
        path: ends in .csv or .parquet.
    """
    out = table[[column for column in COLUMNS if column in table]].copy()
    base = path.absolute().parent.resolve()
    for column in ("image", "mask"):
        out[column] = [
            str(Path(name).relative_to(base)) if name and Path(name).is_relative_to(base) else name
            for name in out[column]
        ]
    if path.suffix.lower() == ".csv":
        out.to_csv(path, index=False, lineterminator="\n")
    else:
        out.to_parquet(path, index=False)


def read_table(
    path: Path, *, required: tuple[str, ...], known: tuple[str, ...], safe_ids: bool = True
) -> pd.DataFrame:
    """Reads a table of patients and brings every column to its type; ids may still repeat.

    Args:
        path: CSV or Parquet, as `read_cells` reads it; names of columns in any case, with blanks,
            hyphens, underscores or without.
        required: columns that must be there.
        known: columns that may be there.
        safe_ids: refuse ids that cannot be a file's name.

    Returns:
        Columns in the order of `known`, patient_id first and in its normal form, indexed by line or
        row as `read_cells` counts.

    Raises:
        StudyError: with the file, the line and what to do.
    """
    raw = read_cells(path)
    raw.columns = _column_names(list(raw.columns), required, known, path)
    if raw.empty:
        raise StudyError(f"{path}: no patients; give at least one row")
    table = pd.DataFrame({"patient_id": raw["patient_id"].map(normal_id)})
    _check_ids(table["patient_id"], path, safe=safe_ids)
    for column in (column for column in known if column in raw and column != "patient_id"):
        if column == "label":
            table[column] = _labels(raw[column].map(normal_id), path)
        elif column in NUMBERS:
            table[column] = _numbers(raw[column].map(normal_id), path)
        elif column in TEXTS:
            table[column] = _texts(raw[column], path)
        else:
            table[column] = raw[column]
    return table


def refuse_duplicates(table: pd.DataFrame, path: Path, *, show_id: bool = True) -> None:
    """Refuses a table that names a patient twice: the patient is the unit of the split, and a
    second row could land on its other side.

    Ids that differ in case alone are refused too: as names of folders they are one on many disks,
    and mostly they are one patient.

    Args:
        table: as from `read_table`.
        path: of the table, for the message.
        show_id: whether the message may name the patient.

    Raises:
        StudyError: with the lines.
    """
    folded = table["patient_id"].str.casefold()
    twice = folded.duplicated(keep=False)
    if twice.any():
        rows = table[folded == folded[twice].iloc[0]]
        ids = [*dict.fromkeys(rows["patient_id"])]
        shown = ", ".join(ids) if show_id else "(hidden)"
        remedy = (
            "keep one row a patient"
            if len(ids) == 1
            else "they differ in case alone; write one patient's id in one way, or rename one"
        )
        raise StudyError(
            f"{path}: patient_id {shown} is in {table.index.name}s {list(rows.index)}; {remedy}"
        )


def _placed(base: Path, name: str) -> str:
    """A path as it is, or below the manifest's folder; one that leads out of it stays relative, to
    be quarantined."""
    outside = not Path(name).is_absolute() and Path(os.path.normpath(name)).parts[:1] == (
        os.pardir,
    )
    return name if outside else _absolute(base / _as_on_disk(base, name))


def _as_on_disk(base: Path, name: str) -> str:
    """The name in the Unicode form that is there: some file systems and archives hold NFD where
    tables hold NFC, and the reverse."""
    forms = (
        ()
        if name.isascii()
        else (name, unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name))
    )
    return next((form for form in forms if os.path.lexists(base / form)), name)


def _absolute(path: Path) -> str:
    try:
        return str(path.resolve())
    except (
        OSError,
        RuntimeError,
        ValueError,
    ):  # a loop of links, or a name that no file system takes: quarantined as a missing file
        return str(path)


def _column_names(
    names: list[str], required: tuple[str, ...], known: tuple[str, ...], path: Path
) -> list[str]:
    """The known names of a table's columns, in the table's order."""
    by_fold = {_folded(name): name for name in known}
    folds = [_folded(name) for name in names]
    if twice := [name for name, fold in zip(names, folds, strict=True) if folds.count(fold) > 1]:
        raise StudyError(f"{path}: columns {twice} have one name; keep one of them")
    unknown = {name: fold for name, fold in zip(names, folds, strict=True) if fold not in by_fold}
    if unknown:
        close = {
            name: difflib.get_close_matches(fold, by_fold, 1) for name, fold in unknown.items()
        }
        meant = "".join(
            f"; is {name!r} {by_fold[match[0]]}?" for name, match in close.items() if match
        )
        raise StudyError(
            f"{path}: unknown columns {sorted(unknown)}{meant}; known are {list(known)}"
        )
    if missing := sorted(set(required) - {by_fold[fold] for fold in folds}):
        raise StudyError(f"{path}: columns {missing} are missing; needed are {list(required)}")
    return [by_fold[fold] for fold in folds]


def _folded(name: str) -> str:
    return re.sub(r"[\W_]+", "", normal_id(name)).casefold()


def _check_ids(ids: pd.Series, path: Path, *, safe: bool) -> None:
    for line, patient in ids.items():
        if not patient or (safe and (len(patient) > MAX_ID or UNSAFE_ID.search(patient))):
            where = f"{path}: {ids.index.name} {line}"
            raise StudyError(
                f"{where}: patient_id is empty, longer than {MAX_ID} or holds "
                "a slash or control character; rename it"
            )
    _refuse_changed(ids, path)
    if ids.str.fullmatch(r"\d+[.,]0").all():
        raise StudyError(
            f"{path}: every patient_id is a number with a decimal of 0: a program "
            "read the ids as numbers; write them anew as text"
        )


def _refuse_changed(cells: pd.Series, path: Path) -> None:
    """Refuses what a spreadsheet put in the place of an id."""
    changed = cells.map(lambda cell: _CHANGED.fullmatch(cell) is not None)
    if changed.any():
        where = f"{path}: {cells.index.name} {cells.index[changed][0]}"
        raise StudyError(
            f"{where}: a spreadsheet changed {cells.name} into a number, formula, quoted "
            "text or error; format the column as text and enter it again"
        )


def _labels(cells: pd.Series, path: Path) -> pd.Series:
    labels = []
    for line, cell in cells.items():
        if cell and label_of(cell) is None:
            raise StudyError(
                f"{path}: {cells.index.name} {line}: label {cell!r} is none "
                "of 0, 1, benign, malignant or empty"
            )
        labels.append(label_of(cell))
    return pd.Series(labels, cells.index, dtype="Int8")


def _numbers(cells: pd.Series, path: Path) -> pd.Series:
    """Numbers with a decimal point or comma. No age or diameter has thousands, so that a comma
    before three digits is a decimal one too."""
    pointed = cells.map(lambda cell: _DECIMAL_COMMA.sub(r"\1.\2", cell))
    values = pd.to_numeric(pointed.where(cells != ""), errors="coerce").astype("float64")
    wrong = (cells != "") & ~(np.isfinite(values) & (values >= 0))
    if wrong.any():
        where = f"{path}: {cells.index.name} {cells.index[wrong][0]}"
        raise StudyError(
            f"{where}: {cells.name} {cells[wrong].iloc[0]!r} is not a number of zero or more"
        )
    return values


def _texts(cells: pd.Series, path: Path) -> pd.Series:
    if cells.name != "lesion":  # names in a mask's file, which are compared as they stand there
        cells = cells.map(normal_id)
    if cells.name == "series":
        _refuse_changed(cells, path)
    elif cells.name == "sex":
        cells = cells.str.lower().replace(SEXES)
    elif cells.name == "location":
        cells = cells.str.lower()
    return cells.where(cells != "")
