"""Who trains, who validates, who is sealed away: a split that puts a patient on two sides cannot be
constructed."""

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
        twins: the first by id of those who share an image with each other; empty for everyone else.
    """

    patient_id: PatientId
    role: Literal["train", "test"]
    fold: int | None
    n_images: int
    label: int
    twins: str = ""

    @property
    def unit(self) -> str:
        """Who is drawn in one piece with this patient: the twins, or nobody else."""
        return self.twins or self.patient_id


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
            raise StudyError(
                f"splits: patient {min(repeated)} would train and validate, or be "
                "there twice; run `renal-ray prepare` again"
            )
        if opened := sealed.intersection(everyone):
            raise StudyError(
                f"splits: sealed test patient {min(opened)} would be in a "
                "fold; run `renal-ray prepare` again"
            )
        if not self.train or not self.validation:
            raise StudyError(
                "splits: a fold has nobody to train on or nobody to "
                "validate on; use fewer folds (folds.n)"
            )


@dataclass(frozen=True)
class SplitSet:
    """The whole split of a study.

    Args:
        seed: seed it was drawn with.
        method: approximate or stratified, as in the study file.
        patients: every patient once.
        same_trials_as: hash of an earlier splits.json whose training patients, and so trials, are
            the same; empty where there is none.

    Raises:
        StudyError: a patient is there twice, a test patient has a fold, a training patient has
            none, twins are on two sides, or the folds are not 0, 1, ... without a gap.
    """

    seed: int
    method: str
    patients: tuple[PatientRole, ...]
    same_trials_as: str = ""

    def __post_init__(self) -> None:
        if repeated := [
            patient
            for patient, times in Counter(p.patient_id for p in self.patients).items()
            if times > 1
        ]:
            raise StudyError(
                f"splits: patient {min(repeated)} is there more than "
                "once; every patient has one role"
            )
        sides: dict[str, tuple[str, int | None]] = {}
        for patient in self.patients:
            _check_role(patient)
            if sides.setdefault(patient.unit, (patient.role, patient.fold)) != (
                patient.role,
                patient.fold,
            ):
                raise StudyError(
                    f"splits: patient {patient.patient_id} is on another side than a patient "
                    "with the same image; run `renal-ray prepare` again"
                )
        folds = sorted({p.fold for p in self.patients if p.fold is not None})
        if len(folds) < 2 or folds != list(range(len(folds))):
            raise StudyError(
                f"splits: folds {folds}; they must be 0, 1, ... without a gap, and at least two"
            )

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

    @cached_property
    def units(self) -> dict[PatientId, str]:
        """Of every patient, who stands on one side with them: those with the same image have the
        same text."""
        return {p.patient_id: p.unit for p in self.patients}

    def of_fold(self, k: int | None) -> frozenset[PatientId]:
        """The patients who validate in fold k; nobody for None."""
        return frozenset(p.patient_id for p in self.patients if k is not None and p.fold == k)

    def fold(self, k: int, *, without: int | None = None) -> FoldSplit:
        """The two sides of fold k.

        Args:
            k: fold, from 0.
            without: a fold whose patients are on neither side: the outer fold of a nested
                cross-validation.

        Raises:
            StudyError: there is no fold k, or it is the one that is left out.
        """
        if k == without:
            raise StudyError(f"splits: fold {k} cannot validate where it is left out")
        if not 0 <= k < self.n_folds:
            raise StudyError(f"splits: fold {k} asked for, there are folds 0 to {self.n_folds - 1}")
        training = [
            p for p in self.patients if p.role == TRAIN and (without is None or p.fold != without)
        ]
        return FoldSplit(
            train=tuple(p.patient_id for p in training if p.fold != k),
            validation=tuple(p.patient_id for p in training if p.fold == k),
            sealed=self.test,
        )

    def to_json(self) -> dict[str, Any]:
        """The value of splits.json."""
        patients = {
            p.patient_id: {"role": p.role, "fold": p.fold, "n_images": p.n_images, "label": p.label}
            | ({"twins": p.twins} if p.twins else {})
            for p in self.patients
        }
        same = {"same_trials_as": self.same_trials_as} if self.same_trials_as else {}
        return {
            "seed": self.seed,
            "method": self.method,
            "n_folds": self.n_folds,
            **same,
            "patients": patients,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The split that `to_json` wrote.

        Raises:
            StudyError: a key is missing, or the value is no legal split.
        """
        try:
            patients = tuple(
                PatientRole(
                    PatientId(patient),
                    row["role"],
                    row["fold"],
                    int(row["n_images"]),
                    int(row["label"]),
                    str(row.get("twins", "")),
                )
                for patient, row in value["patients"].items()
            )
            splits = cls(
                int(value["seed"]),
                str(value["method"]),
                patients,
                str(value.get("same_trials_as", "")),
            )
            n_folds = int(value["n_folds"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise StudyError(
                f"splits.json: not a split ({type(error).__name__}: "
                f"{error}); run `renal-ray prepare` again"
            ) from None
        if splits.n_folds != n_folds:
            raise StudyError(
                f"splits.json: n_folds is {n_folds}, the patients are in "
                f"{splits.n_folds} folds; run `renal-ray prepare` again"
            )
        return splits


def make_splits(patients: pd.DataFrame, *, seed: int, split: Split, folds: Folds) -> SplitSet:
    """Draws the sealed test set and the folds; the same whatever the order of the rows.

    Args:
        patients: one row a patient: patient_id str, label 0 or 1, n_images at least 1. Those with
            the same text in a column `twins` are drawn in one piece; empty for all others.
        seed: seed of the draw.
        split: size of the test set, and whether both parts keep the share of malignant patients.
        folds: number of folds and how they are made.

    Returns:
        The split, patients sorted by id.

    Raises:
        StudyError: a row cannot be used, a class is too small, or a fold or the test set lacks a
            class.
    """
    table = checked(patients)
    units = table.groupby("unit", sort=False).agg(
        label=("label", "first"), n_images=("n_images", "sum")
    )
    drawn = draw_roles(
        units["label"].to_list(), units["n_images"].to_list(), seed=seed, split=split, folds=folds
    )
    roles = dict(zip(units.index, drawn, strict=True))
    made = SplitSet(
        seed=seed,
        method=folds.method,
        patients=tuple(role_of(row, roles[row.unit]) for row in table.itertuples()),
    )
    check_classes(made, folds.n)
    return made


def role_of(row: Any, fold: int | None) -> PatientRole:
    """Where the patient of a row of `checked` stands: in a fold, or sealed."""
    return PatientRole(
        PatientId(row.patient_id),
        TEST if fold is None else TRAIN,
        fold,
        int(row.n_images),
        int(row.label),
        row.twins,
    )


def _check_role(patient: PatientRole) -> None:
    where = f"splits: patient {patient.patient_id}"
    if patient.role not in (TRAIN, TEST):
        raise StudyError(f"{where} has the role {patient.role!r}; it is {TRAIN} or {TEST}")
    if patient.role == TEST and patient.fold is not None:
        raise StudyError(
            f"{where} is sealed for the test and yet in fold "
            f"{patient.fold}; a test patient has no fold"
        )
    if patient.role == TRAIN and (
        isinstance(patient.fold, bool) or not isinstance(patient.fold, int) or patient.fold < 0
    ):
        raise StudyError(
            f"{where} trains in fold {patient.fold!r}; a training patient has a fold from 0"
        )
    if patient.label not in tuple(Label):
        raise StudyError(
            f"{where} has the label {patient.label!r}; it is 0 (benign) or 1 (malignant)"
        )
    if patient.n_images < 1:
        raise StudyError(f"{where} has {patient.n_images} images; at least one is needed")


def checked(patients: pd.DataFrame) -> pd.DataFrame:
    """The rows as `make_splits` wants them, sorted by id, with columns `twins` and `unit`: who is
    drawn in one piece.

    Raises:
        StudyError: a row cannot be used.
    """
    if missing := {"patient_id", "label", "n_images"} - set(patients.columns):
        raise StudyError(
            f"cohort: column {min(missing)} is missing; the split "
            "needs patient_id, label and n_images"
        )
    table = patients.reindex(columns=["patient_id", "label", "n_images", "twins"])
    if table.empty:
        raise StudyError(
            "cohort: no patient is left to split; quarantine.csv says why the others are not"
        )
    if not table["label"].isin([0, 1]).all():
        raise StudyError(
            "cohort: a label is missing or neither 0 (benign) nor 1 "
            "(malignant); correct the manifest"
        )
    if not (table["n_images"] >= 1).all():
        raise StudyError(
            "cohort: a patient has no image; only patients with at "
            "least one kept slice can be split"
        )
    table["twins"] = table["twins"].astype(object).fillna("")
    table = table.astype({"patient_id": str, "label": int, "n_images": int, "twins": str})
    table["unit"] = table["twins"].where(table["twins"] != "", table["patient_id"])
    return table.sort_values("patient_id", ignore_index=True)


def check_classes(splits: SplitSet, n_folds: int) -> None:
    """Refuses a split of which a fold or the test set lacks a class.

    Raises:
        StudyError: with the seed and the remedy.
    """
    remedy = "choose another seed, fewer folds (folds.n) or folds.method: stratified"
    for k in range(n_folds):
        inside = {p.label for p in splits.patients if p.fold == k}
        for label in Label:
            if label not in inside:
                raise StudyError(
                    f"seed {splits.seed}: fold {k} of {n_folds} has no "
                    f"{label.name.lower()} patient; {remedy}"
                )
    for label in Label:
        if label not in {p.label for p in splits.patients if p.role == TEST}:
            raise StudyError(
                f"seed {splits.seed}: the test set has no {label.name.lower()} patient; "
                "choose another seed, split.stratify: true or a larger split.test_fraction"
            )
