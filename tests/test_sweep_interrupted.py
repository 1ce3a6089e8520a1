"""A sweep that is interrupted, then killed, then run again: nothing is lost, nothing is done twice,
the numbers are the same."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from conftest import SmallWork, activated, draw_patients, small_study

from renal_ray.store.ledger import Ledger
from renal_ray.study_file import dump_study
from renal_ray.sweep.sessions import MARK, ray_folder
from renal_ray.trial.plan import finished_results

PATIENCE_S = 600  # a bound on a hang, not a claim about speed
SLOW = {
    "training": {
        "epochs": {"image": 80, "fc": 10, "gru": 10},
        "batch_size": 8,
        "embedding": 32,
        "gru_units": 8,
    }
}


def start(study: Path, command: str = "sweep") -> subprocess.Popen[str]:
    """`renal-ray sweep`, or another command, as a person would start it: a process group of its
    own, with its own Ray."""
    code = "from renal_ray.cli import main; main()"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return subprocess.Popen(
        [sys.executable, "-c", code, command, str(study)],
        cwd=Path(__file__).resolve().parent.parent,
        env=environment,
        encoding="utf-8",
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def results(work: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in work.glob("trials/*/result.json")}


def wait_for(work: Path, count: int, process: subprocess.Popen[str]) -> None:
    """Until so many trials are finished; the process must still be at work then."""
    deadline = time.monotonic() + PATIENCE_S
    while len(results(work)) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "no progress"
        time.sleep(0.01)


def end(processes: list[psutil.Process]) -> None:
    """Ends what a killed driver left behind, each by its id."""
    _, alive = psutil.wait_procs(processes, timeout=20)
    for process in alive:
        process.kill()
    psutil.wait_procs(alive, timeout=20)


def session_drivers() -> list[int]:
    """Numbers of the processes whose Ray left a session in the temporary directory."""
    return [
        json.loads(mark.read_text(encoding="utf-8"))["pid"]
        for mark in ray_folder().glob(f"session_*/{MARK}")
        if not mark.parent.is_symlink()
    ]


@pytest.fixture
def small(tmp_path: Path) -> SmallWork:
    """Two datasets of slow image trials, so that there is a middle to be interrupted in."""
    study = small_study(
        tmp_path / "whole",
        freeze_points=["mixed10"],
        heads={"use": ["image", "fc"]},
        datasets=["roi", "rbr"],
        resources={"cpus": 1},
        **SLOW,
    )
    return activated(study, draw_patients(20))


def test_a_sweep_survives_ctrl_c_a_polite_end_and_kill(small: SmallWork, tmp_path: Path) -> None:
    cut = small.copy(tmp_path / "cut")
    work, study = tmp_path / "cut", tmp_path / "cut.yaml"
    study.write_text(dump_study(cut.study), encoding="utf-8")

    children: list[psutil.Process] = []
    # A terminal tells the whole process group of Ctrl-C; `timeout` and Slurm's scancel end the
    # driver alone.
    for interrupt in (
        lambda driver: os.killpg(driver.pid, signal.SIGINT),
        lambda driver: driver.send_signal(signal.SIGTERM),
    ):
        first = start(study)
        try:
            wait_for(work, len(results(work)) + 1, first)
            children = psutil.Process(first.pid).children(recursive=True)
            interrupt(first)
            out, errors = first.communicate(timeout=PATIENCE_S)
        finally:
            first.kill()
            end(children)
        assert first.returncode == 130, errors
        assert "the same command continues from there" in errors
        assert "Traceback" not in errors
    after_ctrl_c = results(work)
    assert 2 <= len(after_ctrl_c) < cut.plan.total()

    second = start(study)
    try:
        wait_for(work, len(after_ctrl_c) + 1, second)
        children = psutil.Process(second.pid).children(recursive=True)
    finally:
        second.send_signal(signal.SIGKILL)
        second.communicate()
        end(children)
    after_kill = results(work)
    assert {name: after_kill[name] for name in after_ctrl_c} == after_ctrl_c
    assert len(after_ctrl_c) < len(after_kill) < cut.plan.total()

    assert second.pid in session_drivers()
    third = start(study)
    out, errors = third.communicate(timeout=PATIENCE_S)
    assert third.returncode == 0, errors
    assert (
        second.pid not in session_drivers()
    )  # what the killed one left in the temporary directory went when the next one began
    total = cut.plan.total()
    assert f"{total} of {total} trials are finished" in out
    done = results(work)
    assert {name: done[name] for name in after_kill} == after_kill

    # An uninterrupted run in one process, trial by trial, gives the same validation table.
    expected: dict[str, dict] = {}
    while waiting := [spec for spec in small.plan.specs(expected) if spec.trial_id not in expected]:
        for spec in waiting:
            expected[spec.trial_id] = small.run(spec)
    found = finished_results(cut.work)
    assert found.keys() == expected.keys()
    for trial, result in expected.items():
        for level, values in result["levels"].items():
            for name, value in values["metrics"].items():
                other = found[trial]["levels"][level]["metrics"][name]
                assert (other is None) == (value is None)
                assert value is None or other == pytest.approx(value, abs=5e-4), (
                    trial,
                    level,
                    name,
                )
    assert all(Ledger(cut.work).state(trial) == "finished" for trial in expected)
    assert np.isfinite(
        [result["levels"]["patient"]["threshold"] for result in found.values()]
    ).all()
