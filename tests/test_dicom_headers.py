"""Our header scanner against pydicom, on real files and built ones; and what a header may
declare."""

import gzip
import resource
import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest
from dicom_files import ct_slice, save
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from renal_ray.cohort.scan import walk
from renal_ray.dicom import headers
from renal_ray.dicom.files import files_below, is_packed
from renal_ray.dicom.headers import BEFORE_PIXELS, Header, Pixels, read_header, read_headers
from renal_ray.dicom.limits import codestream
from renal_ray.dicom.pixels import load, native_pixels, pixels
from renal_ray.imaging.images import dicom_series
from renal_ray.problems import Code, PatientError

PLANE = np.arange(-60, 60, dtype=np.int16).reshape(10, 12)


def both(path: Path, tags: list[str]) -> tuple[Header | None, Header | None]:
    """The header as the scanner and as pydicom read it; None where either refuses the file."""
    with path.open("rb") as file, headers.quiet():
        size = path.stat().st_size
        ours = headers._flat(file, path, 1, size, tags)
        if ours is None:
            return None, None
        file.seek(0)
        return ours, headers._parsed(file, path, 1, size, tags)


def plain(value: object) -> object:
    """A value without the notation of its numbers."""
    if value is None or isinstance(value, str):
        return str(value or "").strip()
    if type(value).__name__ == "PersonName":
        return str(value).strip()
    items = (
        list(value)
        if isinstance(value, (list, tuple)) or type(value).__name__ == "MultiValue"
        else [value]
    )
    return [
        float(one)
        if isinstance(one, (int, float)) or type(one).__name__.startswith("DS")
        else str(one).strip()
        for one in items
    ]


@pytest.mark.parametrize("tags", [dicom_series.TAGS, walk.TAGS], ids=["series", "scan"])
def test_real_headers_are_pydicoms(real_data, tags):
    compared = 0
    for path in sorted(path for path in real_data.rglob("*") if path.is_file()):
        ours, theirs = both(path, tags)
        if ours is None or theirs is None:
            continue
        compared += 1
        assert ours.pixels is theirs.pixels, path.name
        for keyword in {*tags, *BEFORE_PIXELS}:
            assert plain(ours.dataset.get(keyword)) == plain(theirs.dataset.get(keyword)), (
                path.name,
                keyword,
            )
    assert compared > 30


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_pixels_straight_from_the_file_are_pydicoms(tmp_path, syntax):
    for dtype in (np.int16, np.uint16):
        item = ct_slice(tmp_path / "a.dcm", PLANE.astype(dtype), (0, 0, 0), series="1.2.3")
        item.file_meta.TransferSyntaxUID = syntax
        header = read_header(save(item), dicom_series.TAGS)
        assert header is not None
        assert header.native_at is not None
        stored = native_pixels(header)
        assert np.array_equal(stored, PLANE.astype(dtype))
        assert np.array_equal(stored, pixels(load(header.path)))


def test_real_native_pixels_are_pydicoms(real_data):
    compared = 0
    for path in sorted(path for path in real_data.rglob("*.dcm") if "broken" not in str(path)):
        header = read_header(path, dicom_series.TAGS)
        if (
            header is not None
            and header.pixels is Pixels.PRESENT
            and (stored := native_pixels(header)) is not None
        ):
            assert np.array_equal(stored, dcmread(path).pixel_array), path.name
            compared += 1
    assert compared > 3


@pytest.mark.parametrize("cut", [140, -150, -1])
def test_a_file_that_ends_early_is_no_plain_one(tmp_path, cut):
    path = save(ct_slice(tmp_path / "a.dcm", PLANE, (0, 0, 0), series="1.2.3"))
    path.write_bytes(path.read_bytes()[:cut])
    header = read_header(path, dicom_series.TAGS)
    assert header is not None
    assert header.pixels is not Pixels.PRESENT


@pytest.mark.parametrize(("cut", "known"), [(300, False), (500, False), (b"\x28\0\x10\0US", True)])
def test_an_image_that_ends_within_its_header_is_damaged(tmp_path, cut, known):
    path = save(ct_slice(tmp_path / "a.dcm", PLANE, (0, 0, 0), series="1.2.3"))
    data = path.read_bytes()
    data = data[: cut if isinstance(cut, int) else data.index(cut)]
    assert (b"1.2.3\0" in data) is known
    path.write_bytes(data)
    with pytest.raises(PatientError) as caught:
        read_header(path, dicom_series.TAGS)
    assert caught.value.code is Code.FILE_TRUNCATED
    header = read_header(path, dicom_series.TAGS, keep_broken=True)
    assert header is not None
    assert header.fault == caught.value
    assert header.text("SeriesInstanceUID") == ("1.2.3" if known else "")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (
            lambda data: data.replace(
                b"\x28\0\x10\0US\x02\0\x0a\0", b"\x28\0\x10\0US\x02\0\xff\xff"
            ),
            Code.TOO_LARGE,
        ),
        (
            lambda data: data.replace(b"\x28\0\x10\0US\x02\0\x0a\0", b"\x28\0\x10\0US\x02\0\0\0"),
            Code.FILE_UNREADABLE,
        ),
        (
            lambda data: data.replace(b"\x28\0\x10\0US\x02\0", b"\x28\0\x10\0US\x01\0"),
            Code.FILE_UNREADABLE,
        ),
    ],
)
def test_who_a_broken_file_is_of_is_known(tmp_path, change, code):
    path = save(ct_slice(tmp_path / "a.dcm", PLANE, (0, 0, 0), series="1.2.3"))
    data = path.read_bytes()
    path.write_bytes(change(data))
    assert path.read_bytes() != data
    header = read_header(path, dicom_series.TAGS, keep_broken=True)
    assert header is not None
    assert header.fault is not None
    assert header.fault.code is code
    assert [header.text(keyword) for keyword in ("SeriesInstanceUID", "PatientID", "Modality")] == [
        "1.2.3",
        "P1",
        "CT",
    ]


def test_hidden_files_are_not_looked_at(tmp_path):
    for name in ("b.dcm", ".b.dcm", "._a.dcm", ".Trash/c.dcm", "d/e.dcm"):
        save(ct_slice(tmp_path / name, PLANE, (0, 0, 0), series="1.2.3"))
    assert [path.relative_to(tmp_path).as_posix() for path in files_below(tmp_path)] == [
        "b.dcm",
        "d/e.dcm",
    ]
    assert [header.number for header in read_headers(tmp_path, ["Modality"])] == [1, 2]
    assert files_below(tmp_path / ".Trash/c.dcm") == [tmp_path / ".Trash/c.dcm"]


def test_packed_files(tmp_path):
    path = save(ct_slice(tmp_path / "a.dcm", PLANE, (0, 0, 0), series="1.2.3"))
    assert not is_packed(path)
    for pack in ("gztar", "bztar", "xztar", "tar", "zip"):
        packed = Path(shutil.make_archive(str(tmp_path.parent / pack), pack, tmp_path))
        assert is_packed(packed), pack
    (tmp_path / "a.dcm.gz").write_bytes(gzip.compress(path.read_bytes()))
    assert is_packed(tmp_path / "a.dcm.gz")
    (tmp_path / "short").write_bytes(b"P")
    assert not is_packed(tmp_path / "short")


def test_text_that_is_not_ascii_is_left_to_pydicom(tmp_path):
    item = ct_slice(tmp_path / "a.dcm", PLANE, (0, 0, 0), series="1.2.3")
    item.SpecificCharacterSet, item.SeriesDescription = "ISO_IR 100", "art\u00e9riel"
    header = read_header(save(item), [*walk.TAGS])
    assert header is not None
    assert "art" in header.text("SeriesDescription")


def refused(path: Path) -> Code:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(PatientError) as caught:
        _decoded(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024
    return caught.value.code


def _decoded(path: Path) -> None:
    read_header(path, dicom_series.TAGS)
    pixels(load(path))


def test_what_a_header_may_declare(tmp_path):
    item = ct_slice(tmp_path / "a.dcm", PLANE, (0, 0, 0), series="1.2.3")
    item.Rows, item.Columns, item.NumberOfFrames = 60000, 60000, 1000
    assert refused(save(item)) is Code.TOO_LARGE
    item.Rows, item.Columns, item.NumberOfFrames = 4000, 4000, 60000
    assert refused(save(item)) is Code.FILE_TRUNCATED


def test_a_deflate_bomb(tmp_path):
    item = ct_slice(tmp_path / "a.dcm", PLANE, (0, 0, 0), series="1.2.3")
    item.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    data = save(item).read_bytes()
    start = 144 + int.from_bytes(data[140:144], "little")
    packer = zlib.compressobj(9, wbits=-15)
    bomb = b"".join([packer.compress(b"\0" * (1 << 20)) for _ in range(400)]) + packer.flush()
    (tmp_path / "a.dcm").write_bytes(data[:start] + bomb)
    assert refused(tmp_path / "a.dcm") is Code.TOO_LARGE


def test_absurd_nesting_ends_in_a_code(tmp_path):
    item = ct_slice(tmp_path / "a.dcm", PLANE, (0, 0, 0), series="1.2.3")
    inner = b""
    for _ in range(5000):  # sequence, item, and so on, each of undefined length
        inner += b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    data = save(item).read_bytes()
    at = data.index(b"\x08\x00\x60\x00CS")
    (tmp_path / "a.dcm").write_bytes(data[:at] + inner + data[at:])
    assert refused(tmp_path / "a.dcm") is Code.FILE_UNREADABLE


def test_a_sequence_that_is_wanted_is_left_to_pydicom(tmp_path):
    item = ct_slice(tmp_path / "a.dcm", PLANE, (0, 0, 0), series="1.2.3")
    referenced = Dataset()
    referenced.SeriesInstanceUID = "1.2.3.4"
    item.ReferencedSeriesSequence = Sequence([referenced])
    header = read_header(save(item), walk.TAGS)
    assert header is not None
    assert walk._references(header) == {"1.2.3.4"}


def test_a_codestreams_own_size(real_data):
    from pydicom.encaps import generate_frames

    compared = 0
    for path in sorted((real_data / "codecs").iterdir()):
        if any(name in path.name for name in ("JPEG", "J2KR")):
            dataset = dcmread(path, force=True)
            declared = codestream(
                next(generate_frames(dataset.PixelData, number_of_frames=1))[:4096]
            )
            assert declared is not None, path.name
            assert declared.shape == (dataset.Rows, dataset.Columns), path.name
            compared += 1
    assert compared > 8
