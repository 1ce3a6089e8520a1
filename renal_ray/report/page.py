"""The report: one self-contained page, its tables as CSV and its figures as SVG and PNG."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from renal_ray.config import Study
from renal_ray.config.strict_yaml import write_yaml
from renal_ray.report import cohort_tables, narrative, paper, tables
from renal_ray.report.attention import Attention, read_attention
from renal_ray.report.canvas import Drawing
from renal_ray.report.checklist import (
    Answer,
    Guideline,
    answer_table,
    answers,
    checklist_page,
    guidelines,
)
from renal_ray.report.checklist_state import Facts
from renal_ray.report.evidence import Evidence, read_evidence
from renal_ray.report.figures import draw_all
from renal_ray.report.narrative import DatasetResult
from renal_ray.report.patients import patient_table
from renal_ray.report.protocol_facts import (
    ABBREVIATIONS,
    protocol_facts,
    provenance_facts,
    rule_words,
)
from renal_ray.report.render import in_page, render
from renal_ray.report.robustness import robustness_drawings, robustness_sentences, robustness_tables
from renal_ray.report.search.sentences import search_sentences
from renal_ray.report.search.tables import search_tables
from renal_ray.report.speed import speed_table
from renal_ray.report.statistics.sections import Statistics, statistics
from renal_ray.report.text import counted, dataset_name, head_name, plus_minus, two, weights_name
from renal_ray.report.trial_table import trial_table
from renal_ray.store.place import Place
from renal_ray.store.seal import FIRST_RULE
from renal_ray.types import Head

if TYPE_CHECKING:
    from renal_ray.report.manuscript.write import Written

PAGE = "report/index.html"
CONTENTS = (
    ("summary", "Summary"),
    ("cohort", "Cohort"),
    ("protocol", "Split and protocol"),
    ("training", "Training"),
    ("validation", "Validation"),
    ("statistics", "Statistics"),
    ("test", "Sealed test"),
    ("patients", "Patients"),
    ("attention", "Attention"),
    ("robustness", "Robustness"),
    ("control", "Negative control"),
    ("search", "Search"),
    ("trials", "Trials"),
    ("checklist", "Checklist"),
    ("provenance", "Versions and seeds"),
)
Answered = list[tuple[Guideline, list[Answer]]]


@dataclass(frozen=True)
class Headline:
    """What the terminal says of a report.

    Args:
        page: where index.html lies.
        datasets: headline numbers of every dataset.
        lines: the same, one line a dataset.
        caveats: what must be known before using them.
        paper: what was written for an article; None where it was not asked for.
    """

    page: str
    datasets: tuple[DatasetResult, ...]
    lines: tuple[str, ...]
    caveats: tuple[str, ...]
    paper: "Written | None" = None


def write_report(study: Study, *, paper: bool = False) -> Headline:
    """Writes report/ from the files of the work directory; the same files give the same bytes.

    Args:
        study: the study as it stands; `work` says where its files are.
        paper: also report/paper/: tables as LaTeX and Word, figures of journal width.

    Returns:
        The headline numbers.

    Raises:
        StudyError: the study was not prepared, or with other settings, or a file is damaged.
    """
    evidence = read_evidence(study)
    work = Place(study.work)
    measured = statistics(evidence)
    seen = read_attention(evidence)
    answered = checklist_answers(evidence, measured, work)
    lists = [answer_table(guideline, answers) for guideline, answers in answered]
    made = {
        table.name: table
        for table in (*all_tables(evidence), *measured.tables(), *seen.tables, *lists)
    }
    drawings = {drawing.name: drawing for drawing in every_drawing(evidence, measured)}
    results = narrative.dataset_results(evidence)
    caveats = tuple(narrative.caveats(evidence))
    unread = (
        (evidence.sources.note,) if evidence.sources.note else ()
    )  # of the machine that writes the page, so no part of it
    html = _html(evidence, measured, made, drawings, results, caveats, answered, seen)
    for folder in ("report/tables", "report/figures"):
        work.remove(folder)  # what can no longer be made must not stay from an earlier run
    for table in made.values():
        work.write(
            f"report/tables/{table.name}.csv",
            table.data.to_csv(index=False, float_format="%.6g", lineterminator="\n").encode(),
        )
    for drawing in drawings.values():
        work.write(f"report/figures/{drawing.name}.svg", drawing.svg)
        work.write(f"report/figures/{drawing.name}.png", drawing.png)
    work.write(PAGE, html.encode())
    written = _paper(work, evidence, measured, made) if paper else None
    return Headline(
        page=work.shown(PAGE),
        datasets=results,
        lines=narrative.terminal_lines(results),
        caveats=(*caveats, *unread),
        paper=written,
    )


def _paper(
    work: Place, evidence: Evidence, measured: Statistics, made: dict[str, tables.Table]
) -> "Written":
    from renal_ray.report.manuscript.write import (
        write_paper,
    )  # python-docx is read only where it is needed

    return write_paper(
        work, evidence.study.name, list(made.values()), lambda: every_drawing(evidence, measured)
    )


def every_drawing(evidence: Evidence, measured: Statistics) -> Iterator[Drawing]:
    """Every figure of the page for which there is something to draw."""
    yield from draw_all(evidence)
    yield from measured.draw()
    yield from robustness_drawings(evidence)


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
        patient_table(evidence),
        cohort_tables.control_table(evidence),
        trial_table(evidence),
        *robustness_tables(evidence),
        *search_tables(evidence.search),
    ]


def checklist_answers(evidence: Evidence, measured: Statistics, work: Place) -> Answered:
    """Every reporting guideline with where this study stands."""
    facts = Facts(evidence, frozenset(work.entries()))
    anchors = {block.anchor for block in (*measured.validation_blocks(), *measured.test_blocks())}
    return [
        (guideline, answers(guideline, facts, dict(CONTENTS), anchors))
        for guideline in guidelines()
    ]


def checklist_document() -> str:
    """docs/reporting-checklist.md."""
    return checklist_page(dict(CONTENTS))


def _html(
    evidence: Evidence,
    measured: Statistics,
    made: dict[str, tables.Table],
    drawings: dict[str, Drawing],
    results: tuple[DatasetResult, ...],
    caveats: tuple[str, ...],
    answered: Answered,
    seen: Attention,
) -> str:
    # Only our own style sheet, script and drawings are marked as safe; every value of the study is
    # escaped.
    return render(
        "template.html",
        study=evidence.study,
        contents=CONTENTS,
        population=narrative.population(evidence),
        cards=[_card(result) for result in results],
        best=list(narrative.best_results(evidence, results)),
        caveats=caveats,
        abbreviations=ABBREVIATIONS,
        tables=made,
        drawings={name: in_page(drawing) for name, drawing in drawings.items()},
        protocol=protocol_facts(evidence),
        openings=[
            {**opening, "rule": rule_words(opening.get("rule", FIRST_RULE))}
            for opening in evidence.test.openings
        ],
        tested=evidence.test.votes is not None and len(evidence.test.votes) > 0,
        statistics=measured.validation_blocks(),
        test_statistics=measured.test_blocks(),
        external=evidence.external,
        attention=seen,
        robustness=robustness_sentences(evidence),
        control=narrative.control_sentence(evidence),
        search=None if evidence.search is None else list(search_sentences(evidence.search)),
        trials_sentence=_trials_sentence(evidence),
        unfinished=evidence.trials.unfinished,
        checklists=answered,
        provenance=provenance_facts(evidence),
        study_yaml=_study_without_paths(evidence.study),
        citation=paper.facts()["source"],
    )


def _card(result: DatasetResult) -> dict[str, Any]:
    image = next(head for head in result.heads if head.head is Head.IMAGE)
    lines = [
        (f"{head_name(head.head)} validation AUC", plus_minus(*head.validation_auc))
        for head in result.heads
        if head.head is not Head.IMAGE
    ]
    for head in result.heads:
        if head.test is not None:
            lines.append((f"{head_name(head.head)} test ACC", two(head.test["acc"])))
    if result.control_aucs:
        lines.append(("Permuted labels AUC", ", ".join(two(auc) for auc in result.control_aucs)))
    return {
        "name": f"{dataset_name(result.dataset)} dataset",
        "auc": plus_minus(*image.validation_auc),
        "folds": counted(image.n_folds, "fold"),
        "frozen": "Frozen up to (provisional)"
        if result.provisional and result.freeze_point
        else "Frozen up to",
        "point": str(result.freeze_point or "none yet"),
        "lines": lines,
    }


def _trials_sentence(evidence: Evidence) -> str:
    trials = evidence.trials
    return (
        f"{counted(len(trials.true), 'finished trial')} on the patients' own "
        f"labels, {len(trials.controls)} on permuted ones, "
        f"{len(trials.repeats)} of repeats, {len(trials.beside)} on other patients for robustness; "
        f"{len(trials.unfinished)} without a result; {trials.set_aside} of other "
        "settings, data, splits or selected freeze points set aside."
    )


def _study_without_paths(study: Study) -> str:
    value = study.model_dump(
        mode="json", exclude={"work": True, "cohort": {"manifest", "dicom", "labels", "kits"}}
    )
    value["weights"] = weights_name(study.weights)
    return write_yaml(value)
