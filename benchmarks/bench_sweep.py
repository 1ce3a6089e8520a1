"""A sweep of one dataset, three ways on the same slices, splits, weights, seeds and batches.

    python benchmarks/bench_sweep.py --part grid [--size 75] [--patients 40] [--slices 8] [--epochs
    6] [--folds 5] [--seeds 17] [--ways a b c c2] python benchmarks/bench_sweep.py --part steps
    [--size 299] [--rounds 3]

a: the usual loop, written as a competent person would (usual.py), one process. b: the same under
    Ray Tune with a fresh process for each trial, of which
one fold a freeze point is run and counted as often as there are folds.
c: `renal-ray sweep`, two trials side by side, a thread each. c2: c with precision mixed_bfloat16.

grid runs everything whole, ways interleaved by freeze point; process start, compilation, the pass
through the frozen layers and, for c, files and statistics of every trial are inside the time. steps
measures seconds an image once everything is compiled, in processes that take turns, and predicts
grids that would take hours; what is predicted is said to be.
"""

import argparse
import os
from pathlib import Path

from sweep_grid import bench_grid
from sweep_steps import bench_steps

from renal_ray.types import FREEZE_POINTS, FreezePoint


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", choices=("grid", "steps"), required=True)
    parser.add_argument("--freeze-points", type=FreezePoint, nargs="+", default=list(FREEZE_POINTS))
    parser.add_argument(
        "--size", type=int, help="edge of the images in pixels: 75 for the grid, 299 for steps"
    )
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--epochs", type=int, nargs="+", help="of the grid, or those to predict")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--cores", type=int, default=os.cpu_count())
    grid = parser.add_argument_group("grid")
    for name, value in (("patients", 40), ("slices", 8)):
        grid.add_argument(f"--{name}", type=int, default=value)
    grid.add_argument(
        "--seeds",
        type=int,
        nargs="+",
        default=[17, 18, 19],
        help="the first runs every way, the others a and c alone, for their AUCs",
    )
    grid.add_argument(
        "--seed-freeze-points",
        type=FreezePoint,
        nargs="+",
        default=[FreezePoint.MIXED9],
        help="at which further seeds run",
    )
    grid.add_argument(
        "--ways", nargs="+", default=["a", "b", "c", "c2"], choices=("a", "b", "c", "c2")
    )
    grid.add_argument("--folder", type=Path, default=Path("runs/bench_sweep"))
    steps = parser.add_argument_group("steps")
    steps.add_argument("--rounds", type=int, default=3)
    steps.add_argument(
        "--round-s", type=float, default=2.0, help="seconds of one round of one way, about"
    )
    steps.add_argument("--precisions", nargs="+", default=["float32", "mixed_bfloat16"])
    steps.add_argument(
        "--images", type=int, default=153 * 20, help="training images of the predicted dataset"
    )
    steps.add_argument(
        "--epoch-images",
        type=int,
        default=2 * 109 * 20 * 4 // 5,
        help="images of one of its balanced epochs",
    )
    options = parser.parse_args()
    if options.part == "grid":
        options.size, options.epochs = options.size or 75, (options.epochs or [6])[0]
        bench_grid(options)
    else:
        options.size, options.epochs = options.size or 299, options.epochs or [10, 150]
        bench_steps(options)


if __name__ == "__main__":
    main()
