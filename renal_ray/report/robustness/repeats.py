"""Repeats of the study: how much seeds and the drawing of folds move its means, apart from how much
folds differ."""

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from renal_ray.protocol.metrics import mean_sd
from renal_ray.report.evidence import Evidence
from renal_ray.report.tables import Row, Table, levels, model_name
from renal_ray.report.text import counted, dataset_name, two
from renal_ray.report.trials import Trial
from renal_ray.types import Dataset, FreezePoint, Head

SHOWN = ("auc", "acc")


def of_repeats(
    evidence: Evidence, dataset: Dataset, point: FreezePoint, head: Head
) -> dict[int, list[Trial]]:
    """The trials of one cell by repeat, 0 being the study's own; a repeat that lacks a fold is left
    out."""
    cells = {0: evidence.cell(dataset, point, head)}
    for trial in evidence.trials.repeats:
        if (trial.spec.dataset, trial.spec.freeze_point, trial.spec.head) == (
            dataset,
            point,
            head,
        ) and trial.spec.sides is not None:
            cells.setdefault(trial.spec.sides.repeat, []).append(trial)
    wanted = len(evidence.study.fold_numbers)
    return {repeat: trials for repeat, trials in sorted(cells.items()) if len(trials) == wanted}


def spread(values: Mapping[int, Sequence[float | None]]) -> dict[str, float | None]:
    """Two sources of variation of a metric, apart.

    Args:
        values: repeat -> one value a fold.

    Returns:
        mean: of the repeats' means. sd_repeats: sample SD of the repeats' means, which is what
            other seeds and folds would change. sd_folds: SD within
        a repeat, pooled: the root of the mean variance over folds.
    """
    each = [mean_sd(folds) for folds in values.values()]
    mean, sd = mean_sd([one for one, _ in each])
    within = [one**2 for _, one in each if one is not None]
    return {
        "mean": mean,
        "sd_repeats": sd,
        "sd_folds": math.sqrt(math.fsum(within) / len(within)) if within else None,
    }


def repeats_table(evidence: Evidence) -> Table:
    """Validation at the selected freeze point over all repeats: SD between repeats apart from SD
    between folds."""
    rows, data = [], []
    for dataset in evidence.study.datasets if evidence.study.repeats > 1 else []:
        point = evidence.selected.get(dataset)
        for head in evidence.study.heads.use if point else []:
            found = of_repeats(evidence, dataset, point, head) if point else {}
            if len(found) < 2:
                continue
            for level in levels(head):
                cells: list[str] = []
                numbers: dict[str, float | None] = {}
                for metric in SHOWN:
                    by_repeat = {
                        repeat: [trial.metrics(level)[metric] for trial in trials]
                        for repeat, trials in found.items()
                    }
                    told = spread(by_repeat)
                    cells += [
                        two(told["mean"]),
                        two(told["sd_repeats"], 3),
                        two(told["sd_folds"], 3),
                    ]
                    numbers |= {f"{metric}_{name}": value for name, value in told.items()}
                    numbers |= {
                        f"{metric}_repeat{repeat}": mean_sd(values)[0]
                        for repeat, values in by_repeat.items()
                    }
                rows.append(
                    Row((dataset_name(dataset), model_name(head, level), str(len(found)), *cells))
                )
                keys = {
                    "dataset": str(dataset),
                    "freeze_point": str(point),
                    "head": str(head),
                    "level": level,
                    "n_repeats": len(found),
                }
                data.append(keys | numbers)
    return Table(
        name="repeats",
        title=(
            "The study repeated with other seeds and folds, "
            f"{counted(evidence.study.repeats, 'repeat')}: validation at the selected "
            "freeze point"
        ),
        columns=(
            "Dataset",
            "Model",
            "Repeats",
            "AUC",
            "SD repeats",
            "SD folds",
            "ACC",
            "SD repeats",
            "SD folds",
        ),
        rows=tuple(rows),
        data=pd.DataFrame(
            data,
            columns=None
            if data
            else ["dataset", "freeze_point", "head", "level", "n_repeats", "auc_mean", "acc_mean"],
        ),
        left=2,
        notes=(
            "Every repeat deals the same training patients to other folds and draws other "
            "weights and samples; the sealed patients stay sealed. "
            "Mean of the repeats' means. SD repeats: between those means. SD folds: between the "
            "folds of a repeat, pooled. The freeze point is selected on "
            "the mean over all repeats; the vote on the sealed test is that "
            "of the study's own fold models (repeat 0).",
        ),
    )
