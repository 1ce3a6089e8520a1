"""The three kinds of model as ONNX files: the whole image model, and the patient-level heads on its embeddings."""

from collections.abc import Mapping

import keras
import numpy as np

from renal_ray.model.backbone import OFFSET, SCALE, build_backbone
from renal_ray.model.heads import EMBEDDING, SCORES, fc_model, gru_model, image_model
from renal_ray.model.initial import set_weights_by_name
from renal_ray.model.onnx.graph import FLOAT, INT32, UINT8, Graph, add_layers, weight
from renal_ray.problems import StudyError
from renal_ray.types import Label

CLASSES = len(Label)


def whole_image_model(size: int, embedding: int, weights: Mapping[str, np.ndarray]) -> keras.Model:
    """InceptionV3 with the image head, nothing frozen and nothing cut.

    Args:
        size: edge of the square input image in pixels.
        embedding: width of the embedding.
        weights: by name, of the backbone and the head; a trial's trained layers bear the backbone's names, so that they replace its own.

    Returns:
        Model from float32 images scaled to -1..1, (n, size, size, 3), to probabilities (n, 2).

    Raises:
        StudyError: a weight is missing or has another shape.
    """
    model = image_model(build_backbone(size), embedding=embedding)
    set_weights_by_name(model, weights)
    return model


def image_onnx(size: int, embedding: int, weights: Mapping[str, np.ndarray], *, about: str) -> bytes:
    """The whole image model of one fold, from pixels to probabilities.

    Args:
        size, embedding, weights: as for `whole_image_model`.
        about: what it is, for a person.

    Returns:
        An ONNX file: input `images`, uint8 RGB (n, size, size, 3); outputs `probabilities` float32 (n, 2), benign and malignant, and `embedding`
        float32 (n, width).
    """
    model, graph = whole_image_model(size, embedding, weights), Graph()
    pixels = graph.node("Cast", ["images"], to=FLOAT)
    scaled = graph.node("Mul", [pixels, graph.constant("scale", np.float32(SCALE))])
    scaled = graph.node("Add", [scaled, graph.constant("offset", np.float32(OFFSET))])
    values = add_layers(graph, model, {model.layers[0].name: graph.node("Transpose", [scaled], perm=[0, 3, 1, 2])})
    _outputs(graph, values)
    inputs = {"images": (UINT8, ("n", size, size, 3))}
    return graph.finish("image", inputs, {"probabilities": (FLOAT, ("n", CLASSES)), "embedding": (FLOAT, ("n", embedding))}, about)


def fc_onnx(embedding: int, weights: Mapping[str, np.ndarray], *, about: str) -> bytes:
    """The fc head of one fold.

    Args:
        embedding: width of the image model's embedding.
        weights: the trial's, by name.
        about: what it is, for a person.

    Returns:
        An ONNX file: input `strongest`, float32 (n, embedding), each patient's largest embedding values; output `probabilities` float32 (n, 2).
    """
    model = fc_model(embedding, width=embedding)
    set_weights_by_name(model, weights)
    graph = Graph()
    values = add_layers(graph, model, {"strongest": "strongest"})
    graph.node("Identity", [values[SCORES]], outputs=["probabilities"])
    return graph.finish("fc", {"strongest": (FLOAT, ("n", embedding))}, {"probabilities": (FLOAT, ("n", CLASSES))}, about)


def gru_onnx(embedding: int, units: int, weights: Mapping[str, np.ndarray], *, about: str) -> bytes:
    """The gru head of one fold.

    Args:
        embedding: width of the image model's embedding.
        units: width of each GRU layer.
        weights: the trial's, by name.
        about: what it is, for a person.

    Returns:
        An ONNX file: inputs `sequence`, float32 (n, steps, embedding), the embeddings of each patient's slices, head to foot, and `lengths`,
        int32 (n,), how many of the steps are true ones; output `probabilities` float32 (n, 2).
    """
    model = gru_model(embedding, units=units)
    set_weights_by_name(model, weights)
    graph = Graph()
    value = graph.node("Transpose", ["sequence"], perm=[1, 0, 2])  # ONNX: steps first
    axis = graph.constant("direction", np.array([1], np.int64))
    first = graph.node("Squeeze", [_gru(graph, model.get_layer("gru_1"), value, last=False), axis])
    last = graph.node("Squeeze", [_gru(graph, model.get_layer("gru_2"), first, last=True), graph.constant("directions", np.array([0], np.int64))])
    scores: keras.layers.Dense = model.get_layer(SCORES)
    kernel, bias = (graph.constant(f"{SCORES}/{name}", weight(getattr(scores, name))) for name in ("kernel", "bias"))
    graph.activation(scores.activation.__name__, graph.node("Gemm", [last, kernel, bias]), "probabilities")
    inputs = {"sequence": (FLOAT, ("n", "steps", embedding)), "lengths": (INT32, ("n",))}
    return graph.finish("gru", inputs, {"probabilities": (FLOAT, ("n", CLASSES))}, about)


def _outputs(graph: Graph, values: Mapping[str, str]) -> None:
    graph.node("Identity", [values[SCORES]], outputs=["probabilities"])
    graph.node("Identity", [values[EMBEDDING]], outputs=["embedding"])


def _gru(graph: Graph, layer: keras.layers.GRU, value: str, *, last: bool) -> str:
    """A GRU layer over (steps, n, width): the states of all steps (steps, 1, n, units), or the last true one of each row (1, n, units).

    Keras and ONNX order the gates alike (update, reset, candidate), and Keras's reset_after is ONNX's linear_before_reset.
    """
    if not layer.reset_after or layer.go_backwards or layer.activation.__name__ != "tanh" or layer.recurrent_activation.__name__ != "sigmoid":
        raise StudyError(f"export: layer {layer.name!r} is a GRU of another kind than Keras's default, which has no ONNX form here")
    kernel = graph.constant(f"{layer.name}/kernel", weight(layer.cell.kernel).T[None])
    recurrent = graph.constant(f"{layer.name}/recurrent_kernel", weight(layer.cell.recurrent_kernel).T[None])
    bias = graph.constant(f"{layer.name}/bias", weight(layer.cell.bias).reshape(1, -1))
    name = f"{layer.name}/states"
    outputs = ["", name] if last else [name]
    graph.node("GRU", [value, kernel, recurrent, bias, "lengths"], outputs=outputs, hidden_size=layer.units, linear_before_reset=1)
    return name
