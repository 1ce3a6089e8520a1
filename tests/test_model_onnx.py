"""Keras models as ONNX: written by Keras, checked by onnx, run by onnxruntime, against Keras
itself."""

from collections.abc import Mapping

import keras
import numpy as np
import onnx
import onnxruntime
import pytest

from renal_ray.model.backbone import scaled
from renal_ray.model.heads import padded, strongest
from renal_ray.model.initial import redraw, weights_by_name
from renal_ray.model.onnx import convert
from renal_ray.model.onnx.convert import Model, to_onnx
from renal_ray.model.onnx.models import Architecture, embedded, whole_model
from renal_ray.model.weight_files import save_weights_h5
from renal_ray.model.weights import calibrate
from renal_ray.problems import StudyError
from renal_ray.types import Head

CLOSE, WIDTH, SIZE = 1e-5, 12, 75
IMAGE_CLOSE = 1e-4  # normalisations are folded into convolutions, which rounds in another order
LAYERS = (1, 2, 3, 4)
ABOUT = "a test. Not for clinical use."


def run(file: bytes, **inputs: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def noise(n: int, seed: int = 0) -> np.ndarray:
    """Images that differ from each other in brightness and texture, uint8 (n, size, size, 3)."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(110, 60, (n, SIZE // 5, SIZE // 5, 3)).repeat(5, axis=1).repeat(5, axis=2)
    return np.clip(coarse + rng.normal(0, 25, (n, SIZE, SIZE, 3)), 0, 255).astype(np.uint8)


def architecture(head: Head, layers: int = 2) -> Architecture:
    return Architecture(head, SIZE, WIDTH, 7, layers)


@pytest.fixture(scope="module")
def in_keras() -> dict[str, keras.Model]:
    """Every kind of model, with weights that nothing is 0 in: biases start at 0, and would then be
    tested by nothing."""
    asked = {"image": architecture(Head.IMAGE), "fc": architecture(Head.FC)} | {
        f"gru{n}": architecture(Head.GRU, n) for n in LAYERS
    }
    models = {name: whole_model(one) for name, one in asked.items()}
    for name, model in models.items():
        redraw(model, seed=3)
        if name == "image":
            calibrate(model, [noise(8, seed=1)])
            kernel = model.get_layer("scores").kernel
            kernel.assign(
                kernel * 0.1
            )  # of a random network the features are large, and all scores nearly 1
        for variable in model.trainable_variables:
            if variable.name == "bias":
                variable.assign(np.random.default_rng(5).normal(size=variable.shape))
    return models


@pytest.fixture(scope="module")
def files(in_keras: dict[str, keras.Model]) -> Mapping[str, bytes]:
    """All of them as ONNX, by one process, as in a study on JAX: the image model alone takes most
    of a minute."""
    shapes = {"image": architecture(Head.IMAGE), "fc": architecture(Head.FC)} | {
        f"gru{n}": architecture(Head.GRU, n) for n in LAYERS
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_BACKEND", "jax")
        return to_onnx(
            {
                name: Model(shapes[name], save_weights_h5(weights_by_name(model)), ABOUT)
                for name, model in in_keras.items()
            }
        )


def patients() -> list[np.ndarray]:
    """Embeddings of six patients with 1 to 6 slices."""
    return [
        np.abs(np.random.default_rng(n).normal(size=(n + 1, WIDTH))).astype(np.float32)
        for n in range(6)
    ]


def test_whole_image_model(in_keras: dict[str, keras.Model], files: Mapping[str, bytes]) -> None:
    images = noise(5)
    embeddings, expected = embedded(in_keras["image"]).predict_on_batch(scaled(images))
    assert np.ptp(expected[:, 1]) > 0.01  # scores that are all alike would agree with anything
    found = run(files["image"], images=images)
    assert list(found) == ["probabilities", "embedding"]
    np.testing.assert_allclose(found["probabilities"], expected, atol=IMAGE_CLOSE)
    np.testing.assert_allclose(found["embedding"], embeddings, atol=1e-3, rtol=1e-3)
    np.testing.assert_allclose(
        run(files["image"], images=images[:1])["probabilities"], expected[:1], atol=IMAGE_CLOSE
    )


def test_fc_head(in_keras: dict[str, keras.Model], files: Mapping[str, bytes]) -> None:
    expected = in_keras["fc"].predict_on_batch(strongest(patients()))
    assert np.ptp(expected[:, 1]) > 0.01
    np.testing.assert_allclose(
        run(files["fc"], strongest=strongest(patients()))["probabilities"], expected, atol=CLOSE
    )


@pytest.mark.parametrize("layers", LAYERS)
def test_gru_heads_with_sequences_of_different_lengths(
    layers: int, in_keras: dict[str, keras.Model], files: Mapping[str, bytes]
) -> None:
    """Whatever number of layers; what lies behind a sequence's end changes nothing, and without its
    length it would."""
    expected = in_keras[f"gru{layers}"].predict_on_batch(padded(patients(), 8))
    assert np.ptp(expected[:, 1]) > 0.001
    sequence = np.full((6, 8, WIDTH), 99.0, np.float32)
    for row, one in zip(sequence, patients(), strict=True):
        row[: len(one)] = one
    lengths = np.array([len(one) for one in patients()], np.int32)
    found = run(files[f"gru{layers}"], sequence=sequence, lengths=lengths)["probabilities"]
    np.testing.assert_allclose(found, expected, atol=CLOSE)
    one = run(files[f"gru{layers}"], sequence=patients()[3][None], lengths=lengths[3:4])[
        "probabilities"
    ]
    np.testing.assert_allclose(one, expected[3:4], atol=CLOSE)
    assert (
        np.abs(
            run(files[f"gru{layers}"], sequence=sequence, lengths=np.full(6, 8, np.int32))[
                "probabilities"
            ]
            - expected
        ).max()
        > 0.001
    )


def test_what_is_promised_of_the_files(files: Mapping[str, bytes]) -> None:
    promised = {
        "image": (
            {"images": ("n", SIZE, SIZE, 3)},
            {"probabilities": ("n", 2), "embedding": ("n", WIDTH)},
        ),
        "fc": ({"strongest": ("n", WIDTH)}, {"probabilities": ("n", 2)}),
    } | {
        f"gru{n}": (
            {"sequence": ("n", "steps", WIDTH), "lengths": ("n",)},
            {"probabilities": ("n", 2)},
        )
        for n in LAYERS
    }
    for name, file in files.items():
        model = onnx.load_from_string(file)
        onnx.checker.check_model(model, full_check=True)
        assert {one.domain: one.version for one in model.opset_import}[""] == 13
        assert {node.domain for node in model.graph.node} == {""}
        assert model.doc_string == ABOUT
        shapes = [
            {
                one.name: tuple(
                    edge.dim_param or edge.dim_value for edge in one.type.tensor_type.shape.dim
                )
                for one in values
            }
            for values in (model.graph.input, model.graph.output)
        ]
        assert shapes == list(promised[name])
        for word in (b"/tmp", b"/home", b"site-packages"):  # nothing of the machine
            assert word not in file


def test_weights_of_another_number_of_layers_are_refused(in_keras: dict[str, keras.Model]) -> None:
    three = save_weights_h5(weights_by_name(in_keras["gru3"]))
    with pytest.raises(
        StudyError,
        match=(
            r"export: Keras did not write .* as ONNX: gru-fold0: weights: "
            r"gru_3/gru_cell/bias and 2 more are surplus"
        ),
    ):
        to_onnx({"gru-fold0": Model(architecture(Head.GRU, 2), three, ABOUT)})


def test_a_process_that_dies_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convert, "CHILD", "renal_ray.model.onnx.nothing")
    with pytest.raises(
        StudyError, match=r"export: Keras did not write fc-fold0 as ONNX: .*No module named"
    ):
        to_onnx({"fc-fold0": Model(architecture(Head.FC), b"", ABOUT)})
    assert convert._why(-9, "").endswith("signal SIGKILL: out of memory?")
    assert convert._why(3, "") == "its process ended with code 3"
