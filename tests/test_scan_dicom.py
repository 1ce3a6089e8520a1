"""scan on DICOM: acquisitions, derived series, masks kept as images, damaged files, and what a mask
names."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from dicom_files import save, write_rtstruct, write_seg, write_series
from pydicom import dcmread
from scanning import HU, LESION, seen_in, volume

from renal_ray.config import Cohort, Selection
from renal_ray.imaging.patient import read_patient
from renal_ray.problems import StudyError
from renal_ray.study_file import load_phase

SERIES = np.ascontiguousarray(HU.T[::-1])  # slices from the head, rows, columns
MASK = LESION.T[::-1]
DRAWN = (2, 3)


def change(slices, **values) -> None:
    """Writes slices again with other values."""
    for item in slices:
        for keyword, value in values.items():
            setattr(item, keyword, value)
        save(item)


def seg_on(path: Path, slices, **options) -> None:
    write_seg(path, [(1, slices[k], MASK[k]) for k in DRAWN], **options)


def rt_on(path: Path, slices, **options) -> None:
    squares = [
        np.array(
            [
                (x, y, float(slices[k].ImagePositionPatient[2]))
                for x, y in ((-8, -18), (-5, -18), (-5, -15), (-8, -15))
            ]
        )
        for k in DRAWN
    ]
    sources = (
        [str(slices[k].SOPInstanceUID) for k in DRAWN] if options.pop("sources", False) else []
    )
    write_rtstruct(path, [("GTV", square) for square in squares], sources=sources, **options)


def read_row(tmp_path: Path, row: dict[str, str]):
    cohort = Cohort(manifest="x", lesion_labels=[1])
    return read_patient(
        tmp_path / row["image"],
        tmp_path / row["mask"],
        cohort=cohort,
        selection=Selection(),
        series=row["series"],
    )


def two_acquisitions(tree: Path):
    """Two phases under one UID, their tables half a slice apart; the second is 50 HU brighter."""
    first = write_series(tree / "ct", SERIES, series="1.2.5")
    for item in first:
        Path(str(item.filename)).rename(tree / "ct" / f"a{Path(str(item.filename)).name}")
        item.filename = str(tree / "ct" / f"a{Path(str(item.filename)).name}")
    second = write_series(tree / "ct", SERIES + 50, series="1.2.5", origin=(-10.0, -20.0, 98.75))
    change(
        first,
        AcquisitionNumber=1,
        AcquisitionTime="100030",
        ContrastBolusStartTime="100000",
        KVP=120,
    )
    change(
        second,
        AcquisitionNumber=2,
        AcquisitionTime="100110",
        ContrastBolusStartTime="100000",
        KVP=120,
    )
    return first, second


def test_acquisitions_of_one_series_are_candidates_of_their_own_told_apart_by_their_delay(tmp_path):
    for slices in two_acquisitions(tmp_path / "tree"):
        change(
            slices, SeriesDescription="Abdomen arterial"
        )  # of the series, whatever the acquisition
    volume(tmp_path / "tree/mask.nii.gz", LESION)  # on the grid of the first
    for phase, number, brighter in (("corticomedullary", 1, 0), ("nephrographic", 2, 50)):
        if brighter:
            (tmp_path / "tree/mask.nii.gz").unlink()
            volume(tmp_path / "tree/mask.nii.gz", LESION, origin=(10.0, 20.0, 86.25))
        seen = seen_in(tmp_path / "tree", phase=load_phase(phase, None))
        row = seen.rows["P1"]
        assert (row["phase"], row["series"].rpartition(".")[2]) == (phase, str(number))
        assert not seen.problems
        got = read_row(tmp_path, row)
        assert np.array_equal(got.hu, SERIES[got.slice_index] + brighter)
        assert got.n_slices_total == len(SERIES)


def test_a_mask_chooses_the_acquisition_whose_images_it_names(tmp_path):
    _, second = two_acquisitions(tmp_path / "tree")
    seg_on(tmp_path / "tree/seg.dcm", second)  # whose series both share
    row = seen_in(tmp_path / "tree").rows["P1"]
    got = read_row(tmp_path, row)
    assert np.array_equal(got.hu, SERIES[got.slice_index] + 50)


def test_acquisitions_that_nothing_tells_apart_are_asked_for(tmp_path):
    slices = [item for part in two_acquisitions(tmp_path / "tree") for item in part]
    change(slices, ContrastBolusStartTime="")
    seen = seen_in(tmp_path / "tree")
    assert seen.pairs == {"P1": ("", "")}
    assert seen.problems == {("P1", "", "mixed-acquisitions")}
    assert seen.messages.count("6 images") == 2


@pytest.mark.parametrize("moment", ["AcquisitionDate", "AcquisitionDateTime"])
def test_two_days_in_one_series_are_two_acquisitions(tmp_path, moment):
    for slices, day in zip(
        two_acquisitions(tmp_path / "tree"), ("20200101", "20200102"), strict=True
    ):
        change(
            slices,
            AcquisitionNumber=None,
            AcquisitionTime="100030",
            **{moment: day if moment == "AcquisitionDate" else f"{day}100030"},
        )
    seen = seen_in(tmp_path / "tree")
    assert seen.pairs == {"P1": ("", "")}
    assert seen.problems == {("P1", "", "mixed-acquisitions")}


@pytest.mark.parametrize(
    ("modality", "storage", "code"),
    [
        ("DX", "1.2.840.10008.5.1.4.1.1.1.1", "not-an-image"),
        ("MG", "1.2.840.10008.5.1.4.1.1.1.2", "not-an-image"),
        ("CT", "1.2.840.10008.5.1.4.1.1.7", "secondary-capture"),
    ],
)
def test_a_radiograph_is_larger_than_any_ct_and_no_fault(tmp_path, modality, storage, code):
    slices = write_series(tmp_path / "tree", SERIES)
    seg_on(tmp_path / "tree/seg.dcm", slices)
    large = dcmread(slices[0].filename)
    large.SOPInstanceUID, large.SeriesInstanceUID = "1.2.99.1", "1.2.99"
    large.Modality, large.SOPClassUID, large.Rows, large.Columns = modality, storage, 4280, 3520
    large.PixelData = bytes(4280 * 3520 * 2)
    large.filename = str(tmp_path / "tree/large.dcm")
    save(large)
    seen = seen_in(tmp_path / "tree")
    assert seen.pairs == {"P1": (".", "seg.dcm")}
    assert not seen.problems
    assert seen.passed == {"large.dcm": code}
    large.Modality, large.SOPClassUID = "CT", "1.2.840.10008.5.1.4.1.1.2"
    save(large)
    assert {code for _, _, code in seen_in(tmp_path / "tree").problems} == {"too-large"}


@pytest.mark.parametrize("name", ["DICOMDIR", "ct.dcm"])
def test_a_file_given_for_a_folder_is_told_its_folder(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(StudyError, match=f"give the folder that holds it: {tmp_path}"):
        seen_in(tmp_path / name)


def test_a_sound_scan_of_many_acquisition_numbers_stays_one_series(tmp_path):
    slices = write_series(tmp_path / "tree/ct", SERIES)
    for number, item in enumerate(slices):
        change([item], AcquisitionNumber=number + 1, AcquisitionTime=f"1000{number:02d}")
    seg_on(tmp_path / "tree/seg.dcm", slices)
    seen = seen_in(tmp_path / "tree")
    assert "." not in seen.rows["P1"]["series"]
    assert not seen.problems


@pytest.mark.parametrize("kind", ["seg", "rtstruct"])
def test_a_mask_that_names_images_but_no_series_chooses_the_series(tmp_path, kind):
    """Two phases in one frame of reference."""
    write_series(tmp_path / "tree/art", SERIES, series="1.2.5")
    venous = write_series(tmp_path / "tree/ven", SERIES + 9, series="1.2.6")
    if kind == "seg":
        seg_on(tmp_path / "tree/mask.dcm", venous, series=None)
    else:
        rt_on(tmp_path / "tree/mask.dcm", venous, sources=True)
    seen = seen_in(tmp_path / "tree")
    assert seen.pairs == {"P1": ("ven", "mask.dcm")}
    assert not seen.problems


def test_a_mask_under_another_id_goes_to_the_patient_whose_series_it_names(tmp_path):
    slices = write_series(tmp_path / "tree/ct", SERIES, patient_id="NEW-1")
    write_series(tmp_path / "tree/other", SERIES, patient_id="NEW-2")
    seg_on(tmp_path / "tree/masks/a.dcm", slices, patient_id="OLD-1")
    seg_on(
        tmp_path / "tree/masks/b.dcm", slices, patient_id="OLD-9", series="1.2.99", sources=False
    )
    seen = seen_in(tmp_path / "tree")
    assert seen.pairs == {"NEW-1": ("ct", "masks/a.dcm"), "NEW-2": ("other", ""), "OLD-9": ("", "")}
    assert seen.problems == {
        ("NEW-2", "", "series-without-mask"),
        ("OLD-9", "", "mask-without-series"),
        *((patient, "", "same-person") for patient in ("NEW-1", "OLD-9")),  # one study
    }


GE, SIEMENS, ITK = (
    ["DERIVED", "SECONDARY", "REFORMATTED", "AVERAGE"],
    ["DERIVED", "SECONDARY", "AXIAL", "CT_SOM5 MPR"],
    ["DERIVED", "SECONDARY"],
)


@pytest.mark.parametrize(
    "image_type",
    [GE, SIEMENS, ITK, ["DERIVED", "PRIMARY", "AXIAL"]],
    ids=["GE", "Siemens", "ITK", "primary"],
)
@pytest.mark.parametrize("named", [True, False])
def test_a_derived_series_is_proposed_where_a_mask_names_it(tmp_path, image_type, named):
    original = write_series(tmp_path / "tree/original", SERIES[::2], series="1.2.5", step=5.0)
    derived = write_series(tmp_path / "tree/derived", SERIES, series="1.2.6")
    change(derived, ImageType=image_type)
    seg_on(
        tmp_path / "tree/seg.dcm",
        derived if named else original * 2,
        series="same" if named else "1.2.5",
    )
    seen = seen_in(tmp_path / "tree")
    assert seen.pairs == {"P1": ("derived" if named else "original", "seg.dcm")}
    assert seen.problems == ({("P1", "derived", "derived-image")} if named else set())


def test_a_derived_series_alone_is_a_candidate_where_it_is_no_reformation(tmp_path):
    change(write_series(tmp_path / "tree/itk", SERIES, patient_id="ITK"), ImageType=ITK)
    change(write_series(tmp_path / "tree/mpr", SERIES, patient_id="MPR"), ImageType=SIEMENS)
    seen = seen_in(tmp_path / "tree")
    assert seen.pairs == {"ITK": ("itk", "")}
    assert ("ITK", "itk", "derived-image") in seen.problems
    assert {code for file, code in seen.passed.items() if file.startswith("mpr")} == {
        "secondary-capture"
    }


def test_a_mask_says_that_its_series_was_passed_over(tmp_path):
    slices = write_series(tmp_path / "tree/shots", SERIES)
    change(slices, SOPClassUID="1.2.840.10008.5.1.4.1.1.7", Modality="OT")
    seg_on(tmp_path / "tree/seg.dcm", slices)
    seen = seen_in(tmp_path / "tree")
    assert seen.problems == {("P1", "", "mask-without-series")}
    assert "passed over (a screen shot" in seen.messages


@pytest.mark.parametrize("description", ["Lesion mask", ""])
@pytest.mark.parametrize("rescale", [True, False])
def test_label_maps_kept_as_ct_series_are_no_patients(tmp_path, description, rescale):
    ct = write_series(tmp_path / "tree/P1/ct", SERIES, series="1.2.5")
    labels = write_series(
        tmp_path / "tree/P1/drawn", MASK.astype(np.int16) * 255, series="1.2.6", intercept=0
    )
    change(labels, SeriesDescription=description)
    if not rescale:
        for item in labels:
            del item.RescaleSlope, item.RescaleIntercept
            save(item)
    change(ct, SeriesDescription="Tumor protocol")
    seen = seen_in(tmp_path / "tree")
    if description:
        assert seen.pairs == {"P1": ("P1/ct", "P1/drawn")}
        assert not seen.problems
        assert np.array_equal(read_row(tmp_path, seen.rows["P1"]).mask, MASK[list(DRAWN)] == 1)
    else:
        assert seen.pairs == {"P1": ("P1/ct", "")}
        assert seen.problems == {("P1", "P1/drawn", "not-ct"), ("P1", "", "series-without-mask")}


@pytest.mark.parametrize(
    ("modality", "storage"),
    [
        ("PT", "1.2.840.10008.5.1.4.1.1.128"),
        ("MR", "1.2.840.10008.5.1.4.1.1.4"),
        ("NM", "1.2.840.10008.5.1.4.1.1.20"),
    ],
)
def test_images_of_other_modalities_are_neither_masks_nor_images(tmp_path, modality, storage):
    write_series(tmp_path / "tree/ct", SERIES, series="1.2.5")
    other = write_series(tmp_path / "tree/tumor", SERIES, series="1.2.6")
    change(
        other,
        Modality=modality,
        SOPClassUID=f"1.2.840.10008.5.1.4.1.1.{storage}",
        SeriesDescription="Tumor mask",
    )
    seen = seen_in(tmp_path / "tree")
    assert seen.pairs == {"P1": ("ct", "")}
    assert set(seen.passed.values()) == {"not-an-image"}


BREAKS = {
    "cut off in the header": (lambda raw: raw[: raw.index(b"\x20\x00\x0d\x00")], "file-truncated"),
    "cut off before the PatientID": (lambda raw: raw[:400], "file-truncated"),
    "a radiograph": (
        lambda raw: raw.replace(
            b"\x28\x00\x10\x00US\x02\x00\x14\x00", b"\x28\x00\x10\x00US\x02\x00\xff\xff"
        ),
        "too-large",
    ),
    "no rows": (
        lambda raw: raw.replace(
            b"\x28\x00\x10\x00US\x02\x00\x14\x00", b"\x28\x00\x10\x00US\x02\x00\x00\x00"
        ),
        "file-unreadable",
    ),
    "decimal commas": (lambda raw: raw.replace(b"0.5\\0.5 ", b"0,5\\0,5 "), "file-unreadable"),
    "pixels cut off": (lambda raw: raw[:-100], "file-truncated"),
}


@pytest.mark.parametrize("what", BREAKS)
def test_a_broken_file_in_a_flat_folder_is_named_and_concerns_its_patient_alone(tmp_path, what):
    tree = tmp_path / "tree"
    for patient in "ABC":
        slices = write_series(
            tmp_path / patient, SERIES, patient_id=patient, frame_of_reference=f"1.{ord(patient)}"
        )
        seg_on(tmp_path / patient / "seg.dcm", slices, patient_id=patient)
        for path in (tmp_path / patient).iterdir():
            tree.mkdir(exist_ok=True)
            path.rename(tree / f"{patient}{path.name}")
    breaking, code = BREAKS[what]
    path = tree / "CI0003.dcm"
    whole = path.read_bytes()
    assert breaking(whole) != whole
    path.write_bytes(breaking(whole))
    seen = seen_in(tree)
    known = (
        "" if what == "cut off before the PatientID" else "C"
    )  # the PatientID stands before the UIDs
    assert seen.problems == {(known, "CI0003.dcm", code)}
    assert {patient: bool(image) for patient, (image, _) in seen.pairs.items()} == {
        "A": True,
        "B": True,
        "C": True,
    }
    assert seen.summary.complete == (2 if known and what != "cut off in the header" else 3)


def test_a_copy_without_its_pixels_is_named_and_costs_nothing(tmp_path):
    slices = write_series(tmp_path / "tree", SERIES, patient_id="A")
    seg_on(tmp_path / "tree/seg.dcm", slices, patient_id="A")
    (tmp_path / "tree/copy.dcm").write_bytes(Path(str(slices[3].filename)).read_bytes()[:-100])
    seen = seen_in(tmp_path / "tree")
    assert seen.problems == {("A", "copy.dcm", "file-truncated")}
    assert seen.summary.complete == 1


def test_packed_files_are_told_as_such(tmp_path):
    slices = write_series(tmp_path / "tree/ct", SERIES)
    raw = Path(str(slices[0].filename)).read_bytes()
    packed = {
        "a.dcm.gz": gzip.compress(raw),
        "study.zip": b"PK\x03\x04",
        "b.7z": b"7z",
        "IM0001": gzip.compress(raw),
        "00012.dcm": b"PK\x03\x04" + bytes(400),
    }
    for name, data in packed.items():
        (tmp_path / "tree" / name).write_bytes(data)
    (tmp_path / "tree/notes.docx").write_bytes(b"PK\x03\x04")
    (tmp_path / "tree/notes.txt").write_text("nothing", encoding="utf-8")
    seen = seen_in(tmp_path / "tree")
    assert seen.passed == {
        **dict.fromkeys(packed, "packed"),
        "notes.docx": "not-dicom",
        "notes.txt": "not-dicom",
    }


def test_a_manufacturer_is_its_first_word_without_signs(tmp_path):
    for patient, manufacturer in (
        ("P1", "GE, Medical Systems"),
        ("P2", "SIEMENS"),
        ("P3", " Philips-Medical "),
        ("P4", ","),
    ):
        change(
            write_series(tmp_path / "tree" / patient, SERIES, patient_id=patient),
            Manufacturer=manufacturer,
        )
    rows = seen_in(tmp_path / "tree").rows
    assert [rows[f"P{n}"]["scanner"] for n in (1, 2, 3, 4)] == ["ge", "siemens", "philips", ""]


def test_one_series_uid_in_two_patients_of_one_folder(tmp_path):
    tree = tmp_path / "tree"
    for patient, brighter in (("A", 0), ("B", 40)):
        slices = write_series(tmp_path / patient, SERIES + brighter, patient_id=patient, series="")
        change(slices, StudyInstanceUID="", SOPInstanceUID="", FrameOfReferenceUID="")
        tree.mkdir(exist_ok=True)
        for path in (tmp_path / patient).iterdir():
            path.rename(tree / f"{patient}{path.name}")
    for patient in "AB":
        volume(tree / f"{patient}_mask.nii.gz", LESION)
    seen = seen_in(tree)
    assert seen.pairs == {patient: (".", f"{patient}_mask.nii.gz") for patient in "AB"}
    for patient, brighter in (("A", 0), ("B", 40)):
        got = read_row(tmp_path, seen.rows[patient])
        assert np.array_equal(got.hu, SERIES[got.slice_index] + brighter)
    assert dcmread(tree / "AI0000.dcm").SeriesInstanceUID == ""
