"""Whether the models do as well in one kind of patient as in another."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import chi2_contingency

from renal_ray.protocol.metrics import auc
from renal_ray.protocol.subgroups import FEWEST, interaction
from renal_ray.report.canvas import DATASET_STYLE, Drawing, blank, finish, settings
from renal_ray.report.evidence import Evidence
from renal_ray.report.statistics.estimates import Estimate, proportion
from renal_ray.report.statistics.forest import LINE_IN, Line, forest_panel
from renal_ray.report.statistics.groups import Grouping, groupings
from renal_ray.report.statistics.samples import Samples, Scored
from renal_ray.report.tables import Row, Table
from renal_ray.report.text import DASH, POOLED, counted, dataset_name, head_name, p_value
from renal_ray.types import Dataset

MEASURES = {"auc": "AUC", "sen": "SEN", "spec": "SPEC"}


@dataclass(frozen=True)
class Level:
    """One level of a grouping.

    Args:
        name: of the level.
        n: patients.
        malignant: of them.
        measure: auc where both classes are there, else sen or spec, at the model's own decisions.
        estimate: with its interval.
        few: whether it says too little: fewer than ten patients of a class that the measure needs.
    """

    name: str
    n: int
    malignant: int
    measure: str
    estimate: Estimate
    few: bool


@dataclass(frozen=True)
class Subgroups:
    """A model in the levels of one grouping.

    Args:
        grouping: name of the characteristic.
        levels: those with patients.
        unknown: patients whose value is not known.
        p: of the interaction; None where nothing can be tested.
        test: which test.
    """

    grouping: str
    levels: tuple[Level, ...]
    unknown: int
    p: float | None
    test: str


def subgroups(samples: Samples, grouping: Grouping) -> Subgroups:
    """A model in the levels of one grouping.

    AUC by DeLong where a level has both classes, else the share of right decisions by Wilson.
    Interaction: Cochran's Q of the AUCs of levels with at least ten patients of each class; where
        every level is of one class, Pearson's chi-squared test of right and wrong by level, those
        with at least ten.

    Args:
        samples: one a patient.
        grouping: of patients.
    """
    names = np.array(
        [grouping.level_of.get(str(patient)) for patient in samples.patients], dtype=object
    )
    found = interaction(samples.labels, samples.scores, list(names))
    by_name = {level.level: level for level in found.levels}
    levels = []
    for name in (name for name in grouping.levels if name in by_name):
        inside = samples.of(names == name)
        known = by_name[name]
        if known.auc is not None:
            estimate = Estimate(known.auc, known.lower, known.upper, known.method)
            levels.append(
                Level(name, known.n, known.malignant, "auc", estimate, known.too_small is not None)
            )
        else:
            right = int((inside.labels == inside.decisions).sum())
            levels.append(
                Level(
                    name,
                    known.n,
                    known.malignant,
                    "sen" if known.malignant else "spec",
                    proportion(right, known.n),
                    known.n < FEWEST,
                )
            )
    p, test = (
        (found.p, "Cochran's Q of AUCs")
        if found.p is not None
        else _right_by_level(samples, names, levels)
    )
    return Subgroups(grouping.name, tuple(levels), found.unknown, p, test if p is not None else "")


def _right_by_level(
    samples: Samples, names: NDArray[Any], levels: Sequence[Level]
) -> tuple[float | None, str]:
    """Pearson's test where all levels are of the same single class, as stage and grade are."""
    large = [level for level in levels if not level.few]
    if (
        len({level.measure for level in levels}) != 1
        or levels[0].measure == "auc"
        or len(large) < 2
    ):
        return None, ""
    right = samples.labels == samples.decisions
    counts = np.array(
        [
            [
                int((right & (names == level.name)).sum()),
                int((~right & (names == level.name)).sum()),
            ]
            for level in large
        ]
    )
    if (counts.sum(axis=0) == 0).any():
        return None, ""
    return float(
        chi2_contingency(counts, correction=False).pvalue
    ), "chi-squared of right decisions"


def shown_models(models: Sequence[Scored]) -> dict[Dataset, Scored]:
    """The model of each dataset that is shown: of those per patient the one with the highest pooled
    AUC out of fold; of several the first."""
    shown: dict[Dataset, tuple[float, Scored]] = {}
    for one in (
        model
        for model in models
        if model.model.level == "patient" and model.validation.has_both_classes
    ):
        area = auc(one.validation.labels, one.validation.scores) or 0.0
        if one.model.dataset not in shown or area > shown[one.model.dataset][0]:
            shown[one.model.dataset] = (area, one)
    return {dataset: one for dataset, (_, one) in shown.items()}


def subgroup_tables(evidence: Evidence, models: Sequence[Scored]) -> dict[str, Table]:
    """Subgroups of validation and, where it was run, of the test."""
    cohort = evidence.cohort
    made = {
        "subgroups": _table(
            evidence,
            models,
            groupings(cohort[cohort["patient_id"].isin(evidence.splits.training)]),
            part="validation",
        )
    }
    if any(len(one.test) for one in models):
        made["test-subgroups"] = _table(
            evidence,
            models,
            groupings(cohort[cohort["patient_id"].isin(evidence.splits.test)]),
            part="test",
        )
    return made


def _table(
    evidence: Evidence, models: Sequence[Scored], of: Sequence[Grouping], *, part: str
) -> Table:
    samples = {id(one): one.validation if part == "validation" else one.test for one in models}
    shown = {dataset: one for dataset, one in shown_models(models).items() if len(samples[id(one)])}
    rows, unknown = [], []
    for grouping in of:
        found = [subgroups(samples[id(one)], grouping) for one in shown.values()]
        if largest := max(
            found, key=lambda one: sum(level.n for level in one.levels), default=None
        ):
            rows += _rows(grouping, found, largest)
            unknown += (
                [f"{grouping.name.lower()} of {counted(largest.unknown, 'patient')}"]
                if largest.unknown and largest.levels
                else []
            )
    data = [
        row
        for one in models
        if one.model.level == "patient" and len(samples[id(one)])
        for g in of
        for row in _numbers(one, samples[id(one)], g, part)
    ]
    headings = [
        f"{dataset_name(dataset)}, {head_name(one.model.head)} (95 % CI)"
        for dataset, one in shown.items()
    ]
    validation = part == "validation"
    return Table(
        name="subgroups" if validation else "test-subgroups",
        title="Table S6. Subgroups of validation, out of fold, per patient"
        if validation
        else "Table S10. Subgroups of the sealed test, per patient",
        columns=("Subgroup", "Patients", "Malignant", "Measure", *headings),
        rows=tuple(rows),
        data=pd.DataFrame(data),
        notes=_notes(unknown, validation=validation),
    )


def _rows(grouping: Grouping, found: Sequence[Subgroups], largest: Subgroups) -> list[Row]:
    """A characteristic and its levels; n is that of the model that scored most patients."""
    if not largest.levels:
        return []
    counts = [
        str(sum(getattr(level, name) for level in largest.levels)) for name in ("n", "malignant")
    ]
    rows = [Row((grouping.name, *counts, "", *map(_p, found)))]
    for level in largest.levels:
        same = [next((one for one in of.levels if one.name == level.name), None) for of in found]
        cells = [
            DASH if one is None else f"{one.estimate.words}{' †' if one.few else ''}"
            for one in same
        ]
        rows.append(
            Row(
                (level.name, str(level.n), str(level.malignant), MEASURES[level.measure], *cells),
                "level",
            )
        )
    return rows


def _notes(unknown: Sequence[str], *, validation: bool) -> tuple[str, ...]:
    return (
        f"† Fewer than {FEWEST} patients of a class: too few to say; the interval stands for "
        "the reader to see how wide it is. AUC with DeLong's interval "
        "(Newcombe's where DeLong's variance is 0 or a class is one "
        "patient) where both classes are there; "
        "else the share of right decisions with Wilson's: SEN where all are "
        "malignant, SPEC where all are benign. P: test of "
        f"interaction, Cochran's Q of the AUCs of levels with at least {FEWEST} patients of "
        "each class, or Pearson's χ² of right and wrong decisions by "
        "level where all are of one class; a dash where fewer than two levels can be tested. "
        "Not adjusted for the number of characteristics: exploratory.",
        "Shown is, of each dataset, the model with the highest pooled AUC per "
        "patient out of fold; all of them are in the CSV. "
        "Size: maximum diameter as the manifest gives it, else "
        "measured in the axial plane on the mask.",
        *((POOLED,) if validation else ()),
        *((f"Not known, and in no level: {', '.join(unknown)}.",) if unknown else ()),
    )


def _p(found: Subgroups) -> str:
    shown = p_value(found.p)
    return (
        f"P {DASH}"
        if found.p is None
        else f"P {shown}"
        if shown.startswith("<")
        else f"P = {shown}"
    )


def _numbers(one: Scored, samples: Samples, grouping: Grouping, part: str) -> list[dict[str, Any]]:
    found = subgroups(samples, grouping)
    keys = one.model.keys() | {"part": part, "characteristic": grouping.name}
    return [
        keys
        | {
            "subgroup": level.name,
            "n": level.n,
            "n_malignant": level.malignant,
            "measure": level.measure,
            "too_few": level.few,
        }
        | level.estimate.columns("value")
        | {"p_interaction": found.p, "test": found.test or None}
        for level in found.levels
    ]


def subgroup_forest(evidence: Evidence, models: Sequence[Scored]) -> Drawing:
    """Figure S6: every subgroup of validation with its interval, a panel per dataset."""
    name, shown = "figure-s6-subgroups", shown_models(models)
    cohort = evidence.cohort[evidence.cohort["patient_id"].isin(evidence.splits.training)]
    panels, tips = _panels(shown, groupings(cohort)), dict[str, list[str]]()
    with settings(name):
        figure, grid = blank(0.7 + LINE_IN * len(panels[0]), 1, len(panels))
        for place, (axes, lines, one) in enumerate(
            zip(grid[0], panels, shown.values(), strict=True)
        ):
            axes.set_title(f"{dataset_name(one.model.dataset)}, {head_name(one.model.head)}")
            drawn = (
                lines
                if place == len(panels) - 1
                else [replace(line, note="") if line.value is not None else line for line in lines]
            )
            tips |= forest_panel(
                axes,
                drawn,
                limits=(0.0, 1.0),
                reference=lines[0].value,
                xlabel="AUC, or share right",
                labelled=place == 0,
                panel=f"subgroup-{one.model.dataset}",
            )
        return finish(
            figure,
            name=name,
            tips=tips,
            caption="Figure S6. Subgroups of validation, out of fold, per patient. Marks: AUC "
            "where a subgroup has both classes, else (named so) "
            "sensitivity or specificity at the model's own "
            "decisions; bars: 95 % confidence interval "
            "(DeLong or Newcombe, Wilson); right: malignant / benign patients; "
            f"grey line: all patients. Grey with an open mark: fewer than {FEWEST} patients of "
            "a class, too few to say. Of each dataset the model with the "
            "highest pooled AUC. Numbers and tests of interaction: Table S6.",
        )


def _panels(shown: dict[Dataset, Scored], of: Sequence[Grouping]) -> list[list[Line]]:
    """The lines of every dataset's panel, alike in their labels though a model may lack folds and
    so patients."""
    everyone = Grouping(
        "",
        ("all patients",),
        {
            str(patient): "all patients"
            for one in shown.values()
            for patient in one.validation.patients
        },
    )
    panels: list[list[Line]] = [[] for _ in shown]
    for grouping in (everyone, *of):
        found = [
            {level.name: level for level in subgroups(one.validation, grouping).levels}
            for one in shown.values()
        ]
        names = [name for name in grouping.levels if any(name in levels for levels in found)]
        for lines, one, levels in zip(panels, shown.values(), found, strict=True):
            lines += [Line(grouping.name)] if grouping.name and names else []
            lines += [_line(name, levels.get(name), one.model.dataset) for name in names]
    return panels


def _line(name: str, level: Level | None, dataset: Dataset) -> Line:
    if level is None:
        return Line(name, note="nobody")
    measure = "" if level.measure == "auc" else f" ({MEASURES[level.measure]})"
    note = f"{level.malignant} / {level.n - level.malignant}"
    style = {"color": DATASET_STYLE[dataset]["color"], "marker": DATASET_STYLE[dataset]["marker"]}
    return Line(
        f"{name}{measure}",
        level.estimate.value,
        level.estimate.lower,
        level.estimate.upper,
        note=note,
        style=style,
        faint=level.few,
    )
