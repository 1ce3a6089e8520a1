"""test: opens the seal, lets the fold models score the test patients, and counts the votes."""

from dataclasses import dataclass
from functools import partial

import pandas as pd

from renal_ray.config import Study
from renal_ray.problems import StudyError
from renal_ray.progress import progress
from renal_ray.protocol.splits import SplitSet
from renal_ray.protocol.vote import majority
from renal_ray.store.ledger import Ledger
from renal_ray.store.place import Place
from renal_ray.store.seal import Seal, last_rule, open_seal, was_opened_for, was_reread
from renal_ray.store.slices import Slices
from renal_ray.sweep.cluster import study_errors
from renal_ray.sweep.devices import check_devices
from renal_ray.sweep.fits import check_fits
from renal_ray.trial.cards import settle
from renal_ray.trial.decide import Decisions, decisions_of, rule_of
from renal_ray.trial.plan import Plan, Results, finished_results, make_plan
from renal_ray.trial.score import decide_again, score_test
from renal_ray.trial.spec import TrialSpec
from renal_ray.types import Dataset

GROUP = ["dataset", "freeze_point", "head", "level"]
PREDICTIONS = "test/predictions.parquet"
VOTES = "test/votes.parquet"


@dataclass(frozen=True)
class Tested:
    """What the test did.

    Args:
        patients: test patients.
        models: fold models that scored them.
        opened: whether the seal was opened now; False where the same models had been tested before.
        recounted: whether the scores of the same models were decided anew, under another rule than
            before.
        revised: whether they were counted anew because test patients have left or have another
            label.
    """

    patients: int
    models: int
    opened: bool
    recounted: bool = False
    revised: bool = False


def test(study: Study) -> Tested:
    """Scores the sealed patients with the fold models at each dataset's selected freeze point, and
    writes predictions and votes.

    Args:
        study: a swept study.

    Returns:
        Counts. Nothing is read or written again where the same models were tested before; where the
        study file has another rule for thresholds or calibration since, their scores are decided
        and their votes counted anew, which is written down as an opening. Where test patients have
        left or have another label since, which prepare wrote down, the same scores are counted anew
        without them.

    Raises:
        StudyError: trials are missing, the weights of one are damaged, or no node can host the
            scoring. The seal then stays closed.
    """
    work = Place(study.work)
    plan = make_plan(study, work)
    results = finished_results(work)
    models = {dataset: _models(plan, dataset, results) for dataset in study.datasets}
    ids = [spec.trial_id for specs in models.values() for spec in specs]
    patients = len(plan.splits.test)
    weights = [results[trial_id]["files"]["weights.h5"] for trial_id in ids]
    before, rule = _scored_before(work, ids, weights), rule_of(study)
    scored = None if before is None else _of_patients(before, plan.splits)
    same_rule, revised = last_rule(work) == rule, scored is not None and not scored.equals(before)
    if scored is not None and same_rule and not revised and work.exists(VOTES):
        return Tested(patients, len(ids), opened=False)
    if scored is None:
        check_fits(study)
        check_devices(study)  # before the seal is opened
        for trial_id in ids:
            Ledger(work).read_checked(trial_id, "weights.h5")
    decisions = {
        spec.trial_id: decisions_of(spec, work, study)
        for specs in models.values()
        for spec in specs
    }
    counts = Slices(work, study.datasets[0], sealed=plan.splits.test).counts()
    sealed_slices = sum(counts[patient] for patient in plan.splits.test)
    opening = partial(
        open_seal, work, patients=patients, slices=sealed_slices, models=weights, rule=rule
    )
    if scored is not None:
        work.remove(VOTES)  # first: a recount that is cut off anywhere is done again
        if not same_rule:
            opening()
        _keep(work, decide_again(scored, decisions))
        return Tested(patients, len(ids), opened=False, recounted=not same_rule, revised=revised)
    predictions = _score_all(study, work, plan, list(models.values()), decisions, opening())
    work.remove(
        VOTES
    )  # those of other models; written again last, they say that the test is complete
    _keep(work, predictions)
    return Tested(patients, len(ids), opened=True)


def _score_all(
    study: Study,
    work: Place,
    plan: Plan,
    models: list[list[TrialSpec]],
    decisions: Decisions,
    seal: Seal,
) -> pd.DataFrame:
    import ray

    share = {"num_cpus": study.resources.cpus_per_trial, "num_gpus": study.resources.gpus_per_trial}
    task = ray.remote(**share)(_score)
    with study_errors(), progress("test: datasets") as show:
        tasks = [
            task.remote(
                study,
                work,
                plan,
                specs,
                {spec.trial_id: decisions[spec.trial_id] for spec in specs},
                seal,
            )
            for specs in models
        ]
        for done in range(1, len(tasks) + 1):
            ray.wait(tasks, num_returns=done)
            show(done, len(tasks))
        return pd.concat(ray.get(tasks), ignore_index=True)


def _keep(work: Place, predictions: pd.DataFrame) -> None:
    work.write_parquet(PREDICTIONS, predictions)
    work.write_parquet(VOTES, count_votes(predictions))


def _scored_before(work: Place, ids: list[str], weights: list[str]) -> pd.DataFrame | None:
    """The scores of exactly these models, None where they do not stand."""
    if not work.exists(PREDICTIONS) or not was_opened_for(work, weights) or was_reread(work):
        return None
    predictions = work.read_parquet(PREDICTIONS)
    return predictions if set(predictions["trial_id"]) == set(ids) else None


def _of_patients(scored: pd.DataFrame, splits: SplitSet) -> pd.DataFrame | None:
    """The scores of the test patients there are, with the labels that they have; None where
    somebody was not scored."""
    if not splits.test <= set(scored["patient_id"]):
        return None
    rows = scored[scored["patient_id"].isin(splits.test)].reset_index(drop=True)
    return rows.assign(label=rows["patient_id"].map(splits.labels).astype(rows["label"].dtype))


def _models(plan: Plan, dataset: Dataset, results: Results) -> list[TrialSpec]:
    """The fold models of a dataset's selected freeze point, all heads."""
    selected = plan.selected(dataset, results)
    if selected is None:
        raise StudyError(
            f"test: image trials of {dataset} are missing, so that no freeze "
            "point is selected: run `renal-ray sweep` first"
        )
    specs = plan.image_specs(dataset, selected) + plan.head_specs(dataset, selected)
    missing = [spec.trial_id for spec in specs if spec.trial_id not in results]
    if missing:
        raise StudyError(
            f"test: {len(missing)} trials of {dataset} at {selected} are missing, "
            f"the first {missing[0]}: run `renal-ray sweep` first"
        )
    return specs


def _score(
    study: Study, work: Place, plan: Plan, specs: list[TrialSpec], decisions: Decisions, seal: Seal
) -> pd.DataFrame:
    settle(study)
    return score_test(specs, decisions, work, plan.splits, seal)


def count_votes(predictions: pd.DataFrame) -> pd.DataFrame:
    """Lets the fold models of each dataset, freeze point, head and level vote.

    Args:
        predictions: rows of test/predictions.parquet.

    Returns:
        Rows of test/votes.parquet: one a sample, a slice or a patient.
    """
    tables = []
    for key, group in predictions.groupby(GROUP, sort=True):
        ordered = group.sort_values(["fold", "patient_id", "slice_index"], ignore_index=True)
        folds = ordered["fold"].nunique()
        named = ordered[["patient_id", "slice_index", "label"]].astype(
            str
        )  # as text, so that a missing slice number equals another
        if (
            len(
                {
                    tuple(fold.itertuples(index=False, name=None))
                    for _, fold in named.groupby(ordered["fold"])
                }
            )
            != 1
        ):
            raise ValueError(f"{' '.join(key)}: the fold models scored different samples")
        samples = ordered.iloc[: len(ordered) // folds][
            ["patient_id", "slice_index", "label"]
        ].reset_index(drop=True)
        vote = majority(
            ordered["decision"].to_numpy().reshape(folds, -1),
            ordered["score"].to_numpy().reshape(folds, -1),
        )
        counted = samples.assign(
            votes=vote.votes,
            n_models=folds,
            decision=vote.decision,
            score=vote.score,
            **dict(zip(GROUP, key, strict=True)),
        )
        tables.append(
            counted[
                [
                    *GROUP,
                    "patient_id",
                    "slice_index",
                    "label",
                    "votes",
                    "n_models",
                    "decision",
                    "score",
                ]
            ]
        )
    return pd.concat(tables, ignore_index=True).astype(
        {"votes": "int32", "n_models": "int32", "decision": "int8"}
    )
