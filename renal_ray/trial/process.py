"""A process that lives for many trials: one framework import and one compilation per kind, thrown
away when it has grown too large.

Frameworks give memory back, a card's above all, only when their process ends, and a worker of Tune
cannot be replaced between two trials: so the worker stays and the process under it goes.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Timer
from typing import Any

from pydantic import Field

from renal_ray.config import Section, Study
from renal_ray.store.place import Place
from renal_ray.trial.cards import Seen
from renal_ray.trial.packing import Share
from renal_ray.trial.spec import TrialSpec

SERVER = "renal_ray.trial.serve"
FAREWELL_S = 5.0


class LostError(RuntimeError):
    """A trial ended through no fault of its own: it may succeed when it is tried again."""


class ProcessDiedError(LostError):
    """The process ended in the middle of a task: killed, out of memory, crashed, or ended because
    it said nothing any more."""


class Setup(Section):
    """What a process is told before its first task."""

    work: str = Field(description="work directory")
    backend: str = Field(description="tensorflow or jax")
    threads: int = Field(description="CPU threads to compute with")
    gpu_share: float = Field(
        0, description="share of the card that the process may fill; 0 without one"
    )
    allow_cpu: bool = Field(False, description="whether to go on where the framework sees no card")
    computed: list[str] = Field(
        [], description="freeze points whose activations are computed, not read"
    )
    checkpoint_s: float = Field(
        600, description="seconds after which a trial's state is written down"
    )
    tensorboard: bool = Field(False, description="whether to write event files for TensorBoard")

    @classmethod
    def of(cls, study: Study, share: Share, computed: list[str] | None = None) -> "Setup":
        """What the process under a trial of the study is told.

        Args:
            study: the study.
            share: what the trial is promised.
            computed: freeze points whose activations are computed, not read.
        """
        return cls(
            work=Place(study.work).uri,
            backend=study.backend,
            threads=max(1, int(share.cpu)),
            gpu_share=min(1.0, share.gpu),
            allow_cpu=study.resources.allow_cpu,
            computed=computed or [],
            checkpoint_s=study.resources.checkpoint_minutes * 60,
            tensorboard=study.tracking.tensorboard,
        )


class TrialProcess:
    """Starts with its first task; a dead one is started again by the next.

    Args:
        setup: what the process is told.
        most_tasks: tasks after which the process is replaced.
        most_mib: resident memory above which it is replaced, between two tasks.
        silence_s: seconds without a word after which it is ended.
    """

    def __init__(
        self, setup: Setup, *, most_tasks: int, most_mib: float, silence_s: float = 7200
    ) -> None:
        self._setup = setup
        self._silence_s = silence_s
        self._hung = False
        self._most_tasks = most_tasks
        self._most_mib = most_mib
        self._process: subprocess.Popen[bytes] | None = None
        self._line: Any = None
        self.tasks = 0
        self.memory_mib = 0.0

    @property
    def pid(self) -> int | None:
        """Id of the process, None when none runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def run(self, spec: TrialSpec) -> Iterator[dict[str, Any]]:
        """Runs a trial.

        Yields:
            Progress about once a second, and after the last epoch: stage, epoch, epochs, loss,
            val_auc, images_per_second, eta_s, and notes: what a person should know.

        Raises:
            RuntimeError: the trial failed; its error.txt says why.
            LostError: the trial's surroundings failed: disk, network, a damaged file.
            ProcessDiedError: the process ended before the trial did.
        """
        for message in self._ask({"trial": spec.to_json()}):
            if "progress" in message:
                yield message["progress"]

    def measure(self, what: dict[str, Any]) -> dict[str, Any]:
        """Lets the process measure one kind of step, see `renal_ray.trial.measure.measure`."""
        *_, last = self._ask({"measure": what})
        return dict(last["measured"])

    def cards(self) -> Seen:
        """Lets the process ask its framework for its cards, see `renal_ray.trial.cards`."""
        *_, last = self._ask({"cards": {}})
        return Seen.model_validate(last["cards"])

    def _ask(self, task: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if self.pid is not None and (
            self.tasks >= self._most_tasks or self.memory_mib > self._most_mib
        ):
            self.close()
        if self.pid is None:
            self._start()
        self.tasks += 1
        self._send(task)
        while True:
            with self._not_silent():
                line = self._line.readline()
            if not line:
                raise ProcessDiedError(self._obituary())
            message = json.loads(line)
            if "failed" in message:
                raise (LostError if message["lost"] else RuntimeError)(message["failed"])
            if "memory_mib" in message:
                self.memory_mib = message["memory_mib"]
                yield message
                return
            yield message

    @contextmanager
    def _not_silent(self) -> Iterator[None]:
        """Ends a process that says nothing for too long: the other end of the line closes, and
        reading from it returns."""
        timer = Timer(self._silence_s, self._end_hung)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _end_hung(self) -> None:
        self._hung = True
        if self._process is not None:
            self._process.kill()

    def _start(self) -> None:
        self.close()
        self._hung = False
        ours, theirs = socket.socketpair()
        with theirs:
            # Its own session: Ctrl-C is answered by the command alone. What it prints goes where
            # this process prints.
            self._process = subprocess.Popen(
                [sys.executable, "-m", SERVER, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            )
        self._line = ours.makefile("rwb")
        ours.close()
        self.tasks, self.memory_mib = 0, 0.0
        self._send({"setup": self._setup.model_dump(mode="json"), "parent": os.getpid()})

    def _send(self, message: dict[str, Any]) -> None:
        try:
            self._line.write(json.dumps(message).encode() + b"\n")
            self._line.flush()
        except OSError:
            raise ProcessDiedError(self._obituary()) from None

    def _obituary(self) -> str:
        code = self._process.wait() if self._process else 0
        if self._hung:
            return (
                f"the trial's process told of no epoch for {self._silence_s / 60:.3g} "
                "minutes (resources.trial_timeout) and was ended"
            )
        how = (
            f"was ended by signal {signal.Signals(-code).name}"
            if code < 0
            else f"ended with code {code}"
        )
        return f"the trial's process {how} before the trial did" + (
            ": out of memory?" if code == -signal.SIGKILL else ""
        )

    def close(self) -> None:
        """Ends the process, whatever it does."""
        if self._line is not None:
            with suppress(OSError):  # what was still to be written to a dead process
                self._line.close()
            self._line = None
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(FAREWELL_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
