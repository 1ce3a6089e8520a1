"""The compiled steps against Keras's own: one step, a whole epoch in one call, fused batch
normalisation, other precisions."""

import keras
import numpy as np
import pytest

from renal_ray.model.backbone import build_backbone, build_suffix
from renal_ray.model.compiled import CompiledModel, Resident
from renal_ray.model.heads import fc_model, gru_model, image_model
from renal_ray.model.initial import redraw, weights_by_name
from renal_ray.model.precision import computing_in
from renal_ray.model.shapes import activation_shape
from renal_ray.model.statistics import reestimate_batch_norm
from renal_ray.types import FreezePoint

SIZE = 75
RNG = np.random.default_rng(3)
LABELS = (np.arange(24) % 3 == 0).astype(np.int64)
INPUTS = {"fc": RNG.random((24, 6), np.float32), "gru": RNG.random((24, 4, 6), np.float32)}
INPUTS["mixed9"] = RNG.random((24, *activation_shape(SIZE, FreezePoint.MIXED9)), np.float32)
ORDER = RNG.permutation(24)[:20].reshape(5, 4)


def network(kind: str) -> keras.Model:
    if kind == "mixed9":
        return image_model(build_suffix(SIZE, FreezePoint.MIXED9), embedding=8)
    return fc_model(6, width=5) if kind == "fc" else gru_model(6, units=3)


@pytest.mark.parametrize("kind", ["fc", "gru", "mixed9"])
def test_an_epoch_is_what_keras_trains(kind: str) -> None:
    """The oracle is Keras's own train_on_batch, on mixed9 with its own unfused batch
    normalisation."""
    ours = CompiledModel(network(kind), learning_rate=0.05)
    ours.reset(seed=1)
    theirs = network(kind)
    if kind == "mixed9":
        theirs = keras.models.clone_model(theirs, clone_function=lambda layer: _unfused(layer))
    for variable, value in zip(theirs.weights, ours.model.weights, strict=True):
        variable.assign(value)
    theirs.compile(
        optimizer=keras.optimizers.SGD(0.05, momentum=0.9),
        loss="categorical_crossentropy",
        jit_compile=False,
    )
    told = []
    for rows in ORDER:
        theirs.reset_metrics()
        told.append(
            float(
                np.ravel(
                    theirs.train_on_batch(
                        INPUTS[kind][rows], np.eye(2, dtype=np.float32)[LABELS[rows]]
                    )
                )[0]
            )
        )
    loss, _ = ours.train_epoch([(INPUTS[kind][rows], LABELS[rows]) for rows in ORDER])
    assert loss == pytest.approx(np.mean(told), rel=1e-4)
    for mine, other in zip(ours.model.weights, theirs.weights, strict=True):
        np.testing.assert_allclose(
            keras.ops.convert_to_numpy(mine),
            keras.ops.convert_to_numpy(other),
            rtol=2e-3,
            atol=2e-4,
            err_msg=mine.path,
        )


def _unfused(layer: keras.Layer) -> keras.Layer:
    kind = (
        keras.layers.BatchNormalization
        if isinstance(layer, keras.layers.BatchNormalization)
        else type(layer)
    )
    return kind.from_config(layer.get_config())


@pytest.mark.parametrize("kind", ["fc", "gru", "mixed9"])
def test_an_epoch_in_one_call_is_the_epoch_step_by_step(kind: str) -> None:
    compiled = CompiledModel(network(kind), learning_rate=0.05)
    compiled.reset(seed=2)
    stepped = compiled.train_epoch([(INPUTS[kind][rows], LABELS[rows]) for rows in ORDER])
    weights = compiled.get_weights_by_name()
    _, scores = compiled.embedding_and_scores(INPUTS[kind], 4)
    compiled.reset(seed=2)
    data = Resident(compiled.put(INPUTS[kind]), compiled.put(LABELS.astype(np.int32)))
    whole = compiled.train_resident(data, ORDER)
    assert whole == pytest.approx(stepped, rel=1e-5)
    for name, value in compiled.get_weights_by_name().items():
        np.testing.assert_allclose(value, weights[name], rtol=1e-4, atol=1e-6, err_msg=name)
    np.testing.assert_allclose(
        compiled.scores_resident(data, np.arange(24).reshape(6, 4)).reshape(-1),
        scores,
        rtol=1e-4,
        atol=1e-6,
    )


def test_an_epoch_in_one_call_takes_the_rows_it_is_told() -> None:
    compiled = CompiledModel(fc_model(6, width=5), learning_rate=0.05)
    losses = []
    for order in (ORDER, ORDER[::-1], ORDER[:3]):
        compiled.reset(seed=2)
        losses.append(
            compiled.train_resident(
                Resident(compiled.put(INPUTS["fc"]), compiled.put(LABELS.astype(np.int32))), order
            )[0]
        )
    assert len(set(losses)) == 3
    with pytest.raises(ValueError, match="at least one batch"):
        compiled.train_resident(
            Resident(compiled.put(INPUTS["fc"]), compiled.put(LABELS.astype(np.int32))), ORDER[:0]
        )


@pytest.mark.parametrize("learning", [True, False])
def test_fused_batch_normalisation_has_keras_s_numbers(learning: bool) -> None:
    from renal_ray.model.steps.normalization import fused

    theirs = keras.layers.BatchNormalization(momentum=0.9, scale=False)
    values = RNG.normal(3, 2, (5, 4, 3, 7)).astype(np.float32)
    theirs.build(values.shape)
    theirs.moving_mean.assign(RNG.random(7))
    theirs.moving_variance.assign(RNG.random(7) + 0.5)
    ours = fused(theirs)
    ours.build(values.shape)
    for mine, other in zip(ours.weights, theirs.weights, strict=True):
        mine.assign(other)
    found, wanted = (
        keras.ops.convert_to_numpy(layer(values, training=learning)) for layer in (ours, theirs)
    )
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    for mine, other in zip(ours.weights, theirs.weights, strict=True):
        np.testing.assert_allclose(
            keras.ops.convert_to_numpy(mine),
            keras.ops.convert_to_numpy(other),
            rtol=1e-5,
            err_msg=mine.path,
        )


def test_compiled_statistics_are_the_eager_ones() -> None:
    compiled = CompiledModel(network("mixed9"), learning_rate=0.05)
    compiled.reset(seed=4)
    compiled.train_epoch(
        [(INPUTS["mixed9"][rows], LABELS[rows]) for rows in ORDER]
    )  # a step compiled before keeps its own momentum
    before = compiled.get_weights_by_name()
    reestimate_batch_norm(compiled.model, [INPUTS["mixed9"][rows] for rows in ORDER])
    eager = compiled.get_weights_by_name()
    for _ in range(2):
        compiled.set_weights_by_name(before)
        assert compiled.reestimate(INPUTS["mixed9"][rows] for rows in ORDER) == 20
        for name, value in compiled.get_weights_by_name().items():
            np.testing.assert_allclose(value, eager[name], rtol=1e-3, atol=1e-5, err_msg=name)
    moved = [name for name in eager if not np.array_equal(eager[name], before[name])]
    assert moved
    assert all("moving_" in name for name in moved)


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_other_precisions_learn_the_same_and_keep_float32_weights(precision: str) -> None:
    backbone = build_backbone(SIZE)
    redraw(backbone, seed=2)
    weights = weights_by_name(backbone)
    found = {}
    for one in ("float32", precision):
        with computing_in(one):
            model = image_model(build_suffix(SIZE, FreezePoint.MIXED9), embedding=8)
        compiled = CompiledModel(model, precision=one)
        runs = []
        for _ in range(2):  # the second after a reset, which must clear the loss scale too
            compiled.reset(seed=5, weights=weights)
            loss, _ = compiled.train_epoch(
                [(INPUTS["mixed9"][rows], LABELS[rows]) for rows in ORDER]
            )
            runs.append((loss, *compiled.embedding_and_scores(INPUTS["mixed9"], 8)))
        assert runs[0][0] == runs[1][0]
        assert {str(variable.dtype) for variable in compiled.model.weights} == {"float32"}
        assert runs[0][1].dtype == runs[0][2].dtype == np.float32
        found[one] = runs[0]
    assert keras.config.dtype_policy().name == "float32"
    assert found[precision][0] == pytest.approx(found["float32"][0], rel=0.05)
    assert (
        found[precision][0] != found["float32"][0]
    )  # or it would not compute in another precision at all
