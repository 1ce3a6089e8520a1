"""The voters on the sealed test: what each said of every patient, and how far they agreed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from renal_ray.protocol.agreement import fleiss_kappa, pairwise_agreement, spread
from renal_ray.report.evidence import Evidence
from renal_ray.report.statistics.samples import Model, Scored
from renal_ray.report.tables import Row, Table, group_row
from renal_ray.report.text import percent, two


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
    voters = evidence.voters(model.dataset, model.head, model.level).sort_values(
        ["fold", "patient_id"], kind="stable"
    )
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


def agreement_table(evidence: Evidence, models: Sequence[Scored]) -> Table:
    """Table S8: Fleiss' kappa and pairwise agreement of the fold models, per patient."""
    rows, data = [], []
    tested = [one for one in models if one.model.level == "patient" and len(one.test)]
    for dataset in evidence.study.datasets:
        of_dataset = [one for one in tested if one.model.dataset is dataset]
        rows += [group_row(evidence, dataset, 8)] if of_dataset else []
        for one in of_dataset:
            found = said(evidence, one.model)
            voters, n = found.decisions.shape
            if voters < 2:
                continue
            places = np.triu_indices(voters, 1)
            kappa, pairs = (
                fleiss_kappa(found.decisions),
                pairwise_agreement(found.decisions)[places],
            )
            unanimous = int((found.decisions.min(axis=0) == found.decisions.max(axis=0)).sum())
            sd = float(np.median(spread(found.scores).sd))
            cells = (
                percent(unanimous, n),
                two(kappa),
                two(float(pairs.mean())),
                f"{two(float(pairs.min()))} to {two(float(pairs.max()))}",
                two(sd, 3),
            )
            rows.append(Row((one.model.name, str(n), str(voters), *cells)))
            numbers = {
                "n": n,
                "n_voters": voters,
                "unanimous": unanimous,
                "fleiss_kappa": kappa,
                "median_sd_of_scores": sd,
            }
            spans = {
                "pairwise_mean": float(pairs.mean()),
                "pairwise_min": float(pairs.min()),
                "pairwise_max": float(pairs.max()),
            }
            named = {
                f"agree_fold{found.folds[a]}_fold{found.folds[b]}": float(share)
                for a, b, share in zip(*places, pairs, strict=True)
            }
            data.append(one.model.keys() | numbers | spans | named)
    return Table(
        name="voter-agreement",
        title="Table S8. Agreement of the voters on the sealed test, per patient",
        columns=(
            "Model",
            "Patients",
            "Voters",
            "Unanimous",
            "Fleiss' κ",
            "Pairwise agreement, mean",
            "Pairwise, lowest to highest",
            "Median SD of scores",
        ),
        rows=tuple(rows),
        data=pd.DataFrame(data),
        notes=(
            "Voters: the fold models, each with its own threshold. κ (Fleiss, Psychol Bull "
            "1971): 1 is perfect agreement, 0 is chance, a dash where all "
            "decisions are the same. Pairwise: share of patients on whom two voters agree. "
            "Median SD: of the voters' scores of a patient. The voters share "
            "most of their training patients, so that agreement is no proof of being right.",
        ),
    )


def scores_table(evidence: Evidence, models: Sequence[Scored]) -> Table:
    """Each voter's score and decision of each test patient, for CSV alone."""
    parts = []
    for scored in models:
        if scored.model.level == "patient" and len(scored.test):
            found = said(evidence, scored.model)
            vote = dict(zip(scored.test.patients, scored.test.decisions, strict=True))
            table = pd.DataFrame(
                {
                    "patient_id": found.patients,
                    "label": found.labels,
                    "mean_score": found.scores.mean(axis=0),
                }
            )
            table["vote"] = [int(vote[patient]) for patient in found.patients]
            for place, fold in enumerate(found.folds):
                table[f"score_fold{fold}"], table[f"decision_fold{fold}"] = (
                    found.scores[place],
                    found.decisions[place],
                )
            parts.append(
                table.assign(**scored.model.keys())[[*scored.model.keys(), *table.columns]]
            )
    data = (
        pd.concat(parts, ignore_index=True)
        if parts
        else pd.DataFrame(
            columns=["dataset", "freeze_point", "head", "level", "patient_id", "label"]
        )
    )
    return Table(
        name="test-scores-by-patient",
        title="Scores of the test patients by every voter",
        columns=(),
        rows=(),
        data=data,
    )
