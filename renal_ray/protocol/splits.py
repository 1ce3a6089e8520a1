"""Who trains, who validates, who is sealed away: a split that puts a patient on two sides cannot be constructed."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import InitVar, dataclass
from functools import cached_property
from typing import Any, Final, Literal, Self

import pandas as pd

from renal_ray.config import Folds, Split
from renal_ray.problems import StudyError
from renal_ray.protocol.draw import draw_roles
from renal_ray.types import Label, PatientId

TRAIN: Final = "train"
TEST: Final = "test"


@dataclass(frozen=True)
class PatientRole:
    """Where one patient stands in the study.

    Args:
        patient_id: as in the manifest.
        role: train or test; a test patient is sealed.
        fold: fold in which a training patient validates, from 0; None for a test patient.
        n_images: kept slices of the patient.
        label: 1 malignant, 0 benign.
    """

    patient_id: PatientId
    role: Literal["train", "test"]
    fold: int | None
    n_images: int
    label: int


@dataclass(frozen=True)
class FoldSplit:
    """The two sides of one fold.

    Args:
        train: patients to fit on.
        validation: patients to choose the threshold and the freeze point on.
        sealed: test patients, who may be on neither side.

    Raises:
        StudyError: a patient is on two sides or sealed, or a side is empty.
    """

    train: tuple[PatientId, ...]
    validation: tuple[PatientId, ...]
    sealed: InitVar[frozenset[PatientId]]

    def __post_init__(self, sealed: frozenset[PatientId]) -> None:
        everyone = (*self.train, *self.validation)
        if repeated := [patient for patient, times in Counter(everyone).items() if times > 1]:
            raise StudyError(f"splits: patient {min(repeated)} would train and validate, or be there twice; run `renal-ray prepare` again")
        if opened := sealed.intersection(everyone):
            raise StudyError(f"splits: sealed test patient {min(opened)} would be in a fold; run `renal-ray prepare` again")
        if not self.train or not self.validation:
            raise StudyError("splits: a fold has nobody to train on or nobody to validate on; use fewer folds (folds.n)")


@dataclass(frozen=True)
class SplitSet:
    """The whole split of a study.

    Args:
        seed: seed it was drawn with.
        method: approximate or stratified, as in the study file.
        patients: every patient once.

    Raises:
        StudyError: a patient is there twice, a test patient has a fold, a training patient has none, or the folds
            are not 0, 1, ... without a gap.
    """

    seed: int
    method: str
    patients: tuple[PatientRole, ...]

    def __post_init__(self) -> None:
        if repeated := [patient for patient, times in Counter(p.patient_id for p in self.patients).items() if times > 1]:
            raise StudyError(f"splits: patient {min(repeated)} is there more than once; every patient has one role")
        for patient in self.patients:
            _check_role(patient)
        folds = sorted({p.fold for p in self.patients if p.fold is not None})
        if len(folds) < 2 or folds != list(range(len(folds))):
            raise StudyError(f"splits: folds {folds}; they must be 0, 1, ... without a gap, and at least two")

    @property
    def n_folds(self) -> int:
        """Number of folds."""
        return 1 + max(p.fold for p in self.patients if p.fold is not None)

    @cached_property
    def test(self) -> frozenset[PatientId]:
        """The sealed patients."""
        return frozenset(p.patient_id for p in self.patients if p.role == TEST)

    @cached_property
    def training(self) -> tuple[PatientId, ...]:
        """Everyone who is not sealed, in the order of `patients`."""
        return tuple(p.patient_id for p in self.patients if p.role == TRAIN)

    @cached_property
    def labels(self) -> dict[PatientId, int]:
        """Label of every patient, the sealed ones too."""
        return {p.patient_id: p.label for p in self.patients}

    def of_fold(self, k: int | None) -> frozenset[PatientId]:
        """The patients who validate in fold k; nobody for None."""
        return frozenset(p.patient_id for p in self.patients if k is not None and p.fold == k)

    def fold(self, k: int, *, without: int | None = None) -> FoldSplit:
        """The two sides of fold k.

        Args:
            k: fold, from 0.
            without: a fold whose patients are on neither side: the outer fold of a nested cross-validation.

        Raises:
            StudyError: there is no fold k, or it is the one that is left out.
        """
        if k == without:
            raise StudyError(f"splits: fold {k} cannot validate where it is left out")
        if not 0 <= k < self.n_folds:
            raise StudyError(f"splits: fold {k} asked for, there are folds 0 to {self.n_folds - 1}")
        training = [p for p in self.patients if p.role == TRAIN and (without is None or p.fold != without)]
        return FoldSplit(
            train=tuple(p.patient_id for p in training if p.fold != k),
            validation=tuple(p.patient_id for p in training if p.fold == k),
            sealed=self.test,
        )

    def to_json(self) -> dict[str, Any]:
        """The value of splits.json."""
        patients = {p.patient_id: {"role": p.role, "fold": p.fold, "n_images": p.n_images, "label": p.label} for p in self.patients}
        return {"seed": self.seed, "method": self.method, "n_folds": self.n_folds, "patients": patients}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The split that `to_json` wrote.

        Raises:
            StudyError: a key is missing, or the value is no legal split.
        """
        try:
            patients = tuple(
                PatientRole(PatientId(patient), row["role"], row["fold"], int(row["n_images"]), int(row["label"])) for patient, row in value["patients"].items()
            )
            splits = cls(int(value["seed"]), str(value["method"]), patients)
            n_folds = int(value["n_folds"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise StudyError(f"splits.json: not a split ({type(error).__name__}: {error}); run `renal-ray prepare` again") from None
        if splits.n_folds != n_folds:
            raise StudyError(f"splits.json: n_folds is {n_folds}, the patients are in {splits.n_folds} folds; run `renal-ray prepare` again")
        return splits


def make_splits(patients: pd.DataFrame, *, seed: int, split: Split, folds: Folds) -> SplitSet:
    """Draws the sealed test set and the folds; the same whatever the order of the rows.

    Args:
        patients: one row a patient: patient_id str, label 0 or 1, n_images at least 1.
        seed: seed of the draw.
        split: size of the test set, and whether both parts keep the share of malignant patients.
        folds: number of folds and how they are made.

    Returns:
        The split, patients sorted by id.

    Raises:
        StudyError: a row cannot be used, a class is too small, or a fold or the test set lacks a class.
    """
    table = _checked(patients)
    roles = draw_roles(table["label"].to_list(), table["n_images"].to_list(), seed=seed, split=split, folds=folds)
    made = SplitSet(
        seed=seed,
        method=folds.method,
        patients=tuple(
            PatientRole(PatientId(row.patient_id), TEST if fold is None else TRAIN, fold, int(row.n_images), int(row.label))
            for row, fold in zip(table.itertuples(), roles, strict=True)
        ),
    )
    _check_classes(made, folds.n)
    return made


def _check_role(patient: PatientRole) -> None:
    where = f"splits: patient {patient.patient_id}"
    if patient.role not in (TRAIN, TEST):
        raise StudyError(f"{where} has the role {patient.role!r}; it is {TRAIN} or {TEST}")
    if patient.role == TEST and patient.fold is not None:
        raise StudyError(f"{where} is sealed for the test and yet in fold {patient.fold}; a test patient has no fold")
    if patient.role == TRAIN and (isinstance(patient.fold, bool) or not isinstance(patient.fold, int) or patient.fold < 0):
        raise StudyError(f"{where} trains in fold {patient.fold!r}; a training patient has a fold from 0")
    if patient.label not in tuple(Label):
        raise StudyError(f"{where} has the label {patient.label!r}; it is 0 (benign) or 1 (malignant)")
    if patient.n_images < 1:
        raise StudyError(f"{where} has {patient.n_images} images; at least one is needed")


def _checked(patients: pd.DataFrame) -> pd.DataFrame:
    if missing := {"patient_id", "label", "n_images"} - set(patients.columns):
        raise StudyError(f"cohort: column {min(missing)} is missing; the split needs patient_id, label and n_images")
    table = patients[["patient_id", "label", "n_images"]].copy()
    if table.empty:
        raise StudyError("cohort: no patient is left to split; quarantine.csv says why the others are not")
    if not table["label"].isin([0, 1]).all():
        raise StudyError("cohort: a label is missing or neither 0 (benign) nor 1 (malignant); correct the manifest")
    if not (table["n_images"] >= 1).all():
        raise StudyError("cohort: a patient has no image; only patients with at least one kept slice can be split")
    table["patient_id"] = table["patient_id"].astype(str)
    return table.astype({"label": int, "n_images": int}).sort_values("patient_id", ignore_index=True)


def _check_classes(splits: SplitSet, n_folds: int) -> None:
    remedy = "choose another seed, fewer folds (folds.n) or folds.method: stratified"
    for k in range(n_folds):
        inside = {p.label for p in splits.patients if p.fold == k}
        for label in Label:
            if label not in inside:
                raise StudyError(f"seed {splits.seed}: fold {k} of {n_folds} has no {label.name.lower()} patient; {remedy}")
    for label in Label:
        if label not in {p.label for p in splits.patients if p.role == TEST}:
            raise StudyError(
                f"seed {splits.seed}: the test set has no {label.name.lower()} patient; "
                "choose another seed, split.stratify: true or a larger split.test_fraction"
            )
