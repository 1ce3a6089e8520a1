"""The split: seeded, by patient, sealed, and illegal ones cannot be made."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from renal_ray.config import Folds, Split
from renal_ray.problems import StudyError
from renal_ray.protocol.permutation import permuted_labels
from renal_ray.protocol.splits import FoldSplit, PatientRole, SplitSet, make_splits


def cohort(malignant: int, benign: int, seed: int = 1) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    n = malignant + benign
    return pd.DataFrame(
        {
            "patient_id": [f"p{i:03d}" for i in range(n)],
            "label": rng.permutation([1] * malignant + [0] * benign),
            "n_images": rng.integers(3, 30, n),
        }
    )


def drawn(
    table: pd.DataFrame, seed: int = 17, split: Split | None = None, folds: Folds | None = None
) -> SplitSet:
    return make_splits(table, seed=seed, split=split or Split(), folds=folds or Folds())


def test_size_of_the_papers_cohort():
    splits = drawn(cohort(134, 58))
    assert (len(splits.training), len(splits.test)) == (153, 39)
    assert sum(splits.labels[p] for p in splits.test) == 27


def test_size_is_exact_where_floats_are_not():
    assert 0.07 * 100 > 7  # the trap
    assert len(drawn(cohort(60, 40), split=Split(test_fraction=0.07)).test) == 7


@pytest.mark.parametrize("method", ["approximate", "stratified"])
@pytest.mark.parametrize("stratify", [True, False])
def test_row_order_and_index_do_not_matter(method, stratify):
    table = cohort(40, 30)
    arguments = {"split": Split(stratify=stratify), "folds": Folds(method=method)}
    shuffled = table.sample(frac=1, random_state=3)
    assert drawn(table, **arguments) == drawn(shuffled, **arguments)
    assert drawn(table, **arguments) != drawn(table, seed=18, **arguments)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 10_000),
    st.integers(25, 60),
    st.integers(25, 60),
    st.sampled_from(["approximate", "stratified"]),
)
def test_everyone_has_one_place(seed, malignant, benign, method):
    table = cohort(malignant, benign, seed)
    splits = drawn(table, seed=seed, folds=Folds(n=3, method=method))
    everyone = set(table["patient_id"])
    validated = [p for k in range(3) for p in splits.fold(k).validation]
    assert sorted([*validated, *splits.test]) == sorted(everyone)
    for k in range(3):
        fold = splits.fold(k)
        assert set(fold.train) | set(fold.validation) == set(splits.training)
        assert not set(fold.train) & set(fold.validation)
        assert {splits.labels[p] for p in fold.validation} == {0, 1}


def test_json_round_trip():
    splits = drawn(cohort(40, 30))
    value = json.loads(json.dumps(splits.to_json()))
    assert set(value) == {"seed", "method", "n_folds", "patients"}
    assert set(next(iter(value["patients"].values()))) == {"role", "fold", "n_images", "label"}
    assert SplitSet.from_json(value) == splits


@pytest.mark.parametrize(
    "damage",
    [{"n_folds": 4}, {"patients": {"a": {"role": "train"}}}, {"patients": None}, {"seed": "x"}],
)
def test_json_of_no_split_is_refused(damage):
    value = {**drawn(cohort(40, 30)).to_json(), **damage}
    with pytest.raises(StudyError, match=r"splits\.json"):
        SplitSet.from_json(value)


def role(
    patient: str, fold: int | None = None, *, kind: str = "train", label: int = 1, n_images: int = 3
) -> PatientRole:
    return PatientRole(patient, kind, fold, n_images, label)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (role("a", 1), "more than once"),
        (role("t", kind="test"), "more than once"),
        (role("x", 0, kind="test"), "sealed for the test"),
        (role("x", None), "has a fold"),
        (role("x", -1), "has a fold"),
        (role("x", 3), "without a gap"),
        (role("x", 0, kind="spare"), "role"),
        (role("x", 0, label=2), "label"),
        (role("x", 0, n_images=0), "images"),
    ],
)
def test_illegal_splits_cannot_be_constructed(extra, message):
    legal = (role("a", 0), role("b", 1), role("t", kind="test"))
    assert SplitSet(1, "approximate", legal).n_folds == 2
    with pytest.raises(StudyError, match=message):
        SplitSet(1, "approximate", (*legal, extra))


@pytest.mark.parametrize(
    ("train", "validation", "message"),
    [
        (("a", "b"), ("b",), "train and validate"),
        (("a", "a"), ("b",), "twice"),
        (("a", "t"), ("b",), "sealed"),
        (("a",), ("t",), "sealed"),
        ((), ("b",), "nobody"),
    ],
)
def test_illegal_fold_cannot_be_constructed(train, validation, message):
    with pytest.raises(StudyError, match=message):
        FoldSplit(train=train, validation=validation, sealed=frozenset({"t"}))


def test_fold_that_is_not_there():
    with pytest.raises(StudyError, match="fold 5"):
        drawn(cohort(40, 30)).fold(5)


def test_tiny_class_names_the_remedy():
    with pytest.raises(
        StudyError,
        match=r"2 benign patients outside the test set are too few for 5 folds.*folds\.n",
    ):
        drawn(cohort(40, 3))


def drawn_until_refused(**arguments) -> None:
    for seed in range(20):
        drawn(cohort(60, 7), seed=seed, **arguments)


def test_fold_without_a_class_names_seed_and_remedy():
    """Five benign training patients in five folds of 53: a seed that leaves a fold without one is
    soon found."""
    remedy = "choose another seed, fewer folds (folds.n) or folds.method: stratified"
    with pytest.raises(
        StudyError, match=r"seed \d+: fold \d of 5 has no benign patient; " + re.escape(remedy)
    ):
        drawn_until_refused()


def test_test_set_without_a_class_names_seed_and_remedy():
    with pytest.raises(
        StudyError,
        match=(
            r"seed \d+: the test set has no benign patient; choose "
            r"another seed, split\.stratify: true"
        ),
    ):
        drawn_until_refused(split=Split(stratify=False, test_fraction=0.02), folds=Folds(n=2))


def test_stratified_folds_help_where_approximate_ones_fail():
    for seed in range(10):
        splits = drawn(cohort(60, 8), seed=seed, folds=Folds(method="stratified"))
        assert splits.method == "stratified"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="n_images"), "n_images"),
        (lambda t: t.assign(label=t["label"].where(t.index > 0)), "label"),
        (lambda t: pd.concat([t, t.head(1)]), "more than once"),
        (lambda t: t.assign(n_images=0), "image"),
        (lambda t: t.head(0), "no patient"),
    ],
)
def test_unusable_cohort(change, message):
    with pytest.raises(StudyError, match=message):
        drawn(change(cohort(40, 30)))


def test_permuted_labels_keep_classes_per_fold_and_leave_the_sealed_alone():
    splits = drawn(cohort(40, 30))
    permuted = permuted_labels(splits, seed=17, index=0)
    assert set(permuted) == set(splits.training)
    for k in range(5):
        inside = splits.fold(k).validation
        assert sorted(permuted[p] for p in inside) == sorted(splits.labels[p] for p in inside)
    assert permuted != {p: splits.labels[p] for p in splits.training}
    assert permuted == permuted_labels(splits, seed=17, index=0)
    assert permuted != permuted_labels(splits, seed=17, index=1)
    assert permuted != permuted_labels(splits, seed=18, index=0)
