"""Masks off the image's voxels: planes at any distances brought to its slices, and what lies beyond
the image."""

from itertools import pairwise
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from dicom_files import ct_slice, save, write_seg
from test_imaging_resample import CENTRE, RADIUS, ball_on, tilted_grid

from renal_ray.config import Cohort, Selection
from renal_ray.imaging.geometry.spans import heights_of, plane_spans
from renal_ray.imaging.patient import read_patient
from renal_ray.problems import Code, PatientError

EVERYTHING = Selection(min_area_fraction=0)
ROWS, COLUMNS, PIXEL = 10, 12, 0.5
TOP = 100.0
ORIGIN = (-10.0, -20.0)


def read(folder: Path, mask: str = "seg.dcm", image: str = "ct.nii", **cohort):
    return read_patient(
        folder / image,
        folder / mask,
        cohort=Cohort(manifest="unused.csv", mask_resample=True, **cohort),
        selection=EVERYTHING,
    )


def refusal(folder: Path, mask: str = "seg.dcm", **cohort) -> PatientError:
    with pytest.raises(PatientError) as caught:
        read_patient(
            folder / "ct.nii",
            folder / mask,
            cohort=Cohort(manifest="unused.csv", **cohort),
            selection=EVERYTHING,
        )
    return caught.value


def whole(got) -> np.ndarray:
    mask = np.zeros((got.n_slices_total, *got.mask.shape[1:]), bool)
    mask[got.slice_index] = got.mask
    return mask


def write_ct(
    folder: Path,
    shape: tuple[int, int, int],
    first: tuple[float, float, float],
    spacing: tuple[float, float, float],
) -> None:
    """A CT in the standard axial display, by its first voxel in mm and the distances of its slices,
    rows and columns."""
    affine = np.array(
        [
            [0, 0, -spacing[2], -first[0]],
            [0, -spacing[1], 0, -first[1]],
            [-spacing[0], 0, 0, first[2]],
            [0, 0, 0, 1],
        ]
    )
    nib.save(nib.Nifti1Image(np.full(shape, 40, np.int16), affine), folder / "ct.nii")


def write_slices(
    folder: Path, heights: np.ndarray, *, aside: float = 0.0, rows: int = ROWS
) -> None:
    """A CT whose slices lie at these heights in mm, the highest first."""
    write_ct(
        folder,
        (len(heights), rows, COLUMNS),
        (ORIGIN[0] + aside, ORIGIN[1], heights[0]),
        (heights[0] - heights[1], PIXEL, PIXEL),
    )


def write_planes(
    folder: Path,
    masks: np.ndarray,
    places: np.ndarray,
    *,
    declared: float | None = None,
    segments: np.ndarray | None = None,
) -> None:
    """A SEG with planes at these places (n, 3)."""
    slices = [
        ct_slice(
            folder / "unused.dcm",
            np.zeros(masks.shape[1:], np.int16),
            (*ORIGIN, TOP),
            series="1.2.9",
        )
    ] * len(masks)
    numbers = np.ones(len(masks), int) if segments is None else segments
    frames = [
        (int(number), one, mask) for number, one, mask in zip(numbers, slices, masks, strict=True)
    ]
    labels = [f"S{number}" for number in range(1, int(numbers.max()) + 1)]
    seg = write_seg(folder / "seg.dcm", frames, positions=places, sources=False, labels=labels)
    if declared is not None:
        seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[
            0
        ].SpacingBetweenSlices = declared
        save(seg)


def at_heights(heights: np.ndarray) -> np.ndarray:
    return np.column_stack(
        [np.full(len(heights), ORIGIN[0]), np.full(len(heights), ORIGIN[1]), heights]
    )


def random_planes(n: int, seed: int = 0) -> np.ndarray:
    masks = np.random.default_rng(seed).random((n, ROWS, COLUMNS)) < 0.4
    masks[:, 4:6, 4:6] = True  # on every plane, so that a slice that falls out is seen
    return masks


def simpleitk_nearest(
    masks: np.ndarray, step: float, heights: np.ndarray, aside: float
) -> np.ndarray:
    """A regular stack from TOP down, resampled to a CT's slices."""
    source, target = (
        SimpleITK.GetImageFromArray(masks[::-1].astype(np.uint8)),
        SimpleITK.Image(COLUMNS, ROWS, len(heights), SimpleITK.sitkUInt8),
    )
    source.SetSpacing((PIXEL, PIXEL, step))
    source.SetOrigin((*ORIGIN, TOP - step * (len(masks) - 1)))
    target.SetSpacing((PIXEL, PIXEL, float(heights[0] - heights[1])))
    target.SetOrigin((ORIGIN[0] + aside, ORIGIN[1], float(heights[-1])))
    made = SimpleITK.Resample(
        source, target, SimpleITK.Transform(), SimpleITK.sitkNearestNeighbor, 0
    )
    return SimpleITK.GetArrayFromImage(made)[::-1].astype(bool)


@pytest.mark.parametrize("jitter", [0.0, 0.01])
@pytest.mark.parametrize(
    ("step", "other", "aside"),
    [
        (0.625, 0.5, 0.0),
        (0.625, 0.625, 0.2),
        (0.488281, 0.39, 0.2),
        (0.7, 0.5, 0.0),
        (1.25, 2.0, 0.0),
        (1 / 3, 0.5, 0.2),
    ],
)
def test_no_plane_falls_out_of_a_long_stack(tmp_path, step, other, aside, jitter):
    """160 planes, a few of them empty: as SimpleITK on the whole stack."""
    masks = random_planes(160)
    masks[[0, 1, 40, 41, 42, 90, 159]] = False
    heights = TOP - step * np.arange(160)
    target = TOP + 0.11 - other * np.arange(int(160 * step / other))
    write_slices(tmp_path, target, aside=aside)
    held = np.flatnonzero(masks.any(axis=(1, 2)))
    noise = np.random.default_rng(1).uniform(-jitter, jitter, 160)
    write_planes(tmp_path, masks[held], at_heights((heights + noise)[held]))
    got = read(tmp_path)
    expected = simpleitk_nearest(masks, step, target, aside)
    between = (
        np.abs((TOP - target) / step % 1 - 0.5) * step < 2 * jitter + 1e-6
    )  # as near to one plane as to the next
    assert between.mean() < 0.25
    assert np.array_equal(whole(got)[~between], expected[~between])
    assert [
        finding.code
        for finding in got.findings
        if finding.code in (Code.MASK_RESAMPLED, Code.REFERENCES_ABSENT)
    ] == [Code.MASK_RESAMPLED]


@pytest.mark.parametrize("lean", [0.0, 0.13])
def test_planes_at_changing_distances_lie_each_at_its_own_place(tmp_path, lean):
    """Distances that grow and jitter, and a stack whose planes are shifted sideways by the gantry's
    tilt: the nearest plane, and there the nearest pixel."""
    rng = np.random.default_rng(2)
    heights = TOP - np.cumsum(
        np.concatenate(
            [[0.0], rng.uniform(0.9, 1.1, 12), rng.uniform(1.6, 2.2, 12), np.full(6, 3.0)]
        )
    )
    masks = random_planes(len(heights), 3)
    target = np.arange(TOP + 0.2, heights[-1] - 1, -0.75)
    write_slices(tmp_path, target)
    places = at_heights(heights)
    places[:, 1] += lean * (TOP - heights)
    write_planes(tmp_path, masks, places)
    got = whole(read(tmp_path)) if not lean else None
    if lean:  # 6 mm sideways: part of it leaves the matrix
        assert refusal(tmp_path, mask_resample=True).code is Code.MASK_BEYOND_IMAGE
        masks[:, 3:] = False
        masks[:, :2, 4:6] = True
        write_slices(tmp_path, target, rows=40)
        write_planes(tmp_path, masks, places)
        got = whole(read(tmp_path))
    expected = np.zeros_like(got)
    for k, height in enumerate(target):
        plane = int(np.abs(heights - height).argmin())
        if heights[-1] - 1.5 <= height <= heights[0] + 0.55:
            rows = np.arange(got.shape[1]) - lean * (TOP - heights[plane]) / PIXEL
            nearest = np.floor(rows + 0.5).astype(int)
            inside = (nearest >= 0) & (nearest < ROWS)
            expected[k, inside] = masks[plane][nearest[inside]]
    assert np.array_equal(got, expected)


def test_a_tilted_image_takes_a_mask_of_other_pixels(tmp_path):
    """A ball drawn on the slices of a tilted series at finer pixels keeps its place and volume."""
    grid, fine = tilted_grid(15), tilted_grid(15)
    fine = type(fine)(
        (24, 120, 120),
        fine.origin - fine.steps[1] / 4 - fine.steps[2] / 4,
        fine.steps / np.array([[1], [2], [2]]),
    )
    units = grid.steps / grid.spacing[:, None]
    turned = (*units[2], *units[1])
    slices = []
    for k, hu in enumerate(ball_on(grid)[0]):
        place = grid.origin + k * grid.steps[0]
        slices.append(
            ct_slice(
                tmp_path / f"ct/{k}.dcm",
                (hu + 1024).astype(np.int16),
                place,
                series="1.2.9",
                orientation=turned,
                spacing=grid.spacing[1:],
            )
        )
        save(slices[-1])
    mask = ball_on(fine)[1]
    held = np.flatnonzero(mask.any(axis=(1, 2)))
    places = [fine.origin + k * fine.steps[0] for k in held]
    seg = write_seg(
        tmp_path / "seg.dcm",
        [(1, slices[k], mask[k]) for k in held],
        orientation=turned,
        positions=places,
        sources=False,
    )
    seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing = fine.spacing[
        1:
    ].tolist()
    save(seg)
    got = read(tmp_path, image="ct", tilt="resample")
    volume = got.lesion_area_mm2.sum() * abs(np.diff(got.position_mm)[0])
    assert volume == pytest.approx(4 / 3 * np.pi * RADIUS**3, rel=0.03)
    assert got.position_mm[got.lesion_area_mm2.argmax()] == pytest.approx(CENTRE[2], abs=2)


def test_one_plane_goes_to_the_nearest_slice_or_as_far_as_it_is_thick(tmp_path):
    write_slices(tmp_path, TOP - 5.0 * np.arange(6))
    masks = random_planes(1)
    write_planes(tmp_path, masks, at_heights(np.array([TOP - 8.0])))
    assert read(tmp_path).slice_index.tolist() == [2]
    write_planes(tmp_path, masks, at_heights(np.array([TOP - 8.0])), declared=9.0)
    assert read(tmp_path).slice_index.tolist() == [1, 2]


def test_planes_of_one_height_are_united_whatever_their_rounding(tmp_path):
    target = TOP + 0.1 - 0.5 * np.arange(40)
    write_slices(tmp_path, target)
    masks, others = random_planes(20, 4), random_planes(20, 5)
    heights = TOP - 0.7 * np.arange(20)
    places = np.concatenate([at_heights(heights - 0.01), at_heights(heights + 0.01)])
    write_planes(tmp_path, np.concatenate([masks, others]), places, segments=np.repeat([1, 2], 20))
    got = whole(read(tmp_path, lesion_segments=[1, 2]))
    for k, height in enumerate(target):
        near = np.abs(heights - height)
        if near.min() < 0.34:
            assert np.array_equal(got[k], (masks | others)[near.argmin()])
    assert refusal(tmp_path, mask_resample=True).code is Code.LESION_UNNAMED


def test_the_spans_of_planes():
    def edges(heights, declared=0.0):
        return plane_spans(np.array(heights, float), declared=declared, alone=2.0).tolist()

    assert edges([5]) == [[4, 6]]
    assert edges([5], declared=3) == [[3.5, 6.5]]
    assert edges([0, 1, 2, 5, 6]) == [
        [-0.5, 0.5],
        [0.5, 1.5],
        [1.5, 2.5],
        [4.5, 5.5],
        [5.5, 6.5],
    ]  # two planes are missing
    assert edges([0, 3, 6]) == [[-1.5, 1.5], [1.5, 4.5], [4.5, 7.5]]
    assert edges([0, 3, 6], declared=1) == [[-0.5, 0.5], [2.5, 3.5], [5.5, 6.5]]
    assert edges([0, 1, 2, 4, 6, 8, 10, 12]) == [
        [-0.5, 0.5],
        [0.5, 1.5],
        [1.5, 3],
        [3, 5],
        [5, 7],
        [7, 9],
        [9, 11],
        [11, 13],
    ]  # thicker from there on
    uneven = edges([0, 1.0, 2.3, 3.2, 4.4, 14.1, 15.2])
    assert [one[1] == other[0] for one, other in pairwise(uneven)] == [
        True,
        True,
        True,
        True,
        False,
        True,
    ]
    assert uneven[4][1] == pytest.approx(5.0)
    heights, which = heights_of(np.array([2.01, 0.0, 1.99, 1.0, 0.01]))
    assert (heights.tolist(), which.tolist()) == ([0.005, 1.0, 2.0], [2, 0, 2, 1, 0])


@pytest.mark.parametrize("step", [0.3, 0.488281, 0.625, 1 / 3, 2.5])
def test_a_jittered_stack_of_a_thousand_planes_does_not_drift(step):
    """A tenth of the planes is missing, here and there."""
    rng = np.random.default_rng(0)
    places = np.sort(rng.choice(1000, 900, replace=False))
    spans = plane_spans(places * step + rng.uniform(-0.01, 0.01, 900), declared=0.0, alone=1.0)
    assert np.array_equal(spans[1:, 0] == spans[:-1, 1], np.diff(places) == 1)
    assert (spans[1:, 0] >= spans[:-1, 1]).all()
    assert spans == pytest.approx(np.stack([places - 0.5, places + 0.5], axis=1) * step, abs=0.03)


@pytest.fixture
def sphere(tmp_path):
    """A label map of a ball, 20 slices 2 mm apart, and where it lies."""
    index = np.stack(np.meshgrid(*map(np.arange, (20, 30, 30)), indexing="ij"), axis=-1)
    mask = np.linalg.norm((index - [10, 15, 15]) * [2.0, 1.0, 1.0], axis=-1) < 9
    mask[10, 15, 5:7] = True  # two voxels more at the right
    affine = np.array([[0, 0, -1.0, 15], [0, -1.0, 0, 15], [-2.0, 0, 0, 140], [0, 0, 0, 1]])
    nib.save(nib.Nifti1Image(mask.astype(np.uint8) * 2, affine), tmp_path / "mask.nii.gz")
    slices = [
        ct_slice(
            tmp_path / "unused.dcm",
            np.zeros((30, 30), np.int16),
            (-15, -15, 140 - 2.0 * k),
            series="1.2.9",
            spacing=(1, 1),
        )
        for k in range(20)
    ]
    held = np.flatnonzero(mask.any(axis=(1, 2)))
    write_seg(tmp_path / "seg.dcm", [(1, slices[k], mask[k]) for k in held], sources=False)
    for k in held:
        item = ct_slice(
            tmp_path / f"series/{k}.dcm",
            mask[k].astype(np.uint16),
            slices[k].ImagePositionPatient,
            series="1.2.8",
            spacing=(1, 1),
            intercept=0,
        )
        save(item)
    return mask


def write_cut(folder: Path, rows: slice, columns: slice, slices: slice) -> None:
    """A CT of a part of the ball's grid."""
    low = [one.start or 0 for one in (slices, rows, columns)]
    shape = [
        len(range(n)[one]) for n, one in zip((20, 30, 30), (slices, rows, columns), strict=True)
    ]
    write_ct(
        folder,
        (shape[0], shape[1], shape[2]),
        (-15.0 + low[2], -15.0 + low[1], 140 - 2.0 * low[0]),
        (2, 1, 1),
    )


ALL = slice(None)


@pytest.mark.parametrize("mask", ["seg.dcm", "mask.nii.gz", "series"])
@pytest.mark.parametrize(
    ("rows", "columns", "slices", "side"),
    [
        (ALL, ALL, slice(8, None), "head"),
        (ALL, ALL, slice(0, 13), "foot"),
        (slice(9, None), ALL, ALL, "front"),
        (slice(0, 20), ALL, ALL, "back"),
        (ALL, slice(10, None), ALL, "right"),
        (ALL, slice(0, 20), ALL, "left"),
    ],
)
def test_a_lesion_beyond_the_image_is_refused_with_share_and_side(
    tmp_path, sphere, mask, rows, columns, slices, side
):
    write_cut(tmp_path, rows, columns, slices)
    inside = sphere[slices, rows, columns].sum() / sphere.sum()
    error = refusal(tmp_path, mask, mask_resample=True)
    assert error.code is Code.MASK_BEYOND_IMAGE
    assert (
        f"{100 * (1 - inside):.3g} % of the lesion lies outside of the image ({side});"
        in error.message
    )
    assert refusal(tmp_path, mask).code is Code.MASK_OFF_GRID


@pytest.mark.parametrize("mask", ["seg.dcm", "mask.nii.gz", "series"])
def test_a_rim_beyond_the_image_is_cut_off_and_said(tmp_path, sphere, mask):
    write_cut(tmp_path, ALL, slice(7, None), ALL)
    share = sphere[:, :, :7].sum() / sphere.sum()
    assert 0 < share < 0.01
    got = read(tmp_path, mask)
    assert np.array_equal(whole(got), sphere[:, :, 7:])
    said = next(finding.message for finding in got.findings if finding.code is Code.MASK_RESAMPLED)
    assert (
        f"{100 * share:.3g} % of the lesion lies outside of the image (right) and was cut off"
        in said
    )
    write_cut(tmp_path, ALL, slice(5, None), ALL)
    said = next(
        finding.message
        for finding in read(tmp_path, mask).findings
        if finding.code is Code.MASK_RESAMPLED
    )
    assert "outside" not in said


def test_what_lies_wholly_beside_the_image_lies_beyond_it(tmp_path, sphere):
    write_cut(tmp_path, ALL, ALL, slice(15, None))
    for mask in ("seg.dcm", "mask.nii.gz", "series"):
        error = refusal(tmp_path, mask, mask_resample=True)
        assert error.code is Code.MASK_BEYOND_IMAGE
        assert error.message.startswith("100 % of the lesion lies outside of the image (head);")


def test_the_refusal_says_how_the_grids_differ(tmp_path, sphere):
    write_cut(tmp_path, ALL, ALL, slice(5, 18))
    assert refusal(tmp_path, "mask.nii.gz").message == (
        "the label map (20 slices of 30 x 30, 2.00 mm apart, pixels of 1.00 "
        "x 1.00 mm) is not on the voxels of the image "
        "(13 slices of 30 x 30, 2.00 mm apart, pixels of 1.00 x 1.00 mm): it differs in "
        "size alone, and where both have voxels they are the same; "
        "use the mask that was drawn on this image, or set cohort.mask_resample"
    )
    write_cut(tmp_path, ALL, ALL, slice(8, 13))
    assert refusal(tmp_path).message.startswith(
        "the mask reaches beyond the image's 5 slices, by 2 towards the "
        "head and 2 towards the foot: slices are missing"
    )
    affine = np.array([[0, 0, -1.0, 15], [0, -1.0, 0, 12], [-2.5, 0, 0, 140], [0, 0, 0, 1]])
    nib.save(nib.Nifti1Image(sphere.astype(np.uint8) * 2, affine), tmp_path / "other.nii.gz")
    write_cut(tmp_path, ALL, ALL, ALL)
    assert (
        "it differs in spacing and position (the first voxel lies 3.0 mm off)"
        in refusal(tmp_path, "other.nii.gz").message
    )
