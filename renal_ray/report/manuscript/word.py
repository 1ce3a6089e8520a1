"""All tables and figures as one Word document: real tables with headings that repeat, captions,
pictures at 300 dots per inch."""

import io
import re
import zipfile
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from docx import Document
from docx.enum.section import WD_ORIENT, WD_SECTION
from docx.oxml import OxmlElement
from docx.oxml.ns import qn
from docx.shared import Mm, Pt

from renal_ray.report.canvas import Drawing
from renal_ray.report.tables import Row, Table

NO_TIME = datetime(2000, 1, 1)  # the same tables give the same bytes
NOT_XML = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
UPRIGHT = 9  # columns that fit an upright page
SHORT, LONG, MARGIN = Mm(210), Mm(297), Mm(20)
TWIP = 635  # English metric units of a twentieth of a point, in which tables are measured
RULE = {"val": "single", "sz": "8", "space": "0", "color": "000000"}


def document_docx(title: str, tables: Sequence[Table], drawings: Sequence[Drawing]) -> bytes:
    """The document.

    Args:
        title: heading on the first page.
        tables: with columns.
        drawings: with PNG; wider ones are fitted to the page.

    Returns:
        The bytes of a .docx file.
    """
    document = Document()
    _page(document.sections[0], lying=False)
    _fonts(document)
    document.add_heading(_clean(title), level=1)
    lying = False
    for table in tables:
        if (len(table.columns) > UPRIGHT) is not lying:
            lying = not lying
            _page(document.add_section(WD_SECTION.NEW_PAGE), lying=lying)
        _caption(document, table.title, stays=True)
        _table(document, table)
        for note in table.notes:
            _small(document.add_paragraph(), note)
        document.add_paragraph()
    if lying:
        _page(document.add_section(WD_SECTION.NEW_PAGE), lying=False)
    for drawing in drawings:
        paragraph = document.add_paragraph()
        paragraph.paragraph_format.keep_with_next = True
        width = min(SHORT - 2 * MARGIN, int(drawing.width_in * 914400))  # English metric units
        picture = paragraph.add_run().add_picture(io.BytesIO(drawing.png), width=width)
        picture._inline.docPr.set("descr", _clean(". ".join(drawing.caption.split(". ")[:2])))
        _caption(document, drawing.caption, stays=False)
    document.core_properties.title = _clean(title)
    document.core_properties.author = "renal-ray"
    document.core_properties.created = document.core_properties.modified = NO_TIME
    return _timeless(document)


def _page(section: Any, *, lying: bool) -> None:
    section.orientation = WD_ORIENT.LANDSCAPE if lying else WD_ORIENT.PORTRAIT
    section.page_width, section.page_height = (LONG, SHORT) if lying else (SHORT, LONG)
    section.left_margin = section.right_margin = section.top_margin = section.bottom_margin = MARGIN


def _fonts(document: Any) -> None:
    document.styles["Normal"].font.name = "Arial"
    document.styles["Normal"].font.size = Pt(10)
    caption = document.styles["Caption"].font
    caption.size, caption.bold, caption.color.rgb = Pt(9), False, None


def _caption(document: Any, text: str, *, stays: bool) -> None:
    """A caption whose first sentence, with its number, is bold; `stays` with what follows."""
    found = re.match(r"(?:Table|Figure) \w+\. [^.]*\.?|[^.]*\.?", text)
    bold = found[0] if found else text
    paragraph = document.add_paragraph(style="Caption")
    paragraph.add_run(_clean(bold)).bold = True
    paragraph.add_run(_clean(text[len(bold) :]))
    paragraph.paragraph_format.keep_with_next = stays


def _small(paragraph: Any, text: str) -> None:
    paragraph.add_run(_clean(text)).font.size = Pt(8)
    paragraph.paragraph_format.space_after = Pt(2)


def _table(document: Any, table: Table) -> None:
    """Three rules, a heading that repeats, rows that are not broken; written as XML, because cell
    by cell takes minutes for long ones."""
    made = document.add_table(rows=1, cols=len(table.columns))
    made.autofit = True
    line = (LONG if len(table.columns) > UPRIGHT else SHORT) - 2 * MARGIN
    widths = [round(share * line / TWIP) for share in table.widths()]
    for column, width in zip(made._tbl.tblGrid.gridCol_lst, widths, strict=True):
        column.set(qn("w:w"), str(width))
    properties = made._tbl.tblPr
    borders = _element("w:tblBorders")
    for side in ("top", "bottom"):
        borders.append(_element(f"w:{side}", **RULE))
    properties.append(borders)
    made._tbl.remove(made._tbl.tr_lst[0])
    made._tbl.append(_xml_row(table, Row(table.columns), widths, heading=True))
    for row in table.rows:
        made._tbl.append(_xml_row(table, row, widths))


def _xml_row(table: Table, row: Row, widths: list[int], *, heading: bool = False) -> Any:
    line = _element("w:tr")
    properties = _element("w:trPr")
    properties.append(_element("w:cantSplit"))
    if heading:
        properties.append(_element("w:tblHeader"))
    line.append(properties)
    if row.kind == "group":
        line.append(_xml_cell(row.cells[0], sum(widths), bold=True, span=len(table.columns)))
        return line
    for place, text in enumerate(row.cells):
        indent = row.kind == "level" and place == 0
        line.append(
            _xml_cell(
                text,
                widths[place],
                bold=heading,
                italic=row.kind == "extra",
                right=place >= table.left,
                rule=heading,
                indent=indent,
            )
        )
    return line


def _xml_cell(
    text: str,
    width: int,
    *,
    bold: bool = False,
    italic: bool = False,
    right: bool = False,
    rule: bool = False,
    indent: bool = False,
    span: int = 1,
) -> Any:
    cell, about = _element("w:tc"), _element("w:tcPr")
    about.append(_element("w:tcW", w=str(width), type="dxa"))
    if span > 1:
        about.append(_element("w:gridSpan", val=str(span)))
    if rule:
        borders = _element("w:tcBorders")
        borders.append(_element("w:bottom", **RULE))
        about.append(borders)
    cell.append(about)
    paragraph, layout = _element("w:p"), _element("w:pPr")
    layout.append(_element("w:spacing", before="20", after="20"))
    if indent:
        layout.append(_element("w:ind", left="227"))
    layout.append(_element("w:jc", val="right" if right else "left"))
    run, look = _element("w:r"), _element("w:rPr")
    for wanted, name in ((bold, "w:b"), (italic, "w:i")):
        if wanted:
            look.append(_element(name))
    look.append(_element("w:sz", val="16"))  # half points
    written = OxmlElement("w:t")
    written.text = _clean(text).replace("\n", " ").replace("\t", " ")
    written.set("{http://www.w3.org/XML/1998/namespace}space", "preserve")
    run.append(look)
    run.append(written)
    paragraph.append(layout)
    paragraph.append(run)
    cell.append(paragraph)
    return cell


def _element(name: str, **attributes: str) -> Any:
    made = OxmlElement(name)
    for attribute, value in attributes.items():
        made.set(qn(f"w:{attribute}"), value)
    return made


def _clean(text: str) -> str:
    """Text without the characters that XML cannot hold."""
    return NOT_XML.sub("\ufffd", text)


def _timeless(document: Any) -> bytes:
    """The document's archive with the same time at every file."""
    first, second = io.BytesIO(), io.BytesIO()
    document.save(first)
    with (
        zipfile.ZipFile(first) as given,
        zipfile.ZipFile(second, "w", zipfile.ZIP_DEFLATED) as written,
    ):
        for name in given.namelist():
            written.writestr(
                zipfile.ZipInfo(name, NO_TIME.timetuple()[:6]),
                given.read(name),
                zipfile.ZIP_DEFLATED,
            )
    return second.getvalue()
