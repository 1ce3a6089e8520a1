"""The usual loop over the folds of one freeze point, as a command: python benchmarks/usual_runs.py
alone|tune|backbone STUDY FREEZE

alone: one process, one fold after another. tune: the same function under Ray Tune, a fresh process
    for each fold, all CPUs for each.
backbone: only writes the weights that every way starts from. The last line that is printed is JSON.
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from renal_ray.config import Study
from renal_ray.store.place import Place
from renal_ray.store.slices import Slices
from renal_ray.study_file import load_study
from renal_ray.trial.plan import make_plan
from renal_ray.trial.workshop import backbone_file
from renal_ray.types import FreezePoint


def main(way: str, file: Path, freeze: FreezePoint) -> None:
    begun = perf_counter()
    study = load_study(file)
    ways = {
        "alone": lambda: _alone(study, freeze, begun),
        "tune": lambda: _tune(study, freeze, begun),
        "backbone": lambda: _backbone(study),
    }
    told = ways[way]()
    print("\n" + json.dumps(told), flush=True)


def run_fold(study: Study, freeze: FreezePoint, fold: int) -> dict[str, Any]:
    """One trial of the usual loop, on the slices, split, weights and seed that renal-ray's trial
    has."""
    import keras
    from usual import Side, fit_fold

    from renal_ray.model.weight_files import load_weights_h5

    keras.utils.clear_session()
    work, dataset = Place(study.work), study.datasets[0]
    plan = make_plan(study, work)
    spec = next(one for one in plan.image_specs(dataset, freeze) if one.fold == fold)
    slices = Slices(work, dataset, sealed=plan.splits.test)

    def side(patients: tuple[str, ...]) -> Side:
        images = [slices.images(patient) for patient in patients]
        labels = np.repeat(
            [plan.splits.labels[patient] for patient in patients], [len(one) for one in images]
        )
        return Side(np.concatenate(images), labels)

    both = plan.splits.fold(fold)
    weights = load_weights_h5(work.read(backbone_file(spec.inputs.weights)))
    batch = study.training.batch_size
    return fit_fold(
        side(both.train),
        side(both.validation),
        weights,
        freeze=freeze,
        seed=spec.seed,
        epochs=spec.epochs,
        batch=batch,
    )


def _alone(study: Study, freeze: FreezePoint, begun: float) -> dict[str, Any]:
    import tensorflow  # noqa: F401 - so that its import is counted as start-up, which a whole grid pays once

    start = perf_counter() - begun
    return {
        "start_s": start,
        "folds": [run_fold(study, freeze, fold) for fold in study.fold_numbers],
    }


def _tune(study: Study, freeze: FreezePoint, begun: float) -> dict[str, Any]:
    from renal_ray.sweep.cluster import QUIET

    os.environ.update(QUIET)
    import ray
    from ray import tune

    here, cpus = str(Path(__file__).parent), study.resources.cpus or os.cpu_count() or 1

    def trainable(config: dict[str, Any]) -> None:
        sys.path.insert(0, here)
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
        from usual_runs import run_fold

        tune.report(run_fold(study, freeze, config["fold"]))

    ray.init(
        address="local",
        num_cpus=cpus,
        object_store_memory=study.resources.object_store_mb * 2**20,
        include_dashboard=False,
        log_to_driver=False,
    )
    start = perf_counter() - begun
    with tempfile.TemporaryDirectory() as scratch:
        tuner = tune.Tuner(
            tune.with_resources(trainable, {"cpu": cpus}),
            param_space={"fold": tune.grid_search(study.fold_numbers)},
            tune_config=tune.TuneConfig(metric="val_auc", mode="max", reuse_actors=False),
            run_config=tune.RunConfig(storage_path=scratch, verbose=0),
        )
        fitting = perf_counter()
        results = tuner.fit()
        fit = perf_counter() - fitting
        if results.errors:
            raise SystemExit(str(results.errors[0]))
        folds = sorted(
            (result.metrics for result in results), key=lambda one: one["config"]["fold"]
        )
    ray.shutdown()
    keys = ("seconds", "first_s", "images", "losses", "val_auc", "judging_s")
    return {
        "start_s": start,
        "fit_s": fit,
        "folds": [{key: one[key] for key in keys} for one in folds],
    }


def _backbone(study: Study) -> dict[str, Any]:
    from renal_ray.trial.activate import make_backbone

    work = Place(study.work)
    plan = make_plan(study, work)
    dataset = study.datasets[0]
    weights_hash = plan.inputs[dataset].weights
    make_backbone(
        work,
        dataset,
        plan.splits,
        weights=study.weights,
        weights_hash=weights_hash,
        size=study.images.size,
        seed=study.seed,
    )
    return {"file": backbone_file(weights_hash)}


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), FreezePoint(sys.argv[3]))
