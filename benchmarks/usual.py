"""The usual loop, written as a competent person would: Keras's InceptionV3 with frozen layers,
tf.data from decoded images in memory, model.fit."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import keras
import numpy as np

from renal_ray.model.backbone import OFFSET, SCALE, build_backbone, scaled
from renal_ray.model.heads import HEAD_LAYERS, image_model
from renal_ray.model.initial import redraw, set_weights_by_name
from renal_ray.model.precision import computing_in
from renal_ray.model.statistics import reestimate_batch_norm
from renal_ray.protocol.balance import balanced_epoch, full_batches
from renal_ray.types import FreezePoint

ON_TENSORFLOW = keras.backend.backend() == "tensorflow"
JIT = (
    "auto" if not ON_TENSORFLOW else False
)  # with XLA, TensorFlow is slower on a CPU: the usual loop gets the better of the two


@dataclass(frozen=True)
class Usual:
    """The usual model.

    Args:
        flat: from scaled images to probabilities, all layers side by side.
        model: from uint8 images to probabilities, compiled.
    """

    flat: keras.Model
    model: keras.Model


def build_usual(
    size: int,
    freeze: FreezePoint,
    *,
    embedding: int = 1024,
    precision: str = "float32",
    learning_rate: float = 0.01,
    momentum: float = 0.9,
) -> Usual:
    """A model that runs every layer in every step and trains those after the freeze point; frozen
    batch normalisation is in inference mode."""
    with computing_in(precision):
        backbone = build_backbone(size)
        keras.Model(backbone.input, backbone.get_layer(freeze.value).output).trainable = False
        flat = image_model(backbone, embedding=embedding)
        images = keras.Input((size, size, 3), dtype="uint8")
        model = keras.Model(images, flat(keras.layers.Rescaling(SCALE, offset=OFFSET)(images)))
    compile_usual(model, learning_rate=learning_rate, momentum=momentum)
    return Usual(flat, model)


def compile_usual(
    model: keras.Model, *, learning_rate: float = 0.01, momentum: float = 0.9
) -> None:
    """Gives a model the study's optimizer and loss."""
    optimizer = keras.optimizers.SGD(learning_rate, momentum=momentum)
    model.compile(
        optimizer=optimizer,
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=JIT,
    )


@dataclass(frozen=True)
class Side:
    """One side of a fold, in memory: uint8 images (n, size, size, 3), labels (n,)."""

    images: np.ndarray
    labels: np.ndarray


def fit_fold(
    train: Side,
    validation: Side,
    weights: Mapping[str, np.ndarray],
    *,
    freeze: FreezePoint,
    seed: int,
    epochs: int,
    batch: int,
) -> dict[str, Any]:
    """One trial of the usual loop: a new model, trained and followed on the other side.

    Args:
        train: is trained on, balanced anew in each epoch.
        validation: is scored after each epoch.
        weights: of the backbone, by name.
        freeze: last frozen layer.
        seed: of head and sampling: with the seed of renal-ray's trial the same head and the same
            batches.
        epochs: how many.
        batch: images in a step.

    Returns:
        seconds of it, first_s of them until the first epoch ended, images trained on, the losses;
        and, in judging_s more, val_auc once batch normalisation's statistics are estimated anew as
        renal-ray does.
    """
    begun = perf_counter()
    usual = build_usual(train.images.shape[1], freeze)
    set_weights_by_name(
        usual.flat, weights, layers={layer.name for layer in usual.flat.layers} - HEAD_LAYERS
    )
    redraw(usual.flat, seed=seed, layers=HEAD_LAYERS)
    rng = np.random.default_rng(seed)
    orders = [full_batches(balanced_epoch(train.labels, rng), batch) for _ in range(epochs)]
    clock = _Clock()
    told = usual.model.fit(
        _training(train, orders),
        validation_data=_validation(validation, batch),
        epochs=epochs,
        steps_per_epoch=len(orders[0]),
        verbose=0,
        callbacks=[clock],
    )
    seconds = perf_counter() - begun
    begun_judging = perf_counter()
    found = _judge(usual.flat, train, validation, seed=seed, batch=batch)
    return {
        "seconds": seconds,
        "first_s": clock.ends[0] - begun,
        "images": sum(order.size for order in orders),
        "losses": told.history["loss"],
        "val_auc": found,
        "judging_s": perf_counter() - begun_judging,
    }


def _training(side: Side, orders: list[np.ndarray]) -> Any:
    """All epochs' batches, gathered from memory beside the step that computes."""
    import tensorflow as tf

    images, labels = tf.constant(side.images), tf.constant(side.labels)

    def rows() -> Iterator[np.ndarray]:
        for order in orders:
            yield from order

    indices = tf.data.Dataset.from_generator(
        rows, output_signature=tf.TensorSpec([orders[0].shape[1]], tf.int64)
    )
    return indices.map(
        lambda one: (tf.gather(images, one), tf.gather(labels, one)),
        num_parallel_calls=tf.data.AUTOTUNE,
    ).prefetch(tf.data.AUTOTUNE)


def _validation(side: Side, batch: int) -> Any:
    import tensorflow as tf

    return (
        tf.data.Dataset.from_tensor_slices((side.images, side.labels))
        .batch(batch)
        .cache()
        .prefetch(tf.data.AUTOTUNE)
    )


def _judge(
    flat: keras.Model, train: Side, validation: Side, *, seed: int, batch: int
) -> float | None:
    from renal_ray.protocol.metrics import auc

    order = full_batches(np.random.default_rng(seed).permutation(len(train.labels)), batch)
    reestimate_batch_norm(flat, (scaled(train.images[rows]) for rows in order))
    starts = range(0, len(validation.labels), batch)
    scores = np.concatenate(
        [
            np.asarray(flat.predict_on_batch(scaled(validation.images[start : start + batch])))
            for start in starts
        ]
    )
    return auc(validation.labels, scores[:, 1])


class _Clock(keras.callbacks.Callback):
    """When each epoch ended."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[float] = []

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self.ends.append(perf_counter())
