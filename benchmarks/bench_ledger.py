"""`renal-ray status`, and what a sweep does before its first trial, on a work directory with ten
thousand finished trials.

    python benchmarks/bench_ledger.py [--permutations 660] [--rounds 3]

The trials are those of a real plan, their files tiny but of the right names; beside it, in the same
rounds, plain reading of every result.json.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

from keeping import keep
from synthetic_work import write_work

from renal_ray.config import Study
from renal_ray.store.ledger import FILES
from renal_ray.store.place import Place
from renal_ray.sweep.attempts import Attempts
from renal_ray.sweep.console import SweepConsole
from renal_ray.sweep.searcher import StudySearcher
from renal_ray.trial.forecast import Forecast
from renal_ray.trial.packing import Share
from renal_ray.trial.plan import finished_results, make_plan
from renal_ray.trial.spec import TrialSpec
from renal_ray.trial.standing import describe

Taken = dict[str, float]
METRICS = ("acc", "sen", "spec", "ppv", "npv", "mcc", "auc")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--permutations", type=int, default=660, help="of the labels; 15 trials each"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("runs/bench_ledger"))
    options = parser.parse_args()
    shutil.rmtree(options.folder, ignore_errors=True)
    study = write_work(
        options.folder,
        patients=60,
        slices=2,
        size=75,
        datasets=["slice", "roi", "rbr"],
        heads={"use": ["image", "fc", "gru"]},
        controls={"permuted_labels": True, "permutations": options.permutations},
    )
    trials = write_trials(study)
    figures = {"all finished": measure(study, options.folder / "study.yaml", options.rounds)}
    for folder in sorted(Path(study.work, "trials").iterdir())[::2]:
        shutil.rmtree(folder)
    figures["every other one finished"] = measure(
        study, options.folder / "study.yaml", options.rounds
    )
    for what, one in figures.items():
        print(
            what,
            {
                name: f"{taken['wall_s']:.2f} s, {taken['cpu_s']:.2f} of CPU"
                for name, taken in one.items()
            },
        )
    keep(
        "ledger",
        ("renal-ray", "pyarrow", "pydantic", "ray"),
        vars(options),
        trials=trials,
        figures=figures,
    )


def write_trials(study: Study) -> int:
    """Finishes every trial of the study, as files on disk."""
    work = Place(study.work)
    plan, results = make_plan(study, work), {}
    while waiting := [spec for spec in plan.specs(results) if spec.trial_id not in results]:
        for spec in waiting:
            results[spec.trial_id] = _write_trial(work.path("trials"), spec)
    return len(results)


def _write_trial(trials: Path, spec: TrialSpec) -> dict[str, Any]:
    folder = trials / spec.trial_id
    folder.mkdir(parents=True)
    for name in FILES:
        (folder / name).write_bytes(b"{}")
    level = {"threshold": 0.5, "metrics": dict.fromkeys(METRICS, 0.123456789)}
    result = {
        "trial_id": spec.trial_id,
        "levels": {"slice": level, "patient": level},
        "n": dict.fromkeys(
            ("train_patients", "train_images", "validation_patients", "validation_images"), 100
        ),
        "epoch_kept": spec.epochs,
        "seconds": dict.fromkeys(("data", "setup", "train", "total"), 1.234),
        "samples": 100_000,
        "images_per_second": 12.34,
        "trained_parameters": 10_000_000,
        "versions": {f"package-{number}": "1.2.3" for number in range(14)},
        "finished": "2026-01-01T00:00:00+00:00",
        "matrix_gflops": 123.45,
        "files": {name: hashlib.sha256(name.encode()).hexdigest() for name in FILES},
    }
    Place(str(folder)).write_checked_json("result.json", result)
    return result


def measure(study: Study, file: Path, rounds: int) -> dict[str, Taken]:
    """Seconds of each step, the shortest of the rounds, in each of which all of them run once."""
    work = Place(study.work)
    steps: dict[str, Callable[[], object]] = {
        "plain reading": lambda: [
            json.loads(one.read_bytes()) for one in work.path("trials").glob("*/result.json")
        ],
        "interpreter": lambda: _run(sys.executable, "-c", "pass"),
        "interpreter and imports": lambda: _run(
            sys.executable, "-c", "import renal_ray.cli, renal_ray.trial.standing"
        ),
        "status, command": lambda: _run(
            sys.executable, "-c", "from renal_ray.cli import main; main()", "status", str(file)
        ),
        "status": lambda: list(describe(study, work)),
        "resume": lambda: _resume(study, work),
        "results": lambda: finished_results(work),
        "plan": lambda: make_plan(study, work).specs({}),
    }
    best: dict[str, Taken] = {}
    for _ in range(rounds):
        for name, step in steps.items():
            before, begun = os.times(), perf_counter()
            step()
            wall, after = perf_counter() - begun, os.times()
            cpu = sum(after[:4]) - sum(before[:4])  # of this process and of those that it started
            if name not in best or wall < best[name]["wall_s"]:
                best[name] = {"wall_s": wall, "cpu_s": cpu}
    return best


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _resume(study: Study, work: Place) -> object:
    """From the plan to the first trial that is named, and the first forecast of the remaining
    time."""
    plan = make_plan(study, work)
    results = finished_results(work)
    searcher = StudySearcher(
        plan,
        work,
        share=lambda spec: Share(1, 0),
        room=lambda share: 1,
        attempts=Attempts(work, most=3),
    )
    return (
        searcher.suggest("first"),
        SweepConsole(plan, work, searcher),
        Forecast(plan, results, None).remaining(1),
    )


if __name__ == "__main__":
    main()
