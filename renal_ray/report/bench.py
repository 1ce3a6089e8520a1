"""bench: the paper's Table 4, minutes of training by dataset and freeze point, for this machine."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from renal_ray.config import Study
from renal_ray.problems import StudyError
from renal_ray.protocol.splits import PatientRole, SplitSet
from renal_ray.report import paper
from renal_ray.report.text import DASH
from renal_ray.store.place import Place
from renal_ray.trial import prepared
from renal_ray.trial.forecast import Forecast
from renal_ray.trial.plan import Plan, Results, finished_results, make_plan
from renal_ray.trial.probe import Probe, read_probe
from renal_ray.trial.spec import Inputs, TrialSpec
from renal_ray.trial.status import clock, slots_of
from renal_ray.types import Dataset, FreezePoint, PatientId

MEASURED, EXTRAPOLATED, UNKNOWN = "measured", "extrapolated", "not measured"
FOLDER = "bench"


@dataclass(frozen=True)
class Cohort:
    """A cohort of patients with equally many slices; the default is the paper's training set.

    Args:
        patients: training patients.
        malignant: how many of them.
        slices: slices of each.
    """

    patients: int = 153
    malignant: int = 109
    slices: int = 20


def write_bench(study: Study, cohort: Cohort) -> str:
    """Writes bench/table4.csv, .json and .md into the work directory.

    Args:
        study: the study; where it is not prepared, its trials are counted on the given cohort.
        cohort: stands for the training patients of a study that is not prepared.

    Returns:
        The page in Markdown.
    """
    work = Place(study.work)
    ready = work.exists(prepared.MARKER)
    plan = make_plan(study, work) if ready else imagined_plan(study, cohort)
    results = finished_results(work) if ready else {}
    probe = read_probe(work, study)
    table = minutes_table(plan, results, probe)
    page = _page(plan, results, probe, table)
    folder = work.at(FOLDER)
    folder.write("table4.csv", table.to_csv(index=False).encode())
    folder.write_json(
        "table4.json", table.astype(object).where(table.notna(), None).to_dict("records")
    )
    folder.write("table4.md", page.encode())
    return page


def imagined_plan(study: Study, cohort: Cohort) -> Plan:
    """The plan of a study on patients who do not exist.

    Raises:
        StudyError: the cohort has fewer patients of a class than there are folds.
    """
    if min(cohort.malignant, cohort.patients - cohort.malignant) < study.folds.n:
        raise StudyError(
            f"bench: {cohort.malignant} of {cohort.patients} patients malignant: "
            f"each of {study.folds.n} folds needs both classes"
        )
    labels = [1] * cohort.malignant + [0] * (cohort.patients - cohort.malignant)
    people = tuple(
        PatientRole(
            PatientId(f"P{number:05d}"),
            role="train",
            fold=number % study.folds.n,
            n_images=cohort.slices,
            label=label,
        )
        for number, label in enumerate(labels)
    )
    splits = SplitSet(seed=study.seed, method=study.folds.method, patients=people)
    return Plan(
        study,
        splits,
        {dataset: Inputs(slices="", splits="", weights="") for dataset in study.datasets},
    )


def minutes_table(plan: Plan, results: Results, probe: Probe | None) -> pd.DataFrame:
    """Minutes of all folds' image trials of each dataset and freeze point, with where they come
    from, and the paper's.

    Returns:
        dataset, freeze_point, minutes, source (measured, extrapolated or not measured),
        folds_measured, zhou2019_minutes.
    """
    forecast = Forecast(plan, results, probe)
    rows = []
    for dataset in plan.study.datasets:
        for point in plan.study.freeze_points:
            specs = plan.image_specs(dataset, point)
            seconds = [_seconds(spec, forecast, results) for spec in specs]
            known = [one for one in seconds if one is not None]
            done = sum(spec.trial_id in results for spec in specs)
            source = (
                UNKNOWN
                if len(known) < len(specs)
                else MEASURED
                if done == len(specs)
                else EXTRAPOLATED
            )
            minutes = sum(known) / 60 if source != UNKNOWN else None
            rows.append(
                (str(dataset), str(point), minutes, source, done, paper.minutes(dataset)[point])
            )
    return pd.DataFrame(
        rows,
        columns=[
            "dataset",
            "freeze_point",
            "minutes",
            "source",
            "folds_measured",
            "zhou2019_minutes",
        ],
    )


def _seconds(spec: TrialSpec, forecast: Forecast, results: Results) -> float | None:
    return (
        float(results[spec.trial_id]["seconds"]["total"])
        if spec.trial_id in results
        else forecast.seconds(spec)
    )


def _page(plan: Plan, results: Results, probe: Probe | None, table: pd.DataFrame) -> str:
    study = plan.study
    counts = Counter(person.label for person in plan.splits.patients if person.role == "train")
    images = sum(person.n_images for person in plan.splits.patients if person.role == "train")
    device = probe.device if probe else "device not probed"
    lines = [
        f"# Training time of the image-level models, minutes ({device})",
        "",
        f"{sum(counts.values())} training patients ({counts[0]} benign, {counts[1]} "
        f"malignant), {images} images of {study.images.size} px, "
        f"{len(study.fold_numbers)} folds together, "
        f"{study.training.epochs.image} epochs, batch "
        f"{study.training.batch_size}, "
        f"{study.backend}, {study.precision}.",
        "",
        _line(["dataset", *study.freeze_points]),
        _line(["---"] * (len(study.freeze_points) + 1)),
    ]
    for dataset in study.datasets:
        lines.append(_line([str(dataset), *_cells(table, dataset, study.freeze_points)]))
        lines.append(
            _line(
                [
                    f"{paper.NAME}, {dataset}",
                    *(f"{paper.minutes(dataset)[point]:.1f}" for point in study.freeze_points),
                ]
            )
        )
    slots = slots_of(study, probe) if probe else 1
    left = Forecast(plan, results, probe).remaining(slots)
    told = (
        "`renal-ray bench --probe` measures the steps."
        if left is None
        else f"What is left of the whole sweep: {clock(left)}, {slots} trials at once."
    )
    lines += ["", told]
    return "\n".join(lines) + "\n"


def _cells(table: pd.DataFrame, dataset: Dataset, points: Sequence[FreezePoint]) -> list[str]:
    rows = (
        table[table["dataset"] == str(dataset)]
        .set_index("freeze_point")
        .loc[[str(point) for point in points]]
    )
    return [
        f"{DASH if source == UNKNOWN else f'{minutes:.1f}'} {source}"
        for minutes, source in zip(rows["minutes"], rows["source"], strict=True)
    ]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"
