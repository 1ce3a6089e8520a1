"""Numbers for Prometheus: what stands is said again, what has ended is not, and nobody's patient is
in a tag."""

from collections import Counter
from collections.abc import Iterator
from time import monotonic, sleep
from typing import Any

import pytest
from conftest import SmallWork

from renal_ray.sweep import metrics
from renal_ray.sweep.metrics import (
    GAUGES,
    KIND_TAGS,
    NOT_SELECTED,
    TRIAL_TAGS,
    SweepMetrics,
    TrialMetrics,
)
from renal_ray.trial.epoch import Epoch
from renal_ray.trial.progress import Pace
from renal_ray.trial.spec import TrialSpec
from renal_ray.types import Head


class Told:
    """What Ray would have been told, in order."""

    def __init__(self) -> None:
        self.all: list[tuple[str, float, dict[str, str]]] = []

    def last(self, name: str, **tags: str) -> float | None:
        found = [
            value for told, value, has in self.all if told == name and tags.items() <= has.items()
        ]
        return found[-1] if found else None


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[Told]:
    """Ray's metrics replaced by ones that refuse tags that were not announced, as Ray does."""
    log, made = Told(), []

    class Metric:
        def __init__(self, name: str, about: str, *more: Any) -> None:
            self._name, self._tags = name, set(more[-1])
            assert about.endswith(".")

        def _record(self, value: float, tags: dict[str, str]) -> None:
            assert set(tags) == self._tags
            assert all(isinstance(tag, str) for tag in tags.values())
            log.all.append((self._name, value, tags))

        set = inc = observe = _record

    class Standing(metrics.Standing):
        def __init__(self) -> None:
            super().__init__()
            made.append(self)

    monkeypatch.setattr(metrics, "REPEAT_S", 0.02)
    monkeypatch.setattr(metrics, "Standing", Standing)
    for name in ("Gauge", "Counter", "Histogram"):
        monkeypatch.setattr(metrics, name, Metric)
    yield log
    for one in made:
        one.close()


def progress(
    spec: TrialSpec, number: int, loss: float = 0.25, val_auc: float | None = 0.9
) -> dict[str, Any]:
    return Pace(spec.epochs).after(Epoch(number, loss, 0.5, 0.6, 0.5, val_auc, 2.0, 64))


def repeats(told: Told, name: str, **tags: str) -> int:
    """How often a gauge is said in a while."""
    until, before = monotonic() + 0.3, len(told.all)
    while monotonic() < until:
        sleep(0.02)
    return sum(one == name and tags.items() <= has.items() for one, _, has in told.all[before:])


def test_a_running_trial_is_said_again_and_an_ended_one_is_not(
    told: Told, trained: SmallWork
) -> None:
    first, second, *_ = trained.specs()
    worker = TrialMetrics("small")
    worker.begin(first)
    assert told.last("renal_trial_running", trial=first.trial_id) == 1
    worker.tell(progress(first, 2))
    assert told.last("renal_trial_epoch", trial=first.trial_id) == 2
    assert (
        told.last("renal_trial_loss", trial=first.trial_id, fold="0", dataset="roi", study="small")
        == 0.25
    )
    assert told.last("renal_trial_images_per_second", trial=first.trial_id) == 32
    assert repeats(told, "renal_trial_val_auc", trial=first.trial_id) >= 2
    worker.end()
    assert told.last("renal_trial_running", trial=first.trial_id) == 0
    assert repeats(told, "renal_trial_running") == repeats(told, "renal_trial_epoch") == 0
    worker.begin(second)
    assert repeats(told, "renal_trial_running", trial=first.trial_id) == 0
    assert repeats(told, "renal_trial_running", trial=second.trial_id) >= 2
    worker.close()
    assert told.last("renal_trial_running", trial=second.trial_id) == 0


def test_what_a_trial_cannot_tell_any_more_does_not_stand(told: Told, trained: SmallWork) -> None:
    spec, worker = trained.specs()[0], TrialMetrics("small")
    worker.begin(spec)
    worker.tell(progress(spec, 1))
    assert told.last("renal_trial_loss") == 0.25
    worker.tell(progress(spec, 2, loss=float("nan"), val_auc=None))
    assert repeats(told, "renal_trial_loss") == repeats(told, "renal_trial_val_auc") == 0
    assert repeats(told, "renal_trial_epoch") >= 2


def counted(told: Told) -> Counter[str]:
    """State -> trials, from what each gauge was told last."""
    last = {tuple(has.items()): value for what, value, has in told.all if what == "renal_trials"}
    total: Counter[str] = Counter()
    for tags, value in last.items():
        total[dict(tags)["state"]] += int(value)
    return total


def test_the_states_of_all_trials_add_up_from_the_first_to_the_last(
    told: Told, trained: SmallWork
) -> None:
    plan, results = trained.plan, trained.results
    specs = trained.specs()
    sweep = SweepMetrics(plan, {}, {spec.trial_id: spec for spec in plan.specs({})})
    assert +counted(told) == {"waiting": plan.total()}
    assert told.last("renal_trials", freeze_point=NOT_SELECTED, head="gru", state="waiting") == 2
    for number, spec in enumerate(
        sorted(specs, key=lambda spec: (spec.head is not Head.IMAGE, spec.labels != "true"))
    ):
        sweep.started(spec)
        assert +counted(told) == +Counter(
            finished=number, running=1, waiting=plan.total() - number - 1
        )
        sweep.finished(spec, results[spec.trial_id])
    assert +counted(told) == {"finished": plan.total()}
    assert told.last("renal_trials", freeze_point=NOT_SELECTED, state="waiting") == 0
    assert (
        sum(
            what == "renal_trials_ended" and has["outcome"] == "finished"
            for what, _, has in told.all
        )
        == plan.total()
    )
    assert {value for what, value, _ in told.all if what == "renal_trial_seconds"} == {
        result["seconds"]["total"] for result in results.values()
    }


def test_a_trial_that_failed_can_run_again(told: Told, trained: SmallWork) -> None:
    plan, spec = trained.plan, trained.specs()[0]
    sweep = SweepMetrics(
        plan,
        trained.results,
        {one.trial_id: one for one in trained.specs() if one is not spec} | {spec.trial_id: spec},
    )
    assert +counted(told) == {"finished": plan.total()}
    other = SweepMetrics(plan, {}, {one.trial_id: one for one in plan.specs({})})
    other.started(spec)
    other.failed(spec)
    assert (
        told.last(
            "renal_trials",
            state="failed",
            freeze_point=str(spec.freeze_point),
            head="image",
            labels="true",
        )
        == 1
    )
    other.started(spec)
    assert (+counted(told))["failed"] == 0
    sweep.left(12.5)
    assert told.last("renal_sweep_eta_seconds") == 12.5
    assert repeats(told, "renal_sweep_eta_seconds") >= 2
    sweep.left(None)
    assert repeats(told, "renal_sweep_eta_seconds") == 0


def test_tags_are_what_a_trial_is_and_nothing_else(told: Told, trained: SmallWork) -> None:
    allowed = {*KIND_TAGS, *TRIAL_TAGS, "state", "outcome"}
    assert {tag for _, tags in GAUGES.values() for tag in tags} <= allowed
    spec = trained.specs()[0]
    worker = TrialMetrics("small")
    worker.begin(spec)
    worker.tell(progress(spec, 1))
    SweepMetrics(trained.plan, trained.results, {one.trial_id: one for one in trained.specs()})
    said = {value for _, _, has in told.all for value in has.values()}
    assert not {patient for patient in trained.splits.labels if any(patient in one for one in said)}
