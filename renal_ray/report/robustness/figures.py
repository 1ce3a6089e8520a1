"""The learning curve and the sensitivity to the mask, drawn."""

from typing import Any

from renal_ray.report.canvas import (
    DATASET_STYLE,
    GREY,
    HEAD_STYLE,
    Drawing,
    blank,
    finish,
    letter,
    settings,
)
from renal_ray.report.curves import cut_bars
from renal_ray.report.evidence import Evidence
from renal_ray.report.robustness.learning import learning_curve
from renal_ray.report.robustness.masks import changes
from renal_ray.report.text import dataset_name, head_name
from renal_ray.trial.masks import MASKED

LOWEST_AUC = 0.4  # of an axis, unless a curve goes below: chance is 0.5


def draw_curve(evidence: Evidence) -> Drawing:
    """Validation AUC by number of training patients, per slice and per patient, with bands of one
    SD over folds."""
    name = "figure-learning-curve"
    with settings(name):
        figure, [panels] = blank(3.2, 1, 2)
        for place, (axes, level) in enumerate(zip(panels, ("slice", "patient"), strict=True)):
            letter(axes, "AB"[place])
            lowest = [LOWEST_AUC]
            for dataset in evidence.study.datasets:
                points = [
                    (point.patients, *point.auc(level))
                    for point in learning_curve(evidence, dataset)
                ]
                known = [(x, mean, sd or 0.0) for x, mean, sd in points if mean is not None]
                if not known:
                    continue
                x, mean, sd = zip(*known, strict=True)
                down, up = cut_bars(mean, sd, lowest=0.0)
                low = [middle - one for middle, one in zip(mean, down, strict=True)]
                axes.fill_between(
                    x,
                    low,
                    [m + u for m, u in zip(mean, up, strict=True)],
                    color=DATASET_STYLE[dataset]["color"],
                    alpha=0.15,
                    linewidth=0,
                )
                axes.plot(x, mean, label=dataset_name(dataset), **DATASET_STYLE[dataset])
                lowest.append(min(low))
            axes.axhline(0.5, color=GREY, linewidth=0.7)
            axes.set(
                xlim=(0, None),
                ylim=(min(lowest) - 0.02, 1.03),
                xlabel="Training patients",
                ylabel="AUC",
                title=f"Per {level}",
            )
            axes.grid(axis="y", linewidth=0.4, color="#DDDDDD")
            axes.set_axisbelow(True)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=3)
        return finish(
            figure,
            name=name,
            caption="Figure R1. Learning curve, image-level models at the selected freeze point. "
            "Mean AUC over folds by the number of patients trained on; "
            "bands: ± 1 SD over folds, cut at 0 and 1; grey line: chance. The last point is the "
            "study's own, the others are trained on nested shares of it. "
            "A curve that still rises at its end says that more patients would help.",
        )


def draw_masks(evidence: Evidence) -> Drawing:
    """Change of the AUC per patient under each perturbation, a panel a dataset."""
    name, datasets = (
        "figure-mask-sensitivity",
        [one for one in MASKED if str(one) in set(evidence.masks["dataset"])],
    )
    found = {dataset: changes(evidence, dataset) for dataset in datasets}
    names = list(dict.fromkeys(perturbation for one in found.values() for _, perturbation in one))
    heads = [
        head
        for head in evidence.study.heads.use
        if any((head, one) in found[dataset] for dataset in datasets for one in names)
    ]
    with settings(name):
        figure, [panels] = blank(1.2 + 0.26 * len(names), 1, len(datasets))
        for place, (axes, dataset) in enumerate(zip(panels, datasets, strict=True)):
            letter(axes, "AB"[place])
            axes.axvline(0, color=GREY, linewidth=0.7)
            for row, head in enumerate(heads):
                shift = 0.2 * (row - (len(heads) - 1) / 2)
                known = [
                    (y + shift, *found[dataset][head, one])
                    for y, one in enumerate(names)
                    if found[dataset].get((head, one), (None, None))[0] is not None
                ]
                look: dict[str, Any] = {**HEAD_STYLE[head], "linestyle": ""}
                y, mean, sd = zip(*known, strict=True) if known else ((), (), ())
                axes.errorbar(
                    mean,
                    y,
                    xerr=[one or 0.0 for one in sd],
                    capsize=2,
                    elinewidth=0.8,
                    label=head_name(head),
                    **look,
                )
            axes.set_yticks(range(len(names)), names if place == 0 else [""] * len(names))
            axes.set(
                ylim=(len(names) - 0.5, -0.5),
                xlabel="Change of AUC",
                title=f"{dataset_name(dataset)} dataset",
            )
            axes.grid(axis="x", linewidth=0.4, color="#DDDDDD")
            axes.set_axisbelow(True)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=3)
        return finish(
            figure,
            name=name,
            caption="Figure R2. Sensitivity to the mask, per patient. Change of the validation AUC "
            "when the finished fold models see the lesion drawn wider, "
            "tighter or aside by so many mm in the axial plane; points: mean over folds, bars: ± "
            "1 SD; grey line: no change. “Image-level” scores a patient by "
            "the mean over the slices.",
        )
