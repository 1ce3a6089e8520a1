"""predict on real patients: the numbers mean nothing - kidneys, livers and a sarcoma for renal
tumours - the way has to work."""

import json
import warnings
from pathlib import Path

import pydicom
import pytest
from click.testing import Result
from conftest import SmallWork
from test_apply_dicom import require_standard, walk
from typer.testing import CliRunner

from renal_ray.cli import app

PAIR = ["attention.dcm", "index.html", "prediction.json", "report.dcm"]


@pytest.fixture(scope="module")
def predicted(
    finished: SmallWork, real_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Path, Result]]:
    out = tmp_path_factory.mktemp("real") / "predictions"
    abdomen = real_data / "abdomen"
    asked = {
        "liver": [real_data / "seg_liver/ct-3slice", "--mask", real_data / "seg_liver/liver.dcm"],
        "sarcoma": [real_data / "rtstruct_sarcoma/STS_008/dicom"],
        "kidney": [
            abdomen / "example_ct.nii.gz",
            "--mask",
            abdomen / "example_ct_masks_uint8/kidney_left.nii.gz",
            "--lesion",
            "1",
        ],
        "no_uids": [
            abdomen / "example_ct_dicom",
            "--mask",
            abdomen / "example_seg_dicom.nii.gz",
            "--lesion",
            "5",
        ],
        "hole": [
            real_data / "broken/geometry/sliceincrement/001",
            "--mask",
            real_data / "seg_liver/liver.dcm",
        ],
    }
    done, warned = {}, []
    for name, arguments in asked.items():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            done[name] = CliRunner().invoke(
                app,
                ["predict", finished.work.uri, *map(str, arguments), "--id", name, "-o", str(out)],
            )
        warned += [str(one.message) for one in caught]
    (out / "warnings.txt").write_text("\n".join(warned), encoding="utf-8")
    return {name: (out / name, result) for name, result in done.items()}


def found(folder: Path) -> dict:
    return json.loads((folder / "prediction.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("name", "n_sources"), [("liver", 3), ("sarcoma", None)])
def test_dicom_patients_have_reports_that_refer_to_them(
    predicted: dict, real_data: Path, name: str, n_sources: int | None
) -> None:
    folder, done = predicted[name]
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in folder.iterdir()) == PAIR
    where = {
        "liver": real_data / "seg_liver/ct-3slice",
        "sarcoma": real_data / "rtstruct_sarcoma/STS_008/dicom/CT/image",
    }[name]
    headers = {
        header.SOPInstanceUID: header
        for header in (
            pydicom.dcmread(path, stop_before_pixels=True)
            for path in where.iterdir()
            if path.is_file()
        )
    }
    report, capture = (
        pydicom.dcmread(folder / "report.dcm"),
        pydicom.dcmread(folder / "attention.dcm"),
    )
    named = {
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for item in walk(report)
        if item.get("ValueType") == "IMAGE"
    }
    assert named <= set(headers)
    assert len(named) == (n_sources or found(folder)["lesion"]["slices_kept"])
    assert {item.ReferencedSOPInstanceUID for item in capture.SourceImageSequence} == named
    source = headers[next(iter(named))]
    for made in (report, capture):
        assert made.StudyInstanceUID == source.StudyInstanceUID
        assert str(made.PatientID) == str(source.PatientID)
        assert str(made.PatientName) == str(source.PatientName)
        assert require_standard(made) > 25
    said = done.output + (folder.parent / "warnings.txt").read_text(encoding="utf-8")
    assert str(source.PatientName) not in said  # highdicom would say what it thinks of the name
    text = (folder / "index.html").read_text(encoding="utf-8") + (
        folder / "prediction.json"
    ).read_text(encoding="utf-8")
    assert source.StudyInstanceUID not in text
    assert not str(source.PatientID) or str(source.PatientID) not in text


@pytest.mark.parametrize(
    ("name", "why"), [("kidney", "is no DICOM"), ("no_uids", "have no SOPClassUID")]
)
def test_without_an_identity_no_dicom_is_written_and_it_is_said(
    predicted: dict, name: str, why: str
) -> None:
    folder, done = predicted[name]
    assert done.exit_code == 0, done.output
    assert "no DICOM written" in done.output
    assert sorted(path.name for path in folder.iterdir()) == ["index.html", "prediction.json"]
    assert why in found(folder)["dicom"]["why_none"]
    assert why in (folder / "index.html").read_text(encoding="utf-8")


def test_lesions_are_those_of_the_masks(predicted: dict) -> None:
    """Attenuation published or counted independently; the liver's slices are all that the series
    has."""
    liver = found(predicted["liver"][0])["lesion"]
    assert (liver["slices_kept"], liver["slices_in_series"]) == (3, 3)
    assert (liver["hu"]["mean"], liver["hu"]["sd"]) == (
        pytest.approx(37, abs=1),
        pytest.approx(59, abs=1),
    )
    assert found(predicted["no_uids"][0])["lesion"]["hu"]["mean"] == pytest.approx(89, abs=3)
    assert any(
        one["code"] == "lesion-too-large" for one in found(predicted["liver"][0])["findings"]
    )


def test_a_series_with_a_hole_is_refused_by_its_code(predicted: dict) -> None:
    folder, done = predicted["hole"]
    assert done.exit_code == 2
    assert "missing-slice" in done.output
    assert not folder.exists()
