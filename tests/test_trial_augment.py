"""Trials whose training images are varied: in which epochs with what, and that nothing else ever
is."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import SmallWork, activated, draw_patients, small_study

from renal_ray.config import Augmentation
from renal_ray.imaging.augment import draw, varied
from renal_ray.store.slices import Slices
from renal_ray.trial.augment import CopiedRows, Varied, augmentation_line
from renal_ray.trial.feed import image_feed
from renal_ray.trial.plan import make_plan
from renal_ray.trial.run import run_trial
from renal_ray.trial.spec import TrialSpec
from renal_ray.types import Head

ALL = {"flip": True, "rotate_deg": 15.0, "hu_jitter": 20.0}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> SmallWork:
    return activated(
        small_study(tmp_path_factory.mktemp("small"), heads={"use": ["image"]}),
        draw_patients(20, overlap=0.4),
    )


def with_augmentation(small: SmallWork, **augmentation: Any) -> TrialSpec:
    training = small.study.training.model_copy(
        update={"augmentation": Augmentation(**augmentation)}
    )
    return make_plan(small.study.model_copy(update={"training": training}), small.work).specs({})[0]


def predictions(small: SmallWork, spec: TrialSpec) -> pd.DataFrame:
    small.run(spec)
    return small.work.read_parquet(f"trials/{spec.trial_id}/predictions.parquet")


def test_what_varies_names_other_trials_and_what_does_not_names_none(small: SmallWork) -> None:
    plain = small.plan.specs({})[0]
    assert with_augmentation(small).trial_id == plain.trial_id
    names = {
        with_augmentation(small, **one).trial_id
        for one in (
            {"flip": True},
            {"rotate_deg": 5.0},
            {"hu_jitter": 5.0},
            ALL,
            ALL | {"copies": 2},
        )
    }
    assert len(names | {plain.trial_id}) == 6
    assert (
        with_augmentation(small, **ALL).activations == plain.activations
    )  # the cache of plain images serves both


def test_copies_are_the_frozen_layers_output_of_the_varied_images(small: SmallWork) -> None:
    spec = with_augmentation(small, **ALL, copies=2)
    rows = small.workshop.rows(spec, small.splits)
    assert isinstance(rows, CopiedRows)
    patients = sorted(small.splits.training)
    slices = Slices(small.work, spec.dataset, sealed=small.splits.test)
    images = np.concatenate([slices.images(patient) for patient in patients])
    n = len(images)
    assert len(rows) == 3 * n
    plain = small.workshop.rows(small.plan.specs({})[0], small.splits)[:]
    again = small.workshop.rows(spec, small.splits)
    assert np.array_equal(again[:n], plain)
    from renal_ray.trial.augment import copies_seed

    rng = np.random.default_rng(copies_seed(spec))
    for copy in (1, 2):
        expected = small.workshop.prefix(spec)(varied(images, draw(n, rng, **ALL)))[
            spec.freeze_point
        ]
        assert np.allclose(again[copy * n : (copy + 1) * n], expected, rtol=1e-4, atol=1e-4)
        assert not np.allclose(again[copy * n : (copy + 1) * n], plain, atol=1e-2)


def test_a_copied_epoch_takes_a_copy_of_the_same_image_and_never_the_plain_one(
    small: SmallWork,
) -> None:
    spec = with_augmentation(small, **ALL, copies=3)
    feed = image_feed(spec, small.workshop.rows(spec, small.splits), small.splits)
    n, wanted = feed.images, feed.train.inputs.rows[np.arange(8).reshape(2, 4)]
    one, two = (Varied(spec, feed.source, n).rows(wanted, epoch) for epoch in (1, 2))
    assert np.array_equal(one % n, wanted)
    assert np.array_equal(two % n, wanted)
    assert one.min() >= n
    assert not np.array_equal(one, two)
    assert np.array_equal(
        one, Varied(spec, feed.source, n).rows(wanted, 1)
    )  # of the epoch alone: a continued trial draws the same
    labels = feed.labels
    assert np.array_equal(labels[one], labels[wanted])
    assert len(labels) == 4 * n
    for side in (
        feed.train,
        feed.validation,
    ):  # what is scored, validated and re-estimated on are the images as they are
        assert side.inputs.rows.max() < n
        assert labels[side.inputs.rows].tolist() == side.labels.tolist()


def test_past_the_cache_every_epoch_is_varied_anew(small: SmallWork) -> None:
    spec = with_augmentation(small, **ALL)
    feed = image_feed(spec, small.workshop.rows(spec, small.splits), small.splits)
    rows = feed.train.inputs.rows[np.arange(6).reshape(2, 3)]
    vary = Varied(spec, feed.source, feed.images)
    first, again, second = (list(vary.batches(rows, epoch)) for epoch in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(np.allclose(a, b, atol=1e-2) for a, b in zip(first, second, strict=True))
    slices = Slices(small.work, spec.dataset, sealed=small.splits.test)
    images = np.concatenate([slices.images(patient) for patient in sorted(small.splits.training)])
    drawn = draw(6, np.random.default_rng([spec.seed, 1]), **ALL)
    expected = small.workshop.prefix(spec)(varied(images[rows.reshape(-1)], drawn))[
        spec.freeze_point
    ]
    assert np.allclose(np.concatenate(first), expected, atol=1e-5)
    assert np.array_equal(
        feed.validation.inputs[:],
        small.workshop.rows(small.plan.specs({})[0], small.splits)[:][feed.validation.inputs.rows],
    )


@pytest.mark.parametrize("copies", [0, 2])
def test_only_training_is_varied(small: SmallWork, copies: int) -> None:
    """With a learning rate of almost nothing the model stays as it began: scores of varied images
    would differ from those of plain ones."""
    training = small.study.training.model_copy(update={"learning_rate": 1e-12})
    plain = make_plan(small.study.model_copy(update={"training": training}), small.work).specs({})[
        0
    ]
    training = training.model_copy(update={"augmentation": Augmentation(**ALL, copies=copies)})
    spec = make_plan(small.study.model_copy(update={"training": training}), small.work).specs({})[0]
    expected, found = predictions(small, plain), predictions(small, spec)
    assert np.allclose(found["score"], expected["score"], atol=1e-5)
    history = small.work.read_parquet(f"trials/{spec.trial_id}/history.parquet")
    before = small.work.read_parquet(f"trials/{plain.trial_id}/history.parquet")
    assert np.allclose(history["val_loss"], before["val_loss"], atol=1e-4)
    assert not np.allclose(history["loss"], before["loss"], atol=1e-4)  # and training was


@pytest.mark.parametrize("copies", [0, 2])
def test_a_varied_trial_continues_with_the_numbers_of_an_uninterrupted_one(
    small: SmallWork, tmp_path: Path, copies: int
) -> None:
    spec = with_augmentation(small, **ALL, copies=copies)
    whole = predictions(small, spec)
    cut = small.copy(tmp_path / "cut")
    trial = run_trial(spec, cut.work, cut.splits, cut.workshop, checkpoint_s=0)
    next(trial)
    next(trial)
    trial.close()
    assert cut.work.exists(f"trials/{spec.trial_id}/checkpoint.json")
    assert np.allclose(predictions(cut, spec)["score"], whole["score"], atol=1e-5)


def test_heads_read_the_embeddings_of_the_varied_trial(small: SmallWork) -> None:
    training = small.study.training.model_copy(
        update={"augmentation": Augmentation(**ALL, copies=1)}
    )
    heads = small.study.heads.model_copy(update={"use": [Head.IMAGE, Head.FC]})
    plan = make_plan(
        small.study.model_copy(update={"training": training, "heads": heads}), small.work
    )
    image = plan.specs({})[0]
    small.run(image)
    [head] = [
        spec
        for spec in plan.head_specs(image.dataset, image.freeze_point)
        if spec.fold == image.fold
    ]
    assert head.image_trial == image.trial_id
    assert not head.training.augmentation.is_on
    assert small.run(head)["levels"]["patient"]["metrics"]["auc"] is not None


def test_the_plan_says_whether_the_cache_is_bypassed_or_multiplied(tmp_path: Path) -> None:
    def line(search: dict[str, Any] | None = None, **augmentation: Any) -> str | None:
        study = small_study(tmp_path, training={"augmentation": augmentation}, search=search)
        return augmentation_line(study, images=1000)

    assert line() is None
    assert line(copies=3) is None  # copies of what is not varied are none
    bypassing, multiplying = line(flip=True), line(flip=True, copies=3)
    assert bypassing is not None
    assert multiplying is not None
    assert "bypasses the activation cache" in bypassing
    assert (
        "multiplies the activation cache: 3 varied copies of every "
        "training image beside it, at most 31 MiB"
    ) in multiplying  # 4 x 1000 x 2048 float32
    assert all(
        "validation and test read the images as they are" in one for one in (bypassing, multiplying)
    )
    assert line({"space": {"dropout": [0.1]}}) is None
    both = line({"space": {"augmentation": {"flip": [True, False], "copies": [0, 2]}}})
    assert both is not None
    assert "bypasses" in both
    assert "multiplies" in both
