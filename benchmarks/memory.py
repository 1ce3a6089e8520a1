"""Peak memory of a command and of the processes that it starts."""

import subprocess
from pathlib import Path
from time import sleep

EVERY_S = 0.05


def peak_of_command(command: list[str]) -> dict[str, float]:
    """Runs a command and samples the proportional set size of its processes.

    Args:
        command: argv.

    Returns:
        Peak MiB of `worker`, the largest of Ray's worker processes that run a task, and of `driver`, the process itself.

    Raises:
        SystemExit: the command fails.
    """
    peaks = {"worker": 0.0, "driver": 0.0}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            for pid, name in _family(process.pid).items():
                which = "driver" if pid == process.pid else "worker" if name.startswith("ray::") and "IDLE" not in name else ""
                if which:
                    peaks[which] = max(peaks[which], _pss_mib(pid))
            sleep(EVERY_S)
        if process.returncode:
            raise SystemExit(f"{command} failed: {process.stderr.read() if process.stderr else ''}")
    return {name: round(value, 1) for name, value in peaks.items()}


def _family(root: int) -> dict[int, str]:
    """Process ids of a process and its descendants, with their titles."""
    parents: dict[int, int] = {}
    names: dict[int, str] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat = (folder / "stat").read_text()
            names[int(folder.name)] = (folder / "cmdline").read_text().split("\0")[0]
        except OSError:  # it ended meanwhile
            continue
        parents[int(folder.name)] = int(stat.rsplit(")", 1)[1].split()[1])

    def belongs(pid: int) -> bool:
        while pid in parents and pid != root:
            pid = parents[pid]
        return pid == root

    return {pid: names[pid] for pid in names if belongs(pid)}


def _pss_mib(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:")), 0.0)
