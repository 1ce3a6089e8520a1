"""RTSTRUCT files as others write them: long contours, names of ROIs, invented frames of
reference."""

import struct
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from contours import VOLUME, box, code_of, findings, pixels, read, refusal, square
from dicom_files import save, write_rtstruct, write_seg, write_series
from pydicom import Dataset, dcmread
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import FileDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_sequence
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from renal_ray.problems import Code


def polygon(k: float, half: float, count: int) -> np.ndarray:
    """The square of `square` with so many points along its edges."""
    corners = square(k, half)
    share = np.linspace(0, 4, count, endpoint=False)
    edge = share.astype(int)
    return corners[edge] + (share - edge)[:, None] * (
        np.roll(corners, -1, axis=0)[edge] - corners[edge]
    )


def as_unknown(dataset: Dataset, keyword: str) -> None:
    """Makes an element UN, its value in implicit VR, as programs do that do not know it."""
    element = dataset[keyword]
    if element.VR == "SQ":
        buffer = DicomBytesIO()
        buffer.is_little_endian, buffer.is_implicit_VR = True, True
        write_sequence(buffer, element, ["iso8859"])
        value = buffer.getvalue()
    else:
        value = (
            element.value if element.VR == "LO" else "\\".join(map(str, element.value))
        ).encode()
    unknown = DataElement(element.tag, "OB", value + b" " * (len(value) % 2))
    unknown.VR = "UN"  # pydicom would not make one of a known tag
    dataset[keyword] = unknown


def written(folder: Path, contours, **options) -> FileDataset:
    """Writes series and RTSTRUCT."""
    slices = write_series(folder / "ct", VOLUME)
    return write_rtstruct(
        folder / "rt.dcm", contours, series=str(slices[0].SeriesInstanceUID), **options
    )


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_contours_above_64_kib(tmp_path, syntax):
    """In explicit VR their length does not fit, and they arrive as UN (PS3.5, 6.2.2)."""
    rt = written(tmp_path, [("GTV", polygon(k, 3, 4000)) for k in (1, 2)])
    rt.file_meta.TransferSyntaxUID = syntax
    rt.save_as(
        tmp_path / "rt.dcm",
        implicit_vr=syntax == ImplicitVRLittleEndian,
        little_endian=True,
        enforce_file_format=True,
    )
    assert (b"\x06\x30\x50\x00UN" in (tmp_path / "rt.dcm").read_bytes()) == (
        syntax == ExplicitVRLittleEndian
    )
    assert pixels(read(tmp_path)) == {1: 36, 2: 36}


@pytest.mark.parametrize("points", [40, 4000])
@pytest.mark.parametrize(
    "where", ["ROIContourSequence", "ContourSequence", "ContourData", "ROIName"]
)
def test_whatever_arrives_as_unknown_is_read_as_known(tmp_path, where, points):
    rt = written(tmp_path, [("GTV", polygon(k, 3, points)) for k in (1, 2)])
    holders = {
        "ROIContourSequence": [rt],
        "ContourSequence": rt.ROIContourSequence,
        "ContourData": rt.ROIContourSequence[0].ContourSequence,
        "ROIName": rt.StructureSetROISequence,
    }
    for holder in holders[where]:
        as_unknown(holder, where)
    save(rt)
    assert (
        struct.pack("<HH", *divmod(Tag(where), 1 << 16)) + b"UN"
        in (tmp_path / "rt.dcm").read_bytes()
    )
    assert pixels(read(tmp_path, lesion_rois=["GTV"])) == {1: 36, 2: 36}


def test_a_sequence_of_undefined_length_that_arrives_as_unknown(tmp_path):
    rt = written(tmp_path, [("GTV", polygon(k, 3, 4000)) for k in (1, 2)])
    as_unknown(rt, "ROIContourSequence")
    save(rt)
    data = (tmp_path / "rt.dcm").read_bytes()
    at = data.index(b"\x06\x30\x39\x00UN") + 8
    length = int.from_bytes(data[at : at + 4], "little")
    assert at + 4 + length == len(data)
    (tmp_path / "rt.dcm").write_bytes(
        data[:at] + b"\xff" * 4 + data[at + 4 :] + b"\xfe\xff\xdd\xe0" + b"\0" * 4
    )
    assert pixels(read(tmp_path)) == {1: 36, 2: 36}


@pytest.mark.parametrize(
    "where", ["SegmentSequence", "PerFrameFunctionalGroupsSequence", "ReferencedSeriesSequence"]
)
def test_a_seg_whose_sequences_arrive_as_unknown(tmp_path, where):
    slices = write_series(tmp_path / "ct", VOLUME)
    lesion = np.zeros(VOLUME.shape[1:], bool)
    lesion[3:9, 4:12] = True
    seg = write_seg(tmp_path / "rt.dcm", [(1, slices[k], lesion) for k in (1, 2)])
    if where == "PerFrameFunctionalGroupsSequence":
        for group in seg.PerFrameFunctionalGroupsSequence:
            group.add_new(0x00204000, "LT", "x" * 40000)
    as_unknown(seg, where)
    save(seg)
    assert pixels(read(tmp_path)) == {1: 48, 2: 48}


def test_private_elements_stay_what_they_are(tmp_path):
    rt = written(tmp_path, [("GTV", square(1, 3))])
    rt.add_new(0x00091001, "UN", b"x" * 70000)
    save(rt)
    assert pixels(read(tmp_path)) == {1: 36}
    assert dcmread(tmp_path / "rt.dcm")[0x00091001].value == b"x" * 70000


def test_numbers_of_more_than_16_characters(tmp_path):
    rt = written(tmp_path, [("GTV", square(1, 3))])
    contour = rt.ROIContourSequence[0].ContourSequence[0]
    value = "\\".join(f"{float(one):.14f}" for one in contour.ContourData).encode()
    contour["ContourData"] = RawDataElement(
        Tag("ContourData"), "DS", len(value), value, 0, False, True
    )
    save(rt)
    assert pixels(read(tmp_path)) == {1: 36}


@pytest.mark.parametrize(
    "value", [b"1,5\\2,5\\100,0\\2,5\\2,5\\100,0\\2,5\\3,5\\100,0 ", b"1.5\\x\\100.0 "]
)
def test_coordinates_that_are_no_numbers(tmp_path, value):
    rt = written(tmp_path, [("GTV", square(1, 3))])
    rt.ROIContourSequence[0].ContourSequence[0]["ContourData"] = RawDataElement(
        Tag("ContourData"), "DS", len(value), value, 0, False, True
    )
    save(rt)
    error = refusal(tmp_path)
    assert error.code is Code.FILE_UNREADABLE
    assert "no numbers" in error.message
    assert "commas" in error.message


@pytest.mark.parametrize("name", ["GTV [1]", "GTV[boost]", "Tumor?", "GTV*", "[", "a]b[c", "!x"])
def test_a_name_as_it_stands(tmp_path, name):
    written(
        tmp_path,
        [
            (name, square(1, 3)),
            ("Kidney", square(1, 8)),
            (f"{name} 2", square(2, 8)),
            ("GTVx", square(3, 8)),
        ],
    )
    assert pixels(read(tmp_path, lesion_rois=[name])) == {1: 36}
    assert pixels(read(tmp_path, lesion_rois=[f" {name.lower()} "])) == {1: 36}


def test_a_name_in_the_same_letters_comes_first_then_in_others_then_a_pattern(tmp_path):
    written(
        tmp_path,
        [
            ("gtv", square(1, 1)),
            ("GTV", square(1, 2)),
            ("GTV2", square(1, 3)),
            ("gTV2", square(1, 4)),
        ],
    )
    assert pixels(read(tmp_path, lesion_rois=["GTV"])) == {1: 16}
    assert pixels(read(tmp_path, lesion_rois=["gtv"])) == {1: 4}
    assert pixels(read(tmp_path, lesion_rois=["GTV2", "nothing*"])) == {1: 36}
    assert pixels(read(tmp_path, lesion_rois=["gtv?"])) == {1: 64}
    assert code_of(tmp_path, lesion_rois=["Gtv"]) is Code.LESION_UNNAMED  # means either


def test_rois_of_one_name_are_united_by_a_pattern_alone(tmp_path):
    rt = written(
        tmp_path,
        [("GTV", box(1, (1.5, 3.5), (1.5, 3.5))), ("GTV b", box(1, (5.5, 8.5), (5.5, 8.5)))],
    )
    rt.StructureSetROISequence[1].ROIName = "GTV"
    save(rt)
    error = refusal(tmp_path, lesion_rois=["gtv"])
    assert error.code is Code.LESION_UNNAMED
    assert "2 ROIs of the RTSTRUCT are called gtv" in error.message
    assert pixels(read(tmp_path, lesion_rois=["GTV*"])) == {1: 4 + 9}
    rt.ROIContourSequence[1].ContourSequence = Sequence()  # empty: nothing to choose from
    save(rt)
    assert pixels(read(tmp_path, lesion_rois=["GTV"])) == {1: 4}


def test_of_several_rois_none_is_guessed(tmp_path):
    """Not even the only one that is drawn: templates hold ROIs of every name."""
    rt = written(tmp_path, [("GTV", square(1, 3)), ("Kidney", square(1, 8))])
    rt.ROIContourSequence[0].ContourSequence = Sequence()
    save(rt)
    error = refusal(tmp_path)
    assert error.code is Code.LESION_UNNAMED
    assert "GTV, Kidney" in error.message
    error = refusal(tmp_path, lesion_rois=["GTV"])
    assert error.code is Code.MASK_EMPTY
    assert "none was drawn" in error.message


def listed(rt: FileDataset, uids: list[str]) -> None:
    """Lists images with the series that the RTSTRUCT refers to."""
    items = []
    for uid in uids:
        item = Dataset()
        item.ReferencedSOPInstanceUID = uid
        items.append(item)
    study = rt.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
    study.RTReferencedSeriesSequence[0].ContourImageSequence = Sequence(items)


@pytest.mark.parametrize("by", ["contours", "list", "both"])
def test_an_invented_frame_of_reference_is_outweighed_by_exact_references(tmp_path, by):
    slices = write_series(tmp_path / "ct", VOLUME)
    uids = [str(one.SOPInstanceUID) for one in slices]
    sources = [uids[1], uids[2]] if by != "list" else []
    contours = [("GTV", square(1, 3)), ("GTV", square(2, 3))]
    rt = write_rtstruct(
        tmp_path / "rt.dcm",
        contours,
        series=str(slices[0].SeriesInstanceUID),
        frame_of_reference="2.25.1",
        sources=sources,
    )
    listed(rt, uids if by != "contours" else [])
    save(rt)
    got = read(tmp_path)
    assert pixels(got) == {1: 36, 2: 36}
    (message,) = findings(got, Code.FRAME_CONTRADICTS)
    assert "2.25" not in message


def test_an_invented_frame_of_reference_without_exact_references_is_refused(tmp_path):
    slices = write_series(tmp_path / "ct", VOLUME)
    right, uids = str(slices[0].SeriesInstanceUID), [str(one.SOPInstanceUID) for one in slices]
    contours = [("GTV", square(1, 3)), ("GTV", square(2, 3))]
    for series, sources in (
        (right, []),
        ("", uids[1:3]),
        (right, [uids[1], "9.9"]),
        (right, ["9.8", "9.9"]),
    ):
        write_rtstruct(
            tmp_path / "rt.dcm",
            contours,
            series=series,
            frame_of_reference="2.25.1",
            sources=sources,
        )
        assert "another frame of reference" in refusal(tmp_path).message
    write_rtstruct(
        tmp_path / "rt.dcm", contours, series=right, frame_of_reference="2.25.1", sources=uids[3:5]
    )
    assert "refers to one slice and lies on another" in refusal(tmp_path).message


def test_of_several_frames_of_reference_the_rois_own_counts(tmp_path):
    """A structure set over CT and MR: what was drawn on the MR is not put on the CT."""
    rt = written(tmp_path, [("CT", square(1, 3)), ("MR", square(1, 5))])
    other = Dataset()
    other.FrameOfReferenceUID = "1.2.99"
    rt.ReferencedFrameOfReferenceSequence.append(other)
    rt.StructureSetROISequence[0].ReferencedFrameOfReferenceUID = "1.2.3"
    rt.StructureSetROISequence[1].ReferencedFrameOfReferenceUID = "1.2.99"
    save(rt)
    assert pixels(read(tmp_path, lesion_rois=["CT"])) == {1: 36}
    assert code_of(tmp_path, lesion_rois=["MR"]) is Code.MASK_OFF_GRID


def in_two_frames(rt: FileDataset) -> FileDataset:
    """The RTSTRUCT, its second ROI drawn in another frame of reference."""
    other = Dataset()
    other.FrameOfReferenceUID = "1.2.77"
    rt.ReferencedFrameOfReferenceSequence.append(other)
    for item, frame in zip(rt.StructureSetROISequence, ("1.2.3", "1.2.77"), strict=True):
        item.ReferencedFrameOfReferenceUID = frame
    save(rt)
    return rt


@pytest.mark.parametrize("order", [1, -1])
def test_each_roi_is_held_against_the_image_by_its_own_frame_of_reference(tmp_path, order):
    rt = in_two_frames(written(tmp_path, [("GTV CT", square(1, 3)), ("GTV PET", square(2, 5))]))
    rt.ReferencedFrameOfReferenceSequence = Sequence(
        list(rt.ReferencedFrameOfReferenceSequence)[::order]
    )
    save(rt)
    error = refusal(tmp_path, lesion_rois=["GTV*"])
    assert error.code is Code.MASK_OFF_GRID
    assert "ROI GTV PET of the RTSTRUCT has another frame of reference" in error.message
    assert "name that alone" in error.message
    assert "1.2.77" not in error.message
    assert pixels(read(tmp_path, lesion_rois=["GTV CT"])) == {1: 36}
    rt.ROIContourSequence[1].ContourSequence = Sequence()  # nothing of it would be placed
    save(rt)
    assert pixels(read(tmp_path, lesion_rois=["GTV*"])) == {1: 36}


def test_the_rois_own_frame_of_reference_counts_before_the_only_one_of_the_file(tmp_path):
    rt = written(tmp_path, [("GTV", square(1, 3))])
    rt.StructureSetROISequence[0].ReferencedFrameOfReferenceUID = "1.2.77"
    save(rt)
    assert code_of(tmp_path) is Code.MASK_OFF_GRID


def test_an_roi_without_frame_of_reference_could_be_of_any_of_the_file(tmp_path):
    rt = in_two_frames(written(tmp_path, [("CT", square(1, 3)), ("b", square(1, 5))]))
    del rt.StructureSetROISequence[0].ReferencedFrameOfReferenceUID
    save(rt)
    assert code_of(tmp_path, lesion_rois=["CT"]) is Code.MASK_OFF_GRID


def test_slices_that_one_roi_names_do_not_vouch_for_another(tmp_path):
    slices = write_series(tmp_path / "ct", VOLUME)
    series, uids = str(slices[0].SeriesInstanceUID), [str(one.SOPInstanceUID) for one in slices]
    rt = in_two_frames(
        write_rtstruct(
            tmp_path / "rt.dcm",
            [("GTV CT", square(1, 3)), ("GTV PET", square(2, 5))],
            series=series,
            sources=uids[1:3],
        )
    )
    got = read(tmp_path, lesion_rois=["GTV*"])
    assert pixels(got) == {1: 36, 2: 100}
    assert len(findings(got, Code.FRAME_CONTRADICTS)) == 1
    del rt.ROIContourSequence[1].ContourSequence[0].ContourImageSequence
    listed(rt, uids)
    rt.ReferencedFrameOfReferenceSequence[1].RTReferencedStudySequence = Sequence()
    save(rt)
    assert code_of(tmp_path, lesion_rois=["GTV*"]) is Code.MASK_OFF_GRID


@pytest.mark.parametrize("wanted", [None, ["GTV"], ["Kidney"], ["*"]])
def test_two_names_under_one_number_are_refused(tmp_path, wanted):
    rt = written(tmp_path, [("GTV", square(1, 3)), ("Kidney", square(1, 8))])
    rt.StructureSetROISequence[1].ROINumber = 1
    save(rt)
    error = refusal(tmp_path, lesion_rois=wanted)
    assert error.code is Code.FILE_UNREADABLE
    assert "two ROIs of one number, GTV, Kidney" in error.message


NFC, NFD = "Tum\u00f6r  li.", "Tumo\u0308r li."


@pytest.mark.parametrize("stored", [NFC, NFD])
@pytest.mark.parametrize(
    "wanted", [NFC, NFD, "TUM\u00d6R \t LI.", "tum\u00f6r*", "tumo\u0308r ??."]
)
def test_a_name_is_the_same_in_every_unicode_form(tmp_path, stored, wanted):
    assert unicodedata.normalize("NFC", stored) != unicodedata.normalize("NFD", stored)
    rt = written(tmp_path, [("GTV", square(1, 3)), ("N", square(1, 8))])
    rt.SpecificCharacterSet = "ISO_IR 192"
    rt.StructureSetROISequence[0].ROIName = stored
    save(rt)
    assert pixels(read(tmp_path, lesion_rois=[wanted])) == {1: 36}


@pytest.mark.parametrize("stored", [NFC, NFD])
@pytest.mark.parametrize("wanted", [NFC, NFD, "TUM\u00d6R LI."])
def test_a_segment_is_the_same_in_every_unicode_form(tmp_path, stored, wanted):
    slices = write_series(tmp_path / "ct", VOLUME)
    lesion = np.zeros(VOLUME.shape[1:], bool)
    lesion[3:9, 4:12] = True
    seg = write_seg(
        tmp_path / "rt.dcm", [(1, slices[1], lesion), (2, slices[2], lesion)], labels=("a", "b")
    )
    seg.SpecificCharacterSet = "ISO_IR 192"
    seg.SegmentSequence[0].SegmentLabel = stored
    save(seg)
    assert pixels(read(tmp_path, lesion_segments=[wanted])) == {1: 48}
    seg.SegmentSequence[1].SegmentNumber = 1
    save(seg)
    assert code_of(tmp_path, lesion_segments=[wanted]) is Code.FILE_UNREADABLE
