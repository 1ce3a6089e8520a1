"""The negative control does what it is for: it stays at chance on an honest fold and rises when a
leak is planted."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import SmallWork, activated, draw_patients, small_study

from renal_ray.trial import run
from renal_ray.trial.feed import Feed, Picked, Samples, image_feed
from renal_ray.types import Dataset, FreezePoint

HONEST = (0.35, 0.65)


def leaky_feed(*arguments: Any) -> Feed:
    """A defect as it would really come about: the validation patients' slices are trained on under
    other ids, past every check of ids."""
    honest = image_feed(*arguments)
    train, validation = honest.train, honest.validation
    assert train.slice_index is not None
    assert validation.slice_index is not None
    leaked = Samples(
        Picked(honest.source, np.concatenate([train.inputs.rows, validation.inputs.rows])),
        np.concatenate([train.labels, validation.labels]),
        train.patients + tuple(f"again-{patient}" for patient in validation.patients),
        np.concatenate([train.slice_index, validation.slice_index]),
    )
    return replace(honest, train=leaked)


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> SmallWork:
    """Forty patients, benign and malignant drawn alike."""
    study = small_study(
        tmp_path_factory.mktemp("noise"),
        training={
            "epochs": {"image": 15},
            "batch_size": 16,
            "embedding": 256,
            "learning_rate": 0.02,
        },
        controls={"permuted_labels": True, "permutations": 4},
    )
    return activated(study, draw_patients(40, signal=0.0))


def control(small: SmallWork) -> float:
    """Mean validation AUC of the permuted-label control over folds and permutations."""
    names = [f"permuted-{index}" for index in range(small.study.controls.permutations)]
    specs = [
        spec
        for name in names
        for spec in small.plan.image_specs(Dataset.ROI, FreezePoint.MIXED10, name)
    ]
    return float(np.mean([small.run(spec)["levels"]["slice"]["metrics"]["auc"] for spec in specs]))


def test_the_control_stays_at_chance_and_catches_a_planted_leak(
    noise: SmallWork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = control(noise)
    assert HONEST[0] <= honest <= HONEST[1]
    planted = noise.copy(tmp_path / "work")
    monkeypatch.setattr(run, "image_feed", leaky_feed)
    leaking = control(planted)
    assert leaking > HONEST[1]
    assert leaking > honest + 0.15
