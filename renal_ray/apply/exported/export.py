"""export: the fold models of one dataset as a directory that needs nothing of this program."""

import hashlib
import json
from dataclasses import asdict, dataclass
from importlib.resources import files as package_files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from renal_ray import __version__
from renal_ray.apply.chosen import Chosen, check_weights, with_head
from renal_ray.apply.exported.card import model_card
from renal_ray.apply.exported.check import TOLERANCE, Checked, Comparison, Pair, some_slices
from renal_ray.apply.exported.predict_onnx import example
from renal_ray.apply.exported.preprocessing import preprocessing
from renal_ray.apply.folder import require_ours, require_writable, write_folder
from renal_ray.apply.voters import vote
from renal_ray.report.evidence import read_evidence
from renal_ray.store.slices import Slices
from renal_ray.trial.decide import rule_of
from renal_ray.trial.spec import TrialSpec
from renal_ray.trial.workshop import Workshop, start_keras, with_weights
from renal_ray.types import Head

if TYPE_CHECKING:
    from renal_ray.model.onnx.convert import Model

CONFIG = "config.json"
FORMAT = "renal-ray export, version 1"
ROUGH_TOLERANCE = (
    2e-2  # of the example's scores where the study did not compute in float32 throughout
)


@dataclass(frozen=True)
class Exported:
    """What export wrote.

    Args:
        models: ONNX files.
        mib: size of all files.
        checked: how far the ONNX models are from Keras.
    """

    models: int
    mib: float
    checked: Checked


def export(chosen: Chosen, out: Path) -> Exported:
    """Writes the fold models of one dataset: ONNX, weights, thresholds, preprocessing, model card,
    and a small program that runs them.

    Args:
        chosen: the image models; fc and gru models on them are written where the study has them.
        out: the directory; it appears whole.

    Raises:
        StudyError: trials are missing, something else stands at `out`, or an ONNX model is not the
            Keras model that it was made from.
        DamagedFileError: a trial's weights are not those that it wrote.
    """
    require_ours(out, marker=CONFIG)
    run = chosen.run
    heads = [
        chosen,
        *(with_head(chosen, head) for head in run.study.heads.use if head is not Head.IMAGE),
    ]
    for one in heads:
        check_weights(one)
    require_writable(out.absolute().parent)
    evidence = read_evidence(run.study.model_copy(update={"work": run.work.uri}))
    splits = run.plan.splits
    images = some_slices(
        Slices(run.work, chosen.dataset, sealed=splits.test), sorted(splits.training)
    )
    start_keras(run.study.backend, int(run.study.resources.cpus_per_trial))
    workshop = Workshop(run.work)
    files, checked = _models(heads, images, workshop)
    folds = [_fold(k, heads) for k in range(len(chosen.images))]
    files["README.md"] = model_card(heads, evidence, checked).encode()
    files["preprocessing.json"] = _json(preprocessing(run.study, chosen.dataset))
    files["example.json"] = _json(_example(heads, workshop))
    files["predict_onnx.py"] = (
        package_files("renal_ray.apply.exported").joinpath("predict_onnx.py").read_bytes()
    )
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())}
    files[CONFIG] = _json(
        _config(chosen, folds)
        | {"onnx_against_keras": asdict(checked) | {"tolerance": TOLERANCE}, "sha256": sums}
    )
    write_folder(out, files, marker=CONFIG)
    return Exported(
        sum(name.endswith(".onnx") for name in files),
        sum(map(len, files.values())) / 2**20,
        checked,
    )


def _models(
    heads: list[Chosen], images: list[np.ndarray], workshop: Workshop
) -> tuple[dict[str, bytes], Checked]:
    """Weights and ONNX files of all folds, once they were held against Keras."""
    from renal_ray.model.onnx.convert import to_onnx

    comparison = Comparison(images)
    files: dict[str, bytes] = {}
    for k in range(len(heads[0].images)):  # one process after the other: each takes gigabytes
        names = {one.head: _name(one, one.voters[k]) for one in heads}
        models = {names[one.head]: _model(one, one.voters[k], workshop) for one in heads}
        onnx = to_onnx(models)
        comparison.hold(
            {head: Pair(f"{name}.onnx", onnx[name], models[name]) for head, name in names.items()}
        )
        files |= {f"weights/{name}.h5": model.weights for name, model in models.items()}
        files |= {f"onnx/{name}.onnx": data for name, data in onnx.items()}
    return files, comparison.checked


def _name(one: Chosen, spec: TrialSpec) -> str:
    return f"{one.head}-fold{spec.fold}"


def _fold(k: int, heads: list[Chosen]) -> dict[str, Any]:
    """What one fold's models are."""
    said: dict[str, Any] = {"fold": heads[0].images[k].fold}
    for one in heads:
        spec = one.voters[k]
        name = _name(one, spec)
        decisions, levels = one.decisions[spec.trial_id], one.run.results[spec.trial_id]["levels"]
        said[one.head] = {
            "trial_id": spec.trial_id,
            "onnx": f"{name}.onnx",
            "weights": f"{name}.h5",
            "threshold": {level: decision.threshold for level, decision in decisions.items()},
            "calibrator": {
                level: decision.calibrator.to_json() for level, decision in decisions.items()
            },
            "validation_auc": {level: found["metrics"]["auc"] for level, found in levels.items()},
        }
    return said


def _model(one: Chosen, spec: TrialSpec, workshop: Workshop) -> "Model":
    """What one trial's ONNX file is made from; of an image trial the frozen layers are part of
    it."""
    from renal_ray.model.onnx.convert import Model
    from renal_ray.model.onnx.models import Architecture
    from renal_ray.model.weight_files import save_weights_h5

    weights = with_weights(spec, one.run.work, workshop).get_weights_by_name()
    if spec.head is Head.IMAGE:
        weights = {**workshop.backbone(spec.inputs.weights), **weights}
    training = spec.training
    architecture = Architecture(
        spec.head, spec.size, training.embedding, training.gru_units, training.gru_layers
    )
    about = (
        f"{spec.trial_id} of the study {one.run.study.name}, by renal-ray "
        f"{__version__}. For research only. Not for clinical use."
    )
    return Model(architecture, save_weights_h5(weights), about)


def _example(heads: list[Chosen], workshop: Workshop) -> dict[str, Any]:
    """Scores of images that are nobody's, by the study's own models, for whoever runs the exported
    ones to compare with."""
    study = heads[0].run.study
    size, plain = study.images.size, study.precision == study.activation_dtype == "float32"
    scores = {
        one.head.value: [voter.score for voter in vote(one, [example(size)], workshop)[0].voters]
        for one in heads
    }
    return {
        "size": size,
        "images": "example(size) of predict_onnx.py",
        "tolerance": TOLERANCE if plain else ROUGH_TOLERANCE,
        "scores": scores,
    }


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
        "vote": (
            "malignant where more than half of the fold models say so, score >= "
            "threshold after its calibrator; a tie by the mean score >= 0.5"
        ),
        "rule": rule_of(study),
        "folds": folds,
    }


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"
