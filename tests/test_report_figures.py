"""The figures as drawn: what they are asked to show stands inside their axes, and says what it
is."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from test_report_trials import Synthetic, study_at

from renal_ray.report import figures, traces
from renal_ray.report.canvas import DATASET_STYLE, POINT_STYLE, Drawing
from renal_ray.report.evidence import Evidence, read_evidence
from renal_ray.types import Dataset, FreezePoint, Head

DATASETS = [Dataset.SLICE, Dataset.ROI, Dataset.RBR]


@pytest.fixture(scope="module")
def evidence(tmp_path_factory) -> Evidence:
    made = Synthetic(study_at(tmp_path_factory.mktemp("work"), datasets=DATASETS))
    made.train()
    made.test()
    return read_evidence(made.study)


@pytest.fixture
def drawn(monkeypatch) -> Callable[..., tuple[Figure, str]]:
    """Draws a figure and gives it, laid out, with its caption, before it becomes files."""

    def draw(of, evidence: Evidence) -> tuple[Figure, str]:
        kept = []

        def keep(figure: Figure, *, name: str, caption: str, **_: object) -> Drawing:
            figure.draw_without_rendering()
            kept.append((figure, caption))
            return Drawing(name=name, caption=caption, svg=b"", png=b"", inline="")

        for room in (figures, traces):
            monkeypatch.setattr(room, "finish", keep)
        of(evidence)
        return kept[0]

    return draw


def with_trials(evidence: Evidence, change) -> Evidence:
    return replace(
        evidence,
        trials=replace(
            evidence.trials, true=tuple(change(trial) for trial in evidence.trials.true)
        ),
    )


def with_losses(
    evidence: Evidence,
    losses: Callable[[Dataset, FreezePoint, int], tuple[list[float], list[float]]],
) -> Evidence:
    """The evidence with other losses, by dataset, freeze point and fold: training and validation
    loss by epoch."""

    def change(trial):
        train, validation = losses(trial.spec.dataset, trial.spec.freeze_point, trial.spec.fold)
        length = len(train)
        history = {
            "epoch": np.arange(1, length + 1),
            "loss": train,
            "val_loss": validation,
            "val_accuracy": np.linspace(0.6, 0.98, length),
        }
        return replace(trial, history=pd.DataFrame(history))

    return with_trials(evidence, change)


def panel(figure: Figure, title: str):
    return next(
        axes
        for axes in figure.axes
        if axes.get_title(loc="left").startswith(title) or axes.get_title() == title
    )


def notes(figure: Figure, title: str) -> list[str]:
    """What is written into a panel, on either of its axes."""
    first = panel(figure, title)
    return [
        text.get_text()
        for axes in figure.axes
        if axes.get_position().bounds == first.get_position().bounds
        for text in axes.texts
    ]


def test_loss_axes_hold_every_mean_and_band_with_one_scale_a_dataset(evidence, drawn):
    def losses(dataset, point, fold):
        scale = {Dataset.SLICE: 3.0, Dataset.ROI: 0.4, Dataset.RBR: 1.0}[dataset]
        high = 1.5 if point is FreezePoint.MIXED6 else 1.0
        return [0.5, 0.2, 0.1, 0.05], [scale * high * (1 + 0.1 * fold)] * 4

    figure, caption = drawn(traces.traces, with_losses(evidence, losses))
    for letter in "ABC":
        both = [panel(figure, f"{letter}-{row}") for row in (1, 2)]
        assert both[0].get_ylim() == both[1].get_ylim()
        for axes in both:
            low, high = axes.get_ylim()
            assert low == 0
            bands = np.concatenate(
                [path.vertices[:, 1] for band in axes.collections for path in band.get_paths()]
            )
            lines = np.concatenate([line.get_ydata() for line in axes.lines])
            assert (
                max(bands.max(), lines.max())
                < high
                < 1.2 * max(1.3 * line.get_ydata().max() for line in both[1].lines)
            )
            assert bands.min() >= 0
        assert not notes(figure, f"{letter}-1")
    assert panel(figure, "A-1").get_ylim() != panel(figure, "B-1").get_ylim()
    right = [
        axes
        for axes in figure.axes
        if axes.get_shared_x_axes().joined(axes, panel(figure, "B-1"))
        and axes is not panel(figure, "B-1")
    ]
    assert [axes.get_ylim() for axes in right] == [(0, 1.02)]
    assert figure.axes[-1].get_ylabel() in ("", "Accuracy")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "Training loss",
        "Validation loss",
        "Validation accuracy (right axis)",
    ]
    assert "leave the axis" not in caption


def test_losses_that_explode_are_said_and_flatten_nothing(evidence, drawn):
    def losses(dataset, point, fold):
        usual = [0.8, 0.7, 0.6, 0.6, 0.5, 0.5]
        if dataset is Dataset.RBR and point is FreezePoint.MIXED0:
            return usual, [
                *usual[:5],
                0.0 if fold else 4.5,
            ]  # mean 0.9 on the axis, mean + SD = 2.91 not
        if dataset is Dataset.ROI and point is FreezePoint.MIXED0:
            return usual, [12345.0, *usual[1:]]  # one epoch
        if dataset is Dataset.SLICE and point is FreezePoint.MIXED0:
            return [50.0] * 6, [80.0] * 6  # all of a freeze point
        if dataset is Dataset.RBR and point is FreezePoint.MIXED6:
            return [float("nan")] * 6, [float("inf")] * 6
        return usual, usual

    figure, caption = drawn(traces.traces, with_losses(evidence, losses))
    assert "leave the axis" in caption
    assert 0.8 < panel(figure, "B-1").get_ylim()[1] < 2
    assert notes(figure, "B-1") == ["mean loss up to 1.23e+04 ↑"]
    assert panel(figure, "A-1").get_ylim()[1] > 80  # its own axis, everything on it
    assert not notes(figure, "A-1")
    assert 0.8 < panel(figure, "A-2").get_ylim()[1] < 2
    assert notes(figure, "C-1") == ["band up to 2.91 ↑"]
    assert notes(figure, "C-2") == ["loss not finite"]


@pytest.mark.parametrize("of", [figures.roc_by_freeze_point, figures.metrics_by_freeze_point])
def test_no_point_and_no_bar_is_clipped(evidence, drawn, of):
    def change(trial):
        if trial.spec.head is not Head.IMAGE:
            return trial
        best = (
            trial.spec.dataset is Dataset.ROI
        )  # mean near 1 with a wide SD; the others low, MCC below 0
        value = (0.7 if trial.spec.fold == 0 else 1.0) if best else 0.12 + 0.1 * trial.spec.fold
        metrics = dict.fromkeys(("auc", "acc", "sen", "spec", "ppv", "npv"), value) | {
            "mcc": value if best else value - 0.8
        }
        return replace(trial, levels={"slice": {"threshold": 0.5, "metrics": metrics}})

    figure, caption = drawn(of, with_trials(evidence, change))
    charts = [
        axes
        for axes in figure.axes
        if any(isinstance(container, ErrorbarContainer) for container in axes.containers)
    ]
    assert len(charts) == (1 if of is figures.roc_by_freeze_point else 6)
    for axes in charts:
        low, high = axes.get_ylim()
        ends = np.concatenate(
            [segment[:, 1] for bars in axes.collections for segment in bars.get_segments()]
        )
        assert low < ends.min() < ends.max() <= 1 < high <= 1.05
        assert ends.min() >= (-1 if axes.get_ylabel() == "MCC" else 0)
        assert ends.max() == pytest.approx(1)  # 0.94 + 0.13 is cut
        assert axes.get_xlabel() == "Last frozen layer"
    assert "cut" in caption


@pytest.mark.parametrize(
    ("of", "panels"), [(figures.test_roc, 3), (figures.roc_by_freeze_point, 4)]
)
def test_no_legend_lies_on_data(evidence, drawn, of, panels):
    figure, _ = drawn(of, evidence)
    renderer = figure.canvas.get_renderer()
    with_legend = [axes for axes in figure.axes if axes.get_legend()]
    assert len(with_legend) == panels
    page = figure.bbox.padded(1)
    for axes in with_legend:
        legend = axes.get_legend().get_window_extent(renderer)
        for other in figure.axes:
            assert not legend.overlaps(other.get_window_extent(renderer).padded(-1))
        assert page.x0 <= legend.x0 < legend.x1 <= page.x1
        assert page.y0 <= legend.y0 < legend.y1 <= page.y1


def test_test_figure_names_the_level_and_hides_no_marker(evidence, drawn):
    figure, caption = drawn(figures.test_roc, evidence)
    for axes in figure.axes:
        labels = [text.get_text().partition(":")[0] for text in axes.get_legend().get_texts()]
        assert labels == ["Image-level, per patient", "FC", "GRU"]
        markers = [line for line in axes.lines if line.get_marker() not in ("", "None", None)]
        sizes = [line.get_markersize() for line in markers]
        assert sizes == sorted(set(sizes), reverse=True)
        assert len(sizes) == 3
        assert all(line.get_markerfacecolor() == "none" for line in markers)
        widths = [line.get_linewidth() for line in axes.lines[1:] if line.get_linestyle() != "None"]
        assert widths == sorted(set(widths), reverse=True)
    sealed = [p for p in evidence.splits.patients if p.role == "test"]
    malignant = sum(p.label for p in sealed)
    assert (
        f"n = {len(sealed)} patients, {malignant} malignant and {len(sealed) - malignant} benign"
        in caption
    )
    assert "Table 3's Image-level row is per slice" in caption


def test_captions_count_slices_patients_and_folds(evidence, drawn):
    training = [p for p in evidence.splits.patients if p.role == "train"]
    for of in (traces.traces, figures.roc_by_freeze_point, figures.metrics_by_freeze_point):
        _, caption = drawn(of, evidence)
        assert (
            f"n = {sum(p.n_images for p in training)} slices of {len(training)} "
            "training patients in 5 folds; 5 folds averaged."
        ) in caption


def test_no_colour_means_two_things_in_figure_4() -> None:
    """Its panels show freeze points and datasets side by side."""
    points, datasets = (
        {look["color"] for look in styles.values()} for styles in (POINT_STYLE, DATASET_STYLE)
    )
    assert (len(points), len(datasets)) == (len(POINT_STYLE), len(DATASET_STYLE))
    assert not points & datasets
