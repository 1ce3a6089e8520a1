"""The files of a folder that may be DICOM, and what packed files look like."""

import os
from pathlib import Path

from renal_ray.problems import Code, PatientError

PACKED = (  # first bytes of gzip, bzip2, xz, Zstandard, Zip (also empty), 7z and RAR
    *(b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"),
    *(b"PK\x03\x04", b"PK\x05\x06", b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07"),
)
TAR = (257, b"ustar")
PACKED_MESSAGE = (
    "is packed or an archive (.gz, .zip, .7z, .tar), which is not "
    "looked into; unpack it and name what was in it"
)


def files_below(folder: Path) -> list[Path]:
    """All files in and below a folder, by name.

    Hidden ones - .DS_Store, ._a.dcm of macOS, .Trash - are no part of what a person sees there, and
    links to folders are not followed.

    Args:
        folder: a folder, or one file.
    """
    if folder.is_file():
        return [folder]
    found = []
    for base, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(base, name) for name in files if not name.startswith(".")]
    return sorted(path for path in found if path.is_file())


def is_packed(path: Path) -> bool:
    """Whether a file is a packed one or an archive, by its first bytes."""
    with path.open("rb") as file:
        return begins_packed(file.read(TAR[0] + len(TAR[1])))


def begins_packed(start: bytes) -> bool:
    """Whether these are the first bytes of a packed file or an archive."""
    return start.startswith(PACKED) or start[TAR[0] : TAR[0] + len(TAR[1])] == TAR[1]


def require_unpacked(path: Path) -> None:
    """Refuses packed files and archives, for what is in them is not looked at.

    Args:
        path: a file, or a folder in which there may be some.

    Raises:
        PatientError: FILE_UNREADABLE.
    """
    if any(is_packed(one) for one in files_below(path)):
        raise PatientError(
            Code.FILE_UNREADABLE, f"{'it' if path.is_file() else 'what it holds'} {PACKED_MESSAGE}"
        )
