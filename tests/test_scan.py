"""scan: folders of anything to a manifest that prepare reads, and nothing of a header but what a
manifest may hold."""

import os
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from dicom_files import BIRTH_DATE, ct_slice, save, write_rtstruct, write_seg, write_series
from typer.testing import CliRunner

from renal_ray.cli import app
from renal_ray.cohort.manifest import read_manifest
from renal_ray.cohort.scan.scan import scan
from renal_ray.config import Cohort, Selection
from renal_ray.imaging.patient import read_patient
from renal_ray.problems import PatientError, StudyError
from renal_ray.study_file import load_phase

VOLUME = np.random.default_rng(0).integers(-100, 200, (6, 20, 24)).astype(np.int16)
MASK = np.zeros((20, 24), np.uint8)
MASK[4:9, 5:12] = 1


def case(
    folder: Path, patient_id: str, *, seg: bool = True, description: str = "Abdomen", **options
):
    """One patient: a series and a SEG, with things in the header that must stay there."""
    slices = write_series(folder / "ct", VOLUME + len(patient_id), patient_id=patient_id, **options)
    for item in slices:
        item.SeriesDescription, item.InstitutionName, item.AccessionNumber = (
            description,
            "CANARY HOSPITAL",
            "CANARY-4711",
        )
        item.ReferringPhysicianName, item.PatientSex, item.PatientAge = "CANARY^DOCTOR", "F", "061Y"
        save(item)
    if seg:
        write_seg(folder / "seg.dcm", [(1, slices[2], MASK)], patient_id=patient_id)
    return slices


def problems(out: Path) -> dict[str, set[str]]:
    table = pd.read_csv(out.with_name(f"{out.stem}.problems.csv"), keep_default_na=False)
    return {patient: set(rows["code"]) for patient, rows in table.groupby("patient_id")}


def test_a_folder_becomes_a_manifest_that_prepare_reads(tmp_path):
    tree = tmp_path / "tree"
    case(tree / "a", "A")
    slices = case(tree / "b", "B", seg=False)
    k = float(slices[1].ImagePositionPatient[2])
    contour = np.array([(-9, -19, k), (-6, -19, k), (-6, -16, k), (-9, -16, k)])
    write_rtstruct(tree / "b/rt.dcm", [("GTV", contour)], series=str(slices[0].SeriesInstanceUID))
    item = next((tree / "b").glob("rt.dcm"))
    _rename_patient(item, "B")
    scout = ct_slice(
        tree / "a/scout", np.zeros((8, 8), np.int16), (0, 0, 0), series="1.2.77", patient_id="A"
    )
    scout.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    save(scout)
    (tree / "a/notes.txt").write_text("nothing", encoding="utf-8")
    (tree / "labels.csv").write_text("patient_id,label,stage\nA,1,II\nB,0,\n", encoding="utf-8")
    out = tmp_path / "manifest.csv"
    found = scan([tree], out, labels=tree / "labels.csv", keep_ids=True)
    assert (found.patients, found.complete, found.problems) == (2, 2, {})
    assert found.passed_over == {"localizer": 1, "not-dicom": 2}
    table = read_manifest(out)
    assert table["patient_id"].tolist() == ["A", "B"]
    assert table["label"].tolist() == [1, 0]
    assert table["stage"].tolist()[0] == "II"
    assert table[["sex", "age"]].to_numpy().tolist() == [["female", 61.0]] * 2
    for row in table.itertuples():
        got = read_patient(
            Path(row.image),
            Path(row.mask),
            cohort=Cohort(manifest=out),
            selection=Selection(),
            series=row.series,
        )
        assert got.mask.any()
    passed = pd.read_csv(tmp_path / "manifest.passed-over.csv")
    assert set(passed["code"]) == {"localizer", "not-dicom"}


def _rename_patient(path: Path, patient_id: str) -> None:
    from pydicom import dcmread

    item = dcmread(path)
    item.PatientID = patient_id
    item.save_as(path)


def test_ids_become_hashes_and_nothing_else_of_a_header_leaves_it(tmp_path, capfd, caplog):
    tree = tmp_path / "tree"
    for number, patient_id in enumerate(["CANARY-1", "CANARY-2", "CANARY-3"]):
        case(tree / str(number), patient_id, seg=number != 1)
    damaged = next((tree / "2/ct").iterdir())
    damaged.write_bytes(damaged.read_bytes()[:400])
    twin = case(tree / "3", "CANARY-4")
    for item in twin:
        item.PatientName = "CANARY^NAME CANARY-1"  # the same person under another id
        save(item)
    result = CliRunner().invoke(app, ["scan", str(tree), "-o", str(tmp_path / "m.csv")])
    assert result.exit_code == 0, result.output
    written = [path for path in tmp_path.iterdir() if path.is_file()]
    assert {path.name for path in written} == {
        "m.csv",
        "m.problems.csv",
        "m.passed-over.csv",
        ".renal-ray-key",
    }
    said = (
        result.output
        + "".join(capfd.readouterr())
        + caplog.text
        + "".join(path.read_text(encoding="utf-8") for path in written)
    )
    assert "CANARY" not in said
    assert BIRTH_DATE not in said
    assert "1.2.826" not in said  # no UID
    assert "same-person" in said
    table = read_manifest(tmp_path / "m.csv")
    assert table["patient_id"].str.fullmatch("[0-9a-f]{16}").all()
    assert table["label"].isna().all()


def test_a_manifest_elsewhere_names_files_absolutely(tmp_path, monkeypatch):
    case(tmp_path / "tree", "A")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    scan([Path("../tree")], Path("m.csv"))
    row = read_manifest(Path("m.csv")).iloc[0]
    assert row["image"] == str(tmp_path / "tree/ct")
    assert row["mask"] == str(tmp_path / "tree/seg.dcm")


def test_a_second_scan_does_not_eat_labels(tmp_path):
    case(tmp_path / "tree", "A")
    scan([tmp_path / "tree"], tmp_path / "m.csv")
    first = (tmp_path / "m.csv").read_bytes()
    with pytest.raises(StudyError, match="labels entered by hand"):
        scan([tmp_path / "tree"], tmp_path / "m.csv")
    assert (tmp_path / "m.csv").read_bytes() == first
    scan([tmp_path / "tree"], tmp_path / "m.csv", overwrite=True)
    assert (tmp_path / "m.csv").read_bytes() == first


PHASES = {
    "native": "1.1 nativ 5mm",
    "art": "Abdomen ARTERIAL 3.0",
    "pv": "portal venous",
    "late": "delayed 5 min",
}


def phases(tree: Path, *names: str, seg_on: str = "") -> None:
    for number, name in enumerate(names):
        slices = case(
            tree / f"{number}-{name}",
            "P",
            seg=False,
            description=PHASES.get(name, name),
            series=f"1.2.{number + 5}",
        )
        if name == seg_on:
            write_seg(tree / "seg.dcm", [(1, slices[2], MASK)], patient_id="P")


@pytest.mark.parametrize(
    ("names", "seg_on", "image", "codes"),
    [
        (("native", "art", "pv", "late"), "", "1-art", {"series-without-mask"}),
        (("native", "art", "pv"), "pv", "2-pv", set()),
        (("native", "pv"), "", None, {"several-series"}),
        (("art", "art"), "", None, {"several-series"}),
        (("whatever",), "whatever", "0-whatever", set()),
    ],
)
def test_a_series_is_proposed_by_mask_then_phase_and_ties_are_asked_for(
    tmp_path, names, seg_on, image, codes
):
    phases(tmp_path / "tree", *names, seg_on=seg_on)
    out = tmp_path / "m.csv"
    scan([tmp_path / "tree"], out, keep_ids=True)
    row = read_manifest(out).iloc[0]
    assert row["image"] == ("" if image is None else str(tmp_path / "tree" / image / "ct"))
    assert problems(out).get("P", set()) == codes


def test_phase_by_time_since_the_injection(tmp_path):
    for number, (start, acquired) in enumerate((("100000", "100034"), ("100000", "100112"))):
        slices = case(
            tmp_path / f"tree/{number}",
            "P",
            seg=False,
            description="5.0 B30f",
            series=f"1.2.{number + 5}",
        )
        for item in slices:
            item.ContrastBolusStartTime, item.AcquisitionTime = start, acquired
            save(item)
    scan([tmp_path / "tree"], tmp_path / "m.csv", keep_ids=True)
    assert read_manifest(tmp_path / "m.csv").iloc[0]["phase"] == "corticomedullary"
    scan(
        [tmp_path / "tree"],
        tmp_path / "n.csv",
        keep_ids=True,
        phase=load_phase("nephrographic", None),
    )
    assert read_manifest(tmp_path / "n.csv").iloc[0]["image"] == str(tmp_path / "tree/1/ct")


def test_rules_of_ones_own(tmp_path):
    rules = tmp_path / "rules.yaml"
    rules.write_text("early: {description: ['^fase 1']}\n", encoding="utf-8")
    assert load_phase("early", rules).use == "early"
    with pytest.raises(StudyError, match="corticomedullary"):
        load_phase("corticomedullary", rules)
    rules.write_text("early: {descriptions: []}\n", encoding="utf-8")
    with pytest.raises(StudyError, match="descriptions"):
        load_phase("early", rules)


def test_two_series_in_one_flat_folder_are_told_apart_by_key(tmp_path):
    tree = tmp_path / "tree"
    first, second = (
        write_series(tree / name, VOLUME * times, series=uid)
        for name, times, uid in (("x", 1, "1.2.5"), ("y", 2, "1.2.6"))
    )
    for folder in ("x", "y"):
        for path in (tree / folder).iterdir():
            path.rename(tree / f"{folder}{path.name}")
        (tree / folder).rmdir()
    write_seg(tree / "seg.dcm", [(1, second[2], MASK)])
    scan([tree], tmp_path / "m.csv", keep_ids=True)
    row = read_manifest(tmp_path / "m.csv").iloc[0]
    got = read_patient(
        Path(row["image"]),
        Path(row["mask"]),
        cohort=Cohort(manifest="x"),
        selection=Selection(),
        series=row["series"],
    )
    assert np.array_equal(got.hu[0], VOLUME[2] * 2)
    with pytest.raises(PatientError, match="scan it again"):
        read_patient(
            Path(row["image"]),
            Path(row["mask"]),
            cohort=Cohort(manifest="x"),
            selection=Selection(),
            series="0" * 12,
        )
    assert first


def test_volume_files_in_pairs(tmp_path):
    affine = np.diag([-1.0, -1, 2, 1])
    for name in (
        "one/image.nii.gz",
        "one/mask.nii.gz",
        "flat/a_ct.nii.gz",
        "flat/a_seg.nii.gz",
        "flat/b_ct.nii.gz",
        "flat/c_lesion.nii.gz",
    ):
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        values = (
            np.zeros((4, 4, 4), np.int16)
            if "seg" in name or "mask" in name or "lesion" in name
            else np.arange(64, dtype=np.int16).reshape(4, 4, 4) - 50
        )
        nib.save(nib.Nifti1Image(values, affine), tmp_path / "tree" / name)
    scan([tmp_path / "tree"], tmp_path / "m.csv", keep_ids=True)
    table = read_manifest(tmp_path / "m.csv").set_index("patient_id")
    assert {name: Path(mask).name for name, mask in table["mask"].items()} == {
        "one": "mask.nii.gz",
        "a": "a_seg.nii.gz",
        "b": "",
    }
    assert problems(tmp_path / "m.csv") == {"": {"mask-unpaired"}, "b": {"series-without-mask"}}


def test_processes_find_what_one_finds(tmp_path):
    case(tmp_path / "tree/a", "A")
    source = next((tmp_path / "tree/a/ct").iterdir())
    (tmp_path / "tree/many").mkdir()
    for number in range(600):
        os.link(source, tmp_path / f"tree/many/{number}")
    one, two = (
        scan([tmp_path / "tree"], tmp_path / f"{workers}.csv", keep_ids=True, workers=workers)
        for workers in (1, 2)
    )
    assert one == two
    assert (tmp_path / "1.csv").read_text(encoding="utf-8") == (tmp_path / "2.csv").read_text(
        encoding="utf-8"
    )


def test_bad_requests_are_one_sentence(tmp_path):
    for folder, said in (("/nowhere", "no such folder"), (tmp_path, "no CT series")):
        with pytest.raises(StudyError, match=said):
            scan([Path(folder)], tmp_path / "m.csv")
    assert (
        CliRunner().invoke(app, ["scan", "/nowhere", "-o", str(tmp_path / "m.csv")]).exit_code == 2
    )
    with pytest.raises(StudyError, match=r"ends in \.csv"):
        scan([tmp_path], tmp_path / "m.txt")


def test_everything_real_in_one_go(real_data, tmp_path):
    out = tmp_path / "m.csv"
    found = scan([real_data], out)
    assert found.files > 150
    table = read_manifest(out)
    sarcoma = table[table["image"].str.contains("STS_008/dicom")].iloc[0]
    assert (
        "STS_008/dicom/CT/mask" in sarcoma["mask"]
    )  # and not the NIfTI mask, which lies beside its own image
    assert table["mask"].str.contains("nifti/CT_mask").sum() == 1
    assert (
        not table["mask"].str.contains("example_seg_dicom").any()
    )  # beside an image of another size: not guessed
    assert found.problems["dicomdir-incomplete"] == 1
    shutil.copytree(
        real_data / "seg_liver/23x38x3",
        tmp_path / "one",
        ignore=shutil.ignore_patterns("multiframe"),
    )
    assert scan([tmp_path / "one"], tmp_path / "n.csv").patients >= 1
