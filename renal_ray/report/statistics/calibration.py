"""Whether the scores can be read as probabilities, and whether acting on them does good."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from renal_ray.protocol.calibration import (
    CalibrationLine,
    brier,
    brier_skill,
    expected_calibration_error,
    reliability,
    slope_and_intercept,
)
from renal_ray.protocol.calibration import Estimate as Coefficient
from renal_ray.protocol.decision_curve import net_benefit
from renal_ray.report.canvas import (
    BLACK,
    GREY,
    HEAD_STYLE,
    Drawing,
    blank,
    finish,
    letter,
    nothing,
    settings,
)
from renal_ray.report.evidence import Evidence
from renal_ray.report.statistics.samples import Samples, Scored
from renal_ray.report.tables import Row, Table, group_row
from renal_ray.report.text import dataset_name, head_name, two

PARTS = ("validation", "test")
PART_NAMES = {"validation": "Validation", "test-raw": "Test, before calibration", "test": "Test"}
MOST_BINS, PATIENTS_PER_BIN = 10, 10
THRESHOLDS = np.linspace(0, 0.99, 100)


def parts(evidence: Evidence, one: Scored) -> list[tuple[str, Samples]]:
    """The samples of validation and of the test that there are; with a calibrator, the test before
    it too."""
    found = [("validation", one.validation)]
    if evidence.study.calibrate != "none" and len(one.test):
        found.append(("test-raw", replace(one.test, scores=_raw_mean(evidence, one))))
    return [(part, samples) for part, samples in (*found, ("test", one.test)) if len(samples)]


def _raw_mean(evidence: Evidence, one: Scored) -> NDArray[np.float64]:
    """Mean over the voters of what the networks said of each test sample."""
    voters = evidence.voters(one.model.dataset, one.model.head, one.model.level)
    means = voters.groupby("patient_id", sort=True)["raw_score"].mean()
    scores: NDArray[np.float64] = means.loc[list(one.test.patients)].to_numpy(np.float64)
    return scores


def n_bins(samples: Samples) -> int:
    """Bins of a reliability curve: about ten patients each, ten at most, three at least."""
    return min(MOST_BINS, max(3, len(samples) // PATIENTS_PER_BIN))


def calibration_table(evidence: Evidence, models: Sequence[Scored]) -> Table:
    """Table S4: Brier score, ECE, slope and intercept, per patient."""
    rows, data, problems = [], [], []
    chosen = [model for model in models if model.model.level == "patient"]
    for dataset in evidence.study.datasets:
        rows.append(group_row(evidence, dataset, 8))
        for one in (m for m in chosen if m.model.dataset is dataset):
            found = parts(evidence, one)
            for part, samples in found:
                line = slope_and_intercept(samples.labels, samples.scores)
                numbers = _numbers(one, part, samples, line)
                values = (two(numbers["brier"], 3), two(numbers["ece"]))
                name = one.model.name if part == found[0][0] else ""
                coefficients = (line.slope, line.intercept, line.in_the_large)
                rows.append(
                    Row(
                        (
                            name,
                            PART_NAMES[part],
                            str(len(samples)),
                            *values,
                            *(two(c.value if c else None) for c in coefficients),
                        )
                    )
                )
                rows.append(
                    Row(
                        ("", "95 % CI", "", "", "", *(_interval(c) for c in coefficients)),
                        "interval",
                    )
                )
                problems += [line.problem] if line.problem else []
                data.append(numbers)
    undefined = (f"Dash: not defined ({'; '.join(dict.fromkeys(problems))}).",) if problems else ()
    return Table(
        name="calibration",
        title="Table S4. Calibration per patient",
        columns=(
            "Model",
            "Scored on",
            "Patients",
            "Brier",
            "ECE",
            "Slope",
            "Intercept",
            "In the large",
        ),
        rows=tuple(rows),
        data=pd.DataFrame(data),
        left=2,
        notes=(
            "Brier: mean squared distance of P(malignant) and pathology, 0 is best. ECE: "
            "expected calibration error, ten bins of equal width; few patients raise it by "
            "chance. Slope and intercept: logistic regression of pathology "
            "on the logit of the score (Cox 1958; Van Calster et al., J Clin Epidemiol 2016); "
            "1 and 0 are best, a slope below 1 means scores too extreme. "
            "In the large: the intercept with the slope held at 1; above "
            "0 the scores are too low on the whole.",
            (
                "Test: the mean score of the fold models. The share of malignant patients in this "
                "cohort enters every one of these numbers; elsewhere it differs."
            ),
            *undefined,
        ),
    )


def _interval(found: Coefficient | None) -> str:
    return "" if found is None else f"{two(found.lower)} to {two(found.upper)}"


def _numbers(one: Scored, part: str, samples: Samples, line: CalibrationLine) -> dict[str, Any]:
    row: dict[str, Any] = one.model.keys() | {
        "part": part,
        "n": len(samples),
        "n_malignant": int(samples.labels.sum()),
    }
    for name in ("slope", "intercept", "in_the_large"):
        found: Coefficient | None = getattr(line, name)
        row |= {
            name: found.value if found else None,
            f"{name}_lower_95": found.lower if found else None,
            f"{name}_upper_95": found.upper if found else None,
        }
    truth, scores = samples.labels, samples.scores
    row |= {
        "brier": brier(truth, scores),
        "brier_skill": brier_skill(truth, scores),
        "ece": expected_calibration_error(truth, scores),
    }
    return row | {"problem": line.problem}


def reliability_curves(evidence: Evidence, models: Sequence[Scored]) -> Drawing:
    """Figure S4: observed against predicted share of malignant patients."""
    name = "figure-s4-calibration"
    with settings(name):
        figure = _panels(evidence, models, _reliability_panel, 5.0)
        return finish(
            figure,
            name=name,
            caption="Figure S4. Calibration per patient. Share of malignant patients by mean "
            "score, in bins of about equally many patients (about ten "
            "each, three to ten bins); bars: 95 % Wilson interval; grey: perfect calibration. "
            "Upper row: validation, out of fold; lower row: sealed test, "
            "mean score of the fold models. Each dataset at its selected freeze point. "
            f"{on_whom(evidence, models)} Numbers: Table S4 and reliability.csv.",
        )


def decision_curves(evidence: Evidence, models: Sequence[Scored]) -> Drawing:
    """Figure S5: net benefit of acting on the scores."""
    name = "figure-s5-decision-curves"
    with settings(name):
        figure = _panels(evidence, models, _decision_panel, 5.0)
        return finish(
            figure,
            name=name,
            caption="Figure S5. Decision curves per patient. Net benefit (Vickers and Elkin 2006) "
            "in true positives per patient, of treating as malignant "
            "who scores at or above the threshold probability, against treating everybody "
            "(thin black) and nobody (grey). Upper row: validation, out of "
            "fold; lower row: sealed test. The scores are taken as probabilities: read "
            f"Figure S4 first. {on_whom(evidence, models)} Numbers: "
            "decision-curves.csv.",
        )


def on_whom(evidence: Evidence, models: Sequence[Scored]) -> str:
    """n of validation and test, as a sentence."""
    said = []
    for part, title in ((part, PART_NAMES[part]) for part in PARTS):
        counts = sorted(
            {
                (len(samples), int(samples.labels.sum()))
                for one in models
                if one.model.level == "patient"
                for p, samples in parts(evidence, one)
                if p == part
            }
        )
        if counts:
            n = f"{counts[0][0]}" if len(counts) == 1 else f"{counts[0][0]} to {counts[-1][0]}"
            classes = (
                f", {counts[0][1]} malignant and {counts[0][0] - counts[0][1]} benign"
                if len(counts) == 1
                else ""
            )
            said.append(f"{title.split(',')[0].lower()}: {n} patients{classes}")
    return f"n, {'; '.join(said)}." if said else "Nobody has been scored yet."


def _panels(evidence: Evidence, models: Sequence[Scored], panel: Any, height: float) -> Figure:
    datasets = evidence.study.datasets
    tested = any(len(one.test) for one in models)
    shown = PARTS if tested else PARTS[:1]
    figure, grid = blank(height if tested else height / 2 + 0.25, len(shown), max(2, len(datasets)))
    handles: dict[str, Any] = {}
    for row, part in enumerate(shown):
        for column, axes in enumerate(grid[row]):
            if column >= len(datasets):
                axes.set_axis_off()
                continue
            letter(axes, f"{'ABC'[column]}-{row + 1}")
            axes.set_title(
                f"{dataset_name(datasets[column])}, {PART_NAMES[part].split(',')[0].lower()}"
            )
            chosen = [
                (one, samples)
                for one in models
                if one.model.level == "patient" and one.model.dataset is datasets[column]
                for p, samples in parts(evidence, one)
                if p == part
            ]
            handles |= panel(axes, chosen)
            if not chosen:
                nothing(axes, "not scored yet")
    if handles:
        figure.legend(list(handles.values()), list(handles), loc="outside upper center", ncols=5)
    return figure


def _reliability_panel(axes: Axes, chosen: Sequence[tuple[Scored, Samples]]) -> dict[str, Any]:
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.7)
    handles = {}
    for place, (one, samples) in enumerate(chosen):
        bins = reliability(samples.labels, samples.scores, n_bins(samples)).bins
        x, y = [b.mean_score for b in bins], [b.observed for b in bins]
        reach = [[b.observed - b.lower for b in bins], [b.upper - b.observed for b in bins]]
        look = {**HEAD_STYLE[one.model.head], "linewidth": 1.0, "markersize": 4.5 - 0.5 * place}
        handles[head_name(one.model.head)] = axes.errorbar(
            x, y, yerr=np.maximum(reach, 0), elinewidth=0.6, capsize=1.5, **look
        )
    axes.set(
        xlim=(-0.03, 1.03),
        ylim=(-0.03, 1.03),
        xticks=(0, 0.5, 1),
        yticks=(0, 0.5, 1),
        aspect="equal",
    )
    axes.set(xlabel="Mean P(malignant)", ylabel="Share malignant")
    return handles


def _decision_panel(axes: Axes, chosen: Sequence[tuple[Scored, Samples]]) -> dict[str, Any]:
    handles, top, bottom = {}, 0.1, 0.0
    for place, (one, samples) in enumerate(chosen):
        curve = net_benefit(samples.labels, samples.scores, THRESHOLDS)
        if place == 0:
            (handles["Treat all"],) = axes.plot(
                curve.probabilities, curve.treat_all, color=BLACK, linewidth=0.7
            )
            (handles["Treat none"],) = axes.plot(
                curve.probabilities, curve.treat_none, color=GREY, linewidth=0.9
            )
        look = {**HEAD_STYLE[one.model.head], "marker": "", "linewidth": 1.9 - 0.4 * place}
        (handles[head_name(one.model.head)],) = axes.plot(curve.probabilities, curve.model, **look)
        top, bottom = (
            max(top, float(curve.model.max())),
            min(bottom, float(np.quantile(curve.model, 0.1))),
        )
    axes.set(xlim=(0, 1), ylim=(max(bottom, -top / 2) - 0.05 * top, 1.08 * top), xticks=(0, 0.5, 1))
    axes.set(xlabel="Threshold probability", ylabel="Net benefit")
    return handles


def reliability_points(evidence: Evidence, models: Sequence[Scored]) -> Table:
    """The points of the reliability curves, for CSV alone."""
    rows = [
        one.model.keys() | {"part": part, "bin": place, **vars(found)}
        for one in models
        if one.model.level == "patient"
        for part, samples in parts(evidence, one)
        for place, found in enumerate(
            reliability(samples.labels, samples.scores, n_bins(samples)).bins
        )
    ]
    columns = [
        "dataset",
        "freeze_point",
        "head",
        "level",
        "part",
        "bin",
        "n",
        "malignant",
        "mean_score",
        "observed",
        "lower",
        "upper",
    ]
    return Table(
        name="reliability",
        title="Points of the reliability curves",
        columns=(),
        rows=(),
        data=pd.DataFrame(rows, columns=columns),
    )


def decision_points(evidence: Evidence, models: Sequence[Scored]) -> Table:
    """The points of the decision curves, for CSV alone."""
    frames = []
    for one in models:
        for part, samples in parts(evidence, one) if one.model.level == "patient" else []:
            curve = net_benefit(samples.labels, samples.scores, THRESHOLDS)
            columns = {
                "threshold_probability": curve.probabilities,
                "net_benefit": curve.model,
                "treat_all": curve.treat_all,
                "treat_none": curve.treat_none,
            }
            frames.append(pd.DataFrame({**one.model.keys(), "part": part, **columns}))
    empty = pd.DataFrame(
        columns=[
            "dataset",
            "freeze_point",
            "head",
            "level",
            "part",
            "threshold_probability",
            "net_benefit",
            "treat_all",
            "treat_none",
        ]
    )
    data = pd.concat(frames, ignore_index=True) if frames else empty
    return Table(
        name="decision-curves",
        title="Points of the decision curves",
        columns=(),
        rows=(),
        data=data,
    )
