"""The training loop that all heads share."""

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from renal_ray.protocol.balance import balanced_epoch, full_batches
from renal_ray.protocol.metrics import evaluate
from renal_ray.trial.augment import Varied
from renal_ray.trial.checkpoint import Best, Checkpoint, Checkpoints
from renal_ray.trial.epoch import Epoch
from renal_ray.trial.feed import Feed, Samples
from renal_ray.trial.spec import TrialSpec

if TYPE_CHECKING:
    from renal_ray.model.compiled import CompiledModel

HALF = 0.5  # accuracy in the traces, before a threshold is chosen
TINY = 1e-7  # Keras's epsilon in the cross-entropy


@dataclass(frozen=True)
class Trained:
    """What the loop leaves beside the weights in the model.

    Args:
        history: one row an epoch.
        epoch_kept: epoch whose weights the model holds, from 1.
        samples: samples of all gradient steps.
    """

    history: pd.DataFrame
    epoch_kept: int
    samples: int

    @property
    def samples_per_second(self) -> float:
        """Gradient steps' samples by their time."""
        return self.samples / max(float(self.history["seconds"].sum()), TINY)


def train(
    model: "CompiledModel",
    spec: TrialSpec,
    feed: Feed,
    *,
    resident: Any = None,
    checkpoints: Checkpoints | None = None,
    max_steps: int | None = None,
) -> Generator[Epoch, None, Trained]:
    """Trains a model on one side of a fold and follows it on the other, epoch by epoch.

    Args:
        model: reset for this trial.
        spec: epochs, batch size, what to keep, seed.
        feed: both sides of the fold.
        resident: the feed's source on the device, from `CompiledModel.put`: an epoch then is one
            call. Otherwise batches are copied out of the source while the one before computes.
        checkpoints: where to continue from, and what to write down; without them the training
            starts at the beginning.
        max_steps: at most this many steps an epoch, for a dry run.

    Yields:
        Each epoch when it is done; those before the checkpoint are not repeated.

    Returns:
        History and speed; the model holds the weights of the epoch that `training.keep` asks for.
    """
    rng = np.random.default_rng(spec.seed)
    pace = (
        _Streamed(model, feed, spec) if resident is None else _Resident(model, feed, spec, resident)
    )
    epochs: list[Epoch] = []
    best: Best | None = None
    if checkpoints and (before := checkpoints.read()):
        model.restore(before.state)
        rng.bit_generator.state = before.rng
        epochs, best = list(before.epochs), before.best
    for number in range(len(epochs) + 1, spec.epochs + 1):
        order = full_batches(balanced_epoch(feed.train.labels, rng), spec.training.batch_size)[
            :max_steps
        ]
        start = perf_counter()
        loss, accuracy = pace.train(order, number)
        seconds = perf_counter() - start
        epochs.append(
            Epoch(
                number,
                loss,
                accuracy,
                *_judge(feed.validation, pace.validate(), model.penalty),
                seconds,
                order.size,
            )
        )
        auc = epochs[-1].val_auc
        if (
            spec.training.keep == "best_val_auc"
            and auc is not None
            and (best is None or auc > best.auc)
        ):
            best = Best(auc, number, model.get_weights_by_name())
        if checkpoints and checkpoints.due and number < spec.epochs:
            checkpoints.write(
                Checkpoint(epochs, dict(rng.bit_generator.state), model.state(), best)
            )
        yield epochs[-1]
    if best is not None:
        model.set_weights_by_name(best.weights)
    return Trained(
        _history(epochs),
        spec.epochs if best is None else best.epoch,
        sum(epoch.samples for epoch in epochs),
    )


class _Streamed:
    """Batches copied out of the source, one ahead of the step that computes."""

    def __init__(self, model: "CompiledModel", feed: Feed, spec: TrialSpec) -> None:
        self._model, self._feed, self._size = model, feed, spec.training.batch_size
        self._varied = Varied(spec, feed.source, feed.images)

    def train(self, order: np.ndarray, epoch: int) -> tuple[float, float]:
        return self._model.train_epoch(self._batches(order, epoch))

    def _batches(self, order: np.ndarray, epoch: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        side = self._feed.train
        batches = self._varied.batches(self._varied.rows(side.inputs.rows[order], epoch), epoch)
        with ThreadPoolExecutor(1) as ahead:
            coming = ahead.submit(next, batches)
            for number, rows in enumerate(order):
                inputs = coming.result()
                if number + 1 < len(order):
                    coming = ahead.submit(next, batches)
                yield inputs, side.labels[rows]

    def validate(self) -> np.ndarray:
        return self._model.embedding_and_scores(self._feed.validation.inputs, self._size)[1]


class _Resident:
    """All samples on the device, an epoch one call."""

    def __init__(self, model: "CompiledModel", feed: Feed, spec: TrialSpec, inputs: Any) -> None:
        from renal_ray.model.compiled import Resident

        self._model, self._feed = model, feed
        self._data = Resident(inputs, model.put(feed.labels))
        self._varied = Varied(spec, feed.source, feed.images)
        self._validation = full_batches(feed.validation.inputs.rows, spec.training.batch_size)

    def train(self, order: np.ndarray, epoch: int) -> tuple[float, float]:
        return self._model.train_resident(
            self._data, self._varied.rows(self._feed.train.inputs.rows[order], epoch)
        )

    def validate(self) -> np.ndarray:
        return self._model.scores_resident(self._data, self._validation).reshape(-1)[
            : len(self._feed.validation)
        ]


def _judge(side: Samples, scores: np.ndarray, penalty: float) -> tuple[float, float, float | None]:
    """Loss, accuracy and AUC of one side's scores (n,)."""
    scores = scores.astype(np.float64)
    truth = np.where(side.labels == 1, scores, 1 - scores)
    loss = float(-np.log(np.clip(truth, TINY, 1)).mean()) + penalty
    metrics = evaluate(side.labels, scores, HALF)
    return loss, float(metrics["acc"] or 0), metrics["auc"]


def _history(epochs: list[Epoch]) -> pd.DataFrame:
    table = pd.DataFrame([asdict(epoch) for epoch in epochs]).drop(columns="samples")
    return table.astype({name: "int32" if name == "epoch" else "float32" for name in table.columns})
