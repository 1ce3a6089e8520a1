"""Several raylets on this machine, their cards logical, and a driver: `python scenario.py NAME
FOLDER` plays one scenario and writes outcome.json.

A process of its own, because a process belongs to one Ray cluster at a time.
"""

import importlib.metadata
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from unittest.mock import patch

import light
import numpy as np
import psutil
from conftest import draw_patients, small_study, write_small_work
from s3_server import s3_server

import renal_ray
from renal_ray.config import Study
from renal_ray.problems import StudyError
from renal_ray.store import activations
from renal_ray.store.place import Place
from renal_ray.store.slices import Slices
from renal_ray.sweep import scaling
from renal_ray.trial.packing import Share
from renal_ray.trial.plan import Plan, finished_results, make_plan
from renal_ray.trial.probe import KindCost, Probe, setting, write_probe

Nodes = dict[str, dict[str, Any]]  # name -> how it is started


@contextmanager
def raylets(nodes: Nodes, *, join: bool = True, **head: Any) -> Iterator[dict[str, Any]]:
    """Starts a head without CPUs and the nodes, and joins them unless told otherwise; yields the
    nodes by name."""
    import ray
    from ray.cluster_utils import Cluster

    scratch = tempfile.mkdtemp(
        prefix="rr-", dir="/tmp"
    )  # sockets lie in it, and their names must be short
    os.environ["RAY_TMPDIR"] = scratch
    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 0,
            "include_dashboard": False,
            "object_store_memory": 100 * 2**20,
        }
        | head,
    )
    try:
        started = {}
        for name, how in nodes.items():
            env = {"TEST_NODE": name} | how.pop("env_vars", {})
            started[name] = cluster.add_node(
                include_dashboard=False, object_store_memory=80 * 2**20, env_vars=env, **how
            )
        if join:
            ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        yield started
    finally:
        ray.shutdown()
        cluster.shutdown()
        for process in psutil.process_iter(
            ["cmdline"]
        ):  # nodes that an autoscaler started are not in the cluster's own list
            if (
                any(scratch in word for word in process.info["cmdline"] or ())
                and process.pid != os.getpid()
            ):
                process.kill()
        shutil.rmtree(scratch, ignore_errors=True)


def sweep_lightly(study: Study) -> list[dict[str, Any]]:
    """Sweeps with workers that train nothing; returns what each trial saw, with what it was
    promised."""
    from renal_ray.sweep import run
    from renal_ray.trial.packing import share
    from renal_ray.trial.probe import read_probe

    work = Place(study.work)
    with (
        patch.object(run, "StudyWorker", light.LightWorker),
        patch.object(run, "fill_activations", lambda *_, **__: None),
    ):
        swept = run.sweep(study)
    assert (swept.finished, swept.failed) == (swept.total, ()), swept
    results, plan, probe = finished_results(work), make_plan(study, work), read_probe(work, study)
    return [
        results[spec.trial_id]["seen"]
        | {
            "trial": spec.trial_id,
            "set": spec.activations.folder,
            "image": spec.head == "image",
            "gpu": share(study.resources, spec, probe).gpu,
        }
        for spec in plan.specs(results)
    ]


def placement(folder: Path) -> Any:
    """Trials of several shares on nodes of several sizes."""
    resources = {"cpus_per_trial": 2, "gpus_per_trial": 1, "trials_per_gpu": 4, "allow_cpu": True}
    study = small_study(
        folder / "work",
        datasets=["slice", "roi"],
        freeze_points=["mixed0", "mixed9", "mixed10"],
        resources=resources,
    )
    work, _ = write_small_work(study, draw_patients(24))
    cost = {"first_s": 1, "step_s": 1, "score_s": 1, "batch": 8, "memory_mib": 1}
    cards = {
        "image-mixed0": 380,
        "image-mixed9": 240,
        "image-mixed10": 10,
        "fc": 10,
    }  # of 1000 MiB; gru was not measured and has a card for itself
    kinds = {name: KindCost(**cost, gpu_memory_mib=mib) for name, mib in cards.items()}
    probe = Probe(
        setting=setting(study),
        device="d",
        gpu_memory_mib=1000,
        matrix_gflops={"float32": 1},
        prefix_first_s=1,
        prefix_s_per_image=1,
        read_mib_s=1,
        kinds=kinds,
    )
    write_probe(work, probe)
    os.environ["LIGHT_TRIAL_S"] = (
        "3"  # longer than a worker takes to start, so that trials meet on a card
    )
    nodes = {
        "two": {"num_cpus": 8, "num_gpus": 2},
        "one": {"num_cpus": 4, "num_gpus": 1},
        "small": {"num_cpus": 1, "num_gpus": 2},
    }
    with raylets(nodes):
        return sweep_lightly(study)


def locality(folder: Path) -> Any:
    """Trials on two nodes, each with a disk of its own, over a work directory in object storage."""
    os.environ["LIGHT_TRIAL_S"] = (
        # Longer than a worker takes to start, so that no node does all of them before the other's
        # is there.
        "8"
    )
    disks = {name: folder / name for name in ("a", "b")}
    for disk in disks.values():
        disk.mkdir()
    with s3_server() as server:
        study = small_study(
            server.uri("study"),
            freeze_points=["mixed9", "mixed10"],
            folds={"n": 4},
            heads={"use": ["image"]},
        )
        work, _ = write_small_work(study, draw_patients(40))
        sets = write_activations(work, make_plan(study, work), study)
        with raylets(
            {
                name: {"num_cpus": 2, "env_vars": {"TMPDIR": str(disk)}}
                for name, disk in disks.items()
            }
        ):
            seen = sweep_lightly(study)
        reads = {one: len([path for path in server.reads(".arrow") if one in path]) for one in sets}
    return {
        "seen": seen,
        "reads": reads,
        "copies": {name: len(list(disk.rglob("*.arrow"))) for name, disk in disks.items()},
    }


def write_activations(work: Place, plan: Plan, study: Study) -> list[str]:
    """Stands for the frozen layers; returns the folders."""
    [dataset] = study.datasets
    slices = Slices(work, dataset, sealed=plan.splits.test)
    patients = sorted(plan.splits.training)
    for which in plan.activation_sets(dataset):
        rows = [
            (one, slices.slice_index(one), np.zeros((slices.where[one].rows, 4), np.float32))
            for one in patients
        ]
        activations.write_part(work, which, "all", rows)
        activations.write_index(
            work, which, {"all": [(one, slices.where[one].rows) for one in patients]}
        )
    return [which.folder for which in plan.activation_sets(dataset)]


def refused(folder: Path) -> Any:
    """What preflight says of nodes that lack something; each case by name."""
    from renal_ray.sweep import fits, nodes
    from renal_ray.sweep.preflight import check_nodes, preflight

    def said(check: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
        try:
            check(*args, **kwargs)
        except StudyError as error:
            return str(error)
        return ""

    study = small_study(folder / "work")
    here, there = folder / "here", folder / "there"
    for place in (here, there):
        place.mkdir()
        (place / "weights.h5").write_bytes(place.name.encode())
    os.chdir(there)  # where the nodes are started, and their workers live
    found: dict[str, Any] = {}
    with raylets({"a": {"num_cpus": 2}, "b": {"num_cpus": 4, "num_gpus": 1}}) as started:
        import ray

        os.chdir(here)
        found["sound"] = said(preflight, study)
        found["left behind"] = [path.name for path in (folder / "work").iterdir()]
        # The same path, another directory on each side.
        found["not shared"] = said(check_nodes, small_study(Path("/proc/self/cwd/work")))
        weights = small_study(folder / "work", weights="/proc/self/cwd/weights.h5")
        found["other weights"] = said(check_nodes, weights, weights=weights.weights)
        (there / "weights.h5").unlink()
        found["no weights"] = said(check_nodes, weights, weights=weights.weights)
        found["no cohort"] = said(check_nodes, study, inputs=[Path("/proc/self/cwd/weights.h5")])
        found["too small"] = said(
            preflight,
            small_study(folder / "work", resources={"cpus_per_trial": 4, "gpus_per_trial": 2}),
        )
        holder = ray.remote(num_cpus=3)(Holder).remote()
        ray.get(holder.here.remote())
        with patch.object(fits, "IDLE_WITHIN_S", 2.0):
            found["busy"] = said(
                preflight, small_study(folder / "work", resources={"cpus_per_trial": 3})
            )
        ray.kill(holder)
        found["idle again"] = said(
            preflight, small_study(folder / "work", resources={"cpus_per_trial": 3})
        )
        raylet = started["a"].all_processes["raylet"][0].process.pid
        os.kill(raylet, signal.SIGSTOP)
        try:
            with patch.object(nodes, "PATIENCE_S", 3.0):
                found["stuck"] = said(check_nodes, study)
        finally:
            os.kill(raylet, signal.SIGCONT)
    return found


def client(folder: Path) -> Any:
    """A driver that comes by ray://."""
    from renal_ray.sweep.cluster import cluster, where_ray_is
    from renal_ray.sweep.preflight import preflight

    port = free_port()
    study = small_study(folder / "work", folds={"n": 4}, heads={"use": ["image"]})
    write_small_work(study, draw_patients(40))
    with (
        raylets({"a": {"num_cpus": 2}}, join=False, ray_client_server_port=port),
        cluster(study.resources, f"ray://127.0.0.1:{port}"),
    ):
        seen = where_ray_is(sweep_lightly, study)
        try:
            where_ray_is(preflight, small_study(folder / "work", resources={"cpus_per_trial": 64}))
        except StudyError as error:
            return {"seen": seen, "refused": str(error)}
    return None


def growing(folder: Path) -> Any:
    """A cluster whose autoscaler (Ray's own, over nodes that it starts on this machine) adds up to
    two nodes with a card."""
    import ray
    from ray._private.services import get_node_ip_address
    from ray.autoscaler._private.fake_multi_node.node_provider import (
        FAKE_HEAD_NODE_ID,
        FAKE_HEAD_NODE_TYPE,
    )

    from renal_ray.sweep import fits

    os.environ |= {
        "RAY_FAKE_CLUSTER": "1",
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "LIGHT_TRIAL_S": "8",
    }  # the second node comes some seconds after the first
    port = free_port()
    small, grown = {"CPU": 0}, {"CPU": 2, "GPU": 1, "object_store_memory": 80 * 2**20}
    phases = (
        "initialization",
        "setup",
        "head_setup",
        "worker_setup",
        "head_start_ray",
        "worker_start_ray",
    )
    unused: dict[str, list] = {
        key: []
        for key in (
            *(f"{phase}_commands" for phase in phases),
            "cluster_synced_files",
            "rsync_exclude",
            "rsync_filter",
        )
    }
    settings = unused | {
        "cluster_name": "growing",
        "max_workers": 2,
        "upscaling_speed": 1.0,
        "idle_timeout_minutes": 0.1,
        "provider": {
            "type": "fake_multinode",
            "gcs_address": f"{get_node_ip_address()}:{port}",
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
        },
        "available_node_types": {
            FAKE_HEAD_NODE_TYPE: {"resources": small, "node_config": {}, "max_workers": 0},
            "card": {"resources": grown, "node_config": {}, "min_workers": 0, "max_workers": 2},
        },
        "head_node_type": FAKE_HEAD_NODE_TYPE,
        "auth": {},
        "docker": {},
        "file_mounts": {},
        "file_mounts_sync_continuously": False,
    }
    config = folder / "autoscaler.json"
    config.write_text(json.dumps(settings), encoding="utf-8")

    def cards() -> float:
        return ray.cluster_resources().get("GPU", 0)

    def until(reached: Callable[[], bool]) -> bool:
        end = monotonic() + 90
        while not reached() and monotonic() < end:
            sleep(0.5)
        return reached()

    resources = {"cpus_per_trial": 1, "gpus_per_trial": 1, "allow_cpu": True}
    study = small_study(
        folder / "work", folds={"n": 4}, heads={"use": ["image"]}, resources=resources
    )
    write_small_work(study, draw_patients(40))
    found: dict[str, Any] = {}
    head = {"gcs_server_port": port, "autoscaling_config": str(config)}
    with raylets({}, **head, env_vars={"RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD_NODE_ID}):
        until(lambda: scaling.scaling().runs)
        with patch.object(fits, "SCALES_WITHIN_S", 5.0):
            try:
                fits.check_fits(study, [Share(1, 4)])
            except StudyError as error:
                found["never"] = str(error)
        found["seen"] = sweep_lightly(study)
        found["shrinks"] = until(lambda: cards() == 0)
        driver = subprocess.Popen(
            [sys.executable, __file__, "demand", str(folder)], stdout=subprocess.PIPE
        )
        assert driver.stdout is not None
        driver.stdout.readline()
        found["grows"] = until(lambda: cards() == 2)
        driver.kill()
        driver.wait()
        found["shrinks when the driver is killed"] = until(lambda: cards() == 0)
    return found


def demand(folder: Path) -> Any:
    """A driver that asks for two cards and would wait for ever."""
    import ray

    ray.init(address="auto", log_to_driver=False, logging_level="ERROR")
    with scaling.keeper() as actor:
        ray.get(actor.ask.remote([{"CPU": 1, "GPU": 1}] * 2))
        print("asked", flush=True)
        sleep(600)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def blind(folder: Path) -> Any:
    """A node that promises a card which NVML shows and no framework sees; what is said before any
    trial, on both backends, and where allow_cpu goes on."""
    from renal_ray.sweep.preflight import preflight
    from renal_ray.sweep.run import sweep
    from renal_ray.sweep.vote import test

    promised = {"cpus_per_trial": 1, "gpus_per_trial": 1}
    how: dict[str, Any] = {"folds": {"n": 2}, "heads": {"use": ["image"]}}
    studies = {
        backend: small_study(folder / "work", backend=backend, resources=promised, **how)
        for backend in ("tensorflow", "jax")
    }
    allowed = small_study(
        folder / "work", backend="jax", resources=promised | {"allow_cpu": True}, **how
    )
    work, _ = write_small_work(allowed, draw_patients(20))
    stub = Path(__file__).resolve().parent.parent / "nvml_stub"
    path = f"{stub}{os.pathsep}{os.environ['PYTHONPATH']}"
    found: dict[str, Any] = {}
    with raylets({"a": {"num_cpus": 2, "num_gpus": 1, "env_vars": {"PYTHONPATH": path}}}):
        for name, call in (
            ("tensorflow", lambda: sweep(studies["tensorflow"])),
            ("jax", lambda: preflight(studies["jax"])),
        ):
            try:
                call()
            except StudyError as error:
                found[name] = str(error)
        found["begun"] = work.path("trials").exists()
        with redirect_stdout(StringIO()) as said:
            found["seen"] = sweep_lightly(allowed)
        found["said"] = said.getvalue()
        try:
            test(studies["jax"])
        except StudyError as error:
            found["test"] = str(error)
        found["opened"] = work.path("test").exists()
    return found


class Holder:
    """Holds what it is promised."""

    def here(self) -> None:
        pass


def versions(folder: Path) -> Any:
    """A node with another Keras, and one whose checkout of renal-ray has a changed file."""
    from renal_ray.sweep.preflight import check_nodes

    study = small_study(folder / "work")
    changed, older = folder / "changed", folder / "older"
    shutil.copytree(
        Path(renal_ray.__file__).parent,
        changed / "renal_ray",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    with (changed / "renal_ray" / "types.py").open("a") as file:
        file.write("# another checkout\n")
    distribution = older / "keras-0.0.1.dist-info"
    distribution.mkdir(parents=True)
    (distribution / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: keras\nVersion: 0.0.1\n", encoding="utf-8"
    )
    path = os.environ["PYTHONPATH"]
    found = {"keras here": importlib.metadata.version("keras")}
    for name, first in (("changed", changed), ("older", older)):
        with raylets(
            {
                "a": {"num_cpus": 1},
                "b": {"num_cpus": 1, "env_vars": {"PYTHONPATH": f"{first}{os.pathsep}{path}"}},
            }
        ):
            try:
                check_nodes(study)
            except StudyError as error:
                found[name] = str(error)
    return found


SCENARIOS: dict[str, Callable[[Path], Any]] = {
    one.__name__: one
    for one in (placement, locality, refused, versions, client, blind, growing, demand)
}


def main(name: str, folder: Path) -> None:
    outcome = SCENARIOS[name](folder)
    (folder / "outcome.json").write_text(json.dumps(outcome), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
