"""The paper's figures from the evidence. What is drawn is computed in curves.py and tables.py."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from renal_ray.report.canvas import (
    DATASET_STYLE,
    GREY,
    HEAD_STYLE,
    NOT_TRAINED,
    POINT_STYLE,
    Drawing,
    blank,
    finish,
    in_one_column,
    letter,
    nothing,
    settings,
)
from renal_ray.report.curves import cut_bars, mean_roc, roc
from renal_ray.report.evidence import Evidence
from renal_ray.report.narrative import averaged_over
from renal_ray.report.search.figure import search_drawings
from renal_ray.report.strip import score_strips
from renal_ray.report.tables import model_name, validation_summary, vote_metrics
from renal_ray.report.text import METRIC_NAMES, counted, dataset_name, plus_minus, two
from renal_ray.report.traces import traces
from renal_ray.trial.spec import main_level
from renal_ray.types import Dataset, Head

FIFTHS = (0, 0.2, 0.4, 0.6, 0.8, 1)
LOWEST = {"mcc": -1.0}  # the other metrics start at 0
SIX = ("sen", "spec", "ppv", "npv", "mcc", "acc")
FULL_NAMES = {
    "sen": "Sensitivity",
    "spec": "Specificity",
    "ppv": "Positive predictive value",
    "npv": "Negative predictive value",
    "mcc": "Matthews correlation",
    "acc": "Accuracy",
}


def draw_all(evidence: Evidence) -> Iterator[Drawing]:
    """Every figure for which there is something to draw."""
    if any(trial.spec.head is Head.IMAGE for trial in evidence.trials.true):
        yield traces(evidence)
        yield roc_by_freeze_point(evidence)
        yield metrics_by_freeze_point(evidence)
        if (strips := score_strips(evidence)) is not None:
            yield strips
    if evidence.test.votes is not None and any(
        len(evidence.votes(d, h, "patient"))
        for d in evidence.study.datasets
        for h in evidence.study.heads.use
    ):
        yield test_roc(evidence)
    yield from search_drawings(evidence.search)


def roc_by_freeze_point(evidence: Evidence) -> Drawing:
    """Figure 4: mean ROC curve of every freeze point, and AUC by freeze point."""
    name, datasets = "figure4-roc", evidence.study.datasets
    tips: dict[str, list[str]] = {}
    with settings(name):
        rows = (len(datasets) + 2) // 2
        figure, grid = blank(
            (3.4 + 0.16 * math.ceil(len(evidence.freeze_points) / 2)) * rows, rows, 2, alone=True
        )
        panels = [axes for line in grid for axes in line]
        for index, dataset in enumerate(datasets):
            letter(panels[index], "ABCD"[index])
            _roc_panel(panels[index], evidence, dataset, tips)
        last = "ABCD"[len(datasets)]
        letter(panels[len(datasets)], last)
        _by_point(panels[len(datasets)], evidence, "auc", tips)
        handles, labels = panels[len(datasets)].get_legend_handles_labels()
        panels[len(datasets)].set_title(
            "AUC by freeze point", pad=in_one_column(20, 38) if handles else None
        )
        if handles:
            panels[len(datasets)].legend(
                handles,
                labels,
                loc="lower center",
                bbox_to_anchor=(0.5, 1.0),
                ncols=in_one_column(3, 1),
            )
        for spare in panels[len(datasets) + 1 :]:
            spare.set_axis_off()
        return finish(
            figure,
            name=name,
            caption="Figure 4. ROC curves in cross-validation, image-level models, per slice. "
            "Curves: sensitivity averaged over folds at each false positive "
            "rate; bands: ± 1 SD, cut at 0 and 1, drawn for the selected freeze point; legends: "
            f"mean ± SD of the folds' AUC. {last}: mean AUC by last frozen "
            f"layer, bars ± 1 SD, cut at 0 and 1; grey line: chance. {averaged_over(evidence)}",
            tips=tips,
        )


def _roc_panel(
    axes: Axes, evidence: Evidence, dataset: Dataset, tips: dict[str, list[str]]
) -> None:
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.7, linestyle="-")
    _unit_square(axes, dataset)
    drawn = False
    for point in evidence.freeze_points:
        trials = evidence.cell(dataset, point, Head.IMAGE)
        curve = mean_roc(
            [(t.validation["label"].to_numpy(), t.validation["score"].to_numpy()) for t in trials]
        )
        if curve is None:
            continue
        drawn = True
        mean, sd = validation_summary(trials, main_level(Head.IMAGE))["auc"]
        selected = evidence.selected.get(dataset) is point
        label = (
            f"{point}: {two(mean)}"
            + (f" ± {two(sd)}" if sd is not None else "")
            + (" *" if selected else "")
        )
        (line,) = axes.plot(
            curve.x,
            curve.mean,
            label=label,
            linewidth=1.9 if selected else 1.1,
            **POINT_STYLE[point],
        )
        line.set_gid(f"roc-{dataset}-{point}")
        tips[f"roc-{dataset}-{point}"] = [
            (
                f"{dataset_name(dataset)}, {point}: AUC "
                f"{plus_minus(mean, sd)}, {counted(len(trials), 'fold')}"
            )
        ]
        if selected:
            axes.fill_between(
                curve.x,
                (curve.mean - curve.sd).clip(0, 1),
                (curve.mean + curve.sd).clip(0, 1),
                color=POINT_STYLE[point]["color"],
                alpha=0.15,
                linewidth=0,
            )
    if drawn:
        _legend_below(
            axes,
            *axes.get_legend_handles_labels(),
            title="AUC (* selected freeze point)",
            columns=2,
        )
    else:
        nothing(axes, NOT_TRAINED)


def metrics_by_freeze_point(evidence: Evidence) -> Drawing:
    """Figure 5: six metrics by freeze point."""
    name = "figure5-metrics"
    tips: dict[str, list[str]] = {}
    with settings(name):
        figure, grid = blank(4.6, 2, 3, alone=True)
        for index, metric in enumerate(SIX):
            axes = grid[index // 3][index % 3]
            letter(axes, "ABCDEF"[index])
            _by_point(axes, evidence, metric, tips)
            axes.set_title(FULL_NAMES[metric])
        handles, labels = grid[0][0].get_legend_handles_labels()
        if handles:
            figure.legend(handles, labels, loc="outside upper center", ncols=3)
        return finish(
            figure,
            name=name,
            caption="Figure 5. Validation metrics by freeze point, image-level models, per slice, "
            "at each fold's own threshold. Points: mean over folds; "
            "bars: ± 1 SD, cut where the metric ends (0 and 1; MCC −1 "
            f"and 1). {averaged_over(evidence)}",
            tips=tips,
        )


def _by_point(axes: Axes, evidence: Evidence, metric: str, tips: dict[str, list[str]]) -> None:
    """A metric's mean and SD by freeze point; the axis holds every point and every bar."""
    points, ends = evidence.freeze_points, [1.0]
    for place, dataset in enumerate(evidence.study.datasets):
        shift = 0.12 * (place - (len(evidence.study.datasets) - 1) / 2)
        found = [
            (
                x + shift,
                mean,
                sd or 0.0,
                f"{dataset_name(dataset)}, {point}: {METRIC_NAMES[metric]} {plus_minus(mean, sd)}",
            )
            for x, point in enumerate(points)
            for mean, sd in [
                validation_summary(
                    evidence.cell(dataset, point, Head.IMAGE), main_level(Head.IMAGE)
                )[metric]
            ]
            if mean is not None
        ]
        if found:
            x, mean, sd, said = zip(*found, strict=True)
            bars = cut_bars(mean, sd, lowest=LOWEST.get(metric, 0.0))
            drawn = axes.errorbar(
                x,
                mean,
                yerr=bars,
                capsize=2,
                elinewidth=0.8,
                label=dataset_name(dataset),
                **DATASET_STYLE[dataset],
            )
            drawn.lines[0].set_gid(f"{metric}-{dataset}")
            tips[f"{metric}-{dataset}"] = list(said)
            ends += [middle - down for middle, down in zip(mean, bars[0], strict=True)]
    slanted: dict[str, Any] = (
        {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if len(points) > 3 else {}
    )
    axes.set_xticks(range(len(points)), [str(point) for point in points], **slanted)
    axes.set_xlim(-0.4, len(points) - 0.6)
    usual = 0.4 if metric == "auc" else 0.0  # the chance of an AUC is 0.5, not 0
    if metric == "auc":
        axes.axhline(0.5, color=GREY, linewidth=0.7)
    axes.set_ylim(min(usual, math.floor(10 * min(ends)) / 10) - 0.02, 1.03)
    axes.grid(axis="y", linewidth=0.4, color="#DDDDDD")
    axes.set_axisbelow(True)
    axes.set_xlabel("Last frozen layer")
    axes.set_ylabel(METRIC_NAMES[metric])


def _unit_square(axes: Axes, dataset: Dataset) -> None:
    """The axes of a ROC curve, with room for lines that run along its sides."""
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xticks=FIFTHS, yticks=FIFTHS, aspect="equal")
    axes.set(
        xlabel="1 − specificity", ylabel="Sensitivity", title=f"{dataset_name(dataset)} dataset"
    )


def _legend_below(
    axes: Axes, handles: Sequence[Any], labels: Sequence[str], *, title: str, columns: int
) -> None:
    """A legend under the axis label: inside it would lie on curves near or below chance."""
    place, across, size = (
        (0.5, in_one_column(-0.17, -0.36)),
        in_one_column(columns, 1),
        in_one_column(7.5, 6),
    )
    axes.legend(
        handles,
        labels,
        loc="upper center",
        bbox_to_anchor=place,
        ncols=across,
        title=title,
        title_fontsize=size,
        columnspacing=1.2,
    )


def test_roc(evidence: Evidence) -> Drawing:
    """ROC curves of the vote on the sealed test patients, with the point at which the vote
    decided."""
    name, datasets = "figure6-test-roc", evidence.study.datasets
    tips: dict[str, list[str]] = {}
    with settings(name):
        figure, grid = blank(3.4, 1, 3, alone=True)
        for index, axes in enumerate(grid[0]):
            if index >= len(datasets):
                axes.set_axis_off()
                continue
            letter(axes, "ABC"[index])
            _test_panel(axes, evidence, datasets[index], tips)
        test = [p for p in evidence.splits.patients if p.role == "test"]
        malignant = sum(p.label for p in test)
        image = (
            (
                " “Image-level, per patient” scores a patient by the mean over the "
                "slices; Table 3's Image-level row is per slice."
            )
            if _image(evidence)
            else ""
        )
        return finish(
            figure,
            name=name,
            caption="Figure 6. ROC curves of the vote on the sealed test, per patient, "
            "at each dataset's selected freeze point. n = "
            f"{counted(len(test), 'patient')}, {malignant} malignant and {len(test) - malignant} "
            "benign. Score: mean P(malignant) of the fold models. Markers: "
            "sensitivity and specificity of the majority vote; it can lie off its curve, "
            f"because every model votes with its own threshold.{image}",
            tips=tips,
        )


def _image(evidence: Evidence) -> bool:
    return any(
        len(evidence.votes(dataset, Head.IMAGE, "patient")) for dataset in evidence.study.datasets
    )


def _test_panel(
    axes: Axes, evidence: Evidence, dataset: Dataset, tips: dict[str, list[str]]
) -> None:
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.7)
    _unit_square(axes, dataset)
    handles, labels = [], []
    for place, head in enumerate(evidence.study.heads.use):
        votes = evidence.votes(dataset, head, "patient")
        rates = (
            roc(votes["label"].to_numpy(int), votes["score"].to_numpy(float))
            if len(votes)
            else None
        )
        if rates is None:
            continue
        summary = vote_metrics(votes)
        # Few patients make curves and points coincide: what is drawn later is thinner and smaller,
        # so that nothing is hidden.
        look: dict[str, Any] = {
            **HEAD_STYLE[head],
            "linewidth": 2.4 - 0.75 * place,
            "markersize": 10 - 3 * place,
            "markerfacecolor": "none",
        }
        axes.plot(*rates, **{**look, "marker": ""})
        if summary["sen"] is not None and summary["spec"] is not None:
            point = axes.plot(
                [1 - summary["spec"]],
                [summary["sen"]],
                **{**look, "linestyle": ""},
                markeredgewidth=1.3,
                clip_on=False,
                zorder=5,
            )
            point[0].set_gid(f"vote-{dataset}-{head}")
            said = (
                f"SEN {two(summary['sen'])}, SPEC {two(summary['spec'])}; AUC {two(summary['auc'])}"
            )
            tips[f"vote-{dataset}-{head}"] = [
                f"{dataset_name(dataset)}, {model_name(head, 'patient')}: the vote has {said}"
            ]
        handles.append(Line2D([], [], **look))
        labels.append(f"{model_name(head, 'patient')}: {two(summary['auc'])}")
    if handles:
        _legend_below(axes, handles, labels, title="AUC", columns=1)
    else:
        nothing(axes, "not tested")
