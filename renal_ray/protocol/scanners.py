"""Training on all scanners but one, and validating on that one."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from renal_ray.protocol.splits import FoldSplit, SplitSet
from renal_ray.types import Label, PatientId


@dataclass(frozen=True)
class Scanner:
    """One scanner of the training patients.

    Args:
        name: as in the cohort.
        benign: its training patients with a benign lesion.
        malignant: those with a malignant one.
        is_left_out: whether it, and the others together, have enough patients of both classes to be
            left out in turn.
    """

    name: str
    benign: int
    malignant: int
    is_left_out: bool


def scanners_of(
    splits: SplitSet, scanners: Mapping[PatientId, str], *, least: int
) -> list[Scanner]:
    """The scanners of the training patients, by name.

    Args:
        splits: who trains.
        scanners: scanner of each training patient who has one named.
        least: patients of each class that a scanner, and all others together, need.
    """
    counts = Counter(
        (scanners[patient], splits.labels[patient])
        for patient in splits.training
        if patient in scanners
    )
    everyone = {
        label: sum(n for (_, other), n in counts.items() if other == label) for label in Label
    }
    found = []
    for name in sorted({name for name, _ in counts}):
        own = {label: counts[name, label] for label in Label}
        enough = all(
            own[label] >= least and everyone[label] - own[label] >= least for label in Label
        )
        found.append(Scanner(name, own[Label.BENIGN], own[Label.MALIGNANT], enough))
    return found


def without_scanner(splits: SplitSet, scanners: Mapping[PatientId, str], name: str) -> FoldSplit:
    """Trains on the training patients of all other scanners and validates on those of this one.

    A patient whose scanner is not known is on neither side: it might be this one. So is one of
    another scanner who has the same image as one of this.

    Args:
        splits: who trains; sealed patients are on neither side.
        scanners: scanner of each training patient who has one named.
        name: the scanner that is left out of training.

    Raises:
        StudyError: a side is empty.
    """
    known = [patient for patient in splits.training if patient in scanners]
    validation = tuple(patient for patient in known if scanners[patient] == name)
    seen = {splits.units[patient] for patient in validation}
    return FoldSplit(
        train=tuple(patient for patient in known if splits.units[patient] not in seen),
        validation=validation,
        sealed=splits.test,
    )


def why_not_left_out(scanners: Sequence[Scanner], least: int) -> str:
    """A sentence about scanners that cannot be left out; empty where all can be."""
    if not scanners:
        return (
            "no scanner is left out: the cohort has no column `scanner`, "
            "or it is empty for every training patient"
        )
    small = [
        f"{one.name} ({one.benign} benign, {one.malignant} malignant)"
        for one in scanners
        if not one.is_left_out
    ]
    if not small:
        return ""
    need = f"it, and all others together, need {least} training patients of each class"
    if len(scanners) == 1:
        return (
            "no scanner is left out: all training patients whose "
            f"scanner is known were on {scanners[0].name}"
        )
    return f"not left out: {', '.join(small)}; {need}"
