"""The manifest: one row a patient, with label, image and mask."""

import os
import re
import unicodedata
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

from renal_ray.problems import StudyError
from renal_ray.types import Label

REQUIRED = ("patient_id", "label", "image", "mask")
NUMBERS = ("age", "max_diameter_mm")
TEXTS = ("sex", "histology", "location", "stage", "grade", "scanner", "phase", "series", "lesion")
COLUMNS = (*REQUIRED, "sex", "age", "histology", "max_diameter_mm", "location", "stage", "grade", "scanner", "phase", "series", "lesion")
LABEL_COLUMNS = tuple(column for column in COLUMNS if column not in ("image", "mask", "series", "lesion"))
LABELS = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1} | {label.name.lower(): int(label) for label in Label}
SEXES = {"m": "male", "f": "female"}
UNSAFE_ID = re.compile(r"[/\\\x00-\x1f\x7f]|^\.{1,2}$")  # ids become names of rows, shards and folders
MAX_ID = 128


def normal_id(text: str) -> str:
    """The normal form of a patient's id: ids that look the same become the same text. Case and leading zeros stay.

    Unicode NFC (UAX #15); full-width and half-width letters and digits as ordinary ones (UAX #11); without invisible characters (category Cf: zero-width,
    direction marks, soft hyphens); every kind of space an ordinary one (category Zs); none at the ends.

    Args:
        text: an id as a table or a DICOM header has it.
    """
    if text.isascii():
        return text.strip()
    plain = (unicodedata.normalize("NFKC", char) if unicodedata.east_asian_width(char) in ("F", "H") else char for char in text)
    visible = (" " if unicodedata.category(char) == "Zs" else char for char in "".join(plain) if unicodedata.category(char) != "Cf")
    return unicodedata.normalize("NFC", "".join(visible)).strip()


def read_manifest(path: Path, *, labelled: bool = True) -> pd.DataFrame:
    """Reads and validates a manifest.

    Args:
        path: CSV (UTF-8) or Parquet with patient_id, label, image, mask and optional columns. A label is 0, 1, benign, malignant or empty;
            a relative image or mask is relative to the manifest's folder and may not lead out of it. `series` says which CT series of the image's
            folder is meant, as `scan` names it; `lesion` what of the mask is the lesion, in place of the study's setting.
        labelled: whether the column `label` has to be there.

    Returns:
        One row a patient in the file's order: patient_id str, label Int8 (missing where empty), image and mask as absolute paths (empty where
        the file has none), and of sex, age, histology, max_diameter_mm, location, stage, grade, scanner, phase, series
        and lesion those that the file has.

    Raises:
        StudyError: the file is absent or unreadable, a column is unknown or missing, an id repeats or is unsafe, a value does not fit.
    """
    required = tuple(column for column in REQUIRED if labelled or column != "label")
    table = read_table(path, required=required, known=COLUMNS)
    for column in ("image", "mask"):
        table[column] = [_placed(path.absolute().parent, name) if name else "" for name in table[column]]
    refuse_duplicates(table, path)
    return table


def write_manifest(table: pd.DataFrame, path: Path) -> None:
    """Writes a manifest that `read_manifest` reads back; files below the manifest's folder are named relative to it, so that the folder can move.

    Args:
        table: as from `read_manifest`; other columns are left out.
        path: ends in .csv or .parquet.
    """
    out = table[[column for column in COLUMNS if column in table]].copy()
    base = path.absolute().parent.resolve()
    for column in ("image", "mask"):
        out[column] = [str(Path(name).relative_to(base)) if name and Path(name).is_relative_to(base) else name for name in out[column]]
    if _ending(path) == ".csv":
        out.to_csv(path, index=False, lineterminator="\n")
    else:
        out.to_parquet(path, index=False)


def read_table(path: Path, *, required: tuple[str, ...], known: tuple[str, ...], safe_ids: bool = True) -> pd.DataFrame:
    """Reads a table of patients and brings every column to its type; ids may still repeat.

    Args:
        path: CSV or Parquet.
        required: columns that must be there.
        known: columns that may be there.
        safe_ids: refuse ids that cannot be a file's name.

    Raises:
        StudyError: with the file, the row and what to do.
    """
    raw = _read_text(path)
    if len(raw.columns) == 1 and any(mark in raw.columns[0] for mark in ";\t"):
        raise StudyError(f"{path}: its cells are separated by semicolons or tabs; save it again with commas")
    unknown, missing = sorted(set(raw.columns) - set(known)), sorted(set(required) - set(raw.columns))
    if unknown:
        raise StudyError(f"{path}: unknown columns {unknown}; known are {list(known)}")
    if missing:
        raise StudyError(f"{path}: columns {missing} are missing; needed are {list(required)}")
    if raw.empty:
        raise StudyError(f"{path}: no patients; give at least one row")
    table = pd.DataFrame({"patient_id": raw["patient_id"]})
    for row, patient in enumerate(table["patient_id"], 1):
        if not patient or (safe_ids and (len(patient) > MAX_ID or UNSAFE_ID.search(patient))):
            raise StudyError(f"{path}: row {row}: patient_id is empty, longer than {MAX_ID} or holds a slash or control character; rename it")
    for column in (column for column in known if column in raw and column != "patient_id"):
        if column == "label":
            table[column] = _labels(raw[column], path)
        elif column in NUMBERS:
            table[column] = _numbers(raw[column], path)
        elif column in TEXTS:
            table[column] = _texts(raw[column])
        else:
            table[column] = raw[column]
    return table


def refuse_duplicates(table: pd.DataFrame, path: Path, *, show_id: bool = True) -> None:
    """Refuses a table that names a patient twice: the patient is the unit of the split, and a second row could land on its other side.

    Args:
        table: indexed by row, from 0.
        path: of the table, for the message.
        show_id: whether the message may name the patient.

    Raises:
        StudyError: with the rows.
    """
    twice = table["patient_id"].duplicated(keep=False)
    if twice.any():
        patient = table.loc[twice, "patient_id"].iloc[0]
        rows = [int(row) + 1 for row in table.index[table["patient_id"] == patient]]
        raise StudyError(f"{path}: patient_id {patient if show_id else '(hidden)'} is in rows {rows}; keep one row a patient")


def _placed(base: Path, name: str) -> str:
    """A path as it is, or below the manifest's folder; one that leads out of it stays relative, to be quarantined."""
    outside = not Path(name).is_absolute() and Path(os.path.normpath(name)).parts[:1] == (os.pardir,)
    return name if outside else _absolute(base / name)


def _absolute(path: Path) -> str:
    try:
        return str(path.resolve())
    except (OSError, RuntimeError, ValueError):  # a loop of links, or a name that no file system takes: quarantined as a missing file
        return str(path)


def _ending(path: Path) -> str:
    if path.suffix.lower() not in (".csv", ".parquet"):
        raise StudyError(f"{path}: a table ends in .csv or .parquet")
    return path.suffix.lower()


def _read_text(path: Path) -> pd.DataFrame:
    """Every cell as stripped text, empty where missing; ids such as 007 stay as they are."""
    try:
        if _ending(path) == ".csv":
            with warnings.catch_warnings():  # rows longer than the header would lose cells, or shift them by one column
                warnings.simplefilter("error", pd.errors.ParserWarning)
                raw = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig", skipinitialspace=True, index_col=False)
        else:
            raw = pd.read_parquet(path)
    except FileNotFoundError:
        raise StudyError(f"{path}: no such table; give a CSV or Parquet file") from None
    except PermissionError:
        raise StudyError(f"{path}: the table may not be read; change its permissions") from None
    except pd.errors.ParserWarning:
        raise StudyError(f"{path}: its rows have more cells than its header has columns; remove the surplus commas or name the columns") from None
    except (OSError, ValueError, pd.errors.ParserError) as error:
        wanted = "UTF-8, cells separated by commas" if path.suffix.lower() == ".csv" else "Parquet"
        raise StudyError(f"{path}: not readable as {path.suffix[1:]} ({type(error).__name__}); save it again as {wanted}") from None
    raw.columns = [str(column).strip() for column in raw.columns]
    if raw.columns.has_duplicates:
        raise StudyError(f"{path}: a column appears twice in {list(raw.columns)}")
    return pd.DataFrame({column: ["" if pd.isna(value) else str(value).strip() for value in raw[column]] for column in raw.columns}, dtype=str)


def _labels(cells: pd.Series, path: Path) -> pd.Series:
    labels = []
    for row, cell in enumerate(cells, 1):
        if cell and cell.lower() not in LABELS:
            raise StudyError(f"{path}: row {row}: label {cell!r} is none of 0, 1, benign, malignant or empty")
        labels.append(LABELS[cell.lower()] if cell else None)
    return pd.Series(labels, dtype="Int8")


def _numbers(cells: pd.Series, path: Path) -> pd.Series:
    values = pd.to_numeric(cells.where(cells != ""), errors="coerce").astype("float64")
    wrong = (cells != "") & ~(np.isfinite(values) & (values >= 0))
    if wrong.any():
        raise StudyError(f"{path}: row {int(np.flatnonzero(wrong)[0]) + 1}: {cells.name} {cells[wrong].iloc[0]!r} is not a number of zero or more")
    return values


def _texts(cells: pd.Series) -> pd.Series:
    if cells.name == "sex":
        cells = cells.str.lower().replace(SEXES)
    elif cells.name == "location":
        cells = cells.str.lower()
    return cells.where(cells != "")
