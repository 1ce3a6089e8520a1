"""Paired tests between studies, on the patients that both scored and neither had trained on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from renal_ray.protocol.comparisons import holm, mcnemar
from renal_ray.protocol.delong import compare_aucs
from renal_ray.report.compare.patients import Overlap
from renal_ray.report.evidence import Evidence
from renal_ray.report.statistics.estimates import UNKNOWN, Estimate
from renal_ray.report.statistics.samples import Samples, Scored, paired, selected_models
from renal_ray.report.tables import Row, Table
from renal_ray.report.text import DASH, dataset_name, head_name, probability, two

FAMILIES = {
    "validation": "AUC, out of fold",
    "test": "AUC, sealed test",
    "votes": "Accuracy of the vote, sealed test",
}


@dataclass(frozen=True)
class Tested:
    """One model of two studies on the same patients.

    Args:
        family: of FAMILIES; P values are adjusted within it.
        overlap: the studies.
        a, b: the model in each, at each study's own selected freeze point.
        n: patients whom both scored and both give the same label.
        values: what is compared, of a and b; undefined where a class is missing.
        difference: a - b with its 95 % interval.
        p: two-sided P value; None where there is none.
        p_holm: adjusted within the family.
    """

    family: str
    overlap: Overlap
    a: Scored
    b: Scored
    n: int
    values: tuple[float | None, float | None]
    difference: Estimate
    p: float | None
    p_holm: float | None = None


def paired_tests(found: Sequence[Overlap]) -> list[Tested]:
    """DeLong's paired test of AUCs and McNemar's of votes for every pair of studies and model;
    Holm's adjustment within each family."""
    tests = [test for overlap in found for test in _pair(overlap)]
    adjusted: dict[int, float | None] = {}
    for family in FAMILIES:
        places = [place for place, one in enumerate(tests) if one.family == family]
        adjusted |= dict(zip(places, holm([tests[place].p for place in places]), strict=True))
    ordered = sorted(range(len(tests)), key=lambda place: list(FAMILIES).index(tests[place].family))
    return [replace(tests[place], p_holm=adjusted[place]) for place in ordered]


def _pair(overlap: Overlap) -> Iterator[Tested]:
    second = {(one.model.dataset, one.model.head): one for one in _per_patient(overlap.b.evidence)}
    for a in _per_patient(overlap.a.evidence):
        if (b := second.get((a.model.dataset, a.model.head))) is None:
            continue
        for family, left, right in (
            ("validation", a.validation, b.validation),
            ("test", a.test, b.test),
        ):
            here, there = _common(left, right)
            if len(here.labels):
                compared = (
                    compare_aucs(here.labels, here.scores, there.scores)
                    if here.has_both_classes
                    else None
                )
                values = (compared.a, compared.b) if compared else (None, None)
                difference = (
                    Estimate(compared.difference, compared.lower, compared.upper, compared.method)
                    if compared
                    else UNKNOWN
                )
                yield Tested(
                    family,
                    overlap,
                    a,
                    b,
                    len(here),
                    values,
                    difference,
                    compared.p if compared else None,
                )
                if family == "test":
                    yield _votes(overlap, a, b, here, there)


def _per_patient(evidence: Evidence) -> list[Scored]:
    return [one for one in selected_models(evidence) if one.model.level == "patient"]


def _common(left: Samples, right: Samples) -> tuple[Samples, Samples]:
    """The samples of the patients who are in both with the same label, in one order."""
    here, there = paired(left, right)
    alike = left.labels[here] == right.labels[there]
    return left.of(here[alike]), right.of(there[alike])


def _votes(overlap: Overlap, a: Scored, b: Scored, here: Samples, there: Samples) -> Tested:
    right_a, right_b = here.decisions == here.labels, there.decisions == there.labels
    found = mcnemar(right_a, right_b)
    difference = Estimate(found.difference, found.lower, found.upper, "Newcombe, paired")
    return Tested(
        "votes",
        overlap,
        a,
        b,
        len(here),
        (float(np.mean(right_a)), float(np.mean(right_b))),
        difference,
        found.p,
    )


def tests_table(tests: Sequence[Tested]) -> Table:
    """The difference and its interval first, then the P value."""
    columns = (
        "Studies",
        "Dataset",
        "Model",
        "Patients",
        "First",
        "Second",
        "Difference",
        "95 % CI",
        "P",
        "P, Holm",
    )
    rows, data, family = [], [], ""
    for one in tests:
        if one.family != family:
            family = one.family
            rows.append(Row((FAMILIES[family], *[""] * (len(columns) - 1)), "group"))
        model = one.a.model
        values = (
            two(one.values[0]),
            two(one.values[1]),
            two(one.difference.value),
            one.difference.interval or DASH,
        )
        rows.append(
            Row(
                (
                    one.overlap.pair,
                    dataset_name(model.dataset),
                    head_name(model.head),
                    str(one.n),
                    *values,
                    probability(one.p),
                    probability(one.p_holm),
                )
            )
        )
        data.append(
            {
                "family": family,
                "first": one.overlap.a.name,
                "second": one.overlap.b.name,
                "dataset": str(model.dataset),
                "head": str(model.head),
            }
            | {
                "freeze_point_first": str(model.freeze_point),
                "freeze_point_second": str(one.b.model.freeze_point),
                "n": one.n,
            }
            | {
                "value_first": one.values[0],
                "value_second": one.values[1],
                **one.difference.columns("difference"),
                "p": one.p,
                "p_holm": one.p_holm,
            }
        )
    return Table(
        name="paired-tests",
        title="Paired tests on common patients",
        columns=columns,
        rows=tuple(rows),
        data=pd.DataFrame(data),
        left=3,
        notes=(
            "Per patient, each study at its own selected freeze point; only patients whom both "
            "studies scored without having trained on them, and label alike. "
            "AUC: DeLong's test of paired AUCs (DeLong, DeLong and Clarke-Pearson 1988); votes: "
            "McNemar's exact test. P, Holm: adjusted within each group. Out "
            "of fold, freeze point and threshold were chosen on these same patients; "
            "read the difference and its interval before the P value.",
        ),
    )
