"""The report on an external cohort: one page beside the predictions that it is made of."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd
from markupsafe import Markup

from renal_ray import __version__
from renal_ray.apply.chosen import Run
from renal_ray.apply.external.cohort import Read
from renal_ray.apply.external.figures import curves
from renal_ray.apply.external.numbers import Result, results
from renal_ray.apply.page import style, template
from renal_ray.cohort.summary import table_one
from renal_ray.protocol.metrics import METRICS
from renal_ray.report.text import (
    DASH,
    METRIC_NAMES,
    dataset_name,
    head_name,
    level_name,
    moment,
    two,
)
from renal_ray.store.place import Place

PAGE = "report/index.html"


def write_page(run: Run, name: str, place: Place, read: Read) -> tuple[str, tuple[str, ...]]:
    """Writes report/index.html of an external cohort from its files; the same files give the same
    bytes.

    Args:
        run: whose models were tested.
        name: of the cohort.
        place: with votes.parquet and seal.jsonl.
        read: the cohort.

    Returns:
        Where the page lies, and the result in lines for a terminal.
    """
    found = list(results(place.read_parquet("votes.parquet"), run.study))
    openings = [json.loads(line) for line in place.read("seal.jsonl").decode().splitlines()]
    training = run.work.read_parquet("cohort.parquet")
    training = training[training["patient_id"].isin(run.plan.splits.training)].reset_index(
        drop=True
    )
    drawing = curves(found, name)
    number, title, rest = drawing.caption.split(". ", 2)
    page = template("external/page.html").render(
        css=style(),
        name=name,
        study=run.study.name,
        program=f"renal-ray {__version__}",
        n=len(read.cohort),
        malignant=sum(read.labels.values()),
        openings=[{**one, "opened": moment(one["opened"])} for one in openings],
        population=list(_population(training, read.cohort)),
        metrics=[{"name": METRIC_NAMES[metric], "key": metric} for metric in METRICS],
        rows=[_row(one) for one in found],
        figure=Markup(drawing.inline),
        figure_title=f"{number}. {title}.",
        figure_rest=rest,
        twins=read.twins,
        compared=read.compared,
        left_out=[one for one in read.found if one.left_out],
        warnings=[one for one in read.found if not one.left_out],
    )
    place.write(PAGE, page.encode())
    table = pd.DataFrame([_numbers(one) for one in found])
    place.write(
        "report/results.csv",
        table.to_csv(index=False, float_format="%.6g", lineterminator="\n").encode(),
    )
    return place.shown(PAGE), tuple(_headline(found))


def _population(
    training: pd.DataFrame, external: pd.DataFrame
) -> Iterator[tuple[str, str, str, str, str]]:
    """Characteristic, then benign and malignant of the study's training patients and of the
    external ones."""
    ours, theirs = (
        {(row.characteristic, row.level): row for row in table_one(table).itertuples()}
        for table in (training, external)
    )
    for characteristic, level in dict.fromkeys([*ours, *theirs]):
        cells = [
            getattr(rows.get((characteristic, level)), column, DASH)
            for rows in (ours, theirs)
            for column in ("benign", "malignant")
        ]
        name = (
            characteristic[:1].upper()
            + characteristic[1:]
            + (f": {level_name(level)}" if level else "")
        )
        yield name, cells[0], cells[1], cells[2], cells[3]


def _row(one: Result) -> dict[str, Any]:
    """A row of the tables, in words."""
    line = one.line
    slope, intercept = (
        f"{two(part.value)} ({two(part.lower)} to {two(part.upper)})" if part else DASH
        for part in (line.slope, line.in_the_large)
    )
    return {
        "model": f"{dataset_name(one.dataset)}, {head_name(one.head)}",
        "point": one.freeze_point,
        "cells": {
            metric: (two(one.estimates[metric].value), one.estimates[metric].interval or DASH)
            for metric in METRICS
        },
        "counts": (one.confusion.tp, one.confusion.fn, one.confusion.fp, one.confusion.tn),
        "calibration": (two(one.brier, 3), two(one.ece, 3), slope, intercept),
        "problem": line.problem or "",
    }


def _numbers(one: Result) -> dict[str, Any]:
    values: dict[str, Any] = {
        "dataset": one.dataset,
        "freeze_point": one.freeze_point,
        "head": one.head,
        "patients": one.n,
        "malignant": one.malignant,
    }
    for metric in METRICS:
        values |= one.estimates[metric].columns(metric)
    counts = one.confusion
    return values | {
        "tp": counts.tp,
        "fn": counts.fn,
        "fp": counts.fp,
        "tn": counts.tn,
        "brier": one.brier,
        "ece": one.ece,
    }


def _headline(found: Sequence[Result]) -> Iterator[str]:
    """The result in lines for a terminal."""
    for one in found:
        yield (
            f"{one.dataset} {one.head}: AUC {one.estimates['auc'].words}, "
            f"ACC {two(one.estimates['acc'].value)}"
        )
