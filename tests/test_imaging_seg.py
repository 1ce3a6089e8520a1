"""DICOM SEG over a DICOM series: frames by position, segments, kinds, and the refusals."""

from pathlib import Path

import numpy as np
import pytest
from dicom_files import save, write_rtstruct, write_seg, write_series
from pydicom import Dataset, dcmread

from renal_ray.config import Cohort, Selection
from renal_ray.dicom.headers import read_headers
from renal_ray.dicom.pixels import require_decoder
from renal_ray.dicom.series import KEY_TAGS, series_key
from renal_ray.imaging.patient import read_patient
from renal_ray.problems import Code, PatientError

EVERYTHING = Selection(min_area_fraction=0)
SHAPE = (6, 5, 7)


@pytest.fixture
def volume() -> np.ndarray:
    return (np.arange(np.prod(SHAPE)).reshape(SHAPE) - 60).astype(np.int16)


@pytest.fixture
def lesion() -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    mask[2, 1:4, 2:5] = mask[3, 2, 1:6] = True
    return mask


def read(folder: Path, segments=None):
    return read_patient(
        folder / "ct",
        folder / "seg.dcm",
        cohort=Cohort(manifest="unused.csv", lesion_segments=segments),
        selection=EVERYTHING,
    )


def code_of(folder: Path, segments=None) -> Code:
    with pytest.raises(PatientError) as caught:
        read(folder, segments)
    assert "CANARY" not in str(caught.value)
    return caught.value.code


def test_frames_go_where_they_lie_and_absent_ones_are_empty(tmp_path, volume, lesion):
    """Frames in the wrong order, one missing in between; five by seven pixels do not fill whole
    bytes."""
    lesion[5, 0, 0] = True
    slices = write_series(tmp_path / "ct", volume)
    write_seg(tmp_path / "seg.dcm", [(1, slices[k], lesion[k]) for k in (5, 2, 3)])
    got = read(tmp_path)
    assert got.slice_index.tolist() == [2, 3, 5]
    assert np.array_equal(got.mask, lesion[[2, 3, 5]])
    assert np.array_equal(got.hu, volume[[2, 3, 5]])
    assert got.n_slices_total == 6
    assert got.lesion_area_mm2.tolist() == [2.25, 1.25, 0.25]


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [
        ((-1, 0, 0, 0, 1, 0), lambda m: m[:, ::-1]),
        ((1, 0, 0, 0, -1, 0), lambda m: m[::-1]),
        ((0, 1, 0, 1, 0, 0), np.transpose),
    ],
)
def test_frames_stored_in_another_orientation(tmp_path, volume, lesion, orientation, turn):
    slices = write_series(tmp_path / "ct", volume)
    positions = []
    for k in (2, 3):
        x, y, z = (float(v) for v in slices[k].ImagePositionPatient)
        positions.append(
            (
                x + (0.5 * 6 if orientation[0] < 0 else 0),
                y + (0.5 * 4 if orientation[4] < 0 else 0),
                z,
            )
        )
    frames = [(1, slices[k], np.ascontiguousarray(turn(lesion[k]))) for k in (2, 3)]
    write_seg(tmp_path / "seg.dcm", frames, orientation=orientation, positions=positions)
    assert np.array_equal(read(tmp_path).mask, lesion[[2, 3]])


def test_overlapping_segments_are_named_or_the_seg_is_refused(tmp_path, volume, lesion):
    other = np.roll(lesion, 1, axis=2)
    slices = write_series(tmp_path / "ct", volume)
    frames = [(1, slices[2], lesion[2]), (2, slices[2], other[2]), (2, slices[3], other[3])]
    write_seg(tmp_path / "seg.dcm", frames, labels=("Tumour", "Cyst"))
    with pytest.raises(
        PatientError, match=r"lesion_segments names none: 1 Tumour \(no code\); 2 Cyst \(no code\)"
    ) as caught:
        read(tmp_path)
    assert caught.value.code is Code.LESION_UNNAMED
    assert np.array_equal(read(tmp_path, ["tumour "]).mask, lesion[[2]])
    assert np.array_equal(read(tmp_path, ["Cyst"]).mask, other[[2, 3]])
    assert np.array_equal(
        read(tmp_path, ["Cyst", "Tumour", "Kidney"]).mask,
        np.stack([lesion[2] | other[2], other[3]]),
    )
    with pytest.raises(
        PatientError, match=r"cohort.lesion_segments \['Kidney'\]: 1 Tumour.*2 Cyst"
    ) as caught:
        read(tmp_path, ["Kidney"])
    assert caught.value.code is Code.MASK_EMPTY


def test_one_segment_beside_the_background_is_the_lesion(tmp_path, volume, lesion):
    slices = write_series(tmp_path / "ct", volume)
    frames = [(1, slices[k], ~lesion[k]) for k in range(6)] + [
        (2, slices[k], lesion[k]) for k in (2, 3)
    ]
    write_seg(tmp_path / "seg.dcm", frames, labels=("Background", "Tumour"))
    assert np.array_equal(read(tmp_path).mask, lesion[[2, 3]])


@pytest.mark.parametrize(
    "stored", [("SRT", "M-8FFFF"), ("SNM3", "M-8FFFF"), ("99SDM", "M-8FFFF"), ("SCT", "108369006")]
)
def test_a_code_of_snomed_rt_is_its_twin_in_snomed_ct(tmp_path, volume, lesion, stored):
    slices = write_series(tmp_path / "ct", volume)
    seg = write_seg(
        tmp_path / "seg.dcm",
        [(1, slices[2], ~lesion[2]), (2, slices[3], lesion[3])],
        labels=("a", "b"),
    )
    for item, (scheme, value) in zip(
        seg.SegmentSequence, (("SRT", "T-71000"), stored), strict=True
    ):
        code = Dataset()
        code.CodingSchemeDesignator, code.CodeValue, code.CodeMeaning = (
            scheme,
            value,
            "Kidney" if value == "T-71000" else "Neoplasm",
        )
        item.SegmentedPropertyTypeCodeSequence = [code]
    save(seg)
    for name in ("SCT:108369006", "SRT:M-8FFFF", "sct : 108369006", "SNM3:M-8FFFF"):
        assert np.array_equal(read(tmp_path, [name]).mask, lesion[[3]]), name
    for name in ("SCT:64033007", "SRT:T-71000"):
        assert np.array_equal(read(tmp_path, [name]).mask, ~lesion[[2]]), name
    for name in ("108369006", "SCT:", "DCM:108369006", "SCT:M-8FFFF", "SCT:49755003"):
        with pytest.raises(PatientError, match=r"1 a \(SRT:T-71000, Kidney\); 2 b"):
            read(tmp_path, [name])


def test_fractional_masks_count_from_one_half(tmp_path, volume, lesion):
    slices = write_series(tmp_path / "ct", volume)
    values = np.where(lesion, 100, 99)
    values[2, 0, 0] = 200
    write_seg(
        tmp_path / "seg.dcm", [(1, slices[k], values[k]) for k in (1, 2, 3)], kind="FRACTIONAL"
    )
    lesion[2, 0, 0] = True
    assert np.array_equal(read(tmp_path).mask, lesion[[2, 3]])


def test_mask_folder_and_only_file_in_it(tmp_path, volume, lesion):
    slices = write_series(tmp_path / "ct", volume)
    write_seg(tmp_path / "masks" / "a.dcm", [(1, slices[2], lesion[2])])
    cohort = Cohort(manifest="unused.csv")
    assert (
        read_patient(
            tmp_path / "ct", tmp_path / "masks", cohort=cohort, selection=EVERYTHING
        ).mask.sum()
        == 9
    )
    write_seg(tmp_path / "masks" / "b.dcm", [(1, slices[2], lesion[2])])
    with pytest.raises(PatientError) as caught:
        read_patient(tmp_path / "ct", tmp_path / "masks", cohort=cohort, selection=EVERYTHING)
    assert caught.value.code is Code.SEVERAL_MASKS


def test_seg_beside_the_series_in_one_folder(tmp_path, volume, lesion):
    slices = write_series(tmp_path, volume)
    write_seg(tmp_path / "seg.dcm", [(1, slices[2], lesion[2])])
    assert (
        read_patient(
            tmp_path,
            tmp_path / "seg.dcm",
            cohort=Cohort(manifest="unused.csv"),
            selection=EVERYTHING,
        ).mask.sum()
        == 9
    )


def test_the_series_that_the_seg_refers_to_is_taken(tmp_path, volume, lesion):
    write_series(tmp_path / "ct" / "arterial", volume + 50)
    slices = write_series(tmp_path / "ct" / "venous", volume)
    write_seg(tmp_path / "seg.dcm", [(1, slices[2], lesion[2])])
    assert np.array_equal(read(tmp_path).hu, volume[[2]])


def test_a_seg_that_names_slices_but_no_series_chooses_theirs(tmp_path, volume, lesion):
    """Two phases in one frame of reference, in one folder."""
    write_series(tmp_path / "ct" / "arterial", volume + 50)
    slices = write_series(tmp_path / "ct" / "venous", volume)
    write_seg(tmp_path / "seg.dcm", [(1, slices[k], lesion[k]) for k in (2, 3)], series=None)
    got = read(tmp_path)
    assert np.array_equal(got.hu, volume[[2, 3]])
    assert not {finding.code for finding in got.findings} & {Code.REFERENCES_ABSENT}
    venous, arterial = (
        series_key(read_headers(tmp_path / "ct" / name, list(KEY_TAGS))[0])
        for name in ("venous", "arterial")
    )
    cohort = Cohort(manifest="unused.csv")
    told = read_patient(
        tmp_path / "ct", tmp_path / "seg.dcm", cohort=cohort, selection=EVERYTHING, series=venous
    )
    assert np.array_equal(told.hu, volume[[2, 3]])
    with pytest.raises(PatientError) as caught:
        read_patient(
            tmp_path / "ct",
            tmp_path / "seg.dcm",
            cohort=cohort,
            selection=EVERYTHING,
            series=arterial,
        )
    assert caught.value.code is Code.MASK_WITHOUT_SERIES
    write_seg(
        tmp_path / "seg.dcm",
        [(1, slices[k], lesion[k]) for k in (2, 3)],
        series=None,
        sources=False,
    )
    assert code_of(tmp_path) is Code.SEVERAL_SERIES


def test_sop_references_that_the_series_does_not_know_are_ignored(tmp_path, volume, lesion):
    slices = write_series(tmp_path / "ct", volume)
    series = slices[0].SeriesInstanceUID
    other = write_series(tmp_path / "elsewhere", volume, series=series)
    write_seg(tmp_path / "seg.dcm", [(1, other[2], lesion[2])])
    assert np.array_equal(read(tmp_path).mask, lesion[[2]])


def test_seg_of_another_series(tmp_path, volume, lesion):
    slices = write_series(tmp_path / "ct", volume)
    write_seg(tmp_path / "seg.dcm", [(1, slices[2], lesion[2])], series="1.2.3.99")
    assert code_of(tmp_path) is Code.MASK_WITHOUT_SERIES


def test_seg_without_series_reference_lies_by_geometry(tmp_path, volume, lesion):
    slices = write_series(tmp_path / "ct", volume)
    write_seg(tmp_path / "seg.dcm", [(1, slices[2], lesion[2])], series=None, sources=False)
    assert np.array_equal(read(tmp_path).mask, lesion[[2]])


def test_seg_in_another_frame_of_reference_is_believed_where_it_names_series_and_slices(
    tmp_path, volume, lesion
):
    slices = write_series(tmp_path / "ct", volume)
    for named in (False, True):
        seg = write_seg(tmp_path / "seg.dcm", [(1, slices[2], lesion[2])], sources=named)
        seg.FrameOfReferenceUID = "1.2.3.99"
        save(seg)
        if not named:
            assert code_of(tmp_path) is Code.MASK_OFF_GRID
    got = read(tmp_path)
    assert np.array_equal(got.mask, lesion[[2]])
    assert Code.FRAME_CONTRADICTS in {finding.code for finding in got.findings}


@pytest.mark.parametrize("shift", [(0.2, 0, 0), (0, -0.5, 0), (0, 0, 1.0), (0, 0, 25.0)])
def test_frame_off_the_grid(tmp_path, volume, lesion, shift):
    slices = write_series(tmp_path / "ct", volume)
    position = np.array(slices[2].ImagePositionPatient, float) + shift
    write_seg(
        tmp_path / "seg.dcm", [(1, slices[2], lesion[2])], positions=[position], sources=False
    )
    assert code_of(tmp_path) is Code.MASK_OFF_GRID


def test_frame_of_another_matrix(tmp_path, volume, lesion):
    slices = write_series(tmp_path / "ct", volume)
    write_seg(tmp_path / "seg.dcm", [(1, slices[2], lesion[2][:, :6])])
    assert code_of(tmp_path) is Code.MASK_OFF_GRID


def test_frame_that_refers_to_one_slice_and_lies_on_another(tmp_path, volume, lesion):
    slices = write_series(tmp_path / "ct", volume)
    write_seg(
        tmp_path / "seg.dcm",
        [(1, slices[2], lesion[2])],
        positions=[slices[3].ImagePositionPatient],
    )
    assert code_of(tmp_path) is Code.MASK_OFF_GRID


def test_empty_frames_off_the_volume_do_no_harm(tmp_path, volume, lesion):
    slices = write_series(tmp_path / "ct", volume)
    frames = [(1, slices[2], lesion[2]), (1, slices[0], np.zeros(SHAPE[1:]))]
    write_seg(
        tmp_path / "seg.dcm",
        frames,
        positions=[slices[2].ImagePositionPatient, (0, 0, 999)],
        sources=False,
    )
    assert np.array_equal(read(tmp_path).mask, lesion[[2]])


def test_seg_with_nothing_in_it(tmp_path, volume):
    slices = write_series(tmp_path / "ct", volume)
    write_seg(tmp_path / "seg.dcm", [(1, slices[2], np.zeros(SHAPE[1:]))])
    assert code_of(tmp_path) is Code.MASK_EMPTY


def test_frames_without_position(tmp_path, volume, lesion):
    slices = write_series(tmp_path / "ct", volume)
    seg = write_seg(tmp_path / "seg.dcm", [(1, slices[2], lesion[2])])
    del seg.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence
    save(seg)
    assert code_of(tmp_path) is Code.NO_POSITION


def test_truncated_seg(tmp_path, volume, lesion):
    slices = write_series(tmp_path / "ct", volume)
    write_seg(tmp_path / "seg.dcm", [(1, slices[k], lesion[k]) for k in range(6)])
    path = tmp_path / "seg.dcm"
    path.write_bytes(path.read_bytes()[:-12])
    assert code_of(tmp_path) is Code.FILE_TRUNCATED


def test_seg_without_its_sequences(tmp_path, volume, lesion):
    slices = write_series(tmp_path / "ct", volume)
    seg = write_seg(tmp_path / "seg.dcm", [(1, slices[2], lesion[2])])
    del seg.PerFrameFunctionalGroupsSequence
    save(seg)
    assert code_of(tmp_path) is Code.FILE_UNREADABLE


def test_an_rtstruct_without_rois_is_empty(tmp_path, volume):
    write_series(tmp_path / "ct", volume)
    item = write_rtstruct(tmp_path / "seg.dcm", [])
    del item.StructureSetROISequence, item.ROIContourSequence
    save(item)
    with pytest.raises(PatientError) as caught:
        read(tmp_path)
    assert caught.value.code is Code.MASK_EMPTY


def test_a_text_file_is_no_mask(tmp_path, volume):
    write_series(tmp_path / "ct", volume)
    (tmp_path / "seg.dcm").write_text("not a mask", encoding="utf-8")
    assert code_of(tmp_path) is Code.MASK_UNSUPPORTED


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL"])
def test_objects_written_by_highdicom(tmp_path, volume, lesion, kind):
    """An independent writer: frames of empty slices left out, its own order and references."""
    hd = pytest.importorskip("highdicom")
    slices = [dcmread(str(item.filename)) for item in write_series(tmp_path / "ct", volume)]
    code = hd.sr.CodedConcept("85756007", "SCT", "Tissue")
    description = hd.seg.SegmentDescription(
        1, "Lesion", code, code, hd.seg.SegmentAlgorithmTypeValues.MANUAL
    )
    pixels = lesion[::-1].astype(np.uint8 if kind == "BINARY" else np.float32)
    seg = hd.seg.Segmentation(
        slices[::-1],
        pixels,
        kind,
        [description],
        hd.UID(),
        2,
        hd.UID(),
        1,
        "maker",
        "model",
        "1",
        "serial",
        max_fractional_value=255,
    )
    seg.save_as(tmp_path / "seg.dcm")
    got = read(tmp_path, ["Lesion"])
    assert got.slice_index.tolist() == [2, 3]
    assert np.array_equal(got.mask, lesion[[2, 3]])


def test_several_transfer_syntaxes_are_refused_as_none():
    """A damaged meta header, whose backslash makes two values of one."""
    with pytest.raises(PatientError, match="a transfer syntax that is no UID") as caught:
        require_decoder(["1.2.840.10008.1.2.1", "1.2"])
    assert caught.value.code is Code.UNDECODABLE_SYNTAX
