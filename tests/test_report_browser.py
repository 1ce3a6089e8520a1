"""The report in a real browser, at a desk, on a phone and on paper."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Page, browsing
from test_report_trials import HOSTILE, Synthetic, study_at

from renal_ray.report import canvas
from renal_ray.report.page import CONTENTS, write_report

WIDTHS = (1280, 375)
COLUMN = """[...document.querySelectorAll('#by-patient tbody tr')]
  .filter(row => !row.hidden).map(row => row.cells[{column}].textContent)"""


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    work = tmp_path_factory.mktemp("work")
    made = Synthetic(study_at(work))
    made.train()
    made.control()
    made.test()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(canvas, "PNG_DPI", 40)
        write_report(made.study)
    return work / "report/index.html"


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Iterator[Page]:
    with browsing(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wider_than_the_window_and_nothing_goes_wrong(page, report, width):
    page.open(report, width=width)
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.errors == []
    assert [address for address in page.loads if not address.startswith("data:image/")] == [
        report.as_uri()
    ]
    outside = (
        "[...document.querySelectorAll('main table, main svg, main p, main "
        "pre')].filter(one => !one.closest('.scroll') && one.scrollWidth > innerWidth)"
    )
    assert page.evaluate(f"{outside}.length") == 0
    assert page.evaluate(
        "[...document.querySelectorAll('.scroll')].every(one => "
        "getComputedStyle(one).overflowX === 'auto')"
    )


def test_what_is_hostile_stays_text(page, report):
    page.open(report, width=1280)
    assert page.evaluate("document.scripts.length") == 1
    assert HOSTILE in page.evaluate("document.querySelector('#quarantine').textContent")
    assert (
        page.evaluate(
            "(() => { try { const s = document.createElement('script'); s.textContent = "
            "'window.ran = 1'; document.body.append(s); } catch {} })()"
        )
        is None
    )
    assert page.evaluate("window.ran") is None  # the page's own policy refuses any other script
    assert any("Content Security Policy" in error for error in page.errors)


def test_a_click_or_a_key_sorts_a_table(page, report):
    page.open(report, width=1280)
    as_written = page.evaluate(COLUMN.format(column=3))
    press = "document.querySelectorAll('#by-patient th button')[3]"
    state = "document.querySelectorAll('#by-patient th')[3].getAttribute('aria-sort')"
    page.evaluate("document.querySelector('#by-patient details').open = true")
    page.evaluate(f"{press}.click()")
    assert page.evaluate(state) == "ascending"
    assert scores(page.evaluate(COLUMN.format(column=3))) == sorted(scores(as_written))
    page.evaluate(f"{press}.focus()")
    page.press("Enter")
    assert page.evaluate(state) == "descending"
    assert scores(page.evaluate(COLUMN.format(column=3))) == sorted(
        scores(as_written), reverse=True
    )
    page.press(" ")
    assert page.evaluate(state) is None
    assert page.evaluate(COLUMN.format(column=3)) == as_written


def scores(cells: list[str]) -> list[float]:
    return [float(re.sub(r"^([<>] )?([\d.]+).*", r"\2", cell)) for cell in cells]


def test_sorting_keeps_the_papers_value_under_ours(page, report):
    page.open(report, width=1280)
    rows = (
        "[...document.querySelectorAll('#table2-validation tbody tr')].map(row "
        "=> row.className + ' ' + row.cells[0].textContent)"
    )
    before = page.evaluate(rows)
    page.evaluate("document.querySelectorAll('#table2-validation th button')[3].click()")
    after = page.evaluate(rows)
    assert after != before
    assert sorted(after) == sorted(before)
    for place, row in enumerate(after):
        if row.startswith("paper"):
            assert after[place - 1].startswith("ours")
    assert [row for row in after if row.startswith("group")] == [
        row for row in before if row.startswith("group")
    ]


def test_words_filter_the_rows(page, report):
    page.open(report, width=1280)
    total = len(page.evaluate(COLUMN.format(column=0)))
    malignant = sum(label == "malignant" for label in page.evaluate(COLUMN.format(column=1)))
    page.evaluate(
        "(() => { const i = document.querySelector('#by-patient input'); i.value = "
        "'Malignant TEST'; i.dispatchEvent(new Event('input')); })()"
    )
    shown = page.evaluate(COLUMN.format(column=1))
    assert set(shown) == {"malignant"}
    assert 0 < len(shown) < malignant
    assert (
        page.evaluate("document.querySelector('#by-patient .filter span').textContent")
        == f"{len(shown)} of {total}"
    )


def test_a_mark_says_who_it_is(page, report):
    page.open(report, width=1280, height=1400)
    page.evaluate("document.querySelector('#figure7-scores').scrollIntoView({behavior: 'instant'})")
    mark = "document.querySelector('#figure7-scores use[data-tip]')"
    x, y, said = page.evaluate(
        f"(() => {{ const m = {mark}, b = m.getBoundingClientRect(); return [b.x + "
        f"b.width / 2, b.y + b.height / 2, m.dataset.tip]; }})()"
    )
    assert re.fullmatch(
        r"case\d{3}: benign, fold \d, P\(malignant\) [<>\d. ]+, (right|wrong)", said
    )
    page.move(x, y)
    assert page.evaluate("document.querySelector('.tip').hidden") is False
    assert page.evaluate("document.querySelector('.tip').textContent") == said
    page.move(1, 1)
    assert page.evaluate("document.querySelector('.tip').hidden") is True


def test_the_contents_show_where_the_reader_is(page, report):
    page.open(report, width=1280)
    for anchor in ("summary", "validation", "patients"):
        page.evaluate(
            f"document.getElementById('{anchor}').scrollIntoView({{behavior: 'instant'}})"
        )
        page.evaluate(
            "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
        )
        assert page.evaluate(
            "[...document.querySelectorAll('nav [aria-current]')].map(one => one.hash)"
        ) == [f"#{anchor}"]


def test_without_scripts_all_is_there(page, report):
    page.open(report, width=1280, scripts=False)
    assert page.evaluate("document.querySelectorAll('button, input').length") == 0
    assert page.evaluate("document.querySelectorAll('#figure7-scores title').length") > 100
    assert page.evaluate("document.querySelector('#by-patient tbody').rows.length") == 60
    assert page.evaluate(
        "[...document.querySelectorAll('nav a')].every(one => "
        "document.getElementById(one.hash.slice(1)))"
    )


def test_paper_shows_what_the_screen_folds(page, report):
    page.open(report, width=1280)
    page.call("Emulation.setEmulatedMedia", media="print")
    try:
        for hidden in ("nav", ".filter", ".tip", "details.long > summary"):
            assert (
                page.evaluate(f"getComputedStyle(document.querySelector('{hidden}')).display")
                == "none"
            )
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.evaluate("[...document.querySelectorAll('details')].every(one => one.open)")
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert not page.evaluate("document.querySelector('#by-patient details').open")
    finally:
        page.call("Emulation.setEmulatedMedia", media="")
    printed = page.print()
    boxes = {
        tuple(round(float(side)) for side in box.split())
        for box in re.findall(rb"/MediaBox\s*\[([^\]]+)\]", printed)
    }
    assert boxes == {
        (0, 0, 595, 842),
        (0, 0, 842, 595),
    }  # A4 in points, upright and, for wide tables, lying
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) > len(CONTENTS) // 2
