"""The reason codes: one table, nothing said twice, and the page that shows it."""

import re
from pathlib import Path

from renal_ray.problems import Code, Quarantined, Severity, codes_page

REPOSITORY = Path(__file__).resolve().parent.parent


def test_the_page_is_the_table_of_the_code():
    assert (REPOSITORY / "docs/codes.md").read_text(encoding="utf-8") == codes_page()  # make codes


def test_every_code_is_used_somewhere():
    text = "".join(
        path.read_text(encoding="utf-8") for path in (REPOSITORY / "renal_ray").rglob("*.py")
    )
    assert [code.name for code in Code if not re.search(rf"Code\.{code.name}\b", text)] == []


def test_codes_are_told_apart():
    assert len({code.meaning for code in Code}) == len(Code)
    assert all(re.fullmatch("[a-z]+(-[a-z]+)*", code) for code in Code)


def test_a_row_is_read_back():
    one = Quarantined("P1", "a.dcm", Code.TILT, "tilted by 4 degrees")
    assert Quarantined.read(one.row()) == one
    assert one.row()["severity"] == Severity.ERROR
    assert one.left_out
    assert not Quarantined("P1", "", Code.FLIP_SUSPECTED, "").left_out
