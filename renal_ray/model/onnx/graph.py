"""A flat Keras model as an ONNX graph: one node, or a few, a layer. Images inside are (n, channels, rows, columns), as ONNX has them."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import onnx
from numpy.typing import ArrayLike
from onnx import TensorProto, helper, numpy_helper

from renal_ray.problems import StudyError

OPSET = 13  # the oldest with Softmax along one axis; read by every ONNX runtime since 2020
IR_VERSION = 7  # goes with it
ACTIVATIONS = {"relu": "Relu", "softmax": "Softmax", "sigmoid": "Sigmoid", "tanh": "Tanh"}


class Graph:
    """Nodes and constants as they are added; values are known by name."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self._count = 0

    def constant(self, name: str, values: ArrayLike) -> str:
        """Adds an array under a name that no other has."""
        if name in self._constants:
            raise ValueError(f"constant {name} is there already")
        self._constants[name] = numpy_helper.from_array(np.array(values, order="C"), name)
        return name

    def node(self, kind: str, inputs: list[str], *, outputs: list[str] | None = None, **attributes: Any) -> str:
        """Adds a node and returns the name of its first output; "" stands for an input or output that is left out."""
        self._count += 1
        named = outputs or [f"{kind.lower()}_{self._count}"]
        self._nodes.append(helper.make_node(kind, inputs, named, name=f"{self._count}_{kind}", **attributes))
        return named[0]

    def activation(self, name: str, value: str, output: str | None = None) -> str:
        """Adds an activation by its Keras name.

        Raises:
            StudyError: ONNX has none of that name here.
        """
        outputs = None if output is None else [output]
        if name == "linear":
            return self.node("Identity", [value], outputs=outputs) if output else value
        if name not in ACTIVATIONS:
            raise StudyError(f"export: the activation {name!r} has no ONNX form here; known are {', '.join(sorted(ACTIVATIONS))} and linear")
        attributes = {"axis": -1} if name == "softmax" else {}
        return self.node(ACTIVATIONS[name], [value], outputs=outputs, **attributes)

    def finish(self, name: str, inputs: Mapping[str, tuple[int, tuple]], outputs: Mapping[str, tuple[int, tuple]], about: str) -> bytes:
        """The model as a file, checked.

        Args:
            name: of the graph.
            inputs: name -> element type (onnx.TensorProto) and shape; a text is a dimension of any size.
            outputs: likewise.
            about: what the model is, for a person.

        Raises:
            onnx.checker.ValidationError: the graph is none: a defect of the program.
        """
        taken, given = ([helper.make_tensor_value_info(key, *kind) for key, kind in values.items()] for values in (inputs, outputs))
        graph = helper.make_graph(self._nodes, name, taken, given, initializer=list(self._constants.values()))
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="renal-ray", doc_string=about)
        model.ir_version = IR_VERSION
        onnx.checker.check_model(model, full_check=True)
        return bytes(model.SerializeToString(deterministic=True))


Writer = Callable[[Graph, keras.Layer, list[str]], str]


def add_layers(graph: Graph, model: keras.Model, inputs: Mapping[str, str]) -> dict[str, str]:
    """Adds the layers of a flat functional model.

    Args:
        graph: what is added to.
        model: no model inside it, each layer called once.
        inputs: name of an input layer -> the value that stands for it; an image's is (n, channels, rows, columns).

    Returns:
        Name of every layer -> its value in the graph.

    Raises:
        StudyError: a layer has no ONNX form here; the message names it.
    """
    known: dict[int, str] = {}
    values: dict[str, str] = {}
    waiting = list(model.layers)
    while waiting:
        ready = [layer for layer in waiting if isinstance(layer, keras.layers.InputLayer) or all(id(one) in known for one in _inputs(layer))]
        if not ready:
            raise StudyError(f"export: the inputs of layer {waiting[0].name!r} are not outputs of the model's layers; give a flat model")
        for layer in ready:
            waiting.remove(layer)
            value = inputs[layer.name] if isinstance(layer, keras.layers.InputLayer) else _add(graph, layer, [known[id(one)] for one in _inputs(layer)])
            known[id(layer.output)] = values[layer.name] = value
    return values


def _inputs(layer: keras.Layer) -> list[Any]:
    return layer.input if isinstance(layer.input, list) else [layer.input]


def _add(graph: Graph, layer: keras.Layer, inputs: list[str]) -> str:
    for kind in type(layer).__mro__:  # a layer of our own, such as a fused batch normalisation, is written as the Keras layer that it stands for
        if kind in WRITERS:
            return WRITERS[kind](graph, layer, inputs)
    raise StudyError(f"export: layer {layer.name!r} is a {type(layer).__name__}, for which there is no ONNX form here; add one in renal_ray/model/onnx")


def weight(variable: keras.Variable) -> np.ndarray:
    """A weight's values, float32."""
    return np.asarray(keras.ops.convert_to_numpy(variable), np.float32)


def _conv(graph: Graph, layer: keras.layers.Conv2D, inputs: list[str]) -> str:
    if layer.data_format != "channels_last" or layer.groups != 1:
        raise StudyError(f"export: layer {layer.name!r} is a convolution with channels first or in groups, which has no ONNX form here")
    kernel = graph.constant(f"{layer.name}/kernel", weight(layer.kernel).transpose(3, 2, 0, 1))
    bias = [graph.constant(f"{layer.name}/bias", weight(layer.bias))] if layer.use_bias else []
    pads = _pads(layer, layer.kernel_size, layer.dilation_rate)
    value = graph.node("Conv", [*inputs, kernel, *bias], kernel_shape=layer.kernel_size, strides=layer.strides, dilations=layer.dilation_rate, pads=pads)
    return graph.activation(layer.activation.__name__, value)


def _pads(layer: keras.Layer, window: tuple[int, ...], dilation: tuple[int, ...] = (1, 1)) -> list[int]:
    """Padding of a window layer as ONNX has it: rows and columns before, then after. "same" puts the odd line after, as TensorFlow does."""
    if layer.padding == "valid":
        return [0, 0, 0, 0]
    before, after = [], []
    for edge, size, stride, gap in zip(layer.input.shape[1:3], window, layer.strides, dilation, strict=True):
        total = max(0, (-(-edge // stride) - 1) * stride + (size - 1) * gap + 1 - edge)
        before.append(total // 2)
        after.append(total - total // 2)
    return [*before, *after]


def _normalization(graph: Graph, layer: keras.layers.BatchNormalization, inputs: list[str]) -> str:
    if layer.axis not in (-1, len(layer.input.shape) - 1):
        raise StudyError(f"export: layer {layer.name!r} normalises along axis {layer.axis}, which has no ONNX form here")
    mean, variance = weight(layer.moving_mean), weight(layer.moving_variance)
    gamma = weight(layer.gamma) if layer.scale else np.ones_like(mean)
    beta = weight(layer.beta) if layer.center else np.zeros_like(mean)
    parts = {"gamma": gamma, "beta": beta, "moving_mean": mean, "moving_variance": variance}
    return graph.node(
        "BatchNormalization", [*inputs, *(graph.constant(f"{layer.name}/{key}", one) for key, one in parts.items())], epsilon=float(layer.epsilon)
    )


def _activation(graph: Graph, layer: keras.layers.Activation, inputs: list[str]) -> str:
    return graph.activation(layer.activation.__name__, inputs[0])


def _max_pool(graph: Graph, layer: keras.layers.MaxPooling2D, inputs: list[str]) -> str:
    return graph.node("MaxPool", inputs, kernel_shape=layer.pool_size, strides=layer.strides, pads=_pads(layer, layer.pool_size))


def _average_pool(graph: Graph, layer: keras.layers.AveragePooling2D, inputs: list[str]) -> str:
    # As in Keras, padding is not averaged over.
    pads = _pads(layer, layer.pool_size)
    return graph.node("AveragePool", inputs, kernel_shape=layer.pool_size, strides=layer.strides, pads=pads, count_include_pad=0)


def _concatenate(graph: Graph, layer: keras.layers.Concatenate, inputs: list[str]) -> str:
    rank = len(layer.output.shape)
    if layer.axis not in (-1, rank - 1):
        raise StudyError(f"export: layer {layer.name!r} concatenates along axis {layer.axis}, which has no ONNX form here")
    return graph.node("Concat", inputs, axis=1 if rank == 4 else rank - 1)


def _global_average(graph: Graph, layer: keras.layers.GlobalAveragePooling2D, inputs: list[str]) -> str:
    if layer.keepdims:
        raise StudyError(f"export: layer {layer.name!r} keeps the averaged dimensions, which has no ONNX form here")
    return graph.node("Flatten", [graph.node("GlobalAveragePool", inputs)])


def _dense(graph: Graph, layer: keras.layers.Dense, inputs: list[str]) -> str:
    if len(layer.input.shape) != 2:
        raise StudyError(f"export: layer {layer.name!r} is dense over more than one dimension, which has no ONNX form here")
    kernel = graph.constant(f"{layer.name}/kernel", weight(layer.kernel))
    bias = [graph.constant(f"{layer.name}/bias", weight(layer.bias))] if layer.use_bias else []
    return graph.activation(layer.activation.__name__, graph.node("Gemm", [*inputs, kernel, *bias]))


def _rescaling(graph: Graph, layer: keras.layers.Rescaling, inputs: list[str]) -> str:
    scale = graph.constant(f"{layer.name}/scale", np.float32(layer.scale))
    return graph.node("Add", [graph.node("Mul", [*inputs, scale]), graph.constant(f"{layer.name}/offset", np.float32(layer.offset))])


def _same(graph: Graph, layer: keras.Layer, inputs: list[str]) -> str:
    return inputs[0]


WRITERS: dict[type, Writer] = {
    keras.layers.Conv2D: _conv,
    keras.layers.BatchNormalization: _normalization,
    keras.layers.Activation: _activation,
    keras.layers.MaxPooling2D: _max_pool,
    keras.layers.AveragePooling2D: _average_pool,
    keras.layers.Concatenate: _concatenate,
    keras.layers.GlobalAveragePooling2D: _global_average,
    keras.layers.Dense: _dense,
    keras.layers.Rescaling: _rescaling,
    keras.layers.Identity: _same,
    keras.layers.Dropout: _same,
}
FLOAT, UINT8, INT32 = TensorProto.FLOAT, TensorProto.UINT8, TensorProto.INT32
