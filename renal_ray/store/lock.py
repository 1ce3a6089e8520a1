"""One run at a time in a work directory."""

import _thread
import fcntl
import json
import os
import platform
import signal
import sys
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from renal_ray.problems import StudyError
from renal_ray.store.place import Place

NAME = ".lock"
GUARD = ".lock-guard"  # held for the moment in which the lock is looked at and taken
CLAIMS = ".claims"  # on object storage: an object for each run that wants the directory
BEAT_S = 30.0
INTERRUPTED = 130  # exit code
# Without a beat for so long, a run on another machine counts as gone; clocks of a cluster differ by
# less.
DEAD_S = 600.0

Holder = dict[str, Any]  # token, host, kernel, pid, after_boot_s, since, seen


@contextmanager
def held(work: Place) -> Iterator[None]:
    """Holds the work directory for this process; a lock whose run is gone is taken over.

    The holder renews its lock. One whose process this process could see is gone when its process
    is; one on another machine, or in another container, when it has not renewed for ten minutes. A
    run that finds its own lock taken over stops.

    Args:
        work: the study's work directory.

    Raises:
        StudyError: another run holds it; the message names it.
    """
    now = _now()
    mine = {"token": uuid.uuid4().hex, **this_process(), "since": now, "seen": now}
    name = NAME if work.is_local else f"{CLAIMS}/{mine['token']}.json"
    try:
        _take(work, mine) if work.is_local else _claim(work, name, mine)
    except OSError as error:
        raise StudyError(
            f"work: {work.shown()} cannot be written "
            f"({error.strerror or error}); give a directory that can"
        ) from None
    done = threading.Event()
    beat = threading.Thread(target=_renew, args=(work, name, mine, done), daemon=True)
    beat.start()
    try:
        yield
    finally:
        done.set()
        beat.join()
        if _is_mine(work, name, mine):
            work.remove(name)


def is_held(work: Place) -> bool:
    """Whether a run holds the work directory."""
    return any(_lives(holder) for holder in _holders(work))


def _take(work: Place, mine: Holder) -> None:
    """On a file system: creates the lock, or replaces that of a run that is gone."""
    work.path().mkdir(parents=True, exist_ok=True)
    with work.path(GUARD).open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        for holder in _holders(work):
            _refuse(work, holder, NAME)
        work.write(NAME, json.dumps(mine).encode())


def _claim(work: Place, name: str, mine: Holder) -> None:
    """On object storage, which knows no exclusive creation: whoever sees another live claim beside
    its own withdraws, so that never two go on."""
    work.write(name, json.dumps(mine).encode())
    try:
        for holder in _holders(work):
            if holder["token"] != mine["token"]:
                _refuse(work, holder, f"{CLAIMS}/{holder['token']}.json")
    except StudyError:
        work.remove(name)
        raise


def _renew(work: Place, name: str, mine: Holder, done: threading.Event) -> None:
    while not done.wait(BEAT_S):
        try:
            if not _is_mine(work, name, mine):
                print(
                    f"renal-ray: {work.shown()} was taken over by another run, because "
                    "this one had not been seen for long; it stops",
                    file=sys.stderr,
                )
                _stop()
                return
            work.write(name, json.dumps(mine | {"seen": _now()}).encode())
        except OSError:
            continue  # a disk that is full or away for a while: others wait ten minutes


def _stop() -> None:
    if callable(signal.getsignal(signal.SIGINT)):
        _thread.interrupt_main()
    else:  # started by nohup or as a background job, which do not hear it
        os._exit(INTERRUPTED)


def _holders(work: Place) -> list[Holder]:
    names = [NAME] if work.is_local else [f"{CLAIMS}/{entry}" for entry in work.entries(CLAIMS)]
    found = [_read(work, name) for name in names]
    return [holder for holder in found if holder is not None]


def _read(work: Place, name: str) -> Holder | None:
    """A lock's holder; None where there is none, and where the lock was cut off while it was
    written."""
    try:
        holder: Holder = work.read_json(name)
    except (FileNotFoundError, ValueError):
        return None
    return holder


def _is_mine(work: Place, name: str, mine: Holder) -> bool:
    holder = _read(work, name)
    return holder is not None and holder["token"] == mine["token"]


def _refuse(work: Place, holder: Holder, name: str) -> None:
    if not _lives(holder):
        work.remove(name)
        return
    raise StudyError(
        f"work: {work.shown()} is in use by process {holder['pid']} on "
        f"{holder['host']} since {holder['since']}, "
        f"last seen {holder['seen']}; wait for it, or delete "
        f"{work.shown(name)} when that run is gone"
    )


def _lives(holder: Holder) -> bool:
    alive = is_alive(holder)
    if alive is None:
        return (datetime.now(UTC) - datetime.fromisoformat(holder["seen"])).total_seconds() < DEAD_S
    return alive


def this_process() -> dict[str, Any]:
    """What `is_alive` knows this process by: host, kernel, pid, after_boot_s."""
    return {
        "host": platform.node(),
        "kernel": _kernel(),
        "pid": os.getpid(),
        "after_boot_s": _after_boot_s(os.getpid()),
    }


def is_alive(process: Mapping[str, Any]) -> bool | None:
    """Whether a process, described by `this_process`, still runs; None where that cannot be seen
    from here: of another machine, boot, container or version of this program."""
    here = (platform.node(), _kernel())
    if None in (*here, process.get("after_boot_s")):
        return None
    if (process["host"], process.get("kernel")) != here:
        return None
    try:
        # Its number may be another process's by now.
        return bool(_after_boot_s(process["pid"]) == process["after_boot_s"])
    except psutil.NoSuchProcess:
        return False


def _after_boot_s(pid: int) -> float:
    """When a process began, counted from the machine's boot: the time of day is set now and then,
    and takes the times of all processes with it.

    Raises:
        psutil.NoSuchProcess: there is none of that number.
    """
    booted = float(psutil.boot_time())
    return round(float(psutil.Process(pid).create_time()) - booted, 2)


def _kernel() -> list[str] | None:
    """What numbers processes here: the boot of the machine and the namespace of process numbers;
    None where Linux does not say it. Containers may share a host's name, and two of them have
    different processes of one number."""
    try:
        return [
            Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip(),
            str(Path("/proc/self/ns/pid").readlink()),
        ]
    except OSError:  # other systems have no such namespaces either
        return None if sys.platform == "linux" else []


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
