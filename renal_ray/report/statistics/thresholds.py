"""What every rule for the threshold would give, on the folds that it was fixed on and on the sealed
test."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from renal_ray.config import Study
from renal_ray.protocol.metrics import confusion, mean_sd
from renal_ray.protocol.thresholds import RULES, Rule
from renal_ray.protocol.vote import majority
from renal_ray.report.evidence import Evidence
from renal_ray.report.statistics.samples import Scored
from renal_ray.report.tables import Row, Table, group_row
from renal_ray.report.text import DASH, METRIC_NAMES, plus_minus, probability, two
from renal_ray.trial.decide import Decision, at_level, decision

SHOWN = ("sen", "spec", "mcc")


@dataclass(frozen=True)
class Ruled:
    """A model under one rule.

    Args:
        rule: how the thresholds were found.
        folds: fold -> its decision.
        validation: fold -> metrics on the fold that the threshold was fixed on.
        test: metrics of the vote on the sealed test; None where not tested.
    """

    rule: Rule
    folds: dict[int, Decision]
    validation: dict[int, dict[str, float | None]]
    test: dict[str, float | None] | None


def rule_name(rule: Rule, study: Study) -> str:
    """A rule in words."""
    return {
        "youden": "Youden's J",
        "closest": "closest to the corner",
        "mcc": "largest MCC",
        "sensitivity": f"sensitivity ≥ {study.threshold.sensitivity:g}",
        "cost": f"least cost, {study.threshold.cost_ratio:g} to 1",
    }[rule]


def under_rules(evidence: Evidence, one: Scored) -> Iterator[Ruled]:
    """A model under every rule, the thresholds fixed on validation.

    Args:
        evidence: what the work directory says.
        one: the model.
    """
    voters = evidence.voters(one.model.dataset, one.model.head, one.model.level)
    for rule in RULES:
        study = evidence.study.model_copy(
            update={"threshold": evidence.study.threshold.model_copy(update={"rule": rule})}
        )
        folds = {
            trial.spec.fold: decision(trial.spec, trial.validation, study, one.model.level)
            for trial in one.folds
        }
        validation = {}
        for trial in one.folds:
            table = at_level(trial.spec, trial.validation, one.model.level)
            called = folds[trial.spec.fold].malignant(table["score"].to_numpy())
            validation[trial.spec.fold] = confusion(table["label"].to_numpy(), called).metrics()
        yield Ruled(
            rule,
            folds,
            validation,
            _vote(voters, folds) if len(one.test) and set(voters["fold"]) <= set(folds) else None,
        )


def _vote(voters: pd.DataFrame, folds: dict[int, Decision]) -> dict[str, float | None]:
    """The vote of the same scores under other decisions."""
    decisions, scores, labels = [], [], np.empty(0)
    for fold, said in voters.sort_values(
        ["fold", "patient_id", "slice_index"], kind="stable"
    ).groupby("fold", sort=True):
        raw = said[
            "raw_score" if "raw_score" in said else "score"
        ].to_numpy()  # before there was a choice of calibrators, score was raw
        decisions.append(folds[int(fold)].malignant(raw))
        scores.append(folds[int(fold)].probabilities(raw))
        labels = said["label"].to_numpy()
    return confusion(labels, majority(np.array(decisions), np.array(scores)).decision).metrics()


def rules_table(evidence: Evidence, models: Sequence[Scored]) -> Table:
    """Table S5: every rule, patient-level models on the page, all of them in the CSV."""
    rows, data = [], []
    for dataset in evidence.study.datasets:
        rows.append(group_row(evidence, dataset, 3 + 2 * len(SHOWN)))
        for one in (m for m in models if m.model.dataset is dataset and m.folds):
            for place, ruled in enumerate(under_rules(evidence, one)):
                data += list(_numbers(one, ruled, used=ruled.rule == evidence.study.threshold.rule))
                if one.model.level == "patient":
                    rows.append(_row(evidence, one, ruled, first=place == 0))
    return Table(
        name="thresholds-by-rule",
        title="Table S5. Rules for the threshold, per patient",
        columns=(
            "Model",
            "Rule",
            "Thresholds of the folds",
            *(f"{METRIC_NAMES[name]}, validation" for name in SHOWN),
            *(f"{METRIC_NAMES[name]}, test" for name in SHOWN),
        ),
        rows=tuple(rows),
        data=pd.DataFrame(data),
        left=2,
        notes=(
            "Each threshold comes from its own fold's validation patients alone, never from "
            "the test; a score at or above it is malignant. Validation: "
            "mean ± SD over folds, on the patients that the threshold was fixed on, so "
            "optimistic. Test: the vote of the fold models under that rule, from "
            "their stored scores. Only the rule of the study file (marked *) was fixed before "
            "the seal was opened; choosing another after reading this "
            "table makes its test column optimistic too.",
            "Youden, Cancer 1950; closest to the corner: Perkins and Schisterman, Am J "
            "Epidemiol 2006; cost: a missed malignant lesion against a benign "
            "one called malignant (Metz, Semin Nucl Med 1978). Ties: the highest threshold. "
            "Every fold: thresholds-by-rule.csv, there per slice too.",
        ),
    )


def _row(evidence: Evidence, one: Scored, ruled: Ruled, *, first: bool) -> Row:
    cuts = sorted(found.threshold for found in ruled.folds.values())
    span = (
        probability(cuts[0])
        if len(cuts) == 1
        else f"{probability(cuts[0])} to {probability(cuts[-1])}"
    )
    validation = [
        plus_minus(*mean_sd([metrics[name] for metrics in ruled.validation.values()]))
        for name in SHOWN
    ]
    test = [two(ruled.test[name]) if ruled.test else DASH for name in SHOWN]
    used = " *" if ruled.rule == evidence.study.threshold.rule else ""
    return Row(
        (
            one.model.name if first else "",
            f"{rule_name(ruled.rule, evidence.study)}{used}",
            span,
            *validation,
            *test,
        )
    )


def _numbers(one: Scored, ruled: Ruled, *, used: bool) -> Iterator[dict[str, Any]]:
    keys = one.model.keys() | {"rule": ruled.rule, "used": used}
    for fold, metrics in sorted(ruled.validation.items()):
        shares = {name: metrics[name] for name in ("acc", "sen", "spec", "ppv", "npv", "mcc")}
        yield (
            keys
            | {"part": "validation", "fold": fold, "threshold": ruled.folds[fold].threshold}
            | shares
        )
    if ruled.test:
        yield keys | {"part": "test", "fold": None, "threshold": None} | ruled.test
