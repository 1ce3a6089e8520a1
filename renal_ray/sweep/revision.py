"""A cohort that is prepared again: the split carried over, what it means for those who stay, and
what an opened seal allows of it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pandas as pd

from renal_ray.config import Study
from renal_ray.problems import Code, DamagedFileError, Quarantined, StudyError
from renal_ray.protocol.extend import extend_splits, moved, training_side
from renal_ray.protocol.splits import SplitSet, make_splits
from renal_ray.store.place import Place, digest, json_bytes
from renal_ray.store.seal import log_change, openings
from renal_ray.trial.plan import finished_results, make_plan
from renal_ray.trial.prepared import kept_splits, split_hash
from renal_ray.types import DATASETS

Pixels = Mapping[str, tuple[str, ...]]  # hashes of a patient's slices in every dataset


LOST = (Code.FILE_MISSING, Code.FILE_UNREADABLE)  # a disk that is away, a folder not mounted


@dataclass(frozen=True)
class Revision:
    """What is another than in the cohort as it was prepared before, by id.

    Args:
        added: new patients.
        withdrawn: patients who have left.
        relabelled: those who stay with another label.
        reread: those who stay with other pixels, because image, mask or settings are others.
        moved: those who stay and change side, from the test to the folds, back, or from fold to
            fold.
    """

    added: tuple[str, ...] = ()
    withdrawn: tuple[str, ...] = ()
    relabelled: tuple[str, ...] = ()
    reread: tuple[str, ...] = ()
    moved: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return any(vars(self).values())

    def counted(self) -> str:
        """The change in words, without ids."""
        return (
            f"{len(self.relabelled)} relabelled, {len(self.added)} added, "
            f"{len(self.withdrawn)} withdrawn, {len(self.reread)} with other pixels; "
            f"{len(self.moved)} of those who stay change side"
        )


@dataclass(frozen=True)
class Revised:
    """What preparing again came to.

    Args:
        revision: the change.
        finished: trials that were finished before.
        anew: how many of them are not the study's any more and will be trained anew.
    """

    revision: Revision = field(default_factory=Revision)
    finished: int = 0
    anew: int = 0


def draw(study: Study, work: Place, patients: pd.DataFrame) -> tuple[SplitSet | None, str]:
    """The split that stands with its patients as they are now, or a new one where there is none
    that can be carried over; else why there is none.

    Args:
        study: the study.
        work: its work directory.
        patients: as for `make_splits`.

    Raises:
        StudyError: the seal on the test patients was opened, and they would be others.
    """
    kept, opened = kept_splits(study, work), bool(openings(work))
    if opened:
        _refuse_another(work, kept, patients)
    drawn, why = _drawn(study, patients)
    if kept is not None and (drawn is None or moved(kept, drawn)):
        try:
            drawn, why = extend_splits(kept, patients, split=study.split, folds=study.folds), ""
        except StudyError as error:  # a new draw may yet find a place for both classes everywhere
            why = why or (str(error) if opened else "")
    if opened and (drawn is None or kept is None or moved(kept, drawn)):
        why = why or (
            "patients with the same image stand on two sides of it, "
            "take one of them out of the cohort"
        )
        raise StudyError(f"{_under_seal(work)}: {why}")
    if kept is not None and drawn is not None and training_side(kept) == training_side(drawn):
        before = split_hash(work, kept)
        drawn = (
            drawn
            if digest([json_bytes(drawn.to_json())]) == before
            else replace(drawn, same_trials_as=before)
        )
    return drawn, why


def refuse_lost(study: Study, work: Place, left_out: Sequence[Quarantined]) -> None:
    """Stops where somebody of the split cannot be read for the moment and the seal was opened:
    whoever leaves then never comes back.

    Args:
        study: the study.
        work: its work directory.
        left_out: who cannot be used.

    Raises:
        StudyError: their files are missing or not readable, though the table names them.
    """
    kept = kept_splits(study, work)
    if kept is None or not openings(work):
        return
    lost = [one for one in left_out if one.code in LOST and one.patient_id in kept.labels]
    if lost:
        raise StudyError(
            f"{_counted_lost(lost)} of the split cannot be read ({lost[0].patient_id}: "
            f"{lost[0].code}), and the seal on the test patients was opened: who is withdrawn now "
            "never comes back; restore the files, or take the patients out of the table"
        )


def _counted_lost(lost: Sequence[Quarantined]) -> str:
    names = {one.patient_id for one in lost}
    return "1 patient" if len(names) == 1 else f"{len(names)} patients"


def _drawn(study: Study, patients: pd.DataFrame) -> tuple[SplitSet | None, str]:
    try:
        return make_splits(patients, seed=study.seed, split=study.split, folds=study.folds), ""
    except StudyError as error:
        return None, str(error)


def _refuse_another(work: Place, kept: SplitSet | None, patients: pd.DataFrame) -> None:
    remedy = (
        "give the changed study a work directory of its own (work:), or "
        "restore its seed, cohort, split and folds"
    )
    if kept is None:
        raise StudyError(f"{_under_seal(work)}; {remedy}")
    if added := sorted(set(patients["patient_id"]) - kept.labels.keys()):
        raise StudyError(
            f"{_under_seal(work)}, and {len(added)} patients are new ({added[0]}): whoever "
            f"joins now joins with the test result in view; {remedy}. "
            "Patients may be withdrawn, and labels, images and masks "
            "corrected: the seal's log says so"
        )


def _under_seal(work: Place) -> str:
    return (
        f"{work.shown('splits.json')}: the seal on the test patients was opened under another split"
    )


def revision_of(
    before: SplitSet | None, after: SplitSet | None, old: Pixels, new: Pixels
) -> Revision:
    """Compares a cohort with what was prepared before; nothing where there was no split before or
    is none now."""
    if before is None or after is None:
        return Revision()
    stay = sorted(before.labels.keys() & after.labels.keys())
    return Revision(
        added=tuple(sorted(after.labels.keys() - before.labels.keys())),
        withdrawn=tuple(sorted(before.labels.keys() - after.labels.keys())),
        relabelled=tuple(one for one in stay if before.labels[one] != after.labels[one]),
        reread=tuple(one for one in stay if one in old and old[one] != new.get(one)),
        moved=tuple(moved(before, after)),
    )


def pixels_of(rows: Iterable[Iterable[Mapping[str, str]]]) -> Pixels:
    """The hashes of each patient's slices, from the rows of the datasets' indices."""
    found: dict[str, tuple[str, ...]] = {}
    for dataset in rows:
        for row in dataset:
            found[row["patient_id"]] = (*found.get(row["patient_id"], ()), row["sha256"])
    return found


def kept_pixels(work: Place) -> Pixels:
    """The same of the slices that stand."""
    names = [f"slices/{dataset}/index.parquet" for dataset in DATASETS]
    try:
        return pixels_of(
            work.read_parquet(name, ["patient_id", "sha256"]).to_dict("records")
            for name in names
            if work.exists(name)
        )
    except DamagedFileError:  # it is written anew now
        return {}


def keep_in_log(work: Place, revision: Revision, before: SplitSet) -> None:
    """Writes a change of the cohort into the seal's log, where the seal was opened; first, so that
    no result of the changed cohort goes without."""
    if not revision or not openings(work):
        return
    sides = []
    for side in (before.test, frozenset(before.training)):
        sides.append(
            {
                name: len(side.intersection(getattr(revision, name)))
                for name in ("withdrawn", "relabelled", "reread")
            }
        )
    log_change(work, revision.counted(), test=sides[0], training=sides[1])


def finished_trials(study: Study, work: Place) -> frozenset[str]:
    """The finished trials of the study as it is prepared; all there are where it is prepared with
    other settings."""
    if not work.entries("trials"):
        return frozenset()
    results = finished_results(work)
    try:
        plan = make_plan(study, work)
    except StudyError:
        return frozenset(results)
    return frozenset(spec.trial_id for spec in plan.specs(results) if spec.trial_id in results)
