"""ROIs of an RTSTRUCT: which of them are the lesion, and what of them encloses an area."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
from pydicom import Dataset

from renal_ray.imaging.images.source import References
from renal_ray.imaging.masks.names import folded_name, plain_name
from renal_ray.problems import Code, PatientError

# Types that are areas, and whether they toggle (PS3.3 C.8.8.6.1; the second is OsiriX's).
AREAS = {"CLOSEDPLANAR": False, "INTERPOLATEDPLANAR": False, "CLOSEDPLANARXOR": True}
NO_AREAS = {
    "POINT": "POINT",
    "OPENPLANAR": "OPEN_PLANAR",
    "OPENNONPLANAR": "OPEN_NONPLANAR",
    "": "of no type",
}


@dataclass(frozen=True)
class Contour:
    """One contour of an ROI.

    Args:
        points: (n, 3) in mm, DICOM's axes.
        sources: SOPInstanceUIDs of the slices that it says it was drawn on.
        toggles: its inside is exchanged with what the others of its plane enclose.
        no_area: why it encloses no area, in words; empty where it does.
    """

    points: np.ndarray
    sources: frozenset[str]
    toggles: bool = False
    no_area: str = ""


def lesion_rois(dataset: Dataset, wanted: list[str] | None) -> dict[int, str]:
    """Number and name of the lesion's ROIs.

    Names count without regard to case, blanks and Unicode form. A name as it stands comes before
    the same in other letters, and that before a pattern. Also an ROI without contours is one of
    several: that the only one which is drawn were the lesion would be a guess.

    Args:
        dataset: an RTSTRUCT.
        wanted: names or patterns; the only ROI when None.

    Raises:
        PatientError: LESION_UNNAMED where several could be meant, MASK_EMPTY where none is there,
            FILE_UNREADABLE where one number has several names.
    """
    names = _names(dataset)
    if not names:
        raise PatientError(
            Code.MASK_EMPTY, "the RTSTRUCT has no ROI; use the one in which the lesion was drawn"
        )
    if wanted is None:
        if len(names) > 1:
            raise PatientError(
                Code.LESION_UNNAMED,
                f"the RTSTRUCT has the ROIs {_listed(names.values())}; name "
                "the lesion's in cohort.lesion_rois",
            )
        return names
    chosen = {number for name in wanted for number in _called(name.strip(), names, dataset)}
    if not chosen:
        raise PatientError(
            Code.MASK_EMPTY,
            f"the RTSTRUCT has the ROIs {_listed(names.values())}, none of "
            f"cohort.lesion_rois {wanted}; name the lesion's there",
        )
    return {number: name for number, name in names.items() if number in chosen}


def _names(dataset: Dataset) -> dict[int, str]:
    """Number and name of all ROIs; contours know their ROI by its number alone."""
    names: dict[int, str] = {}
    for item in dataset.get("StructureSetROISequence") or []:
        number, name = int(item.ROINumber), str(item.get("ROIName") or "").strip()
        if folded_name(names.setdefault(number, name)) != folded_name(name):
            raise PatientError(
                Code.FILE_UNREADABLE,
                f"the RTSTRUCT has two ROIs of one number, {_listed([names[number], name])}, "
                "so whose contours are whose is unknown; export it again",
            )
    return names


def _called(wanted: str, names: dict[int, str], dataset: Dataset) -> list[int]:
    """Numbers of the ROIs that one name or pattern means."""
    forms: tuple[Callable[[str], str], ...] = (str, plain_name, folded_name)
    found = (
        [number for number, name in names.items() if form(name) == form(wanted)] for form in forms
    )
    exact = next(filter(None, found), [])
    if len(exact) > 1:
        drawn = {
            int(roi.ReferencedROINumber)
            for roi in dataset.get("ROIContourSequence") or []
            if roi.get("ContourSequence")
        }
        exact = [number for number in exact if number in drawn] or exact[:1]
    if len(exact) > 1:
        raise PatientError(
            Code.LESION_UNNAMED,
            f"{len(exact)} ROIs of the RTSTRUCT are called {wanted}; "
            "where all of them are the lesion "
            f"give a pattern in cohort.lesion_rois ({wanted}*), else keep one of them in the file",
        )
    return exact or [
        number
        for number, name in names.items()
        if fnmatchcase(folded_name(name), folded_name(wanted))
    ]


def roi_references(dataset: Dataset, number: int, sources: frozenset[str]) -> Iterator[References]:
    """What an ROI was drawn on, for each frame of reference that could be its own.

    Its own word counts. Where it has none, all those of the file could be meant. What other ROIs
    or other frames name says nothing about it.

    Args:
        dataset: an RTSTRUCT.
        number: of the ROI.
        sources: SOPInstanceUIDs that its contours name; else those listed with the frame count.
    """
    listed = dataset.get("ReferencedFrameOfReferenceSequence") or []
    items = [item for item in dataset.StructureSetROISequence if int(item.ROINumber) == number]
    own = {str(item.get("ReferencedFrameOfReferenceUID") or "") for item in items} - {""}
    for frame in sorted(own or {str(item.get("FrameOfReferenceUID") or "") for item in listed}):
        its = [
            item for item in listed if str(item.get("FrameOfReferenceUID") or "") == frame
        ] or listed
        images = sources or frozenset(uid for one in _series(its) for uid in _sources(one))
        yield References(_uids(listed), frame, images)


def contours_of(dataset: Dataset, number: int) -> Iterator[Contour]:
    """The contours of an ROI.

    Args:
        dataset: an RTSTRUCT.
        number: of the ROI.

    Raises:
        PatientError: FILE_UNREADABLE where coordinates are no points in space.
    """
    for roi in dataset.get("ROIContourSequence") or []:
        for contour in (
            (roi.get("ContourSequence") or []) if int(roi.ReferencedROINumber) == number else []
        ):
            points = _points(contour)
            kind = "".join(
                str(contour.get("ContourGeometricType") or "").upper().replace("_", " ").split()
            )
            no_area = "" if kind in AREAS else NO_AREAS.get(kind, "of an unknown type")
            if not no_area and len(np.unique(points, axis=0)) < 3:
                no_area = "of fewer than 3 points"
            yield Contour(points, frozenset(_sources(contour)), AREAS.get(kind, False), no_area)


def _points(contour: Dataset) -> np.ndarray:
    try:
        data = contour.get("ContourData")
        points = np.array([] if data is None else data, float).reshape(-1)
    except ValueError:
        raise PatientError(
            Code.FILE_UNREADABLE,
            "a contour of the RTSTRUCT has coordinates that are no numbers (DICOM "
            "has decimal points, not commas); export it again",
        ) from None
    if len(points) % 3 or not np.isfinite(points).all():
        raise PatientError(
            Code.FILE_UNREADABLE,
            "a contour of the RTSTRUCT has coordinates that are no "
            "points in space; export it again",
        )
    return points.reshape(-1, 3)


def _sources(item: Dataset) -> Iterator[str]:
    for image in item.get("ContourImageSequence") or []:
        if uid := str(image.get("ReferencedSOPInstanceUID") or ""):
            yield uid


def rtstruct_references(dataset: Dataset) -> References:
    """What an RTSTRUCT was drawn on; its images are those that contours name, or else the listed
    ones.

    Args:
        dataset: an RTSTRUCT.
    """
    frames = dataset.get("ReferencedFrameOfReferenceSequence") or []
    series = _series(frames)
    places = {str(frame.get("FrameOfReferenceUID") or "") for frame in frames} - {""}
    contours = [
        contour
        for roi in dataset.get("ROIContourSequence") or []
        for contour in roi.get("ContourSequence") or []
    ]
    images = {uid for contour in contours for uid in _sources(contour)} or {
        uid for item in series for uid in _sources(item)
    }
    return References(_uids(frames), places.pop() if len(places) == 1 else "", frozenset(images))


def _series(frames: Iterable[Dataset]) -> list[Dataset]:
    """The items of the series that are listed with frames of reference."""
    studies = [study for frame in frames for study in frame.get("RTReferencedStudySequence") or []]
    return [item for study in studies for item in study.get("RTReferencedSeriesSequence") or []]


def _uids(frames: Iterable[Dataset]) -> frozenset[str]:
    """SeriesInstanceUIDs that are listed with frames of reference."""
    return frozenset(str(item.get("SeriesInstanceUID") or "") for item in _series(frames)) - {""}


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(name or "(without a name)" for name in names))
