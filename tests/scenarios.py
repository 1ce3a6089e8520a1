"""Plays a scenario of tests/cluster/scenario.py in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


def play(name: str, folder: Path) -> Any:
    """Plays it in an empty folder.

    Args:
        name: of the scenario.
        folder: also the current directory of the process: Ray's workers look for modules in their
            driver's.

    Returns:
        What the scenario found.
    """
    path = os.pathsep.join([str(HERE.parent), str(HERE), str(HERE / "cluster")])
    env = {
        key: value
        for key, value in os.environ.items()
        if key not in ("RAY_ADDRESS", "CUDA_VISIBLE_DEVICES")
    } | {"PYTHONPATH": path}
    words = [sys.executable, str(HERE / "cluster" / "scenario.py"), name, str(folder)]
    done = subprocess.run(
        words, cwd=folder, env=env, capture_output=True, encoding="utf-8", check=False, timeout=600
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return json.loads((folder / "outcome.json").read_text(encoding="utf-8"))
