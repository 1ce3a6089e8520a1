"""prepare: from the cohort's files to slices in Arrow, in one pass over each patient, streamed by
Ray Data."""

import json
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from renal_ray.cohort.source import load_cohort
from renal_ray.config import Study
from renal_ray.problems import PROBLEM_COLUMNS, Quarantined, StrictError, StudyError
from renal_ray.progress import progress
from renal_ray.protocol.splits import SplitSet
from renal_ray.protocol.twins import same_pixels
from renal_ray.store import slices
from renal_ray.store.place import Place
from renal_ray.store.stamp import CohortStamp, begin_stamp
from renal_ray.sweep.cluster import study_errors
from renal_ray.sweep.preflight import check_nodes
from renal_ray.sweep.revision import (
    Revised,
    draw,
    finished_trials,
    keep_in_log,
    kept_pixels,
    pixels_of,
    refuse_lost,
    revision_of,
)
from renal_ray.sweep.shards import (
    Part,
    Sharder,
    finished_part,
    make_shards,
    rows_of,
    shown_file,
)
from renal_ray.trial import prepared
from renal_ray.trial.prepared import kept_splits
from renal_ray.types import DATASETS, Dataset


@dataclass(frozen=True)
class Prepared:
    """What prepare found.

    Args:
        patients: usable patients.
        images: their kept slices.
        quarantined: everyone who was left out, with the reason.
        warnings: what is to be reported of those who were kept.
        no_split: why no split could be drawn; empty when one was.
        revised: what is another than when the work directory was prepared before.
    """

    patients: int
    images: int
    quarantined: tuple[Quarantined, ...]
    warnings: tuple[Quarantined, ...]
    no_split: str
    revised: Revised


def prepare(study: Study, *, strict: bool = False) -> Prepared:
    """Reads every patient once and writes the slices of all datasets, the cohort, the quarantine
    and the split.

    A shard of patients that an earlier run finished from the same files and settings is kept as it
    is. A cohort that cannot be divided into the folds is prepared all the same, without
    splits.json.

    Args:
        study: the study.
        strict: stop at the first patient who cannot be read.

    Returns:
        Counts and the quarantined patients.

    Raises:
        StudyError: nobody can be read, or the split would change after the seal was opened.
        StrictError: strict, and somebody cannot be read.
    """
    work, stamp = Place(study.work), begin_stamp(study.cohort)
    table, listed = load_cohort(study.cohort)
    found = [replace(one, file=shown_file(one.file, study.cohort)) for one in listed]
    _stop_at(found, strict)
    parts = _run_shards(study, work, table, strict=strict) if len(table) else []
    found += [
        Quarantined.read(row) for part in parts for row in [*part["quarantined"], *part["warnings"]]
    ]
    labels = {
        str(name): int(label)
        for name, label in zip(table["patient_id"], table["label"], strict=True)
    }
    twins = same_pixels(
        {name: digests for part in parts for name, digests in part["fingerprints"].items()}, labels
    )
    found += twins.problems
    _stop_at(twins.problems, strict)
    quarantined, warnings = (
        [one for one in found if one.left_out is left_out] for left_out in (True, False)
    )
    refuse_lost(study, work, quarantined)
    measured, rows = rows_of(parts, twins.conflicting)
    if measured.empty:
        _write_quarantine(work, quarantined)
        first = _say(quarantined[0]) if quarantined else "nobody is listed"
        raise StudyError(
            f"cohort: no patient can be used; {len(quarantined)} were left out, see "
            f"{work.shown('quarantine.csv')}; the first: {first}"
        )
    cohort = _merged(table, measured)
    files = {name: one for part in parts for name, one in part["stamps"].items()}
    stamp = replace(
        stamp,
        patients={name: (one["image"], one["mask"], labels[name]) for name, one in files.items()},
    )
    splits, no_split = draw(
        study,
        work,
        cohort[["patient_id", "label", "n_images"]].assign(
            twins=cohort["patient_id"].map(twins.units)
        ),
    )
    revised = _exchange(
        study, work, _Made(stamp, cohort, rows, splits, [*quarantined, *warnings]), parts
    )
    return Prepared(
        len(cohort),
        int(cohort["n_images"].sum()),
        tuple(quarantined),
        tuple(warnings),
        no_split,
        revised,
    )


@dataclass(frozen=True)
class _Made:
    """What a prepare came to, before it is written."""

    stamp: CohortStamp
    cohort: pd.DataFrame
    rows: dict[Dataset, list[dict[str, Any]]]
    splits: SplitSet | None
    problems: list[Quarantined]


def _exchange(study: Study, work: Place, made: _Made, parts: list[Part]) -> Revised:
    """Writes what was made over what was prepared before, and says what became of it; into the
    seal's log first, where the seal was opened."""
    before, finished = kept_splits(study, work), finished_trials(study, work)
    revision = revision_of(
        before, made.splits, kept_pixels(work) if before else {}, pixels_of(made.rows.values())
    )
    if before is not None:
        keep_in_log(work, revision, before)
    _write(study, work, made, parts)
    anew = finished - finished_trials(study, work) if made.splits is not None else frozenset()
    return Revised(revision, len(finished), len(anew))


def _run_shards(study: Study, work: Place, table: pd.DataFrame, *, strict: bool) -> list[Part]:
    import ray

    shards = make_shards(study, table)
    parts = {
        shard["shard"]: part for shard in shards if (part := finished_part(work, shard)) is not None
    }
    todo = [shard for shard in shards if shard["shard"] not in parts]
    with progress("prepare: shards of patients") as show, study_errors():
        if todo:
            check_nodes(
                study,
                inputs=[
                    path
                    for path in (study.cohort.kits, study.cohort.dicom, study.cohort.manifest)
                    if path
                ],
            )
            stream = ray.data.from_items(todo, override_num_blocks=len(todo)).map(
                Sharder(study, work)
            )
            for row in stream.iter_rows():
                part = json.loads(row["part"])
                _stop_at([Quarantined.read(one) for one in part["quarantined"]], strict)
                parts[row["shard"]] = part
                show(len(parts), len(shards))
    return [parts[shard["shard"]] for shard in shards]


def _merged(table: pd.DataFrame, measured: pd.DataFrame) -> pd.DataFrame:
    """The usable patients with what was measured; the paths stay behind, because folder names may
    tell who somebody is."""
    merged = table.drop(columns=["image", "mask"]).merge(
        measured, on="patient_id", suffixes=("", "_measured")
    )
    if (
        "max_diameter_mm_measured" in merged
    ):  # the manifest's pathology or radiology size goes before ours
        merged["max_diameter_mm"] = merged["max_diameter_mm"].fillna(
            merged.pop("max_diameter_mm_measured")
        )
    return merged


def _write(study: Study, work: Place, made: _Made, parts: list[Part]) -> None:
    """Exchanges what belongs together; Arrow files are named by content, so that an old index stays
    right until the new one stands."""
    prepared.withdraw(work)
    _write_quarantine(work, made.problems)
    for dataset in DATASETS:
        slices.write_index(work, dataset, made.rows[dataset])
    work.write_parquet("cohort.parquet", made.cohort)
    if made.splits is None:
        work.remove("splits.json")
    else:
        work.write_json("splits.json", made.splits.to_json())
    prepared.declare(study, work, made.stamp)
    for dataset in DATASETS:  # of earlier settings, or of patients who left the cohort
        for stale in (
            set(work.entries(f"slices/{dataset}"))
            - {"index.parquet"}
            - {row["file"] for part in parts for row in part["index"][dataset]}
        ):
            work.remove(f"slices/{dataset}/{stale}")


def _write_quarantine(work: Place, found: list[Quarantined]) -> None:
    table = pd.DataFrame([one.row() for one in found], columns=list(PROBLEM_COLUMNS))
    work.write("quarantine.csv", table.to_csv(index=False).encode())


def _stop_at(quarantined: list[Quarantined], strict: bool) -> None:
    if strict and (first := next((one for one in quarantined if one.left_out), None)):
        raise StrictError(f"--strict: {_say(first)}")


def _say(quarantined: Quarantined) -> str:
    where = f" ({quarantined.file})" if quarantined.file else ""
    return f"patient {quarantined.patient_id}{where}: {quarantined.code}: {quarantined.message}"
