"""Where benchmarks keep their results: JSON under benchmarks/results/, named by machine and holding
the versions."""

import json
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
MACHINE = f"{platform.machine()}-{os.cpu_count()}cpu"


def keep(
    name: str,
    packages: tuple[str, ...],
    options: dict[str, Any],
    *,
    machine: str = MACHINE,
    **measured: Any,
) -> Path:
    """Writes a result.

    Args:
        name: of the benchmark.
        packages: distributions whose versions belong to the result; those that are not installed
            are left out.
        options: what the script was called with.
        machine: names the file.
        measured: the figures.
    """
    RESULTS.mkdir(exist_ok=True)
    head = {
        "machine": machine,
        "python": platform.python_version(),
        "versions": _versions(packages),
        "options": options,
    }
    path = RESULTS / f"{name}-{machine}.json"
    path.write_text(json.dumps(head | measured, indent=1, default=str) + "\n", encoding="utf-8")
    return path


def _versions(packages: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
