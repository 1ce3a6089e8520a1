"""DICOMDIR against its folder, as media and copies of media have them."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from dicom_files import write_series
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.fileset import FileSet
from pydicom.uid import ExplicitVRLittleEndian, MediaStorageDirectoryStorage, generate_uid

from renal_ray.cohort.scan.dicomdir import check_dicomdir
from renal_ray.problems import Code


def dicomdir(path: Path, *names: str | list[str]) -> Path:
    """A DICOMDIR with a record for each name."""
    dataset, meta = Dataset(), FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID, meta.TransferSyntaxUID = (
        MediaStorageDirectoryStorage,
        generate_uid(),
        ExplicitVRLittleEndian,
    )
    dataset.file_meta = meta
    dataset.DirectoryRecordSequence = []
    for name in names:
        record = Dataset()
        record.DirectoryRecordType = "IMAGE"
        record.add_new("ReferencedFileID", "LO", name)  # of which pydicom takes any character
        record["ReferencedFileID"].VR = "CS"
        dataset.DirectoryRecordSequence.append(record)
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def files(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def problems(path: Path) -> dict[Code, str]:
    return {problem.code: problem.message for problem in check_dicomdir(path)}


NAMED = ["DICOM\\IM1", "DICOM\\IM2"]


@pytest.mark.parametrize(
    "there",
    [
        ("DICOM/IM1", "DICOM/IM2"),
        ("dicom/im1", "dicom/im2"),
        ("Dicom/IM1.;1", "Dicom/IM2.;1"),
        ("DICOM/IM1;1", "DICOM/IM2;12"),
        ("DICOM/IM1.", "DICOM/im2.dcm"),
        ("DICOM/IM1.DCM;1", "DICOM/IM2.DCM;1"),
    ],
)
def test_copies_of_a_medium(tmp_path, there):
    files(tmp_path, *there)
    assert not problems(dicomdir(tmp_path / "DICOMDIR", *NAMED))
    (tmp_path / there[1]).unlink()
    assert problems(tmp_path / "DICOMDIR") == {
        Code.DICOMDIR_INCOMPLETE: (
            "1 of the 2 files that the DICOMDIR names are not there; copy the medium again"
        )
    }


@pytest.mark.parametrize(
    "name",
    [
        "\\DICOM\\IM1",
        "/DICOM/IM1",
        "DICOM/IM1",
        ".\\DICOM\\IM1",
        "D:\\DICOM\\IM1",
        "D:/DICOM/IM1",
        "dicom\\im1 ",
    ],
)
def test_names_that_start_at_the_root(tmp_path, name):
    files(tmp_path, "DICOM/IM1")
    assert not problems(dicomdir(tmp_path / "DICOMDIR", name))
    (tmp_path / "DICOM/IM1").unlink()
    assert list(problems(tmp_path / "DICOMDIR")) == [Code.DICOMDIR_INCOMPLETE]


@pytest.mark.parametrize("place", ["DICOM/DICOMDIR", "dicom/DICOMDIR", "META/DICOMDIR"])
def test_a_dicomdir_in_a_folder_of_its_medium(tmp_path, place):
    files(tmp_path, "DICOM/IM1", "DICOM/IM2")
    assert not problems(dicomdir(tmp_path / place, *NAMED))


def test_a_dicomdir_two_folders_down(tmp_path):
    files(tmp_path, "A/B/IM1", "A/C/IM2")
    assert not problems(dicomdir(tmp_path / "A/B/DICOMDIR", "A\\B\\IM1", "A\\C\\IM2"))
    (tmp_path / "A/C/IM2").unlink()
    assert problems(tmp_path / "A/B/DICOMDIR")[Code.DICOMDIR_INCOMPLETE].startswith("1 of the 2")


def test_a_neighbour_is_not_taken_for_the_medium(tmp_path):
    """The files of one medium do not stand in for those of another, which have the same names."""
    files(tmp_path, "DICOM/IM1")
    assert problems(dicomdir(tmp_path / "second/DICOMDIR", *NAMED))[
        Code.DICOMDIR_INCOMPLETE
    ].startswith("2 of the 2")


@pytest.mark.parametrize(
    "name", ["..\\SECRET", "DICOM\\..\\..\\SECRET", "/../SECRET", "LINK\\SECRET"]
)
def test_names_that_lead_outside(tmp_path, name):
    files(tmp_path, "SECRET", "medium/DICOM/IM1")
    (tmp_path / "medium/LINK").symlink_to(tmp_path)
    found = problems(dicomdir(tmp_path / "medium/DICOMDIR", name, "DICOM\\IM1"))
    assert found == {
        Code.PATH_OUTSIDE: "the DICOMDIR names 1 files outside of its folder; they were not opened"
    }


def test_what_pydicom_writes(tmp_path):
    """An independent writer, whose medium is then copied by a program that writes names in lower
    case."""
    write_series(tmp_path / "ct", np.zeros((3, 8, 8), np.int16))
    medium = FileSet()
    for path in sorted((tmp_path / "ct").iterdir()):
        medium.add(path)
    medium.write(tmp_path / "medium")
    assert not problems(tmp_path / "medium/DICOMDIR")
    for path in sorted((tmp_path / "medium").rglob("*"), reverse=True):
        if path.name != "DICOMDIR":
            path.rename(path.with_name(path.name.lower()))
    assert not problems(tmp_path / "medium/DICOMDIR")
    shutil.rmtree(next(path for path in (tmp_path / "medium").iterdir() if path.is_dir()))
    assert problems(tmp_path / "medium/DICOMDIR")[Code.DICOMDIR_INCOMPLETE].startswith("3 of the 3")


def test_a_damaged_one(tmp_path):
    dicomdir(tmp_path / "DICOMDIR", *NAMED)
    data = (tmp_path / "DICOMDIR").read_bytes()
    (tmp_path / "DICOMDIR").write_bytes(data[:-20])
    assert set(problems(tmp_path / "DICOMDIR")) <= {Code.FILE_UNREADABLE, Code.DICOMDIR_INCOMPLETE}


def test_the_real_one(real_data):
    found = problems(real_data / "seg_variants/pydicom_dicomdirtests/DICOMDIR")
    assert found == {
        Code.DICOMDIR_INCOMPLETE: (
            "20 of the 31 files that the DICOMDIR names are not there; copy the medium again"
        )
    }
