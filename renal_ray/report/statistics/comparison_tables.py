"""The comparisons as tables and as a forest of differences."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import pandas as pd

from renal_ray.protocol.comparisons import TTest, paired_t, welch
from renal_ray.protocol.cross_validation import CorrectedDifference, corrected_difference
from renal_ray.protocol.metrics import mean_sd
from renal_ray.report import paper
from renal_ray.report.canvas import DATASET_STYLE, HEAD_STYLE, Drawing, blank, finish, settings
from renal_ray.report.evidence import Evidence
from renal_ray.report.statistics.comparisons import FAMILIES, RANK, Comparison
from renal_ray.report.statistics.estimates import Estimate
from renal_ray.report.statistics.forest import LINE_IN, Line, forest_panel
from renal_ray.report.tables import Row, Table
from renal_ray.report.text import counted, dataset_name, p_value, two
from renal_ray.types import Dataset, FreezePoint, Head

DIFFERENCE_COLUMNS = ("difference", "difference_lower_95", "difference_upper_95", "difference_method", "p", "p_holm")


def auc_table(comparisons: Sequence[Comparison]) -> Table:
    """Table S2: differences in out-of-fold AUC per patient."""
    rows, data = _rows(comparisons, lambda one: (two(one.values[0]), two(one.values[1])))
    return Table(
        name="auc-comparisons",
        title="Table S2. Differences in AUC, out of fold, per patient",
        columns=("Comparison", "Patients", "AUC, first", "AUC, second", "Difference (95 % CI)", "P", "P, Holm"),
        rows=rows,
        data=pd.DataFrame(data),
        notes=(
            "Paired test of DeLong, DeLong and Clarke-Pearson (Biometrics 1988) on the same patients, each scored by the fold model that never saw that "
            "patient; first minus second. P, Holm: adjusted for the number of tests under the same heading (Holm, Scand J Stat 1979). Read the difference "
            "and its interval first: with few patients a P value above 0.05 is no evidence of equality.",
            "Freeze points: the selected one, first, against each of the others, image-level. It was selected on these same folds, so its advantage is "
            "optimistic.",
        ),
    )


def vote_table(comparisons: Sequence[Comparison]) -> Table:
    """Table S9: differences in accuracy of the vote on the sealed test."""
    rows, data = _rows(comparisons, lambda one: tuple(str(alone) for alone in one.alone or ()))
    return Table(
        name="vote-comparisons",
        title="Table S9. Differences in accuracy of the vote on the sealed test, per patient",
        columns=("Comparison", "Patients", "Right, first alone", "Right, second alone", "Difference in ACC (95 % CI)", "P", "P, Holm"),
        rows=rows,
        data=pd.DataFrame(data),
        notes=(
            "Difference: first minus second, interval by Newcombe (Stat Med 1998, paired, method 10). P: McNemar's test, exact, of the patients whom one "
            "model alone decided rightly. P, Holm: adjusted for the number of tests under the same heading.",
        ),
    )


def _rows(comparisons: Sequence[Comparison], middle: Any) -> tuple[tuple[Row, ...], list[dict[str, Any]]]:
    rows, data = [], []
    for family, title in FAMILIES.items():
        chosen = [one for one in comparisons if one.family == family]
        if chosen:
            rows.append(Row((title, *[""] * 6), "group"))
        for one in chosen:
            rows.append(Row((one.label, str(one.n), *middle(one), signed(one.difference), p_value(one.p), p_value(one.p_holm))))
            data.append(_keys(one) | dict(zip(DIFFERENCE_COLUMNS, (*one.difference.columns("d").values(), one.p, one.p_holm), strict=True)))
    return tuple(rows), data


def papers_table(evidence: Evidence) -> Table:
    """Table S3: the paper's comparison of datasets, over the AUCs of folds and of freeze points, beside its P values."""
    rows, data = [], []
    printed = paper.facts()["auc_differences_p"]
    pairs = list(combinations(sorted(evidence.selected, key=RANK.__getitem__), 2))
    for first, second in pairs:
        theirs = printed[f"{first}_vs_{second}"]
        for kind, (a, b) in (("folds", _fold_aucs(evidence, first, second)), ("freeze points", _point_aucs(evidence, first, second))):
            corrected = _corrected(evidence, first, second) if kind == "folds" else None
            tests = paired_t(a, b), welch(a, b)
            shown = Estimate(corrected.mean, corrected.lower, corrected.upper) if corrected else Estimate(tests[0].difference if tests[0] else None)
            means = mean_sd(a)[0], mean_sd(b)[0]
            ps = (corrected.p if corrected else None, *(test.p if test else None for test in tests))
            name = f"{dataset_name(first)} − {dataset_name(second)}" if kind == "folds" else ""
            rows.append(
                Row((name, counted(len(a), kind[:-1]), two(means[0]), two(means[1]), signed(shown), *map(p_value, ps), p_value(theirs) if name else ""))
            )
            data.append(_paper_row(first, second, kind, means, shown, ps, tests) | {"n": len(a), "zhou2019_p": theirs})
    return Table(
        name="auc-comparisons-over-folds",
        title="Table S3. The paper's comparison: AUC per slice, image-level models, over folds and over freeze points",
        columns=("Datasets", "Over", "Mean AUC, first", "Mean AUC, second", "Difference (95 % CI)", "P, corrected", "P, paired t", "P, Welch", "P, paper"),
        rows=tuple(rows),
        data=pd.DataFrame(data),
        left=2,
        notes=(
            f"{paper.NAME} print P = .001, .008 and .101 for the differences of Figure 4D and name neither the test nor the values it was made on. Folds: "
            "at each dataset's selected freeze point; freeze points: their mean AUCs. P, corrected: t test with the variance of Nadeau and Bengio (Mach "
            "Learn 2003), as the interval. The paired and Welch's t tests take folds, or freeze points, for independent, which they are not: they stand "
            "here only beside the paper's.",
        ),
    )


def _paper_row(
    first: Dataset, second: Dataset, kind: str, means: tuple[float | None, ...], shown: Estimate, ps: Sequence[float | None], tests: Sequence[TTest | None]
) -> dict[str, Any]:
    effect = tests[0].d if tests[0] else None
    columns = {"difference": shown.value, "difference_lower_95": shown.lower, "difference_upper_95": shown.upper, "standardised_difference": effect}
    named = dict(zip(("p_corrected", "p_paired_t", "p_welch"), ps, strict=True))
    return {"first_dataset": str(first), "second_dataset": str(second), "over": kind, "first_auc": means[0], "second_auc": means[1]} | columns | named


def _fold_aucs(evidence: Evidence, first: Dataset, second: Dataset) -> tuple[list[float | None], list[float | None]]:
    """AUC per slice of the folds that both have, each dataset at its selected freeze point."""
    found = [_by_fold(evidence, dataset, evidence.selected[dataset]) for dataset in (first, second)]
    folds = sorted(found[0].keys() & found[1].keys())
    return [found[0][fold] for fold in folds], [found[1][fold] for fold in folds]


def _point_aucs(evidence: Evidence, first: Dataset, second: Dataset) -> tuple[list[float | None], list[float | None]]:
    """Mean AUC per slice of the freeze points that both have."""
    means = [{point: mean_sd(list(_by_fold(evidence, dataset, point).values()))[0] for point in evidence.freeze_points} for dataset in (first, second)]
    points = [point for point in evidence.freeze_points if means[0][point] is not None and means[1][point] is not None]
    return [means[0][point] for point in points], [means[1][point] for point in points]


def _by_fold(evidence: Evidence, dataset: Dataset, point: FreezePoint) -> dict[int, float | None]:
    return {trial.spec.fold: trial.metrics("slice")["auc"] for trial in evidence.cell(dataset, point, Head.IMAGE)}


def _corrected(evidence: Evidence, first: Dataset, second: Dataset) -> CorrectedDifference | None:
    a, b = _fold_aucs(evidence, first, second)
    shared = sorted(_by_fold(evidence, first, evidence.selected[first]).keys() & _by_fold(evidence, second, evidence.selected[second]).keys())
    sides = [evidence.splits.fold(fold) for fold in shared]
    return corrected_difference(a, b, [len(side.train) for side in sides], [len(side.validation) for side in sides]) if sides else None


def signed(difference: Estimate) -> str:
    """A difference with its sign and interval: +0.04 (−0.02 to 0.10)."""
    plus = "+" if difference.value is not None and round(difference.value, 2) > 0 else ""
    return f"{plus}{difference.words}"


def forest_of_differences(comparisons: Sequence[Comparison]) -> Drawing:
    """Figure S3: every difference in AUC with its interval."""
    name = "figure-s3-differences"
    lines: list[Line] = []
    for family, title in FAMILIES.items():
        chosen = [one for one in comparisons if one.family == family]
        lines += [Line(title)] if chosen else []
        for one in chosen:
            d, style = one.difference, _style(one)
            lines.append(Line(one.label, d.value, d.lower, d.upper, note=_note(one), style=style))
    ends = [end for line in lines for end in (line.lower, line.upper) if end is not None]
    limits = (max(-1.0, min([-0.1, *ends]) - 0.03), min(1.0, max([0.1, *ends]) + 0.03))
    with settings(name):
        figure, grid = blank(0.6 + LINE_IN * len(lines), 1, 1)
        tips = forest_panel(grid[0][0], lines, limits=limits, reference=0.0, xlabel="Difference in AUC per patient, first − second", panel="difference")
        return finish(
            figure,
            name=name,
            tips=tips,
            caption="Figure S3. Differences in AUC, out of fold, per patient. Marks: first minus second; bars: 95 % confidence interval (paired DeLong); "
            "right: the P value adjusted by Holm within the heading. Right of the grey line the first is better. Numbers and n: Table S2.",
        )


def _style(one: Comparison) -> dict[str, Any]:
    if one.family == "datasets":
        return {"color": HEAD_STYLE[one.first.head]["color"], "marker": HEAD_STYLE[one.first.head]["marker"]}
    return {"color": DATASET_STYLE[one.first.dataset]["color"], "marker": DATASET_STYLE[one.first.dataset]["marker"]}


def _note(one: Comparison) -> str:
    if one.difference.value is None:
        return "not defined"
    shown = p_value(one.p_holm)
    return "" if one.p_holm is None else f"P {shown}" if shown.startswith("<") else f"P = {shown}"


def _keys(one: Comparison) -> dict[str, Any]:
    keys = {"family": one.family, "level": "patient"}
    for place, model in (("first", one.first), ("second", one.second)):
        keys |= {f"{place}_{name}": value for name, value in model.keys().items() if name != "level"}
    alone = {"first_alone": one.alone[0], "second_alone": one.alone[1]} if one.alone else {}
    return keys | {"n": one.n, "first_value": one.values[0], "second_value": one.values[1]} | alone
