"""The learning curve: what fewer training patients would have given."""

from dataclasses import dataclass

import pandas as pd

from renal_ray.protocol.metrics import mean_sd
from renal_ray.report.evidence import Evidence
from renal_ray.report.tables import Row, Table, levels
from renal_ray.report.text import dataset_name, plus_minus
from renal_ray.report.trials import Trial
from renal_ray.types import Dataset, Head


@dataclass(frozen=True)
class CurvePoint:
    """One share of the training patients.

    Args:
        share: of each fold's training patients.
        patients: how many they are, mean over folds.
        trials: of the folds that are finished.
    """

    share: float
    patients: float
    trials: tuple[Trial, ...]

    def auc(self, level: str) -> tuple[float | None, float | None]:
        """Mean and SD of the validation AUC over folds."""
        return mean_sd([trial.metrics(level)["auc"] for trial in self.trials])


def learning_curve(evidence: Evidence, dataset: Dataset) -> list[CurvePoint]:
    """The points of a dataset from few patients to all; empty without a finished trial on a
    share."""
    by_share: dict[float, list[Trial]] = {}
    for trial in evidence.trials.beside:
        if (
            trial.spec.dataset is dataset
            and trial.spec.sides is not None
            and trial.spec.sides.share < 1
        ):
            by_share.setdefault(trial.spec.sides.share, []).append(trial)
    point = evidence.selected.get(dataset)
    if by_share and point:
        by_share[1.0] = evidence.cell(dataset, point, Head.IMAGE)
    return [
        CurvePoint(share, _patients(evidence, trials, share), tuple(trials))
        for share, trials in sorted(by_share.items())
        if trials
    ]


def _patients(evidence: Evidence, trials: list[Trial], share: float) -> float:
    """Training patients, mean over folds, as the trials were fed."""
    told: list[int] = [
        trial.result["n"]["train_patients"] for trial in trials if "n" in trial.result
    ]
    if len(told) == len(trials):
        return sum(told) / len(told)
    return (
        share
        * sum(len(evidence.splits.fold(trial.spec.fold).train) for trial in trials)
        / len(trials)
    )


def learning_table(evidence: Evidence) -> Table:
    """Validation AUC of the image-level models by share of the training patients."""
    rows, data = [], []
    for dataset in evidence.study.datasets:
        for point in learning_curve(evidence, dataset):
            aucs = {level: point.auc(level) for level in levels(Head.IMAGE)}
            told = (f"{100 * point.share:g} %", f"{point.patients:.0f}", str(len(point.trials)))
            rows.append(
                Row(
                    (
                        dataset_name(dataset),
                        *told,
                        *(plus_minus(*aucs[level]) for level in levels(Head.IMAGE)),
                    )
                )
            )
            keys = {
                "dataset": str(dataset),
                "freeze_point": str(point.trials[0].spec.freeze_point),
                "share": point.share,
            }
            numbers = {
                f"auc_{level}_{part}": value
                for level, pair in aucs.items()
                for part, value in zip(("mean", "sd"), pair, strict=True)
            }
            data.append(
                keys | {"train_patients": point.patients, "n_folds": len(point.trials)} | numbers
            )
    return Table(
        name="learning-curve",
        title=(
            "Learning curve: image-level models on a share of each fold's "
            "training patients, validated on the same fold"
        ),
        columns=("Dataset", "Share", "Patients", "Folds", "AUC, per slice", "AUC, per patient"),
        rows=tuple(rows),
        data=pd.DataFrame(
            data,
            columns=None
            if data
            else ["dataset", "freeze_point", "share", "train_patients", "n_folds"],
        ),
        notes=(
            "Shares are nested and hold both classes alike: a larger one adds patients. Mean ± "
            "SD over folds; 100 %: the study's own trials, on which the "
            "freeze point was selected, so that the end of the curve is a little optimistic.",
        ),
    )
