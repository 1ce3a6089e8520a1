"""One run at a time in a work directory."""

import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from renal_ray.problems import StudyError
from renal_ray.store.place import Place

NAME = ".lock"


@contextmanager
def held(work: Place) -> Iterator[None]:
    """Holds the work directory for this process; a lock whose process is gone is taken over. Object storage is not locked.

    Args:
        work: the study's work directory.

    Raises:
        StudyError: another run holds it; the message names it.
    """
    if not work.is_local:
        yield
        return
    path = work.path(NAME)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            try:
                descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
                break
            except FileExistsError:
                _refuse_living(work)
                path.unlink(missing_ok=True)
    except OSError as error:
        raise StudyError(f"work: {work.uri} cannot be written ({error.strerror or error}); give a directory that can") from None
    mine = {"host": platform.node(), "pid": os.getpid(), "since": datetime.now(UTC).isoformat(timespec="seconds")}
    with os.fdopen(descriptor, "w") as file:
        json.dump(mine, file)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def is_held(work: Place) -> bool:
    """Whether a run holds the work directory; one on another machine is believed."""
    try:
        holder = work.read_json(NAME)
    except (FileNotFoundError, ValueError):
        return False
    return holder["host"] != platform.node() or _alive(holder["pid"])


def _refuse_living(work: Place) -> None:
    try:
        holder = work.read_json(NAME)
    except (FileNotFoundError, ValueError):  # given back meanwhile, or cut off while it was written
        return
    if holder["host"] == platform.node() and not _alive(holder["pid"]):
        return
    raise StudyError(
        f"work: {work.uri} is in use by process {holder['pid']} on {holder['host']} since {holder['since']}; "
        f"wait for it, or delete {work.uri}/{NAME} when that run is gone"
    )


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
