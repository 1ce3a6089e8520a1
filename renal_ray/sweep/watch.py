"""A driver whose cluster's head is gone ends with a sentence; left alone, Ray would abort it with a
stack trace, or it would wait for ever."""

import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LOOK_S = 3.0
PATIENCE_S = 40.0  # Ray itself gives up after sixty seconds
GONE = 1  # exit code: not all of the study is done


@contextmanager
def watched(address: str | None) -> Iterator[None]:
    """Ends this process when nothing has answered at the head's address for a while. What is
    finished is on disk; nothing else is kept.

    Args:
        address: host:port of the head; None where Ray's client watches its connection itself.
    """
    if address is None:
        yield
        return
    over = threading.Event()
    thread = threading.Thread(target=_watch, args=(address, over, _end), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _watch(address: str, over: threading.Event, end: Callable[[str], None]) -> None:
    silent = 0.0
    while not over.wait(LOOK_S):
        silent = 0.0 if _answers(address) else silent + LOOK_S
        if silent >= PATIENCE_S:
            end(address)
            return


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=LOOK_S).close()
    except OSError:
        return False
    return True


def _end(address: str) -> None:
    print(
        "\nrenal-ray: the Ray cluster is gone: nothing has answered "
        f"at {address} for {PATIENCE_S:.0f} s; "
        "what was finished is kept, start the cluster and then the same command again",
        file=sys.stderr,
        flush=True,
    )
    # Ray's own threads would hang in every other way to end; the lock of a dead process is taken
    # over.
    os._exit(GONE)
