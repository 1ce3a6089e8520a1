"""Figure 3: how loss and accuracy went during training, as the paper draws it: losses on the left
axis, accuracy on the right."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from renal_ray.report.canvas import (
    BLUE,
    NOT_TRAINED,
    ORANGE,
    Drawing,
    blank,
    finish,
    nothing,
    settings,
)
from renal_ray.report.curves import Curve, loss_limit, mean_trace, shared_limits
from renal_ray.report.evidence import Evidence
from renal_ray.report.narrative import averaged_over
from renal_ray.report.text import dataset_name
from renal_ray.types import Dataset, FreezePoint, Head

DARK_ORANGE = "#8A5F00"  # orange dark enough for small text
LOSSES = (("Training loss", "loss", "-"), ("Validation loss", "val_loss", "--"))
ACCURACY = "Validation accuracy (right axis)"


def traces(evidence: Evidence) -> Drawing:
    """Figure 3: loss and accuracy by epoch, a row per freeze point, a column per dataset."""
    name, datasets, points = "figure3-traces", evidence.study.datasets, evidence.freeze_points
    handles: dict[str, Any] = {}
    above = False
    with settings(name):
        figure, grid = blank(0.5 + 1.5 * len(points), len(points), len(datasets))
        for column, dataset in enumerate(datasets):
            losses = {point: _losses(evidence, dataset, point) for point in points}
            limits = shared_limits(
                {
                    point: loss_limit(list(curves.values()))
                    for point, curves in losses.items()
                    if curves
                }
            )
            for row, point in enumerate(points):
                axes = grid[row][column]
                axes.set_title(
                    f"{'ABC'[column]}-{row + 1}  {dataset_name(dataset)}, {point}", loc="left"
                )
                right = axes.twinx()
                axes.set_xlabel("Epoch" if row == len(points) - 1 else "")
                axes.set_ylabel("Loss" if column == 0 else "")
                right.set_ylabel(
                    "Accuracy" if column == len(datasets) - 1 else "", color=DARK_ORANGE
                )
                accuracy = mean_trace(_histories(evidence, dataset, point), "val_accuracy")
                handles |= _accuracy_axis(right, accuracy)
                if losses[point]:
                    handles |= _loss_axis(axes, losses[point], limits[point])
                    above |= _say_above(right, losses[point], limits[point])
                else:
                    axes.set_ylim(0, 1)
                    nothing(axes, NOT_TRAINED)
        if handles:
            ordered = [
                label
                for label in (*(label for label, _, _ in LOSSES), ACCURACY)
                if label in handles
            ]
            figure.legend(
                [handles[label] for label in ordered], ordered, loc="outside upper center", ncols=3
            )
        return finish(figure, name=name, caption=_caption(evidence, above=above))


def _histories(evidence: Evidence, dataset: Dataset, point: FreezePoint) -> Sequence[pd.DataFrame]:
    return [trial.history for trial in evidence.cell(dataset, point, Head.IMAGE)]


def _losses(evidence: Evidence, dataset: Dataset, point: FreezePoint) -> dict[str, Curve]:
    curves = {
        column: mean_trace(_histories(evidence, dataset, point), column) for _, column, _ in LOSSES
    }
    return {column: curve for column, curve in curves.items() if curve is not None}


def _loss_axis(axes: Axes, curves: Mapping[str, Curve], limit: float) -> dict[str, Any]:
    handles = {}
    for label, column, style in LOSSES:
        handles[label] = _line(axes, curves[column], color=BLUE, linestyle=style, highest=np.inf)
    axes.set_ylim(0, limit)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4, min_n_ticks=3, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    return handles


def _accuracy_axis(axes: Axes, curve: Curve | None) -> dict[str, Any]:
    axes.spines["right"].set_visible(True)
    axes.set_ylim(0, 1.02)
    axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.tick_params(axis="y", colors=DARK_ORANGE)
    return (
        {ACCURACY: _line(axes, curve, color=ORANGE, linestyle="-", highest=1.0)}
        if curve is not None
        else {}
    )


def _line(axes: Axes, curve: Curve, *, color: str, linestyle: str, highest: float) -> Any:
    """A mean with its band, the band cut where the quantity ends."""
    (line,) = axes.plot(
        curve.x,
        curve.mean,
        color=color,
        linestyle=linestyle,
        marker="." if len(curve.x) == 1 else "",
    )
    low, high = (curve.mean - curve.sd).clip(min=0), (curve.mean + curve.sd).clip(max=highest)
    axes.fill_between(curve.x, low, high, color=color, alpha=0.12, linewidth=0)
    return line


def _say_above(axes: Axes, curves: Mapping[str, Curve], limit: float) -> bool:
    """Writes into the panel, on the axes that lie on top, how high a mean or a band goes that
    leaves its axis, or that a loss is no number any more."""
    means = np.concatenate([curve.mean for curve in curves.values()])
    bands = np.concatenate([curve.mean + curve.sd for curve in curves.values()])
    said: list[str] = []
    for name, values in (("mean loss", means), ("band", bands)):
        highest = values[np.isfinite(values)].max(initial=0.0)
        if highest > limit and not said:
            said.append(f"{name} up to {highest:.3g} ↑")
    if not np.isfinite(means).all():
        said.append("loss not finite")
    if said:
        box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1}
        axes.text(
            0.98,
            0.7,
            "; ".join(said),
            transform=axes.transAxes,
            ha="right",
            va="center",
            fontsize=7,
            color=BLUE,
            bbox=box,
        )
    return bool(said)


def _caption(evidence: Evidence, *, above: bool) -> str:
    outliers = (
        (
            "Losses far above the others of their panel leave the axis; "
            "the panel then says how high they go. "
        )
        if above
        else ""
    )
    return (
        "Figure 3. Training loss, validation loss and validation accuracy by epoch, image-level "
        "models. Left axis: categorical cross-entropy, from 0, with one "
        "scale for the panels of a dataset unless their losses differ more than fourfold; "
        "right axis: accuracy per slice with P(malignant) cut at 0.5. "
        "Lines: mean over folds; bands: ± 1 SD, cut at 0 and, for accuracy, at 1. "
        f"{outliers}Columns: dataset; rows: last frozen layer. "
        f"{averaged_over(evidence)} {_statistics(evidence)}"
    )


def _statistics(evidence: Evidence) -> str:
    if evidence.study.training.bn_statistics == "moving":
        return "Validation with the moving batch-normalisation averages, as in the tables."
    return (
        "During training the validation traces use Keras's moving "
        "batch-normalisation averages and can look far worse than the model is; "
        "the tables use the statistics re-estimated over the training images after the last epoch."
    )
