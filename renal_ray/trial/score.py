"""Scores of patients whom no fold has seen, by the finished models of one dataset and freeze
point."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from renal_ray.protocol.splits import SplitSet
from renal_ray.store.place import Place
from renal_ray.store.seal import Seal
from renal_ray.store.slices import Slices
from renal_ray.trial.decide import Decision, Decisions, patient_scores
from renal_ray.trial.feed import Picked, Samples, patient_inputs
from renal_ray.trial.run import prediction_table
from renal_ray.trial.spec import TrialSpec
from renal_ray.trial.workshop import Workshop, with_weights
from renal_ray.types import Head

if TYPE_CHECKING:
    pass

COLUMNS = (
    "dataset",
    "freeze_point",
    "head",
    "level",
    "fold",
    "trial_id",
    "patient_id",
    "slice_index",
    "label",
    "score",
    "threshold",
    "decision",
    "raw_score",
)


@dataclass(frozen=True)
class FoldOutput:
    """What one fold model makes of some patients.

    Args:
        spec: its trial.
        embeddings: float32 (n, width); a row a slice of an image trial, a patient of an fc or gru
            trial.
        scores: float32 (n,), P(malignant) of each row.
    """

    spec: TrialSpec
    embeddings: np.ndarray
    scores: np.ndarray


def fold_outputs(
    specs: Sequence[TrialSpec],
    activations: np.ndarray,
    counts: Sequence[int],
    work: Place,
    workshop: Workshop,
) -> Iterator[FoldOutput]:
    """Lets every fold model of one dataset and freeze point score the same patients.

    Args:
        specs: finished trials: image trials, and fc and gru trials on them.
        activations: of the patients' slices, patient after patient, float32 (n, ...), see
            `activations_of`.
        counts: number of each patient's slices.
        work: the study's work directory.
        workshop: compiled models.

    Yields:
        The output of an image trial, then those of the fc and gru trials on it.

    Raises:
        DamagedFileError: the weights of a trial are not those that it wrote.
    """
    for image in (spec for spec in specs if spec.head is Head.IMAGE):
        output = FoldOutput(image, *_apply(image, activations, work, workshop))
        yield output
        sequences = np.split(output.embeddings, np.cumsum(counts)[:-1])
        for head in (spec for spec in specs if spec.image_trial == image.trial_id):
            yield FoldOutput(
                head, *_apply(head, patient_inputs(head.head, sequences, steps=1), work, workshop)
            )


def activations_of(images: Sequence[np.ndarray], spec: TrialSpec, workshop: Workshop) -> np.ndarray:
    """What the fold models of a dataset and freeze point read of some patients.

    Args:
        images: each patient's slices, uint8 (n, size, size, 3).
        spec: one of the trials.
        workshop: holds the frozen layers.

    Returns:
        float32 (slices of all patients, ...), through the cache's number format, so that the models
        see what they were trained on.
    """
    prefix = workshop.prefix(spec)
    parts = [prefix(one)[spec.freeze_point].astype(spec.activation_dtype) for one in images]
    return np.concatenate(parts).astype(np.float32)


def score_test(
    specs: Sequence[TrialSpec], decisions: Decisions, work: Place, splits: SplitSet, seal: Seal
) -> pd.DataFrame:
    """Lets every fold model of one dataset and freeze point score the test patients, each with its
    own calibrator and threshold.

    Args:
        specs: finished trials of one dataset and freeze point: image trials, and fc and gru trials
            on them.
        decisions: how each of them decides, fixed on its validation fold.
        work: the study's work directory.
        splits: who is sealed.
        seal: proof that the seal was opened.

    Returns:
        Rows of test/predictions.parquet; image trials at slice level, and at patient level by the
        patient's mean score. `score` is the calibrated P(malignant) that the threshold is held
        against, `raw_score` what the network said.

    Raises:
        DamagedFileError: the weights of a trial are not those that it wrote.
    """
    slices = Slices(work, specs[0].dataset, sealed=splits.test, seal=seal)
    return score_patients(
        specs,
        decisions,
        work,
        slices,
        {patient: splits.labels[patient] for patient in sorted(splits.test)},
        Workshop(work),
    )


def score_patients(
    specs: Sequence[TrialSpec],
    decisions: Decisions,
    work: Place,
    slices: Slices,
    labels: Mapping[Any, int],
    workshop: Workshop,
) -> pd.DataFrame:
    """As `score_test`, for any patients.

    Args:
        specs, decisions, work: as for `score_test`.
        slices: of the dataset, with the patients.
        labels: patient -> pathology, in the order of the rows.
        workshop: compiled models.
    """
    patients = list(labels)
    numbers = [slices.slice_index(patient) for patient in patients]
    counts = [len(one) for one in numbers]
    owners = tuple(np.repeat(np.array(patients, dtype=object), counts))
    activations = activations_of(
        [slices.images(patient) for patient in patients], specs[0], workshop
    )
    images = Samples(
        Picked.whole(activations),
        np.array([labels[patient] for patient in owners], np.int8),
        owners,
        np.concatenate(numbers),
    )
    whole = Samples(
        Picked.whole(np.arange(len(patients))),
        np.array(list(labels.values()), np.int8),
        tuple(patients),
        None,
    )
    tables = []
    for output in fold_outputs(specs, activations, counts, work, workshop):
        if output.spec.head is Head.IMAGE:
            by_slice = prediction_table(images, output.scores, "test")
            tables += [
                _decided(output.spec, "slice", by_slice, decisions),
                _decided(output.spec, "patient", patient_scores(by_slice), decisions),
            ]
        else:
            tables.append(
                _decided(
                    output.spec,
                    "patient",
                    prediction_table(whole, output.scores, "test"),
                    decisions,
                )
            )
    return pd.concat(tables, ignore_index=True)


def _apply(
    spec: TrialSpec, inputs: np.ndarray, work: Place, workshop: Workshop
) -> tuple[np.ndarray, np.ndarray]:
    embeddings, scores = with_weights(spec, work, workshop).embedding_and_scores(
        inputs, spec.training.batch_size
    )
    return embeddings, scores


def decide_again(predictions: pd.DataFrame, decisions: Decisions) -> pd.DataFrame:
    """The same scores of the same models, decided under another rule; no model is run.

    Args:
        predictions: rows of test/predictions.parquet.
        decisions: how each model decides now.

    Returns:
        The rows with score, threshold and decision anew.
    """
    tables = []
    for (trial_id, level), table in predictions.groupby(["trial_id", "level"], sort=False):
        raw = (
            table["raw_score"] if "raw_score" in table else table["score"]
        )  # kept since there is a choice of calibrators
        tables.append(_by(decisions[trial_id][level], table, raw.to_numpy()))
    return pd.concat(tables).sort_index()[list(COLUMNS)]


def _decided(
    spec: TrialSpec, level: str, table: pd.DataFrame, decisions: Decisions
) -> pd.DataFrame:
    named = {
        "dataset": spec.dataset,
        "freeze_point": spec.freeze_point,
        "head": spec.head,
        "level": level,
        "trial_id": spec.trial_id,
    }
    out = table.assign(
        **{key: str(value) for key, value in named.items()}, fold=np.int32(spec.fold)
    )
    if "slice_index" not in out:
        out["slice_index"] = pd.array([pd.NA] * len(out), dtype="Int32")
    return _by(decisions[spec.trial_id][level], out, table["score"].to_numpy())[list(COLUMNS)]


def _by(one: Decision, table: pd.DataFrame, raw: np.ndarray) -> pd.DataFrame:
    """Fills in score, threshold and decision of rows with the scores that a network gave."""
    return table.assign(
        score=one.probabilities(raw).astype(raw.dtype),
        threshold=one.threshold,
        decision=one.malignant(raw),
        raw_score=raw,
    )
