"""NIfTI in every axis order and direction, and the refusals."""

import gzip
from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

from renal_ray.config import Cohort, Selection
from renal_ray.imaging.images.volume import open_volume_image
from renal_ray.imaging.patient import read_patient
from renal_ray.problems import Code, PatientError

ALL_CODES = [
    "".join(code[flip] for code, flip in zip(axes, flips, strict=True))
    for axes in permutations(("LR", "PA", "IS"))
    for flips in product((0, 1), repeat=3)
]
COHORT = Cohort(manifest="unused.csv", lesion_labels=[2])
EVERYTHING = Selection(min_area_fraction=0)


def image(shape=(5, 4, 6), zooms=(0.7, 0.8, 3.0), dtype=np.int16) -> nib.Nifti1Image:
    """RAS: x to the right, y to the front, z to the head."""
    values = (np.arange(np.prod(shape)).reshape(shape) - 50).astype(dtype)
    return nib.Nifti1Image(
        values, np.array(nib.affines.from_matvec(np.diag(zooms), (-20, 30, 100)))
    )


def label_map(like: nib.Nifti1Image) -> nib.Nifti1Image:
    values = np.zeros(like.shape, np.uint8)
    values[1:4, 1, 1:4] = 2
    values[3, 2:, 2] = 2
    values[0, 0, 0] = 1
    return nib.Nifti1Image(values, like.affine)


def turned(item: nib.Nifti1Image, code: str) -> nib.Nifti1Image:
    """The same volume stored in another axis order."""
    return item.as_reoriented(ornt_transform(io_orientation(item.affine), axcodes2ornt(code)))


def patient(folder, ct, mask, **options):
    nib.save(ct, folder / "ct.nii.gz")
    nib.save(mask, folder / "mask.nii.gz")
    return read_patient(
        folder / "ct.nii.gz",
        folder / "mask.nii.gz",
        cohort=options.get("cohort", COHORT),
        selection=options.get("selection", EVERYTHING),
    )


def code_of(*args, **options) -> Code:
    with pytest.raises(PatientError) as caught:
        patient(*args, **options)
    return caught.value.code


def test_there_are_48_orientations():
    assert len(set(ALL_CODES)) == 48


def test_standard_axial_display(tmp_path):
    """Worked out by hand: slice 0 is the highest z, row 0 the most anterior, column 0 the patient's
    right."""
    ct = image()
    got = patient(tmp_path, ct, label_map(ct))
    stored = np.asanyarray(ct.dataobj)
    assert got.slice_index.tolist() == [2, 3, 4]
    assert got.position_mm.tolist() == [109, 106, 103]
    assert got.hu.dtype == np.int16
    for n, z in enumerate((3, 2, 1)):
        assert np.array_equal(got.hu[n], stored[::-1, ::-1, z].T)
    assert got.spacing_mm == pytest.approx((0.8, 0.7))
    assert got.n_slices_total == 6
    assert got.lesion_area_mm2 == pytest.approx(np.array([3, 5, 3]) * 0.56)


@pytest.mark.parametrize("code", ALL_CODES)
def test_every_orientation_of_image_and_mask_gives_the_same_slices(tmp_path, code):
    ct = image()
    mask = label_map(ct)
    expected = patient(tmp_path, ct, mask)
    other = ALL_CODES[(7 * ALL_CODES.index(code) + 5) % 48]  # the mask in an order of its own
    got = patient(tmp_path, turned(ct, code), turned(mask, other))
    for name in ("slice_index", "hu", "mask"):
        assert np.array_equal(getattr(got, name), getattr(expected, name)), name
    assert np.allclose(got.position_mm, expected.position_mm)
    assert got.spacing_mm == pytest.approx(expected.spacing_mm)
    assert got.max_diameter_mm == pytest.approx(expected.max_diameter_mm)


@pytest.mark.parametrize("dtype", ["<i2", ">i2", "<i4", "<f4", "<f8", "<u2"])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_every_orientation_in_every_type(tmp_path, dtype, ending):
    """Image and label map of one type, read back voxel by voxel from all 48 orders."""
    ct = image()
    mask = label_map(ct)
    values = np.asanyarray(ct.dataobj) + (50 if dtype == "<u2" else 0)
    expected = values[::-1, ::-1, ::-1].T
    wanted = (np.asanyarray(mask.dataobj) == 2)[::-1, ::-1, ::-1].T
    for code in ALL_CODES:
        for name, item in (("ct", values), ("mask", np.asanyarray(mask.dataobj))):
            header = nib.Nifti1Header(endianness=dtype[0])
            header.set_data_dtype(dtype)
            nib.save(
                turned(nib.Nifti1Image(item.astype(dtype), ct.affine, header), code),
                tmp_path / f"{name}{ending}",
            )
        got = read_patient(
            tmp_path / f"ct{ending}",
            tmp_path / f"mask{ending}",
            cohort=COHORT,
            selection=EVERYTHING,
        )
        assert np.array_equal(got.hu, expected[got.slice_index]), code
        assert np.array_equal(got.mask, wanted[got.slice_index]), code
        assert got.mask.sum() == wanted.sum()


@pytest.mark.parametrize("code", ["RAS", "IPL", "SLA"])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_slope_and_intercept_are_honoured(tmp_path, code, ending):
    ct = turned(image(), code)
    expected = open_and_read(save(tmp_path / "plain.nii", ct))
    scaled = nib.Nifti1Image(
        ((np.asanyarray(ct.dataobj) + 1024) // 2 * 2).astype(np.int16), ct.affine
    )
    scaled.header.set_slope_inter(0.5, -1024)
    nib.save(scaled, tmp_path / f"scaled{ending}")
    raw = nib.Nifti1Image((np.asanyarray(scaled.dataobj)).astype(np.int16), ct.affine)
    raw.header.set_slope_inter(0.5, -1024)
    path = tmp_path / f"raw{ending}"
    nib.save(raw, path)
    whole = nib.load(path).get_fdata()
    assert np.allclose(np.sort(open_and_read(path).ravel()), np.sort(whole.ravel()))
    assert open_and_read(path).shape == expected.shape


def save(path, item):
    nib.save(item, path)
    return path


def open_and_read(path) -> np.ndarray:
    volume = open_volume_image(path, COHORT)
    return volume.read(np.arange(volume.grid.shape[0]))


def test_slope_is_applied_slice_by_slice(tmp_path):
    ct = image()
    header = ct.header.copy()
    header.set_slope_inter(0.5, -10)
    item = nib.Nifti1Image(np.asanyarray(ct.dataobj), ct.affine, header)
    path = tmp_path / "scaled.nii.gz"
    nib.save(item, path)
    expected = nib.load(path).get_fdata()[::-1, ::-1, ::-1].T.astype(np.float32)
    assert np.allclose(open_and_read(path), expected)
    assert np.allclose(
        open_volume_image(path, COHORT).read(np.array([0, 1, 4])), expected[[0, 1, 4]]
    )


def test_floating_point_images(tmp_path):
    ct = image(dtype=np.float32)
    assert open_and_read(save(tmp_path / "whole.nii", ct)).dtype == np.int16
    values = np.asanyarray(ct.dataobj) + np.float32(0.25)
    values[0, 0, 0] = np.nan
    hu = open_and_read(save(tmp_path / "fraction.nii", nib.Nifti1Image(values, ct.affine)))
    assert hu.dtype == np.float32
    assert np.isnan(hu[-1, -1, -1])  # what it is depends on where the lesion and the body are
    assert hu[0, 0, 0] == values[-1, -1, -1]


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
def test_label_maps_of_any_type(tmp_path, dtype):
    ct = image()
    mask = label_map(ct)
    expected = patient(tmp_path, ct, mask)
    values = np.asanyarray(mask.dataobj).astype(dtype)
    if np.issubdtype(dtype, np.floating):
        values += dtype(1e-4)
    got = patient(tmp_path, ct, nib.Nifti1Image(values, ct.affine))
    assert np.array_equal(got.mask, expected.mask)


def test_label_values_that_are_the_lesion(tmp_path):
    ct = image()
    both = Cohort(manifest="unused.csv", lesion_labels=[1, 2])
    assert patient(tmp_path, ct, label_map(ct), cohort=both).mask.sum() == 12
    with pytest.raises(PatientError, match=r"\[0, 1, 2\].*cohort.lesion_labels \[7\]") as caught:
        patient(
            tmp_path, ct, label_map(ct), cohort=Cohort(manifest="unused.csv", lesion_labels=[7])
        )
    assert caught.value.code is Code.MASK_EMPTY
    assert caught.value.file.endswith("mask.nii.gz")


def test_trailing_axis_of_one(tmp_path):
    ct = image()
    four = nib.Nifti1Image(np.asanyarray(ct.dataobj)[..., None], ct.affine)
    assert np.array_equal(
        patient(tmp_path, four, label_map(ct)).hu, patient(tmp_path, ct, label_map(ct)).hu
    )
    series = nib.Nifti1Image(np.zeros((5, 4, 6, 2), np.int16), ct.affine)
    assert code_of(tmp_path, series, label_map(ct)) is Code.FILE_UNREADABLE


def moved(item: nib.Nifti1Image, change) -> nib.Nifti1Image:
    affine = item.affine.copy()
    change(affine)
    return nib.Nifti1Image(np.asanyarray(item.dataobj), affine)


def shift(axis, mm):
    def change(affine):
        affine[axis, 3] += mm

    return change


def stretch(affine):
    affine[2, 2] *= 1.1


def mirror(affine):
    affine[0] *= -1


@pytest.mark.parametrize("change", [shift(0, 0.35), shift(1, -0.4), shift(2, 3.0), stretch, mirror])
def test_mask_off_the_grid(tmp_path, change):
    ct = image()
    assert code_of(tmp_path, ct, moved(label_map(ct), change)) is Code.MASK_OFF_GRID


def test_mask_of_another_size(tmp_path):
    ct = image()
    cut = nib.Nifti1Image(np.asanyarray(label_map(ct).dataobj)[:, :, :5], ct.affine)
    assert code_of(tmp_path, ct, cut) is Code.MASK_OFF_GRID


def test_rounding_of_the_header_is_no_reason_to_refuse(tmp_path):
    ct = image()
    patient(tmp_path, ct, moved(label_map(ct), shift(0, 0.01)))


def rotated(degrees, first, second):
    a = np.deg2rad(degrees)
    turn = np.eye(4)
    turn[[first, first, second, second], [first, second, first, second]] = (
        np.cos(a),
        -np.sin(a),
        np.sin(a),
        np.cos(a),
    )
    return lambda item: nib.Nifti1Image(np.asanyarray(item.dataobj), turn @ item.affine)


@pytest.mark.parametrize(("degrees", "first", "second"), [(12, 1, 2), (-8, 0, 2), (30, 0, 1)])
def test_oblique_volumes_are_not_axial(tmp_path, degrees, first, second):
    ct = image()
    turn = rotated(degrees, first, second)
    assert code_of(tmp_path, turn(ct), turn(label_map(ct))) is Code.NOT_AXIAL


def test_an_almost_straight_volume_is_read_as_it_is(tmp_path):
    ct = image()
    turn = rotated(2, 1, 2)
    assert np.array_equal(
        patient(tmp_path, turn(ct), turn(label_map(ct))).hu, patient(tmp_path, ct, label_map(ct)).hu
    )


def test_sheared_volume_is_tilt(tmp_path):
    ct = image()

    def shear(affine):
        affine[1, 2] = 0.3

    assert code_of(tmp_path, moved(ct, shear), moved(label_map(ct), shear)) is Code.TILT


def test_coronal_stack_is_not_axial(tmp_path):
    ct = image(zooms=(0.7, 5.0, 0.7))
    assert code_of(tmp_path, ct, label_map(ct)) is Code.NOT_AXIAL
    got = patient(
        tmp_path, ct, label_map(ct), cohort=Cohort(manifest="unused.csv", oblique="resample")
    )
    assert got.spacing_mm == pytest.approx((0.7, 0.7))
    assert Code.IMAGE_RESAMPLED in {finding.code for finding in got.findings}
    stored = np.asanyarray(ct.dataobj)[::-1, ::-1, ::-1].T  # display: slices, rows, columns
    assert np.array_equal(
        got.hu[:, 0], stored[got.slice_index, 0]
    )  # the first row lies on a coronal slice, the others between
    assert got.hu.shape[1] == 1 + np.ceil(3 * 5 / 0.7)


def test_header_without_orientation(tmp_path):
    ct = image()
    lost = nib.Nifti1Image(np.asanyarray(ct.dataobj), None)
    lost.header.set_sform(None, 0)
    lost.header.set_qform(None, 0)
    assert code_of(tmp_path, lost, label_map(ct)) is Code.NO_POSITION


def test_truncated_and_foreign_files(tmp_path):
    ct = image(shape=(40, 40, 40), dtype=np.int32)
    nib.save(label_map(ct), tmp_path / "mask.nii.gz")
    nib.save(ct, tmp_path / "whole.nii")
    whole = (tmp_path / "whole.nii").read_bytes()
    cases = {
        "cut.nii": whole[:-5000],
        "cut.nii.gz": gzip.compress(whole)[:-2000],
        "text.nii": b"no image at all",
        "text.nii.gz": b"no gzip",
    }
    codes = {}
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(PatientError) as caught:
            read_patient(
                tmp_path / name, tmp_path / "mask.nii.gz", cohort=COHORT, selection=EVERYTHING
            )
        codes[name] = caught.value.code
    assert codes == {
        "cut.nii": Code.FILE_TRUNCATED,
        "cut.nii.gz": Code.FILE_TRUNCATED,
        "text.nii": Code.FILE_UNREADABLE,
        "text.nii.gz": Code.FILE_UNREADABLE,
    }


def test_an_image_in_the_place_of_the_mask(tmp_path):
    ct = image()
    values = np.asanyarray(ct.dataobj).astype(np.int16) - 900
    values[0, 0, 0] = 2
    air = nib.Nifti1Image(values, ct.affine)
    for mask in (air, nib.Nifti1Image(values.astype(np.float32), ct.affine)):
        with pytest.raises(PatientError) as caught:
            patient(tmp_path, ct, mask)
        assert caught.value.code is Code.MASK_UNSUPPORTED
        assert "CT image" in caught.value.message


def test_a_label_map_may_use_a_negative_value(tmp_path):
    ct = image()
    mask = label_map(ct)
    values = np.asanyarray(mask.dataobj).astype(np.int16)
    values[0, 0, 0] = -1
    assert (
        patient(tmp_path, ct, nib.Nifti1Image(values, mask.affine)).mask.sum()
        == (values == 2).sum()
    )


@pytest.mark.parametrize(
    ("change", "dtype"),
    [
        (lambda hu: hu, np.uint16),  # negative values wrapped
        (lambda hu: np.where(hu == hu.max(), 20001, hu), np.int16),
        (lambda hu: np.where(hu == hu.min(), -32768, hu), np.int16),
        (lambda hu: np.where(hu == hu.min(), -32768, hu), np.float32),
        (lambda hu: np.where(hu == hu.min(), -np.inf, hu), np.float32),
        (lambda hu: np.where(hu == hu.max(), 1e300, hu), np.float64),
    ],
)
def test_hu_that_no_ct_has_are_refused_whatever_their_share(tmp_path, change, dtype):
    """One voxel of 120 is enough; what is padding has to be said."""
    ct = image()
    assert np.asanyarray(ct.dataobj).min() == -50
    values = change(
        np.asanyarray(ct.dataobj) if dtype == np.uint16 else np.asanyarray(ct.dataobj).astype(dtype)
    ).astype(dtype)
    changed = nib.Nifti1Image(values, ct.affine)
    with pytest.raises(PatientError, match="padding at -1024") as caught:
        open_and_read(save(tmp_path / "a.nii.gz", changed))
    assert caught.value.code is Code.HU_OUT_OF_RANGE


@pytest.mark.parametrize("value", [-20000, -8192, -3024, -2048, -1024, 3071, 20000])
def test_paddings_and_metal_are_read_as_they_are(tmp_path, value):
    ct = image()
    values = np.asanyarray(ct.dataobj).copy()
    values[0, 0, 0] = value
    assert (
        open_and_read(save(tmp_path / "a.nii.gz", nib.Nifti1Image(values, ct.affine)))[-1, -1, -1]
        == value
    )


def body(shape=(26, 26, 12)) -> np.ndarray:
    """HU: soft tissue and fat, air around."""
    hu = np.full(shape, -1000.0)
    hu[3:21, 3:21] = 50
    hu[3:21, 3:6] = -100
    return hu + np.random.default_rng(0).normal(0, 10, shape)


@pytest.mark.parametrize(
    ("change", "left_out"),
    [
        (lambda hu: hu > 0, True),
        (lambda hu: 255 * (hu > 0), True),
        (lambda hu: np.rint(np.clip((hu + 160) / 400 * 255, 0, 255)), True),
        (lambda hu: (hu - hu.min()) / np.ptp(hu), False),
        (lambda hu: (hu - hu.mean()) / hu.std(), False),
        (lambda hu: 21 * (hu > 0) * np.random.default_rng(0).random(hu.shape), False),
    ],
)
def test_an_image_that_is_no_ct_is_left_out_where_that_is_certain_and_else_reported(
    tmp_path, change, left_out
):
    affine = np.diag([3.0, 3, 3, 1])
    mask = np.zeros((26, 26, 12), np.uint8)
    mask[10:14, 10:14, 4:7] = 2
    got = patient(
        tmp_path, nib.Nifti1Image(body().astype(np.float32), affine), nib.Nifti1Image(mask, affine)
    )
    assert got.findings == ()
    wrong = nib.Nifti1Image(np.asarray(change(body())).astype(np.float32), affine)
    if left_out:
        assert code_of(tmp_path, wrong, nib.Nifti1Image(mask, affine)) is Code.NOT_CT
    else:
        findings = patient(tmp_path, wrong, nib.Nifti1Image(mask, affine)).findings
        assert Code.IMAGE_HU_IMPLAUSIBLE in {finding.code for finding in findings}
