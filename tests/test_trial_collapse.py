"""Models that learnt nothing are told from models that learnt, and whose votes would mean
nothing."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import SmallWork

from renal_ray.store.ledger import Ledger
from renal_ray.trial.collapse import collapsed, dead_cells, summary
from renal_ray.types import Dataset, FreezePoint, Head


@pytest.fixture(scope="module")
def diverged(trained: SmallWork, tmp_path_factory: pytest.TempPathFactory) -> SmallWork:
    """The trained study's image trials at one freeze point, with a learning rate of a million."""
    training = trained.study.training.model_copy(update={"learning_rate": 1e6})
    small = trained.copy(
        tmp_path_factory.mktemp("diverged") / "work",
        training=training,
        freeze_points=["mixed10"],
        heads={"use": ["image"]},
        controls={},
    )
    results: dict[str, Mapping[str, Any]] = {
        spec.trial_id: small.run(spec) for spec in small.specs()
    }
    return SmallWork(small.study, small.work, small.splits, small.plan, small.workshop, results)


def test_a_study_that_learns_has_none(trained: SmallWork) -> None:
    assert collapsed(trained.plan, trained.results, trained.work) == {}
    assert dead_cells(trained.plan, trained.results, {}) == []


def test_a_learning_rate_of_a_million_is_told(diverged: SmallWork) -> None:
    found = collapsed(diverged.plan, diverged.results, diverged.work)
    assert set(found) == set(diverged.results)
    assert dead_cells(diverged.plan, diverged.results, found) == [
        (Dataset.ROI, FreezePoint.MIXED10, Head.IMAGE)
    ]
    assert summary(found).startswith(f"2 models learnt nothing, the first {next(iter(found))} (")


def test_half_of_the_models_of_a_vote_are_not_most_of_them(diverged: SmallWork) -> None:
    first, second = diverged.results
    assert dead_cells(diverged.plan, diverged.results, {first}) == []
    assert len(dead_cells(diverged.plan, diverged.results, {first, second})) == 1


@pytest.mark.parametrize(
    ("losses", "metrics", "why"),
    [
        ([0.7, 0.5, 0.1], {"auc": 0.9, "sen": 0.8, "spec": 0.9}, ""),
        (
            [0.01, 0.2, 6.9],
            {"auc": 0.9, "sen": 0.8, "spec": 0.9},
            "",
        ),  # less than ten times a coin's 0.693
        (
            [0.01, 0.2, 7.0],
            {"auc": 0.9, "sen": 0.8, "spec": 0.9},
            "its training loss went from 0.01 to 7",
        ),
        ([2.0, 19.0, 19.9], {"auc": 0.9, "sen": 0.8, "spec": 0.9}, ""),
        (
            [2.0, 19.0, 20.1],
            {"auc": 0.9, "sen": 0.8, "spec": 0.9},
            "its training loss went from 2 to 20",
        ),
        (
            [0.7, 0.7, float("nan")],
            {"auc": 0.9, "sen": 0.8, "spec": 0.9},
            "its training loss went from 0.7 to nan",
        ),
        (
            [float("inf"), float("inf"), float("inf")],
            {"auc": 0.5, "sen": 0.8, "spec": 0.3},
            "its training loss went from inf to inf",
        ),
        (
            [0.7, 0.7, 0.7],
            {"auc": 0.5, "sen": 1.0, "spec": 0.0},
            "it decides the same for everybody in its validation fold",
        ),
        (
            [0.7, 0.7, 0.7],
            {"auc": 0.4, "sen": 0.0, "spec": 1.0},
            "it decides the same for everybody in its validation fold",
        ),
        ([0.7, 0.7, 0.7], {"auc": 0.5, "sen": 1.0, "spec": 0.1}, ""),
        ([0.7, 0.7, 0.7], {"auc": 1.0, "sen": 1.0, "spec": 1.0}, ""),
    ],
)
def test_the_signs(
    diverged: SmallWork, tmp_path: Path, losses: list[float], metrics: dict[str, float], why: str
) -> None:
    small = diverged.copy(tmp_path / "work")
    [first, *_] = small.specs()
    ledger = Ledger(small.work)
    folder = ledger.begin(first.trial_id, first.to_json())
    for name in ("weights.h5", "embeddings.arrow", "predictions.parquet"):
        folder.write(name, b"unread")
    folder.write_parquet("history.parquet", pd.DataFrame({"epoch": range(1, 4), "loss": losses}))
    result = ledger.finish(
        first.trial_id,
        {"trial_id": first.trial_id, "levels": {"slice": {"threshold": 0.5, "metrics": metrics}}},
    )
    assert collapsed(small.plan, {first.trial_id: result}, small.work) == (
        {first.trial_id: why} if why else {}
    )
