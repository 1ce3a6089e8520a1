"""What goes into an article: LaTeX that is no program of the data's, a Word document that opens,
figures of journal width."""

import io
import random
import re
import shutil
import struct
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path

import docx
import numpy as np
import pandas as pd
import pytest
from docx.oxml.ns import qn
from PIL import Image
from test_report_trials import HOSTILE, Synthetic, study_at
from typer.testing import CliRunner

from renal_ray.cli import app
from renal_ray.report import canvas, page
from renal_ray.report.canvas import COLUMN_IN, WIDTH_IN, Journal, blank, drawn_for, finish, settings
from renal_ray.report.manuscript.latex import WRITTEN, document_tex, escape, table_tex
from renal_ray.report.manuscript.word import document_docx
from renal_ray.report.page import write_report
from renal_ray.report.tables import Row, Table

NASTY = r"\end{tabular}\input{/etc/passwd} 50 % & $x_1^2$ #1 ~ {a} [b] *c <d> |e| `f` ''g'' --h"
COMMANDS = set(
    re.findall(
        r"\w+",
        """
        addlinespace arraybackslash begin begingroup bottomrule caption captionsetup centering
        clearpage dimexpr documentclass end endfirsthead endfoot endgroup endhead footnotesize
        IfFileExists includegraphics input label linewidth midrule multicolumn par quad raggedleft
        raggedright relax setlength smallskip tabcolsep textbf textheight textit textwidth toprule
        usepackage textbackslash textasciicircum textasciitilde textless textgreater textbar
        textquotedbl textasciigrave textendash textemdash textquoteleft textquoteright
        textquotedblleft textquotedblright ldots pm times cdot geq leq approx circ mu alpha kappa
        chi Delta rightarrow uparrow checkmark resizebox ifdim width else fi
        """,
    )
)


def tokens(tex: str) -> list[str]:
    """The control sequences and special characters of a piece of TeX, comments left out."""
    lines = [re.sub(r"(?<!\\)((?:\\\\)*)%.*", r"\1", line) for line in tex.split("\n")]
    return re.findall(r"\\[A-Za-z]+|\\.|[{}&$^_#~]", "\n".join(lines), re.DOTALL)


def check(tex: str) -> None:
    """Fails where the piece would not compile, or where it holds a command that is not ours."""
    depth, maths = 0, 0
    for token in tokens(tex):
        depth += (token == "{") - (token == "}")
        assert depth >= 0, "a brace closes what was not opened"
        maths ^= token == "$"
        assert token != "_", "a bare underscore"
        assert token != "#"
        assert token != "^" or maths, "a superscript outside of maths"
        if token.startswith("\\") and len(token) > 1 and token[1].isalpha():
            assert token[1:] in COMMANDS, token
        elif token.startswith("\\"):
            assert token[1] in "\\{}$&#%_", token
    assert depth == 0
    assert not maths
    opened: list[str] = []
    for kind, name in re.findall(r"\\(begin|end)\{([a-z]+)\}", tex):
        assert kind == "begin" or opened.pop() == name
        opened += [name] if kind == "begin" else []
    assert not opened


def rows_in(tex: str) -> list[list[str]]:
    """Cells of the rows of a table, without headings over several columns."""
    body = re.search(
        r"\\midrule\n(?:\\endhead\n\\bottomrule\n\\endfoot\n)?((?:(?!\\midrule).)*?)\n\\(?:bottomrule|end\{longtable\})\s",
        tex,
        re.DOTALL,
    )[1]
    lines = [line for line in body.split("\n") if "\\multicolumn" not in line]
    assert all(line.endswith(r" \\") for line in lines)
    return [re.split(r"(?<!\\) & ", line.removesuffix(r" \\")) for line in lines]


def table(rows, *, columns=("Name", "Value"), title="Table 2. A title", left=1, notes=()) -> Table:
    return Table(
        name="one",
        title=title,
        columns=columns,
        rows=tuple(rows),
        data=pd.DataFrame(),
        notes=notes,
        left=left,
    )


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("50 % & more", r"50 \% \& more"),
        ("0.90 ± 0.03", r"0.90 $\pm$ 0.03"),
        ("−0.5", "$-$0.5"),
        ("a--b", "a-{}-b"),
        ("a---b", "a-{}-{}-b"),
        ("[1] *", "{[}1{]} {*}"),
        ("x_1^2~", r"x\_1\textasciicircum{}2\textasciitilde{}"),
        ("\\", r"\textbackslash{}"),
        ("ä ß ł é", "ä ß ł é"),
        ("漢", "{[}U+6F22{]}"),
        ("a\nb\x00c\td", "a b c d"),
        ("e\u0301", "é"),
        ("≥ 4 cm, χ²", r"$\geq$ 4 cm, $\chi$$^2$"),
        ("✓ ✗", r"$\checkmark$ $\times$"),
    ],
)
def test_characters_are_written_as_tex_prints_them(text, written):
    assert escape(text) == written


def test_no_text_is_a_command():
    rng = random.Random(3)
    alphabet = [
        *WRITTEN,
        *" abZ09.,;:!?()/=+",
        "漢",
        "😀",
        "\u200b",
        "\x1b",
        "--",
        "''",
        "\\\\",
        "%%",
        "\n",
        "ſ",
        "é",
    ]
    for _ in range(300):
        text = "".join(rng.choice(alphabet) for _ in range(rng.randint(1, 40)))
        escaped = escape(text)
        check(escaped)
        assert "&" not in escaped.replace(r"\&", "")
        assert "%" not in escaped.replace(r"\%", "")
        assert "--" not in escaped
        assert "\n" not in escaped
        assert not re.search(r"(?<!\{)\[|(?<!\{)\*", escaped)


def test_a_table_has_its_rows_and_nothing_else():
    made = table(
        [
            Row(("A group & co", ""), "group"),
            Row((NASTY[:40], "1.0")),
            Row(("[x", "< 0.001"), "extra"),
            Row(("*y", "−1"), "level"),
            Row(("", "2"), "paper"),
        ],
        notes=("A note with 5 %.",),
    )
    tex = table_tex(made)
    check(tex)
    found = rows_in(tex)
    assert [len(row) for row in found] == [2, 2, 2, 2]
    assert found[0] == [escape(NASTY[:40]), "1.0"]
    assert found[1] == [r"\textit{{[}x}", r"\textit{\textless{} 0.001}"]
    assert found[2][0] == r"\quad {*}y"
    assert r"\multicolumn{2}{@{}l}{\textbf{A group \& co}}" in tex
    assert r"\caption*{\textbf{Table 2.} A title}" in tex
    assert r"\begin{tabular}{@{}lr@{}}" in tex
    assert r"A note with 5 \%." in tex


def test_long_tables_break_over_pages_and_wide_ones_lie():
    rows = [Row((f"patient {k}", *["0.5"] * 11)) for k in range(60)]
    tex = table_tex(table(rows, columns=("Patient", *(f"Model {k}" for k in range(11)))))
    check(tex)
    assert r"\begin{longtable}" in tex
    assert r"\begin{landscape}" in tex
    assert tex.count(r"\textbf{Patient}") == 2  # repeated on every page
    assert [len(row) for row in rows_in(tex)] == [12] * 60
    shares = [float(share) for share in re.findall(r"p\{\\dimexpr ([\d.]+)\\linewidth", tex)]
    assert len(shares) == 12
    assert sum(shares) == pytest.approx(1, abs=0.001)
    upright = table_tex(table([Row(("word " * 40, "1"))]))
    check(upright)
    assert r"\begin{longtable}" in upright
    assert "landscape" not in upright


def drawn() -> canvas.Drawing:
    with settings("fig"):
        figure, grid = blank(3, 1, 2, alone=True)
        grid[0][0].plot([0, 1], [0, 1])
        return finish(figure, name="fig", caption="Figure 1. Some & all. What 5 % saw.")


def test_the_document_inputs_every_table_and_shows_every_figure():
    tex = document_tex(
        [table([Row(("a", "1"))])], [drawn()], tables_at="tables", figures_at="figures/two"
    )
    check(tex)
    assert r"\input{tables/one.tex}" in tex
    assert (
        r"\includegraphics[width=\textwidth,height=0.8\textheight,keepaspectratio]{figures/two/fig.pdf}"
        in tex
    )
    assert r"\textbf{Figure 1. Some \& all.} What 5 \% saw." in tex


def test_a_word_table_is_a_real_table():
    made = table(
        [
            Row(("Group", ""), "group"),
            Row((HOSTILE + "\x00\x0b", "1.0")),
            Row(("b", "2.0"), "level"),
        ],
        notes=("Note.",),
    )
    wide = table([Row(tuple("abcdefghijk"))], columns=tuple("ABCDEFGHIJK"), title="Wide")
    written = document_docx("smoke: tables", [made, wide], [drawn()])
    document = docx.Document(io.BytesIO(written))
    first, second = document.tables
    assert [cell.text for cell in first.rows[0].cells] == ["Name", "Value"]
    assert first.rows[0]._tr.trPr.find(qn("w:tblHeader")) is not None
    assert [cell.text for cell in first.rows[2].cells] == [f"{HOSTILE}\ufffd\ufffd", "1.0"]
    assert first.rows[1].cells[0]._tc is first.rows[1].cells[1]._tc  # a heading over all columns
    assert [cell.text for cell in second.rows[1].cells] == list("abcdefghijk")
    captions = [paragraph for paragraph in document.paragraphs if paragraph.style.name == "Caption"]
    assert [paragraph.text for paragraph in captions] == [
        "Table 2. A title",
        "Wide",
        "Figure 1. Some & all. What 5 % saw.",
    ]
    assert captions[0].runs[0].bold
    pages = [(section.page_width.mm, section.page_height.mm) for section in document.sections]
    assert [tuple(round(side) for side in one) for one in pages] == [
        (210, 297),
        (297, 210),
        (210, 297),
    ]
    (picture,) = document.inline_shapes
    assert picture.width.mm <= 170.1
    assert picture._inline.docPr.get("descr") == "Figure 1. Some & all"
    assert document_docx("smoke: tables", [made, wide], [drawn()]) == written
    assert {info.date_time for info in zipfile.ZipFile(io.BytesIO(written)).infolist()} == {
        (2000, 1, 1, 0, 0, 0)
    }


def test_panels_that_stand_alone_fit_one_column():
    assert drawn().width_in == WIDTH_IN
    assert drawn().pdf == b""
    with drawn_for(Journal(one_column=True, vector=True)):
        narrow = drawn()
        with settings("tied"):
            figure, _ = blank(3, 1, 2)
            tied = finish(figure, name="tied", caption="Figure 2. Tied. Panels share labels.")
    assert (narrow.width_in, tied.width_in) == (COLUMN_IN, WIDTH_IN)
    image = Image.open(io.BytesIO(narrow.png))
    assert image.width == round(COLUMN_IN * 300)
    assert image.info["dpi"] == pytest.approx((300, 300), abs=0.01)
    assert narrow.pdf.startswith(b"%PDF")
    width = float(re.search(rb"/MediaBox \[ ?0 0 ([\d.]+) ", narrow.pdf)[1])
    assert width == pytest.approx(72 * COLUMN_IN)
    assert b"/Subtype /Type3" not in narrow.pdf
    assert drawn().width_in == WIDTH_IN  # outside, all is as it was


@pytest.fixture
def _few_figures(monkeypatch) -> None:
    """One figure that has a narrow form instead of all: drawing is most of the time."""
    monkeypatch.setattr(canvas, "PNG_DPI", 40)
    monkeypatch.setattr(page, "draw_all", lambda evidence: iter((drawn(),)))
    monkeypatch.setattr(page.Statistics, "draw", lambda measured: iter(()))


@pytest.mark.usefixtures("_few_figures")
def test_a_study_as_an_article_needs_it(tmp_path):
    made = Synthetic(
        study_at(
            tmp_path,
            cohort={"manifest": str(tmp_path / "manifest.csv")},
            statistics={"bootstrap": 200},
            datasets=["roi"],
            freeze_points=["mixed6"],
        )
    )
    made.train()
    made.test()
    result = CliRunner().invoke(app, ["report", "--paper", str(tmp_path)])
    assert result.exit_code == 0, result.output
    paper = tmp_path / "report/paper"
    tables = sorted(path.stem for path in (paper / "tables").iterdir())
    assert {
        "table1-cohort",
        "table2-validation",
        "table3-test",
        "by-patient",
        "quarantine",
        "checklist-claim",
    } <= set(tables)
    main = (paper / "paper.tex").read_text(encoding="utf-8")
    check(main)
    assert sorted(re.findall(r"\\input\{tables/([^}]+)\.tex\}", main)) == tables
    for name in tables:
        tex = (paper / "tables" / f"{name}.tex").read_text(encoding="utf-8")
        check(tex)
        columns = len(re.search(r"^(\\textbf.*) \\\\$", tex, re.MULTILINE)[1].split(" & "))
        assert {len(row) for row in rows_in(tex)} == {columns}, name
    assert "<script" not in (paper / "tables/quarantine.tex").read_text(encoding="utf-8")
    shown = pd.read_csv(tmp_path / "report/tables/by-patient.csv")
    assert (
        len(rows_in((paper / "tables/by-patient.tex").read_text(encoding="utf-8")))
        == shown["patient_id"].nunique()
    )
    assert len(docx.Document(paper / "paper.docx").tables) == len(tables)
    assert {path.name for path in (paper / "figures/two-columns").iterdir()} == {
        path.name for path in (paper / "figures/one-column").iterdir()
    }
    assert f"{len(tables)} tables and 1 figures, 1 of them one column wide too" in result.output
    before = {path: path.read_bytes() for path in paper.rglob("*") if path.is_file()}
    assert CliRunner().invoke(app, ["report", "--paper", str(tmp_path)]).exit_code == 0
    assert {path: path.read_bytes() for path in paper.rglob("*") if path.is_file()} == before
    assert not any(str(tmp_path).encode() in data for data in before.values())


def test_png_of_a_word_document_has_its_resolution():
    with settings("dots"):
        figure, grid = blank(2, 1, 1)
        grid[0][0].plot(np.arange(3))
        png = finish(figure, name="dots", caption="Figure 3. Dots. More.").png
    place = png.index(b"pHYs") + 4
    assert struct.unpack(">II", png[place : place + 8]) == (
        11811,
        11811,
    )  # 300 dots per inch, in dots per metre


@pytest.mark.usefixtures("_few_figures")
def test_without_the_option_no_paper_is_written(tmp_path):
    assert write_report(Synthetic(study_at(tmp_path)).study).paper is None
    assert not Path(tmp_path / "report/paper").exists()


def test_an_id_has_the_room_of_one_line():
    """Arial of 8 points is half as wide as high, a digit 0.556; a cell's margins are 1.9 mm
    each."""
    name = "roi-mixed10-image-fold0-6a5b5c73"
    made = table(
        [Row((name, *(["0.90 ± 0.03"] * 12)))],
        columns=("Trial", *(f"Metric {place}" for place in range(12))),
    )
    document = docx.Document(io.BytesIO(document_docx("wide", [made], [])))
    (shown,) = document.tables
    assert shown.columns[0].width.mm > len(name) * 0.556 * 8 / 72 * 25.4 + 3.8
    assert shown.rows[1].cells[0].width == shown.columns[0].width
    assert sum(column.width.mm for column in shown.columns) == pytest.approx(257, abs=0.5)
    assert sum(made.widths()) == pytest.approx(1)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_compiles_with_the_packages_that_are_named(tmp_path):
    """The characters of every kind in a table that floats, one that lies, and one over several
    pages."""
    nasty = [Row((character, NASTY)) for character in WRITTEN] + [Row((HOSTILE, "Žižek Ångström"))]
    tables = [
        table(
            [
                *nasty,
                Row(("Group", ""), "group"),
                Row(("a", ""), "extra"),
                Row(("b", "1"), "level"),
            ],
            notes=("Note: 5 %.",),
        ),
        replace(table([Row(("a", "1"))]), name="short"),
        replace(
            table([Row(tuple("abcdefghijk"))], columns=tuple("ABCDEFGHIJK"), title="Wide"),
            name="wide",
        ),
        replace(table([Row((f"roi-mixed{place}", "9")) for place in range(90)]), name="long"),
    ]
    (tmp_path / "tables").mkdir()
    for one in tables:
        (tmp_path / "tables" / f"{one.name}.tex").write_text(table_tex(one), encoding="utf-8")
    with drawn_for(Journal(one_column=False, vector=True)):
        figure = drawn()
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / f"{figure.name}.pdf").write_bytes(figure.pdf)
    main = tmp_path / "paper.tex"
    main.write_text(
        document_tex(tables, [figure], tables_at="tables", figures_at="two"), encoding="utf-8"
    )
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", main.name],
        cwd=tmp_path,
        capture_output=True,
    )
    assert done.returncode == 0, done.stdout[-2000:].decode("utf-8", "replace")
    assert (tmp_path / "paper.pdf").read_bytes().startswith(b"%PDF")
