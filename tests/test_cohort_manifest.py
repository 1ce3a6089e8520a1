"""The manifest: what is accepted, how it is read, what is refused and how it says so."""

import pandas as pd
import pytest

from renal_ray.cohort.manifest import normal_id, read_manifest, write_manifest
from renal_ray.cohort.source import load_cohort
from renal_ray.config import Cohort
from renal_ray.problems import Code, StudyError


def manifest(folder, text: str):
    path = folder / "manifest.csv"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(folder, text: str) -> str:
    path = manifest(folder, text)
    with pytest.raises(StudyError) as caught:
        read_manifest(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_labels_in_every_spelling(tmp_path):
    words = ["0", "1", "benign", "Malignant", "BENIGN", "", "1.0", " 0 "]
    table = read_manifest(
        manifest(
            tmp_path,
            "patient_id,label,image,mask\n"
            + "".join(f"p{n},{word},i,m\n" for n, word in enumerate(words)),
        )
    )
    assert table["label"].dtype == "Int8"
    assert table["label"].tolist() == [0, 1, 0, 1, 0, pd.NA, 1, 0]


def test_columns_and_types(tmp_path):
    text = (
        "\ufeffpatient_id,label,image,mask,sex,age,histology,max_diameter_mm,location,stage,grade,scanner,phase\n"
        "007,1,a/ct,a/seg.dcm,M,61.5,clear cell,41,Exophytic,1a,2,S1,arterial\n"
        "008,0,/data/ct,../seg.dcm,female,,,,,,,,\n"
    )
    table = read_manifest(manifest(tmp_path, text))
    assert table["patient_id"].tolist() == ["007", "008"]
    assert table["image"].tolist() == [str(tmp_path / "a/ct"), "/data/ct"]
    assert table["mask"].tolist() == [str(tmp_path / "a/seg.dcm"), "../seg.dcm"]
    assert table["sex"].tolist() == ["male", "female"]
    assert table["location"].iloc[0] == "exophytic"
    assert table["stage"].iloc[0] == "1a"
    assert table["age"].tolist()[0] == 61.5
    assert (
        table.loc[
            1,
            [
                "age",
                "histology",
                "max_diameter_mm",
                "location",
                "stage",
                "grade",
                "scanner",
                "phase",
            ],
        ]
        .isna()
        .all()
    )
    assert table["age"].dtype == table["max_diameter_mm"].dtype == "float64"


def test_optional_columns_that_are_absent_stay_absent(tmp_path):
    assert list(
        read_manifest(manifest(tmp_path, "mask,image,label,patient_id\nm,i,1,p\n")).columns
    ) == ["patient_id", "label", "image", "mask"]


@pytest.mark.parametrize("name", ["m.csv", "m.parquet"])
def test_written_and_read_back(tmp_path, name):
    text = (
        "patient_id,label,image,mask,sex,age,grade\n"
        "p1,1,ct/p1,seg/p1.dcm,M,61,2\n"
        "p2,,/elsewhere/ct,/elsewhere/m.nii.gz,,,\n"
    )
    table = read_manifest(manifest(tmp_path, text))
    write_manifest(table, tmp_path / name)
    pd.testing.assert_frame_equal(read_manifest(tmp_path / name), table)


def test_a_written_manifest_moves_with_its_folder(tmp_path):
    old = tmp_path / "old"
    old.mkdir()
    table = read_manifest(manifest(old, "patient_id,label,image,mask\np1,1,ct/p1,seg/p1.dcm\n"))
    write_manifest(table, old / "again.csv")
    old.rename(tmp_path / "new")
    assert read_manifest(tmp_path / "new" / "again.csv")["image"].tolist() == [
        str(tmp_path / "new/ct/p1")
    ]


def test_parquet_with_numbers(tmp_path):
    path = tmp_path / "m.parquet"
    pd.DataFrame(
        {
            "patient_id": [7, 8],
            "label": [1.0, None],
            "image": ["i", None],
            "mask": ["m", "m"],
            "age": [50, None],
        }
    ).to_parquet(path)
    table = read_manifest(path)
    assert table["patient_id"].tolist() == ["7", "8"]
    assert table["label"].tolist() == [1, pd.NA]
    assert table["image"].tolist() == [str(tmp_path / "i"), ""]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "patient_id,label,image,mask,tumour_size\np,1,i,m,3\n",
            ["unknown columns ['tumour_size']", "max_diameter_mm"],
        ),
        ("patient_id,label,image\np,1,i\n", ["['mask']", "missing"]),
        ("patient_id,label,image,mask\n", ["no patients"]),
        ("patient_id,label,image,mask\np,2,i,m\n", ["line 2", "'2'", "benign"]),
        ("patient_id,label,image,mask\np,1,i,m\nq,1,i,m\np,1,i,m\n", ["patient_id p", "[2, 4]"]),
        ("patient_id,label,image,mask\np,1,i,m\np,0,j,m\n", ["patient_id p", "[2, 3]"]),
        ("patient_id,label,image,mask\na/b,1,i,m\n", ["line 2", "slash"]),
        ("patient_id,label,image,mask\na\\b,1,i,m\n", ["line 2"]),
        ("patient_id,label,image,mask\n..,1,i,m\n", ["line 2"]),
        ("patient_id,label,image,mask\n,1,i,m\n", ["line 2", "empty"]),
        ("patient_id,label,image,mask,age\np,1,i,m,old\n", ["line 2", "age", "'old'"]),
        ("patient_id,label,image,mask,age\np,1,i,m,-3\n", ["age", "zero or more"]),
        ("patient_id,label,image,mask,max_diameter_mm\np,1,i,m,inf\n", ["max_diameter_mm"]),
        ('patient_id,label,image,mask\n"p,1,i,m\n', ["not readable"]),
        ("patient_id,label,image,mask\nx,p,1,i,m\ny,q,0,i,m\n", ["more cells"]),
        (
            "patient_id,label,image,mask\np,1,i,m\nq,1,i,m,x\n",
            ["line 3", "more cells (5)", "(4)", "surplus commas"],
        ),
    ],
)
def test_refusals_say_what_and_where(tmp_path, text, words):
    message = refusal(tmp_path, text)
    assert all(word in message for word in words), message


def test_absent_and_foreign_files(tmp_path):
    with pytest.raises(StudyError, match="no such table"):
        read_manifest(tmp_path / "none.csv")
    (tmp_path / "m.xlsx").write_bytes(b"PK")
    with pytest.raises(StudyError, match=r"\.csv or \.parquet"):
        read_manifest(tmp_path / "m.xlsx")
    (tmp_path / "m.parquet").write_bytes(b"no parquet")
    with pytest.raises(StudyError, match="not readable as parquet"):
        read_manifest(tmp_path / "m.parquet")
    (tmp_path / "latin.csv").write_bytes(
        "patient_id,label,image,mask\nJ\xfcrgen,1,i,m\n".encode("latin-1")
    )
    with pytest.raises(StudyError, match=r"not readable as csv.* UTF-8"):
        read_manifest(tmp_path / "latin.csv")


def test_rows_that_cannot_be_used_are_set_aside(tmp_path):
    for name in ("ct", "seg.dcm"):
        (tmp_path / name).mkdir()
    text = (
        "patient_id,label,image,mask\na,1,ct,seg.dcm\nb,,ct,seg.dcm\n"
        "c,0,nothing,seg.dcm\nd,0,ct,\ne,0,ct,seg.dcm\n"
    )
    table, quarantined = load_cohort(Cohort(manifest=manifest(tmp_path, text)))
    assert table["patient_id"].tolist() == ["a", "e"]
    assert table.index.tolist() == [0, 1]
    assert [(item.patient_id, item.code) for item in quarantined] == [
        ("b", Code.LABEL_MISSING),
        ("c", Code.FILE_MISSING),
        ("d", Code.FILE_MISSING),
    ]
    assert quarantined[1].file == str(tmp_path / "nothing")
    assert "mask" in quarantined[2].message


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        (" 007 ", "007"),
        ("\u00a0007\u2009", "007"),
        ("\u200b0\u200d07\ufeff", "007"),
        ("\u202a007\u202c", "007"),
        ("Ju\u0308rgen", "J\u00fcrgen"),
        ("\uff30\uff10\uff17", "P07"),
        ("\uff76\uff9e", "\u30ac"),  # half-width ka and voicing mark: one letter
        ("A\u00a01", "A 1"),
        ("A  1", "A  1"),
        ("P\u00b2", "P\u00b2"),  # not P2
        ("kits-1", "kits-1"),
        ("a\tb", "a\tb"),
        ("\u200b", ""),
    ],
)
def test_ids_that_look_the_same_are_the_same(text, normal):
    assert normal_id(text) == normal
    assert normal_id(normal) == normal
