"""ROC and precision-recall curves per patient: how well the scores rank malignant above benign."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, precision_recall_curve

from renal_ray.protocol.metrics import auc
from renal_ray.report.canvas import (
    GREY,
    HEAD_STYLE,
    Drawing,
    blank,
    finish,
    letter,
    nothing,
    settings,
)
from renal_ray.report.curves import roc
from renal_ray.report.evidence import Evidence
from renal_ray.report.statistics.samples import Samples, Scored
from renal_ray.report.tables import Table
from renal_ray.report.text import dataset_name, head_name, two

FIFTHS = (0, 0.2, 0.4, 0.6, 0.8, 1)


def precision_recall(samples: Samples) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Recall (sensitivity), ascending, and precision (PPV) at every threshold; None where a class
    is missing.

    Args:
        samples: scored samples.
    """
    if not samples.has_both_classes:
        return None
    precision, recall, _ = precision_recall_curve(samples.labels, samples.scores)
    return recall[::-1], precision[::-1]


def validation_curves(evidence: Evidence, models: Sequence[Scored]) -> Drawing:
    """ROC and precision-recall of the pooled validation folds, per patient."""
    name, per_patient = "figure-s2-roc-and-pr", patient_models(models)
    with settings(name):
        figure, grid = blank(5.6, 2, max(2, len(evidence.study.datasets)))
        for column, dataset in enumerate(evidence.study.datasets):
            chosen = [(m, m.validation) for m in per_patient if m.model.dataset is dataset]
            letter(grid[0][column], f"{'ABC'[column]}-1")
            letter(grid[1][column], f"{'ABC'[column]}-2")
            grid[0][column].set_title(f"{dataset_name(dataset)} dataset")
            roc_panel(grid[0][column], chosen)
            precision_panel(grid[1][column], chosen)
        _hide(grid, len(evidence.study.datasets))
        return finish(
            figure,
            name=name,
            caption="Figure S2. ROC and precision-recall curves of validation, out of fold, per "
            "patient. Every training patient once, scored by the fold "
            "model not trained on that patient, at each dataset's selected freeze point; all "
            f"folds pooled. {on_whom(per_patient)} Upper row: ROC, legend: "
            "AUC; lower row: precision (PPV) by recall (sensitivity), legend: average "
            "precision. Grey: chance; in the lower row that is the share of "
            "malignant patients.",
        )


def test_precision_recall(evidence: Evidence, models: Sequence[Scored]) -> Drawing:
    """Precision-recall of the vote on the sealed test, per patient; its ROC curves are Figure 6."""
    name, per_patient = "figure-s7-test-pr", [m for m in patient_models(models) if len(m.test)]
    with settings(name):
        figure, grid = blank(2.9, 1, max(2, len(evidence.study.datasets)))
        for column, dataset in enumerate(evidence.study.datasets):
            letter(grid[0][column], "ABC"[column])
            grid[0][column].set_title(f"{dataset_name(dataset)} dataset")
            precision_panel(
                grid[0][column], [(m, m.test) for m in per_patient if m.model.dataset is dataset]
            )
        _hide(grid, len(evidence.study.datasets))
        n, malignant = (
            (len(per_patient[0].test), int(per_patient[0].test.labels.sum()))
            if per_patient
            else (0, 0)
        )
        return finish(
            figure,
            name=name,
            caption="Figure S7. Precision-recall curves of the vote on the sealed test, per "
            "patient. Score: mean P(malignant) of the fold models; legend: "
            f"average precision. n = {n} patients, {malignant} malignant and {n - malignant} "
            "benign. Grey: the share of malignant patients, which is chance.",
        )


def patient_models(models: Sequence[Scored]) -> list[Scored]:
    """Those scored per patient."""
    return [model for model in models if model.model.level == "patient"]


def on_whom(models: Sequence[Scored]) -> str:
    """n of the pooled validation, one sentence; where models lack folds, the smallest and largest
    n."""
    counts = sorted(
        {(len(m.validation), int(m.validation.labels.sum())) for m in models if len(m.validation)}
    )
    if not counts:
        return "No fold has finished."
    if len(counts) == 1:
        n, malignant = counts[0]
        return f"n = {n} patients, {malignant} malignant and {n - malignant} benign."
    return f"n = {counts[0][0]} to {counts[-1][0]} patients, because some models lack folds."


def roc_panel(axes: Axes, chosen: Sequence[tuple[Scored, Samples]]) -> None:
    """The ROC curves of one dataset."""
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.7)
    axes.set(xlabel="1 − specificity", ylabel="Sensitivity")
    _curves(
        axes, chosen, lambda s: roc(s.labels, s.scores), lambda s: auc(s.labels, s.scores), "AUC"
    )


def precision_panel(axes: Axes, chosen: Sequence[tuple[Scored, Samples]]) -> None:
    """The precision-recall curves of one dataset, over the share of malignant patients."""
    known = next((samples for _, samples in chosen if samples.has_both_classes), None)
    if known is not None:
        axes.axhline(float(known.labels.mean()), color=GREY, linewidth=0.7)
    axes.set(xlabel="Recall (sensitivity)", ylabel="Precision (PPV)")
    # Steps: between two points of a precision-recall curve a straight line would promise too much.
    # J. Davis, M. Goadrich, ICML 2006, 233-240.
    _curves(
        axes,
        chosen,
        precision_recall,
        lambda s: float(average_precision_score(s.labels, s.scores)),
        "Average precision",
        drawstyle="steps-pre",
    )


def _curves(
    axes: Axes,
    chosen: Sequence[tuple[Scored, Samples]],
    curve: Callable[[Samples], tuple[Any, Any] | None],
    summary: Callable[[Samples], float | None],
    title: str,
    **shape: str,
) -> None:
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xticks=FIFTHS, yticks=FIFTHS, aspect="equal")
    drawn = False
    for place, (model, samples) in enumerate(chosen):
        points = curve(samples)
        if points is None:
            continue
        drawn = True
        look = {**HEAD_STYLE[model.model.head], "marker": "", **shape}
        axes.plot(
            *points,
            label=f"{head_name(model.model.head)}: {two(summary(samples))}",
            **look,
            linewidth=2.2 - 0.6 * place,
        )
    if drawn:
        axes.legend(
            title=title,
            title_fontsize=7.5,
            loc="upper center",
            bbox_to_anchor=(0.5, -0.27),
            ncols=1,
        )
    else:
        nothing(
            axes,
            "no fold with both classes"
            if any(len(samples) for _, samples in chosen)
            else "not scored yet",
        )


def _hide(grid: Sequence[Sequence[Axes]], used: int) -> None:
    for line in grid:
        for axes in line[used:]:
            axes.set_axis_off()


def curve_points(models: Sequence[Scored]) -> Table:
    """The points of the ROC and precision-recall curves, for CSV alone."""
    rows = []
    for model in models:
        for part, samples in (("validation", model.validation), ("test", model.test)):
            for kind, points in (
                ("roc", roc(samples.labels, samples.scores) if len(samples) else None),
                ("precision-recall", precision_recall(samples)),
            ):
                if points is not None:
                    rows += [
                        model.model.keys()
                        | {"part": part, "curve": kind, "x": float(x), "y": float(y)}
                        for x, y in zip(*points, strict=True)
                    ]
    columns = ["dataset", "freeze_point", "head", "level", "part", "curve", "x", "y"]
    return Table(
        name="roc-and-pr-points",
        title="Points of the ROC and precision-recall curves",
        columns=(),
        rows=(),
        data=pd.DataFrame(rows, columns=columns),
    )
