"""How the study was done, as pairs of a name and a sentence: what chose what, and with which
versions and seeds."""

from collections.abc import Mapping
from typing import Any

from renal_ray import __version__
from renal_ray.config import Study
from renal_ray.report.evidence import Evidence
from renal_ray.report.text import counted, head_name, listed, moment, weights_name

PROGRAM = "renal-ray"
ABBREVIATIONS = (
    "Malignant is the positive class. AUC: area under the receiver operating characteristic "
    "(ROC) curve; ACC: accuracy; SEN: sensitivity; SPEC: specificity; "
    "PPV, NPV: positive and negative predictive value; MCC: Matthews correlation "
    "coefficient, −1 to 1; SD: standard deviation; CI: confidence interval. "
    "Slice: the whole axial image; ROI: the lesion alone, all else black; RBR: the bounding "
    "rectangle of the lesion with what surrounds it. Image-level: a "
    "score for each slice; FC and GRU: a score for each patient, from fully connected "
    "or gated recurrent layers over the embeddings of the slices. "
    "mixed0 to mixed10: last frozen layer of Inception V3; the deeper, the less of the "
    "network is retrained. Tables 1 to 4 and Figures 3 to 5 bear the "
    "numbers of the paper's."
)


def protocol_facts(evidence: Evidence) -> list[tuple[str, str]]:
    """What decided the split, the threshold, the freeze point and the vote."""
    study, splits = evidence.study, evidence.splits
    method = {
        "approximate": "approximately equal numbers of slices, as in the paper",
        "stratified": "scikit-learn's StratifiedGroupKFold over slices",
    }
    drawn = "stratified by label" if study.split.stratify else "not stratified"
    models = len(study.fold_numbers)
    most = f" (at least {models // 2 + 1} of {models})"
    epochs = ", ".join(
        f"{getattr(study.training.epochs, head)} ({head_name(head)})" for head in study.heads.use
    )
    training = study.training
    over = f", over all {study.repeats} repeats" if study.repeats > 1 else ""
    largest = (
        f", at most the {study.selection.max_slices} largest" if study.selection.max_slices else ""
    )
    return [
        ("Unit of the split", "The patient: all slices of a patient are on one side."),
        (
            "Sealed test",
            (
                f"{100 * study.split.test_fraction:g} % of the patients, "
                f"{drawn}, drawn with seed {splits.seed}."
            ),
        ),
        (
            "Folds",
            f"{splits.n_folds}, {method.get(splits.method, splits.method)}; seed {splits.seed}.",
        ),
        (
            "Slices kept",
            (
                "Lesion area at least "
                f"{100 * study.selection.min_area_fraction:g} % of the "
                f"patient's largest{largest}."
            ),
        ),
        ("Several lesions", _several_lesions(evidence)),
        (
            "Images",
            (
                f"{study.images.size} × {study.images.size} pixels; renal, high- and "
                "low-attenuation windows as red, green and blue."
            ),
        ),
        (
            "Training",
            (
                f"SGD, learning rate {training.learning_rate:g}, momentum "
                f"{training.momentum:g}, batch {training.batch_size}; epochs: {epochs}."
            ),
        ),
        (
            "Balancing",
            (
                "Each epoch the smaller class is oversampled to the size of "
                "the larger; validation and test never are."
            ),
        ),
        (
            "Weights kept",
            "Of the last epoch."
            if training.keep == "last"
            else "Of the epoch with the best validation AUC: validation is optimistic.",
        ),
        ("Batch normalisation", _statistics(training.bn_statistics)),
        ("Calibration", _calibration(study)),
        (
            "Threshold",
            (
                "Per model, from the ROC curve of its own validation fold: "
                f"{threshold_words(study)}, the highest of equals. Never from test data."
            ),
        ),
        (
            "Freeze point",
            (
                "Per dataset, the highest mean validation AUC of the image-level models per "
                f"slice{over}; of equals the one with fewer trained layers."
            ),
        ),
        (
            "FC and GRU models",
            (
                "Those of a fold see only embeddings of the image-level model of "
                "the same dataset, freeze point and fold."
            ),
        ),
        (
            "Vote",
            (
                f"Malignant when more than half of the fold models say so{most}; half of an "
                "even number is decided by the mean score, from 0.5 on."
            ),
        ),
    ]


def _several_lesions(evidence: Evidence) -> str:
    if "n_lesions" not in evidence.cohort:
        return (
            "Not told apart by the version that prepared the slices: "
            "ROI and RBR show one box round all."
        )
    if evidence.study.selection.lesions == "all":
        shown = "All of a patient's count as one: ROI and RBR show one box round them."
    else:
        shown = (
            "Slices are kept for all of them; of those more than 10 mm apart "
            "ROI and RBR show the largest that a slice has."
        )
    return (
        f"{shown} "
        f"{counted(int((evidence.cohort['n_lesions'] > 1).sum()), 'patient')} "
        f"of {len(evidence.cohort)} had several."
    )


def threshold_words(study: Study) -> str:
    """The rule of the threshold as a phrase."""
    wanted = study.threshold
    return {
        "youden": "Youden's J",
        "closest": "the point of the ROC curve closest to its corner",
        "mcc": "the largest MCC",
        "sensitivity": f"a sensitivity of at least {wanted.sensitivity:g}",
        "cost": (
            "the least cost, a missed malignant lesion counting as "
            f"{wanted.cost_ratio:g} false alarms"
        ),
    }[wanted.rule]


def rule_words(rule: Mapping[str, Any]) -> str:
    """The rule of an opening of the seal as it stands in the log: calibrate none, threshold
    youden."""
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in rule.items())


def _calibration(study: Study) -> str:
    if study.calibrate == "none":
        return "None: the score is the model's own P(malignant)."
    kind = {
        "platt": "Platt's logistic curve",
        "isotonic": "isotonic regression",
        "temperature": "one temperature",
    }[study.calibrate]
    return (
        f"Per model, {kind}, fitted on its own validation fold, before the threshold and the "
        "vote. AUCs in validation are those of the model's own scores."
    )


def provenance_facts(evidence: Evidence) -> list[tuple[str, str]]:
    """Versions, seeds and hashes, each once."""
    study, given = evidence.study, dict(evidence.provenance)
    prepared = {
        str(name): str(version) for name, version in (given.pop("versions", None) or {}).items()
    }
    facts = _programs(evidence, prepared.pop(PROGRAM, None))
    if prepared:
        facts.append(("Versions", _versions(prepared)))
    differing = {
        name: version
        for name, version in _trial_versions(evidence).items()
        if name != PROGRAM and version != prepared.get(name)
    }
    if differing:
        facts.append(
            ("Versions in training" + (", where others" if prepared else ""), _versions(differing))
        )
    facts += [
        ("Seed of the study", str(study.seed)),
        (
            "Seeds of the trials",
            "follow from it and the trial's name; each stands in its spec.json",
        ),
        ("Weights", weights_name(study.weights)),
        ("Backend", study.backend),
        ("Activations", study.activation_dtype),
    ]
    facts += [
        (f"SHA-256 of the {name}", str(value))
        for name, value in (given.pop("hashes", None) or {}).items()
    ]
    created = given.pop("created", None)
    if prepared_on := given.pop("prepared", created):
        facts.append(("Prepared", moment(str(prepared_on))))
    return facts + [(name.replace("_", " ").capitalize(), value) for name, value in _flat(given)]


def _programs(evidence: Evidence, prepared: str | None) -> list[tuple[str, str]]:
    """Which renal-ray did what; one line where it was the same all along."""
    trials = sorted({trial.spec.inputs.code for trial in evidence.trials.finished})
    did = {
        "Prepared by": [prepared] if prepared else [],
        "Trials by": trials,
        "Report by": [__version__],
    }
    if {version for versions in did.values() for version in versions} == {__version__}:
        return [("Program", f"{PROGRAM} {__version__}")]
    return [(name, f"{PROGRAM} {listed(versions)}") for name, versions in did.items() if versions]


def _versions(found: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in found.items())


def _statistics(choice: str) -> str:
    if choice == "moving":
        return "Keras's moving averages, as in the paper's code."
    return (
        "Statistics of the trained layers re-estimated over the "
        "fold's training images after the last epoch."
    )


def _trial_versions(evidence: Evidence) -> dict[str, str]:
    found: dict[str, set[str]] = {}
    for trial in evidence.trials.finished:
        for name, version in trial.result.get("versions", {}).items():
            found.setdefault(str(name), set()).add(str(version))
    return {name: listed(sorted(versions)) for name, versions in sorted(found.items())}


def _flat(value: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    pairs = []
    for name, item in value.items():
        if isinstance(item, dict):
            pairs += _flat(item, f"{prefix}{name} ")
        else:
            pairs.append((f"{prefix}{name}", str(item)))
    return pairs
