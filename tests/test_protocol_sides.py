"""Who trains and validates beside the study's own folds: repeats, nested shares, one scanner left
out."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest

from renal_ray.config import Folds, Split
from renal_ray.problems import StudyError
from renal_ray.protocol.redraw import redraw
from renal_ray.protocol.scanners import scanners_of, why_not_left_out, without_scanner
from renal_ray.protocol.shares import nested_share
from renal_ray.protocol.splits import PatientRole, SplitSet, make_splits

N = 80


def splits_of(
    method: str = "approximate", *, seed: int = 17, n: int = N, folds: int = 5
) -> SplitSet:
    rng = np.random.default_rng(5)
    table = pd.DataFrame(
        {
            "patient_id": [f"P{i:03d}" for i in range(n)],
            "label": (rng.random(n) < 0.65).astype(int),
            "n_images": rng.integers(2, 30, n),
        }
    )
    return make_splits(table, seed=seed, split=Split(), folds=Folds(n=folds, method=method))


@pytest.mark.parametrize("method", ["approximate", "stratified"])
def test_a_repeat_deals_the_same_training_patients_to_other_folds(method: str) -> None:
    own = splits_of(method)
    assert redraw(own, 0) is own
    drawn = [redraw(own, repeat) for repeat in range(4)]
    folds = [tuple(one.fold for one in each.patients) for each in drawn]
    assert len(set(folds)) == 4
    for each in drawn:
        assert each.test == own.test  # the sealed stay sealed
        assert each.training == own.training
        assert each.labels == own.labels
        assert each.n_folds == 5
        for k in range(5):
            assert {own.labels[patient] for patient in each.fold(k).validation} == {0, 1}
    again = splits_of(method)
    assert redraw(again, 2) == drawn[2]  # of the split alone
    assert redraw(SplitSet.from_json(own.to_json()), 3) == drawn[3]
    assert redraw(splits_of(method, seed=18), 1) != drawn[1]


def test_a_repeat_s_folds_are_the_paper_s_in_another_order() -> None:
    """Approximately equal numbers of images: the folds of some order of the patients by the paper's
    rule."""
    drawn = redraw(splits_of(), 1)
    images = [sum(one.n_images for one in drawn.patients if one.fold == k) for k in range(5)]
    average = sum(images) / 5
    assert max(abs(one - average) for one in images[:-1]) <= 30


def test_where_no_draw_has_both_classes_in_every_fold_a_sentence_says_so() -> None:
    people = [PatientRole(f"P{i}", "train", i % 2, 1, 1 if i else 0) for i in range(6)]  # type: ignore[arg-type]
    with pytest.raises(
        StudyError,
        match=(
            r"repeat 1: none of 1000 draws gives each of 2 folds "
            r"patients of both classes; use fewer folds"
        ),
    ):
        redraw(SplitSet(3, "approximate", tuple(people)), 1)


def test_shares_are_nested_stratified_and_keep_who_validates() -> None:
    splits = splits_of()
    for number in range(5):
        fold = splits.fold(number)
        before: set[str] = set()
        for share in (0.01, 0.25, 0.5, 0.75, 1.0):
            found = nested_share(
                fold,
                share,
                labels=splits.labels,
                sealed=splits.test,
                seed=splits.seed,
                number=number,
            )
            assert found.validation == fold.validation
            assert before <= set(found.train) <= set(fold.train)
            assert not set(found.train) & (splits.test | set(fold.validation))
            have, whole = (
                Counter(splits.labels[patient] for patient in side)
                for side in (found.train, fold.train)
            )
            for label in (0, 1):
                assert have[label] == max(1, int(share * whole[label] + 0.5))
            before = set(found.train)
        assert before == set(fold.train)
    half = nested_share(
        splits.fold(0), 0.5, labels=splits.labels, sealed=splits.test, seed=splits.seed, number=0
    )
    other = nested_share(
        splits.fold(0),
        0.5,
        labels=splits.labels,
        sealed=splits.test,
        seed=splits.seed + 1,
        number=0,
    )
    assert set(half.train) != set(other.train)


def test_one_scanner_is_left_out_of_training_and_validates() -> None:
    splits = splits_of()
    names = ["Siemens Force", "GE", "Philips", None]
    scanners = {patient: names[i % 4] for i, patient in enumerate(splits.training) if names[i % 4]}
    found = without_scanner(splits, scanners, "GE")  # type: ignore[arg-type]
    assert set(found.validation) == {patient for patient, name in scanners.items() if name == "GE"}
    assert set(found.train) == {patient for patient, name in scanners.items() if name != "GE"}
    unknown = set(splits.training) - set(scanners)
    assert unknown
    assert not unknown & {*found.train, *found.validation}  # it might be that scanner
    assert not splits.test & {*found.train, *found.validation}
    levels = scanners_of(splits, scanners, least=2)  # type: ignore[arg-type]
    assert [one.name for one in levels] == ["GE", "Philips", "Siemens Force"]
    for one in levels:
        counted = Counter(
            splits.labels[patient] for patient, name in scanners.items() if name == one.name
        )
        assert (one.benign, one.malignant) == (counted[0], counted[1])
    with pytest.raises(StudyError, match="nobody to train on"):
        without_scanner(splits, dict.fromkeys(splits.training, "GE"), "GE")


def test_a_scanner_with_too_few_patients_is_named_and_not_left_out() -> None:
    splits = splits_of()
    benign = [patient for patient in splits.training if not splits.labels[patient]]
    malignant = [patient for patient in splits.training if splits.labels[patient]]
    scanners = (
        dict.fromkeys(splits.training, "A")
        | dict.fromkeys([*benign[:6], *malignant[:9]], "B")
        | dict.fromkeys([benign[6], *malignant[9:14]], "C")
    )
    levels = scanners_of(splits, scanners, least=5)
    assert [(one.name, one.is_left_out) for one in levels] == [
        ("A", True),
        ("B", True),
        ("C", False),
    ]
    assert why_not_left_out(levels, 5) == (
        "not left out: C (1 benign, 5 malignant); it, and all others "
        "together, need 5 training patients of each class"
    )
    two = scanners_of(
        splits,
        dict.fromkeys(splits.training, "A") | dict.fromkeys([*benign[:3], *malignant[:9]], "B"),
        least=5,
    )
    assert [one.is_left_out for one in two] == [
        False,
        False,
    ]  # without A, three benign ones would be left to train on
    assert "no column `scanner`" in why_not_left_out([], 5)
    alone = scanners_of(splits, dict.fromkeys(splits.training, "A"), least=5)
    assert (
        why_not_left_out(alone, 5)
        == "no scanner is left out: all training patients whose scanner is known were on A"
    )
    assert why_not_left_out(levels[:2], 5) == ""
