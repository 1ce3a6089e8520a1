"""A small study with repeats, a learning curve, scanners left out and other masks, from DICOM to
the report, on a local Ray."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import WHOLE_STUDY, SmallWork
from test_sweep_study import command, state

from renal_ray.imaging.geometry.grid import PatientSlices
from renal_ray.imaging.masks.perturb import perturbations
from renal_ray.problems import StudyError
from renal_ray.protocol.redraw import redraw
from renal_ray.protocol.splits import SplitSet
from renal_ray.store.place import Place
from renal_ray.study_file import load_study
from renal_ray.sweep.run import sweep
from renal_ray.trial.masks import score_masks
from renal_ray.trial.plan import Plan, family, finished_results, make_plan
from renal_ray.trial.sides import sides_of
from renal_ray.types import Dataset

WANTED = {
    "heads": {"use": ["image", "fc"]},
    "repeats": 2,
    "robustness": {
        "leave_scanner_out": True,
        "scanner_patients": 1,
        "learning_curve": [0.5],
        "mask_mm": [3],
    },
}


@pytest.fixture(scope="module")
def study_file(phantom_manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("robust")
    file = folder / "small.yaml"
    file.write_text(
        yaml.safe_dump(
            WHOLE_STUDY
            | WANTED
            | {"work": str(folder / "work"), "cohort": {"manifest": str(phantom_manifest)}}
        ),
        encoding="utf-8",
    )
    return file


@pytest.fixture(scope="module")
def finished(local_ray: None, study_file: Path) -> Place:
    """The work directory after `renal-ray run`. To be read, not to be changed."""
    done = command("run", study_file)
    assert done.exit_code == 0, done.output
    assert (
        "of them beside the study's own folds: 4 repeats, 2 learning curve, 2 leave-one-scanner-out"
        in done.output
    )
    assert "12 of 12 trials are finished" in done.output
    assert (
        "opened the seal: 4 models voted on 4 test patients" in done.output
    )  # the study's own fold models, not those of its repeat
    return Place(load_study(study_file).work)


@pytest.fixture(scope="module")
def plan(finished: Place, study_file: Path) -> Plan:
    return make_plan(load_study(study_file), finished)


def tables(work: Place) -> pd.DataFrame:
    return pd.concat(
        [
            work.read_parquet(f"robustness/masks/{name}")
            for name in work.entries("robustness/masks")
        ],
        ignore_index=True,
    )


def test_every_trial_saw_the_patients_of_its_name_and_nobody_sealed(
    finished: Place, plan: Plan
) -> None:
    specs = plan.specs(finished_results(finished))
    assert {family(spec) for spec in specs} == {
        "study",
        "repeats",
        "learning curve",
        "leave-one-scanner-out",
    }
    assert {spec.trial_id for spec in specs} == set(finished.entries("trials"))
    cohort = finished.read_parquet("cohort.parquet").set_index("patient_id")
    for spec in specs:
        predictions = finished.read_parquet(f"trials/{spec.trial_id}/predictions.parquet")
        sides = {part: set(rows["patient_id"]) for part, rows in predictions.groupby("part")}
        fold = sides_of(spec, plan.splits, plan.scanners)
        assert sides == {"train": set(fold.train), "validation": set(fold.validation)}
        assert not sides["train"] & sides["validation"]
        assert not (sides["train"] | sides["validation"]) & plan.splits.test
        for patient in plan.splits.test:
            assert patient.encode() not in finished.read(f"trials/{spec.trial_id}/embeddings.arrow")
        if spec.sides and spec.sides.scanner:
            assert set(cohort.loc[list(sides["validation"]), "scanner"]) == {spec.sides.scanner}
            assert spec.sides.scanner not in set(cohort.loc[list(sides["train"]), "scanner"])
    assert SplitSet.from_json(finished.read_json("splits-repeat1.json")) == redraw(plan.splits, 1)


def test_masks_are_those_of_validation_patients_and_the_original_gives_the_trial_s_own_scores(
    finished: Place, plan: Plan
) -> None:
    found = tables(finished)
    assert set(found["perturbation"]) == {how.name for how in perturbations([3])}
    assert not set(found["patient_id"]) & plan.splits.test
    assert set(found["patient_id"]) == set(plan.splits.training)
    point = plan.selected(Dataset.ROI, finished_results(finished))
    assert point is not None
    keys = ["patient_id", "slice_index"]
    for spec in (*plan.image_specs(Dataset.ROI, point), *plan.head_specs(Dataset.ROI, point)):
        rows = found[(found["head"] == spec.head) & (found["fold"] == spec.fold)]
        own = (
            finished.read_parquet(f"trials/{spec.trial_id}/predictions.parquet")
            .query("part == 'validation'")
            .sort_values(keys)
        )
        assert set(rows["patient_id"]) <= set(plan.splits.fold(spec.fold).validation)
        original = rows[rows["kind"] == "original"].sort_values(keys)
        assert (
            original[keys].astype(str).to_numpy().tolist()
            == own[keys].astype(str).to_numpy().tolist()
        )
        np.testing.assert_allclose(original["score"], own["score"], atol=2e-5)
        wider = rows[rows["kind"] == "dilate"].sort_values(keys)
        assert len(wider) == len(original)
        assert np.abs(wider["score"].to_numpy() - original["score"].to_numpy()).max() > 1e-4


@contextmanager
def hidden(manifest: Path, patients: set[str]) -> Iterator[None]:
    """The files of some patients are not where the manifest says."""
    table = pd.read_csv(manifest, dtype=str).set_index("patient_id")
    there = {manifest.parent / table.loc[patient, "image"] for patient in patients}
    for path in there:
        path.rename(path.with_name(f"{path.name}-hidden"))
    try:
        yield
    finally:
        for path in there:
            path.with_name(f"{path.name}-hidden").rename(path)


def test_sealed_patients_are_not_read_again_and_what_is_missing_is_measured_anew(
    finished: Place, plan: Plan, study_file: Path, phantom_manifest: Path
) -> None:
    names = finished.entries("robustness/masks")
    before = {name: finished.read(f"robustness/masks/{name}") for name in names}
    assert len(names) == 2
    finished.remove(f"robustness/masks/{names[0]}")
    assert "  masks drawn otherwise: 1 of 2 folds measured" in command("status", study_file).output
    # The command asks first whether the cohort changed; here it is the measuring that is looked at.
    study = load_study(study_file)
    with (
        hidden(phantom_manifest, set(plan.splits.fold(0).validation)),
        pytest.raises(StudyError, match="was prepared and cannot be read any more; restore"),
    ):
        sweep(study)
    with hidden(phantom_manifest, set(plan.splits.test) | set(plan.splits.fold(1).validation)):
        sweep(study)
    assert {
        name: finished.read(f"robustness/masks/{name}")
        for name in finished.entries("robustness/masks")
    } == before


def test_running_again_does_nothing(finished: Place, study_file: Path) -> None:
    before = state(finished.path())
    done = command("run", study_file)
    assert done.exit_code == 0, done.output
    assert "the seal stays closed" in done.output
    assert state(finished.path()) == before


def test_report_and_status_show_them_apart(finished: Place, study_file: Path) -> None:
    read = {path.stem: pd.read_csv(path) for path in finished.path("report/tables").glob("*.csv")}
    assert read["repeats"]["n_repeats"].tolist() == [2, 2, 2]
    assert len(read["leave-one-scanner-out"]) == 2
    assert read["learning-curve"]["share"].tolist() == [0.5, 1.0]
    assert len(read["mask-sensitivity"]) == 6 * 3
    assert read["table2-validation"]["n_folds"].tolist() == [2, 2, 2]
    lines = command("status", study_file).output
    assert "  repeats: 4 of 4 trials finished" in lines
    assert "  leave-one-scanner-out: 2 of 2 trials finished" in lines
    assert "  masks drawn otherwise: 2 of 2 folds measured" in lines


def test_another_rule_after_the_seal_was_opened_is_one_more_opening(
    finished: Place, study_file: Path, tmp_path: Path
) -> None:
    shutil.copytree(
        finished.uri, tmp_path / "work", ignore=shutil.ignore_patterns("report", "activations")
    )
    trials = state(tmp_path / "work" / "trials")
    overrides = ("calibrate=platt", "threshold={rule: sensitivity}")
    done = command("test", study_file, *overrides, work=tmp_path / "work")
    assert done.exit_code == 0, done.output
    assert (
        "another rule decides: the votes of the same 4 models on 4 test patients are counted anew"
        in done.output
    )
    lines = [
        json.loads(line)
        for line in (tmp_path / "work/test/seal.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert [line["rule"] for line in lines] == [
        {"calibrate": "none", "threshold": "youden"},
        {"calibrate": "platt", "threshold": "sensitivity", "sensitivity": 0.95},
    ]
    assert state(tmp_path / "work" / "trials") == trials
    done = command("report", study_file, *overrides, work=tmp_path / "work")
    assert (
        "note: The seal was opened 2 times, under 2 rules for threshold and calibration"
        in done.output
    )
    page = (tmp_path / "work/report/index.html").read_text(encoding="utf-8")
    assert "calibrate platt, threshold sensitivity, sensitivity 0.95" in page
    assert (
        "counted under another rule" in command("report", study_file, work=tmp_path / "work").output
    )  # the default again, and nobody has recounted


def test_slices_that_are_not_those_that_were_prepared_are_refused(trained: SmallWork) -> None:
    """And the first patient asked for is one who validates."""
    asked: list[str] = []

    def read(patient: str) -> PatientSlices:
        asked.append(patient)
        n = len(
            trained.work.read_parquet("slices/roi/index.parquet").query("patient_id == @patient")
        )
        mask = np.zeros((n, 40, 40), bool)
        mask[:, 10:30, 10:30] = True
        rows = np.arange(n)
        hu = np.zeros((n, 40, 40), np.int16)
        return PatientSlices(
            rows.astype(np.int32), -5.0 * rows, np.full(n, 400.0), hu, mask, (1.0, 1.0), 40, 28.0
        )

    study = trained.study.model_copy(
        update={"robustness": trained.study.robustness.model_copy(update={"mask_mm": [2.0]})}
    )
    point = trained.plan.selected(Dataset.ROI, trained.results)
    assert point is not None
    image = trained.plan.image_specs(Dataset.ROI, point)[0]
    with pytest.raises(StudyError, match="no longer gives the slices that were prepared"):
        score_masks([image], read, trained.work, trained.splits, trained.workshop, study=study)
    assert asked == [trained.splits.fold(0).validation[0]]
