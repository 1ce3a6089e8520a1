"""bench_sweep --part steps: seconds an image once everything is compiled, and what grids would
take."""

import argparse
from statistics import median
from typing import Any

from children import Group
from keeping import keep
from rates import PACKAGES, matrix_rates

from renal_ray.model.flops import prefix_gflops, suffix_gflops
from renal_ray.types import FreezePoint

TRAINED = 3  # passes of a training step
WAYS = {
    "usual": "usual, all threads",
    "bare": "bare suffix, all threads",
    "pair": "renal-ray, a thread each",
    "one": "renal-ray, all threads",
}


def bench_steps(options: argparse.Namespace) -> None:
    rates = matrix_rates(options.cores)
    prefix = _prefix(options)
    rows = [_measure(options, freeze, rates) for freeze in options.freeze_points]
    predicted = [_predict(options, rows, prefix, epochs) for epochs in options.epochs]
    for one in predicted:
        hours = ", ".join(
            f"{way} {seconds / 3600:.2f} h" for way, seconds in one["seconds"].items()
        )
        print(
            f"predicted, {one['epochs']} epochs: {hours}; "
            + ", ".join(f"{name} {value:.1f} x" for name, value in one["ratios"].items())
        )
    keep(
        "sweep_steps",
        PACKAGES,
        vars(options),
        matrix_gflops=rates,
        prefix=prefix,
        freeze_points=rows,
        predicted=predicted,
    )


def _prefix(options: argparse.Namespace) -> dict[str, float]:
    asked = {
        "way": "prefix",
        "precision": "float32",
        "size": options.size,
        "batch": options.batch,
        "round_s": options.round_s,
    }
    group = Group(asked, count=options.cores, threads=1).ready()
    for _ in range(options.rounds):
        group.round()
    group.close()
    return {
        "start_s": group.start_s,
        "first_s": group.told["first_s"],
        "s_per_image": median(group.rounds),
    }


def _measure(
    options: argparse.Namespace, freeze: FreezePoint, rates: dict[str, dict[str, float]]
) -> dict[str, Any]:
    """All ways at one freeze point, in turn, one precision after the other: ten processes at once
    would not fit into memory."""
    found: dict[str, Any] = {
        "freeze_point": str(freeze),
        "prefix_gflop": prefix_gflops(options.size, freeze),
        "suffix_gflop": suffix_gflops(options.size, freeze),
    }
    for precision in options.precisions:
        groups = {way: _start(options, way, freeze, precision) for way in WAYS}
        for _ in range(options.rounds):
            for group in groups.values():
                group.round()
        for group in groups.values():
            group.close()
        found[precision] = {
            way: _figures(
                group, found, rates["a thread each" if way == "pair" else "all threads"][precision]
            )
            for way, group in groups.items()
        }
        seconds = {way: one["s_per_image"] for way, one in found[precision].items()}
        found[precision]["of_bare"] = {
            way: seconds["bare"] / seconds[way] for way in ("pair", "one")
        }
        print(
            f"{freeze} {precision}: "
            + ", ".join(f"{way} {value:.4f}" for way, value in seconds.items())
            + " s an image",
            flush=True,
        )
    return found


def _start(options: argparse.Namespace, way: str, freeze: FreezePoint, precision: str) -> Group:
    asked = {
        "way": way if way in ("usual", "bare") else "ours",
        "freeze": str(freeze),
        "precision": precision,
        "size": options.size,
    }
    # Whole epochs in one call for the small head, as trials run it.
    asked |= {
        "batch": options.batch,
        "round_s": options.round_s,
        "resident": freeze is FreezePoint.MIXED10,
    }
    if way == "pair":
        return Group(asked, count=options.cores, threads=1).ready()
    return Group(
        asked, threads=None if way in ("usual", "bare") else options.cores
    ).ready()  # the usual loop has the framework's own choice


def _figures(group: Group, found: dict[str, Any], rate: float) -> dict[str, float]:
    seconds = median(group.rounds)
    gflops = TRAINED * found["suffix_gflop"] / seconds
    done = gflops + (found["prefix_gflop"] / seconds if group.asked["way"] == "usual" else 0)
    kept = {key: value for key, value in group.told.items() if value is not None}
    return kept | {
        "start_s": group.start_s,
        "s_per_image": seconds,
        "gflops": gflops,
        "gflops_with_prefix": done,
        "share_of_matrix_rate": gflops / rate,
    }


def _predict(
    options: argparse.Namespace, rows: list[dict[str, Any]], prefix: dict[str, float], epochs: int
) -> dict[str, Any]:
    """Seconds of a grid of one dataset; validation, files and Ray's own start, which all ways but a
    pay, are not in it."""
    images = options.epoch_images * epochs
    usual = [row["float32"]["usual"] for row in rows]
    steps = sum(options.folds * images * one["s_per_image"] for one in usual)
    compiling = sum(options.folds * one["first_s"] for one in usual)
    seconds = {
        "a": usual[0]["start_s"] + compiling + steps,
        "b": sum(options.folds * one["start_s"] for one in usual) + compiling + steps,
    }
    once = prefix["start_s"] + prefix["first_s"] + options.images * prefix["s_per_image"]
    for way, precision in (("c", "float32"), ("c2", "mixed_bfloat16")):
        if precision in rows[0]:
            pairs = [row[precision]["pair"] for row in rows]
            seconds[way] = (
                once
                + pairs[0]["start_s"]
                + sum(one["first_s"] + options.folds * images * one["s_per_image"] for one in pairs)
            )
    ratios = {
        f"{slow}/{fast}": seconds[slow] / seconds[fast]
        for slow in ("a", "b")
        for fast in ("c", "c2")
        if fast in seconds
    }
    return {"epochs": epochs, "predicted": True, "seconds": seconds, "ratios": ratios}
