"""A cluster of three nodes, and what an undisturbed sweep on it gives."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from conftest import draw_patients, small_study, write_small_work

from cluster.network import REPOSITORY, Network, Nodes, driver, output, wait_until, why_not
from renal_ray.config import Study
from renal_ray.store.place import Place
from renal_ray.study_file import dump_study
from renal_ray.trial.plan import finished_results, make_plan

TIMES = ("table4", "speed")  # tables of the report that tell how long something took


@dataclass
class Run:
    """One study on the cluster, disturbed or not.

    Args:
        nodes: the cluster.
        study: the study; its work directory is prepared.
        file: its study file.
    """

    nodes: Nodes
    study: Study
    file: Path
    said: str = ""
    seconds: float = 0.0
    codes: list[int] = field(default_factory=list)
    kept: dict[str, bytes] = field(
        default_factory=dict
    )  # result.json of what was finished at the fault
    process: subprocess.Popen[str] | None = None
    _begun: float = 0.0

    @property
    def work(self) -> Place:
        return Place(self.study.work)

    def start(self) -> None:
        """The command that a person would type, and types again."""
        self._begun = monotonic()
        self.process = driver(self.nodes, ["sweep", str(self.file)])

    def end(self) -> int:
        """Waits for it."""
        assert self.process is not None
        code, said = output(self.process)
        self.seconds += monotonic() - self._begun
        self.said += said
        self.codes.append(code)
        return code

    def finished(self) -> dict[str, bytes]:
        """result.json of every finished trial."""
        return {
            name: self.work.read(f"trials/{name}/result.json")
            for name in finished_results(self.work)
        }

    def in_the_middle(self, *, finished: int = 1) -> None:
        """Waits until some trials are finished and another one runs that has been written down;
        notes what is finished."""
        assert self.process is not None
        process = self.process

        def there() -> bool:
            assert process.poll() is None, process.communicate()
            done = self.finished()
            running = {
                path.parent.name for path in self.work.path("trials").glob("*/checkpoint.json")
            } - done.keys()
            return len(done) >= finished and bool(running)

        wait_until(there, "the middle of the sweep", seconds=300)
        self.kept = self.finished()

    def running(self) -> set[str]:
        """Trials that have begun and are not finished."""
        return {
            path.parent.name for path in self.work.path("trials").glob("*/claim.txt")
        } - self.finished().keys()

    def again(self) -> None:
        """The same command until it has nothing left to do."""
        for _ in range(2):
            if self.codes[-1] == 0:
                return
            self.start()
            self.end()
        assert self.codes[-1] == 0, self.said

    def outcome(self) -> dict[str, Any]:
        """Everything that the finished study says, without times."""
        results = finished_results(self.work)
        code, said = output(driver(self.nodes, ["test", str(self.file)]))
        assert code == 0, said
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                "from renal_ray.cli import main; main()",
                "report",
                str(self.file),
            ],
            cwd=REPOSITORY,
            env=self.nodes.environment,
            capture_output=True,
            encoding="utf-8",
        )
        assert done.returncode == 0, done.stderr
        tables = {
            path.name: path.read_text(encoding="utf-8")
            for path in sorted(self.work.path("report/tables").glob("*.csv"))
            if not path.name.startswith(TIMES)
        }
        assert len(tables) >= 5
        return {
            "levels": {name: result["levels"] for name, result in sorted(results.items())},
            "files": {
                name: {k: v for k, v in result["files"].items() if k != "history.parquet"}
                for name, result in sorted(results.items())
            },
            "votes": self.work.read_parquet("test/votes.parquet").to_csv(),
            "tables": tables,
        }


@dataclass
class Cluster:
    """The cluster, a prepared study, and the outcome of its undisturbed run."""

    nodes: Nodes
    folder: Path
    template: Study
    expected: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    lost: list[dict[str, Any]] = field(default_factory=list)

    @property
    def small_disk(self) -> Path:
        """A file system of its own, there since before the nodes: what is mounted later they do not
        see."""
        return self.folder / "disk"

    def run(self, name: str, *, on_small_disk: bool = False, **changes: Any) -> Run:
        """A copy of the prepared study."""
        if on_small_disk:  # for one run at a time
            for one in self.small_disk.iterdir():
                shutil.rmtree(one)
        work = (self.small_disk if on_small_disk else self.folder) / name / "work"
        shutil.copytree(self.template.work, work, dirs_exist_ok=True)
        study = Study.model_validate(self.template.model_dump() | {"work": str(work)} | changes)
        file = self.folder / f"{name}.yaml"
        file.write_text(dump_study(study), encoding="utf-8")
        return Run(self.nodes, study, file)

    def check(self, run: Run, fault: str) -> None:
        """Nothing finished was repeated or lost, and the study says what an undisturbed one
        says."""
        finished = run.finished()
        assert len(finished) == make_plan(run.study, run.work).total()
        assert {name: finished[name] for name in run.kept} == run.kept, (
            "a finished trial was repeated"
        )
        outcome = run.outcome()
        for what, expected in self.expected.items():
            assert outcome[what] == expected, what
        self.lost.append(
            {
                "fault": fault,
                "commands": len(run.codes),
                "seconds": run.seconds,
                "lost_s": run.seconds - self.seconds,
            }
        )
        print(json.dumps(self.lost[-1]))


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if reason := why_not():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("cluster")
    short = Path(f"/tmp/rr{os.getpid()}")
    short.mkdir()
    disk = folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300m", "tmpfs", str(disk)], check=True)
    network = Network(f"rr{os.getpid()}", 3)
    nodes = Nodes(network, short / "ray")
    try:
        for node in range(3):
            nodes.start(node)
        made = Cluster(nodes, folder, _template(folder / "template"))
        for name in (
            "cold",
            "undisturbed",
        ):  # the first one makes the activations that all others find
            whole = made.run(name)
            whole.start()
            assert whole.end() == 0, whole.said
            made.expected, made.seconds = made.expected or whole.outcome(), whole.seconds
            shutil.copytree(
                whole.work.path("activations"),
                Path(made.template.work) / "activations",
                dirs_exist_ok=True,
            )
        made.check(whole, "none")
        yield made
        _keep(made)
    finally:
        nodes.close()
        network.close()
        subprocess.run(["umount", "--lazy", str(disk)], check=True)
        shutil.rmtree(short, ignore_errors=True)


def _template(work: Path) -> Study:
    """Twenty drawn patients: long image trials at mixed9, short ones at mixed10, heads; a
    checkpoint every second."""
    study = small_study(
        work,
        name="faults",
        backend="jax",
        freeze_points=["mixed9", "mixed10"],
        training={
            "epochs": {"image": 60, "fc": 20, "gru": 20},
            "batch_size": 8,
            "embedding": 32,
            "gru_units": 8,
        },
        resources={"cpus_per_trial": 1, "checkpoint_minutes": 1 / 60, "trial_timeout": 2},
    )
    write_small_work(study, draw_patients(20))
    return study


def _keep(made: Cluster) -> None:
    """Keeps the time that each fault cost, where `make cluster` asks for it."""
    if not os.environ.get("RENAL_RAY_KEEP_FAULTS"):
        return
    sys.path.insert(0, str(REPOSITORY / "benchmarks"))
    from keeping import keep

    keep(
        "faults",
        ("renal-ray", "ray", "keras", "jax"),
        {},
        undisturbed_s=made.seconds,
        trials=len(made.expected["levels"]),
        faults=made.lost,
    )
