"""The KiTS layout."""

import json
from pathlib import Path

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
    (folder / name).write_text(json.dumps(records), encoding="utf-8")
    for case, files in cases.items():
        (folder / case).mkdir()
        for file in files:
            (folder / case / file).write_bytes(b"x")
    return folder


BOTH = ("imaging.nii.gz", "segmentation.nii.gz")


@pytest.mark.parametrize("name", ["kits23.json", "kits.json"])
def test_a_case_becomes_a_row(tmp_path, name):
    table, quarantined = load_cohort(
        Cohort(kits=release(tmp_path, [RECORD], {"case_00000": BOTH}, name))
    )
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
    record = RECORD | {
        "malignant": False,
        "pathology_t_stage": "na",
        "tumor_isup_grade": None,
        "radiographic_size": None,
        "gender": None,
    }
    table, _ = read_kits(release(tmp_path, [record], {"case_00000": BOTH}))
    assert table["label"].tolist() == [0]
    assert table.loc[0, ["stage", "grade", "max_diameter_mm", "sex"]].isna().all()


def test_cases_that_cannot_be_used(tmp_path):
    records = [RECORD | {"case_id": f"case_0000{n}"} for n in range(4)]
    records[1]["malignant"] = None
    cases = {f"case_0000{n}": BOTH for n in (0, 1)} | {
        "case_00002": BOTH[:1],
        "case_00003": BOTH[1:],
        "case_00009": BOTH,
    }
    table, quarantined = read_kits(release(tmp_path, records, cases))
    assert table["patient_id"].tolist() == ["case_00000"]
    assert [(item.patient_id, item.code) for item in quarantined] == [
        ("case_00001", Code.LABEL_MISSING),
        ("case_00002", Code.FILE_MISSING),
        ("case_00003", Code.FILE_MISSING),
        ("case_00009", Code.LABEL_MISSING),
    ]
    assert quarantined[1].file.endswith("case_00002/segmentation.nii.gz")


@pytest.mark.parametrize(
    ("table", "cases"),
    [
        ("data/kits.json", "data"),
        ("dataset/kits23.json", "dataset"),
        ("kits21/data/kits.json", "kits21/data"),
    ],
)
def test_a_clone_of_each_release(tmp_path, table, cases):
    home = tmp_path / cases
    home.mkdir(parents=True)
    release(home, [RECORD], {"case_00000": BOTH}, "elsewhere.json")
    (home / "elsewhere.json").rename(tmp_path / table)
    for folder in (tmp_path, home):
        rows, quarantined = read_kits(folder)
        assert not quarantined
        assert rows["image"].tolist() == [str(home / "case_00000/imaging.nii.gz")]


def test_the_table_may_lie_one_folder_above(tmp_path, monkeypatch):
    (tmp_path / "cases").mkdir()
    release(tmp_path / "cases", [RECORD], {"case_00000": BOTH}, "kits.json")
    (tmp_path / "cases/kits.json").rename(tmp_path / "kits.json")
    assert read_kits(tmp_path / "cases")[0]["label"].tolist() == [1]
    monkeypatch.chdir(tmp_path / "cases")
    assert read_kits(Path())[0]["label"].tolist() == [1]


MAJ, OR, AND = (f"aggregated_{kind}_seg.nii.gz" for kind in ("MAJ", "OR", "AND"))


@pytest.mark.parametrize(
    ("files", "taken"),
    [
        ((MAJ, OR, AND), MAJ),
        (("segmentation.nii.gz", MAJ), "segmentation.nii.gz"),
        ((OR, AND), OR),
        ((AND,), AND),
    ],
)
def test_the_outlines_of_kits21(tmp_path, files, taken):
    table, quarantined = read_kits(
        release(tmp_path, [RECORD], {"case_00000": ("imaging.nii.gz", *files)}, "kits.json")
    )
    assert not quarantined
    assert table["mask"].tolist() == [str(tmp_path / "case_00000" / taken)]


def test_two_kinds_of_outline_are_not_mixed(tmp_path):
    records = [RECORD | {"case_id": f"case_0000{n}"} for n in range(3)]
    cases = {
        "case_00000": (BOTH[0], MAJ, OR),
        "case_00001": (BOTH[0], OR, "notes.txt"),
        "case_00002": ("private name.nii.gz",),
    }
    table, quarantined = read_kits(release(tmp_path, records, cases))
    assert table["mask"].tolist() == [str(tmp_path / "case_00000" / MAJ)]
    assert [(one.patient_id, one.code) for one in quarantined] == [
        ("case_00001", Code.FILE_MISSING),
        ("case_00002", Code.FILE_MISSING),
    ]
    message = (
        "segmentation.nii.gz or aggregated_MAJ_seg.nii.gz is missing from the case folder, "
        "which holds imaging.nii.gz and aggregated_OR_seg.nii.gz; download it"
    )
    assert quarantined[0].message == message
    assert (
        "imaging.nii.gz is missing from the case folder, which holds no file of KiTS"
        in quarantined[1].message
    )


def test_cases_without_a_segmentation_are_named(tmp_path):
    """KiTS19 has 300 cases and outlines of 210."""
    records = [RECORD | {"case_id": f"case_00{n}"} for n in (209, 210)]
    table, quarantined = read_kits(
        release(tmp_path, records, {"case_00209": BOTH, "case_00210": BOTH[:1]}, "kits.json")
    )
    assert table["patient_id"].tolist() == ["case_00209"]
    assert [(one.patient_id, one.code) for one in quarantined] == [
        ("case_00210", Code.FILE_MISSING)
    ]


@pytest.mark.parametrize(
    ("value", "label"),
    [
        (True, 1),
        (False, 0),
        (1, 1),
        (0, 0),
        (1.0, 1),
        ("true", 1),
        ("False", 0),
        ("1", 1),
        (" 0 ", 0),
        ("malignant", 1),
        ("benign", 0),
    ],
)
def test_malignant_in_other_words(tmp_path, value, label):
    table, quarantined = read_kits(
        release(tmp_path, [RECORD | {"malignant": value}], {"case_00000": BOTH})
    )
    assert not quarantined
    assert table["label"].tolist() == [label]


@pytest.mark.parametrize("value", ["yes", 2, -1, 0.5, [True], {"is": True}])
def test_malignant_that_says_neither_is_named(tmp_path, value):
    table, quarantined = read_kits(
        release(tmp_path, [RECORD | {"malignant": value}], {"case_00000": BOTH})
    )
    assert table.empty
    assert quarantined[0].code is Code.LABEL_MISSING
    assert (
        quarantined[0].message
        == f"the pathology table says {value!r} for malignant; enter true or false"
    )


@pytest.mark.parametrize("value", [None, "", "na"])
def test_malignant_that_is_not_known(tmp_path, value):
    quarantined = read_kits(
        release(tmp_path, [RECORD | {"malignant": value}], {"case_00000": BOTH})
    )[1]
    assert [one.message for one in quarantined] == [
        "the pathology table does not say whether the tumour is malignant"
    ]


def test_numbers_as_text(tmp_path):
    record = RECORD | {"radiographic_size": "2.4", "age_at_nephrectomy": " 49 "}
    assert read_kits(release(tmp_path, [record], {"case_00000": BOTH}))[0][
        ["max_diameter_mm", "age"]
    ].iloc[0].tolist() == [24.0, 49.0]
    (tmp_path / "kits23.json").write_text(
        json.dumps([record | {"radiographic_size": "na", "age_at_nephrectomy": ""}]),
        encoding="utf-8",
    )
    assert read_kits(tmp_path)[0][["max_diameter_mm", "age"]].isna().all(axis=None)
    (tmp_path / "kits23.json").write_text(
        json.dumps([record | {"radiographic_size": "2,4"}]), encoding="utf-8"
    )
    with pytest.raises(StudyError, match="case_00000: radiographic_size is '2,4', not a number"):
        read_kits(tmp_path)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_no_damage(tmp_path, encoding):
    release(tmp_path, [], {"case_00000": BOTH})
    (tmp_path / "kits23.json").write_bytes(json.dumps([RECORD]).encode(encoding))
    assert read_kits(tmp_path)[0]["label"].tolist() == [1]


def test_a_folder_whose_name_is_not_that_of_its_entry(tmp_path):
    table, quarantined = read_kits(release(tmp_path, [RECORD], {"case_0": BOTH, "case_7": BOTH}))
    assert table.empty
    assert "there is one named case_00000: rename the folder" in quarantined[0].message
    assert "add it or remove the folder" in quarantined[1].message


def test_a_folder_in_another_layout_is_refused(tmp_path):
    with pytest.raises(StudyError, match="case_NNNNN"):
        read_kits(tmp_path)
    (tmp_path / "imagesTr").mkdir()
    with pytest.raises(StudyError, match=r"nnU-Net's layout.*renal-ray scan"):
        read_kits(tmp_path)
    (tmp_path / "case_00000").mkdir()
    with pytest.raises(StudyError, match=r"none of kits23\.json and kits\.json"):
        read_kits(tmp_path)
    (tmp_path / "kits23.json").write_text("{", encoding="utf-8")
    with pytest.raises(StudyError, match="JSON list of cases"):
        read_kits(tmp_path)
    (tmp_path / "kits23.json").write_text(json.dumps([RECORD, RECORD]), encoding="utf-8")
    with pytest.raises(StudyError, match="repeats"):
        read_kits(tmp_path)


def test_the_real_release(real_data, tmp_path):
    """The real segmentations and pathology; the images, which are not here, stand in as empty
    files."""
    source = real_data / "kits23"
    cases = sorted(path.name for path in source.glob("case_*"))
    for case in cases:
        (tmp_path / case).mkdir()
        (tmp_path / case / "segmentation.nii.gz").symlink_to(source / case / "segmentation.nii.gz")
        (tmp_path / case / "imaging.nii.gz").touch()
    (tmp_path / "kits23.json").write_bytes((source / "kits23.json").read_bytes())
    table, quarantined = read_kits(tmp_path)
    assert len(cases) == 25
    assert [(item.patient_id, item.code) for item in quarantined] == [
        ("case_00512", Code.LABEL_MISSING)
    ]
    assert table["patient_id"].tolist() == [case for case in cases if case != "case_00512"]
    pathology = {
        record["case_id"]: record
        for record in json.loads((source / "kits23.json").read_text(encoding="utf-8"))
    }
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
