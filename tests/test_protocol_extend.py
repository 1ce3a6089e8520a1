"""A split carried over to a changed cohort, and patients who have the same image."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest

from renal_ray.config import Folds, Split
from renal_ray.problems import Code, StudyError
from renal_ray.protocol.extend import extend_splits, moved, training_side
from renal_ray.protocol.redraw import redraw
from renal_ray.protocol.shares import nested_share
from renal_ray.protocol.splits import PatientRole, SplitSet, make_splits
from renal_ray.protocol.twins import same_pixels
from renal_ray.trial.sides import make_sides
from renal_ray.types import PatientId

STRATIFIED = Folds(n=3, method="stratified")


def people(n: int, *, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % 3 > 0).astype(int)  # two of three malignant
    return pd.DataFrame(
        {
            "patient_id": [f"P{i:03d}" for i in range(n)],
            "label": labels,
            "n_images": rng.integers(1, 12, n),
        }
    )


def drawn(table: pd.DataFrame, *, folds: Folds = STRATIFIED) -> SplitSet:
    return make_splits(table, seed=17, split=Split(), folds=folds)


def extended(kept: SplitSet, table: pd.DataFrame, *, folds: Folds = STRATIFIED) -> SplitSet:
    return extend_splits(kept, table, split=Split(), folds=folds)


@pytest.mark.parametrize("method", ["approximate", "stratified"])
def test_new_patients_move_nobody_and_are_dealt_evenly(method: str) -> None:
    folds = Folds(n=3, method=method)  # type: ignore[arg-type]
    everybody = people(120, seed=3)
    kept = drawn(everybody[:60], folds=folds)
    assert moved(kept, drawn(everybody, folds=folds))  # what a new draw would do
    grown = extended(kept, everybody, folds=folds)
    assert moved(kept, grown) == []
    assert set(grown.labels) == set(everybody["patient_id"])
    assert (
        extended(kept, everybody.sample(frac=1, random_state=1), folds=folds) == grown
    )  # the order of the rows decides nothing
    for label, n in Counter(everybody["label"]).items():
        sealed = sum(grown.labels[one] == label for one in grown.test)
        assert abs(sealed - 0.2 * n) <= 1
    images = [sum(one.n_images for one in grown.patients if one.fold == k) for k in range(3)]
    assert max(images) - min(images) <= (30 if method == "approximate" else 90)
    if method == "stratified":
        malignant = [sum(one.label for one in grown.patients if one.fold == k) for k in range(3)]
        assert max(malignant) - min(malignant) <= 1


def test_who_leaves_and_who_is_corrected_moves_nobody() -> None:
    table = people(60)
    kept = drawn(table)
    gone = sorted(kept.test)[0]
    corrected = kept.training[0]
    smaller = table[table["patient_id"] != gone].copy()
    smaller.loc[smaller["patient_id"] == corrected, "label"] = 1 - kept.labels[corrected]
    after = extended(kept, smaller)
    assert moved(kept, after) == []
    assert after.labels.keys() == kept.labels.keys() - {gone}
    assert after.labels[corrected] == 1 - kept.labels[corrected]
    assert training_side(after).keys() == training_side(kept).keys()
    assert {
        one for one, side in training_side(after).items() if side != training_side(kept)[one]
    } == {corrected}


def test_a_class_that_leaves_a_fold_is_said() -> None:
    table = people(30)
    kept = drawn(table)
    benign = {one.patient_id for one in kept.patients if one.fold == 1 and one.label == 0}
    with pytest.raises(StudyError, match="fold 1 of 3 has no benign patient"):
        extended(kept, table[~table["patient_id"].isin(benign)])


def with_twins(n: int, pairs: int, *, seed: int) -> tuple[pd.DataFrame, list[tuple[str, str]]]:
    """A cohort in which pairs of one label have one image."""
    table = people(n, seed=seed)
    twins = []
    for label in (0, 1):
        of_class = table.loc[table["label"] == label, "patient_id"].tolist()
        twins += [(of_class[2 * k], of_class[2 * k + 1]) for k in range(pairs)]
    table["twins"] = table["patient_id"].map({one: pair[0] for pair in twins for one in pair})
    return table, twins


@pytest.mark.parametrize("method", ["approximate", "stratified"])
@pytest.mark.parametrize("seed", range(8))
def test_the_same_image_is_on_one_side_of_every_split(method: str, seed: int) -> None:
    folds = Folds(n=2, method=method)  # type: ignore[arg-type]
    table, twins = with_twins(48, 3, seed=seed)
    splits = make_splits(table, seed=seed, split=Split(), folds=folds)
    scanners = {
        PatientId(one): f"S{number % 2}" for number, one in enumerate(sorted(splits.training))
    }
    assert SplitSet.from_json(splits.to_json()) == splits
    sides = [splits.fold(0), *(redraw(splits, repeat).fold(1) for repeat in (1, 2))]
    sides += [sides_of_share(splits, share) for share in (0.3, 0.6)]
    left_out = make_sides(splits, 0, scanners=scanners, scanner="S1")
    assert left_out.patients
    for fold in sides:
        for one, other in twins:
            assert (one in fold.train) == (other in fold.train)
            assert (one in fold.validation) == (other in fold.validation)
    for one, other in twins:
        assert (one in splits.test) == (other in splits.test)


def sides_of_share(splits: SplitSet, share: float) -> object:
    return nested_share(
        splits.fold(1),
        share,
        labels=splits.labels,
        sealed=splits.test,
        seed=splits.seed,
        number=1,
        units=splits.units,
    )


def test_a_scanner_left_out_is_not_trained_on_by_way_of_a_twin() -> None:
    from renal_ray.protocol.scanners import without_scanner

    table, twins = with_twins(48, 3, seed=1)
    splits = make_splits(table, seed=1, split=Split(), folds=Folds(n=2))
    training = [pair for pair in twins if pair[0] in splits.training]
    scanners = {
        PatientId(one): "B" if one in {a for a, _ in training} else "A" for one in splits.training
    }
    fold = without_scanner(splits, scanners, "B")
    assert set(fold.validation) == {a for a, _ in training}
    assert not set(fold.train) & {b for _, b in training}
    assert len(fold.train) == len(splits.training) - 2 * len(training)


def test_twins_that_a_split_parted_join_the_sealed_one() -> None:
    table, [(one, other), *_] = with_twins(48, 1, seed=2)
    apart = drawn(table.drop(columns="twins"))
    roles = {one: ("test", None), other: ("train", 1)}
    kept = SplitSet(
        17,
        "stratified",
        tuple(
            PatientRole(
                p.patient_id, *roles.get(p.patient_id, (p.role, p.fold)), p.n_images, p.label
            )
            for p in apart.patients
        ),
    )
    after = extended(kept, table)
    assert {one, other} <= after.test
    assert other in moved(kept, after)
    with pytest.raises(StudyError, match="another side than a patient with the same image"):
        SplitSet(
            1,
            "approximate",
            (
                *(
                    PatientRole(PatientId(name), "train", fold, 1, 1, "A")
                    for fold, name in enumerate("AB")
                ),
            ),
        )


def test_who_shares_an_image() -> None:
    prints = {
        "A": ["1", "2"],
        "B": ["2", "3"],
        "C": ["3"],
        "D": ["4"],
        "E": ["4"],
        "F": ["9"],
        "G": ["7"],
        "H": ["7"],
        "I": ["7"],
    }
    labels = {"A": 1, "B": 1, "C": 1, "D": 0, "E": 1, "F": 0, "G": 0, "H": 0, "I": 1}
    found = same_pixels(prints, labels)
    assert found.units == {"A": "A", "B": "A", "C": "A"}  # A and C by way of B
    assert found.conflicting == set("DEGHI")
    codes = {one.patient_id: one.code for one in found.problems}
    assert codes == dict.fromkeys("ABC", Code.SAME_PIXELS) | dict.fromkeys(
        "DEGHI", Code.LABEL_CONFLICT
    )
    said = {one.patient_id: one.message for one in found.problems}
    assert "the same image as E, who has the other label" in said["D"]
    assert "the same image as I, who" in said["G"]
    assert "the same image as A, C" in said["B"]
    assert same_pixels({"A": ["1"], "B": ["2"]}, {"A": 0, "B": 1}).problems == []
