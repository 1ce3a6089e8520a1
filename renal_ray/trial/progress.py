"""How far a running trial is: told to its worker, and kept beside it for `renal-ray status`."""

from collections.abc import Callable
from datetime import UTC, datetime
from math import isfinite
from time import monotonic
from typing import Any

from renal_ray.store.ledger import PROGRESS, Ledger
from renal_ray.store.place import Place
from renal_ray.trial.epoch import Epoch
from renal_ray.trial.spec import TrialSpec


class Pace:
    """Follows a trial's epochs; starts with the first of them, so that compilation is not counted among them.

    Args:
        epochs: how many there will be.
    """

    def __init__(self, epochs: int) -> None:
        self._epochs = epochs
        self._first: tuple[float, int] | None = None  # when the first epoch of this attempt was done, and its number

    def after(self, epoch: Epoch) -> dict[str, Any]:
        """epoch, epochs, loss, val_auc, images_per_second and eta_s after an epoch; eta_s is None after the first."""
        now = monotonic()
        if self._first is None:
            self._first = now, epoch.epoch
        since, first = self._first
        each = (now - since) / (epoch.epoch - first) if epoch.epoch > first else None
        return {
            "epoch": epoch.epoch,
            "epochs": self._epochs,
            "loss": epoch.loss if isfinite(epoch.loss) else None,  # a diverged trial is told of as any other
            "val_auc": epoch.val_auc,
            "images_per_second": round(epoch.samples / max(epoch.seconds, 1e-9), 2),
            "eta_s": None if each is None else round(each * (self._epochs - epoch.epoch), 1),
        }


def keep_progress(work: Place, spec: TrialSpec, told: dict[str, Any], *, say: Callable[[str], None]) -> None:
    """Writes progress.json beside a running trial; it goes when the trial ends. A disk that is full or read-only does not end the trial."""
    try:
        Ledger(work).folder(spec.trial_id).write_json(PROGRESS, told | {"time": datetime.now(UTC).isoformat(timespec="seconds")})
    except OSError as error:
        say(f"{spec.trial_id}: its progress cannot be written ({error}); the trial goes on")
