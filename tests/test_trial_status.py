"""What `plan` and `status` say of a running sweep."""

import os
import platform
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from conftest import SmallWork
from typer.testing import CliRunner

from renal_ray import commands
from renal_ray.cli import app
from renal_ray.store.ledger import Ledger
from renal_ray.store.lock import held, is_held
from renal_ray.store.place import Place
from renal_ray.trial import standing, workshop
from renal_ray.trial.forecast import Forecast
from renal_ray.trial.plan import finished_results
from renal_ray.trial.record import keep_study
from renal_ray.trial.spec import TrialSpec
from renal_ray.trial.standing import Look, Standing, describe
from renal_ray.trial.status import clock
from renal_ray.trial.workshop import configure_keras


def begin(small: SmallWork, spec: TrialSpec, ago_s: float, **told: object) -> Place:
    """A trial that has begun and told something so many seconds ago."""
    folder = Ledger(small.work).begin(spec.trial_id, spec.to_json())
    seen = (datetime.now(UTC) - timedelta(seconds=ago_s)).isoformat(timespec="seconds")
    usual = {
        "stage": "training",
        "epoch": 3,
        "epochs": 150,
        "loss": 0.5,
        "val_auc": None,
        "images_per_second": 41.23,
        "eta_s": 752.0,
    }
    folder.write_json(
        "progress.json",
        usual | {"host": "node-a", "address": "10.0.0.1", "pid": 4711, "time": seen} | told,
    )
    return folder


def test_status_tells_of_running_trials_their_nodes_and_the_time_that_is_left(
    trained: SmallWork, tmp_path: Path
) -> None:
    small = trained.copy(tmp_path / "work")
    first, second, third, *_ = small.specs()
    small.run(first)
    begin(small, second, 4)
    begin(
        small,
        third,
        50,
        host="node-b",
        address="10.0.0.2",
        epoch=0,
        images_per_second=None,
        eta_s=None,
    )  # compiling: the beat comes twice a minute
    look = Standing(small.study, small.work).look()
    said = "\n".join(look.lines)
    assert not look.is_over  # a trial tells of itself, whoever holds the lock
    assert look.counts == "small: 1 of 12 trials finished, 0 failed, 2 running, 9 waiting"
    assert re.search(
        rf"^{second.trial_id}: epoch 3/150, 41.2 samples/s, 0:12:32 left "
        r"\(node-a, process 4711, seen \d s ago\)$",
        said,
        re.M,
    )
    assert re.search(
        rf"^{third.trial_id}: starting \(node-b, process 4711, seen 5\d s ago\)$", said, re.M
    )
    assert "  node-a: 1 running, 0 finished" in look.lines
    assert "  node-b: 1 running, 0 finished" in look.lines
    assert f"  {platform.node()}: 0 running, 1 finished" in look.lines
    assert "no sweep is running here" not in said


def test_the_time_that_is_left_is_counted_for_the_trials_that_run(
    trained: SmallWork, tmp_path: Path
) -> None:
    """Not for the processors of the machine that asks."""
    small = trained.copy(tmp_path / "work", heads={"use": ["image"]}, controls={})
    first, second, third, fourth = sorted(
        small.specs(), key=lambda spec: spec.freeze_point, reverse=True
    )
    for spec in (first, third):
        small.run(spec)
    begin(small, second, 4)
    begin(small, fourth, 4)
    both = Standing(small.study, small.work).look()
    Ledger(small.work).folder(fourth.trial_id).remove("progress.json")
    one = Standing(small.study, small.work).look()
    for look, slots in ((both, 2), (one, 1)):
        left = Forecast(small.plan, finished_results(small.work), None).remaining(slots)
        assert left
        assert look.summary == f"{look.counts}; about {clock(left)} left"
        assert f"left: about {clock(left)}" in look.lines


def test_a_trial_that_has_fallen_silent_is_said_to_have(trained: SmallWork, tmp_path: Path) -> None:
    """The driver is gone, and the node too."""
    small = trained.copy(tmp_path / "work")
    first, second, *_ = small.specs()
    begin(small, first, 12 * 60)
    begin(small, second, 3 * 3600)
    look = Standing(small.study, small.work).look()
    said = "\n".join(look.lines)
    assert look.is_over
    assert look.counts == (
        "small: 0 of 12 trials finished, 0 failed, 0 running, 10 waiting, 2 begun and not heard of"
    )
    assert (
        f"{first.trial_id}: last seen 12 min ago, epoch 3/150 (node-a, "
        "process 4711); the next sweep goes on with it"
    ) in look.lines
    assert f"{second.trial_id}: last seen 3 h ago" in said
    assert "no sweep is running here" in look.lines
    with held(small.work):
        assert is_held(small.work)
        look = Standing(small.study, small.work).look()
        assert not look.is_over
        assert "no sweep is running here" not in look.lines
    assert not is_held(small.work)


def test_hosts_of_one_name_are_told_apart_by_address(trained: SmallWork, tmp_path: Path) -> None:
    small = trained.copy(tmp_path / "work")
    first, second, third, *_ = small.specs()
    begin(small, first, 1)
    begin(small, second, 1, address="10.0.0.2")
    begin(small, third, 1, host="other")
    lines = describe(small.study, small.work)
    assert [line for line in lines if line.endswith("1 running, 0 finished")] == [
        "  node-a 10.0.0.1: 1 running, 0 finished",
        "  node-a 10.0.0.2: 1 running, 0 finished",
        "  other: 1 running, 0 finished",
    ]


def test_the_last_error_is_one_line(trained: SmallWork, tmp_path: Path) -> None:
    small = trained.copy(tmp_path / "work")
    first, second, *_ = small.specs()
    for spec, text in (
        (first, f"Traceback:\n  File ...\nValueError: {'x' * 500}\n"),
        (second, "Traceback\nKeyError: 'a'  b\n\n"),
    ):
        Ledger(small.work).begin(spec.trial_id, spec.to_json())
        Ledger(small.work).fail(spec.trial_id, text)
    lines = describe(small.study, small.work)
    assert "0 of 12 trials finished, 2 failed, 0 running, 10 waiting" in lines[0]
    assert f"{second.trial_id}: failed: KeyError: 'a' b" in lines
    [long] = [
        line for line in lines if line.startswith(f"{first.trial_id}: failed: ValueError: xxx")
    ]
    assert long.endswith("x...")
    assert len(long) < 300


def test_only_trials_that_run_are_read_beside_results(
    trained: SmallWork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looking again reads what is new: ten thousand finished or waiting trials cost nothing
    then."""
    small = trained.copy(tmp_path / "work")
    first, second, third, *_ = small.specs()
    small.run(first)
    begin(small, second, 1)
    standing = Standing(small.study, small.work)
    standing.look()
    small.run(third)
    asked: list[str] = []
    for name in ("read", "exists"):
        usual = getattr(Place, name)
        monkeypatch.setattr(
            Place,
            name,
            lambda self, file, usual=usual: (asked.append(f"{self.uri}/{file}"), usual(self, file))[
                1
            ],
        )
    look = standing.look()
    assert look.counts.startswith("small: 2 of 12 trials finished, 0 failed, 1 running")
    about = {name.split("/trials/")[1].split("/")[0] for name in asked if "/trials/" in name}
    assert about == {second.trial_id, third.trial_id}


class Looks:
    """A study that is looked at."""

    def __init__(self, *looks: Look | type[BaseException]) -> None:
        self._looks = list(looks)

    def look(self) -> Look:
        now = self._looks.pop(0)
        if isinstance(now, Look):
            return now
        raise now


def watched(looks: Looks, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(commands, "WATCH_EVERY_S", 0.0)
    monkeypatch.setattr(standing, "Standing", lambda study, work: looks)
    return commands.status_study(object(), object(), watch=True)  # type: ignore[arg-type]


RUNNING = Look(
    "1 of 2", "1 of 2; about 0:01:00 left", ["1 of 2", "trial: epoch 1/9"], is_over=False
)
LATER = Look("1 of 2", "1 of 2; about 0:00:55 left", ["1 of 2", "trial: epoch 2/9"], is_over=False)
OVER = Look("2 of 2", "2 of 2", ["2 of 2", "the seal is closed"], is_over=True)


def test_watch_says_a_line_for_each_change_where_there_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert watched(Looks(RUNNING, LATER, OVER), monkeypatch) == 0
    said = [re.sub(r"^\d\d:\d\d:\d\d ", "", line) for line in capsys.readouterr().out.splitlines()]
    assert said == ["1 of 2; about 0:01:00 left", "2 of 2", "the seal is closed"]


def test_watch_draws_anew_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    assert watched(Looks(RUNNING, LATER, OVER), monkeypatch) == 0
    said = capsys.readouterr().out
    assert "\x1b[1A" in said  # back up over what was drawn before
    assert said.index("epoch 1/9") < said.index("epoch 2/9") < said.index("the seal is closed")


def test_leaving_a_watch_is_no_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert watched(Looks(RUNNING, KeyboardInterrupt), monkeypatch) == 0


def test_status_works_where_the_work_directory_has_another_name(
    trained: SmallWork, tmp_path: Path
) -> None:
    small = trained.copy(tmp_path / "there")
    keep_study(small.study, small.work)
    begin(small, small.specs()[0], 1)
    (tmp_path / "there").rename(tmp_path / "here")
    done = CliRunner().invoke(app, ["status", str(tmp_path / "here")])
    assert done.exit_code == 0, done.output
    assert "1 running" in done.output
    assert (
        CliRunner()
        .invoke(app, ["status", str(tmp_path / "here"), "--set", f"work={tmp_path / 'there'}"])
        .output.startswith("small: not prepared yet")
    )


def test_a_lock_of_a_dead_process_is_not_a_running_sweep(tmp_path: Path) -> None:
    work = Place(str(tmp_path))
    assert not is_held(work)
    with held(work):
        told = work.read_json(".lock")
    work.write_json(".lock", told | {"pid": 2**22 + 1})
    assert not is_held(work)
    work.write_json(".lock", told | {"pid": 2**22 + 1, "host": "elsewhere"})
    assert is_held(work)


def test_threads_and_memory_are_settled_in_the_environment_before_keras_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found: dict[str, str] = {}
    monkeypatch.setattr(workshop, "os", type("Os", (), {"environ": found, "getuid": os.getuid}))
    configure_keras("jax", 3, gpu_share=0.25)
    assert {found[name] for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "NPROC")} == {"3"}
    assert found["XLA_PYTHON_CLIENT_MEM_FRACTION"] == "0.250"
    assert found["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false"
    assert found["KERAS_BACKEND"] == "jax"
    found.clear()
    configure_keras("tensorflow", 1)
    assert "XLA_PYTHON_CLIENT_MEM_FRACTION" not in found
    assert found["TF_FORCE_GPU_ALLOW_GROWTH"] == "true"
