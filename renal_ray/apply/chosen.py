"""Which fold models of a finished study are used."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from renal_ray.config import Study
from renal_ray.problems import StudyError
from renal_ray.protocol.metrics import mean_sd
from renal_ray.store.ledger import Ledger
from renal_ray.store.place import Place
from renal_ray.trial.decide import Decision, at_level, decisions_of
from renal_ray.trial.plan import Plan, finished_results, make_plan
from renal_ray.trial.spec import TrialSpec
from renal_ray.types import Dataset, FreezePoint, Head

LEVEL = "patient"  # what is said of somebody is said of the patient, not of a slice


@dataclass(frozen=True)
class Run:
    """A finished study.

    Args:
        study: as it stands.
        work: its work directory, where this machine has it.
        plan: its trials.
        results: of the finished trials, by trial_id.
    """

    study: Study
    work: Place
    plan: Plan
    results: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Chosen:
    """The fold models of one dataset, at its selected freeze point, with one head.

    Args:
        run: whose models.
        dataset: what of an image they see.
        freeze_point: the dataset's selected one.
        head: which of their scores counts.
        images: the image trials, fold by fold.
        voters: the trials that vote: the image trials, or the fc or gru trials on them.
    """

    run: Run
    dataset: Dataset
    freeze_point: FreezePoint
    head: Head
    images: tuple[TrialSpec, ...]
    voters: tuple[TrialSpec, ...]

    @property
    def trials(self) -> list[TrialSpec]:
        """All trials that have to compute."""
        return list(self.images) if self.head is Head.IMAGE else [*self.images, *self.voters]

    @cached_property
    def decisions(self) -> dict[str, dict[str, Decision]]:
        """How each trial decides at each of its levels, by trial_id: fixed on its validation fold
        by the study file as it stands.

        Raises:
            DamagedFileError: a trial's predictions are not those that it wrote.
        """
        return {
            spec.trial_id: decisions_of(spec, self.run.work, self.run.study) for spec in self.trials
        }

    def mean_auc(self) -> tuple[float | None, float | None]:
        """Mean and SD over the voters' folds of the validation AUC per patient, which no rule
        changes."""
        return mean_sd(
            [
                self.run.results[spec.trial_id]["levels"][LEVEL]["metrics"]["auc"]
                for spec in self.voters
            ]
        )

    def validation(self, metric: str) -> tuple[float | None, float | None]:
        """Mean and SD over the voters' folds of a validation metric per patient."""
        return mean_sd([found[metric] for found in self._validated])

    @cached_property
    def _validated(self) -> list[dict[str, float | None]]:
        found = []
        for spec in self.voters:
            table = pq.read_table(
                io.BytesIO(Ledger(self.run.work).read_checked(spec.trial_id, "predictions.parquet"))
            ).to_pandas()
            rows = at_level(spec, table[table["part"] == "validation"], LEVEL)
            found.append(
                self.decisions[spec.trial_id][LEVEL].evaluate(
                    rows["label"].to_numpy(), rows["score"].to_numpy(np.float64)
                )
            )
        return found

    def weights_sha256(self, spec: TrialSpec) -> str:
        """Checksum of a trial's weights file."""
        return str(self.run.results[spec.trial_id]["files"]["weights.h5"])


def open_run(study: Study, work: Place) -> Run:
    """A study whose models are to be used.

    Raises:
        StudyError: it was not prepared, or with other settings.
    """
    return Run(study, work, make_plan(study, work), finished_results(work))


def choose(run: Run, dataset: Dataset | None = None, head: Head | None = None) -> Chosen:
    """The fold models to use.

    Args:
        run: a finished study.
        dataset: which dataset's; that with the highest mean validation AUC per patient when None
            (of equal ones the first in the study file).
        head: image, fc or gru; image when None.

    Raises:
        StudyError: the study has no such dataset or head, or trials are missing.
    """
    if dataset is not None and dataset not in run.study.datasets:
        raise StudyError(f"--dataset {dataset}: the study has {', '.join(run.study.datasets)}")
    if head is not None and head not in run.study.heads.use:
        raise StudyError(f"--head {head}: the study has {', '.join(run.study.heads.use)}")
    found = [
        _models(run, one, head or Head.IMAGE)
        for one in ([dataset] if dataset else run.study.datasets)
    ]
    return max(found, key=lambda chosen: chosen.mean_auc()[0] or 0.0)


def with_head(chosen: Chosen, head: Head) -> Chosen:
    """The same dataset and freeze point with another head.

    Raises:
        StudyError: trials are missing.
    """
    return _models(chosen.run, chosen.dataset, head)


def _models(run: Run, dataset: Dataset, head: Head) -> Chosen:
    selected = run.plan.selected(dataset, run.results)
    if selected is None:
        raise StudyError(
            f"image trials of {dataset} are missing in {run.work.shown()}, so that no "
            "freeze point is selected: run `renal-ray sweep` first"
        )
    images = run.plan.image_specs(dataset, selected)
    voters = (
        images
        if head is Head.IMAGE
        else [spec for spec in run.plan.head_specs(dataset, selected) if spec.head is head]
    )
    missing = [spec.trial_id for spec in voters if spec.trial_id not in run.results]
    if missing:
        raise StudyError(
            f"{len(missing)} {head} trials of {dataset} at {selected} are missing, "
            f"the first {missing[0]}: run `renal-ray sweep` first"
        )
    return Chosen(run, dataset, selected, head, tuple(images), tuple(voters))


def check_weights(chosen: Chosen) -> None:
    """Holds the weights of all trials against their checksums, before any work.

    Raises:
        DamagedFileError: those of one are not what it wrote.
    """
    for spec in chosen.trials:
        Ledger(chosen.run.work).read_checked(spec.trial_id, "weights.h5")
