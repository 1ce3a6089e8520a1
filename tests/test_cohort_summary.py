"""Table 1, against the paper's own counts and p values."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2_contingency, ttest_ind, ttest_ind_from_stats

from renal_ray.cohort.summary import anova_p, chi_squared_p, table_one

LOCATION = {"exophytic": (33, 45), "mesophytic": (21, 56), "endophytic": (4, 33)}
SEX = {"male": (36, 91), "female": (22, 43)}


def column(counts) -> list[str]:
    """The 58 benign patients first, then the 134 malignant ones."""
    return [level for group in (0, 1) for level, pair in counts.items() for _ in range(pair[group])]


def sample(n: int, mean: float, sd: float, seed: int) -> np.ndarray:
    """Ages with exactly this mean and standard deviation (ddof = 1)."""
    values = np.random.default_rng(seed).normal(size=n)
    return mean + sd * (values - values.mean()) / values.std(ddof=1)


@pytest.fixture
def paper() -> pd.DataFrame:
    """A cohort with the counts, means and deviations of the paper's Table 1."""
    return pd.DataFrame(
        {
            "label": pd.array([0] * 58 + [1] * 134, dtype="Int8"),
            "location": column(LOCATION),
            "sex": column(SEX),
            "age": np.concatenate([sample(58, 62.40, 13.83, 1), sample(134, 62.22, 11.57, 2)]),
            "histology": ["cyst"] * 50
            + ["angiomyolipoma"] * 8
            + ["clear cell"] * 117
            + ["papillary"] * 8
            + ["other"] * 9,
        }
    )


def test_the_papers_table(paper):
    table = table_one(paper.sample(frac=1, random_state=0))
    numbers = [
        "benign_n",
        "malignant_n",
        "benign_mean",
        "benign_sd",
        "malignant_mean",
        "malignant_sd",
    ]
    assert list(table.columns) == [
        "characteristic",
        "level",
        "benign",
        "malignant",
        *numbers,
        "p",
        "test",
    ]
    shown = {
        (row.characteristic, row.level): (row.benign, row.malignant) for row in table.itertuples()
    }
    assert shown["number of samples (n %)", ""] == ("58 (30.21)", "134 (69.79)")
    assert shown["location", "exophytic"] == ("33 (42.31)", "45 (57.69)")
    assert shown["location", "mesophytic"] == ("21 (27.27)", "56 (72.73)")
    assert shown["location", "endophytic"] == ("4 (10.81)", "33 (89.19)")
    assert shown["sex", "male"] == ("36 (28.35)", "91 (71.65)")
    assert shown["sex", "female"] == ("22 (33.85)", "43 (66.15)")
    assert shown["age (mean ± SD, years)", ""] == ("62.40 ± 13.83", "62.22 ± 11.57")
    assert shown["histology", "clear cell"] == ("0 (0.00)", "117 (100.00)")
    behind = table.set_index(["characteristic", "level"])[numbers]
    assert behind.loc[("location", "mesophytic")].tolist()[:2] == [21, 56]
    assert behind.loc[("location", "mesophytic")].isna().tolist() == [
        False,
        False,
        True,
        True,
        True,
        True,
    ]
    assert behind.loc[("age (mean ± SD, years)", "")].tolist() == pytest.approx(
        [58, 134, 62.40, 13.83, 62.22, 11.57]
    )
    p = table.dropna(subset=["p"]).set_index("characteristic")["p"].round(3).to_dict()
    assert p["location"] == 0.002
    assert p["sex"] == 0.432
    assert p["age (mean ± SD, years)"] == pytest.approx(0.926, abs=0.001)
    assert set(p) == {"location", "sex", "age (mean ± SD, years)"}
    assert table.loc[table["characteristic"] == "location", "level"].tolist() == list(LOCATION)


def test_only_the_test_without_continuity_correction_gives_the_papers_p():
    counts = list(SEX.values())
    assert round(chi_squared_p(counts), 3) == 0.432
    assert round(chi2_contingency(counts, correction=True).pvalue, 3) == 0.536
    assert round(chi_squared_p(list(LOCATION.values())), 3) == 0.002


def test_anova_of_two_groups_is_the_t_test():
    a, b = sample(30, 60, 10, 3), sample(41, 66, 12, 4)
    assert anova_p(a, b) == pytest.approx(ttest_ind(a, b).pvalue)
    assert anova_p(a, b) == pytest.approx(ttest_ind_from_stats(60, 10, 30, 66, 12, 41).pvalue)


def test_what_is_undefined_is_missing_and_not_zero():
    assert chi_squared_p([[3, 5]]) is None
    assert chi_squared_p([[3, 0], [4, 0]]) is None
    assert chi_squared_p([[3, 4], [0, 0], [5, 2]]) == pytest.approx(chi_squared_p([[3, 4], [5, 2]]))
    assert anova_p(np.array([1.0]), np.array([1.0, 2.0])) is None
    assert anova_p(np.array([1.0, 1.0]), np.array([1.0, 1.0])) is None


def test_missing_values_and_absent_columns():
    cohort = pd.DataFrame(
        {
            "label": pd.array([0, 0, 1, 1], dtype="Int8"),
            "sex": ["male", None, "female", "other"],
            "age": [50.0, np.nan, 60.0, 70.0],
            "max_diameter_mm": [np.nan] * 4,
        }
    )
    table = table_one(cohort)
    assert table.loc[table["characteristic"] == "sex", "level"].tolist() == [
        "male",
        "female",
        "other",
    ]
    age = table[table["characteristic"].str.startswith("age")].iloc[0]
    assert (age["benign"], age["malignant"]) == ("50.00 ± –", "65.00 ± 7.07")
    assert (age["benign_n"], age["benign_mean"], age["malignant_n"]) == (1, 50.0, 2)
    assert np.isnan(age["benign_sd"])
    assert np.isnan(age["p"])
    diameter = table[table["characteristic"].str.startswith("maximum diameter")].iloc[0]
    assert diameter["benign"] == "– ± –"
    assert "location" not in set(table["characteristic"])
    assert len(table_one(pd.DataFrame({"label": pd.array([0, 1], dtype="Int8")}))) == 1
