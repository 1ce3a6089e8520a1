"""One NVIDIA card: the usual loop, the bare suffix and renal-ray's steps side by side, and the
sweep of the paper predicted from them. ONE command:

    python benchmarks/bench_gpu.py [--minutes 6.5] [--batch 32] [--quick]

Needs jax with CUDA, keras, numpy, h5py, pyarrow and pydantic; neither TensorFlow nor Ray. Processes
take turns by freeze point; 2 and 4 of ours share the card by its time. --quick --size 75 proves on
a CPU that it works; its figures mean nothing. What time does not allow is left out and named.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from statistics import median
from time import monotonic
from typing import Any

from children import Group
from keeping import MACHINE, keep

from renal_ray.model.flops import prefix_gflops, suffix_gflops
from renal_ray.types import FREEZE_POINTS, FreezePoint

PRECISIONS = ("float32", "mixed_bfloat16")
TRAINED = 3  # passes of a training step
IMAGES = 153 * 20  # training slices of a dataset
EPOCH_IMAGES = 2 * 109 * 20 * 4 // 5  # of a balanced epoch of one fold
WAYS = {
    "usual": {"way": "usual", "resident": False},
    "bare": {"way": "bare", "resident": False},
    "streamed": {"way": "ours", "resident": False},
    "resident": {"way": "ours", "resident": True},
}
SKIPPED = ("usual", "mixed_bfloat16")  # the loop that people run today is in float32
DATASETS, FOLDS = 3, 5
EPOCHS = {"image": 150, "fc": 100, "gru": 300}
EPOCH_PATIENTS = 2 * 109 * 4 // 5


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=299)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--round-s", type=float, default=1.5)
    parser.add_argument(
        "--packed", type=int, nargs="*", default=[2, 4], help="processes that share the card"
    )
    parser.add_argument("--freeze-points", type=FreezePoint, nargs="+", default=list(FREEZE_POINTS))
    parser.add_argument(
        "--minutes", type=float, default=6.5, help="after which nothing more is started"
    )
    parser.add_argument(
        "--quick", action="store_true", help="mixed10 alone, one round, one pair of processes"
    )
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.round_s, options.packed = 1, 0.2, [2]
        options.freeze_points = [FreezePoint.MIXED10]
    bench = Bench(options)
    begun = bench.start(
        {"prefix": {"way": "prefix", "resident": False}}
        | {way: {"way": way, "resident": True} for way in ("fc", "gru")}
    )
    alone = bench.measure(begun)
    rates = {precision: bench.rate(precision) for precision in PRECISIONS}
    # The cheap ones first: if time runs out, it is at the dear ones, which fill the card best;
    # packing in float32 matters least.
    rows = [_row(options.size, freeze) for freeze in options.freeze_points]
    for row in reversed(rows):
        bench.add(
            row,
            {
                f"{way} {precision}": (way, precision, 1)
                for precision in PRECISIONS
                for way in WAYS
                if (way, precision) != SKIPPED
            },
            rates,
        )
        bench.add(
            row,
            {
                f"resident x {count} mixed_bfloat16": ("resident", "mixed_bfloat16", count)
                for count in options.packed
            },
            rates,
        )
        print(_line(row), flush=True)
    for row in reversed(rows):
        bench.add(
            row,
            {
                f"resident x {count} float32": ("resident", "float32", count)
                for count in options.packed
            },
            rates,
        )
    prefix, heads = alone["prefix"], {way: alone[way] for way in ("fc", "gru")}
    predicted = predict(rows, prefix, heads)
    for name, seconds in predicted["minutes"].items():
        print(f"predicted: {name}: {seconds:.1f} minutes")
    card = _card()
    machine = card.replace(" ", "_") if card else f"{MACHINE}-trial-run"
    file = keep(
        "gpu",
        ("keras", "jax", "jaxlib", "numpy"),
        vars(options),
        machine=machine,
        card=card,
        matrix_gflops=rates,
        prefix=prefix,
        heads=heads,
        freeze_points=rows,
        left_out=bench.left_out,
        predicted=predicted,
    )
    print(
        f"wrote {file}; left out for want of time: "
        f"{bench.left_out or 'nothing'}\n{json.dumps(predicted)}"
    )


def _row(size: int, freeze: FreezePoint) -> dict[str, Any]:
    return {
        "freeze_point": str(freeze),
        "prefix_gflop": prefix_gflops(size, freeze),
        "suffix_gflop": suffix_gflops(size, freeze),
        "ways": {},
    }


def _line(row: dict[str, Any]) -> str:
    return f"{row['freeze_point']}, ms an image: " + ", ".join(
        f"{name} {1e3 * one['s_per_image']:.3f}" for name, one in row["ways"].items()
    )


class Bench:
    """Starts processes until the time is over. Those that are compared are started together,
    because compiling takes longest, and measure in turn."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._until = monotonic() + 60 * options.minutes
        # What one process compiled is there for those that share the card later; nothing is left in
        # it from earlier runs.
        self._compiled = tempfile.TemporaryDirectory()
        self.left_out: list[str] = []

    def rate(self, precision: str) -> float:
        """GFLOP/s of a large matrix product."""
        group = self.start(
            {
                "rate": {"way": "matrix", "precision": precision}
                | ({"edge": 1024} if self._options.quick else {})
            }
        )["rate"].ready()
        for _ in range(self._options.rounds):
            group.round()
        group.close()
        return max(group.rounds)

    def start(
        self, asked: dict[str, dict[str, Any]], *, count: dict[str, int] | None = None
    ) -> dict[str, Group]:
        """Starts processes; `count` says how many of each, where it is not one."""
        same = {
            "size": self._options.size,
            "batch": self._options.batch,
            "round_s": self._options.round_s,
            "precision": "float32",
        }
        counts = count or {}
        return {
            name: Group(
                same | one, count=counts.get(name, 1), backend="jax", compiled=self._compiled.name
            )
            for name, one in asked.items()
        }

    def measure(self, groups: dict[str, Group]) -> dict[str, dict[str, Any]]:
        """Lets all take turns, and ends them."""
        for group in groups.values():
            group.ready()
        for _ in range(self._options.rounds):
            for group in groups.values():
                group.round()
        for group in groups.values():
            group.close()
        found = {}
        for name, group in groups.items():
            kept = {key: value for key, value in group.told.items() if value is not None}
            found[name] = kept | {"s_per_image": median(group.rounds)}
        return found

    def add(
        self, row: dict[str, Any], ways: dict[str, tuple[str, str, int]], rates: dict[str, float]
    ) -> None:
        """Measures some ways at one freeze point: name -> way, precision, number of processes at
        once."""
        if monotonic() > self._until:
            self.left_out += [f"{row['freeze_point']} {name}" for name in ways]
            return
        asked = {
            name: WAYS[way] | {"freeze": row["freeze_point"], "precision": precision}
            for name, (way, precision, _) in ways.items()
        }
        found = self.measure(
            self.start(asked, count={name: count for name, (_, _, count) in ways.items()})
        )
        for name, one in found.items():
            gflops = TRAINED * row["suffix_gflop"] / one["s_per_image"]
            row["ways"][name] = one | {
                "gflops": gflops,
                "share_of_matrix_rate": gflops / rates[ways[name][1]],
            }


def predict(
    rows: list[dict[str, Any]], prefix: dict[str, Any], heads: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """Minutes of the paper's sweep from measured steps: the usual loop in float32, and ours at its
    best in each precision. Scoring is not in it."""
    images = DATASETS * FOLDS * EPOCHS["image"] * EPOCH_IMAGES
    once = DATASETS * IMAGES * prefix["s_per_image"] + prefix["first_s"]
    patients = {
        head: DATASETS * FOLDS * EPOCHS[head] * EPOCH_PATIENTS * one["s_per_image"] + one["first_s"]
        for head, one in heads.items()
    }
    seconds: dict[str, float] = {}
    best: dict[str, dict[str, str]] = {}
    usual = [row["ways"].get("usual float32") for row in rows]
    if all(usual):
        seconds["usual loop, float32"] = sum(
            images * one["s_per_image"] + DATASETS * FOLDS * one["first_s"] for one in usual if one
        ) + sum(patients.values())
    for precision in PRECISIONS:
        ours = [
            {
                name: one
                for name, one in row["ways"].items()
                if name.endswith(precision) and name.startswith(("streamed", "resident"))
            }
            for row in rows
        ]
        if not all(ours):
            continue
        chosen = [min(some, key=lambda name: some[name]["s_per_image"]) for some in ours]
        taken = [some[name] for some, name in zip(ours, chosen, strict=True)]
        seconds[f"renal-ray, {precision}"] = (
            once
            + sum(images * one["s_per_image"] + one["first_s"] for one in taken)
            + sum(patients.values())
        )
        best[precision] = {
            row["freeze_point"]: name for row, name in zip(rows, chosen, strict=True)
        }
    ratios = (
        {name: seconds["usual loop, float32"] / value for name, value in seconds.items()}
        if "usual loop, float32" in seconds
        else {}
    )
    minutes = {name: value / 60 for name, value in seconds.items()}
    whole = len(rows) == len(FREEZE_POINTS)
    return {
        "predicted": True,
        "whole_grid": whole,
        "minutes": minutes,
        "ratios": ratios,
        "best": best,
    }


def _card() -> str | None:
    try:
        told = subprocess.run(
            ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"],
            capture_output=True,
            encoding="utf-8",
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):  # no driver here
        return None
    return told.stdout.splitlines()[0].strip()


if __name__ == "__main__":
    sys.exit(main())
