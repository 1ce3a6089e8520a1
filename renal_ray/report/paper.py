"""The values that Zhou et al. 2019 printed, to stand beside ours."""

import json
from functools import cache
from importlib.resources import files
from typing import Any

from renal_ray.types import Dataset, FreezePoint, Head

NAME = "Zhou et al. 2019"


@cache
def facts() -> dict[str, Any]:
    """Every printed value, as in paper.json: the paper's own numbers, misprints included."""
    value: dict[str, Any] = json.loads(
        files("renal_ray.report").joinpath("paper.json").read_text(encoding="utf-8")
    )
    return value


def validation(dataset: Dataset, head: Head) -> dict[str, tuple[float, float]]:
    """Table 2: metric -> (mean, SD) at the paper's best freeze point of the dataset."""
    table = facts()["table2_validation_mean_sd"]
    return {
        name.lower(): (mean, sd)
        for name, (mean, sd) in zip(table["columns"], table[dataset][head], strict=True)
    }


def test(dataset: Dataset, head: Head) -> dict[str, float]:
    """Table 3: metric -> value of the vote of five."""
    table = facts()["table3_test"]
    return {
        name.lower(): value
        for name, value in zip(table["columns"], table[dataset][head], strict=True)
    }


def minutes(dataset: Dataset) -> dict[FreezePoint, float]:
    """Table 4: freeze point -> training time in minutes."""
    table = facts()["table4_training_minutes"]
    return {
        FreezePoint(name): value
        for name, value in zip(table["columns"], table[dataset], strict=True)
    }


def freeze_point(dataset: Dataset) -> FreezePoint:
    """The freeze point that the paper selected."""
    return FreezePoint(facts()["best_freeze_point"][dataset])
