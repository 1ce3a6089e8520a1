"""Tilted and oblique acquisitions brought to straight axial slices, against SciPy on the whole
volume and a ball of known size."""

from dataclasses import replace
from itertools import product

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from dicom_files import AXIAL, ct_slice, save, write_seg
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

from renal_ray.config import Cohort, Selection
from renal_ray.imaging.geometry.grid import AXIAL_DISPLAY, Grid, turn_to_axial
from renal_ray.imaging.geometry.resample import resample_linear, resample_nearest, straight_grid
from renal_ray.imaging.patient import read_patient
from renal_ray.problems import Code, PatientError

EVERYTHING = Selection(min_area_fraction=0)
CENTRE, RADIUS = np.array([4.0, -6.0, 12.0]), 11.0  # of the ball, mm


def turned(degrees: float) -> np.ndarray:
    a = np.deg2rad(degrees)
    return np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])


def ball_on(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """HU and mask of a ball in water, sampled at a grid's voxels."""
    index = np.stack(np.mgrid[tuple(slice(n) for n in grid.shape)], axis=-1).reshape(-1, 3)
    distance = np.linalg.norm(grid.origin + index @ grid.steps - CENTRE, axis=1).reshape(grid.shape)
    return np.where(distance < RADIUS, 100, 0).astype(np.int16), distance < RADIUS


def oblique_grid(degrees: float) -> Grid:
    steps = AXIAL_DISPLAY * np.array([2.0, 0.9, 0.9])[:, None] @ turned(degrees)
    shape = (24, 60, 60)
    return Grid(shape, CENTRE - np.array(shape) / 2 @ steps, steps)


def tilted_grid(degrees: float) -> Grid:
    """The gantry leans, the table runs along the patient."""
    steps = AXIAL_DISPLAY * np.array([2.0, 0.9, 0.9])[:, None]
    steps = np.stack([steps[0], *(steps[1:] @ turned(degrees))])
    shape = (24, 60, 60)
    return Grid(shape, CENTRE - np.array(shape) / 2 @ steps, steps)


@pytest.mark.parametrize(
    "grid",
    [oblique_grid(20), tilted_grid(-15), oblique_grid(0)],
    ids=["oblique", "tilted", "straight"],
)
def test_linear_resampling_is_scipys_on_the_whole_volume(grid):
    hu = np.random.default_rng(1).normal(0, 100, grid.shape).astype(np.float32)
    target = straight_grid(grid)
    slices = np.arange(3, target.shape[0], 4)
    reads = []

    def read(wanted: np.ndarray) -> np.ndarray:
        reads.append(len(wanted))
        return hu[wanted]

    got = resample_linear(read, grid, target, slices, most=16)
    for n, k in enumerate(slices):
        index = np.stack(
            np.meshgrid(k, np.arange(target.shape[1]), np.arange(target.shape[2]), indexing="ij"),
            axis=-1,
        ).reshape(-1, 3)
        places = grid.index_of(target.origin + index @ target.steps).T
        expected = map_coordinates(hu, places, order=1, mode="constant", cval=np.nan).reshape(
            target.shape[1:]
        )
        known = np.isfinite(expected) & (got[n] != -1000)
        assert np.allclose(got[n][known], expected[known], atol=1e-2)
        assert (got[n] != -1000).sum() >= np.isfinite(expected).sum()
    assert max(reads) <= 36


def any_grid(rng: np.random.Generator, shape: tuple[int, ...], *, degrees: float = 35) -> Grid:
    """Axes turned at random, and sheared."""
    turn = (
        Rotation.random(random_state=rng.integers(2**31))
        if degrees >= 90
        else Rotation.from_rotvec(rng.normal(0, np.deg2rad(degrees) / 2, 3))
    )
    steps = AXIAL_DISPLAY * rng.uniform(0.5, 4, 3)[:, None] @ turn.as_matrix()
    steps[0] += rng.uniform(-0.3, 0.3) * steps[1]
    return Grid(shape, rng.uniform(-50, 50, 3), steps[rng.permutation(3)])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 30))
def test_blocks_do_not_show_in_the_result(seed, most):
    """Any grid onto any other, some of its slices: as SciPy on the whole volume, each source slice
    read once but for those that two blocks share."""
    rng = np.random.default_rng(seed)
    source = any_grid(rng, tuple(rng.integers(2, 14, 3)), degrees=180)
    target = any_grid(rng, tuple(rng.integers(1, 14, 3)), degrees=180)
    target = replace(
        target,
        origin=source.corners()[1].mean(axis=0) - (np.array(target.shape) - 1) / 2 @ target.steps,
    )  # one lies in the other
    hu = rng.normal(0, 100, source.shape).astype(np.float32)
    slices = np.flatnonzero(rng.random(target.shape[0]) < 0.7)
    reads: list[np.ndarray] = []

    def read(wanted: np.ndarray) -> np.ndarray:
        reads.append(wanted)
        return hu[wanted]

    got = resample_linear(read, source, target, slices, most=most)
    index = np.stack(np.meshgrid(slices, *map(np.arange, target.shape[1:]), indexing="ij"), axis=-1)
    places = np.moveaxis(source.index_of(target.origin + index @ target.steps), -1, 0)
    expected = map_coordinates(hu, places, order=1, mode="nearest")
    margin = np.min(
        [np.minimum(places[axis], source.shape[axis] - 1 - places[axis]) for axis in range(3)],
        axis=0,
    )  # how far inside
    assert np.allclose(got[margin > 1e-6], expected[margin > 1e-6], atol=0.05)
    assert (got[margin < -2e-3] == -1000).all()
    assert all(len(wanted) <= most for wanted in reads)
    read_twice = (
        sum(len(wanted) for wanted in reads) - len(set(np.concatenate(reads).tolist()))
        if reads
        else 0
    )
    assert read_twice <= max(0, len(reads) - 1)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_nearest_resampling_asks_every_voxel_for_its_nearest(seed):
    rng = np.random.default_rng(seed)
    source, target = (
        any_grid(rng, tuple(rng.integers(1, 10, 3)), degrees=180),
        any_grid(rng, tuple(rng.integers(1, 12, 3)), degrees=180),
    )
    target = replace(
        target,
        origin=source.corners()[1].mean(axis=0) - (np.array(target.shape) - 1) / 2 @ target.steps,
    )
    whole = rng.random(source.shape) < 0.3
    whole[rng.random(source.shape[0]) < 0.5] = False
    slices = np.flatnonzero(whole.any(axis=(1, 2)))
    frames = resample_nearest(whole[slices], slices, source, target)
    got = np.stack(
        [frames.get(k, np.zeros(target.shape[1:], bool)) for k in range(target.shape[0])]
    )
    index = np.stack(np.meshgrid(*map(np.arange, target.shape), indexing="ij"), axis=-1)
    places = source.index_of(target.origin + index @ target.steps)
    nearest = np.floor(places + 0.5).astype(int)
    inside = ((nearest >= 0) & (nearest < source.shape)).all(axis=-1)
    expected = np.zeros(target.shape, bool)
    expected[inside] = whole[tuple(nearest[inside].T)]
    undecided = (np.abs(places + 0.5 - np.rint(places + 0.5)) < 1e-6).any(
        axis=-1
    )  # in the middle between two
    assert np.array_equal(got[~undecided], expected[~undecided])
    assert all(frame.any() for frame in frames.values())


def test_simpleitk_resamples_to_the_same_values():
    grid = tilted_grid(-15)
    hu = np.random.default_rng(4).normal(0, 100, grid.shape).astype(np.float32)
    target = straight_grid(grid)
    image, straight = (
        SimpleITK.GetImageFromArray(hu),
        SimpleITK.Image([int(n) for n in target.shape[::-1]], SimpleITK.sitkFloat32),
    )
    for one, its in ((image, grid), (straight, target)):
        one.SetSpacing(its.spacing[::-1].tolist())
        one.SetDirection((its.steps / its.spacing[:, None])[::-1].T.ravel().tolist())
        one.SetOrigin(its.origin.tolist())
    expected = SimpleITK.GetArrayFromImage(
        SimpleITK.Resample(image, straight, SimpleITK.Transform(), SimpleITK.sitkLinear, -1000.0)
    )
    got = resample_linear(lambda wanted: hu[wanted], grid, target, np.arange(target.shape[0]))
    known = (expected != -1000) & (got != -1000)
    assert known.mean() > 0.5
    assert np.abs(got - expected)[known].max() < 0.05
    assert (
        got[expected == -1000] == -1000
    ).all()  # ITK counts half a voxel around the volume as inside, and no less


def test_an_axial_series_whose_slices_were_shifted_keeps_its_planes():
    """Nothing is interpolated between slices that are axial already."""
    steps = np.array([[0, 0.6, -5.0], [0, 0.9, 0], [0.9, 0, 0]])
    grid = Grid((10, 20, 20), np.array([0.0, 0, 100]), steps)
    target = straight_grid(grid)
    assert target.spacing == pytest.approx([5, 0.9, 0.9])
    assert target.position_mm() == pytest.approx(100 - 5 * np.arange(10))


def policies(grid: Grid) -> dict[tuple[str, str], str]:
    """What comes of a grid under each pair of policies for tilt and oblique."""
    outcomes = {}
    for tilt, oblique in product(("refuse", "resample"), repeat=2):
        try:
            outcomes[tilt, oblique] = (
                "resampled" if turn_to_axial(grid, tilt=tilt, oblique=oblique) is None else "read"
            )
        except PatientError as error:
            outcomes[tilt, oblique] = str(error.code)
    return outcomes


def test_each_policy_is_for_its_own_fault():
    """A tilted gantry needs tilt, an oblique volume oblique, and one that is both needs both:
    neither lets the other in."""
    both = tilted_grid(12)
    both = replace(both, steps=both.steps @ Rotation.from_euler("z", 20, degrees=True).as_matrix())
    found = [
        list(policies(grid).values())
        for grid in (oblique_grid(3), oblique_grid(20), tilted_grid(3), tilted_grid(20), both)
    ]
    assert found == [
        ["read", "read", "read", "read"],
        ["not-axial", "resampled", "not-axial", "resampled"],
        ["tilt", "tilt", "resampled", "resampled"],
        ["tilt", "tilt", "resampled", "resampled"],
        ["tilt", "tilt", "not-axial", "resampled"],
    ]


def test_a_single_oblique_slice_is_no_volume():
    with pytest.raises(PatientError, match="single") as caught:
        turn_to_axial(replace(oblique_grid(20), shape=(1, 60, 60)), oblique="resample")
    assert caught.value.code is Code.NOT_AXIAL


def test_a_header_that_would_make_an_absurd_image(tmp_path):
    """Voxels of 0.02 and 80 mm, oblique: straight pixels of 0.02 mm over metres."""
    steps = AXIAL_DISPLAY * np.array([2.0, 80, 0.02])[:, None] @ turned(20)
    grid = Grid((24, 60, 60), np.zeros(3), steps)
    write_nifti(tmp_path, grid)
    nib.save(
        nib.Nifti1Image(
            np.full(grid.shape, 2, np.uint8), nib.load(tmp_path / "mask.nii.gz").affine
        ),
        tmp_path / "mask.nii.gz",
    )
    with pytest.raises(PatientError) as caught:
        read_patient(
            tmp_path / "ct.nii.gz",
            tmp_path / "mask.nii.gz",
            cohort=Cohort(manifest="unused.csv", oblique="resample"),
            selection=EVERYTHING,
        )
    assert caught.value.code is Code.TOO_LARGE


@pytest.mark.parametrize("grid", [oblique_grid(25), tilted_grid(18)], ids=["oblique", "tilted"])
def test_the_straight_grid_covers_the_other_and_is_straight(grid):
    target = straight_grid(grid)
    units = target.steps / target.spacing[:, None]
    assert np.allclose(units, AXIAL_DISPLAY)
    places = target.index_of(grid.corners()[1])
    assert places.min() > -1
    assert (places.max(axis=0) < np.array(target.shape)).all()


@pytest.mark.parametrize("grid", [oblique_grid(25), tilted_grid(18)], ids=["oblique", "tilted"])
def test_a_ball_keeps_place_and_volume(grid):
    mask = ball_on(grid)[1]
    slices = np.flatnonzero(mask.any(axis=(1, 2)))
    target = straight_grid(grid)
    frames = resample_nearest(mask[slices], slices, grid, target)
    points = np.concatenate(
        [
            np.column_stack([np.full(len(np.nonzero(one)[0]), k), *np.nonzero(one)])
            for k, one in frames.items()
        ]
    )
    volume = len(points) * np.prod(target.spacing)
    assert volume == pytest.approx(4 / 3 * np.pi * RADIUS**3, rel=0.02)
    assert np.abs(target.origin + points.mean(axis=0) @ target.steps - CENTRE).max() < 0.3


def write_dicom(folder, grid: Grid):
    """A DICOM series and a SEG of the ball on a grid."""
    hu, mask = ball_on(grid)
    units = grid.steps / grid.spacing[:, None]
    slices = []
    for k in range(grid.shape[0]):
        place = grid.origin + k * grid.steps[0]
        orientation = (*units[2], *units[1])
        slices.append(
            ct_slice(
                folder / f"ct/{k:03d}.dcm",
                (hu[k] + 1024).astype(np.int16),
                place,
                series="1.2.3.9",
                orientation=orientation,
                spacing=tuple(grid.spacing[1:]),
            )
        )
        save(slices[-1])
    frames = [
        (1, slices[k], mask[k].astype(np.uint8)) for k in np.flatnonzero(mask.any(axis=(1, 2)))
    ]
    write_seg(folder / "seg.dcm", frames, orientation=slices[0].ImageOrientationPatient)


def write_nifti(folder, grid: Grid):
    hu, mask = ball_on(grid)
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = (grid.steps * [-1, -1, 1]).T, grid.origin * [-1, -1, 1]
    for name, values in (("ct.nii.gz", hu), ("mask.nii.gz", mask.astype(np.uint8) * 2)):
        item = nib.Nifti1Image(values, None)
        item.set_sform(affine, 1)
        nib.save(item, folder / name)


@pytest.mark.parametrize(
    ("grid", "key", "code"),
    [(oblique_grid(20), "oblique", Code.NOT_AXIAL), (tilted_grid(15), "tilt", Code.TILT)],
    ids=["oblique", "tilted"],
)
@pytest.mark.parametrize("kind", ["dicom", "nifti"])
def test_a_patient_is_refused_or_straightened_as_the_study_says(tmp_path, kind, grid, key, code):
    (write_dicom if kind == "dicom" else write_nifti)(tmp_path, grid)
    image, mask = (
        (tmp_path / "ct", tmp_path / "seg.dcm")
        if kind == "dicom"
        else (tmp_path / "ct.nii.gz", tmp_path / "mask.nii.gz")
    )
    with pytest.raises(PatientError) as caught:
        read_patient(image, mask, cohort=Cohort(manifest="unused.csv"), selection=EVERYTHING)
    assert caught.value.code is code
    got = read_patient(
        image, mask, cohort=Cohort(manifest="unused.csv", **{key: "resample"}), selection=EVERYTHING
    )
    assert Code.IMAGE_RESAMPLED in {finding.code for finding in got.findings}
    assert got.lesion_area_mm2.max() == pytest.approx(np.pi * RADIUS**2, rel=0.05)
    assert got.max_diameter_mm == pytest.approx(2 * RADIUS, abs=1.2)
    assert got.hu[got.mask].mean() > 90
    assert np.median(np.diff(got.position_mm)) == pytest.approx(-2.0, abs=1e-3)


def test_coronal_slices_are_resampled_when_asked(tmp_path):
    steps = np.array([[0, 2.0, 0], [0, 0, -0.9], [0.9, 0, 0]])
    grid = Grid((24, 60, 60), CENTRE - np.array([12, 30, 30]) @ steps, steps)
    write_dicom(tmp_path, grid)
    with pytest.raises(PatientError, match="coronal"):
        read_patient(
            tmp_path / "ct",
            tmp_path / "seg.dcm",
            cohort=Cohort(manifest="unused.csv"),
            selection=EVERYTHING,
        )
    got = read_patient(
        tmp_path / "ct",
        tmp_path / "seg.dcm",
        cohort=Cohort(manifest="unused.csv", oblique="resample"),
        selection=EVERYTHING,
    )
    assert got.spacing_mm == pytest.approx(
        (0.9, 0.9)
    )  # the series' slices are 2 mm apart: axial pixels are square all the same
    assert got.lesion_area_mm2.max() == pytest.approx(np.pi * RADIUS**2, rel=0.05)
    assert tuple(AXIAL)[:3] == (1, 0, 0)
