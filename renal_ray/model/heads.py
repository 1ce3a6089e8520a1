"""What sits on the features: one image at a time, a patient's strongest features, or a patient's
sequence."""

from collections.abc import Sequence

import keras
import numpy as np

from renal_ray.model.dropout import NAME as DROPOUT
from renal_ray.model.dropout import ResettableDropout
from renal_ray.types import Label

# Fills the steps after a patient's last slice; embeddings come from a ReLU, so no true step is all
# -1.
PADDING = -1.0
EMBEDDING = "embedding"
SCORES = "scores"
MOST_GRU_LAYERS = 4
HEAD_LAYERS = frozenset(
    {EMBEDDING, SCORES, *(f"gru_{number}" for number in range(1, MOST_GRU_LAYERS + 1))}
)


def image_model(
    suffix: keras.Model, *, embedding: int = 1024, dropout: bool = False
) -> keras.Model:
    """Suffix, global average pooling, dense ReLU layer (the embedding), softmax (Zhou et al. 2019,
    image-level models).

    Args:
        suffix: as `build_suffix` or `cut` gives it.
        embedding: width of the dense layer.
        dropout: put a dropout layer before the softmax, its rate to be set by
            `CompiledModel.reset`.

    Returns:
        Model from activations to probabilities (n, 2): benign, malignant.
    """
    features = suffix.output
    if len(features.shape) == 4:
        features = keras.layers.GlobalAveragePooling2D(name="pooled")(features)
    embedded = keras.layers.Dense(embedding, activation="relu", name=EMBEDDING)(features)
    return keras.Model(suffix.input, _softmax(embedded, dropout), name="image")


def fc_model(embedding: int, *, width: int = 1024, dropout: bool = False) -> keras.Model:
    """Dense ReLU layer and softmax on the maximum over a patient's embeddings (Zhou et al. 2019,
    patient-level fc models).

    Args:
        embedding: width of the image model's embedding.
        width: width of the dense layer.
        dropout: as for `image_model`.

    Returns:
        Model from (n, embedding), see `strongest`, to probabilities (n, 2).
    """
    inputs = keras.Input((embedding,), name="strongest")
    return keras.Model(
        inputs,
        _softmax(keras.layers.Dense(width, activation="relu", name=EMBEDDING)(inputs), dropout),
        name="fc",
    )


def gru_model(
    embedding: int, *, units: int = 256, l2: float = 1e-4, layers: int = 2, dropout: bool = False
) -> keras.Model:
    """GRU layers, two by default, with L2 on their kernels, and softmax (Zhou et al. 2019,
    patient-level GRU models).

    Args:
        embedding: width of the image model's embedding.
        units: width of each GRU layer.
        l2: penalty on the input and the recurrent kernels.
        layers: number of GRU layers, 1 to 4.
        dropout: as for `image_model`.

    Returns:
        Model from sequences (n, steps, embedding) padded as `padded` does, to probabilities (n, 2).
    """
    inputs = keras.Input((None, embedding), name="sequence")
    sequence = keras.layers.Masking(mask_value=PADDING, name="mask")(inputs)
    for number in range(1, layers + 1):
        penalty = {
            key: keras.regularizers.L2(l2)
            for key in ("kernel_regularizer", "recurrent_regularizer")
        }
        sequence = keras.layers.GRU(
            units, return_sequences=number < layers, name=f"gru_{number}", **penalty
        )(sequence)
    return keras.Model(inputs, _softmax(sequence, dropout), name="gru")


def _softmax(features: keras.KerasTensor, dropout: bool) -> keras.KerasTensor:
    if dropout:
        features = ResettableDropout(name=DROPOUT)(features)
    return keras.layers.Dense(len(Label), activation="softmax", dtype="float32", name=SCORES)(
        features
    )


def strongest(embeddings: Sequence[np.ndarray]) -> np.ndarray:
    """Maximum over each patient's slices: the input of the fc head.

    Args:
        embeddings: per patient (slices, embedding), at least one slice each.

    Returns:
        float32 (patients, embedding).
    """
    return np.stack([np.max(one, axis=0) for one in embeddings]).astype(np.float32)


def padded(embeddings: Sequence[np.ndarray], steps: int) -> np.ndarray:
    """Sequences of one length: the input of the gru head.

    Args:
        embeddings: per patient (slices, embedding) in slice order, head to foot.
        steps: length of all sequences; one length per study keeps the compiled model one.

    Returns:
        float32 (patients, steps, embedding), the true steps first, PADDING after them.

    Raises:
        ValueError: a patient has no slice, or more than `steps`.
    """
    lengths = [len(one) for one in embeddings]
    if min(lengths) < 1 or max(lengths) > steps:
        raise ValueError(
            f"sequences of {min(lengths)} to {max(lengths)} slices "
            f"do not fit into 1 to {steps} steps"
        )
    out = np.full((len(embeddings), steps, embeddings[0].shape[1]), PADDING, np.float32)
    for row, one in zip(out, embeddings, strict=True):
        row[: len(one)] = one
    return out


def trained_parameters(model: keras.Model) -> int:
    """Number of trained values in a model: kernels, biases and batch-normalisation offsets that the
    optimizer moves."""
    return sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)
