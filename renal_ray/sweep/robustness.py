"""After the trials: masks of validation patients drawn otherwise, read from the cohort's files once
more and scored by the finished models."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from renal_ray.cohort.source import load_cohort
from renal_ray.config import Study
from renal_ray.imaging.geometry.grid import PatientSlices
from renal_ray.imaging.patient import read_patient
from renal_ray.problems import PatientError, StudyError
from renal_ray.progress import progress
from renal_ray.store.place import Place
from renal_ray.sweep.cluster import study_errors
from renal_ray.sweep.preflight import check_nodes
from renal_ray.trial.cards import settle
from renal_ray.trial.masks import MaskPart, mask_parts, score_masks
from renal_ray.trial.plan import Plan, Results
from renal_ray.trial.workshop import Workshop
from renal_ray.types import PatientId

Files = Mapping[
    PatientId, Mapping[str, str]
]  # image, mask, series and lesion of a patient, as the manifest names them


def measure_masks(study: Study, work: Place, plan: Plan, results: Results) -> int:
    """Measures the sensitivity to the mask where the study asks for it and it is missing.

    Args:
        study: the study.
        work: its work directory; a table a dataset and fold goes to robustness/masks.
        plan: its trials.
        results: results of finished trials.

    Returns:
        Parts measured now.

    Raises:
        StudyError: the cohort's files cannot be read as they were, or no node can host the scoring.
    """
    import ray

    missing = [part for part in mask_parts(plan, results) if not work.exists(part.file)]
    if not missing:
        return 0
    files = _files(
        study,
        [
            patient
            for part in missing
            for patient in plan.splits.fold(part.specs[0].fold).validation
        ],
    )
    check_nodes(
        study,
        inputs=[
            path for path in (study.cohort.kits, study.cohort.dicom, study.cohort.manifest) if path
        ],
    )
    share = {"num_cpus": study.resources.cpus_per_trial, "num_gpus": study.resources.gpus_per_trial}
    # A process of its own: the framework's memory goes with it.
    task = ray.remote(**share, max_calls=1)(_measure)
    with study_errors(), progress("masks: folds") as show:
        tasks = [task.remote(study, work, plan, part, files) for part in missing]
        for done in range(1, len(tasks) + 1):
            ray.wait(tasks, num_returns=done)
            show(done, len(tasks))
        ray.get(tasks)
    return len(missing)


def _files(study: Study, patients: list[PatientId]) -> Files:
    """Where the files of validation patients are; those of sealed ones are not even asked for."""
    table, _ = load_cohort(study.cohort)
    rows = (
        table.reindex(columns=["patient_id", "image", "mask", "series", "lesion"])
        .fillna({"series": "", "lesion": ""})
        .set_index("patient_id")
    )
    if gone := sorted(set(patients) - set(rows.index)):
        raise StudyError(
            f"robustness.mask_mm: patient {gone[0]} was prepared and cannot be read "
            "any more; restore the cohort's files and manifest"
        )
    return {
        patient: {str(name): str(value) for name, value in rows.loc[patient].items()}
        for patient in patients
    }


def _measure(study: Study, work: Place, plan: Plan, part: MaskPart, files: Files) -> None:
    settle(study)

    def read(patient: PatientId) -> PatientSlices:
        return read_again(study, patient, files[patient])

    work.write_parquet(
        part.file, score_masks(part.specs, read, work, plan.splits, Workshop(work), study=study)
    )


def read_again(study: Study, patient: PatientId, files: Mapping[str, Any]) -> PatientSlices:
    """Reads a patient's kept slices as prepare did.

    Raises:
        StudyError: the files cannot be read any more.
    """
    image, mask = Path(files["image"]), Path(files["mask"])
    try:
        return read_patient(
            image,
            mask,
            cohort=study.cohort,
            selection=study.selection,
            series=files["series"],
            lesion=files["lesion"],
        )
    except PatientError as error:
        raise StudyError(
            f"robustness.mask_mm: patient {patient} was prepared and cannot be "
            f"read any more: {error.code}: {error.message}"
        ) from None
