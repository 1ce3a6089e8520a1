"""Fixtures that several test files share: real inputs, and a small study whose slices are drawn, not imaged."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from renal_ray.config import Study
from renal_ray.protocol.splits import SplitSet, make_splits
from renal_ray.store.place import Place
from renal_ray.store.slices import PatientRows, write_index, write_shard
from renal_ray.types import DATASETS

REPOSITORY = Path(__file__).resolve().parent.parent
SIZE = 75  # the smallest image that InceptionV3 takes

# Before any test imports Keras: sums come out in one order, and two test processes do not fight for the cores.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "2")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real inputs made by others; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("RENAL_RAY_REAL_DATA", REPOSITORY.parent / "shared" / "real"))
    if not folder.is_dir():
        pytest.skip(f"no real inputs at {folder}: set RENAL_RAY_REAL_DATA")
    return folder


def small_study(work: Path, **changes: object) -> Study:
    """A study that a laptop runs in seconds: one dataset, pooled features of a random InceptionV3, two folds."""
    settings: dict = {
        "name": "small",
        "work": str(work),
        "cohort": {"manifest": "unused.csv"},
        "datasets": ["roi"],
        "freeze_points": ["mixed10"],
        "images": {"size": SIZE},
        "folds": {"n": 2},
        "weights": "random",
        "training": {"epochs": {"image": 3, "fc": 3, "gru": 3}, "batch_size": 8, "embedding": 32, "gru_units": 8},
        "resources": {"cpus": 2},
    }
    return Study.model_validate(settings | changes)


def draw_patients(n: int = 20, *, seed: int = 0, signal: float = 40.0) -> list[PatientRows]:
    """Patients whose malignant slices are coarser and brighter by `signal` grey levels."""
    rng = np.random.default_rng(seed)
    patients = []
    for number in range(n):
        label, slices = number % 2, int(rng.integers(2, 5))
        coarse = rng.normal(110 + signal * label, 30, (slices, 25, 25, 3)).repeat(3, axis=1).repeat(3, axis=2)
        fine = rng.normal(0, 20, (slices, SIZE, SIZE, 3))
        image = np.clip(coarse * (0.6 + 0.4 * label) + fine, 0, 255).astype(np.uint8)
        index = np.arange(slices, dtype=np.int32)
        patients.append(PatientRows(f"P{number:03d}", label, index, -5.0 * index, np.full(slices, 400.0), image))
    return patients


def write_small_work(study: Study, patients: list[PatientRows]) -> tuple[Place, SplitSet]:
    """Writes slices, cohort and split of a study as prepare would, from drawn patients."""
    work = Place(study.work)
    half = len(patients) // 2
    for dataset in DATASETS:
        rows = write_shard(work, dataset, "shard-00000", patients[:half], size=SIZE)
        rows += write_shard(work, dataset, "shard-00001", patients[half:], size=SIZE)
        write_index(work, dataset, rows)
    rows = [{"patient_id": patient.patient_id, "label": patient.label, "n_images": len(patient.image), "n_slices_total": 40} for patient in patients]
    cohort = pd.DataFrame(rows).assign(max_diameter_mm=np.linspace(20.0, 60.0, len(rows)))
    work.write_parquet("cohort.parquet", cohort)
    work.write("quarantine.csv", b"patient_id,file,code,message\n")
    splits = make_splits(cohort, seed=study.seed, split=study.split, folds=study.folds)
    work.write_json("splits.json", splits.to_json())
    return work, splits
