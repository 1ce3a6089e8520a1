"""Scores under other masks, with the network replaced by arithmetic that can be done by hand."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import SIZE, small_study

from renal_ray.imaging.geometry.grid import PatientSlices
from renal_ray.imaging.masks.perturb import Perturbation, perturb, perturbations
from renal_ray.imaging.regions import dataset_images
from renal_ray.problems import StudyError
from renal_ray.protocol.splits import SplitSet, make_splits
from renal_ray.store.place import Place
from renal_ray.store.slices import PatientRows, write_index, write_shard
from renal_ray.trial import masks
from renal_ray.trial.masks import COLUMNS, mask_parts, masks_wanted, score_masks
from renal_ray.trial.plan import Plan
from renal_ray.trial.spec import Inputs
from renal_ray.types import Dataset, FreezePoint

STUDY = {
    "folds": {"n": 2, "method": "stratified"},
    "robustness": {"mask_mm": [3, 9]},
    "heads": {"use": ["image", "fc"]},
}


def drawn(number: int) -> PatientSlices:
    """A patient with noise for tissue; of every fourth one the first slice has a lesion that 3 mm
    of erosion leave nothing of."""
    rng = np.random.default_rng(number)
    mask = np.zeros((3, 48, 48), bool)
    mask[0, 20:24, 20:24] = number % 4 == 0
    mask[0 if number % 4 else 1 :, 12:36, 14:34] = True
    rows = np.arange(3)
    hu = rng.normal(60 + 40 * (number % 2), 30, (3, 48, 48)).astype(np.int16)
    return PatientSlices(
        rows.astype(np.int32) + 5,
        (-5.0 * rows).astype(np.float32),
        np.full(3, 400, np.float32),
        hu,
        mask,
        (1.0, 1.0),
        40,
        24.0,
    )


def pooled(pixels: np.ndarray) -> np.ndarray:
    """What stands for the frozen layers: means of the three channels."""
    return pixels.reshape(len(pixels), -1, 3).mean(axis=1).astype(np.float32) / 255


class Network:
    """What stands for a model: its score is the first value of what it is shown."""

    def embedding_and_scores(
        self, inputs: np.ndarray, batch_size: int
    ) -> tuple[np.ndarray, np.ndarray]:
        return inputs, inputs[:, 0]


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Plan, Place, SplitSet, Any]:
    study = small_study(tmp_path, **STUDY)
    work = Place(study.work)
    patients = {f"P{number:02d}": drawn(number) for number in range(20)}
    rows = []
    for number, (patient, slices) in enumerate(patients.items()):
        image = dataset_images(slices, images=study.images, datasets=[Dataset.ROI])[Dataset.ROI]
        rows.append(
            PatientRows(
                patient,
                number % 2,
                slices.slice_index,
                slices.position_mm,
                slices.lesion_area_mm2,
                image,
            )
        )
    write_index(work, Dataset.ROI, write_shard(work, Dataset.ROI, "shard-00000", rows, size=SIZE))
    table = pd.DataFrame(
        [{"patient_id": one.patient_id, "label": one.label, "n_images": 3} for one in rows]
    )
    splits = make_splits(table, seed=17, split=study.split, folds=study.folds)
    plan = Plan(study, splits, {Dataset.ROI: Inputs(slices="s", splits="p", weights="w")})
    monkeypatch.setattr(masks, "with_weights", lambda *_: Network())
    workshop = SimpleNamespace(
        prefix=lambda spec: lambda pixels: {spec.freeze_point: pooled(pixels)}
    )
    return plan, work, splits, workshop


def test_each_validation_patient_is_scored_under_each_mask_and_nobody_else_is_read(made) -> None:
    plan, work, splits, workshop = made
    image = plan.image_specs(Dataset.ROI, FreezePoint.MIXED10)[1]
    head = plan.head_specs(Dataset.ROI, FreezePoint.MIXED10)[1]
    asked: list[str] = []

    def read(patient: str) -> PatientSlices:
        asked.append(patient)
        return drawn(int(patient[1:]))

    table = score_masks([image, head], read, work, splits, workshop, study=plan.study)
    assert tuple(table.columns) == COLUMNS
    assert asked == list(splits.fold(1).validation)
    assert not set(asked) & splits.test
    lost = {f"P{number:02d}" for number in range(0, 20, 4)} & set(asked)
    assert lost
    for how in perturbations([3, 9]):
        for patient in asked:
            slices = drawn(int(patient[1:]))
            other = np.stack([perturb(one, how, (1.0, 1.0)) for one in slices.mask])
            left = [number for number in range(3) if other[number].any()]
            shown = [
                PatientSlices(
                    **{
                        **vars(slices),
                        "mask": other[[n]],
                        "hu": slices.hu[[n]],
                        "slice_index": slices.slice_index[[n]],
                    }
                )
                for n in left
            ]
            by_hand = np.concatenate(
                [
                    pooled(
                        dataset_images(one, images=plan.study.images, datasets=[Dataset.ROI])[
                            Dataset.ROI
                        ]
                    )
                    for one in shown
                ]
            )
            rows = table[(table["perturbation"] == how.name) & (table["patient_id"] == patient)]
            per_slice, per_patient = rows[rows["head"] == "image"], rows[rows["head"] == "fc"]
            assert per_slice["slice_index"].tolist() == slices.slice_index[left].tolist()
            np.testing.assert_allclose(per_slice["score"], by_hand[:, 0], atol=1e-6)
            assert per_patient["score"].tolist() == pytest.approx(
                [by_hand[:, 0].max()]
            )  # of the slices that are left
            assert set(rows["label"]) == {splits.labels[patient]}
            assert len(left) == (2 if patient in lost and how.kind == "erode" else 3)
    wide, narrow = (
        table.query(f"kind == '{kind}' and mm == 9 and head == 'image'").shape[0]
        for kind in ("dilate", "erode")
    )
    assert narrow < wide


def test_a_mask_or_image_that_changed_is_refused_before_it_is_scored(made) -> None:
    plan, work, splits, workshop = made
    image = plan.image_specs(Dataset.ROI, FreezePoint.MIXED10)[0]

    def read(patient: str) -> PatientSlices:
        slices = drawn(int(patient[1:]))
        slices.mask[2] = perturb(slices.mask[2], Perturbation("erode", 1), (1.0, 1.0))
        return slices

    with pytest.raises(
        StudyError,
        match=(
            r"patient P\d\d: the image or mask file no longer "
            r"gives the slices that were prepared"
        ),
    ):
        score_masks([image], read, work, splits, workshop, study=plan.study)


def test_tables_are_named_by_models_weights_and_perturbations(made) -> None:
    plan, _, _, _ = made
    specs = [
        *plan.image_specs(Dataset.ROI, FreezePoint.MIXED10),
        *plan.head_specs(Dataset.ROI, FreezePoint.MIXED10),
    ]
    results = {
        spec.trial_id: {
            "levels": {"slice": {"metrics": {"auc": 0.7}}},
            "files": {"weights.h5": spec.trial_id},
        }
        for spec in specs
    }
    assert mask_parts(plan, {}) == []
    parts = mask_parts(plan, results)
    assert [part.file.rpartition("-")[0] for part in parts] == [
        f"robustness/masks/roi-mixed10-fold{fold}" for fold in (0, 1)
    ]
    assert masks_wanted(plan.study) == 2
    assert [[spec.fold for spec in part.specs] for part in parts] == [[0, 0], [1, 1]]
    without = {
        name: one for name, one in results.items() if name != specs[-1].trial_id
    }  # the fc trial of fold 1
    assert mask_parts(plan, without) == parts[:1]
    other = results | {
        specs[0].trial_id: results[specs[0].trial_id] | {"files": {"weights.h5": "another"}}
    }
    assert [
        one.file == two.file for one, two in zip(mask_parts(plan, other), parts, strict=True)
    ] == [False, True]
    wider = Plan(
        small_study(Path(plan.study.work), **STUDY | {"robustness": {"mask_mm": [3]}}),
        plan.splits,
        plan.inputs,
    )
    assert not {part.file for part in mask_parts(wider, results)} & {part.file for part in parts}
    assert (
        mask_parts(
            Plan(
                small_study(Path(plan.study.work), **STUDY | {"robustness": {}}),
                plan.splits,
                plan.inputs,
            ),
            results,
        )
        == []
    )
