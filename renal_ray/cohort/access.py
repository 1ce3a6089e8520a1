"""Whether a file or folder that somebody named can be opened at all."""

import os
from pathlib import Path

from renal_ray.problems import Code


def trouble(path: Path) -> tuple[Code, str] | None:
    """Why a file or folder cannot be opened; a path that no file system takes, or behind a closed folder, counts as absent.

    Args:
        path: any path, as a table or a study file names it.

    Returns:
        FILE_MISSING or FILE_UNREADABLE with a message; None when it can be opened.
    """
    if not os.path.exists(path):  # unlike Path.exists of Python 3.11, False where a name is too long or a folder above is closed
        return Code.FILE_MISSING, "there is no such file or folder, or a folder above it is closed; correct the path"
    if not os.access(path, os.R_OK | os.X_OK if os.path.isdir(path) else os.R_OK):
        return Code.FILE_UNREADABLE, "the file or folder may not be read; change its permissions"
    return None
