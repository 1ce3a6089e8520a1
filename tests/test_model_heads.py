"""The patient heads see every slice once, and nothing of the padding."""

import keras
import numpy as np
import pytest

from renal_ray.model.backbone import named_variables, variable_names
from renal_ray.model.compiled import CompiledModel
from renal_ray.model.heads import (
    PADDING,
    fc_model,
    gru_model,
    padded,
    strongest,
    trained_parameters,
)


def test_fc_takes_the_strongest_of_each_feature() -> None:
    inputs = strongest([np.array([[1, 5], [4, 2]]), np.array([[0, 3]])])
    np.testing.assert_array_equal(inputs, np.array([[4, 5], [0, 3]], np.float32))
    model = fc_model(2, width=6)
    assert model.predict_on_batch(inputs).shape == (2, 2)
    assert trained_parameters(model) == 2 * 6 + 6 + 6 * 2 + 2


def test_padding_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    patients = [
        np.maximum(rng.normal(size=(length, 5)), 0).astype(np.float32) for length in (1, 3, 6)
    ]
    patients[1][1] = 0  # an embedding of zeros is a slice, not padding
    model = gru_model(5, units=4)
    together = model.predict_on_batch(padded(patients, 9))
    for row, patient in zip(together, patients, strict=True):
        np.testing.assert_allclose(
            row, model.predict_on_batch(patient[None])[0], rtol=1e-5, atol=1e-6
        )
    without = model.predict_on_batch(np.delete(patients[1], 1, axis=0)[None])[0]
    assert not np.allclose(together[1], without, atol=1e-4)


def test_gru_reads_in_order() -> None:
    patient = np.random.default_rng(1).random((1, 6, 5), np.float32)
    model = gru_model(5, units=4)
    assert not np.allclose(
        model.predict_on_batch(patient), model.predict_on_batch(patient[:, ::-1]), atol=1e-4
    )


def test_padded_fills_after_the_last_slice() -> None:
    sequences = padded([np.ones((2, 3)), np.zeros((4, 3))], 4)
    assert sequences.shape == (2, 4, 3)
    assert (sequences[0, 2:] == PADDING).all()
    assert (sequences[1] == 0).all()


@pytest.mark.parametrize("lengths", [[5], [0, 2]])
def test_sequences_that_do_not_fit_are_refused(lengths: list[int]) -> None:
    with pytest.raises(ValueError, match="do not fit into 1 to 4 steps"):
        padded([np.ones((length, 3)) for length in lengths], 4)


def test_gru_penalises_input_and_recurrent_kernels() -> None:
    model = gru_model(5, units=4, l2=0.5)
    kernels = [
        variable
        for name, variable in named_variables(model).items()
        if name.startswith("gru") and name.endswith("kernel")
    ]
    squares = sum(float((keras.ops.convert_to_numpy(kernel) ** 2).sum()) for kernel in kernels)
    assert len(model.losses) == 4
    assert float(sum(model.losses)) == pytest.approx(0.5 * squares, rel=1e-5)
    assert variable_names(model)[:2] == ["gru_1/gru_cell/kernel", "gru_1/gru_cell/recurrent_kernel"]


def test_probabilities_are_float32_and_sum_to_one() -> None:
    sequences = padded([np.ones((2, 3)), np.zeros((4, 3))], 4)
    probabilities = gru_model(3, units=2).predict_on_batch(sequences)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)


def test_both_patient_heads_learn_what_is_there() -> None:
    rng = np.random.default_rng(5)
    labels = np.arange(24) % 2
    patients = [
        np.maximum(rng.normal(size=(rng.integers(1, 5), 8)), 0) + 2 * label for label in labels
    ]
    for model, inputs in (
        (fc_model(8, width=16), strongest(patients)),
        (gru_model(8, units=8), padded(patients, 4)),
    ):
        compiled = CompiledModel(model, learning_rate=0.05)
        compiled.reset(seed=0)
        for _ in range(30):
            _, accuracy = compiled.train_epoch([(inputs, labels)])
        assert accuracy >= 0.95
        _, scores = compiled.embedding_and_scores(inputs, 10)
        assert ((scores >= 0.5) == labels).mean() >= 0.95
