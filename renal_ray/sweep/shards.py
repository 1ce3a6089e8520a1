"""Shards of patients: each is read by one task of Ray Data and becomes one Arrow file per
dataset."""

import json
import traceback
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from renal_ray import __version__
from renal_ray.config import Cohort, Study
from renal_ray.imaging.geometry.grid import PatientSlices
from renal_ray.imaging.patient import read_patient
from renal_ray.imaging.regions import dataset_images
from renal_ray.problems import Code, DamagedFileError, PatientError, Quarantined
from renal_ray.store import slices, stamp
from renal_ray.store.place import Place, digest
from renal_ray.types import DATASETS, Dataset

PATIENTS_PER_SHARD = 8  # bounds a worker's memory: its images of one shard, three datasets at once

# of the cohort's settings those that decide what is read of a patient's files
READING = {
    "lesion_labels",
    "lesion_segments",
    "lesion_rois",
    "fractional_threshold",
    "mask_resample",
    "tilt",
    "oblique",
}

Part = dict[
    str, Any
]  # what a shard came to: key, measured, fingerprints, stamps, warnings, quarantined, index


def rows_of(
    parts: Sequence[Part], left_out: Collection[str]
) -> tuple[pd.DataFrame, dict[Dataset, list[dict[str, Any]]]]:
    """What was measured of the patients, and the index of every dataset.

    Args:
        parts: of all shards.
        left_out: patients who were read but are not used.

    Returns:
        A row a patient, empty where nobody is left; rows of each dataset's index.
    """

    def kept(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        return [row for row in rows if row["patient_id"] not in left_out]

    measured = pd.DataFrame([row for part in parts for row in kept(part["measured"])])
    return measured, {
        dataset: [row for part in parts for row in kept(part["index"][dataset])]
        for dataset in DATASETS
    }


def make_shards(study: Study, cohort: pd.DataFrame) -> list[dict[str, str]]:
    """Divides the cohort; a shard's key changes with its patients, their files and the settings
    that decide their slices."""
    table = cohort.reindex(columns=["patient_id", "label", "image", "mask", "series", "lesion"])
    table = table.astype({"series": "object", "lesion": "object"})
    rows = json.loads(table.fillna({"series": "", "lesion": ""}).to_json(orient="records"))
    settings = [
        study.selection.model_dump_json(),
        study.images.model_dump_json(),
        study.cohort.model_dump_json(include=READING),
    ]
    shards = []
    for number, first in enumerate(range(0, len(rows), PATIENTS_PER_SHARD)):
        patients = rows[first : first + PATIENTS_PER_SHARD]
        seen = [(stamp.seen(Path(row["image"])), stamp.seen(Path(row["mask"]))) for row in patients]
        key = digest(
            [__version__, *settings, json.dumps(patients), *(one for both in seen for one in both)]
        )
        shards.append(
            {
                "shard": f"shard-{number:05d}",
                "patients": json.dumps(patients),
                "key": key,
                "seen": json.dumps(["".join(both) for both in seen]),
            }
        )
    return shards


def stamp_shard(shard: dict[str, str]) -> dict[str, dict[str, str]]:
    """What the files of a shard's patients are, by patient, see
    `renal_ray.store.stamp.FileStamp`."""
    found = {}
    for patient, seen in zip(json.loads(shard["patients"]), json.loads(shard["seen"]), strict=True):
        found[patient["patient_id"]] = asdict(
            stamp.stamp_files(Path(patient["image"]), Path(patient["mask"]), seen_before=seen)
        )
    return found


def part_file(shard: dict[str, str]) -> str:
    """Name of the JSON that says what a shard came to."""
    return f"{stamp.SHARDS}/{shard['shard']}.json"


def finished_part(work: Place, shard: dict[str, str]) -> Part | None:
    """What an earlier run made of the same files with the same settings.

    None where its Arrow files are gone, or where somebody was quarantined: the remedy may lie
    outside the files, a decoder installed, a disk back.
    """
    name = part_file(shard)
    try:
        part: Part = work.read_checked_json(name)
    except (FileNotFoundError, DamagedFileError):
        return None
    if part["key"] != shard["key"] or part["quarantined"]:
        return None
    files = {
        f"slices/{dataset}/{row['file']}" for dataset, rows in part["index"].items() for row in rows
    }
    if not all(work.exists(file) for file in files):
        return None
    if (
        "stamps" not in part
    ):  # made by a version that stamped nothing; the key says that the files are the same
        part = {**part, "stamps": stamp_shard(shard)}
        work.write_checked_json(name, part)
    return part


class Sharder:
    """Reads a shard's patients and writes their slices; the shard's JSON comes last."""

    def __init__(self, study: Study, work: Place) -> None:
        self._study = study
        self._work = work

    def __call__(self, shard: dict[str, str]) -> dict[str, str]:
        rows: dict[Dataset, list[slices.PatientRows]] = {dataset: [] for dataset in DATASETS}
        measured, fingerprints, warnings, quarantined = [], {}, [], []
        stamps = stamp_shard(shard)
        for patient in json.loads(shard["patients"]):
            try:
                found = self._read(patient)
                images = dataset_images(found, images=self._study.images)
            except PatientError as error:
                quarantined.append(
                    Quarantined(
                        patient["patient_id"],
                        shown_file(error.file, self._study.cohort),
                        error.code,
                        error.message,
                    ).row()
                )
                continue
            except Exception as error:  # noqa: BLE001 - one patient must not end the cohort; what the exception says may quote the files
                message = (
                    f"{type(error).__name__} at {_where(error)}; report "
                    "this, with the file if you may"
                )
                quarantined.append(
                    Quarantined(patient["patient_id"], "", Code.UNEXPECTED, message).row()
                )
                continue
            measured.append(_measured(patient["patient_id"], found))
            fingerprints[patient["patient_id"]] = sorted(found.fingerprint)
            warnings += [
                Quarantined(patient["patient_id"], "", one.code, one.message).row()
                for one in found.findings
            ]
            for dataset, image in images.items():
                geometry = (found.slice_index, found.position_mm, found.lesion_area_mm2)
                rows[dataset].append(
                    slices.PatientRows(patient["patient_id"], patient["label"], *geometry, image)
                )
        size = self._study.images.size
        index = {
            dataset: slices.write_shard(self._work, dataset, shard["shard"], patients, size=size)
            for dataset, patients in rows.items()
        }
        part: Part = {
            "key": shard["key"],
            "measured": measured,
            "fingerprints": fingerprints,
            "stamps": stamps,
            "warnings": warnings,
        } | {
            "quarantined": quarantined,
            "index": index,
        }
        self._work.write_checked_json(part_file(shard), part)
        return {"shard": shard["shard"], "part": json.dumps(part)}

    def _read(self, patient: dict[str, Any]) -> PatientSlices:
        image, mask = Path(patient["image"]), Path(patient["mask"])
        cohort, selection = self._study.cohort, self._study.selection
        return read_patient(
            image,
            mask,
            cohort=cohort,
            selection=selection,
            series=patient["series"],
            lesion=patient["lesion"],
        )


def shown_file(file: str, cohort: Cohort) -> str:
    """A file at fault, relative to the manifest or the KiTS folder; nothing of it for a folder of
    DICOM, whose names may tell who somebody is."""
    base = cohort.kits or (cohort.manifest.parent if cohort.manifest else None)
    if base is None or not Path(file).is_relative_to(base):
        return ""
    return str(Path(file).relative_to(base))


def _measured(patient_id: str, found: PatientSlices) -> dict[str, Any]:
    return {
        "patient_id": patient_id,
        "n_images": len(found.slice_index),
        "n_slices_total": int(found.n_slices_total),
        "max_diameter_mm": float(found.max_diameter_mm),
        "n_lesions": len(found.lesions),
    }


def _where(error: Exception) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(last.filename).name}:{last.lineno}"
