"""How far a running trial is: told to its worker, and kept beside it for `renal-ray status`."""

import os
import platform
import threading
from datetime import UTC, datetime
from math import isfinite
from time import monotonic
from types import TracebackType
from typing import Any, Self

from renal_ray.store.ledger import PROGRESS, RESULT, Ledger
from renal_ray.store.place import Place
from renal_ray.trial.epoch import Epoch
from renal_ray.trial.spec import TrialSpec

NODE_ADDRESS = (
    "RENAL_RAY_NODE_ADDRESS"  # environment: address of this node in its cluster, where there is one
)

# A trial that is over before leaves no progress.json, and its directory has been cleared by then.
FIRST_S = 2.0
KEEP_EVERY_S = 5.0  # progress.json, while epochs come
# progress.json, while none comes: an epoch may take half an hour, and a reader must tell that from
# a dead process.
BEAT_S = 30.0


def here() -> dict[str, str]:
    """The node that this process runs on: host and, in a cluster, address."""
    return {"host": platform.node(), "address": os.environ.get(NODE_ADDRESS, "")}


class Pace:
    """Follows a trial's epochs; starts with the first of them, so that compilation is not counted
    among them.

    Args:
        epochs: how many there will be.
    """

    def __init__(self, epochs: int) -> None:
        self._epochs = epochs
        self._first: tuple[float, int] | None = None

    def after(self, epoch: Epoch) -> dict[str, Any]:
        """stage, epoch, epochs, loss, val_auc, images_per_second and eta_s after an epoch; eta_s is
        None after the first that was seen."""
        now = monotonic()
        if self._first is None:
            self._first = now, epoch.epoch
        seen = epoch.epoch - self._first[1]
        each = (now - self._first[0]) / seen if seen else None
        return {
            "stage": "training" if epoch.epoch < self._epochs else "scoring",
            "epoch": epoch.epoch,
            "epochs": self._epochs,
            "loss": epoch.loss
            if isfinite(epoch.loss)
            else None,  # a diverged trial is told of as any other
            "val_auc": epoch.val_auc,
            "images_per_second": round(epoch.samples / max(epoch.seconds, 1e-9), 2),
            "eta_s": None if each is None else round(each * (self._epochs - epoch.epoch), 1),
        }


class Keeper:
    """Keeps progress.json beside a running trial, from a thread of its own: no step waits for a
    slow disk. A context around the trial.

    The file says when it was written and by which process on which node; it goes when the trial is
    finished.

    Args:
        work: the study's work directory.
        spec: the trial.
    """

    def __init__(self, work: Place, spec: TrialSpec) -> None:
        self._folder = Ledger(work).folder(spec.trial_id)
        self._told: dict[str, Any] = {"stage": "starting", "epoch": 0, "epochs": spec.epochs}
        self._told |= dict.fromkeys(("loss", "val_auc", "images_per_second", "eta_s"))
        self._news = True
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def tell(self, told: dict[str, Any]) -> None:
        """Takes what `Pace.after` says of an epoch."""
        self._told, self._news = told, True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()
        if kind is None and self._folder.exists(RESULT):
            self._folder.remove(PROGRESS)  # written once more while the trial finished

    def _keep(self) -> None:
        written, pause = 0.0, FIRST_S
        while not self._over.wait(pause):
            pause = KEEP_EVERY_S
            if self._news or monotonic() - written >= BEAT_S:
                self._news = False
                try:
                    self._write()
                except OSError:
                    # A full or absent disk: no trial ends for want of this file, and its reader
                    # sees it grow old.
                    self._news = True
                written = monotonic()

    def _write(self) -> None:
        if self._folder.exists("spec.json"):  # the trial has begun
            now = datetime.now(UTC).isoformat(timespec="seconds")
            self._folder.write_json(
                PROGRESS, self._told | here() | {"pid": os.getpid(), "time": now}
            )
