"""Masks as image series, fractional and label map SEGs, and masks brought to the image's grid."""

import highdicom as hd
import nibabel as nib
import numpy as np
import pytest
from dicom_files import ct_slice, save, write_seg, write_series
from pydicom import dcmread
from pydicom.sr.codedict import codes

from renal_ray.config import Cohort, Selection
from renal_ray.imaging.patient import read_patient
from renal_ray.problems import Code, PatientError

EVERYTHING = Selection(min_area_fraction=0)
VOLUME = np.random.default_rng(0).integers(-100, 200, (6, 20, 24)).astype(np.int16)
LESION = np.zeros(VOLUME.shape, bool)
LESION[1:4, 4:12, 6:15], LESION[2, 7:9, 9:11] = True, False


def read(image, mask, lesion="", **cohort):
    return read_patient(image, mask, cohort=Cohort(manifest="unused.csv", **cohort), selection=EVERYTHING, lesion=lesion)


def code_of(image, mask, **cohort) -> Code:
    with pytest.raises(PatientError) as caught:
        read(image, mask, **cohort)
    return caught.value.code


def write_mask_series(folder, values, *, first=0, shift=(0.0, 0.0, 0.0), **options):
    for k, plane in enumerate(values):
        place = np.array([-10.0, -20.0, 100.0 - 2.5 * (first + k)]) + shift
        item = ct_slice(folder / f"{k}.dcm", plane.astype(np.uint16), place, series="1.2.7", **options)
        item.Modality = "OT"
        del item.RescaleSlope, item.RescaleIntercept
        save(item)


@pytest.mark.parametrize("high", [1, 255])
def test_a_series_of_two_values_is_a_mask(tmp_path, high):
    write_series(tmp_path / "ct", VOLUME)
    write_mask_series(tmp_path / "mask", LESION[1:5] * high, first=1)  # part of the slices, as many programs export
    got = read(tmp_path / "ct", tmp_path / "mask")
    assert got.slice_index.tolist() == [1, 2, 3]
    assert np.array_equal(got.mask, LESION[1:4])


def test_a_series_of_labels_needs_the_label(tmp_path):
    write_series(tmp_path / "ct", VOLUME)
    write_mask_series(tmp_path / "mask", LESION * 3 + (np.arange(24) > 20))
    assert np.array_equal(read(tmp_path / "ct", tmp_path / "mask", lesion_labels=[3]).mask, LESION[1:4])
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
    assert np.array_equal(got.mask[:, :, 1:], LESION[1:4, :, :-1])  # 0.6 of a pixel to the left of the patient: the next column
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
    affine = np.array([[0, 0, -0.5 / finer, 10 + offset], [0, -0.5 / finer, 0, 20 + offset], [-2.5, 0, 0, 100.4], [0, 0, 0, 1]])
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
        assert read(tmp_path / "ct", tmp_path / "seg.dcm", fractional_threshold=threshold).mask.sum() == 20 * (np.arange(24) * 8 >= threshold * 200).sum()


@pytest.fixture
def highdicom_seg(tmp_path):
    """A SEG written by highdicom, of two segments with codes."""

    def write(kind: hd.seg.SegmentationTypeValues, values: np.ndarray):
        write_series(tmp_path / "ct", VOLUME)
        sources = sorted((dcmread(path) for path in (tmp_path / "ct").iterdir()), key=lambda one: -one.ImagePositionPatient[2])
        described = [
            hd.seg.SegmentDescription(number, label, codes.SCT.MorphologicallyAbnormalStructure, kind_of, hd.seg.SegmentAlgorithmTypeValues.MANUAL)
            for number, label, kind_of in ((1, "Mass in kidney", codes.SCT.Mass), (2, "Simple cyst", codes.SCT.Cyst))
        ]
        hd.seg.Segmentation(sources, values, kind, described, "1.2.3.77", 2, "1.2.3.78", 1, "maker", "model", "1", "1", omit_empty_frames=True).save_as(
            tmp_path / "seg.dcm"
        )
        return tmp_path / "ct", tmp_path / "seg.dcm"

    return write


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP", "FRACTIONAL"])
def test_segments_by_label_code_meaning_and_number(highdicom_seg, kind):
    values = LESION.astype(np.uint8)
    values[4, 1:3, 1:4] = 2
    image, mask = highdicom_seg(hd.seg.SegmentationTypeValues[kind], values)
    seg = dcmread(mask)
    code = next(item for item in seg.SegmentSequence if item.SegmentNumber == 1).SegmentedPropertyTypeCodeSequence[0]
    for name in ("mass in KIDNEY", f"{code.CodingSchemeDesignator}:{code.CodeValue}", code.CodeMeaning, 1, "1"):
        got = read(image, mask, lesion_segments=[name])
        assert np.array_equal(got.mask, LESION[1:4]), name
    assert read(image, mask, lesion="2").mask.sum() == 6
    assert read(image, mask, lesion_segments=[1, "Simple cyst"]).mask.sum() == LESION.sum() + 6
    assert code_of(image, mask) is Code.LESION_UNNAMED
    assert code_of(image, mask, lesion_segments=["tumour"]) is Code.MASK_EMPTY


def test_a_seg_off_the_slices_is_resampled_when_asked(tmp_path):
    slices = write_series(tmp_path / "ct", VOLUME)
    frames = [(1, slices[k], LESION[k].astype(np.uint8)) for k in (1, 2, 3)]
    positions = [np.array(slices[k].ImagePositionPatient, float) + np.array([0, 0, 0.9]) for k in (1, 2, 3)]
    write_seg(tmp_path / "seg.dcm", frames, positions=positions, sources=False)
    assert code_of(tmp_path / "ct", tmp_path / "seg.dcm") is Code.MASK_OFF_GRID
    got = read(tmp_path / "ct", tmp_path / "seg.dcm", mask_resample=True)
    assert np.array_equal(got.mask, LESION[1:4])
    assert Code.MASK_RESAMPLED in {finding.code for finding in got.findings}
