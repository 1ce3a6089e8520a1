"""Event files for TensorBoard, written by the trial's process: it alone sees every epoch."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from math import isfinite
from pathlib import Path
from time import monotonic, time
from typing import TYPE_CHECKING

from renal_ray.store.place import Place
from renal_ray.trial.epoch import Epoch
from renal_ray.trial.spec import TrialSpec

if TYPE_CHECKING:
    from tensorboardX.event_file_writer import EventsWriter

FOLDER = "tensorboard"
FLUSH_EVERY_S = 5.0
COPY_EVERY_S = 60.0  # to object storage, where a file cannot grow


class EventLog:
    """The scalars of one trial: loss, accuracy, val_loss, val_accuracy, val_auc and
    images_per_second, an epoch a step.

    In a local work directory the file grows where TensorBoard reads it; for a remote one it grows
    on this machine and is copied. What goes wrong with it ends the log, not the trial.

    Args:
        work: the study's work directory.
        spec: the trial.
        scratch: directory on this machine.
        say: told in one sentence when the log ends early.
    """

    def __init__(
        self, work: Place, spec: TrialSpec, scratch: Path, say: Callable[[str], None]
    ) -> None:
        self._work = work
        self._name = f"{FOLDER}/{spec.trial_id}"
        self._folder = work.path(self._name) if work.is_local else scratch
        self._writer: EventsWriter | None = None
        self._flushed = self._copied = monotonic()
        self._say = say
        self._broken = False

    def add(self, epoch: Epoch, images_per_second: float) -> None:
        """Adds an epoch; the first one opens the file."""
        if self._broken:
            return
        try:
            self._add(epoch, images_per_second)
        except OSError as error:
            self._broken = True
            self._say(
                f"TensorBoard's files in {self._work.uri}/{FOLDER} cannot be written "
                f"({error.strerror or error}); the trials go on without them"
            )

    def close(self) -> None:
        """Writes what is left."""
        if self._writer is not None and not self._broken:
            with contextlib.suppress(OSError):  # the trial is over; it loses the log's last seconds
                self._copy()
                self._writer.close()

    def _add(self, epoch: Epoch, images_per_second: float) -> None:
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.proto.summary_pb2 import Summary

        if self._writer is None:
            self._writer = self._open(epoch.epoch)
        scalars = {
            name: getattr(epoch, name)
            for name in ("loss", "accuracy", "val_loss", "val_accuracy", "val_auc")
        }
        scalars["images_per_second"] = images_per_second
        values = [
            Summary.Value(tag=name, simple_value=value)
            for name, value in scalars.items()
            if value is not None and isfinite(value)
        ]
        self._writer.write_event(
            Event(wall_time=time(), step=epoch.epoch, summary=Summary(value=values))
        )
        now = monotonic()
        if now - self._flushed >= FLUSH_EVERY_S:
            self._writer.flush()
            self._flushed = now
        if now - self._copied >= COPY_EVERY_S:
            self._copy()
            self._copied = now

    def _open(self, first: int) -> "EventsWriter":
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        if first == 1:
            self._work.remove(self._name)  # an earlier attempt's
        self._folder.mkdir(parents=True, exist_ok=True)
        writer = EventsWriter(str(self._folder / "events"), f".from-{first}")
        # TensorBoard forgets what an earlier attempt told of this epoch and of later ones.
        writer.write_event(
            Event(wall_time=time(), step=first, session_log=SessionLog(status=SessionLog.START))
        )
        writer.flush()
        return writer

    def _copy(self) -> None:
        if not self._work.is_local and self._writer is not None:
            self._writer.flush()
            for file in self._folder.iterdir():
                self._work.write(f"{self._name}/{file.name}", file.read_bytes())


@contextlib.contextmanager
def event_log(
    work: Place, spec: TrialSpec, *, wanted: bool, say: Callable[[str], None]
) -> Iterator[EventLog | None]:
    """The log of one trial where the study wants it, None where not; closed with the context."""
    if not wanted:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="renal-ray-events-") as scratch:
        log = EventLog(work, spec, Path(scratch), say)
        try:
            yield log
        finally:
            log.close()
