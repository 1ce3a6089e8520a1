"""Figure S1: AUC per patient of every dataset and head, validation beside test."""

from collections.abc import Sequence

from renal_ray.report.canvas import HEAD_STYLE, Drawing, blank, finish, letter, settings
from renal_ray.report.evidence import Evidence
from renal_ray.report.statistics.evaluation import Evaluated
from renal_ray.report.statistics.forest import LINE_IN, Line, forest_panel
from renal_ray.report.text import counted, dataset_name, head_name, two
from renal_ray.types import Dataset


def forest_of_models(evidence: Evidence, models: Sequence[Evaluated]) -> Drawing:
    """AUC of every model with its interval; one panel for validation, one for the test."""
    name = "figure-s1-forest"
    chosen = [one for one in models if one.scored.model.level == "patient"]
    panels = [_lines(evidence, chosen, test=False), _lines(evidence, chosen, test=True)]
    ends = [
        end
        for lines in panels
        for line in lines
        for end in (line.lower, line.value)
        if end is not None
    ]
    limits = (max(0.0, min([0.45, *ends]) - 0.03), 1.0)
    with settings(name):
        tips: dict[str, list[str]] = {}
        figure, grid = blank(0.75 + LINE_IN * max(len(lines) for lines in panels), 1, 2)
        for place, (axes, lines, title) in enumerate(
            zip(grid[0], panels, ("Validation, out of fold", "Sealed test, vote"), strict=True)
        ):
            letter(axes, "AB"[place])
            axes.set_title(title)
            tips |= forest_panel(
                axes,
                lines,
                limits=limits,
                reference=0.5,
                xlabel="AUC per patient",
                labelled=place == 0,
                panel=f"forest-{'AB'[place]}",
            )
        tested = next((one.scored.test for one in chosen if len(one.scored.test)), None)
        test = (
            f"{counted(len(tested), 'patient')}, {int(tested.labels.sum())} malignant"
            if tested
            else "not tested"
        )
        return finish(
            figure,
            name=name,
            tips=tips,
            caption="Figure S1. AUC per patient of every dataset and model, with 95 % confidence "
            "intervals (DeLong, logit scale). A: validation, pooled "
            f"out of fold, n at the right; B: the vote on the sealed test, n = {test}. Each "
            "dataset at its selected freeze point; grey line: chance. "
            "Image-level: mean score over a patient's slices. Numbers: Tables S1 and S7.",
        )


def _lines(evidence: Evidence, models: Sequence[Evaluated], *, test: bool) -> list[Line]:
    lines = []
    for dataset in evidence.study.datasets:
        lines.append(Line(_heading(evidence, dataset)))
        for one in (m for m in models if m.scored.model.dataset is dataset):
            samples, found = (
                (one.scored.test, one.test["auc"])
                if test
                else (one.scored.validation, one.validation["auc"])
            )
            look = HEAD_STYLE[one.scored.model.head]
            note = (
                f"{two(found.value)}, n = {len(samples)}"
                if found.value is not None
                else "not tested"
                if test and not len(samples)
                else "not defined"
            )
            style = {"color": look["color"], "marker": look["marker"]}
            lines.append(
                Line(
                    head_name(one.scored.model.head),
                    found.value,
                    found.lower,
                    found.upper,
                    note=note,
                    style=style,
                )
            )
    return lines


def _heading(evidence: Evidence, dataset: Dataset) -> str:
    point = evidence.selected.get(dataset)
    return f"{dataset_name(dataset)}, {point}" if point else f"{dataset_name(dataset)}, not trained"
