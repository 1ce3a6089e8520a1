"""A Ray that cannot start, or whose task's disk is full: one sentence with the remedy, whatever Ray
raises."""

import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from cluster_files import CLUSTER

from renal_ray.config import Resources
from renal_ray.problems import StudyError
from renal_ray.store.lock import this_process
from renal_ray.sweep.cluster import _joined, _remedy, _require_version, _started, study_errors
from renal_ray.sweep.sessions import MARK, mark_session, remove_sessions_of_the_dead

LONG = "x" * 110


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("TMPDIR", f"{{folder}}/{LONG}", "is too long for a socket in it: set TMPDIR"),
        ("HOME", "/proc/nowhere", "set both to folders that can be written"),
    ],
)
def test_surroundings_in_which_ray_cannot_start_are_told(
    name: str, value: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / LONG).mkdir()
    study = tmp_path / "study.yaml"
    study.write_text(
        yaml.safe_dump(
            {
                "name": "s",
                "work": str(tmp_path / "work"),
                "cohort": {"manifest": "people.csv"},
                "weights": "random",
            }
        ),
        encoding="utf-8",
    )
    surroundings = {key: text for key, text in os.environ.items() if not key.startswith("RAY_")} | {
        name: value.format(folder=tmp_path)
    }
    code = "from renal_ray.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "prepare", str(study)],
        env=surroundings,
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    [sentence] = [line for line in done.stderr.splitlines() if line.startswith("renal-ray:")]
    assert sentence.startswith("renal-ray: Ray cannot be started on this machine (")
    assert said in sentence
    assert "Traceback" not in done.stderr


def test_a_machine_that_starts_too_slowly_is_sent_to_the_logs() -> None:
    assert "session_latest/logs; a busy machine starts it too slowly" in _remedy(
        Exception("The current node timed out during startup.")
    )
    assert "resources.object_store_mb" in _remedy(ValueError("object_store_memory"))


@pytest.mark.parametrize("version", ["2.51.9", "2.9.3", "1.13.0"])
def test_a_ray_without_tokens_is_refused(version: str) -> None:
    with pytest.raises(
        StudyError,
        match=(
            f"Ray {version} is installed, which knows no token "
            "authentication; install Ray 2.52 or later"
        ),
    ):
        _require_version(version)


@pytest.mark.parametrize("version", ["2.52.0", "2.60.0", "3.0.0rc1"])
def test_later_ones_are_taken(version: str) -> None:
    _require_version(version)


@pytest.mark.parametrize(
    ("mode", "token", "address", "told"),
    [
        (None, False, None, "token"),
        (None, True, None, "token"),
        ("disabled", True, None, "disabled"),
        ("token", False, None, "token"),
        (None, False, "head:6379", "disabled"),
        (None, True, "head:6379", "disabled"),
        ("token", True, "head:6379", "token"),
        (None, False, "auto", "disabled"),
        (None, True, "auto", "token"),
        ("disabled", True, "auto", "disabled"),
        ("token", False, "auto", "token"),
    ],
)
def test_ray_is_told_how_to_authenticate_whatever_its_default_is(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    mode: str | None,
    token: bool,
    address: str | None,
    told: str,
) -> None:
    import ray

    seen, read = [], []
    monkeypatch.setattr(
        "ray._raylet.Config",
        SimpleNamespace(initialize=lambda _: read.append(os.environ["RAY_AUTH_MODE"])),
    )

    def init(**_: object) -> None:
        seen.append(os.environ.get("RAY_AUTH_MODE"))
        raise ConnectionError("nobody there")

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_AUTH_MODE", mode or "")  # so that it is as before after the test
    if mode is None:
        monkeypatch.delenv("RAY_AUTH_MODE")
    if token:
        (tmp_path / ".ray").mkdir()
        (tmp_path / ".ray" / "auth_token").write_text("secret", encoding="utf-8")
    with pytest.raises(StudyError):
        _started(Resources(), dashboard=False) if address is None else _joined(address)
    assert seen == [told]
    assert read == ([told] if mode is None else []), (
        "Ray read its environment when it was imported, and must be told that it is another"
    )


def test_no_file_leaves_the_mode_to_the_default_of_ray() -> None:
    """Every line that starts Ray, joins one or runs a driver on one has the mode before it, or
    stands where it is exported."""
    starts = re.compile(r"\bray start\b|renal-ray run [^|`]*--address")
    for path in sorted(CLUSTER.rglob("*")):
        if (
            not path.is_file() or path.suffix == ".lock" or "kuberay" in path.parts
        ):  # pods get it from env, see test_cluster_kuberay
            continue
        text = path.read_text(encoding="utf-8")
        exported = re.search(r"^export RAY_AUTH_MODE=token\b", text, re.MULTILINE)
        for line in text.splitlines():
            command = starts.search(line)
            if (
                command
                and not line.lstrip().startswith(("#", "|"))
                and not line[: command.start()].rstrip().endswith("`")
            ):
                assert exported or "RAY_AUTH_MODE=token" in line[: command.start()], (
                    f"{path.name}: {line}"
                )


class TaskError(Exception):
    """As Ray raises what a task raised."""

    def __init__(self, cause: Exception) -> None:
        super().__init__("a remote traceback of many lines")
        self.cause = cause


def test_a_full_disk_in_a_task_is_one_sentence() -> None:
    with (
        pytest.raises(
            StudyError, match="No space left on device; what was finished is kept"
        ) as caught,
        study_errors(),
    ):
        raise TaskError(TaskError(OSError(errno.ENOSPC, "No space left on device")))
    assert caught.value.__suppress_context__
    with pytest.raises(TaskError), study_errors():
        raise TaskError(FileNotFoundError(errno.ENOENT, "No such file"))


def test_sessions_of_the_dead_are_removed_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    names = ("mine", "dead", "another_boot", "cut_off", "strange")
    folders = {name: tmp_path / "ray" / f"session_{name}" for name in names}
    for folder in folders.values():
        (folder / "logs").mkdir(parents=True)
    mark_session(folders["mine"])
    living = this_process()
    dead = living | {"after_boot_s": living["after_boot_s"] - 100}
    (folders["dead"] / MARK).write_text(json.dumps(dead), encoding="utf-8")
    (folders["another_boot"] / MARK).write_text(
        json.dumps(dead | {"kernel": ["another", "pid:[1]"]}), encoding="utf-8"
    )
    (folders["cut_off"] / MARK).write_text('{"host": ', encoding="utf-8")
    (tmp_path / "ray" / "session_latest").symlink_to(folders["dead"])
    remove_sessions_of_the_dead()
    assert {name for name, folder in folders.items() if folder.exists()} == {
        "mine",
        "another_boot",
        "cut_off",
        "strange",
    }
