"""prepare: from the cohort's files to slices in Arrow, in one pass over each patient, streamed by Ray Data."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from renal_ray import __version__
from renal_ray.cohort.source import load_cohort
from renal_ray.config import Study
from renal_ray.imaging.patient import read_patient
from renal_ray.imaging.regions import dataset_images
from renal_ray.problems import PatientError, Quarantined, StrictError, StudyError
from renal_ray.progress import progress
from renal_ray.protocol.splits import SplitSet, make_splits
from renal_ray.store import slices
from renal_ray.store.place import Place, digest
from renal_ray.store.seal import LOG as SEAL_LOG
from renal_ray.types import DATASETS, Dataset

PATIENTS_PER_SHARD = 8  # bounds a worker's memory: its images of one shard, three datasets at once
MEASURED = ("n_images", "n_slices_total", "max_diameter_mm")


@dataclass(frozen=True)
class Prepared:
    """What prepare found.

    Args:
        patients: usable patients.
        images: their kept slices.
        quarantined: everyone who was left out, with the reason.
    """

    patients: int
    images: int
    quarantined: tuple[Quarantined, ...]


def prepare(study: Study, *, strict: bool = False) -> Prepared:
    """Reads every patient once and writes the slices of all datasets, the cohort, the quarantine and the split.

    A shard of patients that an earlier run finished from the same files and settings is kept as it is.

    Args:
        study: the study.
        strict: stop at the first patient who cannot be read.

    Returns:
        Counts and the quarantined patients.

    Raises:
        StudyError: nobody can be read, or the split cannot be drawn.
        StrictError: strict, and somebody cannot be read.
    """
    work = Place(study.work)
    cohort, quarantined = load_cohort(study.cohort)
    if strict and quarantined:
        raise StrictError(f"--strict: {_say(quarantined[0])}")
    if cohort.empty:
        first = _say(quarantined[0]) if quarantined else "nobody is listed"
        raise StudyError(f"cohort: no patient can be used; {len(quarantined)} were left out, the first: {first}")
    shards = _shards(study, cohort)
    parts = _run_shards(study, work, shards, strict=strict)
    quarantined += [Quarantined(**row) for part in parts for row in part["quarantined"]]
    _write(work, cohort, parts, quarantined)
    images = sum(row["n_images"] for part in parts for row in part["measured"])
    splits = draw_splits(study, work)
    return Prepared(patients=len(splits.patients), images=images, quarantined=tuple(quarantined))


def draw_splits(study: Study, work: Place) -> SplitSet:
    """Draws the split from cohort.parquet and writes splits.json; once the seal was opened it may not change any more.

    Raises:
        StudyError: there is no cohort, the split cannot be drawn, or it would differ after the seal was opened.
    """
    if not work.exists("cohort.parquet"):
        raise StudyError(f"{work.uri}/cohort.parquet is missing: run `renal-ray prepare` first")
    cohort = work.read_parquet("cohort.parquet", ["patient_id", "label", "n_images"])
    splits = make_splits(cohort, seed=study.seed, split=study.split, folds=study.folds)
    value = splits.to_json()
    if work.exists("splits.json"):
        if work.read_json("splits.json") == value:
            return splits
        if work.exists(SEAL_LOG):
            raise StudyError(
                f"{work.uri}/splits.json: the seal on the test patients was opened under another split; "
                "give the changed study a work directory of its own (work:), or restore its seed, cohort, split and folds"
            )
    work.write_json("splits.json", value)
    return splits


def _shards(study: Study, cohort: pd.DataFrame) -> list[dict[str, str]]:
    rows = json.loads(cohort[["patient_id", "label", "image", "mask"]].to_json(orient="records"))
    settings = digest(
        [
            __version__,
            study.selection.model_dump_json(),
            study.images.model_dump_json(),
            study.cohort.model_dump_json(include={"lesion_labels", "lesion_segments"}),
        ]
    )
    shards = []
    for number, first in enumerate(range(0, len(rows), PATIENTS_PER_SHARD)):
        patients = rows[first : first + PATIENTS_PER_SHARD]
        seen = [_fingerprint(Path(row[kind])) for row in patients for kind in ("image", "mask")]
        shards.append({"shard": f"shard-{number:05d}", "patients": json.dumps(patients), "key": digest([settings, json.dumps(patients), *seen])})
    return shards


def _fingerprint(path: Path) -> str:
    """Names, sizes and times of a patient's files: enough to see that they changed, without reading them."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path] if path.exists() else []
    stats = [(str(file.relative_to(path)), file.stat()) for file in files if file.is_file()]
    return digest(f"{name}|{stat.st_size}|{stat.st_mtime_ns}" for name, stat in stats)


def _run_shards(study: Study, work: Place, shards: list[dict[str, str]], *, strict: bool) -> list[dict[str, Any]]:
    import ray

    parts = {shard["shard"]: part for shard in shards if (part := _finished_part(work, shard)) is not None}
    for part in parts.values():
        _stop_at_quarantined(part, strict)
    todo = [shard for shard in shards if shard["shard"] not in parts]
    with progress("prepare: shards of patients") as show:
        if todo:
            stream = ray.data.from_items(todo, override_num_blocks=len(todo)).map(_Sharder(study, work))
            for row in stream.iter_rows():
                part = json.loads(row["part"])
                _stop_at_quarantined(part, strict)
                parts[row["shard"]] = part
                show(len(parts), len(shards))
    return [parts[shard["shard"]] for shard in shards]


def _stop_at_quarantined(part: dict[str, Any], strict: bool) -> None:
    if strict and part["quarantined"]:
        raise StrictError(f"--strict: {_say(Quarantined(**part['quarantined'][0]))}")


def _finished_part(work: Place, shard: dict[str, str]) -> dict[str, Any] | None:
    """What an earlier run made of the same files with the same settings; None where its Arrow files are gone."""
    name = _part_file(shard)
    part: dict[str, Any] | None = work.read_json(name) if work.exists(name) else None
    if part is None or part["key"] != shard["key"]:
        return None
    files = {f"slices/{dataset}/{row['file']}" for dataset, rows in part["index"].items() for row in rows}
    return part if all(work.exists(file) for file in files) else None


def _part_file(shard: dict[str, str]) -> str:
    return f"slices/shards/{shard['shard']}.json"


class _Sharder:
    """Turns one shard of patients into one Arrow file per dataset; the shard's JSON, written last, says that it is done."""

    def __init__(self, study: Study, work: Place) -> None:
        self.study = study
        self.work = work

    def __call__(self, shard: dict[str, str]) -> dict[str, str]:
        self.work.remove(_part_file(shard))  # it must not vouch for Arrow files of other settings
        rows: dict[Dataset, list[slices.PatientRows]] = {dataset: [] for dataset in DATASETS}
        measured, quarantined = [], []
        for patient in json.loads(shard["patients"]):
            try:
                found = read_patient(Path(patient["image"]), Path(patient["mask"]), cohort=self.study.cohort, selection=self.study.selection)
            except PatientError as error:
                quarantined.append(asdict(Quarantined(patient["patient_id"], error.file, error.code, error.message)))
                continue
            for dataset, image in dataset_images(found, images=self.study.images).items():
                rows[dataset].append(
                    slices.PatientRows(patient["patient_id"], patient["label"], found.slice_index, found.position_mm, found.lesion_area_mm2, image)
                )
            measured.append(
                {
                    "patient_id": patient["patient_id"],
                    "n_images": len(found.slice_index),
                    "n_slices_total": int(found.n_slices_total),
                    "max_diameter_mm": float(found.max_diameter_mm),
                }
            )
        size = self.study.images.size
        index = {dataset: slices.write_shard(self.work, dataset, shard["shard"], patients, size=size) for dataset, patients in rows.items()}
        part = {"key": shard["key"], "measured": measured, "quarantined": quarantined, "index": index}
        self.work.write_json(_part_file(shard), part)
        return {"shard": shard["shard"], "part": json.dumps(part)}


def _write(work: Place, cohort: pd.DataFrame, parts: list[dict[str, Any]], quarantined: list[Quarantined]) -> None:
    table = pd.DataFrame(
        [{"patient_id": q.patient_id, "file": q.file, "code": str(q.code), "message": q.message} for q in quarantined],
        columns=["patient_id", "file", "code", "message"],
    )
    work.write("quarantine.csv", table.to_csv(index=False).encode())
    measured = pd.DataFrame([row for part in parts for row in part["measured"]])
    if measured.empty:
        raise StudyError(f"cohort: none of the {len(quarantined)} patients can be read; {work.uri}/quarantine.csv says why, the first: {_say(quarantined[0])}")
    for dataset in DATASETS:
        rows = [row for part in parts for row in part["index"][dataset]]
        slices.write_index(work, dataset, rows)
        for stale in set(work.entries(f"slices/{dataset}")) - {"index.parquet"} - {row["file"] for row in rows}:
            work.remove(f"slices/{dataset}/{stale}")  # of patients who left the cohort
    merged = cohort.merge(measured, on="patient_id", suffixes=("", "_measured"))
    if "max_diameter_mm_measured" in merged:  # the manifest's pathology or radiology size goes before ours
        merged["max_diameter_mm"] = merged["max_diameter_mm"].fillna(merged.pop("max_diameter_mm_measured"))
    work.write_parquet("cohort.parquet", merged)


def _say(quarantined: Quarantined) -> str:
    where = f" ({quarantined.file})" if quarantined.file else ""
    return f"patient {quarantined.patient_id}{where}: {quarantined.code}: {quarantined.message}"
