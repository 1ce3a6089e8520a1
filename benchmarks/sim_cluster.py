"""The real scheduler on simulated nodes: makespan against the ideal, for any number of cards and
trials, with nodes that die.

    python benchmarks/sim_cluster.py [--gpus 1 4 8 16 64] [--trials 75 105 1000 10000] [--failures 0
    1 5 10] [--seeds 5]

Trial times follow from the measured steps in results/sweep_steps-*.json and the paper's cohort and
epochs. `--faster 400` is a card on which the paper's 75 trials take about an hour: then start-up
and compilation weigh.
"""

import argparse
import json
import math
from dataclasses import replace
from statistics import mean
from typing import Any

import pandas as pd
from keeping import RESULTS, keep
from sim_model import Costs, Failures, Outcome, Simulation, ideal

from renal_ray.config import Study
from renal_ray.protocol.splits import make_splits
from renal_ray.trial.forecast import Forecast
from renal_ray.trial.plan import Plan
from renal_ray.trial.probe import KindCost, Probe, setting
from renal_ray.trial.spec import Inputs, TrialSpec
from renal_ray.types import FreezePoint, Head

PATIENTS, MALIGNANT, SLICES = 192, 134, 20  # the paper's
PER_NODE = 4  # cards of a node
HEAD_STEPS = {
    "fc": 0.005,
    "gru": 0.05,
}  # seconds; taken, not measured: beside image trials they are nothing
TRIAL_S = 0.1  # files of a trial, from results/overhead-*.json
COMPILE_S = {
    FreezePoint.MIXED0: 17.0,
    FreezePoint.MIXED3: 15.0,
    FreezePoint.MIXED6: 13.0,
}  # at 299 px
COMPILE_LEAST_S = 11.0
BEST = {
    "slice": FreezePoint.MIXED9,
    "roi": FreezePoint.MIXED6,
    "rbr": FreezePoint.MIXED3,
}  # the freeze points that the simulated results select
BACK_S = 600.0  # until a dead node returns
NEVER = (1.0, 5.0)  # % an hour at which it is also tried that nodes do not come back
BARE, BARE_TRIALS = (
    5.0,
    105,
)  # % an hour, and trials at most, where it is also tried without checkpoints


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gpus", type=int, nargs="+", default=[1, 4, 8, 16, 64])
    parser.add_argument("--trials", type=int, nargs="+", default=[75, 105, 1000, 10000])
    parser.add_argument(
        "--failures", type=float, nargs="+", default=[0, 1, 5, 10], help="%% of the nodes an hour"
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--faster",
        type=float,
        nargs="+",
        default=[1, 400],
        help="times faster than the measured steps",
    )
    options = parser.parse_args()
    rows = []
    for faster in options.faster:
        for trials in options.trials:
            plan = paper_plan(trials)
            costs = measured_costs(plan, faster)
            for gpus in options.gpus:
                for failures in options.failures:
                    rows += cells(plan, costs, gpus, failures, options.seeds, faster)
                    print(rows[-1], flush=True)
    keep("sim_cluster", ("renal-ray", "ray"), vars(options), per_node=PER_NODE, rows=rows)


def paper_plan(trials: int) -> Plan:
    """The paper's 75 image trials; with heads from 105 on; above that with as many permuted
    controls as make up the number."""
    permutations = round((trials - 105) / 15)
    study = Study.model_validate(
        {
            "name": "simulated",
            "work": "/nowhere",
            "cohort": {"manifest": "/nowhere/unused.csv"},
            "heads": {"use": ["image"] if trials < 105 else ["image", "fc", "gru"]},
            "controls": {"permuted_labels": permutations > 0, "permutations": max(1, permutations)},
            "resources": {"gpus_per_trial": 1, "cpus_per_trial": 4},
        }
    )
    cohort = pd.DataFrame(
        {"patient_id": [f"P{number:03d}" for number in range(PATIENTS)], "n_images": SLICES}
    )
    cohort["label"] = [int(number < MALIGNANT) for number in range(PATIENTS)]
    splits = make_splits(cohort, seed=study.seed, split=study.split, folds=study.folds)
    inputs = {
        dataset: Inputs(slices=dataset, splits="s", weights="w") for dataset in study.datasets
    }
    return Plan(study, splits, inputs)


def measured_costs(plan: Plan, faster: float) -> Costs:
    """Seconds of each trial from the measured steps, by the forecast that the program itself
    makes."""
    measured = json.loads(next(RESULTS.glob("sweep_steps-*.json")).read_text(encoding="utf-8"))
    batch = plan.study.training.batch_size
    steps = {
        f"image-{row['freeze_point']}": row["float32"]["one"]["s_per_image"] * batch
        for row in measured["freeze_points"]
    } | HEAD_STEPS
    kinds = {
        name: KindCost(
            first_s=0, step_s=s / faster, score_s=s / faster / 3, batch=batch, memory_mib=0
        )
        for name, s in steps.items()
    }
    probe = Probe(
        setting=setting(plan.study),
        device="",
        matrix_gflops={},
        prefix_first_s=0,
        prefix_s_per_image=0,
        read_mib_s=1,
        kinds=kinds,
    )
    forecast = Forecast(plan, {}, probe)

    def seconds(spec: TrialSpec) -> float:
        found = forecast.seconds(spec)
        assert found is not None
        return found + TRIAL_S

    def compilation(spec: TrialSpec) -> float:
        return (
            COMPILE_S.get(spec.freeze_point, COMPILE_LEAST_S)
            if spec.head is Head.IMAGE
            else COMPILE_LEAST_S
        )

    return Costs(seconds, compilation, checkpoint=60 * plan.study.resources.checkpoint_minutes)


def cells(
    plan: Plan, costs: Costs, gpus: int, failures: float, seeds: int, faster: float
) -> list[dict[str, Any]]:
    """One cell of the grid: nodes that return after ten minutes; for some rates also nodes that
    never do, and trials without checkpoints."""
    ways = [(BACK_S, costs)]
    if failures in NEVER and gpus > PER_NODE:
        ways.append((None, costs))
    if failures == BARE and plan.total() <= BARE_TRIALS:
        ways.append((BACK_S, replace(costs, checkpoint=math.inf)))
    found = []
    for back_s, one in ways:
        runs = [
            simulate(plan, one, gpus, Failures(failures / 100, back_s, seed))
            for seed in range(seeds if failures else 1)
        ]
        checkpoints = math.isfinite(one.checkpoint)
        head = {
            "faster": faster,
            "trials": plan.total(),
            "gpus": gpus,
            "failures_percent": failures,
            "back_s": back_s,
            "checkpoints": checkpoints,
        }
        found.append(head | summary(plan, runs, costs, gpus))
    return found


def simulate(plan: Plan, costs: Costs, gpus: int, failures: Failures) -> Outcome:
    """One sweep on nodes of four cards."""
    sizes = [PER_NODE] * (gpus // PER_NODE) + ([gpus % PER_NODE] if gpus % PER_NODE else [])
    nodes = [{"GPU": float(size), "CPU": 8.0 * size} for size in sizes]
    return Simulation(
        plan,
        costs,
        lambda spec: 0.9 if spec.freeze_point is BEST[spec.dataset] else 0.8,
        nodes,
        failures,
    ).run()


def summary(plan: Plan, runs: list[Outcome], costs: Costs, gpus: int) -> dict[str, Any]:
    """Figures of some sweeps that differ in the draw of failures alone."""
    ended = [run for run in runs if run.makespan is not None]  # of the others no node was left
    found: dict[str, Any] = {
        "unfinished": len(runs) - len(ended),
        "ratio": None,
        "worst": None,
        "started": None,
        "ideal_h": None,
        "useful_share": None,
    }
    for run in ended:
        assert len(run.ran) == len({spec.trial_id for spec in run.ran}) == plan.total()  # each once
    if ended:
        least, work = ideal(ended[0].ran, costs.trial, gpus), sum(map(costs.trial, ended[0].ran))
        spans = [run.makespan for run in ended if run.makespan is not None]
        found |= {
            "ideal_h": least / 3600,
            "ratio": mean(spans) / least,
            "worst": max(spans) / least,
            "useful_share": mean(work / run.slot_s for run in ended),
        }
        found["started"] = mean(spans) / (
            least + costs.start + COMPILE_LEAST_S
        )  # every worker starts and compiles once before its first trial
    attempts = plan.study.resources.attempts
    return found | {
        "losses": mean(run.losses.total() for run in runs),
        "lost_attempts_times": mean(
            sum(times >= attempts for times in run.losses.values()) for run in runs
        ),
        "redone_h": mean(run.redone_s for run in runs) / 3600,
        "overhead_h": mean(run.overhead_s for run in runs) / 3600,
        "scheduler_ms": {
            "mean": mean(run.scheduler_ms[0] for run in runs),
            "longest": max(run.scheduler_ms[1] for run in runs),
        },
    }


if __name__ == "__main__":
    main()
