"""AUC of every model in every study, validation beside test."""

from collections.abc import Sequence

from renal_ray.protocol.delong import auc_interval
from renal_ray.report.canvas import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    Drawing,
    blank,
    finish,
    letter,
    settings,
)
from renal_ray.report.compare.results import scores_of
from renal_ray.report.compare.studies import Compared
from renal_ray.report.statistics.forest import LINE_IN, Line, forest_panel
from renal_ray.report.statistics.samples import Samples
from renal_ray.report.text import counted, listed
from renal_ray.types import Dataset, Head

LOOKS = tuple(zip((BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK), "o^sDvP*", strict=True))
NAME = "figure1-aucs"


def forest_of_studies(studies: Sequence[Compared]) -> Drawing | None:
    """A line for each model and study; None where nobody was scored per patient."""
    known = [(one, scores_of(one)) for one in studies]
    keys = [
        (d, h, "patient")
        for d in Dataset
        for h in Head
        if any((d, h, "patient") in scores for _, scores in known)
    ]
    panels: tuple[list[Line], list[Line]] = ([], [])
    for key in keys:
        named = next(scores[key].model.full_name for _, scores in known if key in scores)
        for panel in panels:
            panel.append(Line(named))
        for place, (one, scores) in enumerate(known):
            for panel, samples in zip(
                panels,
                (scores[key].validation, scores[key].test) if key in scores else (None, None),
                strict=True,
            ):
                panel.append(_line(one, place, samples))
    if not keys:
        return None
    ends = [
        end
        for panel in panels
        for line in panel
        for end in (line.lower, line.value)
        if end is not None
    ]
    with settings(NAME):
        figure, grid = blank(0.8 + LINE_IN * len(panels[0]), 1, 2)
        for place, (axes, lines, title) in enumerate(
            zip(grid[0], panels, ("Validation, out of fold", "Sealed test, vote"), strict=True)
        ):
            letter(axes, "AB"[place])
            axes.set_title(title)
            forest_panel(
                axes,
                lines,
                limits=(max(0.0, min([0.45, *ends]) - 0.03), 1.0),
                reference=0.5,
                xlabel="AUC per patient",
                labelled=place == 0,
            )
        return finish(
            figure,
            name=NAME,
            caption="Figure 1. AUC per patient of every model in "
            f"{listed(one.name for one in studies)}. Bars: 95 % confidence intervals "
            "(DeLong, logit "
            "scale); grey line: chance; n at the right. A: pooled out of fold; B: the vote on "
            "each study's own sealed patients. Intervals that overlap do "
            "not show that two studies are alike, and patients may differ: the "
            "paired tests below take common patients alone.",
        )


def _line(one: Compared, place: int, samples: Samples | None) -> Line:
    color, marker = LOOKS[place % len(LOOKS)]
    found = (
        auc_interval(samples.labels, samples.scores)
        if samples is not None and samples.has_both_classes
        else None
    )
    if samples is None or found is None:
        return Line(one.name, note="–")
    return Line(
        one.name,
        found.auc,
        found.lower,
        found.upper,
        counted(len(samples), "patient"),
        {"color": color, "marker": marker},
    )
