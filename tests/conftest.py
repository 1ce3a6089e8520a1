"""Fixtures that several test files share: real inputs, and a small study whose slices are drawn,
not imaged."""

import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from renal_ray.config import Study
from renal_ray.protocol.splits import SplitSet, make_splits
from renal_ray.store.place import Place
from renal_ray.store.slices import PatientRows, write_index, write_shard
from renal_ray.trial import prepared
from renal_ray.trial.plan import Plan, make_plan
from renal_ray.trial.spec import TrialSpec
from renal_ray.trial.workshop import Workshop
from renal_ray.types import DATASETS, Head

REPOSITORY = Path(__file__).resolve().parent.parent
SIZE = 75  # the smallest image that InceptionV3 takes

# Before any test imports Keras: sums come out in one order, and two test processes do not fight for
# the cores.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "2")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
os.environ.setdefault("NPROC", "2")  # read by JAX
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real inputs made by others; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("RENAL_RAY_REAL_DATA", REPOSITORY.parent / "shared" / "real"))
    if not folder.is_dir():
        pytest.skip(f"no real inputs at {folder}: set RENAL_RAY_REAL_DATA")
    return folder


def small_study(work: Path, **changes: object) -> Study:
    """A study that a laptop runs in seconds: one dataset, pooled features of a random InceptionV3,
    two folds."""
    settings: dict = {
        "name": "small",
        "work": str(work),
        "cohort": {"manifest": "/nowhere/unused.csv"},
        "datasets": ["roi"],
        "freeze_points": ["mixed10"],
        "images": {"size": SIZE},
        "folds": {"n": 2},
        "weights": "random",
        "backend": os.environ.get("KERAS_BACKEND", "tensorflow"),  # what this process computes with
        "training": {
            "epochs": {"image": 3, "fc": 3, "gru": 3},
            "batch_size": 8,
            "embedding": 32,
            "gru_units": 8,
        },
        "resources": {"cpus": 2},
    }
    return Study.model_validate(settings | changes)


def draw_patients(
    n: int = 20, *, seed: int = 0, signal: float = 40.0, overlap: float = 0.0
) -> list[PatientRows]:
    """Patients whose malignant slices are coarser and brighter by `signal` grey levels.

    Args:
        n: number of patients, every other one malignant.
        seed: same seed, same patients.
        signal: grey levels between benign and malignant.
        overlap: standard deviation of what a patient shows around benign (0) and malignant (1); at
            0 the labels can be told without error.
    """
    rng = np.random.default_rng(seed)
    shown = np.arange(n) % 2 + np.random.default_rng([seed, 1]).normal(0, overlap, n)
    patients = []
    for number in range(n):
        label, slices = number % 2, int(rng.integers(2, 5))
        coarse = (
            rng.normal(110 + signal * shown[number], 30, (slices, 25, 25, 3))
            .repeat(3, axis=1)
            .repeat(3, axis=2)
        )
        fine = rng.normal(0, 20, (slices, SIZE, SIZE, 3))
        image = np.clip(coarse * (0.6 + 0.4 * shown[number]) + fine, 0, 255).astype(np.uint8)
        index = np.arange(slices, dtype=np.int32)
        patients.append(
            PatientRows(f"P{number:03d}", label, index, -5.0 * index, np.full(slices, 400.0), image)
        )
    return patients


def write_small_work(study: Study, patients: list[PatientRows]) -> tuple[Place, SplitSet]:
    """Writes slices, cohort and split of a study as prepare would, from drawn patients."""
    work = Place(study.work)
    half = len(patients) // 2
    for dataset in DATASETS:
        rows = write_shard(work, dataset, "shard-00000", patients[:half], size=SIZE)
        rows += write_shard(work, dataset, "shard-00001", patients[half:], size=SIZE)
        write_index(work, dataset, rows)
    rows = [
        {
            "patient_id": patient.patient_id,
            "label": patient.label,
            "n_images": len(patient.image),
            "n_slices_total": 40,
        }
        for patient in patients
    ]
    cohort = pd.DataFrame(rows).assign(max_diameter_mm=np.linspace(20.0, 60.0, len(rows)))
    work.write_parquet("cohort.parquet", cohort)
    work.write("quarantine.csv", b"patient_id,file,code,message,severity\n")
    splits = make_splits(cohort, seed=study.seed, split=study.split, folds=study.folds)
    work.write_json("splits.json", splits.to_json())
    prepared.declare(study, work)
    return work, splits


@dataclass(frozen=True)
class SmallWork:
    """A small study with its activations, and the results of the trials that were run."""

    study: Study
    work: Place
    splits: SplitSet
    plan: Plan
    workshop: Workshop
    results: Mapping[str, Mapping[str, Any]]

    def specs(self, head: Head | None = None) -> list[TrialSpec]:
        """Every trial of the study, or those of one head on true labels."""
        found = self.plan.specs(self.results)
        return (
            found
            if head is None
            else [spec for spec in found if spec.head is head and spec.labels == "true"]
        )

    def run(self, spec: TrialSpec, workshop: Workshop | None = None) -> dict[str, Any]:
        """One trial, start to end."""
        from renal_ray.trial.run import run_trial

        trial = run_trial(spec, self.work, self.splits, workshop or self.workshop)
        while True:
            try:
                next(trial)
            except StopIteration as end:
                return end.value

    def copy(self, folder: Path, **changes: object) -> "SmallWork":
        """The same slices, backbone and activations in another work directory, without trials;
        `changes` to the study."""
        shutil.copytree(
            self.work.path(),
            folder,
            ignore=shutil.ignore_patterns("trials", "test", "report", "study.yaml"),
        )
        study = Study.model_validate(self.study.model_dump() | changes | {"work": str(folder)})
        work = Place(str(folder))
        return replace(
            self,
            study=study,
            work=work,
            plan=make_plan(study, work),
            workshop=Workshop(work),
            results={},
        )


def activated(study: Study, patients: list[PatientRows]) -> SmallWork:
    """Writes a study's slices, backbone and activations, in this process."""
    from renal_ray.store import activations
    from renal_ray.store.slices import Slices
    from renal_ray.trial.activate import activate, make_backbone
    from renal_ray.trial.prefix import Prefix

    work, splits = write_small_work(study, patients)
    plan, workshop = make_plan(study, work), Workshop(work)
    size, batch_size = study.images.size, study.training.batch_size
    for dataset in study.datasets:
        weights_hash, sets = plan.inputs[dataset].weights, plan.activation_sets(dataset)
        make_backbone(
            work,
            dataset,
            splits,
            weights=study.weights,
            weights_hash=weights_hash,
            size=size,
            seed=study.seed,
        )
        prefix = Prefix(
            workshop.backbone(weights_hash),
            size=size,
            freeze_points=study.freeze_points,
            batch_size=batch_size,
        )
        slices = Slices(work, dataset, sealed=splits.test)
        training = sorted(splits.training)
        activate(
            work, slices, prefix, sets, part="all", patients=training, dtype=study.activation_dtype
        )
        for which in sets:
            activations.write_index(
                work, which, {"all": [(one, slices.where[one].rows) for one in training]}
            )
    return SmallWork(study, work, splits, plan, workshop, {})


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> SmallWork:
    """All trials of a small study, run one after another by one workshop. To be read, not to be
    changed: take a `copy`."""
    study = small_study(
        tmp_path_factory.mktemp("trained"),
        freeze_points=["mixed9", "mixed10"],
        controls={"permuted_labels": True, "permutations": 2},
    )
    small = activated(study, draw_patients(24))
    results: dict[str, Mapping[str, Any]] = {}
    small = replace(small, results=results)
    while waiting := [spec for spec in small.specs() if spec.trial_id not in results]:
        for spec in waiting:
            results[spec.trial_id] = small.run(spec)
    return small


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """One Ray on this machine for all tests of a session; every command then runs inside it."""
    from renal_ray.config import Resources
    from renal_ray.sweep.cluster import cluster

    with cluster(Resources(cpus=2, object_store_mb=100)):
        yield


@pytest.fixture(scope="session")
def phantom_manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Manifest of eighteen small phantoms in DICOM. To be read, not to be changed."""
    from renal_ray.cohort.phantom import write_phantom

    return write_phantom(
        tmp_path_factory.mktemp("phantom") / "cohort",
        patients=18,
        seed=17,
        matrix=128,
        slice_mm=10.0,
    )


@pytest.fixture(scope="session")
def finished(trained: SmallWork, tmp_path_factory: pytest.TempPathFactory) -> SmallWork:
    """The `trained` study with its trials and a study.yaml of its own, as a command opens it. To be
    read, not to be changed."""
    from renal_ray.trial.record import keep_study

    folder = tmp_path_factory.mktemp("finished") / "work"
    shutil.copytree(trained.work.path(), folder)
    study = Study.model_validate(trained.study.model_dump() | {"work": str(folder)})
    work = Place(str(folder))
    keep_study(study, work)
    return replace(
        trained, study=study, work=work, plan=make_plan(study, work), workshop=Workshop(work)
    )


WHOLE_STUDY = {
    "name": "small",
    "datasets": ["roi"],
    "freeze_points": ["mixed10"],
    "images": {"size": SIZE},
    "folds": {"n": 2, "method": "stratified"},
    "weights": "random",
    "training": {
        "epochs": {"image": 4, "fc": 4, "gru": 4},
        "batch_size": 8,
        "embedding": 32,
        "gru_units": 8,
    },
    "resources": {"cpus": 2},
}


@pytest.fixture(scope="session")
def whole_study_file(phantom_manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Study file of a small study on the phantoms."""
    folder = tmp_path_factory.mktemp("study")
    file = folder / "small.yaml"
    file.write_text(
        yaml.safe_dump(
            WHOLE_STUDY
            | {"work": str(folder / "work"), "cohort": {"manifest": str(phantom_manifest)}}
        ),
        encoding="utf-8",
    )
    return file


@pytest.fixture(scope="session")
def whole_study(local_ray: None, whole_study_file: Path) -> Path:
    """The work directory after `renal-ray run`. To be read, not to be changed."""
    from typer.testing import CliRunner

    from renal_ray.cli import app

    done = CliRunner().invoke(app, ["run", str(whole_study_file)])
    assert done.exit_code == 0, done.output
    assert "6 of 6 trials are finished" in done.output
    assert "opened the seal: 6 models voted on 4 test patients" in done.output
    return whole_study_file.parent / "work"
