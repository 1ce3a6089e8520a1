"""Confusion matrices of the vote, and what every voter said of every test patient."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from renal_ray.protocol.metrics import Confusion, confusion
from renal_ray.report.canvas import (
    BLACK,
    BLUE,
    GREY,
    VERMILION,
    Drawing,
    blank,
    finish,
    nothing,
    settings,
)
from renal_ray.report.evidence import Evidence
from renal_ray.report.statistics.samples import Scored
from renal_ray.report.statistics.voters import Said, said
from renal_ray.report.text import counted, dataset_name, head_name, probability
from renal_ray.types import Dataset, Head, Label

LABEL_STYLE: dict[Label, dict[str, Any]] = {
    Label.BENIGN: {"color": BLUE, "marker": "o"},
    Label.MALIGNANT: {"color": VERMILION, "marker": "^"},
}
RING: dict[str, Any] = {
    "color": BLACK,
    "marker": "o",
    "markersize": 7,
    "markerfacecolor": "none",
    "markeredgewidth": 0.8,
}
NOT_TESTED = "not tested"


def confusion_matrices(evidence: Evidence, models: Sequence[Scored]) -> Drawing:
    """Counts of the vote against pathology, per patient."""
    name, cells = "figure-s8-test-confusion", _by_cell(models)
    with settings(name):
        heads, datasets = evidence.study.heads.use, evidence.study.datasets
        figure, grid = blank(0.3 + 1.6 * len(heads), len(heads), max(2, len(datasets)))
        for row, head in enumerate(heads):
            for column, dataset in enumerate(datasets):
                axes = grid[row][column]
                axes.set_title(f"{dataset_name(dataset)}, {head_name(head)}")
                if (model := cells.get((dataset, head))) is None:
                    _off(axes, NOT_TESTED)
                else:
                    _matrix(axes, confusion(model.test.labels, model.test.decisions))
            for spare in grid[row][len(datasets) :]:
                spare.set_axis_off()
        return finish(
            figure,
            name=name,
            caption="Figure S8. Confusion matrices of the vote on the sealed test, per patient. "
            "Counts of patients and, in brackets, their share of the "
            f"row, which is the pathology; shade: that share. {_n(cells)} Image-level: the "
            "mean score over a patient's slices, decided by each model and "
            "then voted on.",
        )


def _matrix(axes: Axes, counts: Confusion) -> None:
    table = np.array([[counts.tn, counts.fp], [counts.fn, counts.tp]])
    share = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1.25, aspect="auto")
    for row in range(2):
        for column in range(2):
            dark = share[row, column] > 0.7
            text = (
                f"{table[row, column]}\n({100 * share[row, column]:.0f} %)"
                if table[row].sum()
                else "0"
            )
            axes.text(
                column,
                row,
                text,
                ha="center",
                va="center",
                color="white" if dark else BLACK,
                linespacing=1.15,
            )
    axes.set_xticks([0, 1], ["benign", "malignant"])
    axes.set_yticks([0, 1], ["benign", "malignant"], rotation=90, va="center")
    axes.set(xlabel="Vote", ylabel="Pathology")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def scores_by_patient(evidence: Evidence, models: Sequence[Scored]) -> Drawing:
    """Each voter's score of each test patient, ordered by the mean."""
    name, cells, tips = "figure-s9-test-scores", _by_cell(models), dict[str, list[str]]()
    with settings(name):
        heads, datasets = evidence.study.heads.use, evidence.study.datasets
        figure, grid = blank(0.5 + 1.75 * len(heads), len(heads), max(2, len(datasets)))
        for row, head in enumerate(heads):
            for column, dataset in enumerate(datasets):
                axes = grid[row][column]
                axes.set_title(f"{dataset_name(dataset)}, {head_name(head)}")
                if (model := cells.get((dataset, head))) is None:
                    _off(axes, NOT_TESTED)
                    continue
                tips |= _scores(axes, said(evidence, model.model), model)
                axes.set_xlabel("Patients, by mean score" if row == len(heads) - 1 else "")
                axes.set_ylabel("P(malignant)" if column == 0 else "")
            for spare in grid[row][len(datasets) :]:
                spare.set_axis_off()
        figure.legend(handles=_legend(), loc="outside upper center", ncols=4, handletextpad=0.4)
        return finish(
            figure,
            name=name,
            tips=tips,
            caption="Figure S9. Scores of the sealed test patients by every fold model. Small "
            "marks: P(malignant) of each voter; black bar: their mean; "
            "colour and mark: pathology; ring: the vote was wrong. Patients from left to "
            f"right by mean score. {_n(cells)} A model votes with its own "
            "threshold, so that a mean above 0.5 is not yet a vote for malignant. "
            "Numbers with patient_id: test-scores-by-patient.csv.",
        )


def _scores(axes: Axes, voters: Said, model: Scored) -> dict[str, list[str]]:
    """Draws the scores of one cell; returns what the mark of each patient says when it is pointed
    at."""
    order = np.argsort(voters.scores.mean(axis=0), kind="stable")
    x, labels, scores = np.arange(len(order)), voters.labels[order], voters.scores[:, order]
    mean = scores.mean(axis=0)
    decided = dict(zip(model.test.patients, model.test.decisions, strict=True))
    wrong = np.array([decided[voters.patients[place]] for place in order]) != labels
    for label, style in LABEL_STYLE.items():
        if (chosen := labels == label).any():
            flat = np.tile(x[chosen], len(scores)), scores[:, chosen].ravel()
            axes.plot(
                *flat,
                linestyle="",
                markersize=2.6,
                markeredgewidth=0,
                alpha=0.75,
                clip_on=False,
                **style,
            )
    (means,) = axes.plot(
        x, mean, linestyle="", marker="_", markersize=5, color=BLACK, clip_on=False, zorder=3
    )
    gid = f"voters-{model.model.dataset}-{model.model.head}"
    means.set_gid(gid)
    if wrong.any():  # an empty line that is not clipped has no extent, and the layout none either
        axes.plot(x[wrong], mean[wrong], linestyle="", clip_on=False, **RING)
    axes.axhline(0.5, color=GREY, linewidth=0.6, zorder=0)
    axes.set(xlim=(-0.8, len(x) - 0.2), ylim=(-0.02, 1.02), xticks=[], yticks=(0, 0.5, 1))
    return {
        gid: [
            _tip(voters, place, wrong=bool(is_wrong))
            for place, is_wrong in zip(order, wrong, strict=True)
        ]
    }


def _tip(voters: Said, place: int, *, wrong: bool) -> str:
    scores = voters.scores[:, place]
    label = Label(int(voters.labels[place])).name.lower()
    span = f"{probability(float(scores.min()))} to {probability(float(scores.max()))}"
    return (
        f"{voters.patients[place]}, {label}: mean {probability(float(scores.mean()))}, "
        f"voters {span}; the vote was {'wrong' if wrong else 'right'}"
    )


def _legend() -> list[Line2D]:
    marks = [
        Line2D([], [], linestyle="", markersize=4, label=label.name.lower(), **style)
        for label, style in LABEL_STYLE.items()
    ]
    mean = Line2D(
        [], [], linestyle="", marker="_", markersize=7, color=BLACK, label="mean of the voters"
    )
    ring = Line2D([], [], linestyle="", label="vote was wrong", **RING)
    return [*marks, mean, ring]


def _by_cell(models: Sequence[Scored]) -> dict[tuple[Dataset, Head], Scored]:
    return {
        (m.model.dataset, m.model.head): m
        for m in models
        if m.model.level == "patient" and len(m.test)
    }


def _n(cells: dict[tuple[Dataset, Head], Scored]) -> str:
    if not cells:
        return "Nobody was tested."
    test = next(iter(cells.values())).test
    malignant = int(test.labels.sum())
    return (
        f"n = {counted(len(test), 'patient')}, {malignant} malignant "
        f"and {len(test) - malignant} benign."
    )


def _off(axes: Axes, text: str) -> None:
    axes.set_axis_off()
    nothing(axes, text)
