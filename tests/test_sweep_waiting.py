"""Which of the waiting trials a free worker takes, and that asking costs the same however many wait."""

import heapq
from pathlib import Path
from typing import Any

import pytest
from conftest import small_study
from test_sweep_searcher import ONE, finish, plan_of, plan_work

from renal_ray.store.ledger import Ledger
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
        small_study("work"), dataset=Dataset(dataset), freeze_point=FreezePoint(point), head=Head(head), fold=fold, inputs=inputs, image_trial=image_trial
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
        ([spec("mixed0"), *MANY], ["mixed3"], [], 4, "mixed3"),  # a worker keeps its kind while much that is no longer waits beside the longest
        ([spec("mixed0"), *MANY[:3]], ["mixed3"], [], 4, "mixed0"),  # ... and leaves it where the longest would be what the sweep ends with
        ([spec("mixed0"), *MANY[:3]], ["mixed3"], [], 1, "mixed3"),  # with one place nothing can be late
        ([spec("mixed0"), *MANY], [], ["mixed0"], 4, "mixed3"),  # what nobody runs
        ([spec("mixed0"), *MANY[:3]], [], ["mixed0"], 4, "mixed0"),
        ([spec("mixed0"), *MANY], ["mixed6", "mixed0"], [], 4, "mixed0"),  # mixed6 is used up
        ([spec("mixed3"), spec("mixed10", 0), spec("mixed10", 1)], ["mixed10"], [], 2, "mixed3"),  # short ones fill gaps, they make none
    ],
)
def test_a_free_worker_keeps_its_kind_unless_a_longer_trial_would_end_last(
    specs: list[TrialSpec], freed: list[str], busy: list[str], slots: int, chosen: str
) -> None:
    def kinds(points: list[str]) -> list[tuple[str, str]]:
        return [(f"image-{point}", "roi") for point in points]

    assert waiting_of(*specs).choose(freed=kinds(freed), busy=kinds(busy), slots=slots) == (f"image-{chosen}", "roi")


def test_the_same_compiled_step_on_another_dataset_goes_before_what_must_be_compiled() -> None:
    waiting = waiting_of(*(spec("mixed3", fold, dataset) for dataset in ("slice", "rbr") for fold in range(9)), spec("mixed6"))
    assert waiting.choose(freed=[("image-mixed6", "rbr")], busy=[], slots=1) == ("image-mixed6", "roi")


def play_at_length(plan: Plan, workers: int) -> tuple[float, float]:
    """When the last trial ended, and when it does with the longest first, where every trial takes as long as its arithmetic."""
    searcher = StudySearcher(plan, plan_work(plan), share=lambda one: ONE, room=lambda one: workers)
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


def test_the_plan_is_asked_once_and_whenever_a_freeze_point_is_selected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(tmp_path)
    asked: list[int] = []
    whole = Plan.specs
    monkeypatch.setattr(Plan, "specs", lambda self, results: asked.append(len(results)) or whole(self, results))
    searcher = StudySearcher(plan, plan_work(plan), share=lambda one: ONE, room=lambda one: 1)
    number = 0
    while isinstance(found := searcher.suggest(f"t{number}"), dict):
        finish(plan, TrialSpec.from_json(found["spec"]))
        searcher.on_trial_complete(f"t{number}")
        number += 1
    assert number == plan.total()
    assert len(asked) == 1 + len(plan.study.datasets)


def test_heads_wait_for_the_image_trial_of_their_own_fold_alone(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, heads={"use": ["image", "fc"], "freeze_points": "all"})
    searcher = StudySearcher(plan, plan_work(plan), share=lambda one: ONE, room=lambda one: 1)
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


def test_a_sweep_goes_on_from_results_that_were_read_already(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    first = plan.specs({})[0]
    finish(plan, first)
    results: dict[str, Any] = {first.trial_id: Ledger(plan_work(plan)).result(first.trial_id)}
    given = StudySearcher(plan, plan_work(plan), share=lambda one: ONE, room=lambda one: 1, results=results)
    read = StudySearcher(plan, plan_work(plan), share=lambda one: ONE, room=lambda one: 1)
    assert given.suggest("a") == read.suggest("a")
    assert given.suggest("b") is None
