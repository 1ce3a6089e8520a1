"""explain: where the image models look, as maps of chosen patients and as the share of attention
inside the lesion."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from renal_ray.cohort.source import load_cohort
from renal_ray.config import Study
from renal_ray.problems import StudyError
from renal_ray.progress import progress
from renal_ray.store.ledger import Ledger
from renal_ray.store.place import Place
from renal_ray.store.seal import Seal, opened_before
from renal_ray.store.slices import Slices
from renal_ray.sweep.cluster import study_errors
from renal_ray.sweep.fits import check_fits
from renal_ray.trial.attended import Explained, measured, read_explained, write_explained
from renal_ray.trial.cards import settle
from renal_ray.trial.explain import Look, look
from renal_ray.trial.lesions import NO_COHORT, Lesion, read_lesion
from renal_ray.trial.pictures import Picture
from renal_ray.trial.plan import Plan, finished_results, make_plan
from renal_ray.trial.spec import TrialSpec
from renal_ray.trial.subjects import (
    OTHER,
    Subject,
    image_models,
    seal_is_open,
    state,
    subjects,
    voters,
    votes_stand,
)
from renal_ray.types import Dataset

PATIENTS_PER_TASK = 8

Row = dict[str, str]  # a patient in the cohort: image, mask, series, lesion


@dataclass(frozen=True)
class Wanted:
    """A patient whose lesion is wanted, in which datasets, and their row in the cohort if it has
    one."""

    patient_id: str
    datasets: tuple[Dataset, ...]
    row: Row | None


def explain(study: Study) -> tuple[Explained, bool]:
    """Makes the attention maps of a swept study and writes WORK/explain/.

    Test patients are among them only where the seal was opened for the models of the study as it
    stands, and then only the vote's errors.

    Args:
        study: a swept study.

    Returns:
        What was found, and whether it was made now: nothing is done again where settings, models
        and votes are the same and no contour lacks.

    Raises:
        StudyError: image trials are missing, the weights of one are damaged, or no node can host
            the work.
    """
    work = Place(study.work)
    plan, results = make_plan(study, work), finished_results(work)
    models = {dataset: image_models(plan, dataset, results) for dataset in study.datasets}
    opened = seal_is_open(work, plan, results) and votes_stand(work, plan.splits)
    now = state(study, work, models, results, opened=opened)
    before = read_explained(work)
    if before is not None and before.state == now and not before.without_contour:
        return before, False
    check_fits(study)
    for specs in models.values():
        for spec in specs:
            Ledger(work).read_checked(spec.trial_id, "weights.h5")
    seal = opened_before(work, voters(plan, results) or []) if opened else None
    asked = subjects(study, work, models, opened=opened)
    looks = _looks(study, work, plan, models, asked, seal)
    lesions = _lesions(study, work, plan, asked, seal)
    rows, pictures = [], []
    slices = _slices(study, work, plan, seal)
    for subject, seen in zip(asked, looks, strict=True):
        lesion = lesions[subject.patient_id]
        row, attention = measured(
            subject,
            seen,
            lesion,
            size=study.images.size,
            point=models[subject.dataset][0].freeze_point,
        )
        rows.append(row)
        if subject.kind != OTHER:
            image = slices[subject.dataset].images(subject.patient_id)[seen.row]
            pictures.append(Picture.of(subject, seen, image, attention, lesion))
    return write_explained(work, rows, pictures, now, size=study.images.size), True


def _slices(study: Study, work: Place, plan: Plan, seal: Seal | None) -> dict[Dataset, Slices]:
    return {
        dataset: Slices(work, dataset, sealed=plan.splits.test, seal=seal)
        for dataset in study.datasets
    }


def _looks(
    study: Study,
    work: Place,
    plan: Plan,
    models: dict[Dataset, list[TrialSpec]],
    asked: Sequence[Subject],
    seal: Seal | None,
) -> list[Look]:
    """What the models see of each subject, a task a dataset."""
    import ray

    share = {"num_cpus": study.resources.cpus_per_trial, "num_gpus": study.resources.gpus_per_trial}
    task = ray.remote(**share, max_calls=1)(
        _look
    )  # a process of its own: the framework's memory goes with it
    numbers = {
        dataset: [n for n, subject in enumerate(asked) if subject.dataset is dataset]
        for dataset in models
    }
    tasks = {
        task.remote(study, work, plan, specs, [asked[n] for n in numbers[dataset]], seal): dataset
        for dataset, specs in models.items()
    }
    found: dict[int, Look] = {}
    with study_errors(), progress("explain: datasets") as show:
        for done, waited in enumerate(_as_finished(list(tasks)), 1):
            found |= dict(zip(numbers[tasks[waited]], ray.get(waited), strict=True))
            show(done, len(tasks))
    return [found[n] for n in range(len(asked))]


def _look(
    study: Study,
    work: Place,
    plan: Plan,
    specs: list[TrialSpec],
    asked: list[Subject],
    seal: Seal | None,
) -> list[Look]:
    settle(study)
    return look(
        asked, specs, Slices(work, specs[0].dataset, sealed=plan.splits.test, seal=seal), work
    )


def _lesions(
    study: Study, work: Place, plan: Plan, asked: Sequence[Subject], seal: Seal | None
) -> dict[str, Lesion]:
    """The lesion of each subject, from the patients' files, tasks of some patients each."""
    import ray

    try:
        table = (
            load_cohort(study.cohort)[0]
            .reindex(columns=["patient_id", "image", "mask", "series", "lesion"])
            .astype("object")
            .fillna("")
        )
    except StudyError:
        return {subject.patient_id: Lesion({}, NO_COHORT) for subject in asked}
    rows: dict[str, Row] = {row["patient_id"]: row for row in table.to_dict("records")}
    datasets: dict[str, list[Dataset]] = {}
    for subject in asked:
        datasets.setdefault(subject.patient_id, []).append(subject.dataset)
    wanted = [
        Wanted(patient, tuple(shown), rows.get(patient))
        for patient, shown in sorted(datasets.items())
    ]
    task = ray.remote(num_cpus=1)(_read)
    tasks = [
        task.remote(study, work, plan, wanted[first : first + PATIENTS_PER_TASK], seal)
        for first in range(0, len(wanted), PATIENTS_PER_TASK)
    ]
    found: dict[str, Lesion] = {}
    with study_errors(), progress("explain: lesions") as show:
        for waited in _as_finished(tasks):
            found |= ray.get(waited)
            show(len(found), len(wanted))
    return found


def _read(
    study: Study, work: Place, plan: Plan, wanted: list[Wanted], seal: Seal | None
) -> dict[str, Lesion]:
    slices = _slices(study, work, plan, seal)
    return {
        one.patient_id: read_lesion(study, slices, one.row, one.patient_id, one.datasets)
        for one in wanted
    }


def _as_finished(tasks: list[Any]) -> Iterator[Any]:
    import ray

    waiting = tasks
    while waiting:
        [done], waiting = ray.wait(waiting, num_returns=1)
        yield done
