"""The seal on the test patients: who opened it, when, for which models."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from renal_ray import __version__
from renal_ray.store.place import Place, digest

LOG = "test/seal.jsonl"
FIRST_RULE = {
    "calibrate": "none",
    "threshold": "youden",
}  # by which models decided before there was a choice, and do by default


class SealError(Exception):
    """A test patient was asked for outside the test: a defect of the program, never of the
    input."""


@dataclass(frozen=True)
class Seal:
    """Proof that the opening was written down; `open_seal` makes one, and `opened_before` finds it
    again."""

    opened: str


def was_opened_for(work: Place, models: Sequence[str], *, log: str = LOG) -> bool:
    """Whether the last opening was for exactly these models.

    Args:
        work: the study's work directory.
        models: checksums of their weights.
        log: where openings are written down.
    """
    last = _last(work, log)
    return last is not None and bool(last["models_sha256"] == digest(sorted(models)))


def last_rule(work: Place, *, log: str = LOG) -> dict[str, Any]:
    """The rule by which the models decided at the last opening; the default where none was said, or
    nothing was opened."""
    return dict((_last(work, log) or {}).get("rule", FIRST_RULE))


def read_log(work: Place, *, log: str = LOG) -> list[dict[str, Any]]:
    """Every line of the log: openings, which have the key `opened`, and changes of the cohort after
    the first, which have the key `changed`."""
    lines = work.read(log).decode().splitlines() if work.exists(log) else []
    return [dict(json.loads(line)) for line in lines if line.strip()]


def openings(work: Place, *, log: str = LOG) -> list[dict[str, Any]]:
    """Every opening, the first one first."""
    return [line for line in read_log(work, log=log) if "opened" in line]


def _last(work: Place, log: str = LOG) -> dict[str, Any] | None:
    return next(reversed(openings(work, log=log)), None)


def log_change(
    work: Place, what: str, *, test: Mapping[str, int], training: Mapping[str, int]
) -> None:
    """Writes down that the cohort changed after the seal was opened.

    Args:
        work: the study's work directory.
        what: the change in words, without ids.
        test: numbers of sealed patients who were withdrawn, relabelled and reread.
        training: the same of training patients.
    """
    changed = datetime.now(UTC).isoformat(timespec="seconds")
    entry = {
        "changed": changed,
        "what": what,
        "test": dict(test),
        "training": dict(training),
        "program": f"renal-ray {__version__}",
    }
    work.append_line(LOG, json.dumps(entry))


def was_reread(work: Place) -> bool:
    """Whether images or masks of test patients were exchanged since the last opening, so that what
    the models said was said of others."""
    log = read_log(work)
    last = max((place for place, line in enumerate(log) if "opened" in line), default=-1)
    return any(line["test"].get("reread") for line in log[last + 1 :] if "changed" in line)


def open_seal(
    work: Place,
    *,
    patients: int,
    slices: int,
    models: Sequence[str],
    rule: Mapping[str, Any] = FIRST_RULE,
    log: str = LOG,
    **more: Any,
) -> Seal:
    """Opens the seal: writes the opening to test/seal.jsonl first, then hands out the proof.

    Counting the votes of the same models under another rule is an opening too: the result was in
    view when the rule was chosen.

    Args:
        work: the study's work directory.
        patients: number of test patients.
        slices: number of their slices in one dataset.
        models: checksums of the weights that will be used.
        rule: how the models decide, see `renal_ray.trial.decide.rule_of`.
        log: where the opening is written down.
        more: what else is to be written down of it.

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
        "rule": dict(rule),
        **more,
        "program": f"renal-ray {__version__}",
    }
    work.append_line(log, json.dumps(entry))
    return Seal(opened)


def opened_before(work: Place, models: Sequence[str]) -> Seal | None:
    """The proof that the seal was opened, for who looks once more at what the same models did; None
    where it was not, or last for others.

    Args:
        work: the study's work directory.
        models: checksums of the weights that voted.
    """
    last = _last(work)
    return Seal(str(last["opened"])) if last is not None and was_opened_for(work, models) else None
