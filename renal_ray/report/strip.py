"""The score of every patient: a strip a model, out of fold beside the sealed test."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from renal_ray.report.canvas import (
    BLUE,
    GREY,
    VERMILION,
    Drawing,
    blank,
    finish,
    in_one_column,
    letter,
    settings,
)
from renal_ray.report.evidence import Evidence
from renal_ray.report.patients import by_patient
from renal_ray.report.text import counted, dataset_name, head_name, listed, probability
from renal_ray.types import Dataset, Label

NAME = "figure7-scores"
CLASSES: dict[Label, dict[str, Any]] = {
    Label.BENIGN: {"color": BLUE, "marker": "o"},
    Label.MALIGNANT: {"color": VERMILION, "marker": "^"},
}
MOST_TIPS = 6000  # marks that tell who they are; more would make the page slow
SIDE, WIDE = (
    0.2,
    0.16,
)  # of a strip of width 1: where the two classes stand, and half of what each takes


def score_strips(evidence: Evidence) -> Drawing | None:
    """Score by patient; None where no patient was scored."""
    data = by_patient(evidence)
    if data.empty:
        return None
    tips: dict[str, list[str]] = {}
    datasets = [
        dataset for dataset in evidence.study.datasets if str(dataset) in set(data["dataset"])
    ]
    with settings(NAME):
        figure, grid = blank(0.4 + 2 * len(datasets), len(datasets), 1, alone=True)
        for index, (axes,) in enumerate(grid):
            letter(axes, "ABC"[index])
            _panel(
                axes,
                data[data["dataset"] == str(datasets[index])],
                datasets[index],
                tips,
                told=len(data) <= MOST_TIPS,
            )
            axes.set_ylabel("P(malignant)")
        figure.legend(handles=_keys(), loc="outside upper center", ncols=in_one_column(4, 2))
        return finish(figure, name=NAME, caption=_caption(data), tips=tips)


def _panel(
    axes: Axes, data: pd.DataFrame, dataset: Dataset, tips: dict[str, list[str]], *, told: bool
) -> None:
    axes.set(
        ylim=(-0.03, 1.03), title=f"{dataset_name(dataset)} dataset", yticks=[0, 0.25, 0.5, 0.75, 1]
    )
    axes.axhline(0.5, color=GREY, linewidth=0.5)
    strips = [
        (head, part, _of(data, head, part))
        for head in dict.fromkeys(data["head"])
        for part in ("out of fold", "test")
    ]
    strips = [strip for strip in strips if len(strip[2])]
    for x, (head, part, rows) in enumerate(strips):
        for (label, right), group in rows.groupby(["label", "right"]):
            marks = _marks(
                axes,
                group,
                x=x + SIDE * (2 * label - 1),
                look=CLASSES[Label(label)],
                filled=not right,
            )
            if told:
                gid = f"{NAME}-{dataset}-{head}-{part.replace(' ', '-')}-{label}-{int(right)}"
                marks.set_gid(gid)
                tips[gid] = [_tip(row) for row in group.to_dict("records")]
            else:
                marks.set_rasterized(True)
    axes.set_xticks(
        range(len(strips)),
        [f"{head_name(head)}\n{part}" for head, part, _ in strips],
        rotation=in_one_column(0, 90),
    )
    axes.set_xlim(-0.6, len(strips) - 0.4)


def _of(data: pd.DataFrame, head: str, part: str) -> pd.DataFrame:
    return data[
        (data["head"] == head) & ((data["part"] == "test") == (part == "test"))
    ].sort_values("patient_id")


def _marks(
    axes: Axes, group: pd.DataFrame, *, x: float, look: dict[str, Any], filled: bool
) -> Line2D:
    spread = (
        np.linspace(-WIDE, WIDE, len(group)) if len(group) > 1 else np.zeros(1)
    )  # in the order of patient ids, by no chance
    (marks,) = axes.plot(
        x + spread,
        group["score"],
        linestyle="",
        marker=look["marker"],
        markersize=3.2,
        markeredgewidth=0.7,
        markeredgecolor=look["color"],
        markerfacecolor=look["color"] if filled else "none",
        clip_on=False,
    )
    return marks


def _tip(row: dict[str, Any]) -> str:
    voted = (
        f", {row['votes']} of {row['n_models']} models say malignant" if row["n_models"] > 1 else ""
    )
    judged = "right" if row["right"] else "wrong"
    return (
        f"{row['patient_id']}: {Label(row['label']).name.lower()}, {row['part']}, "
        f"P(malignant) {probability(row['score'])}{voted}, {judged}"
    )


def _keys() -> list[Line2D]:
    keys = []
    for label, look in CLASSES.items():
        for judged, face in (("right", "none"), ("wrong", look["color"])):
            keys.append(
                Line2D(
                    [],
                    [],
                    linestyle="",
                    **look,
                    markerfacecolor=face,
                    label=f"{label.name.capitalize()}, {judged}",
                )
            )
    return keys


def _caption(data: pd.DataFrame) -> str:
    parts = []
    for name, chosen in (
        ("out of fold", data["part"] != "test"),
        ("in the sealed test", data["part"] == "test"),
    ):
        if n := data[chosen]["patient_id"].nunique():
            parts.append(f"{counted(n, 'patient')} {name}")
    return (
        "Figure 7. Score of every patient, P(malignant), at each dataset's selected freeze "
        "point. Circles: benign; triangles: malignant; open: the model or "
        "the vote was right; filled: it was wrong. Out of fold: by the model that had not "
        "trained on the patient; test: mean over the fold models. Each model "
        "decides at its own threshold, so right and wrong do not "
        f"part at one height. n = {listed(parts)}."
    )
