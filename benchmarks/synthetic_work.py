"""Writes a prepared work directory from drawn patients: what `renal-ray prepare` would leave,
without imaging.

    python benchmarks/synthetic_work.py FOLDER [--patients 40] [--slices 10] [--size 299] [--seed
    17]

Malignant slices are coarser and a little brighter, patients differ from each other, so that there
is something to learn and no model is perfect. `renal-ray sweep FOLDER/study.yaml` then trains on
it.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from renal_ray.config import Study
from renal_ray.protocol.splits import make_splits
from renal_ray.store.place import Place
from renal_ray.store.slices import PatientRows, write_index, write_shard
from renal_ray.study_file import dump_study
from renal_ray.trial import prepared

SHARD = 8  # patients in a file, as prepare has them
GRAIN = 6  # pixels of the coarse pattern


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    for name, value in (("patients", 40), ("slices", 10), ("size", 299), ("seed", 17)):
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    study = write_work(
        options.folder,
        patients=options.patients,
        slices=options.slices,
        size=options.size,
        seed=options.seed,
    )
    print(f"wrote {study.work}, for {options.folder / 'study.yaml'}")


def write_work(
    folder: Path,
    *,
    patients: int,
    slices: int,
    size: int,
    seed: int = 17,
    signal: float = 12.0,
    **changes: Any,
) -> Study:
    """Writes slices, cohort, split and study file.

    Args:
        folder: gets study.yaml and the work directory `work`.
        patients: how many, half of them malignant.
        slices: of each patient.
        size: edge of the images in pixels.
        seed: of pixels, split and trials.
        signal: grey levels by which malignant slices are brighter.
        changes: to the study, section by section.

    Returns:
        The study, prepared.
    """
    settings = {
        "name": "bench",
        "work": str((folder / "work").absolute()),
        "seed": seed,
        "cohort": {"manifest": "/nowhere/unused.csv"},
        "datasets": ["roi"],
        "images": {"size": size},
        "heads": {"use": ["image"]},
        "weights": "random",
    }
    study = Study.model_validate(settings | changes)
    work = Place(study.work)
    people = [
        draw_patient(number, slices=slices, size=size, seed=seed, signal=signal)
        for number in range(patients)
    ]
    for dataset in study.datasets:
        shards = (people[start : start + SHARD] for start in range(0, patients, SHARD))
        rows = [
            row
            for number, shard in enumerate(shards)
            for row in write_shard(work, dataset, f"shard-{number:05d}", shard, size=size)
        ]
        write_index(work, dataset, rows)
    _write_split(study, work, people)
    write_study(study, folder / "study.yaml")
    return study


def write_study(study: Study, file: Path) -> Path:
    """Writes a study file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(dump_study(study), encoding="utf-8")
    return file


def draw_patient(number: int, *, slices: int, size: int, seed: int, signal: float) -> PatientRows:
    """One patient; odd numbers are malignant."""
    rng = np.random.default_rng([seed, number])
    label, blocks = number % 2, -(-size // GRAIN)
    level = 110 + signal * label + rng.normal(0, signal)
    coarse = (
        rng.normal(level, 24 + signal / 2 * label, (slices, blocks, blocks, 3))
        .repeat(GRAIN, axis=1)
        .repeat(GRAIN, axis=2)[:, :size, :size]
    )
    image = np.clip(coarse + rng.normal(0, 20, (slices, size, size, 1)), 0, 255).astype(np.uint8)
    index = np.arange(slices, dtype=np.int32)
    return PatientRows(f"P{number:04d}", label, index, -5.0 * index, np.full(slices, 400.0), image)


def _write_split(study: Study, work: Place, people: list[PatientRows]) -> None:
    rows = [
        {
            "patient_id": one.patient_id,
            "label": one.label,
            "n_images": len(one.image),
            "n_slices_total": 2 * len(one.image),
        }
        for one in people
    ]
    cohort = pd.DataFrame(rows).assign(max_diameter_mm=np.linspace(20.0, 60.0, len(rows)))
    work.write_parquet("cohort.parquet", cohort)
    work.write("quarantine.csv", b"patient_id,file,code,message,severity\n")
    work.write_json(
        "splits.json",
        make_splits(cohort, seed=study.seed, split=study.split, folds=study.folds).to_json(),
    )
    prepared.declare(study, work)


if __name__ == "__main__":
    main()
