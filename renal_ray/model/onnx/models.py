"""The three kinds of model as other programs run them: the whole image model, and the patient-level
heads on its embeddings."""

from dataclasses import dataclass

import keras

from renal_ray.model.backbone import OFFSET, SCALE, XLA, build_backbone
from renal_ray.model.heads import EMBEDDING, PADDING, fc_model, gru_model, image_model
from renal_ray.types import Head


@dataclass(frozen=True)
class Architecture:
    """What a model is built from.

    Args:
        head: image, fc or gru.
        size: edge of the square input image in pixels.
        embedding: width of the image model's embedding.
        gru_units: width of each GRU layer.
        gru_layers: number of GRU layers, 1 to 4.
    """

    head: Head
    size: int
    embedding: int
    gru_units: int
    gru_layers: int


def whole_model(architecture: Architecture) -> keras.Model:
    """A fold model in float32 and without dropout, its weights to be set: from what the study gives
    it to probabilities (n, 2).

    Args:
        architecture: of the model.
    """
    if architecture.head is Head.IMAGE:
        return image_model(build_backbone(architecture.size), embedding=architecture.embedding)
    if architecture.head is Head.FC:
        return fc_model(architecture.embedding, width=architecture.embedding)
    return gru_model(
        architecture.embedding, units=architecture.gru_units, layers=architecture.gru_layers
    )


def embedded(model: keras.Model) -> keras.Model:
    """A whole image model that gives both the embedding (n, width) and the probabilities (n, 2)."""
    both = keras.Model(model.input, [model.get_layer(EMBEDDING).output, model.output])
    both.compile(jit_compile=XLA)
    return both


class PaddedAfter(keras.layers.Layer):
    """Sequences (n, steps, width) with PADDING after each one's own length (n,), as the gru head
    was trained on them."""

    def call(self, sequence: keras.KerasTensor, lengths: keras.KerasTensor) -> keras.KerasTensor:
        """Replaces the steps that lie behind a sequence's end."""
        steps = keras.ops.arange(keras.ops.shape(sequence)[1], dtype="int32")
        inside = steps[None, :] < keras.ops.expand_dims(lengths, 1)
        return keras.ops.where(keras.ops.expand_dims(inside, -1), sequence, PADDING)


def served(model: keras.Model, architecture: Architecture) -> keras.Model:
    """A fold model as another program calls it.

    Args:
        model: from `whole_model`.
        architecture: of the model.

    Returns:
        image: `images`, uint8 RGB (n, size, size, 3), to `probabilities` float32 (n, 2), benign and
            malignant, and `embedding` float32 (n, width).
        fc: `strongest`, float32 (n, width), each patient's largest embedding values, to
            `probabilities`.
        gru: `sequence`, float32 (n, steps, width), the embeddings of each patient's slices, head to
            foot, and `lengths`, int32 (n,), how many
        of the steps are true ones, to `probabilities`.
    """
    if architecture.head is Head.IMAGE:
        images = keras.Input(
            (architecture.size, architecture.size, 3), dtype="uint8", name="images"
        )
        embedding, probabilities = embedded(model)(
            keras.layers.Rescaling(SCALE, offset=OFFSET)(images)
        )
        return keras.Model(images, {"probabilities": probabilities, "embedding": embedding})
    if architecture.head is Head.FC:
        strongest = keras.Input((architecture.embedding,), name="strongest")
        return keras.Model(strongest, {"probabilities": model(strongest)})
    sequence = keras.Input((None, architecture.embedding), name="sequence")
    lengths = keras.Input((), dtype="int32", name="lengths")
    return keras.Model(
        [sequence, lengths], {"probabilities": model(PaddedAfter()(sequence, lengths))}
    )
