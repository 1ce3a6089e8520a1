"""The paper's own comparison of the datasets, over AUCs of folds and of freeze points, beside its
printed P values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import pandas as pd

from renal_ray.protocol.comparisons import TTest, blocked_lsd, paired_t, welch
from renal_ray.protocol.cross_validation import corrected_difference
from renal_ray.protocol.metrics import mean_sd
from renal_ray.report import paper
from renal_ray.report.evidence import Evidence
from renal_ray.report.statistics.comparison_tables import signed
from renal_ray.report.statistics.comparisons import RANK
from renal_ray.report.statistics.estimates import Estimate
from renal_ray.report.tables import Row, Table
from renal_ray.report.text import counted, dataset_name, p_value, two
from renal_ray.types import Dataset, FreezePoint, Head

Aucs = Sequence[float | None]
TESTS = {
    "corrected": "P, corrected",
    "lsd": "P, LSD",
    "paired_t": "P, paired t",
}  # those shown; Welch's is in the CSV


@dataclass(frozen=True)
class Tested:
    """Two datasets over folds or over freeze points.

    Args:
        n: pairs of AUCs.
        means: of the first and the second dataset.
        difference: with the corrected interval over folds; without one over freeze points.
        p: test -> P value.
        standardised: the paired difference in standard deviations.
    """

    n: int
    means: tuple[float | None, float | None]
    difference: Estimate
    p: Mapping[str, float | None]
    standardised: float | None


def papers_table(evidence: Evidence) -> Table:
    """Table S3: AUC per slice of the image-level models; every two datasets over folds and over
    freeze points."""
    rows, data = [], []
    printed = paper.facts()["auc_differences_p"]
    datasets = sorted(evidence.selected, key=RANK.__getitem__)
    over: dict[str, Mapping[Dataset, Mapping[Any, float | None]]] = {
        "fold": _by_fold(evidence, datasets),
        "freeze point": _by_point(evidence, datasets),
    }
    for first, second in combinations(datasets, 2):
        theirs = printed[f"{first}_vs_{second}"]
        for kind, aucs in over.items():
            found = _tested(evidence, aucs, first, second, folds=kind == "fold")
            ours = (
                counted(found.n, kind),
                *map(two, found.means),
                signed(found.difference),
                *(p_value(found.p[name]) for name in TESTS),
            )
            name = f"{dataset_name(first)} − {dataset_name(second)}"
            rows.append(Row((name, *ours, p_value(theirs)) if kind == "fold" else ("", *ours, "")))
            data.append(
                {"first_dataset": str(first), "second_dataset": str(second), "over": f"{kind}s"}
                | _numbers(found)
                | {"zhou2019_p": theirs}
            )
    return Table(
        name="auc-comparisons-over-folds",
        title=(
            "Table S3. The paper's comparison: AUC per slice, image-level "
            "models, over folds and over freeze points"
        ),
        columns=(
            "Datasets",
            "Over",
            "AUC, first",
            "AUC, second",
            "Difference (95\u00a0%\u00a0CI)",
            *TESTS.values(),
            "P, paper",
        ),
        rows=tuple(rows),
        data=pd.DataFrame(data),
        left=2,
        notes=(
            f"{paper.NAME} print P = .001, .008 and .101 for the differences of Figure 4D and "
            "name neither the test nor the values it was made on. Folds: "
            "at each dataset's selected freeze point; freeze points: their mean AUCs. P, "
            "corrected, and the interval: t test with the variance of Nadeau "
            "and Bengio (Mach Learn 2003). LSD: Fisher's least significant difference after "
            "an analysis of variance of datasets by folds, or by freeze "
            "points; the paper's three values are those that such a test could give. LSD, "
            "paired and, in the CSV, Welch's t test take folds, or freeze "
            "points, for independent, which they are not: they stand here only beside the paper's.",
        ),
    )


def _tested(
    evidence: Evidence,
    aucs: Mapping[Dataset, Mapping[Any, float | None]],
    first: Dataset,
    second: Dataset,
    *,
    folds: bool,
) -> Tested:
    blocks = [
        block
        for block in aucs[first]
        if aucs[first][block] is not None and aucs[second].get(block) is not None
    ]
    a, b = ([aucs[dataset][block] for block in blocks] for dataset in (first, second))
    plain, unpaired = paired_t(a, b), welch(a, b)
    everywhere = sorted(
        set.intersection(*(set(of_dataset) for of_dataset in aucs.values())), key=str
    )
    lsd: Mapping[tuple[str, str], TTest] = (
        blocked_lsd(
            {str(dataset): [of[block] for block in everywhere] for dataset, of in aucs.items()}
        )
        or {}
    )
    sides = [evidence.splits.fold(int(block)) for block in blocks] if folds else []
    corrected = (
        corrected_difference(
            a, b, [len(side.train) for side in sides], [len(side.validation) for side in sides]
        )
        if sides
        else None
    )
    means = mean_sd(a)[0], mean_sd(b)[0]
    apart = means[0] - means[1] if means[0] is not None and means[1] is not None else None
    tests = {"lsd": lsd.get((str(first), str(second))), "paired_t": plain, "welch": unpaired}
    return Tested(
        n=len(blocks),
        means=means,
        difference=Estimate(corrected.mean, corrected.lower, corrected.upper)
        if corrected
        else Estimate(apart),
        p={"corrected": corrected.p if corrected else None}
        | {name: test.p if test else None for name, test in tests.items()},
        standardised=plain.d if plain else None,
    )


def _numbers(found: Tested) -> dict[str, Any]:
    difference = found.difference
    effect = {
        "difference": difference.value,
        "difference_lower_95": difference.lower,
        "difference_upper_95": difference.upper,
    }
    means = {"n": found.n, "first_auc": found.means[0], "second_auc": found.means[1]}
    return (
        means
        | effect
        | {"standardised_difference": found.standardised}
        | {f"p_{name}": p for name, p in found.p.items()}
    )


def _by_fold(
    evidence: Evidence, datasets: Sequence[Dataset]
) -> dict[Dataset, dict[int, float | None]]:
    """AUC per slice of each fold, each dataset at its selected freeze point."""
    return {
        dataset: _fold_aucs(evidence, dataset, evidence.selected[dataset]) for dataset in datasets
    }


def _by_point(
    evidence: Evidence, datasets: Sequence[Dataset]
) -> dict[Dataset, dict[FreezePoint, float | None]]:
    """Mean AUC per slice of each freeze point."""
    return {
        dataset: {
            point: mean_sd(list(_fold_aucs(evidence, dataset, point).values()))[0]
            for point in evidence.freeze_points
        }
        for dataset in datasets
    }


def _fold_aucs(evidence: Evidence, dataset: Dataset, point: FreezePoint) -> dict[int, float | None]:
    return {
        trial.spec.fold: trial.metrics("slice")["auc"]
        for trial in evidence.cell(dataset, point, Head.IMAGE)
    }
