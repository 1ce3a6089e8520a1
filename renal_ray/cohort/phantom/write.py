"""A whole phantom cohort on disk: one process a core, one random stream a patient, the tables
last."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from renal_ray.problems import StudyError

if TYPE_CHECKING:
    from renal_ray.cohort.phantom.formats import ImageKind, MaskKind

Format = Literal["dicom-seg", "kits"]
MARKER, MANIFEST = "phantom.json", "manifest.csv"
_VERSION = 1  # raised whenever the same request gives other voxels
COLUMNS = [
    "patient_id",
    "label",
    "image",
    "mask",
    "sex",
    "age",
    "histology",
    "max_diameter_mm",
    "location",
    "stage",
    "grade",
    "scanner",
    "phase",
]


@dataclass(frozen=True)
class Job:
    """One patient to be written; `outline` is a real segmentation in its case's folder, or None."""

    out: Path
    format: Format
    seed: int
    matrix: int
    slice_mm: float
    plan: Any
    outline: Path | None = None
    pathology: dict[str, Any] | None = None
    image: "ImageKind" = "dicom"
    mask: "MaskKind" = "seg"

    @property
    def patient_id(self) -> str:
        """As in the manifest, and the name of the patient's folder."""
        if self.outline is not None:
            return self.outline.parent.name
        return (
            f"case_{self.plan.number - 1:05d}"
            if self.format == "kits"
            else f"phantom-{self.plan.number:04d}"
        )


@dataclass(frozen=True)
class Written:
    """What a patient adds to the tables: a row of the manifest, and an entry of kits23.json for the
    KiTS layout."""

    row: dict[str, Any]
    entry: dict[str, Any] | None = None


def write_phantom(
    out: Path,
    *,
    patients: int,
    seed: int,
    format: Format = "dicom-seg",
    anatomy: Path | None = None,
    matrix: int = 512,
    slice_mm: float = 5.0,
    image: "ImageKind" = "dicom",
    mask: "MaskKind" = "seg",
    progress: Callable[[int, int], None] | None = None,
    workers: int | None = None,
) -> Path:
    """Writes a cohort of phantom patients after Zhou et al. 2019: abdomens in the corticomedullary
    phase, lesions with the paper's histologies.

    The same arguments give the same pixels, whatever the number of workers. A finished cohort of
    the same request is left as it is.

    Args:
        out: folder to write; made if absent, refused if it holds anything else.
        patients: how many; with anatomy at most this many of its cases.
        seed: of everything that is drawn.
        format: "dicom-seg" writes OUT/<patient_id>/{ct/*.dcm, seg.dcm} and labels.csv; "kits"
            writes OUT/<case>/{imaging,segmentation}.nii.gz and kits23.json.
        anatomy: folder in the KiTS layout whose segmentations are kept and painted, with or without
            pathology; goes with format "kits".
        matrix: rows and columns of an image; the field of view stays.
        slice_mm: slice thickness and distance, mm.
        image: kind of the images; goes with format "dicom-seg", as does mask.
        mask: kind of the masks.
        progress: called with (patients done, patients in all).
        workers: processes; one a core when omitted.

    Returns:
        Path of manifest.csv in out.

    Raises:
        StudyError: a request that makes no cohort, or an `out` that holds something else.
    """
    _check_request(patients, format, anatomy, matrix, slice_mm)
    if format == "kits" and (image, mask) != ("dicom", "seg"):
        raise StudyError(
            "phantom: --image and --mask go with format dicom-seg; the KiTS layout is NIfTI"
        )
    out = Path(out)
    jobs = (
        _anatomy_jobs(out, anatomy, patients, seed)
        if anatomy
        else _cohort_jobs(out, patients, seed, format, matrix, slice_mm, image, mask)
    )
    request = {
        "version": _VERSION,
        "patients": patients,
        "seed": seed,
        "format": format,
        "matrix": matrix,
        "slice_mm": slice_mm,
        "anatomy": [job.patient_id for job in jobs] if anatomy else None,
    } | ({} if (image, mask) == ("dicom", "seg") else {"image": image, "mask": mask})
    if _claim(out, request, jobs):
        return out / MANIFEST
    written = []
    for done, result in enumerate(_run(jobs, min(workers or os.cpu_count() or 1, len(jobs))), 1):
        written.append(result)
        if progress:
            progress(done, len(jobs))
    _write_tables(out, format, written)
    return out / MANIFEST


def write_patient(job: Job) -> Written:
    """Draws and writes one patient: into a temporary folder first, so that a folder of the
    patient's name is always whole."""
    from renal_ray.cohort.phantom import dicom_files, kits_anatomy, kits_files, patient

    folder = job.out / job.patient_id
    temporary = job.out / f".tmp-{job.patient_id}"
    for leftover in (temporary, folder):
        shutil.rmtree(leftover, ignore_errors=True)
    if job.outline is not None:
        size = kits_anatomy.write_case(temporary, job.outline, job.pathology or {}, seed=job.seed)
        written = Written(
            kits_files.row_of_entry(job.patient_id, job.pathology or {}, size), job.pathology
        )
    else:
        scan = patient.build_scan(job.plan, seed=job.seed, matrix=job.matrix, slice_mm=job.slice_mm)
        if job.format == "kits":
            kits_files.write_nifti(temporary, scan)
            row = _row(job, scan.max_diameter_mm, "imaging.nii.gz", "segmentation.nii.gz")
            written = Written(row, kits_files.entry(job.patient_id, job.plan, scan.max_diameter_mm))
        else:
            names = dicom_files.write_dicom(
                temporary,
                job.plan,
                scan,
                patient_id=job.patient_id,
                seed=job.seed,
                image=job.image,
                mask=job.mask,
            )
            written = Written(_row(job, scan.max_diameter_mm, *names))
    temporary.rename(folder)
    return written


def _row(job: Job, max_diameter_mm: float, image: str, mask: str) -> dict[str, Any]:
    plan, name = job.plan, job.patient_id
    return {
        "patient_id": name,
        "label": int(plan.label),
        "image": f"{name}/{image}",
        "mask": f"{name}/{mask}",
        "sex": plan.sex,
        "age": plan.age,
        "histology": plan.kind,
        "max_diameter_mm": round(max_diameter_mm, 1),
        "location": plan.place,
        "stage": plan.stage,
        "grade": plan.grade,
        "scanner": plan.scanner,
        "phase": "corticomedullary",
    }


def _check_request(
    patients: int, format: str, anatomy: Path | None, matrix: int, slice_mm: float
) -> None:
    if patients < 1:
        raise StudyError(f"phantom: {patients} patients make no cohort; ask for 1 or more")
    if format not in ("dicom-seg", "kits"):
        raise StudyError(f"phantom: unknown format {format!r}; use dicom-seg or kits")
    if anatomy is not None and format != "kits":
        raise StudyError(
            "phantom: anatomy paints into KiTS segmentations and goes with "
            f"format kits, not {format}; add --format kits"
        )
    if not 64 <= matrix <= 1024:
        raise StudyError(f"phantom: a matrix of {matrix} is out of range; use 64 to 1024")
    if not 0.5 <= slice_mm <= 10:
        raise StudyError(f"phantom: slices of {slice_mm} mm are out of range; use 0.5 to 10 mm")


def _cohort_jobs(
    out: Path,
    patients: int,
    seed: int,
    format: Format,
    matrix: int,
    slice_mm: float,
    image: "ImageKind",
    mask: "MaskKind",
) -> list[Job]:
    from renal_ray.cohort.phantom.plan import plan_cohort

    return [
        Job(out, format, seed, matrix, slice_mm, plan, image=image, mask=mask)
        for plan in plan_cohort(patients, seed)
    ]


def _anatomy_jobs(out: Path, anatomy: Path, patients: int, seed: int) -> list[Job]:
    from renal_ray.cohort.kits import (
        case_folders,
        mask_names,
        mask_of,
        pathology_file,
        read_pathology,
    )

    cases = case_folders(anatomy)
    names = mask_names(cases)
    outlines = [outline for case in cases if (outline := mask_of(case, names))]
    table = pathology_file(cases[0].parent)
    entries = read_pathology(table) if table else {}
    if not outlines:
        raise StudyError(
            "phantom: no case_NNNNN/segmentation.nii.gz under "
            f"{anatomy}; give a folder in the KiTS layout"
        )
    return [
        Job(
            out,
            "kits",
            seed,
            0,
            0.0,
            None,
            one,
            entries.get(one.parent.name, {"case_id": one.parent.name}),
        )
        for one in outlines[:patients]
    ]


def _claim(out: Path, request: dict[str, Any], jobs: list[Job]) -> bool:
    """Takes possession of the folder; True where it already holds all that is asked."""
    marker = out / MARKER
    if marker.is_file():
        if json.loads(marker.read_text(encoding="utf-8")) != request:
            raise StudyError(
                f"phantom: {out} holds a phantom cohort of another request (see {MARKER} "
                "there); choose another folder or delete this one"
            )
        return (out / MANIFEST).is_file() and all((out / job.patient_id).is_dir() for job in jobs)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise StudyError(
            f"phantom: {out} is not empty and was not written by this "
            "command; choose an empty or new folder"
        )
    out.mkdir(parents=True, exist_ok=True)
    _write_text(marker, json.dumps(request, indent=1) + "\n")
    return False


def _run(jobs: list[Job], workers: int) -> Iterator[Written]:
    if workers <= 1:
        yield from map(write_patient, jobs)
        return
    import multiprocessing

    # spawned, not forked: the caller may already hold threads of TensorFlow or Ray
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=spawn, initializer=_one_thread) as pool:
        yield from pool.map(write_patient, jobs)


def _one_thread() -> None:
    """Linear algebra in small pieces on all cores at once makes the workers wait for each other:
    three times the CPU time."""
    import scipy.linalg  # noqa: F401 - it and numpy bring the libraries whose threads are limited
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)


def _write_tables(out: Path, format: Format, written: list[Written]) -> None:
    import pandas as pd

    table = pd.DataFrame([result.row for result in written], columns=COLUMNS)
    table["label"] = table["label"].astype("Int8")
    if format == "kits":
        _write_text(
            out / "kits23.json", json.dumps([result.entry for result in written], indent=4) + "\n"
        )
    else:
        _write_text(out / "labels.csv", table.drop(columns=["image", "mask"]).to_csv(index=False))
    _write_text(
        out / MANIFEST, table.to_csv(index=False)
    )  # last: a cohort with a manifest is complete


def _write_text(path: Path, text: str) -> None:
    temporary = path.with_name(f".tmp-{path.name}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
