"""Metrics on resampled patients: against scikit-learn on rows written out as often as they were
drawn, and against the plain bootstrap."""

import numpy as np
import pytest
from sklearn.metrics import matthews_corrcoef, roc_auc_score

from renal_ray.protocol import resampling
from renal_ray.protocol.bootstrap import bootstrap_interval, rank_auc
from renal_ray.protocol.metrics import METRICS, confusion
from renal_ray.protocol.resampling import resampled_metrics


@pytest.fixture(scope="module")
def slices() -> dict[str, np.ndarray]:
    """Slices of 23 patients, scores with ties that vary by patient."""
    rng = np.random.default_rng(3)
    owners = np.repeat([f"P{n:02d}" for n in rng.permutation(23)], rng.integers(1, 8, 23))
    _, number = np.unique(owners, return_inverse=True)
    labels = (number % 3 > 0).astype(int)
    scores = np.round(
        0.5 + 0.15 * labels + rng.normal(0, 0.15, 23)[number] + rng.normal(0, 0.15, len(owners)), 1
    ).clip(0, 1)
    return {
        "labels": labels,
        "scores": scores,
        "decisions": (scores >= 0.6).astype(int),
        "patients": owners,
    }


def written_out(slices, weights: np.ndarray) -> dict[str, float]:
    """All metrics of the slices of patients, each as often as its patient was drawn, by
    scikit-learn."""
    _, number = np.unique(slices["patients"], return_inverse=True)
    rows = np.repeat(np.arange(len(number)), weights[number])
    labels, scores, called = (slices[name][rows] for name in ("labels", "scores", "decisions"))
    counts = confusion(labels, called).metrics()
    return counts | {"auc": roc_auc_score(labels, scores), "mcc": matthews_corrcoef(labels, called)}


def test_every_resample_is_that_of_the_rows_written_out(slices):
    found = resampled_metrics(**slices, n=40, seed=5)
    _, first = np.unique(slices["patients"], return_index=True)
    classes = slices["labels"][first]
    draws = {}
    for label in (0, 1):
        size = int((classes == label).sum())
        draws[label] = np.random.default_rng([5, label]).multinomial(
            size, np.full(size, 1 / size), size=40
        )
    for resample in range(40):
        weights = np.zeros(len(classes), int)
        for label in (0, 1):
            weights[classes == label] = draws[label][resample]
        assert weights.sum() == len(classes)
        expected = written_out(slices, weights)
        for name in METRICS:
            assert found[name].replicates[resample] == pytest.approx(expected[name]), name


def test_value_and_jackknife_are_those_of_the_rows_written_out(slices):
    found = resampled_metrics(**slices, n=5, seed=5)
    n = len(set(slices["patients"]))
    for name in METRICS:
        assert found[name].value == pytest.approx(written_out(slices, np.ones(n, int))[name])
        for patient in range(n):
            weights = np.ones(n, int)
            weights[patient] = 0
            assert found[name].jackknife[patient] == pytest.approx(
                written_out(slices, weights)[name]
            ), name


@pytest.mark.parametrize("method", ["bca", "percentile"])
def test_intervals_are_those_of_the_plain_bootstrap(slices, method):
    found = resampled_metrics(**slices, n=4000, seed=1)
    patients = slices["patients"]

    def metric(name):
        return lambda labels, scores, called: (
            rank_auc(labels, scores) if name == "auc" else confusion(labels, called).metrics()[name]
        )

    for name in ("auc", "sen", "mcc"):
        plain = bootstrap_interval(
            metric(name),
            slices["labels"],
            slices["scores"],
            slices["decisions"],
            patients=patients,
            n=2000,
            seed=2,
            method=method,
        )
        ours = found[name].interval(method)
        assert (ours.value, ours.method) == (pytest.approx(plain.value), method)
        assert (ours.lower, ours.upper) == (
            pytest.approx(plain.lower, abs=0.03),
            pytest.approx(plain.upper, abs=0.03),
        ), name


def test_chunks_change_nothing(slices, monkeypatch):
    whole = resampled_metrics(**slices, n=50, seed=9)
    monkeypatch.setattr(resampling, "CHUNK", 3 * len(slices["labels"]))
    parts = resampled_metrics(**slices, n=50, seed=9)
    for name in METRICS:
        assert np.array_equal(whole[name].replicates, parts[name].replicates, equal_nan=True)
        assert np.array_equal(whole[name].jackknife, parts[name].jackknife, equal_nan=True)


def test_what_is_undefined_has_no_interval(slices):
    nobody = resampled_metrics(
        **(slices | {"decisions": np.zeros_like(slices["decisions"])}), n=50, seed=1
    )
    assert nobody["ppv"].interval().value is None
    assert (nobody["sen"].interval().value, nobody["sen"].interval().lower) == (0.0, None)
    malignant = slices["labels"] == 1
    one_class = resampled_metrics(
        **{name: values[malignant] for name, values in slices.items()}, n=50, seed=1
    )
    assert one_class["auc"].interval().value is None
    assert one_class["spec"].interval().value is None
    assert one_class["sen"].interval().lower is not None


def test_bad_input_is_refused(slices):
    with pytest.raises(ValueError, match="both labels"):
        resampled_metrics(
            **(slices | {"patients": np.array(["P"] * len(slices["labels"]))}), n=5, seed=1
        )
    with pytest.raises(ValueError, match="one decision a label"):
        resampled_metrics(**(slices | {"decisions": slices["decisions"][1:]}), n=5, seed=1)
    with pytest.raises(ValueError, match="at least one"):
        resampled_metrics([], [], [], patients=[], n=5, seed=1)
