"""Keras models as ONNX: checked by onnx, run by onnxruntime, against Keras itself."""

import keras
import numpy as np
import onnx
import onnxruntime
import pytest

from renal_ray.model.backbone import scaled
from renal_ray.model.heads import fc_model, gru_model, padded, strongest
from renal_ray.model.initial import redraw, weights_by_name
from renal_ray.model.onnx.graph import FLOAT, IR_VERSION, OPSET, Graph, add_layers
from renal_ray.model.onnx.models import fc_onnx, gru_onnx, image_onnx, whole_image_model
from renal_ray.model.weights import calibrate
from renal_ray.problems import StudyError

CLOSE = 1e-4


def run(file: bytes, **inputs: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def noise(n: int, size: int, seed: int = 0) -> np.ndarray:
    """Images that differ from each other in brightness and texture, uint8 (n, size, size, 3)."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(110, 60, (n, size // 5 + 1, size // 5 + 1, 3)).repeat(5, axis=1).repeat(5, axis=2)[:, :size, :size]
    return np.clip(coarse + rng.normal(0, 25, (n, size, size, 3)), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("size", [75, 96])
def test_whole_image_model(size: int) -> None:
    """Random weights with set statistics, so that the signal lives: an odd and an even grid, so that every padding is met."""
    from renal_ray.model.backbone import build_backbone
    from renal_ray.model.heads import image_model

    model = image_model(build_backbone(size), embedding=16)
    redraw(model, seed=3)
    calibrate(model, [noise(8, size, seed=1)])
    weights = weights_by_name(model)
    images = noise(5, size)
    expected = whole_image_model(size, 16, weights).predict_on_batch(scaled(images))
    embeddings = keras.Model(model.input, model.get_layer("embedding").output).predict_on_batch(scaled(images))
    assert np.ptp(expected[:, 1]) > 0.01  # scores that are all alike would agree with anything
    file = image_onnx(size, 16, weights, about="a test")
    found = run(file, images=images)
    np.testing.assert_allclose(found["probabilities"], expected, atol=CLOSE)
    np.testing.assert_allclose(found["embedding"], embeddings, atol=1e-3, rtol=1e-3)
    np.testing.assert_allclose(run(file, images=images[:1])["probabilities"], expected[:1], atol=CLOSE)
    assert file == image_onnx(size, 16, weights, about="a test")
    read = onnx.load_from_string(file)
    assert (read.ir_version, read.opset_import[0].version) == (IR_VERSION, OPSET)
    assert {node.domain for node in read.graph.node} == {""}


def test_fc_head() -> None:
    model = fc_model(12, width=12)
    redraw(model, seed=1)
    patients = [np.abs(np.random.default_rng(n).normal(size=(n + 1, 12))).astype(np.float32) for n in range(6)]
    expected = model.predict_on_batch(strongest(patients))
    np.testing.assert_allclose(run(fc_onnx(12, weights_by_name(model), about=""), strongest=strongest(patients))["probabilities"], expected, atol=CLOSE)


def test_gru_head_with_sequences_of_different_lengths() -> None:
    """What lies after a sequence's end changes nothing; without its length it would."""
    model = gru_model(12, units=7)
    redraw(model, seed=1)
    for layer in ("gru_1", "gru_2"):  # biases start at zero, and would then be tested by nothing
        bias = model.get_layer(layer).cell.bias
        bias.assign(np.random.default_rng(5).normal(size=bias.shape))
    patients = [np.abs(np.random.default_rng(n).normal(size=(n + 1, 12))).astype(np.float32) for n in range(6)]
    expected = model.predict_on_batch(padded(patients, 8))
    file = gru_onnx(12, 7, weights_by_name(model), about="")
    sequence = np.full((6, 8, 12), 99.0, np.float32)
    for row, one in zip(sequence, patients, strict=True):
        row[: len(one)] = one
    lengths = np.array([len(one) for one in patients], np.int32)
    np.testing.assert_allclose(run(file, sequence=sequence, lengths=lengths)["probabilities"], expected, atol=CLOSE)
    assert np.abs(run(file, sequence=sequence, lengths=np.full(6, 8, np.int32))["probabilities"] - expected).max() > 0.01


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(("edge", "window", "stride"), [(9, 3, 1), (9, 3, 2), (8, 3, 2), (8, 2, 2), (7, 5, 3)])
def test_padding_of_windows(padding: str, edge: int, window: int, stride: int) -> None:
    inputs = keras.Input((edge, edge + 1, 4), name="x")
    parts = [
        keras.layers.Conv2D(3, window, strides=stride, padding=padding, activation="tanh", bias_initializer="ones"),
        keras.layers.MaxPooling2D(window, strides=stride, padding=padding),
        keras.layers.AveragePooling2D(window, strides=stride, padding=padding),
    ]
    model = keras.Model(inputs, keras.layers.Concatenate(name="all")([part(inputs) for part in parts]))
    values = np.random.default_rng(0).normal(size=(2, edge, edge + 1, 4)).astype(np.float32)
    expected = model.predict_on_batch(values).transpose(0, 3, 1, 2)
    graph = Graph()
    out = add_layers(graph, model, {"x": "x"})["all"]
    file = graph.finish("windows", {"x": (FLOAT, ("n", 4, edge, edge + 1))}, {out: (FLOAT, ("n", *expected.shape[1:]))}, "")
    np.testing.assert_allclose(run(file, x=values.transpose(0, 3, 1, 2))[out], expected, atol=1e-5)


def test_an_unknown_layer_is_refused_by_name() -> None:
    inputs = keras.Input((4,), name="x")
    model = keras.Model(inputs, keras.layers.LayerNormalization(name="odd_one")(inputs))
    with pytest.raises(StudyError, match="'odd_one' is a LayerNormalization"):
        add_layers(Graph(), model, {"x": "x"})
    model = keras.Model(inputs, keras.layers.Dense(3, activation="gelu", name="gelu_one")(inputs))
    with pytest.raises(StudyError, match="gelu"):
        add_layers(Graph(), model, {"x": "x"})
    grouped = keras.Input((8, 8, 4), name="x")
    with pytest.raises(StudyError, match="'grouped'"):
        add_layers(Graph(), keras.Model(grouped, keras.layers.Conv2D(4, 3, groups=2, name="grouped")(grouped)), {"x": "x"})
