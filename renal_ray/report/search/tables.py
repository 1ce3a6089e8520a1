"""The tables of a search."""

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from renal_ray.report.search.words import AXIS_NAMES, STATES, Found, nested_summary, written
from renal_ray.report.tables import Row, Table
from renal_ray.report.text import (
    DASH,
    counted,
    dataset_name,
    head_name,
    plus_minus,
    probability,
    two,
)

MOST_ROWS = 60  # of the table on the page; the CSV has all


def search_tables(found: Found | None) -> Iterator[Table]:
    """Every table of a search; none without one."""
    if found is None:
        return
    yield configurations_table(found)
    if found["nested"]:
        yield nested_table(found)


def configurations_table(found: Found) -> Table:
    """The configurations, the best first: its settings, AUC over its folds, and why it was given
    up."""
    names, best = list(found["space"]), found["best"]
    ranked = sorted(found["configurations"], key=_rank)
    rows = []
    for one in ranked[:MOST_ROWS]:
        mark = " (best)" if one["number"] == best else ""
        name = "Study file" if one["number"] == 0 else str(one["number"])
        settings_ = tuple(written(one["values"][key]) for key in names)
        rows.append(
            Row(
                (
                    f"{name}{mark}",
                    _standing(one),
                    plus_minus(one["mean"], one["sd"]),
                    str(len(one["aucs"])),
                    *settings_,
                )
            )
        )
    data = [
        {
            "number": one["number"],
            **{name: one["values"][name] for name in names},
            "state": one["state"],
            "folds": len(one["aucs"]),
        }
        | {"auc_mean": one["mean"], "auc_sd": one["sd"], "best": one["number"] == best}
        | {f"auc_fold{fold}": one["aucs"].get(str(fold)) for fold in found["folds"]}
        | {
            column: (one["end"] or {}).get(key)
            for column, key in (
                ("given_up_against", "against"),
                ("difference", "difference"),
                ("p_one_sided", "p"),
            )
        }
        for one in ranked
    ]
    more = len(ranked) - MOST_ROWS
    notes = [
        f"Validation AUC of the {head_name(found['head'])} models per "
        f"{found['level']}, mean ± SD over the folds that were trained. "
        "Complete configurations stand first; the mean of one that was given "
        "up is over fewer folds and does not compare.",
        _stopping_note(found),
        *([f"{more} more stand in the CSV file."] if more > 0 else []),
    ]
    return Table(
        name="search-configurations",
        title=(
            f"Search on the {dataset_name(found['dataset'])} dataset: "
            f"{counted(len(ranked), 'configuration')}"
        ),
        columns=(
            "Configuration",
            "Standing",
            "AUC",
            "Folds",
            *(AXIS_NAMES[name] for name in names),
        ),
        rows=tuple(rows),
        data=pd.DataFrame(data),
        notes=tuple(note for note in notes if note),
        left=2,
    )


def nested_table(found: Found) -> Table:
    """Nested cross-validation: what each inner search chose, and what it is worth on the fold that
    it never saw."""
    rows, data = [], []
    for one in found["nested"]:
        chosen = (
            ", ".join(
                f"{AXIS_NAMES[name]} {written(value)}"
                for name, value in (one["values"] or {}).items()
            )
            or DASH
        )
        rows.append(
            Row(
                (
                    f"Fold {one['fold']}",
                    chosen,
                    str(one["tried"]),
                    two(one["inner_mean"], 3),
                    two(one["auc"], 3),
                    two(one["own_auc"], 3),
                )
            )
        )
        data.append(
            {key: one[key] for key in ("fold", "tried", "number", "inner_mean", "auc", "own_auc")}
            | (one["values"] or {})
        )
    summary = nested_summary(found)
    if summary is not None:
        rows.append(
            Row(
                (
                    "Mean",
                    "",
                    "",
                    two(summary["inner"], 3),
                    two(summary["auc"], 3),
                    two(summary["own"], 3),
                ),
                "extra",
            )
        )
    return Table(
        name="search-nested",
        title="Nested cross-validation of the search",
        columns=(
            "Outer fold",
            "Chosen by the inner search",
            "Tried",
            "Inner mean AUC",
            "AUC on the outer fold",
            "Study file's own, outer fold",
        ),
        rows=tuple(rows),
        data=pd.DataFrame(data),
        notes=(
            "For each outer fold the whole search is repeated among the patients of the other "
            "folds, which are the inner folds, and its winner is trained on "
            "all of them and scored on the outer fold (Varma and Simon 2006; Cawley and Talbot "
            "2010). The inner mean was maximised, the outer AUC was not.",
        ),
        left=2,
    )


def _rank(one: Mapping[str, Any]) -> tuple[int, float, int]:
    """Complete ones by mean, then the others by how far they came, then by mean."""
    mean = -1.0 if one["mean"] is None else one["mean"]
    return (
        0 if one["state"] == "complete" else 1,
        -mean if one["state"] == "complete" else -len(one["aucs"]) - mean / 10,
        one["number"],
    )


def _standing(one: Mapping[str, Any]) -> str:
    end = one["end"]
    if end is None or one["state"] not in ("beaten", "hopeless", "screened"):
        return STATES[one["state"]]
    if one["state"] == "screened":
        return f"{STATES['screened']}, {end['folds']} epochs"
    p = "" if end["p"] is None else f", p {probability(end['p'])}"
    by = "the study file" if end["against"] == 0 else str(end["against"])
    return (
        f"{STATES[one['state']]}{' by' if one['state'] == 'beaten' else ' against'} "
        f"{by}: {two(end['difference'], 3)}{p}"
    )


def _stopping_note(found: Found) -> str:
    stop, screen = found["stop"], found["screen"]
    said = []
    if screen is not None and screen["rungs"]:
        epochs = ", ".join(str(one) for one in screen["rungs"])
        said.append(
            f"Screened on one fold with {epochs} epochs; one in {screen['eta']} goes on "
            "(asynchronous successive halving, Li et al. 2020)."
        )
    if stop is not None:
        said.append(
            "Given up: after a fold, when no AUC in the other folds could make it the best; "
            f"from {stop['folds']} folds on, when a one-sided paired t test against "
            f"the best on the same folds has p < {stop['alpha']:g} "
            "(racing: Maron and Moore 1997, López-Ibáñez et al. 2016)."
        )
    return " ".join(said)
