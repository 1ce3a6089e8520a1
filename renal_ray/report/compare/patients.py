"""Were the same patients in the studies, on the same sides: what decides whether their numbers may
be compared."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import pandas as pd

from renal_ray.protocol.splits import SplitSet
from renal_ray.report.compare.studies import Compared
from renal_ray.report.evidence import Evidence
from renal_ray.report.tables import Row, Table
from renal_ray.report.text import DASH, counted, dataset_name, listed
from renal_ray.types import Dataset, Label, PatientId


@dataclass(frozen=True)
class Overlap:
    """Two studies and their patients, told apart by patient_id.

    Args:
        a, b: the studies.
        both: patients of both.
        only_a, only_b: patients of one alone.
        relabelled: patients of both with another label, as far as the labels are not sealed.
        sealed: patients sealed in both.
        crossed: patients of both who are sealed in one and trained on in the other.
        same_folds: whether the patients who train in both are divided into the same folds.
        same_slices: dataset -> whether both trained on the same pixels; not there where one has not
            trained on it.
    """

    a: Compared
    b: Compared
    both: frozenset[PatientId]
    only_a: int
    only_b: int
    relabelled: int
    sealed: frozenset[PatientId]
    crossed: int
    same_folds: bool
    same_slices: dict[Dataset, bool]

    @property
    def pair(self) -> str:
        """The letters of the studies."""
        return f"{self.a.letter} and {self.b.letter}"

    @property
    def same_patients(self) -> bool:
        """Whether nobody is in one study alone."""
        return not self.only_a and not self.only_b

    @property
    def same_test(self) -> bool:
        """Whether exactly the same patients are sealed."""
        return self.a.evidence.splits.test == self.b.evidence.splits.test


def overlaps(studies: Sequence[Compared]) -> list[Overlap]:
    """Every pair of studies."""
    return [_overlap(a, b) for a, b in combinations(studies, 2)]


def _overlap(a: Compared, b: Compared) -> Overlap:
    first, second = a.evidence.splits, b.evidence.splits
    both = frozenset(first.labels) & frozenset(second.labels)
    told = both - _unopened(a.evidence) - _unopened(b.evidence)
    return Overlap(
        a=a,
        b=b,
        both=both,
        only_a=len(first.labels) - len(both),
        only_b=len(second.labels) - len(both),
        relabelled=sum(first.labels[patient] != second.labels[patient] for patient in told),
        sealed=first.test & second.test,
        crossed=len(both & (first.test ^ second.test)),
        same_folds=_folds(first, both - first.test - second.test)
        == _folds(second, both - first.test - second.test),
        same_slices={
            dataset: left == right
            for dataset in a.evidence.study.datasets
            if (left := _pixels(a.evidence, dataset)) is not None
            and (right := _pixels(b.evidence, dataset)) is not None
        },
    )


def _unopened(evidence: Evidence) -> frozenset[PatientId]:
    return frozenset() if evidence.test.opened else evidence.splits.test


def _folds(splits: SplitSet, patients: frozenset[PatientId]) -> set[frozenset[PatientId]]:
    """The folds as groups of patients: what number a fold has is of no account."""
    groups: dict[int | None, set[PatientId]] = {}
    for person in splits.patients:
        if person.patient_id in patients:
            groups.setdefault(person.fold, set()).add(person.patient_id)
    return {frozenset(group) for group in groups.values()}


def _pixels(evidence: Evidence, dataset: Dataset) -> str | None:
    return next(
        (
            trial.spec.inputs.slices
            for trial in evidence.trials.true
            if trial.spec.dataset is dataset
        ),
        None,
    )


def cohort_table(studies: Sequence[Compared]) -> Table:
    """Counts of every study; classes of sealed patients only once its seal was opened."""
    rows, data = [], []
    for one in studies:
        evidence = one.evidence
        shown = [
            person
            for person in evidence.splits.patients
            if evidence.test.opened or person.role == "train"
        ]
        malignant = sum(person.label == Label.MALIGNANT for person in shown)
        slices = sum(person.n_images for person in evidence.splits.patients)
        test = evidence.test
        state = "closed" if not test.opened else counted(len(test.openings), "opening")
        counts = (
            len(evidence.splits.patients),
            malignant,
            len(shown) - malignant,
            slices,
            len(evidence.splits.training),
            len(evidence.splits.test),
        )
        rows.append(
            Row(
                (
                    one.name,
                    *map(str, counts),
                    str(evidence.splits.n_folds),
                    str(evidence.splits.seed),
                    state,
                )
            )
        )
        names = ("patients", "malignant", "benign", "slices", "training", "sealed")
        data.append(
            {
                "study": one.name,
                **dict(zip(names, counts, strict=True)),
                "folds": evidence.splits.n_folds,
                "seed": evidence.splits.seed,
                "seal": state,
            }
        )
    return Table(
        name="cohorts",
        title="Cohorts and splits",
        columns=(
            "Study",
            "Patients",
            "Malignant",
            "Benign",
            "Slices",
            "Training",
            "Sealed",
            "Folds",
            "Seed",
            "Seal",
        ),
        rows=tuple(rows),
        data=pd.DataFrame(data),
        notes=(
            (
                "Malignant and benign: of all patients where the seal was "
                "opened, else of the training patients."
            ),
        ),
    )


def overlap_table(found: Sequence[Overlap]) -> Table:
    """Every pair of studies: who is in both, on which side."""
    rows, data = [], []
    for one in found:
        same = listed(
            dataset_name(dataset) for dataset, equal in one.same_slices.items() if equal
        ) or ("none" if one.same_slices else DASH)
        folds = "yes" if one.same_folds else "no"
        counts = (
            len(one.both),
            one.only_a,
            one.only_b,
            one.relabelled,
            len(one.sealed),
            one.crossed,
        )
        rows.append(Row((one.pair, *map(str, counts), folds, same)))
        names = (
            "both",
            "only_first",
            "only_second",
            "other_label",
            "sealed_in_both",
            "sealed_in_one_trained_in_other",
        )
        data.append(
            {
                "studies": one.pair,
                **dict(zip(names, counts, strict=True)),
                "same_folds": one.same_folds,
                "same_slices": same,
            }
        )
    return Table(
        name="overlap",
        title="The same patients, on the same sides?",
        columns=(
            "Studies",
            "In both",
            "Only first",
            "Only second",
            "Other label",
            "Sealed in both",
            "Sealed in one, trained in the other",
            "Same folds",
            "Same slices",
        ),
        rows=tuple(rows),
        data=pd.DataFrame(data),
        notes=(
            (
                "Patients are told apart by patient_id. Same slices: datasets "
                "of which both trained on the same pixels."
            ),
        ),
    )


def warnings(found: Sequence[Overlap]) -> Iterator[str]:
    """What forbids a naive comparison, pair by pair."""
    for one in found:
        if not one.both:
            yield (
                f"{one.pair} have no patient in common: their numbers differ by the "
                "patients too, and nothing can be tested in pairs."
            )
            continue
        if not one.same_patients:
            yield (
                f"{one.pair} were not done on the same patients: {len(one.both)} in both, "
                f"{one.only_a} only in {one.a.letter}, {one.only_b} only in "
                f"{one.b.letter}. Tables beside each other compare models and patients at "
                "once; the paired tests take the common patients alone."
            )
        if not one.same_test:
            crossed = (
                (
                    f"; {counted(one.crossed, 'patient')} sealed in one "
                    f"{'was' if one.crossed == 1 else 'were'} trained on in the other"
                )
                if one.crossed
                else ""
            )
            yield (
                f"{one.pair} do not have the same sealed patients: {len(one.sealed)} are sealed "
                f"in both{crossed}. Their test tables are not comparable."
            )
        if one.relabelled:
            labelled = counted(one.relabelled, "common patient")
            yield (
                f"{one.pair} give {labelled} another label: at least one of the two "
                "is wrong. They are left out of paired tests."
            )
        if one.both and not one.same_folds:
            yield (
                f"{one.pair} divide their common training patients into different "
                "folds: the models of a fold saw other patients."
            )


def same(found: Sequence[Overlap]) -> str:
    """What all the studies have in common, as a sentence; empty where nothing is."""
    if not all(one.same_patients for one in found):
        return ""
    first = found[0].a.evidence.splits
    parts = [f"the same {counted(len(first.labels), 'patient')}"]
    if all(one.same_test for one in found):
        parts.append(f"the same {len(first.test)} sealed")
    if all(one.same_folds for one in found):
        parts.append("the same folds")
    return f"All studies have {listed(parts)}."
