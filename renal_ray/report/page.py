"""The report: one self-contained page, its tables as CSV and its figures as SVG and PNG."""

import re
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import jinja2
import yaml
from markupsafe import Markup, escape

from renal_ray import __version__
from renal_ray.config import Study
from renal_ray.report import cohort_tables, narrative, paper, tables
from renal_ray.report.attention import Attention, read_attention
from renal_ray.report.canvas import Drawing
from renal_ray.report.evidence import Evidence, read_evidence
from renal_ray.report.figures import draw_all
from renal_ray.report.narrative import DatasetResult
from renal_ray.report.protocol_facts import ABBREVIATIONS, protocol_facts, provenance_facts, rule_words
from renal_ray.report.robustness import robustness_drawings, robustness_sentences, robustness_tables
from renal_ray.report.speed import speed_table
from renal_ray.report.text import counted, dataset_name, head_name, moment, plus_minus, two, unbroken, weights_name
from renal_ray.store.place import Place
from renal_ray.store.seal import FIRST_RULE
from renal_ray.types import Head

PAGE = "report/index.html"
CONTENTS = (
    ("summary", "Summary"),
    ("cohort", "Cohort"),
    ("protocol", "Split and protocol"),
    ("training", "Training"),
    ("validation", "Validation"),
    ("test", "Sealed test"),
    ("attention", "Attention"),
    ("robustness", "Robustness"),
    ("control", "Negative control"),
    ("trials", "Trials"),
    ("provenance", "Versions and seeds"),
)


@dataclass(frozen=True)
class Headline:
    """What the terminal says of a report.

    Args:
        page: where index.html lies.
        datasets: headline numbers of every dataset.
        lines: the same, one line a dataset.
        caveats: what must be known before using them.
    """

    page: str
    datasets: tuple[DatasetResult, ...]
    lines: tuple[str, ...]
    caveats: tuple[str, ...]


def write_report(study: Study) -> Headline:
    """Writes report/ from the files of the work directory; the same files give the same bytes.

    Args:
        study: the study as it stands; `work` says where its files are.

    Returns:
        The headline numbers.

    Raises:
        StudyError: the study was not prepared, or with other settings, or a file is damaged.
    """
    evidence = read_evidence(study)
    work = Place(study.work)
    attention = read_attention(evidence)
    made = {table.name: table for table in (*all_tables(evidence), *attention.tables)}
    drawings = {drawing.name: drawing for drawing in (*draw_all(evidence), *robustness_drawings(evidence))}
    results = narrative.dataset_results(evidence)
    caveats = tuple(narrative.caveats(evidence))
    html = _html(evidence, made, drawings, results, caveats, attention)
    for folder in ("report/tables", "report/figures"):
        work.remove(folder)  # what can no longer be made must not stay from an earlier run
    for table in made.values():
        work.write(f"report/tables/{table.name}.csv", table.data.to_csv(index=False, float_format="%.6g", lineterminator="\n").encode())
    for drawing in drawings.values():
        work.write(f"report/figures/{drawing.name}.svg", drawing.svg)
        work.write(f"report/figures/{drawing.name}.png", drawing.png)
    work.write(PAGE, html.encode())
    return Headline(page=work.shown(PAGE), datasets=results, lines=narrative.terminal_lines(results), caveats=caveats)


def all_tables(evidence: Evidence) -> list[tables.Table]:
    """Every table of the page."""
    return [
        cohort_tables.cohort_table(evidence),
        cohort_tables.quarantine_table(evidence),
        cohort_tables.split_table(evidence),
        tables.threshold_table(evidence),
        tables.time_table(evidence),
        speed_table(evidence),
        tables.by_freeze_point(evidence),
        tables.validation_table(evidence),
        tables.test_table(evidence),
        cohort_tables.size_table(evidence),
        cohort_tables.control_table(evidence),
        *robustness_tables(evidence),
    ]


def _html(
    evidence: Evidence,
    made: dict[str, tables.Table],
    drawings: dict[str, Drawing],
    results: tuple[DatasetResult, ...],
    caveats: tuple[str, ...],
    attention: Attention,
) -> str:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, loader=jinja2.FunctionLoader(_file), keep_trailing_newline=True)
    environment.filters |= {"commands": _commands, "moment": moment, "unbroken": unbroken}
    # Only our own style sheet and our own drawings are marked as safe; every value of the study is escaped.
    return environment.get_template("template.html").render(
        study=evidence.study,
        program=f"renal-ray {__version__}",
        css=Markup(_file("style.css") + _file("attention.css")),
        contents=CONTENTS,
        population=narrative.population(evidence),
        cards=[_card(result) for result in results],
        best=list(narrative.best_results(evidence, results)),
        caveats=caveats,
        abbreviations=ABBREVIATIONS,
        tables=made,
        drawings={name: _inline(drawing) for name, drawing in drawings.items()},
        protocol=protocol_facts(evidence),
        openings=[{**opening, "rule": rule_words(opening.get("rule", FIRST_RULE))} for opening in evidence.test.openings],
        tested=evidence.test.votes is not None and len(evidence.test.votes) > 0,
        attention=attention,
        robustness=robustness_sentences(evidence),
        control=narrative.control_sentence(evidence),
        trials_sentence=_trials_sentence(evidence),
        unfinished=evidence.trials.unfinished,
        provenance=provenance_facts(evidence),
        study_yaml=_study_without_paths(evidence.study),
        citation=paper.facts()["source"],
    )


@dataclass(frozen=True)
class _Inline:
    inline: Markup
    title: str
    rest: str


def _inline(drawing: Drawing) -> _Inline:
    """A drawing and its caption: number and first sentence, then the rest."""
    number, title, rest = drawing.caption.split(". ", 2)
    return _Inline(inline=Markup(drawing.inline), title=f"{number}. {title}", rest=rest)


def _commands(sentence: str) -> Markup:
    """A sentence, escaped, with what stands in back quotes set as code."""
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(sentence))))


def _card(result: DatasetResult) -> dict[str, Any]:
    image = next(head for head in result.heads if head.head is Head.IMAGE)
    lines = [(f"{head_name(head.head)} validation AUC", plus_minus(*head.validation_auc)) for head in result.heads if head.head is not Head.IMAGE]
    for head in result.heads:
        if head.test is not None:
            lines.append((f"{head_name(head.head)} test ACC", two(head.test["acc"])))
    if result.control_aucs:
        lines.append(("Permuted labels AUC", ", ".join(two(auc) for auc in result.control_aucs)))
    return {
        "name": f"{dataset_name(result.dataset)} dataset",
        "auc": plus_minus(*image.validation_auc),
        "folds": counted(image.n_folds, "fold"),
        "frozen": "Frozen up to (provisional)" if result.provisional and result.freeze_point else "Frozen up to",
        "point": str(result.freeze_point or "none yet"),
        "lines": lines,
    }


def _trials_sentence(evidence: Evidence) -> str:
    trials = evidence.trials
    return (
        f"{counted(len(trials.true), 'finished trial')} on the patients' own labels, {len(trials.controls)} on permuted ones, "
        f"{len(trials.repeats)} of repeats, {len(trials.beside)} on other patients for robustness; "
        f"{len(trials.unfinished)} without a result; {trials.set_aside} of other settings, data, splits or selected freeze points set aside."
    )


def _study_without_paths(study: Study) -> str:
    value = study.model_dump(mode="json", exclude={"work": True, "cohort": {"manifest", "dicom", "labels", "kits"}})
    value["weights"] = weights_name(study.weights)
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=120)


def _file(name: str) -> str:
    return files("renal_ray.report").joinpath(name).read_text(encoding="utf-8")
