"""What a study will do and cost, in lines for a person."""

import os
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta

from renal_ray.config import Study
from renal_ray.protocol.scanners import why_not_left_out
from renal_ray.protocol.splits import TRAIN
from renal_ray.store.place import Place
from renal_ray.trial.augment import augmentation_line
from renal_ray.trial.forecast import Forecast, floor_of
from renal_ray.trial.packing import room, share
from renal_ray.trial.plan import Plan, Results, finished_results, make_plan
from renal_ray.trial.probe import Probe, read_probe
from renal_ray.trial.search.outcome import describe_search
from renal_ray.trial.spec import Inputs, TrialSpec, make_spec
from renal_ray.types import FREEZE_POINTS, Head, Label


def describe_plan(study: Study, work: Place) -> Iterator[str]:
    """Who trains, who is sealed, and how many trials of each kind there are.

    Args:
        study: a prepared study.
        work: its work directory.
    """
    plan = make_plan(study, work)
    people = plan.splits.patients
    for k in range(plan.splits.n_folds):
        inside = [person for person in people if person.fold == k]
        yield (
            f"fold {k}: {_counted([person.label for person in inside])}, "
            f"{sum(person.n_images for person in inside)} images"
        )
    sealed = [person for person in people if person.role == "test"]
    # And not their labels.
    yield (
        f"sealed for the test: {len(sealed)} patients, "
        f"{sum(person.n_images for person in sealed)} images"
    )
    results = finished_results(work)
    specs = plan.specs(results)
    done = sum(spec.trial_id in results for spec in specs)
    kinds = (
        f"{', '.join(study.datasets)} x {', '.join(study.freeze_points)} x "
        f"{len(study.fold_numbers)} folds; heads {', '.join(study.heads.use)}"
    )
    yield f"{plan.total()} trials ({kinds}), {done} of them finished"
    yield from _beside(plan)
    for dataset in study.datasets:
        yield (
            f"{dataset}: freeze point "
            f"{plan.selected(dataset, results) or 'selected once its image trials are finished'}"
        )
    if line := augmentation_line(
        study, sum(person.n_images for person in people if person.role == TRAIN)
    ):
        yield line
    if study.search is not None:
        yield from describe_search(study)
    yield from _costs(plan, results, read_probe(work, study))


def _beside(plan: Plan) -> Iterator[str]:
    """What is trained and measured beside the study's own folds; nothing where nothing is asked
    for."""
    counts = plan.beside()
    if counts:
        yield (
            "of them beside the study's own folds: "
            f"{', '.join(f'{count} {name}' for name, count in counts.items())}"
        )
    robustness = plan.study.robustness
    if robustness.leave_scanner_out:
        yield (
            why_not_left_out(plan.scanner_levels, robustness.scanner_patients)
            or "every scanner is left out in turn"
        )
    if robustness.mask_mm:
        yield (
            "after the trials: masks of validation patients dilated, eroded and shifted by "
            f"{', '.join(f'{mm:g}' for mm in robustness.mask_mm)} mm"
        )


def _costs(plan: Plan, results: Results, probe: Probe | None) -> Iterator[str]:
    floor = floor_of(plan)
    for point, gflop in floor.suffixes.items():
        yield f"floor, {point}: {gflop / 1e3:,.1f} TFLOP to train its suffix"
    yield (
        f"floor, all: {floor.total / 1e3:,.1f} TFLOP, {floor.prefix / 1e3:,.1f} of "
        "them one pass of every image through the frozen layers"
    )
    if probe is None:
        yield (
            "predicted time: not known; `renal-ray plan --probe` "
            "measures one step of each kind of trial"
        )
        return
    rate = probe.matrix_gflops[plan.study.precision]
    slots = slots_of(plan.study, probe)
    where = f"{probe.device}, {plan.study.precision}"
    # Trials side by side have threads of their own, but share one card and its rate.
    rates, shared = (1, " on one card") if probe.gpu_memory_mib else (slots, "")
    yield (
        f"at the {rate:,.0f} GFLOP/s of a matrix product ({where}), {slots} trials "
        f"at once{shared}: {clock(floor.total / rate / rates)}"
    )
    remaining = Forecast(plan, results, probe).remaining(slots)
    if remaining is not None:
        yield (
            f"predicted from measured steps: {clock(remaining)} for "
            f"what is left, {slots} trials at once"
        )


def slots_of(study: Study, probe: Probe) -> int:
    """Trials at once on the machine that was probed."""
    gpu = {"GPU": 1.0} if probe.gpu_memory_mib else {}
    spec = longest_kind(study)
    return max(
        1,
        room(
            [{"CPU": float(study.resources.cpus or os.cpu_count() or 1)} | gpu],
            share(study.resources, spec, probe),
        ),
    )


def longest_kind(study: Study) -> TrialSpec:
    """A trial of the shallowest freeze point, which stands for the room that the long trials
    need."""
    inputs = Inputs(slices="", splits="", weights="")
    shallowest = min(study.freeze_points, key=FREEZE_POINTS.index)
    return make_spec(
        study,
        dataset=study.datasets[0],
        freeze_point=shallowest,
        head=Head.IMAGE,
        fold=0,
        inputs=inputs,
    )


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss."""
    return str(timedelta(seconds=round(seconds)))


def cpu_slots(study: Study) -> int:
    """Trials at once on this machine's CPUs."""
    return max(
        1, int((study.resources.cpus or os.cpu_count() or 1) / study.resources.cpus_per_trial)
    )


def _counted(labels: list[int]) -> str:
    count = Counter(labels)
    return (
        f"{len(labels)} patients ({count[Label.BENIGN]} benign, {count[Label.MALIGNANT]} malignant)"
    )
