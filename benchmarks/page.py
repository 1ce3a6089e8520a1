"""Writes benchmarks/README.md from the results in benchmarks/results/.

python benchmarks/page.py
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from page_scale import faults, ledger, scale, sim_cluster
from wording import Result, goals, number, percent, results, section, table

PAGE = Path(__file__).with_name("README.md")
HEAD = """# Benchmarks

Written by `python benchmarks/page.py` from the JSON in `results/`, which is named by machine and
holds versions and options. Each script runs its baseline beside our own, interleaved, and keeps the
ratio. What did not pay is in [NOTES.md](NOTES.md).
"""
WAYS = {
    "a": "usual loop",
    "b": "usual loop under Tune",
    "c": "renal-ray",
    "c2": "renal-ray, bfloat16",
}


def main() -> None:
    sections = [part() for part in PARTS]
    PAGE.write_text(HEAD + "\n" + "\n".join(sections), encoding="utf-8")
    print(f"wrote {PAGE}")


def sweep_grid(one: Result) -> str:
    ways = [way for way in WAYS if way in one["grid"]["ways"]]
    options = one["options"]
    text = (
        f"{options['patients']} patients x {options['slices']} slices of {options['size']} "
        f"px, {options['folds']} folds, {options['epochs']} epochs, batch "
        f"{options['batch']}. Everything is inside the time; of the grid, start-up is "
        "counted once for the usual loops. Of the loop under Tune "
        "one fold a freeze point is run and counted as often as there are "
        "folds: each of its trials has a fresh process.\n\n"
    )
    rows = [
        [row["what"], *_seconds_and_speed(row, ways), *_ratio_cells(row)]
        for row in (*one["freeze_points"], one["grid"])
    ]
    text += (
        table(["", *(f"{WAYS[way]}, s (images/s)" for way in ways), *RATIOS.values()], rows) + "\n"
    )
    rates = one["matrix_gflops"]["all threads"]
    text += (
        f"Matrix products run at {number(rates['float32'])} GFLOP/s in float32, "
        f"{number(rates['mixed_bfloat16'])} in bfloat16. Useful work "
    )
    text += "(3 x suffix) over it, start-up and compilation included:\n\n"
    cells = [
        [
            row["what"],
            *(
                (
                    f"{number(row['ways'][way]['gflops'])} "
                    f"({percent(row['ways'][way]['share_of_matrix_rate'])})"
                )
                for way in ways
            ),
        ]
        for row in one["freeze_points"]
    ]
    text += table(["GFLOP/s", *(WAYS[way] for way in ways)], cells) + "\n"
    text += _same_results(one) + "\n"
    mixed10 = next(
        (row["ratios"].get("a/c") for row in one["freeze_points"] if row["what"] == "mixed10"), None
    )
    last = (
        f"mixed10 in {options['epochs']} epochs, usual loop over renal-ray, start-up included",
        mixed10,
        "at least 50 x",
        (mixed10 or 0) >= 50,
    )
    return text + goals([*_ratio_goals("whole grid", one["grid"]["ratios"]), last])


def same_auc(one: Result) -> str:
    options = one["options"]
    text = (
        f"{options['patients']} patients x {options['slices']} slices of {options['size']} "
        f"px, {options['folds']} folds, {options['epochs']} epochs, "
    )
    text += (
        "mean over the folds at "
        f"{', '.join(options['seed_freeze_points'])}.\n\n"
        f"{_same_results(one)}\n"
    )
    widest = max(abs(row["difference"]) for row in one["auc"])
    spread = max(row["a"] for row in one["auc"]) - min(row["a"] for row in one["auc"])
    between = f"less than between seeds ({spread:.3f})"
    return text + goals(
        [
            (
                "largest difference of the mean AUC between the usual loop and renal-ray",
                widest,
                between,
                widest <= spread,
            )
        ]
    )


RATIOS = {"a/c": "a/c", "a/c2": "a/c2", "b/c": "b/c", "b/c2": "b/c2"}


def _seconds_and_speed(row: Result, ways: Sequence[str]) -> list[str]:
    return [
        f"{number(row['ways'][way]['seconds'])} ({number(row['ways'][way]['images_per_s'])})"
        for way in ways
    ]


def _ratio_cells(row: Result) -> list[str]:
    return [
        number(row["ratios"].get(name), " x") if name in row["ratios"] else "-" for name in RATIOS
    ]


def _ratio_goals(what: str, ratios: dict[str, float]) -> list[tuple[str, float | None, str, bool]]:
    """The goals for a grid, of renal-ray in the usual loop's float32 and in bfloat16."""
    rows: list[tuple[str, float | None, str, bool]] = []
    for slow, goal in (("a", 2.5), ("b", 4.0)):
        for fast in ("c", "c2"):
            ratio = ratios.get(f"{slow}/{fast}")
            rows.append(
                (
                    f"{what}, {WAYS[slow]} over {WAYS[fast]}",
                    ratio,
                    f"at least {goal:g} x",
                    (ratio or 0) >= goal,
                )
            )
    return rows


def _same_results(one: Result) -> str:
    gaps = [row["loss_gap"] for row in one["freeze_points"] if "loss_gap" in row]
    text = ""
    if gaps:
        first, whole = (max(gap[which] for gap in gaps) for which in ("first_epoch", "all_epochs"))
        text += (
            f"Losses of a and c differ by at most {first:.1e} of their value "
            f"in first epochs, {whole:.1e} in any.\n\n"
        )
    if one["auc"]:
        text += table(
            ["seed", "validation AUC, usual loop", "renal-ray", "difference"],
            [
                [
                    str(row["seed"]),
                    f"{row['a']:.4f}",
                    f"{row['c']:.4f}",
                    f"{row['difference']:+.4f}",
                ]
                for row in one["auc"]
            ],
        )
    return text


STEP_WAYS = {
    "usual": "usual loop",
    "bare": "bare suffix",
    "one": "renal-ray",
    "pair": "renal-ray, a thread each",
}


def sweep_steps(one: Result) -> str:
    options = one["options"]
    text = (
        f"{options['size']} px, batch {options['batch']}, {options['cores']} threads in all; "
        "seconds an image once everything is compiled; in brackets the "
    )
    text += "share of the matrix rate that 3 x suffix reaches.\n\n"
    for precision in options["precisions"]:
        rates = one["matrix_gflops"]
        text += (
            f"{precision}; matrix products "
            f"{number(rates['all threads'][precision])} GFLOP/s with all threads "
            "in one process, "
        )
        text += (
            f"{number(rates['a thread each'][precision])} with a thread "
            f"in each of {options['cores']}:\n\n"
        )
        rows = [
            [
                row["freeze_point"],
                *(_step(row[precision][way]) for way in STEP_WAYS),
                *_steps_ratios(row, precision),
            ]
            for row in one["freeze_points"]
        ]
        text += (
            table(
                [
                    "",
                    *STEP_WAYS.values(),
                    "of bare, one process",
                    "of bare, a thread each",
                    "usual float32 over a thread each",
                ],
                rows,
            )
            + "\n"
        )
    starts = [
        [
            row["freeze_point"],
            *(
                number(row["float32"][way][key])
                for way in STEP_WAYS
                for key in ("start_s", "first_s")
            ),
        ]
        for row in one["freeze_points"]
    ]
    text += (
        "Seconds until a fresh process has imported its framework, and then "
        "until its first step is done (float32):\n\n"
    )
    text += (
        table(
            [
                "",
                *(
                    f"{name}: {what}"
                    for name in STEP_WAYS.values()
                    for what in ("start", "first step")
                ),
            ],
            starts,
        )
        + "\n"
    )
    text += (
        f"Predicted, not measured: {options['folds']} folds x five freeze points on "
        f"a dataset of {options['images']} training images, "
    )
    text += f"{options['epoch_images']} in a balanced epoch; without validation and files:\n\n"
    rows = [
        [
            str(some["epochs"]),
            *(
                f"{number(some['seconds'][way] / 3600)} h" if way in some["seconds"] else "-"
                for way in WAYS
            ),
            *_ratio_cells(some),
        ]
        for some in one["predicted"]
    ]
    text += table(["epochs", *WAYS.values(), *RATIOS.values()], rows) + "\n"
    return text + goals(_steps_goals(one))


def _step(cell: Result) -> str:
    return f"{number(cell['s_per_image'])} ({percent(cell['share_of_matrix_rate'])})"


def _steps_ratios(row: Result, precision: str) -> list[str]:
    of_bare = row[precision]["of_bare"]
    usual = (
        row["float32"]["usual"]["s_per_image"] / row[precision]["pair"]["s_per_image"]
        if "float32" in row
        else None
    )
    return [percent(of_bare["one"]), percent(of_bare["pair"]), number(usual, " x")]


def _steps_goals(one: Result) -> list[tuple[str, float | None, str, bool]]:
    least = min(
        max(row[precision]["of_bare"].values())
        for row in one["freeze_points"]
        for precision in one["options"]["precisions"]
    )
    rows: list[tuple[str, float | None, str, bool]] = [
        (
            (
                "suffix training over the bare suffix, the better of our "
                "two ways, the worst freeze point"
            ),
            least,
            "at least 0.8",
            least >= 0.8,
        )
    ]
    for row in one["freeze_points"]:
        if row["freeze_point"] == "mixed10" and "float32" in row:
            ratio = row["float32"]["usual"]["s_per_image"] / min(
                row["float32"][way]["s_per_image"] for way in ("one", "pair")
            )
            rows.append(
                ("mixed10 steps over the usual loop's", ratio, "at least 50 x", ratio >= 50)
            )
    last = one["predicted"][-1]
    return rows + _ratio_goals(f"predicted grid of {last['epochs']} epochs", last["ratios"])


def overhead(one: Result) -> str:
    single, many = one["one"], one["trivial"]
    text = (
        f"One mixed9 trial of {one['options']['epochs']} epochs: {number(single['sweep_s'])} s "
        f"through the sweep, {number(single['bare_s'])} s bare, process "
    )
    text += (
        "start, imports and compilation on both sides; starting Ray takes "
        f"{number(single['ray_start_s'])} s more, once a sweep.\n\n"
    )
    text += (
        f"{many['trials']} trivial trials, one at a time: {number(many['ms_a_trial'])} ms "
        f"each, {number(many['ms_trial_function'])} ms of them the "
    )
    text += (
        "trial's own. By hundreds: "
        f"{', '.join(number(one) for one in many['ms_a_trial_by_hundreds'])} "
        "ms. Driver: "
    )
    text += (
        ", ".join(f"{value:.0f} MiB ({when})" for when, value in many["driver_mib"].items())
        + ".\n\n"
    )
    memory = list(many["driver_mib"].values())
    growth = memory[-1] / memory[0]
    return text + goals(
        [
            (
                "one trial through the sweep over the bare trial",
                single["ratio"],
                "at most 1.05 x",
                single["ratio"] <= 1.05,
            ),
            (
                "our own cost of a trivial trial, ms",
                many["ms_own_cost"],
                "at most 50",
                many["ms_own_cost"] <= 50,
            ),
            (
                "driver memory at the end over that after 100 trials",
                growth,
                "flat (at most 1.1 x)",
                growth <= 1.1,
            ),
        ]
    )


def cache(one: Result) -> str:
    speed, options = one["mib_s"], one["options"]
    rows = [
        [
            state,
            number(speed[f"activations {state}"]),
            number(speed[f"plain {state}"]),
            percent(one["ratios"][state]),
        ]
        for state in ("cold", "warm")
    ]
    text = (
        f"{one['mib']:.0f} MiB of {options['freeze']} activations at {options['size']} px, "
        "float32, in shuffled batches of 32, against the same files from "
    )
    text += "start to end; MiB/s.\n\n" + table(
        ["page cache", "activations", "plain reads", "share"], rows
    )
    return text + f"\nCopying within memory: {number(speed['memory copy'])} MiB/s.\n"


def growth(one: Result) -> str:
    rows = [
        [str(row["patients"]), str(row["images"]), *_growth_cells(row)] for row in one["cohorts"]
    ]
    head = ["patients", "images"]
    for command in ("prepare", "sweep"):
        head += [
            f"{command}, s",
            "ms an image",
            *(f"{who}, MiB" for who in one["cohorts"][0][command]["mib"]),
        ]
    return (
        f"Start-up is inside the time.\n\n{table(head, rows)}\n"
        f"![growth](results/growth-{one['machine']}.svg)\n"
    )


def _growth_cells(row: Result) -> list[str]:
    cells = []
    for command in ("prepare", "sweep"):
        told = row[command]
        cells += [
            number(told["seconds"]),
            number(1e3 * told["s_per_image"]),
            *(f"{value:.0f}" for value in told["mib"].values()),
        ]
    return cells


def ingest(one: Result) -> str:
    speed, memory = one["speed"], one["memory_mib"]
    others = [
        way
        for way in ("SimpleITK", "pydicom", "nibabel")
        if any(way in rows for rows in speed.values())
    ]
    names = {"dicom": "DICOM series + SEG", "nii.gz": ".nii.gz + .nii.gz"}
    rows = [
        [
            names[kind],
            number(ways["renal-ray"]["cpu_s"]),
            *(
                f"{number(ways[way]['cpu_s'])} ({ways[way]['ratio']:.1f} x)" if way in ways else ""
                for way in others
            ),
        ]
        for kind, ways in speed.items()
    ]
    options = one["options"]
    text = (
        "CPU seconds of one core from a patient's files to the images of all three "
        "datasets, phantom patients with 300 slices of 512 x 512; median of "
    )
    text += (
        f"{options['patients']} patients x {options['repeats']} rounds, "
        "all ways interleaved in one process.\n\n"
    )
    text += table(["from", "renal-ray", *others], rows)
    long = memory["one patient of 430 slices"]
    small = [
        f"{peaks['worker']:.0f} MiB with {who} (driver {peaks['driver']:.0f})"
        for who, peaks in memory.items()
        if "worker" in peaks
    ]
    text += (
        f"\nLargest worker of `prepare`: {long['dicom-seg']:.0f} MiB on a DICOM patient of "
        f"about 430 slices, {long['kits']:.0f} MiB on the same as .nii.gz; on "
    )
    text += (
        f"small patients {', '.join(small)}. A test reads 600 slices of .nii.gz, 1.2 GB "
        "of them a label map in double precision, within 500 MiB.\n"
    )
    return text


def gpu(one: Result) -> str:
    rates = one["matrix_gflops"]
    card = one["card"] or "No card: a trial run on a CPU, whose figures mean nothing"
    text = (
        f"{card}. {one['options']['size']} px, batch {one['options']['batch']}. Matrix products: "
    )
    text += (
        ", ".join(f"{number(value / 1e3)} TFLOP/s in {name}" for name, value in rates.items())
        + ".\n\n"
    )
    ways = list(dict.fromkeys(way for row in one["freeze_points"] for way in row["ways"]))
    rows = [
        [way, *(_gpu_cell(row["ways"].get(way)) for row in one["freeze_points"])] for way in ways
    ]
    text += "ms an image, and the share of the card's matrix rate that 3 x suffix reaches:\n\n"
    text += table(["", *(row["freeze_point"] for row in one["freeze_points"])], rows) + "\n"
    if one["left_out"]:
        text += f"Left out for want of time: {', '.join(one['left_out'])}.\n\n"
    predicted = one["predicted"]
    if predicted["minutes"]:
        text += "Predicted sweep of the paper, without scoring and files:\n\n"
        rows = [
            [name, f"{value:.1f}", number(predicted["ratios"].get(name), " x")]
            for name, value in predicted["minutes"].items()
        ]
        text += table(["", "minutes", "the usual loop over it"], rows) + "\n"
    ours = (
        predicted["minutes"].get("renal-ray, mixed_bfloat16")
        if one["card"] and predicted["whole_grid"]
        else None
    )
    ratio = predicted["ratios"].get("renal-ray, mixed_bfloat16") if ours is not None else None
    return text + goals(_gpu_goals(ratio, ours))


def _gpu_cell(cell: Result | None) -> str:
    return (
        f"{number(1e3 * cell['s_per_image'])} ({percent(cell['share_of_matrix_rate'])})"
        if cell
        else "-"
    )


def _gpu_goals(
    ratio: float | None, minutes: float | None
) -> list[tuple[str, float | None, str, bool]]:
    return [
        (
            "renal-ray in bfloat16, packed, over the usual loop in float32 (asked of an H200)",
            ratio,
            "at least 6 x",
            (ratio or 0) >= 6,
        ),
        (
            "predicted sweep of the paper, minutes (asked of an H200)",
            minutes,
            "under 60",
            minutes is not None and minutes < 60,
        ),
    ]


def gpu_section() -> str:
    text = section("One NVIDIA card", "gpu", "python benchmarks/bench_gpu.py", gpu)
    if not results("gpu"):
        text += "\n" + goals(_gpu_goals(None, None))
    return text


def _of(*told: Any) -> Callable[[], str]:
    return lambda: section(*told)


PARTS: list[Callable[[], str]] = [
    _of(
        "A sweep, whole",
        "sweep_grid_299px",
        "python benchmarks/bench_sweep.py --part grid",
        sweep_grid,
    ),
    _of(
        "The same validation AUC",
        "sweep_grid_75px",
        "python benchmarks/bench_sweep.py --part grid",
        same_auc,
    ),
    _of(
        "A sweep, step by step",
        "sweep_steps",
        "python benchmarks/bench_sweep.py --part steps",
        sweep_steps,
    ),
    gpu_section,
    _of("Overhead of a trial", "overhead", "python benchmarks/bench_overhead.py", overhead),
    _of("Reading activations", "cache", "python benchmarks/bench_cache.py", cache),
    _of("Growth", "growth", "python benchmarks/bench_growth.py", growth),
    _of("A simulated cluster", "sim_cluster", "python benchmarks/sim_cluster.py", sim_cluster),
    _of("Faults", "faults", "make cluster", faults),
    _of("Ten thousand trials", "ledger", "python benchmarks/bench_ledger.py", ledger),
    _of("A hundred thousand patients", "scale", "python benchmarks/bench_scale.py", scale),
    _of("Reading patients", "ingest", "python benchmarks/bench_ingest.py", ingest),
]


if __name__ == "__main__":
    main()
