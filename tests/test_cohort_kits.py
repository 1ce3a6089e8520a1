"""The KiTS layout."""

import json

import pandas as pd
import pytest

from renal_ray.cohort.kits import read_kits
from renal_ray.cohort.source import load_cohort
from renal_ray.config import Cohort
from renal_ray.problems import Code, StudyError

RECORD = {
    "case_id": "case_00000",
    "gender": "female",
    "age_at_nephrectomy": 49,
    "radiographic_size": 2.4,
    "malignant": True,
    "pathology_t_stage": "1a",
    "tumor_histologic_subtype": "clear_cell_rcc",
    "tumor_isup_grade": "3",
}


def release(folder, records, cases, name="kits23.json"):
    (folder / name).write_text(json.dumps(records))
    for case, files in cases.items():
        (folder / case).mkdir()
        for file in files:
            (folder / case / file).write_bytes(b"x")
    return folder


BOTH = ("imaging.nii.gz", "segmentation.nii.gz")


@pytest.mark.parametrize("name", ["kits23.json", "kits.json"])
def test_a_case_becomes_a_row(tmp_path, name):
    table, quarantined = load_cohort(Cohort(kits=release(tmp_path, [RECORD], {"case_00000": BOTH}, name)))
    assert not quarantined
    row = table.iloc[0].to_dict()
    assert row == {
        "patient_id": "case_00000",
        "label": 1,
        "image": str(tmp_path / "case_00000/imaging.nii.gz"),
        "mask": str(tmp_path / "case_00000/segmentation.nii.gz"),
        "sex": "female",
        "age": 49.0,
        "histology": "clear_cell_rcc",
        "max_diameter_mm": 24.0,
        "stage": "1a",
        "grade": "3",
    }
    assert table["label"].dtype == "Int8"


def test_values_that_are_not_known_are_missing(tmp_path):
    record = RECORD | {"malignant": False, "pathology_t_stage": "na", "tumor_isup_grade": None, "radiographic_size": None, "gender": None}
    table, _ = read_kits(release(tmp_path, [record], {"case_00000": BOTH}))
    assert table["label"].tolist() == [0]
    assert table.loc[0, ["stage", "grade", "max_diameter_mm", "sex"]].isna().all()


def test_cases_that_cannot_be_used(tmp_path):
    records = [RECORD | {"case_id": f"case_0000{n}"} for n in range(4)]
    records[1]["malignant"] = None
    cases = {f"case_0000{n}": BOTH for n in (0, 1)} | {"case_00002": BOTH[:1], "case_00003": BOTH[1:], "case_00009": BOTH}
    table, quarantined = read_kits(release(tmp_path, records, cases))
    assert table["patient_id"].tolist() == ["case_00000"]
    assert [(item.patient_id, item.code) for item in quarantined] == [
        ("case_00001", Code.LABEL_MISSING),
        ("case_00002", Code.FILE_MISSING),
        ("case_00003", Code.FILE_MISSING),
        ("case_00009", Code.LABEL_MISSING),
    ]
    assert quarantined[1].file.endswith("case_00002/segmentation.nii.gz")


def test_a_folder_in_another_layout_is_refused(tmp_path):
    with pytest.raises(StudyError, match=r"kits23\.json"):
        read_kits(tmp_path)
    (tmp_path / "kits23.json").write_text("{")
    with pytest.raises(StudyError, match="JSON list of cases"):
        read_kits(tmp_path)
    (tmp_path / "kits23.json").write_text("[]")
    with pytest.raises(StudyError, match="case_NNNNN"):
        read_kits(tmp_path)
    (tmp_path / "kits23.json").write_text(json.dumps([RECORD, RECORD]))
    with pytest.raises(StudyError, match="repeats"):
        read_kits(tmp_path)


def test_the_real_release(real_data, tmp_path):
    """The real segmentations and pathology; the images, which are not here, stand in as empty files."""
    source = real_data / "kits23"
    cases = sorted(path.name for path in source.glob("case_*"))
    for case in cases:
        (tmp_path / case).mkdir()
        (tmp_path / case / "segmentation.nii.gz").symlink_to(source / case / "segmentation.nii.gz")
        (tmp_path / case / "imaging.nii.gz").touch()
    (tmp_path / "kits23.json").write_bytes((source / "kits23.json").read_bytes())
    table, quarantined = read_kits(tmp_path)
    assert len(cases) == 25
    assert [(item.patient_id, item.code) for item in quarantined] == [("case_00512", Code.LABEL_MISSING)]
    assert table["patient_id"].tolist() == [case for case in cases if case != "case_00512"]
    pathology = {record["case_id"]: record for record in json.loads((source / "kits23.json").read_text())}
    for row in table.itertuples():
        record = pathology[row.patient_id]
        assert row.label == int(record["malignant"])
        assert row.age == record["age_at_nephrectomy"]
        assert row.max_diameter_mm == pytest.approx(10 * record["radiographic_size"])
        assert row.histology == record["tumor_histologic_subtype"]
    assert {0, 1} == set(table["label"])
    assert pd.api.types.is_float_dtype(table["age"])


def test_the_real_folder_without_images(real_data):
    table, quarantined = read_kits(real_data / "kits23")
    assert table.empty
    assert {item.code for item in quarantined} == {Code.FILE_MISSING, Code.LABEL_MISSING}
    assert len(quarantined) == 25
