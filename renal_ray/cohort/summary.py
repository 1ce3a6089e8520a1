"""Table 1 of Zhou et al. 2019: who is in the study, benign against malignant."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import chi2_contingency, f_oneway

from renal_ray.types import Label

CHI_SQUARED, ANOVA = "chi-squared", "one-way ANOVA"
LOCATIONS = ("exophytic", "mesophytic", "endophytic")
SEXES = ("male", "female")
NUMBERS = {"age": "age (mean ± SD, years)", "max_diameter_mm": "maximum diameter (mean ± SD, mm)"}
COUNTS = ("benign_n", "malignant_n")
MOMENTS = ("benign_mean", "benign_sd", "malignant_mean", "malignant_sd")
COLUMNS = ("characteristic", "level", "benign", "malignant", *COUNTS, *MOMENTS, "p", "test")


def table_one(cohort: pd.DataFrame) -> pd.DataFrame:
    """Describes the patients by pathology.

    Counts come with row percentages, as in the paper: of the patients at that level, the share that
    is benign and malignant. Location and sex are compared by Pearson's chi-squared test without
    continuity correction, age and diameter by one-way ANOVA; histology, which decides the label, is
    counted and not tested. Missing values are left out of their own row alone.

    Args:
        cohort: one row a patient with label (0, 1) and any of location, sex, age, max_diameter_mm,
            histology.

    Returns:
        Columns characteristic, level, benign, malignant (text as printed), the numbers behind the
        text (benign_n, malignant_n; of ages and diameters benign_mean, benign_sd, malignant_mean,
        malignant_sd), p (missing where nothing is tested) and test; p and test stand in a
        characteristic's first row.
    """
    benign = (cohort["label"] == Label.BENIGN).to_numpy(bool)
    malignant = (cohort["label"] == Label.MALIGNANT).to_numpy(bool)
    rows = [_count_row("number of samples (n %)", "", int(benign.sum()), int(malignant.sum()))]
    for column, order in (("location", LOCATIONS), ("sex", SEXES)):
        if column in cohort:
            rows += _counts(cohort[column], benign, malignant, order=order, tested=True)
    for column, title in NUMBERS.items():
        if column in cohort:
            values = cohort[column].to_numpy(float, na_value=np.nan)
            rows.append(_mean_row(title, values[benign], values[malignant]))
    if "histology" in cohort:
        rows += _counts(cohort["histology"], benign, malignant, order=(), tested=False)
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(
        {**dict.fromkeys(COUNTS, "int64"), **dict.fromkeys((*MOMENTS, "p"), "float64")}
    )


def chi_squared_p(counts: Sequence[Sequence[int]]) -> float | None:
    """P value of Pearson's chi-squared test without continuity correction; it gives the paper's
    .432 for sex, the correction .536.

    Args:
        counts: patients, levels x groups.

    Returns:
        The p value; None when fewer than two levels or groups have patients.
    """
    table = np.array(counts, float).reshape(-1, 2)
    table = table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0]
    return float(chi2_contingency(table, correction=False).pvalue) if min(table.shape) > 1 else None


def anova_p(benign: np.ndarray, malignant: np.ndarray) -> float | None:
    """P value of one-way ANOVA over two groups; None when it is undefined (a group of one or none,
    or no spread)."""
    if min(len(benign), len(malignant)) < 2 or not (np.ptp(benign) or np.ptp(malignant)):
        return None
    return float(f_oneway(benign, malignant).pvalue)


def _counts(
    values: pd.Series,
    benign: np.ndarray,
    malignant: np.ndarray,
    *,
    order: tuple[str, ...],
    tested: bool,
) -> list[dict[str, Any]]:
    """A row a level: the known levels in the paper's order, then others by frequency."""
    known = values.dropna().astype(str)
    frequent = (
        known.value_counts(sort=False)
        .sort_index()
        .sort_values(ascending=False, kind="stable")
        .index
    )
    levels = [level for level in order if level in set(known)] + [
        level for level in frequent if level not in order
    ]
    counts = [
        [
            int(((values == level).to_numpy(bool, na_value=False) & group).sum())
            for group in (benign, malignant)
        ]
        for level in levels
    ]
    rows = [
        _count_row(str(values.name), level, *pair)
        for level, pair in zip(levels, counts, strict=True)
    ]
    if tested and rows:
        rows[0] |= {"p": chi_squared_p(counts), "test": CHI_SQUARED}
    return rows


def _count_row(title: str, level: str, benign: int, malignant: int) -> dict[str, Any]:
    total = max(benign + malignant, 1)
    text = [f"{count} ({100 * count / total:.2f})" for count in (benign, malignant)]
    numbers = {"benign_n": benign, "malignant_n": malignant}
    return {
        "characteristic": title,
        "level": level,
        "benign": text[0],
        "malignant": text[1],
        **numbers,
        "p": None,
        "test": "",
    }


def _mean_row(title: str, benign: np.ndarray, malignant: np.ndarray) -> dict[str, Any]:
    groups = [group[np.isfinite(group)] for group in (benign, malignant)]
    numbers: dict[str, Any] = {}
    for name, group in zip(("benign", "malignant"), groups, strict=True):
        mean = float(group.mean()) if len(group) else None
        sd = float(group.std(ddof=1)) if len(group) > 1 else None
        text = " ± ".join("–" if value is None else f"{value:.2f}" for value in (mean, sd))
        numbers |= {name: text, f"{name}_n": len(group), f"{name}_mean": mean, f"{name}_sd": sd}
    return {"characteristic": title, "level": "", **numbers, "p": anova_p(*groups), "test": ANOVA}
