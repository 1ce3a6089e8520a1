"""How the page of the benchmarks says things: sections, tables, numbers, goals."""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
UNSAID = {"folder", "bare", "part"}  # places, and what the command says already
Result = dict[str, Any]


def results(name: str) -> list[Result]:
    """All machines' results of a benchmark."""
    return [
        json.loads(file.read_text(encoding="utf-8"))
        for file in sorted(RESULTS.glob(f"{name}-*.json"))
    ]


def section(title: str, name: str, command: str, write: Callable[[Result], str]) -> str:
    """One benchmark: for each machine how to repeat it and what it gave."""
    told = [
        f"    {command}{_flags(one['options'])}\n\n{_machine(one)}\n\n{write(one)}"
        for one in results(name)
    ]
    return f"## {title}\n\n" + "\n".join(told or [f"    {command}\n\nNot measured.\n"])


def _flags(options: dict[str, Any]) -> str:
    """Options as they are typed, the defaults too: they may change."""
    text = ""
    for name, value in options.items():
        if name in UNSAID or value is None or value is False:
            continue
        values = value if isinstance(value, list) else [] if value is True else [value]
        text += " ".join((f" --{name.replace('_', '-')}", *map(str, values)))
    return text


def _machine(one: Result) -> str:
    versions = ", ".join(f"{name} {value}" for name, value in one["versions"].items())
    return f"{one['machine']}, Python {one['python']}, {versions}."


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def goals(rows: Iterable[tuple[str, float | None, str, bool]]) -> str:
    """Goals beside figures.

    Args:
        rows: what, the figure (None: not measured), the goal in words, whether it is met.
    """
    return table(
        ["goal", "figure", ""],
        [
            [
                f"{what}: {goal}",
                "not measured" if value is None else number(value),
                "" if value is None else _met(met),
            ]
            for what, value, goal, met in rows
        ],
    )


def _met(met: bool) -> str:
    return "met" if met else "**not met**"


def number(value: float | None, unit: str = "") -> str:
    """Three digits that matter."""
    if value is None:
        return "-"
    digits = (
        0
        if abs(value) >= 100
        else 1
        if abs(value) >= 10
        else 2
        if abs(value) >= 1
        else 3
        if abs(value) >= 0.1
        else 4
    )
    return f"{value:,.{digits}f}{unit}"


def percent(value: float) -> str:
    return f"{100 * value:.0f} %"
