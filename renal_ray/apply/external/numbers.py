"""What the votes on an external cohort come to, per patient, by the functions of the study's own
report."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pandas as pd

from renal_ray.config import Study
from renal_ray.protocol.calibration import (
    CalibrationLine,
    Reliability,
    brier,
    expected_calibration_error,
    reliability,
    slope_and_intercept,
)
from renal_ray.protocol.metrics import Confusion, confusion
from renal_ray.report.statistics.calibration import n_bins
from renal_ray.report.statistics.estimates import Estimate, estimates
from renal_ray.report.statistics.samples import Samples, samples_of
from renal_ray.types import DATASETS, HEADS, Dataset, Head


@dataclass(frozen=True)
class Result:
    """The vote of one dataset's fold models with one head.

    Args:
        dataset, freeze_point, head: whose.
        samples: one a patient.
        confusion: of the vote.
        estimates: metric -> value with its 95 % interval; AUC of the mean score, the others of the
            vote.
        brier, ece: of the mean score.
        line: calibration slope and intercept.
        curve: reliability.
    """

    dataset: Dataset
    freeze_point: str
    head: Head
    samples: Samples
    confusion: Confusion
    estimates: Mapping[str, Estimate]
    brier: float
    ece: float
    line: CalibrationLine
    curve: Reliability

    @property
    def n(self) -> int:
        """Patients."""
        return len(self.samples)

    @property
    def malignant(self) -> int:
        """Patients with a malignant tumour."""
        return int(self.samples.labels.sum())


def results(votes: pd.DataFrame, study: Study) -> Iterator[Result]:
    """The numbers of every dataset and head, in their order.

    Args:
        votes: rows of votes.parquet; those per patient are used, because slices of a patient are
            not independent.
        study: how its report makes intervals.
    """
    per_patient = votes[votes["level"] == "patient"]
    groups = {
        (Dataset(dataset), Head(head)): (point, table)
        for (dataset, point, head), table in per_patient.groupby(
            ["dataset", "freeze_point", "head"]
        )
    }
    for (dataset, head), (point, table) in sorted(
        groups.items(), key=lambda pair: (DATASETS.index(pair[0][0]), HEADS.index(pair[0][1]))
    ):
        yield _result(dataset, str(point), head, samples_of(table), study)


def _result(dataset: Dataset, point: str, head: Head, samples: Samples, study: Study) -> Result:
    labels, scores = samples.labels, samples.scores
    return Result(
        dataset=dataset,
        freeze_point=point,
        head=head,
        samples=samples,
        confusion=confusion(labels, samples.decisions),
        estimates=estimates(
            samples, study.statistics, seed=study.seed, per_patient=True, independent=True
        ),
        brier=brier(labels, scores),
        ece=expected_calibration_error(labels, scores),
        line=slope_and_intercept(labels, scores),
        curve=reliability(labels, scores, n_bins(samples)),
    )
