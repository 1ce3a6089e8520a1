"""Searches played through without training: a function of the settings stands for the network."""

import heapq
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from conftest import draw_patients, small_study, write_small_work

from renal_ray.config import Study
from renal_ray.store.place import Place
from renal_ray.trial.plan import Plan
from renal_ray.trial.search.configurations import make_bench
from renal_ray.trial.search.hunt import Hunt
from renal_ray.trial.spec import TrialSpec

Auc = Callable[[TrialSpec], float]


def study_with(folder: Path, search: Mapping[str, Any], **changes: Any) -> Study:
    """A prepared study of three folds with a search."""
    study = small_study(folder, **{"folds": {"n": 3}, "seed": 5, "search": dict(search)} | changes)
    if not Place(study.work).exists("splits.json"):
        write_small_work(study, draw_patients(40))
    return study


def hunt_of(study: Study) -> Hunt:
    return Hunt(make_bench(study), Place(study.work))


def plan_of(hunt: Hunt) -> Plan:
    return hunt.bench.plan


def told(auc: float) -> dict[str, Any]:
    """What of a result.json a search reads."""
    level = {"metrics": {"auc": auc}}
    return {"levels": {"slice": level, "patient": level}}


def play(
    hunt: Hunt,
    auc: Auc,
    results: dict[str, Any],
    *,
    workers: int = 1,
    most: int | None = None,
    fails: Callable[[TrialSpec], bool] = lambda spec: False,
    seed: int = 0,
) -> list[TrialSpec]:
    """Lets workers take what the search names, until nothing is left or `most` trials ended; they
    end in a seeded order.

    Args:
        hunt: the search.
        auc: the validation AUC of a trial.
        results: filled with what ends.
        workers: how many run at once.
        most: trials after which the run is cut off; what runs then leaves nothing.
        fails: whether a trial raises.
        seed: of the order in which trials end.

    Returns:
        Every trial that ended, in that order.
    """
    rng, failed = np.random.default_rng(seed), set[str]()
    running: list[tuple[float, int, TrialSpec]] = []
    ended: list[TrialSpec] = []
    now, number = 0.0, 0
    while most is None or len(ended) < most:
        while (
            len(running) < workers
            and (spec := hunt.next(results, failed, {one.trial_id for _, _, one in running}))
            is not None
        ):
            assert spec.trial_id not in results
            assert spec.image_trial is None or spec.image_trial in results
            heapq.heappush(running, (now + rng.uniform(1, 2), number, spec))
            number += 1
        if not running:
            assert hunt.is_over(results, failed)
            break
        now, _, spec = heapq.heappop(running)
        ended.append(spec)
        if fails(spec):
            failed.add(spec.trial_id)
        else:
            results[spec.trial_id] = told(auc(spec))
    return ended


def best_at(rate: float) -> Auc:
    """A landscape with its top at a learning rate: the same on every fold, but for what is each
    fold's own."""

    def auc(spec: TrialSpec) -> float:
        away = abs(np.log10(spec.training.learning_rate) - np.log10(rate))
        return float(np.clip(0.95 - 0.1 * away - 0.02 * spec.fold - 0.001 * spec.fold * away, 0, 1))

    return auc
