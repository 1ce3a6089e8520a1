"""A split that stands, carried over to a cohort that has changed: nobody who stays changes side."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from math import floor
from typing import Any

import numpy as np
import pandas as pd

from renal_ray.config import Folds, Split
from renal_ray.protocol.splits import (
    TEST,
    TRAIN,
    PatientRole,
    SplitSet,
    check_classes,
    checked,
    role_of,
)

Side = int | None  # a fold, or None for the sealed ones


def extend_splits(
    kept: SplitSet, patients: pd.DataFrame, *, split: Split, folds: Folds
) -> SplitSet:
    """Leaves everybody where they are, takes out who has gone and deals who is new; a corrected
    label keeps its patient's side.

    New patients come in a seeded order. One is sealed while the test set, or with `stratify` its
    part of the patient's class, is smaller than its share (rounded half up) of all who are in by
    then; everybody else goes to the fold with the fewest patients of the class, of equal ones to
    that with the fewest images (with `approximate` folds the images alone count). Patients with the
    same image are on one side: that of the sealed one of them, else that of the first who was
    there.

    Args:
        kept: the split that stands, drawn with the same seed and settings.
        patients: as for `make_splits`.
        split: size of the test set, and whether it is stratified.
        folds: how the folds were made.

    Raises:
        StudyError: a row cannot be used, or a fold or the test set lacks a class.
    """
    table = checked(patients)
    units = table.groupby("unit", sort=False).agg(
        label=("label", "first"), n_images=("n_images", "sum"), n=("label", "size")
    )
    sides = _kept_sides(kept, dict(zip(table["patient_id"], table["unit"], strict=True)))
    hand = _Hand(kept.n_folds, split, folds)
    for unit, side in sides.items():
        hand.put(units.loc[unit], side)
    new = sorted(set(units.index) - set(sides))
    rng = np.random.default_rng(np.random.SeedSequence(kept.seed, spawn_key=(len(sides), len(new))))
    for place in rng.permutation(len(new)):
        unit = units.loc[new[place]]
        sides[new[place]] = hand.choose(unit)
        hand.put(unit, sides[new[place]])
    made = SplitSet(
        kept.seed, kept.method, tuple(role_of(row, sides[row.unit]) for row in table.itertuples())
    )
    check_classes(made, kept.n_folds)
    return made


def moved(before: SplitSet, after: SplitSet) -> list[str]:
    """Those of both splits who stand on another side, by id."""
    sides = {one.patient_id: (one.role, one.fold) for one in before.patients}
    return [
        one.patient_id
        for one in after.patients
        if sides.get(one.patient_id, (one.role, one.fold)) != (one.role, one.fold)
    ]


def training_side(splits: SplitSet) -> dict[str, tuple[Any, ...]]:
    """All of a split that the trials on its folds follow from."""
    return {
        one.patient_id: (one.fold, one.n_images, one.label)
        for one in splits.patients
        if one.role == TRAIN
    }


def _kept_sides(kept: SplitSet, unit_of: Mapping[str, str]) -> dict[str, Side]:
    sides: dict[str, Side] = {}
    sealed_last: list[PatientRole] = sorted(
        kept.patients, key=lambda one: (one.role == TEST, one.patient_id)
    )
    for one in sealed_last:
        unit = unit_of.get(one.patient_id)
        if unit is not None and (unit not in sides or one.role == TEST):
            sides[unit] = one.fold
    return sides


@dataclass
class _Hand:
    """Who deals new patients to sides, knowing how full each is."""

    n_folds: int
    split: Split
    folds: Folds
    patients: Counter[tuple[Side, int]] = field(default_factory=Counter)  # by side and label
    images: Counter[Side] = field(default_factory=Counter)

    def put(self, unit: Any, side: Side) -> None:
        self.patients[side, int(unit.label)] += int(unit.n)
        self.images[side] += int(unit.n_images)

    def choose(self, unit: Any) -> Side:
        label, everyone = (
            int(unit.label),
            [key for key in self.patients if not self.split.stratify or key[1] == int(unit.label)],
        )
        sealed = sum(self.patients[key] for key in everyone if key[0] is None)
        total = sum(self.patients[key] for key in everyone) + int(unit.n)
        if sealed < floor(Fraction(str(self.split.test_fraction)) * total + Fraction(1, 2)):
            return None
        by_class = self.folds.method == "stratified"
        return min(
            range(self.n_folds),
            key=lambda fold: (
                self.patients[fold, label] if by_class else 0,
                self.images[fold],
                fold,
            ),
        )
