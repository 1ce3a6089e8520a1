"""The paper's figures from the evidence. What is drawn is computed in curves.py and tables.py."""

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from renal_ray.report.canvas import BLUE, DATASET_STYLE, GREY, HEAD_STYLE, ORANGE, POINT_STYLE, Drawing, blank, finish, letter, nothing, settings
from renal_ray.report.curves import mean_roc, mean_trace, roc
from renal_ray.report.evidence import Evidence
from renal_ray.report.tables import validation_summary, vote_metrics
from renal_ray.report.text import METRIC_NAMES, dataset_name, head_name, two
from renal_ray.report.trials import main_level
from renal_ray.types import Dataset, Head

DARK_ORANGE = "#8A5F00"  # orange dark enough for small text
NOT_TRAINED = "no finished trial"
SIX = ("sen", "spec", "ppv", "npv", "mcc", "acc")


def draw_all(evidence: Evidence) -> Iterator[Drawing]:
    """Every figure for which there is something to draw."""
    if any(trial.spec.head is Head.IMAGE for trial in evidence.trials.true):
        yield traces(evidence)
        yield roc_by_freeze_point(evidence)
        yield metrics_by_freeze_point(evidence)
    if evidence.test.votes is not None and any(len(evidence.votes(d, h, "patient")) for d in evidence.study.datasets for h in evidence.study.heads.use):
        yield test_roc(evidence)


def traces(evidence: Evidence) -> Drawing:
    """Figure 3: loss and accuracy by epoch, a row per freeze point, a column per dataset."""
    name, datasets, points = "figure3-traces", evidence.study.datasets, evidence.freeze_points
    with settings(name):
        figure, grid = blank(0.5 + 1.5 * len(points), len(points), len(datasets))
        handles: dict[str, Any] = {}
        for row, point in enumerate(points):
            for column, dataset in enumerate(datasets):
                axes = grid[row][column]
                axes.set_title(f"{'ABC'[column]}-{row + 1}  {dataset_name(dataset)}, {point}", loc="left")
                handles |= _trace_panel(axes, [trial.history for trial in evidence.cell(dataset, point, Head.IMAGE)])
                if row == len(points) - 1:
                    axes.set_xlabel("Epoch")
                if column == 0:
                    axes.set_ylabel("Loss")
                if column == len(datasets) - 1:
                    figure.axes[-1].set_ylabel("Accuracy", color=DARK_ORANGE)
        if handles:
            figure.legend(list(handles.values()), list(handles), loc="outside upper center", ncols=3)
        return finish(
            figure,
            name=name,
            caption="Figure 3. Training loss, validation loss and validation accuracy by epoch, image-level models. Lines: mean over folds; bands: ± 1 SD. "
            f"Columns: dataset; rows: last frozen layer. {_folds(evidence)} {_moving(evidence)}",
        )


def _trace_panel(axes: Axes, histories: Sequence[pd.DataFrame]) -> dict[str, Any]:
    right = axes.twinx()
    right.spines["right"].set_visible(True)
    right.set_ylim(0, 1.02)
    axes.set_ylim(bottom=0)
    right.tick_params(axis="y", colors=DARK_ORANGE)
    if not histories:
        nothing(axes, NOT_TRAINED)
        return {}
    handles: dict[str, Any] = {}
    for label, column, panel, color, style in (
        ("Training loss", "loss", axes, BLUE, "-"),
        ("Validation loss", "val_loss", axes, BLUE, "--"),
        ("Validation accuracy (right axis)", "val_accuracy", right, ORANGE, "-"),
    ):
        curve = mean_trace(histories, column)
        if curve is None:
            continue
        (handles[label],) = panel.plot(curve.x, curve.mean, color=color, linestyle=style, marker="." if len(curve.x) == 1 else "")
        panel.fill_between(curve.x, curve.mean - curve.sd, curve.mean + curve.sd, color=color, alpha=0.15, linewidth=0)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    return handles


def roc_by_freeze_point(evidence: Evidence) -> Drawing:
    """Figure 4: mean ROC curve of every freeze point, and AUC by freeze point."""
    name, datasets = "figure4-roc", evidence.study.datasets
    with settings(name):
        figure, grid = blank(3.3 * ((len(datasets) + 2) // 2), (len(datasets) + 2) // 2, 2)
        panels = [axes for line in grid for axes in line]
        for index, dataset in enumerate(datasets):
            letter(panels[index], "ABCD"[index])
            _roc_panel(panels[index], evidence, dataset)
        letter(panels[len(datasets)], "ABCD"[len(datasets)])
        _by_point(panels[len(datasets)], evidence, "auc")
        panels[len(datasets)].set_title("AUC by freeze point")
        panels[len(datasets)].legend(loc="best")
        for spare in panels[len(datasets) + 1 :]:
            spare.set_axis_off()
        return finish(
            figure,
            name=name,
            caption="Figure 4. ROC curves in cross-validation, image-level models, per slice. Curves: sensitivity averaged over folds at each false positive "
            "rate; bands: ± 1 SD, drawn for the selected freeze point; legend: mean ± SD of the folds' AUC. Last panel: mean AUC by freeze point, bars ± 1 SD. "
            + _folds(evidence),
        )


def _roc_panel(axes: Axes, evidence: Evidence, dataset: Dataset) -> None:
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.7, linestyle="-")
    axes.set(xlim=(-0.01, 1), ylim=(0, 1.02), xlabel="1 − specificity", ylabel="Sensitivity", title=f"{dataset_name(dataset)} dataset", aspect="equal")
    drawn = False
    for point in evidence.freeze_points:
        trials = evidence.cell(dataset, point, Head.IMAGE)
        curve = mean_roc([(t.validation["label"].to_numpy(), t.validation["score"].to_numpy()) for t in trials])
        if curve is None:
            continue
        drawn = True
        mean, sd = validation_summary(trials, main_level(Head.IMAGE))["auc"]
        selected = evidence.selected.get(dataset) is point
        label = f"{point}: {two(mean)}" + (f" ± {two(sd)}" if sd is not None else "") + (" *" if selected else "")
        axes.plot(curve.x, curve.mean, label=label, linewidth=1.9 if selected else 1.1, **POINT_STYLE[point])
        if selected:
            axes.fill_between(
                curve.x, (curve.mean - curve.sd).clip(0, 1), (curve.mean + curve.sd).clip(0, 1), color=POINT_STYLE[point]["color"], alpha=0.15, linewidth=0
            )
    if drawn:
        axes.legend(loc="lower right", title="AUC (* selected)", title_fontsize=7.5)
    else:
        nothing(axes, NOT_TRAINED)


def metrics_by_freeze_point(evidence: Evidence) -> Drawing:
    """Figure 5: six metrics by freeze point."""
    name = "figure5-metrics"
    with settings(name):
        figure, grid = blank(4.6, 2, 3)
        for index, metric in enumerate(SIX):
            axes = grid[index // 3][index % 3]
            letter(axes, "ABCDEF"[index])
            _by_point(axes, evidence, metric)
        handles, labels = grid[0][0].get_legend_handles_labels()
        if handles:
            figure.legend(handles, labels, loc="outside upper center", ncols=3)
        return finish(
            figure,
            name=name,
            caption="Figure 5. Validation metrics by freeze point, image-level models, per slice, at each fold's own threshold. Points: mean over folds; "
            f"bars: ± 1 SD. {_folds(evidence)}",
        )


def _by_point(axes: Axes, evidence: Evidence, metric: str) -> None:
    points = evidence.freeze_points
    low, lowest = 0.0, 1.0
    for place, dataset in enumerate(evidence.study.datasets):
        shift = 0.12 * (place - (len(evidence.study.datasets) - 1) / 2)
        found = [
            (x + shift, mean, sd or 0.0)
            for x, point in enumerate(points)
            for mean, sd in [validation_summary(evidence.cell(dataset, point, Head.IMAGE), main_level(Head.IMAGE))[metric]]
            if mean is not None
        ]
        if found:
            x, mean, sd = zip(*found, strict=True)
            axes.errorbar(x, mean, yerr=sd, capsize=2, elinewidth=0.8, label=dataset_name(dataset), **DATASET_STYLE[dataset])
            lowest = min(lowest, *(m - s for m, s in zip(mean, sd, strict=True)))
            low = min(low, lowest)
    slanted: dict[str, Any] = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if len(points) > 3 else {}
    axes.set_xticks(range(len(points)), [str(point) for point in points], **slanted)
    axes.set_xlim(-0.4, len(points) - 0.6)
    if metric == "auc":  # chance is 0.5, not 0
        axes.axhline(0.5, color=GREY, linewidth=0.7)
        low = min(0.4, lowest)
    axes.set_ylim(low - 0.02 if low < 0 else low, 1.02)
    axes.grid(axis="y", linewidth=0.4, color="#DDDDDD")
    axes.set_ylabel(METRIC_NAMES[metric])


def test_roc(evidence: Evidence) -> Drawing:
    """ROC curves of the vote on the sealed test patients, with the point at which the vote decided."""
    name, datasets = "figure6-test-roc", evidence.study.datasets
    with settings(name):
        figure, grid = blank(2.9, 1, 3)
        for index, axes in enumerate(grid[0]):
            if index >= len(datasets):
                axes.set_axis_off()
                continue
            letter(axes, "ABC"[index])
            _test_panel(axes, evidence, datasets[index])
        test = [p for p in evidence.splits.patients if p.role == "test"]
        malignant = sum(p.label for p in test)
        return finish(
            figure,
            name=name,
            caption=f"Figure 6. ROC curves of the vote on the sealed test patients (n = {len(test)}, {malignant} malignant), per patient, at each dataset's "
            "selected freeze point. Score: mean P(malignant) of the fold models. Markers: where the majority vote decided.",
        )


def _test_panel(axes: Axes, evidence: Evidence, dataset: Dataset) -> None:
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.7)
    axes.set(xlim=(-0.02, 1), ylim=(0, 1.02), xlabel="1 − specificity", ylabel="Sensitivity", title=f"{dataset_name(dataset)} dataset", aspect="equal")
    drawn = False
    for head in evidence.study.heads.use:
        votes = evidence.votes(dataset, head, "patient")
        rates = roc(votes["label"].to_numpy(int), votes["score"].to_numpy(float)) if len(votes) else None
        if rates is None:
            continue
        drawn = True
        summary, style = vote_metrics(votes), HEAD_STYLE[head]
        axes.plot(*rates, color=style["color"], linestyle=style["linestyle"], label=f"{head_name(head)}: {two(summary['auc'])}")
        if summary["sen"] is not None and summary["spec"] is not None:
            axes.plot(1 - summary["spec"], summary["sen"], color=style["color"], marker=style["marker"], markersize=5, clip_on=False)
    if drawn:
        axes.legend(loc="lower right", title="AUC", title_fontsize=7.5)
    else:
        nothing(axes, "not tested")


def _folds(evidence: Evidence) -> str:
    training = len(evidence.splits.training)
    counts = sorted({len(evidence.cell(d, p, Head.IMAGE)) for d in evidence.study.datasets for p in evidence.freeze_points})
    folds = f"{counts[0]} folds" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} folds"
    return f"n = {training} training patients in {evidence.splits.n_folds} folds; {folds} averaged per curve."


def _moving(evidence: Evidence) -> str:
    if evidence.study.training.bn_statistics == "moving":
        return "Validation with the moving batch-normalisation averages, as in the tables."
    return (
        "During training the validation traces use Keras's moving batch-normalisation averages and can look far worse than the model is; "
        "the tables use the statistics re-estimated over the training images after the last epoch."
    )
