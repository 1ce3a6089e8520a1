"""The figure of a search."""

from collections.abc import Iterator
from typing import Any

from matplotlib.axes import Axes

from renal_ray.report.canvas import BLUE, GREY, ORANGE, VERMILION, Drawing, blank, finish, settings
from renal_ray.report.search.words import AXIS_NAMES, Found, written
from renal_ray.report.text import dataset_name, head_name

SMALL = 18.0  # size of a mark that is neither the study file's own nor the best


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
            caption="Search. AUC by setting. Each mark is a configuration of the search on "
            f"the {dataset_name(found['dataset'])} dataset, "
            f"{head_name(found['head'])} models: filled, mean over all "
            f"{len(found['folds'])} folds; hollow, given up, mean over those it had. "
            f"Diamond: the study file's own settings.{best} Other settings vary too: a panel "
            "shows where good ones lie, not the effect of one setting alone.",
        )


def _panel(axes: Axes, found: Found, name: str) -> None:
    tried = found["space"][name]
    places = (
        {written(value): place for place, value in enumerate(_listed(found, name))}
        if isinstance(tried, list)
        else None
    )

    def across(value: Any) -> float:
        if places is not None:
            return float(places[written(value)])
        return (
            tried["low"] / 2 if tried["log"] and value <= 0 else float(value)
        )  # the study file's own may be 0, which has no logarithm

    for one in found["configurations"]:
        if one["mean"] is None:
            continue
        number, complete = one["number"], one["state"] == "complete"
        color, marker, size = _mark(number, best=number == found["best"], complete=complete)
        face = color if complete else "none"
        axes.scatter(
            [across(one["values"][name])],
            [one["mean"]],
            s=size,
            marker=marker,
            edgecolors=color,
            facecolors=face,
            zorder=3 if size > SMALL else 2,
        )
    axes.set_xlabel(AXIS_NAMES[name])
    if places is not None:
        axes.set_xticks(range(len(places)), list(places))
        axes.set_xlim(-0.5, len(places) - 0.5)
    elif tried["log"]:
        axes.set_xscale("log")
        if found["configurations"][0]["values"][name] <= 0:
            axes.set_xlabel(f"{AXIS_NAMES[name]}\n(0: at the left edge)")


def _mark(number: int, *, best: bool, complete: bool) -> tuple[str, str, float]:
    """Colour, marker and size of a configuration; the study file's own is a diamond even where it
    is the best."""
    if number == 0:
        return VERMILION, "D", 30.0
    return (ORANGE, "*", 90.0) if best else (BLUE if complete else GREY, "o", SMALL)


def _listed(found: Found, name: str) -> list[Any]:
    """The listed values and the study file's own, numbers in their order."""
    values = list(found["space"][name])
    own = found["configurations"][0]["values"][name]
    values += [own] if written(own) not in {written(value) for value in values} else []
    return sorted(values) if all(isinstance(value, int | float) for value in values) else values
