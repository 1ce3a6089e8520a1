"""What a series is called, and which of its images belong together."""

from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from dicom_files import ct_slice, save
from pydicom import Dataset
from pydicom.sequence import Sequence

from renal_ray.dicom.acquired import ACQUISITION_TAGS, Acquired, acquired
from renal_ray.dicom.acquisitions import acquisitions, described, longest_pause_s
from renal_ray.dicom.headers import read_header
from renal_ray.dicom.series import (
    KEY_TAGS,
    acquisition_key,
    by_series,
    named,
    series_key,
    shortest,
    without_acquisition,
)


def key(tmp_path, **values) -> str:
    item = ct_slice(tmp_path / "a.dcm", np.zeros((4, 5), np.int16), (0, 0, 0), series="1.2.3")
    for keyword, value in values.items():
        setattr(item, keyword, value)
    item.save_as(tmp_path / "a.dcm", enforce_file_format=False)
    header = read_header(tmp_path / "a.dcm", [*KEY_TAGS])
    assert header is not None
    return series_key(header)


@pytest.mark.parametrize(
    "keyword", ["PatientID", "StudyInstanceUID", "FrameOfReferenceUID", "SeriesInstanceUID"]
)
@pytest.mark.parametrize(
    "emptied",
    [
        {},
        {"SeriesInstanceUID": ""},
        {"SeriesInstanceUID": "", "StudyInstanceUID": "", "FrameOfReferenceUID": ""},
    ],
)
def test_two_patients_never_share_a_key(tmp_path, keyword, emptied):
    assert key(tmp_path, **{**emptied, keyword: "1.2.88"}) != key(
        tmp_path, **{**emptied, keyword: "1.2.99"}
    )


def test_the_first_part_is_the_series_alone(tmp_path):
    one, other = key(tmp_path, PatientID="A"), key(tmp_path, PatientID="B")
    assert one.split("-")[0] == other.split("-")[0]
    assert named(one.split("-")[0], [one, other]) == sorted([one, other])
    assert named(one, [one, other]) == [one]
    assert named(one[:5], [one, other]) == []
    assert key(tmp_path, SeriesInstanceUID="1.2.9").split("-")[0] != one.split("-")[0]


def test_shortest_keys_name_one_series_each():
    keys = ["a-1-1", "a-1-2", "a-2-1", "b-1-1", "c-3"]
    short = shortest(keys)
    assert short == {"a-1-1": "a-1-1", "a-1-2": "a-1-2", "a-2-1": "a-2", "b-1-1": "b", "c-3": "c"}
    assert all(named(form, keys) == [full] for full, form in short.items())


def test_a_frame_of_reference_for_every_image_is_one_series():
    assert by_series(["a-1-1", "a-1-2", "a-1-3"]) == {"a-1": [0, 1, 2]}
    assert by_series(["a-1-1", "a-1-2", "a-1-1"]) == {"a-1-1": [0, 2], "a-1-2": [1]}
    assert by_series(["a-1-1", "a-2-1"]) == {
        "a-1-1": [0],
        "a-2-1": [1],
    }  # two patients are never one
    assert by_series(["a-1-1"]) == {"a-1-1": [0]}


def test_keys_of_acquisitions():
    assert acquisition_key("a-1-2", 3) == "a-1-2.3"
    assert without_acquisition("a-1-2.3") == ("a-1-2", 3)
    assert without_acquisition("a-1-2") == ("a-1-2", 0)


def scan(count=6, *, first=0.0, step=2.5, down=True, **values) -> list[Acquired]:
    """Images from the head down."""
    return [
        replace(Acquired(**values), along_mm=z, height_mm=z)
        for z in (first - k * step * (1 if down else -1) for k in range(count))
    ]


def each(images, **functions):
    return [
        replace(image, **{name: function(k) for name, function in functions.items()})
        for k, image in enumerate(images)
    ]


A = {"number": 1, "time_s": 43200.0, "kernel": "b30f", "kvp": "120"}
B = {"number": 2, "time_s": 43290.0, "kernel": "b30f", "kvp": "120"}
SIX, OTHER = list(range(6)), list(range(6, 12))


@pytest.mark.parametrize(
    "second",
    [
        {**A, "kernel": "b70f"},
        {**A, "kvp": "80"},
        {**A, "agent": "x"},
        {**A, "temporal": "2"},
        {**A, "stack": "2"},
        {**A, "bolus": "115900"},
        {**A, "number": 2},
        {**A, "time_s": 43290.0},
        B,
    ],
)
@pytest.mark.parametrize("first", [-1.25, 0.0, -5.0])
def test_acquisitions_that_cover_the_same_stretch(second, first):
    """Interleaved, position on position, and overlapping: whatever tells them apart."""
    given = {
        **A,
        **({"temporal": "1"} if "temporal" in second else {}),
        **({"stack": "1"} if "stack" in second else {}),
    }
    given |= {"bolus": "115800"} if "bolus" in second else {}
    images = scan(**given) + scan(first=first, **second)
    assert acquisitions(images) == [SIX, OTHER]
    shuffled = np.random.default_rng(0).permutation(12)
    assert [
        sorted(int(shuffled[i]) for i in part)
        for part in acquisitions([images[i] for i in shuffled])
    ] == [SIX, OTHER]


@pytest.mark.parametrize(
    "second", [{"kernel": "b70f"}, {"kvp": "80"}, {"agent": "x"}, {"kernel": "b70f", "number": 2}]
)
def test_acquisitions_that_follow_each_other(second):
    images = scan(**A) + scan(first=-15.0, **{**A, **second})
    assert acquisitions(images) == [SIX, OTHER]


def test_two_axial_scans_with_a_number_for_every_image():
    one = each(scan(**A), number=lambda k: k + 1)
    other = each(scan(first=-1.25, **A), number=lambda k: k + 7)
    assert acquisitions(one + other) == [SIX, OTHER]


def test_two_scans_with_a_number_for_every_table_position():
    one = each(scan(8, **A), number=lambda k: k // 4 + 1)
    other = each(scan(8, first=-1.25, **A), number=lambda k: k // 4 + 3)
    assert acquisitions(one + other) == [list(range(8)), list(range(8, 16))]


def test_order_is_by_number_then_time_then_height():
    late, early = scan(**{**B, "number": 1}), scan(first=-1.25, **A)
    assert acquisitions(late + early) == [OTHER, SIX]
    assert acquisitions(scan(first=-1.0, number=1, kernel="a") + scan(number=1, kernel="b")) == [
        OTHER,
        SIX,
    ]
    assert acquisitions(scan(number=9, kernel="a") + scan(number=2, kernel="b")) == [OTHER, SIX]


@pytest.mark.parametrize(
    "images",
    [
        scan(12),
        scan(12, **A),
        each(scan(12, **A), number=lambda k: k + 1, time_s=lambda k: 43200.0 + 12 * k),
        each(scan(12, **A), number=lambda k: 40 - k),
        each(scan(12, **A), number=lambda k: k // 4 + 1, time_s=lambda k: 43200.0 + 5 * (k // 4)),
        each(scan(12, **A), time_s=lambda k: 43200.0 + 0.04 * k),
        each(
            scan(12, **A), number=lambda k: 1 + k // 6, time_s=lambda k: 43200.0 + 25 * (k // 6)
        ),  # two breaths
        each(scan(12, **A), time_s=lambda k: (86390.0 + 2 * k) % 86400),  # midnight
        each(
            scan(12, **A), whole=lambda k: f"1.2.{k // 4}"
        ),  # a multi-frame image for every table position
        each(
            scan(12, **A), time_s=lambda k: [43200.0, 100.0, 70000.0][k % 3] + 977 * k
        ),  # drawn by chance
        each(scan(12, **A), number=lambda k: [7, 3, 9, 1, 12, 5, 2, 8, 4, 11, 6, 10][k]),
        each(scan(12, **A), bolus=lambda k: f"1158{k:02d}", temporal=str, stack=str),  # counted up
        each(scan(12, **A), temporal=lambda k: str(max(1, k))),  # and begun twice
        each(scan(12, **A), kernel=lambda k: "b30f" if k % 3 else ""),
        each(scan(12, **A), number=lambda k: None if k == 4 else 1),
        each(scan(12, step=0, **A), number=lambda k: k),  # at one position
        scan(1, **A),
    ],
)
def test_sound_series_are_one(images):
    assert acquisitions(images) == [list(range(len(images)))]


@pytest.mark.parametrize("pause", [700, 86400])
def test_blocks_with_minutes_or_days_between_are_no_one_scan(pause):
    blocks = each(scan(12, **A), time_s=lambda k: 43200.0 + pause * (k // 6))
    assert acquisitions(blocks) == [SIX, OTHER]


def test_multi_frame_images_that_cover_the_same_stretch():
    assert acquisitions(scan(whole="1.2") + scan(first=-1.25, whole="1.3")) == [SIX, OTHER]


def test_a_pause_between_two_blocks_is_seen():
    blocks = each(
        scan(12, **A), number=lambda k: 1 + k // 6, time_s=lambda k: 43200.0 + 90 * (k // 6)
    )
    assert longest_pause_s(blocks) == 90
    assert longest_pause_s(each(blocks, number=lambda k: 1)) == 0
    assert (
        longest_pause_s(each(scan(12, **A), number=lambda k: k, time_s=lambda k: 43200.0 + 15 * k))
        == 0
    )
    assert longest_pause_s(scan(12)) == 0


def test_what_differs_is_told_without_the_texts_of_the_headers():
    images = scan(**A) + scan(first=-1.25, **{**B, "kernel": "canary", "kvp": "80"})
    told = described(acquisitions(images), images)
    assert told == "acquisition number (1, 2), kernel, kVp (80, 120)"


def test_how_an_image_came_about(tmp_path):
    item = ct_slice(
        tmp_path / "a.dcm",
        np.zeros((4, 5), np.int16),
        (1, 2, 30),
        series="1.2.3",
        orientation=(1, 0, 0, 0, -1, 0),
    )
    item.AcquisitionNumber, item.AcquisitionTime, item.KVP, item.ConvolutionKernel = (
        3,
        "120130.5",
        "120",
        ["Br38f", "3 "],
    )
    item.ContrastBolusAgent, item.AcquisitionDate = " OMNI  350", "20200101"
    noon = date(2020, 1, 1).toordinal() * 86400 + 43200
    header = read_header(save(item), [*ACQUISITION_TAGS])
    assert header is not None
    expected = Acquired(
        number=3,
        time_s=noon + 90.5,
        kernel="br38f\\3",
        kvp="120",
        agent="omni 350",
        along_mm=-30,
        height_mm=30,
    )
    assert acquired(header) == [expected]


def test_frames_say_it_in_their_functional_groups(tmp_path):
    def group(**values) -> Sequence:
        item = Dataset()
        for keyword, value in values.items():
            setattr(item, keyword, value)
        return Sequence([item])

    item = ct_slice(tmp_path / "a.dcm", np.zeros((4, 5), np.int16), (0, 0, 0), series="1.2.3")
    del item.ImagePositionPatient, item.ImageOrientationPatient
    frames = []
    for k in range(2):
        frame = Dataset()
        frame.FrameContentSequence = group(
            FrameAcquisitionNumber=k + 1,
            FrameAcquisitionDateTime=f"20200101120{k}00",
            TemporalPositionIndex=k + 4,
            StackID=f"S{k}",
            InStackPositionNumber=1,
        )
        frame.PlanePositionSequence = group(ImagePositionPatient=[0, 0, 10.0 * k])
        frame.CTXRayDetailsSequence = group(KVP=100 + 20 * k)
        frame.ContrastBolusUsageSequence = group(
            ContrastBolusAgentAdministered="YES" if k else "NO"
        )
        frames.append(frame)
    shared = Dataset()
    shared.CTReconstructionSequence, shared.PlaneOrientationSequence = (
        group(ConvolutionKernel="B30"),
        group(ImageOrientationPatient=[1, 0, 0, 0, 1, 0]),
    )
    item.PerFrameFunctionalGroupsSequence, item.SharedFunctionalGroupsSequence = (
        Sequence(frames),
        Sequence([shared]),
    )
    item.NumberOfFrames, item.PixelData = 2, bytes(80)
    header = read_header(save(item), [*ACQUISITION_TAGS])
    assert header is not None
    noon, uid = date(2020, 1, 1).toordinal() * 86400 + 43200, str(item.SOPInstanceUID)
    one = Acquired(
        number=1,
        time_s=noon,
        whole=uid,
        kernel="b30",
        kvp="100",
        agent="",
        temporal="4",
        stack="s0",
    )
    other = Acquired(
        number=2,
        time_s=noon + 60,
        whole=uid,
        kernel="b30",
        kvp="120",
        agent="yes",
        temporal="5",
        stack="s1",
        along_mm=10,
        height_mm=10,
    )
    assert acquired(header) == [one, other]


@pytest.mark.parametrize(
    "lost", [{"number": None}, {"time_s": None}, {"number": None, "time_s": None}]
)
@pytest.mark.parametrize("which", [0, 5, 11, 17])
def test_one_image_that_says_nothing_hides_no_second_acquisition(lost, which):
    """It goes with its neighbour in one of the two."""
    images = scan(12, **A) + scan(12, first=-1.25, **B)
    images[which] = replace(images[which], **lost)
    assert sorted(map(len, acquisitions(images))) in ([12, 12], [11, 13])


def test_a_whole_phase_without_a_number_is_one_of_its_own():
    numbered, silent = scan(12, number=1), scan(12, first=-1.25)
    assert acquisitions(numbered + silent) == [list(range(12, 24)), list(range(12))]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (lambda k: 0.1 * k, lambda k: 18 + 0.1 * k),
        (lambda k: 0.1 * k, lambda k: 15 + 0.1 * (11 - k)),
        (lambda k: 7.0 * k, lambda k: 100 + 7.0 * k),
    ],
    ids=["soon after", "there and back", "slow"],
)
def test_two_scans_that_take_turns_are_seen_by_their_times(first, second):
    images = each(scan(12), time_s=first) + each(scan(12, first=-1.25), time_s=second)
    assert acquisitions(images) == [list(range(12)), list(range(12, 24))]


@pytest.mark.parametrize(
    "time_s",
    [
        lambda k: 0.25 * k,
        lambda k: 6.0 - 0.25 * k,
        lambda k: 0.5 * (k // 4),
        lambda k: 5.0 * (k // 4) + 0.01 * (k % 4),
        lambda k: k + 0.3 * (-1) ** k,
    ],
    ids=["helical", "backwards", "rows", "table steps", "jitter"],
)
def test_times_of_one_scan_take_no_turns(time_s):
    assert acquisitions(each(scan(24), time_s=time_s)) == [list(range(24))]


def test_a_time_is_compared_as_a_time(tmp_path):
    def bolus(text: str) -> str:
        item = ct_slice(tmp_path / "a.dcm", np.zeros((4, 5), np.int16), (0, 0, 0), series="1.2.3")
        item.ContrastBolusStartTime = text
        [one] = acquired(read_header(save(item), [*ACQUISITION_TAGS]))
        return one.bolus

    assert bolus("101010") == bolus("101010.000000") != bolus("101011")
    assert (
        len({bolus(f"101010.{k:02d}") for k in range(12)}) == 12
    )  # some programs count it up in fractions


@pytest.mark.parametrize("name", ["temporal", "stack"])
def test_a_counter_that_changes_with_the_table_is_sound(name):
    images = each(scan(12, **A), **{name: lambda k: str(k // 4 + 1)})
    assert acquisitions(images) == [list(range(12))]
    overlapping = each(scan(12, **A), **{name: lambda k: str(k % 3 + 1)})
    assert list(map(len, acquisitions(overlapping))) == [4, 4, 4]


@pytest.mark.parametrize("silent", [{5}, {0, 11}, {0, 4}])
def test_an_agent_that_few_images_leave_out_is_no_second_acquisition(silent):
    assert acquisitions(each(scan(12, **A), agent=lambda k: "" if k in silent else "x")) == [
        list(range(12))
    ]


@pytest.mark.parametrize("silent", [{0, 1, 2}, {9, 10, 11}, {1, 3, 5, 7, 9, 11}])
def test_a_scan_without_an_agent_is_one_of_its_own(silent):
    parts = acquisitions(each(scan(12, **A), agent=lambda k: "" if k in silent else "x"))
    assert sorted(map(sorted, parts)) == sorted([sorted(silent), sorted(set(range(12)) - silent)])


def test_an_image_without_a_kernel_goes_with_its_neighbours():
    images = scan(12, **A) + scan(12, first=-40.0, **{**A, "kernel": "b70f"})
    images[5] = replace(images[5], kernel="")
    assert acquisitions(images) == [list(range(12)), list(range(12, 24))]


@pytest.mark.parametrize("count", [4, 12])
def test_a_number_on_one_image_alone_is_no_second_acquisition(count):
    images = each(scan(count), number=lambda k: 1 if k == 1 else None)
    assert acquisitions(images) == [list(range(count))]
