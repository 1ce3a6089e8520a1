"""export: the fold models of one dataset as a directory that needs nothing of this program."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

import numpy as np

from renal_ray import __version__
from renal_ray.apply.chosen import Chosen, check_weights, with_head
from renal_ray.apply.exported.card import model_card
from renal_ray.apply.exported.predict_onnx import example
from renal_ray.apply.exported.preprocessing import preprocessing
from renal_ray.apply.folder import require_ours, require_writable, write_folder
from renal_ray.apply.voters import vote
from renal_ray.report.evidence import read_evidence
from renal_ray.store.ledger import Ledger
from renal_ray.trial.decide import rule_of
from renal_ray.trial.spec import TrialSpec
from renal_ray.trial.workshop import Workshop, start_keras
from renal_ray.types import Head

CONFIG = "config.json"
FORMAT = "renal-ray export, version 1"
TOLERANCE, ROUGH_TOLERANCE = 1e-4, 2e-2  # of the example's scores: the second where the study did not compute in float32 throughout


@dataclass(frozen=True)
class Exported:
    """What export wrote.

    Args:
        models: ONNX files.
        mib: size of all files.
    """

    models: int
    mib: float


def export(chosen: Chosen, out: Path) -> Exported:
    """Writes the fold models of one dataset: ONNX, weights, thresholds, preprocessing, model card, and a small program that runs them.

    Args:
        chosen: the image models; fc and gru models on them are written where the study has them.
        out: the directory; it appears whole.

    Raises:
        StudyError: trials are missing, or something else stands at `out`.
        DamagedFileError: a trial's weights are not those that it wrote.
    """
    require_ours(out, marker=CONFIG)
    run = chosen.run
    heads = [chosen, *(with_head(chosen, head) for head in run.study.heads.use if head is not Head.IMAGE)]
    for one in heads:
        check_weights(one)
    require_writable(out.absolute().parent)
    start_keras(run.study.backend, int(run.study.resources.cpus_per_trial))
    workshop = Workshop(run.work)
    files: dict[str, bytes] = {}
    folds = [_fold(k, heads, workshop, files) for k in range(len(chosen.images))]
    evidence = read_evidence(run.study.model_copy(update={"work": run.work.uri}))
    files["README.md"] = model_card(heads, evidence).encode()
    files["preprocessing.json"] = _json(preprocessing(run.study, chosen.dataset))
    files["example.json"] = _json(_example(heads, workshop))
    files["predict_onnx.py"] = package_files("renal_ray.apply.exported").joinpath("predict_onnx.py").read_bytes()
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())}
    files[CONFIG] = _json(_config(chosen, folds) | {"sha256": sums})
    write_folder(out, files, marker=CONFIG)
    return Exported(sum(name.endswith(".onnx") for name in files), sum(map(len, files.values())) / 2**20)


def _fold(k: int, heads: list[Chosen], workshop: Workshop, files: dict[str, bytes]) -> dict[str, Any]:
    """Adds the files of one fold's models, and says what they are."""
    said: dict[str, Any] = {"fold": heads[0].images[k].fold}
    for one in heads:
        spec = one.voters[k]
        name = f"{one.head}-fold{spec.fold}"
        files[f"weights/{name}.h5"], files[f"onnx/{name}.onnx"] = _model(one, spec, workshop)
        decisions, levels = one.decisions[spec.trial_id], one.run.results[spec.trial_id]["levels"]
        said[one.head] = {
            "trial_id": spec.trial_id,
            "onnx": f"{name}.onnx",
            "weights": f"{name}.h5",
            "threshold": {level: decision.threshold for level, decision in decisions.items()},
            "calibrator": {level: decision.calibrator.to_json() for level, decision in decisions.items()},
            "validation_auc": {level: found["metrics"]["auc"] for level, found in levels.items()},
        }
    return said


def _model(one: Chosen, spec: TrialSpec, workshop: Workshop) -> tuple[bytes, bytes]:
    """Weights and ONNX of one trial; of an image trial the frozen layers are part of both."""
    from renal_ray.model.onnx.models import fc_onnx, gru_onnx, image_onnx
    from renal_ray.model.weight_files import load_weights_h5, save_weights_h5

    about = f"{spec.trial_id} of the study {one.run.study.name}, by renal-ray {__version__}. For research only. Not for clinical use."
    weights: Mapping[str, np.ndarray] = load_weights_h5(Ledger(one.run.work).read_checked(spec.trial_id, "weights.h5"))
    width = spec.training.embedding
    if spec.head is Head.FC:
        return save_weights_h5(weights), fc_onnx(width, weights, about=about)
    if spec.head is Head.GRU:
        return save_weights_h5(weights), gru_onnx(width, spec.training.gru_units, weights, about=about)
    whole = {**workshop.backbone(spec.inputs.weights), **weights}
    return save_weights_h5(whole), image_onnx(spec.size, width, whole, about=about)


def _example(heads: list[Chosen], workshop: Workshop) -> dict[str, Any]:
    """Scores of images that are nobody's, by the study's own models, for whoever runs the exported ones to compare with."""
    study = heads[0].run.study
    size, plain = study.images.size, study.precision == study.activation_dtype == "float32"
    scores = {one.head.value: [voter.score for voter in vote(one, [example(size)], workshop)[0].voters] for one in heads}
    return {"size": size, "images": "example(size) of predict_onnx.py", "tolerance": TOLERANCE if plain else ROUGH_TOLERANCE, "scores": scores}


def _config(chosen: Chosen, folds: list[dict[str, Any]]) -> dict[str, Any]:
    study = chosen.run.study
    return {
        "format": FORMAT,
        "not_for_clinical_use": True,
        "program": f"renal-ray {__version__}",
        "study": study.name,
        "architecture": "InceptionV3, global average pooling, dense ReLU (embedding), softmax",
        "dataset": chosen.dataset,
        "freeze_point": chosen.freeze_point,
        "backbone_weights": chosen.images[0].weights,
        "size": study.images.size,
        "embedding": study.training.embedding,
        "classes": ["benign", "malignant"],
        "patient_score": {
            "image": "mean P(malignant) over slices",
            "fc": "on the maximum over the slices' embeddings",
            "gru": "on the embeddings, head to foot",
        },
        "vote": "malignant where more than half of the fold models say so, score >= threshold after its calibrator; a tie by the mean score >= 0.5",
        "rule": rule_of(study),
        "folds": folds,
    }


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"
