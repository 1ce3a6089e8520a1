"""The figures of the statistics as drawn: what they are asked to show stands inside the figure and
says what it is."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from matplotlib.figure import Figure
from test_report_statistics import made  # noqa: F401  a study trained, tested, with columns

from renal_ray.report import canvas
from renal_ray.report.canvas import Drawing, blank, settings
from renal_ray.report.evidence import read_evidence
from renal_ray.report.statistics import (
    calibration,
    comparison_tables,
    forest_figure,
    ranking,
    subgroups,
    voter_figures,
)
from renal_ray.report.statistics.forest import Line, forest_panel
from renal_ray.report.statistics.sections import Statistics, statistics

ROOMS = (calibration, comparison_tables, forest_figure, ranking, subgroups, voter_figures)


@pytest.fixture(scope="module")
def measured(made) -> Statistics:  # noqa: F811
    return statistics(read_evidence(made.study))


@pytest.fixture(scope="module")
def drawn(measured) -> dict[str, tuple[Figure, str, dict]]:
    """Every figure, laid out, with its caption and what its marks say, before it becomes files."""
    kept = {}

    def keep(figure: Figure, *, name: str, caption: str, tips: dict | None = None) -> Drawing:
        figure.draw_without_rendering()
        kept[name] = figure, caption, tips or {}
        return Drawing(name=name, caption=caption, svg=b"", png=b"", inline="")

    with pytest.MonkeyPatch.context() as patch:
        for room in ROOMS:
            patch.setattr(room, "finish", keep)
        list(measured.draw())
    return kept


def test_every_figure_is_numbered_in_order_and_says_n(drawn):
    assert [name.split("-")[1] for name in sorted(drawn)] == [
        f"s{number}" for number in range(1, 10)
    ]
    for name, (_, caption, _) in drawn.items():
        number, title, rest = caption.split(". ", 2)
        assert number == f"Figure {name.split('-')[1].upper()}"
        assert title
        assert (
            "n = " in rest
            or "n, " in rest
            or "n: " in rest
            or "malignant / benign patients" in rest
        ), name


@pytest.mark.filterwarnings("error")
def test_nothing_leaves_the_figure(drawn):
    for name, (figure, _, _) in drawn.items():
        renderer = figure.canvas.get_renderer()
        width, height = figure.get_size_inches() * figure.dpi
        for axes in figure.axes:
            ticks = [
                label
                for label in axes.get_xticklabels()
                if axes.get_xlim()[0] <= label.get_position()[0] <= axes.get_xlim()[1]
            ]
            ticks += [
                label
                for label in axes.get_yticklabels()
                if min(axes.get_ylim()) <= label.get_position()[1] <= max(axes.get_ylim())
            ]
            for text in (*axes.texts, axes.title, axes.xaxis.label, axes.yaxis.label, *ticks):
                if text.get_text().strip() and axes.axison:
                    box = text.get_window_extent(renderer)
                    inside = (
                        box.x0 >= -2
                        and box.x1 <= width + 2
                        and box.y0 >= -2
                        and box.y1 <= height + 2
                    )
                    assert inside, (name, text.get_text(), box)


def test_labels_of_a_forest_leave_its_axis_free(drawn):
    for name in ("figure-s1-forest", "figure-s3-differences", "figure-s6-subgroups"):
        axes = drawn[name][0].axes[0]
        left = axes.get_window_extent().x0
        assert all(label.get_window_extent().x1 <= left for label in axes.get_yticklabels()), name


def test_forests_have_a_mark_for_every_model_and_level(drawn, measured):
    tips = drawn["figure-s1-forest"][2]
    assert len(tips) == 2 * 3 * 3
    roi = next(
        one
        for one in measured.models
        if one.scored.model.name == "GRU" and one.scored.model.dataset == "roi"
    )
    assert [f"GRU: {roi.validation['auc'].words}"] in tips.values()
    assert len(drawn["figure-s3-differences"][2]) == len(measured.aucs) == 21
    levels = sum(len(found) for found in ([*"12"], [*"12"], [*"123"], [*"123"], [*"12"], [*"12"]))
    assert len(drawn["figure-s6-subgroups"][2]) == 3 * (1 + levels)


def test_marks_of_the_voters_name_the_patient(drawn, measured):
    tips = drawn["figure-s9-test-scores"][2]
    patients = sorted(measured.evidence.splits.test)
    assert len(tips) == 9
    for sentences in tips.values():
        assert sorted(sentence.split(",")[0] for sentence in sentences) == patients
    wrong = sum("the vote was wrong" in sentence for sentence in tips["voters-roi-fc"])
    votes = measured.evidence.votes("roi", "fc", "patient")
    assert wrong == (votes["label"] != votes["decision"]).sum()


def test_confusion_matrices_add_up(drawn, measured):
    for axes in drawn["figure-s8-test-confusion"][0].axes:
        counts = [int(text.get_text().split("\n")[0]) for text in axes.texts]
        assert sum(counts) == len(measured.evidence.splits.test)


@pytest.fixture
def panel() -> Iterator[Callable]:
    with settings("panel"):
        figure, grid = blank(2.0, 1, 1)

        def draw(lines, **given):
            tips = forest_panel(
                grid[0][0],
                lines,
                **{"limits": (0.0, 1.0), "reference": 0.5, "xlabel": "AUC"} | given,
            )
            figure.draw_without_rendering()
            return grid[0][0], tips

        yield draw


def test_an_interval_beyond_the_axis_ends_in_an_arrow(panel):
    axes, tips = panel([Line("Heading"), Line("one", 0.5, -0.2, 0.9), Line("two", 0.6, 0.2, 0.9)])
    arrows = [line for line in axes.lines if line.get_marker() in ("<", ">")]
    assert [
        (arrow.get_marker(), list(arrow.get_xdata()), list(arrow.get_ydata())) for arrow in arrows
    ] == [("<", [0.0], [1])]
    bars = [
        line
        for line in axes.lines
        if len(line.get_xdata()) == 2
        and line.get_marker() in ("", "None", None)
        and np.ptp(line.get_ydata()) == 0
    ]
    assert [list(bar.get_xdata()) for bar in bars] == [[0.0, 0.9], [0.2, 0.9]]
    assert tips == {
        "panel-1": ["one: 0.50 (−0.20 to 0.90)"],
        "panel-2": ["two: 0.60 (0.20 to 0.90)"],
    }


def test_a_faint_line_is_grey_and_open_and_a_heading_bold(panel):
    axes, _ = panel(
        [
            Line("Heading"),
            Line("few", 0.5, 0.1, 0.9, note="3 / 1", faint=True),
            Line("none", note="nobody"),
        ]
    )
    mark = next(line for line in axes.lines if line.get_gid() == "panel-1")
    assert (mark.get_color(), mark.get_markerfacecolor()) == (canvas.GREY, "white")
    assert [label.get_fontweight() for label in axes.get_yticklabels()] == [
        "bold",
        "normal",
        "normal",
    ]
    assert [text.get_text() for text in axes.texts] == ["3 / 1", "nobody"]


def test_a_forest_of_nothing_says_so(panel):
    axes, tips = panel([])
    assert tips == {}
    assert [text.get_text() for text in axes.texts] == ["nothing to show"]
