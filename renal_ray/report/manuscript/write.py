"""Writes what goes into an article: report/paper/ of the work directory."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from renal_ray.report.canvas import WIDTH_IN, Drawing, Journal, drawn_for
from renal_ray.report.manuscript.latex import document_tex, table_tex
from renal_ray.report.manuscript.word import document_docx
from renal_ray.report.tables import Table
from renal_ray.store.place import Place

FOLDER = "report/paper"
ONE, TWO = "one-column", "two-columns"


@dataclass(frozen=True)
class Written:
    """What was written.

    Args:
        folder: where.
        tables: how many.
        figures: how many, each two columns wide.
        narrow: how many of them one column wide too.
    """

    folder: str
    tables: int
    figures: int
    narrow: int


def write_paper(
    work: Place, name: str, tables: Sequence[Table], draw: Callable[[], Iterable[Drawing]]
) -> Written:
    """Writes tables as LaTeX and Word, and figures as PNG at 300 dpi, PDF and SVG, one and two
    columns wide; the same files give the same bytes.

    Args:
        work: the study's work directory.
        name: of the study.
        tables: those of the report; what has no columns or no rows is left out.
        draw: draws every figure anew.
    """
    shown = [table for table in tables if table.columns and table.rows]
    with drawn_for(Journal(vector=True)):
        wide = list(draw())
    with drawn_for(Journal(one_column=True, vector=True)):
        narrow = [
            drawing for drawing in draw() if drawing.width_in < WIDTH_IN
        ]  # the panels of the others share labels, and need two columns
    work.remove(FOLDER)
    for table in shown:
        work.write(f"{FOLDER}/tables/{table.name}.tex", table_tex(table).encode())
    for folder, drawings in ((TWO, wide), (ONE, narrow)):
        for drawing in drawings:
            for kind, data in (("png", drawing.png), ("pdf", drawing.pdf), ("svg", drawing.svg)):
                work.write(f"{FOLDER}/figures/{folder}/{drawing.name}.{kind}", data)
    work.write(
        f"{FOLDER}/paper.tex",
        document_tex(shown, wide, tables_at="tables", figures_at=f"figures/{TWO}").encode(),
    )
    work.write(f"{FOLDER}/paper.docx", document_docx(f"{name}: tables and figures", shown, wide))
    return Written(work.shown(FOLDER), len(shown), len(wide), len(narrow))
