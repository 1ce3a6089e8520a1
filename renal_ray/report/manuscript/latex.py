"""Tables as LaTeX with booktabs, and a document that inputs all of them; it runs through pdfLaTeX,
XeLaTeX and LuaLaTeX."""

import re
import unicodedata
from collections.abc import Sequence

from renal_ray.report.canvas import WIDTH_IN, Drawing
from renal_ray.report.tables import Row, Table

# What TeX reads as a command, and what pdfLaTeX's usual fonts do not have.
WRITTEN = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "'": "'",
    "`": r"\textasciigrave{}",
    "[": "{[}",  # an optional argument after the end of a row
    "]": "{]}",
    "*": "{*}",  # the same
    "-": "-",
    "\u00a0": "~",
    "\u2212": "$-$",
    "\u2013": r"\textendash{}",
    "\u2014": r"\textemdash{}",
    "\u2018": r"\textquoteleft{}",
    "\u2019": r"\textquoteright{}",
    "\u201c": r"\textquotedblleft{}",
    "\u201d": r"\textquotedblright{}",
    "\u2026": r"\ldots{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "≈": r"$\approx$",
    "²": r"$^2$",
    "³": r"$^3$",
    "°": r"$^\circ$",
    "µ": r"$\mu$",
    "α": r"$\alpha$",
    "κ": r"$\kappa$",
    "μ": r"$\mu$",
    "χ": r"$\chi$",
    "Δ": r"$\Delta$",
    "→": r"$\rightarrow$",
    "↑": r"$\uparrow$",
    "✓": r"$\checkmark$",
    "✗": r"$\times$",
    "○": r"$\circ$",
}
ACCENTS = {
    "\u0300",
    "\u0301",
    "\u0302",
    "\u0303",
    "\u0308",
    "\u030a",
    "\u030b",
    "\u030c",
    "\u0327",
    "\u0328",
    "\u0304",
    "\u0306",
    "\u0307",
}
LETTERS = set("ßøØæÆœŒłŁđĐðÐþÞıŋŊ§¶©®£¡¿")
BREAKS_AT = 34  # rows that fit on a page beside caption and notes
WORDY = 45  # characters of a cell from which it is broken into lines
UPRIGHT = 9  # columns that fit an upright page
FITTED = r"\resizebox{\ifdim\width>\textwidth\textwidth\else\width\fi}{!}{%"  # never enlarged
PREAMBLE = r"""% Written by renal-ray. Every table is a file of its own:
% \input what is needed; these packages are what they need.
\documentclass[10pt,a4paper]{article}
\usepackage[T1]{fontenc}
\usepackage[utf8]{inputenc}
\IfFileExists{lmodern.sty}{\usepackage{lmodern}}{}
\usepackage[margin=20mm]{geometry}
\usepackage{array,booktabs,longtable,caption,graphicx,pdflscape,amssymb,textcomp}
\captionsetup{justification=raggedright,singlelinecheck=false}
\begin{document}
"""


def escape(text: str) -> str:
    """Text as TeX prints it: no character is a command; one that no usual font has is written as
    its code, [U+4E2D].

    Args:
        text: any text; white space of every kind becomes a blank.
    """
    plain = unicodedata.normalize("NFC", text)
    words = re.sub(r"[\s\x00-\x1f\x7f-\x9f]+", " ", plain.replace("\u00a0", "\ue000")).replace(
        "\ue000", "\u00a0"
    )
    return (
        "".join(_character(one) for one in words)
        .replace("--", "-{}-")
        .replace("--", "-{}-")
        .replace("''", "'{}'")
        .replace("''", "'{}'")
    )


def _character(one: str) -> str:
    if one in WRITTEN:
        return WRITTEN[one]
    if " " <= one <= "~" or one in LETTERS:
        return one
    apart = unicodedata.normalize("NFD", one)
    if (
        len(apart) == 2
        and apart[0].isascii()
        and apart[0].isalpha()
        and apart[1] in ACCENTS
        and one <= "\u017f"
    ):
        return one
    return f"{{[}}U+{ord(one):04X}{{]}}"


def table_tex(table: Table) -> str:
    """One table: a float, or pages of a long one.

    Args:
        table: with columns.

    Returns:
        LaTeX that needs array, booktabs, longtable, graphicx, caption, pdflscape and amssymb.
    """
    wordy = any(
        len(cell) > WORDY for row in table.rows if row.kind != "group" for cell in row.cells
    )
    return _long(table) if wordy or len(table.rows) > BREAKS_AT else _float(table)


def _float(table: Table) -> str:
    columns = "".join("l" if place < table.left else "r" for place in range(len(table.columns)))
    return "\n".join(
        [
            r"\begin{table}[htbp]",
            rf"\caption*{{{_title(table.title)}}}",
            rf"\label{{tab:{table.name}}}",
            FITTED,
            rf"\begin{{tabular}}{{@{{}}{columns}@{{}}}}",
            r"\toprule",
            _head(table),
            r"\midrule",
            *(_row(table, row) for row in table.rows),
            r"\bottomrule",
            r"\end{tabular}",
            "}",
            *_notes(table),
            r"\end{table}",
            "",
        ]
    )


def _long(table: Table) -> str:
    lying = len(table.columns) > UPRIGHT
    columns = "".join(
        rf">{{\{'raggedright' if place < table.left else 'raggedleft'}\arraybackslash}}"
        rf"p{{\dimexpr {width:.4f}\linewidth-2\tabcolsep\relax}}"
        for place, width in enumerate(table.widths())
    )
    head = [r"\toprule", _head(table), r"\midrule"]
    return "\n".join(
        [
            *([r"\begin{landscape}"] if lying else []),
            r"\begingroup\footnotesize\setlength{\tabcolsep}{3pt}",
            rf"\begin{{longtable}}{{{columns}}}",
            rf"\caption*{{{_title(table.title)}}}\label{{tab:{table.name}}}\\",
            *head,
            r"\endfirsthead",
            *head,
            r"\endhead",
            r"\bottomrule",
            r"\endfoot",
            *(_row(table, row) for row in table.rows),
            r"\end{longtable}",
            *_notes(table),
            r"\endgroup",
            *([r"\end{landscape}"] if lying else []),
            "",
        ]
    )


def _title(title: str) -> str:
    """Number bold, as captions stand in journals: Table 2. Validation ..."""
    found = re.fullmatch(r"(Table \w+\.) (.*)", title, re.DOTALL)
    return (
        rf"\textbf{{{escape(found[1])}}} {escape(found[2])}"
        if found
        else rf"\textbf{{{escape(title)}}}"
    )


def _head(table: Table) -> str:
    return " & ".join(rf"\textbf{{{escape(name)}}}" for name in table.columns) + r" \\"


def _row(table: Table, row: Row) -> str:
    if row.kind == "group":
        heading = rf"\textbf{{{escape(row.cells[0])}}}"
        return rf"\addlinespace\multicolumn{{{len(table.columns)}}}{{@{{}}l}}{{{heading}}} \\"
    cells = [escape(cell) for cell in row.cells]
    if row.kind == "extra":
        cells = [rf"\textit{{{cell}}}" if cell else "" for cell in cells]
    if row.kind == "level":
        cells[0] = rf"\quad {cells[0]}"
    return " & ".join(cells) + r" \\"


def _notes(table: Table) -> list[str]:
    return [rf"\par\smallskip{{\footnotesize {escape(note)}\par}}" for note in table.notes]


def figure_tex(drawing: Drawing, folder: str) -> str:
    """A figure as a float, its caption with the number bold.

    Args:
        drawing: of the width of the folder's name.
        folder: where its PDF lies, from the document.
    """
    number, title, rest = drawing.caption.split(". ", 2)
    width = r"\textwidth" if drawing.width_in >= WIDTH_IN else rf"{drawing.width_in:.2f}in"
    return "\n".join(
        [
            r"\begin{figure}[htbp]",
            r"\centering",
            rf"\includegraphics[width={width},height=0.8\textheight,keepaspectratio]{{{folder}/{drawing.name}.pdf}}",
            rf"\caption*{{\textbf{{{escape(number)}. {escape(title)}.}} {escape(rest)}}}",
            rf"\label{{fig:{drawing.name}}}",
            r"\end{figure}",
            "",
        ]
    )


def document_tex(
    tables: Sequence[Table], drawings: Sequence[Drawing], *, tables_at: str, figures_at: str
) -> str:
    """A document that inputs every table and shows every figure."""
    inputs = [rf"\input{{{tables_at}/{table.name}.tex}}" + "\n" + r"\clearpage" for table in tables]
    return PREAMBLE + "\n".join(
        [
            *inputs,
            *(figure_tex(drawing, figures_at) + r"\clearpage" for drawing in drawings),
            r"\end{document}",
            "",
        ]
    )
