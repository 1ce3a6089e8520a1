"""The reporting guidelines: complete, in the document as in the data, and linked to places that
exist."""

import re
from pathlib import Path

import pandas as pd
import pytest
from test_report_trials import Synthetic, study_at

from renal_ray.config import Heads
from renal_ray.problems import StudyError
from renal_ray.report import page
from renal_ray.report.checklist import PARTS, guidelines
from renal_ray.report.checklist_state import STATES
from renal_ray.report.page import CONTENTS, checklist_document, write_report
from renal_ray.types import Dataset, Head

REPOSITORY = Path(__file__).resolve().parent.parent
SUBITEMS = {"claim": 44, "tripod-ai": 52, "stard": 34}


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch) -> None:
    """Drawing is most of the time of a report, and no checklist links to a drawing."""
    monkeypatch.setattr(page, "draw_all", lambda evidence: iter(()))
    monkeypatch.setattr(page.Statistics, "draw", lambda measured: iter(()))


def test_the_document_is_what_the_data_says():
    assert (REPOSITORY / "docs/reporting-checklist.md").read_text(
        encoding="utf-8"
    ) == checklist_document()  # make checklist


def test_every_item_is_there_once_and_in_order():
    assert {guideline.key: guideline.count for guideline in guidelines()} == {
        "claim": 44,
        "tripod-ai": 27,
        "stard": 30,
    }
    for guideline in guidelines():
        numbers = [item.item for item in guideline.items]
        assert len(set(numbers)) == len(numbers) == SUBITEMS[guideline.key]
        assert list(dict.fromkeys(int(re.match(r"\d+", number)[0]) for number in numbers)) == list(
            range(1, guideline.count + 1)
        )
        for whole in {number.rstrip("abcdefg") for number in numbers if not number.isdigit()}:
            parts = [number for number in numbers if number.rstrip("abcdefg") == whole]
            assert parts == [f"{whole}{letter}" for letter in "abcdefg"[: len(parts)]]
            assert len(parts) > 1


def test_every_item_has_a_place_or_the_authors():
    for item in (item for guideline in guidelines() for item in guideline.items):
        assert item.places or item.files or item.authors, item
        assert not item.state or item.state in STATES, item
        assert item.asks
        assert item.topic
    assert set(STATES) == {item.state for guideline in guidelines() for item in guideline.items} - {
        ""
    }


def places(html: str) -> dict[str, str]:
    """Anchor -> title of every section and part of one."""
    return {
        anchor: re.sub(r"<[^>]+>", "", title)
        for anchor, title in re.findall(r'<(?:section id="([^"]+)">\s*<h2)>([^<]+)<', html)
    } | dict(re.findall(r'<h3 id="([^"]+)">([^<]+)</h3>', html))


def listed_in(html: str) -> str:
    return re.search(r'<section id="checklist">.*?</section>', html, re.DOTALL)[0]


def row_of(html: str, guideline: str, item: str) -> str:
    table = re.search(rf'id="checklist-{guideline}".*?</figure>', html, re.DOTALL)[0]
    return re.search(rf'<tr><td class="left">{item}</td>.*?</tr>', table, re.DOTALL)[0]


@pytest.fixture
def finished(tmp_path) -> tuple[Synthetic, str]:
    made = Synthetic(study_at(tmp_path))
    made.train()
    made.control([Dataset.ROI])
    made.test(openings=2)
    write_report(made.study)
    return made, (tmp_path / "report/index.html").read_text(encoding="utf-8")


def test_every_place_exists_under_the_name_that_the_list_gives_it(finished):
    _, html = finished
    there = places(html)
    for guideline in guidelines():
        for place in {place for item in guideline.items for place in item.places}:
            section, _, part = place.partition("/")
            assert there[section] == dict(CONTENTS)[section]
            if part:
                assert there[part] == PARTS[place]
    links = re.findall(r'<a href="#([^"]+)"', listed_in(html))
    assert set(links) <= set(there)
    assert {part.partition("/")[2] for part in PARTS} <= set(links)


def test_the_states_are_those_of_this_study(finished):
    made, html = finished
    malignant = sum(made.splits.labels[patient] for patient in made.splits.test)
    assert f"✓ 12 test patients, {malignant} malignant; the seal was opened 2 times." in row_of(
        html, "claim", "37"
    )
    assert "✓ Run: permuted labels (AUC 0.4" in row_of(
        html, "claim", "30"
    ) or "✓ Run: permuted labels (AUC 0.5" in row_of(html, "claim", "30")
    assert "○ No external cohort: the sealed patients" in row_of(html, "claim", "33")
    assert "○ The manifest names no scanner." in row_of(html, "claim", "13")
    assert "✓ 60 patients kept; 1 left out" in row_of(html, "stard", "19")
    table = pd.read_csv(Path(made.study.work) / "report/tables/by-patient.csv")
    wrong = table[~table["right"]]["patient_id"].nunique()
    assert f"✓ {wrong} of 60 patients were misjudged" in row_of(html, "claim", "39")


def test_what_is_said_of_table_1_stands_in_table_1(finished):
    """Every characteristic that the list names is a row of the page's first table, and none that is
    not."""
    made, html = finished
    said = re.search(
        r"✓ Table 1 shows all patients: ([^.]+)\.", row_of(html, "tripod-ai", "20b")
    ).group(1)
    named = {name.strip() for part in said.split(",") for name in part.split(" and ")}
    table = html[
        html.index("Table 1. Patients") : html.index("</table>", html.index("Table 1. Patients"))
    ].casefold()
    assert all(name in table for name in named)
    printed = pd.read_csv(Path(made.study.work) / "report/tables/table1-cohort.csv")[
        "characteristic"
    ]
    assert named == {name.partition(" (")[0] for name in printed[1:]}
    for absent in ("stage", "grade", "scanner"):
        assert absent not in table
        assert absent not in row_of(html, "tripod-ai", "20b")


def test_what_no_page_prints_is_not_ticked(finished):
    _, html = finished
    assert "○ Table 1 shows all patients:" in row_of(html, "claim", "36")
    assert "It does not part training and test patients" in row_of(html, "claim", "36")
    assert "○ No result can be indeterminate" in row_of(html, "stard", "15")


def test_an_external_cohort_counts_and_is_linked(finished):
    made, _ = finished
    work = Path(made.study.work)
    (work / "external/north & south").mkdir(parents=True)
    pd.DataFrame({"patient_id": ["a", "b", "b"]}).to_parquet(
        work / "external/north & south/votes.parquet"
    )
    (work / "external/begun").mkdir()
    write_report(made.study)
    html = (work / "report/index.html").read_text(encoding="utf-8")
    assert "✓ Tested on north &amp; south (2 patients); each has a report of its own." in row_of(
        html, "claim", "33"
    )
    assert '<a href="../external/north%20%26%20south/report/index.html">' in html
    assert "external/begun" not in html


def test_what_a_study_lacks_is_said(tmp_path):
    made = Synthetic(study_at(tmp_path, heads=Heads(use=[Head.IMAGE])))
    write_report(made.study)
    html = (tmp_path / "report/index.html").read_text(encoding="utf-8")
    assert set(re.findall(r'<a href="#([^"]+)"', listed_in(html))) <= set(
        places(html)
    )  # no part of a section without trials
    assert "○ The seal is closed: there is no test result yet." in row_of(html, "stard", "24")
    assert "○ None was run: no permuted labels" in row_of(html, "claim", "30")
    assert "○ 20 folds still to train, 0 begun without a result." in row_of(html, "claim", "25")
    assert "○ No attention maps were made" in row_of(html, "claim", "31")
    (tmp_path / "explain").mkdir()
    (tmp_path / "explain/maps.txt").write_text("x", encoding="utf-8")
    write_report(made.study)
    assert "✓ Attention maps" in row_of(
        (tmp_path / "report/index.html").read_text(encoding="utf-8"), "claim", "31"
    )
    filled = pd.read_csv(tmp_path / "report/tables/checklist-tripod-ai.csv", dtype=str)
    assert len(filled) == 52
    assert filled.set_index("item").loc["23a", "state"].startswith("○ The seal is closed")


def test_a_study_that_cannot_be_read_writes_no_list(tmp_path):
    with pytest.raises(StudyError, match="prepare"):
        write_report(study_at(tmp_path))
    assert not (tmp_path / "report").exists()
