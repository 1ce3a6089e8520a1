"""What cannot be a CT by its values, looked at in a few slices before anybody is proposed with
it."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from dicom_files import save, write_series

from renal_ray.imaging import sample
from renal_ray.imaging.sample import series_no_ct, volume_no_ct
from renal_ray.imaging.survey import no_ct

SHAPE = (30, 40, 24)
RNG = np.random.default_rng(0)
HALF = np.arange(SHAPE[0])[:, None, None] < SHAPE[0] // 2  # what a mask would be


def body() -> np.ndarray:
    """HU: soft tissue with fat in it, air around."""
    hu = np.full(SHAPE, -1000.0)
    hu[5:25, 5:35] = 50
    hu[8:12, 8:20] = -100
    return hu + RNG.normal(0, 12, SHAPE)


IMPLAUSIBLE = {
    "every value": np.zeros(SHAPE),
    "2 whole numbers from 0 to 1": 1.0 * HALF,
    "2 whole numbers from 0 to 255": 255.0 * HALF,
    "117 whole numbers": np.arange(np.prod(SHAPE)).reshape(SHAPE) % 117.0,
    "whole numbers from 0 to 1": np.rint(
        np.clip(np.interp(body(), (-160, 240), (0, 255)), 0, 255)
    ),  # a picture
    "so it shows neither air nor fat": RNG.random(SHAPE),  # normalised
    "neither air nor fat": RNG.normal(0, 1, SHAPE),  # z-scores
    "neither air": np.where(HALF, RNG.random(SHAPE) * 21, 0),  # PET
    "neither": np.where(HALF, RNG.gamma(2, 100, SHAPE).astype(np.int16), 0),  # MR
    "air alone": np.where(HALF, -1023.0, -1024.0),  # a mask with the rescaling of a CT
    "no CT has": np.where(HALF, 65436.0, 40.0),
    "holds no numbers": np.full(SHAPE, np.nan),
}
PLAUSIBLE = {
    "body": body(),
    "padded": np.where(HALF, body(), -3024),
    "fat and soft tissue": np.where(HALF, 45.0, -95.0) + RNG.normal(0, 15, SHAPE),
    "window": np.clip(body(), -200, 300),
    "not a number outside": np.where(HALF, body(), np.nan),
}


def nifti(path: Path, values: np.ndarray) -> Path:
    nib.save(nib.Nifti1Image(values, np.diag([1.0, 1, 3, 1])), path)
    return path


@pytest.mark.parametrize("words", IMPLAUSIBLE)
def test_values_that_are_none_of_a_ct(tmp_path, words):
    values = IMPLAUSIBLE[words]
    assert words in (no_ct(values) or "")
    assert volume_no_ct(nifti(tmp_path / "a.nii.gz", values.astype(np.float64))) is not None
    assert volume_no_ct(nifti(tmp_path / "a.nii", values.astype(np.float32))) is not None


@pytest.mark.parametrize("what", PLAUSIBLE)
def test_values_that_can_be_a_ct(tmp_path, what):
    values = PLAUSIBLE[what]
    assert no_ct(values) is None
    assert volume_no_ct(nifti(tmp_path / "a.nii.gz", values)) is None


def test_a_packed_volume_is_unpacked_to_its_end_only_where_its_beginning_is_none(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(sample, "FIRST_BYTES", 8 * SHAPE[0] * SHAPE[1] * 6)
    monkeypatch.setattr("renal_ray.imaging.images.voxels.BLOCK", 1)
    air = body()
    air[:, :, :6] = -1024  # outside of the patient
    assert volume_no_ct(nifti(tmp_path / "air.nii.gz", air)) is None
    path = nifti(tmp_path / "cut.nii.gz", body())
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert volume_no_ct(path) is None  # what lies behind is not asked for


def test_series_are_looked_at_as_they_are_read(tmp_path):
    def files(folder: str) -> list[Path]:
        return sorted((tmp_path / folder).iterdir())

    write_series(tmp_path / "ct", np.rint(np.moveaxis(body(), 2, 0)))
    assert series_no_ct(files("ct")) is None
    mask = np.moveaxis(255 * HALF * np.ones(SHAPE), 2, 0)
    write_series(tmp_path / "mask", mask, intercept=0)
    assert "2 whole numbers from 0 to 255" in (series_no_ct(files("mask")) or "")
    write_series(tmp_path / "rescaled", mask - 1024)
    assert "air alone" in (series_no_ct(files("rescaled")) or "")
    for dataset in write_series(
        tmp_path / "padded", np.rint(np.moveaxis(body(), 2, 0)), intercept=0, padding=-32768
    ):
        pixels = dataset.pixel_array.copy()
        pixels[:3] = -32768
        dataset.PixelData = pixels.tobytes()
        save(dataset)
    assert series_no_ct(files("padded")) is None
    (tmp_path / "text.dcm").write_text("no DICOM", encoding="utf-8")
    assert series_no_ct([tmp_path / "text.dcm"]) == "it holds no numbers"


def test_phantoms_and_real_images_can_be_ct(phantom_manifest, real_data):
    folder = phantom_manifest.parent
    images = [folder / name for name in pd.read_csv(phantom_manifest)["image"]]
    images += [
        real_data / "abdomen/example_ct.nii.gz",
        real_data / "rtstruct_sarcoma/STS_008/nifti/CT_image.nii.gz",
    ]
    images += [
        real_data / name
        for name in (
            "abdomen/example_ct_dicom",
            "rtstruct_sarcoma/STS_008/dicom/CT/image",
            "seg_liver/ct-3slice",
        )
    ]
    for path in images:
        assert (
            series_no_ct(sorted(path.iterdir())) if path.is_dir() else volume_no_ct(path)
        ) is None


def test_real_label_maps_cannot_be_ct(real_data):
    for path in (real_data / "kits23").glob("*/segmentation.nii.gz"):
        assert volume_no_ct(path)
    assert volume_no_ct(real_data / "abdomen/example_seg_dicom.nii.gz")
