"""DICOMDIR: are the files that it names there?"""

from collections.abc import Iterator
from pathlib import Path

from pydicom import dcmread

from renal_ray.dicom.headers import DICOM_FAULTS, quiet
from renal_ray.problems import Code, PatientError

LARGEST = 256 << 20  # bytes; a directory of a million files is smaller


def check_dicomdir(path: Path) -> Iterator[PatientError]:
    """Compares a DICOMDIR with its folder.

    Args:
        path: the DICOMDIR.

    Yields:
        FILE_UNREADABLE, TOO_LARGE, PATH_OUTSIDE for names that lead out of the folder, DICOMDIR_INCOMPLETE with the number of absent files.
    """
    if path.stat().st_size > LARGEST:
        yield PatientError(Code.TOO_LARGE, "the DICOMDIR is larger than any directory of a medium; leave it out", str(path))
        return
    try:
        with quiet():
            names = [_components(record) for record in dcmread(path, force=True).get("DirectoryRecordSequence") or []]
    except DICOM_FAULTS:
        yield PatientError(Code.FILE_UNREADABLE, "the DICOMDIR is damaged; the folder's files were read without it", str(path))
        return
    root = path.parent.resolve()
    named = [root.joinpath(*name) for name in names if name]
    outside = [name for name in named if not name.resolve().is_relative_to(root)]
    absent = [name for name in named if name not in outside and not name.exists()]
    if outside:
        yield PatientError(Code.PATH_OUTSIDE, f"the DICOMDIR names {len(outside)} files outside of its folder; they were not opened", str(path))
    if absent:
        message = f"{len(absent)} of the {len(named)} files that the DICOMDIR names are not there; copy the medium again"
        yield PatientError(Code.DICOMDIR_INCOMPLETE, message, str(path))


def _components(record: object) -> list[str]:
    value = record.get("ReferencedFileID")  # type: ignore[attr-defined]
    return [] if value in (None, "") else [value] if isinstance(value, str) else [str(part) for part in value]
