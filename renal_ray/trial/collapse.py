"""Models that learnt nothing: one score, one answer for everybody, or a loss that left all
bounds."""

import io
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from math import isfinite, log
from typing import Any

import pyarrow.parquet as pq

from renal_ray.store.ledger import Ledger
from renal_ray.store.place import Place
from renal_ray.trial.plan import Plan, Results
from renal_ray.trial.spec import TrialSpec, main_level
from renal_ray.types import Dataset, FreezePoint, Head

Cell = tuple[Dataset, FreezePoint, Head]
DIVERGED = 10.0  # times the first epoch's loss, or that of a coin where it is larger
COIN = log(2)  # cross-entropy of the score 0.5


def collapsed(plan: Plan, results: Results, work: Place) -> dict[str, str]:
    """Which finished trials of the study's tables learnt nothing.

    Args:
        plan: the study's.
        results: of all finished trials.
        work: the study's work directory.

    Returns:
        trial_id -> in words, why its numbers are those of no model: by the training loss of the
        last epoch, the AUC and the decisions on its validation fold.

    Raises:
        DamagedFileError: a trial's history is not what was written.
    """
    ledger = Ledger(work)
    specs = [spec for spec in plan.specs(results) if not spec.apart and spec.trial_id in results]
    found = {
        spec.trial_id: _why(spec, results[spec.trial_id], _losses(ledger, spec)) for spec in specs
    }
    return {trial_id: why for trial_id, why in found.items() if why}


def dead_cells(plan: Plan, results: Results, trial_ids: Collection[str]) -> list[Cell]:
    """The cells that vote on the sealed patients, and most of whose fold models learnt nothing.

    Args:
        plan, results: as for `collapsed`.
        trial_ids: of the trials that learnt nothing.

    Returns:
        Dataset, freeze point and head of each, in the plan's order.
    """
    cells: dict[Cell, list[bool]] = defaultdict(list)
    for spec in plan.specs(results):
        if not spec.apart and plan.selected(spec.dataset, results) is spec.freeze_point:
            cells[spec.dataset, spec.freeze_point, spec.head].append(spec.trial_id in trial_ids)
    return [cell for cell, dead in cells.items() if sum(dead) > len(dead) / 2]


def summary(reasons: Mapping[str, str]) -> str:
    """One sentence on the models that learnt nothing, and what to do."""
    first, why = next(iter(reasons.items()))
    models = "1 model" if len(reasons) == 1 else f"{len(reasons)} models"
    return (
        f"{models} learnt nothing, the first {first} ({why}): such "
        "numbers are those of a coin or a constant; "
        "look at the training curves, and try a smaller training.learning_rate or more epochs"
    )


def _losses(ledger: Ledger, spec: TrialSpec) -> Sequence[float]:
    table = pq.read_table(
        io.BytesIO(ledger.read_checked(spec.trial_id, "history.parquet")), columns=["epoch", "loss"]
    )
    return [float(loss) for loss in table.to_pandas().sort_values("epoch")["loss"]]


def _why(spec: TrialSpec, result: Mapping[str, Any], losses: Sequence[float]) -> str:
    metrics = result["levels"][main_level(spec.head)]["metrics"]
    if not (isfinite(losses[-1]) and losses[-1] <= DIVERGED * max(losses[0], COIN)):
        return f"its training loss went from {losses[0]:.2g} to {losses[-1]:.2g}"
    if {metrics["sen"], metrics["spec"]} == {0.0, 1.0}:
        return "it decides the same for everybody in its validation fold"
    return ""
