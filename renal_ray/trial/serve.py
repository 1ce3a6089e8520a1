"""The process under a worker: `python -m renal_ray.trial.serve FD` takes tasks, a JSON line each,
and answers in JSON lines."""

import json
import os
import socket
import sys
import threading
from collections.abc import Iterator
from time import monotonic, sleep
from typing import Any

import psutil

from renal_ray.problems import StudyError, reason
from renal_ray.store.ledger import Ledger
from renal_ray.store.place import Place
from renal_ray.trial.cards import look, require_card
from renal_ray.trial.prepared import read_splits
from renal_ray.trial.process import Setup
from renal_ray.trial.progress import Keeper, Pace
from renal_ray.trial.run import attempt_trial, was_lost
from renal_ray.trial.spec import TrialSpec
from renal_ray.trial.tracking import event_log
from renal_ray.trial.workshop import RESIDENT_MIB, Workshop, configure_keras

SAY_EVERY_S = 1.0
# Of this process's share of a card, for samples; the rest is for weights, gradients and what a step
# needs.
RESIDENT_SHARE = 0.4


def main(descriptor: int) -> None:
    """Answers until the other end is closed."""
    stream = socket.socket(fileno=descriptor).makefile("rwb")
    first = json.loads(stream.readline())
    threading.Thread(target=_end_with, args=(first["parent"],), daemon=True).start()
    server = Server(Setup.model_validate(first["setup"]))
    for line in stream:
        for answer in server.answer(json.loads(line)):
            stream.write(json.dumps(answer).encode() + b"\n")
            stream.flush()


def _end_with(parent: int) -> None:
    """Ends this process when the worker is gone: a killed worker closes nothing, and a long step
    would not notice."""
    while os.getppid() == parent:
        sleep(1)
    os._exit(1)


class Server:
    """Keeps what lives from task to task.

    Args:
        setup: as the worker was told.
    """

    def __init__(self, setup: Setup) -> None:
        configure_keras(
            setup.backend,
            setup.threads,
            gpu_share=setup.gpu_share or 1,
            on_card=setup.gpu_share > 0,
        )
        self._setup = setup
        self._work = Place(setup.work)
        self._workshop: Workshop | None = None

    def answer(self, task: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Does one task; the last answer says how much memory the process has, or why the task
        failed."""
        try:
            if "trial" in task:
                yield from (
                    {"progress": told} for told in self._trial(TrialSpec.from_json(task["trial"]))
                )
                answer = {}
            elif "cards" in task:
                answer = {"cards": look(self._setup.backend).model_dump()}
            else:
                from renal_ray.trial.measure import measure

                answer = {"measured": measure(task["measure"], self.workshop)}
        except StudyError as error:  # a sentence as it is
            yield {"failed": str(error), "lost": False}
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told to the worker, and a trial's traceback is in its error.txt
            yield {"failed": f"{type(error).__name__}: {reason(error)}", "lost": was_lost(error)}
            return
        yield answer | {"memory_mib": psutil.Process().memory_info().rss / 2**20}

    @property
    def workshop(self) -> Workshop:
        """Made with the first task, because it imports the framework."""
        if self._workshop is None:
            resident = RESIDENT_MIB
            if on_card := self._setup.gpu_share > 0 and require_card(
                self._setup.backend, allow_cpu=self._setup.allow_cpu
            ):
                from renal_ray.model.device import limit_memory
                from renal_ray.model.nvidia import card

                found = card()
                if found and self._setup.gpu_share < 1:
                    limit_memory(int(found.memory_mib * self._setup.gpu_share))
                resident = (
                    int(found.memory_mib * self._setup.gpu_share * RESIDENT_SHARE)
                    if found
                    else resident
                )
            self._workshop = Workshop(
                self._work, computed=self._setup.computed, on_card=on_card, resident_mib=resident
            )
        return self._workshop

    def _workshop_for(self, spec: TrialSpec) -> Workshop:
        """The workshop; where it cannot be had, for want of a card, the trial has failed."""
        try:
            return self.workshop
        except StudyError as error:
            Ledger(self._work).fail(spec.trial_id, f"{error}\n")
            raise

    def _trial(self, spec: TrialSpec) -> Iterator[dict[str, Any]]:
        workshop = self._workshop_for(spec)
        pace, said, notes = Pace(spec.epochs), monotonic(), list[str]()
        how = {"checkpoint_s": self._setup.checkpoint_s, "say": notes.append}
        with (
            Keeper(self._work, spec) as keeper,
            event_log(self._work, spec, wanted=self._setup.tensorboard, say=notes.append) as events,
        ):
            for epoch in attempt_trial(spec, self._work, read_splits(self._work), workshop, **how):
                told, now = pace.after(epoch), monotonic()
                keeper.tell(told)
                if events:
                    events.add(epoch, told["images_per_second"])
                if notes or now - said >= SAY_EVERY_S or epoch.epoch == spec.epochs:
                    yield told | {"notes": notes[:]}
                    notes.clear()
                    said = now


if __name__ == "__main__":
    main(int(sys.argv[1]))
