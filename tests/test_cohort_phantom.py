"""The phantom cohort on disk: reproducible, readable by others' libraries, and what its tables
say."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest

from renal_ray.cohort.phantom import write_phantom
from renal_ray.cohort.phantom.patient import LESION, build_scan
from renal_ray.cohort.phantom.plan import plan_cohort
from renal_ray.problems import StudyError

SMALL = {"patients": 4, "seed": 5, "matrix": 96, "slice_mm": 8.0}


@pytest.fixture(scope="module")
def dicom_cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_phantom(tmp_path_factory.mktemp("phantom") / "one", workers=1, **SMALL).parent


def _contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _ct(patient: Path) -> tuple[np.ndarray, list[pydicom.Dataset]]:
    """HU and headers head to foot, by hand: position, slope and intercept."""
    slices = [pydicom.dcmread(path) for path in (patient / "ct").iterdir()]
    slices.sort(key=lambda ds: -float(ds.ImagePositionPatient[2]))
    hu = [ds.pixel_array * float(ds.RescaleSlope) + float(ds.RescaleIntercept) for ds in slices]
    return np.stack(hu), slices


def test_same_seed_gives_the_same_bytes_whatever_the_number_of_workers(
    dicom_cohort: Path, tmp_path: Path
) -> None:
    again = write_phantom(tmp_path / "two", workers=2, **SMALL).parent
    assert _contents(dicom_cohort) == _contents(again)


def test_another_seed_gives_other_pixels(dicom_cohort: Path) -> None:
    plan = plan_cohort(SMALL["patients"], SMALL["seed"])[0]
    scans = [build_scan(plan, seed=seed, matrix=64, slice_mm=10.0) for seed in (5, 6)]
    assert scans[0].hu.shape != scans[1].hu.shape or (scans[0].hu != scans[1].hu).any()


def test_tables_and_folders_agree(dicom_cohort: Path) -> None:
    manifest = pd.read_csv(dicom_cohort / "manifest.csv")
    labels = pd.read_csv(dicom_cohort / "labels.csv")
    assert list(manifest.columns)[:4] == ["patient_id", "label", "image", "mask"]
    pd.testing.assert_frame_equal(labels, manifest.drop(columns=["image", "mask"]))
    assert sorted(manifest["label"].unique()) == [0, 1]
    assert (manifest["label"] == 1).equals(manifest["histology"].str.endswith("rcc"))
    for row in manifest.itertuples():
        assert (dicom_cohort / row.image).is_dir()
        assert (dicom_cohort / row.mask).is_file()


def test_both_scanners_give_the_hounsfield_units_that_were_drawn(dicom_cohort: Path) -> None:
    manifest = pd.read_csv(dicom_cohort / "manifest.csv")
    assert set(manifest["scanner"]) == {"siemens", "philips"}
    for plan in plan_cohort(SMALL["patients"], SMALL["seed"]):
        drawn = build_scan(
            plan, seed=SMALL["seed"], matrix=SMALL["matrix"], slice_mm=SMALL["slice_mm"]
        )
        hu, slices = _ct(dicom_cohort / f"phantom-{plan.number:04d}")
        padding = [getattr(ds, "PixelPaddingValue", None) for ds in slices]
        seen = np.stack(
            [
                np.ones(ds.pixel_array.shape, bool) if value is None else ds.pixel_array != value
                for ds, value in zip(slices, padding, strict=True)
            ]
        )
        assert hu.shape == drawn.hu.shape
        assert (
            np.abs(hu - drawn.hu)[seen].max()
            <= max(float(ds.RescaleSlope) for ds in slices) / 2 + 1e-6
        )
        assert seen.mean() > 0.7
        assert (hu[~seen] < -1000).all()


def test_the_two_scanners_differ_in_their_habits(dicom_cohort: Path) -> None:
    manifest = pd.read_csv(dicom_cohort / "manifest.csv").set_index("scanner")
    habits = {}
    for scanner in ("siemens", "philips"):
        folder = dicom_cohort / manifest.loc[[scanner], "image"].iloc[0]
        by_name = [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
        positions = [float(ds.ImagePositionPatient[2]) for ds in by_name]
        head_first = sorted(by_name, key=lambda ds: -float(ds.ImagePositionPatient[2]))
        rising = [int(ds.InstanceNumber) for ds in head_first] == list(range(1, len(by_name) + 1))
        habits[scanner] = (
            by_name[0].PixelRepresentation,
            rising,
            positions == sorted(positions, reverse=True),
        )
    assert habits == {"siemens": (0, True, True), "philips": (1, False, False)}


def test_segmentation_reads_back_as_it_was_drawn(dicom_cohort: Path) -> None:
    import highdicom as hd

    for plan in plan_cohort(SMALL["patients"], SMALL["seed"]):
        patient = dicom_cohort / f"phantom-{plan.number:04d}"
        drawn = (
            build_scan(
                plan, seed=SMALL["seed"], matrix=SMALL["matrix"], slice_mm=SMALL["slice_mm"]
            ).labels
            == LESION
        )
        seg = hd.seg.segread(patient / "seg.dcm")
        _, slices = _ct(patient)
        mask = seg.get_pixels_by_source_instance(
            [ds.SOPInstanceUID for ds in slices],
            ignore_spatial_locations=True,
            assert_missing_frames_are_empty=True,
        )
        np.testing.assert_array_equal(mask[..., 0].astype(bool), drawn)
        assert seg.get_segment_description(1).segment_label == "Lesion"
        assert seg.SegmentationType == "BINARY"


def test_headers_hold_nothing_but_the_phantom(dicom_cohort: Path) -> None:
    _, slices = _ct(dicom_cohort / "phantom-0001")
    first = slices[0]
    assert first.PatientID == "phantom-0001"
    assert str(first.PatientName) == "Phantom^0001"
    assert first.file_meta.TransferSyntaxUID == pydicom.uid.ExplicitVRLittleEndian
    assert len({ds.SOPInstanceUID for ds in slices}) == len(slices)
    assert (
        len({(ds.SeriesInstanceUID, ds.StudyInstanceUID, ds.FrameOfReferenceUID) for ds in slices})
        == 1
    )
    for keyword in (
        "KVP",
        "ContrastBolusAgent",
        "AcquisitionTime",
        "SliceThickness",
        "PixelSpacing",
        "RescaleIntercept",
    ):
        assert keyword in first


def test_a_finished_cohort_is_left_alone_and_another_request_refused(dicom_cohort: Path) -> None:
    before = (dicom_cohort / "manifest.csv").stat().st_mtime_ns
    write_phantom(dicom_cohort, workers=1, **SMALL)
    assert (dicom_cohort / "manifest.csv").stat().st_mtime_ns == before
    with pytest.raises(StudyError, match=r"another request.*choose another folder"):
        write_phantom(dicom_cohort, workers=1, **{**SMALL, "seed": 6})


def test_an_interrupted_cohort_is_completed(tmp_path: Path) -> None:
    request = {"patients": 2, "seed": 2, "matrix": 64, "slice_mm": 10.0, "workers": 1}
    out = write_phantom(tmp_path / "cohort", **request).parent
    whole = _contents(out)
    (out / "manifest.csv").unlink()
    (out / "phantom-0002" / "seg.dcm").unlink()
    calls: list[tuple[int, int]] = []
    write_phantom(out, progress=lambda done, total: calls.append((done, total)), **request)
    assert _contents(out) == whole
    assert calls == [(1, 2), (2, 2)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"patients": 0}, "0 patients"),
        ({"format": "nrrd"}, "unknown format 'nrrd'"),
        ({"anatomy": Path("anywhere")}, "goes with format kits"),
        ({"matrix": 8}, "matrix of 8"),
        ({"slice_mm": 40.0}, "slices of 40.0 mm"),
    ],
)
def test_senseless_requests_are_refused(change: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=message):
        write_phantom(tmp_path / "out", **{**SMALL, **change})
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(StudyError, match=r"not empty.*empty or new folder"):
        write_phantom(tmp_path, **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_kits_layout(tmp_path: Path) -> None:
    import nibabel as nib

    out = write_phantom(
        tmp_path / "kits", patients=3, seed=4, format="kits", matrix=96, slice_mm=8.0, workers=1
    ).parent
    entries = json.loads((out / "kits23.json").read_text(encoding="utf-8"))
    manifest = pd.read_csv(out / "manifest.csv").set_index("patient_id")
    for entry, plan in zip(entries, plan_cohort(3, 4), strict=True):
        case = out / entry["case_id"]
        drawn = build_scan(plan, seed=4, matrix=96, slice_mm=8.0)
        image, labels = nib.load(case / "imaging.nii.gz"), nib.load(case / "segmentation.nii.gz")
        assert nib.aff2axcodes(image.affine) == ("I", "P", "L")
        assert image.get_data_dtype() == np.int16
        np.testing.assert_array_equal(np.asarray(image.dataobj), drawn.hu)
        np.testing.assert_array_equal(np.asarray(labels.dataobj), drawn.labels)
        np.testing.assert_allclose(image.header.get_zooms(), drawn.grid.spacing, rtol=1e-5)
        corner = image.affine @ [0, 0, 0, 1]
        np.testing.assert_allclose(
            corner[:3], [-drawn.grid.x[0], -drawn.grid.y[0], drawn.grid.z[0]], rtol=1e-5
        )
        assert entry["malignant"] == bool(manifest.loc[entry["case_id"], "label"])
        assert entry["radiographic_size"] == pytest.approx(
            manifest.loc[entry["case_id"], "max_diameter_mm"] / 10, abs=0.06
        )


def test_importing_the_room_is_cheap() -> None:
    heavy = ("highdicom", "scipy", "pydicom", "nibabel", "pandas", "numpy")
    code = (
        f"import sys, renal_ray.cohort.phantom; print([m for m in {heavy!r} if m in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        encoding="utf-8",
        check=True,
        cwd=Path(__file__).parent.parent,
    )
    assert found.stdout.strip() == "[]"
