"""The items of the reporting guidelines, each with its place in the report, in the work directory,
or with the authors."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import pandas as pd
import yaml

from renal_ray.report.checklist_state import STATES, Facts, State
from renal_ray.report.tables import Row, Table

PARTS = {
    "statistics/intervals": "Intervals",
    "statistics/comparisons": "Comparisons",
    "statistics/calibration-section": "Calibration and decision curves",
    "statistics/threshold-rules": "Thresholds",
    "statistics/subgroup-section": "Subgroups",
    "test/test-uncertainty": "How certain the test is",
    "test/test-voters": "The voters",
    "test/test-comparisons": "Comparisons of the votes",
}
MET, LACKING = "✓", "○"
AUTHORS = "authors write"


@dataclass(frozen=True)
class Item:
    """One item of a guideline.

    Args:
        item: its number, with the letter of a part.
        topic: section of the article it belongs to.
        asks: what it asks for, in our words.
        places: sections of the report, or section/part, that answer it.
        files: files of the work directory that answer it.
        authors: what only the authors can write; empty where nothing is left to them.
        state: name of the function that says where a study stands; empty where the program cannot
            say.
    """

    item: str
    topic: str
    asks: str
    places: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    authors: str = ""
    state: str = ""

    @property
    def by_authors_alone(self) -> bool:
        """Whether neither report nor work directory answers any of it."""
        return not self.places and not self.files


@dataclass(frozen=True)
class Guideline:
    """A reporting guideline.

    Args:
        name: short name.
        key: its anchor and file name.
        title: what the name stands for.
        source: where it was published.
        count: number of its items, parts of an item not counted.
        items: its items with their parts.
    """

    name: str
    key: str
    title: str
    source: str
    count: int
    items: tuple[Item, ...]


@dataclass(frozen=True)
class Answer:
    """An item as the report of one study shows it.

    Args:
        item: the item.
        links: anchor on the page and name of each place.
        state: where the study stands; None where the program cannot say.
    """

    item: Item
    links: tuple[tuple[str, str], ...]
    state: State | None

    @property
    def mark(self) -> str:
        """A sign for the state; empty where there is none."""
        return "" if self.state is None else MET if self.state.met else LACKING

    @property
    def said(self) -> str:
        """The state as text, with its sign."""
        return f"{self.mark} {self.state.said}" if self.state else ""


@cache
def guidelines() -> tuple[Guideline, ...]:
    """CLAIM 2024, TRIPOD+AI and STARD 2015 as in checklist.yaml."""
    read = yaml.safe_load(
        files("renal_ray.report").joinpath("checklist.yaml").read_text(encoding="utf-8")
    )
    return tuple(
        Guideline(**{**one, "items": tuple(_item(item) for item in one["items"])}) for one in read
    )


def _item(given: Mapping[str, str | list[str]]) -> Item:
    fields = {
        name: tuple(value) if isinstance(value, list) else value for name, value in given.items()
    }
    return Item(**fields)  # type: ignore[arg-type]


def answers(
    guideline: Guideline, facts: Facts, contents: Mapping[str, str], anchors: Collection[str]
) -> list[Answer]:
    """Every item of a guideline for one study.

    Args:
        guideline: the guideline.
        facts: what the study's states are read from.
        contents: anchor of each section -> its name.
        anchors: parts of sections that are on the page; a link to a part that is not leads to its
            section.
    """
    known = {name: STATES[name](facts) for name in {item.state for item in guideline.items} - {""}}
    return [
        Answer(
            item,
            tuple(_link(place, contents, anchors) for place in item.places),
            known.get(item.state),
        )
        for item in guideline.items
    ]


def _link(place: str, contents: Mapping[str, str], anchors: Collection[str]) -> tuple[str, str]:
    section, _, part = place.partition("/")
    return (part if part in anchors else section), place_name(place, contents)


def place_name(place: str, contents: Mapping[str, str]) -> str:
    """A place as a reader is told it: Statistics: intervals."""
    section, _, part = place.partition("/")
    return f"{contents[section]}: {PARTS[place].lower()}" if part else contents[section]


def answer_table(guideline: Guideline, answered: list[Answer]) -> Table:
    """The filled list of one guideline, for CSV and for the supplement of an article."""
    rows, data = [], []
    for answer in answered:
        item = answer.item
        where = "; ".join((*(name for _, name in answer.links), *item.files))
        left = f"{AUTHORS}: {item.authors}" if item.authors else ""
        rows.append(Row((item.item, item.topic, item.asks, where, left, answer.said)))
        data.append(
            {
                "item": item.item,
                "topic": item.topic,
                "asks": item.asks,
                "where": where,
                "authors": item.authors,
                "state": answer.said,
            }
        )
    return Table(
        name=f"checklist-{guideline.key}",
        title=f"{guideline.name}: where the items are answered",
        columns=("Item", "Topic", "Asks for", "Where", "Authors", "This study"),
        rows=tuple(rows),
        data=pd.DataFrame(data),
        notes=(
            (
                f"{guideline.title}. {guideline.source}. Items in our "
                "words: the guideline's own text decides."
            ),
        ),
        left=6,
    )


def checklist_page(contents: Mapping[str, str]) -> str:
    """docs/reporting-checklist.md: every item and its place, in Markdown.

    Args:
        contents: anchor of each section of the report -> its name.
    """
    lines = [
        "# Reporting checklist",
        "",
        (
            "Where the items of three reporting guidelines are answered: in a section of the "
            "report, in a file of the work directory, or by the authors. The"
        ),
        (
            "report of a study holds the same lists under *Checklist*, with links and with "
            "where that study stands. Items are in our own words: fill in the"
        ),
        "guideline's own form for a journal. Written by `make checklist`.",
    ]
    for guideline in guidelines():
        alone = sum(item.by_authors_alone for item in guideline.items)
        lines += ["", f"## {guideline.name}", "", f"{guideline.title}. {guideline.source}.", ""]
        lines += [
            (
                f"{guideline.count} items, {len(guideline.items)} with their "
                f"parts; {alone} are the authors' alone."
            ),
            "",
        ]
        lines += [
            "| item | topic | asks for | report | files | authors write |",
            "|---|---|---|---|---|---|",
        ]
        for item in guideline.items:
            places = ", ".join(place_name(place, contents) for place in item.places)
            named = " ".join(f"`{name}`" for name in item.files)
            lines.append(
                f"| {item.item} | {item.topic} | {item.asks} | "
                f"{places} | {named} | {item.authors} |"
            )
    return "\n".join(lines) + "\n"
