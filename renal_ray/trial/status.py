"""Where a study stands, in lines for a person."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from renal_ray.config import Study
from renal_ray.store.ledger import PROGRESS, Ledger
from renal_ray.store.lock import is_held
from renal_ray.store.place import Place
from renal_ray.store.seal import LOG as SEAL_LOG
from renal_ray.trial import prepared
from renal_ray.trial.forecast import Forecast, floor_of
from renal_ray.trial.packing import room, share
from renal_ray.trial.plan import Plan, Results, finished_results, make_plan
from renal_ray.trial.probe import Probe, read_probe
from renal_ray.trial.spec import TRUE_LABELS, Inputs, TrialSpec, make_spec
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
        yield f"fold {k}: {_counted([person.label for person in inside])}, {sum(person.n_images for person in inside)} images"
    sealed = [person for person in people if person.role == "test"]
    yield f"sealed for the test: {len(sealed)} patients, {sum(person.n_images for person in sealed)} images"  # and not their labels
    results = finished_results(work)
    specs = plan.specs(results)
    done = sum(spec.trial_id in results for spec in specs)
    kinds = f"{', '.join(study.datasets)} x {', '.join(study.freeze_points)} x {len(study.fold_numbers)} folds; heads {', '.join(study.heads.use)}"
    yield f"{plan.total()} trials ({kinds}), {done} of them finished"
    for dataset in study.datasets:
        yield f"{dataset}: freeze point {plan.selected(dataset, results) or 'selected once its image trials are finished'}"
    yield from _costs(plan, results, read_probe(work, study))


def _costs(plan: Plan, results: Results, probe: Probe | None) -> Iterator[str]:
    floor = floor_of(plan)
    for point, gflop in floor.suffixes.items():
        yield f"floor, {point}: {gflop / 1e3:,.1f} TFLOP to train its suffix"
    yield f"floor, all: {floor.total / 1e3:,.1f} TFLOP, {floor.prefix / 1e3:,.1f} of them one pass of every image through the frozen layers"
    if probe is None:
        yield "predicted time: not known; `renal-ray plan --probe` measures one step of each kind of trial"
        return
    rate = probe.matrix_gflops[plan.study.precision]
    slots = slots_of(plan.study, probe)
    where = f"{probe.device}, {plan.study.precision}"
    # Trials side by side have threads of their own, but share one card and its rate.
    rates, shared = (1, " on one card") if probe.gpu_memory_mib else (slots, "")
    yield f"at the {rate:,.0f} GFLOP/s of a matrix product ({where}), {slots} trials at once{shared}: {clock(floor.total / rate / rates)}"
    remaining = Forecast(plan, results, probe).remaining(slots)
    if remaining is not None:
        yield f"predicted from measured steps: {clock(remaining)} for what is left, {slots} trials at once"


def slots_of(study: Study, probe: Probe) -> int:
    """Trials at once on the machine that was probed."""
    gpu = {"GPU": 1.0} if probe.gpu_memory_mib else {}
    spec = longest_kind(study)
    return max(1, room([{"CPU": float(study.resources.cpus or os.cpu_count() or 1)} | gpu], share(study.resources, spec, probe)))


def longest_kind(study: Study) -> TrialSpec:
    """A trial of the shallowest freeze point, which stands for the room that the long trials need."""
    inputs = Inputs(slices="", splits="", weights="")
    shallowest = min(study.freeze_points, key=FREEZE_POINTS.index)
    return make_spec(study, dataset=study.datasets[0], freeze_point=shallowest, head=Head.IMAGE, fold=0, inputs=inputs)


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss."""
    return str(timedelta(seconds=round(seconds)))


def describe(study: Study, work: Place) -> Iterator[str]:
    """What is finished, waiting and failed, with the last line of every error.

    Args:
        study: the study.
        work: its work directory.
    """
    if not work.exists(prepared.MARKER):
        yield f"{study.name}: not prepared yet; run `renal-ray prepare`"
        return
    plan = make_plan(study, work)
    ledger = Ledger(work)
    standing = ledger.standing()
    results = standing.results
    states = {spec: standing.state(spec.trial_id) for spec in plan.specs(results)}
    count = Counter(states.values())
    waiting = count["absent"] + plan.total() - len(states)
    alive = is_held(work)
    yield f"{study.name}: {count['finished']} of {plan.total()} trials finished, {count['failed']} failed, {count['unfinished']} begun, {waiting} waiting"
    yield from _by_kind(plan, states)
    if not alive:
        yield "no sweep is running here"
    for spec, state in states.items():
        if state == "unfinished" and alive and (told := _told(ledger, spec.trial_id)):
            yield _running(spec, told)
    probe = read_probe(work, study)
    remaining = Forecast(plan, results, probe).remaining(slots_of(study, probe) if probe else _cpu_slots(study))
    if remaining:
        yield f"left: about {clock(remaining)}"
    for spec, state in states.items():
        if state == "failed":
            yield f"{spec.trial_id}: {ledger.error(spec.trial_id).strip().splitlines()[-1]}"
    openings = work.read(SEAL_LOG).count(b"\n") if work.exists(SEAL_LOG) else 0
    yield "the seal on the test patients is closed" if not openings else f"the seal on the test patients was opened, {openings} x"


def _told(ledger: Ledger, trial_id: str) -> dict[str, Any] | None:
    """What a running trial told last; None before its first epoch, and when it has ended meanwhile."""
    try:
        told: dict[str, Any] = ledger.folder(trial_id).read_json(PROGRESS)
    except FileNotFoundError:
        return None
    return told


def _running(spec: TrialSpec, told: dict[str, Any]) -> str:
    ago = datetime.now(UTC) - datetime.fromisoformat(told["time"])
    left = "" if told["eta_s"] is None else f", {clock(told['eta_s'])} left"
    return f"{spec.trial_id}: epoch {told['epoch']}/{told['epochs']}, {told['images_per_second']:.1f} samples/s{left} (seen {ago.total_seconds():.0f} s ago)"


def _cpu_slots(study: Study) -> int:
    return max(1, int((study.resources.cpus or os.cpu_count() or 1) / study.resources.cpus_per_trial))


def _by_kind(plan: Plan, states: Mapping[TrialSpec, str]) -> Iterator[str]:
    kinds: dict[str, list[str]] = {}
    for spec, state in states.items():
        head = spec.head if spec.labels == TRUE_LABELS else f"{spec.head} {spec.labels}"
        kinds.setdefault(f"{spec.dataset} {spec.freeze_point} {head}", []).append(state)
    for kind, found in kinds.items():
        yield f"  {kind}: {found.count('finished')} of {len(plan.study.fold_numbers)} folds finished"


def _counted(labels: list[int]) -> str:
    count = Counter(labels)
    return f"{len(labels)} patients ({count[Label.BENIGN]} benign, {count[Label.MALIGNANT]} malignant)"
