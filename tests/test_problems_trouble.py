"""Files that are absent, closed or impossibly named: one sentence or one row of the quarantine,
wherever they are named."""

import errno
import json
import os
from pathlib import Path

import pytest

from renal_ray.cohort.kits import read_kits
from renal_ray.cohort.phantom import write_phantom
from renal_ray.cohort.source import load_cohort
from renal_ray.config import Cohort, Selection
from renal_ray.imaging.patient import read_patient
from renal_ray.problems import Code, PatientError, StudyError, trouble

IMPOSSIBLE = ["x" * 300, "loop", "beyond\0end"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "there").write_bytes(b"")
    return tmp_path


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may be read; tests that run as root cannot have that from permissions."""

    def refuse(*args: object, **options: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "access", lambda *args, **options: False)
    monkeypatch.setattr(Path, "read_text", refuse)
    monkeypatch.setattr(Path, "read_bytes", refuse)
    monkeypatch.setattr("builtins.open", refuse)


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_names_that_no_file_can_have(folder: Path, name: str) -> None:
    found = trouble(folder / name)
    assert found is not None
    assert found[0] is Code.FILE_MISSING


def test_what_is_there_is_no_trouble(folder: Path) -> None:
    assert trouble(folder) is None
    assert trouble(folder / "there") is None


@pytest.mark.parametrize("name", IMPOSSIBLE[:2])
def test_a_manifest_with_impossible_names(folder: Path, name: str) -> None:
    (folder / "manifest.csv").write_text(
        f"patient_id,label,image,mask\na,1,{name},there\nb,1,there,{name}\nc,0,there,there\n",
        encoding="utf-8",
    )
    table, quarantined = load_cohort(Cohort(manifest=folder / "manifest.csv"))
    assert table["patient_id"].tolist() == ["c"]
    assert [(item.patient_id, item.code, item.message.split(":")[0]) for item in quarantined] == [
        ("a", Code.FILE_MISSING, "image"),
        ("b", Code.FILE_MISSING, "mask"),
    ]


def test_a_closed_file_is_quarantined(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "manifest.csv").write_text(
        "patient_id,label,image,mask\na,1,there,there\n", encoding="utf-8"
    )
    monkeypatch.setattr(os, "access", lambda *args, **options: False)
    table, quarantined = load_cohort(Cohort(manifest=folder / "manifest.csv"))
    assert table.empty
    assert quarantined[0].code is Code.FILE_UNREADABLE
    assert "permissions" in quarantined[0].message
    with pytest.raises(PatientError) as caught:
        read_patient(
            folder / "there",
            folder / "there",
            cohort=Cohort(manifest=folder),
            selection=Selection(),
        )
    assert caught.value.code is Code.FILE_UNREADABLE
    assert caught.value.file == str(folder / "there")


def test_closed_tables_and_folders_are_named(folder: Path, closed: None) -> None:
    for source in (
        {"manifest": folder / "there.csv"},
        {"kits": folder},
        {"dicom": folder, "labels": folder / "there.csv"},
    ):
        (folder / "there.csv").touch()
        with pytest.raises(StudyError, match="may not be read"):
            load_cohort(Cohort(**source))


@pytest.mark.parametrize("key", ["radiographic_size", "age_at_nephrectomy"])
@pytest.mark.parametrize("value", ["3 cm", ">=90", True, -1, float("nan"), [3]])
def test_a_kits_number_that_is_none(tmp_path: Path, key: str, value: object) -> None:
    (tmp_path / "case_00001").mkdir()
    (tmp_path / "kits23.json").write_text(
        json.dumps([{"case_id": "case_00001", "malignant": True, key: value}]), encoding="utf-8"
    )
    with pytest.raises(StudyError, match=rf"kits23\.json: case_00001: {key}"):
        read_kits(tmp_path)


def test_a_kits_number_may_be_absent(tmp_path: Path) -> None:
    case = tmp_path / "case_00001"
    case.mkdir()
    for name in ("imaging.nii.gz", "segmentation.nii.gz"):
        (case / name).touch()
    (tmp_path / "kits23.json").write_text(
        json.dumps([{"case_id": "case_00001", "malignant": True, "radiographic_size": None}]),
        encoding="utf-8",
    )
    table, quarantined = read_kits(tmp_path)
    assert (len(table), quarantined) == (1, [])
    assert table[["age", "max_diameter_mm"]].isna().all(axis=None)


@pytest.mark.parametrize("text", ["no json", '{"case_00001": {}}', '[{"malignant": true}]'])
def test_phantoms_want_a_sound_pathology_table(tmp_path: Path, text: str) -> None:
    (tmp_path / "kits" / "case_00001").mkdir(parents=True)
    (tmp_path / "kits" / "kits23.json").write_text(text, encoding="utf-8")
    with pytest.raises(StudyError, match=r"kits23\.json: expected a JSON list"):
        write_phantom(
            tmp_path / "out", patients=1, seed=1, format="kits", anatomy=tmp_path / "kits"
        )
