"""A long trial written down while it runs, so that it continues where it was: the same numbers as
without the break."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from time import monotonic
from typing import Any

import numpy as np

from renal_ray.store.ledger import CHECKPOINT
from renal_ray.store.place import Place
from renal_ray.trial.epoch import Epoch

NAME = f"{CHECKPOINT}.json"  # written last; names the file of arrays that goes with it
BEST = "best/"


@dataclass(frozen=True)
class Best:
    """The epoch whose weights are kept so far, where `training.keep` asks for the best.

    Args:
        auc: its validation AUC.
        epoch: its number, from 1.
        weights: by name.
    """

    auc: float
    epoch: int
    weights: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Checkpoint:
    """Everything that the rest of a training follows from.

    Args:
        epochs: those that are done.
        rng: state of the generator that draws the balanced epochs.
        state: of the model and its optimizer, from `CompiledModel.state`.
        best: see `Best`; None where the last epoch is kept.
    """

    epochs: list[Epoch]
    rng: dict[str, Any]
    state: Mapping[str, np.ndarray]
    best: Best | None


class Checkpoints:
    """The checkpoints of one trial: the newest one whole, its predecessor until then.

    Args:
        folder: the trial's directory.
        every_s: seconds from one to the next.
        say: told in one sentence what a person should know: a continued trial, a damaged
            checkpoint, one that could not be written.
    """

    def __init__(self, folder: Place, *, every_s: float, say: Callable[[str], None]) -> None:
        self._folder = folder
        self._every_s = every_s
        self._say = say
        self._last = monotonic()

    def read(self) -> Checkpoint | None:
        """Where to continue; None at the beginning, and where what was written is damaged."""
        from renal_ray.model.weight_files import load_weights_h5

        if not self._folder.exists(NAME):
            return None
        try:
            told = self._folder.read_json(NAME)
            data = self._folder.read(told["file"])
            if hashlib.sha256(data).hexdigest() != told["sha256"]:
                raise ValueError("wrong checksum")
            epochs = [Epoch(**one) for one in told["epochs"]]
        except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
            self._say(
                f"{self._name}: its checkpoint is damaged ({error}); it starts from its first epoch"
            )
            return None
        arrays = load_weights_h5(data)
        best = {
            name.removeprefix(BEST): array
            for name, array in arrays.items()
            if name.startswith(BEST)
        }
        self._say(f"{self._name}: continues after epoch {len(epochs)}")
        state = {name: array for name, array in arrays.items() if not name.startswith(BEST)}
        return Checkpoint(
            epochs,
            told["rng"],
            state,
            Best(told["best"]["auc"], told["best"]["epoch"], best) if told["best"] else None,
        )

    @property
    def due(self) -> bool:
        """Whether the last one is old enough."""
        return monotonic() - self._last >= self._every_s

    def write(self, checkpoint: Checkpoint) -> None:
        """Keeps a checkpoint and drops the one before; where it cannot be written the trial goes on
        all the same."""
        from renal_ray.model.weight_files import save_weights_h5

        self._last = monotonic()
        best = checkpoint.best
        arrays = dict(checkpoint.state) | (
            {f"{BEST}{name}": array for name, array in best.weights.items()} if best else {}
        )
        data, file = save_weights_h5(arrays), f"{CHECKPOINT}-{len(checkpoint.epochs)}.h5"
        told = {
            "file": file,
            "sha256": hashlib.sha256(data).hexdigest(),
            "epochs": [asdict(epoch) for epoch in checkpoint.epochs],
            "rng": checkpoint.rng,
            "best": {"auc": best.auc, "epoch": best.epoch} if best else None,
        }
        try:
            self._folder.write(file, data)
            self._folder.write_json(NAME, told)
            for name in self._folder.entries():
                if name.startswith(CHECKPOINT) and name not in (file, NAME):
                    self._folder.remove(name)
        except OSError as error:
            self._say(
                f"{self._name}: its checkpoints cannot be written ({error}); the trial goes on"
            )

    @property
    def _name(self) -> str:
        return self._folder.shown().rpartition("/")[2]
