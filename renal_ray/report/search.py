"""The search over training settings: what was tried, what came out, and how far the reader may trust it."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from renal_ray.protocol.cross_validation import corrected_difference, corrected_mean
from renal_ray.protocol.metrics import mean_sd
from renal_ray.report.canvas import BLUE, GREY, ORANGE, VERMILION, Drawing, blank, finish, settings
from renal_ray.report.tables import Row, Table
from renal_ray.report.text import DASH, counted, dataset_name, head_name, plus_minus, probability, two

Found = Mapping[str, Any]  # WORK/search/search.json, see `renal_ray.trial.search.outcome.outcome`

MOST_ROWS = 60  # of the table on the page; the CSV has all
STATES = {
    "complete": "complete",
    "beaten": "given up: beaten",
    "hopeless": "given up: cannot win",
    "screened": "given up on one fold",
    "failed": "failed",
    "running": "not finished",
}
AXIS_NAMES = {
    "learning_rate": "Learning rate",
    "momentum": "Momentum",
    "optimizer": "Optimizer",
    "batch_size": "Batch size",
    "weight_decay": "Weight decay",
    "dropout": "Dropout",
    "embedding": "Embedding width",
    "label_smoothing": "Label smoothing",
    "gru_units": "GRU width",
    "gru_layers": "GRU layers",
    "gru_l2": "GRU L2 penalty",
    "freeze_point": "Frozen up to",
    "augmentation.flip": "Mirrored",
    "augmentation.rotate_deg": "Turned, up to °",
    "augmentation.hu_jitter": "Shifted, up to HU",
    "augmentation.copies": "Varied copies",
}


def search_tables(found: Found | None) -> Iterator[Table]:
    """Every table of a search; none without one."""
    if found is None:
        return
    yield configurations_table(found)
    if found["nested"]:
        yield nested_table(found)


def configurations_table(found: Found) -> Table:
    """The configurations, the best first: its settings, AUC over its folds, and why it was given up."""
    names, best = list(found["space"]), found["best"]
    ranked = sorted(found["configurations"], key=_rank)
    rows = []
    for one in ranked[:MOST_ROWS]:
        mark = " (best)" if one["number"] == best else ""
        name = "Study file" if one["number"] == 0 else str(one["number"])
        settings_ = tuple(written(one["values"][key]) for key in names)
        rows.append(Row((f"{name}{mark}", *settings_, plus_minus(one["mean"], one["sd"]), str(len(one["aucs"])), _standing(one))))
    data = [
        {"number": one["number"], **{name: one["values"][name] for name in names}, "state": one["state"], "folds": len(one["aucs"])}
        | {"auc_mean": one["mean"], "auc_sd": one["sd"], "best": one["number"] == best}
        | {f"auc_fold{fold}": one["aucs"].get(str(fold)) for fold in found["folds"]}
        | {
            "given_up_against": (one["end"] or {}).get("against"),
            "difference": (one["end"] or {}).get("difference"),
            "p_one_sided": (one["end"] or {}).get("p"),
        }
        for one in ranked
    ]
    more = len(ranked) - MOST_ROWS
    notes = [
        f"Validation AUC of the {head_name(found['head'])} models per {found['level']}, mean ± SD over the folds that were trained. Complete configurations stand first; "
        "the mean of one that was given up is over fewer folds and does not compare.",
        _stopping_note(found),
        *([f"{more} more stand in the CSV file."] if more > 0 else []),
    ]
    return Table(
        name="search-configurations",
        title=f"Search on the {dataset_name(found['dataset'])} dataset: {counted(len(ranked), 'configuration')}",
        columns=("Configuration", *(AXIS_NAMES[name] for name in names), "AUC", "Folds", "Standing"),
        rows=tuple(rows),
        data=pd.DataFrame(data),
        notes=tuple(note for note in notes if note),
    )


def nested_table(found: Found) -> Table:
    """Nested cross-validation: what each inner search chose, and what it is worth on the fold that it never saw."""
    rows, data = [], []
    for one in found["nested"]:
        chosen = ", ".join(f"{AXIS_NAMES[name]} {written(value)}" for name, value in (one["values"] or {}).items()) or DASH
        rows.append(Row((f"Fold {one['fold']}", chosen, str(one["tried"]), two(one["inner_mean"], 3), two(one["auc"], 3), two(one["own_auc"], 3))))
        data.append({key: one[key] for key in ("fold", "tried", "number", "inner_mean", "auc", "own_auc")} | (one["values"] or {}))
    summary = nested_summary(found)
    if summary is not None:
        rows.append(Row(("Mean", "", "", two(summary["inner"], 3), two(summary["auc"], 3), two(summary["own"], 3)), "extra"))
    return Table(
        name="search-nested",
        title="Nested cross-validation of the search",
        columns=("Outer fold", "Chosen by the inner search", "Tried", "Inner mean AUC", "AUC on the outer fold", "Study file's own, outer fold"),
        rows=tuple(rows),
        data=pd.DataFrame(data),
        notes=(
            "For each outer fold the whole search is repeated among the patients of the other folds (inner folds: those others), and its winner is trained on all of "
            "them and scored on the outer fold (Varma and Simon 2006; Cawley and Talbot 2010). The inner mean was maximised, the AUC on the outer fold was not.",
        ),
        left=2,
    )


def nested_summary(found: Found) -> dict[str, float] | None:
    """Means over the outer folds that are finished: inner (maximised), auc (of the winners there) and own (the study file's settings); None before all are."""
    rows = found["nested"] or []
    if not rows or any(one["auc"] is None or one["own_auc"] is None for one in rows):
        return None
    return {name: math.fsum(one[key] for one in rows) / len(rows) for name, key in (("inner", "inner_mean"), ("auc", "auc"), ("own", "own_auc"))}


def search_sentences(found: Found) -> Iterator[str]:
    """The result in sentences: the best against the study file's own settings, and what is optimistic about it."""
    own, best = found["configurations"][0], _best(found)
    n = len(found["configurations"])
    counts = {state: sum(one["state"] == state for one in found["configurations"]) for state in STATES}
    said = ", ".join(f"{counts[state]} {name}" for state, name in STATES.items() if counts[state])
    yield f"{counted(n, 'configuration')} by {_sampler(found)}: {said}. {counted(found['trials'], 'trial')} of the search, which enter no other number of this report."
    if not found["is_over"]:
        yield "The search is not finished: `renal-ray search` continues it."
    if best is None or best["mean"] is None:
        yield "No configuration is complete yet."
        return
    if best["number"] == 0:
        yield f"No configuration was better than the study file's own settings: mean validation AUC {plus_minus(own['mean'], own['sd'])}."
    elif own["state"] == "complete":
        yield (
            f"Configuration {best['number']} is the best: mean validation AUC {plus_minus(best['mean'], best['sd'])}, against {plus_minus(own['mean'], own['sd'])} of the "
            f"study file's own settings. {_paired(found, best, own)}"
        )
    yield from _optimism(found, best, n)


def _optimism(found: Found, best: Mapping[str, Any], n: int) -> Iterator[str]:
    summary = nested_summary(found)
    if summary is not None:
        aucs = [one["auc"] for one in found["nested"]]
        interval = corrected_mean(aucs, found["n_train"], found["n_validation"])
        bounds = (
            ""
            if interval is None or interval.lower is None
            else f" (95 % CI {two(interval.lower, 3)} to {two(interval.upper, 3)}, corrected for shared patients)"
        )
        yield (
            f"Nested cross-validation: mean AUC {two(summary['auc'], 3)}{bounds} of what the search chooses, on folds that it did not see. This is the number to report; the best "
            f"configuration's {two(best['mean'], 3)} was searched for and exceeds it by {two(best['mean'] - summary['auc'], 3)}. On the same folds the study file's own settings have "
            f"{two(summary['own'], 3)}, a difference of {two(summary['auc'] - summary['own'], 3)}."
        )
        return
    missing = "The nested cross-validation is not finished." if found["nested"] else "Set search.nested: true to get a number that was not searched for."
    yield f"Optimistic: the best of {counted(n, 'mean')} over the same folds is the largest of {n} noisy values, and its difference to the study file's own is so too. {missing}"


def search_caveats(found: Found | None, training: Mapping[str, Any]) -> Iterator[str]:
    """What a reader of the study's own numbers must know: that its settings were chosen on the same folds."""
    if found is None or found["best"] in (None, 0) or found["training"] != training:
        return
    summary = nested_summary(found)
    told = f" Nested cross-validation of that search gave {two(summary['auc'])}." if summary else " No nested cross-validation says by how much."
    yield (
        f"The training settings were chosen by a search over {counted(len(found['configurations']), 'configuration')} on these folds ({dataset_name(found['dataset'])}, "
        f"{head_name(found['head'])}): validation numbers are optimistic.{told}"
    )


def search_drawings(found: Found | None) -> Iterator[Drawing]:
    """Every figure of a search; none without one, or before anything has an AUC."""
    if found is not None and any(one["mean"] is not None for one in found["configurations"]):
        yield slices(found)


def slices(found: Found) -> Drawing:
    """AUC of every configuration by each setting that was searched over."""
    name, names = "search-slices", list(found["space"])
    columns = min(4, len(names))
    rows = -(-len(names) // columns)
    with settings(name):
        figure, grid = blank(0.4 + 1.9 * rows, rows, columns)
        panels = [axes for line in grid for axes in line]
        for axes, key in zip(panels, names, strict=False):
            _panel(axes, found, key)
        for axes in panels[len(names) :]:
            axes.set_axis_off()
        for line in grid:
            line[0].set_ylabel("Mean validation AUC")
        best = "" if found["best"] in (None, 0) else " Star: the best."
        return finish(
            figure,
            name=name,
            caption=f"Search. AUC by setting. Each mark is a configuration of the search on the {dataset_name(found['dataset'])} dataset, {head_name(found['head'])} models: filled, mean over "
            f"all {len(found['folds'])} folds; hollow, given up, mean over those it had. Diamond: the study file's own settings.{best} Other settings vary too: a panel shows "
            "where good ones lie, not the effect of one setting alone.",
        )


def _panel(axes: Axes, found: Found, name: str) -> None:
    tried = found["space"][name]
    places = {written(value): place for place, value in enumerate(_listed(found, name))} if isinstance(tried, list) else None

    def across(value: Any) -> float:
        return float(value) if places is None else float(places[written(value)])

    for one in found["configurations"]:
        if one["mean"] is None:
            continue
        number, complete = one["number"], one["state"] == "complete"
        color, marker, size = (VERMILION, "D", 30) if number == 0 else (ORANGE, "*", 90) if number == found["best"] else (BLUE if complete else GREY, "o", 18)
        axes.scatter(
            [across(one["values"][name])],
            [one["mean"]],
            s=size,
            marker=marker,
            edgecolors=color,
            facecolors=color if complete else "none",
            zorder=3 if size > 18 else 2,
        )
    axes.set_xlabel(AXIS_NAMES[name])
    if places is not None:
        axes.set_xticks(range(len(places)), list(places))
        axes.set_xlim(-0.5, len(places) - 0.5)
    elif tried["log"]:
        axes.set_xscale("log")


def _listed(found: Found, name: str) -> list[Any]:
    """The listed values and the study file's own, numbers in their order."""
    values = list(found["space"][name])
    own = found["configurations"][0]["values"][name]
    values += [own] if written(own) not in {written(value) for value in values} else []
    return sorted(values) if all(isinstance(value, int | float) for value in values) else values


def written(value: Any) -> str:
    """A setting as a reader writes it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, int | float) else str(value)


def _rank(one: Mapping[str, Any]) -> tuple[int, float, int]:
    """Complete ones by mean, then the others by how far they came, then by mean."""
    mean = -1.0 if one["mean"] is None else one["mean"]
    return (0 if one["state"] == "complete" else 1, -mean if one["state"] == "complete" else -len(one["aucs"]) - mean / 10, one["number"])


def _standing(one: Mapping[str, Any]) -> str:
    end = one["end"]
    if end is None or one["state"] not in ("beaten", "hopeless", "screened"):
        return STATES[one["state"]]
    if one["state"] == "screened":
        return f"{STATES['screened']}, {end['folds']} epochs"
    against = "the study file's" if end["against"] == 0 else f"{end['against']}"
    p = "" if end["p"] is None else f", p {probability(end['p'])}"
    return f"{STATES[one['state']]}, {two(end['difference'], 3)} against {against} on {counted(end['folds'], 'fold')}{p}"


def _best(found: Found) -> Mapping[str, Any] | None:
    return None if found["best"] is None else found["configurations"][found["best"]]


def _sampler(found: Found) -> str:
    return {"tpe": "a tree-structured Parzen estimator (Bergstra et al. 2011)", "random": "random search", "grid": "grid search"}[found["sampler"]]


def _paired(found: Found, best: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    folds = [str(fold) for fold in found["folds"]]
    a, b = [best["aucs"][fold] for fold in folds], [own["aucs"][fold] for fold in folds]
    difference = corrected_difference(a, b, found["n_train"], found["n_validation"])
    mean, _ = mean_sd([x - y for x, y in zip(a, b, strict=True)])
    if difference is None or difference.lower is None or difference.p is None:
        return f"Paired difference {two(mean, 3)}."
    return (
        f"Paired difference {two(mean, 3)} (95 % CI {two(difference.lower, 3)} to {two(difference.upper, 3)}, p {probability(difference.p)}; corrected resampled t test, "
        "which does not know that the better one was chosen for being better)."
    )


def _stopping_note(found: Found) -> str:
    stop, screen = found["stop"], found["screen"]
    said = []
    if screen is not None and screen["rungs"]:
        said.append(
            f"Screened on one fold with {', '.join(str(one) for one in screen['rungs'])} epochs, of which one in {screen['eta']} goes on (asynchronous successive halving, Li et al. 2020)."
        )
    if stop is not None:
        said.append(
            f"Given up: after a fold, when no AUC in the other folds could make it the best; from {stop['folds']} folds on, when a one-sided paired t test against the best on the "
            f"same folds has p < {stop['alpha']:g} (racing: Maron and Moore 1997, López-Ibáñez et al. 2016)."
        )
    return " ".join(said)
