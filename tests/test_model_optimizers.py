"""Settings that are variables: the numbers of Keras's own optimizers, changed without a new
compilation."""

import keras
import numpy as np
import pytest

from renal_ray.model.compiled import CompiledModel, Resident
from renal_ray.model.dropout import ResettableDropout, dropout_of
from renal_ray.model.heads import fc_model, gru_model
from renal_ray.model.optimizers import Rates, make_optimizer
from renal_ray.model.precision import computing_in

RNG = np.random.default_rng(0)
INPUTS = RNG.normal(size=(24, 6)).astype(np.float32)
LABELS = (INPUTS[:, 0] + INPUTS[:, 1] > 0).astype(np.int32)
BATCHES = [(INPUTS[start : start + 8], LABELS[start : start + 8]) for start in (0, 8, 16)]


def compiled(
    optimizer: str = "sgd",
    *,
    decays: bool = False,
    dropout: bool = False,
    precision: str = "float32",
) -> CompiledModel:
    return CompiledModel(
        fc_model(6, width=5, dropout=dropout),
        optimizer=optimizer,
        decays=decays,
        precision=precision,
    )


def by_keras(
    optimizer: keras.optimizers.Optimizer,
    *,
    smoothing: float = 0.0,
    l2: float = 0.0,
    epochs: int = 3,
) -> dict[str, np.ndarray]:
    """The same training by `model.fit`'s own step, from the same first weights."""
    ours = compiled()
    ours.reset(seed=1)
    model = ours.model
    if l2:  # the gradient of l2 / 2 w^2 is l2 w
        inputs = keras.Input((6,))
        penalty = keras.regularizers.L2(l2 / 2)
        hidden = keras.layers.Dense(5, activation="relu", kernel_regularizer=penalty)(inputs)
        outputs = keras.layers.Dense(2, activation="softmax", kernel_regularizer=penalty)(hidden)
        model = keras.Model(inputs, outputs)
        model.set_weights(ours.model.get_weights())
    model.compile(optimizer, keras.losses.CategoricalCrossentropy(label_smoothing=smoothing))
    for _ in range(epochs):
        for inputs, labels in BATCHES:
            model.train_on_batch(inputs, np.eye(2, dtype=np.float32)[labels])
    return dict(zip(ours.names, model.get_weights(), strict=True))


def trained(model: CompiledModel, rates: Rates, epochs: int = 3) -> dict[str, np.ndarray]:
    model.reset(seed=1, rates=rates)
    for _ in range(epochs):
        model.train_epoch(BATCHES)
    return model.get_weights_by_name()


def close(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> bool:
    return all(np.allclose(ours[name], theirs[name], atol=2e-6) for name in theirs)


def test_momentum_and_smoothing_are_keras_s_and_change_between_trainings() -> None:
    model = compiled()
    for momentum, smoothing in ((0.9, 0.0), (0.5, 0.2), (0.0, 0.1), (0.9, 0.0)):
        ours = trained(model, Rates(0.05, momentum, label_smoothing=smoothing))
        assert close(
            ours, by_keras(keras.optimizers.SGD(0.05, momentum=momentum), smoothing=smoothing)
        ), (momentum, smoothing)


@pytest.mark.parametrize("kind", ["adam", "adamw"])
def test_adam_is_keras_s_and_beta_1_changes_between_trainings(kind: str) -> None:
    model = compiled(kind)
    for beta in (0.9, 0.5):
        assert close(
            trained(model, Rates(0.01, beta)), by_keras(keras.optimizers.Adam(0.01, beta_1=beta))
        ), beta


def test_decay_is_added_to_the_gradient_or_decoupled_from_it_and_spares_the_biases() -> None:
    sgd, adam, adamw = (compiled(kind, decays=True) for kind in ("sgd", "adam", "adamw"))
    for decay in (0.1, 0.01):
        assert close(
            trained(sgd, Rates(0.05, 0.9, decay)),
            by_keras(keras.optimizers.SGD(0.05, momentum=0.9), l2=decay),
        )
        assert close(
            trained(adam, Rates(0.01, 0.9, decay)), by_keras(keras.optimizers.Adam(0.01), l2=decay)
        )
        theirs = keras.optimizers.AdamW(0.01, weight_decay=decay)
        theirs.exclude_from_weight_decay(var_names=["bias"])
        assert close(trained(adamw, Rates(0.01, 0.9, decay)), by_keras(theirs))
    assert close(
        trained(sgd, Rates(0.05, 0.9, 0.0)), by_keras(keras.optimizers.SGD(0.05, momentum=0.9))
    )


def test_an_unknown_optimizer_and_a_setting_that_a_model_lacks_are_refused() -> None:
    with pytest.raises(ValueError, match="sgd, adam or adamw"):
        make_optimizer("lion", Rates(), decays=False)
    with pytest.raises(ValueError, match="without weight decay"):
        compiled().reset(seed=0, rates=Rates(weight_decay=0.1))
    with pytest.raises(ValueError, match="without a dropout layer"):
        compiled().reset(seed=0, rates=Rates(dropout=0.1))


def test_dropout_is_of_its_rate_seeded_and_no_weight() -> None:
    layer = ResettableDropout()
    layer.build((None, 50))
    ones = np.ones((400, 50), np.float32)
    for rate in (0.3, 0.6):
        layer.reset(rate, 4)
        dropped = keras.ops.convert_to_numpy(layer(ones, training=True))
        assert (dropped == 0).mean() == pytest.approx(rate, abs=0.02)
        assert dropped.max() == pytest.approx(1 / (1 - rate), abs=1e-5)
        assert not np.array_equal(
            dropped, keras.ops.convert_to_numpy(layer(ones, training=True))
        )  # the next step draws anew
        layer.reset(rate, 4)
        assert np.array_equal(dropped, keras.ops.convert_to_numpy(layer(ones, training=True)))
        layer.reset(rate, 5)
        assert not np.array_equal(dropped, keras.ops.convert_to_numpy(layer(ones, training=True)))
    assert np.array_equal(keras.ops.convert_to_numpy(layer(ones)), ones)
    plain, with_dropout = compiled(), compiled(dropout=True)
    assert plain.names == with_dropout.names
    with_dropout.set_weights_by_name(plain.get_weights_by_name())
    for mine, theirs in zip(
        plain.embedding_and_scores(INPUTS, 8),
        with_dropout.embedding_and_scores(INPUTS, 8),
        strict=True,
    ):
        assert np.allclose(mine, theirs)


def test_a_training_with_dropout_is_repeated_by_its_seed_and_continued_from_its_state() -> None:
    model, rates = compiled(dropout=True), Rates(0.05, 0.9, dropout=0.5)
    first = trained(model, rates, epochs=4)
    assert close(trained(model, rates, epochs=4), first)
    assert not close(trained(model, rates._replace(dropout=0.1), epochs=4), first)
    trained(model, rates, epochs=2)
    state = model.state()
    assert dropout_of(model.model) is not None
    trained(model, Rates(0.5), epochs=1)
    model.reset(seed=9, rates=rates)
    model.restore(state)
    for _ in range(2):
        model.train_epoch(BATCHES)
    assert close(model.get_weights_by_name(), first)


def test_settings_hold_for_an_epoch_in_one_call_too() -> None:
    rates, order = Rates(0.05, 0.6, 0.05, 0.1), np.arange(24).reshape(3, 8)
    for kind in ("sgd", "adamw"):
        model = compiled(kind, decays=True)
        streamed = trained(model, rates, epochs=2)
        model.reset(seed=1, rates=rates)
        data = Resident(model.put(INPUTS), model.put(LABELS))
        for _ in range(2):
            model.train_resident(data, order)
        assert close(model.get_weights_by_name(), streamed)


def test_a_scaled_loss_takes_the_settings_too() -> None:
    model = compiled("adam", decays=True, precision="mixed_float16")
    assert close(
        trained(model, Rates(0.01, 0.5, 0.1)),
        trained(compiled("adam", decays=True), Rates(0.01, 0.5, 0.1)),
    )


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_dropout_computes_in_any_precision(precision: str) -> None:
    with computing_in(precision):
        model = fc_model(6, width=5, dropout=True)
    ours = CompiledModel(model, precision=precision)
    ours.reset(seed=1, rates=Rates(0.05, 0.9, dropout=0.3))
    assert np.isfinite(ours.train_epoch(BATCHES)[0])
    rate = dropout_of(model)
    assert rate is not None
    assert float(keras.ops.convert_to_numpy(rate.rate)) == pytest.approx(0.3)


@pytest.mark.parametrize("layers", [1, 3])
def test_gru_layers_are_as_many_as_asked(layers: int) -> None:
    model = gru_model(6, units=3, layers=layers, dropout=True)
    assert [layer.name for layer in model.layers if layer.name.startswith("gru_")] == [
        f"gru_{number}" for number in range(1, layers + 1)
    ]
    ours = CompiledModel(model)
    ours.reset(seed=1, rates=Rates(dropout=0.2))
    sequences = RNG.normal(size=(4, 5, 6)).astype(np.float32)
    assert np.isfinite(ours.train_epoch([(sequences, np.array([0, 1, 0, 1]))])[0])
    assert ours.embedding_and_scores(sequences, 4)[0].shape == (4, 3)
