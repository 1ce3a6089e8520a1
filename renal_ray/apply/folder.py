"""Folders that appear whole or not at all."""

import os
import shutil
import tempfile
import uuid
from collections.abc import Mapping
from pathlib import Path

from renal_ray.problems import StudyError, reason
from renal_ray.store.place import TEMPORARY


def write_folder(target: Path, files: Mapping[str, bytes], *, marker: str) -> None:
    """Writes a folder under another name and renames it; one of the same kind that stands there is
    replaced.

    Args:
        target: the folder.
        files: content by name; a slash leads into a folder below.
        marker: a file that every folder of this kind has: one without it is somebody else's.

    Raises:
        StudyError: something else stands there.
    """
    require_ours(target, marker=marker)
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh, old = (target.parent / f"{TEMPORARY}{uuid.uuid4().hex}" for _ in range(2))
    try:
        for name, data in files.items():
            path = fresh / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        if target.exists():
            target.rename(old)
        fresh.rename(target)
    finally:
        for left in (fresh, old):
            shutil.rmtree(left, ignore_errors=True)


def require_ours(target: Path, *, marker: str) -> None:
    """Makes sure that a folder may be replaced.

    Raises:
        StudyError: something else stands there.
    """
    if (
        target.exists()
        and not (target / marker).is_file()
        and not (target.is_dir() and not any(target.iterdir()))
    ):
        raise StudyError(
            f"{target} is there already and holds no {marker}: it was "
            "written by something else; give another folder"
        )


def require_writable(folder: Path) -> None:
    """Makes a folder and a passing file in it, before any work.

    Raises:
        StudyError: it cannot be made, or not written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise StudyError(
            f"{folder} cannot be written to ({reason(error)}); give another folder by -o"
        ) from None


def holds(target: Path, files: Mapping[str, bytes], names: set[str]) -> bool:
    """Whether a folder has exactly these files and no others.

    Args:
        target: the folder.
        files: whose bytes are compared.
        names: of all files that it has to have.
    """
    if not target.is_dir() or {path.name for path in target.iterdir()} != names:
        return False
    return all((target / name).read_bytes() == data for name, data in files.items())
