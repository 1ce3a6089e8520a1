"""Both pieces of a backbone together are the backbone, and only what lies after the freeze point
learns."""

import keras
import numpy as np
import pytest

from renal_ray.model import backbone as bb
from renal_ray.model.compiled import CompiledModel
from renal_ray.model.heads import image_model, trained_parameters
from renal_ray.model.initial import redraw, set_weights_by_name, weights_by_name
from renal_ray.model.shapes import activation_shape
from renal_ray.types import FREEZE_POINTS, FreezePoint

SIZE = 75
GAIN = 1.5  # on Glorot's kernels
FIRST_TRAINED = {
    FreezePoint.MIXED0: 12,
    FreezePoint.MIXED3: 30,
    FreezePoint.MIXED6: 60,
    FreezePoint.MIXED9: 85,
    FreezePoint.MIXED10: 94,
}


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Blocks of random colour, for noise alone looks the same to a random network whatever the
    image."""
    blocks = np.random.default_rng(3).integers(0, 256, (8, 5, 5, 3), dtype=np.uint8)
    return blocks.repeat(SIZE // 5, axis=1).repeat(SIZE // 5, axis=2)


@pytest.fixture(scope="module")
def whole() -> keras.Model:
    """A network whose signal neither dies nor, as after calibration, multiplies rounding errors ten
    thousand times."""
    backbone = bb.build_backbone(SIZE)
    redraw(backbone, seed=1)
    backbone.set_weights(
        [GAIN * array if array.ndim == 4 else array for array in backbone.get_weights()]
    )
    return backbone


@pytest.mark.parametrize("size", [75, 96, 128, 299])
def test_activation_shape_is_that_of_the_layers(size: int) -> None:
    backbone = bb.build_backbone(size)
    for freeze in FREEZE_POINTS:
        rows_columns_channels = backbone.get_layer(freeze.value).output.shape[1:]
        expected = (
            rows_columns_channels[-1:] if freeze == FreezePoint.MIXED10 else rows_columns_channels
        )
        assert activation_shape(size, freeze) == expected


def test_activation_shape_refuses_small_images() -> None:
    with pytest.raises(ValueError, match=r"74 pixels are too small.* 75 or more"):
        activation_shape(74, FreezePoint.MIXED0)


def test_names_do_not_depend_on_models_built_before(whole: keras.Model) -> None:
    again = bb.build_backbone(SIZE)
    names = bb.variable_names(again)
    assert names == bb.variable_names(whole)
    assert len(set(names)) == len(names) == len(again.weights)
    assert {"conv2d/kernel", "conv2d_93/kernel", "batch_normalization_93/moving_variance"} <= set(
        names
    )
    assert all(
        mine is theirs
        for mine, theirs in zip(bb.named_variables(again).values(), again.weights, strict=True)
    )


@pytest.mark.parametrize("freeze", FREEZE_POINTS)
def test_prefix_then_suffix_is_the_whole_model(
    whole: keras.Model, images: np.ndarray, freeze: FreezePoint
) -> None:
    pieces = bb.cut(whole, freeze)
    activations = pieces.prefix.predict_on_batch(images)
    assert activations.shape == (len(images), *activation_shape(SIZE, freeze))
    expected = whole.predict_on_batch(bb.scaled(images))
    if freeze == FreezePoint.MIXED10:
        expected = expected.mean(axis=(1, 2))
    np.testing.assert_allclose(
        pieces.suffix.predict_on_batch(activations), expected, rtol=1e-4, atol=1e-5
    )


def test_one_pass_yields_what_single_prefixes_yield(whole: keras.Model, images: np.ndarray) -> None:
    together = bb.multi_prefix(whole, FREEZE_POINTS).predict_on_batch(images)
    assert set(together) == set(FREEZE_POINTS)
    for freeze in FREEZE_POINTS:
        alone = bb.cut(whole, freeze).prefix.predict_on_batch(images)
        np.testing.assert_allclose(together[freeze.value], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("freeze", FREEZE_POINTS)
def test_only_layers_after_the_freeze_point_learn(
    whole: keras.Model, images: np.ndarray, freeze: FreezePoint
) -> None:
    pieces = bb.cut(whole, freeze)
    assert {layer.name for layer in whole.layers if layer.trainable and layer.weights} == {
        name.partition("/")[0]
        for name in bb.variable_names(whole)
        if _number(name) >= FIRST_TRAINED[freeze]
    }
    before = weights_by_name(whole)
    activations = pieces.prefix.predict_on_batch(images)
    compiled = CompiledModel(image_model(pieces.suffix, embedding=8))
    labels = np.arange(len(images)) % 2
    compiled.train_epoch([(activations, labels), (activations[::-1], labels)])
    after = weights_by_name(whole)
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    assert moved == {name for name in before if _number(name) >= FIRST_TRAINED[freeze]}
    np.testing.assert_array_equal(pieces.prefix.predict_on_batch(images), activations)
    set_weights_by_name(whole, before)


@pytest.mark.parametrize("freeze", [FreezePoint.MIXED9, FreezePoint.MIXED10])
def test_own_suffix_has_the_backbones_names_and_trains_all(
    whole: keras.Model, freeze: FreezePoint
) -> None:
    suffix = bb.build_suffix(SIZE, freeze)
    assert bb.variable_names(suffix) == [
        name for name in bb.variable_names(whole) if _number(name) >= FIRST_TRAINED[freeze]
    ]
    assert suffix.input_shape == (None, *activation_shape(SIZE, freeze))
    statistics = sum(
        2 for layer in suffix.layers if isinstance(layer, keras.layers.BatchNormalization)
    )
    assert len(suffix.trainable_variables) == len(suffix.weights) - statistics


def test_trained_parameters_fall_with_depth() -> None:
    shallow, deep = (
        trained_parameters(image_model(bb.build_suffix(SIZE, freeze)))
        for freeze in (FreezePoint.MIXED9, FreezePoint.MIXED10)
    )
    assert deep == 2048 * 1024 + 1024 + 1024 * 2 + 2
    assert shallow == deep + 6_073_536


def _number(name: str) -> int:
    layer = name.partition("/")[0]
    tail = layer.rpartition("_")[2]
    return int(tail) if tail.isdigit() else 0
