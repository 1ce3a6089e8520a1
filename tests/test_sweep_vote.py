"""The votes of the fold models, against a count by hand."""

import numpy as np
import pandas as pd
import pytest

from renal_ray.sweep.vote import GROUP, count_votes


def made(folds: int, seed: int = 0) -> pd.DataFrame:
    """Predictions of two datasets; every fold model meets the samples in an order of its own."""
    rng = np.random.default_rng(seed)
    tables = []
    for dataset in ("roi", "slice"):
        for head, level in (("image", "slice"), ("image", "patient"), ("gru", "patient")):
            samples = [
                (f"P{p}", s if level == "slice" else pd.NA, p % 2)
                for p in range(7)
                for s in (range(3) if level == "slice" else [0])
            ]
            for fold in range(folds):
                rows = pd.DataFrame(
                    [samples[i] for i in rng.permutation(len(samples))],
                    columns=["patient_id", "slice_index", "label"],
                )
                rows["score"] = rng.random(len(rows)).astype(np.float32)
                threshold = float(rng.uniform(0.3, 0.7))
                decision = (rows["score"] >= threshold).astype(np.int8)
                rows = rows.assign(
                    dataset=dataset,
                    freeze_point="mixed9",
                    head=head,
                    level=level,
                    fold=fold,
                    decision=decision,
                )
                tables.append(rows.astype({"slice_index": "Int32", "label": "int8"}))
    return pd.concat(tables, ignore_index=True)


@pytest.mark.parametrize("folds", [1, 2, 3, 4, 5])
def test_votes_are_counted_as_by_hand(folds: int) -> None:
    predictions = made(folds)
    votes = count_votes(predictions)
    assert list(votes.columns) == [
        *GROUP,
        "patient_id",
        "slice_index",
        "label",
        "votes",
        "n_models",
        "decision",
        "score",
    ]
    ties = 0
    by_hand = {}
    for key, rows in predictions.groupby([*GROUP, "patient_id", "slice_index"], dropna=False):
        malignant, mean = int(rows["decision"].sum()), float(rows["score"].astype(float).mean())
        tie = 2 * malignant == folds
        ties += tie
        by_hand[tuple(map(str, key))] = (
            malignant,
            int(2 * malignant > folds or (tie and mean >= 0.5)),
            mean,
            int(rows["label"].iloc[0]),
        )
    assert (ties > 0) == (folds % 2 == 0)
    assert len(votes) == len(by_hand)
    for row in votes.itertuples():
        wanted = by_hand[
            tuple(
                map(
                    str,
                    (
                        row.dataset,
                        row.freeze_point,
                        row.head,
                        row.level,
                        row.patient_id,
                        row.slice_index,
                    ),
                )
            )
        ]
        assert (row.votes, row.decision, row.label, row.n_models) == (
            wanted[0],
            wanted[1],
            wanted[3],
            folds,
        )
        assert row.score == pytest.approx(wanted[2], abs=1e-6)


def test_models_that_scored_other_samples_are_not_counted_together() -> None:
    predictions = made(3)
    with pytest.raises(ValueError, match="different samples"):
        count_votes(predictions.drop(index=predictions.index[-1]))
    spoilt = predictions.copy()
    spoilt.loc[spoilt.index[-1], "patient_id"] = "someone else"
    with pytest.raises(ValueError, match="different samples"):
        count_votes(spoilt)


def test_models_that_scored_other_slices_are_not_counted_together() -> None:
    predictions = made(3)
    row = predictions.index[(predictions["level"] == "slice") & (predictions["fold"] == 1)][0]
    predictions.loc[row, "slice_index"] = 99
    with pytest.raises(ValueError, match="different samples"):
        count_votes(predictions)
