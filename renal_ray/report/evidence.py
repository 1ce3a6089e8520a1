"""Everything that a work directory says about a study, read once and held together."""

import io
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd
import yaml

from renal_ray.config import PROVENANCE, Study
from renal_ray.problems import PROBLEM_COLUMNS
from renal_ray.protocol.scanners import Scanner
from renal_ray.protocol.selection import select_freeze_point
from renal_ray.protocol.splits import SplitSet
from renal_ray.report.trials import Trial, Trials, read_trials
from renal_ray.store.place import Place
from renal_ray.store.seal import last_rule, read_log
from renal_ray.trial.changed import CohortState, cohort_state
from renal_ray.trial.collapse import collapsed
from renal_ray.trial.decide import rule_of
from renal_ray.trial.masks import COLUMNS as MASK_COLUMNS
from renal_ray.trial.masks import mask_parts
from renal_ray.trial.plan import Plan, Results, family, finished_results, make_plan
from renal_ray.trial.search.outcome import read_outcome
from renal_ray.trial.spec import main_level
from renal_ray.trial.subjects import votes_stand
from renal_ray.types import FREEZE_POINTS, Dataset, FreezePoint, Head


@dataclass(frozen=True)
class SealedTest:
    """What the opened test set showed.

    Args:
        votes: test/votes.parquet, rows whose models are the study's own; None when the test has not
            been run.
        voters: test/predictions.parquet, what each of these models said; None when the test has not
            been run.
        stale: dataset, freeze point and head of votes left out because their models are no longer
            the study's.
        openings: every opening in test/seal.jsonl.
        other_rule: whether votes are left out because they were counted under another rule than the
            study's.
        other_patients: whether votes are left out because test patients were withdrawn, relabelled
            or corrected since.
        changes: the lines of test/seal.jsonl on what of the cohort changed after an opening.
    """

    votes: pd.DataFrame | None
    voters: pd.DataFrame | None
    stale: tuple[tuple[str, str, str], ...]
    openings: tuple[dict[str, Any], ...]
    other_rule: bool = False
    other_patients: bool = False
    changes: tuple[dict[str, Any], ...] = ()

    @property
    def opened(self) -> bool:
        """Whether anybody has looked at the test patients."""
        return bool(self.openings)


@dataclass(frozen=True)
class Evidence:
    """The evidence of a study.

    Args:
        study: the study as it stands.
        provenance: versions, hashes and times kept in study.yaml.
        cohort: cohort.parquet, one row a patient.
        quarantine: patient_id, file, code, message, severity: those left out, and what is to be
            reported of the others.
        splits: who trained, validated and was sealed.
        trials: what was trained.
        test: the sealed test.
        selected: freeze point of each dataset with a finished image trial; provisional while others
            are missing.
        beside: numbers of the trials beside the study's own folds, by family.
        scanners: of the training patients, where one is to be left out in turn.
        masks: scores under perturbed masks, see `renal_ray.trial.masks.COLUMNS`; empty where none
            were measured.
        search: WORK/search/search.json of a search on this split; None without one.
        collapsed: trial_id -> why, of finished trials that learnt nothing.
        external: patients of each external cohort that models of this work directory were tested
            on, by its name.
        sources: whether the cohort's sources are what they were when they were prepared.
    """

    study: Study
    provenance: dict[str, Any]
    cohort: pd.DataFrame
    quarantine: pd.DataFrame
    splits: SplitSet
    trials: Trials
    test: SealedTest
    selected: dict[Dataset, FreezePoint]
    beside: dict[str, int]
    scanners: list[Scanner]
    masks: pd.DataFrame
    search: dict[str, Any] | None = None
    external: dict[str, int] = field(default_factory=dict)
    collapsed: dict[str, str] = field(default_factory=dict)
    sources: CohortState = field(default_factory=CohortState)

    @property
    def freeze_points(self) -> list[FreezePoint]:
        """The study's freeze points, shallow to deep."""
        return sorted(self.study.freeze_points, key=FREEZE_POINTS.index)

    def cell(self, dataset: Dataset, freeze_point: FreezePoint, head: Head) -> list[Trial]:
        """The finished trials of one cell, fold by fold."""
        return [
            t
            for t in self.trials.true
            if (t.spec.dataset, t.spec.freeze_point, t.spec.head) == (dataset, freeze_point, head)
        ]

    def trials_of(self, name: str) -> list[Trial]:
        """The finished trials of one family beside the study's own folds."""
        return [
            trial
            for trial in (*self.trials.repeats, *self.trials.beside)
            if family(trial.spec) == name
        ]

    def votes(self, dataset: Dataset, head: Head, level: str) -> pd.DataFrame:
        """The votes at the dataset's selected freeze point; empty when there are none."""
        votes = self.test.votes
        if votes is None or dataset not in self.selected:
            return pd.DataFrame(
                columns=["patient_id", "label", "votes", "n_models", "decision", "score"]
            )
        chosen = (
            (votes["dataset"] == dataset)
            & (votes["freeze_point"] == self.selected[dataset])
            & (votes["head"] == head)
            & (votes["level"] == level)
        )
        return votes[chosen].reset_index(drop=True)

    def voters(self, dataset: Dataset, head: Head, level: str) -> pd.DataFrame:
        """What each fold model said of the test samples at the dataset's selected freeze point;
        empty when there are none."""
        voters = self.test.voters
        if voters is None or dataset not in self.selected:
            return pd.DataFrame(
                columns=["fold", "patient_id", "label", "score", "threshold", "decision"]
            )
        chosen = (
            (voters["dataset"] == dataset)
            & (voters["freeze_point"] == self.selected[dataset])
            & (voters["head"] == head)
            & (voters["level"] == level)
        )
        return voters[chosen].reset_index(drop=True)

    def missing_folds(self) -> Iterator[tuple[Dataset, FreezePoint, Head, list[int]]]:
        """Cells that lack folds: the image head everywhere, the others where they are wanted."""
        for dataset in self.study.datasets:
            for freeze_point in self.freeze_points:
                for head in self.study.heads.use:
                    everywhere = head is Head.IMAGE or self.study.heads.freeze_points == "all"
                    if everywhere or self.selected.get(dataset) is freeze_point:
                        done = {trial.spec.fold for trial in self.cell(dataset, freeze_point, head)}
                        if absent := sorted(set(self.study.fold_numbers) - done):
                            yield dataset, freeze_point, head, absent


def read_evidence(study: Study) -> Evidence:
    """Reads a study's work directory.

    Args:
        study: the study as it stands; `work` says where.

    Raises:
        StudyError: the study was not prepared, or with other settings, or a file is damaged.
    """
    work = Place(study.work)
    plan, results = make_plan(study, work), finished_results(work)
    trials = read_trials(plan, results, work)
    return Evidence(
        study=study,
        provenance=_provenance(work),
        cohort=work.read_parquet("cohort.parquet").sort_values("patient_id", ignore_index=True),
        quarantine=_quarantine(work),
        splits=plan.splits,
        trials=trials,
        test=_test(study, work, plan.splits, trials),
        selected=_selected(plan, results, trials),
        beside=plan.beside(),
        scanners=plan.scanner_levels,
        masks=_masks(plan, results, work),
        search=_search(plan, work),
        external=_external(work),
        collapsed=collapsed(plan, results, work),
        sources=cohort_state(study, work),
    )


def _masks(plan: Plan, results: Results, work: Place) -> pd.DataFrame:
    tables = [
        work.read_parquet(part.file) for part in mask_parts(plan, results) if work.exists(part.file)
    ]
    return (
        pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=list(MASK_COLUMNS))
    )


def _search(plan: Plan, work: Place) -> dict[str, Any] | None:
    found = read_outcome(work)
    split = {inputs.splits for inputs in plan.inputs.values()}
    return found if found is not None and found["splits"] in split else None


def _external(work: Place) -> dict[str, int]:
    voted = {name: f"external/{name}/votes.parquet" for name in work.entries("external")}
    return {
        name: work.read_parquet(file, ["patient_id"])["patient_id"].nunique()
        for name, file in voted.items()
        if work.exists(file)
    }


def _selected(plan: Plan, results: Results, trials: Trials) -> dict[Dataset, FreezePoint]:
    points = {
        dataset: plan.selected(dataset, results) or _provisional(dataset, trials)
        for dataset in plan.study.datasets
    }
    return {dataset: point for dataset, point in points.items() if point is not None}


def _provisional(dataset: Dataset, trials: Trials) -> FreezePoint | None:
    """What the image trials finished so far would select; None without an AUC among them."""
    aucs: dict[FreezePoint, list[float | None]] = {}
    for trial in (*trials.true, *trials.repeats):
        if trial.spec.dataset is dataset and trial.spec.head is Head.IMAGE:
            aucs.setdefault(trial.spec.freeze_point, []).append(
                trial.metrics(main_level(Head.IMAGE))["auc"]
            )
    return (
        select_freeze_point(aucs)
        if any(auc is not None for values in aucs.values() for auc in values)
        else None
    )


def _provenance(work: Place) -> dict[str, Any]:
    if not work.exists("study.yaml"):
        return {}
    raw = yaml.safe_load(work.read("study.yaml"))
    return dict(raw.get(PROVENANCE) or {}) if isinstance(raw, dict) else {}


def _quarantine(work: Place) -> pd.DataFrame:
    if not work.exists("quarantine.csv"):
        return pd.DataFrame(columns=list(PROBLEM_COLUMNS))
    return pd.read_csv(io.BytesIO(work.read("quarantine.csv")), dtype=str, keep_default_na=False)[
        list(PROBLEM_COLUMNS)
    ]


def _test(study: Study, work: Place, splits: SplitSet, trials: Trials) -> SealedTest:
    log = read_log(work)
    closed = SealedTest(
        None,
        None,
        (),
        tuple(line for line in log if "opened" in line),
        changes=tuple(line for line in log if "changed" in line),
    )
    if not (work.exists("test/votes.parquet") and work.exists("test/predictions.parquet")):
        return closed
    if last_rule(work) != rule_of(study):
        return replace(closed, other_rule=True)
    votes = work.read_parquet("test/votes.parquet")
    voters = work.read_parquet("test/predictions.parquet")
    models = voters[["dataset", "freeze_point", "head", "trial_id"]].drop_duplicates()
    current = {trial.spec.trial_id for trial in trials.true}
    cell = ["dataset", "freeze_point", "head"]
    if set(models["trial_id"]) <= current and not votes_stand(work, splits):
        return replace(closed, other_patients=True)
    foreign = models[~models["trial_id"].isin(current)][cell].drop_duplicates()
    unknown = votes[~votes["patient_id"].isin(splits.test)][cell].drop_duplicates()
    stale = sorted(
        {
            (str(d), str(f), str(h))
            for d, f, h in pd.concat([foreign, unknown]).itertuples(index=False)
        }
    )
    return replace(
        closed, votes=_without(votes, stale), voters=_without(voters, stale), stale=tuple(stale)
    )


def _without(table: pd.DataFrame, stale: list[tuple[str, str, str]]) -> pd.DataFrame:
    keys = list(zip(table["dataset"], table["freeze_point"], table["head"], strict=True))
    return table[[key not in stale for key in keys]].reset_index(drop=True)
