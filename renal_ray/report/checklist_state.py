"""What this study has to say to the items of the reporting guidelines: one function a kind of item,
each from the files alone."""

from collections.abc import Callable
from dataclasses import dataclass

from renal_ray.problems import Severity
from renal_ray.protocol.metrics import mean_sd
from renal_ray.report.cohort_tables import CONTROL_RANGE, cohort_table
from renal_ray.report.evidence import Evidence
from renal_ray.report.patients import by_patient
from renal_ray.report.protocol_facts import threshold_words
from renal_ray.report.statistics.groups import COLUMNS, groupings
from renal_ray.report.text import counted, head_name, listed, two, weights_name
from renal_ray.trial.spec import main_level
from renal_ray.types import Head, Label

OPTIONAL = ("sex", "age", "location", "stage", "grade", "histology", "scanner")


@dataclass(frozen=True)
class State:
    """Where a study stands with an item.

    Args:
        met: whether the report of this study has what the item asks for of it.
        said: how, or what is lacking.
    """

    met: bool
    said: str


@dataclass(frozen=True)
class Facts:
    """What the states are read from.

    Args:
        evidence: the evidence of the study.
        entries: names of files and directories in the work directory.
    """

    evidence: Evidence
    entries: frozenset[str]

    @property
    def is_tested(self) -> bool:
        """Whether there are votes of the study's own models."""
        return self.evidence.test.votes is not None and len(self.evidence.test.votes) > 0


Teller = Callable[[Facts], State]


def _excluded(facts: Facts) -> State:
    left_out = facts.evidence.quarantine[facts.evidence.quarantine["severity"] == Severity.ERROR][
        "patient_id"
    ].nunique()
    kept = counted(len(facts.evidence.splits.patients), "patient")
    return State(
        True,
        f"{kept} kept; {left_out} left out, each with a reason."
        if left_out
        else f"{kept} kept; nobody was left out.",
    )


def _images(facts: Facts) -> State:
    images = facts.evidence.study.images
    return State(
        True,
        f"{images.size} × {images.size} pixels, three CT windows; "
        f"crop: {str(images.crop).lower()}.",
    )


def _selection(facts: Facts) -> State:
    chosen = facts.evidence.study.selection
    most = f", at most {chosen.max_slices}" if chosen.max_slices else ""
    return State(
        True,
        f"Slices with at least {100 * chosen.min_area_fraction:g} % of "
        f"the patient's largest lesion area{most}.",
    )


def _missing(facts: Facts) -> State:
    cohort = facts.evidence.cohort
    there = [name for name in OPTIONAL if name in cohort and cohort[name].notna().any()]
    absent = [name for name in OPTIONAL if name not in there]
    gaps = {name: int(cohort[name].isna().sum()) for name in there}
    partly = [f"{name} of {counted(n, 'patient')}" for name, n in gaps.items() if n]
    said = [f"Not known: {listed(partly)}."] if partly else []
    said += [f"The cohort does not give {listed(absent)}."] if absent else []
    return State(not absent, " ".join(said) or "Every optional column is given for everybody.")


def _scanners(facts: Facts) -> State:
    cohort = facts.evidence.cohort
    if "scanner" not in cohort or not cohort["scanner"].notna().any():
        return State(False, "The manifest names no scanner.")
    return State(True, f"{counted(cohort['scanner'].nunique(), 'scanner')} named in the manifest.")


def _masks(facts: Facts) -> State:
    if not len(facts.evidence.masks):
        return State(False, "Other masks were not tried (robustness.mask_mm).")
    return State(True, "Scores under dilated, eroded and shifted masks are in the report.")


def _partitions(facts: Facts) -> State:
    splits = facts.evidence.splits
    return State(
        True,
        f"{len(splits.training)} patients in {splits.n_folds} folds, "
        f"{len(splits.test)} sealed; drawn with seed {splits.seed}.",
    )


def _disjoint(facts: Facts) -> State:
    return State(
        True,
        "The patient: nobody is on two sides; held when the split "
        "is made and again when a model is fed.",
    )


def _test_size(facts: Facts) -> State:
    return State(
        False,
        f"{counted(len(facts.evidence.splits.test), 'test patient')}; the "
        "program does not say whether that is enough.",
    )


def _models(facts: Facts) -> State:
    done = len(facts.evidence.trials.true)
    heads = listed(head_name(head) for head in facts.evidence.study.heads.use)
    return State(
        done > 0,
        f"{counted(done, 'finished trial')} ({heads}), each with specification and weights.",
    )


def _versions(facts: Facts) -> State:
    told = bool(facts.evidence.provenance.get("versions"))
    return State(
        told,
        "Versions of the program and its libraries are listed."
        if told
        else "The study file keeps no versions.",
    )


def _weights(facts: Facts) -> State:
    weights = facts.evidence.study.weights
    if weights == "random":
        return State(
            True,
            "Random weights: the numbers show that the program runs, not what the method can do.",
        )
    return State(True, f"{'ImageNet' if weights == 'imagenet' else weights_name(weights)} weights.")


def _training(facts: Facts) -> State:
    unfinished = len(facts.evidence.trials.unfinished)
    lacking = sum(len(folds) for *_, folds in facts.evidence.missing_folds())
    said = (
        f"{counted(lacking, 'fold')} still to train, {unfinished} begun without a result."
        if lacking
        else "Every fold of every model is trained."
    )
    return State(not lacking, said)


def _chosen(facts: Facts) -> State:
    evidence = facts.evidence
    if not evidence.selected:
        return State(False, "No freeze point is selected yet.")
    return State(
        True,
        "Freeze points: "
        f"{listed(f'{dataset} {point}' for dataset, point in evidence.selected.items())}, "
        "by mean validation AUC.",
    )


def _vote(facts: Facts) -> State:
    models = len(facts.evidence.study.fold_numbers)
    return State(
        facts.is_tested,
        "Majority of "
        f"{counted(models, 'fold model')}{'' if facts.is_tested else '; not yet on the test'}.",
    )


def _intervals(facts: Facts) -> State:
    if not facts.evidence.trials.true:
        return State(False, "Nothing is trained yet.")
    settings = facts.evidence.study.statistics
    return State(
        True,
        f"By patient: {settings.bootstrap} bootstrap samples ({settings.interval}), "
        "DeLong, Wilson; differences first, Holm's correction.",
    )


def _robustness(facts: Facts) -> State:
    evidence, found = facts.evidence, []
    if evidence.trials.controls:
        mean, _ = mean_sd(
            [trial.metrics(main_level(Head.IMAGE))["auc"] for trial in evidence.trials.controls]
        )
        inside = mean is not None and CONTROL_RANGE[0] <= mean <= CONTROL_RANGE[1]
        found.append(f"permuted labels (AUC {two(mean)}{'' if inside else ': not at chance'})")
    found += [
        name
        for name in ("repeats", "leave-one-scanner-out", "learning curve")
        if evidence.trials_of(name)
    ]
    found += ["other masks"] if len(evidence.masks) else []
    if not found:
        return State(
            False,
            "None was run: no permuted labels, repeats, scanners "
            "left out, masks or learning curve.",
        )
    lacking = "" if evidence.trials.controls else "; the negative control was not trained"
    return State(True, f"Run: {listed(found)}{lacking}.")


def _explained(facts: Facts) -> State:
    there = "explain" in facts.entries
    return State(
        there,
        "Attention maps are in explain/."
        if there
        else "No attention maps were made (renal-ray explain).",
    )


def _sealed(facts: Facts) -> State:
    test = facts.evidence.test
    if not test.opened:
        return State(False, "The seal is closed: there is no test result yet.")
    if not facts.is_tested:
        return State(
            False, "The seal was opened, but no votes of the study's present models are there."
        )
    sealed = [patient for patient in facts.evidence.splits.patients if patient.role == "test"]
    malignant = sum(patient.label == Label.MALIGNANT for patient in sealed)
    opened = "once" if len(test.openings) == 1 else f"{len(test.openings)} times"
    return State(
        True,
        f"{counted(len(sealed), 'test patient')}, {malignant} "
        f"malignant; the seal was opened {opened}.",
    )


def _external(facts: Facts) -> State:
    cohorts = [
        f"{name} ({counted(patients, 'patient')})"
        for name, patients in facts.evidence.external.items()
    ]
    if cohorts:
        return State(True, f"Tested on {listed(cohorts)}; each has a report of its own.")
    return State(
        False,
        "No external cohort: the sealed patients are of the same cohort as the training patients.",
    )


def _cohort(facts: Facts) -> State:
    names = _in_table_one(facts)
    who = (
        "all patients"
        if facts.evidence.test.opened
        else "the training patients; the others' labels are sealed"
    )
    return State(
        bool(names), f"Table 1 shows {who}: {listed(names) or 'no characteristic is known'}."
    )


def _in_table_one(facts: Facts) -> list[str]:
    """The characteristics that Table 1 prints, without their numbers."""
    printed = (
        cohort_table(facts.evidence).data["characteristic"].iloc[1:]
    )  # after the number of patients
    return [str(name).partition(" (")[0] for name in dict.fromkeys(printed)]


def _cohort_by_part(facts: Facts) -> State:
    """Characteristics of training and test patients apart, which no table prints."""
    return State(
        False,
        f"{_cohort(facts).said} It does not part training and test patients; their "
        "numbers and classes stand in the table of the split.",
    )


def _errors(facts: Facts) -> State:
    data = by_patient(facts.evidence)
    if data.empty:
        return State(False, "Nobody was scored yet.")
    wrong = data[~data["right"].astype(bool)]
    return State(
        True,
        f"{wrong['patient_id'].nunique()} of {data['patient_id'].nunique()} patients "
        "were misjudged by at least one model; each is named.",
    )


def _heterogeneity(facts: Facts) -> State:
    if facts.evidence.trials_of("leave-one-scanner-out"):
        return State(True, "Each scanner was left out in turn.")
    return State(
        False, "No scanner was left out (robustness.leave_scanner_out); one cohort is one cluster."
    )


def _calibrated(facts: Facts) -> State:
    kind = facts.evidence.study.calibrate
    if not facts.evidence.trials.true:
        return State(False, f"calibrate: {kind}; nothing is trained yet.")
    return State(
        True,
        "No recalibration (calibrate: none); calibration is measured."
        if kind == "none"
        else f"{kind.capitalize()}, fitted on validation only.",
    )


def _imbalance(facts: Facts) -> State:
    return State(
        True,
        "The smaller class is oversampled in training only; "
        f"calibrate: {facts.evidence.study.calibrate}.",
    )


def _subgroups(facts: Facts) -> State:
    names = [grouping.name.lower() for grouping in groupings(facts.evidence.cohort)]
    absent = [name.lower() for name in COLUMNS if name.lower() not in names]
    if not names or not facts.evidence.trials.true:
        return State(False, "No subgroup can be shown." if not names else "Nothing is trained yet.")
    return State(
        True, f"By {listed(names)}" + (f"; not known: {listed(absent)}." if absent else ".")
    )


def _threshold(facts: Facts) -> State:
    return State(
        True, f"Fixed before the test, on validation: {threshold_words(facts.evidence.study)}."
    )


def _blinded(facts: Facts) -> State:
    return State(
        True,
        "The models see images alone; no label of a sealed patient "
        "is read before the seal is opened.",
    )


def _indeterminate(facts: Facts) -> State:
    return State(
        False,
        "No result can be indeterminate: every score is decided, an even vote by the mean score.",
    )


def _severity(facts: Facts) -> State:
    names = [
        name
        for name in ("Size", "Stage", "Grade")
        if name in {grouping.name for grouping in groupings(facts.evidence.cohort)}
    ]
    return State(
        bool(names),
        f"{listed(names).capitalize()} given."
        if names
        else "Neither size, stage nor grade is known.",
    )


def _histology(facts: Facts) -> State:
    there = "histology" in _in_table_one(facts)
    return State(
        there,
        "Histology of both classes in Table 1." if there else "The manifest gives no histology.",
    )


STATES: dict[str, Teller] = {
    "blinded": _blinded,
    "calibrated": _calibrated,
    "chosen": _chosen,
    "cohort": _cohort,
    "cohort_by_part": _cohort_by_part,
    "disjoint": _disjoint,
    "errors": _errors,
    "excluded": _excluded,
    "explained": _explained,
    "external": _external,
    "heterogeneity": _heterogeneity,
    "histology": _histology,
    "images": _images,
    "imbalance": _imbalance,
    "indeterminate": _indeterminate,
    "intervals": _intervals,
    "masks": _masks,
    "missing": _missing,
    "models": _models,
    "partitions": _partitions,
    "robustness": _robustness,
    "scanners": _scanners,
    "sealed": _sealed,
    "selection": _selection,
    "severity": _severity,
    "subgroups": _subgroups,
    "test_size": _test_size,
    "threshold": _threshold,
    "training": _training,
    "versions": _versions,
    "vote": _vote,
    "weights": _weights,
}
