"""What the sweep adds to the trials that it runs.

    python benchmarks/bench_overhead.py [--epochs 400] [--rounds 2] [--trivial 1000]

One trial (mixed9) through `sweep`, on a Ray that has been started, against the same trial function
in a process of its own; on both sides process start, imports and compilation are inside the time,
activations are there already. Then trivial trials by the hundred (mixed10, one epoch, few patients,
true and permuted labels), one at a time: milliseconds of a trial, of them those that the trial
function itself took, and the driver's memory.
"""

import argparse
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from statistics import mean, median
from time import perf_counter, sleep
from typing import Any

import psutil
from keeping import keep
from synthetic_work import write_work

from renal_ray.config import Study
from renal_ray.store.place import Place
from renal_ray.study_file import load_study
from renal_ray.trial.plan import finished_results, make_plan
from renal_ray.trial.prepared import read_splits

SAMPLED_AT = 100  # trials after which the driver's memory is looked at first
WARM = 10  # trials that are left out of the time of each: the first compiles
LOOK_S = 0.5


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, value in (
        ("epochs", 400),
        ("rounds", 2),
        ("trivial", 1000),
        ("patients", 24),
        ("slices", 4),
        ("size", 75),
        ("cores", os.cpu_count() or 1),
    ):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--folder", type=Path, default=Path("runs/bench_overhead"))
    parser.add_argument("--bare", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.bare:
        bare_trial(load_study(options.bare))
        return
    one = one_trial(options)
    print(
        f"one trial: sweep {one['sweep_s']:.1f} s, bare {one['bare_s']:.1f} s, {one['ratio']:.3f} x"
    )
    many = trivial_trials(options)
    print(
        f"{many['trials']} trivial trials: {many['ms_a_trial']:.0f} ms each, "
        f"{many['ms_own_cost']:.0f} ms of them ours; driver {many['driver_mib']}"
    )
    keep(
        "overhead",
        ("renal-ray", "ray", "keras", "tensorflow", "numpy"),
        vars(options),
        one=one,
        trivial=many,
    )


def one_trial(options: argparse.Namespace) -> dict[str, Any]:
    """The same trial through the sweep and bare, in turn."""
    from renal_ray.sweep.cluster import cluster
    from renal_ray.sweep.run import sweep

    study = _study(
        options,
        "one",
        freeze_points=["mixed9"],
        folds={"n": 3, "run": [0]},
        training=_training(options.epochs),
    )
    begun = perf_counter()
    times: dict[str, list[float]] = {"sweep": [], "bare": []}
    with cluster(study.resources):
        started = perf_counter() - begun
        for number in range(options.rounds + 1):  # the first round writes the activations
            _forget_trials(study)
            begun = perf_counter()
            sweep(study)
            swept = perf_counter() - begun
            if number:
                times["sweep"].append(swept)
                times["bare"].append(_bare(study))
    seconds = {name: median(values) for name, values in times.items()}
    return {
        "sweep_s": seconds["sweep"],
        "bare_s": seconds["bare"],
        "ratio": seconds["sweep"] / seconds["bare"],
        "ray_start_s": started,
        "rounds": times,
    }


def _study(options: argparse.Namespace, name: str, **changes: Any) -> Study:
    folder = options.folder / name
    shutil.rmtree(folder, ignore_errors=True)
    resources = {"cpus": changes.pop("cpus", options.cores), "trials_per_process": 10**6}
    return write_work(
        folder,
        patients=options.patients,
        slices=options.slices,
        size=options.size,
        resources=resources,
        **changes,
    )


def _training(epochs: int) -> dict[str, Any]:
    return {"epochs": {"image": epochs}, "batch_size": 16}


def _forget_trials(study: Study) -> None:
    shutil.rmtree(Path(study.work) / "trials", ignore_errors=True)


def _bare(study: Study) -> float:
    """The only trial of a study in a process that does nothing else, with the threads that a
    worker's process has."""
    _forget_trials(study)
    begun = perf_counter()
    file = Path(study.work).with_name("study.yaml")
    done = subprocess.run(
        [sys.executable, __file__, "--bare", str(file)], capture_output=True, encoding="utf-8"
    )
    if done.returncode:
        raise SystemExit(f"the bare trial failed: {done.stderr[-3000:]}")
    return perf_counter() - begun


def bare_trial(study: Study) -> None:
    """Runs the only trial of a study."""
    from renal_ray.trial.run import run_trial
    from renal_ray.trial.workshop import Workshop, configure_keras

    configure_keras(study.backend, int(study.resources.cpus_per_trial))
    work = Place(study.work)
    spec = make_plan(study, work).specs({})[0]
    for _ in run_trial(spec, work, read_splits(work), Workshop(work)):
        pass


def trivial_trials(options: argparse.Namespace) -> dict[str, Any]:
    """Hundreds of trials, one at a time; start-up, activations and the first ten trials are left
    out of the time of each."""
    from renal_ray.sweep.cluster import cluster
    from renal_ray.sweep.run import sweep

    folds = 2
    controls = {"permuted_labels": True, "permutations": max(1, options.trivial // folds - 1)}
    study = _study(
        options,
        "trivial",
        cpus=1,
        freeze_points=["mixed10"],
        folds={"n": folds},
        controls=controls,
        training=_training(1),
    )
    begun = perf_counter()
    with cluster(study.resources), _Memory(Path(study.work) / "trials") as memory:
        swept = sweep(study)
    seconds = perf_counter() - begun
    results = finished_results(Place(study.work))
    ended = {
        trial: (Path(study.work) / "trials" / trial / "result.json").stat().st_mtime
        for trial in results
    }
    ends = sorted(ended.values())
    each = (ends[-1] - ends[WARM - 1]) / (len(ends) - WARM)
    own = mean(
        results[trial]["seconds"]["total"] for trial, end in ended.items() if end > ends[WARM - 1]
    )
    hundreds = [ends[stop - 1] - ends[stop - 100] for stop in range(100, len(ends) + 1, 100)]
    return {
        "trials": swept.finished,
        "seconds": seconds,
        "ms_a_trial": 1e3 * each,
        "ms_trial_function": 1e3 * own,
        "ms_own_cost": 1e3 * (each - own),
        "ms_a_trial_by_hundreds": [round(1e3 * one / 99, 1) for one in hundreds],
        "driver_mib": memory.mib,
    }


class _Memory:
    """Looks at this process's resident memory after 100 trials and at the end."""

    def __init__(self, trials: Path) -> None:
        self._trials = trials
        self._over = threading.Event()
        self.mib: dict[str, float] = {}

    def __enter__(self) -> "_Memory":
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def _look(self) -> None:
        while not self._over.is_set():
            if self._trials.is_dir() and sum(1 for _ in self._trials.iterdir()) >= SAMPLED_AT:
                self.mib[f"{SAMPLED_AT} trials"] = _resident_mib()
                return
            sleep(LOOK_S)

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.mib["end"] = _resident_mib()


def _resident_mib() -> float:
    return round(psutil.Process().memory_info().rss / 2**20, 1)


if __name__ == "__main__":
    main()
