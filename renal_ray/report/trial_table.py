"""Every finished trial in one table."""

import pandas as pd

from renal_ray.report.evidence import Evidence
from renal_ray.report.tables import Row, Table
from renal_ray.report.text import dataset_name, head_name, probability, two
from renal_ray.trial.plan import family
from renal_ray.trial.spec import main_level

COLUMNS = (
    "trial_id",
    "dataset",
    "freeze_point",
    "head",
    "fold",
    "family",
    "apart",
    "level",
    "threshold",
    "auc",
    "acc",
    "sen",
    "spec",
    "minutes",
    "finished",
)


def trial_table(evidence: Evidence) -> Table:
    """The trials that enter the report, those apart from the study's own folds last: validation at
    the level of the paper's tables, and their time."""
    rows, data = [], []
    for trial in evidence.trials.finished:
        spec, level = trial.spec, main_level(trial.spec.head)
        metrics, minutes = trial.metrics(level), float(trial.result["seconds"]["total"]) / 60
        threshold = trial.threshold(level)
        rows.append(
            Row(
                (
                    spec.trial_id,
                    dataset_name(spec.dataset),
                    str(spec.freeze_point),
                    head_name(spec.head),
                    str(spec.fold),
                    spec.apart or "study",
                    probability(threshold),
                    *(two(metrics[name]) for name in ("auc", "acc", "sen", "spec")),
                    two(minutes),
                )
            )
        )
        shared = {
            "trial_id": spec.trial_id,
            "dataset": str(spec.dataset),
            "freeze_point": str(spec.freeze_point),
            "head": str(spec.head),
            "fold": spec.fold,
        }
        data.append(
            {
                **shared,
                "family": family(spec),
                "apart": spec.apart,
                "level": level,
                "threshold": threshold,
                **metrics,
                "minutes": minutes,
                "finished": trial.result["finished"],
            }
        )
    return Table(
        name="all-trials",
        title="Finished trials",
        columns=(
            "Trial",
            "Dataset",
            "Frozen up to",
            "Model",
            "Fold",
            "Of",
            "Threshold",
            "AUC",
            "ACC",
            "SEN",
            "SPEC",
            "Minutes",
        ),
        rows=tuple(rows),
        data=pd.DataFrame(data, columns=list(COLUMNS)),
        left=6,
        notes=(
            (
                "Validation on the trial's own fold: image-level models per slice, FC and GRU "
                "models per patient. Labels: the patients' own, or a permutation."
            ),
        ),
    )
