"""Sensitivity to the mask: the same models and patients, the lesion drawn wider, tighter or
aside."""

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from renal_ray.protocol.metrics import auc, mean_sd
from renal_ray.report.evidence import Evidence
from renal_ray.report.tables import Row, Table, levels, model_name
from renal_ray.report.text import dataset_name, plus_minus
from renal_ray.trial.decide import Decision, decision, patient_scores
from renal_ray.trial.masks import MASKED
from renal_ray.types import Dataset, FreezePoint, Head

KEYS = ["patient_id", "slice_index"]
COLUMNS = (
    "dataset",
    "freeze_point",
    "head",
    "level",
    "perturbation",
    "kind",
    "mm",
    "direction",
    "n_folds",
    "n",
    "n_original",
    "auc_mean",
    "auc_sd",
    "change_mean",
    "change_sd",
    "calls_changed",
)


@dataclass(frozen=True)
class Sensitivity:
    """One model under one perturbation.

    Args:
        dataset, freeze_point, head, level: the model and how it is scored.
        perturbation, kind, mm, direction: how the mask differs.
        n_folds: folds measured.
        n: slices or patients scored; those on which nothing of the lesion is left have no score.
        n_original: slices or patients of the original mask.
        auc: mean and SD over folds.
        change: mean and SD over folds of the AUC's change against the original mask, on the samples
            that both have.
        calls_changed: of n, those that the model calls otherwise than under the original mask.
    """

    dataset: Dataset
    freeze_point: FreezePoint
    head: Head
    level: str
    perturbation: str
    kind: str
    mm: float
    direction: str
    n_folds: int
    n: int
    n_original: int
    auc: tuple[float | None, float | None]
    change: tuple[float | None, float | None]
    calls_changed: int


def sensitivities(evidence: Evidence) -> Iterator[Sensitivity]:
    """Every model under every perturbation, in the order of the study file."""
    for dataset in (one for one in MASKED if one in evidence.study.datasets):
        of_dataset = evidence.masks[evidence.masks["dataset"] == str(dataset)]
        for head in evidence.study.heads.use:
            table = of_dataset[of_dataset["head"] == str(head)]
            for level in levels(head) if len(table) else ():
                yield from _of_model(evidence, dataset, head, level, table)


def _of_model(
    evidence: Evidence, dataset: Dataset, head: Head, level: str, table: pd.DataFrame
) -> Iterator[Sensitivity]:
    point = FreezePoint(table["freeze_point"].iloc[0])
    decided = {
        t.spec.fold: decision(t.spec, t.validation, evidence.study, level)
        for t in evidence.cell(dataset, point, head)
    }
    folds = sorted(set(table["fold"]) & set(decided))
    original = table[table["kind"] == "original"]
    for name in table.loc[table["kind"] != "original", "perturbation"].drop_duplicates():
        changed = table[table["perturbation"] == name]
        pairs = [
            _paired(
                changed[changed["fold"] == fold], original[original["fold"] == fold], head, level
            )
            for fold in folds
        ]
        told = [_told(pair, decided[fold]) for pair, fold in zip(pairs, folds, strict=True)]
        first = changed.iloc[0]
        everyone = [len(_at(original[original["fold"] == fold], head, level)) for fold in folds]
        yield Sensitivity(
            dataset,
            point,
            head,
            level,
            str(name),
            str(first["kind"]),
            float(first["mm"]),
            str(first["direction"]),
            len(folds),
            n=sum(len(pair) for pair in pairs),
            n_original=sum(everyone),
            auc=mean_sd([one for one, _, _ in told]),
            change=mean_sd([change for _, change, _ in told]),
            calls_changed=sum(calls for _, _, calls in told),
        )


def _paired(changed: pd.DataFrame, original: pd.DataFrame, head: Head, level: str) -> pd.DataFrame:
    """Scores under both masks of the samples that both have: the slices first, then, per patient,
    their means."""
    both = changed[[*KEYS, "label", "score"]].merge(
        original[[*KEYS, "score"]], on=KEYS, suffixes=("", "_original")
    )
    if head is Head.IMAGE and level == "patient":
        return (
            both.groupby("patient_id")
            .agg(
                label=("label", "first"),
                score=("score", "mean"),
                score_original=("score_original", "mean"),
            )
            .reset_index()
        )
    return both


def _at(table: pd.DataFrame, head: Head, level: str) -> pd.DataFrame:
    return patient_scores(table) if head is Head.IMAGE and level == "patient" else table


def _told(pair: pd.DataFrame, decided: Decision) -> tuple[float | None, float | None, int]:
    """AUC, its change, and calls that changed, of one fold."""
    labels, now, before = (pair[name].to_numpy() for name in ("label", "score", "score_original"))
    found, was = auc(labels, now), auc(labels, before)
    return (
        found,
        None if found is None or was is None else found - was,
        int((decided.malignant(now) != decided.malignant(before)).sum()),
    )


def mask_table(evidence: Evidence) -> Table:
    """AUC and its change under each perturbation of the mask."""
    rows, data = [], []
    for one in sensitivities(evidence):
        counts = (
            str(one.n) if one.n == one.n_original else f"{one.n} of {one.n_original}",
            str(one.calls_changed),
        )
        apart = one.head is Head.IMAGE and one.level == "slice"
        name = (
            dataset_name(one.dataset),
            "Image-level, per slice" if apart else model_name(one.head, one.level),
            one.perturbation,
        )
        rows.append(Row((*name, plus_minus(*one.auc), _signed(*one.change), *counts)))
        keys = (
            str(one.dataset),
            str(one.freeze_point),
            str(one.head),
            one.level,
            one.perturbation,
            one.kind,
            one.mm,
            one.direction,
        )
        data.append(
            dict(
                zip(
                    COLUMNS,
                    (
                        *keys,
                        one.n_folds,
                        one.n,
                        one.n_original,
                        *one.auc,
                        *one.change,
                        one.calls_changed,
                    ),
                    strict=True,
                )
            )
        )
    return Table(
        name="mask-sensitivity",
        title=(
            "Sensitivity to the mask: validation patients scored by the finished fold "
            "models, the lesion drawn otherwise in the axial plane"
        ),
        columns=("Dataset", "Model", "Mask", "AUC", "Change of AUC", "n", "Calls changed"),
        rows=tuple(rows),
        data=pd.DataFrame(data, columns=list(COLUMNS)),
        left=3,
        notes=(
            "Nothing is trained anew. Mean ± SD over folds; change: against the original mask "
            "on the same slices or patients of the same fold. A slice on "
            "which nothing of the lesion is left is not scored (n). Calls changed: decided "
            "otherwise at the model's own threshold. Shifts are rounded to "
            "whole pixels. Validation patients only, and the models had their "
            "freeze point and thresholds chosen on them.",
        ),
    )


def _signed(mean: float | None, sd: float | None) -> str:
    written = plus_minus(mean, sd)
    return f"+{written}" if mean is not None and float(f"{mean:.2f}") > 0 else written


def changes(
    evidence: Evidence, dataset: Dataset
) -> dict[tuple[Head, str], tuple[float | None, float | None]]:
    """Head and perturbation -> mean and SD of the change of the AUC per patient, for the figure."""
    return {
        (one.head, one.perturbation): one.change
        for one in sensitivities(evidence)
        if one.dataset is dataset and one.level == "patient"
    }
