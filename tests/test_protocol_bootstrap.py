"""The bootstrap against scipy's, and what only ours does: patients drawn whole, within their
class."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap
from sklearn.metrics import roc_auc_score

from renal_ray.protocol.bootstrap import BootstrapInterval, bootstrap_interval, rank_auc
from renal_ray.protocol.delong import auc_interval
from renal_ray.protocol.metrics import confusion

RNG = np.random.default_rng(21)
LABELS = np.array([0] * 25 + [1] * 60)
SCORES = LABELS * 1.4 + RNG.normal(0, 1, 85)


@pytest.mark.parametrize("method", ["bca", "percentile"])
@pytest.mark.parametrize("level", [0.95, 0.8])
def test_equals_scipy_on_independent_patients(method, level):
    """Two samples, malignant and benign, are scipy's word for a stratified draw; only Monte Carlo
    is between the two."""

    def statistic(malignant, benign):
        return float((malignant[:, None] > benign[None, :]).mean())

    def scipys(seed):
        kind = "BCa" if method == "bca" else "percentile"
        samples = (SCORES[LABELS == 1], SCORES[LABELS == 0])
        found = bootstrap(
            samples,
            statistic,
            vectorized=False,
            n_resamples=4000,
            confidence_level=level,
            method=kind,
            rng=np.random.default_rng(seed),
        )
        return found.confidence_interval

    oracle = np.mean([scipys(seed) for seed in range(3)], axis=0)
    ours = bootstrap_interval(rank_auc, LABELS, SCORES, n=12000, seed=4, method=method, level=level)
    assert (ours.lower, ours.upper) == pytest.approx(tuple(oracle), abs=0.004)
    assert ours.value == pytest.approx(roc_auc_score(LABELS, SCORES))
    assert (ours.method, ours.n, ours.n_valid) == (method, 12000, 12000)


def test_bca_is_not_the_percentile_interval():
    bca, plain = (
        bootstrap_interval(rank_auc, LABELS, SCORES, n=4000, seed=4, method=method)
        for method in ("bca", "percentile")
    )
    assert bca.lower < plain.lower - 0.004


def slices(seed):
    rng = np.random.default_rng(seed)
    patients = np.repeat([f"p{i:02d}" for i in range(60)], 20)
    labels = np.repeat([1] * 40 + [0] * 20, 20)
    return (
        labels,
        labels * 1.2 + np.repeat(rng.normal(0, 1, 60), 20) + rng.normal(0, 0.3, 1200),
        patients,
    )


def test_slices_of_a_patient_are_not_independent():
    labels, scores, patients = slices(1)
    clustered = bootstrap_interval(rank_auc, labels, scores, patients=patients, n=500, seed=1)
    naive = bootstrap_interval(rank_auc, labels, scores, n=500, seed=1)
    assert clustered.value == naive.value
    assert clustered.upper - clustered.lower > 3 * (naive.upper - naive.lower)
    obuchowski = auc_interval(labels, scores, patients=patients)
    assert (clustered.lower, clustered.upper) == pytest.approx(
        (obuchowski.lower, obuchowski.upper), abs=0.02
    )


def test_patients_are_drawn_whole_and_within_their_class():
    patients = np.array(["a", "b", "b", "c", "d", "d", "d", "e"])
    labels = np.array([0, 1, 1, 0, 1, 1, 1, 1])
    seen = []

    def statistic(drawn_labels, names):
        seen.append((drawn_labels, list(names)))
        return float(len(seen))

    bootstrap_interval(
        statistic, labels, patients, patients=patients, n=200, seed=3, method="percentile"
    )
    whole = {"a": 1, "b": 2, "c": 1, "d": 3, "e": 1}
    for drawn_labels, names in seen[1:]:
        times = {name: names.count(name) / whole[name] for name in whole}
        assert all(count == int(count) for count in times.values())
        assert (times["a"] + times["c"], times["b"] + times["d"] + times["e"]) == (2, 3)
        assert drawn_labels.tolist() == [name not in "ac" for name in names]
    assert len({tuple(names) for _, names in seen}) > 20


def test_draw_is_seeded_and_does_not_depend_on_row_order():
    labels, scores, patients = slices(2)
    first = bootstrap_interval(rank_auc, labels, scores, patients=patients, n=100, seed=7)
    assert first == bootstrap_interval(rank_auc, labels, scores, patients=patients, n=100, seed=7)
    assert first != bootstrap_interval(rank_auc, labels, scores, patients=patients, n=100, seed=8)
    order = np.random.default_rng(0).permutation(len(labels))
    assert first == bootstrap_interval(
        rank_auc, labels[order], scores[order], patients=patients[order], n=100, seed=7
    )


def called(at, name):
    return lambda y, s: confusion(y, s >= at).metrics()[name]


def test_undefined_resamples_are_counted():
    """Of 9 malignant patients and 9 benign ones a single one, malignant, is called so: a draw that
    misses that one has no PPV."""
    labels, scores = np.array([1] * 9 + [0] * 9), np.array([0.9] + [0.1] * 8 + [0.2] * 9)
    assert bootstrap_interval(called(0.5, "sen"), labels, scores, seed=1).n_valid == 2000
    ppv = bootstrap_interval(called(0.5, "ppv"), labels, scores, seed=1)
    assert ppv.n_valid == pytest.approx(2000 * (1 - (8 / 9) ** 9), abs=90)
    assert (ppv.value, ppv.lower, ppv.upper) == (
        1.0,
        None,
        None,
    )  # every defined resample says 1: no spread, no interval


def test_undefined_value_and_no_spread():
    assert bootstrap_interval(rank_auc, [1, 1], [0.1, 0.2], seed=1) == BootstrapInterval(
        None, None, None, 0, 2000, "bca"
    )
    assert bootstrap_interval(lambda y, s: math.nan, [1, 0], [0.1, 0.2], seed=1).value is None
    faultless = bootstrap_interval(rank_auc, [0, 0, 0, 1, 1, 1], [1, 2, 3, 4, 5, 6], n=50, seed=1)
    assert (faultless.value, faultless.lower, faultless.upper, faultless.n_valid) == (
        1.0,
        None,
        None,
        50,
    )


def test_percentile_is_told_where_bca_does_not_exist():
    ids, labels = np.arange(20), np.tile([0, 1], 10)
    one_sided = bootstrap_interval(lambda y, drawn: len(set(drawn)), labels, ids, n=300, seed=1)
    assert (one_sided.value, one_sided.method) == (
        20,
        "percentile",
    )  # no draw with replacement has more patients than there are
    scores = np.where(ids == 1, 0.9, np.where(ids == 0, 0.6, 0.1))
    assert bootstrap_interval(called(0.5, "ppv"), labels, scores, n=300, seed=1).method == "bca"
    jackknife_undefined = bootstrap_interval(
        lambda y, s: called(0.5, "ppv")(y, s) if 0.9 in s else None, labels, scores, n=300, seed=1
    )
    assert jackknife_undefined.method == "percentile"
    assert jackknife_undefined.n_valid < 300


def test_any_number_of_arrays_of_any_shape():
    decisions = RNG.integers(0, 2, (85, 5))
    found = bootstrap_interval(
        lambda y, d, s: float(d.mean() + 0 * s.sum()), LABELS, decisions, SCORES, n=200, seed=1
    )
    assert found.lower < decisions.mean() < found.upper


@settings(deadline=None)  # nothing here is about time
@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 6)), min_size=2, max_size=40).filter(
        lambda rows: len({row[0] for row in rows}) == 2
    )
)
def test_rank_auc_equals_scikit_learn(rows):
    labels, scores = zip(*rows, strict=True)
    assert rank_auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n": 0}, "0 resamples"),
        ({"method": "basic"}, "bca or percentile"),
        ({"level": 1.5}, "level"),
        ({"patients": [1, 1, 2]}, "both labels"),
        ({"patients": [1, 2]}, "one patient a label"),
        ({"labels": [0, 1, 3]}, "labels: expected"),
        ({"scores": [0.1, 0.2]}, "one row a label"),
        ({"labels": [], "scores": []}, "0 labels"),
    ],
)
def test_refuses(change, message):
    arguments = {"labels": [0, 1, 1], "scores": [0.1, 0.2, 0.3], "seed": 1, **change}
    with pytest.raises(ValueError, match=message):
        bootstrap_interval(rank_auc, arguments.pop("labels"), arguments.pop("scores"), **arguments)
