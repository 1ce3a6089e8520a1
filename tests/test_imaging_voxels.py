"""Streaming of volume files: what is taken out of them, what is never unpacked, and streams that
are damaged."""

import gzip
import subprocess
import sys
import zlib

import numpy as np
import pytest
import SimpleITK
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from isal import igzip

from renal_ray.imaging.geometry.grid import Grid
from renal_ray.imaging.images import streams
from renal_ray.imaging.images import voxels as module
from renal_ray.imaging.images.volume import open_voxels
from renal_ray.imaging.images.voxels import Voxels
from renal_ray.problems import Code, PatientError

HEAD = b"header of sixteen"
SHAPE = (7, 5, 9)


def written(
    path, values: np.ndarray, *, packing="deflated", pack=gzip.compress, tail=b"", **options
) -> Voxels:
    """The values in Fortran order behind a header: inside the packed stream, or in the file before
    raw voxels."""
    data = HEAD + values.tobytes(order="F")
    path.write_bytes((pack(data) if packing == "deflated" else data) + tail)
    start, offset = (0, len(HEAD)) if packing == "deflated" else (len(HEAD), 0)
    return Voxels(
        path,
        Grid(values.shape, np.zeros(3), np.eye(3)),
        values.dtype,
        "test volume",
        start,
        offset,
        packing,
        **options,
    )


def code_of(call, *args) -> Code:
    with pytest.raises(PatientError) as caught:
        call(*args)
    return caught.value.code


@pytest.mark.parametrize("packing", ["raw", "deflated"])
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    seed=st.integers(0, 2**32 - 1),
    axis=st.integers(0, 2),
    dtype=st.sampled_from(["u1", "i1", "<i2", ">i2", "<u2", "<i4", ">f4", "<f8", ">f8", "<i8"]),
    block=st.integers(1, 4000),
    scaled=st.booleans(),
)
def test_what_is_taken_out_is_what_numpy_takes_out(
    tmp_path_factory, packing, seed, axis, dtype, block, scaled
):
    """Any axis, any places, any size of the blocks in which the file is read."""
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 9, 3))
    values = rng.integers(0, 6, shape).astype(dtype)
    scaling = {"slope": 2.0, "intercept": -3.0} if scaled else {}
    volume = written(tmp_path_factory.mktemp("v") / "v", values, packing=packing, **scaling)
    whole = values.astype(float) * scaling.get("slope", 1) + scaling.get("intercept", 0)
    places = np.flatnonzero(rng.random(shape[axis]) < 0.6)
    places = places if len(places) else np.array([0])
    labels = [1, 3]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK", block)
        assert np.array_equal(volume.take(axis, places), np.take(whole, places, axis))
        found, mask = volume.hits(axis, labels)
        assert volume.values() == np.unique(whole)[:10].tolist()
    expected = np.isin(whole, labels)
    others = tuple({0, 1, 2} - {axis})
    assert found.tolist() == np.flatnonzero(expected.any(axis=others)).tolist()
    assert np.array_equal(mask, np.take(expected, found, axis))
    assert mask.dtype == bool


def test_attenuation_is_int16_until_a_value_asks_for_more(tmp_path):
    values = np.full(SHAPE, 40.0)
    assert written(tmp_path / "a", values).take(2, np.arange(9)).dtype == np.int16
    values[0, 0, 8] = 0.5
    volume = written(tmp_path / "b", values)
    assert volume.take(2, np.arange(8)).dtype == np.int16
    got = volume.take(0, np.arange(7))
    assert got.dtype == np.float32
    assert (got[0, 0, 7], got[0, 0, 8]) == (40, 0.5)
    values[0, 0, 8] = np.nan
    got = written(tmp_path / "c", values).take(2, np.arange(9))
    assert (np.isnan(got[0, 0, 8]), got[2, 2, 2], got.dtype) == (True, 40, np.float32)
    values[1, 1, 0], values[2, 2, 1] = -np.inf, 1e300
    got = written(tmp_path / "d", values).take(2, np.arange(9))
    assert (np.isnan(got[0, 0, 8]), got[1, 1, 0], got[2, 2, 1], got[2, 2, 2], got.dtype) == (
        True,
        -np.inf,
        np.inf,
        40,
        np.float32,
    )


def test_labels_are_whole_to_within_a_rounding_error(tmp_path):
    values = np.zeros(SHAPE, np.float32)
    values[2, 3, 4], values[1, 1, 1] = 1.9999, -3.0001
    places, mask = written(tmp_path / "a", values).hits(0, [2])
    assert (places.tolist(), np.argwhere(mask).tolist()) == ([2], [[0, 3, 4]])
    stored = np.zeros(SHAPE, np.uint8)
    stored[2, 3, 4], stored[1, 1, 1] = 255, 128  # 0 to 2 scaled into bytes: 1 becomes 1.0039
    scaled = written(tmp_path / "b", stored, slope=2 / 255)
    assert [np.argwhere(scaled.hits(0, [label])[1]).tolist() for label in (1, 2)] == [
        [[0, 1, 1]],
        [[0, 3, 4]],
    ]
    assert scaled.values() == [0, 1, 2]
    halves = written(
        tmp_path / "c", stored // 100, slope=0.5, intercept=1.0
    )  # every value is one of 1, 1.5, 2
    with pytest.raises(
        PatientError, match=r"0.317 % of the label map's voxels.*interpolated"
    ) as caught:
        halves.hits(0, [2])
    assert caught.value.code is Code.MASK_INTERPOLATED


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_fractions_are_no_labels_whichever_block_they_are_in(tmp_path, monkeypatch, dtype):
    monkeypatch.setattr(module, "BLOCK", 1)
    values = np.zeros(SHAPE, dtype)
    values[2:4, 2, :3], values[4, 2, 8] = 2, 1.4
    with pytest.raises(
        PatientError,
        match=(
            r"^mask-interpolated: 14.3 % of the label map's voxels "
            r"other than 0 are no whole numbers"
        ),
    ) as caught:
        written(tmp_path / "a", values).hits(0, [2])
    assert caught.value.code is Code.MASK_INTERPOLATED
    with pytest.raises(PatientError, match="map of probabilities"):
        written(tmp_path / "b", values / 2).hits(0, [1])
    for odd in (np.nan, np.inf, -np.inf):
        values[4, 2, 8] = odd
        with pytest.raises(PatientError, match=r"14.3 % .* not a number or infinite") as caught:
            written(tmp_path / "c", values).hits(0, [2])
        assert caught.value.code is Code.MASK_UNSUPPORTED
    values[4, 2, 8] = np.nan
    values[0, 0, 8] = -1024.0
    with pytest.raises(PatientError, match="down to -1024, as a CT image does"):
        written(tmp_path / "d", values).hits(0, [2])
    values[4, 2, 8] = 1.4
    assert code_of(written(tmp_path / "e", values).hits, 0, [2]) is Code.MASK_UNSUPPORTED


@pytest.mark.parametrize(
    "pack", [gzip.compress, zlib.compress, igzip.compress], ids=["gzip", "zlib", "igzip"]
)
def test_damage_is_seen(tmp_path, pack):
    values = np.random.default_rng(0).integers(-1000, 1000, (40, 30, 20)).astype(np.int16)
    everything = np.arange(20)
    whole = written(tmp_path / "v", values, pack=pack)
    assert np.array_equal(whole.take(2, everything), values)
    data = whole.path.read_bytes()
    whole.path.write_bytes(data[: len(data) // 2])
    assert code_of(whole.take, 2, everything) is Code.FILE_TRUNCATED
    whole.path.write_bytes(data[:-3])  # every voxel is there, but not the end of the stream
    assert code_of(whole.take, 2, everything) is Code.FILE_TRUNCATED
    flipped = bytearray(data)
    flipped[-6 if pack is not zlib.compress else -2] ^= 1  # in the checksum
    whole.path.write_bytes(flipped)
    assert code_of(whole.take, 2, everything) is Code.FILE_UNREADABLE
    assert code_of(whole.hits, 2, [2000]) is Code.FILE_UNREADABLE


def members(data: bytes, *, size: int = 100) -> bytes:
    return b"".join(gzip.compress(data[k : k + size]) for k in range(0, len(data), size))


TAILS = {
    "nothing": b"",
    "newline": b"\n",
    "zero": b"\0",
    "block": bytes(512),
    "megabyte": bytes(1 << 20),
    "text": b"rubbish" * 9,
    "half a magic": b"\x1f",
}


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize(
    "pack", [gzip.compress, members, zlib.compress], ids=["gzip", "members", "zlib"]
)
def test_what_follows_the_last_member_is_none_of_it(tmp_path, pack, tail):
    values = np.random.default_rng(0).integers(-90, 1000, SHAPE).astype(np.int16)
    volume = written(tmp_path / "a", values, pack=pack, tail=TAILS[tail])
    assert np.array_equal(volume.take(0, np.arange(7)), values)
    assert np.array_equal(
        volume.hits(2, [values[3, 3, 3]])[1].any(axis=2), (values == values[3, 3, 3]).any(axis=2)
    )
    data = volume.path.read_bytes()
    data = data[: len(data) - len(TAILS[tail])]
    for cut in (1, 9, len(data) // 3):
        volume.path.write_bytes(data[:-cut])
        assert code_of(volume.take, 0, np.arange(7)) is Code.FILE_TRUNCATED


@pytest.mark.parametrize("chunk", [2, 3, 7, 1000])
@pytest.mark.parametrize("between", [b"", bytes(1), bytes(700)])
def test_members_are_one_stream_however_they_are_read(tmp_path, monkeypatch, chunk, between):
    """As Python's gzip reads them; zeros may stand between."""
    monkeypatch.setattr(streams, "CHUNK", chunk)
    values = np.random.default_rng(0).integers(-90, 1000, SHAPE).astype(np.int16)
    volume = written(
        tmp_path / "a",
        values,
        pack=lambda data: gzip.compress(data[:333]) + between + members(data[333:]),
        tail=b"\0\n",
    )
    assert np.array_equal(volume.take(1, np.arange(5)), values)
    assert gzip.decompress(volume.path.read_bytes()[:-1]) == HEAD + values.tobytes(order="F")
    whole = volume.path.read_bytes()
    volume.path.write_bytes(whole[: whole.rindex(streams.GZIP_MAGIC)])  # a member is missing
    assert code_of(volume.take, 1, np.arange(5)) is Code.FILE_TRUNCATED


@pytest.mark.parametrize("tail", TAILS)
def test_bytes_behind_files_of_every_kind(tmp_path, tail):
    """Files as nibabel and SimpleITK write them, with bytes at their end."""
    values = np.random.default_rng(0).integers(-90, 1000, SHAPE).astype(np.int16)
    for name in ("a.nii", "a.nii.gz", "a.nrrd", "a.mha"):
        image = SimpleITK.GetImageFromArray(values)
        SimpleITK.WriteImage(image, str(tmp_path / name), useCompression=True)
        with (tmp_path / name).open("ab") as file:
            file.write(TAILS[tail])
        assert np.array_equal(open_voxels(tmp_path / name).take(0, np.arange(SHAPE[2])), values.T)


@pytest.mark.parametrize("packing", ["raw", "deflated"])
def test_nothing_is_unpacked_after_the_last_plane_that_is_wanted(tmp_path, monkeypatch, packing):
    monkeypatch.setattr(module, "BLOCK", 1)
    values = np.random.default_rng(0).integers(-1000, 1000, (64, 64, 40)).astype(np.int16)
    volume = written(tmp_path / "v", values, packing=packing)
    data = volume.path.read_bytes()
    volume.path.write_bytes(data[: len(data) // 2])  # the second half is gone
    assert np.array_equal(volume.take(2, np.array([3, 15])), values[:, :, [3, 15]])
    assert code_of(volume.take, 2, np.array([3, 39])) is Code.FILE_TRUNCATED
    assert code_of(volume.take, 0, np.array([0])) is Code.FILE_TRUNCATED


def test_a_bomb_is_unpacked_no_further_than_its_header_says(tmp_path):
    """400 MB of zeros behind a volume of 20 MB."""
    values = np.zeros((512, 512, 40), np.int16)
    packer = zlib.compressobj(9, wbits=31)
    volume = written(tmp_path / "v", values[:, :, :1], pack=lambda data: b"")
    volume.path.write_bytes(
        packer.compress(HEAD)
        + b"".join(packer.compress(bytes(1 << 20)) for _ in range(400))
        + packer.flush()
    )
    script = f"""
import resource, numpy as np
from pathlib import Path
from renal_ray.imaging.geometry.grid import Grid
from renal_ray.imaging.images.voxels import Voxels
grid = Grid((512, 512, 40), np.zeros(3), np.eye(3))
path = Path({str(volume.path)!r})
volume = Voxels(path, grid, np.dtype("<i2"), "test volume", 0, 17, "deflated")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
volume.take(0, np.arange(3)), volume.hits(1, [1]), volume.values()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, encoding="utf-8", check=True
    )
    assert int(done.stdout) < 60 * 1024
