"""The report in sentences: the question, the result, what must be known before anyone believes
it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from renal_ray.problems import Severity
from renal_ray.protocol.metrics import mean_sd
from renal_ray.report import paper
from renal_ray.report.cohort_tables import CONTROL_RANGE
from renal_ray.report.evidence import Evidence
from renal_ray.report.search.sentences import search_caveats
from renal_ray.report.statistics.evaluation import frozen_note
from renal_ray.report.tables import validation_summary, vote_metrics
from renal_ray.report.text import counted, dataset_name, head_name, listed, moment, plus_minus, two
from renal_ray.store.seal import FIRST_RULE
from renal_ray.trial.collapse import summary
from renal_ray.trial.spec import main_level
from renal_ray.types import Dataset, FreezePoint, Head, Label


@dataclass(frozen=True)
class HeadResult:
    """One head on one dataset at the level of the paper's tables.

    Args:
        head: image, fc or gru.
        validation_auc: mean and SD over folds.
        n_folds: folds behind it.
        test: metrics of the vote on the sealed patients; None when not tested.
    """

    head: Head
    validation_auc: tuple[float | None, float | None]
    n_folds: int
    test: dict[str, float | None] | None


@dataclass(frozen=True)
class DatasetResult:
    """The best of one dataset.

    Args:
        dataset: slice, roi or rbr.
        freeze_point: the selected one; None without a finished image-level trial.
        provisional: whether folds or freeze points are missing behind the selection.
        heads: results of the heads used.
        control_aucs: mean validation AUC of each permutation of the labels.
    """

    dataset: Dataset
    freeze_point: FreezePoint | None
    provisional: bool
    heads: tuple[HeadResult, ...]
    control_aucs: tuple[float, ...]


def dataset_results(evidence: Evidence) -> tuple[DatasetResult, ...]:
    """The headline numbers of every dataset."""
    lacking = {dataset for dataset, _, head, _ in evidence.missing_folds() if head is Head.IMAGE}
    results = []
    for dataset in evidence.study.datasets:
        point = evidence.selected.get(dataset)
        heads = []
        for head in evidence.study.heads.use:
            trials = evidence.cell(dataset, point, head) if point else []
            votes = evidence.votes(dataset, head, main_level(head))
            auc = validation_summary(trials, main_level(head))["auc"]
            heads.append(
                HeadResult(head, auc, len(trials), vote_metrics(votes) if len(votes) else None)
            )
        results.append(
            DatasetResult(
                dataset, point, dataset in lacking, tuple(heads), _control_aucs(evidence, dataset)
            )
        )
    return tuple(results)


def terminal_lines(results: tuple[DatasetResult, ...]) -> tuple[str, ...]:
    """One line a dataset for the terminal."""
    lines = []
    for result in results:
        if result.freeze_point is None:
            lines.append(f"{dataset_name(result.dataset)}: no finished image-level trial")
            continue
        image = next(head for head in result.heads if head.head is Head.IMAGE)
        mark = " (provisional)" if result.provisional else ""
        parts = [
            f"{dataset_name(result.dataset)}: {result.freeze_point}{mark}",
            f"validation AUC {plus_minus(*image.validation_auc)}",
        ]
        parts += [
            f"test {head_name(h.head)} ACC {two(h.test['acc'])} AUC {two(h.test['auc'])}"
            for h in result.heads
            if h.test is not None
        ]
        if result.control_aucs:
            parts.append(
                f"permuted labels AUC {', '.join(two(auc) for auc in result.control_aucs)}"
            )
        lines.append("; ".join(parts))
    return tuple(lines)


def population(evidence: Evidence) -> str:
    """On whom: counts of patients and slices; the classes of the sealed ones only once the seal was
    opened."""
    splits = evidence.splits
    shown = [p for p in splits.patients if evidence.test.opened or p.role == "train"]
    malignant = sum(p.label == Label.MALIGNANT for p in shown)
    images = sum(p.n_images for p in splits.patients)
    classes = f"{malignant} malignant, {len(shown) - malignant} benign" + (
        "" if evidence.test.opened else " among those not sealed"
    )
    return (
        f"{counted(len(splits.patients), 'patient')} with a renal tumour "
        f"({classes}) and {counted(images, 'axial CT slice')}. "
        f"{len(splits.training)} patients in {splits.n_folds} cross-validation "
        f"folds, {len(splits.test)} sealed away for the test."
    )


def averaged_over(evidence: Evidence) -> str:
    """On whom the curves and points of a validation figure stand: slices, patients, folds."""
    training = [patient for patient in evidence.splits.patients if patient.role == "train"]
    counts = sorted(
        {
            len(evidence.cell(d, p, Head.IMAGE))
            for d in evidence.study.datasets
            for p in evidence.freeze_points
        }
    )
    averaged = (
        counted(counts[0], "fold") if len(counts) == 1 else f"{counts[0]} to {counts[-1]} folds"
    )
    slices = counted(sum(patient.n_images for patient in training), "slice")
    return (
        f"n = {slices} of {counted(len(training), 'training patient')} in "
        f"{evidence.splits.n_folds} folds; {averaged} averaged."
    )


def best_results(evidence: Evidence, results: tuple[DatasetResult, ...]) -> Iterator[str]:
    """The best of validation and of the test, as sentences."""
    ranked = [
        (r, h)
        for r in results
        for h in r.heads
        if h.head is Head.IMAGE and h.validation_auc[0] is not None
    ]
    if not ranked:
        yield "No image-level model has finished yet: there is nothing to compare."
        return
    best, image = max(ranked, key=lambda pair: pair[1].validation_auc[0] or 0.0)
    yield (
        f"In cross-validation the {dataset_name(best.dataset)} dataset, frozen "
        f"up to {best.freeze_point}, separated slices best: "
        f"AUC {plus_minus(*image.validation_auc)} over "
        f"{counted(image.n_folds, 'fold')} (paper: "
        f"{dataset_name(Dataset.ROI)}, "
        f"{paper.freeze_point(Dataset.ROI)}, "
        f"{plus_minus(*paper.validation(Dataset.ROI, Head.IMAGE)['auc'])})."
    )
    tested = [
        (r, h) for r in results for h in r.heads if h.test is not None and h.head is not Head.IMAGE
    ]
    if tested:
        shown = [
            f"{dataset_name(r.dataset)} {head_name(h.head)} {two(h.test['acc'])}"
            for r, h in tested
            if h.test is not None
        ]
        yield (
            "On the sealed patients the patient-level votes were right "
            f"with an accuracy of: {', '.join(shown)}."
        )


def caveats(evidence: Evidence) -> Iterator[str]:
    """What a reader must know before using a number; every one follows from the files."""
    study, trials = evidence.study, evidence.trials
    if evidence.sources.changed:
        on = (
            f" on {moment(str(evidence.provenance['prepared']))}"
            if "prepared" in evidence.provenance
            else ""
        )
        yield (
            f"Made from the cohort as prepared{on}; the sources have "
            f"changed since: {evidence.sources.changed}."
        )
    if evidence.collapsed:
        yield f"{summary(evidence.collapsed)}."
    if study.weights == "random":
        yield (
            "The backbone had random weights, not ImageNet's: the numbers show that the "
            f"program runs, not what the method can do.{frozen_note(evidence)}"
        )
    if study.training.keep == "best_val_auc":
        yield (
            "The epoch kept is the one with the best validation AUC (training.keep: "
            "best_val_auc): validation numbers are optimistic."
        )
    if study.training.bn_statistics == "moving":
        yield (
            "Batch-normalisation statistics are Keras's moving averages: after "
            "few epochs the models look worse than they are."
        )
    if study.calibrate != "none":
        wanting = (
            "; isotonic regression wants some hundreds of patients in each"
            if study.calibrate == "isotonic"
            else ""
        )
        yield (
            "Calibrators were fitted on the validation folds themselves, so that "
            f"calibration looks better there than it is{wanting} (calibrate)."
        )
    yield from search_caveats(evidence.search, study.training.model_dump(mode="json"))
    yield from _gaps(evidence)
    failed = [trial for trial in trials.unfinished if trial.reason]
    if failed:
        yield (
            f"{counted(len(failed), 'trial')} failed; the next `renal-ray sweep` tries "
            f"{'it' if len(failed) == 1 else 'them'} again. See Trials."
        )
    if trials.set_aside:
        yield (
            f"{counted(trials.set_aside, 'finished trial')} of other settings, data, "
            "splits or selected freeze points in the same work directory "
            f"{_are(trials.set_aside)} in no number here."
        )
    yield from _test_caveats(evidence)
    outside = [
        (d, a)
        for d in study.datasets
        for a in _control_aucs(evidence, d)
        if not CONTROL_RANGE[0] <= a <= CONTROL_RANGE[1]
    ]
    if outside:
        yield (
            "The negative control left its range on "
            f"{listed(dict.fromkeys(dataset_name(d) for d, _ in outside))}: read that section "
            "before any other number."
        )
    left_out, warned = (
        (evidence.quarantine["severity"] == severity).sum()
        for severity in (Severity.ERROR, Severity.WARNING)
    )
    if left_out:
        yield (
            f"{counted(int(left_out), 'patient')} could not be used and "
            f"{_are(int(left_out))} quarantined with a reason."
        )
    if warned:
        yield (
            f"{counted(int(warned), 'warning')} about patients who were kept: see the table of "
            "the cohort, and look at their images with `renal-ray inspect`."
        )


def control_sentence(evidence: Evidence) -> str:
    """What the negative control says, plainly."""
    aucs = [
        (dataset, auc)
        for dataset in evidence.study.datasets
        for auc in _control_aucs(evidence, dataset)
    ]
    low, high = CONTROL_RANGE
    if not aucs:
        return (
            "Not run (controls.permuted_labels: false, or its trials are not finished): "
            "nothing here shows that no information leaks between folds."
        )
    outside = [
        f"{dataset_name(dataset)} {two(auc)}" for dataset, auc in aucs if not low <= auc <= high
    ]
    told = (
        f"{counted(len(aucs), 'run')} on permuted patient labels, "
        "trained exactly as the true ones; "
        f"the mean AUC over folds should lie in {two(low)} to {two(high)}"
    )
    if not outside:
        return (
            f"{told}, and {'it does' if len(aucs) == 1 else 'all do'}: where there is nothing to "
            "find the models find nothing, and no leak between folds shows."
        )
    return (
        f"{told}; outside it: {', '.join(outside)}. With few patients a single permutation "
        "can stray by chance, to either side; a mean well above 0.5 "
        "in several permutations means that something of the validation patients reaches training."
    )


def _control_aucs(evidence: Evidence, dataset: Dataset) -> tuple[float, ...]:
    groups: dict[str, list[float | None]] = {}
    for trial in evidence.trials.controls:
        if trial.spec.dataset is dataset:
            groups.setdefault(f"{trial.spec.freeze_point} {trial.spec.labels}", []).append(
                trial.metrics(main_level(Head.IMAGE))["auc"]
            )
    return tuple(
        mean for _, aucs in sorted(groups.items()) if (mean := mean_sd(aucs)[0]) is not None
    )


def _gaps(evidence: Evidence) -> Iterator[str]:
    wanted = len(evidence.study.fold_numbers)
    if wanted < evidence.splits.n_folds:
        yield (
            f"Only folds {listed(str(k) for k in evidence.study.fold_numbers)} of "
            f"{evidence.splits.n_folds} were to be run (folds.run)."
        )
    for dataset in evidence.study.datasets:
        lacking = [(p, h, folds) for d, p, h, folds in evidence.missing_folds() if d is dataset]
        if not lacking:
            continue
        parts = [
            f"{point} {head_name(head)} has {wanted - len(folds)} of {wanted} folds"
            for point, head, folds in lacking
        ]
        image = any(head is Head.IMAGE for _, head, _ in lacking)
        end = "; its freeze point is provisional." if image else "."
        yield (
            f"{dataset_name(dataset)}: {', '.join(parts)}{end} Means are over the folds there are."
        )
    absent = [head_name(head) for head in Head if head not in evidence.study.heads.use]
    if absent:
        yield f"Not in this study: {listed(absent)} models (heads.use)."


def _test_caveats(evidence: Evidence) -> Iterator[str]:
    test = evidence.test
    for line in test.changes:
        yield (
            "The cohort changed after the seal was opened, on "
            f"{moment(str(line['changed']))}: {line['what']}. Of the test: "
            f"{_counts(line['test'])}."
        )
    if test.other_patients:
        yield (
            "Test patients were withdrawn or corrected since the votes were counted, "
            "which are left out: `renal-ray test` counts them anew."
        )
        return
    if test.other_rule:
        yield (
            "The votes on the sealed test were counted under another rule than the study's "
            "(calibrate, threshold): `renal-ray test` counts them anew."
        )
        if len(test.openings) > 1:
            yield _looked_again(test.openings)
        return
    if test.votes is None:
        said = " The seal was opened, but no votes were written." if test.opened else ""
        yield (
            "The sealed test has not been run: there is no unbiased estimate "
            f"yet. `renal-ray test` opens the seal.{said}"
        )
        return
    if test.stale:
        cells = listed(f"{dataset_name(d)} {f} {head_name(h)}" for d, f, h in test.stale)
        yield (
            "Test results of models that are no longer the study's are left "
            f"out ({cells}): run `renal-ray test` again."
        )
    if len(test.openings) > 1:
        yield _looked_again(test.openings)
    sealed = [p for p in evidence.splits.patients if p.role == "test"]
    malignant = sum(p.label for p in sealed)
    yield (
        f"The test has {counted(len(sealed), 'patient')} ({malignant} malignant, "
        f"{len(sealed) - malignant} benign) of one cohort: "
        "differences of a few patients between models are chance."
    )


def _looked_again(openings: tuple[dict[str, Any], ...]) -> str:
    rules = len({str(opening.get("rule", FIRST_RULE)) for opening in openings})
    under = f", under {rules} rules for threshold and calibration" if rules > 1 else ""
    return (
        f"The seal was opened {len(openings)} times{under}: whatever was changed "
        "after the first was changed with the test result in view."
    )


def _counts(numbers: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in numbers.items())


def _are(n: int) -> str:
    return "is" if n == 1 else "are"
