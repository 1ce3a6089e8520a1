"""Which of the waiting trials a free worker takes, and that asking costs the same however many
wait."""

import heapq
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import small_study
from test_sweep_searcher import ONE, finish, plan_of, plan_work

from renal_ray.store.ledger import Ledger
from renal_ray.sweep.attempts import Attempts
from renal_ray.sweep.searcher import StudySearcher
from renal_ray.sweep.waiting import Waiting, kind_of, length
from renal_ray.trial.forecast import makespan
from renal_ray.trial.plan import Plan
from renal_ray.trial.spec import Inputs, TrialSpec, make_spec
from renal_ray.types import Dataset, FreezePoint, Head


def spec(point: str, fold: int = 0, dataset: str = "roi", head: str = "image") -> TrialSpec:
    image_trial = None if head == "image" else "image"
    inputs = Inputs(slices="s", splits="p", weights="w")
    return make_spec(
        small_study("work"),
        dataset=Dataset(dataset),
        freeze_point=FreezePoint(point),
        head=Head(head),
        fold=fold,
        inputs=inputs,
        image_trial=image_trial,
    )


def waiting_of(*specs: TrialSpec) -> Waiting:
    waiting = Waiting()
    for place, one in enumerate(specs):
        waiting.add(place, one)
    return waiting


def test_a_kind_s_trials_come_in_the_plan_s_order_wherever_they_were_put_back() -> None:
    specs = [spec("mixed3", fold) for fold in range(4)]
    waiting = Waiting()
    for place in (2, 0, 3, 1):
        waiting.add(place, specs[place])
    assert waiting.longest() == specs[0]
    assert [waiting.take(kind_of(specs[0])) for _ in specs] == specs
    assert not waiting


def test_lengths_follow_the_arithmetic() -> None:
    lengths = [length(spec(point)) for point in ("mixed0", "mixed3", "mixed6", "mixed9", "mixed10")]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[-1] == length(spec("mixed0", head="gru")) == 0


MANY = [spec("mixed3", fold) for fold in range(50)]


@pytest.mark.parametrize(
    ("specs", "freed", "busy", "slots", "chosen"),
    [
        (
            [spec("mixed0"), *MANY],
            ["mixed3"],
            [],
            4,
            "mixed3",
        ),  # a worker keeps its kind while much that is no longer waits beside the longest
        (
            [spec("mixed0"), *MANY[:3]],
            ["mixed3"],
            [],
            4,
            "mixed0",
        ),  # ... and leaves it where the longest would be what the sweep ends with
        (
            [spec("mixed0"), *MANY[:3]],
            ["mixed3"],
            [],
            1,
            "mixed3",
        ),  # with one place nothing can be late
        ([spec("mixed0"), *MANY], [], ["mixed0"], 4, "mixed3"),  # what nobody runs
        ([spec("mixed0"), *MANY[:3]], [], ["mixed0"], 4, "mixed0"),
        ([spec("mixed0"), *MANY], ["mixed6", "mixed0"], [], 4, "mixed0"),  # mixed6 is used up
        (
            [spec("mixed3"), spec("mixed10", 0), spec("mixed10", 1)],
            ["mixed10"],
            [],
            2,
            "mixed3",
        ),  # short ones fill gaps, they make none
    ],
)
def test_a_free_worker_keeps_its_kind_unless_a_longer_trial_would_end_last(
    specs: list[TrialSpec], freed: list[str], busy: list[str], slots: int, chosen: str
) -> None:
    def kinds(points: list[str]) -> list[tuple[str, str]]:
        return [(f"image-{point}", "roi") for point in points]

    assert waiting_of(*specs).choose(freed=kinds(freed), busy=kinds(busy), slots=slots) == (
        f"image-{chosen}",
        "roi",
    )


def test_the_same_compiled_step_on_another_dataset_goes_before_what_must_be_compiled() -> None:
    waiting = waiting_of(
        *(spec("mixed3", fold, dataset) for dataset in ("slice", "rbr") for fold in range(9)),
        spec("mixed6"),
    )
    assert waiting.choose(freed=[("image-mixed6", "rbr")], busy=[], slots=1) == (
        "image-mixed6",
        "roi",
    )


def searcher_of(
    plan: Plan, workers: int = 1, *, most: int = 1, pause_s: float = 0.0
) -> StudySearcher:
    work = plan_work(plan)
    attempts = Attempts(
        work, most=most, computed=frozenset(plan.study.freeze_points), pause_s=pause_s
    )
    attempts._has_inputs = lambda spec: True  # there are no activations and no backbone here
    return StudySearcher(
        plan, work, share=lambda one: ONE, room=lambda one: workers, attempts=attempts
    )


def play_at_length(plan: Plan, workers: int) -> tuple[float, float]:
    """When the last trial ended, and when it does with the longest first, where every trial takes
    as long as its arithmetic."""
    searcher = searcher_of(plan, workers)
    running: list[tuple[float, str, TrialSpec]] = []
    now, number, lengths = 0.0, 0, []
    while True:
        while isinstance(found := searcher.suggest(f"t{number}"), dict):
            one = TrialSpec.from_json(found["spec"])
            lengths.append(length(one))
            heapq.heappush(running, (now + lengths[-1], f"t{number}", one))
            number += 1
        if not running:
            return now, makespan(lengths, workers)
        now, name, one = heapq.heappop(running)
        finish(plan, one)
        searcher.on_trial_complete(name)


@pytest.mark.parametrize("workers", [2, 5, 8, 12, 30])
def test_no_long_trial_is_left_for_the_end(tmp_path: Path, workers: int) -> None:
    plan = plan_of(tmp_path, heads={"use": ["image"]})
    end, longest_first = play_at_length(plan, workers)
    assert end <= 1.05 * longest_first


def test_the_plan_is_asked_once_and_whenever_a_freeze_point_is_selected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(tmp_path)
    asked: list[int] = []
    whole = Plan.specs
    monkeypatch.setattr(
        Plan, "specs", lambda self, results: asked.append(len(results)) or whole(self, results)
    )
    searcher = searcher_of(plan)
    number = 0
    while isinstance(found := searcher.suggest(f"t{number}"), dict):
        finish(plan, TrialSpec.from_json(found["spec"]))
        searcher.on_trial_complete(f"t{number}")
        number += 1
    assert number == plan.total()
    assert len(asked) == 1 + len(plan.study.datasets)


def test_heads_wait_for_the_image_trial_of_their_own_fold_alone(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, heads={"use": ["image", "fc"], "freeze_points": "all"})
    searcher = searcher_of(plan)
    done, number = set(), 0
    while isinstance(found := searcher.suggest(f"t{number}"), dict):
        one = TrialSpec.from_json(found["spec"])
        assert one.image_trial is None or one.image_trial in done
        if number != 4:  # this one fails, and the heads that stand on it are never named
            finish(plan, one)
            done.add(one.trial_id)
        searcher.on_trial_complete(f"t{number}")
        number += 1
    assert found == StudySearcher.FINISHED
    assert len(searcher.failed) == 1
    assert len(done) == plan.total() - 2


def run_all(
    plan: Plan, searcher: StudySearcher, lose: Callable[[int, TrialSpec], bool]
) -> list[TrialSpec]:
    """Named trials in order, one after another; those that `lose` points at end without a
    result."""
    named: list[TrialSpec] = []
    while isinstance(found := searcher.suggest(f"t{len(named)}"), dict):
        named.append(TrialSpec.from_json(found["spec"]))
        lost = lose(len(named) - 1, named[-1])
        if not lost:
            finish(plan, named[-1])
        searcher.on_trial_complete(f"t{len(named) - 1}", error=lost)
    assert found == StudySearcher.FINISHED
    return named


def test_a_lost_trial_is_tried_again_as_often_as_asked(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    searcher = searcher_of(plan, most=3)
    named = run_all(plan, searcher, lambda number, one: number in (0, 1, 7))
    assert len(named) == plan.total() + 3
    assert named[0] == named[1] == named[2]  # the longest of those that wait
    assert not searcher.failed
    assert len({one.trial_id for one in named}) == plan.total()


def test_a_lost_trial_rests_while_others_go_on(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    searcher = searcher_of(plan, most=3, pause_s=3600)
    first = searcher.suggest("a")
    searcher.on_trial_complete("a", error=True)
    named = []
    while isinstance(found := searcher.suggest(f"t{len(named)}"), dict):
        named.append(TrialSpec.from_json(found["spec"]))
        finish(plan, named[-1])
        searcher.on_trial_complete(f"t{len(named) - 1}")
    assert found is None  # not finished: one rests
    assert isinstance(first, dict)
    assert first["spec"]["trial_id"] not in {one.trial_id for one in named}
    assert not searcher.failed


@pytest.mark.parametrize("freeze_points", ["selected", "all"])
@pytest.mark.parametrize("lost", [1, 2])
def test_an_image_trial_found_damaged_by_its_heads_is_trained_again_before_them(
    tmp_path: Path, freeze_points: str, lost: int
) -> None:
    plan = plan_of(tmp_path, heads={"use": ["image", "fc", "gru"], "freeze_points": freeze_points})
    searcher = searcher_of(plan, 2, most=3)
    ledger, damaged, running, named, number = Ledger(plan_work(plan)), "", [], [], 0
    while True:
        while isinstance(found := searcher.suggest(f"t{number}"), dict):
            running.append((f"t{number}", TrialSpec.from_json(found["spec"])))
            named.append(running[-1][1])
            number += 1
        if not running:
            break
        name, one = running.pop(0)
        if one.image_trial is not None and damaged in ("", one.image_trial) and lost:
            damaged, lost = one.image_trial, lost - 1
            ledger.folder(damaged).remove("embeddings.arrow")
        else:
            finish(plan, one)
        searcher.on_trial_complete(name)
    assert found == StudySearcher.FINISHED
    assert not searcher.failed
    assert all(ledger.result(one.trial_id) for one in named)
    assert len({one.trial_id for one in named}) == plan.total()
    assert [one.trial_id for one in named].count(damaged) >= 2
