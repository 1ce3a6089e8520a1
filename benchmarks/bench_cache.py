"""Reading cached activations against the disk and memory themselves.

    python benchmarks/bench_cache.py [--mib 2048] [--freeze mixed6] [--size 299] [--rounds 3]

Shuffled batches of 32 images through renal_ray.store.activations, as a trial reads them, against
plain sequential reads of the same files; cold (the page cache is told to forget the files) and
warm; and the bandwidth of copying within memory.
"""

import argparse
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
from keeping import keep

from renal_ray.model.shapes import activation_shape
from renal_ray.store import activations
from renal_ray.store.activations import Activations, ActivationSet
from renal_ray.store.place import Place
from renal_ray.types import Dataset, FreezePoint

BATCH, SLICES, PATIENTS_IN_PART = 32, 20, 8
CHUNK = 8 * 2**20
COPIED = 512 * 2**20


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mib", type=int, default=2048, help="size of the activations")
    parser.add_argument("--freeze", type=FreezePoint, default=FreezePoint.MIXED6)
    parser.add_argument("--size", type=int, default=299)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("runs/bench_cache"))
    options = parser.parse_args()
    shutil.rmtree(options.folder, ignore_errors=True)
    work, which = (
        Place(str(options.folder.absolute())),
        ActivationSet(Dataset.ROI, options.freeze, "bench"),
    )
    patients = write_set(work, which, activation_shape(options.size, options.freeze), options.mib)
    files = sorted(work.path(which.folder).glob("*.arrow"))
    mib = sum(file.stat().st_size for file in files) / 2**20
    reads: dict[str, Callable[[], object]] = {
        "activations": lambda: read_batches(work, which, patients),
        "plain": lambda: read_plainly(files),
    }
    times: dict[str, list[float]] = {
        f"{name} {state}": [] for state in ("cold", "warm") for name in reads
    }
    for _ in range(options.rounds):
        for name, read in reads.items():
            forget(files)
            times[f"{name} cold"].append(_seconds(read))
        for name, read in reads.items():
            times[f"{name} warm"].append(_seconds(read))
    speed = {name: mib / median(values) for name, values in times.items()} | {
        "memory copy": copy_mib_s(options.rounds)
    }
    ratios = {
        state: speed[f"activations {state}"] / speed[f"plain {state}"] for state in ("cold", "warm")
    }
    ratios["warm, of memory copy"] = speed["activations warm"] / speed["memory copy"]
    for name, value in speed.items():
        print(f"{name}: {value:.0f} MiB/s")
    keep(
        "cache",
        ("renal-ray", "pyarrow", "numpy"),
        vars(options),
        mib=mib,
        mib_s=speed,
        ratios=ratios,
    )
    shutil.rmtree(options.folder)


def write_set(work: Place, which: ActivationSet, shape: tuple[int, ...], mib: int) -> list[str]:
    """Writes about so many MiB of random float32 activations, as a sweep lays them out; returns the
    patients."""
    rng = np.random.default_rng(0)
    count = max(BATCH // SLICES + 1, round(mib * 2**20 / (4 * SLICES * np.prod(shape))))
    patients = [f"P{number:05d}" for number in range(count)]
    parts = {}
    for start in range(0, count, PATIENTS_IN_PART):
        some, part = patients[start : start + PATIENTS_IN_PART], f"part-{start:05d}"
        rows = [
            (patient, np.arange(SLICES, dtype=np.int32), rng.random((SLICES, *shape), np.float32))
            for patient in some
        ]
        activations.write_part(work, which, part, rows)
        parts[part] = [(patient, SLICES) for patient in some]
    activations.write_index(work, which, parts)
    return patients


def read_batches(work: Place, which: ActivationSet, patients: list[str]) -> None:
    """One epoch of shuffled batches."""
    rows = Activations(work, which, patients)
    order = np.random.default_rng(1).permutation(len(rows))
    for start in range(0, len(order), BATCH):
        rows[order[start : start + BATCH]]


def read_plainly(files: list[Path]) -> None:
    """The files from start to end into one buffer."""
    buffer = bytearray(CHUNK)
    for file in files:
        with file.open("rb", buffering=0) as opened:
            while opened.readinto(buffer):
                pass


def forget(files: list[Path]) -> None:
    """Drops files from the page cache, once they are on the disk."""
    for file in files:
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def copy_mib_s(rounds: int) -> float:
    """Bandwidth of copying one array over another, with one thread."""
    source = np.ones(COPIED, np.uint8)
    target = np.empty_like(source)
    target[:] = source  # its pages exist from here on
    return (
        COPIED
        / 2**20
        / median(_seconds(lambda: np.copyto(target, source)) for _ in range(rounds + 2))
    )


def _seconds(call: Callable[[], object]) -> float:
    begun = perf_counter()
    call()
    return perf_counter() - begun


if __name__ == "__main__":
    main()
