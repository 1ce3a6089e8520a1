"""The scored samples of a study's models: of validation out of fold, of the sealed test by the
vote."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from renal_ray.config import Study
from renal_ray.report.evidence import Evidence
from renal_ray.report.tables import levels, model_name
from renal_ray.report.text import DASH, dataset_name
from renal_ray.report.trials import Trial
from renal_ray.trial.decide import at_level, decision
from renal_ray.types import Dataset, FreezePoint, Head


@dataclass(frozen=True)
class Model:
    """What is scored: the fold models of one cell together, at one level.

    Args:
        dataset: slice, roi or rbr.
        freeze_point: last frozen layer.
        head: image, fc or gru.
        level: slice or patient.
    """

    dataset: Dataset
    freeze_point: FreezePoint
    head: Head
    level: str

    @property
    def name(self) -> str:
        """Head and level, as in the tables: Image-level, per patient."""
        return model_name(self.head, self.level)

    @property
    def full_name(self) -> str:
        """Dataset, head and level."""
        return f"{dataset_name(self.dataset)} {self.name}"

    def keys(self) -> dict[str, Any]:
        """Leading columns of every CSV."""
        return {
            "dataset": str(self.dataset),
            "freeze_point": str(self.freeze_point),
            "head": str(self.head),
            "level": self.level,
        }


@dataclass(frozen=True)
class Samples:
    """Samples that were scored without having been trained on, ordered by patient.

    Args:
        patients: (n,) patient of each sample, str; several slices have the same.
        labels: (n,) int, 1 malignant, 0 benign.
        scores: (n,) float64, P(malignant); of validation before calibration, of the test after it.
        decisions: (n,) int, at each fold model's own threshold; of the test, by the vote.
    """

    patients: NDArray[Any]
    labels: NDArray[np.int64]
    scores: NDArray[np.float64]
    decisions: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def has_both_classes(self) -> bool:
        """Whether there are malignant and benign samples."""
        return 0 < int(self.labels.sum()) < len(self.labels)

    @property
    def n_patients(self) -> int:
        """Different patients."""
        return len(set(self.patients))

    @property
    def counts(self) -> str:
        """Samples and, in brackets, patients; a dash where there are none."""
        return f"{len(self)} ({self.n_patients})" if len(self) else DASH

    def of(self, chosen: NDArray[np.bool_]) -> "Samples":
        """Some of the samples."""
        return Samples(
            self.patients[chosen], self.labels[chosen], self.scores[chosen], self.decisions[chosen]
        )


@dataclass(frozen=True)
class Scored:
    """A model with everything it was scored on.

    Args:
        model: which.
        folds: its finished trials, one a fold.
        validation: each training patient by the fold model not trained on that patient; empty
            without a finished fold.
        test: the sealed patients by the vote of the fold models; empty when they were not tested.
    """

    model: Model
    folds: tuple[Trial, ...]
    validation: Samples
    test: Samples


def scored(
    evidence: Evidence, dataset: Dataset, point: FreezePoint, head: Head, level: str
) -> Scored:
    """One model with its samples.

    Args:
        evidence: what the work directory says.
        dataset: slice, roi or rbr.
        point: last frozen layer; its test samples are there at the selected freeze point only.
        head: image, fc or gru.
        level: slice or patient.
    """
    trials = tuple(evidence.cell(dataset, point, head))
    tested = (
        evidence.votes(dataset, head, level)
        if evidence.selected.get(dataset) is point
        else pd.DataFrame()
    )
    return Scored(
        Model(dataset, point, head, level),
        trials,
        out_of_fold(trials, level, evidence.study),
        samples_of(tested),
    )


def selected_models(evidence: Evidence) -> Iterator[Scored]:
    """Every head of every dataset at its selected freeze point, the image head at both levels."""
    for dataset in evidence.study.datasets:
        if dataset in evidence.selected:
            for head in Head:
                if head in evidence.study.heads.use:
                    for level in levels(head):
                        yield scored(evidence, dataset, evidence.selected[dataset], head, level)


def out_of_fold(trials: Sequence[Trial], level: str, study: Study) -> Samples:
    """The validation samples of all folds together, each by the one model that did not train on its
    patient.

    Args:
        trials: one a fold.
        level: slice or patient; a patient's score by the image head is the mean over the slices.
        study: its rule decides.
    """
    return samples_of(
        pd.concat([fold_samples(trial, level, study) for trial in trials], ignore_index=True)
        if trials
        else pd.DataFrame()
    )


def fold_samples(trial: Trial, level: str, study: Study) -> pd.DataFrame:
    """The validation samples of one fold: patient_id, label, score, decision.

    Args:
        trial: a finished trial.
        level: slice or patient.
        study: its rule decides.
    """
    table = at_level(trial.spec, trial.validation, level)
    # Not calibrated: the calibrator was fitted on these very labels, and would bring the folds in
    # line with each other by them.
    scores = table["score"].astype("float64")
    called = (
        scores >= trial.threshold(level)
        if study.calibrate == "none"
        else decision(trial.spec, trial.validation, study, level).malignant(scores)
    )
    return table.assign(score=scores, decision=np.asarray(called).astype("int64"))


def paired(first: Samples, second: Samples) -> tuple[NDArray[Any], NDArray[Any]]:
    """Places of the patients who are in both, for comparisons of two patient-level models on the
    same patients.

    Args:
        first: one sample a patient.
        second: one sample a patient.

    Returns:
        Two (n,) index arrays, in the same order of patients.
    """
    _, here, there = np.intersect1d(
        first.patients.astype(str),
        second.patients.astype(str),
        assume_unique=True,
        return_indices=True,
    )
    return here, there


def samples_of(table: pd.DataFrame) -> Samples:
    """Samples from a table with patient_id, label, score, decision and, where they are slices,
    slice_index."""
    if table.empty:
        return Samples(
            np.empty(0, object), np.empty(0, np.int64), np.empty(0), np.empty(0, np.int64)
        )
    ordered = table.sort_values(
        [name for name in ("patient_id", "slice_index") if name in table], kind="stable"
    )
    return Samples(
        patients=ordered["patient_id"].to_numpy(object),
        labels=ordered["label"].to_numpy(np.int64),
        scores=ordered["score"].to_numpy(np.float64),
        decisions=ordered["decision"].to_numpy(np.int64),
    )
