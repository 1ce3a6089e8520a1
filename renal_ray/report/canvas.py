"""What all figures share: colours, sizes, and files that are the same bytes for the same data."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from renal_ray.report.hover import Tips, with_tips
from renal_ray.types import Dataset, FreezePoint, Head

# Okabe and Ito, Color Universal Design (2008): told apart by all common kinds of colour vision;
# markers and dashes tell them apart in grey.
# A ninth, dark enough beside orange: freeze points share a figure with datasets, and no colour
# means two things in one.
BROWN = "#8C510A"
BLUE, ORANGE, GREEN, VERMILION, SKY, PURPLE, BLACK, GREY = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#56B4E9",
    "#CC79A7",
    "#000000",
    "#8A8A8A",
)
DATASET_STYLE: dict[Dataset, dict[str, Any]] = {
    Dataset.SLICE: {"color": VERMILION, "marker": "s", "linestyle": ":"},
    Dataset.ROI: {"color": BLUE, "marker": "o", "linestyle": "-"},
    Dataset.RBR: {"color": GREEN, "marker": "^", "linestyle": "--"},
}
POINT_STYLE: dict[FreezePoint, dict[str, Any]] = {
    FreezePoint.MIXED0: {"color": BLACK, "linestyle": "-"},
    FreezePoint.MIXED3: {"color": SKY, "linestyle": "--"},
    FreezePoint.MIXED6: {"color": ORANGE, "linestyle": "-"},
    FreezePoint.MIXED9: {"color": BROWN, "linestyle": "-."},
    FreezePoint.MIXED10: {"color": PURPLE, "linestyle": ":"},
}
HEAD_STYLE: dict[Head, dict[str, Any]] = {
    Head.IMAGE: {"color": BLUE, "linestyle": "-", "marker": "o"},
    Head.FC: {"color": VERMILION, "linestyle": "--", "marker": "s"},
    Head.GRU: {"color": GREEN, "linestyle": "-.", "marker": "^"},
}
NOT_TRAINED = "no finished trial"
WIDTH_IN, COLUMN_IN = 7.2, 3.5  # two columns of a journal, and one: 183 and 89 mm
ROOM = 1.3  # height of a narrow panel over that of a wide one of its shape
HIGHEST_IN = 9.2  # what a page of a journal holds beside the caption
PNG_DPI = 300
FONT, FONTS_LIKE_IT = (
    "'DejaVu Sans'",
    "Verdana, sans-serif",
)  # for readers of the SVG who lack the font it was laid out with
SETTINGS = {
    "font.family": ["DejaVu Sans"],
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "lines.linewidth": 1.3,
    "lines.markersize": 4,
    "pdf.fonttype": 42,  # TrueType: journals refuse Type 3
    "svg.fonttype": "none",  # text stays text: searchable, editable, readable aloud
    "text.usetex": False,
}
NARROW = {
    "font.size": 6.5,
    "axes.titlesize": 7,
    "axes.labelsize": 6.5,
    "xtick.labelsize": 6,
    "ytick.labelsize": 6,
    "legend.fontsize": 6,
}


@dataclass(frozen=True)
class Journal:
    """For what a figure is drawn.

    Args:
        one_column: as wide as one column, where its panels can stand alone; else as two.
        vector: as PDF too.
    """

    one_column: bool = False
    vector: bool = False


_ON_SCREEN = Journal()
_JOURNAL: ContextVar[Journal] = ContextVar("_JOURNAL", default=_ON_SCREEN)


@contextmanager
def drawn_for(journal: Journal) -> Iterator[None]:
    """Figures drawn within are drawn for this."""
    token = _JOURNAL.set(journal)
    try:
        yield
    finally:
        _JOURNAL.reset(token)


@dataclass(frozen=True)
class Drawing:
    """A figure as files.

    Args:
        name: name of its files.
        caption: what is drawn, on whom, with units and n.
        svg: whole SVG file.
        png: PNG at 300 dots per inch.
        inline: the SVG element alone, to stand in HTML.
        width_in: its width in inches.
        pdf: whole PDF file; empty unless it was drawn for print.
    """

    name: str
    caption: str
    svg: bytes
    png: bytes
    inline: str
    width_in: float = WIDTH_IN
    pdf: bytes = b""


@contextmanager
def settings(name: str) -> Iterator[None]:
    """Matplotlib settings of one figure; its name salts the ids, so that two figures on one page
    share none."""
    narrow = NARROW if _JOURNAL.get().one_column else {}
    salted: Any = {**SETTINGS, **narrow, "svg.hashsalt": name}
    with mpl.rc_context(salted):
        yield


def blank(
    height_in: float, rows: int, columns: int, *, alone: bool = False
) -> tuple[Figure, list[list[Axes]]]:
    """A figure of journal width with a grid of panels.

    Args:
        height_in: height at the width of two columns.
        rows: of panels.
        columns: of panels.
        alone: whether each panel has labels of its own and can stand anywhere: only then is the
            figure drawn for one column.
    """
    if _JOURNAL.get().one_column and alone:
        return _one_column(height_in, rows, columns)
    figure = Figure(figsize=(WIDTH_IN, height_in), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, [list(line) for line in figure.subplots(rows, columns, squeeze=False)]


def _one_column(height_in: float, rows: int, columns: int) -> tuple[Figure, list[list[Axes]]]:
    """The panels two abreast, or as they are where they stand one below the other, with room for
    what is under them: type shrinks less than panels."""
    n, across = rows * columns, min(columns, 2)
    down = -(-n // across)
    high = (
        down
        * height_in
        / rows
        * (ROOM * COLUMN_IN / across / (WIDTH_IN / columns) if columns > 1 else 1)
    )
    figure = Figure(figsize=(COLUMN_IN, min(high, HIGHEST_IN)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = list(figure.subplots(down, across, squeeze=False).flat)
    for spare in panels[n:]:
        spare.set_axis_off()
    return figure, [panels[row * columns : (row + 1) * columns] for row in range(rows)]


def in_one_column(wide: Any, narrow: Any) -> Any:
    """One of two values: for a figure of two columns' width, or of one column's."""
    return narrow if _JOURNAL.get().one_column else wide


def finish(figure: Figure, *, name: str, caption: str, tips: Tips | None = None) -> Drawing:
    """Renders a figure; the same data gives the same bytes.

    Args:
        figure: the drawn figure.
        name: name of its files.
        caption: what is drawn, on whom, with units and n.
        tips: what the marks of an artist say when pointed at, by the artist's gid.
    """
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # laid out once: both files then look alike
    svg, png = io.BytesIO(), io.BytesIO()
    figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    figure.savefig(png, format="png", dpi=PNG_DPI, metadata={"Software": None})
    drawn = (
        svg.getvalue()
        .decode()
        .replace(f"font-family: {FONT}", f"font-family: {FONT}, {FONTS_LIKE_IT}")
    )
    drawn = with_tips(drawn, tips or {})
    return Drawing(
        name=name,
        caption=caption,
        svg=drawn.encode(),
        png=png.getvalue(),
        inline=_inline(drawn, caption),
        width_in=figure.get_figwidth(),
        pdf=_pdf(figure) if _JOURNAL.get().vector else b"",
    )


def _pdf(figure: Figure) -> bytes:
    pdf = io.BytesIO()
    figure.savefig(
        pdf, format="pdf", metadata={"Creator": None, "Producer": None, "CreationDate": None}
    )
    return pdf.getvalue()


def letter(axes: Axes, text: str) -> None:
    """The bold letter of a panel."""
    axes.text(
        -0.02,
        1.04,
        text,
        transform=axes.transAxes,
        ha="right",
        va="bottom",
        fontsize=in_one_column(10, 8),
        fontweight="bold",
    )


def nothing(axes: Axes, text: str) -> None:
    """Says in the panel why it is empty."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=GREY)


def _inline(svg: str, caption: str) -> str:
    """Keeps the svg element: no prologue, no metadata, no style that would reach the rest of the
    page, no fixed size."""
    element = svg[svg.index("<svg") :]
    element = re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.S)
    element = re.sub(r"<style[^>]*>.*?</style>", "", element, flags=re.S)
    opening, rest = element.split(">", 1)
    opening = re.sub(r'\s(?:width|height)="[^"]*"', "", opening)
    title = (
        ". ".join(caption.split(". ")[:2])
        .rstrip(".")
        .replace("&", "and")
        .replace("<", "")
        .replace('"', "")
    )
    return f'{opening} role="img" aria-label="{title}">{rest}'
