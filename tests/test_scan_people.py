"""scan: who is who, which ids are told, and which labelled patients are not there."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from dicom_files import save, write_seg, write_series
from scanning import HU, LESION, seen_in, volume

from renal_ray.cohort.dicom_tree import read_dicom_tree
from renal_ray.cohort.scan.hashing import KEY_FILE, keyed_hash
from renal_ray.cohort.scan.identity import identity, persons
from renal_ray.problems import Code

SERIES = np.ascontiguousarray(HU.T[::-1])
MASK = LESION.T[::-1]


def patient(
    folder: Path, patient_id: str, *, seg: bool = True, series: str | None = None, **person
):
    slices = write_series(folder / "ct", SERIES, patient_id=patient_id, series=series)
    for item in slices:
        for keyword, value in person.items():
            setattr(item, keyword, value)
        save(item)
    if seg:
        write_seg(folder / "seg.dcm", [(1, slices[2], MASK[2])], patient_id=patient_id)
    return slices


JANE = ("DOE^JANE", "19500304", "F")


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (("Doe^Jane", "19500304", "F"), True),
        (("DOE^JANE^MARIE^^Dr.", "19500304", "F"), True),
        (("Jane Doe", "", ""), True),
        (("DOEJANE", "19500304", "F"), True),
        (("MILLER^JANE", "19500304", "F"), True),  # married
        (("DOE^J", "19500304", "F"), True),
        (("D^J", "", "F"), True),
        (("", "", ""), True),
        (("ANONYMOUS", "", "O"), True),
        (("Anon^4711", "", ""), True),
        (("P-1", "", ""), True),
        (("Patient^P1", "", ""), True),
        (("Ду^Джейн", "19500304", "F"), True),  # another script
        (("DOE^JANE", "19500101", "F"), True),  # the year alone was kept
        (("DOE^JANE", "18000101", "F"), True),
        (("DOE^JANE", "19500304", "M"), False),
        (("DOE^JANE", "19510304", "F"), False),
        (("DOE^JANE", "19510101", "F"), False),
        (("DOE^JANET", "", ""), True),
        (("JANE^DOE", "", ""), True),
        (("DOE^MARY^JANE", "", ""), True),
        (("DOE^MARY", "19500304", "F"), True),  # a short form of a name may not be known
        (("DOE", "", ""), True),
        (("DOE^MARY", "", ""), False),
        (("DOE^RICHARD^M", "", ""), False),
        (("ROE^RICHARD", "", ""), False),
        (("ROE^RICHARD", "19500304", "F"), False),
        (("R^K", "", ""), False),
    ],
)
def test_two_headers_are_of_one_person_where_nothing_contradicts(other, same):
    one, two = identity(*JANE, "P1"), identity(*other, "P-1" if other[0] == "P-1" else "P1")
    assert (one.contradicts(two), two.contradicts(one)) == (not same, not same)
    assert persons([(one, "a"), (two, "b"), (one, "c")]) == (
        [["a", "b", "c"]] if same else [["a", "c"], ["b"]]
    )


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("MÜLLER^JÖRG", "Mueller^Joerg"),
        ("Núñez^José", "NUNEZ^JOSE"),
        ("van der Berg^A", "VANDERBERG^ANNA"),
        ("王^小明", "Wang^Xiaoming=王^小明"),
        ("Meier^Andreas", "Meier^Andraes"),
        ("Meier^Stephan", "Meier^Stefan"),
        ("Meier^Katharina", "Meier^Catarina"),
        ("Meier^Hans", "Meier^Hans-Peter"),
        ("Meier^Phillip", "Meier^Philipp"),
    ],
)
def test_spellings_of_one_name(one, two):
    assert not identity(one, "", "", "P1").contradicts(identity(two, "", "", "P1"))


def test_nothing_of_a_name_or_birth_date_is_kept():
    kept = repr(identity("CANARY^NAME", "19010203", "F", "P1"))
    assert not [secret for secret in ("canary", "CANARY", "1901", "0203") if secret in kept]


@pytest.mark.parametrize(
    "difference",
    [
        {"PatientSex": "M"},
        {"PatientBirthDate": "19600101"},
        {"PatientName": "ROE^RICHARD", "PatientSex": ""},
    ],
)
def test_two_persons_under_one_id_are_listed_and_nobody_is_proposed(tmp_path, difference):
    first = {"PatientName": "CANARY^JANE", "PatientBirthDate": "19500304", "PatientSex": "F"}
    patient(
        tmp_path / "tree/a", "P1", seg=False, series="1.2.5", **first
    )  # its SEG would name a third one
    patient(tmp_path / "tree/b", "P1", seg=False, series="1.2.6", **(first | difference))
    patient(tmp_path / "tree/c", "P2")
    seen = seen_in(tmp_path / "tree")
    assert seen.pairs["P1"] == ("", "")
    assert seen.pairs["P2"] == ("c/ct", "c/seg.dcm")
    assert ("P1", "", "different-persons") in seen.problems
    assert "person 1: " in seen.messages
    assert "person 2: " in seen.messages
    assert "CANARY" not in seen.messages
    (tmp_path / "labels.csv").write_text("patient_id,label\nP1,1\nP2,0\n", encoding="utf-8")
    table, quarantined = read_dicom_tree(tmp_path / "tree", tmp_path / "labels.csv", keep_ids=True)
    assert table["patient_id"].tolist() == ["P2"]
    assert [(one.patient_id, one.code) for one in quarantined] == [("P1", Code.DIFFERENT_PERSONS)]


def test_siblings_under_one_id_are_two_persons(tmp_path):
    for folder, name in (("a", "CANARY^HANS"), ("b", "CANARY^PETER")):
        patient(
            tmp_path / "tree" / folder,
            "P1",
            seg=False,
            series=f"1.2.5.{ord(folder)}",
            PatientName=name,
            PatientSex="",
            PatientBirthDate="",
        )
    seen = seen_in(tmp_path / "tree")
    assert seen.pairs == {"P1": ("", "")}
    assert seen.problems == {("P1", "", "different-persons")}


def test_a_mask_of_another_person_is_no_mask_of_this_one(tmp_path):
    patient(
        tmp_path / "tree",
        "P1",
        PatientName="ROE^RICHARD",
        PatientBirthDate="19500304",
        PatientSex="M",
    )
    seen = seen_in(tmp_path / "tree")  # whose SEG names another person
    assert seen.problems == {("P1", "", "different-persons")}
    assert "masks alone" in seen.messages


def test_labelled_patients_without_ct_are_named_as_the_manifest_would(tmp_path):
    patient(tmp_path / "tree/a", "001")
    volume(tmp_path / "tree/v7/ct.nii.gz", HU)
    volume(tmp_path / "tree/v7/mask.nii.gz", LESION)
    labels = tmp_path / "labels.csv"
    labels.write_text("patient_id,label\n001,0\n002,1\nv7,1\n003,\n", encoding="utf-8")
    seen = seen_in(tmp_path / "tree", labels=labels)
    assert seen.problems == {("002", "", "file-missing"), ("003", "", "file-missing")}
    assert seen.summary.not_found == 2
    assert {patient: row["label"] for patient, row in seen.rows.items()} == {"001": "0", "v7": "1"}
    hidden = keyed_hash(tmp_path / KEY_FILE)
    seen = seen_in(tmp_path / "tree", labels=labels, keep_ids=False)
    assert seen.problems == {
        (hidden("002"), "", "file-missing"),
        (hidden("003"), "", "file-missing"),
    }
    labels.write_text("patient_id,label\n001,0\n002,1\n", encoding="utf-8")
    _, quarantined = read_dicom_tree(tmp_path / "tree", labels, keep_ids=True)
    assert [(one.patient_id, one.code) for one in quarantined] == [("002", Code.FILE_MISSING)]


@pytest.mark.parametrize(
    ("in_files", "in_labels"),
    [("Zoë 1", "Zoe\u0308 1"), ("Ｐ１２", "P12"), ("P1", " P1 "), ("A\u00a01", "A 1")],
)
def test_ids_that_look_the_same_join(tmp_path, in_files, in_labels):
    for item in patient(tmp_path / "tree", "P1", seg=False):
        item.SpecificCharacterSet = "ISO_IR 192"
        item.PatientID = in_files
        save(item)
    (tmp_path / "labels.csv").write_text(f"patient_id,label\n{in_labels},1\n", encoding="utf-8")
    seen = seen_in(tmp_path / "tree", labels=tmp_path / "labels.csv")
    assert [(name, row["label"]) for name, row in seen.rows.items()] == [
        (unicodedata.normalize("NFC", in_labels.strip()), "1")
    ]
    assert not seen.summary.not_found


@pytest.mark.parametrize("keep_ids", [True, False])
def test_files_without_an_id_get_a_hash_and_no_uid_leaves_them(tmp_path, keep_ids):
    for number in (1, 2):
        slices = patient(
            tmp_path / f"tree/{number}", "", seg=False, StudyInstanceUID=f"1.2.826.{number}"
        )
        write_seg(tmp_path / f"tree/{number}/seg.dcm", [(1, slices[2], MASK[2])], patient_id="")
    patient(tmp_path / "tree/3", "", seg=False, StudyInstanceUID="")
    seen = seen_in(tmp_path / "tree", keep_ids=keep_ids)
    assert sorted(seen.pairs.values()) == [
        ("1/ct", "1/seg.dcm"),
        ("2/ct", "2/seg.dcm"),
        ("3/ct", ""),
    ]
    assert all(len(name) == 16 and set(name) <= set("0123456789abcdef") for name in seen.pairs)
    assert {patient for patient, _, code in seen.problems if code == "id-missing"} == set(
        seen.pairs
    )
    written = "".join(path.read_text(encoding="utf-8") for path in tmp_path.glob("*.csv"))
    assert "1.2.826" not in written
    assert seen_in(tmp_path / "tree", keep_ids=keep_ids).pairs == seen.pairs
