"""What lies in some folders: what is proposed for each patient, and why all else is not."""

from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from renal_ray.cohort.manifest import normal_id
from renal_ray.cohort.scan.dicomdir import check_dicomdir
from renal_ray.cohort.scan.people import Person, gather
from renal_ray.cohort.scan.propose import Proposal, propose
from renal_ray.cohort.scan.volumes import VolumePair, pair_masks, sort_volumes
from renal_ray.cohort.scan.walk import Found, Kind, sampled, walk
from renal_ray.config import Phase
from renal_ray.dicom.headers import quiet
from renal_ray.problems import Code, PatientError


@dataclass(frozen=True)
class Scanned:
    """What lies in some folders.

    Args:
        proposals: a patient each, by PatientID.
        pairs: image and mask in volume files, beside any DICOM.
        problems: of files and of no patient.
        broken: files that cannot be read and are no part of what is proposed, each with the
            PatientID where its header tells it.
        no_images: series and volume files that are no CT, each with the PatientID or nothing.
        passed_over: code -> files.
    """

    proposals: list[Proposal]
    pairs: list[VolumePair]
    problems: list[PatientError]
    broken: list[tuple[str, PatientError]]
    no_images: list[tuple[str, PatientError]]
    passed_over: dict[Code, list[str]]


def look(
    folders: Sequence[Path],
    phase: Phase,
    *,
    labelled: Iterable[str] = (),
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Scanned:
    """Finds patients, series and masks by headers, and by the values of a few images.

    Args:
        folders: where to look.
        phase: which series is proposed where a patient has several.
        labelled: ids of the table of labels.
        workers: processes.
        progress: called with files done and files in all.
    """
    roots = [folder.resolve() for folder in folders]
    found = walk(roots, workers=workers, progress=progress)
    with quiet():
        return _sorted(found, roots, phase, labelled, workers)


def _sorted(
    found: Sequence[Found],
    roots: Sequence[Path],
    phase: Phase,
    labelled: Iterable[str],
    workers: int,
) -> Scanned:
    people, unpaired = gather(found)
    images, masks, unread = sort_volumes(
        sampled([one for one in found if one.kind is Kind.VOLUME], workers=workers)
    )
    unpaired += pair_masks(masks, images, people, roots, labelled)
    proposals = [propose(person, phase) for person in people if person.series or person.masks]
    problems = [
        problem
        for one in found
        if one.kind is Kind.DICOMDIR
        for problem in check_dicomdir(Path(one.path))
    ]
    told = {id(problem) for proposal in proposals for problem in proposal.problems}
    others = [
        (person.patient, problem)
        for person in people
        for problem in person.no_ct
        if id(problem) not in told
    ]
    broken = _give_broken(_broken(found), proposals)
    no_images = [*others, *(("", one) for one in unread)]
    return Scanned(
        proposals,
        [image.pair for image in images],
        [*problems, *unpaired],
        broken,
        no_images,
        _passed_over(found, proposals),
    )


def _passed_over(found: Sequence[Found], proposals: Sequence[Proposal]) -> dict[Code, list[str]]:
    used = {one.path for proposal in proposals if proposal.series for one in proposal.series.files}
    passed: dict[Code, list[str]] = defaultdict(list)
    for one in found:
        if one.kind is Kind.DICOMDIR:
            passed[Code.NOT_AN_IMAGE].append(one.path)
        elif one.kind in (Kind.PASSED_OVER, Kind.DERIVED) and one.code and one.path not in used:
            passed[one.code].append(one.path)
    return passed


def _give_broken(
    broken: list[tuple[Found, PatientError]], proposals: Sequence[Proposal]
) -> list[tuple[str, PatientError]]:
    """Gives damaged files of proposed series to their proposals.

    Returns:
        The others, each with the PatientID where its header tells it.
    """
    of_path = {
        one.path: proposal
        for proposal in proposals
        if proposal.series
        for one in proposal.series.files
    }
    of_series = {
        (proposal.person.patient, proposal.series.first.series): proposal
        for proposal in proposals
        if proposal.series
    }
    left = []
    for one, error in broken:
        patient = normal_id(one.patient)
        proposal = of_path.get(one.path) or (
            of_series.get((patient, one.series)) if one.series else None
        )
        if proposal and not _is_copy(one, proposal):
            proposal.damaged.append(error)
        else:
            left.append((patient, error))
    return left


def _is_copy(one: Found, proposal: Proposal) -> bool:
    """Whether a damaged image lies where a sound one of its series does, which is complete without
    it then."""
    files = proposal.series.files if proposal.series else ()
    return bool(one.plane) and any(other.plane == one.plane and not other.code for other in files)


def _broken(found: Sequence[Found]) -> list[tuple[Found, PatientError]]:
    """Files that cannot be read, or lack pixels, each with its number in its folder."""
    bad = [one for one in found if one.code and one.kind in (Kind.BROKEN, Kind.CT)]
    names: dict[str, list[str]] = {one.folder: [] for one in bad}
    for one in found if bad else ():
        if one.folder in names:
            names[one.folder].append(one.path)
    return [(one, _error(one, names[one.folder].index(one.path) + 1)) for one in bad]


def _error(one: Found, number: int) -> PatientError:
    assert one.code is not None
    what = (
        "has a header that cannot be read"
        if one.kind is Kind.BROKEN
        else "has no pixels, or fewer than its header says"
    )
    return PatientError(
        one.code, f"file {number} by name in its folder {what}; copy or export it again", one.path
    )


def same_person(people: Sequence[Person]) -> dict[str, set[str]]:
    """PatientIDs that share a study, or a name and birth date: each with the others."""
    owners: dict[str | bytes, set[str]] = defaultdict(set)
    for person in people:
        marks: list[str | bytes] = [*person.studies, *person.digests]
        for mark in marks:
            if person.patient:
                owners[mark].add(person.patient)
    twins: dict[str, set[str]] = defaultdict(set)
    for patients in owners.values():
        for patient in patients if len(patients) > 1 else ():
            twins[patient] |= patients - {patient}
    return twins


def not_found(labelled: Iterable[str], present: Container[str]) -> dict[str, PatientError]:
    """Patients of a table of labels of whom there is nothing in the folders.

    Args:
        labelled: ids of the table.
        present: ids in the folders.

    Returns:
        Id -> FILE_MISSING.
    """
    message = (
        "no CT series of this patient in the folder; add it, or check "
        "that patient_id is the DICOM PatientID"
    )
    return {
        patient: PatientError(Code.FILE_MISSING, message)
        for patient in labelled
        if patient not in present
    }
