"""Each kind of image with each kind of mask gives the identical slices of one patient."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from renal_ray.cohort.phantom.dicom_files import write_dicom
from renal_ray.cohort.phantom.fields import centred_grid
from renal_ray.cohort.phantom.formats import ImageKind, MaskKind
from renal_ray.cohort.phantom.patient import LESION, Scan
from renal_ray.cohort.phantom.plan import plan_cohort
from renal_ray.config import Cohort, Selection
from renal_ray.imaging.geometry.grid import PatientSlices
from renal_ray.imaging.patient import read_patient

IMAGES: tuple[ImageKind, ...] = ("dicom", "enhanced", "nifti", "nrrd", "mha")
MASKS: tuple[MaskKind, ...] = (
    "seg",
    "seg-fractional",
    "seg-labelmap",
    "rtstruct",
    "nifti",
    "nrrd",
    "series",
)
COHORT = Cohort(manifest=Path("unused.csv"))


@pytest.fixture(scope="module", params=["siemens", "philips"])
def patient(request, tmp_path_factory):
    """A small volume with a lesion that has a hole, an island and no symmetry, and a folder in
    which every kind of file is written once."""
    grid = centred_grid(9, 24, 22, slice_mm=3.0, pixel_mm=(0.8, 0.7))
    hu = np.random.default_rng(5).integers(-900, 900, grid.shape).astype(np.int16)
    labels = np.zeros(grid.shape, np.uint8)
    labels[2:6, 5:15, 4:12] = LESION
    labels[3:5, 8:11, 6:9] = 0
    labels[4, 17:19, 15:20] = LESION
    labels[5, 5, 4] = labels[5, 6, 5] = 0  # pixels that touch at a corner
    plan = next(plan for plan in plan_cohort(12, 3) if plan.scanner == request.param)
    return tmp_path_factory.mktemp(request.param), replace(plan), Scan(grid, hu, labels, 10.0)


def read(patient, image: ImageKind, mask: MaskKind) -> PatientSlices:
    folder, plan, scan = patient
    images, masks = (folder / f"image-{image}", folder / f"mask-{mask}")
    for here, kinds in ((images, {"image": image}), (masks, {"mask": mask})):
        if not here.exists():
            write_dicom(here, plan, scan, patient_id="P", seed=3, **kinds)
    image_name = {
        "dicom": "ct",
        "enhanced": "ct.dcm",
        "nifti": "ct.nii.gz",
        "nrrd": "ct.nrrd",
        "mha": "ct.mha",
    }[image]
    mask_name = {
        "rtstruct": "rtstruct.dcm",
        "nifti": "mask.nii.gz",
        "nrrd": "mask.nrrd",
        "series": "mask",
    }.get(mask, "seg.dcm")
    return read_patient(
        images / image_name,
        masks / mask_name,
        cohort=COHORT,
        selection=Selection(min_area_fraction=0),
    )


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("image", IMAGES)
def test_every_pair_of_formats_is_one_patient(patient, image, mask):
    _, plan, scan = patient
    got = read(patient, image, mask)
    lesion = scan.labels == LESION
    slices = np.flatnonzero(lesion.any(axis=(1, 2)))
    assert got.slice_index.tolist() == slices.tolist()
    assert np.array_equal(got.mask, lesion[slices])
    expected = scan.hu[slices]
    if plan.scanner == "philips" and image in (
        "dicom",
        "enhanced",
    ):  # its rescale may have half units, and its round field of view is padded
        inside = np.hypot(scan.grid.y[:, None], scan.grid.x[None, :]) <= max(
            float(scan.grid.x[-1]), float(scan.grid.y[-1])
        )
        assert np.abs(got.hu - expected)[:, inside].max() <= 0.5
        assert (got.hu[:, ~inside] == -1000).all()
    else:
        assert np.array_equal(got.hu, expected)
    assert np.allclose(got.position_mm, scan.grid.z[slices], atol=1e-3)
    assert got.spacing_mm == pytest.approx((0.8, 0.7))
    assert np.allclose(got.lesion_area_mm2, lesion[slices].sum(axis=(1, 2)) * 0.56, rtol=1e-5)


def turn_files(folder: Path, *, transposed: bool, rows_back: bool, columns_back: bool) -> None:
    """Stores every image of a series in another in-plane orientation: the pixels turned, position
    and orientation with them."""
    from pydicom import dcmread

    for path in folder.iterdir():
        item = dcmread(path)
        plane = item.pixel_array
        position, cosines = (
            np.array(item.ImagePositionPatient, float),
            np.array(item.ImageOrientationPatient, float),
        )
        along_row, along_column, spacing = (
            cosines[:3],
            cosines[3:],
            [float(one) for one in item.PixelSpacing],
        )
        if rows_back:
            plane, position, along_column = (
                plane[::-1],
                position + along_column * spacing[0] * (plane.shape[0] - 1),
                -along_column,
            )
        if columns_back:
            plane, position, along_row = (
                plane[:, ::-1],
                position + along_row * spacing[1] * (plane.shape[1] - 1),
                -along_row,
            )
        if transposed:
            plane, along_row, along_column, spacing = (
                plane.T,
                along_column,
                along_row,
                spacing[::-1],
            )
        item.Rows, item.Columns = plane.shape
        item.PixelSpacing, item.ImagePositionPatient = spacing, [float(one) for one in position]
        item.ImageOrientationPatient = [float(one) for one in (*along_row, *along_column)]
        item.PixelData = np.ascontiguousarray(plane).tobytes()
        item.save_as(path)


ORIENTATIONS = [(t, r, c) for t in (False, True) for r in (False, True) for c in (False, True)]


@pytest.mark.parametrize("orientation", ORIENTATIONS[1:], ids=str)
def test_every_mask_lies_on_a_series_however_it_is_stored(patient, tmp_path, orientation):
    _, plan, scan = patient
    turn = dict(zip(("transposed", "rows_back", "columns_back"), orientation, strict=True))
    write_dicom(tmp_path / "image", plan, scan, patient_id="P", seed=3)
    turn_files(tmp_path / "image/ct", **turn)
    other = dict(
        zip(turn, ORIENTATIONS[(ORIENTATIONS.index(orientation) * 3 + 2) % 8], strict=True)
    )
    lesion = scan.labels == LESION
    slices = np.flatnonzero(lesion.any(axis=(1, 2)))
    straight = read(patient, "dicom", "seg")
    for mask in MASKS:
        read(patient, "dicom", mask)  # writes it
        source = patient[0] / f"mask-{mask}"
        name = {
            "rtstruct": "rtstruct.dcm",
            "nifti": "mask.nii.gz",
            "nrrd": "mask.nrrd",
            "series": "mask",
        }.get(mask, "seg.dcm")
        if mask == "series":  # an orientation of its own
            source = tmp_path / "turned"
            shutil.copytree(patient[0] / "mask-series", source)
            turn_files(source / "mask", **other)
        got = read_patient(
            tmp_path / "image/ct",
            source / name,
            cohort=COHORT,
            selection=Selection(min_area_fraction=0),
        )
        assert got.slice_index.tolist() == slices.tolist(), mask
        assert np.array_equal(got.mask, lesion[slices]), mask
        assert np.array_equal(got.hu, straight.hu), mask
        assert got.spacing_mm == pytest.approx((0.8, 0.7))
