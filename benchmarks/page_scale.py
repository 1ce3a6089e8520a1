"""The page's sections on many nodes, many trials and many patients."""

from collections.abc import Callable, Sequence

from wording import Result, goals, number, percent, table

Rows = Sequence[Result]


def sim_cluster(one: Result) -> str:
    text = (
        "The searcher and the packing are the real ones; nodes, workers and trials an event "
        "model, in which workers are reused as Tune reuses them. Nodes of "
        f"{one['per_node']} cards; trial times from the measured steps above, the paper's "
        "cohort and epochs; 8 s to start a worker, 11 to 17 s to compile, a "
        "checkpoint every 10 minutes. Makespan over the ideal: the largest of all work over "
        "all cards, the longest chain of an image trial and what waits for "
        "its selection, and the first selection followed by the rest over all "
        "cards; without start-up, compilation or loss.\n\n"
    )
    slow = [row for row in one["rows"] if row["faster"] == 1]
    fast = [row for row in one["rows"] if row["faster"] != 1]
    text += (
        "Nodes that die return after ten minutes; mean (worst) of the draws:\n\n"
        + _grid(_returning(slow))
        + "\n"
    )
    text += (
        "Trials that had lost a node three times or more, mean of the draws; a limit of three "
        "attempts that does not look at progress would give them up:\n\n"
    )
    text += _given_up(_returning(slow)) + "\n"
    text += _without_checkpoints(slow) + "\n"
    text += _never(slow) + "\n"
    if fast:
        text += (
            f"The same on cards {fast[0]['faster']:g} times as fast, where the paper's 75 trials "
            f"take {_hours(fast)} h on one of them and start-up weighs; in "
        )
        text += (
            "brackets over an ideal in which every worker starts and compiles once:\n\n"
            + _starting(_returning(fast))
            + "\n"
        )
    mean = [row["scheduler_ms"]["mean"] for row in one["rows"]]
    longest = max(row["scheduler_ms"]["longest"] for row in one["rows"]) / 1e3
    text += (
        f"Real time of an answer of the searcher: {number(sorted(mean)[len(mean) // 2])} ms in "
        f"the median sweep, {number(max(mean))} ms in the slowest, beside "
    )
    text += (
        f"other work on the machine; the longest was {number(longest)} s: naming "
        "all controls of a dataset, once in a sweep.\n\n"
    )
    return text + goals(_goals(_returning(slow)))


def _returning(rows: Rows) -> Rows:
    return [row for row in rows if row["back_s"] is not None and row["checkpoints"]]


def _cells(rows: Rows, tell: Callable[[Result], str]) -> str:
    """Trials and failures down, cards across."""
    gpus = sorted({row["gpus"] for row in rows})
    lines = []
    for trials in sorted({row["trials"] for row in rows}):
        for failures in sorted({row["failures_percent"] for row in rows}):
            found = {
                row["gpus"]: row
                for row in rows
                if row["trials"] == trials and row["failures_percent"] == failures
            }
            lines.append([f"{trials:,}", f"{failures:g} %", *(tell(found[one]) for one in gpus)])
    return table(
        [
            "trials",
            "nodes lost an hour",
            *(f"{one} cards" if one > 1 else "1 card" for one in gpus),
        ],
        lines,
    )


def _grid(rows: Rows) -> str:
    return _cells(
        rows,
        lambda row: (
            f"{row['ratio']:.3f} ({row['worst']:.3f})"
            if row["failures_percent"]
            else f"{row['ratio']:.3f}"
        ),
    )


def _starting(rows: Rows) -> str:
    return _cells(rows, lambda row: f"{row['ratio']:.2f} ({row['started']:.2f})")


def _given_up(rows: Rows) -> str:
    return _cells(
        [row for row in rows if row["failures_percent"]],
        lambda row: f"{row['lost_attempts_times']:g} of {row['losses']:,.0f} losses",
    )


def _without_checkpoints(rows: Rows) -> str:
    bare = [row for row in rows if not row["checkpoints"]]
    if not bare:
        return ""
    least = [row for row in bare if row["trials"] == min(one["trials"] for one in bare)]
    told = ", ".join(f"{row['ratio']:.2f} ({row['gpus']})" for row in least)
    return (
        f"Without checkpoints, {least[0]['trials']} trials, "
        f"{bare[0]['failures_percent']:g} % of the nodes lost an hour, by cards: "
        f"{told}.\n"
    )


def _never(rows: Rows) -> str:
    """Nodes that do not come back."""
    gone = [row for row in rows if row["back_s"] is None]
    told = [
        [
            f"{row['trials']:,}",
            f"{row['failures_percent']:g} %",
            str(row["gpus"]),
            number(row["ratio"]),
            percent(row["useful_share"]),
            str(row["unfinished"]),
        ]
        for row in gone
        if row["ratio"] is not None
    ]
    head = [
        "trials",
        "nodes lost an hour",
        "cards",
        "over the ideal of all cards",
        "useful share of the card hours that were there",
        "draws that no node survived",
    ]
    return (
        (
            "Nodes that never return, where at least one draw came to "
            f"its end (of {len(gone)} cells):\n\n"
        )
        + table(head, told)
        if told
        else ""
    )


def _hours(rows: Rows) -> str:
    return number(next(row["ideal_h"] for row in rows if row["gpus"] == 1))


def _goals(rows: Rows) -> list[tuple[str, float | None, str, bool]]:
    still = max((row["ratio"] for row in rows if not row["failures_percent"]), default=None)
    five = max((row["worst"] for row in rows if row["failures_percent"] == 5), default=None)
    return [
        (
            "makespan over the ideal without failures, the worst cell",
            still,
            "at most 1.1 x",
            still is not None and still <= 1.1,
        ),
        (
            "with 5 % of the nodes lost an hour, the worst draw of the worst cell",
            five,
            "at most 1.25 x",
            five is not None and five <= 1.25,
        ),
    ]


def ledger(one: Result) -> str:
    figures = one["figures"]
    text = (
        f"A work directory with {one['trials']:,} trials; the shortest of "
        f"{one['options']['rounds']} rounds, seconds (of CPU). Status and resume stand beside "
    )
    text += (
        "plain reading of every result.json; resume is everything from the plan to the "
        "first trial that is named. The machine had other work: its wall "
    )
    text += "time says more of that than of this.\n\n"
    names = list(next(iter(figures.values())))
    text += table(
        ["", *figures],
        [
            [
                name,
                *(
                    f"{number(taken[name]['wall_s'])} ({number(taken[name]['cpu_s'])})"
                    for taken in figures.values()
                ),
            ]
            for name in names
        ],
    )
    worst = {name: max(taken[name]["cpu_s"] for taken in figures.values()) for name in names}
    return (
        text
        + "\n"
        + goals(
            [
                (
                    "`renal-ray status` beside the start of the interpreter and its imports, CPU s",
                    worst["status"],
                    "under 2",
                    worst["status"] < 2,
                ),
                ("resume, CPU s", worst["resume"], "under 5", worst["resume"] < 5),
            ]
        )
    )


def scale(one: Result) -> str:
    rows, kinds = one["rows"], one["bytes"]
    text = (
        f"Tables of the right length, no pixels; about {one['options']['slices']} slices "
        "a patient; CPU seconds. What follows from it stands in "
    )
    text += "[docs/scaling.md](../docs/scaling.md).\n\n"
    head = ["", *(f"{row['patients']:,} patients" for row in rows)]
    lines = [[name, *(number(row["seconds"][name]) for row in rows)] for name in rows[0]["seconds"]]
    lines += [
        [f"{name}, MB", *(number(row["bytes"][name] / 1e6) for row in rows)]
        for name in rows[0]["bytes"]
    ]
    for name, key in (
        ("driver, MiB for plan and tables", "driver_mib"),
        ("worker, MiB for one feed without images", "worker_mib"),
    ):
        lines.append([name, *(number(row[key]) for row in rows)])
    lines.append(["order of an epoch, MB", *(number(row["order_mb"]) for row in rows)])
    lines.append(
        [
            "activation files of a set (file handles held)",
            *(f"{row['activation_files']:,} ({row['handles_held']})" for row in rows),
        ]
    )
    text += table(head, lines) + "\nMB of one patient in one dataset:\n\n"
    return text + table(
        ["", "MB"],
        [
            [f"{name}, {form}", number(value)]
            for name, forms in kinds.items()
            for form, value in forms.items()
        ],
    )


def faults(one: Result) -> str:
    text = (
        f"A study of {one['trials']} trials on a head and two nodes with a CPU each, in "
        "network namespaces of one machine; a checkpoint every second. "
    )
    text += (
        "Seconds are those of all commands until the study was finished; undisturbed "
        f"{number(one['undisturbed_s'])} s. Each sweep then says what the "
    )
    text += "undisturbed one says, to the last bit of its weights.\n\n"
    rows = [
        [row["fault"], str(row["commands"]), number(row["seconds"]), f"{row['lost_s']:+.0f}"]
        for row in one["faults"]
    ]
    return text + table(["fault", "commands", "s", "lost, s"], rows)
