"""--dry-run: one batch of each distinct kind of trial, on phantoms, in a temporary directory."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

from renal_ray.cohort.phantom import write_phantom
from renal_ray.config import (
    NAMED_WEIGHTS,
    Cohort,
    Controls,
    Epochs,
    Folds,
    Robustness,
    Selection,
    Study,
)
from renal_ray.store import activations
from renal_ray.store.ledger import Ledger
from renal_ray.store.place import Place
from renal_ray.store.slices import Slices
from renal_ray.sweep.cluster import cluster
from renal_ray.sweep.prepare import prepare
from renal_ray.trial.activate import activate, make_backbone
from renal_ray.trial.plan import Plan, finished_results, make_plan
from renal_ray.trial.prefix import Prefix
from renal_ray.trial.run import run_trial
from renal_ray.trial.spec import TrialSpec
from renal_ray.trial.workshop import Workshop, start_keras
from renal_ray.types import Head

PATIENTS = 16
# Pixels of a phantom's edge: the network's input is resized to the study's own size all the same.
MATRIX = 128


def rehearse(study: Study) -> Iterator[str]:
    """Runs every distinct kind of trial of a study for one step: wrong settings and missing memory
    show before the long run.

    Head, freeze point, image size, batch size and weights file are the study's own; patients, folds
    and datasets are few, and weights that would have to be downloaded are replaced by random ones.

    Args:
        study: the study; its cohort and its work directory are not touched.

    Yields:
        One line a kind of trial.
    """
    with tempfile.TemporaryDirectory(prefix="renal-ray-rehearsal-") as scratch:
        small = _shrunk(study, Path(scratch))
        work = Place(small.work)
        write_phantom(
            Path(scratch) / "phantom",
            patients=PATIENTS,
            seed=study.seed,
            matrix=MATRIX,
            slice_mm=10.0,
        )
        with cluster(small.resources):
            prepare(small)
        plan = make_plan(small, work)
        start_keras(small.backend, max(1, int(small.resources.cpus_per_trial)))
        workshop = Workshop(work)
        yield _activate(small, work, plan, workshop)
        for spec in _kinds(plan, work):
            yield _step(spec, work, plan, workshop)


def _shrunk(study: Study, scratch: Path) -> Study:
    return study.model_copy(
        update={
            "work": str(scratch / "work"),
            "cohort": Cohort(manifest=scratch / "phantom" / "manifest.csv"),
            "datasets": study.datasets[:1],
            "selection": Selection(max_slices=2),
            "folds": Folds(n=2, method="stratified", run=[0]),
            "weights": "random" if study.weights in NAMED_WEIGHTS else study.weights,
            "controls": Controls(),
            "repeats": 1,
            "robustness": Robustness(),
            "training": study.training.model_copy(update={"epochs": Epochs(image=1, fc=1, gru=1)}),
            "resources": study.resources.model_copy(update={"gpus_per_trial": 0}),
        }
    )


def _activate(study: Study, work: Place, plan: Plan, workshop: Workshop) -> str:
    begun = perf_counter()
    dataset = study.datasets[0]
    weights_hash = plan.inputs[dataset].weights
    size, batch_size = study.images.size, study.training.batch_size
    make_backbone(
        work,
        dataset,
        plan.splits,
        weights=study.weights,
        weights_hash=weights_hash,
        size=size,
        seed=study.seed,
    )
    slices = Slices(work, dataset, sealed=plan.splits.test)
    prefix = Prefix(
        workshop.backbone(weights_hash),
        size=size,
        freeze_points=study.freeze_points,
        batch_size=batch_size,
    )
    patients = sorted(plan.splits.training)
    sets = plan.activation_sets(dataset)
    activate(
        work, slices, prefix, sets, part="all", patients=patients, dtype=study.activation_dtype
    )
    for which in sets:
        activations.write_index(
            work, which, {"all": [(patient, slices.where[patient].rows) for patient in patients]}
        )
    return (
        f"frozen layers up to {', '.join(study.freeze_points)}: "
        f"{sum(slices.where[one].rows for one in patients)} images, "
        f"{perf_counter() - begun:.1f} s"
    )


def _kinds(plan: Plan, work: Place) -> Iterator[TrialSpec]:
    """Image trials first; the others stand on them."""
    yield from (spec for spec in plan.specs({}) if spec.head is Head.IMAGE)
    yield from (spec for spec in plan.specs(finished_results(work)) if spec.head is not Head.IMAGE)


def _step(spec: TrialSpec, work: Place, plan: Plan, workshop: Workshop) -> str:
    begun = perf_counter()
    (epoch,) = run_trial(spec, work, plan.splits, workshop, max_steps=1)
    result = Ledger(work).result(spec.trial_id)
    parameters = result["trained_parameters"] if result else 0
    return (
        f"{spec.head} at {spec.freeze_point}: {parameters:,} trained parameters, "
        f"loss {epoch.loss:.3f}, {perf_counter() - begun:.1f} s"
    )
