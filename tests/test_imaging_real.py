"""Real scanners' and programs' files: numbers that were published or counted independently."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.pixels import get_decoder
from pydicom.uid import UID

from renal_ray.config import Cohort, Images, Selection
from renal_ray.imaging.geometry.grid import PatientSlices
from renal_ray.imaging.images.dicom_series import open_series
from renal_ray.imaging.images.source import References
from renal_ray.imaging.images.volume import open_volume_image
from renal_ray.imaging.patient import read_patient
from renal_ray.imaging.regions import dataset_images
from renal_ray.problems import Code, PatientError
from renal_ray.types import DATASETS, Dataset

EVERYTHING = Selection(min_area_fraction=0)
COHORT = Cohort(manifest="unused.csv")
NOTHING = References()


def read(
    image: Path, mask: Path, *, labels=(1,), segments=None, selection=EVERYTHING
) -> PatientSlices:
    return read_patient(
        image,
        mask,
        cohort=Cohort(manifest="unused.csv", lesion_labels=list(labels), lesion_segments=segments),
        selection=selection,
    )


def lesion_hu(slices: PatientSlices) -> np.ndarray:
    return slices.hu[slices.mask].astype(float)


def code_of(image: Path, mask: Path | None = None) -> Code:
    with pytest.raises(PatientError) as caught:
        open_series(image, NOTHING, COHORT) if mask is None else read(image, mask)
    return caught.value.code


def test_liver_seg(real_data):
    got = read(real_data / "seg_liver/ct-3slice", real_data / "seg_liver/liver.dcm")
    assert got.mask.sum() == 107098
    assert lesion_hu(got).mean() == pytest.approx(37, abs=1)
    assert lesion_hu(got).std() == pytest.approx(59, abs=1)
    assert got.position_mm.tolist() == pytest.approx([-126.69, -127.69, -128.69])
    assert got.slice_index.tolist() == [0, 1, 2]
    series = open_series(real_data / "seg_liver/ct-3slice", NOTHING, COHORT)
    assert series.grid.spacing[0] == pytest.approx(1.0)  # SliceThickness says 1.25


def test_overlapping_segments(real_data):
    """Each segment's voxels, counted from the frames of the file without any geometry."""
    path = real_data / "seg_liver/partial_overlaps.dcm"
    seg = dcmread(path)
    numbers = [
        frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        for frame in seg.PerFrameFunctionalGroupsSequence
    ]
    for item in seg.SegmentSequence:
        expected = sum(
            int(frame.sum())
            for number, frame in zip(numbers, seg.pixel_array, strict=True)
            if number == item.SegmentNumber
        )
        assert (
            read(real_data / "seg_liver/ct-3slice", path, segments=[item.SegmentLabel]).mask.sum()
            == expected
        )
    assert (
        read(
            real_data / "seg_liver/ct-3slice",
            path,
            segments=[item.SegmentLabel for item in seg.SegmentSequence],
        ).mask.sum()
        == 40505
    )
    assert code_of(real_data / "seg_liver/ct-3slice", path) is Code.LESION_UNNAMED


def test_columns_that_are_no_multiple_of_eight(real_data):
    got = read(real_data / "seg_liver/23x38x3/image", real_data / "seg_liver/23x38x3/seg/label.seg")
    assert got.mask.shape == (3, 38, 23)
    assert lesion_hu(got).mean() == pytest.approx(
        0.963, abs=0.001
    )  # the image is 1 inside the label and 0 outside, a few voxels apart


def test_enhanced_copy_of_the_same_series(real_data):
    single = open_series(real_data / "seg_liver/23x38x3/image", NOTHING, COHORT)
    multi = open_series(real_data / "seg_liver/23x38x3/multiframe/mf.dcm", NOTHING, COHORT)
    everything = np.arange(3)
    assert np.array_equal(single.read(everything), multi.read(everything))
    assert multi.grid.matches(single.grid)


def test_soft_tissue_tumour_as_dicom_and_as_nifti(real_data):
    folder = real_data / "rtstruct_sarcoma/STS_008"
    series, volume = (
        open_series(folder / "dicom/CT/image", NOTHING, COHORT),
        open_volume_image(folder / "nifti/CT_image.nii.gz", COHORT),
    )
    everything = np.arange(51)
    assert series.grid.shape == (51, 137, 141)
    assert np.array_equal(series.read(everything), volume.read(everything))
    over_dicom, over_nifti = (
        read(image, folder / "nifti/CT_mask.nii.gz")
        for image in (folder / "dicom/CT/image", folder / "nifti/CT_image.nii.gz")
    )
    assert over_dicom.mask.sum() == 8862
    assert np.array_equal(over_dicom.mask, over_nifti.mask)
    assert np.array_equal(over_dicom.hu, over_nifti.hu)


@pytest.mark.parametrize(
    ("kind", "side"),
    [("uint8", "left"), ("uint8", "right"), ("float64", "left"), ("float64", "right")],
)
def test_kidneys_of_an_abdomen(real_data, kind, side):
    ct = real_data / "abdomen/example_ct.nii.gz"
    path = real_data / f"abdomen/example_ct_masks_{kind}/kidney_{side}.nii.gz"
    got = read(ct, path)
    stored = np.rint(nib.load(path).get_fdata()) == 1
    assert got.mask.sum() == stored.sum()
    assert np.array_equal(np.sort(lesion_hu(got)), np.sort(nib.load(ct).get_fdata()[stored]))
    columns = np.flatnonzero(got.mask.any(axis=(0, 1)))
    assert (
        (columns.min() > 61) if side == "left" else (columns.max() < 61)
    )  # the patient's left is at the right of the image


def test_the_same_mask_as_uint8_and_as_float64(real_data, tmp_path):
    ct, path = (
        real_data / "abdomen/example_ct.nii.gz",
        real_data / "abdomen/example_ct_masks_uint8/kidney_left.nii.gz",
    )
    mask = nib.load(path)
    nib.save(
        nib.Nifti1Image(np.asanyarray(mask.dataobj).astype(np.float64), mask.affine),
        tmp_path / "mask.nii.gz",
    )
    first, second = read(ct, path), read(ct, tmp_path / "mask.nii.gz")
    assert np.array_equal(first.mask, second.mask)
    assert np.array_equal(first.hu, second.hu)


def test_spine_is_at_the_bottom_and_liver_at_the_left(real_data):
    """The standard axial display, on a series that has no UIDs and a label map in another axis
    order."""
    folder = real_data / "abdomen"
    liver, spleen = (
        read(folder / "example_ct_dicom", folder / "example_seg_dicom.nii.gz", labels=[value])
        for value in (5, 1)
    )
    assert lesion_hu(liver).mean() == pytest.approx(89, abs=1)
    assert len(liver.hu) == 20
    assert np.argwhere(liver.mask)[:, 2].mean() < 256 < np.argwhere(spleen.mask)[:, 2].mean()
    bone_rows = np.argwhere((liver.hu[:, :, 220:300] > 250) & (liver.hu[:, :, 220:300] < 2000))[
        :, 1
    ]
    assert np.median(bone_rows) > np.argwhere(liver.mask)[:, 1].mean()
    assert np.diff(liver.position_mm).tolist() == [-2.0] * 19  # SliceThickness says 3


def test_the_three_datasets_of_a_real_slice(real_data):
    got = read(
        real_data / "abdomen/example_ct_dicom",
        real_data / "abdomen/example_seg_dicom.nii.gz",
        labels=[5],
        selection=Selection(max_slices=2),
    )
    made = dataset_images(got, images=Images())
    assert all(made[dataset].shape == (2, 299, 299, 3) for dataset in DATASETS)
    assert made[Dataset.ROI].astype(int).sum() < made[Dataset.RBR].astype(int).sum()
    assert (made[Dataset.ROI] <= made[Dataset.RBR].astype(int) + 60).mean() > 0.99


@pytest.mark.parametrize(
    ("folder", "code"),
    [
        ("seg_variants/pydicom_dicomdirtests/77654033/CT2", Code.MISSING_SLICE),
        ("seg_variants/pydicom_dicomdirtests/98892001/CT2N", Code.MIXED_ORIENTATION),
        ("seg_variants/pydicom_dicomdirtests", Code.SEVERAL_SERIES),
        ("broken/geometry/gantrytilting/001", Code.TILT),
        ("broken/geometry/notavolume/001", Code.DUPLICATE_POSITION),
        ("broken/geometry/sliceincrement/001", Code.MISSING_SLICE),
        ("broken/misc/J2K_pixelrep_mismatch.dcm", Code.NOT_AXIAL),
        ("broken/misc/MR_truncated.dcm", Code.NOT_CT),
        ("broken/misc/eCT_Supplemental.dcm", Code.NOT_CT),
        ("broken/misc/no_meta.dcm", Code.FILE_UNREADABLE),
        ("broken/misc/nested_priv_SQ.dcm", Code.NOT_CT),
        ("broken/misc/rtstruct.dcm", Code.NOT_CT),
        ("broken/misc", Code.SEVERAL_SERIES),
        ("codecs/no-pixel-data.dcm", Code.NOT_CT),
        ("codecs/no-pixel-spacing.dcm", Code.NOT_CT),
        ("codecs", Code.SEVERAL_SERIES),
    ],
)
def test_refused_with_a_code(real_data, folder, code):
    assert code_of(real_data / folder) is code


def test_scouts_beside_the_axial_series_are_passed_over(real_data):
    assert open_series(
        real_data / "seg_variants/pydicom_dicomdirtests/98892001", NOTHING, COHORT
    ).grid.shape == (5, 16, 16)


def test_single_frame_seg_on_a_single_slice(real_data):
    path = real_data / "seg_variants/seg_image_ct_binary_single_frame.dcm"
    got = read(real_data / "seg_variants/ct_image.dcm", path)
    assert got.mask.sum() == dcmread(path).pixel_array.sum()


@pytest.mark.parametrize(
    "name",
    ["cr_binary", "ct_binary", "ct_binary_overlap", "ct_binary_fractional", "ct_true_fractional"],
)
def test_seg_of_another_series_is_refused(real_data, name):
    assert (
        code_of(
            real_data / "seg_variants/ct_image.dcm",
            real_data / f"seg_variants/seg_image_{name}.dcm",
        )
        is Code.MASK_WITHOUT_SERIES
    )


def test_slice_with_a_flipped_row_axis(real_data):
    path = real_data / "broken/misc/explicit_VR-UN.dcm"
    series = open_series(path, NOTHING, COHORT)
    stored = dcmread(path)
    expected = stored.pixel_array[::-1].astype(int) * int(stored.RescaleSlope) + int(
        stored.RescaleIntercept
    )
    assert np.array_equal(series.read(np.array([0]))[0], expected)
    assert series.grid.steps[1][1] > 0


def test_every_transfer_syntax_decodes_or_is_refused_by_name(real_data):
    """The same slice fifteen times over: lossless copies give the same HU, lossy ones similar HU by
    their own slope and intercept."""
    everything = np.array([0])
    reference = (
        open_series(real_data / "codecs/CTImage.dcm", NOTHING, COHORT)
        .read(everything)
        .astype(float)
    )
    equal, similar, refused = set(), set(), {}
    for path in (real_data / "codecs").glob("CTImage.dcm_*"):
        syntax = dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID
        try:
            difference = np.abs(open_series(path, NOTHING, COHORT).read(everything) - reference)
        except PatientError as error:
            refused[syntax] = error
        else:
            (equal if not difference.any() else similar).add(syntax)
            assert difference[reference > -900].mean() < 40
    assert all(
        error.code is Code.UNDECODABLE_SYNTAX and syntax.name in error.message
        for syntax, error in refused.items()
    )
    native = {
        "1.2.840.10008.1.2",
        "1.2.840.10008.1.2.1",
        "1.2.840.10008.1.2.1.99",
        "1.2.840.10008.1.2.2",
    }
    lossless = {f"1.2.840.10008.1.2.{last}" for last in ("4.57", "4.70", "4.80", "4.90", "5")}
    assert (
        native | {syntax for syntax in lossless if get_decoder(UID(syntax)).is_available} <= equal
    )
    assert {syntax for syntax in lossless if not get_decoder(UID(syntax)).is_available} <= set(
        refused
    )
    assert {"1.2.840.10008.1.2.4.53", "1.2.840.10008.1.2.4.55"} <= set(
        refused
    )  # retired: no decoder exists
    assert len(equal | similar | set(refused)) == 15


def test_label_map_of_another_patient(real_data):
    assert (
        code_of(
            real_data / "abdomen/example_ct_dicom",
            real_data / "abdomen/example_ct_masks_uint8/liver.nii.gz",
        )
        is Code.MASK_OFF_GRID
    )


def test_rtstruct_of_a_sarcoma_is_the_published_mask_voxel_by_voxel(real_data):
    """Its contours refer to images that do not exist: they are matched by series and position."""
    folder = real_data / "rtstruct_sarcoma/STS_008"
    cohort = Cohort(manifest="unused.csv", lesion_rois=["GTV*"], lesion_labels=[1])
    contoured = read_patient(
        folder / "dicom/CT/image", folder / "dicom/CT/mask", cohort=cohort, selection=EVERYTHING
    )
    stored = read(folder / "nifti/CT_image.nii.gz", folder / "nifti/CT_mask.nii.gz")
    assert contoured.mask.sum() == 8862
    assert np.array_equal(contoured.mask, stored.mask)
    assert np.array_equal(contoured.slice_index, stored.slice_index)
    assert np.array_equal(contoured.hu, stored.hu)
    assert Code.REFERENCES_ABSENT in {finding.code for finding in contoured.findings}


def test_nothing_is_suspected_of_real_abdomens(real_data):
    folder = real_data / "abdomen"
    kidney = read(
        folder / "example_ct.nii.gz", folder / "example_ct_masks_uint8/kidney_left.nii.gz"
    )
    liver = read(folder / "example_ct_dicom", folder / "example_seg_dicom.nii.gz", labels=[5])
    for got in (kidney, liver):
        assert {finding.code for finding in got.findings} <= {Code.LESION_TOO_LARGE}


@pytest.mark.parametrize("case", ["case_00021", "case_00419"])
def test_kits_tumour_on_an_image_made_from_its_mask(real_data, tmp_path, case):
    """The release's images are not here: one made of HU that follow the labels shows that image and
    mask stay together."""
    path = real_data / "kits23" / case / "segmentation.nii.gz"
    mask = nib.load(path)
    values = np.asanyarray(mask.dataobj)
    nib.save(
        nib.Nifti1Image((values.astype(np.int16) * 100 - 50), mask.affine),
        tmp_path / "imaging.nii.gz",
    )
    got = read(tmp_path / "imaging.nii.gz", path, labels=[2])
    assert got.hu.shape[1:] == values.shape[1:]
    assert set(np.unique(got.hu[got.mask])) == {150}
    assert got.mask.sum() == (values == 2).sum()
    assert (
        got.slice_index.tolist() == np.flatnonzero((values == 2).any(axis=(1, 2))).tolist()
    )  # the first slice is the uppermost
    assert (np.diff(got.position_mm) < 0).all()
