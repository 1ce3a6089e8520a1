"""Masks as image series, fractional and label map SEGs, and masks brought to the image's grid."""

import re

import highdicom as hd
import nibabel as nib
import numpy as np
import pytest
from dicom_files import ct_slice, save, write_seg, write_series
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.sr.codedict import codes

from renal_ray.config import Cohort, Selection
from renal_ray.imaging.patient import read_patient
from renal_ray.problems import Code, PatientError

EVERYTHING = Selection(min_area_fraction=0)
VOLUME = np.random.default_rng(0).integers(-100, 200, (6, 20, 24)).astype(np.int16)
LESION = np.zeros(VOLUME.shape, bool)
LESION[1:4, 4:12, 6:15], LESION[2, 7:9, 9:11] = True, False


def read(image, mask, lesion="", **cohort):
    return read_patient(
        image,
        mask,
        cohort=Cohort(manifest="unused.csv", **cohort),
        selection=EVERYTHING,
        lesion=lesion,
    )


def code_of(image, mask, **cohort) -> Code:
    with pytest.raises(PatientError) as caught:
        read(image, mask, **cohort)
    return caught.value.code


def write_mask_series(folder, values, *, first=0, shift=(0.0, 0.0, 0.0), **options):
    for k, plane in enumerate(values):
        place = np.array([-10.0, -20.0, 100.0 - 2.5 * (first + k)]) + shift
        item = ct_slice(
            folder / f"{k}.dcm", plane.astype(np.uint16), place, series="1.2.7", **options
        )
        item.Modality = "OT"
        del item.RescaleSlope, item.RescaleIntercept
        save(item)


@pytest.mark.parametrize("high", [1, 255])
def test_a_series_of_two_values_is_a_mask(tmp_path, high):
    write_series(tmp_path / "ct", VOLUME)
    write_mask_series(
        tmp_path / "mask", LESION[1:5] * high, first=1
    )  # part of the slices, as many programs export
    got = read(tmp_path / "ct", tmp_path / "mask")
    assert got.slice_index.tolist() == [1, 2, 3]
    assert np.array_equal(got.mask, LESION[1:4])


@pytest.mark.parametrize(
    ("high", "slope", "intercept"),
    [(1, 1, -1024), (255, 1, -1024), (1, 2, -8192), (1, 0.37, 0), (255, 0.5, -1000)],
)
def test_a_mask_written_over_the_pixels_of_an_image_keeps_its_stored_values(
    tmp_path, high, slope, intercept
):
    """The rescale of the CT or PET image that was copied stays behind."""
    write_series(tmp_path / "ct", VOLUME)
    write_overwritten(tmp_path / "mask", LESION * high, slope=slope, intercept=intercept)
    got = read(tmp_path / "ct", tmp_path / "mask")
    assert np.array_equal(got.mask, LESION[1:4])
    assert got.slice_index.tolist() == [1, 2, 3]
    assert Code.RESCALE_IGNORED in {finding.code for finding in got.findings}


def write_overwritten(folder, values, **rescale):
    for k, plane in enumerate(values):
        save(
            ct_slice(
                folder / f"{k}.dcm",
                plane.astype(np.int16),
                (-10.0, -20.0, 100.0 - 2.5 * k),
                series="1.2.7",
                **rescale,
            )
        )


def test_labels_written_over_the_pixels_of_a_ct_are_told_apart(tmp_path):
    write_series(tmp_path / "ct", VOLUME)
    write_overwritten(tmp_path / "mask", LESION * 2 + (np.arange(24) > 20), intercept=-1024)
    assert np.array_equal(read(tmp_path / "ct", tmp_path / "mask").mask, LESION[1:4])
    with pytest.raises(PatientError, match=r"\[0, 1, 2\].*lesion_labels \[9\]"):
        read(tmp_path / "ct", tmp_path / "mask", lesion_labels=[9])


@pytest.mark.parametrize(("slope", "intercept"), [(1, -1024), (1 / 3, 0), (0.1, 0.2)])
def test_a_rescale_that_makes_labels_is_applied(tmp_path, slope, intercept):
    write_series(tmp_path / "ct", VOLUME)
    labels = LESION * 2.0 + (np.arange(24) > 20)
    write_overwritten(
        tmp_path / "mask", np.rint((labels - intercept) / slope), slope=slope, intercept=intercept
    )
    got = read(tmp_path / "ct", tmp_path / "mask")
    assert np.array_equal(got.mask, LESION[1:4])
    assert Code.RESCALE_IGNORED not in {finding.code for finding in got.findings}


def test_what_a_series_holds_instead_of_labels(tmp_path):
    write_series(tmp_path / "ct", VOLUME)
    write_overwritten(
        tmp_path / "soft", LESION * 4 + (np.arange(24) > 22), slope=0.5, intercept=0
    )  # 0, 0.5 and 2
    with pytest.raises(
        PatientError,
        match=f"{100 * 120 / (120 + LESION.sum()):.3g} % of the label map's voxels .*interpolated",
    ) as caught:
        read(tmp_path / "ct", tmp_path / "soft")
    assert caught.value.code is Code.MASK_INTERPOLATED
    write_overwritten(
        tmp_path / "smooth",
        np.random.default_rng(0).integers(0, 900, VOLUME.shape),
        slope=0.01,
        intercept=0,
    )
    assert code_of(tmp_path / "ct", tmp_path / "smooth") is Code.MASK_INTERPOLATED
    write_overwritten(
        tmp_path / "signed", LESION.astype(int) + 5, intercept=-6
    )  # -1 and 0: labels from which number on?
    assert code_of(tmp_path / "ct", tmp_path / "signed") is Code.MASK_UNSUPPORTED
    write_overwritten(
        tmp_path / "one_two", LESION + 1, intercept=0
    )  # no 0: which of both is the lesion says the study file
    assert np.array_equal(read(tmp_path / "ct", tmp_path / "one_two").mask, LESION[1:4])
    assert code_of(tmp_path / "ct", tmp_path / "one_two", lesion_labels=[3]) is Code.MASK_EMPTY


@pytest.mark.parametrize("intercept", [-1024, -1024.5])
def test_a_ct_series_is_no_mask_whatever_its_rescale(tmp_path, intercept):
    write_series(tmp_path / "ct", VOLUME)
    write_overwritten(tmp_path / "other", VOLUME + 1024, intercept=intercept)
    assert code_of(tmp_path / "ct", tmp_path / "other") is Code.MASK_UNSUPPORTED


@pytest.mark.parametrize("kind", ["seg", "series"])
@pytest.mark.parametrize(
    ("syntax", "name"),
    [
        ("1.2.840.113619.5.2", "1.2.840.113619.5.2"),
        ("1.2.840.10008.1.2.4.53", "JPEG Spectral Selection, Non-Hierarchical"),
    ],
)
def test_a_transfer_syntax_that_nothing_decodes_is_called_by_its_name(tmp_path, kind, syntax, name):
    slices = write_series(tmp_path / "ct", VOLUME)
    if kind == "seg":
        items = [
            write_seg(tmp_path / "mask" / "seg.dcm", [(1, slices[k], LESION[k]) for k in (1, 2, 3)])
        ]
    else:
        write_mask_series(tmp_path / "mask", LESION * 255)
        items = [dcmread(path) for path in (tmp_path / "mask").iterdir()]
    for item in items:
        item.file_meta.TransferSyntaxUID = syntax
        if syntax.startswith("1.2.840.10008."):  # a compressed one
            item.PixelData = encapsulate([item.PixelData])
            item["PixelData"].is_undefined_length = True
        item.save_as(item.filename, implicit_vr=False, little_endian=True)
    with pytest.raises(PatientError, match=re.escape(name)) as caught:
        read(tmp_path / "ct", tmp_path / "mask")
    assert caught.value.code is Code.UNDECODABLE_SYNTAX


@pytest.mark.parametrize("lesion", ["1.5", "2;nan", "inf", "tumour"])
def test_a_manifest_names_labels_by_whole_numbers(tmp_path, lesion):
    write_series(tmp_path / "ct", VOLUME)
    write_mask_series(tmp_path / "mask", LESION * 2)
    with pytest.raises(PatientError, match="give whole numbers") as caught:
        read(tmp_path / "ct", tmp_path / "mask", lesion)
    assert caught.value.code is Code.MASK_EMPTY
    assert read(tmp_path / "ct", tmp_path / "mask", "2.0").mask.sum() == LESION.sum()


@pytest.mark.parametrize(
    ("values", "advice"),
    [
        ((0, 255), r"set cohort.lesion_labels: \[255\]"),
        ((0, 1, 3), "name the lesion's value there"),
        ((0,), "nothing but 0"),
    ],
)
def test_a_label_map_without_the_label_says_what_to_set(tmp_path, values, advice):
    write_series(tmp_path / "ct", VOLUME)
    affine = np.array([[0, 0, -0.5, 10], [0, -0.5, 0, 20], [-2.5, 0, 0, 100], [0, 0, 0, 1]])
    labels = np.array(values)[np.arange(VOLUME.size) % len(values)].reshape(VOLUME.shape)
    nib.save(nib.Nifti1Image(labels.astype(np.uint8), affine), tmp_path / "mask.nii.gz")
    with pytest.raises(PatientError, match=advice) as caught:
        read(tmp_path / "ct", tmp_path / "mask.nii.gz")
    assert caught.value.code is Code.MASK_EMPTY


def test_a_series_of_labels_needs_the_label(tmp_path):
    write_series(tmp_path / "ct", VOLUME)
    write_mask_series(tmp_path / "mask", LESION * 3 + (np.arange(24) > 20))
    assert np.array_equal(
        read(tmp_path / "ct", tmp_path / "mask", lesion_labels=[3]).mask, LESION[1:4]
    )
    assert np.array_equal(read(tmp_path / "ct", tmp_path / "mask", lesion="3").mask, LESION[1:4])
    assert code_of(tmp_path / "ct", tmp_path / "mask", lesion_labels=[9]) is Code.MASK_EMPTY


def test_an_image_is_no_mask(tmp_path):
    write_series(tmp_path / "ct", VOLUME)
    assert code_of(tmp_path / "ct", tmp_path / "ct") is Code.MASK_UNSUPPORTED


def test_a_shifted_series_is_off_the_grid(tmp_path):
    write_series(tmp_path / "ct", VOLUME)
    write_mask_series(tmp_path / "mask", LESION * 255, shift=(0.3, 0, 0))
    assert code_of(tmp_path / "ct", tmp_path / "mask") is Code.MASK_OFF_GRID
    got = read(tmp_path / "ct", tmp_path / "mask", mask_resample=True)
    assert np.array_equal(
        got.mask[:, :, 1:], LESION[1:4, :, :-1]
    )  # 0.6 of a pixel to the left of the patient: the next column
    assert Code.MASK_RESAMPLED in {finding.code for finding in got.findings}


def test_another_frame_of_reference_does_not_compare(tmp_path):
    write_series(tmp_path / "ct", VOLUME)
    write_mask_series(tmp_path / "mask", LESION * 255, frame_of_reference="8.8")
    assert code_of(tmp_path / "ct", tmp_path / "mask") is Code.MASK_OFF_GRID


@pytest.mark.parametrize("finer", [1, 2])
def test_label_maps_are_resampled_when_asked(tmp_path, finer):
    write_series(tmp_path / "ct", VOLUME)
    values = LESION.repeat(finer, axis=1).repeat(finer, axis=2).astype(np.uint8) * 2
    offset = (1 - 1 / finer) / 2 * 0.5
    affine = np.array(
        [
            [0, 0, -0.5 / finer, 10 + offset],
            [0, -0.5 / finer, 0, 20 + offset],
            [-2.5, 0, 0, 100.4],
            [0, 0, 0, 1],
        ]
    )
    nib.save(nib.Nifti1Image(values, affine), tmp_path / "mask.nii.gz")
    if finer > 1:
        assert code_of(tmp_path / "ct", tmp_path / "mask.nii.gz") is Code.MASK_OFF_GRID
    got = read(tmp_path / "ct", tmp_path / "mask.nii.gz", mask_resample=True)
    assert np.array_equal(got.mask, LESION[1:4])
    assert (Code.MASK_RESAMPLED in {finding.code for finding in got.findings}) == (finer > 1)


def test_the_threshold_of_a_fractional_seg(tmp_path):
    slices = write_series(tmp_path / "ct", VOLUME)
    values = np.tile(np.arange(24) * 8, (20, 1))  # 0 .. 184 of 200
    write_seg(tmp_path / "seg.dcm", [(1, slices[2], values)], kind="FRACTIONAL")
    for threshold in (0.1, 0.5, 0.9):
        assert (
            read(tmp_path / "ct", tmp_path / "seg.dcm", fractional_threshold=threshold).mask.sum()
            == 20 * (np.arange(24) * 8 >= threshold * 200).sum()
        )


@pytest.fixture
def highdicom_seg(tmp_path):
    """A SEG written by highdicom, of two segments with codes."""

    def write(kind: hd.seg.SegmentationTypeValues, values: np.ndarray):
        write_series(tmp_path / "ct", VOLUME)
        sources = sorted(
            (dcmread(path) for path in (tmp_path / "ct").iterdir()),
            key=lambda one: -one.ImagePositionPatient[2],
        )
        described = [
            hd.seg.SegmentDescription(
                number,
                label,
                codes.SCT.MorphologicallyAbnormalStructure,
                kind_of,
                hd.seg.SegmentAlgorithmTypeValues.MANUAL,
            )
            for number, label, kind_of in (
                (1, "Mass in kidney", codes.SCT.Mass),
                (2, "Simple cyst", codes.SCT.Cyst),
            )
        ]
        hd.seg.Segmentation(
            sources,
            values,
            kind,
            described,
            "1.2.3.77",
            2,
            "1.2.3.78",
            1,
            "maker",
            "model",
            "1",
            "1",
            omit_empty_frames=True,
        ).save_as(tmp_path / "seg.dcm")
        return tmp_path / "ct", tmp_path / "seg.dcm"

    return write


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP", "FRACTIONAL"])
def test_segments_by_label_code_meaning_and_number(highdicom_seg, kind):
    values = LESION.astype(np.uint8)
    values[4, 1:3, 1:4] = 2
    image, mask = highdicom_seg(hd.seg.SegmentationTypeValues[kind], values)
    seg = dcmread(mask)
    code = next(
        item for item in seg.SegmentSequence if item.SegmentNumber == 1
    ).SegmentedPropertyTypeCodeSequence[0]
    for name in (
        "mass in KIDNEY",
        f"{code.CodingSchemeDesignator}:{code.CodeValue}",
        code.CodeMeaning,
        1,
        "1",
    ):
        got = read(image, mask, lesion_segments=[name])
        assert np.array_equal(got.mask, LESION[1:4]), name
    assert read(image, mask, lesion="2").mask.sum() == 6
    assert read(image, mask, lesion_segments=[1, "Simple cyst"]).mask.sum() == LESION.sum() + 6
    assert code_of(image, mask) is Code.LESION_UNNAMED
    assert code_of(image, mask, lesion_segments=["tumour"]) is Code.MASK_EMPTY


def test_a_seg_off_the_slices_is_resampled_when_asked(tmp_path):
    slices = write_series(tmp_path / "ct", VOLUME)
    frames = [(1, slices[k], LESION[k].astype(np.uint8)) for k in (1, 2, 3)]
    positions = [
        np.array(slices[k].ImagePositionPatient, float) + np.array([0, 0, 0.9]) for k in (1, 2, 3)
    ]
    write_seg(tmp_path / "seg.dcm", frames, positions=positions, sources=False)
    assert code_of(tmp_path / "ct", tmp_path / "seg.dcm") is Code.MASK_OFF_GRID
    got = read(tmp_path / "ct", tmp_path / "seg.dcm", mask_resample=True)
    assert np.array_equal(got.mask, LESION[1:4])
    assert Code.MASK_RESAMPLED in {finding.code for finding in got.findings}
