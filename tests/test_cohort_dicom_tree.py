"""A folder of DICOM with a table of labels."""

import stat
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from dicom_files import ct_slice, save, write_seg, write_series
from pydicom import dcmread

from renal_ray.cohort.dicom_tree import read_dicom_tree
from renal_ray.cohort.scan.hashing import KEY_FILE, keyed_hash
from renal_ray.cohort.source import load_cohort
from renal_ray.config import Cohort, Selection
from renal_ray.imaging.patient import read_patient
from renal_ray.problems import Code, StudyError

VOLUME = (np.arange(3 * 6 * 6).reshape(3, 6, 6) - 100).astype(np.int16)
MASK = np.zeros((6, 6), bool)
MASK[1:4, 2:5] = True


def patient(folder, patient_id, *, seg=True, **options):
    slices = write_series(folder / "ct", VOLUME, patient_id=patient_id, **options)
    if seg:
        write_seg(folder / "seg.dcm", [(1, slices[1], MASK)], patient_id=patient_id)
    return slices


def labels(folder, text):
    path = folder / "labels.csv"
    path.write_text("patient_id,label,sex\n" + text, encoding="utf-8")
    return path


def codes(quarantined) -> dict[str, Code]:
    return {item.patient_id: item.code for item in quarantined}


def test_series_and_seg_are_paired_by_header(tmp_path):
    tree = tmp_path / "tree"
    patient(tree / "x1", "P1")
    patient(tree / "x2", "P2")
    (tree / "notes.txt").write_text("nothing", encoding="utf-8")
    path = labels(tmp_path, "P2,malignant,f\nP1,0,M\n")
    table, quarantined = load_cohort(Cohort(dicom=tree, labels=path))
    assert not quarantined
    assert table["patient_id"].tolist() == ["P2", "P1"]
    assert table["label"].tolist() == [1, 0]
    assert table["sex"].tolist() == ["female", "male"]
    assert table["image"].tolist() == [str(tree / "x2/ct"), str(tree / "x1/ct")]
    assert table["mask"].tolist() == [str(tree / "x2/seg.dcm"), str(tree / "x1/seg.dcm")]
    assert list(table.columns) == ["patient_id", "label", "image", "mask", "sex", "series"]
    assert table["label"].dtype == "Int8"


def test_one_flat_folder_with_everything(tmp_path):
    """Two phases, a scout and the mask side by side: the pair is read as it was found."""
    tree = tmp_path / "tree"
    arterial = write_series(tree, VOLUME[::-1], series="1.2.1")
    for item in arterial:
        (tree / item.filename).rename(tree / f"a{(tree / item.filename).name}")
    venous = write_series(tree, VOLUME, series="1.2.2")
    scout = ct_slice(
        tree / "scout.dcm",
        np.zeros((8, 8), np.int16),
        (0, 0, 0),
        series="1.2.3",
        orientation=(1, 0, 0, 0, 0, -1),
    )
    scout.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    save(scout)
    write_seg(tree / "seg.dcm", [(1, venous[1], MASK)])
    table, quarantined = read_dicom_tree(tree, labels(tmp_path, "P1,1,\n"), keep_ids=True)
    assert not quarantined
    cohort = Cohort(dicom=tree, labels=tmp_path / "labels.csv")
    got = read_patient(
        Path(table["image"][0]), Path(table["mask"][0]), cohort=cohort, selection=Selection()
    )
    assert np.array_equal(got.hu[0], VOLUME[1])


def test_patients_that_cannot_be_used(tmp_path):
    tree = tmp_path / "tree"
    patient(tree / "1", "ok")
    patient(tree / "2", "no-label")
    patient(tree / "3", "empty-label")
    patient(tree / "4", "no-seg", seg=False)
    slices = patient(tree / "5", "only-seg")
    for item in slices:
        (tree / item.filename).unlink()
    patient(tree / "6", "conflict")
    patient(tree / "7", "")
    slices = patient(tree / "8", "two-segs")
    write_seg(tree / "8" / "again.dcm", [(1, slices[1], MASK)], patient_id="two-segs")
    slices = patient(tree / "9", "two-series")
    other = write_series(tree / "9" / "other", VOLUME, patient_id="two-series")
    write_seg(tree / "9" / "other.dcm", [(1, other[1], MASK)], patient_id="two-series")
    slices = patient(tree / "10", "unsaid", seg=False)
    write_series(tree / "10" / "other", VOLUME, patient_id="unsaid")
    write_seg(
        tree / "10" / "seg.dcm",
        [(1, slices[1], MASK)],
        patient_id="unsaid",
        series=None,
        sources=False,
    )
    slices = patient(tree / "11", "elsewhere", seg=False)
    write_seg(
        tree / "11" / "seg.dcm",
        [(1, slices[1], MASK)],
        patient_id="elsewhere",
        series="1.2.99",
        sources=False,
    )
    names = [
        "ok",
        "empty-label",
        "no-seg",
        "only-seg",
        "absent",
        "two-segs",
        "two-series",
        "unsaid",
        "elsewhere",
    ]
    rows = "".join(f"{name},{'' if name == 'empty-label' else 1},\n" for name in names)
    table, quarantined = read_dicom_tree(
        tree, labels(tmp_path, rows + "conflict,1,\nconflict,0,\n"), keep_ids=True
    )
    assert table["patient_id"].tolist() == ["ok"]
    unlisted = keyed_hash(tmp_path / KEY_FILE)(
        "no-label"
    )  # no table of the user's names this id: it stays in the files
    assert codes(quarantined) == {
        unlisted: Code.LABEL_MISSING,
        "empty-label": Code.LABEL_MISSING,
        "": Code.LABEL_MISSING,
        "no-seg": Code.SERIES_WITHOUT_MASK,
        "only-seg": Code.MASK_WITHOUT_SERIES,
        "absent": Code.FILE_MISSING,
        "conflict": Code.LABEL_CONFLICT,
        "two-segs": Code.SEVERAL_MASKS,
        "two-series": Code.SEVERAL_SERIES,
        "unsaid": Code.SEVERAL_SERIES,
        "elsewhere": Code.MASK_WITHOUT_SERIES,
    }
    assert len(quarantined) == len(codes(quarantined))
    assert not any("CANARY" in item.message or "1.2." in item.message for item in quarantined)


def test_seg_without_reference_goes_by_frame_of_reference(tmp_path):
    tree = tmp_path / "tree"
    slices = write_series(tree / "a", VOLUME, frame_of_reference="1.5.1")
    write_series(tree / "b", VOLUME, frame_of_reference="1.5.2")
    scout = ct_slice(
        tree / "scout.dcm",
        np.zeros((8, 8), np.int16),
        (0, 0, 0),
        series="1.2.77",
        frame_of_reference="1.5.1",
    )
    scout.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    save(scout)
    write_seg(tree / "seg.dcm", [(1, slices[1], MASK)], series=None)
    table, quarantined = read_dicom_tree(tree, labels(tmp_path, "P1,1,\n"), keep_ids=True)
    assert not quarantined
    assert table["image"].tolist() == [str(tree / "a")]


def test_a_broken_header_is_reported_with_its_folder_and_patient(tmp_path):
    """The file's name, which may be a UID, is not told."""
    tree = tmp_path / "tree"
    patient(tree / "x1", "P1")
    for number in (8, 9):
        path = tree / f"x{number}" / "ct" / patient(tree / f"x{number}", f"P{number}")[0].filename
        data = path.read_bytes()
        start = data.index(
            b"\x08\x00\x60\x00CS"
        )  # Modality; its value representation becomes one that does not exist
        path.write_bytes(data[: start + 4] + b"\x55\xe9" + data[start + 6 :])
    table, quarantined = read_dicom_tree(tree, labels(tmp_path, "P1,1,\nP8,0,\n"), keep_ids=True)
    assert table["patient_id"].tolist() == ["P1"]
    unlisted = keyed_hash(tmp_path / KEY_FILE)("P9")
    assert [(one.patient_id, one.code, one.file) for one in quarantined] == [
        ("P8", Code.FILE_UNREADABLE, str(tree / "x8/ct")),
        (unlisted, Code.FILE_UNREADABLE, str(tree / "x9/ct")),
        (unlisted, Code.LABEL_MISSING, ""),
    ]


def test_ids_become_a_keyed_hash(tmp_path):
    tree = tmp_path / "tree"
    patient(tree / "x1", "Doe/John")
    patient(tree / "x2", "SECRET-77")
    patient(tree / "x3", "SECRET-78")
    path = labels(tmp_path, "Doe/John,1,\nSECRET-77,0,\nSECRET-79,0,\n")
    cohort = Cohort(dicom=tree, labels=path, keep_ids=False)
    table, quarantined = load_cohort(cohort)
    key = tmp_path / KEY_FILE
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert table["label"].tolist() == [1, 0]
    assert table["patient_id"].str.fullmatch(r"[0-9a-f]{16}").all()
    said = " ".join(
        f"{item.patient_id} {item.file} {item.message}" for item in quarantined
    ) + " ".join(table["patient_id"])
    assert "SECRET" not in said
    assert "Doe" not in said
    assert len(quarantined) == 2
    pd.testing.assert_frame_equal(load_cohort(cohort)[0], table)  # the key is kept
    key.unlink()
    assert not set(load_cohort(cohort)[0]["patient_id"]) & set(
        table["patient_id"]
    )  # and without it the ids say nothing


def test_ids_that_cannot_be_file_names_need_the_hash(tmp_path):
    with pytest.raises(StudyError, match="slash"):
        read_dicom_tree(tmp_path, labels(tmp_path, "Doe/John,1,\n"), keep_ids=True)


def test_a_bad_key_is_refused(tmp_path):
    (tmp_path / KEY_FILE).write_text("not hexadecimal", encoding="utf-8")
    with pytest.raises(StudyError, match="key"):
        read_dicom_tree(tmp_path, labels(tmp_path, "P1,1,\n"), keep_ids=False)
    (tmp_path / KEY_FILE).write_text("ab", encoding="utf-8")
    with pytest.raises(StudyError, match="16 bytes"):
        read_dicom_tree(tmp_path, labels(tmp_path, "P1,1,\n"), keep_ids=False)


def test_repeated_rows_and_absent_folders(tmp_path):
    path = labels(tmp_path, "P1,1,\nP1,1,\n")
    with pytest.raises(StudyError, match=r"patient_id P1 is in lines \[2, 3\]"):
        read_dicom_tree(tmp_path, path, keep_ids=True)
    with pytest.raises(StudyError) as caught:
        read_dicom_tree(tmp_path, path, keep_ids=False)
    assert "P1" not in str(caught.value).replace(str(tmp_path), "")
    with pytest.raises(StudyError, match="no such folder"):
        read_dicom_tree(tmp_path / "none", path, keep_ids=True)


def test_real_series_of_several_patients(real_data, tmp_path):
    """Files of other institutions, paired by reference alone; their own ids, whatever they are,
    join the labels."""
    tree = real_data / "seg_liver"
    patient_id = str(dcmread(tree / "ct-3slice/01.dcm", stop_before_pixels=True).PatientID)
    path = labels(tmp_path, f"{patient_id},1,\n")
    table, quarantined = read_dicom_tree(tree, path, keep_ids=True)
    assert table.empty
    assert (
        codes(quarantined)[patient_id] is Code.SEVERAL_MASKS
    )  # liver.dcm and partial_overlaps.dcm
