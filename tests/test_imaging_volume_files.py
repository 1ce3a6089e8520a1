"""NIfTI, NRRD and MetaImage: every storage order, what headers declare, and files that lie."""

import gzip
import itertools
import resource
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from renal_ray.config import Cohort, Selection
from renal_ray.imaging.images.volume import open_voxels
from renal_ray.imaging.patient import read_patient
from renal_ray.problems import Code, PatientError

EVERYTHING = Selection(min_area_fraction=0)
COHORT = Cohort(manifest="unused.csv")
HU = (
    np.random.default_rng(0).integers(-200, 300, (7, 11, 9)).astype(np.int16)
)  # display: slices, rows, columns
MASK = np.zeros(HU.shape, np.uint8)
MASK[2:5, 3:8, 1:4], MASK[3, 4:6, 2] = 2, 0
STEPS = np.array([[0, 0, -3.0], [0, 0.8, 0], [0.7, 0, 0]])  # LPS
ORIGIN = np.array([-12.0, -30.0, 50.0])


def stored(
    values: np.ndarray, axes: tuple[int, ...], flips: tuple[bool, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The display array in another storage order, with its steps and origin in LPS."""
    origin = ORIGIN + sum(
        (STEPS[axis] * (values.shape[axis] - 1) for axis in range(3) if flips[axis]), np.zeros(3)
    )
    steps = np.array([-STEPS[axis] if flips[axis] else STEPS[axis] for axis in axes])
    turned = values[tuple(slice(None, None, -1 if flip else 1) for flip in flips)].transpose(axes)
    return np.ascontiguousarray(turned), steps, origin


def save(path, values, steps, origin) -> None:
    if path.name.endswith((".nii", ".nii.gz")):
        affine = np.eye(4)
        affine[:3, :3], affine[:3, 3] = (steps * [-1, -1, 1]).T, origin * [-1, -1, 1]
        nib.save(nib.Nifti1Image(values, affine), path)
        return
    image = SimpleITK.GetImageFromArray(values)
    spacing = np.linalg.norm(steps, axis=1)
    image.SetSpacing(spacing[::-1].tolist())
    image.SetDirection((steps / spacing[:, None])[::-1].T.ravel().tolist())
    image.SetOrigin(origin.tolist())
    SimpleITK.WriteImage(image, str(path), useCompression=path.suffix == ".nrrd")


ORIENTATIONS = list(
    itertools.product(itertools.permutations(range(3)), itertools.product((False, True), repeat=3))
)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".mha", ".mhd"])
def test_all_48_orientations_are_one_patient(tmp_path, ending):
    for number, (axes, flips) in enumerate(ORIENTATIONS):
        other_axes, other_flips = ORIENTATIONS[
            (number * 7 + 5) % 48
        ]  # the mask has an orientation of its own
        save(tmp_path / f"ct{ending}", *stored(HU, axes, flips))
        save(tmp_path / f"mask{ending}", *stored(MASK, other_axes, other_flips))
        got = read_patient(
            tmp_path / f"ct{ending}",
            tmp_path / f"mask{ending}",
            cohort=COHORT,
            selection=EVERYTHING,
        )
        assert got.slice_index.tolist() == [2, 3, 4], (axes, flips)
        assert np.array_equal(got.hu, HU[2:5]), (axes, flips)
        assert np.array_equal(got.mask, MASK[2:5] == 2), (axes, flips)
        assert got.position_mm.tolist() == [44, 41, 38]
        assert got.spacing_mm == pytest.approx((0.8, 0.7))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float32, np.float64, ">i2"])
def test_label_maps_of_any_type(tmp_path, dtype):
    save(tmp_path / "ct.nii.gz", *stored(HU, (0, 1, 2), (False,) * 3))
    values, steps, origin = stored(MASK, (2, 1, 0), (True, False, True))
    save(tmp_path / "mask.nii.gz", values.astype(dtype), steps, origin)
    got = read_patient(
        tmp_path / "ct.nii.gz", tmp_path / "mask.nii.gz", cohort=COHORT, selection=EVERYTHING
    )
    assert np.array_equal(got.mask, MASK[2:5] == 2)


def refused(path) -> Code:
    with pytest.raises(PatientError) as caught:
        open_voxels(path)
    return caught.value.code


def header(shape=(7, 11, 9), **fields) -> bytearray:
    one = nib.Nifti1Header()
    one.set_data_shape(shape)
    one.set_data_dtype(np.int16)
    one.set_sform(np.diag([1.0, 1, 1, 1]), 1)
    one["magic"], one["vox_offset"] = b"n+1", 352
    for name, value in fields.items():
        one[name] = value
    return bytearray(one.binaryblock + b"\0\0\0\0")


def test_a_small_file_that_claims_everything_costs_nothing(tmp_path):
    lie = header()
    lie[42:48] = np.array([30000, 30000, 1000], "<i2").tobytes()
    (tmp_path / "a.nii").write_bytes(lie + b"\0" * 10_000)
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(bytes(lie) + b"\0" * 100_000))
    (tmp_path / "c.nii.gz").write_bytes(
        gzip.compress(bytes(header((2048, 2048, 400))) + b"\0" * 100_000)
    )
    (tmp_path / "d.nrrd").write_bytes(
        b"NRRD0004\ntype: short\ndimension: 3\nspace: "
        b"left-posterior-superior\nsizes: 60000 60000 1000\n"
        b"space directions: (1,0,0) (0,1,0) (0,0,1)\nspace origin: "
        b"(0,0,0)\nendian: little\nencoding: gzip\n\n" + gzip.compress(b"\0" * 10_000)
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert {refused(tmp_path / name) for name in ("a.nii", "b.nii.gz", "d.nrrd")} == {
        Code.TOO_LARGE
    }
    assert refused(tmp_path / "c.nii.gz") is Code.FILE_TRUNCATED
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024


def test_headers_that_contradict_themselves(tmp_path):
    affine = np.diag([1.0, 1, 3, 1])
    image = nib.Nifti1Image(np.zeros((4, 4, 4), np.int16), affine)
    image.set_sform(affine, 1)
    shifted = affine.copy()
    shifted[0, 3] = 40
    image.set_qform(shifted, 1)
    nib.save(image, tmp_path / "two.nii")
    assert refused(tmp_path / "two.nii") is Code.NO_POSITION
    image.set_qform(affine, 1)
    nib.save(image, tmp_path / "one.nii")
    assert open_voxels(tmp_path / "one.nii").grid.shape == (4, 4, 4)
    (tmp_path / "inside.nii").write_bytes(header(vox_offset=10) + b"\0" * 2000)
    assert refused(tmp_path / "inside.nii") is Code.FILE_UNREADABLE


def test_a_data_file_may_not_lie_outside(tmp_path):
    (tmp_path / "secret.raw").write_bytes(b"\0" * 2000)
    folder = tmp_path / "data"
    folder.mkdir()
    text = (
        "ObjectType = Image\nNDims = 3\nDimSize = 4 4 4\nElementType = MET_SHORT\n"
        "TransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = 0 0 0\nElementDataFile = {}\n"
    )
    (folder / "a.mhd").write_text(text.format("../secret.raw"), encoding="utf-8")
    (folder / "b.mhd").write_text(text.format(tmp_path / "secret.raw"), encoding="utf-8")
    (folder / "c.mhd").write_text(text.format("absent.raw"), encoding="utf-8")
    assert refused(folder / "a.mhd") is refused(folder / "b.mhd") is Code.PATH_OUTSIDE
    assert refused(folder / "c.mhd") is Code.FILE_MISSING


def test_an_nrrd_without_orientation_is_refused(tmp_path):
    (tmp_path / "a.nrrd").write_bytes(
        b"NRRD0004\ntype: short\ndimension: 3\nsizes: 2 2 2\nendian: little\nencoding: raw\n\n"
        + b"\0" * 16
    )
    assert refused(tmp_path / "a.nrrd") is Code.NO_POSITION


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
def test_a_file_that_ends_early_is_refused(tmp_path, ending):
    whole = np.random.default_rng(3).integers(-500, 500, (40, 30, 20)).astype(np.int16)
    save(tmp_path / f"ct{ending}", whole, STEPS, ORIGIN)
    data = (tmp_path / f"ct{ending}").read_bytes()
    (tmp_path / f"ct{ending}").write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(PatientError) as caught:
        open_voxels(tmp_path / f"ct{ending}").take(0, np.array([39]))
    assert caught.value.code is Code.FILE_TRUNCATED


def test_a_long_case_is_never_whole_in_memory(tmp_path):
    """600 slices of 512 x 512 in the KiTS order: 315 MB of image, 1.2 GB of a label map in double
    precision."""
    script = f"""
import gzip, numpy as np, nibabel as nib
from pathlib import Path
from renal_ray.config import Cohort, Selection
from renal_ray.imaging.patient import read_patient
for name, dtype, fill in (("ct", np.int16, 40), ("mask", np.float64, 0)):
    header = nib.Nifti1Header()
    header.set_data_shape((600, 512, 512)); header.set_data_dtype(dtype)
    header.set_sform(np.array([[0, 0, -0.7, 0], [0, -0.7, 0, 0], [-0.5, 0, 0, 0], [0, 0, 0, 1]]), 1)
    header["magic"], header["vox_offset"] = b"n+1", 352
    with gzip.open(Path({str(tmp_path)!r}) / f"{{name}}.nii.gz", "wb", 1) as file:
        file.write(header.binaryblock + bytes(4))
        for column in range(512):
            plane = np.full((600, 512), fill, dtype, order="F")
            if name == "mask" and 200 <= column < 260:
                plane[280:320, 200:260] = 2
            file.write(plane.tobytes(order="F"))
image, mask = (Path({str(tmp_path)!r}) / name for name in ("ct.nii.gz", "mask.nii.gz"))
got = read_patient(image, mask, cohort=Cohort(manifest="x"), selection=Selection())
assert got.mask.sum() == 40 * 60 * 60, got.mask.sum()
assert got.slice_index[0] == 280, got.slice_index
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(int(peak.split()[1]) // 1024)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, encoding="utf-8", check=True
    )
    assert int(done.stdout) < 500
