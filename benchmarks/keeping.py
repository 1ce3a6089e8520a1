"""Where benchmarks keep their results: JSON under benchmarks/results/, named by machine and holding the versions."""

import json
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
MACHINE = f"{platform.machine()}-{os.cpu_count()}cpu"


def keep(name: str, packages: tuple[str, ...], options: dict[str, Any], **measured: Any) -> Path:
    """Writes a result.

    Args:
        name: of the benchmark.
        packages: distributions whose versions belong to the result.
        options: what the script was called with.
        measured: the figures.
    """
    RESULTS.mkdir(exist_ok=True)
    head = {"machine": MACHINE, "python": platform.python_version(), "versions": {package: version(package) for package in packages}, "options": options}
    path = RESULTS / f"{name}-{MACHINE}.json"
    path.write_text(json.dumps(head | measured, indent=1, default=str) + "\n")
    return path
