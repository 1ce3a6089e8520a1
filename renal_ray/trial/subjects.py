"""Whose images are explained: validation patients that a model was right, wrong or unsure about,
and the vote's errors."""

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
import pyarrow.parquet as pq

from renal_ray import __version__
from renal_ray.config import Study
from renal_ray.problems import StudyError
from renal_ray.protocol.splits import SplitSet
from renal_ray.store.ledger import Ledger
from renal_ray.store.place import Place, digest
from renal_ray.store.seal import was_opened_for, was_reread
from renal_ray.trial.decide import decision, patient_scores, rule_of
from renal_ray.trial.plan import Plan, Results
from renal_ray.trial.spec import TrialSpec
from renal_ray.types import Dataset, Head

VALIDATION, TEST = "validation", "test"
BEST, WORST, UNCERTAIN, ERROR, OTHER = "best", "worst", "uncertain", "error", "other"
VOTES = "test/votes.parquet"


@dataclass(frozen=True)
class Subject:
    """One patient in one dataset, with what the models said.

    Args:
        dataset: what of an image the models saw.
        patient_id: who.
        part: validation or test.
        kind: best (most confidently right), worst (most confidently wrong), uncertain (nearest to
            the threshold), error (the vote was wrong), or other: measured, not shown.
        folds: folds whose models are asked: the one that the patient validated in, or all that
            voted.
        label: 1 malignant, 0 benign.
        score: P(malignant), mean over the slices, calibrated if the study asks for it, and mean
            over the models.
        threshold: of the fold's model; None for a vote, where each model has its own.
        decision: 1 malignant, 0 benign.
        votes: models that said malignant; None on validation.
    """

    dataset: Dataset
    patient_id: str
    part: str
    kind: str
    folds: tuple[int, ...]
    label: int
    score: float
    threshold: float | None
    decision: int
    votes: int | None


def image_models(plan: Plan, dataset: Dataset, results: Results) -> list[TrialSpec]:
    """The finished image trials at a dataset's selected freeze point.

    Raises:
        StudyError: image trials are missing.
    """
    selected = plan.selected(dataset, results)
    if selected is None:
        raise StudyError(
            f"explain: image trials of {dataset} are missing, so that no freeze "
            "point is selected: run `renal-ray sweep` first"
        )
    return plan.image_specs(dataset, selected)


def voters(plan: Plan, results: Results) -> list[str] | None:
    """Checksums of the weights that `renal-ray test` lets vote on the study as it stands; None
    while one is missing."""
    found = []
    for dataset in plan.study.datasets:
        selected = plan.selected(dataset, results)
        specs = (
            []
            if selected is None
            else plan.image_specs(dataset, selected) + plan.head_specs(dataset, selected)
        )
        if not specs or any(spec.trial_id not in results for spec in specs):
            return None
        found += [results[spec.trial_id]["files"]["weights.h5"] for spec in specs]
    return found


def state(
    study: Study,
    work: Place,
    models: Mapping[Dataset, Sequence[TrialSpec]],
    results: Results,
    *,
    opened: bool,
) -> dict[str, str]:
    """What the maps follow from, as hashes: settings, models with their rule for decisions, and the
    votes if the seal was opened for them."""
    settings = [
        __version__,
        study.explain.model_dump_json(),
        study.images.model_dump_json(),
        study.cohort.model_dump_json(),
    ]
    asked = [spec.trial_id for specs in models.values() for spec in specs]
    parts = [
        part for trial_id in asked for part in (trial_id, results[trial_id]["files"]["weights.h5"])
    ]
    rule = json.dumps(rule_of(study), sort_keys=True)
    return {
        "settings": digest(settings),
        "models": digest([*parts, rule]),
        "votes": hashlib.sha256(work.read(VOTES)).hexdigest() if opened else "",
    }


def seal_is_open(work: Place, plan: Plan, results: Results) -> bool:
    """Whether the models of the study as it stands have voted on the test patients."""
    weights = voters(plan, results)
    return weights is not None and was_opened_for(work, weights) and work.exists(VOTES)


def votes_stand(work: Place, splits: SplitSet) -> bool:
    """Whether the votes that were counted are those of the test patients as they are: nobody left,
    was relabelled or reread since."""
    if not work.exists(VOTES) or was_reread(work):
        return False
    votes = work.read_parquet(VOTES, ["patient_id", "label"])
    return dict(zip(votes["patient_id"], votes["label"].astype(int), strict=True)) == {
        one: splits.labels[one] for one in splits.test
    }


def subjects(
    study: Study, work: Place, models: Mapping[Dataset, Sequence[TrialSpec]], *, opened: bool
) -> list[Subject]:
    """Everybody who is explained.

    Args:
        study: the study.
        work: its work directory.
        models: per dataset the image trials at its selected freeze point.
        opened: whether the seal was opened for these models; otherwise no test patient is among
            them.

    Returns:
        Validation patients, each asked of the model that did not train on them; then the vote's
        errors.
    """
    found: list[Subject] = []
    for dataset, specs in models.items():
        scored = pd.concat([_validated(spec, work, study) for spec in specs], ignore_index=True)
        kinds = picked(scored, study.explain.patients)
        for row in scored.assign(kind=kinds).sort_values("patient_id").itertuples():
            if row.kind != OTHER or study.explain.measure == "all":
                said = (
                    int(row.label),
                    float(row.score),
                    float(row.threshold),
                    int(row.decision),
                    None,
                )
                found.append(
                    Subject(dataset, row.patient_id, VALIDATION, row.kind, (row.fold,), *said)
                )
        if opened:
            found += _voted_wrong(work, dataset, specs)
    return found


def picked(scored: pd.DataFrame, n: int) -> pd.Series:
    """The kind of each patient: at most n best, n worst and n uncertain ones, no patient twice.

    Args:
        scored: patient_id, label, score, threshold, decision.
        n: patients of each kind.

    Returns:
        best, worst, uncertain or other, indexed as the table.
    """
    truth = scored["score"].where(
        scored["label"] == 1, 1 - scored["score"]
    )  # P of what the patient has
    ranked = scored.assign(truth=truth, distance=(scored["score"] - scored["threshold"]).abs())
    right = ranked["decision"] == ranked["label"]
    kinds = pd.Series(OTHER, index=scored.index)
    kinds[ranked[right].sort_values(["truth", "patient_id"], ascending=[False, True]).index[:n]] = (
        BEST
    )
    kinds[ranked[~right].sort_values(["truth", "patient_id"]).index[:n]] = WORST
    kinds[ranked[kinds == OTHER].sort_values(["distance", "patient_id"]).index[:n]] = UNCERTAIN
    return kinds


def _validated(spec: TrialSpec, work: Place, study: Study) -> pd.DataFrame:
    """A model's patients of the fold that it did not train on: patient_id, label, score, threshold,
    decision, fold."""
    predictions = pq.read_table(
        io.BytesIO(Ledger(work).read_checked(spec.trial_id, "predictions.parquet"))
    ).to_pandas()
    validation = predictions[predictions["part"] == VALIDATION]
    decides, table = decision(spec, validation, study, "patient"), patient_scores(validation)
    said = {
        "score": decides.probabilities(table["score"]),
        "decision": decides.malignant(table["score"]),
    }
    return table.assign(**said, threshold=decides.threshold, fold=spec.fold)


def _voted_wrong(work: Place, dataset: Dataset, specs: Sequence[TrialSpec]) -> list[Subject]:
    votes = work.read_parquet(VOTES)
    here = (votes["dataset"] == str(dataset)) & (
        votes["freeze_point"] == str(specs[0].freeze_point)
    )
    votes = votes[here & (votes["head"] == str(Head.IMAGE)) & (votes["level"] == "patient")]
    wrong = votes[votes["decision"] != votes["label"]].sort_values("patient_id")
    folds = tuple(spec.fold for spec in specs)
    return [
        Subject(
            dataset,
            row.patient_id,
            TEST,
            ERROR,
            folds,
            int(row.label),
            float(row.score),
            None,
            int(row.decision),
            int(row.votes),
        )
        for row in wrong.itertuples()
    ]
