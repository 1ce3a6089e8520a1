"""NIfTI, NRRD and MetaImage headers: read as SimpleITK and nibabel read them, or refused."""

import bz2
import gzip
import io
import itertools
import lzma
import tarfile
import zipfile
import zlib

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from renal_ray.config import Cohort
from renal_ray.imaging.images.open import open_image
from renal_ray.imaging.images.source import References
from renal_ray.imaging.images.volume import open_volume_image, open_voxels
from renal_ray.imaging.masks.open import open_mask
from renal_ray.problems import Code, PatientError

COHORT = Cohort(manifest="unused.csv")


def refused(path) -> Code:
    with pytest.raises(PatientError) as caught:
        open_voxels(path)
    return caught.value.code


NRRD = (
    b"NRRD0004\n# a comment: space: right-anterior-superior\ntype: short\n"
    b"dimension: 3\nspace: left-posterior-superior\nsizes: 2 3 4\n"
    b"space directions: (0,0.5,0) (0,0,0.6) (2,0,0)\nkinds: domain domain domain\n"
    b"endian: little\nencoding: raw\nspace origin: (1,2,3)\n"
    b"type:=double: of no meaning\n\n"
)
META = (
    b"ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\n"
    b"CompressedData = False\nTransformMatrix = 0 1 0 0 0 1 1 0 0\n"
    b"Offset = 1 2 3\nAnatomicalOrientation = RAI\nElementSpacing = 0.5 0.6 2\nDimSize "
    b"= 2 3 4\nElementType = MET_SHORT\nElementDataFile = LOCAL\n"
)
SMALL = (np.arange(24).reshape(4, 3, 2) - 5).astype("<i2")
PACKED = zlib.compress(SMALL.tobytes())


@pytest.mark.parametrize(
    ("start", "change", "values"),
    [
        (NRRD, (), SMALL),
        (NRRD, ((b"\n", b"\r\n"),), SMALL),
        (NRRD, ((b"left-posterior-superior\ns", b"RAS\ns"),), SMALL),
        (NRRD, ((b"left-posterior-superior\ns", b"left-anterior-superior\ns"),), SMALL),
        (
            NRRD,
            ((b"little", b"big"), (b"type: short", b"type: unsigned int")),
            abs(SMALL).astype(">u4"),
        ),
        (NRRD, ((b"type: short", b"type: double"),), SMALL.astype("<f8")),
        (NRRD, ((b"type: short", b"type: int8"), (b"endian: little\n", b"")), SMALL.astype("i1")),
        (NRRD, ((b"encoding: raw", b"encoding: gz"),), gzip.compress(SMALL.tobytes())),
        (NRRD, ((b"encoding", b"byte skip: 3\nencoding"),), b"abc" + SMALL.tobytes()),
        (NRRD, ((b"encoding", b"byteskip: -1\nencoding"),), b"abc" + SMALL.tobytes()),
        (META, (), SMALL),
        (META, ((b"\n", b"\r\n"),), SMALL),
        (META, ((b" = ", b": "),), SMALL),
        (
            META,
            (
                (b"BinaryData = True\n", b""),
                (b"Offset", b"Position"),
                (b"TransformMatrix", b"Orientation"),
            ),
            SMALL,
        ),
        (META, ((b"MSB = False", b"MSB = True"),), SMALL.astype(">i2")),
        (
            META,
            (
                (b"BinaryDataByteOrderMSB = False", b"ElementByteOrderMSB = True"),
                (b"SHORT", b"FLOAT"),
            ),
            SMALL.astype(">f4"),
        ),
        (META, ((b"SHORT", b"LONG"),), SMALL.astype("<i4")),
        (META, ((b"SHORT", b"ULONG_LONG"),), abs(SMALL).astype("<u8")),
        (
            META,
            (
                (
                    b"CompressedData = False",
                    b"CompressedData = True\nCompressedDataSize = %d" % len(PACKED),
                ),
            ),
            PACKED,
        ),
        (
            META,
            ((b"ElementDataFile", b"HeaderSize = -1\nElementDataFile"),),
            b"abc" + SMALL.tobytes(),
        ),
    ],
)
def test_simpleitk_sees_the_same_volume(tmp_path, start, change, values):
    for old, new in change:
        assert old in start
        start = start.replace(old, new)
    path = tmp_path / ("a.nrrd" if start.startswith(b"NRRD") else "a.mha")
    path.write_bytes(start + (values if isinstance(values, bytes) else values.tobytes()))
    theirs, ours = SimpleITK.ReadImage(str(path)), open_voxels(path)
    taken = ours.take(2, np.arange(4))
    assert np.array_equal(taken, SimpleITK.GetArrayFromImage(theirs).T)
    for index in itertools.product((0, 1), (0, 2), (0, 3)):
        assert np.allclose(
            ours.grid.origin + index @ ours.grid.steps, theirs.TransformIndexToPhysicalPoint(index)
        )


@pytest.mark.parametrize("ending", [".nhdr", ".mhd"])
@pytest.mark.parametrize("compressed", [False, True])
def test_detached_data_as_simpleitk_writes_them(tmp_path, ending, compressed):
    path = tmp_path / f"a{ending}"
    values = np.random.default_rng(0).integers(-200, 300, (7, 11, 9)).astype(np.int16)
    image = SimpleITK.GetImageFromArray(values)
    image.SetOrigin((1, 2, 3))
    SimpleITK.WriteImage(image, str(path), useCompression=compressed)
    assert len(list(tmp_path.iterdir())) == 2
    assert np.array_equal(open_voxels(path).take(0, np.arange(9)), values.T)


@pytest.mark.parametrize(
    ("start", "change", "code"),
    [
        (NRRD, (b"left-posterior-superior\ns", b"scanner-xyz\ns"), Code.NO_POSITION),
        (NRRD, (b"space origin: (1,2,3)\n", b""), Code.NO_POSITION),
        (NRRD, (b"space origin: (1,2,3)", b"space origin: (nan,2,3)"), Code.NO_POSITION),
        (NRRD, (b"(2,0,0)", b"(2,0.4,0)"), None),
        (NRRD, (b"(2,0,0)", b"(0,0.5,0)"), Code.NO_POSITION),
        (NRRD, (b"(2,0,0)", b"none"), Code.FILE_UNREADABLE),
        (NRRD, (b"(2,0,0)", b"(0,0,0)"), Code.NO_PIXEL_SPACING),
        (NRRD, (b"kinds", b'space units: "m" "m" "m"\nkinds'), Code.NO_PIXEL_SPACING),
        (NRRD, (b"encoding: raw", b"encoding: hex"), Code.FILE_UNREADABLE),
        (NRRD, (b"encoding", b"line skip: 1\nencoding"), Code.FILE_UNREADABLE),
        (NRRD, (b"encoding: raw", b"encoding: gzip\nbyte skip: 5"), Code.FILE_UNREADABLE),
        (NRRD, (b"encoding", b"sizes: 2 3 4\nencoding"), Code.FILE_UNREADABLE),
        (NRRD, (b"endian: little\n", b""), Code.FILE_UNREADABLE),
        (NRRD, (b"sizes: 2 3 4", b"sizes: 2 3 5"), Code.FILE_TRUNCATED),
        (NRRD, (b"sizes: 2 3 4", b"sizes: 2 3 -4"), Code.FILE_UNREADABLE),
        (NRRD, (b"NRRD0004", b"NOTHING"), Code.FILE_UNREADABLE),
        (META, (b"Offset", b"Nowhere"), Code.NO_POSITION),
        (META, (b"TransformMatrix = 0 1 0 0 0 1 1 0 0\n", b""), Code.NO_POSITION),
        (
            META,
            (b"ElementSpacing", b"ElementSize"),
            Code.NO_PIXEL_SPACING,
        ),  # how long a voxel is, not how far the next one
        (META, (b"BinaryData = True", b"BinaryData = False"), Code.FILE_UNREADABLE),
        (META, (b"DimSize", b"ElementToIntensityFunctionSlope = 2\nDimSize"), Code.NO_RESCALE),
        (META, (b"DimSize", b"ElementNumberOfChannels = 3\nDimSize"), Code.FILE_UNREADABLE),
        (META, (b"DimSize = 2 3 4", b"DimSize = 60000 60000 1000"), Code.TOO_LARGE),
        (META, (b"DimSize = 2 3 4", b"DimSize = 2 3"), Code.FILE_UNREADABLE),
        (META, (b"LOCAL", b"LIST"), Code.FILE_UNREADABLE),
        (META, (b"LOCAL", b"slice%03d.raw 1 4 1"), Code.FILE_UNREADABLE),
        (META, (b"ElementDataFile", b"Comment"), Code.FILE_UNREADABLE),
    ],
)
def test_what_a_header_leaves_open_is_refused(tmp_path, start, change, code):
    assert change[0] in start
    path = tmp_path / ("a.nrrd" if start is NRRD else "a.mha")
    path.write_bytes(start.replace(*change) + SMALL.tobytes())
    if code is None:  # sheared, for the study to decide
        with pytest.raises(PatientError) as caught:
            open_volume_image(path, COHORT)
        assert caught.value.code is Code.TILT
    else:
        assert refused(path) is code


def as_nifti(path, one, change) -> None:
    """A NIfTI file of counting voxels, 4 x 3 x 5, whose header is changed last."""
    one.set_data_shape((4, 3, 5))
    one.set_data_dtype(np.int16)
    one.set_sform(np.diag([-0.7, -0.8, 3, 1]), 1)
    second = isinstance(one, nib.Nifti2Header)
    one["magic"], one["vox_offset"] = (b"n+2", 544) if second else (b"n+1", 352)
    change(one)
    path.write_bytes(
        one.binaryblock + bytes(4) + np.arange(60).astype(one.get_data_dtype()).tobytes()
    )


def set_fields(**fields):
    def change(one):
        for name, value in fields.items():
            one[name] = value

    return change


def qform_alone(one):
    one.set_sform(None, 0)
    one.set_qform(np.diag([-0.7, -0.8, 3, 1]), 1)


@pytest.mark.parametrize(
    ("change", "factor", "spacing"),
    [
        (set_fields(), (1, 0), 3),
        (qform_alone, (1, 0), 3),
        (set_fields(scl_slope=2, scl_inter=-7), (2, -7), 3),
        (set_fields(scl_slope=0, scl_inter=-7), (1, 0), 3),
        (set_fields(scl_slope=np.nan, scl_inter=np.nan), (1, 0), 3),
        (set_fields(xyzt_units=2), (1, 0), 3),
        (set_fields(xyzt_units=0), (1, 0), 3),
        (
            set_fields(
                xyzt_units=1,
                srow_x=[-7e-4, 0, 0, 0],
                srow_y=[0, -8e-4, 0, 0],
                srow_z=[0, 0, 3e-3, 0],
            ),
            (1, 0),
            3,
        ),
        (
            set_fields(
                xyzt_units=3, srow_x=[-700, 0, 0, 0], srow_y=[0, -800, 0, 0], srow_z=[0, 0, 3000, 0]
            ),
            (1, 0),
            3,
        ),
    ],
)
@pytest.mark.parametrize("kind", [nib.Nifti1Header, nib.Nifti2Header])
@pytest.mark.parametrize("order", ["<", ">"])
def test_nifti_headers_that_are_read(tmp_path, kind, order, change, factor, spacing):
    as_nifti(tmp_path / "a.nii", kind(endianness=order), change)
    volume = open_voxels(tmp_path / "a.nii")
    assert np.array_equal(
        volume.take(2, np.arange(5)).ravel(order="F"), np.arange(60) * factor[0] + factor[1]
    )
    assert volume.grid.spacing == pytest.approx([0.7, 0.8, spacing])
    assert np.sign(np.diag(volume.grid.steps)).tolist() == [
        1,
        1,
        1,
    ]  # to the left, to the back, to the head
    (tmp_path / "a.nii.gz").write_bytes(
        (tmp_path / "a.nii").read_bytes()
    )  # not compressed, whatever its name says
    assert np.array_equal(
        open_voxels(tmp_path / "a.nii.gz").take(0, np.arange(4)), volume.take(0, np.arange(4))
    )


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (set_fields(scl_slope=2, scl_inter=np.nan), Code.NO_RESCALE),
        (set_fields(srow_x=[-700, 0, 0, 0]), Code.NO_PIXEL_SPACING),
        (set_fields(srow_x=[0, 0, 0, 0]), Code.NO_PIXEL_SPACING),
        (set_fields(srow_x=[np.nan, 0, 0, 0]), Code.NO_POSITION),
        (set_fields(srow_x=[0, 0, 3, 0]), Code.NO_PIXEL_SPACING),
        (set_fields(srow_x=[1, 1, 0, 0], srow_y=[1, 1, 0, 0]), Code.NO_POSITION),
        (set_fields(srow_x=[-0.7, 0, 0, 1e7]), Code.NO_POSITION),
        (set_fields(sform_code=0, qform_code=0), Code.NO_POSITION),
        (set_fields(magic=b"ni1"), Code.FILE_UNREADABLE),  # the voxels are in an .img file
        (set_fields(datatype=128, bitpix=24), Code.FILE_UNREADABLE),  # colours
        (set_fields(vox_offset=1e9), Code.FILE_UNREADABLE),
        (set_fields(vox_offset=np.nan), Code.FILE_UNREADABLE),
        (set_fields(xyzt_units=7), Code.FILE_UNREADABLE),
        (set_fields(dim=[4, 4, 3, 5, 2, 1, 1, 1]), Code.FILE_UNREADABLE),
        (set_fields(dim=[3, 4, 3, 0, 1, 1, 1, 1]), Code.FILE_UNREADABLE),
        (set_fields(dim=[3, 4, 3, 6, 1, 1, 1, 1]), Code.FILE_TRUNCATED),
    ],
)
def test_nifti_headers_that_are_refused(tmp_path, change, code):
    as_nifti(tmp_path / "a.nii", nib.Nifti1Header(), change)
    assert refused(tmp_path / "a.nii") is code


def test_the_unit_is_that_of_the_origin_too(tmp_path):
    metres = set_fields(
        xyzt_units=1, srow_x=[-7e-4, 0, 0, 0.02], srow_y=[0, -8e-4, 0, 0], srow_z=[0, 0, 3e-3, -0.1]
    )
    as_nifti(tmp_path / "a.nii", nib.Nifti1Header(), metres)
    assert open_voxels(tmp_path / "a.nii").grid.origin == pytest.approx([-20, 0, -100], abs=1e-4)


def qform(header, **fields):
    """Beside the sform, the same place as a qform, then some of its fields changed."""
    header.set_qform(np.diag([-0.7, -0.8, 3, 1]), 1)
    set_fields(**fields)(header)


def quaternion(*bcd):
    return dict(zip(("quatern_b", "quatern_c", "quatern_d"), bcd, strict=True))


@pytest.mark.parametrize("kind", [nib.Nifti1Header, nib.Nifti2Header])
@pytest.mark.parametrize(
    "fields",
    [
        quaternion(0, 0, 1.00000024),
        quaternion(0, 0, 1.000001),
        quaternion(0, 0, 2),
        quaternion(0, 0, np.nan),
        {"pixdim": [1, -0.7, -0.8, -3, 1, 1, 1, 1]},
        {"pixdim": [1, 0.7, 0.8, 0, 1, 1, 1, 1]},
        {"pixdim": [1, 0.7, 0.8, np.nan, 1, 1, 1, 1]},
        {"pixdim": [1, 0.7, 0.8, 1e9, 1, 1, 1, 1]},
        {"qoffset_x": np.inf},
    ],
)
@pytest.mark.parametrize("code", [0, 1])
def test_a_qform_that_gives_no_place_says_nothing_beside_a_sform(tmp_path, kind, fields, code):
    as_nifti(tmp_path / "a.nii", kind(), lambda one: qform(one, **fields, qform_code=code))
    volume = open_voxels(tmp_path / "a.nii")
    assert volume.grid.steps == pytest.approx(np.diag([0.7, 0.8, 3]))
    assert np.array_equal(volume.take(2, np.arange(5)).ravel(order="F"), np.arange(60))


@pytest.mark.parametrize("kind", [nib.Nifti1Header, nib.Nifti2Header])
@pytest.mark.parametrize(
    "direction", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0.6, 0, 0.8), (0.36, 0.48, 0.8)]
)
@pytest.mark.parametrize("longer", [0, 1.2e-7, 2.4e-7, 1e-6, 9e-6])
def test_a_quaternion_that_rounding_made_longer_is_brought_back_to_1(
    tmp_path, kind, direction, longer
):
    """As nibabel reads the one of length 1: half a turn about the direction."""
    fields = quaternion(*(np.array(direction) * (1 + longer)))
    as_nifti(tmp_path / "a.nii", kind(), lambda one: qform(one, **fields, sform_code=0))
    axis = np.array(direction)
    turn = 2 * np.outer(axis, axis) - np.eye(3)  # half a turn
    expected = (turn @ np.diag([0.7, 0.8, 3])).T * [-1, -1, 1]
    assert open_voxels(tmp_path / "a.nii").grid.steps == pytest.approx(
        expected, abs=3e-3
    )  # a float32 just below 1 leaves a real turn of 5e-4


@pytest.mark.parametrize(
    "fields",
    [
        quaternion(0, 0, 1.1),
        {"pixdim": [1, 0.7, 0.8, 0, 1, 1, 1, 1]},
        {"pixdim": [1, -0.7, 0.8, 3, 1, 1, 1, 1]},
        quaternion(0, np.nan, 0),
        {"qoffset_z": np.nan},
    ],
)
def test_a_qform_alone_that_gives_no_place_is_refused_by_name(tmp_path, fields):
    as_nifti(tmp_path / "a.nii", nib.Nifti1Header(), lambda one: qform(one, **fields, sform_code=0))
    with pytest.raises(PatientError, match="qform") as caught:
        open_voxels(tmp_path / "a.nii")
    assert caught.value.code is Code.NO_POSITION


def test_two_good_transforms_that_contradict_each_other_are_refused(tmp_path):
    as_nifti(tmp_path / "a.nii", nib.Nifti1Header(), lambda one: qform(one, qoffset_z=3))
    with pytest.raises(PatientError, match="sform and the qform") as caught:
        open_voxels(tmp_path / "a.nii")
    assert caught.value.code is Code.NO_POSITION
    as_nifti(
        tmp_path / "a.nii", nib.Nifti1Header(), lambda one: qform(one, qoffset_z=1)
    )  # a third of a voxel
    assert open_voxels(tmp_path / "a.nii").grid.origin[2] == 0


@pytest.mark.parametrize("shape", [(9000, 2, 2), (2, 2, 9000), (6000, 6000, 1), (3000, 3000, 300)])
def test_more_voxels_than_any_series_has(tmp_path, shape):
    """In one axis, in a plane, and in all; the file would be as large as it says."""
    path = tmp_path / "a.nii"
    as_nifti(path, nib.Nifti1Header(), set_fields(dim=[3, *shape, 1, 1, 1, 1]))
    with path.open("r+b") as file:
        file.truncate(352 + 2 * int(np.prod(shape)))  # sparse: it takes no room
    assert refused(path) is Code.TOO_LARGE


def packed_as(kind: str, data: bytes, path) -> None:
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.nii", data)
    elif kind in ("tar", "tar.gz"):
        with tarfile.open(path, "w:gz" if kind == "tar.gz" else "w") as archive:
            info = tarfile.TarInfo("a.nii")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    else:
        path.write_bytes(
            {
                "gz": gzip.compress,
                "bz2": bz2.compress,
                "xz": lzma.compress,
                "7z": lambda data: b"7z\xbc\xaf\x27\x1c\0\4" + data,
            }[kind](data)
        )


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "gz", "bz2", "xz", "7z"])
@pytest.mark.parametrize(
    "name", ["a.dcm", "a", "a.nii.packed", "a.nii", "a.nii.gz", "a.nrrd", "a.mha"]
)
def test_packed_files_are_told_as_such(tmp_path, kind, name):
    """Whatever they are called, as an image and as a mask; a .nii or .nii.gz may be packed by gzip
    once."""
    as_nifti(tmp_path / "whole.nii", nib.Nifti1Header(), set_fields())
    data = (tmp_path / "whole.nii").read_bytes()
    packed_as(
        kind,
        gzip.compress(data) if name.startswith("a.nii") and kind == "gz" else data,
        tmp_path / name,
    )
    for read in (
        lambda path: open_image(path, References(), COHORT),
        lambda path: open_mask(path, COHORT),
    ):
        with pytest.raises(PatientError, match=r"packed or an archive.*unpack it") as caught:
            read(tmp_path / name)
        assert caught.value.code is Code.FILE_UNREADABLE


def test_a_folder_of_packed_files_is_told_as_such(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.dcm.gz").write_bytes(gzip.compress(b"x" * 1000))
    for read in (
        lambda path: open_image(path, References(), COHORT),
        lambda path: open_mask(path, COHORT),
    ):
        with pytest.raises(PatientError, match="what it holds is packed or an archive"):
            read(tmp_path / "in")
