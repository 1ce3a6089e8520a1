"""DICOM CT series: HU, order, orientation, and the refusals, on small series written here."""

import numpy as np
import pytest
from dicom_files import ct_slice, save, write_series
from pydicom import Dataset, dcmread
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    JPEGLosslessSV1,
    RLELossless,
)

from renal_ray.config import Cohort
from renal_ray.imaging.images import dicom_series
from renal_ray.imaging.images.dicom_hu import whole_hu
from renal_ray.imaging.images.dicom_series import open_series
from renal_ray.imaging.images.source import References
from renal_ray.problems import Code, PatientError

COHORT = Cohort(manifest="unused.csv")
NOTHING = References()


@pytest.fixture
def volume() -> np.ndarray:
    """HU (6, 4, 5), all different."""
    return (np.arange(6 * 4 * 5).reshape(6, 4, 5) - 60).astype(np.int16)


def read(folder, wanted=NOTHING) -> np.ndarray:
    series = open_series(folder, wanted, COHORT)
    return series.read(np.arange(series.grid.shape[0]))


def code_of(folder, wanted=NOTHING) -> Code:
    with pytest.raises(PatientError) as caught:
        read(folder, wanted)
    assert "CANARY" not in str(caught.value)
    return caught.value.code


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_order_does_not_follow_names(tmp_path, volume, seed):
    write_series(tmp_path, volume, shuffle=seed, step=2.5, origin=(-10, -20, 100))
    series = open_series(tmp_path, NOTHING, COHORT)
    hu = series.read(np.arange(6))
    assert hu.dtype == np.int16
    assert np.array_equal(hu, volume)
    assert series.grid.spacing.tolist() == [2.5, 0.5, 0.5]  # not the slice thickness, 99
    assert series.grid.position_mm().tolist() == [100, 97.5, 95, 92.5, 90, 87.5]
    assert np.array_equal(series.read(np.array([4, 1])), volume[[4, 1]])


def test_slope_and_intercept_belong_to_the_slice(tmp_path, volume):
    slices = write_series(tmp_path, volume)
    for k, dataset in enumerate(slices):
        slope, intercept = [(1, -1024), (2, -500), (1, 0)][k % 3]
        even = volume[k] // slope * slope
        dataset.RescaleSlope, dataset.RescaleIntercept = slope, intercept
        dataset.PixelData = ((even - intercept) // slope).astype("<i2").tobytes()
        save(dataset)
    expected = np.stack(
        [hu // (2 if k % 3 == 1 else 1) * (2 if k % 3 == 1 else 1) for k, hu in enumerate(volume)]
    )
    assert np.array_equal(read(tmp_path), expected)


def test_fractional_slope_gives_float32(tmp_path, volume):
    write_series(tmp_path, volume, slope=0.3, intercept=-100.5)
    hu = read(tmp_path)
    assert hu.dtype == np.float32
    assert np.abs(hu - volume).max() <= 0.151
    assert np.allclose(hu, np.rint((volume + 100.5) / 0.3) * 0.3 - 100.5)


@pytest.mark.parametrize(("padding", "limit"), [(-2000, None), (63536, None), (-2000, -1990)])
def test_padding_becomes_air(tmp_path, volume, padding, limit):
    """Also when the header writes the signed value as unsigned (63536 is -2000)."""
    for dataset in write_series(tmp_path, volume):
        stored = np.frombuffer(dataset.PixelData, "<i2").reshape(4, 5).copy()
        stored[0, 0], stored[1, 1] = -2000, -1995
        dataset.add_new("PixelPaddingValue", "US" if padding > 0 else "SS", padding)
        if limit is not None:
            dataset.add_new("PixelPaddingRangeLimit", "SS", limit)
        dataset.PixelData = stored.tobytes()
        save(dataset)
    hu = read(tmp_path)
    assert (hu[:, 0, 0] == -1000).all()
    assert (hu[:, 1, 1] == (-1000 if limit is not None else -1995 - 1024)).all()
    assert np.array_equal(hu[:, 2:], volume[:, 2:])


@pytest.mark.parametrize(
    ("orientation", "turn", "corner"),
    [
        ((1, 0, 0, 0, -1, 0), lambda hu: hu[::-1], (0, 1)),
        ((-1, 0, 0, 0, 1, 0), lambda hu: hu[:, ::-1], (1, 0)),
        ((-1, 0, 0, 0, -1, 0), lambda hu: hu[::-1, ::-1], (1, 1)),
        ((0, 1, 0, 1, 0, 0), lambda hu: hu.T, (0, 0)),
        ((0, -1, 0, 1, 0, 0), lambda hu: hu.T[:, ::-1], (0, 1)),
    ],
)
def test_other_orientations_of_the_same_patient(tmp_path, volume, orientation, turn, corner):
    """The same anatomy stored with rows or columns reversed or swapped reads the same."""
    rows, columns = volume.shape[1:]
    x, y = -10 + corner[0] * 0.5 * (columns - 1), -20 + corner[1] * 0.5 * (rows - 1)
    for k, hu in enumerate(volume):
        save(
            ct_slice(
                tmp_path / f"{k}.dcm",
                np.ascontiguousarray(turn(hu)) + np.int16(1024),
                (x, y, 50 - 2 * k),
                series="1.2.9",
                orientation=orientation,
            )
        )
    series = open_series(tmp_path, NOTHING, COHORT)
    assert np.array_equal(series.read(np.arange(6)), volume)
    assert np.allclose(series.grid.origin, (-10, -20, 50))


def test_row_and_column_spacing_follow_the_axes(tmp_path, volume):
    for k, hu in enumerate(volume):
        save(
            ct_slice(
                tmp_path / f"{k}.dcm",
                hu.T.copy() + np.int16(1024),
                (0, 0, -k),
                series="1.2.9",
                orientation=(0, 1, 0, 1, 0, 0),
                spacing=(0.3, 0.9),
            )
        )
    assert open_series(tmp_path, NOTHING, COHORT).grid.spacing.tolist() == [1, 0.9, 0.3]


def test_other_files_in_the_folder_are_passed_over(tmp_path, volume):
    slices = write_series(tmp_path, volume)
    (tmp_path / "notes.txt").write_text("no DICOM", encoding="utf-8")
    (tmp_path / ".DS_Store").write_bytes(b"\0\0\0\1Bud1" + bytes(200))
    (tmp_path / "empty").write_bytes(b"")
    scout = ct_slice(
        tmp_path / "scout.dcm",
        np.zeros((8, 8), np.int16),
        (0, 0, 0),
        series="1.2.77",
        orientation=(1, 0, 0, 0, 0, -1),
    )
    scout.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    save(scout)
    report = Dataset()
    report.Modality, report.SeriesInstanceUID, report.SOPClassUID = (
        "SR",
        "1.2.88",
        "1.2.840.10008.5.1.4.1.1.88.11",
    )
    report.file_meta = slices[0].file_meta
    report.save_as(tmp_path / "report.dcm", enforce_file_format=False)
    assert np.array_equal(read(tmp_path), volume)


def test_files_without_preamble_are_read(tmp_path, volume):
    write_series(tmp_path, volume)
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[132:])
    assert np.array_equal(read(tmp_path), volume)


def test_empty_uids_are_no_obstacle(tmp_path, volume):
    for dataset in write_series(tmp_path, volume):
        dataset.SOPInstanceUID = dataset.SeriesInstanceUID = dataset.StudyInstanceUID = (
            dataset.SOPClassUID
        ) = dataset.PatientID = ""
        dataset.save_as(dataset.filename, enforce_file_format=False)
    assert np.array_equal(read(tmp_path), volume)
    assert open_series(tmp_path, NOTHING, COHORT).slices_named({""}) == set()


def test_several_series_are_refused_unless_the_mask_says_which(tmp_path, volume):
    write_series(tmp_path / "a", volume, series="1.2.1", frame_of_reference="1.5")
    write_series(tmp_path / "b", volume + 7, series="1.2.2", frame_of_reference="1.6")
    assert code_of(tmp_path) is Code.SEVERAL_SERIES
    assert np.array_equal(read(tmp_path, References(frozenset({"1.2.2"}))), volume + 7)
    assert np.array_equal(read(tmp_path, References(frame_of_reference="1.5")), volume)
    assert code_of(tmp_path, References(frozenset({"1.2.3"}))) is Code.SEVERAL_SERIES


def test_images_of_another_modality_are_passed_over(tmp_path, volume):
    write_series(tmp_path / "ct", volume, series="1.2.1")
    for dataset in write_series(tmp_path / "mr", volume, series="1.2.2"):
        dataset.Modality = "MR"
        save(dataset)
    assert np.array_equal(read(tmp_path), volume)
    assert code_of(tmp_path / "mr") is Code.NOT_CT


def test_several_series_without_uids_differ_by_their_grid(tmp_path, volume):
    write_series(tmp_path / "a", volume, series="")
    write_series(tmp_path / "b", volume[:, :3], series="")
    assert code_of(tmp_path) is Code.SEVERAL_SERIES


def without(*keywords):
    def change(dataset):
        for keyword in keywords:
            delattr(dataset, keyword)

    return change


def with_values(**values):
    def change(dataset):
        for keyword, value in values.items():
            setattr(dataset, keyword, value)

    return change


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (without("PixelSpacing"), Code.NO_PIXEL_SPACING),
        (with_values(PixelSpacing=[0.0, 0.5]), Code.NO_PIXEL_SPACING),
        (without("ImagePositionPatient"), Code.NO_POSITION),
        (without("ImageOrientationPatient"), Code.NO_POSITION),
        (with_values(ImageOrientationPatient=[1, 0, 0, 1, 0, 0]), Code.NO_POSITION),
        (without("RescaleSlope"), Code.NO_RESCALE),
        (without("PixelData"), Code.NO_PIXEL_DATA),
        (with_values(Modality="MR"), Code.NOT_CT),
        (with_values(RescaleType="US", ImageType=["DERIVED", "PRIMARY", "PERFUSION"]), Code.NOT_CT),
        (with_values(ImagePositionPatient=[-10, -20, 95]), Code.DUPLICATE_POSITION),
        (with_values(ImagePositionPatient=[-10, -20, 98.1]), Code.NON_UNIFORM_SPACING),
        (with_values(ImagePositionPatient=[-10, -20, 197.5]), Code.MISSING_SLICE),
        (with_values(ImagePositionPatient=[-10, 0, 97.5]), Code.MIXED_GRID),
        (with_values(ImageOrientationPatient=[0, 1, 0, 0, 0, -1]), Code.MIXED_ORIENTATION),
        (with_values(PixelSpacing=[0.6, 0.5]), Code.MIXED_GRID),
    ],
)
def test_one_bad_slice_refuses_the_series(tmp_path, volume, change, code):
    dataset = write_series(tmp_path, volume)[1]
    change(dataset)
    save(dataset)
    assert code_of(tmp_path) is code


def test_a_slice_less_is_a_missing_slice(tmp_path, volume):
    dataset = write_series(tmp_path, volume)[2]
    (tmp_path / dataset.filename).unlink()
    assert code_of(tmp_path) is Code.MISSING_SLICE


@pytest.mark.parametrize("orientation", [(1, 0, 0, 0, 0, -1), (0, 1, 0, 0, 0, -1)])
def test_coronal_and_sagittal_series_are_not_axial(tmp_path, orientation):
    normal = np.cross(orientation[:3], orientation[3:])
    for k in range(4):
        save(
            ct_slice(
                tmp_path / f"{k}.dcm",
                np.zeros((4, 4), np.int16),
                normal * k,
                series="1.2",
                orientation=orientation,
            )
        )
    assert code_of(tmp_path) is Code.NOT_AXIAL


def test_tilted_gantry(tmp_path):
    a = np.deg2rad(10)
    for k in range(4):
        save(
            ct_slice(
                tmp_path / f"{k}.dcm",
                np.zeros((4, 4), np.int16),
                (0, 0, 5 * k),
                series="1.2",
                orientation=(1, 0, 0, 0, np.cos(a), np.sin(a)),
            )
        )
    assert code_of(tmp_path) is Code.TILT


def test_truncated_native_file(tmp_path, volume):
    path = tmp_path / write_series(tmp_path, volume)[0].filename
    path.write_bytes(path.read_bytes()[:-8])
    assert code_of(tmp_path) is Code.FILE_TRUNCATED


def test_truncated_compressed_file(tmp_path, volume):
    dataset = write_series(tmp_path, volume)[0]
    dataset.compress(RLELossless)
    path = save(dataset)
    assert np.array_equal(read(tmp_path), volume)
    path.write_bytes(path.read_bytes()[:-40])
    assert code_of(tmp_path) is Code.FILE_TRUNCATED


def test_undecodable_transfer_syntax_is_named(tmp_path, volume):
    dataset = write_series(tmp_path, volume)[0]
    stored = dcmread(dataset.filename)
    stored.compress(RLELossless)
    stored.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    stored.save_as(dataset.filename)
    with pytest.raises(
        PatientError, match="JPEG Lossless, Non-Hierarchical, First-Order Prediction"
    ) as caught:
        read(tmp_path)
    assert caught.value.code is Code.UNDECODABLE_SYNTAX


def test_folder_without_dicom(tmp_path):
    (tmp_path / "readme.txt").write_text("nothing here", encoding="utf-8")
    assert code_of(tmp_path) is Code.FILE_UNREADABLE


def enhanced(path, volume):
    """The volume as one enhanced CT object, frames in a scrambled order."""
    dataset = ct_slice(path, np.zeros((4, 5), np.int16), (0, 0, 0), series="1.2.9")
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    without(
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "PixelSpacing",
        "RescaleSlope",
        "RescaleIntercept",
    )(dataset)
    order = np.random.default_rng(0).permutation(len(volume))
    frames = []
    for k in order:
        frame, plane, value = Dataset(), Dataset(), Dataset()
        plane.ImagePositionPatient = [-10, -20, 100 - 2.5 * k]
        value.RescaleSlope, value.RescaleIntercept, value.RescaleType = 1, -int(k), "HU"
        frame.PlanePositionSequence, frame.PixelValueTransformationSequence = (
            DicomSequence([plane]),
            DicomSequence([value]),
        )
        frames.append(frame)
    shared, direction, measures = Dataset(), Dataset(), Dataset()
    direction.ImageOrientationPatient, measures.PixelSpacing = [1, 0, 0, 0, 1, 0], [0.5, 0.5]
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = (
        DicomSequence([direction]),
        DicomSequence([measures]),
    )
    dataset.PerFrameFunctionalGroupsSequence, dataset.SharedFunctionalGroupsSequence = (
        DicomSequence(frames),
        DicomSequence([shared]),
    )
    dataset.NumberOfFrames = len(volume)
    dataset.PixelData = (
        (volume + np.arange(len(volume))[:, None, None])[order].astype("<i2").tobytes()
    )
    return dataset


def test_enhanced_multi_frame_ct(tmp_path, volume):
    save(enhanced(tmp_path / "mf.dcm", volume))
    assert np.array_equal(read(tmp_path), volume)
    assert np.array_equal(read(tmp_path / "mf.dcm"), volume)


def frames_of(dataset):
    return dataset.PerFrameFunctionalGroupsSequence


def test_an_enhanced_object_is_parsed_once_for_all_its_frames(tmp_path, volume, monkeypatch):
    save(enhanced(tmp_path / "mf.dcm", volume))
    parsed, load = [], dicom_series.load
    monkeypatch.setattr(
        dicom_series, "load", lambda path, **options: parsed.append(path) or load(path, **options)
    )
    assert np.array_equal(read(tmp_path), volume)
    assert len(parsed) == 1


def test_a_concatenation_of_enhanced_objects_is_one_series(tmp_path, volume):
    """Instances of one concatenation share the series; each describes its own frames (PS3.3,
    C.7.6.16.2.2.4)."""
    whole = enhanced(tmp_path / "whole.dcm", volume)
    frame_bytes = volume[0].size * 2
    for part, (first, last) in enumerate(((0, 4), (4, 6))):
        dataset = enhanced(tmp_path / f"part{part}.dcm", volume)
        dataset.PerFrameFunctionalGroupsSequence = whole.PerFrameFunctionalGroupsSequence[
            first:last
        ]
        (
            dataset.ConcatenationUID,
            dataset.InConcatenationNumber,
            dataset.InConcatenationTotalNumber,
        ) = "1.2.88", part + 1, 2
        dataset.NumberOfFrames, dataset.PixelData = (
            last - first,
            whole.PixelData[first * frame_bytes : last * frame_bytes],
        )
        save(dataset)
    assert np.array_equal(read(tmp_path), volume)
    (tmp_path / "part1.dcm").unlink()
    with pytest.raises(PatientError, match="1 of the 2 files") as caught:
        read(tmp_path)
    assert caught.value.code is Code.MISSING_SLICE


def test_two_phases_in_one_object_are_two_slices_at_each_position(tmp_path, volume):
    dataset = enhanced(tmp_path / "mf.dcm", volume)
    dataset.PerFrameFunctionalGroupsSequence = [
        *frames_of(dataset),
        *frames_of(enhanced(tmp_path / "other.dcm", volume)),
    ]
    dataset.NumberOfFrames, dataset.PixelData = 12, dataset.PixelData * 2
    save(dataset)
    with pytest.raises(PatientError, match="one phase") as caught:
        read(tmp_path)
    assert caught.value.code is Code.DUPLICATE_POSITION


def test_two_stacks_of_different_orientation_in_one_object(tmp_path, volume):
    dataset = enhanced(tmp_path / "mf.dcm", volume)
    coronal = Dataset()
    coronal.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    for frame in frames_of(dataset)[:3]:
        frame.PlaneOrientationSequence = DicomSequence([coronal])
    save(dataset)
    assert code_of(tmp_path) is Code.MIXED_ORIENTATION


@pytest.mark.parametrize("frames", [5, 7])
def test_frames_that_are_not_described_have_no_position(tmp_path, volume, frames):
    dataset = enhanced(tmp_path / "mf.dcm", volume)
    dataset.NumberOfFrames, dataset.PixelData = frames, bytes(frames * 40)
    save(dataset)
    assert code_of(tmp_path) is Code.NO_POSITION


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("deflated", [False, True])
def test_what_stands_above_the_stored_bits_is_no_part_of_a_pixel(
    tmp_path, volume, signed, deflated
):
    """Twelve bits of sixteen; old scanners kept overlays in the other four, and did not extend the
    sign into them (PS3.5, 8.1.1)."""
    intercept = 0 if signed else -1024
    for dataset in write_series(tmp_path, volume, intercept=intercept):
        stored = np.frombuffer(dataset.PixelData, "<u2").copy()
        stored[0] = 0xF830
        dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 12, 11, int(signed)
        dataset.add_new("PixelPaddingValue", "SS" if signed else "US", -2000 if signed else 63536)
        dataset.PixelData = (stored & 0x0FFF | 0x5000).astype("<u2").tobytes()
        if deflated:  # by way of pydicom, and not straight from the file
            dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        save(dataset)
    expected = volume.copy()
    expected[:, 0, 0] = -1000
    assert np.array_equal(read(tmp_path), expected)


@pytest.mark.parametrize("slope", [1e9, -3e7, 20000, 65.5, -65.5])
def test_attenuation_that_no_ct_has(tmp_path, volume, slope):
    for dataset in write_series(tmp_path, volume):
        dataset.RescaleSlope = slope
        save(dataset)
    assert code_of(tmp_path) is Code.HU_OUT_OF_RANGE


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (with_values(ImagePositionPatient=[-10, -20, 1e9]), Code.NO_POSITION),
        (with_values(PixelSpacing=[500.0, 500.0]), Code.NO_PIXEL_SPACING),
        (with_values(Rows=60000, Columns=60000), Code.TOO_LARGE),
    ],
)
def test_numbers_that_no_scanner_writes(tmp_path, volume, change, code):
    dataset = write_series(tmp_path, volume)[1]
    change(dataset)
    save(dataset)
    assert code_of(tmp_path) is code


def test_a_tilted_coronal_series_is_coronal_first(tmp_path):
    """What is allowed to be tilted is not for that allowed to be coronal."""
    a = np.deg2rad(10)
    for k in range(4):
        orientation = (1, 0, 0, 0, np.sin(a), -np.cos(a))
        save(
            ct_slice(
                tmp_path / f"{k}.dcm",
                np.zeros((4, 4), np.int16),
                (0, 5 * k, 0),
                series="1.2",
                orientation=orientation,
            )
        )
    with pytest.raises(PatientError, match="coronal"):
        open_series(tmp_path, NOTHING, Cohort(manifest="unused.csv", tilt="resample"))
    both = open_series(
        tmp_path, NOTHING, Cohort(manifest="unused.csv", tilt="resample", oblique="resample")
    )
    assert not both.straight


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32])
@pytest.mark.parametrize(
    ("slope", "intercept"),
    [(1, -1024), (1, 0), (3, -1000), (-1, 40), (1, 32767), (2, -32768), (16000, 5), (1, 40000)],
)
def test_whole_numbers_never_wrap(dtype, slope, intercept):
    limits = np.iinfo(dtype)
    for values in ([0, 100, 200], [limits.min, 0, limits.max], [limits.max - 1, limits.max, 7]):
        stored = np.array([values], dtype)
        expected = [[value * slope + intercept for value in map(int, values)]]
        assert whole_hu(stored, slope, intercept, (min(values), max(values))).tolist() == expected
