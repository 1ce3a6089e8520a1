"""DICOMDIR: are the files that it names there?"""

import os
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from pydicom import dcmread

from renal_ray.dicom.headers import DICOM_FAULTS, quiet
from renal_ray.problems import Code, PatientError

LARGEST = 256 << 20  # bytes; a directory of a million files is smaller
_ADDED = re.compile(
    r"(\.dcm)?\.?(;\d+)?$"
)  # to a name of a medium: by ISO 9660 (IM1.;1), by programs that copy it


def check_dicomdir(path: Path) -> Iterator[PatientError]:
    """Compares a DICOMDIR with its folder.

    Names start at the medium's root, where the DICOMDIR belongs (PS3.10, section 8); of one that
    lies in a folder of the medium the root is above. Case, version numbers and an added ending .dcm
    do not count: media have IM1, copies of them im1, IM1.;1 or IM1.dcm.

    Args:
        path: the DICOMDIR.

    Yields:
        FILE_UNREADABLE, TOO_LARGE, PATH_OUTSIDE for names that lead out of the medium,
        DICOMDIR_INCOMPLETE with the number of absent files.
    """
    if path.stat().st_size > LARGEST:
        yield PatientError(
            Code.TOO_LARGE,
            "the DICOMDIR is larger than any directory of a medium; leave it out",
            str(path),
        )
        return
    try:
        with quiet():
            names = [
                _components(record)
                for record in dcmread(path, force=True).get("DirectoryRecordSequence") or []
            ]
    except DICOM_FAULTS:
        yield PatientError(
            Code.FILE_UNREADABLE,
            "the DICOMDIR is damaged; the folder's files were read without it",
            str(path),
        )
        return
    named = [name for name in names if name]
    absent, outside = _at_the_root(path.parent.resolve(), named)
    if outside:
        yield PatientError(
            Code.PATH_OUTSIDE,
            f"the DICOMDIR names {outside} files outside of its folder; they were not opened",
            str(path),
        )
    if absent:
        message = (
            f"{absent} of the {len(named)} files that the DICOMDIR names "
            "are not there; copy the medium again"
        )
        yield PatientError(Code.DICOMDIR_INCOMPLETE, message, str(path))


def _components(record: object) -> list[str]:
    """The folders and the file of a record, from the root on; some programs write a path, or a root
    or drive before it."""
    value = record.get("ReferencedFileID")  # type: ignore[attr-defined]
    parts = (
        []
        if value in (None, "")
        else [value]
        if isinstance(value, str)
        else [str(part) for part in value]
    )
    steps = [step.strip() for part in parts for step in re.split(r"[/\\]", part)]
    return [
        step for step in steps if step not in ("", ".") and not re.fullmatch(r"[A-Za-z]:", step)
    ]


def _at_the_root(folder: Path, named: list[list[str]]) -> tuple[int, int]:
    """How many names have no file, and how many lead out, at the medium's root: the DICOMDIR's
    folder or, where that fits better, one above it.

    One above is believed where names lead through the DICOMDIR's own folder, or where nothing is
    below that and all is there: names such as DICOM/IM1 are on every medium.
    """
    above = [
        root
        for depth, root in enumerate(folder.parents, 1)
        if any(_leads_through(name, folder.parts[-depth:]) for name in named)
    ]
    here = min(
        (_held_against(root, named) for root in (folder, *above[:1])), key=lambda counts: counts[0]
    )
    beside = _held_against(folder.parent, named) if here[0] == len(named) else here
    return beside if beside == (0, 0) else here


def _leads_through(name: list[str], folders: tuple[str, ...]) -> bool:
    return len(name) > len(folders) and [_plain(step) for step in name[: len(folders)]] == [
        _plain(step) for step in folders
    ]


def _held_against(root: Path, named: list[list[str]]) -> tuple[int, int]:
    """How many names have no file below a root, and how many lead out of it."""

    @cache
    def listing(folder: Path) -> dict[str, Path]:
        try:
            return {_plain(entry.name): entry for entry in folder.iterdir()}
        except OSError:  # no folder, or a closed one: its files count as absent
            return {}

    absent = outside = 0
    for name in named:
        if os.pardir in name:
            outside += 1
            continue
        found: Path | None = root
        for step in name:
            found = found and _entry(found, step, listing)
        outside += found is not None and not found.resolve().is_relative_to(root)
        absent += found is None or not os.path.exists(found)
    return absent, outside


def _entry(folder: Path, step: str, listing: Callable[[Path], dict[str, Path]]) -> Path | None:
    return folder / step if os.path.lexists(folder / step) else listing(folder).get(_plain(step))


def _plain(step: str) -> str:
    return _ADDED.sub("", step.casefold())
