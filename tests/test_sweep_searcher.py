"""What the searcher names next, played through with workers that take the trial they are given as
Tune's do."""

import heapq
from collections import defaultdict
from pathlib import Path

import pytest
from conftest import draw_patients, small_study, write_small_work

from renal_ray.config import Resources
from renal_ray.store.ledger import FILES, Ledger
from renal_ray.store.place import Place
from renal_ray.sweep.attempts import Attempts
from renal_ray.sweep.searcher import StudySearcher, kind_of
from renal_ray.trial.packing import Share, room, share
from renal_ray.trial.plan import Plan, make_plan
from renal_ray.trial.probe import KindCost, Probe
from renal_ray.trial.spec import TrialSpec
from renal_ray.types import Head

SECONDS = {
    "image-mixed0": 50.0,
    "image-mixed3": 30.0,
    "image-mixed6": 20.0,
    "image-mixed9": 5.0,
    "image-mixed10": 1.0,
    "fc": 1.0,
    "gru": 2.0,
}
ONE = Share(1, 0)


def plan_of(folder: Path, **changes: object) -> Plan:
    study = small_study(
        folder,
        datasets=["slice", "roi"],
        freeze_points=["mixed0", "mixed3", "mixed6", "mixed10"],
        folds={"n": 3},
        **changes,
    )
    work, _ = write_small_work(study, draw_patients(40))
    return make_plan(study, work)


def finish(plan: Plan, spec: TrialSpec) -> None:
    """Stands for the trial: its files and a result."""
    ledger = Ledger(plan_work(plan))
    folder = ledger.begin(spec.trial_id, spec.to_json())
    for name in FILES[1:]:
        folder.write(name, b"")
    level = {"metrics": {"auc": 0.5 + 0.01 * len(spec.freeze_point)}, "threshold": 0.5}
    ledger.finish(spec.trial_id, {"levels": {"slice": level, "patient": level}})


def plan_work(plan: Plan) -> Place:
    return Place(plan.study.work)


def play(plan: Plan, workers: int) -> tuple[dict[int, list[TrialSpec]], float]:
    """Who ran what in which order, and when the last one ended."""
    searcher = StudySearcher(
        plan,
        plan_work(plan),
        share=lambda spec: ONE,
        room=lambda one: workers,
        attempts=Attempts(plan_work(plan), most=1),
    )
    ran: dict[int, list[TrialSpec]] = defaultdict(list)
    idle, running, named, number, now = list(range(workers)), [], [], 0, 0.0
    while True:
        while (found := searcher.suggest(f"t{number}")) not in (None, StudySearcher.FINISHED):
            assert isinstance(found, dict)
            named.append((f"t{number}", TrialSpec.from_json(found["spec"])))
            number += 1
            assert len(named) <= len(idle) + 1  # at most one ahead
        while named and idle:
            (name, spec), worker = named.pop(0), idle.pop()
            ran[worker].append(spec)
            heapq.heappush(running, (now + SECONDS[kind_of(spec)[0]], name, worker, spec))
        if not running:
            assert found == StudySearcher.FINISHED
            return ran, now
        now, name, worker, spec = heapq.heappop(running)
        finish(plan, spec)
        searcher.on_trial_complete(name)
        idle.append(worker)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_folds_follow_each_other_in_one_worker_and_everything_runs_once(
    tmp_path: Path, workers: int
) -> None:
    plan = plan_of(tmp_path)
    ran, end = play(plan, workers)
    everything = [spec.trial_id for specs in ran.values() for spec in specs]
    assert len(everything) == len(set(everything)) == plan.total() == 36
    places = {
        (worker, kind_of(spec))
        for worker, specs in ran.items()
        for spec in specs
        if not spec.is_short
    }
    # Six kinds: one worker each, but at the end a worker without a kind of its own takes folds of
    # another's.
    assert len(places) <= 6 + workers - 1
    work = sum(SECONDS[kind_of(spec)[0]] for specs in ran.values() for spec in specs)
    assert (
        end <= work / workers + SECONDS["image-mixed0"]
    )  # nobody idles while there is work, but for the last trial


def test_the_longest_kinds_come_first_and_heads_after_their_images(tmp_path: Path) -> None:
    ran, _ = play(plan_of(tmp_path), 1)
    order = ran[0]
    assert [kind_of(spec)[0] for spec in order[:6]] == ["image-mixed0"] * 6
    for number, spec in enumerate(order):
        if spec.head is not Head.IMAGE:
            assert spec.image_trial in {one.trial_id for one in order[:number]}


def test_a_failed_trial_is_not_named_again_in_the_same_sweep(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    searcher = StudySearcher(
        plan,
        plan_work(plan),
        share=lambda spec: ONE,
        room=lambda one: 1,
        attempts=Attempts(plan_work(plan), most=1),
    )
    first = searcher.suggest("a")
    assert isinstance(first, dict)
    assert searcher.suggest("b") is None  # the only worker is taken
    searcher.on_trial_complete("a", error=True)
    second = searcher.suggest("b")
    assert isinstance(second, dict)
    assert second["spec"]["trial_id"] != first["spec"]["trial_id"]
    assert searcher.failed == {first["spec"]["trial_id"]}


def probe_of(**gpu_mib: float) -> Probe:
    cost = {"first_s": 1, "step_s": 1, "score_s": 1, "batch": 8, "memory_mib": 1}
    kinds = {
        name.replace("_", "-"): KindCost(**cost, gpu_memory_mib=value)
        for name, value in gpu_mib.items()
    }
    return Probe(
        setting={},
        device="d",
        gpu_memory_mib=80_000,
        matrix_gflops={},
        prefix_first_s=1,
        prefix_s_per_image=1,
        read_mib_s=1,
        kinds=kinds,
    )


def test_a_card_is_shared_by_measured_memory_and_never_by_more_than_asked(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, heads={"use": ["image", "fc", "gru"], "freeze_points": "all"})
    specs = {kind_of(spec)[0]: spec for spec in plan.specs({})}
    probe = probe_of(image_mixed0=30_000.0, image_mixed3=18_000.0, fc=100.0)
    whole = Resources(cpus_per_trial=2, gpus_per_trial=1, trials_per_gpu=4)
    assert share(whole, specs["image-mixed0"], probe) == Share(
        2, 0.5
    )  # 30 GB with a quarter more, of 80, up to the next sixteenth
    assert share(whole, specs["image-mixed3"], probe) == Share(2, 0.3125)
    assert share(whole, specs["fc"], probe) == Share(2, 0.25)  # four at most
    assert share(whole, specs["gru"], probe) == Share(2, 1)  # not measured
    assert share(whole, specs["fc"], None) == Share(2, 1)
    assert share(
        Resources(cpus_per_trial=2, gpus_per_trial=0.25, trials_per_gpu=2),
        specs["image-mixed0"],
        probe,
    ) == Share(2, 0.25)
    assert share(Resources(cpus_per_trial=2), specs["image-mixed0"], probe) == Share(2, 0)


def test_room_is_counted_on_each_node_as_it_is() -> None:
    nodes = [{"CPU": 8.0, "GPU": 1.0}, {"CPU": 3.0, "GPU": 2.0}, {"CPU": 16.0}]
    assert room(nodes, Share(2, 0.25)) == 4 + 1
    assert room(nodes, Share(1, 0.3125)) == 3 + 3
    assert room(nodes, Share(2, 0)) == 4 + 1 + 8
    assert (
        room([{"GPU": 1.0, "CPU": 64.0}], Share(1, 0.1)) == 10
    )  # tenths add up in spite of binary fractions
