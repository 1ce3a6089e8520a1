"""InceptionV3 in two pieces: a frozen prefix up to a freeze point, a trained suffix after it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np

from renal_ray.model.dropout import ResettableDropout
from renal_ray.model.steps.normalization import fused
from renal_ray.types import FreezePoint

NUMBERED = re.compile(
    r"^(conv2d|batch_normalization|activation|max_pooling2d|average_pooling2d|concatenate|input_layer)(?:_(\d+))?$"
)
SCALE, OFFSET = (
    1 / 127.5,
    -1.0,
)  # as the published InceptionV3 weights expect (keras.applications.inception_v3.preprocess_input)
XLA = (
    keras.backend.backend() == "jax"
)  # on TensorFlow, Keras would turn it on: half the speed for a mixed9 suffix on a CPU


@dataclass(frozen=True)
class Cut:
    """The two pieces of a backbone; they share its layers.

    Args:
        prefix: uint8 RGB images (n, size, size, 3) -> activations; not trainable.
        suffix: activations -> mixed10 features (n, rows, columns, 2048); trainable. The identity on
            (n, 2048) for mixed10.
    """

    prefix: keras.Model
    suffix: keras.Model


def build_backbone(size: int) -> keras.Model:
    """InceptionV3 without its classifier, with Keras's initial weights.

    Args:
        size: edge of the square input image in pixels.

    Returns:
        Model from float32 images scaled to -1..1, (n, size, size, 3), to mixed10, (n, rows,
        columns, 2048). Its layers carry the names they have in a fresh process (conv2d, conv2d_1,
        ...), however many models were built before.
    """
    backbone = keras.applications.InceptionV3(
        include_top=False, weights=None, input_shape=(size, size, 3)
    )
    backbone.compile(jit_compile=XLA)
    _name_in_creation_order(backbone)
    return backbone


def _name_in_creation_order(backbone: keras.Model) -> None:
    """Replaces Keras's process-wide numbers by numbers that start at this model."""
    numbered: dict[str, list[tuple[int, keras.Layer]]] = {}
    for layer in backbone.layers:
        if match := NUMBERED.match(layer.name):
            numbered.setdefault(match[1], []).append((int(match[2] or 0), layer))
    for kind, layers in numbered.items():
        for rank, (_, layer) in enumerate(sorted(layers, key=lambda pair: pair[0])):
            layer.name = f"{kind}_{rank}" if rank else kind


def scaled(images: np.ndarray) -> np.ndarray:
    """Images as the backbone takes them, to the last digit as a prefix scales them itself.

    Args:
        images: uint8 RGB (n, size, size, 3).

    Returns:
        float32 of the same shape, -1..1.
    """
    return images.astype(np.float32) * np.float32(SCALE) + np.float32(OFFSET)


def named_variables(model: keras.Model) -> dict[str, keras.Variable]:
    """The weights of a model by name, "layer/variable", in the order of `model.weights`."""
    layers = (
        layer for layer in model.layers if not isinstance(layer, ResettableDropout)
    )  # its rate is a setting, no weight
    return {
        variable_name(layer, variable): variable for layer in layers for variable in layer.weights
    }


def variable_name(layer: keras.Layer, variable: keras.Variable) -> str:
    """Name of a weight: its layer's name now, then its path within the layer."""
    return f"{layer.name}/{variable.path.partition('/')[2]}"


def variable_names(model: keras.Model) -> list[str]:
    """Names of a model's weights, in the order of `model.weights`: conv2d_12/kernel,
    batch_normalization_12/beta, ..."""
    return list(named_variables(model))


def cut(backbone: keras.Model, freeze: FreezePoint) -> Cut:
    """Cuts a backbone after the freeze point's concatenation layer and freezes what lies before.

    Args:
        backbone: as `build_backbone` gives it; the `trainable` flags of its layers are set.
        freeze: the freeze point.

    Returns:
        Prefix and suffix, sharing the backbone's layers and so its weights.
    """
    prefix = multi_prefix(backbone, [freeze])
    suffix = _suffix(backbone, freeze)
    prefix = keras.Model(prefix.input, prefix.output[freeze.value], name=f"prefix_{freeze}")
    for layer in (
        backbone.layers
    ):  # backbone.trainable = True would pass over layers that an earlier cut froze
        layer.trainable = True
    prefix.trainable = False
    for piece in (prefix, suffix):
        piece.compile(jit_compile=XLA)
    return Cut(prefix=prefix, suffix=suffix)


def _suffix(backbone: keras.Model, freeze: FreezePoint) -> keras.Model:
    activation = backbone.get_layer(freeze.value).output
    if freeze == FreezePoint.MIXED10:
        pooled = keras.Input((activation.shape[-1],), name="activation")
        return keras.Model(
            pooled, keras.layers.Identity(name="features")(pooled), name=f"suffix_{freeze}"
        )
    return keras.Model(activation, backbone.output, name=f"suffix_{freeze}")


def build_suffix(size: int, freeze: FreezePoint) -> keras.Model:
    """A suffix with weights of its own: nothing of the prefix stays in memory, and training it
    touches no other model.

    Its batch normalisation is one operation on TensorFlow
    (`steps.normalization.FusedBatchNormalization`).

    Args:
        size: edge of the square input image in pixels.
        freeze: the freeze point.

    Returns:
        Model from activations to mixed10 features, all layers trainable, named as in the backbone.
    """
    suffix = _suffix(build_backbone(size), freeze)
    activation = keras.Input(suffix.input_shape[1:], name="activation")
    return keras.models.clone_model(suffix, input_tensors=activation, clone_function=fused)


def multi_prefix(
    backbone: keras.Model, freezes: Sequence[FreezePoint], *, pooled: bool = True
) -> keras.Model:
    """One forward pass that yields the activations of several freeze points.

    Args:
        backbone: as `build_backbone` gives it.
        freezes: freeze points, each once.
        pooled: average mixed10's over rows and columns, because the image head pools first; without
            it they keep their places.

    Returns:
        Model from uint8 RGB images (n, size, size, 3) to a dict: freeze point's name -> float32
        activations, in any order. Pixels are scaled as the weights expect, x / 127.5 - 1. Call it
        by `predict_on_batch`, or with training=False.
    """
    images = keras.Input(backbone.input_shape[1:], dtype="uint8", name="images")
    inputs = keras.layers.Rescaling(SCALE, offset=OFFSET, name="scaled")(images)
    layers = {freeze.value: backbone.get_layer(freeze.value).output for freeze in freezes}
    activations = keras.Model(backbone.input, layers, name="frozen")(inputs, training=False)
    if pooled and (last := FreezePoint.MIXED10.value) in activations:
        activations[last] = keras.layers.GlobalAveragePooling2D(name="pooled")(activations[last])
    prefixes = keras.Model(images, activations, name="prefixes")
    prefixes.compile(jit_compile=XLA)
    return prefixes
