"""The cells of a table as spreadsheets and programs write it: encoding, separator and line ends,
not what the cells mean."""

import codecs
import csv
import io
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from renal_ray.problems import StudyError

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
SAVE = "save it again as CSV UTF-8"
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  # .xlsx and .ods, .xls
_SEPARATOR_LINE = re.compile(
    r'\A"?sep=(.)"?[,;\t|]*$', re.IGNORECASE | re.MULTILINE
)  # Excel takes the separator from it
_TEXT_FORMULA = re.compile(r'="([^"]*)"')  # how text such as 007 is kept from becoming a number


def read_cells(path: Path) -> pd.DataFrame:
    """Reads a table as text. Rows and columns without any content are no part of it.

    Args:
        path: CSV as Excel, LibreOffice or pandas write it (UTF-8, or UTF-16 with a byte order mark;
            cells separated by commas, semicolons, tabs or bars; quoted as in RFC 4180), or Parquet.

    Returns:
        Cells without blanks at their ends, empty where missing; columns named as in the file. The
        index is called "line" and counts as an editor does (CSV), or "row", from 1 (Parquet).

    Raises:
        StudyError: the file is absent, closed or damaged, or what separates its cells cannot be
            told.
    """
    kind = path.suffix.lower()
    if kind not in (".csv", ".parquet"):
        raise StudyError(
            f"{path}: a table ends in .csv or .parquet; rename a text file "
            "to .csv, save a workbook as CSV UTF-8"
        )
    try:
        return _of_csv(path) if kind == ".csv" else _of_parquet(path)
    except FileNotFoundError:
        raise StudyError(f"{path}: no such table; give a CSV or Parquet file") from None
    except PermissionError:
        raise StudyError(f"{path}: the table may not be read; change its permissions") from None
    except (OSError, ValueError) as error:
        raise StudyError(
            f"{path}: not readable as {kind[1:]} ({type(error).__name__}); write it again"
        ) from None


def _of_parquet(path: Path) -> pd.DataFrame:
    raw = pd.read_parquet(
        path, dtype_backend="numpy_nullable"
    )  # whole numbers stay whole beside missing ones
    if raw.index.name is not None:
        raw = raw.reset_index()

    def text(value: object) -> str:
        return (
            ""
            if pd.isna(value)
            else _stripped(value.decode() if isinstance(value, bytes) else str(value))
        )

    cells = [[text(value) for value in row] for row in raw.itertuples(index=False, name=None)]
    return pd.DataFrame(
        cells,
        columns=[_stripped(str(name)) for name in raw.columns],
        index=pd.RangeIndex(1, len(raw) + 1, name="row"),
        dtype=str,
    )


def _of_csv(path: Path) -> pd.DataFrame:
    text = _decoded(path)
    declared = _SEPARATOR_LINE.match(text)
    text = text[declared.end() :] if declared else text  # its line end stays and is counted
    separator = _separator(text, declared[1] if declared else "", path)
    rows = list(_rows(text, separator, path))
    header = rows[0][1] if rows else []
    names = header[: max((i for i, name in enumerate(header, 1) if name), default=0)]
    for line, cells in rows[1:]:
        _refuse_ragged(cells, header, len(names), separator, f"{path}: line {line}")
    filled = [[*cells, *[""] * len(names)][: len(names)] for _, cells in rows[1:]]
    unnamed = [i for i, name in enumerate(names) if not name]
    for column in unnamed:
        if any(cells[column] for cells in filled):
            raise StudyError(f"{path}: column {column + 1} has no name; name it, or remove it")
    index = pd.Index([line for line, _ in rows[1:]], name="line", dtype="int64")
    return pd.DataFrame(filled, columns=names, index=index, dtype=str).iloc[
        :, [i for i in range(len(names)) if i not in unnamed]
    ]


def _decoded(path: Path) -> str:
    """The file's text, every line ending in a line feed."""
    data = path.read_bytes()
    if data.startswith(_WORKBOOKS):
        raise StudyError(
            f"{path}: a workbook of a spreadsheet, whatever its name; save the sheet as CSV UTF-8"
        )
    encoding = next((name for mark, name in _MARKS.items() if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = len((data[: error.start] + b".").splitlines())
        where = f"line {line}: " if encoding.startswith("utf-8") else ""
        raise StudyError(
            f"{path}: {where}not readable as csv: a letter such as ü is "
            f"not in {encoding[:6].upper()}; {SAVE}"
        ) from None
    if "\0" in text:
        raise StudyError(
            f"{path}: not readable as csv: it holds NUL, as UTF-16 "
            f"without a byte order mark does; {SAVE}"
        )
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _separator(text: str, declared: str, path: Path) -> str:
    """What parts the cells of the header: the one mark with which it has several cells."""
    headers = {mark: _header(text, mark) for mark in {**SEPARATORS, declared: ""} if mark}
    parting = [mark for mark, cells in headers.items() if len(cells) > 1]
    if declared and (declared in parting or not parting):
        return declared
    names = " and ".join(SEPARATORS[mark] for mark in parting)
    if declared:
        raise StudyError(
            f"{path}: its first line says that {declared!r} separates the cells, "
            f"its header has {names}; correct the first line"
        )
    if len(parting) > 1:
        raise StudyError(
            f"{path}: its header holds {names}: what separates the cells "
            f"cannot be told; {SAVE}, separated by one of them"
        )
    if not parting and any(mark in cell for mark in SEPARATORS for cell in headers[","]):
        raise StudyError(
            f"{path}: its header is a single cell in quotes; remove the "
            f"quotes round whole lines, or {SAVE}"
        )
    return parting[0] if parting else ","


def _header(text: str, separator: str) -> list[str]:
    try:
        return next(
            (
                cells
                for cells in csv.reader(
                    io.StringIO(text), delimiter=separator, skipinitialspace=True
                )
                if any(map(_stripped, cells))
            ),
            [],
        )
    except csv.Error:
        return []


def _rows(text: str, separator: str, path: Path) -> Iterator[tuple[int, list[str]]]:
    """Rows with any content, and the line on which each begins."""
    reader = csv.reader(io.StringIO(text), delimiter=separator, skipinitialspace=True, strict=True)
    line = 1
    try:
        for row in reader:
            cells = [
                _TEXT_FORMULA.sub(r"\1", cell) if cell.startswith("=") else cell
                for cell in map(_stripped, row)
            ]
            if any(cells):
                yield line, cells
            line = reader.line_num + 1
    except csv.Error:
        raise StudyError(
            f"{path}: line {line}: not readable as csv: a quotation mark is not "
            "closed, or something follows a closed one; correct it"
        ) from None


def _refuse_ragged(
    cells: list[str], header: list[str], named: int, separator: str, where: str
) -> None:
    """Refuses a row whose cells need not stand under their names; at its end empty ones may be
    absent or too many.

    A number with a decimal comma makes one cell too many, and where the last one is empty nothing
    else shows it: 63,5, under age,size.
    """
    others = [word for mark, word in SEPARATORS.items() if mark != separator and mark in cells[0]]
    if len(cells) == 1 < named and others:
        raise StudyError(
            f"{where}: separated by {others[0]}, the header by "
            f"{SEPARATORS.get(separator, repr(separator))}; {SAVE}"
        )
    split = separator == "," and any(
        cells[i].isdecimal() and cells[i + 1].isdecimal() for i in range(1, len(cells) - 1)
    )
    if any(cells[named:]) or (len(cells) > len(header) and split):
        numbers = (
            'decimal commas part its numbers: write 63.5 or "63,5", or save it with semicolons'
        )
        remedy = (
            numbers
            if split
            else f"remove the surplus {SEPARATORS.get(separator, 'marks')}, or name the columns"
        )
        raise StudyError(
            f"{where}: it has more cells ({len(cells)}) than the "
            f"header has names ({named}); {remedy}"
        )


def _stripped(cell: str) -> str:
    """Without blanks at the ends, no-break and zero-width ones too."""
    cell = cell.strip()
    if cell.isascii():
        return cell
    kept = [
        i
        for i, char in enumerate(cell)
        if not char.isspace() and unicodedata.category(char) != "Cf"
    ]
    return cell[kept[0] : kept[-1] + 1] if kept else ""
