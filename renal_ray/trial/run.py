"""One trial, start to end: a specification in, a trial directory out. Plain Python: it runs in a
test or a debugger as in a sweep."""

import traceback
from collections.abc import Callable, Generator, Iterator
from datetime import UTC, datetime
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from renal_ray.problems import DamagedFileError
from renal_ray.protocol.balance import full_batches
from renal_ray.protocol.metrics import evaluate
from renal_ray.protocol.splits import SplitSet
from renal_ray.protocol.thresholds import youden_threshold
from renal_ray.store.ledger import Ledger, SupersededError
from renal_ray.store.place import Place
from renal_ray.trial.checkpoint import Checkpoints
from renal_ray.trial.decide import patient_scores as patient_scores
from renal_ray.trial.epoch import Epoch
from renal_ray.trial.feed import Feed, Samples, image_feed, patient_feed, write_embeddings
from renal_ray.trial.progress import here
from renal_ray.trial.record import versions
from renal_ray.trial.sides import read_scanners
from renal_ray.trial.spec import TrialSpec
from renal_ray.trial.train import Trained, train
from renal_ray.trial.workshop import Workshop
from renal_ray.types import Head

if TYPE_CHECKING:
    from renal_ray.model.compiled import CompiledModel
    from renal_ray.model.optimizers import Rates


def run_trial(
    spec: TrialSpec,
    work: Place,
    splits: SplitSet,
    workshop: Workshop,
    *,
    checkpoint_s: float = float("inf"),
    say: Callable[[str], None] = print,
    max_steps: int | None = None,
) -> Generator[Epoch, None, dict[str, Any]]:
    """Trains one model on one fold and writes its directory, result.json last.

    Args:
        spec: what to train.
        work: the study's work directory; slices, activations and, for fc and gru, the image trial
            are there.
        splits: who trains and who validates.
        workshop: the worker's compiled models.
        checkpoint_s: seconds after which the state is written down, again and again; a trial that
            finds such a state continues from it.
        say: told in one sentence what a person should know.
        max_steps: at most this many steps an epoch, for a dry run.

    Yields:
        Each epoch when it is done.

    Returns:
        The content of result.json.

    Raises:
        LeakError: the trial would see a patient on two sides, or a sealed one.
        DamagedFileError: what the trial reads is not what was written.
        SupersededError: another worker has begun the trial meanwhile.
    """
    begun = perf_counter()
    ledger = Ledger(work)
    folder = ledger.begin(spec.trial_id, spec.to_json())
    feed = _feed(spec, work, splits, workshop)
    loaded = perf_counter()
    model = workshop.model(spec)
    weights = workshop.backbone(spec.inputs.weights) if spec.head is Head.IMAGE else None
    model.reset(seed=spec.seed, weights=weights, rates=_rates(spec))
    resident = workshop.resident(spec, feed.source)
    ready = perf_counter()
    checkpoints = Checkpoints(folder, every_s=checkpoint_s, say=say)
    trained = yield from train(
        model, spec, feed, resident=resident, checkpoints=checkpoints, max_steps=max_steps
    )
    if spec.head is Head.IMAGE and spec.training.bn_statistics == "reestimated":
        _reestimate(model, feed.train, spec)
    levels = _write_outcome(folder, model, spec, feed)
    folder.write_parquet("history.parquet", trained.history)
    done = perf_counter()
    seconds = {
        "data": loaded - begun,
        "setup": ready - loaded,
        "train": float(trained.history["seconds"].sum()),
        "total": done - begun,
    }
    result = _result(spec, model, feed, trained, levels, seconds) | {
        "matrix_gflops": round(workshop.matrix_gflops(spec.precision), 2)
    }
    return ledger.finish(spec.trial_id, result)


def _rates(spec: TrialSpec) -> "Rates":
    from renal_ray.model.optimizers import Rates

    return Rates(**{name: getattr(spec.training, name) for name in Rates._fields})


def _feed(spec: TrialSpec, work: Place, splits: SplitSet, workshop: Workshop) -> Feed:
    if spec.head is not Head.IMAGE:
        return patient_feed(spec, work, splits)
    scanners = read_scanners(work, splits.training) if spec.sides and spec.sides.scanner else None
    return image_feed(spec, workshop.rows(spec, splits), splits, scanners)


def attempt_trial(
    spec: TrialSpec, work: Place, splits: SplitSet, workshop: Workshop, **how: Any
) -> Iterator[Epoch]:
    """As `run_trial`, but keeps the traceback of a failure in the trial's directory before it
    raises; not that of a loss, see `was_lost`."""
    try:
        yield from run_trial(spec, work, splits, workshop, **how)
    except Exception as error:
        if not was_lost(error):
            Ledger(work).fail(
                spec.trial_id, traceback.format_exc()
            )  # no local variables in it: they hold patient data
        raise


def was_lost(error: Exception) -> bool:
    """Whether the trial's surroundings failed and not the trial: disk, network, a damaged file. It
    then may succeed when it is tried again."""
    if isinstance(
        error,
        FileNotFoundError
        | FileExistsError
        | PermissionError
        | IsADirectoryError
        | NotADirectoryError,
    ):
        return False
    return isinstance(error, OSError | DamagedFileError | SupersededError)


def _reestimate(model: "CompiledModel", train_side: Samples, spec: TrialSpec) -> None:
    # In shuffled order: a batch of one patient's slices has moments of its own, unlike any that
    # training saw.
    order = np.random.default_rng(spec.seed).permutation(len(train_side))
    model.reestimate(
        train_side.inputs[rows] for rows in full_batches(order, spec.training.batch_size)
    )


def _write_outcome(
    folder: Place, model: "CompiledModel", spec: TrialSpec, feed: Feed
) -> dict[str, Any]:
    from renal_ray.model.weight_files import save_weights_h5

    tables, embeddings = [], []
    for part, side in (("train", feed.train), ("validation", feed.validation)):
        embedded, scores = model.embedding_and_scores(side.inputs, spec.training.batch_size)
        embeddings.append(embedded)
        tables.append(prediction_table(side, scores, part))
    patients = feed.train.patients + feed.validation.patients
    numbers = (
        None
        if feed.train.slice_index is None
        else np.concatenate([side.slice_index for side in (feed.train, feed.validation)])
    )
    write_embeddings(folder, patients, numbers, np.concatenate(embeddings))
    folder.write_parquet("predictions.parquet", pd.concat(tables, ignore_index=True))
    folder.write("weights.h5", save_weights_h5(model.get_weights_by_name()))
    return _levels(tables[1], spec.head)


def prediction_table(side: Samples, scores: np.ndarray, part: str) -> pd.DataFrame:
    """Rows of predictions.parquet for one side of a fold, or for the test."""
    return pd.DataFrame(
        {
            "patient_id": list(side.patients),
            "slice_index": pd.array(
                [pd.NA] * len(side) if side.slice_index is None else side.slice_index, dtype="Int32"
            ),
            "label": side.labels.astype(np.int8),
            "score": scores.astype(np.float32),
            "part": part,
        }
    )


def _levels(validation: pd.DataFrame, head: Head) -> dict[str, Any]:
    tables = (
        {"slice": validation, "patient": patient_scores(validation)}
        if head is Head.IMAGE
        else {"patient": validation}
    )
    levels = {}
    for level, table in tables.items():
        labels, scores = table["label"].to_numpy(), table["score"].to_numpy(np.float64)
        threshold = youden_threshold(labels, scores)
        levels[level] = {"threshold": threshold, "metrics": evaluate(labels, scores, threshold)}
    return levels


def _result(
    spec: TrialSpec,
    model: "CompiledModel",
    feed: Feed,
    trained: Trained,
    levels: dict[str, Any],
    seconds: dict[str, float],
) -> dict[str, Any]:
    from renal_ray.model.heads import trained_parameters

    n: dict[str, int | None] = {}
    for part, side in (("train", feed.train), ("validation", feed.validation)):
        n[f"{part}_patients"] = len(set(side.patients))
        n[f"{part}_images"] = None if side.slice_index is None else len(side)
    return {
        "trial_id": spec.trial_id,
        "levels": levels,
        "n": n,
        "epoch_kept": trained.epoch_kept,
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "samples": trained.samples,
        "images_per_second": round(trained.samples_per_second, 2),
        "trained_parameters": trained_parameters(model.model),
        "versions": versions(),
        "node": here(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
