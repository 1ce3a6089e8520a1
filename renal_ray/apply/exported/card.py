"""The model card: a README.md as Hugging Face shows it, filled from the run; what a program cannot
know is marked for the authors."""

from collections.abc import Iterator, Sequence
from typing import Any

import yaml

from renal_ray import __version__
from renal_ray.apply.chosen import Chosen
from renal_ray.apply.exported.check import TOLERANCE, Checked
from renal_ray.apply.exported.preprocessing import preprocessing
from renal_ray.protocol.delong import auc_interval
from renal_ray.protocol.intervals import wilson
from renal_ray.protocol.metrics import METRICS
from renal_ray.report.evidence import Evidence
from renal_ray.report.search.sentences import search_caveats
from renal_ray.report.tables import vote_metrics
from renal_ray.report.text import METRIC_NAMES, counted, head_name, plus_minus, two
from renal_ray.trial.record import versions
from renal_ray.types import Head, Label

AUTHORS = "*(for the authors to write)*"
HUGGING_FACE = {
    "auc": "roc_auc",
    "acc": "accuracy",
    "sen": "recall",
    "spec": "specificity",
    "ppv": "precision",
    "npv": "npv",
    "mcc": "matthews_correlation",
}


def model_card(chosen: Sequence[Chosen], evidence: Evidence, checked: Checked) -> str:
    """The card of the fold models of one dataset.

    Args:
        chosen: the same models with each head, the image head first.
        evidence: of the study that they come from.
        checked: how far the ONNX models are from Keras.

    Returns:
        Markdown with YAML front matter.
    """
    front = yaml.safe_dump(_front(chosen, evidence), sort_keys=False, allow_unicode=True, width=120)
    return f"---\n{front}---\n\n" + "\n".join(_sections(chosen, evidence, checked)) + "\n"


def _front(chosen: Sequence[Chosen], evidence: Evidence) -> dict[str, Any]:
    first = chosen[0]
    results: list[dict[str, Any]] = []
    for one in chosen:
        for split, values in (
            ("validation", _validation(one)),
            ("sealed test", _test(one, evidence)),
        ):
            if values:
                metrics = [
                    {
                        "type": HUGGING_FACE[name],
                        "name": METRIC_NAMES[name],
                        "value": round(value, 4),
                    }
                    for name, value in values.items()
                ]
                # Hugging Face joins results whose task and dataset - type, configuration, split -
                # are the same: the head is the configuration.
                dataset = {
                    "name": f"{evidence.study.name}, {one.head} head, {split}, per patient",
                    "type": evidence.study.name,
                    "config": str(one.head),
                    "split": split,
                }
                task = {
                    "type": "image-classification",
                    "name": f"benign or malignant renal tumour, {one.head} head",
                }
                results.append({"task": task, "dataset": dataset, "metrics": metrics})
    return {
        "license": "other",
        "license_name": "to-be-chosen-by-the-authors",
        "library_name": "onnx",
        "pipeline_tag": "image-classification",
        "tags": [
            "radiology",
            "ct",
            "kidney",
            "renal-tumour",
            "inceptionv3",
            "onnx",
            "keras",
            "not-for-clinical-use",
        ],
        "metrics": sorted({metric["type"] for result in results for metric in result["metrics"]}),
        "model-index": [
            {
                "name": f"{evidence.study.name}-{first.dataset}-{first.freeze_point}",
                "results": results,
            }
        ],
    }


def _validation(one: Chosen) -> dict[str, float]:
    found = {metric: one.validation(metric)[0] for metric in METRICS}
    return {metric: value for metric, value in found.items() if value is not None}


def _test(one: Chosen, evidence: Evidence) -> dict[str, float]:
    votes = evidence.votes(one.dataset, one.head, "patient")
    return (
        {metric: value for metric, value in vote_metrics(votes).items() if value is not None}
        if len(votes)
        else {}
    )


def _sections(chosen: Sequence[Chosen], evidence: Evidence, checked: Checked) -> Iterator[str]:
    first, study = chosen[0], evidence.study
    folds = len(first.images)
    yield f"# {study.name}: benign or malignant renal tumour on CT\n"
    yield (
        "**For research only. Not for clinical use. No decision on a "
        "patient may rest on these models.**\n"
    )
    yield "## Model\n"
    yield (
        f"{folds} InceptionV3 models, one a fold of cross-validation, that vote: "
        "malignant where more than half say so, each at its own threshold. "
        f"Every image model reads one axial CT slice of the dataset *{first.dataset}* "
        f"({study.images.size} x {study.images.size}, three attenuation windows as "
        f"RGB) and gives P(malignant) and an embedding of {study.training.embedding} values. "
        f"Layers up to and including {first.freeze_point} are frozen at "
        f"their initial weights (`{first.images[0].weights}`), the others were trained on "
        "this cohort. A patient's score is the mean over the slices"
        f"{_heads(chosen)}."
    )
    yield (
        "\nMethod: Zhou et al. 2019, Translational Oncology "
        f"12:292-300. Written by renal-ray {__version__}.\n"
    )
    yield "## Intended use\n"
    yield (
        "Research on contrast-enhanced CT of adults with a renal tumour whose outline "
        "is given. The models neither find nor outline tumours.\n"
    )
    yield (
        "Not intended: diagnosis, triage, screening, patients without a renal tumour, other "
        "modalities, other contrast phases than the cohort's, children.\n"
    )
    yield f"Contrast phase, inclusion and exclusion of the cohort: {AUTHORS}\n"
    yield "## Cohort\n"
    yield from _cohort(evidence)
    yield "## Preprocessing\n"
    made = preprocessing(study, first.dataset)
    windows = ", ".join(
        f"{channel} {edges[0]:g} to {edges[1]:g} HU"
        for channel, edges in made["windows_hu"].items()
    )
    yield (
        f"Windows: {windows}. Region: {made['region']}. "
        f"{made['square'].capitalize()}. Exactly: `preprocessing.json`.\n"
    )
    yield "## Results\n"
    yield from _results(chosen, evidence)
    yield "## Limitations\n"
    yield from (f"- {line}" for line in _limitations(first, evidence))
    yield "\n## Files\n"
    yield "| file | what |\n|---|---|"
    yield (
        "| `onnx/*.onnx` | the models: `images` uint8 (n, size, size, 3) in, `probabilities` "
        "(benign, malignant) and `embedding` out; heads on embeddings |"
    )
    yield "| `weights/*.h5` | the same weights by Keras layer name, HDF5 without code |"
    yield (
        "| `config.json` | thresholds, trials and checksums |\n| "
        "`preprocessing.json` | what is done to an image before |"
    )
    yield (
        "| `predict_onnx.py` | runs the vote with numpy and onnxruntime alone; without "
        "arguments it checks the models against `example.json` |\n"
    )
    seen = f"{counted(checked.slices, 'slice')} of {counted(checked.patients, 'training patient')}"
    yield f"Before this card was written the ONNX models ran in onnxruntime on {seen}:"
    yield (
        "their scores differ from those of the same models in Keras by at most "
        f"{checked.difference:.1e}; {TOLERANCE:g} is let pass.\n"
    )
    yield "## Licence and citation\n"
    yield f"Licence: {AUTHORS}\n"
    yield (
        "Weights can hold traces of the patients they were trained on: ask whoever "
        "approved the use of the data before they are passed on.\n"
    )
    yield f"Citation and contact: {AUTHORS}\n"
    yield f"Versions: {', '.join(f'{name} {version}' for name, version in versions().items())}."


def _heads(chosen: Sequence[Chosen]) -> str:
    named = []
    for one in chosen:
        if one.head is Head.FC:
            named.append("a dense layer on the largest embedding values (fc)")
        elif one.head is Head.GRU:
            named.append(
                f"{counted(one.voters[0].training.gru_layers, 'GRU layer')} "
                "over the slices' embeddings (gru)"
            )
    return f"; patient-level heads: {' and '.join(named)}" if named else ""


def _cohort(evidence: Evidence) -> Iterator[str]:
    yield "| | patients | malignant | slices |\n|---|---|---|---|"
    for role, name in (("train", "cross-validation"), ("test", "sealed test")):
        part = [one for one in evidence.splits.patients if one.role == role]
        malignant = (
            "sealed"
            if role == "test" and not evidence.test.opened
            else str(sum(one.label for one in part))
        )
        yield f"| {name} | {len(part)} | {malignant} | {sum(one.n_images for one in part)} |"
    yield f"\nOrigin, years, scanners, demographics, ethics approval: {AUTHORS}\n"


def _results(chosen: Sequence[Chosen], evidence: Evidence) -> Iterator[str]:
    yield (
        "Per patient. Validation: mean ± SD over folds; it chose freeze point and "
        "thresholds, so it is no estimate of the final performance.\n"
    )
    yield (
        "| head | set | patients | "
        + " | ".join(METRIC_NAMES[metric] for metric in METRICS)
        + " |\n|"
        + "---|" * (len(METRICS) + 3)
    )
    notes = []
    for one in chosen:
        values = " | ".join(plus_minus(*one.validation(metric)) for metric in METRICS)
        yield f"| {head_name(one.head)} | validation | {len(evidence.splits.training)} | {values} |"
        votes = evidence.votes(one.dataset, one.head, "patient")
        if len(votes):
            found = vote_metrics(votes)
            yield (
                f"| {head_name(one.head)} | sealed test, vote | {len(votes)} | "
                f"{' | '.join(two(found[metric]) for metric in METRICS)} |"
            )
            notes.append(
                _intervals(
                    one,
                    votes["label"].to_numpy(int),
                    votes["score"].to_numpy(float),
                    votes["decision"].to_numpy(int),
                )
            )
    yield ""
    yield from notes
    if not notes:
        yield "The sealed test has not been opened for these models."
    yield ""


def _intervals(one: Chosen, labels: Any, scores: Any, decisions: Any) -> str:
    parts = []
    if interval := auc_interval(labels, scores):
        parts.append(f"AUC {two(interval.lower)} to {two(interval.upper)} ({interval.method})")
    for name, of in (("SEN", Label.MALIGNANT), ("SPEC", Label.BENIGN)):
        truth = labels == of
        if bounds := wilson(int((decisions[truth] == of).sum()), int(truth.sum())):
            parts.append(f"{name} {two(bounds[0])} to {two(bounds[1])} (Wilson)")
    return f"{head_name(one.head)}, 95 % intervals of the sealed test: {'; '.join(parts)}."


def _limitations(first: Chosen, evidence: Evidence) -> Iterator[str]:
    study = evidence.study
    yield (
        f"{counted(len(evidence.splits.training), 'patient')} of one cohort: "
        "performance elsewhere is unknown until it is measured there."
    )
    if study.calibrate == "none":
        yield (
            "Scores are not calibrated: 0.8 does not mean that 80 of 100 "
            "such patients have a malignant tumour."
        )
    else:
        yield (
            f"Scores were calibrated ({study.calibrate}) on the validation "
            "folds of this cohort and may be off elsewhere."
        )
    yield "The range of the fold models is no confidence interval."
    yield "Everything rests on the lesion's outline; another reader's outline gives another score."
    if first.images[0].weights == "random":
        yield (
            "The frozen layers have random weights: the models show that the "
            "program runs, not what the method can do."
        )
    if study.training.keep == "best_val_auc":
        yield (
            "The weights of the epoch with the best validation AUC were kept, "
            "so that the validation numbers are optimistic."
        )
    yield from search_caveats(evidence.search, study.training.model_dump(mode="json"))
    if study.fold_numbers != list(range(study.folds.n)):
        yield f"Only folds {study.fold_numbers} of {study.folds.n} were trained."
    if study.precision != "float32":
        yield (
            f"The models were trained and thresholds fixed in {study.precision}; the ONNX "
            "models compute in float32 and differ in the last digits."
        )
    if study.activation_dtype != "float32":
        yield (
            f"Thresholds were fixed on activations kept as {study.activation_dtype}; the ONNX "
            "models compute in float32 and differ in the last digits."
        )
    if len(evidence.test.openings) > 1:
        yield f"The seal on the test patients was opened {len(evidence.test.openings)} times."
