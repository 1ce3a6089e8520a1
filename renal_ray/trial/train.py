"""The training loop that all heads share."""

from collections.abc import Generator
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from renal_ray.protocol.balance import balanced_epoch, even_batches
from renal_ray.protocol.metrics import evaluate
from renal_ray.trial.feed import Feed, Samples
from renal_ray.trial.spec import TrialSpec

if TYPE_CHECKING:
    from renal_ray.model.compiled import CompiledModel

HALF = 0.5  # accuracy in the traces, before a threshold is chosen
TINY = 1e-7  # Keras's epsilon in the cross-entropy


@dataclass(frozen=True)
class Epoch:
    """One row of history.parquet; losses are categorical cross-entropies with the L2 penalty, if any, accuracies at P(malignant) >= 0.5."""

    epoch: int
    loss: float
    accuracy: float
    val_loss: float
    val_accuracy: float
    val_auc: float | None
    seconds: float


@dataclass(frozen=True)
class Trained:
    """What the loop leaves beside the weights in the model.

    Args:
        history: one row an epoch.
        epoch_kept: epoch whose weights the model holds, from 1.
        samples_per_second: gradient steps' samples by their time.
    """

    history: pd.DataFrame
    epoch_kept: int
    samples_per_second: float


def train(model: "CompiledModel", spec: TrialSpec, feed: Feed, *, max_steps: int | None = None) -> Generator[Epoch, None, Trained]:
    """Trains a model on one side of a fold and follows it on the other, epoch by epoch.

    Args:
        model: reset for this trial.
        spec: epochs, batch size, what to keep, seed.
        feed: both sides of the fold.
        max_steps: at most this many steps an epoch, for a dry run.

    Yields:
        Each epoch when it is done.

    Returns:
        History and speed; the model holds the weights of the epoch that `training.keep` asks for.
    """
    rng = np.random.default_rng(spec.seed)
    size = spec.training.batch_size
    epochs: list[Epoch] = []
    best: tuple[float, int, dict[str, np.ndarray]] | None = None
    samples = 0
    for number in range(1, spec.epochs + 1):
        rows = balanced_epoch(feed.train.labels, rng)[: max_steps and max_steps * size]
        start = perf_counter()
        loss, accuracy = model.train_epoch((feed.train.inputs[part], feed.train.labels[part]) for part in even_batches(rows, size))
        seconds = perf_counter() - start
        samples += len(rows)
        epochs.append(Epoch(number, loss, accuracy, *_validate(model, feed.validation, size), seconds))
        auc = epochs[-1].val_auc
        if spec.training.keep == "best_val_auc" and auc is not None and (best is None or auc > best[0]):
            best = auc, number, model.get_weights_by_name()
        yield epochs[-1]
    if best is not None:
        model.set_weights_by_name(best[2])
    return Trained(_history(epochs), spec.epochs if best is None else best[1], samples / max(sum(e.seconds for e in epochs), TINY))


def _validate(model: "CompiledModel", side: Samples, batch_size: int) -> tuple[float, float, float | None]:
    scores = model.embedding_and_scores(side.inputs, batch_size)[1].astype(np.float64)
    truth = np.where(side.labels == 1, scores, 1 - scores)
    loss = float(-np.log(np.clip(truth, TINY, 1)).mean()) + model.penalty
    metrics = evaluate(side.labels, scores, HALF)
    return loss, float(metrics["acc"] or 0), metrics["auc"]


def _history(epochs: list[Epoch]) -> pd.DataFrame:
    table = pd.DataFrame([asdict(epoch) for epoch in epochs])
    return table.astype({name: "int32" if name == "epoch" else "float32" for name in table.columns})
