"""Which of the trials in a work directory belong to the study as it stands now."""

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
from pydantic import ValidationError

from renal_ray.config import Study
from renal_ray.problems import StudyError
from renal_ray.protocol.splits import SplitSet
from renal_ray.store.ledger import DamagedFileError, Ledger
from renal_ray.store.place import Place
from renal_ray.trial.spec import TRUE_LABELS, Inputs, TrialSpec, make_spec
from renal_ray.types import Dataset, Head


def main_level(head: Head) -> str:
    """Level at which the paper's tables give a head: slices for the image head, patients for the others."""
    return "slice" if head is Head.IMAGE else "patient"


@dataclass(frozen=True)
class Trial:
    """One finished trial.

    Args:
        spec: what it is.
        result: its result.json.
        validation: predictions on its validation fold: patient_id, slice_index, label, score.
        history: its epochs: loss, accuracy, val_loss, val_accuracy, val_auc.
    """

    spec: TrialSpec
    result: Mapping[str, Any]
    validation: pd.DataFrame
    history: pd.DataFrame

    def metrics(self, level: str) -> dict[str, float | None]:
        """Validation metrics at the slice or the patient level."""
        metrics: dict[str, float | None] = self.result["levels"][level]["metrics"]
        return metrics


@dataclass(frozen=True)
class Unfinished:
    """A trial without a result.

    Args:
        trial_id: its name.
        reason: last line of its traceback; empty when it was interrupted.
    """

    trial_id: str
    reason: str


@dataclass(frozen=True)
class Trials:
    """The trials of a study.

    Args:
        true: trained on the pathology, by dataset, freeze point, head and fold.
        controls: trained on permuted labels; never among the others.
        unfinished: failed or interrupted ones.
        set_aside: finished trials of other settings, other data or another split, which enter nothing.
    """

    true: tuple[Trial, ...]
    controls: tuple[Trial, ...]
    unfinished: tuple[Unfinished, ...]
    set_aside: int


def read_trials(study: Study, work: Place, splits: SplitSet) -> Trials:
    """Reads the finished trials that the study file as it stands, with the split as it stands, would train.

    All trials of a dataset must have read the same slices, weights and code: those of the trial that finished last.

    Raises:
        StudyError: a file of a trial is damaged.
    """
    ledger = Ledger(work)
    finished, unfinished = [], []
    n_results = 0
    for trial_id in ledger.trial_ids():
        result = ledger.result(trial_id)
        n_results += result is not None
        spec = _current_spec(study, ledger, trial_id)
        if spec is None:
            continue
        if result is None:
            lines = ledger.error(trial_id).split("\n") if ledger.state(trial_id) == "failed" else []
            unfinished.append(Unfinished(trial_id, next((line.strip() for line in reversed(lines) if line.strip()), "")))
            continue
        trial = _read(ledger, spec, result)
        if _validates_its_fold(trial, splits):
            finished.append(trial)
    kept = _of_one_input(finished)
    kept.sort(key=lambda t: (t.spec.dataset, t.spec.freeze_point, t.spec.head, t.spec.labels, t.spec.fold))
    return Trials(
        true=tuple(t for t in kept if t.spec.labels == TRUE_LABELS),
        controls=tuple(t for t in kept if t.spec.labels != TRUE_LABELS),
        unfinished=tuple(unfinished),
        set_aside=n_results - len(kept),
    )


def _current_spec(study: Study, ledger: Ledger, trial_id: str) -> TrialSpec | None:
    """The specification, when the study would train it today from the same inputs."""
    folder = ledger.folder(trial_id)
    if not folder.exists("spec.json"):
        return None
    try:
        spec = TrialSpec.from_json(folder.read_json("spec.json"))
    except ValidationError:
        return None  # of a version whose settings had other names: counted as set aside
    wanted = spec.dataset in study.datasets and spec.freeze_point in study.freeze_points and spec.head in study.heads.use and spec.fold in study.fold_numbers
    same = make_spec(
        study,
        dataset=spec.dataset,
        freeze_point=spec.freeze_point,
        head=spec.head,
        fold=spec.fold,
        inputs=spec.inputs,
        labels=spec.labels,
        image_trial=spec.image_trial,
    )
    return spec if wanted and same == spec else None


def _read(ledger: Ledger, spec: TrialSpec, result: Mapping[str, Any]) -> Trial:
    try:
        predictions = _parquet(ledger.read_checked(spec.trial_id, "predictions.parquet"), ["patient_id", "slice_index", "label", "score", "part"])
        history = _parquet(ledger.read_checked(spec.trial_id, "history.parquet"))
    except DamagedFileError as error:
        raise StudyError(str(error)) from None
    validation = predictions[predictions["part"] == "validation"].drop(columns="part").reset_index(drop=True)
    return Trial(spec=spec, result=result, validation=validation, history=history.sort_values("epoch", ignore_index=True))


def _parquet(data: bytes, columns: list[str] | None = None) -> pd.DataFrame:
    return pq.read_table(io.BytesIO(data), columns=columns).to_pandas()


def _validates_its_fold(trial: Trial, splits: SplitSet) -> bool:
    """Whether the trial validated on exactly the patients, and as many slices of each, that the split puts in its fold."""
    images = {p.patient_id: p.n_images for p in splits.patients if p.fold == trial.spec.fold}
    rows = trial.validation["patient_id"].value_counts().to_dict()
    return rows == (images if trial.spec.head is Head.IMAGE else dict.fromkeys(images, 1))


def _of_one_input(trials: Iterable[Trial]) -> list[Trial]:
    newest: dict[Dataset, tuple[str, Inputs]] = {}
    everyone = list(trials)
    for trial in everyone:
        known = newest.get(trial.spec.dataset)
        if known is None or trial.result["finished"] > known[0]:
            newest[trial.spec.dataset] = (trial.result["finished"], trial.spec.inputs)
    kept = [trial for trial in everyone if trial.spec.inputs == newest[trial.spec.dataset][1]]
    names = {trial.spec.trial_id for trial in kept}
    return [trial for trial in kept if trial.spec.image_trial is None or trial.spec.image_trial in names]
