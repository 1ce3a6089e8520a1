"""Peak memory of a command and of the processes that it starts."""

import subprocess
from pathlib import Path
from time import sleep

EVERY_S = 0.05
SERVER = "renal_ray.trial.serve"  # the module in whose processes trials run


def peak_of_command(command: list[str]) -> dict[str, float]:
    """Runs a command and samples the proportional set size of its processes.

    Args:
        command: argv.

    Returns:
        Peak MiB of `worker`, the largest of Ray's worker processes that run a task, of `driver`,
        the process itself, and, where trials run, of `trial`, the largest process under a worker.

    Raises:
        SystemExit: the command fails.
    """
    peaks = {"worker": 0.0, "driver": 0.0}
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, encoding="utf-8"
    ) as process:
        while process.poll() is None:
            for pid, title in _family(process.pid).items():
                if which := "driver" if pid == process.pid else _which(title):
                    peaks[which] = max(peaks.get(which, 0.0), _pss_mib(pid))
            sleep(EVERY_S)
        if process.returncode:
            raise SystemExit(f"{command} failed: {process.stderr.read() if process.stderr else ''}")
    return {name: round(value, 1) for name, value in peaks.items()}


def _which(title: str) -> str:
    if SERVER in title:
        return "trial"
    return "worker" if title.startswith("ray::") and "IDLE" not in title else ""


def _family(root: int) -> dict[int, str]:
    """Process ids of a process and its descendants, with their titles."""
    parents: dict[int, int] = {}
    titles: dict[int, str] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat = (folder / "stat").read_text(encoding="utf-8")
            titles[int(folder.name)] = (
                (folder / "cmdline").read_text(encoding="utf-8").replace("\0", " ")
            )
        except OSError:  # it ended meanwhile
            continue
        parents[int(folder.name)] = int(stat.rsplit(")", 1)[1].split()[1])

    def belongs(pid: int) -> bool:
        while pid in parents and pid != root:
            pid = parents[pid]
        return pid == root

    return {pid: titles[pid] for pid in titles if belongs(pid)}


def _pss_mib(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:")), 0.0)
