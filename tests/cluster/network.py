"""A Ray cluster of nodes with addresses of their own on one machine: a network namespace a node,
joined by a bridge."""

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep

import psutil

PORT = 6379
PATIENCE_S = 120.0  # a bound on a hang, not a claim about speed
RAY = (sys.executable, "-c", "from ray.scripts.scripts import main; main()")
REPOSITORY = Path(__file__).resolve().parent.parent.parent


def why_not() -> str:
    """Why no such cluster can be made here; empty where it can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "no `ip` command (iproute2)"
    name = f"rr-try-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, encoding="utf-8")
    if made.returncode == 0:
        subprocess.run(["ip", "netns", "del", name], check=True)
    return "" if made.returncode == 0 else f"no network namespaces: {made.stderr.strip()}"


class Network:
    """Namespaces `<prefix>-0`, `<prefix>-1`, ... with the addresses 10.77.0.10, 10.77.0.11, ...,
    joined in `<prefix>-hub`.

    Args:
        prefix: of all names.
        nodes: how many.
    """

    def __init__(self, prefix: str, nodes: int) -> None:
        self.prefix = prefix
        self._hub = f"{prefix}-hub"
        _ip("netns", "add", self._hub)
        self._in(self._hub, "link", "add", "bridge", "type", "bridge")
        self._in(self._hub, "link", "set", "bridge", "up")
        self.nodes = nodes
        for node in range(nodes):
            space = self.space(node)
            _ip("netns", "add", space)
            self._in(
                self._hub,
                "link",
                "add",
                f"port{node}",
                "type",
                "veth",
                "peer",
                "name",
                "eth0",
                "netns",
                space,
            )
            self._in(self._hub, "link", "set", f"port{node}", "master", "bridge", "up")
            self._in(space, "addr", "add", f"{self.address(node)}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                self._in(space, "link", "set", device, "up")

    def space(self, node: int) -> str:
        """Name of a node's namespace."""
        return f"{self.prefix}-{node}"

    def address(self, node: int) -> str:
        """Address of a node."""
        return f"10.77.0.{10 + node}"

    def cut(self, node: int, *, back: bool = False) -> None:
        """Takes a node from the network, or gives it back."""
        self._in(self._hub, "link", "set", f"port{node}", "up" if back else "down")

    def close(self) -> None:
        """Deletes the namespaces; their processes must have ended."""
        for space in (*(self.space(node) for node in range(self.nodes)), self._hub):
            _ip("netns", "del", space)

    def _in(self, space: str, *command: str) -> None:
        _ip("-n", space, *command)


def _ip(*command: str) -> None:
    subprocess.run(["ip", *command], check=True, capture_output=True, encoding="utf-8")


class Nodes:
    """Ray on the nodes of a network: node 0 is the head, without CPUs; each other one has one CPU.

    Args:
        network: the network.
        folder: for Ray's own files.
    """

    def __init__(self, network: Network, folder: Path) -> None:
        self.network = network
        self._folder = folder
        self._started: dict[int, subprocess.Popen[bytes]] = {}
        self.token = secrets.token_hex(32)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        self.environment = kept | {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self.token,
            "RAY_USAGE_STATS_ENABLED": "0",
            "PYTHONPATH": str(REPOSITORY),
        }

    @property
    def address(self) -> str:
        """Where drivers find the cluster."""
        return f"{self.network.address(0)}:{PORT}"

    def start(self, node: int, *more: str) -> None:
        """Starts Ray on a node and waits until it has joined."""
        where = (
            ["--head", f"--port={PORT}", "--include-dashboard=false", f"--temp-dir={self._folder}"]
            if node == 0
            else [f"--address={self.address}"]
        )
        size = [
            f"--num-cpus={0 if node == 0 else 1}",
            f"--object-store-memory={100 * 2**20}",
            f"--node-ip-address={self.network.address(node)}",
        ]
        with (self._folder.parent / f"node-{node}.log").open("ab") as log:
            self._started[node] = subprocess.Popen(
                self.inside(
                    node, *RAY, "start", "--block", "--disable-usage-stats", *where, *size, *more
                ),
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until(lambda: self._has_joined(node), f"node {node} to join")

    def _has_joined(self, node: int) -> bool:
        assert self._started[node].poll() is None, (
            self._folder.parent / f"node-{node}.log"
        ).read_text(encoding="utf-8")[-2000:]
        return bool(self.processes(node, "raylet")) and (
            node == 0 or self.network.address(node) in self.alive()
        )

    def alive(self) -> list[str]:
        """Addresses of the nodes that the head counts as alive."""
        code = (
            f"import ray; ray.init('{self.address}', log_to_driver=False, logging_level='ERROR'); "
        )
        code += "print(*[node['NodeManagerAddress'] for node in ray.nodes() if node['Alive']])"
        done = subprocess.run(
            self.inside(0, sys.executable, "-c", code),
            env=self.environment,
            capture_output=True,
            encoding="utf-8",
            timeout=PATIENCE_S,
        )
        return done.stdout.split()

    def inside(self, node: int, *command: str) -> list[str]:
        """A command as it is run on a node."""
        return ["ip", "netns", "exec", self.network.space(node), *command]

    def processes(self, node: int, name: str = "") -> list[psutil.Process]:
        """Processes of Ray on a node whose title or command contains a name."""
        found = []
        if node in self._started:
            with suppress(psutil.NoSuchProcess):
                for process in psutil.Process(self._started[node].pid).children(recursive=True):
                    with suppress(psutil.NoSuchProcess):
                        if (
                            name in " ".join(process.cmdline())
                            and process.status() != psutil.STATUS_ZOMBIE
                        ):
                            found.append(process)
        return found

    def kill(self, node: int) -> None:
        """Kills all of Ray on a node at once, as a power cut would."""
        processes = self.processes(node)
        started = self._started.pop(node, None)
        if started is not None:
            started.kill()
            started.wait()
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(processes, timeout=20)

    def close(self) -> None:
        """Ends Ray on all nodes."""
        for node in sorted(self._started, reverse=True):
            self.kill(node)


def wait_until(true, what: str, *, seconds: float = PATIENCE_S, every: float = 0.2) -> None:
    """Waits for something to become true."""
    end = monotonic() + seconds
    while not true():
        assert monotonic() < end, f"waited {seconds:.0f} s in vain for {what}"
        sleep(every)


def output(process: subprocess.Popen[str], seconds: float = 600.0) -> tuple[int, str]:
    """Exit code and all that a driver said."""
    out, errors = process.communicate(timeout=seconds)
    return process.returncode, out + errors


def driver(nodes: Nodes, command: Sequence[str], *, token: bool = True) -> subprocess.Popen[str]:
    """A renal-ray command on the head's node."""
    environment = dict(nodes.environment)
    if not token:
        environment["RAY_AUTH_TOKEN"] = "0" * 64
    code = "from renal_ray.cli import main; main()"
    return subprocess.Popen(
        nodes.inside(0, sys.executable, "-c", code, *command, "--address", nodes.address),
        env=environment,
        cwd=REPOSITORY,
        encoding="utf-8",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
