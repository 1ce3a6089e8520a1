"""The Grafana dashboard's queries: each names what there is, and each finds something in a real
Prometheus while a real sweep runs."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
import yaml
from conftest import REPOSITORY, draw_patients, small_study, write_small_work
from test_trial_forecast import probe_for

from renal_ray.study_file import dump_study
from renal_ray.sweep.metrics import ENDED, GAUGES, KIND_TAGS, SECONDS
from renal_ray.trial.probe import write_probe

FOLDER = REPOSITORY / "cluster" / "dashboards"
ON_GPUS = (
    "ray_node_gpus_utilization",
    "ray_node_gram_used",
)  # without a card there is no such series
ADDED = {"le", "instance", "job"}  # labels of Prometheus itself


def panels() -> dict[str, list[str]]:
    """Panel -> its queries."""
    board = json.loads((FOLDER / "renal-ray.json").read_text(encoding="utf-8"))
    return {
        f"{panel['title']} ({panel['id']})": [target["expr"] for target in panel.get("targets", [])]
        for panel in board["panels"]
    }


def queries() -> list[str]:
    """Every query, with all values of every variable."""
    return [re.sub(r"\$\w+", ".*", expr) for exprs in panels().values() for expr in exprs]


def test_every_query_names_only_metrics_and_labels_that_there_are() -> None:
    from ray.dashboard.modules.reporter.reporter_agent import METRICS_GAUGES

    labels = {f"ray_{name}": set(tags) for name, (_, tags) in GAUGES.items()}
    labels |= {
        f"ray_{ENDED}_total": {*KIND_TAGS, "outcome"},
        f"ray_{SECONDS}_bucket": set(KIND_TAGS),
    }
    known = labels.keys() | {f"ray_{name}" for name in METRICS_GAUGES}
    for expr in queries():
        named = set(re.findall(r"\bray_\w+", expr))
        assert named, expr
        assert named <= known, expr
        used = set(re.findall(r"(\w+)(?:=~|!=|=)\"", expr)) | {
            one
            for group in re.findall(r"\b(?:by|on) \(([^)]*)\)", expr)
            for one in group.split(", ")
        }
        ours = [labels[name] for name in named if name in labels]
        assert all(used - ADDED <= has for has in ours), expr
    legends = {
        legend
        for panel in json.loads((FOLDER / "renal-ray.json").read_text(encoding="utf-8"))["panels"]
        for target in panel.get("targets", [])
        for legend in [target["legendFormat"]]
    }
    assert {label for legend in legends for label in re.findall(r"{{(\w+)}}", legend)} <= {
        *ADDED,
        "GpuIndex",
    }.union(*labels.values())


def test_what_is_summed_over_running_trials_leaves_out_those_that_have_just_ended() -> None:
    """Their gauges stay for half a minute; only the one that says whether they run is 0 at once."""
    summed = [
        expr
        for expr in queries()
        if re.search(r"(epoch|eta_seconds|images_per_second)\b", expr)
        and "ray_renal_trial_" in expr
    ]
    assert len(summed) >= 4
    assert all("and on (trial) (ray_renal_trial_running == 1)" in expr for expr in summed)


def test_every_one_of_our_metrics_is_shown() -> None:
    shown = {name for expr in queries() for name in re.findall(r"\bray_\w+", expr)}
    assert {f"ray_{name}" for name in GAUGES} | {
        f"ray_{ENDED}_total",
        f"ray_{SECONDS}_bucket",
    } <= shown


def test_the_board_can_be_imported_anywhere() -> None:
    board = json.loads((FOLDER / "renal-ray.json").read_text(encoding="utf-8"))
    numbers = [panel["id"] for panel in board["panels"]]
    assert len(numbers) == len(set(numbers))
    variables = {one["name"]: one for one in board["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    used = {
        name for expr in json.dumps(board).split('"') for name in re.findall(r"\$\{?(\w+)", expr)
    } - {"__all"}
    assert used <= variables.keys()
    for panel in board["panels"]:
        assert all(
            target["datasource"]["uid"] == "${datasource}" for target in panel.get("targets", [])
        )
    taken = [
        (panel["gridPos"]["x"] + dx, panel["gridPos"]["y"] + dy)
        for panel in board["panels"]
        for dx in range(panel["gridPos"]["w"])
        for dy in range(panel["gridPos"]["h"])
    ]
    assert len(taken) == len(set(taken))  # no panel lies on another
    assert max(x for x, _ in taken) < 24


def test_prometheus_reads_the_list_of_nodes_that_ray_writes() -> None:
    from ray._private.ray_constants import PROMETHEUS_SERVICE_DISCOVERY_FILE

    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text(encoding="utf-8"))
    [job] = config["scrape_configs"]
    assert job["file_sd_configs"][0]["files"] == [f"/tmp/ray/{PROMETHEUS_SERVICE_DISCOVERY_FILE}"]


@pytest.fixture(scope="module")
def scratch() -> Iterator[Path]:
    """Below /tmp, because the paths of Ray's sockets must be short."""
    folder = Path(tempfile.mkdtemp(prefix="rr"))
    yield folder
    shutil.rmtree(folder)


class Sweep:
    """A real sweep as a person starts it, with the dashboard on."""

    def __init__(self, scratch: Path) -> None:
        study = small_study(
            scratch / "work",
            freeze_points=["mixed9", "mixed10"],
            training={
                "epochs": {"image": 800, "fc": 600, "gru": 400},
                "batch_size": 8,
                "embedding": 32,
                "gru_units": 8,
            },
        )
        work, _ = write_small_work(study, draw_patients(24))
        write_probe(work, probe_for(study))  # the time that is left is told from the start
        (scratch / "study.yaml").write_text(dump_study(study), encoding="utf-8")
        self.environment = os.environ | {
            "RAY_TMPDIR": str(scratch),
            "PYTHONPATH": str(REPOSITORY),
            "RAY_AUTH_MODE": "token",
        }
        self.environment |= {"RAY_AUTH_TOKEN": "0123456789abcdef" * 4}
        self.output = (scratch / "sweep.log").open("w+")
        command = [
            sys.executable,
            "-c",
            "from renal_ray.cli import main; main()",
            "sweep",
            str(scratch / "study.yaml"),
            "--dashboard",
        ]
        self.process = subprocess.Popen(
            command, stdout=self.output, stderr=subprocess.STDOUT, env=self.environment
        )

    @property
    def said(self) -> str:
        return Path(self.output.name).read_text(encoding="utf-8")

    def running(self) -> bool:
        return self.process.poll() is None

    def dashboard(self) -> str:
        """Address of the dashboard, as the sweep said it."""
        until = monotonic() + 120
        while not (
            found := re.search(
                r"dashboard: (http://127\.0\.0\.1:\d+); it asks for the token", self.said
            )
        ):
            assert self.running(), self.said
            assert monotonic() < until, self.said
            sleep(0.2)
        return found[1]

    def listed(self, what: str) -> list[dict[str, Any]]:
        """Rows of `ray list`."""
        command = [
            sys.executable,
            "-m",
            "ray.scripts.scripts",
            "list",
            what,
            "--address",
            self.dashboard(),
            "--detail",
            "--format",
            "json",
            "--limit",
            "1000",
        ]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", env=self.environment)
        return json.loads(done.stdout) if done.returncode == 0 and done.stdout.strip() else []

    def end(self) -> None:
        if self.running():
            self.process.send_signal(signal.SIGINT)
            self.process.wait(60)
        self.output.close()


@pytest.fixture(scope="module")
def sweep(scratch: Path) -> Iterator[Sweep]:
    one = Sweep(scratch)
    yield one
    one.end()


@pytest.fixture(scope="module")
def prometheus(scratch: Path, sweep: Sweep) -> Iterator[str]:
    """Address of Debian's Prometheus with the shipped configuration, this sweep's directory put
    in."""
    binary = shutil.which("prometheus")
    if binary is None:
        pytest.skip("no prometheus here: apt-get install prometheus")
    text = (
        (FOLDER / "prometheus.yml")
        .read_text(encoding="utf-8")
        .replace("/tmp/ray/", f"{scratch}/ray/")
    )
    (scratch / "prometheus.yml").write_text(text, encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    log = (scratch / "prometheus.log").open("w")
    files = (
        f"--config.file={scratch / 'prometheus.yml'}",
        f"--storage.tsdb.path={scratch / 'tsdb'}",
    )
    process = subprocess.Popen(
        [binary, *files, f"--web.listen-address={address}"], stdout=log, stderr=log
    )
    yield f"http://{address}"
    process.terminate()
    process.wait(30)
    log.close()


def found(prometheus: str, expr: str) -> list[dict[str, Any]]:
    """Series that a query gives now; none while Prometheus is still coming up."""
    try:
        with urllib.request.urlopen(
            f"{prometheus}/api/v1/query?{urllib.parse.urlencode({'query': expr})}", timeout=10
        ) as answer:
            return list(json.load(answer)["data"]["result"])
    except (ConnectionError, urllib.error.URLError):
        return []


@pytest.mark.cluster
def test_the_dashboard_is_on_loopback_and_asks_for_the_token(sweep: Sweep) -> None:
    address = sweep.dashboard()
    assert address.startswith("http://127.0.0.1:")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{address}/api/v0/actors", timeout=10)
    assert refused.value.code in (401, 403)
    asked = urllib.request.Request(
        f"{address}/api/v0/actors",
        headers={"Authorization": f"Bearer {sweep.environment['RAY_AUTH_TOKEN']}"},
    )
    with urllib.request.urlopen(asked, timeout=30) as answer:
        assert answer.status == 200


@pytest.mark.cluster
def test_every_query_finds_something_while_a_sweep_runs(prometheus: str, sweep: Sweep) -> None:
    missing = {expr for expr in queries() if not any(name in expr for name in ON_GPUS)}
    assert len(missing) > 15
    until = monotonic() + 600
    while missing and sweep.running() and monotonic() < until:
        missing -= {expr for expr in missing if found(prometheus, expr)}
        sleep(2)
    assert missing == set(), sweep.said
    running = found(prometheus, "ray_renal_trial_running == 1")
    assert 1 <= len(running) <= 4, (
        running
    )  # two run at once; ones that have just ended are still there for some seconds
    assert {series["metric"]["dataset"] for series in running} == {"roi"}


@pytest.mark.cluster
def test_the_dashboard_names_workers_and_what_they_do(sweep: Sweep) -> None:
    until = monotonic() + 600
    name = r"roi-mixed\d+-(image|fc|gru)-fold[01]"
    while sweep.running() and monotonic() < until:
        actors = {
            actor["repr_name"]
            for actor in sweep.listed("actors")
            if actor["class_name"] == "StudyWorker"
        }
        tasks = {task["name"] for task in sweep.listed("tasks")}
        if (
            any(re.fullmatch(name + r" \((training|scoring) \d+/\d+\)", task) for task in tasks)
            and actors
        ):
            break
    assert any(re.fullmatch(name + r" \((training|scoring) \d+/\d+\)", task) for task in tasks), (
        tasks
    )
    assert actors
    assert all(re.fullmatch(f"trials from {name} on", actor) for actor in actors), actors


@pytest.mark.cluster
def test_a_sweep_s_series_end_with_its_trials(prometheus: str, sweep: Sweep) -> None:
    """Nothing that has ended looks as if it ran."""
    assert sweep.process.wait(900) == 0, sweep.said
    until = monotonic() + 60
    while running := found(prometheus, "ray_renal_trial_running == 1"):
        assert monotonic() < until, running
        sleep(1)
    assert found(prometheus, "last_over_time(ray_renal_trials_ended_total[1h])")
