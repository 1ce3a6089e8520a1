"""A model that is reset gives the numbers of a fresh one, to the last digit."""

import numpy as np
import pytest

from renal_ray.model.backbone import build_backbone, build_suffix
from renal_ray.model.compiled import CompiledModel
from renal_ray.model.heads import fc_model, gru_model, image_model
from renal_ray.model.initial import redraw, weights_by_name
from renal_ray.model.shapes import activation_shape
from renal_ray.problems import StudyError
from renal_ray.types import FreezePoint

SIZE = 75
RNG = np.random.default_rng(8)
LABELS = np.arange(10) % 2
ACTIVATIONS = {
    freeze: RNG.random((10, *activation_shape(SIZE, freeze)), np.float32)
    for freeze in (FreezePoint.MIXED9, FreezePoint.MIXED10)
}
SEQUENCES = RNG.random((10, 4, 6), np.float32)


@pytest.fixture(scope="module")
def backbone_weights() -> dict[str, np.ndarray]:
    backbone = build_backbone(SIZE)
    redraw(backbone, seed=2)
    return weights_by_name(backbone)


def mixed9() -> CompiledModel:
    return CompiledModel(image_model(build_suffix(SIZE, FreezePoint.MIXED9), embedding=8))


def mixed10() -> CompiledModel:
    return CompiledModel(image_model(build_suffix(SIZE, FreezePoint.MIXED10), embedding=8))


def gru() -> CompiledModel:
    return CompiledModel(gru_model(6, units=3))


def fc() -> CompiledModel:
    return CompiledModel(fc_model(6, width=5))


def trained(
    compiled: CompiledModel, inputs: np.ndarray, weights: dict[str, np.ndarray] | None
) -> list[np.ndarray]:
    """Losses and weights of three short epochs, the last batch of each smaller than the others."""
    compiled.reset(seed=7, weights=weights)
    losses = [
        compiled.train_epoch([(inputs[at : at + 4], LABELS[at : at + 4]) for at in (0, 4, 8)])
        for _ in range(3)
    ]
    return [
        np.array(losses),
        *compiled.get_weights_by_name().values(),
        *compiled.embedding_and_scores(inputs, 4),
    ]


@pytest.mark.parametrize(
    ("make", "inputs"),
    [
        (mixed9, ACTIVATIONS["mixed9"]),
        (mixed10, ACTIVATIONS["mixed10"]),
        (gru, SEQUENCES),
        (fc, SEQUENCES[:, 0]),
    ],
)
def test_reset_equals_fresh(make, inputs, backbone_weights: dict[str, np.ndarray]) -> None:
    weights = backbone_weights if make in (mixed9, mixed10) else None
    reused = make()
    first = trained(reused, inputs, weights)
    second = trained(reused, inputs, weights)
    fresh = trained(make(), inputs, weights)
    for one, two, three in zip(first, second, fresh, strict=True):
        np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(one, three)
    assert first[0][0, 0] != first[0][2, 0]


def test_reset_sets_the_body_and_draws_the_head_by_seed(
    backbone_weights: dict[str, np.ndarray],
) -> None:
    compiled = mixed9()
    compiled.reset(seed=1, weights=backbone_weights)
    one = compiled.get_weights_by_name()
    compiled.reset(seed=2, weights=backbone_weights)
    two = compiled.get_weights_by_name()
    for name in one:
        assert np.array_equal(one[name], two[name]) == (
            name not in ("embedding/kernel", "scores/kernel")
        ), name
        if name in backbone_weights:
            np.testing.assert_array_equal(one[name], backbone_weights[name])
    assert np.abs(one["embedding/kernel"]).max() <= np.sqrt(
        6 / (2048 + 8)
    )  # Glorot and Bengio 2010: uniform within this


def test_learning_rate_can_change_and_stays() -> None:
    compiled = fc()
    inputs = SEQUENCES[:, 0]
    moved = []
    for rate in (0.1, None, 0.2):
        compiled.reset(seed=3, learning_rate=rate)
        before = compiled.get_weights_by_name()["scores/bias"]
        compiled.train_epoch([(inputs, LABELS)])
        moved.append(compiled.get_weights_by_name()["scores/bias"] - before)
    np.testing.assert_array_equal(moved[0], moved[1])
    np.testing.assert_allclose(moved[2], 2 * moved[0], rtol=1e-5)


def test_embedding_and_scores_are_the_models_own_layers() -> None:
    compiled = mixed10()
    compiled.reset(seed=4)
    inputs = ACTIVATIONS["mixed10"]
    embeddings, scores = compiled.embedding_and_scores(inputs, 4)
    weights = compiled.get_weights_by_name()
    expected = np.maximum(inputs @ weights["embedding/kernel"] + weights["embedding/bias"], 0)
    np.testing.assert_allclose(embeddings, expected, rtol=1e-4, atol=1e-5)
    logits = expected @ weights["scores/kernel"] + weights["scores/bias"]
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(logits[:, 0] - logits[:, 1])), rtol=1e-4)
    assert embeddings.dtype == scores.dtype == np.float32
    nothing, none = compiled.embedding_and_scores(inputs[:0], 4)
    assert (nothing.shape, none.shape) == ((0, 8), (0,))


def test_loss_and_accuracy_are_those_of_the_epoch() -> None:
    compiled = fc()
    compiled.reset(seed=5, learning_rate=1e-12)
    inputs = SEQUENCES[:, 0]
    loss, accuracy = compiled.train_epoch([(inputs[:7], LABELS[:7]), (inputs[7:], LABELS[7:])])
    _, scores = compiled.embedding_and_scores(inputs, 10)
    assert loss == pytest.approx(
        -np.log(np.where(LABELS == 1, scores, 1 - scores)).mean(), rel=1e-5
    )
    assert accuracy == pytest.approx(((scores > 0.5) == LABELS).mean())


def test_weights_go_out_and_in() -> None:
    one, two = fc(), fc()
    one.reset(seed=1)
    two.reset(seed=2)
    two.set_weights_by_name(one.get_weights_by_name())
    np.testing.assert_array_equal(
        one.embedding_and_scores(SEQUENCES[:, 0], 10)[1],
        two.embedding_and_scores(SEQUENCES[:, 0], 10)[1],
    )


def test_weights_that_do_not_fit_are_refused_whole(backbone_weights: dict[str, np.ndarray]) -> None:
    compiled = fc()
    before = compiled.get_weights_by_name()
    with pytest.raises(StudyError, match="scores/bias is missing"):
        compiled.set_weights_by_name(
            {name: array + 1 for name, array in before.items() if name != "scores/bias"}
        )
    with pytest.raises(StudyError, match=r"scores/bias has shape \(3,\), the model needs \(2,\)"):
        compiled.set_weights_by_name(
            {name: array + 1 for name, array in before.items()} | {"scores/bias": np.zeros(3)}
        )
    for name, array in compiled.get_weights_by_name().items():
        np.testing.assert_array_equal(array, before[name])
    with pytest.raises(StudyError, match="gru_1/bias is surplus"):
        compiled.set_weights_by_name(before | {"gru_1/bias": np.zeros(3)})
    with pytest.raises(StudyError, match="conv2d_90/extra is surplus"):
        mixed9().reset(seed=1, weights=backbone_weights | {"conv2d_90/extra": np.zeros(3)})
    with pytest.raises(StudyError, match=r"conv2d_8.* are missing"):
        mixed9().reset(
            seed=1,
            weights={
                name: array
                for name, array in backbone_weights.items()
                if not name.startswith("conv2d_8")
            },
        )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"optimizer/99": np.zeros(3, np.float32)}, "optimizer/99 is surplus"),
        ({"dropout/state": np.zeros(2, np.uint32)}, "dropout/state is surplus"),
        ({"gru_3/bias": np.zeros(3, np.float32)}, "gru_3/bias is surplus"),
        ({"optimizer/0": None}, "optimizer/0 is missing"),
        ({"optimizer/0": np.zeros((7, 7), np.float32)}, r"optimizer/0 has shape \(7, 7\)"),
    ],
)
def test_a_state_of_another_model_is_refused_whole(
    change: dict[str, np.ndarray | None], said: str
) -> None:
    compiled = fc()
    compiled.reset(seed=1)
    state = compiled.state() | change
    other = fc()
    other.reset(seed=2)
    before = other.state()
    with pytest.raises(StudyError, match=said):
        other.restore({name: array for name, array in state.items() if array is not None})
    for name, array in other.state().items():
        np.testing.assert_array_equal(array, before[name])


def test_an_epoch_without_batches_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one batch"):
        fc().train_epoch([])
