"""ROC and reliability curves of the vote on an external cohort."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes

from renal_ray.apply.external.numbers import Result
from renal_ray.report.canvas import GREY, HEAD_STYLE, Drawing, blank, finish, letter, settings
from renal_ray.report.curves import roc
from renal_ray.report.text import counted, dataset_name, head_name, two
from renal_ray.types import Dataset

FIFTHS = (0, 0.2, 0.4, 0.6, 0.8, 1)


def curves(found: Sequence[Result], cohort: str) -> Drawing:
    """ROC curves above, reliability below, a column a dataset.

    Args:
        found: results of every dataset and head.
        cohort: name of the external cohort.
    """
    datasets = list(dict.fromkeys(one.dataset for one in found))
    name = "external-curves"
    with settings(name):
        figure, grid = blank(6.2, 2, 3)
        for place in range(3):
            if place >= len(datasets):
                grid[0][place].set_axis_off()
                grid[1][place].set_axis_off()
                continue
            mine = [one for one in found if one.dataset is datasets[place]]
            letter(grid[0][place], "ABC"[place])
            letter(grid[1][place], "DEF"[place])
            _roc_panel(grid[0][place], mine, datasets[place])
            _reliability_panel(grid[1][place], mine)
        n, malignant = found[0].n, found[0].malignant
        caption = (
            f"Figure 1. The vote on the external cohort {cohort}, per patient. n = "
            f"{counted(n, 'patient')}, {malignant} malignant and {n - malignant} benign. "
            "Above: ROC curves of the mean score, legends: AUC; markers: "
            "sensitivity and specificity of the vote. "
            "Below: observed share of malignant patients by mean score, in groups of "
            "about equally many patients, bars: 95 % Wilson intervals; "
            "on the grey line the score is the share."
        )
        return finish(figure, name=name, caption=caption)


def _square(axes: Axes, x: str, y: str) -> None:
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.7)
    axes.set(
        xlim=(-0.02, 1.02),
        ylim=(-0.02, 1.02),
        xticks=FIFTHS,
        yticks=FIFTHS,
        aspect="equal",
        xlabel=x,
        ylabel=y,
    )


def _roc_panel(axes: Axes, mine: Sequence[Result], dataset: Dataset) -> None:
    _square(axes, "1 − specificity", "Sensitivity")
    axes.set_title(f"{dataset_name(dataset)} dataset")
    for place, one in enumerate(mine):
        # Few patients make curves and points coincide: what is drawn later is thinner and smaller,
        # so that nothing is hidden.
        look: dict[str, Any] = {
            **HEAD_STYLE[one.head],
            "linewidth": 2.4 - 0.75 * place,
            "markersize": 10 - 3 * place,
            "markerfacecolor": "none",
        }
        if (rates := roc(one.samples.labels, one.samples.scores)) is not None:
            axes.plot(
                *rates,
                **{**look, "marker": ""},
                label=f"{head_name(one.head)}: {two(one.estimates['auc'].value)}",
            )
        sen, spec = one.estimates["sen"].value, one.estimates["spec"].value
        if sen is not None and spec is not None:
            axes.plot(
                [1 - spec],
                [sen],
                **{**look, "linestyle": ""},
                markeredgewidth=1.3,
                clip_on=False,
                zorder=5,
            )
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower right")


def _reliability_panel(axes: Axes, mine: Sequence[Result]) -> None:
    _square(axes, "Mean score", "Malignant")
    for one in mine:
        bins = one.curve.bins
        # Not below 0: where all or none are malignant, the bound lies on the point but for its last
        # digit.
        bars = [
            [max(0.0, point.observed - point.lower) for point in bins],
            [max(0.0, point.upper - point.observed) for point in bins],
        ]
        axes.errorbar(
            [point.mean_score for point in bins],
            [point.observed for point in bins],
            yerr=bars,
            capsize=2,
            elinewidth=0.8,
            **HEAD_STYLE[one.head],
        )
