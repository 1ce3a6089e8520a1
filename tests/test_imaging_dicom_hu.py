"""Attenuation from stored values: which bits, which sign, which unit; and what is no
attenuation."""

import numpy as np
import pytest
import SimpleITK
from dicom_files import ct_slice, save, write_series
from openjpeg.utils import encode_array
from pydicom import dcmread, dcmwrite
from pydicom.dataelem import DataElement
from pydicom.encaps import encapsulate
from pydicom.uid import (
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from renal_ray.config import Cohort
from renal_ray.imaging.images.dicom_series import open_series
from renal_ray.imaging.images.source import References, require_ct_range
from renal_ray.problems import Code, PatientError

COHORT = Cohort(manifest="unused.csv")
NOTHING = References()


@pytest.fixture
def volume() -> np.ndarray:
    """HU (4, 32, 40): air, fat, soft tissue, bone."""
    hu = np.full((4, 32, 40), -1000, np.int16)
    hu[:, 4:28, 4:36], hu[:, 8:24, 8:32], hu[:, 12:16, 12:16] = -100, 40, 900
    return hu + np.arange(4, dtype=np.int16)[:, None, None]


def read(folder) -> np.ndarray:
    series = open_series(folder, NOTHING, COHORT)
    return series.read(np.arange(series.grid.shape[0]))


def codes(folder) -> list[Code]:
    return [finding.code for finding in open_series(folder, NOTHING, COHORT).findings]


def code_of(folder) -> Code:
    with pytest.raises(PatientError) as caught:
        read(folder)
    assert "CANARY" not in str(caught.value)
    return caught.value.code


@pytest.mark.parametrize("syntax", ["native", "implicit", "deflated", "big endian", "rle"])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(("stored", "high"), [(12, 15), (12, 13), (12, 11), (13, 14), (16, 15)])
def test_the_pixel_lies_below_the_high_bit(tmp_path, volume, syntax, signed, stored, high):
    """Whatever stands in the other bits, as overlays once did."""
    intercept = 0 if signed else -1024
    rng = np.random.default_rng(0)
    for dataset, hu in zip(
        write_series(tmp_path, volume, intercept=intercept), volume, strict=True
    ):
        shift = high + 1 - stored
        mask = ((1 << stored) - 1) << shift
        words = (hu.astype(int) - intercept << shift) & mask | rng.integers(
            0, 1 << 16, hu.shape
        ) & ~mask & 0xFFFF
        dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = stored, high, int(signed)
        dataset.PixelData = words.astype("<u2").tobytes()
        if syntax == "big endian":
            dataset.PixelData = words.astype(">u2").tobytes()
            dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
        elif syntax == "rle":
            dataset.compress(RLELossless, generate_instance_uid=False)
        elif syntax != "native":
            dataset.file_meta.TransferSyntaxUID = (
                ImplicitVRLittleEndian if syntax == "implicit" else DeflatedExplicitVRLittleEndian
            )
        if syntax == "big endian":
            dcmwrite(
                dataset.filename,
                dataset,
                implicit_vr=False,
                little_endian=False,
                force_encoding=True,
            )
        else:
            save(dataset)
    assert np.array_equal(read(tmp_path), volume)


@pytest.mark.parametrize(("stored", "high"), [(12, 10), (12, 16), (0, 0), (17, 16)])
def test_bits_that_cannot_be(tmp_path, volume, stored, high):
    for dataset in write_series(tmp_path, volume):
        dataset.BitsStored, dataset.HighBit = stored, high
        save(dataset)
    assert code_of(tmp_path) is Code.FILE_UNREADABLE


def test_bits_that_are_not_said(tmp_path, volume):
    for dataset in write_series(tmp_path, volume):
        del dataset.BitsStored
        save(dataset)
    assert code_of(tmp_path) is Code.FILE_UNREADABLE


def jpeg2000(folder, volume, *, intercept, coded, precision, header, **values):
    """A series in JPEG 2000 whose codestream holds `coded` values of some precision; the header
    says something of its own."""
    for dataset, hu in zip(write_series(folder, volume, intercept=intercept), volume, strict=True):
        stream = encode_array(
            coded(hu.astype(int) - intercept), bits_stored=precision, photometric_interpretation=2
        )
        dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
        dataset.BitsStored = values.pop("stored", precision)
        dataset.HighBit, dataset.PixelRepresentation = dataset.BitsStored - 1, header
        for keyword, value in values.items():
            dataset.add_new(keyword, "SS" if header else "US", value)
        dataset.PixelData = encapsulate([stream])
        dataset["PixelData"].VR = "OB"
        save(dataset)


@pytest.mark.parametrize("precision", [12, 13, 16])
def test_a_signed_codestream_of_an_unsigned_header_is_signed(tmp_path, volume, precision):
    jpeg2000(
        tmp_path,
        volume,
        intercept=0,
        coded=lambda values: values.astype(np.int16),
        precision=precision,
        header=0,
    )
    assert np.array_equal(read(tmp_path), volume)


@pytest.mark.parametrize("precision", [12, 13, 16])
def test_an_unsigned_codestream_of_a_signed_header_is_unsigned(tmp_path, volume, precision):
    dense = np.where(volume > 800, 2000, volume)  # above half of what 12 bits hold
    jpeg2000(
        tmp_path,
        dense,
        intercept=-1024,
        coded=lambda values: values.astype(np.uint16),
        precision=precision,
        header=1,
    )
    if precision == 12:  # a constant below air may be padding
        assert code_of(tmp_path) is Code.FILE_UNREADABLE
        dense[:, 12, 12] = 2100
        jpeg2000(
            tmp_path,
            dense,
            intercept=-1024,
            coded=lambda values: values.astype(np.uint16),
            precision=precision,
            header=1,
        )
    assert np.array_equal(read(tmp_path), dense)


@pytest.mark.parametrize("precision", [12, 13, 16])
def test_negative_values_in_an_unsigned_codestream(tmp_path, volume, precision):
    """Encoders that know no sign; the header has it."""
    jpeg2000(
        tmp_path,
        volume,
        intercept=0,
        coded=lambda values: (values & ((1 << precision) - 1)).astype(np.uint16),
        precision=precision,
        header=1,
    )
    assert np.array_equal(read(tmp_path), volume)


def test_a_sign_that_cannot_be_known_is_refused(tmp_path, volume):
    noisy = volume.copy()
    noisy[:, 0, 0] = -1030  # -6 where it is signed, 4090 where it is not
    jpeg2000(
        tmp_path,
        noisy,
        intercept=-1024,
        coded=lambda values: (values & 0xFFF).astype(np.uint16),
        precision=12,
        header=1,
    )
    assert code_of(tmp_path) is Code.FILE_UNREADABLE


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_twos_complement_called_unsigned_is_refused(tmp_path, volume, share):
    """However few values are negative."""
    hu = np.maximum(volume, 0)
    hu.reshape(4, -1)[:, int(share * hu[0].size) :] = -100
    for dataset in write_series(tmp_path, hu, intercept=0):
        dataset.PixelRepresentation = 0
        save(dataset)
    assert code_of(tmp_path) is Code.HU_OUT_OF_RANGE


@pytest.mark.parametrize(
    ("value", "named"),
    [(-3024, False), (3071, False), (19_999, False), (-32_000, True), (32_000, True)],
)
def test_padding_is_no_attenuation(tmp_path, volume, value, named):
    hu = volume.copy()
    hu[:, 0, 0] = value
    write_series(tmp_path, hu, intercept=0, padding=value if named else None)
    expected = hu.copy()
    expected[:, 0, 0] = -1000 if named else value
    assert np.array_equal(read(tmp_path), expected)


@pytest.mark.parametrize("value", [-20_001, 20_001])
def test_the_range_of_ct(tmp_path, volume, value):
    hu = volume.copy()
    hu[2, 3, 3] = value
    write_series(tmp_path, hu, intercept=0)
    assert code_of(tmp_path) is Code.HU_OUT_OF_RANGE
    series = open_series(tmp_path, NOTHING, COHORT)
    assert np.array_equal(series.read(np.array([0, 1, 3])), hu[[0, 1, 3]])  # judged by what is read
    require_ct_range(np.array([-20_000, 20_000]))
    require_ct_range(np.array([]))
    with pytest.raises(PatientError):
        require_ct_range(np.array([0.0, value]))


DERIVED = ["DERIVED", "SECONDARY", "AXIAL"]
ORIGINAL = ["ORIGINAL", "PRIMARY", "AXIAL"]


@pytest.mark.parametrize(
    "unit", ["HU", "hu", "Hounsfield", "HOUNSFIELD UNITS", "H.U.", "HU_MOD", ""]
)
@pytest.mark.parametrize("kind", [ORIGINAL, DERIVED])
def test_spellings_of_hu(tmp_path, volume, unit, kind):
    for dataset in write_series(tmp_path, volume):
        dataset.RescaleType, dataset.ImageType = unit, kind
        save(dataset)
    assert np.array_equal(read(tmp_path), volume)
    assert codes(tmp_path) == []


@pytest.mark.parametrize("unit", ["US", "UNSPECIFIED"])
def test_a_derived_image_that_leaves_its_unit_open(tmp_path, volume, unit):
    for kind, expected in ((ORIGINAL, []), (DERIVED, [Code.DERIVED_IMAGE])):
        for dataset in write_series(tmp_path, volume):
            dataset.RescaleType, dataset.ImageType = unit, kind
            save(dataset)
        assert np.array_equal(read(tmp_path), volume)
        assert codes(tmp_path) == expected


@pytest.mark.parametrize(
    "values", [lambda hu: hu * 0 + np.arange(40), lambda hu: hu + 1024, lambda hu: hu % 256 + 200]
)
def test_a_derived_image_whose_values_are_no_hu(tmp_path, volume, values):
    for dataset in write_series(tmp_path, values(volume).astype(np.int16)):
        dataset.RescaleType, dataset.ImageType = "US", DERIVED
        save(dataset)
    assert code_of(tmp_path) is Code.NOT_CT


@pytest.mark.parametrize("unit", ["MGML", "Z_EFF", "ED", "EDW", "PCT", "CANARY"])
@pytest.mark.parametrize("kind", [ORIGINAL, DERIVED])
def test_other_units(tmp_path, volume, unit, kind):
    for dataset in write_series(tmp_path, volume):
        dataset.RescaleType, dataset.ImageType = unit, kind
        save(dataset)
    assert code_of(tmp_path) is Code.NOT_CT


@pytest.mark.parametrize("kind", ["DERIVED\\SECONDARY", "ORIGINAL\\PRIMARY\\AXIAL"])
def test_a_series_that_simpleitk_wrote(tmp_path, volume, kind):
    image = SimpleITK.GetImageFromArray(volume)
    image.SetSpacing((0.5, 0.5, 2.5))
    writer = SimpleITK.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for k in range(4):
        plane = image[:, :, k]
        tags = {
            "0008|0060": "CT",
            "0020|000e": "1.2.3",
            "0008|0008": kind,
            "0020|0037": "1\\0\\0\\0\\1\\0",
            "0020|0032": f"0\\0\\{-2.5 * k}",
        }
        for tag, value in tags.items():
            plane.SetMetaData(tag, value)
        writer.SetFileName(str(tmp_path / f"{k}.dcm"))
        writer.Execute(plane)
    assert dcmread(tmp_path / "0.dcm").RescaleType == "US"
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames([str(tmp_path / f"{k}.dcm") for k in range(4)])
    assert np.array_equal(read(tmp_path), SimpleITK.GetArrayFromImage(reader.Execute()))
    assert np.array_equal(read(tmp_path), volume)


def other_vr(keyword, vr, value):
    def change(dataset):
        tag = dataset.data_element(keyword).tag
        del dataset[tag]
        dataset.add(DataElement(tag, vr, value(dataset) if callable(value) else value))

    return change


@pytest.mark.parametrize(
    "change",
    [
        other_vr("PixelSpacing", "FD", [0.5, 0.5]),
        other_vr("PixelSpacing", "LO", ["0.5", "0.5"]),
        other_vr(
            "ImagePositionPatient",
            "UN",
            lambda dataset: b"\\".join(b"%.1f" % value for value in (-10, -20, 97.5)) + b" ",
        ),
        other_vr("RescaleIntercept", "LO", "-1024"),
        other_vr("RescaleSlope", "IS", 1),
        other_vr("Rows", "UL", 32),
        other_vr("PixelRepresentation", "SS", 1),
        other_vr("BitsStored", "SS", 16),
        other_vr("HighBit", "UL", 15),
        other_vr("SeriesInstanceUID", "LO", lambda dataset: "1.2.3"),
        other_vr("FrameOfReferenceUID", "UN", b"1.2.3\0"),
        lambda dataset: setattr(dataset["PixelData"], "VR", "OB"),
        lambda dataset: dataset.add(DataElement(0x00271010, "UN", b"abcd")),
        lambda dataset: dataset.add(DataElement(0x00180060, "SH", "120")),
        lambda dataset: dataset.add(DataElement(0x00200012, "US", 1)),
    ],
)
def test_wrong_value_representations_give_the_right_voxels(tmp_path, volume, change):
    """On one slice of a sound series; or on all, where it is of no account."""
    change(written := write_series(tmp_path, volume, series="1.2.3")[1])
    save(written)
    assert np.array_equal(read(tmp_path), volume)


@pytest.mark.parametrize("implicit", [False, True])
def test_a_meta_header_that_lies_about_the_encoding(tmp_path, volume, implicit):
    said, other = b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2\0"
    for dataset in write_series(tmp_path, volume):
        if implicit:
            dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        path = save(dataset)
        old, new = (other, said) if implicit else (said, other)
        data = path.read_bytes().replace(
            b"UI" + len(old).to_bytes(2, "little") + old,
            b"UI" + len(new).to_bytes(2, "little") + new,
            1,
        )
        length = int.from_bytes(data[140:144], "little") + len(new) - len(old)
        path.write_bytes(data[:140] + length.to_bytes(4, "little") + data[144:])
    assert np.array_equal(read(tmp_path), volume)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"LossyImageCompression": "01", "LossyImageCompressionRatio": ["9.5", "12"]}, "12 : 1"),
        ({"LossyImageCompression": "01"}, "not give"),
        ({"LossyImageCompressionRatio": "8"}, "8 : 1"),
        ({"LossyImageCompression": "00", "LossyImageCompressionRatio": "1"}, ""),
        ({"LossyImageCompression": ""}, ""),
    ],
)
def test_compression_with_loss_is_reported_with_its_ratio(tmp_path, volume, values, said):
    for dataset in write_series(tmp_path, volume)[:3]:
        for keyword, value in values.items():
            setattr(dataset, keyword, value)
        save(dataset)
    findings = open_series(tmp_path, NOTHING, COHORT).findings
    assert [finding.code for finding in findings] == ([Code.LOSSY_COMPRESSION] if said else [])
    assert all(said in finding.message and "3 of 4" in finding.message for finding in findings)


@pytest.mark.parametrize("ratio", [[], [20, 5]])
def test_a_codestream_tells_of_its_loss(tmp_path, volume, ratio):
    for dataset in write_series(tmp_path, np.tile(volume, (1, 4, 4))):
        stored = np.frombuffer(dataset.PixelData, "<i2").reshape(128, 160)
        stream = encode_array(
            stored, bits_stored=16, photometric_interpretation=2, compression_ratios=ratio
        )
        dataset.file_meta.TransferSyntaxUID = JPEG2000
        dataset.PixelData = encapsulate([stream])
        dataset["PixelData"].VR = "OB"
        save(dataset)
    assert codes(tmp_path) == ([Code.LOSSY_COMPRESSION] if ratio else [])


def test_a_single_odd_unit_in_a_series(tmp_path, volume):
    dataset = write_series(tmp_path, volume)[2]
    dataset.RescaleType, dataset.ImageType = "US", ["DERIVED", "PRIMARY", "PERFUSION", "RCBF"]
    save(dataset)
    assert code_of(tmp_path) is Code.NOT_CT
    assert ct_slice(tmp_path / "x.dcm", volume[0], (0, 0, 0), series="1").RescaleIntercept == -1024
