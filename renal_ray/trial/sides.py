"""Who trains and who validates in a trial: the study's own fold, a repeat's, a share of it, or all
scanners but one."""

from collections.abc import Collection, Mapping
from typing import Any

from renal_ray.protocol.redraw import redraw
from renal_ray.protocol.scanners import without_scanner
from renal_ray.protocol.shares import nested_share
from renal_ray.protocol.splits import FoldSplit, SplitSet
from renal_ray.store.place import Place, digest
from renal_ray.trial.spec import Sides, TrialSpec
from renal_ray.types import PatientId

Scanners = Mapping[PatientId, str]


class LeakError(Exception):
    """A patient would stand on two sides, or a sealed patient would be read: a defect, never to be
    trained through."""


def read_scanners(work: Place, patients: Collection[PatientId]) -> dict[PatientId, str]:
    """The scanner of those patients of whom the cohort names one; empty where it has no such
    column."""
    cohort = work.read_parquet("cohort.parquet")
    if "scanner" not in cohort:
        return {}
    wanted = frozenset(patients)
    named = zip(cohort["patient_id"], cohort["scanner"], strict=True)
    return {
        PatientId(patient): scanner
        for patient, scanner in named
        if patient in wanted and isinstance(scanner, str) and scanner
    }


def make_sides(
    splits: SplitSet, fold: int, *, scanners: Scanners | None = None, **which: Any
) -> Sides:
    """Names who trains and validates.

    Args:
        splits: the study's own split.
        fold: validation fold, of the repeat where there is one.
        scanners: scanner of each training patient who has one named; needed to leave one out.
        which: repeat, share or scanner, as in `Sides`.
    """
    unsigned = Sides(patients="", **which)
    return unsigned.model_copy(
        update={"patients": _signature(_found(unsigned, fold, splits, scanners or {}))}
    )


def sides_of(spec: TrialSpec, splits: SplitSet, scanners: Scanners | None = None) -> FoldSplit:
    """Finds both sides of a trial, and holds them against what its name was given for.

    Args:
        spec: the trial.
        splits: the study's own split.
        scanners: as in `make_sides`.

    Returns:
        Patients to train on and to validate on; none is on both sides, none is sealed.

    Raises:
        LeakError: others would train or validate than those whom the trial was planned with.
    """
    if spec.sides is None:
        return splits.fold(spec.fold, without=spec.outer)
    fold = _found(spec.sides, spec.fold, splits, scanners or {})
    if _signature(fold) != spec.sides.patients:
        raise LeakError(
            f"{spec.trial_id}: others would train and validate than those whom the "
            "trial was planned with; run the same command again"
        )
    return fold


def _found(sides: Sides, fold: int, splits: SplitSet, scanners: Scanners) -> FoldSplit:
    if sides.scanner is not None:
        return without_scanner(splits, scanners, sides.scanner)
    found = redraw(splits, sides.repeat).fold(fold)
    if sides.share == 1:
        return found
    return nested_share(
        found,
        sides.share,
        labels=splits.labels,
        sealed=splits.test,
        seed=splits.seed,
        number=fold,
        units=splits.units,
    )


def _signature(fold: FoldSplit) -> str:
    return digest(["train", *sorted(fold.train), "validation", *sorted(fold.validation)])[:16]
