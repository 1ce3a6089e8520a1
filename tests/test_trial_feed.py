"""What a trial is fed: no patient on two sides, none sealed, and embeddings of its own fold
only."""

from pathlib import Path

import numpy as np
import pytest
from conftest import SmallWork

from renal_ray.problems import DamagedFileError
from renal_ray.protocol.permutation import permuted_labels
from renal_ray.store.activations import Activations
from renal_ray.trial.feed import (
    Feed,
    LeakError,
    Picked,
    Samples,
    fold_labels,
    image_feed,
    patient_feed,
    read_embeddings,
)
from renal_ray.types import Head


def side(*patients: str) -> Samples:
    return Samples(
        Picked.whole(np.zeros((len(patients), 2), np.float32)),
        np.zeros(len(patients), np.int8),
        patients,
        None,
    )


def test_a_patient_on_both_sides_is_a_leak() -> None:
    Feed(side("a", "a", "b"), side("c"), frozenset({"d"}))
    with pytest.raises(LeakError, match="patient a "):
        Feed(side("a", "b"), side("c", "a"), frozenset())


@pytest.mark.parametrize(("train", "validation"), [(("a", "d"), ("b",)), (("a",), ("d", "b"))])
def test_a_sealed_patient_on_either_side_is_a_leak(
    train: tuple[str, ...], validation: tuple[str, ...]
) -> None:
    with pytest.raises(LeakError, match="test patient d "):
        Feed(side(*train), side(*validation), frozenset({"d"}))


def test_the_image_feed_is_the_fold(trained: SmallWork) -> None:
    for spec in trained.specs(Head.IMAGE):
        feed = image_feed(spec, trained.workshop.rows(spec, trained.splits), trained.splits)
        fold = trained.splits.fold(spec.fold)
        for samples, patients in ((feed.train, fold.train), (feed.validation, fold.validation)):
            assert list(dict.fromkeys(samples.patients)) == list(patients)
            assert samples.labels.tolist() == [
                trained.splits.labels[patient] for patient in samples.patients
            ]
            assert samples.slice_index is not None
            assert len(samples.inputs) == len(samples) == len(samples.slice_index)
        assert feed.sealed == trained.splits.test
        assert not set(feed.train.inputs.rows) & set(feed.validation.inputs.rows)
        for samples in (
            feed.train,
            feed.validation,
        ):  # labels by row of what both sides share, for training without Python between the steps
            assert feed.labels[samples.inputs.rows].tolist() == samples.labels.tolist()
            one = Activations(trained.work, spec.activations, list(dict.fromkeys(samples.patients)))
            assert np.array_equal(samples.inputs[:], one[:])
            assert samples.slice_index.tolist() == one.slice_index.tolist()


def test_permuted_labels_replace_the_true_ones_on_both_sides(trained: SmallWork) -> None:
    specs = [spec for spec in trained.specs() if spec.labels != "true"]
    assert {spec.labels for spec in specs} == {"permuted-0", "permuted-1"}
    for spec in specs:
        wanted = permuted_labels(
            trained.splits, seed=trained.study.seed, index=int(spec.labels[-1])
        )
        assert fold_labels(spec, trained.splits) == wanted
        feed = image_feed(spec, trained.workshop.rows(spec, trained.splits), trained.splits)
        for samples in (feed.train, feed.validation):
            assert samples.labels.tolist() == [wanted[patient] for patient in samples.patients]
    assert fold_labels(specs[0], trained.splits) != {
        patient: trained.splits.labels[patient] for patient in trained.splits.training
    }


@pytest.mark.parametrize("head", [Head.FC, Head.GRU])
def test_the_patient_feed_is_made_of_the_fold_s_own_embeddings(
    trained: SmallWork, head: Head
) -> None:
    for spec in trained.specs(head):
        assert spec.image_trial is not None
        embeddings = read_embeddings(
            trained.work.read(f"trials/{spec.image_trial}/embeddings.arrow")
        )
        feed = patient_feed(spec, trained.work, trained.splits)
        fold = trained.splits.fold(spec.fold)
        for samples, patients in ((feed.train, fold.train), (feed.validation, fold.validation)):
            assert samples.patients == patients
            assert samples.slice_index is None
            assert samples.labels.tolist() == [
                trained.splits.labels[patient] for patient in patients
            ]
            for row, patient in enumerate(patients):
                own, given = embeddings[patient], samples.inputs[np.array([row])][0]
                assert (
                    np.array_equal(given, own.max(axis=0))
                    if head is Head.FC
                    else np.array_equal(given[: len(own)], own)
                )


def test_embeddings_of_another_fold_freeze_point_or_head_are_a_leak(trained: SmallWork) -> None:
    spec = trained.specs(Head.FC)[0]
    others = [
        one.trial_id
        for one in trained.specs()
        if one.labels == "true" and one.trial_id != spec.image_trial
    ]
    assert len(others) >= 6
    for other in others:
        with pytest.raises(LeakError, match="another dataset, freeze point, fold"):
            patient_feed(
                spec.model_copy(update={"image_trial": other}), trained.work, trained.splits
            )
    with pytest.raises(LeakError, match="needs the image trial"):
        patient_feed(spec.model_copy(update={"image_trial": None}), trained.work, trained.splits)


def test_embeddings_of_a_permuted_trial_are_a_leak(trained: SmallWork) -> None:
    spec = trained.specs(Head.FC)[0]
    control = next(
        one
        for one in trained.specs()
        if one.labels != "true" and (one.fold, one.freeze_point) == (spec.fold, spec.freeze_point)
    )
    with pytest.raises(LeakError, match="labels"):
        patient_feed(
            spec.model_copy(update={"image_trial": control.trial_id}), trained.work, trained.splits
        )


def test_embeddings_made_under_another_split_are_a_leak(trained: SmallWork) -> None:
    spec = trained.specs(Head.FC)[0]
    changed = spec.model_copy(
        update={"inputs": spec.inputs.model_copy(update={"splits": "another"})}
    )
    with pytest.raises(LeakError, match="split"):
        patient_feed(changed, trained.work, trained.splits)


def test_damaged_embeddings_are_not_trained_on(trained: SmallWork, tmp_path: Path) -> None:
    small = trained.copy(tmp_path / "work")
    spec = trained.specs(Head.FC)[0]
    image = next(one for one in trained.specs(Head.IMAGE) if one.trial_id == spec.image_trial)
    small.run(image, trained.workshop)
    file = small.work.path(f"trials/{image.trial_id}/embeddings.arrow")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0xFF
    file.write_bytes(data)
    with pytest.raises(DamagedFileError, match="damaged"):
        patient_feed(spec, small.work, small.splits)
