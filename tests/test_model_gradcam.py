"""Grad-CAM against finite differences, against CAM in closed form, and on images whose answer is
known."""

import keras
import numpy as np
import pytest

from renal_ray.model.gradcam import LAYER, GradCam
from renal_ray.model.heads import image_model
from renal_ray.model.initial import redraw, set_weights_by_name, weights_by_name
from renal_ray.model.precision import computing_in

PLACES, CHANNELS, WIDTH = 4, 5, 6


def convolutional(seed: int = 3) -> keras.Model:
    """An image model whose last convolution is called as InceptionV3's last concatenation: (n, 9,
    9, 2) to probabilities."""
    inputs = keras.Input((9, 9, 2), name="activation")
    features = keras.layers.Conv2D(CHANNELS, 3, strides=2, activation="relu", name=LAYER)(inputs)
    model = image_model(keras.Model(inputs, features), embedding=WIDTH)
    redraw(model, seed=seed)
    return model


def pooled(seed: int = 3) -> keras.Model:
    """An image model frozen up to mixed10: it reads pooled features."""
    inputs = keras.Input((CHANNELS,), name="activation")
    model = image_model(
        keras.Model(inputs, keras.layers.Identity(name="features")(inputs)), embedding=WIDTH
    )
    redraw(model, seed=seed)
    return model


def logit(features: np.ndarray, weights: dict[str, np.ndarray]) -> np.ndarray:
    """The logit of P(malignant) of feature maps (n, rows, columns, channels), in float64 and
    without Keras."""
    w = {name: value.astype(np.float64) for name, value in weights.items()}
    embedded = np.maximum(
        features.mean(axis=(1, 2)) @ w["embedding/kernel"] + w["embedding/bias"], 0
    )
    z = embedded @ w["scores/kernel"] + w["scores/bias"]
    return np.log(np.exp(z[:, 1]) / np.exp(z).sum(axis=1)) - np.log(
        np.exp(z[:, 0]) / np.exp(z).sum(axis=1)
    )


def by_differences(
    features: np.ndarray, weights: dict[str, np.ndarray], step: float = 1e-5
) -> np.ndarray:
    """Grad-CAM before the ReLU by central differences at every place and channel."""
    features = features.astype(np.float64)
    gradient = np.zeros_like(features)
    for place in np.ndindex(features.shape[1:]):
        moved = np.zeros(features.shape[1:])
        moved[place] = step
        gradient[(slice(None), *place)] = (
            logit(features + moved, weights) - logit(features - moved, weights)
        ) / (2 * step)
    return (gradient.mean(axis=(1, 2))[:, None, None] * features).sum(axis=-1)


@pytest.mark.parametrize("batch_size", [1, 4, 16])
def test_evidence_is_that_of_finite_differences(batch_size: int) -> None:
    model = convolutional()
    inputs = np.random.default_rng(0).normal(size=(5, 9, 9, 2)).astype(np.float32)
    features = keras.ops.convert_to_numpy(
        keras.Model(model.input, model.get_layer(LAYER).output)(inputs)
    )
    found = GradCam(model)(inputs, batch_size)
    wanted = by_differences(features, weights_by_name(model))
    assert found.shape == (5, PLACES, PLACES)
    assert found.dtype == np.float32
    assert wanted.std() > 0.01
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_a_model_of_pooled_features_is_explained_on_the_features_before_pooling() -> None:
    model = pooled()
    features = np.random.default_rng(1).random((3, 8, 8, CHANNELS), dtype=np.float32)
    np.testing.assert_allclose(
        GradCam(model)(features, 2), by_differences(features, weights_by_name(model)), atol=1e-6
    )


def test_with_a_linear_head_it_is_cam_in_closed_form() -> None:
    """B. Zhou et al., CVPR 2016: the class weights times the feature maps; Grad-CAM is that over
    the number of places."""
    model = pooled()
    weights = weights_by_name(model)
    weights["embedding/kernel"] = np.abs(
        weights["embedding/kernel"]
    )  # on features that are not negative the ReLU then lets all pass
    set_weights_by_name(model, weights)
    features = np.random.default_rng(2).random((4, 7, 3, CHANNELS), dtype=np.float32)
    classes = weights["embedding/kernel"] @ weights["scores/kernel"]
    cam = features @ (classes[:, 1] - classes[:, 0])
    np.testing.assert_allclose(GradCam(model)(features, 4), cam / 21, atol=1e-6)


def test_weights_are_those_of_the_moment() -> None:
    model, inputs = (
        convolutional(),
        np.random.default_rng(4).normal(size=(2, 9, 9, 2)).astype(np.float32),
    )
    gradcam = GradCam(model)
    before = gradcam(inputs, 2)
    redraw(model, seed=9)
    assert np.abs(gradcam(inputs, 2) - before).max() > 0.01
    redraw(model, seed=3)
    np.testing.assert_allclose(gradcam(inputs, 2), before, atol=1e-7)


def test_the_logit_keeps_its_gradient_where_the_probability_is_one() -> None:
    model = pooled()
    weights = weights_by_name(model)
    weights["scores/bias"] = np.array([0, 60], np.float32)  # P(malignant) is 1 in float32
    features = np.random.default_rng(5).random((2, 4, 4, CHANNELS), dtype=np.float32)
    before = GradCam(model)(features, 2)
    set_weights_by_name(model, weights)
    np.testing.assert_allclose(GradCam(model)(features, 2), before, atol=1e-7)
    assert np.abs(before).max() > 0.01


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_in_mixed_precision_it_is_the_same_but_for_rounding(precision: str) -> None:
    with computing_in(precision):
        model = convolutional()
    inputs = np.random.default_rng(0).normal(size=(5, 9, 9, 2)).astype(np.float32)
    wanted = GradCam(convolutional())(inputs, 5)
    found = GradCam(model)(inputs, 5)
    assert found.dtype == np.float32
    assert np.abs(found - wanted).max() > 0  # it was computed in fewer digits
    np.testing.assert_allclose(found, wanted, atol=0.05 * np.abs(wanted).max())
