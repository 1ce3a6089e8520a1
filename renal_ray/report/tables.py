"""The paper's tables, ours above theirs: for the page as text, for CSV as numbers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from renal_ray.protocol.intervals import wilson
from renal_ray.protocol.metrics import METRICS, auc, confusion, mean_sd
from renal_ray.report import paper
from renal_ray.report.evidence import Evidence
from renal_ray.report.protocol_facts import threshold_words
from renal_ray.report.text import (
    DASH,
    METRIC_NAMES,
    counted,
    dataset_name,
    head_name,
    plus_minus,
    probability,
    two,
)
from renal_ray.report.trials import Trial
from renal_ray.trial.spec import main_level
from renal_ray.types import Dataset, FreezePoint, Head

VALIDATION_METRICS = ("auc", "acc", "sen", "spec", "mcc")
TEST_METRICS = ("acc", "sen", "spec", "ppv", "npv", "mcc")
THIS = "This study"


@dataclass(frozen=True)
class Row:
    """One row as text.

    Args:
        cells: one a column.
        kind: ours, paper (their value), extra (apart from the paper's table), level (of the
            characteristic above it) or group (a heading).
    """

    cells: tuple[str, ...]
    kind: str = "ours"


@dataclass(frozen=True)
class Table:
    """One table.

    Args:
        name: name of its CSV file and its place on the page.
        title: its heading.
        columns: headings of the columns of text.
        rows: the rows as text.
        data: the same as numbers, for CSV; an undefined value is empty there.
        notes: sentences under the table.
        left: leading columns of words, set flush left; the others are figures.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    data: pd.DataFrame
    notes: tuple[str, ...] = ()
    left: int = 1

    def widths(self) -> list[float]:
        """Each column's share of the line, by the longest word and the usual length in it.

        Returns:
            Shares in 0 to 1 that sum to 1, a column each: no word is broken that has its room.
        """
        wanted = []
        for place, name in enumerate(self.columns):
            cells = [row.cells[place] for row in self.rows if row.kind != "group"]
            words = (word for text in (name, *cells) for word in text.split())
            longest = max((len(word) for word in words), default=1)
            usual = sum(min(len(text), 80) for text in cells) / max(1, len(cells))
            # Headings are bold, and columns stand apart.
            wanted.append(max(5.0, 1.15 * longest + 1.5, usual))
        return [width / sum(wanted) for width in wanted]


def levels(head: Head) -> tuple[str, ...]:
    """Levels at which a head is scored, the paper's first."""
    return ("slice", "patient") if head is Head.IMAGE else ("patient",)


def model_name(head: Head, level: str) -> str:
    """The name of a model scored at a level; it says so where the level is not the paper's."""
    return head_name(head) if level == main_level(head) else f"{head_name(head)}, per {level}"


def validation_summary(
    trials: Sequence[Trial], level: str
) -> dict[str, tuple[float | None, float | None]]:
    """Metric -> mean and SD (ddof = 1) over the folds of one cell."""
    return {name: mean_sd([trial.metrics(level)[name] for trial in trials]) for name in METRICS}


def validation_table(evidence: Evidence) -> Table:
    """Table 2: validation at the selected freeze point, mean ± SD over folds."""
    rows, data = [], []
    for dataset, point, head in _models(evidence):
        if head is Head.IMAGE:
            rows.append(group_row(evidence, dataset, 3 + len(VALIDATION_METRICS)))
        trials = evidence.cell(dataset, point, head) if point else []
        theirs = paper.validation(dataset, head)
        for level in levels(head):
            summary = validation_summary(trials, level)
            known = [plus_minus(*summary[name]) for name in VALIDATION_METRICS]
            apart = level != main_level(head)
            rows.append(
                Row(
                    (model_name(head, level), THIS, str(len(trials)), *known),
                    "extra" if apart else "ours",
                )
            )
            if not apart:
                rows.append(
                    Row(
                        (
                            "",
                            paper.NAME,
                            "5",
                            *(plus_minus(*theirs[name]) for name in VALIDATION_METRICS),
                        ),
                        "paper",
                    )
                )
            data.append(
                _keys(dataset, point, head, level, n_folds=len(trials))
                | {
                    f"{name}_{part}": value
                    for name in METRICS
                    for part, value in zip(("mean", "sd"), summary[name], strict=True)
                }
                | (
                    {}
                    if apart
                    else {
                        f"zhou2019_{name}_{part}": value
                        for name in theirs
                        for part, value in zip(("mean", "sd"), theirs[name], strict=True)
                    }
                )
            )
    return Table(
        name="table2-validation",
        title="Table 2. Validation at the selected freeze point, mean ± SD over folds",
        columns=("Model", "Source", "Folds", *(METRIC_NAMES[name] for name in VALIDATION_METRICS)),
        rows=tuple(rows),
        data=pd.DataFrame(data),
        left=2,
        notes=(
            "Image-level models are scored per slice, FC and GRU models per patient, as in "
            "the paper. “Image-level, per patient” is ours: the mean "
            "score over a patient's slices. SD: sample standard deviation (n − 1).",
            "Threshold and freeze point were chosen on these same folds "
            f"({threshold_words(evidence.study)}; highest mean AUC), so all values are somewhat "
            "optimistic here; "
            "the sealed test is the honest figure.",
        ),
    )


def by_freeze_point(evidence: Evidence) -> Table:
    """The numbers behind Figures 4 D and 5: all metrics of the image-level models at every freeze
    point."""
    rows, data = [], []
    for dataset in evidence.study.datasets:
        rows.append(group_row(evidence, dataset, 2 + len(METRICS)))
        for point in evidence.freeze_points:
            trials = evidence.cell(dataset, point, Head.IMAGE)
            for level in levels(Head.IMAGE):
                summary = validation_summary(trials, level)
                data.append(
                    _keys(dataset, point, Head.IMAGE, level, n_folds=len(trials))
                    | {"selected": evidence.selected.get(dataset) is point}
                    | {
                        f"{name}_{part}": value
                        for name in METRICS
                        for part, value in zip(("mean", "sd"), summary[name], strict=True)
                    }
                )
                if level == main_level(Head.IMAGE):
                    mark = " (selected)" if evidence.selected.get(dataset) is point else ""
                    rows.append(
                        Row(
                            (
                                f"{point}{mark}",
                                str(len(trials)),
                                *(plus_minus(*summary[name]) for name in METRICS),
                            )
                        )
                    )
    return Table(
        name="metrics-by-freeze-point",
        title="Metrics by freeze point, image-level models per slice, mean ± SD over folds",
        columns=("Frozen up to", "Folds", *(METRIC_NAMES[name] for name in METRICS)),
        rows=tuple(rows),
        data=pd.DataFrame(data),
    )


def vote_metrics(votes: pd.DataFrame) -> dict[str, float | None]:
    """All metrics of the vote; AUC from the mean score."""
    labels = votes["label"].to_numpy(int)
    return {
        "auc": auc(labels, votes["score"].to_numpy(float)),
        **confusion(labels, votes["decision"].to_numpy(int)).metrics(),
    }


def test_table(evidence: Evidence) -> Table:
    """Table 3: the vote of the fold models on the sealed test patients."""
    rows, data = [], []
    columns = ("auc", *TEST_METRICS)
    for dataset, point, head in _models(evidence):
        if head is Head.IMAGE:
            rows.append(group_row(evidence, dataset, 5 + len(TEST_METRICS)))
        theirs = paper.test(dataset, head)
        for level in levels(head):
            votes = evidence.votes(dataset, head, level)
            summary = vote_metrics(votes) if len(votes) else dict.fromkeys(METRICS)
            interval = _interval(votes) if level == "patient" else None
            apart = level != main_level(head)
            counts = f"{counted(len(votes), level)}" if len(votes) else DASH
            shown = f"{two(interval[0])} to {two(interval[1])}" if interval else DASH
            rows.append(
                Row(
                    (
                        model_name(head, level),
                        THIS,
                        counts,
                        *(two(summary[name]) for name in columns),
                        shown,
                    ),
                    "extra" if apart else "ours",
                )
            )
            if not apart:
                rows.append(
                    Row(
                        (
                            "",
                            paper.NAME,
                            "39 patients" if level == "patient" else DASH,
                            *(two(theirs.get(name)) for name in columns),
                            DASH,
                        ),
                        "paper",
                    )
                )
            data.append(
                _keys(dataset, point, head, level, n=len(votes), n_models=_models_voting(votes))
                | summary
                | {
                    "acc_lower_95": interval[0] if interval else None,
                    "acc_upper_95": interval[1] if interval else None,
                }
                | ({} if apart else {f"zhou2019_{name}": value for name, value in theirs.items()})
            )
    return Table(
        name="table3-test",
        title="Table 3. Sealed test set, majority vote of the fold models",
        columns=(
            "Model",
            "Source",
            "n",
            *(METRIC_NAMES[name] for name in columns),
            "95 % CI of ACC",
        ),
        rows=tuple(rows),
        data=pd.DataFrame(data),
        left=2,
        notes=(
            "Each model decides with the threshold of its own validation fold; AUC is "
            "that of the mean score, which the paper does not print. "
            "95 % CI: Wilson's score interval over patients; none is given per slice, "
            "because the slices of a patient are not independent.",
            "The paper prints SEN equal to PPV in every row. For the patient-level models with "
            "ACC .95 and SPEC .86, 25 malignant and 14 benign patients "
            "leave only TP 25, FN 0, FP 2, TN 12, so their SEN was 1.00.",
        ),
    )


def threshold_table(evidence: Evidence) -> Table:
    """The threshold of every fold's model at the selected freeze point, each from its own
    validation fold."""
    folds = evidence.study.fold_numbers
    rows, data = [], []
    for dataset, point, head in _models(evidence):
        for level in levels(head):
            found = (
                {t.spec.fold: t.threshold(level) for t in evidence.cell(dataset, point, head)}
                if point
                else {}
            )
            rows.append(
                Row(
                    (
                        dataset_name(dataset),
                        model_name(head, level),
                        *(probability(found.get(fold)) for fold in folds),
                    )
                )
            )
            data += [
                _keys(dataset, point, head, level, fold=fold, threshold=found.get(fold))
                for fold in folds
            ]
    return Table(
        name="thresholds",
        title="Thresholds on P(malignant), one a fold model",
        columns=("Dataset", "Model", *(f"Fold {fold}" for fold in folds)),
        rows=tuple(rows),
        data=pd.DataFrame(data),
        left=2,
    )


def time_table(evidence: Evidence) -> Table:
    """Table 4: training time of the image-level models in minutes."""
    points = evidence.freeze_points
    rows, data = [], []
    for dataset in evidence.study.datasets:
        rows.append(group_row(evidence, dataset, 2 + len(points), selected=False))
        seconds = {
            point: [
                float(t.result["seconds"]["total"])
                for t in evidence.cell(dataset, point, Head.IMAGE)
            ]
            for point in points
        }
        total = {point: sum(values) / 60 if values else None for point, values in seconds.items()}
        mean = {
            point: value / len(seconds[point]) if value is not None else None
            for point, value in total.items()
        }
        theirs = paper.minutes(dataset)
        rows.append(Row((THIS, "sum over folds", *(two(total[point]) for point in points))))
        rows.append(Row((THIS, "mean per fold", *(two(mean[point]) for point in points)), "extra"))
        rows.append(
            Row((paper.NAME, "as printed", *(two(theirs[point]) for point in points)), "paper")
        )
        data += [
            {
                "dataset": str(dataset),
                "freeze_point": str(point),
                "n_folds": len(seconds[point]),
                "minutes_sum": total[point],
                "minutes_per_fold": mean[point],
                "zhou2019_minutes": theirs[point],
            }
            for point in points
        ]
    return Table(
        name="table4-training-minutes",
        title="Table 4. Training time of the image-level models, minutes",
        columns=("Source", "Time", *(str(point) for point in points)),
        rows=tuple(rows),
        data=pd.DataFrame(data),
        left=2,
        notes=(
            "Wall time of the finished trials, from reading the data to the last file. Trials "
            "that ran beside each other each count in full. Other hardware "
            "and other image counts than the paper's: compare the trend "
            "over the freeze points, not the minutes.",
            *_missing_fold_note(evidence),
        ),
    )


def _models(evidence: Evidence) -> Iterator[tuple[Dataset, FreezePoint | None, Head]]:
    for dataset in evidence.study.datasets:
        for head in Head:
            if head in evidence.study.heads.use:
                yield dataset, evidence.selected.get(dataset), head


def group_row(evidence: Evidence, dataset: Dataset, width: int, *, selected: bool = True) -> Row:
    """The heading of a dataset's rows."""
    name = f"{dataset_name(dataset)} dataset"
    if selected:
        point = evidence.selected.get(dataset)
        name += (
            f" · selected freeze point {point} (paper: {paper.freeze_point(dataset)})"
            if point
            else " · no finished image-level trial"
        )
    return Row((name, *[""] * (width - 1)), "group")


def _keys(
    dataset: Dataset, point: FreezePoint | None, head: Head, level: str, **counts: Any
) -> dict[str, Any]:
    return {
        "dataset": str(dataset),
        "freeze_point": str(point) if point else None,
        "head": str(head),
        "level": level,
        **counts,
    }


def _interval(votes: pd.DataFrame) -> tuple[float, float] | None:
    return wilson(int((votes["decision"] == votes["label"]).sum()), len(votes))


def _models_voting(votes: pd.DataFrame) -> int | None:
    return int(votes["n_models"].min()) if len(votes) else None


def _missing_fold_note(evidence: Evidence) -> tuple[str, ...]:
    lacking = [
        f"{dataset_name(d)} {p}" for d, p, head, _ in evidence.missing_folds() if head is Head.IMAGE
    ]
    return (f"Sums over fewer folds than planned: {', '.join(lacking)}.",) if lacking else ()
