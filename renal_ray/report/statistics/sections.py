"""The statistics of the report put together: what is said, which tables and drawings stand where,
and a sentence wherever something cannot be shown."""

from collections.abc import Iterator
from dataclasses import dataclass

from renal_ray.report.canvas import Drawing
from renal_ray.report.evidence import Evidence
from renal_ray.report.statistics import (
    calibration,
    comparison_tables,
    evaluation,
    paper_comparison,
    ranking,
    subgroups,
    thresholds,
    voter_figures,
    voters,
)
from renal_ray.report.statistics.comparisons import (
    FAMILIES,
    Comparison,
    auc_comparisons,
    vote_comparisons,
)
from renal_ray.report.statistics.evaluation import Evaluated, evaluated, frozen_note
from renal_ray.report.statistics.forest_figure import forest_of_models
from renal_ray.report.statistics.groups import COLUMNS, Grouping, groupings
from renal_ray.report.statistics.samples import Scored, selected_models
from renal_ray.report.tables import Table
from renal_ray.report.text import counted, dataset_name, listed


@dataclass(frozen=True)
class Block:
    """A part of a section.

    Args:
        anchor: its place on the page.
        title: its heading.
        sentences: what was computed, on whom, by which method; or why it is not there.
        shown: names of the tables and drawings under it, in order.
    """

    anchor: str
    title: str
    sentences: tuple[str, ...]
    shown: tuple[str, ...] = ()


@dataclass(frozen=True)
class Statistics:
    """Everything that the report says about uncertainty.

    Args:
        evidence: what the work directory says.
        models: every model at its selected freeze point, with estimates.
        aucs: comparisons out of fold.
        votes: comparisons on the sealed test.
    """

    evidence: Evidence
    models: tuple[Evaluated, ...]
    aucs: tuple[Comparison, ...]
    votes: tuple[Comparison, ...]

    @property
    def scored(self) -> list[Scored]:
        """The models with their samples."""
        return [one.scored for one in self.models]

    @property
    def is_validated(self) -> bool:
        """Whether anybody was scored out of fold."""
        return any(len(one.validation) for one in self.scored)

    @property
    def is_tested(self) -> bool:
        """Whether the fold models voted on the sealed test."""
        return any(len(one.test) for one in self.scored)

    def tables(self) -> list[Table]:
        """Every table; those without columns are for CSV alone. A part that has nothing to show has
        none."""
        evidence, scored, made = self.evidence, self.scored, []
        if self.is_validated:
            made = [
                evaluation.validation_intervals(evidence, self.models),
                calibration.calibration_table(evidence, scored),
            ]
            made += [
                thresholds.rules_table(evidence, scored),
                *subgroups.subgroup_tables(evidence, scored).values(),
            ]
            made += [
                ranking.curve_points(scored),
                calibration.reliability_points(evidence, scored),
                calibration.decision_points(evidence, scored),
            ]
            made += [comparison_tables.auc_table(self.aucs)] if self.aucs else []
            made += [paper_comparison.papers_table(evidence)] if len(evidence.selected) > 1 else []
        if self.is_tested:
            made += [
                evaluation.test_intervals(evidence, self.models),
                voters.agreement_table(evidence, scored),
                voters.scores_table(evidence, scored),
            ]
            made += [comparison_tables.vote_table(self.votes)] if self.votes else []
        return made

    def draw(self) -> Iterator[Drawing]:
        """Every figure for which there is something to draw."""
        evidence, scored = self.evidence, self.scored
        if self.is_validated:
            yield ranking.validation_curves(evidence, scored)
            yield forest_of_models(evidence, self.models)
            if self.aucs:
                yield comparison_tables.forest_of_differences(self.aucs)
            yield calibration.reliability_curves(evidence, scored)
            yield calibration.decision_curves(evidence, scored)
            if _groupings(evidence) and subgroups.shown_models(scored):
                yield subgroups.subgroup_forest(evidence, scored)
        if self.is_tested:
            yield ranking.test_precision_recall(evidence, scored)
            yield voter_figures.confusion_matrices(evidence, scored)
            yield voter_figures.scores_by_patient(evidence, scored)

    def validation_blocks(self) -> list[Block]:
        """The parts of the section on validation and calibration."""
        if not self.is_validated:
            return [
                Block(
                    "intervals",
                    "Intervals",
                    ("No fold has finished yet: there is nothing to compute an interval of.",),
                )
            ]
        return [
            self._intervals(),
            self._comparisons(),
            self._calibration(),
            self._thresholds(),
            self._subgroups(),
        ]

    def test_blocks(self) -> list[Block]:
        """The parts of the section on the sealed test; none before it was run."""
        if not self.is_tested:
            return []
        intervals = (
            (
                "Who was sealed away, scored by the fold models that vote; freeze "
                "points and thresholds were fixed on validation."
            ),
        )
        said = (
            "Accuracy of two votes on the same patients: the difference "
            "and its interval first, then the P value."
        )
        if not self.votes:
            said = "A single model was tested: there is no other vote to compare it with."
        blocks = [
            Block(
                "test-uncertainty",
                "How certain the test is",
                intervals,
                ("test-intervals", "figure-s7-test-pr", "figure-s8-test-confusion"),
            ),
            Block(
                "test-voters",
                "The voters",
                self._voters(),
                ("voter-agreement", "figure-s9-test-scores"),
            ),
            Block("test-comparisons", "Comparisons of the votes", (said,), ("vote-comparisons",)),
        ]
        if _groupings(self.evidence):
            blocks.append(
                Block(
                    "test-subgroup-section",
                    "Subgroups of the test",
                    ("Few patients a level: read the intervals, not the values.",),
                    ("test-subgroups",),
                )
            )
        return blocks

    def _intervals(self) -> Block:
        patients = len({patient for one in self.scored for patient in one.validation.patients})
        said = [
            f"{counted(patients, 'training patient')} once each, scored by the fold model not "
            "trained on that patient. The patient is the unit of every "
            "interval: the slices of one patient are never taken for "
            f"independent.{frozen_note(self.evidence)}"
        ]
        lacking = [
            dataset_name(d)
            for d in self.evidence.study.datasets
            if any(
                len(one.folds) < len(self.evidence.study.fold_numbers)
                for one in self.scored
                if one.model.dataset is d
            )
        ]
        if lacking:
            said.append(f"Pooled over the folds there are; some are missing of {listed(lacking)}.")
        absent = [
            dataset_name(dataset)
            for dataset in self.evidence.study.datasets
            if dataset not in self.evidence.selected
        ]
        if absent:
            said.append(f"Nothing is trained yet of {listed(absent)}.")
        return Block(
            "intervals",
            "Intervals",
            tuple(said),
            ("figure-s1-forest", "validation-intervals", "figure-s2-roc-and-pr"),
        )

    def _comparisons(self) -> Block:
        there = {one.family for one in self.aucs}
        why = {
            "datasets": "a single dataset has been scored",
            "freeze points": "a single freeze point has been trained",
            "heads": "a single kind of model has been scored",
        }
        said = [
            f"{FAMILIES[family]}: nothing to compare, {why[family]}."
            for family in FAMILIES
            if family not in there
        ]
        if self.aucs:
            said.insert(
                0,
                "Two models on the same patients, out of fold, per patient: the "
                "difference and its interval first, then the P value.",
            )
        return Block(
            "comparisons",
            "Comparisons",
            tuple(said),
            ("figure-s3-differences", "auc-comparisons", "auc-comparisons-over-folds"),
        )

    def _calibration(self) -> Block:
        kind = self.evidence.study.calibrate
        said = "Scores as the networks give them (calibrate: none)."
        if kind != "none":
            said = (
                f"Calibrated by {kind}, fitted by each fold model on its own validation fold. "
                "Validation is therefore shown before calibration, which would "
                "be judged on the patients that it was fitted on; the "
                "test is shown before and after."
            )
        untested = () if self.is_tested else ("The test follows once the seal is opened.",)
        return Block(
            "calibration-section",
            "Calibration and decision curves",
            (said, *untested),
            ("figure-s4-calibration", "calibration", "figure-s5-decision-curves"),
        )

    def _thresholds(self) -> Block:
        return Block(
            "threshold-rules",
            "Thresholds",
            (
                (
                    "What each rule would give; the study file's rule is the "
                    "one that decides everywhere else."
                ),
            ),
            ("thresholds-by-rule",),
        )

    def _subgroups(self) -> Block:
        there = {grouping.name for grouping in _groupings(self.evidence)}
        if not there:
            return Block(
                "subgroup-section",
                "Subgroups",
                (
                    (
                        "The cohort has none of the columns to divide it by (size, sex, age, "
                        "location, stage, grade, histology, scanner)."
                    ),
                ),
            )
        missing = [name.lower() for name in COLUMNS if name not in there]
        said = ["Training patients, out of fold."] + (
            [f"The cohort does not give: {listed(missing)}."] if missing else []
        )
        if not subgroups.shown_models(self.scored):
            said.append("No model has scored patients of both classes yet.")
        return Block(
            "subgroup-section", "Subgroups", tuple(said), ("figure-s6-subgroups", "subgroups")
        )

    def _voters(self) -> tuple[str, ...]:
        numbers = {
            len(voters.said(self.evidence, one.model).folds)
            for one in self.scored
            if one.model.level == "patient" and len(one.test)
        }
        if numbers == {1}:
            return ("A single model voted: there is nobody to agree with.",)
        return (
            "Every fold model decides alone, with its own threshold; the majority is the vote.",
        )


def _groupings(evidence: Evidence) -> list[Grouping]:
    return groupings(evidence.cohort[evidence.cohort["patient_id"].isin(evidence.splits.training)])


def statistics(evidence: Evidence) -> Statistics:
    """Measures every model with its uncertainty.

    Args:
        evidence: what the work directory says.
    """
    models = tuple(evaluated(evidence, one) for one in selected_models(evidence))
    scored = [one.scored for one in models]
    return Statistics(
        evidence, models, tuple(auc_comparisons(evidence, scored)), tuple(vote_comparisons(scored))
    )
