"""Folders that are written to: one that cannot be is refused before any work."""

from pathlib import Path

import pytest

from renal_ray.apply.folder import require_writable
from renal_ray.problems import StudyError


def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine", encoding="utf-8")
    for folder in (file, file / "below", Path("/proc/nowhere")):
        with pytest.raises(StudyError, match=r"cannot be written to .*; give another folder by -o"):
            require_writable(folder)
    assert file.read_text(encoding="utf-8") == "mine"


def test_a_writable_folder_is_made_and_left_empty(tmp_path: Path) -> None:
    require_writable(tmp_path / "a" / "b")
    assert not any((tmp_path / "a" / "b").iterdir())
