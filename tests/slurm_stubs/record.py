"""What the stubs write down: one line of JSON a call, in the order of the calls."""

import json
import os
from pathlib import Path

HERE = Path(os.environ["STUB"])  # the test's directory
NODES = os.environ["STUB_NODES"].split()


def record(what: str, **said: object) -> None:
    """Adds one line; short ones are appended whole."""
    line = (
        json.dumps(
            {
                "what": what,
                "node": os.environ.get("SLURMD_NODENAME"),
                "job": os.environ["SLURM_JOB_ID"],
                **said,
            }
        )
        + "\n"
    )
    with (HERE / "calls.jsonl").open("a", encoding="utf-8") as file:
        file.write(line)


def alive() -> Path:
    """Directory with a file for each node of the job on which Ray runs."""
    path = HERE / f"alive-{os.environ['SLURM_JOB_ID']}"
    path.mkdir(exist_ok=True)
    return path
