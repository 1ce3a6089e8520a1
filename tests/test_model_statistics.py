"""Batch-normalisation statistics are those of the whole set of images."""

import keras
import numpy as np
import pytest

from renal_ray.model.backbone import build_backbone, scaled
from renal_ray.model.statistics import reestimate_batch_norm
from renal_ray.model.weights import calibrate

RNG = np.random.default_rng(6)


def small_model() -> keras.Model:
    inputs = keras.Input((4, 4, 2))
    first = keras.layers.BatchNormalization(scale=False, momentum=0.9, name="first")(inputs)
    return keras.Model(
        inputs, keras.layers.BatchNormalization(name="second")(keras.layers.ReLU()(first))
    )


def moments(model: keras.Model, name: str) -> tuple[np.ndarray, np.ndarray]:
    layer = model.get_layer(name)
    return keras.ops.convert_to_numpy(layer.moving_mean), keras.ops.convert_to_numpy(
        layer.moving_variance
    )


def test_statistics_are_those_computed_by_hand() -> None:
    model = small_model()
    batches = [
        RNG.normal(number, 1 + number, (size, 4, 4, 2)).astype(np.float32)
        for number, size in enumerate((5, 5, 2))
    ]
    assert reestimate_batch_norm(model, iter(batches)) == 12
    together = np.concatenate(batches).astype(np.float64)
    mean, variance = moments(model, "first")
    np.testing.assert_allclose(mean, together.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(variance, together.var((0, 1, 2)), rtol=1e-5)
    normalised = [
        (batch - batch.mean((0, 1, 2))) / np.sqrt(batch.var((0, 1, 2)) + 1e-3) for batch in batches
    ]
    after = np.maximum(
        np.concatenate(normalised), 0
    )  # upstream normalised by each batch's own statistics
    mean, variance = moments(model, "second")
    np.testing.assert_allclose(mean, after.mean((0, 1, 2)), rtol=1e-4)
    np.testing.assert_allclose(variance, after.var((0, 1, 2)), rtol=1e-4)


def test_frozen_layers_and_momenta_stay() -> None:
    model = small_model()
    model.get_layer("first").trainable = False
    before = moments(model, "first")
    reestimate_batch_norm(model, [RNG.normal(3, 2, (6, 4, 4, 2))])
    np.testing.assert_array_equal(moments(model, "first"), before)
    assert (model.get_layer("first").momentum, model.get_layer("second").momentum) == (0.9, 0.99)


def test_compiled_training_before_and_after_keeps_its_momentum() -> None:
    model = small_model()
    model.compile(optimizer=keras.optimizers.SGD(0.0), loss="mse", jit_compile=False)
    batch = RNG.normal(2, 3, (6, 4, 4, 2)).astype(np.float32)
    model.train_on_batch(batch, batch)
    reestimate_batch_norm(model, [batch])
    at_population, _ = moments(model, "first")
    model.train_on_batch(batch + 1, batch)
    moved, _ = moments(model, "first")
    np.testing.assert_allclose(moved - at_population, 0.1, rtol=1e-3)


def test_no_images_and_no_layers() -> None:
    with pytest.raises(ValueError, match="at least one image"):
        reestimate_batch_norm(small_model(), [])
    inputs = keras.Input((3,))
    assert (
        reestimate_batch_norm(keras.Model(inputs, keras.layers.Dense(2)(inputs)), [np.ones((1, 3))])
        == 0
    )


def test_random_network_lives_after_calibration() -> None:
    images = RNG.integers(0, 256, (24, 96, 96, 3), dtype=np.uint8)
    backbone = build_backbone(96)
    assert backbone.predict_on_batch(scaled(images)).std() < 0.01
    backbone.layers[3].trainable = False
    assert calibrate(backbone, [images[:16], images[16:]]) == 24
    assert not backbone.layers[3].trainable
    assert 0.1 < backbone.predict_on_batch(scaled(images)).std() < 2
