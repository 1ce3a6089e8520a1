"""The seal on the test patients: who opened it, when, for which models."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from renal_ray import __version__
from renal_ray.store.place import Place, digest

LOG = "test/seal.jsonl"


class SealError(Exception):
    """A test patient was asked for outside the test: a defect of the program, never of the input."""


@dataclass(frozen=True)
class Seal:
    """Proof that the opening was written down; only `open_seal` makes one."""

    opened: str


def was_opened_for(work: Place, models: Sequence[str], *, log: str = LOG) -> bool:
    """Whether the last opening was for exactly these models.

    Args:
        work: the study's work directory.
        models: checksums of their weights.
        log: where openings are written down.
    """
    lines = work.read(log).decode().splitlines() if work.exists(log) else []
    return bool(lines) and bool(json.loads(lines[-1])["models_sha256"] == digest(sorted(models)))


def open_seal(work: Place, *, patients: int, slices: int, models: Sequence[str], log: str = LOG) -> Seal:
    """Opens the seal: writes the opening to test/seal.jsonl first, then hands out the proof.

    Args:
        work: the study's work directory.
        patients: number of test patients.
        slices: number of their slices in one dataset.
        models: checksums of the weights that will be used.
        log: where the opening is written down.

    Returns:
        What `Slices` asks for to read test patients.
    """
    opened = datetime.now(UTC).isoformat(timespec="seconds")
    entry = {
        "opened": opened,
        "patients": patients,
        "slices": slices,
        "models": len(models),
        "models_sha256": digest(sorted(models)),
        "program": f"renal-ray {__version__}",
    }
    work.append_line(log, json.dumps(entry))
    return Seal(opened)
