"""DeLong's variance against published numbers, brute force and simulation."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from renal_ray.protocol.delong import (
    DELONG,
    DELONG_LOGIT,
    MOVER,
    NEWCOMBE,
    auc_interval,
    compare_aucs,
    newcombe,
)

Z = norm.ppf(0.975)
TENTHS = st.integers(0, 10).map(lambda tenth: tenth / 10)
PAIRED = st.lists(st.tuples(st.integers(0, 1), TENTHS, TENTHS), min_size=6, max_size=30).filter(
    lambda rows: 1 < sum(row[0] for row in rows) < len(rows) - 1
)

# The 43 complete of 49 patients of DeLong, DeLong and Clarke-Pearson 1988: albumin, total protein,
# K-G score, whether surgery helped.
OVARIAN = """
3.0 5.8 10 0   3.2 6.3 5 1   3.9 6.8 3 1   2.8 4.8 6 0   3.2 5.8 3 1   0.9 4.0 5 0   2.5 5.7 8 0
1.6 5.6 5 1   3.8 5.7 5 1   3.7 6.7 6 1   3.2 5.4 4 1   3.8 6.6 6 1   4.1 6.6 5 1   3.6 5.7 5 1
4.3 7.0 4 1   3.6 6.7 4 0   2.3 4.4 6 1   4.2 7.6 4 0   4.0 6.6 6 0   3.5 5.8 6 1   3.8 6.8 7 1
3.0 4.7 8 0   4.5 7.4 5 1   3.7 7.4 5 1   3.1 6.6 6 1   4.1 8.2 6 1   4.3 7.0 5 1   4.3 6.5 4 1
3.2 5.1 5 1   2.6 4.7 6 1   3.3 6.8 6 0   1.7 4.0 7 0   3.7 6.1 5 1   3.3 6.3 7 1   4.2 7.7 6 1
3.5 6.2 5 1   2.9 5.7 9 0   2.1 4.8 7 1   2.8 6.2 8 0   4.0 7.0 7 1   3.3 5.7 6 1   3.7 6.9 5 1
3.6 6.6 5 1
"""
ALBUMIN, PROTEIN, KG, HELPED = np.array(OVARIAN.split(), dtype=float).reshape(-1, 4).T


@pytest.mark.parametrize(
    ("scores", "auc", "se"),
    [(ALBUMIN, 0.7366, 0.0927), (10 - KG, 0.7258, 0.1028), (PROTEIN, 0.6478, 0.1000)],
)
def test_ovarian_cancer_patients_of_delong_1988(scores, auc, se):
    """As SAS prints them (SAS/STAT User's Guide, PROC LOGISTIC, Comparing Receiver Operating
    Characteristic Curves)."""
    found = auc_interval(HELPED, scores)
    assert (round(found.auc, 4), round(found.se, 4)) == (auc, se)
    assert found.method == DELONG_LOGIT
    logit, half = (
        math.log(found.auc / (1 - found.auc)),
        Z * found.se / (found.auc * (1 - found.auc)),
    )
    assert [math.log(bound / (1 - bound)) for bound in (found.lower, found.upper)] == pytest.approx(
        [logit - half, logit + half]
    )


@pytest.mark.parametrize(
    ("scores", "printed"),
    [
        (ALBUMIN, (0.0108, 0.0953, -0.1761, 0.1976, 0.0127, 0.9102)),
        (PROTEIN, (-0.0780, 0.1046, -0.2830, 0.1271, 0.5554, 0.4561)),
    ],
)
def test_paired_differences_of_delong_1988(scores, printed):
    found = compare_aucs(HELPED, scores, 10 - KG)
    assert (
        tuple(
            round(v, 4)
            for v in (found.difference, found.se, found.lower, found.upper, found.z**2, found.p)
        )
        == printed
    )
    assert found.method == DELONG


def brute_components(labels, scores):
    pairs = np.array(
        [
            [1.0 if x > y else 0.5 if x == y else 0.0 for y in scores[labels == 0]]
            for x in scores[labels == 1]
        ]
    )
    return pairs.mean(axis=1), pairs.mean(axis=0)


@settings(max_examples=100, deadline=None)
@given(PAIRED)
def test_equals_brute_force(rows):
    labels, a, b = (np.array(column) for column in zip(*rows, strict=True))
    (a10, a01), (b10, b01) = brute_components(labels, a), brute_components(labels, b)
    one, two = auc_interval(labels, a), compare_aucs(labels, a, b)
    assert one.auc == pytest.approx(roc_auc_score(labels, a))
    assert one.se == pytest.approx(
        math.sqrt(np.var(a10, ddof=1) / len(a10) + np.var(a01, ddof=1) / len(a01)), abs=1e-9
    )
    variance = np.var(a10 - b10, ddof=1) / len(a10) + np.var(a01 - b01, ddof=1) / len(a01)
    assert two.difference == pytest.approx(
        roc_auc_score(labels, a) - roc_auc_score(labels, b), abs=1e-12
    )
    assert two.se == pytest.approx(math.sqrt(variance), abs=1e-9)
    if two.method == DELONG:
        assert two.p == pytest.approx(2 * norm.sf(abs(two.difference) / math.sqrt(variance)))
    assert 0 <= one.lower <= one.auc <= one.upper <= 1
    assert -1 <= two.lower <= two.difference <= two.upper <= 1


def test_no_pair_out_of_order_is_no_certainty():
    labels, scores = [0] * 14 + [1] * 25, np.arange(39)
    found = auc_interval(labels, scores)
    assert (found.auc, found.se, found.upper, found.method) == (1.0, 0.0, 1.0, NEWCOMBE)
    assert 0.8 < found.lower < 0.95
    turned = auc_interval(1 - np.array(labels), scores)
    assert (turned.lower, turned.upper) == pytest.approx((0.0, 1 - found.lower))
    rng = np.random.default_rng(
        3
    )  # were the AUC at the bound, hardly any cohort would be in order without a fault
    shift = norm.ppf(found.lower) * math.sqrt(2)
    assert (
        np.mean([rng.normal(shift, 1, 25).min() > rng.normal(0, 1, 14).max() for _ in range(2000)])
        < 0.025
    )


def test_newcombe_bounds_are_z_errors_away():
    """Method 5 read aloud, with Hanley and McNeil's Q1 and Q2."""
    for auc, malignant, benign in ((0.85, 25, 14), (1.0, 10, 10), (0.3, 5, 40), (0.5, 1, 8)):
        spare = (malignant + benign) / 2 - 1
        for theta in newcombe(auc, malignant, benign, Z):
            q1, q2 = theta / (2 - theta), 2 * theta**2 / (1 + theta)
            variance = (theta * (1 - theta) + spare * (q1 - theta**2) + spare * (q2 - theta**2)) / (
                malignant * benign
            )
            assert theta in (0.0, 1.0) or abs(auc - theta) == pytest.approx(
                Z * math.sqrt(variance), abs=1e-6
            )


def test_ties_alone_and_a_single_patient_of_a_class():
    tied = auc_interval([0, 0, 0, 1, 1, 1], [0.5] * 6)
    assert (tied.auc, tied.method) == (0.5, NEWCOMBE)
    assert tied.lower < 0.2 < 0.8 < tied.upper
    single = auc_interval([0, 1, 1, 1], [0.5, 0.4, 0.8, 0.9])
    assert single.method == NEWCOMBE
    assert single.upper - single.lower > 0.5


def test_same_ranking_differs_by_nothing_but_not_for_certain():
    labels, scores = [0] * 14 + [1] * 25, np.arange(39)
    found = compare_aucs(labels, scores, scores * 2)
    assert (found.difference, found.se, found.z, found.p, found.method) == (
        0.0,
        0.0,
        None,
        1.0,
        MOVER,
    )
    assert found.lower == pytest.approx(-(1 - auc_interval(labels, scores).lower))
    assert found.upper == -found.lower
    worst = compare_aucs(labels, scores, -scores)
    assert (worst.difference, worst.p) == (1.0, None)
    assert worst.lower < 1 == worst.upper


def test_missing_class_has_no_auc():
    assert auc_interval([1, 1], [0.1, 0.2]) is None
    assert compare_aucs([0, 0], [0.1, 0.2], [0.1, 0.2]) is None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: auc_interval([0, 1], [0.1]), "one score a label"),
        (lambda: auc_interval([0, 2], [0.1, 0.2]), "labels: expected"),
        (lambda: compare_aucs([0, 1], [0.1, 0.2], [0.1, float("nan")]), "not finite"),
        (lambda: auc_interval([0, 1], [0.1, 0.2], level=95), "level"),
        (lambda: auc_interval([0, 1], [0.1, 0.2], patients=["a"]), "one patient a label"),
        (lambda: auc_interval([0, 1], [0.1, 0.2], patients=["a", "a"]), "both labels"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_copies_of_a_patients_slice_add_nothing():
    rng = np.random.default_rng(5)
    labels = np.array([0] * 15 + [1] * 30)
    a, b = labels + rng.normal(0, 1, 45), labels + rng.normal(0, 2, 45)
    times = np.full(45, 7)
    copies = [np.repeat(values, times) for values in (labels, a, b)]
    patients = np.repeat([f"p{i}" for i in range(45)], times)
    once, often = compare_aucs(labels, a, b), compare_aucs(*copies, patients=patients)
    assert (often.difference, often.se, often.p) == pytest.approx(
        (once.difference, once.se, once.p)
    )
    naive = compare_aucs(*copies)
    assert naive.se < 0.5 * once.se  # what slices taken for patients would claim


def test_obuchowskis_variance_by_her_sums():
    """Obuchowski 1997 written out with her cross term, which is 0 for patients of one class."""
    rng = np.random.default_rng(8)
    sizes = rng.integers(1, 9, 20)
    patients, patient_labels = np.repeat(np.arange(20), sizes), np.array([0] * 8 + [1] * 12)
    labels = patient_labels[patients]
    scores = labels + rng.normal(0, 1, 20)[patients] + rng.normal(0, 0.5, len(patients))
    v10, v01 = brute_components(labels, scores)
    auc = v10.mean()
    component = np.zeros(len(labels))
    component[labels == 1], component[labels == 0] = v10, v01
    total = 0.0
    for label in (1, 0):
        members = np.flatnonzero(patient_labels == label)
        sums = [component[patients == p].sum() - (patients == p).sum() * auc for p in members]
        s = (
            len(members)
            / ((len(members) - 1) * (labels == label).sum())
            * sum(value**2 for value in sums)
        )
        total += s / (labels == label).sum()
    assert auc_interval(labels, scores, patients=patients).se == pytest.approx(math.sqrt(total))


def test_coverage_near_one_where_the_plain_interval_fails():
    rng, truth = np.random.default_rng(11), 0.97
    labels = np.array([1] * 45 + [0] * 20)
    found = [
        auc_interval(labels, rng.normal(size=65) + norm.ppf(truth) * math.sqrt(2) * labels)
        for _ in range(600)
    ]
    covered = np.mean([interval.lower <= truth <= interval.upper for interval in found])
    plain = np.mean([abs(interval.auc - truth) <= Z * interval.se for interval in found])
    assert 0.925 <= covered <= 0.98
    assert plain < 0.88


def test_coverage_with_slices_only_when_patients_are_known():
    rng, labels = np.random.default_rng(12), np.array([1] * 40 + [0] * 20)
    truth = norm.cdf(1.5 / math.sqrt(2 * (1 + 0.25)))
    patients = np.repeat(np.arange(60), 8)
    covered, naive = [], []
    for _ in range(300):
        scores = (1.5 * labels + rng.normal(size=60))[patients] + 0.5 * rng.normal(size=480)
        for seen, known in ((covered, patients), (naive, None)):
            interval = auc_interval(labels[patients], scores, patients=known)
            seen.append(interval.lower <= truth <= interval.upper)
    assert 0.91 <= np.mean(covered) <= 0.985
    assert np.mean(naive) < 0.7
