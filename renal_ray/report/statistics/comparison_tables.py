"""The comparisons as tables and as a forest of differences."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from renal_ray.report.canvas import DATASET_STYLE, HEAD_STYLE, Drawing, blank, finish, settings
from renal_ray.report.statistics.comparisons import FAMILIES, Comparison
from renal_ray.report.statistics.estimates import Estimate
from renal_ray.report.statistics.forest import LINE_IN, Line, forest_panel
from renal_ray.report.tables import Row, Table
from renal_ray.report.text import POOLED, p_value, two

DIFFERENCE_COLUMNS = (
    "difference",
    "difference_lower_95",
    "difference_upper_95",
    "difference_method",
    "p",
    "p_holm",
)


def auc_table(comparisons: Sequence[Comparison]) -> Table:
    """Table S2: differences in out-of-fold AUC per patient."""
    rows, data = _rows(comparisons, lambda one: (two(one.values[0]), two(one.values[1])))
    return Table(
        name="auc-comparisons",
        title="Table S2. Differences in AUC, out of fold, per patient",
        columns=(
            "Comparison",
            "Patients",
            "AUC, first",
            "AUC, second",
            "Difference (95 % CI)",
            "P",
            "P, Holm",
        ),
        rows=rows,
        data=pd.DataFrame(data),
        notes=(
            "Paired test of DeLong, DeLong and Clarke-Pearson (Biometrics 1988) on the same "
            "patients, each scored by the fold model not trained on that "
            "patient; first minus second. P, Holm: adjusted for the number of tests under the "
            "same heading (Holm, Scand J Stat 1979). Read the difference "
            "and its interval first: with few patients a P value "
            "above 0.05 is no evidence of equality.",
            "Freeze points: the selected one, first, against each of the others, "
            "image-level. It was selected on these same folds by the image-level "
            "models' AUC per slice, so its advantage is optimistic; so, a little, is that "
            "of the image-level models over the others, and every "
            "dataset stands at its best.",
            POOLED,
        ),
    )


def vote_table(comparisons: Sequence[Comparison]) -> Table:
    """Table S9: differences in accuracy of the vote on the sealed test."""
    rows, data = _rows(comparisons, lambda one: tuple(str(alone) for alone in one.alone or ()))
    return Table(
        name="vote-comparisons",
        title="Table S9. Differences in accuracy of the vote on the sealed test, per patient",
        columns=(
            "Comparison",
            "Patients",
            "Right, first alone",
            "Right, second alone",
            "Difference in ACC (95 % CI)",
            "P",
            "P, Holm",
        ),
        rows=rows,
        data=pd.DataFrame(data),
        notes=(
            "Difference: first minus second, interval by Newcombe (Stat Med 1998, paired, "
            "method 10). P: McNemar's test, exact, of the patients whom one "
            "model alone decided rightly. P, Holm: adjusted for the "
            "number of tests under the same heading.",
        ),
    )


def _rows(
    comparisons: Sequence[Comparison], middle: Any
) -> tuple[tuple[Row, ...], list[dict[str, Any]]]:
    rows, data = [], []
    for family, title in FAMILIES.items():
        chosen = [one for one in comparisons if one.family == family]
        if chosen:
            rows.append(Row((title, *[""] * 6), "group"))
        for one in chosen:
            rows.append(
                Row(
                    (
                        one.label,
                        str(one.n),
                        *middle(one),
                        signed(one.difference),
                        p_value(one.p),
                        p_value(one.p_holm),
                    )
                )
            )
            data.append(
                _keys(one)
                | dict(
                    zip(
                        DIFFERENCE_COLUMNS,
                        (*one.difference.columns("d").values(), one.p, one.p_holm),
                        strict=True,
                    )
                )
            )
    return tuple(rows), data


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
        tips = forest_panel(
            grid[0][0],
            lines,
            limits=limits,
            reference=0.0,
            xlabel="Difference in AUC per patient, first − second",
            panel="difference",
        )
        return finish(
            figure,
            name=name,
            tips=tips,
            caption="Figure S3. Differences in AUC, out of fold, per patient. Marks: first minus "
            "second; bars: 95 % confidence interval (paired DeLong); "
            "right: the P value adjusted by Holm within the heading. Right of the grey "
            "line the first is better. Numbers and n: Table S2.",
        )


def _style(one: Comparison) -> dict[str, Any]:
    if one.family == "datasets":
        return {
            "color": HEAD_STYLE[one.first.head]["color"],
            "marker": HEAD_STYLE[one.first.head]["marker"],
        }
    return {
        "color": DATASET_STYLE[one.first.dataset]["color"],
        "marker": DATASET_STYLE[one.first.dataset]["marker"],
    }


def _note(one: Comparison) -> str:
    if one.difference.value is None:
        return "not defined"
    shown = p_value(one.p_holm)
    return "" if one.p_holm is None else f"P {shown}" if shown.startswith("<") else f"P = {shown}"


def _keys(one: Comparison) -> dict[str, Any]:
    keys = {"family": one.family, "level": "patient"}
    for place, model in (("first", one.first), ("second", one.second)):
        keys |= {
            f"{place}_{name}": value for name, value in model.keys().items() if name != "level"
        }
    alone = {"first_alone": one.alone[0], "second_alone": one.alone[1]} if one.alone else {}
    return keys | {"n": one.n, "first_value": one.values[0], "second_value": one.values[1]} | alone
