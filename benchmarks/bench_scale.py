"""What grows with the number of patients beside the images themselves: indices, split, plan, feeds;
CPU seconds, bytes and memory.

    python benchmarks/bench_scale.py [--patients 1000 10000 100000] [--slices 20]

Each size runs in a process of its own, on a work directory with indices of the right length and no
pixels. The activations that are opened are four numbers an image: what is measured is files,
handles and look-ups.
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import pandas as pd
import psutil
from keeping import keep

from renal_ray.config import Folds, Split, Study
from renal_ray.model.shapes import activation_shape
from renal_ray.protocol.balance import balanced_epoch, full_batches
from renal_ray.protocol.permutation import permuted_labels
from renal_ray.protocol.splits import make_splits
from renal_ray.store import activations
from renal_ray.store.activations import Activations, ActivationSet
from renal_ray.store.place import Place
from renal_ray.store.slices import Slices, write_index
from renal_ray.trial import prepared
from renal_ray.trial.feed import image_feed
from renal_ray.trial.forecast import Forecast, floor_of
from renal_ray.trial.plan import Plan, make_plan
from renal_ray.trial.prepared import read_splits
from renal_ray.trial.probe import KindCost, Probe, kind_name, setting
from renal_ray.types import FREEZE_POINTS, Dataset, FreezePoint, Head

SHARD = 8  # patients in a file, as prepare has them
SIZE = 299
WIDTH = 4  # numbers of an image's activation that stands for a real one
GATHERS = 200


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--patients", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--slices", type=int, default=20)
    parser.add_argument("--folder", type=Path, default=Path("runs/bench_scale"))
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(grow(options.folder.absolute(), options.one, options.slices)))
        return
    rows = []
    for patients in options.patients:
        told = [
            sys.executable,
            __file__,
            "--one",
            str(patients),
            "--slices",
            str(options.slices),
            "--folder",
            str(options.folder),
        ]
        rows.append(json.loads(subprocess.run(told, check=True, stdout=subprocess.PIPE).stdout))
        print(json.dumps(rows[-1], indent=1), flush=True)
    del options.one
    handles = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    keep(
        "scale",
        ("renal-ray", "pyarrow", "pandas", "numpy", "scikit-learn"),
        vars(options),
        handles=handles,
        bytes=bytes_of(options.slices),
        rows=rows,
    )


def bytes_of(slices: int) -> dict[str, dict[str, float]]:
    """MB of one patient: images of one dataset, and activations by freeze point and number
    format."""
    shapes = {point: int(np.prod(activation_shape(SIZE, point))) for point in FREEZE_POINTS}
    found = {
        str(point): {
            name: size * count * slices / 1e6 for name, size in (("float32", 4), ("float16", 2))
        }
        for point, count in shapes.items()
    }
    return {"images": {"uint8": SIZE * SIZE * 3 * slices / 1e6}} | found


class Clock:
    """CPU seconds by name: what else the machine does changes them little."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        begun = process_time()
        yield
        self.seconds[name] = process_time() - begun


def grow(folder: Path, patients: int, slices: int) -> dict[str, Any]:
    """Everything at one size."""
    shutil.rmtree(folder, ignore_errors=True)
    settings = {
        "name": "scale",
        "work": str(folder / "work"),
        "cohort": {"manifest": "/nowhere/unused.csv"},
        "weights": "random",
    }
    study, clock = Study.model_validate(settings), Clock()
    work = Place(study.work)
    cohort = draw_cohort(patients, slices)
    write_tables(study, work, cohort, clock)
    before = psutil.Process().memory_info().rss
    plan = read_back(study, work, clock)
    driver = psutil.Process().memory_info().rss - before
    found = feed_one(plan, work, cohort, clock)
    sizes = {
        name: (work.path(name)).stat().st_size
        for name in ("splits.json", "cohort.parquet", "slices/roi/index.parquet")
    }
    images = int(cohort["n_images"].sum())
    shutil.rmtree(folder)
    return {
        "patients": patients,
        "images": images,
        "seconds": clock.seconds,
        "bytes": sizes,
        "driver_mib": driver / 2**20,
        **found,
    }


def draw_cohort(patients: int, slices: int) -> pd.DataFrame:
    """A table as prepare writes it, the number of slices different for each patient."""
    rng = np.random.default_rng(17)
    return pd.DataFrame(
        {
            "patient_id": [f"patient-{number:08d}" for number in range(patients)],
            "label": (rng.random(patients) < 0.7).astype(int),
            "n_images": rng.integers(slices // 2, slices * 3 // 2 + 1, patients),
            "n_slices_total": 100,
            "max_diameter_mm": rng.uniform(10, 90, patients),
            "sex": rng.choice(["M", "F"], patients),
            "age": rng.integers(20, 90, patients),
            "histology": rng.choice(["clear cell", "papillary", "oncocytoma"], patients),
        }
    )


def write_tables(study: Study, work: Place, cohort: pd.DataFrame, clock: Clock) -> None:
    """What prepare writes at its end."""
    draw = cohort[["patient_id", "label", "n_images"]]
    with clock("draw the split, approximate"):
        splits = make_splits(draw, seed=17, split=Split(), folds=Folds())
    with clock("draw the split, stratified"):
        make_splits(draw, seed=17, split=Split(), folds=Folds(method="stratified"))
    with clock("write splits.json"):
        work.write_json("splits.json", splits.to_json())
    work.write_parquet("cohort.parquet", cohort)
    rng = np.random.default_rng(17)
    for dataset in study.datasets:
        rows = [
            {
                "patient_id": one,
                "file": f"shard-{number // SHARD:05d}-{number:08x}.arrow",
                "batch": number % SHARD,
                "rows": int(count),
                "label": int(label),
            }
            | {"sha256": rng.bytes(32).hex()}
            for number, (one, count, label) in enumerate(
                zip(cohort["patient_id"], cohort["n_images"], cohort["label"], strict=True)
            )
        ]
        with clock("write an index"):
            write_index(work, dataset, rows)
    with clock("hash indices, cohort and split"):
        prepared.declare(study, work)


def read_back(study: Study, work: Place, clock: Clock) -> Plan:
    """What a command does before its first trial."""
    with clock("read cohort.parquet"):
        work.read_parquet("cohort.parquet")
    with clock("read splits.json"):
        splits = read_splits(work)
    with clock("open an index"):
        slices = Slices(work, Dataset.ROI, sealed=splits.test)
    with clock("hash of a dataset's slices"):
        slices.digest(splits.training)
    with clock("make the plan"):
        plan = make_plan(study, work)
    with clock("name the trials"):
        plan.specs({})
    with clock("floor"):
        floor_of(plan)
    with clock("forecast"):
        Forecast(plan, {}, some_probe(study)).remaining(8)
    return plan


def some_probe(study: Study) -> Probe:
    """A probe of every kind; what it says does not matter here."""
    cost = KindCost(first_s=1, step_s=1, score_s=1, batch=32, memory_mib=1)
    kinds = dict.fromkeys(
        [*(kind_name(Head.IMAGE, point) for point in FREEZE_POINTS), "fc", "gru"], cost
    )
    return Probe(
        setting=setting(study),
        device="",
        matrix_gflops={},
        prefix_first_s=1,
        prefix_s_per_image=1,
        read_mib_s=1,
        kinds=kinds,
    )


def feed_one(plan: Plan, work: Place, cohort: pd.DataFrame, clock: Clock) -> dict[str, Any]:
    """What a worker does before the first step of an image trial, and in each epoch."""
    training = sorted(plan.splits.training)
    counts = dict(zip(cohort["patient_id"], cohort["n_images"], strict=True))
    which = plan.activation_sets(Dataset.ROI)[FREEZE_POINTS.index(FreezePoint.MIXED10)]
    files = write_activations(work, which, training, counts)
    rss, handles = psutil.Process().memory_info().rss, _handles()
    with clock("open the activations"):
        rows = Activations(work, which, training)
    held = _handles() - handles
    spec = next(one for one in plan.specs({}) if one.dataset == "roi")
    with clock("feed of a trial"):
        feed = image_feed(spec, rows, plan.splits)
    with clock("permuted labels"):
        permuted_labels(plan.splits, seed=17, index=0)
    rng = np.random.default_rng(17)
    with clock("order of an epoch"):
        order = full_batches(balanced_epoch(feed.train.labels, rng), 32)
    with clock(f"{GATHERS} batches of 32"):
        for batch in order[:GATHERS]:
            feed.train.inputs[batch]
    used = (psutil.Process().memory_info().rss - rss) / 2**20
    return {
        "activation_files": files,
        "handles_held": held,
        "order_mb": order.nbytes / 1e6,
        "worker_mib": used,
    }


def write_activations(
    work: Place, which: ActivationSet, patients: list[str], counts: dict[str, int]
) -> int:
    """Files of activations that hold four numbers an image."""
    parts = {}
    for number, first in enumerate(range(0, len(patients), SHARD)):
        some = patients[first : first + SHARD]
        part = f"shard-{number:05d}"
        activations.write_part(
            work,
            which,
            part,
            [
                (
                    one,
                    np.arange(counts[one], dtype=np.int32),
                    np.zeros((counts[one], WIDTH), np.float32),
                )
                for one in some
            ],
        )
        parts[part] = [(one, int(counts[one])) for one in some]
    activations.write_index(work, which, parts)
    return len(parts)


def _handles() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


if __name__ == "__main__":
    main()
