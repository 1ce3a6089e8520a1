"""How the study was done, as pairs of a name and a sentence: what chose what, and with which versions and seeds."""

from typing import Any

from renal_ray import __version__
from renal_ray.report.evidence import Evidence
from renal_ray.report.text import listed, weights_name


def protocol_facts(evidence: Evidence) -> list[tuple[str, str]]:
    """What decided the split, the threshold, the freeze point and the vote."""
    study, splits = evidence.study, evidence.splits
    method = {"approximate": "approximately equal numbers of slices, as in the paper", "stratified": "scikit-learn's StratifiedGroupKFold over slices"}
    drawn = "stratified by label" if study.split.stratify else "not stratified"
    models = len(study.fold_numbers)
    most = f" (at least {models // 2 + 1} of {models})"
    epochs = ", ".join(f"{getattr(study.training.epochs, head)} ({head})" for head in study.heads.use)
    training = study.training
    largest = f", at most the {study.selection.max_slices} largest" if study.selection.max_slices else ""
    return [
        ("Unit of the split", "The patient: all slices of a patient are on one side."),
        ("Sealed test", f"{100 * study.split.test_fraction:g} % of the patients, {drawn}, drawn with seed {splits.seed}."),
        ("Folds", f"{splits.n_folds}, {method.get(splits.method, splits.method)}; seed {splits.seed}."),
        ("Slices kept", f"Lesion area at least {100 * study.selection.min_area_fraction:g} % of the patient's largest{largest}."),
        ("Images", f"{study.images.size} × {study.images.size} pixels; renal, high- and low-attenuation windows as red, green and blue."),
        ("Training", f"SGD, learning rate {training.learning_rate:g}, momentum {training.momentum:g}, batch {training.batch_size}; epochs: {epochs}."),
        ("Balancing", "Each epoch the smaller class is oversampled to the size of the larger; validation and test never are."),
        ("Weights kept", "Of the last epoch." if training.keep == "last" else "Of the epoch with the best validation AUC: validation is optimistic."),
        ("Batch normalisation", _statistics(training.bn_statistics)),
        ("Threshold", "Per model, from the ROC curve of its own validation fold: Youden's J, the highest of equals. Never from test data."),
        ("Freeze point", "Per dataset, the highest mean validation AUC of the image-level models per slice; of equals the one that trains fewer layers."),
        ("FC and GRU models", "Those of a fold see only embeddings of the image-level model of the same dataset, freeze point and fold."),
        ("Vote", f"Malignant when more than half of the fold models say so{most}; half of an even number is decided by the mean score, from 0.5 on."),
    ]


def provenance_facts(evidence: Evidence) -> list[tuple[str, str]]:
    """Versions, seeds and hashes."""
    facts = [("Report by", f"renal-ray {__version__}")]
    codes = sorted({trial.spec.inputs.code for trial in (*evidence.trials.true, *evidence.trials.controls)})
    if codes:
        facts.append(("Trials by", f"renal-ray {listed(codes)}"))
    facts += [
        ("Seed of the study", str(evidence.study.seed)),
        ("Seeds of the trials", "follow from it and the trial's name; each stands in its spec.json"),
        ("Weights", weights_name(evidence.study.weights)),
        ("Backend", evidence.study.backend),
        ("Activations", evidence.study.activation_dtype),
    ]
    facts += [(f"Versions in training, {name}", value) for name, value in _trial_versions(evidence)]
    return facts + [(name.replace("_", " ").capitalize(), value) for name, value in _flat(evidence.provenance)]


def _statistics(choice: str) -> str:
    if choice == "moving":
        return "Keras's moving averages, as in the paper's code."
    return "Statistics of the trained layers re-estimated over the fold's training images after the last epoch."


def _trial_versions(evidence: Evidence) -> list[tuple[str, str]]:
    found: dict[str, set[str]] = {}
    for trial in evidence.trials.true:
        for name, version in trial.result.get("versions", {}).items():
            found.setdefault(str(name), set()).add(str(version))
    return [(name, listed(sorted(versions))) for name, versions in sorted(found.items())]


def _flat(value: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    pairs = []
    for name, item in value.items():
        if isinstance(item, dict):
            pairs += _flat(item, f"{prefix}{name} ")
        else:
            pairs.append((f"{prefix}{name}", str(item)))
    return pairs
