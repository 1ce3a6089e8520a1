"""Scores of the sealed test patients by the finished models of one dataset and freeze point."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from renal_ray.protocol.splits import SplitSet
from renal_ray.store.ledger import Ledger
from renal_ray.store.place import Place
from renal_ray.store.seal import Seal
from renal_ray.store.slices import Slices
from renal_ray.trial.decide import Decision, Decisions, patient_scores
from renal_ray.trial.feed import Picked, Samples, patient_inputs
from renal_ray.trial.prefix import Prefix
from renal_ray.trial.run import prediction_table
from renal_ray.trial.spec import TrialSpec
from renal_ray.trial.workshop import Workshop
from renal_ray.types import Head

if TYPE_CHECKING:
    from renal_ray.model.compiled import CompiledModel

COLUMNS = ("dataset", "freeze_point", "head", "level", "fold", "trial_id", "patient_id", "slice_index", "label", "score", "threshold", "decision", "raw_score")


def score_test(specs: Sequence[TrialSpec], decisions: Decisions, work: Place, splits: SplitSet, seal: Seal) -> pd.DataFrame:
    """Lets every fold model of one dataset and freeze point score the test patients, each with its own calibrator and threshold.

    Args:
        specs: finished trials of one dataset and freeze point: image trials, and fc and gru trials on them.
        decisions: how each of them decides, fixed on its validation fold.
        work: the study's work directory.
        splits: who is sealed.
        seal: proof that the seal was opened.

    Returns:
        Rows of test/predictions.parquet; image trials at slice level, and at patient level by the patient's mean score. `score` is the calibrated
        P(malignant) that the threshold is held against, `raw_score` what the network said.

    Raises:
        DamagedFileError: the weights of a trial are not those that it wrote.
    """
    patients = sorted(splits.test)
    slices = Slices(work, specs[0].dataset, sealed=splits.test, seal=seal)
    numbers = [slices.slice_index(patient) for patient in patients]
    counts = [len(one) for one in numbers]
    workshop = Workshop(work)
    activations = _activations(specs[0], slices, patients, workshop)
    owners = tuple(np.repeat(np.array(patients, dtype=object), counts))
    labels = np.array([splits.labels[patient] for patient in owners], np.int8)
    images = Samples(Picked.whole(activations), labels, owners, np.concatenate(numbers))
    tables = []
    for image in (spec for spec in specs if spec.head is Head.IMAGE):
        embeddings, scores = _apply(image, activations, work, workshop)
        by_slice = prediction_table(images, scores, "test")
        tables += [_decided(image, "slice", by_slice, decisions), _decided(image, "patient", patient_scores(by_slice), decisions)]
        sequences = np.split(embeddings, np.cumsum(counts)[:-1])
        for head in (spec for spec in specs if spec.image_trial == image.trial_id):
            inputs = patient_inputs(head.head, sequences, steps=1)
            scores = _apply(head, inputs, work, workshop)[1]
            whole = Samples(Picked.whole(inputs), np.array([splits.labels[patient] for patient in patients], np.int8), tuple(patients), None)
            tables.append(_decided(head, "patient", prediction_table(whole, scores, "test"), decisions))
    return pd.concat(tables, ignore_index=True)


def _activations(spec: TrialSpec, slices: Slices, patients: Sequence[str], workshop: Workshop) -> np.ndarray:
    prefix = Prefix(workshop.backbone(spec.inputs.weights), size=spec.size, freeze_points=[spec.freeze_point], batch_size=spec.training.batch_size)
    # Through the cache's number format, so that the models see what they were trained on.
    parts = [prefix(slices.images(patient))[spec.freeze_point].astype(spec.activation_dtype) for patient in patients]
    return np.concatenate(parts).astype(np.float32)


def with_weights(spec: TrialSpec, work: Place, workshop: Workshop) -> "CompiledModel":
    """The model of a finished trial, with the weights that it was left with.

    Raises:
        DamagedFileError: the weights are not those that it wrote.
    """
    from renal_ray.model.weight_files import load_weights_h5

    model = workshop.model(spec)
    model.set_weights_by_name(load_weights_h5(Ledger(work).read_checked(spec.trial_id, "weights.h5")))
    return model


def _apply(spec: TrialSpec, inputs: np.ndarray, work: Place, workshop: Workshop) -> tuple[np.ndarray, np.ndarray]:
    embeddings, scores = with_weights(spec, work, workshop).embedding_and_scores(inputs, spec.training.batch_size)
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
        raw = table["raw_score"] if "raw_score" in table else table["score"]  # kept since there is a choice of calibrators
        tables.append(_by(decisions[trial_id][level], table, raw.to_numpy()))
    return pd.concat(tables).sort_index()[list(COLUMNS)]


def _decided(spec: TrialSpec, level: str, table: pd.DataFrame, decisions: Decisions) -> pd.DataFrame:
    named = {"dataset": spec.dataset, "freeze_point": spec.freeze_point, "head": spec.head, "level": level, "trial_id": spec.trial_id}
    out = table.assign(**{key: str(value) for key, value in named.items()}, fold=np.int32(spec.fold))
    if "slice_index" not in out:
        out["slice_index"] = pd.array([pd.NA] * len(out), dtype="Int32")
    return _by(decisions[spec.trial_id][level], out, table["score"].to_numpy())[list(COLUMNS)]


def _by(one: Decision, table: pd.DataFrame, raw: np.ndarray) -> pd.DataFrame:
    """Fills in score, threshold and decision of rows with the scores that a network gave."""
    return table.assign(score=one.probabilities(raw).astype(raw.dtype), threshold=one.threshold, decision=one.malignant(raw), raw_score=raw)
