"""The voters on the sealed test: what each said of every patient, and how far they agreed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from renal_ray.report.evidence import Evidence
from renal_ray.report.statistics.samples import Model, Scored
from renal_ray.report.tables import Table


@dataclass(frozen=True)
class Said:
    """What the fold models of one cell said of the test patients.

    Args:
        folds: (voters,) their folds.
        patients: (n,) in ascending order.
        labels: (n,) pathology.
        scores: (voters, n) P(malignant).
        decisions: (voters, n) at each voter's own threshold.
    """

    folds: tuple[int, ...]
    patients: tuple[str, ...]
    labels: NDArray[np.int64]
    scores: NDArray[np.float64]
    decisions: NDArray[np.int64]


def said(evidence: Evidence, model: Model) -> Said:
    """What each voter said of each test patient; the model has been tested.

    Args:
        evidence: what the work directory says.
        model: one scored per patient.
    """
    voters = evidence.voters(model.dataset, model.head, model.level).sort_values(["fold", "patient_id"], kind="stable")
    folds = sorted({int(fold) for fold in voters["fold"]})
    first = voters[voters["fold"] == folds[0]]
    shape = (len(folds), len(first))
    return Said(
        folds=tuple(folds),
        patients=tuple(str(patient) for patient in first["patient_id"]),
        labels=first["label"].to_numpy(np.int64),
        scores=voters["score"].to_numpy(np.float64).reshape(shape),
        decisions=voters["decision"].to_numpy(np.int64).reshape(shape),
    )


def scores_table(evidence: Evidence, models: Sequence[Scored]) -> Table:
    """Each voter's score and decision of each test patient, for CSV alone."""
    parts = []
    for scored in models:
        if scored.model.level == "patient" and len(scored.test):
            found = said(evidence, scored.model)
            vote = dict(zip(scored.test.patients, scored.test.decisions, strict=True))
            table = pd.DataFrame({"patient_id": found.patients, "label": found.labels, "mean_score": found.scores.mean(axis=0)})
            table["vote"] = [int(vote[patient]) for patient in found.patients]
            for place, fold in enumerate(found.folds):
                table[f"score_fold{fold}"], table[f"decision_fold{fold}"] = found.scores[place], found.decisions[place]
            parts.append(table.assign(**scored.model.keys())[[*scored.model.keys(), *table.columns]])
    data = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["dataset", "freeze_point", "head", "level", "patient_id", "label"])
    return Table(name="test-scores-by-patient", title="Scores of the test patients by every voter", columns=(), rows=(), data=data)
