"""Faults put into a running sweep on a cluster of three nodes: the same command finishes, and the
study says what an undisturbed one says."""

import hashlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from time import sleep

import numpy as np
import psutil
import pytest

from cluster.disturbed import Cluster, Run, cluster
from cluster.network import driver, output, wait_until
from renal_ray.model.weight_files import save_weights_h5
from renal_ray.trial.plan import make_plan

__all__ = ["cluster"]  # the fixture

pytestmark = pytest.mark.cluster


def trial_processes(run: Run) -> list[psutil.Process]:
    """The processes that run trials, on whatever node."""
    found = [one for node in (1, 2) for one in run.nodes.processes(node, "renal_ray.trial.serve")]
    assert found
    return found


def said_once(run: Run, pattern: str) -> None:
    """The person was told."""
    assert re.search(pattern, run.said), run.said
    assert "Traceback" not in run.said


def test_trials_run_on_both_nodes_at_once(cluster: Cluster) -> None:
    run = cluster.run("both")
    run.start()
    wait_until(
        lambda: all(run.nodes.processes(node, "renal_ray.trial.serve") for node in (1, 2)),
        "trials on both nodes",
    )
    assert run.end() == 0, run.said
    cluster.check(run, "none")


def test_the_process_of_a_trial_is_killed(cluster: Cluster) -> None:
    run = cluster.run("trial-killed")
    run.start()
    run.in_the_middle()
    for process in trial_processes(run):
        process.kill()
    assert run.end() == 0, run.said
    said_once(run, r"lost \(.*SIGKILL.*\); is tried again, attempt 2")
    said_once(run, r"continues after epoch \d+")
    cluster.check(run, "process of a trial killed")


def test_a_worker_process_is_killed(cluster: Cluster) -> None:
    run = cluster.run("worker-killed")
    run.start()
    run.in_the_middle()
    for process in trial_processes(run):
        process.parent().kill()
    assert run.end() == 0, run.said
    said_once(run, r"lost \(its worker, or the node it ran on, is gone\); is tried again")
    cluster.check(run, "worker process killed")


def test_a_raylet_is_killed(cluster: Cluster) -> None:
    run = cluster.run("raylet-killed")
    run.start()
    run.in_the_middle()
    [raylet, *_] = run.nodes.processes(2, "raylet/raylet")
    raylet.kill()
    try:
        assert run.end() == 0, run.said
    finally:
        run.nodes.kill(2)
        run.nodes.start(2)
    cluster.check(run, "raylet killed")


def test_a_node_is_cut_from_the_network_and_comes_back(cluster: Cluster) -> None:
    run = cluster.run("cut")
    run.start()
    run.in_the_middle()
    address = run.nodes.network.address(2)
    run.nodes.network.cut(2)
    try:
        wait_until(lambda: address not in run.nodes.alive(), "the head to miss the node")
        run.nodes.network.cut(2, back=True)
        assert run.end() == 0, run.said
    finally:
        run.nodes.network.cut(2, back=True)
        run.nodes.kill(2)
        run.nodes.start(2)
    cluster.check(run, "node cut from the network")


def test_the_head_is_killed_and_started_again(cluster: Cluster) -> None:
    run = cluster.run("head-killed")
    run.start()
    run.in_the_middle()
    for node in (0, 1, 2):
        run.nodes.kill(node)
    assert run.end() == 1, run.said
    said_once(run, "the Ray cluster is gone")
    for node in (0, 1, 2):
        run.nodes.start(node)
    run.again()
    cluster.check(run, "head killed")


def test_the_driver_is_killed(cluster: Cluster) -> None:
    run = cluster.run("driver-killed")
    run.start()
    run.in_the_middle()
    assert run.process is not None
    os.killpg(run.process.pid, signal.SIGKILL)
    assert run.end() == -signal.SIGKILL
    wait_until(
        lambda: not any(run.nodes.processes(node, "renal_ray.trial.serve") for node in (1, 2)),
        "the trials to end with their driver",
    )
    run.again()
    cluster.check(run, "driver killed")


def test_the_work_directory_s_disk_is_full_for_a_while(cluster: Cluster) -> None:
    run = cluster.run("full", on_small_disk=True)
    run.start()
    run.in_the_middle()
    filler = cluster.small_disk / "filler"
    subprocess.run(
        ["dd", "if=/dev/zero", f"of={filler}", "bs=64k"], capture_output=True
    )  # until nothing is left
    sleep(15)  # long enough for every running trial to want to write
    filler.unlink()
    run.end()
    said_once(run, "No space left on device")
    run.again()
    cluster.check(run, "disk full for a while")


def test_the_work_directory_is_read_only_for_a_while(cluster: Cluster) -> None:
    run = cluster.run("read-only", on_small_disk=True)
    run.start()
    run.in_the_middle()
    wait_until(lambda: remount(cluster.small_disk, "ro"), "a moment without open files", every=0.01)
    sleep(15)
    assert remount(cluster.small_disk, "rw")
    run.end()
    said_once(run, "Read-only file system")
    run.again()
    cluster.check(run, "work directory read-only for a while")


def remount(disk: Path, how: str) -> bool:
    return (
        subprocess.run(["mount", "-o", f"remount,{how}", str(disk)], capture_output=True).returncode
        == 0
    )


def test_the_object_store_is_full(cluster: Cluster) -> None:
    run = cluster.run("store-full")
    code = (
        f"import ray, time; ray.init('{run.nodes.address}', log_to_driver=False)\n"
        "@ray.remote(num_cpus=0, scheduling_strategy='SPREAD')\nclass Hog:\n"
        "  def fill(self):\n    self.held = [ray.put(bytes(10 * 2**20)) for _ in range(9)]\n"
        "hogs = [Hog.remote() for _ in range(3)]\nray.get([one.fill.remote() for one "
        "in hogs])\nprint('full', flush=True)\ntime.sleep(1000)\n"
    )
    hog = subprocess.Popen(
        run.nodes.inside(0, sys.executable, "-c", code),
        env=run.nodes.environment,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )
    try:
        assert hog.stdout is not None
        assert hog.stdout.readline() == "full\n"
        run.start()
        assert run.end() == 0, run.said
    finally:
        hog.kill()
        hog.communicate()
    cluster.check(run, "object store full")


@pytest.mark.parametrize("name", ["weights.h5", "result.json", "embeddings.arrow"])
def test_a_file_of_a_finished_trial_is_damaged(cluster: Cluster, name: str) -> None:
    run = cluster.run(f"damaged-{name}")
    run.start()
    assert run.end() == 0, run.said
    results = run.finished()
    heads = [one for one in sorted(results) if "-fc-" in one or "-gru-" in one]
    victim = run.work.read_json(f"trials/{heads[0]}/spec.json")[
        "image_trial"
    ]  # of the freeze point that heads and test read
    path = run.work.path(f"trials/{victim}/{name}")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(bytes(data) if name == "weights.h5" else bytes(data[: len(data) // 2]))
    run.kept = {one: data for one, data in results.items() if one != victim}
    if name == "embeddings.arrow":  # read by the heads of its fold
        for one in heads:
            run.kept.pop(one)
            run.work.remove(f"trials/{one}")
        run.start()
        assert run.end() == 0, run.said
    elif name == "weights.h5":  # read by the test
        code, said = output(driver(run.nodes, ["test", str(run.file)]))
        assert code == 2, said
        assert f"trials/{victim}/weights.h5 is damaged" in said
        run.start()
        assert run.end() == 0, run.said
    else:
        run.start()
        assert run.end() == 0, run.said
    said_once(run, rf"{victim}.*damaged")
    cluster.check(run, f"{name} damaged")


@pytest.mark.parametrize("what", ["activations", "backbone"])
def test_a_file_that_trials_read_is_damaged_while_they_run(cluster: Cluster, what: str) -> None:
    run = cluster.run(f"damaged-{what}")
    run.start()
    pattern = (
        "activations/roi/mixed10/*/*.arrow"
        if what == "activations"
        else "activations/backbones/*.h5"
    )
    wait_until(
        lambda: (
            run.work.exists("activations/roi/mixed10")
            and any(run.work.path().glob("activations/roi/mixed10/*/index.parquet"))
        ),
        "the cache",
    )
    path = next(run.work.path().glob(pattern))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)
    assert run.end() == 0, run.said
    cluster.check(run, f"{what} damaged")
    said_once(run, "damaged")


def test_a_trial_that_raises_fails_alone(cluster: Cluster) -> None:
    run = cluster.run("raises")
    victim = make_plan(run.study, run.work).specs({})[-1].trial_id
    state = save_weights_h5(
        {"of/another/model": np.zeros(3, np.float32)}
    )  # a whole checkpoint that no model can continue from
    told = {
        "file": "checkpoint-1.h5",
        "sha256": hashlib.sha256(state).hexdigest(),
        "epochs": [],
        "rng": {},
        "best": None,
    }
    run.work.write(f"trials/{victim}/checkpoint-1.h5", state)
    run.work.write_json(f"trials/{victim}/checkpoint.json", told)
    run.start()
    assert run.end() == 1, run.said
    said_once(run, rf"{victim}: failed")
    run.kept = run.finished()
    assert run.kept
    run.work.remove(f"trials/{victim}")
    run.again()
    cluster.check(run, "a trial that raises")


def test_a_trial_that_hangs_is_ended(cluster: Cluster) -> None:
    run = cluster.run(
        "hangs", resources=cluster.template.resources.model_dump() | {"trial_timeout": 0.75}
    )
    run.start()
    run.in_the_middle()
    for process in trial_processes(run):
        process.send_signal(signal.SIGSTOP)
    assert run.end() == 0, run.said
    said_once(run, r"told of no epoch for 0\.75 minutes")
    cluster.check(run, "a trial that hangs (limit 45 s)")


def test_a_trial_that_runs_out_of_memory(cluster: Cluster) -> None:
    run = cluster.run("memory")
    run.start()
    run.in_the_middle()
    for process in trial_processes(run):
        subprocess.run(
            ["prlimit", f"--pid={process.pid}", f"--as={process.memory_info().vms}"], check=True
        )  # not a byte more
    run.end()
    run.again()
    cluster.check(run, "out of memory")


def test_two_drivers_on_one_work_directory(cluster: Cluster) -> None:
    run = cluster.run("two")
    run.start()
    run.in_the_middle()
    assert run.process is not None
    code, said = output(driver(run.nodes, ["sweep", str(run.file)]))
    assert code == 2
    assert re.search(r"is in use by process \d+ on \S+ since", said), said
    assert run.end() == 0, run.said
    cluster.check(run, "a second driver")


def test_a_driver_without_the_token_gets_nothing(cluster: Cluster) -> None:
    run = cluster.run("stranger")
    code, said = output(driver(run.nodes, ["sweep", str(run.file)], token=False), seconds=200)
    assert code == 2, said
    assert "Traceback" not in said
    assert "answers only to its token" in said
    assert not run.finished()
    assert not run.work.exists("trials")
