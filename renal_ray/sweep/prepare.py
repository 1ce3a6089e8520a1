"""prepare: from the cohort's files to slices in Arrow, in one pass over each patient, streamed by Ray Data."""

import json
from dataclasses import dataclass, replace

import pandas as pd

from renal_ray.cohort.source import load_cohort
from renal_ray.config import Study
from renal_ray.problems import PROBLEM_COLUMNS, Code, Quarantined, StrictError, StudyError
from renal_ray.progress import progress
from renal_ray.protocol.splits import SplitSet, make_splits
from renal_ray.store import slices
from renal_ray.store.place import Place
from renal_ray.store.seal import LOG as SEAL_LOG
from renal_ray.sweep.cluster import study_errors
from renal_ray.sweep.preflight import check_nodes
from renal_ray.sweep.shards import Part, Sharder, finished_part, make_shards, shown_file
from renal_ray.trial import prepared
from renal_ray.types import DATASETS


@dataclass(frozen=True)
class Prepared:
    """What prepare found.

    Args:
        patients: usable patients.
        images: their kept slices.
        quarantined: everyone who was left out, with the reason.
        warnings: what is to be reported of those who were kept.
        no_split: why no split could be drawn; empty when one was.
    """

    patients: int
    images: int
    quarantined: tuple[Quarantined, ...]
    warnings: tuple[Quarantined, ...]
    no_split: str


def prepare(study: Study, *, strict: bool = False) -> Prepared:
    """Reads every patient once and writes the slices of all datasets, the cohort, the quarantine and the split.

    A shard of patients that an earlier run finished from the same files and settings is kept as it is. A cohort that cannot be divided into
    the folds is prepared all the same, without splits.json.

    Args:
        study: the study.
        strict: stop at the first patient who cannot be read.

    Returns:
        Counts and the quarantined patients.

    Raises:
        StudyError: nobody can be read, or the split would change after the seal was opened.
        StrictError: strict, and somebody cannot be read.
    """
    work = Place(study.work)
    table, listed = load_cohort(study.cohort)
    found = [replace(one, file=shown_file(one.file, study.cohort)) for one in listed]
    _stop_at(found, strict)
    parts = _run_shards(study, work, table, strict=strict) if len(table) else []
    found += [Quarantined.read(row) for part in parts for row in [*part["quarantined"], *part["warnings"]]]
    found += _same_pixels(parts)
    quarantined, warnings = ([one for one in found if one.left_out is left_out] for left_out in (True, False))
    measured = pd.DataFrame([row for part in parts for row in part["measured"]])
    if measured.empty:
        _write_quarantine(work, quarantined)
        first = _say(quarantined[0]) if quarantined else "nobody is listed"
        raise StudyError(f"cohort: no patient can be used; {len(quarantined)} were left out, see {work.shown('quarantine.csv')}; the first: {first}")
    cohort = _merged(table, measured)
    splits, no_split = _draw(study, work, cohort)
    _write(study, work, cohort, splits, parts, [*quarantined, *warnings])
    return Prepared(len(cohort), int(cohort["n_images"].sum()), tuple(quarantined), tuple(warnings), no_split)


def _run_shards(study: Study, work: Place, table: pd.DataFrame, *, strict: bool) -> list[Part]:
    import ray

    shards = make_shards(study, table)
    parts = {shard["shard"]: part for shard in shards if (part := finished_part(work, shard)) is not None}
    todo = [shard for shard in shards if shard["shard"] not in parts]
    with progress("prepare: shards of patients") as show, study_errors():
        if todo:
            check_nodes(study, inputs=[path for path in (study.cohort.kits, study.cohort.dicom, study.cohort.manifest) if path])
            stream = ray.data.from_items(todo, override_num_blocks=len(todo)).map(Sharder(study, work))
            for row in stream.iter_rows():
                part = json.loads(row["part"])
                _stop_at([Quarantined.read(one) for one in part["quarantined"]], strict)
                parts[row["shard"]] = part
                show(len(parts), len(shards))
    return [parts[shard["shard"]] for shard in shards]


def _draw(study: Study, work: Place, cohort: pd.DataFrame) -> tuple[SplitSet | None, str]:
    """The split, or why there is none; once the seal was opened it may not change any more."""
    try:
        splits = make_splits(cohort[["patient_id", "label", "n_images"]], seed=study.seed, split=study.split, folds=study.folds)
    except StudyError as error:
        splits, why = None, str(error)
    else:
        why = ""
    unchanged = splits is not None and work.exists("splits.json") and work.read_json("splits.json") == splits.to_json()
    if work.exists(SEAL_LOG) and not unchanged:
        raise StudyError(
            f"{work.shown('splits.json')}: the seal on the test patients was opened under another split; "
            "give the changed study a work directory of its own (work:), or restore its seed, cohort, split and folds"
        )
    return splits, why


def _merged(table: pd.DataFrame, measured: pd.DataFrame) -> pd.DataFrame:
    """The usable patients with what was measured; the paths stay behind, because folder names may tell who somebody is."""
    merged = table.drop(columns=["image", "mask"]).merge(measured, on="patient_id", suffixes=("", "_measured"))
    if "max_diameter_mm_measured" in merged:  # the manifest's pathology or radiology size goes before ours
        merged["max_diameter_mm"] = merged["max_diameter_mm"].fillna(merged.pop("max_diameter_mm_measured"))
    return merged


def _write(study: Study, work: Place, cohort: pd.DataFrame, splits: SplitSet | None, parts: list[Part], quarantined: list[Quarantined]) -> None:
    """Exchanges what belongs together; Arrow files are named by content, so that an old index stays right until the new one stands."""
    prepared.withdraw(work)
    _write_quarantine(work, quarantined)
    rows = {dataset: [row for part in parts for row in part["index"][dataset]] for dataset in DATASETS}
    for dataset in DATASETS:
        slices.write_index(work, dataset, rows[dataset])
    work.write_parquet("cohort.parquet", cohort)
    if splits is None:
        work.remove("splits.json")
    else:
        work.write_json("splits.json", splits.to_json())
    prepared.declare(study, work)
    for dataset in DATASETS:
        for stale in set(work.entries(f"slices/{dataset}")) - {"index.parquet"} - {row["file"] for row in rows[dataset]}:
            work.remove(f"slices/{dataset}/{stale}")  # of earlier settings, or of patients who left the cohort


def _same_pixels(parts: list[Part]) -> list[Quarantined]:
    """Patients who have an image in common: a copy on either side of the split is a leak."""
    owners: dict[str, set[str]] = {}
    for part in parts:
        for patient, digests in part["fingerprints"].items():
            for one in digests:
                owners.setdefault(one, set()).add(patient)
    twins: dict[str, set[str]] = {}
    for patients in owners.values():
        if len(patients) > 1:
            for patient in patients:
                twins.setdefault(patient, set()).update(patients - {patient})
    return [
        Quarantined(patient, "", Code.SAME_PIXELS, f"the same image as {', '.join(sorted(others))}: a leak where the split parts them; keep one")
        for patient, others in sorted(twins.items())
    ]


def _write_quarantine(work: Place, found: list[Quarantined]) -> None:
    table = pd.DataFrame([one.row() for one in found], columns=list(PROBLEM_COLUMNS))
    work.write("quarantine.csv", table.to_csv(index=False).encode())


def _stop_at(quarantined: list[Quarantined], strict: bool) -> None:
    if strict and (first := next((one for one in quarantined if one.left_out), None)):
        raise StrictError(f"--strict: {_say(first)}")


def _say(quarantined: Quarantined) -> str:
    where = f" ({quarantined.file})" if quarantined.file else ""
    return f"patient {quarantined.patient_id}{where}: {quarantined.code}: {quarantined.message}"
