"""Leave one scanner out: trained on all others, validated on the patients of this one."""

import pandas as pd

from renal_ray.protocol.delong import auc_interval
from renal_ray.protocol.metrics import auc
from renal_ray.report.evidence import Evidence
from renal_ray.report.tables import Row, Table
from renal_ray.report.text import DASH, POOLED, dataset_name, two
from renal_ray.report.trials import Trial
from renal_ray.trial.decide import patient_scores
from renal_ray.types import Head

COLUMNS = (
    "dataset",
    "freeze_point",
    "scanner",
    "n_train",
    "n",
    "malignant",
    "auc_slice",
    "auc",
    "auc_lower_95",
    "auc_upper_95",
    "auc_within",
)


def scanner_table(evidence: Evidence) -> Table:
    """Validation of the image-level models on a scanner that training never saw, beside
    cross-validation on the same patients."""
    rows, data = [], []
    for trial in evidence.trials.beside:
        if trial.spec.sides is None or trial.spec.sides.scanner is None:
            continue
        patients = patient_scores(trial.validation)
        labels, scores = patients["label"].to_numpy(int), patients["score"].to_numpy(float)
        interval, malignant = auc_interval(labels, scores), int(labels.sum())
        per_slice, per_patient, within = (
            trial.metrics("slice")["auc"],
            auc(labels, scores),
            _within(evidence, trial),
        )
        bounds = (interval.lower, interval.upper) if interval else (None, None)
        shown = f" ({two(bounds[0])} to {two(bounds[1])})" if interval else ""
        trained = int(trial.result["n"]["train_patients"]) if "n" in trial.result else None
        counts = (
            str(trained) if trained is not None else DASH,
            f"{len(labels)} ({malignant} malignant)",
        )
        name = (dataset_name(trial.spec.dataset), trial.spec.sides.scanner)
        rows.append(
            Row((*name, *counts, two(per_slice), f"{two(per_patient)}{shown}", two(within)))
        )
        keys = (str(trial.spec.dataset), str(trial.spec.freeze_point), trial.spec.sides.scanner)
        data.append(
            dict(
                zip(
                    COLUMNS,
                    (
                        *keys,
                        trained,
                        len(labels),
                        malignant,
                        per_slice,
                        per_patient,
                        *bounds,
                        within,
                    ),
                    strict=True,
                )
            )
        )
    return Table(
        name="leave-one-scanner-out",
        title=(
            "Leave one scanner out: image-level models, validated on a "
            "scanner that they were not trained on"
        ),
        columns=(
            "Dataset",
            "Left out",
            "Trained on",
            "Validated on",
            "AUC, per slice",
            "AUC, per patient (95 % CI)",
            "Cross-validated",
        ),
        rows=tuple(rows),
        data=pd.DataFrame(data, columns=list(COLUMNS)),
        left=2,
        notes=(
            "At the selected freeze point; training patients only. 95 % CI: DeLong, over "
            "patients. Cross-validated: the AUC per patient that the study's own "
            "fold models give the same patients, pooled over folds; those models "
            "were trained on patients of this scanner too.",
            (
                "The freeze point was selected on all training patients, those "
                f"left out among them: optimistic. {POOLED}"
            ),
        ),
    )


def _within(evidence: Evidence, trial: Trial) -> float | None:
    """AUC per patient of the same patients when the study's fold models score them out of fold;
    None while folds are missing."""
    cell = evidence.cell(trial.spec.dataset, trial.spec.freeze_point, Head.IMAGE)
    wanted = set(trial.validation["patient_id"])
    pooled = [
        patient_scores(one.validation[one.validation["patient_id"].isin(wanted)]) for one in cell
    ]
    table = pd.concat(pooled) if pooled else pd.DataFrame(columns=["patient_id", "label", "score"])
    if set(table["patient_id"]) != wanted:
        return None
    return auc(table["label"].to_numpy(int), table["score"].to_numpy(float))
