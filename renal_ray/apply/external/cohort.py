"""Reading an external cohort: as prepare does, into a place of its own, without split, since
everybody is tested."""

import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace

import pandas as pd

from renal_ray.apply.chosen import Run
from renal_ray.apply.known import SHARDS, WHOSE, owners_of_images, role_of
from renal_ray.cohort.source import load_cohort
from renal_ray.config import External, Study
from renal_ray.problems import PROBLEM_COLUMNS, Code, Quarantined, StudyError
from renal_ray.protocol.twins import same_pixels
from renal_ray.store import slices
from renal_ray.store.place import Place, digest
from renal_ray.sweep.shards import Part, Sharder, finished_part, make_shards, rows_of, shown_file
from renal_ray.types import DATASETS


@dataclass(frozen=True)
class Read:
    """An external cohort as read.

    Args:
        cohort: a row a patient, with what was measured.
        found: who was left out, and what is to be reported of the others.
        twins: patients who share an image with one of the study's, by the role of that one: train
            or test.
        compared: whether the study's fingerprints were there to be compared with.
    """

    cohort: pd.DataFrame
    found: tuple[Quarantined, ...]
    twins: dict[str, str]
    compared: bool

    @property
    def labels(self) -> dict[str, int]:
        """Pathology of every patient, by id in order."""
        table = self.cohort.sort_values("patient_id")
        return {
            str(patient): int(label)
            for patient, label in zip(table["patient_id"], table["label"], strict=True)
        }


def read_external(
    run: Run,
    external: External,
    place: Place,
    *,
    same_ids: bool,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Read:
    """Reads the patients with the study's selection, windows, regions and size, and writes slices,
    cohort and quarantine.

    What an earlier call made of the same files is kept.

    Args:
        run: the study whose models will be tested.
        external: the cohort.
        place: where it is written to.
        same_ids: allow ids that the study has too.
        workers: processes.
        progress: called with shards done and shards in all.

    Raises:
        StudyError: nobody can be read, or an id is the study's too.
    """
    table, listed = load_cohort(external.cohort)
    _refuse_same_ids(run, table, same_ids)
    found = [replace(one, file=shown_file(one.file, external.cohort)) for one in listed]
    study = run.study.model_copy(update={"cohort": external.cohort, "work": place.uri})
    parts = list(_parts(study, place, table, workers, progress)) if len(table) else []
    found += [
        Quarantined.read(row) for part in parts for row in [*part["quarantined"], *part["warnings"]]
    ]
    owners = owners_of_images(run)
    labels = dict(zip(table["patient_id"], table["label"], strict=True))
    within, twins, conflicting = _same_pixels(parts, labels, owners)
    found += within
    measured, index = rows_of(parts, conflicting)
    quarantine = pd.DataFrame([one.row() for one in found], columns=list(PROBLEM_COLUMNS))
    place.write("quarantine.csv", quarantine.to_csv(index=False).encode())
    if measured.empty:
        first = next((one for one in found if one.left_out), None)
        said = (
            f"the first: {first.patient_id}: {first.code}: {first.message}"
            if first
            else "nobody is listed"
        )
        raise StudyError(
            f"{external.name}: no patient can be used, see {place.shown('quarantine.csv')}; {said}"
        )
    for dataset, rows in index.items():
        slices.write_index(place, dataset, rows)
        for stale in (
            set(place.entries(f"slices/{dataset}"))
            - {"index.parquet"}
            - {row["file"] for row in rows}
        ):
            place.remove(f"slices/{dataset}/{stale}")
    cohort = table.drop(columns=["image", "mask"]).merge(
        measured, on="patient_id", suffixes=("", "_measured")
    )
    if "max_diameter_mm_measured" in cohort:
        cohort["max_diameter_mm"] = cohort["max_diameter_mm"].fillna(
            cohort.pop("max_diameter_mm_measured")
        )
    place.write_parquet("cohort.parquet", cohort)
    return Read(cohort, tuple(found), twins, bool(owners))


def content_digest(place: Place, read: Read) -> str:
    """Hash over the pixels of all datasets and the labels: what the models are tested on."""
    everyone = list(read.labels)
    pixels = [slices.Slices(place, dataset, sealed=()).digest(everyone) for dataset in DATASETS]
    return digest([*pixels, *(f"{patient}:{label}" for patient, label in read.labels.items())])


def _refuse_same_ids(run: Run, table: pd.DataFrame, same_ids: bool) -> None:
    both = sorted(
        set(table["patient_id"])
        & set(run.work.read_parquet("cohort.parquet", ["patient_id"])["patient_id"])
    )
    if both and not same_ids:
        raise StudyError(
            f"patient ids that the study has too: {len(both)}, the first "
            f"{both[0]}: who trained a model cannot test it; "
            "take them out of the external cohort, or give --same-ids "
            "where the same ids are other people"
        )


def _parts(
    study: Study,
    place: Place,
    table: pd.DataFrame,
    workers: int,
    progress: Callable[[int, int], None] | None,
) -> Iterator[Part]:
    shards = make_shards(study, table)
    todo = [shard for shard in shards if finished_part(place, shard) is None]
    for done, _ in enumerate(
        _mapped(Sharder(study, place), todo, workers), len(shards) - len(todo) + 1
    ):
        if progress:
            progress(done, len(shards))
    for shard in shards:
        yield place.read_checked_json(f"{SHARDS}/{shard['shard']}.json")


def _mapped(
    sharder: Sharder, todo: Sequence[dict[str, str]], workers: int
) -> Iterator[dict[str, str]]:
    if workers <= 1 or len(todo) < 2:
        yield from map(sharder, todo)
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(sharder, todo)


def _same_pixels(
    parts: Sequence[Part], labels: Mapping[str, int], of_study: dict[str, str]
) -> tuple[list[Quarantined], dict[str, str], frozenset[str]]:
    """Patients who share an image with another of the cohort or with one of the study, their role
    there, and those who are left out for it: two labels for one image."""
    digests = {
        patient: set(found) for part in parts for patient, found in part["fingerprints"].items()
    }
    within = same_pixels(digests, labels)
    problems, twins = list(within.problems), {}
    for patient, found in sorted(digests.items()):
        if role := role_of(found, of_study):
            twins[patient] = role
            problems.append(
                Quarantined(
                    patient,
                    "",
                    Code.SAME_PIXELS,
                    f"the same image as {WHOSE[role]} of the study: no external patient; leave out",
                )
            )
    return problems, twins, within.conflicting
