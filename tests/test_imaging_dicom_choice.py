"""Which images of a folder are read: the one series, the one acquisition, whatever else lies
there."""

import gzip

import numpy as np
import pytest
from dicom_files import AXIAL, ct_slice, save, write_series
from pydicom import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import EnhancedCTImageStorage, generate_uid

from renal_ray.config import Cohort
from renal_ray.dicom.acquired import acquired
from renal_ray.dicom.headers import read_headers
from renal_ray.dicom.series import by_series, series_key, shortest
from renal_ray.imaging.images.dicom_series import TAGS, open_series
from renal_ray.imaging.images.source import References
from renal_ray.problems import Code, PatientError

COHORT = Cohort(manifest="unused.csv")
NOTHING = References()
SERIES = "1.2.1"


@pytest.fixture
def volume() -> np.ndarray:
    """HU (6, 4, 5), all different."""
    return (np.arange(6 * 4 * 5).reshape(6, 4, 5) - 60).astype(np.int16)


def read(folder, wanted=NOTHING, series="") -> np.ndarray:
    found = open_series(folder, wanted, COHORT, series=series)
    return found.read(np.arange(found.grid.shape[0]))


def refusal(folder, wanted=NOTHING, series="") -> PatientError:
    with pytest.raises(PatientError) as caught:
        read(folder, wanted, series)
    assert "CANARY" not in str(caught.value)
    return caught.value


def codes(folder) -> list[Code]:
    return [finding.code for finding in open_series(folder, NOTHING, COHORT).findings]


def change(datasets, **values) -> None:
    """Sets elements; a function is called with the slice's number."""
    for k, dataset in enumerate(datasets):
        for keyword, value in values.items():
            setattr(dataset, keyword, value(k) if callable(value) else value)
        dataset.save_as(dataset.filename, enforce_file_format=False)


def keys_of(folder) -> list[str]:
    headers = [header for header in read_headers(folder, TAGS) if header.is_ct]
    return list(by_series([series_key(header) for header in headers]))


ONE = {
    "AcquisitionNumber": 1,
    "AcquisitionTime": "120000",
    "ConvolutionKernel": "CANARY30",
    "KVP": "120",
}
OTHER = {
    "AcquisitionNumber": 2,
    "AcquisitionTime": "120130",
    "ConvolutionKernel": "CANARY70",
    "KVP": "80",
}


def two_phases(folder, volume, one=ONE, other=OTHER, below=1.25):
    """Two scans of one series; the other's HU are higher by 300."""
    first = write_series(folder / "a", volume, series=SERIES)
    second = write_series(folder / "b", volume + 300, series=SERIES, origin=(-10, -20, 100 - below))
    change(first, **one)
    change(second, **other)
    return first, second


@pytest.mark.parametrize("below", [1.25, 0.0, 5.0, 15.0])
@pytest.mark.parametrize(
    "other",
    [
        OTHER,
        {**ONE, "ConvolutionKernel": "CANARY70"},
        {**ONE, "KVP": "100"},
        {**ONE, "ContrastBolusAgent": "CANARY"},
    ],
)
def test_two_acquisitions_are_no_one_volume(tmp_path, volume, other, below):
    """Interleaved, one on the other, overlapping, and one after the other."""
    two_phases(tmp_path, volume, other=other, below=below)
    error = refusal(tmp_path)
    assert error.code is Code.MIXED_ACQUISITIONS
    key = keys_of(tmp_path)[0].partition("-")[0]
    assert f"{key}.1 (6 images), {key}.2 (6 images)" in error.message


@pytest.mark.parametrize(
    "other",
    [{"AcquisitionNumber": 2}, {"AcquisitionTime": "120130"}, {"TemporalPositionIdentifier": 2}],
)
def test_what_tells_interleaved_phases_apart(tmp_path, volume, other):
    one = {**ONE, "TemporalPositionIdentifier": 1}
    two_phases(tmp_path, volume, one, {**one, **other})
    assert refusal(tmp_path).code is Code.MIXED_ACQUISITIONS


def test_the_acquisition_that_a_manifest_names_is_read(tmp_path, volume):
    two_phases(tmp_path, volume)
    full = keys_of(tmp_path)[0]
    for key in (full, full.rpartition("-")[0], full.partition("-")[0]):
        assert np.array_equal(read(tmp_path, series=f"{key}.1"), volume)
        assert np.array_equal(read(tmp_path, series=f"{key}.2"), volume + 300)
        assert refusal(tmp_path, series=f"{key}.3").code is Code.FILE_MISSING
        assert refusal(tmp_path, series=key).code is Code.MIXED_ACQUISITIONS


def test_the_acquisition_whose_images_a_mask_names_is_read(tmp_path, volume):
    one, other = two_phases(tmp_path, volume)
    for slices, expected in ((one, volume), (other, volume + 300)):
        images = frozenset(str(dataset.SOPInstanceUID) for dataset in slices[2:4])
        assert np.array_equal(
            read(tmp_path, References(frozenset({SERIES}), images=images)), expected
        )
    both = frozenset(str(dataset.SOPInstanceUID) for dataset in (one[0], other[0]))
    assert (
        refusal(tmp_path, References(frozenset({SERIES}), images=both)).code
        is Code.MIXED_ACQUISITIONS
    )


def test_an_acquisition_of_a_sound_series_is_asked_for_in_vain(tmp_path, volume):
    write_series(tmp_path, volume)
    assert refusal(tmp_path, series=keys_of(tmp_path)[0] + ".1").code is Code.FILE_MISSING


@pytest.mark.parametrize(
    "values",
    [
        {"AcquisitionNumber": lambda k: k + 1, "AcquisitionTime": lambda k: f"1200{9 * k:02d}"},
        {
            "AcquisitionNumber": lambda k: k // 2 + 1,
            "AcquisitionTime": lambda k: f"1200{k // 2:02d}",
        },
        {"AcquisitionTime": lambda k: f"120000.{k}00000"},
        {
            "AcquisitionNumber": "1",
            "KVP": "120 ",
            "ConvolutionKernel": ["Br38f", "3"],
            "XRayTubeCurrent": lambda k: str(200 + k),
        },
        {"KVP": lambda k: "120" if k else ""},
        {"FrameOfReferenceUID": lambda k: f"1.2.9.{k}"},
        {"StudyInstanceUID": lambda k: f"1.2.9.{k}"},
        {"TemporalPositionIdentifier": lambda k: k + 1, "StackID": "1"},
    ],
)
def test_sound_series_are_read_without_a_word(tmp_path, volume, values):
    change(write_series(tmp_path, volume), **values)
    assert np.array_equal(read(tmp_path), volume)
    assert codes(tmp_path) == []


@pytest.mark.parametrize(
    ("keyword", "vr"),
    [
        ("AcquisitionNumber", "IS"),
        ("KVP", "DS"),
        ("TemporalPositionIdentifier", "IS"),
        ("AcquisitionTime", "TM"),
    ],
)
def test_an_attribute_that_is_no_number_costs_nothing(tmp_path, volume, keyword, vr):
    for dataset in write_series(tmp_path, volume):
        dataset.add_new(keyword, vr, "7777777")
        path = save(dataset)
        path.write_bytes(path.read_bytes().replace(b"7777777", b"x 120 k"))
    assert np.array_equal(read(tmp_path), volume)


def test_a_pause_between_two_blocks_is_reported(tmp_path, volume):
    """As two breaths may do, and two phases."""
    change(
        write_series(tmp_path, volume),
        AcquisitionNumber=lambda k: k // 3,
        AcquisitionTime=lambda k: f"12{k // 3:02d}00",
    )
    assert np.array_equal(read(tmp_path), volume)
    assert codes(tmp_path) == [Code.ACQUISITION_PAUSE]


def test_two_days_are_no_one_volume(tmp_path, volume):
    change(
        write_series(tmp_path, volume),
        AcquisitionDate=lambda k: f"2020010{1 + k // 3}",
        AcquisitionTime="120000",
    )
    assert refusal(tmp_path).code is Code.MIXED_ACQUISITIONS
    change(
        write_series(tmp_path, volume),
        AcquisitionDate=lambda k: f"2020010{1 + k // 3}",
        AcquisitionTime=lambda k: "000001" if k // 3 else "235959",
    )
    assert np.array_equal(read(tmp_path), volume)


def item(**values) -> Dataset:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


@pytest.mark.parametrize(
    "phase",
    [
        "TemporalPositionIndex",
        "StackID",
        "KVP",
        "ConvolutionKernel",
        "ContrastBolusAgentAdministered",
        "unassigned",
    ],
)
def test_phases_in_one_enhanced_object(tmp_path, volume, phase):
    """Frames of two phases by turns: the one that is asked for is read, frame by frame."""
    dataset = ct_slice(tmp_path / "mf.dcm", np.zeros((4, 5), np.int16), (0, 0, 0), series=SERIES)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    for keyword in (
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "PixelSpacing",
        "RescaleSlope",
        "RescaleIntercept",
    ):
        delattr(dataset, keyword)
    frames = []
    for k in range(12):
        second = bool(k % 2)
        frame = item(
            PlanePositionSequence=Sequence([item(ImagePositionPatient=[0, 0, -1.0 * k])]),
            PixelValueTransformationSequence=Sequence(
                [item(RescaleSlope=1, RescaleIntercept=0, RescaleType="HU")]
            ),
        )
        if phase in ("TemporalPositionIndex", "StackID"):
            frame.FrameContentSequence = Sequence(
                [item(**{phase: 1 + second if phase != "StackID" else f"S{int(second)}"})]
            )
        elif phase == "KVP":
            frame.CTXRayDetailsSequence = Sequence([item(KVP=80 if second else 120)])
        elif phase == "ConvolutionKernel":
            frame.CTReconstructionSequence = Sequence(
                [item(ConvolutionKernel="CANARY" if second else "B30")]
            )
        elif phase == "unassigned":
            frame.UnassignedPerFrameConvertedAttributesSequence = Sequence(
                [item(AcquisitionNumber=1 + second)]
            )
        else:
            frame.ContrastBolusUsageSequence = Sequence(
                [item(ContrastBolusAgentAdministered="YES" if second else "NO")]
            )
        frames.append(frame)
    dataset.SharedFunctionalGroupsSequence = Sequence(
        [
            item(
                PlaneOrientationSequence=Sequence([item(ImageOrientationPatient=list(AXIAL))]),
                PixelMeasuresSequence=Sequence([item(PixelSpacing=[0.5, 0.5])]),
            )
        ]
    )
    dataset.PerFrameFunctionalGroupsSequence, dataset.NumberOfFrames = Sequence(frames), 12
    dataset.PixelData = np.stack([volume, volume + 300], axis=1).astype("<i2").tobytes()
    save(dataset)
    error = refusal(tmp_path)
    assert error.code is Code.MIXED_ACQUISITIONS
    assert "(6 images)" in error.message
    both = [read(tmp_path, series=f"{keys_of(tmp_path)[0]}.{n}") for n in (1, 2)]
    expected = volume, volume + 300
    assert all(np.array_equal(one, other) for one, other in zip(both, expected, strict=True))


EMPTY = dict.fromkeys(
    ("SeriesInstanceUID", "StudyInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"), ""
)


@pytest.mark.parametrize("below", [0.0, 1.25, 15.0])
@pytest.mark.parametrize(
    "shared", [EMPTY, {"SeriesInstanceUID": SERIES}, {**EMPTY, "StudyInstanceUID": "1.2.5"}]
)
def test_two_patients_in_one_folder_are_never_one_volume(tmp_path, volume, shared, below):
    change(write_series(tmp_path / "a", volume, patient_id="CANARY A"), **shared)
    change(
        write_series(
            tmp_path / "b", volume + 300, patient_id="CANARY B", origin=(-10, -20, 100 - below)
        ),
        **shared,
    )
    error = refusal(tmp_path)
    assert error.code is Code.SEVERAL_SERIES
    keys = {key: keys_of(tmp_path / key)[0] for key in "ab"}
    short = shortest(keys.values())
    for key, expected in (("a", volume), ("b", volume + 300)):
        assert short[keys[key]] in error.message
        for form in (keys[key], short[keys[key]]):
            assert np.array_equal(read(tmp_path, series=form), expected)
    assert refusal(tmp_path, series=keys["a"].partition("-")[0]).code is Code.SEVERAL_SERIES


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "FrameOfReferenceUID"])
def test_a_copied_series_uid_without_patient_ids(tmp_path, volume, keyword):
    for n, folder in enumerate("ab"):
        change(
            write_series(tmp_path / folder, volume, origin=(-10, -20, 100 - 15 * n)),
            SeriesInstanceUID=SERIES,
            PatientID="",
            **{keyword: f"1.2.7{n}"},
        )
    assert refusal(tmp_path).code is Code.SEVERAL_SERIES


def test_two_persons_under_one_id(tmp_path, volume):
    for n, born in enumerate(("19400101", "19600101")):
        change(
            write_series(tmp_path / born, volume, origin=(-10, -20, 100 - 15 * n)),
            PatientBirthDate=born,
            **EMPTY,
        )
    assert refusal(tmp_path).code is Code.DIFFERENT_PERSONS


BREAKS = {
    "cut within the header": lambda data: data[:400],
    "cut behind the series": lambda data: data[: data.index(b"\x28\0\x10\0US")],
    "rows of 65535": lambda data: data.replace(
        b"\x28\0\x10\0US\x02\0\x04\0", b"\x28\0\x10\0US\x02\0\xff\xff"
    ),
    "no rows": lambda data: data.replace(
        b"\x28\0\x10\0US\x02\0\x04\0", b"\x28\0\x10\0US\x02\0\0\0"
    ),
    "spacing with decimal commas": lambda data: data.replace(b"0.5\\0.5 ", b"0,5\\0,5 "),
    "pixels cut off": lambda data: data[:-10],
    "a length that leads out of the file": lambda data: data.replace(
        b"\x28\0\x30\0DS\x08\0", b"\x28\0\x30\0DS\xff\xfe"
    ),
}


@pytest.mark.parametrize("broken", BREAKS)
@pytest.mark.parametrize("by", ["mask", "key"])
def test_a_broken_file_costs_its_own_patient_alone(tmp_path, volume, broken, by):
    flat = tmp_path / "flat"
    for n, patient in enumerate("ABC"):
        for k, dataset in enumerate(
            write_series(
                tmp_path / patient,
                volume + n,
                series=f"1.2.{n}",
                frame_of_reference=f"1.3.{n}",
                patient_id=patient,
            )
        ):
            dataset.filename = flat / f"{patient}{k}.dcm"
            save(dataset)
    data = (flat / "C3.dcm").read_bytes()
    (flat / "C3.dcm").write_bytes(BREAKS[broken](data))
    assert (flat / "C3.dcm").read_bytes() != data

    def asked(n) -> dict:
        return (
            {"wanted": References(frozenset({f"1.2.{n}"}))}
            if by == "mask"
            else {"series": keys_of(tmp_path / "ABC"[n])[0]}
        )

    for n in (0, 1):
        assert np.array_equal(read(flat, **asked(n)), volume + n)
        assert (
            open_series(
                flat, asked(n).get("wanted", NOTHING), COHORT, series=asked(n).get("series", "")
            ).findings
            == ()
        )
    error = refusal(flat, **asked(2))
    assert "16" in error.message  # file 16 by name
    assert broken != "cut within the header" or error.code is Code.MISSING_SLICE


@pytest.mark.parametrize("broken", ["cut within the header", "rows of 65535", "pixels cut off"])
def test_a_damaged_copy_of_a_slice_is_left_out_and_reported(tmp_path, volume, broken):
    dataset = write_series(tmp_path, volume)[2]
    data = BREAKS[broken]((tmp_path / dataset.filename).read_bytes())
    (tmp_path / "Z copy.dcm").write_bytes(data)
    assert np.array_equal(read(tmp_path), volume)
    (finding,) = open_series(tmp_path, NOTHING, COHORT).findings
    assert finding.code is Code.FILE_LEFT_OUT
    assert "7" in finding.message


@pytest.mark.parametrize(
    "broken", ["rows of 65535", "no rows", "spacing with decimal commas", "pixels cut off"]
)
@pytest.mark.parametrize("end", [0, -1])
def test_a_damaged_first_or_last_slice_is_no_copy(tmp_path, volume, broken, end):
    path = tmp_path / write_series(tmp_path, volume)[end].filename
    path.write_bytes(BREAKS[broken](path.read_bytes()))
    error = refusal(tmp_path)
    assert error.code not in (Code.FILE_LEFT_OUT, Code.MISSING_SLICE)
    assert f"file {sorted(tmp_path.iterdir()).index(path) + 1} by name" in error.message


def test_a_damaged_file_whose_place_is_no_number_is_left_out(tmp_path, volume):
    path = tmp_path / write_series(tmp_path, volume)[0].filename
    data = BREAKS["pixels cut off"](path.read_bytes())
    at = data.index(b"\x20\0\x32\0DS") + 8
    (tmp_path / "Z.dcm").write_bytes(data[:at] + b"1.2.3" + data[at + 5 :])
    assert np.array_equal(read(tmp_path), volume)
    (finding,) = open_series(tmp_path, NOTHING, COHORT).findings
    assert finding.code is Code.FILE_LEFT_OUT


@pytest.mark.parametrize(
    ("modality", "rows", "columns"),
    [("DX", 4280, 3520), ("MG", 4664, 3064), ("MR", 8, 8), ("US", 60000, 60000)],
)
def test_a_foreign_image_costs_nothing(tmp_path, volume, modality, rows, columns):
    write_series(tmp_path, volume)
    foreign = ct_slice(
        tmp_path / "A foreign.dcm", np.zeros((4, 5), np.int16), (0, 0, 0), series=generate_uid()
    )
    foreign.Modality, foreign.SOPClassUID, foreign.Rows, foreign.Columns = (
        modality,
        "1.2.840.10008.5.1.4.1.1.1.2",
        rows,
        columns,
    )
    save(foreign)
    assert np.array_equal(read(tmp_path), volume)
    assert codes(tmp_path) == []
    for path in tmp_path.iterdir():
        if path.name != "A foreign.dcm":
            path.unlink()
    assert refusal(tmp_path).code is Code.NOT_CT


def test_a_series_of_which_some_images_are_no_ct(tmp_path, volume):
    change(write_series(tmp_path, volume)[4:], Modality="MR")
    assert refusal(tmp_path).code is Code.NOT_CT


def test_a_series_whose_files_are_all_broken_is_refused_for_that(tmp_path, volume):
    write_series(tmp_path / "good", volume, series="1.2.8")
    for dataset in write_series(tmp_path / "bad", volume, series="1.2.9"):
        dataset.Rows = 60000
        save(dataset)
    assert refusal(tmp_path, References(frozenset({"1.2.9"}))).code is Code.TOO_LARGE
    assert refusal(tmp_path / "bad").code is Code.TOO_LARGE
    assert np.array_equal(read(tmp_path), volume)


def test_hidden_copies_are_no_slices(tmp_path, volume):
    for dataset in write_series(tmp_path, volume)[:2]:
        name = (tmp_path / dataset.filename).name
        for hidden in (tmp_path / f"._{name}", tmp_path / ".Trash" / name):
            dataset.filename = hidden
            save(dataset)
    assert np.array_equal(read(tmp_path), volume)


def test_packed_files_are_told_as_such(tmp_path, volume):
    datasets = write_series(tmp_path, volume)
    for k, dataset in enumerate(datasets):
        path = tmp_path / dataset.filename
        if k == 2:
            (tmp_path / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()
    error = refusal(tmp_path)
    assert error.code is Code.MISSING_SLICE
    assert "1 packed files" in error.message
    for path in sorted(tmp_path.glob("*.dcm")):
        (tmp_path / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    error = refusal(tmp_path)
    assert error.code is Code.FILE_UNREADABLE
    assert "packed" in error.message


def test_images_that_a_mask_names_decide_between_series(tmp_path, volume):
    write_series(tmp_path / "a", volume, series="1.2.1")
    other = write_series(tmp_path / "b", volume + 300, series="1.2.2")
    assert refusal(tmp_path).code is Code.SEVERAL_SERIES
    assert np.array_equal(
        read(tmp_path, References(images=frozenset({str(other[3].SOPInstanceUID)}))), volume + 300
    )


def test_facts_of_acquisition_come_by_the_fast_way_too(tmp_path, volume):
    datasets = write_series(tmp_path, volume)
    change(datasets, **ONE)
    for dataset in datasets:
        save(dataset)
    for header in read_headers(tmp_path, TAGS):
        (one,) = acquired(header)
        assert (one.number, one.time_s, one.kernel, one.kvp) == (1, 43200, "canary30", "120")
        assert header.native_at is not None
