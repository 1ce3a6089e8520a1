"""Progress of long work: a bar on a terminal, a plain line now and then elsewhere."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

PLAIN_EVERY_S = 10.0

Progress = Callable[[int, int], None]  # done, in all


@contextmanager
def progress(title: str) -> Iterator[Progress]:
    """Shows how far a piece of work is.

    Args:
        title: what is being done.

    Yields:
        A function to call with what is done and what there is in all.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    if not Console().is_terminal:
        yield _Plain(title)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as bars:
        task = bars.add_task(title, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


class _Plain:
    def __init__(self, title: str) -> None:
        self._title = title
        self._next = monotonic() + PLAIN_EVERY_S

    def __call__(self, done: int, total: int) -> None:
        if done == total or monotonic() >= self._next:
            self._next = monotonic() + PLAIN_EVERY_S
            print(f"{self._title}: {done} of {total}", flush=True)
