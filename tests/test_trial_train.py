"""The training loop, with a model that only notes what it is given."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from conftest import small_study

from renal_ray.trial.epoch import Epoch
from renal_ray.trial.feed import Feed, Picked, Samples
from renal_ray.trial.spec import Inputs, TrialSpec, make_spec
from renal_ray.trial.train import Trained, train
from renal_ray.types import Dataset, FreezePoint, Head


class Notebook:
    """Stands for a compiled model: its only weight is the number of epochs it was trained for."""

    penalty = 0.25

    def __init__(self, scores: list[np.ndarray] | None = None) -> None:
        self.epochs: list[list[tuple[np.ndarray, np.ndarray]]] = []
        self.weight = 0
        self._scores = scores

    def train_epoch(self, batches: Iterable[tuple[np.ndarray, np.ndarray]]) -> tuple[float, float]:
        self.epochs.append([(inputs.copy(), labels.copy()) for inputs, labels in batches])
        self.weight = len(self.epochs)
        return 0.5, 0.75

    def embedding_and_scores(self, inputs: Any, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
        scores = (
            np.linspace(0.1, 0.9, len(inputs))
            if self._scores is None
            else self._scores[len(self.epochs) - 1]
        )
        return np.zeros((len(inputs), 2), np.float32), scores.astype(np.float32)

    def get_weights_by_name(self) -> dict[str, np.ndarray]:
        return {"weight": np.array(self.weight)}

    def set_weights_by_name(self, weights: dict[str, np.ndarray]) -> None:
        self.weight = int(weights["weight"])


def feed(labels: list[int], validation: list[int]) -> Feed:
    """Samples whose input is their own number; validation starts at 1000."""

    def side(values: list[int], first: int) -> Samples:
        numbers = first + np.arange(len(values), dtype=np.float32)
        return Samples(
            Picked.whole(numbers[:, None]),
            np.array(values, np.int8),
            tuple(f"p{int(one)}" for one in numbers),
            np.arange(len(values)),
        )

    return Feed(side(labels, 0), side(validation, 1000), frozenset())


def a_spec(epochs: int, **training: Any) -> TrialSpec:
    study = small_study("work", training={"epochs": {"image": epochs}, "batch_size": 8} | training)
    return make_spec(
        study,
        dataset=Dataset.ROI,
        freeze_point=FreezePoint.MIXED10,
        head=Head.IMAGE,
        fold=0,
        inputs=Inputs(slices="s", splits="p", weights="w"),
    )


def run(model: Notebook, spec: TrialSpec, given: Feed, **more: Any) -> tuple[list[Epoch], Trained]:
    loop, epochs = train(model, spec, given, **more), []  # type: ignore[arg-type]
    while True:
        try:
            epochs.append(next(loop))
        except StopIteration as end:
            return epochs, end.value


LABELS = [0] * 5 + [1] * 14


def test_every_epoch_is_balanced_anew_and_holds_everybody() -> None:
    model = Notebook()
    run(model, a_spec(4), feed(LABELS, [0, 1]))
    orders = []
    for batches in model.epochs:
        rows = np.concatenate([inputs[:, 0] for inputs, _ in batches]).astype(int)[
            :28
        ]  # the rest fills the last batch
        labels = np.concatenate([labels for _, labels in batches])[:28]
        assert labels.tolist() == [LABELS[row] for row in rows]  # a row comes with its own label
        assert (labels == 0).sum() == (labels == 1).sum() == 14
        assert set(rows) == set(range(19))
        orders.append(rows.tolist())
    assert len({tuple(order) for order in orders}) == 4
    assert len({tuple(sorted(order)) for order in orders}) > 1  # other benign ones are drawn twice


@pytest.mark.parametrize("size", [9, 27, 28, 100])
def test_every_step_has_the_full_batch(size: int) -> None:
    model = Notebook()
    run(model, a_spec(1, batch_size=size), feed(LABELS, [0, 1]))
    assert {len(inputs) for inputs, _ in model.epochs[0]} == {size}
    rows = np.concatenate([inputs[:, 0] for inputs, _ in model.epochs[0]]).astype(int)
    assert len(rows) == -(-28 // size) * size
    assert (
        rows.tolist() == np.resize(rows[:28], len(rows)).tolist()
    )  # what fills the last batch is the epoch's own beginning


def test_validation_never_trains() -> None:
    model = Notebook()
    run(model, a_spec(2), feed(LABELS, [0, 1, 1]))
    assert max(float(inputs.max()) for batches in model.epochs for inputs, _ in batches) < 1000


def test_the_same_seed_gives_the_same_epochs_and_another_gives_others() -> None:
    def rows(spec: TrialSpec) -> list[float]:
        model = Notebook()
        run(model, spec, feed(LABELS, [0, 1]))
        return [
            float(one) for batches in model.epochs for inputs, _ in batches for one in inputs[:, 0]
        ]

    spec = a_spec(2)
    assert rows(spec) == rows(spec)
    assert rows(spec) != rows(spec.model_copy(update={"seed": spec.seed + 1}))


def test_a_dry_run_takes_one_step() -> None:
    model = Notebook()
    run(model, a_spec(1), feed(LABELS, [0, 1]), max_steps=1)
    assert [len(inputs) for inputs, _ in model.epochs[0]] == [8]


BEST_SECOND = [
    np.array([0.9, 0.1, 0.5, 0.6]),
    np.array([0.1, 0.9, 0.2, 0.8]),
    np.array([0.2, 0.9, 0.1, 0.8]),
    np.array([0.9, 0.9, 0.2, 0.8]),
]
VALIDATION = [0, 1, 0, 1]


@pytest.mark.parametrize(("keep", "epoch"), [("last", 4), ("best_val_auc", 2)])
def test_the_epoch_kept(keep: str, epoch: int) -> None:
    model = Notebook(BEST_SECOND)
    epochs, trained = run(model, a_spec(4, keep=keep), feed(LABELS, VALIDATION))
    assert [one.val_auc for one in epochs] == pytest.approx([0.25, 1.0, 1.0, 0.625])
    assert trained.epoch_kept == epoch  # of two equally good ones the first
    assert model.weight == epoch


def test_without_a_defined_auc_the_last_epoch_is_kept() -> None:
    model = Notebook(BEST_SECOND)
    epochs, trained = run(model, a_spec(4, keep="best_val_auc"), feed(LABELS, [1, 1, 1, 1]))
    assert {one.val_auc for one in epochs} == {None}
    assert (trained.epoch_kept, model.weight) == (4, 4)
    assert trained.history["val_auc"].isna().all()


def test_validation_loss_and_accuracy_are_the_textbook_s() -> None:
    [first, *_], trained = run(Notebook(BEST_SECOND), a_spec(4), feed(LABELS, VALIDATION))
    scores = np.array([0.9, 0.1, 0.5, 0.6])
    truth = np.array([0.1, 0.1, 0.5, 0.6])
    assert first.val_loss == pytest.approx(-np.log(truth).mean() + 0.25, rel=1e-6)
    assert first.val_accuracy == ((scores >= 0.5) == np.array(VALIDATION)).mean()
    assert (first.epoch, first.loss, first.accuracy) == (1, 0.5, 0.75)
    assert trained.history["epoch"].tolist() == [1, 2, 3, 4]


def test_a_certain_and_wrong_score_keeps_the_loss_finite() -> None:
    [only], _ = run(Notebook([np.array([1.0, 0.0])]), a_spec(1), feed(LABELS, [0, 1]))
    assert np.isfinite(only.val_loss)
