"""test --cohort: the seal of an external cohort is opened, all fold models score it, and their
votes are counted."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd
import yaml

from renal_ray.apply.chosen import Run, check_weights, choose, with_head
from renal_ray.apply.external.cohort import Read, content_digest, read_external
from renal_ray.apply.external.report import write_page
from renal_ray.config import External
from renal_ray.problems import StudyError
from renal_ray.store.place import Place
from renal_ray.store.seal import Seal, last_rule, open_seal, was_opened_for
from renal_ray.store.slices import Slices
from renal_ray.sweep.vote import count_votes
from renal_ray.trial.decide import Decisions, rule_of
from renal_ray.trial.score import decide_again, score_patients
from renal_ray.trial.spec import TrialSpec
from renal_ray.trial.subjects import seal_is_open
from renal_ray.trial.workshop import Workshop, start_keras
from renal_ray.types import Dataset, Head

SEAL, PREDICTIONS, VOTES, COHORT = (
    "seal.jsonl",
    "predictions.parquet",
    "votes.parquet",
    "cohort.yaml",
)
SLICES_AT_ONCE = 512  # whose activations are in memory


@dataclass(frozen=True)
class ExternallyTested:
    """What the test did.

    Args:
        patients: who were tested.
        left_out: who were not.
        models: fold models that scored them.
        opened: whether the seal was opened: for other models, rules or patients than last time.
        twins: patients who share an image with one of the study's.
        compared: whether images could be compared with the study's.
        page: the report.
        headline: the result, a line for each dataset and head.
    """

    patients: int
    left_out: int
    models: int
    opened: bool
    twins: int
    compared: bool
    page: str
    headline: tuple[str, ...]


def evaluate_external(
    run: Run,
    external: External,
    *,
    same_ids: bool = False,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> ExternallyTested:
    """Tests a finished study's models on an external cohort, and writes WORK/external/<name>.

    Args:
        run: the study.
        external: the cohort.
        same_ids: allow ids that the study has too.
        workers: processes that read the patients.
        progress: called with shards of patients read and shards in all.

    Raises:
        StudyError: trials are missing or damaged, nobody can be read, or an id is the study's too.
            The seal then stays closed.
    """
    models = {dataset: _models(run, dataset) for dataset in run.study.datasets}
    decisions: Decisions = {
        key: value for _, made in models.values() for key, value in made.items()
    }
    specs = [spec for found, _ in models.values() for spec in found]
    place = run.work.at(f"external/{external.name}")
    read = read_external(
        run, external, place, same_ids=same_ids, workers=workers, progress=progress
    )
    sealed = sum(role == "test" for role in read.twins.values())
    if sealed and not seal_is_open(run.work, run.plan, run.results):
        raise StudyError(
            f"{external.name}: {sealed} of its patients share an image with sealed "
            "test patients of the study, whose seal is closed; "
            "leave them out, or run `renal-ray test` first"
        )
    opened = _score(run, place, read, specs, [found for found, _ in models.values()], decisions)
    place.write(
        COHORT,
        yaml.safe_dump(
            external.model_dump(mode="json"), sort_keys=False, allow_unicode=True
        ).encode(),
    )
    page, lines = write_page(run, external.name, place, read)
    left_out = len({one.patient_id for one in read.found if one.left_out})
    return ExternallyTested(
        len(read.cohort), left_out, len(specs), opened, len(read.twins), read.compared, page, lines
    )


def _models(run: Run, dataset: Dataset) -> tuple[list[TrialSpec], Decisions]:
    """All trials of a dataset's selected freeze point, and how they decide; their weights
    checked."""
    image = choose(run, dataset)
    chosen = [
        image,
        *(with_head(image, head) for head in run.study.heads.use if head is not Head.IMAGE),
    ]
    for one in chosen:
        check_weights(one)
    trials = {spec.trial_id: spec for one in chosen for spec in one.trials}
    decisions: dict[str, Any] = {}
    for one in chosen:
        decisions |= one.decisions
    return list(trials.values()), decisions


def _score(
    run: Run,
    place: Place,
    read: Read,
    specs: Sequence[TrialSpec],
    by_dataset: Sequence[Sequence[TrialSpec]],
    decisions: Decisions,
) -> bool:
    """Writes predictions and votes, unless those of the same models on the same patients under the
    same rule stand; says whether the seal was opened."""
    weights = [run.results[spec.trial_id]["files"]["weights.h5"] for spec in specs]
    content, rule = content_digest(place, read), rule_of(run.study)
    before, same_rule = _scored_before(place, weights, content), last_rule(place, log=SEAL) == rule
    if before is not None and same_rule and place.exists(VOTES):
        return False
    place.remove(VOTES)  # written again last, they say that the test is complete
    numbers = {"patients": len(read.cohort), "slices": int(read.cohort["n_images"].sum())}
    opening = partial(
        open_seal, place, models=weights, rule=rule, log=SEAL, content_sha256=content, **numbers
    )
    if before is not None:
        if not same_rule:
            opening()
        predictions = decide_again(before, decisions)
    else:
        seal = opening()
        place.remove(PREDICTIONS)
        start_keras(run.study.backend, int(run.study.resources.cpus_per_trial))
        tables = [
            table
            for trials in by_dataset
            for table in _tables(run, place, read, trials, decisions, seal)
        ]
        predictions = pd.concat(tables, ignore_index=True)
    place.write_parquet(PREDICTIONS, predictions)
    place.write_parquet(VOTES, count_votes(predictions))
    return before is None or not same_rule


def _scored_before(place: Place, weights: Sequence[str], content: str) -> pd.DataFrame | None:
    """The scores of exactly these models on exactly these patients; None where they do not
    stand."""
    if not place.exists(PREDICTIONS) or not was_opened_for(place, weights, log=SEAL):
        return None
    last = json.loads(place.read(SEAL).decode().splitlines()[-1])
    return place.read_parquet(PREDICTIONS) if last.get("content_sha256") == content else None


def _tables(
    run: Run,
    place: Place,
    read: Read,
    trials: Sequence[TrialSpec],
    decisions: Decisions,
    seal: Seal,
) -> Iterator[pd.DataFrame]:
    labels = read.labels
    sealed = Slices(place, trials[0].dataset, sealed=labels, seal=seal)
    workshop = Workshop(run.work)
    for group in _groups(sealed.counts(), list(labels)):
        yield score_patients(
            trials,
            decisions,
            run.work,
            sealed,
            {patient: labels[patient] for patient in group},
            workshop,
        )


def _groups(counts: dict[str, int], patients: Sequence[str]) -> Iterator[list[str]]:
    """Patients whose slices are in memory together."""
    group: list[str] = []
    for patient in patients:
        if group and sum(counts[one] for one in group) + counts[patient] > SLICES_AT_ONCE:
            yield group
            group = []
        group.append(patient)
    yield group
