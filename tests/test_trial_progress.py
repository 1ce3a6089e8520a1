"""What a running trial leaves for others to read, and that it comes from a thread that harms
nobody."""

import platform
from pathlib import Path
from time import monotonic, sleep

import pytest
from conftest import SmallWork

from renal_ray.store.ledger import PROGRESS, RESULT, Ledger
from renal_ray.store.place import Place
from renal_ray.trial import progress
from renal_ray.trial.epoch import Epoch
from renal_ray.trial.progress import Keeper, Pace
from renal_ray.trial.spec import Inputs, TrialSpec


@pytest.fixture
def spec() -> TrialSpec:
    inputs = Inputs(slices="", splits="", weights="")
    return TrialSpec.model_validate(
        {
            "dataset": "roi",
            "freeze_point": "mixed10",
            "head": "image",
            "fold": 0,
            "seed": 1,
            "size": 75,
            "epochs": 150,
            "training": {},
        }
        | {"weights": "random", "backend": "jax", "activation_dtype": "float32", "inputs": inputs}
    )


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("FIRST_S", 0.02), ("KEEP_EVERY_S", 0.02), ("BEAT_S", 0.1)):
        monkeypatch.setattr(progress, name, seconds)


def epoch(number: int, loss: float = 0.5) -> Epoch:
    return Epoch(number, loss, 0.5, 0.6, 0.5, None, 2.0, 64)


def wait_for(what: object) -> None:
    until = monotonic() + 30
    while not what():  # type: ignore[operator]
        assert monotonic() < until
        sleep(0.01)


def test_pace_tells_stage_rate_and_the_time_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([100.0, 110.0, 120.0, 130.0])
    monkeypatch.setattr(progress, "monotonic", lambda: next(now))
    pace = Pace(4)
    first, second, third, last = (
        pace.after(epoch(number, float("nan") if number == 2 else 0.5)) for number in (1, 2, 3, 4)
    )
    assert first == {
        "stage": "training",
        "epoch": 1,
        "epochs": 4,
        "loss": 0.5,
        "val_auc": None,
        "images_per_second": 32.0,
        "eta_s": None,
    }
    assert (second["eta_s"], second["loss"]) == (20.0, None)
    assert (third["stage"], third["eta_s"]) == ("training", 10.0)
    assert (last["stage"], last["eta_s"]) == ("scoring", 0.0)


def test_a_trial_that_continues_is_timed_from_where_it_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = iter([100.0, 110.0])
    monkeypatch.setattr(progress, "monotonic", lambda: next(now))
    pace = Pace(100)
    assert pace.after(epoch(90))["eta_s"] is None
    assert pace.after(epoch(91))["eta_s"] == 90.0


def test_progress_names_node_and_process_and_is_said_again_while_no_epoch_ends(
    spec: TrialSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(progress.NODE_ADDRESS, "10.0.0.7")
    work = Place(str(tmp_path))
    folder = Ledger(work).begin(spec.trial_id, spec.to_json())
    with Keeper(work, spec) as keeper:
        wait_for(lambda: folder.exists(PROGRESS))
        told = folder.read_json(PROGRESS)
        assert (told["stage"], told["epoch"], told["epochs"], told["eta_s"]) == (
            "starting",
            0,
            150,
            None,
        )
        assert (told["host"], told["address"]) == (platform.node(), "10.0.0.7")
        folder.remove(PROGRESS)
        wait_for(lambda: folder.exists(PROGRESS))  # nothing new: the beat alone
        keeper.tell(Pace(150).after(epoch(7)))
        wait_for(lambda: folder.read_json(PROGRESS)["epoch"] == 7)


def test_a_finished_trial_keeps_no_progress_and_a_failed_one_does(
    spec: TrialSpec, tmp_path: Path
) -> None:
    work = Place(str(tmp_path))
    folder = Ledger(work).begin(spec.trial_id, spec.to_json())

    def fail() -> None:
        with Keeper(work, spec):
            wait_for(lambda: folder.exists(PROGRESS))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert folder.exists(PROGRESS)  # where it ran, for whoever asks
    with Keeper(work, spec):
        folder.write_json(RESULT, {})
    assert not folder.exists(PROGRESS)


def test_nothing_is_written_before_the_trial_has_begun(spec: TrialSpec, tmp_path: Path) -> None:
    with Keeper(Place(str(tmp_path)), spec):
        sleep(0.2)
        assert not list(tmp_path.iterdir())


def test_a_disk_that_takes_nothing_ends_no_trial(
    spec: TrialSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Place(str(tmp_path))
    folder = Ledger(work).begin(spec.trial_id, spec.to_json())
    tried: list[str] = []

    def full(self: Place, name: str, data: bytes) -> None:
        tried.append(name)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, Keeper(work, spec):
        patch.setattr(Place, "write", full)
        wait_for(lambda: len(tried) > 2)
        patch.undo()
        wait_for(lambda: folder.exists(PROGRESS))


def test_a_real_trial_leaves_its_node_in_its_result(trained: SmallWork) -> None:
    for result in trained.results.values():
        assert result["node"]["host"] == platform.node()
