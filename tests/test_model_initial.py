"""Initial weights follow from the seed alone, whatever Keras computes with, and are distributed as
Keras's own."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from renal_ray.model.heads import fc_model, gru_model
from renal_ray.model.initial import drawn, redraw, weights_by_name

SHAPES = [
    (2048, 64),
    (3, 3, 3, 32),
    (1, 7, 128, 192),
    (3, 3, 448, 384),
]  # a dense kernel and InceptionV3's convolutions


def rng() -> np.random.Generator:
    return np.random.default_rng(5)


@pytest.mark.parametrize("shape", SHAPES)
def test_kernels_are_distributed_as_keras_s(shape: tuple[int, ...]) -> None:
    ours = drawn(keras.initializers.GlorotUniform(), shape, rng())
    theirs = keras.ops.convert_to_numpy(keras.initializers.GlorotUniform(seed=1)(shape))
    assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
    fan_in, fan_out = keras.src.initializers.random_initializers.compute_fans(shape)
    limit = np.sqrt(6 / (fan_in + fan_out))  # Glorot and Bengio 2010
    deviations = 4 / np.sqrt(ours.size)
    for array in (ours, theirs):
        assert 0.98 * limit < np.abs(array).max() <= np.float32(limit)
        assert abs(array.mean()) < deviations * limit / np.sqrt(3)
        assert array.var() == pytest.approx(limit**2 / 3, rel=deviations)


@pytest.mark.parametrize("shape", [(12, 36), (36, 12), (16, 16), (3, 4, 6)])
@pytest.mark.parametrize("gain", [1.0, 0.5])
def test_recurrent_kernels_are_orthogonal(shape: tuple[int, ...], gain: float) -> None:
    matrix = drawn(keras.initializers.Orthogonal(gain=gain), shape, rng()).reshape(-1, shape[-1])
    product = matrix @ matrix.T if len(matrix) < shape[-1] else matrix.T @ matrix
    np.testing.assert_allclose(product, gain**2 * np.eye(len(product)), atol=1e-6)


def test_no_orthogonal_matrix_is_preferred() -> None:
    """Without the sign of R's diagonal, QR's first entry is never positive."""
    ours = np.array(
        [
            drawn(keras.initializers.Orthogonal(), (3, 3), generator)[0, 0]
            for generator in map(np.random.default_rng, range(300))
        ]
    )
    theirs = np.array(
        [
            keras.ops.convert_to_numpy(keras.initializers.Orthogonal(seed=seed)((3, 3)))[0, 0]
            for seed in range(300)
        ]
    )
    for entries in (ours, theirs):  # an entry of a random rotation in space is uniform in -1..1
        assert abs(entries.mean()) < 4 / np.sqrt(3 * 300)
        assert entries.var() == pytest.approx(1 / 3, rel=0.25)


def test_offsets_and_scales_are_constant() -> None:
    np.testing.assert_array_equal(
        drawn(keras.initializers.Zeros(), (2, 3), rng()), np.zeros((2, 3))
    )
    np.testing.assert_array_equal(drawn(keras.initializers.Ones(), (4,), rng()), np.ones(4))


def test_another_initializer_is_refused() -> None:
    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.layers.Dense(2, kernel_initializer="he_normal")(inputs))
    with pytest.raises(ValueError, match=r"initializer HeNormal: .*GlorotUniform"):
        redraw(model, seed=1)


def test_layers_not_named_keep_their_weights() -> None:
    model = fc_model(6, width=5)
    before = weights_by_name(model)
    redraw(model, seed=1, layers=["scores"])
    after = weights_by_name(model)
    assert {name for name in before if not np.array_equal(before[name], after[name])} == {
        "scores/kernel"
    }


def test_another_seed_and_another_name_give_other_weights() -> None:
    kernels = []
    for seed in (1, 2):
        model = gru_model(8, units=8)
        redraw(model, seed=seed)
        kernels += [
            array
            for name, array in weights_by_name(model).items()
            if name.endswith("recurrent_kernel")
        ]
    assert len({array.tobytes() for array in kernels}) == 4


DRAW = """
import sys
import keras
import numpy as np
from renal_ray.model.backbone import build_backbone
from renal_ray.model.heads import gru_model, image_model
from renal_ray.model.initial import redraw, weights_by_name
found = {"backend": np.array(keras.backend.backend())}
for model in (image_model(build_backbone(75), embedding=64), gru_model(64, units=32)):
    redraw(model, seed=11)
    found |= weights_by_name(model)
np.savez(sys.argv[1], **found)
"""


def drawn_on(backend: str, file: Path) -> dict[str, np.ndarray]:
    subprocess.run(
        [sys.executable, "-c", DRAW, file], check=True, env=os.environ | {"KERAS_BACKEND": backend}
    )
    with np.load(file) as found:
        arrays = dict(found)
    assert arrays.pop("backend") == backend
    return arrays


def test_both_backends_draw_the_same_bits(tmp_path: Path) -> None:
    one, other = (
        drawn_on(backend, tmp_path / f"{backend}.npz") for backend in ("tensorflow", "jax")
    )
    assert (
        one.keys()
        == other.keys()
        >= {
            "conv2d_50/kernel",
            "embedding/kernel",
            "gru_1/gru_cell/kernel",
            "gru_2/gru_cell/recurrent_kernel",
        }
    )
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)
