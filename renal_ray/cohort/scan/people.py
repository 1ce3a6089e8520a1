"""Files gathered to patients, their CT series and their masks."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from renal_ray.cohort.manifest import normal_id
from renal_ray.cohort.scan.identity import persons
from renal_ray.cohort.scan.names import is_called_mask
from renal_ray.cohort.scan.references import named_slices
from renal_ray.cohort.scan.series import CtSeries, common_folder, split
from renal_ray.cohort.scan.walk import Found, Kind
from renal_ray.dicom.pixels import load, pixels
from renal_ray.dicom.series import by_series
from renal_ray.imaging.sample import series_no_ct
from renal_ray.imaging.survey import no_ct
from renal_ray.problems import Code, PatientError

OF_PATIENTS = (Kind.CT, Kind.DERIVED, Kind.OBJECT, Kind.LABELS)


@dataclass(frozen=True)
class Mask:
    """A mask of a patient.

    Args:
        path: the file, or the folder of an image series.
        name: how a person calls its kind.
        found: the header of a DICOM mask; None for a volume file.
    """

    path: Path
    name: str
    found: Found | None = None

    @property
    def series(self) -> frozenset[str]:
        """UIDs of the series that it says it was drawn on."""
        return self.found.refers_to if self.found else frozenset()

    @property
    def frame_of_reference(self) -> str:
        """The frame that it says it lies in."""
        return self.found.frame_of_reference if self.found else ""


@dataclass
class Person:
    """What lies in the folders for one PatientID.

    Args:
        patient: the PatientID; empty where the files have none.
        owner: what stands in its place there: the study, or the series.
        series: candidates by key.
        derived: series that are candidates where a mask names them alone.
        masks: drawn on any of them.
        studies: StudyInstanceUIDs.
        digests: of name and birth date.
        parts: keys of the series of each person whose files have this PatientID.
        passed_over: files of this patient that are no candidates.
        no_ct: series whose values are no CT's.
    """

    patient: str
    owner: str = ""
    series: dict[str, CtSeries] = field(default_factory=dict)
    derived: dict[str, CtSeries] = field(default_factory=dict)
    masks: list[Mask] = field(default_factory=list)
    studies: set[str] = field(default_factory=set)
    digests: set[bytes] = field(default_factory=set)
    parts: list[list[str]] = field(default_factory=list)
    passed_over: list[Found] = field(default_factory=list)
    no_ct: list[PatientError] = field(default_factory=list)


def gather(found: Sequence[Found]) -> tuple[list[Person], list[PatientError]]:
    """Groups DICOM files by patient and series, and gives lost masks to whom they name.

    Args:
        found: from `walk`.

    Returns:
        Patients by PatientID; files without one by study, then folder. And MASK_UNPAIRED for each
        mask of nobody.
    """
    files: dict[str, list[Found]] = defaultdict(list)
    for one in found:
        if one.kind in OF_PATIENTS:
            files[_owner(one)].append(one)
    people = {owner: _person(owner, of_owner) for owner, of_owner in files.items()}
    for one in found:
        person = people.get(_owner(one))
        if person and one.kind in (Kind.PASSED_OVER, Kind.DERIVED):
            person.passed_over.append(one)
    unpaired = _bring_home(list(people.values()))
    there = [person for person in people.values() if person.series or person.masks or person.no_ct]
    return sorted(there, key=lambda person: (person.patient, sorted(person.series))), unpaired


def _owner(one: Found) -> str:
    patient = normal_id(one.patient)
    return (
        f"id {patient}"
        if patient
        else f"study {one.study}"
        if one.study
        else f"folder {Path(one.path).parent}"
    )


def _person(owner: str, files: list[Found]) -> Person:
    kinds: dict[Kind, list[Found]] = defaultdict(list)
    for one in files:
        kinds[one.kind].append(one)
    person = Person(normal_id(files[0].patient), owner)
    person.studies = {one.study for one in files} - {""}
    person.digests = {one.identity.digest for one in files} - {b""}
    drawn_on = frozenset().union(*(one.refers_to for one in kinds[Kind.OBJECT]))
    for key, of_series in _by_key(kinds[Kind.CT]).items():
        _take(person, key, of_series, named=of_series[0].series in drawn_on)
    derived = {
        key: of_key
        for key, of_key in _by_key(kinds[Kind.DERIVED]).items()
        if key not in person.series
    }
    person.derived = {
        part.key: part for key, of_key in derived.items() for part in split(key, of_key)
    }
    person.masks += [Mask(Path(one.path), one.modality, one) for one in kinds[Kind.OBJECT]]
    person.masks += [_mask_of_images(of_key) for of_key in _by_key(kinds[Kind.LABELS]).values()]
    if not person.patient and not person.studies:
        person.owner = f"series {sorted(person.series)}"  # a folder can move
    person.parts = [
        sorted(
            key
            for key, series in person.series.items()
            if any(one.startswith(series.series_key) for one in set(part))
        )
        for part in persons(
            (one.identity, one.series_key) for one in files if one.kind is not Kind.DERIVED
        )
    ]
    return person


def _bring_home(people: list[Person]) -> list[PatientError]:
    """Gives masks of patients without images to the one patient that they name.

    Returns:
        MASK_UNPAIRED for those without a PatientID that name nobody.
    """
    lost = [person for person in people if person.masks and not (person.series or person.derived)]
    homes = [person for person in people if person.series or person.derived]
    unpaired = []
    for person in lost:
        masks, person.masks = person.masks, []
        for mask in masks:
            if home := _home(mask, homes, nameless=not person.patient):
                home.masks.append(mask)
            elif person.patient:
                person.masks.append(mask)
            else:
                message = (
                    f"a mask ({mask.name}) without a PatientID that names no series in the "
                    "folders; enter it in the manifest beside its image"
                )
                unpaired.append(PatientError(Code.MASK_UNPAIRED, message, str(mask.path)))
    return unpaired


def _home(mask: Mask, homes: list[Person], *, nameless: bool) -> Person | None:
    assert mask.found is not None
    study, frame = mask.found.study, mask.frame_of_reference

    def files(person: Person) -> Iterator[Found]:
        return (
            one
            for series in [*person.series.values(), *person.derived.values()]
            for one in series.files
        )

    named = [person for person in homes if any(one.series in mask.series for one in files(person))]
    if not named and (slices := named_slices(mask.path)):
        named = [person for person in homes if any(one.sop in slices for one in files(person))]
    if not named and nameless and study:
        named = [person for person in homes if study in person.studies]
    if not named and nameless and frame:
        named = [
            person
            for person in homes
            if any(one.frame_of_reference == frame for one in files(person))
        ]
    return named[0] if len(named) == 1 else None


def _by_key(files: list[Found]) -> dict[str, list[Found]]:
    return {
        key: [files[place] for place in places]
        for key, places in by_series([one.series_key for one in files]).items()
    }


def _take(person: Person, key: str, files: list[Found], *, named: bool) -> None:
    """Enters a series: a candidate an acquisition, or a mask, or no CT by its values, unless a mask
    names it."""
    reason = None if named else _no_ct(files)
    if reason is None:
        person.series |= {part.key: part for part in split(key, files)}
    elif is_called_mask(f"{files[0].description} {Path(files[0].path).parent.name}"):
        person.masks.append(_mask_of_images(files))
    else:
        folder = common_folder(files)
        message = (
            f"CT series {key} ({len(files)} files) is not proposed: {reason}; if "
            "it is the mask, enter its folder in the manifest"
        )
        person.no_ct.append(PatientError(Code.NOT_CT, message, str(folder)))


def _no_ct(files: list[Found]) -> str | None:
    """Why an axial series cannot be a CT by its values: by one image, then by others."""
    whole = [one.path for one in files if not one.code and one.axial]
    if not whole:
        return None
    middle = Path(whole[len(whole) // 2])
    try:
        return series_no_ct([*map(Path, whole)]) if series_no_ct([middle]) else None
    except PatientError as error:
        if error.code is not Code.NO_RESCALE:
            return None  # for the readers, who say what is wrong with it
    try:
        return no_ct(pixels(load(middle)))
    except PatientError:
        return None


def _mask_of_images(files: list[Found]) -> Mask:
    return Mask(common_folder(files), "image series", files[0])
