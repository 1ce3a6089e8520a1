"""The slices that a mask object says it was drawn on."""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

from pydicom import Dataset, dcmread

from renal_ray.cohort.scan.walk import sop_digest
from renal_ray.dicom.headers import DICOM_FAULTS, quiet
from renal_ray.dicom.limits import require_bounded_inflation
from renal_ray.problems import PatientError

GROUPS = ["SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"]
CONTOURS = ["ROIContourSequence", "ReferencedFrameOfReferenceSequence"]


@lru_cache(maxsize=64)
def named_slices(path: Path) -> frozenset[bytes]:
    """Digests of the SOPInstanceUIDs of the images that a SEG or RTSTRUCT was drawn on.

    Args:
        path: SEG (DerivationImageSequence, PS3.3 C.7.6.16.2.6; SourceImageSequence) or RTSTRUCT
            (ContourImageSequence, C.8.8.6, C.8.8.5).

    Returns:
        None of them where it names none, or cannot be read: what is wrong with it is for its reader
            to say.
    """
    try:
        require_bounded_inflation(path, where="the mask")
        with quiet():
            dataset = dcmread(
                path,
                force=True,
                stop_before_pixels=True,
                specific_tags=[
                    *GROUPS,
                    *CONTOURS,
                    "ReferencedSeriesSequence",
                    "SourceImageSequence",
                ],
            )
            return frozenset(sop_digest(str(uid)) for uid in _named(dataset)) - {b""}
    except (*DICOM_FAULTS, PatientError):
        return frozenset()


def _named(dataset: Dataset) -> Iterator[str]:
    yield from _uids(_items(dataset, "ReferencedSeriesSequence", "ReferencedInstanceSequence"))
    yield from _uids(_items(dataset, "SourceImageSequence"))
    for groups in GROUPS:
        yield from _uids(_items(dataset, groups, "DerivationImageSequence", "SourceImageSequence"))
    yield from _uids(
        _items(dataset, "ROIContourSequence", "ContourSequence", "ContourImageSequence")
    )
    frames = (
        "ReferencedFrameOfReferenceSequence",
        "RTReferencedStudySequence",
        "RTReferencedSeriesSequence",
        "ContourImageSequence",
    )
    yield from _uids(_items(dataset, *frames))


def _items(dataset: Dataset, *sequences: str) -> Iterator[Dataset]:
    for item in dataset.get(sequences[0]) or []:
        if len(sequences) > 1:
            yield from _items(item, *sequences[1:])
        else:
            yield item


def _uids(items: Iterable[Dataset]) -> Iterator[str]:
    return (str(item.get("ReferencedSOPInstanceUID") or "") for item in items)
