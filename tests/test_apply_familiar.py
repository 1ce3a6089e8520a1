"""Likeness to the training cohort, against brute force and by hand."""

import numpy as np
import pytest
from conftest import SmallWork
from sklearn.neighbors import NearestNeighbors

from renal_ray.apply.chosen import choose, open_run
from renal_ray.apply.familiar import (
    FAR_PERCENTILE,
    Attenuation,
    Neighbourhood,
    Reference,
    attenuation,
    read_reference,
    spread,
)
from renal_ray.store.seal import SealError
from renal_ray.store.slices import Slices
from renal_ray.trial.feed import read_embeddings
from renal_ray.types import Dataset


def unit(values: np.ndarray) -> np.ndarray:
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


@pytest.fixture(scope="module")
def reference(finished: SmallWork) -> Reference:
    return read_reference(choose(open_run(finished.study, finished.work)))


def test_distances_are_those_of_scikit_learn(finished: SmallWork, reference: Reference) -> None:
    chosen = choose(open_run(finished.study, finished.work))
    for spec in chosen.images:
        embeddings = read_embeddings(finished.work.read(f"trials/{spec.trial_id}/embeddings.arrow"))
        fold = finished.splits.fold(spec.fold)
        mean = {
            patient: unit(embeddings[patient].astype(np.float64).mean(axis=0))
            for patient in embeddings
        }
        nearest = NearestNeighbors(n_neighbors=5).fit([mean[patient] for patient in fold.train])
        expected = nearest.kneighbors([mean[patient] for patient in fold.validation])[0][:, -1]
        mine = reference.folds[spec.trial_id]
        assert mine.typical == pytest.approx(np.median(expected), rel=1e-6)
        np.testing.assert_allclose(mine.validation, expected / np.median(expected), rtol=1e-6)
        for patient, distance in zip(fold.validation, expected, strict=True):
            assert mine.relative(embeddings[patient]) == pytest.approx(
                distance / np.median(expected), rel=1e-5
            )
    pooled = sum(len(one.validation) for one in reference.folds.values())
    assert pooled == len(
        finished.splits.training
    )  # every training patient once, by the model that did not train on them


def test_attenuation_by_hand() -> None:
    images = np.zeros((2, 4, 4, 3), np.uint8)
    images[0, 1, 1] = (255, 1, 1)  # 190 HU or more
    images[0, 1, 2] = (0, 0, 9)  # at the lower edge, but not black
    images[1, 2, 2] = (51, 0, 0)  # a fifth of the window: -50 HU
    found = attenuation(images)
    assert found.mean == pytest.approx((190 - 110 - 50) / 3)
    assert found.sd == pytest.approx(np.std([190, -110, -50]))
    assert attenuation(np.zeros((1, 4, 4, 3), np.uint8)) == Attenuation(None, None)


def test_training_patients_attenuation_is_read_and_the_sealed_are_not(
    finished: SmallWork, reference: Reference
) -> None:
    slices = Slices(finished.work, Dataset.ROI, sealed=finished.splits.test)
    expected = [
        attenuation(slices.images(one)[spread(len(slices.images(one)), 4)]).mean
        for one in sorted(finished.splits.training)
    ]
    assert reference.mean_hu.tolist() == expected
    with pytest.raises(SealError):
        slices.images(sorted(finished.splits.test)[0])


def small_reference() -> Reference:
    """One fold of a two-dimensional embedding: training patients along the first axis, twenty
    validation patients at distances 0.1 to 2."""
    fold = Neighbourhood(
        training=np.array([[1.0, 0.0]] * 5), typical=1.0, validation=np.linspace(0.1, 2.0, 20)
    )
    return Reference({"a": fold}, mean_hu=np.arange(100.0), sd_hu=np.arange(100.0))


@pytest.mark.parametrize(
    ("degrees", "percentile", "unusual"),
    [(0, 0, False), (61, 50, False), (150, 95, True), (179, 95, True)],
)
def test_far_patients_are_warned_of(degrees: float, percentile: float, unusual: bool) -> None:
    """On the unit circle a patient at an angle a is at the distance 2 sin(a / 2) from the training
    patients."""
    angle = np.deg2rad(degrees)
    embeddings = np.array([[np.cos(angle), np.sin(angle)]] * 3) * 7
    placed = small_reference().place(Attenuation(50.0, 50.0), {"a": embeddings})
    assert placed[0].value == pytest.approx(2 * np.sin(angle / 2), abs=1e-7)
    assert placed[0].percentile == pytest.approx(percentile)
    assert placed[0].n == 20
    assert placed[0].unusual is unusual
    assert (placed[0].percentile >= FAR_PERCENTILE) is unusual
    assert [one.unusual for one in placed[1:]] == [False, False]


@pytest.mark.parametrize(
    ("hu", "unusual"),
    [
        (1.0, True),
        (2.0, False),
        (50.0, False),
        (97.0, False),
        (98.0, True),
        (500.0, True),
        (None, True),
    ],
)
def test_unusual_attenuation_is_warned_of(hu: float | None, unusual: bool) -> None:
    placed = small_reference().place(Attenuation(hu, hu), {"a": np.array([[1.0, 0.0]])})
    assert [one.unusual for one in placed] == [False, unusual, unusual]
    if hu is not None:
        assert placed[1].percentile == pytest.approx(np.clip(hu + 0.5, 0, 100) if hu < 100 else 100)


def test_an_embedding_that_tells_nobody_apart_says_nothing() -> None:
    dead = Neighbourhood(training=np.zeros((5, 2)), typical=0.0, validation=np.zeros(4))
    placed = Reference({"a": dead}, np.arange(9.0), np.arange(9.0)).place(
        Attenuation(4.0, 4.0), {"a": np.zeros((2, 2))}
    )
    assert (placed[0].value, placed[0].percentile, placed[0].unusual) == (None, None, False)


def test_spread_of_slices() -> None:
    assert spread(3, 4).tolist() == [0, 1, 2]
    assert spread(9, 4).tolist() == [0, 3, 5, 8]
    assert spread(1, 4).tolist() == [0]
