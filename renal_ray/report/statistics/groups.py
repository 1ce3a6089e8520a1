"""Subgroups of patients from the columns of the cohort."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from renal_ray.cohort.summary import LOCATIONS, SEXES
from renal_ray.report.cohort_tables import SMALL_BELOW_MM
from renal_ray.report.text import level_name

AGES = (50, 65)  # years at which a band begins
COLUMNS = ("Size", "Sex", "Age", "Location", "Stage", "Grade", "Histology", "Scanner")
MOST_LEVELS = 8  # of a column; rarer values stand together
OTHER = "other"


@dataclass(frozen=True)
class Grouping:
    """Patients by one characteristic.

    Args:
        name: the characteristic.
        levels: its levels in the order shown.
        level_of: patient -> level; a patient whose value is not known is not in it.
    """

    name: str
    levels: tuple[str, ...]
    level_of: dict[str, str]


def groupings(cohort: pd.DataFrame) -> list[Grouping]:
    """Size, sex, age, location, stage, grade, histology and scanner, of those that the cohort has a
    value of.

    Args:
        cohort: one row a patient, with patient_id and any of the columns of a manifest;
            max_diameter_mm as given, else measured.
    """
    known = cohort.set_index("patient_id")
    found = [
        _bands(known, "max_diameter_mm", "Size", [SMALL_BELOW_MM], ["under 4 cm", "4 cm and over"]),
        _named(known, "sex", SEXES),
        _bands(
            known,
            "age",
            "Age",
            AGES,
            [
                f"under {AGES[0]} years",
                f"{AGES[0]} to {AGES[1] - 1} years",
                f"{AGES[1]} years and over",
            ],
        ),
        _named(known, "location", LOCATIONS),
        *(_named(known, column, ()) for column in ("stage", "grade", "histology", "scanner")),
    ]
    return [grouping for grouping in found if grouping.levels]


def _bands(
    cohort: pd.DataFrame, column: str, name: str, edges: Sequence[float], words: Sequence[str]
) -> Grouping:
    """Bands of a number; a value at an edge belongs to the upper one."""
    values = (
        cohort[column].astype("float64").dropna()
        if column in cohort
        else pd.Series(dtype="float64")
    )
    places = np.searchsorted(np.asarray(edges), values.to_numpy(), side="right")
    return Grouping(
        name,
        tuple(words[place] for place in sorted(set(places))),
        dict(zip(values.index, (words[place] for place in places), strict=True)),
    )


def _named(cohort: pd.DataFrame, column: str, order: Sequence[str]) -> Grouping:
    """Levels of a word: the known ones in their order, then the others by name; the rarest of many
    together."""
    values = cohort[column].dropna().astype(str) if column in cohort else pd.Series(dtype=str)
    counts = values.value_counts()
    kept = sorted(counts.index, key=lambda level: (-counts[level], level))
    if len(kept) > MOST_LEVELS:
        kept = kept[: MOST_LEVELS - 1]
        values = values.where(values.isin(kept), OTHER)
    rank = {level: place for place, level in enumerate(order)}
    levels = sorted(
        set(values), key=lambda level: (level == OTHER, rank.get(level, len(rank)), level)
    )
    names = {level: level_name(level) for level in levels}
    return Grouping(
        column.capitalize(),
        tuple(names[level] for level in levels),
        {patient: names[level] for patient, level in values.items()},
    )
