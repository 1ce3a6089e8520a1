"""Files gathered to patients, their CT series and their masks."""

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from renal_ray.cohort.scan.walk import Found, Kind

MASK_WORDS = re.compile(r"(?<![a-z])(masks?|seg(mentation)?s?|labels?|labelmap|rois?|lesions?|tumou?rs?|gtv)(?![a-z])", re.IGNORECASE)
LABEL_BITS = 8  # a series of masks has few values


@dataclass
class CtSeries:
    """One CT series of a patient.

    Args:
        key: names it in a manifest.
        files: its files.
    """

    key: str
    files: list[Found] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        """The folder that holds all files of the series."""
        return Path(os.path.commonpath([Path(one.path).parent for one in self.files]))

    @property
    def first(self) -> Found:
        """One of its files: they agree in what is asked of the series."""
        return self.files[0]


@dataclass(frozen=True)
class Mask:
    """A mask of a patient.

    Args:
        path: the file, or the folder of an image series.
        series: UIDs of the series that it says it was drawn on.
        frame_of_reference: that it says it lies in.
        name: how a person calls its kind.
    """

    path: Path
    series: frozenset[str]
    frame_of_reference: str
    name: str


@dataclass
class Person:
    """What lies in the folders for one PatientID."""

    patient: str
    series: dict[str, CtSeries] = field(default_factory=dict)
    masks: list[Mask] = field(default_factory=list)
    studies: set[str] = field(default_factory=set)
    digests: set[str] = field(default_factory=set)


def gather(found: Sequence[Found]) -> tuple[list[Person], list[Found]]:
    """Groups DICOM files by patient and series, and gives every volume file that is called a mask, and lies beside
    no volume that it could be drawn on, to the patient in whose folder it lies.

    Args:
        found: from `walk`.

    Returns:
        Patients by PatientID - files without one by study, then folder - and the volume files that belong to no DICOM.
    """
    people: dict[str, Person] = {}
    images: dict[tuple[str, str], list[Found]] = defaultdict(list)
    for one in found:
        if one.kind not in (Kind.CT, Kind.OBJECT, Kind.IMAGE):
            continue
        person = people.setdefault(_owner(one), Person(one.patient))
        person.studies |= {one.study} - {""}
        person.digests |= {one.person} - {""}
        if one.kind is Kind.OBJECT:
            person.masks.append(Mask(Path(one.path), one.refers_to, one.frame_of_reference, one.modality))
        elif one.kind is Kind.IMAGE or (one.bits and one.bits <= LABEL_BITS and MASK_WORDS.search(one.description)):
            images[_owner(one), one.series_key].append(one)
        else:
            person.series.setdefault(one.series_key, CtSeries(one.series_key)).files.append(one)
    for (owner, key), files in images.items():
        if any(MASK_WORDS.search(one.description) for one in files):
            people[owner].masks.append(Mask(CtSeries(key, files).folder, frozenset(), files[0].frame_of_reference, "image series"))
    volumes = [one for one in found if one.kind is Kind.VOLUME]
    with_image = {Path(one.path).parent for one in volumes if not is_mask_name(Path(one.path))}
    left = [one for one in volumes if Path(one.path).parent in with_image or not _give(one, people.values())]
    return sorted(people.values(), key=lambda person: (person.patient, sorted(person.series))), left


def _owner(one: Found) -> str:
    return f"id {one.patient}" if one.patient else f"study {one.study}" if one.study else f"folder {Path(one.path).parent}"


def _give(volume: Found, people: Iterable[Person]) -> bool:
    """Gives a mask in a volume file to the one patient whose series lies nearest in the tree."""
    path = Path(volume.path)
    if not is_mask_name(path):
        return False
    near: dict[int, list[Person]] = defaultdict(list)
    for person in people:
        depths = [len(Path(os.path.commonpath([str(one.folder), str(path.parent)])).parts) for one in person.series.values() if one.files]
        if depths:
            near[max(depths)].append(person)
    nearest = near[max(near)] if near else []
    if len(nearest) != 1:
        return False
    nearest[0].masks.append(Mask(path, frozenset(), "", "volume file"))
    return True


def is_mask_name(path: Path) -> bool:
    """Whether a volume file is called a mask."""
    return bool(MASK_WORDS.search(stem(path)) or MASK_WORDS.search(path.parent.name))


def stem(path: Path) -> str:
    """A file's name without its ending, underscores as spaces."""
    return re.sub(r"\.(nii|nii\.gz|nrrd|nhdr|mha|mhd)$", "", path.name, flags=re.IGNORECASE).replace("_", " ")
