"""Who is explained, by hand."""

import numpy as np
import pandas as pd
import pytest

from renal_ray.trial.subjects import BEST, OTHER, UNCERTAIN, WORST, picked

TABLE = pd.DataFrame(
    [
        ("a", 1, 0.99, 0.5),
        ("b", 1, 0.52, 0.5),
        ("c", 1, 0.30, 0.5),
        ("d", 0, 0.01, 0.5),
        ("e", 0, 0.02, 0.5),
        ("f", 0, 0.90, 0.5),
        ("g", 0, 0.60, 0.5),
        ("h", 0, 0.48, 0.47),  # another fold's threshold: wrong, and closer to it than b
        ("i", 1, 0.80, 0.5),
        ("j", 0, 0.10, 0.5),
    ],
    columns=["patient_id", "label", "score", "threshold"],
)
TABLE["decision"] = (TABLE["score"] >= TABLE["threshold"]).astype(int)


def kinds(n: int, table: pd.DataFrame = TABLE) -> dict[str, str]:
    return dict(zip(table["patient_id"], picked(table, n), strict=True))


def test_the_most_certain_and_the_least() -> None:
    found = kinds(2)
    assert [name for name, kind in found.items() if kind == BEST] == ["a", "d"]
    assert [name for name, kind in found.items() if kind == WORST] == ["c", "f"]
    assert [name for name, kind in found.items() if kind == UNCERTAIN] == ["b", "h"]
    assert [name for name, kind in found.items() if kind == OTHER] == ["e", "g", "i", "j"]


def test_nobody_is_of_two_kinds() -> None:
    found = kinds(9)
    assert [name for name, kind in found.items() if kind == WORST] == ["c", "f", "g", "h"]
    assert [name for name, kind in found.items() if kind == BEST] == ["a", "b", "d", "e", "i", "j"]


def test_none_are_asked_for() -> None:
    assert set(kinds(0).values()) == {OTHER}


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_the_rows_does_not_matter_even_where_scores_tie(seed: int) -> None:
    tied = TABLE.assign(score=TABLE["score"].round(1))
    tied["decision"] = (tied["score"] >= tied["threshold"]).astype(int)
    order = np.random.default_rng(seed).permutation(len(tied))
    assert kinds(2, tied.iloc[order].reset_index(drop=True)) == kinds(2, tied)
