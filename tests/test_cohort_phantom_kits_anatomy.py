"""Phantom attenuation in KiTS segmentations: the grid, the labels and the pathology stay, the
tissues get their HU."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from renal_ray.cohort.kits import read_kits
from renal_ray.cohort.phantom import write_phantom
from renal_ray.cohort.phantom.kits_anatomy import paint_case, signed_distance
from renal_ray.cohort.phantom.kits_files import row_of_entry
from renal_ray.problems import Code, StudyError


def _two_kidneys(shape: tuple[int, int, int] = (20, 96, 96)) -> np.ndarray:
    z, y, x = np.indices(shape)
    labels = np.zeros(shape, np.uint8)
    for middle in (28, 67):
        labels[((z - 10) / 7) ** 2 + ((y - 55) / 7) ** 2 + ((x - middle) / 8) ** 2 < 1] = 1
    labels[((z - 10) / 3) ** 2 + ((y - 50) / 5) ** 2 + ((x - 24) / 5) ** 2 < 1] = 2
    labels[((z - 10) / 3) ** 2 + ((y - 50) / 4) ** 2 + ((x - 71) / 4) ** 2 < 1] = 3
    return labels


def _folder(root: Path, affine: np.ndarray, labels: np.ndarray) -> Path:
    import nibabel as nib

    case = root / "case_00007"
    case.mkdir(parents=True)
    nib.save(nib.Nifti1Image(labels, affine), case / "segmentation.nii.gz")
    entry = {
        "case_id": "case_00007",
        "gender": "female",
        "malignant": True,
        "tumor_histologic_subtype": "clear_cell_rcc",
        "radiographic_size": 3.0,
    }
    (root / "kits23.json").write_text(json.dumps([entry]), encoding="utf-8")
    return root


@pytest.mark.parametrize(
    ("pathology", "low", "high"),
    [
        ({"tumor_histologic_subtype": "cyst", "malignant": False}, -10, 115),
        ({"tumor_histologic_subtype": "clear_cell_rcc", "malignant": True}, 25, 200),
        ({"tumor_histologic_subtype": "oncocytoma", "malignant": False}, 80, 190),
        ({"tumor_histologic_subtype": None, "malignant": None}, 40, 140),
    ],
)
def test_tissues_have_their_attenuation(pathology: dict, low: float, high: float) -> None:
    labels = _two_kidneys()
    hu = paint_case(labels, (8.0, 3.5, 3.5), pathology, [1, 2])
    assert hu.shape == labels.shape
    assert hu.dtype == np.int16
    inside = {label: hu[labels == label].mean() for label in (1, 2, 3)}
    assert 90 < inside[1] < 210
    assert low < inside[2] < high
    assert -15 < inside[3] < 70
    assert hu[:, 0, 0].max() < -900


def test_a_chunked_body_has_no_seam() -> None:
    labels = np.repeat(_two_kidneys(), 4, axis=0)  # 80 slices: two chunks
    hu = paint_case(
        labels, (2.0, 3.5, 3.5), {"tumor_histologic_subtype": "clear_cell_rcc"}, [3]
    ).astype(float)
    tissue = (
        np.clip(
            hu[:, ::2, ::2] + hu[:, 1::2, ::2] + hu[:, ::2, 1::2] + hu[:, 1::2, 1::2], -500, 500
        )
        / 4
    )  # less noise
    change = (np.diff(tissue, axis=0) ** 2).mean(axis=(1, 2))
    assert change[40:60].max() < 3 * np.median(change[40:60])


def test_the_grid_and_the_labels_stay_in_any_orientation(tmp_path: Path) -> None:
    import nibabel as nib

    labels = np.ascontiguousarray(_two_kidneys()[::-1, ::-1, ::-1].transpose(2, 1, 0))  # R, A, S
    affine = np.diag([3.5, 3.5, 8.0, 1.0])
    source = _folder(tmp_path / "real", affine, labels)
    out = write_phantom(
        tmp_path / "out", patients=9, seed=1, format="kits", anatomy=source, workers=1
    ).parent
    image = nib.load(out / "case_00007" / "imaging.nii.gz")
    assert image.shape == labels.shape
    np.testing.assert_allclose(image.affine, affine)
    assert (out / "case_00007" / "segmentation.nii.gz").read_bytes() == (
        source / "case_00007" / "segmentation.nii.gz"
    ).read_bytes()
    hu = np.asarray(image.dataobj)
    upright = hu.transpose(2, 1, 0)[::-1, ::-1, ::-1]
    np.testing.assert_array_equal(
        upright,
        paint_case(
            _two_kidneys(),
            (8.0, 3.5, 3.5),
            json.loads((source / "kits23.json").read_text(encoding="utf-8"))[0],
            _stream(1),
        ),
    )


def _stream(seed: int) -> list[int]:
    import zlib

    return [seed, zlib.crc32(b"case_00007")]


def test_signed_distance_of_a_ball() -> None:
    z, y, x = np.indices((21, 41, 41))
    ball = ((z - 10) * 2.0) ** 2 + (y - 20) ** 2 + (x - 20) ** 2 < 10**2
    distance = signed_distance(ball, (2.0, 1.0, 1.0))
    assert distance[10, 20, 20] == pytest.approx(-10, abs=1.1)
    assert distance[10, 20, 38] == pytest.approx(8, abs=1.1)
    assert ((distance < 0) == ball).all()


def test_a_folder_without_cases_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="no folder named case_NNNNN"):
        write_phantom(tmp_path / "out", patients=1, seed=1, format="kits", anatomy=tmp_path)
    (tmp_path / "case_00001").mkdir()
    with pytest.raises(StudyError, match=r"no case_NNNNN/segmentation\.nii\.gz"):
        write_phantom(tmp_path / "out", patients=1, seed=1, format="kits", anatomy=tmp_path)


@pytest.mark.parametrize(
    ("home", "table", "outline"),
    [
        ("data", "data/kits.json", "segmentation.nii.gz"),
        ("data", "", "segmentation.nii.gz"),
        ("kits21/data", "kits21/data/kits.json", "aggregated_MAJ_seg.nii.gz"),
    ],
)
def test_other_releases_of_kits(tmp_path: Path, home: str, table: str, outline: str) -> None:
    """A clone of KiTS19 holds segmentations without images; where no table is at hand, the labels
    are empty."""
    source = _folder(
        tmp_path / "clone" / home,
        np.diag([3.5, 3.5, 8.0, 1.0]),
        np.ascontiguousarray(_two_kidneys().transpose(2, 1, 0)),
    )
    (source / "case_00007" / "segmentation.nii.gz").rename(source / "case_00007" / outline)
    (source / "kits23.json").rename(tmp_path / "clone" / table) if table else (
        source / "kits23.json"
    ).unlink()
    out = write_phantom(
        tmp_path / "out", patients=1, seed=1, format="kits", anatomy=tmp_path / "clone", workers=1
    ).parent
    assert (out / "case_00007" / "segmentation.nii.gz").read_bytes() == (
        source / "case_00007" / outline
    ).read_bytes()
    rows, quarantined = read_kits(out)
    assert rows["label"].tolist() == ([1] if table else [])
    assert [one.code for one in quarantined] == ([] if table else [Code.LABEL_MISSING])
    manifest = pd.read_csv(out / "manifest.csv")
    assert manifest["label"].isna().tolist() == [not table]


def test_pathology_in_other_words(tmp_path: Path) -> None:
    row = row_of_entry(
        "case_00007",
        {"malignant": "false", "age_at_nephrectomy": "61", "pathology_t_stage": "1a"},
        30.04,
    )
    assert (row["label"], row["age"], row["stage"], row["max_diameter_mm"]) == (0, 61, None, 30.0)
    as_text, as_number = (
        paint_case(_two_kidneys(), (8.0, 3.5, 3.5), {"radiographic_size": size}, [1])
        for size in ("3.0", 3.0)
    )
    np.testing.assert_array_equal(as_text, as_number)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (_two_kidneys() * 1.3, "other values than 0 to 3"),
        (np.where(_two_kidneys() == 2, 255, 0).astype(np.int16), "other values than 0 to 3"),
    ],
)
def test_what_is_no_segmentation_of_kits_is_refused(
    tmp_path: Path, labels: np.ndarray, message: str
) -> None:
    source = _folder(tmp_path / "real", np.eye(4), labels)
    with pytest.raises(StudyError, match=message):
        write_phantom(
            tmp_path / "out", patients=1, seed=1, format="kits", anatomy=source, workers=1
        )


def test_a_segmentation_without_orientation_is_refused(tmp_path: Path) -> None:
    import nibabel as nib

    source = _folder(tmp_path / "real", np.eye(4), _two_kidneys())
    nib.save(nib.Nifti1Image(_two_kidneys(), None), source / "case_00007" / "segmentation.nii.gz")
    with pytest.raises(StudyError, match="how it lies in the patient"):
        write_phantom(
            tmp_path / "out", patients=1, seed=1, format="kits", anatomy=source, workers=1
        )


def test_a_broken_segmentation_is_named(tmp_path: Path) -> None:
    source = _folder(tmp_path / "real", np.eye(4), _two_kidneys())
    path = source / "case_00007" / "segmentation.nii.gz"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(StudyError, match="cannot be read as NIfTI"):
        write_phantom(
            tmp_path / "out", patients=1, seed=1, format="kits", anatomy=source, workers=1
        )


def test_real_segmentations(real_data: Path, tmp_path: Path) -> None:
    import nibabel as nib

    names = ["case_00425", "case_00512"]  # not square; without pathology
    source = tmp_path / "real"
    source.mkdir()
    for name in names:
        (source / name).symlink_to(real_data / "kits23" / name)
    (source / "kits23.json").symlink_to(real_data / "kits23" / "kits23.json")
    out = write_phantom(
        tmp_path / "out", patients=2, seed=1, format="kits", anatomy=source, workers=1
    ).parent
    entries = {
        entry["case_id"]: entry
        for entry in json.loads((source / "kits23.json").read_text(encoding="utf-8"))
    }
    assert json.loads((out / "kits23.json").read_text(encoding="utf-8")) == [
        entries[name] for name in names
    ]
    manifest = pd.read_csv(out / "manifest.csv").set_index("patient_id")
    assert manifest.loc["case_00425", "label"] == 0
    assert np.isnan(manifest.loc["case_00512", "label"])
    for name in names:
        image, labels = (
            nib.load(out / name / "imaging.nii.gz"),
            nib.load(out / name / "segmentation.nii.gz"),
        )
        assert image.shape == labels.shape
        np.testing.assert_array_equal(image.affine, labels.affine)
        hu, mask = np.asarray(image.dataobj), np.asarray(labels.dataobj)
        assert 90 < hu[mask == 1].mean() < 210
        assert 40 < hu[mask == 2].mean() < 190
