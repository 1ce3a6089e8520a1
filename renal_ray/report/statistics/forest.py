"""Forest plots: an estimate with its interval in each line, under its heading."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from matplotlib.axes import Axes

from renal_ray.report.canvas import BLACK, GREY, nothing
from renal_ray.report.statistics.estimates import Estimate

INDENT = "\u00a0\u00a0"
LINE_IN = 0.165  # height of a line of a forest plot


@dataclass(frozen=True)
class Line:
    """One line.

    Args:
        label: what is estimated; a heading where there is no value and no note.
        value: the estimate.
        lower: lower end of its interval.
        upper: upper end of its interval.
        note: words at the right side: n, or why nothing is estimated.
        style: colour and marker.
        faint: whether the interval is drawn in grey, because it rests on too few.
    """

    label: str
    value: float | None = None
    lower: float | None = None
    upper: float | None = None
    note: str = ""
    style: dict[str, Any] = field(default_factory=lambda: {"color": BLACK, "marker": "o"})
    faint: bool = False

    @property
    def is_heading(self) -> bool:
        """Whether the line only names those below it."""
        return self.value is None and not self.note


def forest_panel(
    axes: Axes,
    lines: Sequence[Line],
    *,
    limits: tuple[float, float],
    reference: float | None,
    xlabel: str,
    labelled: bool = True,
    panel: str = "panel",
) -> dict[str, list[str]]:
    """Draws lines from top to bottom.

    Args:
        axes: where.
        lines: the lines; panels beside each other have the same labels.
        limits: ends of the axis; an interval that goes beyond ends in an arrow.
        reference: where a grey line stands: 0 for differences, 0.5 for AUC.
        xlabel: what is estimated.
        labelled: whether the labels are written on the left.
        panel: begins the names of the marks, so that two panels of a figure share none.

    Returns:
        What each mark says when it is pointed at, by its name.
    """
    if not lines:
        axes.set_yticks([])
        nothing(axes, "nothing to show")
        return {}
    tips: dict[str, list[str]] = {}
    if reference is not None:
        axes.axvline(reference, color=GREY, linewidth=0.8, zorder=0)
    for row, line in enumerate(lines):
        if line.value is not None:
            _mark(axes, row, line, line.value, limits, gid=f"{panel}-{row}")
            tips[f"{panel}-{row}"] = [
                f"{line.label}: {Estimate(line.value, line.lower, line.upper).words}"
            ]
        if line.note:
            axes.text(
                1.05,
                row,
                line.note,
                transform=axes.get_yaxis_transform(),
                ha="left",
                va="center",
                fontsize=6.8,
                color=GREY,
            )
    axes.set_ylim(len(lines) - 0.4, -0.6)
    axes.set_xlim(*limits)
    axes.set_yticks(
        range(len(lines)),
        [line.label if line.is_heading else f"{INDENT}{line.label}" for line in lines]
        if labelled
        else [""] * len(lines),
    )
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    if labelled:
        _align(axes, lines)
    for row, line in enumerate(lines):
        if line.is_heading and row:
            axes.axhline(row - 0.5, color="#DDDDDD", linewidth=0.5, zorder=0)
    axes.set_xlabel(xlabel)
    return tips


def _align(axes: Axes, lines: Sequence[Line]) -> None:
    """Sets the labels flush left, headings bold."""
    texts = axes.get_yticklabels()
    for text, line in zip(texts, lines, strict=True):
        text.set_horizontalalignment("left")
        if line.is_heading:
            text.set_fontweight("bold")
    figure = axes.get_figure()
    assert figure is not None
    widest = max(text.get_window_extent().width for text in texts) * 72 / figure.dpi
    axes.tick_params(axis="y", pad=1.05 * widest + 8)


def _mark(
    axes: Axes, row: int, line: Line, value: float, limits: tuple[float, float], *, gid: str
) -> None:
    """The estimate and its interval, cut at the ends of the axis with an arrow."""
    color = GREY if line.faint else line.style["color"]
    low, high = limits
    if line.lower is not None and line.upper is not None:
        axes.plot(
            [max(line.lower, low), min(line.upper, high)],
            [row, row],
            color=color,
            linewidth=1.1,
            solid_capstyle="butt",
        )
        for end, beyond, marker in ((low, line.lower < low, "<"), (high, line.upper > high, ">")):
            if beyond:
                axes.plot([end], [row], marker=marker, color=color, markersize=3.5, clip_on=False)
    face = "white" if line.faint else color
    (mark,) = axes.plot(
        [value],
        [row],
        marker=line.style["marker"],
        color=color,
        markerfacecolor=face,
        markersize=4.5,
        linestyle="",
        clip_on=False,
        zorder=3,
    )
    mark.set_gid(gid)
