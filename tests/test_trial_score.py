"""Scoring sealed patients: the same numbers that training's own validation gave, each model with
its own threshold."""

from types import SimpleNamespace

import numpy as np
import pytest
from conftest import SmallWork

from renal_ray.store.seal import SealError, open_seal
from renal_ray.trial.decide import decisions_of
from renal_ray.trial.score import COLUMNS, score_test
from renal_ray.types import Dataset, Head


@pytest.mark.parametrize("fold", [0, 1])
def test_patients_scored_as_if_sealed_get_their_validation_scores(
    trained: SmallWork, fold: int
) -> None:
    """The fold's validation patients put in the test patients' place: prefix, suffix and heads must
    give what the trial itself wrote."""
    validation = trained.splits.fold(fold).validation
    pretended = SimpleNamespace(test=frozenset(validation), labels=trained.splits.labels)
    point = trained.plan.selected(Dataset.ROI, trained.results)
    assert point is not None
    specs = [
        spec
        for spec in (
            *trained.plan.image_specs(Dataset.ROI, point),
            *trained.plan.head_specs(Dataset.ROI, point),
        )
        if spec.fold == fold
    ]
    assert [spec.head for spec in specs] == list(Head)
    seal = open_seal(trained.work, patients=len(validation), slices=0, models=[])
    try:
        decisions = {
            spec.trial_id: decisions_of(spec, trained.work, trained.study) for spec in specs
        }
        table = score_test(specs, decisions, trained.work, pretended, seal)  # type: ignore[arg-type]
    finally:
        trained.work.remove("test")
    assert tuple(table.columns) == COLUMNS
    assert set(table["patient_id"]) == set(validation)
    for spec in specs:
        own = trained.work.read_parquet(f"trials/{spec.trial_id}/predictions.parquet")
        own = own[own["part"] == "validation"].sort_values(["patient_id", "slice_index"])
        for level, found in table[table["trial_id"] == spec.trial_id].groupby("level"):
            wanted = (
                own.groupby("patient_id")["score"].mean()
                if (level, spec.head) == ("patient", Head.IMAGE)
                else own["score"]
            )
            found = found.sort_values(["patient_id", "slice_index"])
            np.testing.assert_allclose(found["score"], wanted, atol=2e-5)
            threshold = trained.results[spec.trial_id]["levels"][level]["threshold"]
            assert set(found["threshold"]) == {threshold}
            assert (
                found["decision"].tolist()
                == (found["score"].to_numpy(np.float64) >= threshold).astype(int).tolist()
            )
            assert found["raw_score"].tolist() == found["score"].tolist()  # not calibrated
            assert found["label"].tolist() == [
                trained.splits.labels[patient] for patient in found["patient_id"]
            ]
            assert (found["slice_index"].isna() == (level == "patient")).all()


def test_without_the_seal_nothing_is_scored(trained: SmallWork) -> None:
    specs = trained.specs(Head.IMAGE)[:1]
    with pytest.raises(SealError):
        score_test(specs, {}, trained.work, trained.splits, None)  # type: ignore[arg-type]


def test_the_small_study_never_opened_its_seal(trained: SmallWork) -> None:
    assert not trained.work.exists("test/seal.jsonl")
