"""The process that lives for many trials: the numbers of a fresh one, replaced in time, and missed
when it dies."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import psutil
import pytest
from conftest import SmallWork

from renal_ray.store.ledger import FILES, Ledger
from renal_ray.trial.process import ProcessDiedError, Setup, TrialProcess
from renal_ray.trial.spec import TrialSpec
from renal_ray.types import Head

MANY = 10_000


def setup(small: SmallWork, **more: Any) -> Setup:
    return Setup(work=small.work.uri, backend=small.study.backend, threads=1, **more)


@pytest.fixture
def small(trained: SmallWork, tmp_path: Path) -> SmallWork:
    return trained.copy(tmp_path / "work")


@pytest.fixture
def process(small: SmallWork) -> Iterator[TrialProcess]:
    one = TrialProcess(setup(small), most_tasks=MANY, most_mib=MANY)
    yield one
    one.close()


def numbers(small: SmallWork, spec: TrialSpec) -> dict[str, bytes]:
    """The bytes of all files that hold no times, and the history's other columns."""
    folder = Ledger(small.work).folder(spec.trial_id)
    history = small.work.read_parquet(f"trials/{spec.trial_id}/history.parquet").drop(
        columns="seconds"
    )
    return {name: folder.read(name) for name in FILES if name != "history.parquet"} | {
        "history": history.to_csv().encode()
    }


def test_a_reused_process_gives_the_numbers_of_a_fresh_one(
    small: SmallWork, trained: SmallWork, process: TrialProcess, tmp_path: Path
) -> None:
    specs = [spec for spec in trained.specs() if spec.labels == "true"]
    for spec in sorted(specs, key=lambda spec: spec.head is not Head.IMAGE):
        list(process.run(spec))
    assert process.tasks == len(specs) >= 8
    other = trained.copy(tmp_path / "other")
    for spec in (
        spec for spec in specs if spec.fold == 1 and spec.head is Head.IMAGE
    ):  # never the first of its kind in the reused process
        fresh = TrialProcess(setup(other), most_tasks=MANY, most_mib=MANY)
        list(fresh.run(spec))
        fresh.close()
        assert numbers(small, spec) == numbers(other, spec)


def test_a_process_is_replaced_by_count_and_by_memory(small: SmallWork, trained: SmallWork) -> None:
    spec = trained.specs(Head.IMAGE)[-1]
    for most, pids in (
        ({"most_tasks": 2, "most_mib": MANY}, 2),
        ({"most_tasks": MANY, "most_mib": 1.0}, 3),
        ({"most_tasks": MANY, "most_mib": MANY}, 1),
    ):
        process, seen = TrialProcess(setup(small), **most), []
        for _ in range(3):
            list(process.run(spec))
            seen.append(process.pid)
            assert process.memory_mib == pytest.approx(
                psutil.Process(process.pid).memory_info().rss / 2**20, rel=0.2
            )
        process.close()
        assert len(set(seen)) == pids
        assert not any(psutil.pid_exists(pid) for pid in seen)


def test_a_killed_process_is_told_of_and_the_next_trial_gets_another(
    small: SmallWork, trained: SmallWork, process: TrialProcess
) -> None:
    spec = trained.specs(Head.IMAGE)[0].model_copy(update={"epochs": 100_000})
    told = process.run(spec)
    assert next(told)["epoch"] >= 1
    first = process.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    with pytest.raises(ProcessDiedError, match=r"SIGKILL .*out of memory"):
        list(told)
    assert Ledger(small.work).state(spec.trial_id) == "unfinished"
    again = trained.specs(Head.IMAGE)[0]
    list(process.run(again))
    assert Ledger(small.work).state(again.trial_id) == "finished"
    assert process.pid != first


def test_a_process_that_hangs_is_ended_and_told_of(small: SmallWork, trained: SmallWork) -> None:
    spec = trained.specs(Head.IMAGE)[0].model_copy(update={"epochs": 1_000_000})
    process = TrialProcess(setup(small), most_tasks=MANY, most_mib=MANY)
    told = process.run(spec)
    next(told)
    hung = process.pid
    assert hung is not None
    process._silence_s = 3  # start-up was given more
    os.kill(hung, signal.SIGSTOP)
    with pytest.raises(
        ProcessDiedError, match=r"no epoch for 0\.05 minutes \(resources\.trial_timeout\)"
    ):
        list(told)
    assert not psutil.pid_exists(hung)
    process._silence_s = 300
    list(process.run(trained.specs(Head.IMAGE)[0]))
    process.close()


def test_a_trial_that_fails_says_why_and_the_process_goes_on(
    small: SmallWork, trained: SmallWork, process: TrialProcess
) -> None:
    fc = trained.specs(Head.FC)[0]
    with pytest.raises(RuntimeError, match="FileNotFoundError"):  # its image trial is not there
        list(process.run(fc))
    pid = process.pid
    list(
        process.run(
            next(spec for spec in trained.specs(Head.IMAGE) if spec.trial_id == fc.image_trial)
        )
    )
    list(process.run(fc))
    assert process.pid == pid
    assert Ledger(small.work).state(fc.trial_id) == "finished"


def test_progress_is_told_and_kept_while_a_trial_runs_and_gone_after(
    small: SmallWork, trained: SmallWork, process: TrialProcess
) -> None:
    base = trained.specs(Head.IMAGE)[-1]
    spec = base.model_copy(update={"epochs": 1_000_000})
    folder, told = Ledger(small.work).folder(spec.trial_id), process.run(spec)
    until, last = monotonic() + 300, next(told)
    while (
        not folder.exists("progress.json")
        or (kept := folder.read_json("progress.json"))["epoch"] == 0
    ):
        assert monotonic() < until
        last = next(told)
    last = next(told)
    assert (
        kept.keys() - {"time", "host", "address", "pid"}
        == last.keys() - {"notes"}
        == {"stage", "epoch", "epochs", "loss", "val_auc", "images_per_second", "eta_s"}
    )
    assert 1 < kept["epoch"] <= last["epoch"] < last["epochs"] == 1_000_000
    assert last["images_per_second"] > 0
    assert last["eta_s"] > 0
    process.close()
    list(process.run(base))
    assert "progress.json" not in Ledger(small.work).folder(base.trial_id).entries()


def test_the_process_ends_with_its_worker(
    small: SmallWork, trained: SmallWork, tmp_path: Path
) -> None:
    """A worker that is killed closes nothing: its process must notice by itself, even in the middle
    of a trial."""
    spec = trained.specs(Head.IMAGE)[-1].model_copy(update={"epochs": 1_000_000})
    script = (
        "from renal_ray.trial.process import *\nfrom "
        "renal_ray.trial.spec import TrialSpec\nimport json, sys\n"
        "setup, spec = (json.loads(one) for one in sys.argv[1:])\n"
        "process = TrialProcess(Setup.model_validate(setup), most_tasks=9, most_mib=9999)\n"
        "for told in process.run(TrialSpec.from_json(spec)):\n    print(process.pid, flush=True)\n"
    )
    arguments = [setup(small).model_dump_json(), TrialSpec.model_dump_json(spec)]
    worker = subprocess.Popen(
        [sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE, encoding="utf-8"
    )
    assert worker.stdout is not None
    pid = int(worker.stdout.readline())
    assert psutil.pid_exists(pid)
    worker.kill()
    worker.wait()
    worker.stdout.close()
    until = monotonic() + 20
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert monotonic() < until, "the process outlived its worker"
        sleep(0.1)


def test_thirty_trials_leave_the_memory_where_the_third_left_it(
    small: SmallWork, trained: SmallWork, process: TrialProcess
) -> None:
    base = trained.specs(Head.IMAGE)[0]
    after = []
    for number in range(30):
        list(process.run(base.model_copy(update={"seed": number})))
        after.append(process.memory_mib)
    assert process.tasks == 30
    assert after[-1] <= 1.1 * after[2], [round(one) for one in after]
