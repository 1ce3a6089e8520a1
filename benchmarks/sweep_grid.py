"""bench_sweep --part grid: every way runs the whole grid."""

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean
from time import perf_counter
from typing import Any

import numpy as np
from keeping import keep
from rates import PACKAGES, matrix_rates
from synthetic_work import write_study, write_work

from renal_ray.config import Study
from renal_ray.model.flops import suffix_gflops
from renal_ray.store.place import Place
from renal_ray.trial.plan import finished_results
from renal_ray.types import FreezePoint

TRAINED = 3  # passes of a training step: forward, gradients of inputs, gradients of weights
PRECISIONS = {"c": "float32", "c2": "mixed_bfloat16"}
Run = dict[str, Any]  # seconds, images, auc, losses of one way


def bench_grid(options: argparse.Namespace) -> None:
    rates = matrix_rates(options.cores)
    studies = {seed: _write(options, seed) for seed in options.seeds}
    first = studies[options.seeds[0]]
    rows = []
    for freeze in options.freeze_points:
        runs = {way: _run(way, first, [freeze]) for way in options.ways}
        rows.append(_row(str(freeze), runs, suffix_gflops(options.size, freeze), rates))
        print(_line(rows[-1]), flush=True)
    whole = {
        way: _run(way, first, options.freeze_points) for way in options.ways if way in PRECISIONS
    }
    grid = _grid(rows, whole)
    print(_line(grid), flush=True)
    aucs = _aucs(options, studies, rows)
    for row in aucs:
        print(
            f"seed {row['seed']}: validation AUC a {row['a']:.4f}, c "
            f"{row['c']:.4f}, difference {row['difference']:+.4f}"
        )
    keep(
        f"sweep_grid_{options.size}px",
        PACKAGES,
        vars(options),
        matrix_gflops=rates,
        freeze_points=rows,
        grid=grid,
        auc=aucs,
    )


def _write(options: argparse.Namespace, seed: int) -> Study:
    """A prepared study with the weights that every way starts from."""
    folder = options.folder / f"seed-{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    study = write_work(
        folder,
        patients=options.patients,
        slices=options.slices,
        size=options.size,
        seed=seed,
        folds={"n": options.folds},
        training={"epochs": {"image": options.epochs}, "batch_size": options.batch},
        resources={"cpus": options.cores, "cpus_per_trial": 1},
        freeze_points=[str(one) for one in options.freeze_points],
    )
    _command([sys.executable, _here("usual_runs.py"), "backbone", _file(study), "mixed10"])
    return study


def _run(way: str, study: Study, freezes: Sequence[FreezePoint]) -> Run:
    return (
        _ours(study, freezes, PRECISIONS[way])
        if way in PRECISIONS
        else _usual("alone" if way == "a" else "tune", study, freezes[0])
    )


def _usual(how: str, study: Study, freeze: FreezePoint) -> Run:
    """Seconds of the command, without those in which its models are judged.

    Under Tune every trial has a process of its own, so that one is like the other: one fold is run,
    and counted as often as there are folds.
    """
    file, times = Path(_file(study)), 1
    if how == "tune":
        file = write_study(
            study.model_copy(update={"folds": study.folds.model_copy(update={"run": [0]})}),
            file.with_name("one-fold.yaml"),
        )
        times = study.folds.n
    begun = perf_counter()
    said = _command([sys.executable, _here("usual_runs.py"), how, str(file), str(freeze)])
    seconds = perf_counter() - begun
    told = json.loads(said.splitlines()[-1])
    folds = told["folds"]
    judging = sum(one["judging_s"] for one in folds)
    recurring = told.get("fit_s", seconds) - judging  # under Tune, what every trial pays anew
    return {
        "seconds": seconds - judging + (times - 1) * recurring,
        "start_s": told["start_s"],
        "images": times * sum(one["images"] for one in folds),
        "auc": [one["val_auc"] for one in folds],
        "losses": [one["losses"] for one in folds],
    }


def _ours(study: Study, freezes: Sequence[FreezePoint], precision: str) -> Run:
    """Seconds of `renal-ray sweep` on a fresh copy of the work directory."""
    work = Path(study.work)
    copy = work.with_name("copy")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(work, copy)
    changed = study.model_copy(
        update={"work": str(copy), "freeze_points": list(freezes), "precision": precision}
    )
    file = write_study(changed, copy.with_name("copy.yaml"))
    begun = perf_counter()
    _command([str(Path(sys.executable).with_name("renal-ray")), "sweep", str(file)])
    seconds = perf_counter() - begun
    place = Place(str(copy))
    results = sorted(
        finished_results(place).items(), key=lambda pair: pair[0].rpartition("-")[0]
    )  # by fold: what follows is a hash
    losses = [
        place.at(f"trials/{trial}").read_parquet("history.parquet", ["loss"])["loss"].tolist()
        for trial, _ in results
    ]
    return {
        "seconds": seconds,
        "images": sum(result["samples"] for _, result in results),
        "auc": [result["levels"]["slice"]["metrics"]["auc"] for _, result in results],
        "losses": losses,
    }


def _row(
    name: str, runs: dict[str, Run], suffix: float, rates: dict[str, dict[str, float]]
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "what": name,
        "images": max(run["images"] for run in runs.values()),
        "ways": {},
    }
    for way, run in runs.items():
        gflops = TRAINED * suffix * run["images"] / run["seconds"]
        kept = {key: run[key] for key in ("seconds", "start_s", "auc") if key in run}
        best = rates["all threads"][PRECISIONS.get(way, "float32")]
        row["ways"][way] = kept | {
            "images_per_s": run["images"] / run["seconds"],
            "gflops": gflops,
            "share_of_matrix_rate": gflops / best,
        }
    row["ratios"] = _ratios({way: run["seconds"] for way, run in runs.items()})
    if "a" in runs and "c" in runs:
        row["loss_gap"] = _gap(runs["a"]["losses"], runs["c"]["losses"])
    return row


def _ratios(seconds: dict[str, float]) -> dict[str, float]:
    return {
        f"{slow}/{fast}": seconds[slow] / seconds[fast]
        for slow in ("a", "b")
        for fast in ("c", "c2")
        if slow in seconds and fast in seconds
    }


def _gap(usual: Iterable[Sequence[float]], ours: Iterable[Sequence[float]]) -> dict[str, float]:
    """Largest relative difference between the two ways' losses, of first epochs and of all."""
    gaps = np.array(
        [
            [abs(x - y) / abs(x) for x, y in zip(one, other, strict=True)]
            for one, other in zip(usual, ours, strict=True)
        ]
    )
    return {"first_epoch": float(gaps[:, 0].max()), "all_epochs": float(gaps.max())}


def _grid(rows: list[dict[str, Any]], whole: dict[str, Run]) -> dict[str, Any]:
    """The whole grid: for c and c2 one command, measured; for a and b the freeze points' seconds
    with one start-up, because one command would do."""
    grid: dict[str, Any] = {
        "what": "grid",
        "images": sum(row["images"] for row in rows),
        "ways": {},
    }
    for way in rows[0]["ways"]:
        parts = [row["ways"][way] for row in rows]
        seconds = (
            whole[way]["seconds"]
            if way in whole
            else sum(one["seconds"] for one in parts) - sum(one["start_s"] for one in parts[1:])
        )
        grid["ways"][way] = {"seconds": seconds, "images_per_s": grid["images"] / seconds}
        if way in whole:
            grid["ways"][way]["seconds_of_single_commands"] = sum(one["seconds"] for one in parts)
    return grid | {"ratios": _ratios({way: one["seconds"] for way, one in grid["ways"].items()})}


def _aucs(
    options: argparse.Namespace, studies: dict[int, Study], rows: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Mean validation AUC of a and c by seed, over the folds of some freeze points."""
    if not {"a", "c"} <= set(options.ways):
        return []
    found = []
    for number, (seed, study) in enumerate(studies.items()):
        values: dict[str, list[float]] = {"a": [], "c": []}
        for freeze in options.seed_freeze_points:
            have = [row for row in rows if row["what"] == str(freeze)] if number == 0 else []
            for way in values:
                aucs = have[0]["ways"][way]["auc"] if have else _run(way, study, [freeze])["auc"]
                values[way] += [one for one in aucs if one is not None]
        means = {way: mean(some) for way, some in values.items()}
        found.append(
            {
                "seed": seed,
                "freeze_points": [str(one) for one in options.seed_freeze_points],
                **means,
                "difference": means["c"] - means["a"],
            }
        )
    return found


def _line(row: dict[str, Any]) -> str:
    seconds = ", ".join(f"{way} {one['seconds']:.1f} s" for way, one in row["ways"].items())
    return f"{row['what']}: {seconds}; " + ", ".join(
        f"{name} {value:.2f} x" for name, value in row["ratios"].items()
    )


def _command(argv: list[str]) -> str:
    done = subprocess.run(argv, capture_output=True, encoding="utf-8")
    if done.returncode:
        raise SystemExit(f"{' '.join(argv)} failed: {done.stderr[-3000:]}{done.stdout[-1000:]}")
    return done.stdout


def _here(name: str) -> str:
    return str(Path(__file__).with_name(name))


def _file(study: Study) -> str:
    return str(Path(study.work).with_name("study.yaml"))
