"""The command line on real inputs: a small study on KiTS23 segmentations, start to end, and
`prepare` on real patients of three kinds."""

import json
import os
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import yaml
from PIL import Image

WIDE = ["case_00419", "case_00425"]  # 651 and 632 columns, 512 rows
UNLABELLED = "case_00512"
BENIGN = ["case_00425", "case_00506", "case_00534", "case_00569"]
MALIGNANT = ["case_00021", "case_00285", "case_00419", "case_00441"]
SIZE, MOST_SLICES = 96, 4


def renal_ray(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The program as a user runs it, in a process of its own."""
    command = [sys.executable, "-c", "from renal_ray.cli import main; main()", *arguments]
    environment = os.environ | {
        "CUDA_VISIBLE_DEVICES": "-1",
        "PYTHONPATH": str(Path(__file__).resolve().parent.parent),
    }
    return subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        timeout=600,
        check=False,
    )


def study_file(folder: Path, **settings: object) -> str:
    common = {"name": "real", "work": "work", "weights": "random", "resources": {"cpus": 2}}
    (folder / "study.yaml").write_text(yaml.safe_dump(common | settings), encoding="utf-8")
    return "study.yaml"


def rows_of(work: Path, dataset: str, patient: str) -> pa.RecordBatch:
    """One patient's rows, by Arrow alone."""
    place = (
        pd.read_parquet(work / "slices" / dataset / "index.parquet")
        .set_index("patient_id")
        .loc[patient]
    )
    with pa.memory_map(str(work / "slices" / dataset / place["file"])) as file:
        return pa.ipc.open_file(file).get_batch(int(place["batch"]))


def images_of(work: Path, dataset: str, patient: str) -> np.ndarray:
    return rows_of(work, dataset, patient)["image"].to_numpy_ndarray()


@pytest.fixture(scope="module")
def kits(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a finished study on eight KiTS patients and one without pathology, attenuation
    painted into the real segmentations."""
    folder = tmp_path_factory.mktemp("kits")
    (folder / "real").mkdir()
    for name in [*BENIGN, *MALIGNANT, UNLABELLED, "kits23.json"]:
        (folder / "real" / name).symlink_to(real_data / "kits23" / name)
    painted = renal_ray(
        folder, "phantom", "cohort", "--patients", "25", "--format", "kits", "--anatomy", "real"
    )
    assert painted.returncode == 0, painted.stderr
    study_file(
        folder,
        cohort={"kits": "cohort"},
        selection={"max_slices": MOST_SLICES},
        images={"size": SIZE},
        datasets=["roi"],
        freeze_points=["mixed10"],
        folds={"n": 2, "method": "stratified"},
        heads={"use": ["image", "fc"]},
        training={"epochs": {"image": 2, "fc": 2}, "batch_size": 8, "embedding": 32},
    )
    ran = renal_ray(folder, "run", "study.yaml")
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-2000:]
    assert "prepared 8 patients" in ran.stdout
    return folder


def test_kits_patients_and_their_pathology(kits: Path) -> None:
    quarantine = pd.read_csv(kits / "work" / "quarantine.csv")
    assert quarantine[["patient_id", "code"]].to_numpy().tolist() == [[UNLABELLED, "label-missing"]]
    cohort = pd.read_parquet(kits / "work" / "cohort.parquet").set_index("patient_id")
    assert sorted(cohort.index) == sorted([*BENIGN, *MALIGNANT])
    assert cohort["label"].to_dict() == dict.fromkeys(BENIGN, 0) | dict.fromkeys(MALIGNANT, 1)
    for entry in json.loads((kits / "real" / "kits23.json").read_text(encoding="utf-8")):
        if entry["case_id"] in cohort.index:
            row = cohort.loc[entry["case_id"]]
            assert (row["sex"], row["age"], row["histology"]) == (
                entry["gender"],
                entry["age_at_nephrectomy"],
                entry["tumor_histologic_subtype"],
            )
            assert row["max_diameter_mm"] == pytest.approx(10 * entry["radiographic_size"])


def test_kits_slices_run_along_the_first_axis(kits: Path) -> None:
    """The kept slices and their areas, counted from the segmentations: I, P, L, so that the first
    is the uppermost."""
    cohort = pd.read_parquet(kits / "work" / "cohort.parquet").set_index("patient_id")
    for case in [*BENIGN, *MALIGNANT]:
        file = nib.load(kits / "real" / case / "segmentation.nii.gz")
        voxels = (np.asanyarray(file.dataobj) == 2).sum(axis=(1, 2))
        step, *pixel = file.header.get_zooms()
        rows = rows_of(kits / "work", "slice", case)
        kept = rows["slice_index"].to_numpy()
        assert cohort.loc[case, "n_slices_total"] == len(voxels)
        assert 0 < len(kept) == cohort.loc[case, "n_images"] <= MOST_SLICES
        assert (np.diff(kept) > 0).all()
        assert voxels[kept].min() >= 0.25 * voxels.max()
        assert sorted(voxels[kept]) == sorted(voxels)[-len(kept) :]
        np.testing.assert_allclose(
            rows["lesion_area_mm2"].to_numpy(), voxels[kept] * pixel[0] * pixel[1], rtol=1e-5
        )
        np.testing.assert_allclose(
            np.diff(rows["position_mm"].to_numpy()), -float(step) * np.diff(kept), rtol=1e-4
        )


@pytest.mark.parametrize("case", [*WIDE, "case_00021"])
def test_kits_slices_are_neither_turned_nor_stretched(kits: Path, case: str) -> None:
    made = images_of(kits / "work", "slice", case)
    stored = np.asanyarray(nib.load(kits / "cohort" / case / "imaging.nii.gz").dataobj)
    kept = rows_of(kits / "work", "slice", case)["slice_index"].to_numpy()
    border = (stored.shape[2] - stored.shape[1]) // 2
    thin = int(border * SIZE / stored.shape[2])
    assert not made[:, :thin].any()  # wider than high: black above and below
    assert not made[:, SIZE - thin :].any() or not thin
    for k, image in zip(kept, made, strict=True):
        red = np.pad(
            (np.clip(stored[k], -110, 190) + 110) * 0.85, ((border, border), (0, 0))
        ).astype(np.uint8)
        expected = np.asarray(
            Image.fromarray(red).resize((SIZE, SIZE), Image.Resampling.BOX)
        ).astype(int)
        off = {
            name: np.abs(image[..., 0] - turned).mean()
            for name, turned in {"": expected, "x": expected[:, ::-1], "y": expected[::-1]}.items()
        }
        assert off[""] < 5 < min(off["x"], off["y"])
        same = [np.abs(image[..., 0].T - expected).mean(), off[""]]
        assert same[0] > 2 * same[1]


def test_kits_study_ends_in_votes_and_a_report(kits: Path) -> None:
    work = kits / "work"
    splits = json.loads((work / "splits.json").read_text(encoding="utf-8"))["patients"]
    sealed = {patient for patient, row in splits.items() if row["role"] == "test"}
    assert {splits[patient]["label"] for patient in sealed} == {0, 1}
    assert len(list(work.glob("trials/*/result.json"))) == 4  # 2 folds x (image, fc)
    votes = pd.read_parquet(work / "test" / "votes.parquet")
    assert set(votes["patient_id"]) == sealed
    assert set(votes["n_models"]) == {2}
    per_slice = votes[votes["level"] == "slice"]
    assert len(per_slice) == sum(splits[patient]["n_images"] for patient in sealed)
    page = (work / "report" / "index.html").read_text(encoding="utf-8")
    assert UNLABELLED in page
    assert "label-missing" in page
    assert "clear_cell_rcc" in page or "clear cell" in page
    table = pd.read_csv(work / "report" / "tables" / "quarantine.csv")
    assert len(table) == 1


@pytest.fixture(scope="module")
def patients(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a manifest of three real patients: DICOM + SEG, NIfTI + NIfTI (one kidney as
    uint8, one as float64), DICOM + label map in LAS."""
    folder = tmp_path_factory.mktemp("patients")
    abdomen, ct = real_data / "abdomen", real_data / "abdomen/example_ct.nii.gz"
    rows = [
        ("seg", 1, real_data / "seg_liver/ct-3slice", real_data / "seg_liver/liver.dcm"),
        ("uint8", 0, ct, abdomen / "example_ct_masks_uint8/kidney_left.nii.gz"),
        ("float64", 0, ct, abdomen / "example_ct_masks_float64/kidney_right.nii.gz"),
        ("las", 1, abdomen / "example_ct_dicom", abdomen / "example_seg_dicom.nii.gz"),
    ]
    pd.DataFrame(rows, columns=["patient_id", "label", "image", "mask"]).to_csv(
        folder / "manifest.csv", index=False
    )
    study_file(
        folder,
        cohort={"manifest": "manifest.csv", "lesion_labels": [1, 5]},
        images={"size": 256, "crop": False},
        selection={"min_area_fraction": 0, "lesions": "all"},
    )
    return folder


@pytest.fixture(scope="module")
def prepared(patients: Path) -> Path:
    """The work directory of all of them: 1 is a kidney in the NIfTI masks and the spleen in the
    label map, 5 the liver; full frames."""
    ran = renal_ray(patients, "prepare", "study.yaml")
    assert ran.returncode == 0, ran.stderr
    assert (
        "too few for 5 folds" in ran.stdout
    )  # a handful of patients is prepared, and told that it cannot be split
    assert "prepared 4 patients" in ran.stdout
    return patients / "work"


def place(roi: np.ndarray) -> tuple[float, float]:
    """Mean row and column of what full-frame roi images show."""
    _, row, column = np.nonzero(roi[..., 0])
    return float(row.mean()), float(column.mean())


def test_three_kinds_of_patient_are_prepared(prepared: Path, real_data: Path) -> None:
    cohort = pd.read_parquet(prepared / "cohort.parquet").set_index("patient_id")
    assert cohort["n_slices_total"].to_dict() == {"seg": 3, "uint8": 112, "float64": 112, "las": 20}
    told = pd.read_csv(prepared / "quarantine.csv")
    assert set(told["severity"]) == {
        "warning"
    }  # the kidneys are on one and the same image, and the livers are larger than any renal tumour
    assert {(row.patient_id, row.code) for row in told.itertuples()} >= {
        ("uint8", "same-pixels"),
        ("float64", "same-pixels"),
    }
    areas = {}
    for name in cohort.index:
        rows = rows_of(prepared, "roi", name)
        assert len(rows) == cohort.loc[name, "n_images"]
        assert (np.diff(rows["slice_index"].to_numpy()) > 0).all()
        assert (np.diff(rows["position_mm"].to_numpy()) < 0).all()
        areas[name] = float(rows["lesion_area_mm2"].to_numpy().sum())
    for name, side in (("uint8", "left"), ("float64", "right")):
        file = nib.load(real_data / f"abdomen/example_ct_masks_{name}/kidney_{side}.nii.gz")
        zooms = file.header.get_zooms()
        assert areas[name] == pytest.approx(
            np.count_nonzero(np.rint(file.get_fdata()) == 1) * zooms[0] * zooms[1], rel=1e-4
        )
    labels = nib.load(real_data / "abdomen/example_seg_dicom.nii.gz")
    zooms = labels.header.get_zooms()
    assert areas["las"] == pytest.approx(
        np.isin(labels.get_fdata(), [1, 5]).sum() * zooms[0] * zooms[1], rel=1e-4
    )
    assert areas["seg"] == pytest.approx(107098 * 0.810547**2, rel=0.01)
    assert not (prepared / "splits.json").exists()


def test_orientation_of_the_prepared_images(prepared: Path) -> None:
    """The patient's left is at the right of the image, and the spine below the organs in front of
    it."""
    column = {
        name: place(images_of(prepared, "roi", name))[1] for name in ("seg", "uint8", "float64")
    }
    assert column["seg"] < 128
    assert column["float64"] < 128 < column["uint8"]
    for name in ("uint8", "las"):
        whole = images_of(prepared, "slice", name)[:, :, 118:138]
        bone = np.nonzero((whole == 255).all(axis=-1))[1]
        assert np.median(bone) > 128


def test_attenuation_of_the_liver_end_to_end(patients: Path) -> None:
    """The red channel is -110 to 190 HU; the kidney masks hold no 5 and are left out by name."""
    ran = renal_ray(
        patients,
        "prepare",
        "study.yaml",
        "--set",
        "cohort.lesion_labels=[5]",
        "--set",
        "work=livers",
    )
    assert ran.returncode == 0, ran.stderr
    quarantine = pd.read_csv(patients / "livers" / "quarantine.csv")
    left_out = quarantine[quarantine["severity"] == "error"]
    assert left_out[["patient_id", "code"]].to_numpy().tolist() == [
        ["uint8", "mask-empty"],
        ["float64", "mask-empty"],
    ]
    for name, hu in (("las", 89), ("seg", 37)):
        roi = images_of(patients / "livers", "roi", name)
        whole = images_of(patients / "livers", "slice", name)
        inside = (roi == whole).all(axis=-1) & roi.any(axis=-1)
        red = whole[..., 0][inside].astype(float)
        assert red.mean() / 255 * 300 - 110 == pytest.approx(hu, abs=6)
        assert place(roi)[1] < 128


def test_without_a_split_nothing_trains(prepared: Path) -> None:
    planned = renal_ray(prepared.parent, "plan", "study.yaml")
    assert planned.returncode == 2
    assert "splits.json" in planned.stderr
    assert "Traceback" not in planned.stderr
