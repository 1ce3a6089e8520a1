"""Batch-normalisation statistics of a whole set of images, instead of Keras's moving averages."""

from collections.abc import Callable, Iterable

import keras
import numpy as np


def reestimate_batch_norm(
    model: keras.Model,
    batches: Iterable[np.ndarray],
    forward: Callable[[np.ndarray], None] | None = None,
) -> int:
    """Sets mean and variance of every trainable batch normalisation to those over one pass.

    Each layer sees inputs normalised by their batch's statistics, as in training; the batches'
    moments are then pooled by the law of total variance: mean of the second moments minus the
    squared mean, weighed by the number of images.

    Args:
        model: flat model (no model inside it), such as a backbone, a suffix or an image model.
        batches: model inputs, (n, ...) each; n may differ.
        forward: a pass in training mode that is compiled, and so traced with momentum 0, nowhere
            but here; called eagerly when omitted.

    Returns:
        Number of images in the pass; 0 when the model has no trainable batch normalisation, and
        then no batch is read.

    Raises:
        ValueError: there are no images.
    """
    layers = [
        layer
        for layer in model.layers
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
    ]
    if not layers:
        return 0
    first = [np.zeros(layer.moving_mean.shape) for layer in layers]
    second = [np.zeros(layer.moving_mean.shape) for layer in layers]
    count = 0
    step = forward or (
        lambda batch: model(batch, training=True)
    )  # never a compiled training step: it keeps the momentum it was traced with
    momenta = [layer.momentum for layer in layers]
    try:
        for layer in layers:
            layer.momentum = 0.0  # the moving averages then are the last batch's moments
        for batch in batches:
            step(batch)
            count += len(batch)
            for layer, total, squares in zip(layers, first, second, strict=True):
                mean = keras.ops.convert_to_numpy(layer.moving_mean).astype(np.float64)
                total += len(batch) * mean
                squares += len(batch) * (
                    keras.ops.convert_to_numpy(layer.moving_variance) + mean**2
                )
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
    if count == 0:
        raise ValueError("batch-normalisation statistics need at least one image")
    for layer, total, squares in zip(layers, first, second, strict=True):
        mean = total / count
        layer.moving_mean.assign(mean)
        layer.moving_variance.assign(np.maximum(squares / count - mean**2, 0))
    return count
