"""Folders that a local Ray leaves in the temporary directory when its driver is killed."""

import json
import os
import shutil
import tempfile
from pathlib import Path

from renal_ray.store.lock import is_alive, this_process

MARK = "renal-ray.json"  # which process started the session


def ray_folder() -> Path:
    """Where a local Ray keeps a folder for each of its sessions."""
    return Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()) / "ray"


def mark_session(folder: Path) -> None:
    """Writes into a Ray session's folder that this process started it.

    Args:
        folder: the session's.
    """
    (folder / MARK).write_text(json.dumps(this_process()), encoding="utf-8")


def remove_sessions_of_the_dead() -> None:
    """Removes the session folders of drivers of ours that do not run any more; those of other
    programs, machines and containers are left alone."""
    for mark in ray_folder().glob(f"session_*/{MARK}"):
        try:
            gone = (
                not mark.parent.is_symlink()
                and is_alive(json.loads(mark.read_text(encoding="utf-8"))) is False
            )
        except (
            OSError,
            ValueError,
            KeyError,
            TypeError,
        ):  # another user's, or cut off: not known to be ours
            continue
        if gone:
            shutil.rmtree(mark.parent, ignore_errors=True)
