"""The files of a folder that may be DICOM, and what packed files look like."""

import os
from pathlib import Path

PACKED = (  # first bytes of gzip, bzip2, xz, Zstandard, Zip (also empty), 7z and RAR
    *(b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"),
    *(b"PK\x03\x04", b"PK\x05\x06", b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07"),
)
TAR = (257, b"ustar")


def files_below(folder: Path) -> list[Path]:
    """All files in and below a folder, by name.

    Hidden ones - .DS_Store, ._a.dcm of macOS, .Trash - are no part of what a person sees there, and links to folders are not followed.

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
        start = file.read(TAR[0] + len(TAR[1]))
    return start.startswith(PACKED) or start[TAR[0] :] == TAR[1]
