"""Who is explained, by hand."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_report_trials import Synthetic, study_at

from renal_ray.trial.plan import finished_results, make_plan
from renal_ray.trial.subjects import (
    BEST,
    OTHER,
    TEST,
    UNCERTAIN,
    VALIDATION,
    WORST,
    image_models,
    picked,
    seal_is_open,
    state,
    subjects,
)
from renal_ray.types import Head

TABLE = pd.DataFrame(
    [
        ("a", 1, 0.99, 0.5),
        ("b", 1, 0.52, 0.5),
        ("c", 1, 0.30, 0.5),
        ("d", 0, 0.01, 0.5),
        ("e", 0, 0.02, 0.5),
        ("f", 0, 0.90, 0.5),
        ("g", 0, 0.60, 0.5),
        ("h", 0, 0.48, 0.47),  # another fold's threshold: wrong, and closer to it than b
        ("i", 1, 0.80, 0.5),
        ("j", 0, 0.10, 0.5),
    ],
    columns=["patient_id", "label", "score", "threshold"],
)
TABLE["decision"] = (TABLE["score"] >= TABLE["threshold"]).astype(int)


def kinds(n: int, table: pd.DataFrame = TABLE) -> dict[str, str]:
    return dict(zip(table["patient_id"], picked(table, n), strict=True))


def test_the_most_certain_and_the_least() -> None:
    found = kinds(2)
    assert [name for name, kind in found.items() if kind == BEST] == ["a", "d"]
    assert [name for name, kind in found.items() if kind == WORST] == ["c", "f"]
    assert [name for name, kind in found.items() if kind == UNCERTAIN] == ["b", "h"]
    assert [name for name, kind in found.items() if kind == OTHER] == ["e", "g", "i", "j"]


def test_uncertain_is_near_the_threshold_and_not_near_one_half() -> None:
    assert [name for name, kind in kinds(1).items() if kind == UNCERTAIN] == ["h"]


def test_nobody_is_of_two_kinds() -> None:
    found = kinds(9)
    assert [name for name, kind in found.items() if kind == WORST] == ["c", "f", "g", "h"]
    assert [name for name, kind in found.items() if kind == BEST] == ["a", "b", "d", "e", "i", "j"]


def test_none_are_asked_for() -> None:
    assert set(kinds(0).values()) == {OTHER}


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_the_rows_does_not_matter_even_where_scores_tie(seed: int) -> None:
    tied = TABLE.assign(score=TABLE["score"].round(1))
    tied["decision"] = (tied["score"] >= tied["threshold"]).astype(int)
    order = np.random.default_rng(seed).permutation(len(tied))
    assert kinds(2, tied.iloc[order].reset_index(drop=True)) == kinds(2, tied)


def test_the_study_s_rule_decides_who_is_right_and_its_trials_stay(tmp_path: Path) -> None:
    made = Synthetic(study_at(tmp_path))
    made.train(heads=[Head.IMAGE])
    ruled = study_at(
        tmp_path, calibrate="platt", threshold={"rule": "sensitivity", "sensitivity": 1}
    )
    told = {}
    for name, study in (("plain", made.study), ("ruled", ruled)):
        plan, results = make_plan(study, made.work), finished_results(made.work)
        models = {dataset: image_models(plan, dataset, results) for dataset in study.datasets}
        found = subjects(study, made.work, models, opened=False)
        assert {one.part for one in found} == {VALIDATION}
        for dataset in study.datasets:
            assert sorted(one.patient_id for one in found if one.dataset is dataset) == sorted(
                made.splits.training
            )
        for one in found:
            [fold] = one.folds
            assert one.patient_id in made.splits.fold(fold).validation
            assert one.decision == (one.score >= one.threshold)
            assert one.label == made.splits.labels[one.patient_id]
        told[name] = found, state(study, made.work, models, results, opened=False)
    assert all(
        one.decision for one in told["ruled"][0] if one.label
    )  # no malignant tumour is missed on validation
    assert not all(one.decision for one in told["plain"][0] if one.label)
    assert told["ruled"][1]["models"] != told["plain"][1]["models"]


def test_errors_of_the_vote_are_among_them_only_once_the_seal_is_open(tmp_path: Path) -> None:
    made = Synthetic(study_at(tmp_path))
    made.train()
    plan, results = make_plan(made.study, made.work), finished_results(made.work)
    models = {dataset: image_models(plan, dataset, results) for dataset in made.study.datasets}
    assert not seal_is_open(made.work, plan, results)
    made.test()
    votes = made.votes.query("head == 'image' and level == 'patient' and decision != label")
    assert len(votes) > 0
    found = [
        one for one in subjects(made.study, made.work, models, opened=True) if one.part == TEST
    ]
    assert [(str(one.dataset), one.patient_id) for one in found] == list(
        votes.sort_values(["dataset", "patient_id"])[["dataset", "patient_id"]].itertuples(
            index=False, name=None
        )
    )
    assert all(
        one.folds == (0, 1, 2, 3, 4) and one.threshold is None and one.decision != one.label
        for one in found
    )
    assert not any(
        one.part == TEST for one in subjects(made.study, made.work, models, opened=False)
    )
