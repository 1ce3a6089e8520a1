"""Separate lesions: which parts of a mask are one, which of them is shown, and what is said of
it."""

from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from dicom_files import write_seg, write_series
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import distance_transform_edt, find_objects, label
from scipy.spatial.distance import cdist

from renal_ray.config import Cohort, Images, Selection
from renal_ray.imaging.checks import lesion_findings
from renal_ray.imaging.masks.lesion import Lesion, max_diameter_mm
from renal_ray.imaging.masks.perturb import ORIGINAL, perturbed
from renal_ray.imaging.masks.separate import Lesions, lesion_count_findings, separate_lesions
from renal_ray.imaging.patient import read_patient
from renal_ray.imaging.regions import dataset_images, dataset_masks, fit_square, lesion_box
from renal_ray.imaging.windows import three_windows
from renal_ray.problems import Code
from renal_ray.types import Dataset

COHORT = Cohort(manifest="unused.csv")
LARGEST, ALL = Selection(), Selection(lesions="all")


def lesion_in(volume: np.ndarray, first: int = 0) -> Lesion:
    slices = np.flatnonzero(volume.any(axis=(1, 2)))
    return Lesion(slices + first, volume[slices])


def volume_of(lesion: Lesion, shape: tuple[int, ...]) -> np.ndarray:
    volume = np.zeros(shape, bool)
    volume[lesion.slices] = lesion.mask
    return volume


def neighbours_of(at: tuple[int, ...]) -> list[tuple[int, ...]]:
    return [tuple(np.add(at, step)) for step in product((-1, 0, 1), repeat=3) if any(step)]


def brute(volume: np.ndarray, spacing: tuple[float, float, float]) -> list[set[tuple[int, ...]]]:
    """Lesions as sets of voxels, the largest first: parts by walking from voxel to voxel, then
    every pair of parts by every pair of their voxels."""
    left, parts = {tuple(int(v) for v in at) for at in np.argwhere(volume)}, []
    while left:
        part, edge = set(), [min(left)]
        while edge:
            part.update(edge)
            edge = list({near for at in edge for near in neighbours_of(at) if near in left} - part)
        left -= part
        parts.append(part)
    joined = True
    while joined:
        joined = False
        for one, other in product(parts, parts):
            if (
                one is not other
                and cdist(np.array(list(one)) * spacing, np.array(list(other)) * spacing).min()
                <= 10.0005
            ):
                parts = [part for part in parts if part is not one and part is not other] + [
                    one | other
                ]
                joined = True
                break
    return sorted(parts, key=lambda part: (-len(part), min(part)[0]))


def check(volume: np.ndarray, spacing: tuple[float, float, float]) -> Lesions:
    found, expected = separate_lesions(lesion_in(volume), np.array(spacing)), brute(volume, spacing)
    sizes = [len(part) for part in expected]
    assert len(found.extents) + found.specks == len(expected)
    assert found.extents[0].volume_mm3 == pytest.approx(sizes[0] * np.prod(spacing))
    shown = {
        tuple(int(v) for v in at) for at in np.argwhere(volume_of(found.largest, volume.shape))
    }
    assert shown in [part for part in expected if len(part) == sizes[0]]
    assert min(shown)[0] == min(
        min(part)[0] for part in expected if len(part) == sizes[0]
    )  # of equal ones the nearest to the head
    larger = [
        part
        for part in expected
        if (len(part) > 2 and _diameter(part, spacing) >= 3) or part == shown
    ]
    assert sorted(one.volume_mm3 for one in found.extents) == pytest.approx(
        sorted(len(part) * np.prod(spacing) for part in larger)
    )
    assert all(one.volume_mm3 >= other.volume_mm3 for one, other in pairwise(found.extents))
    places = {(one.first, one.last) for one in found.extents}
    assert places == {(min(at[0] for at in part), max(at[0] for at in part)) for part in larger}
    return found


def _diameter(part: set[tuple[int, ...]], spacing: tuple[float, float, float]) -> float:
    edges = np.array([[0.5, 0], [-0.5, 0], [0, 0.5], [0, -0.5]])
    by_slice = [np.array([at[1:] for at in part if at[0] == k]) for k in {at[0] for at in part}]
    return max(
        cdist(points, points).max()
        for flat in by_slice
        if len(points := (flat[:, None] + edges).reshape(-1, 2) * spacing[1:])
    )


@pytest.mark.parametrize(
    ("spacing", "other", "lesions"),
    [
        ((1.0, 0.1, 1.0), (0, 99, 0), 1),  # 9.9 mm down the rows
        ((1.0, 0.1, 1.0), (0, 100, 0), 1),  # exactly 10
        ((1.0, 0.1, 1.0), (0, 101, 0), 2),
        (
            (1.0, 1.0, float(np.float32(0.1))),
            (0, 0, 100),
            1,
        ),  # 10, but for the rounding of a NIfTI header
        ((1.0, 1.0, 0.1), (0, 0, 101), 2),
        ((2.5, 1.0, 1.0), (4, 0, 0), 1),  # along z alone
        ((2.525, 1.0, 1.0), (4, 0, 0), 2),
        ((12.0, 1.0, 1.0), (1, 0, 0), 1),  # neighbours, however thick the slices
        ((12.0, 1.0, 1.0), (1, 1, 1), 1),  # by a corner
        ((12.0, 1.0, 1.0), (1, 2, 0), 2),
        ((12.0, 1.0, 1.0), (2, 0, 0), 2),
        ((1.0, 1.0, 1.0), (6, 8, 0), 1),  # 10 mm in space
        ((1.0, 1.0, 1.0), (6, 8, 1), 2),
        ((5.0, 0.8, 0.8), (1, 9, 6), 1),  # 9.98 mm
        ((5.0, 0.8, 0.8), (1, 9, 7), 2),
    ],
)
def test_the_gap_is_between_the_middles_of_the_nearest_voxels(spacing, other, lesions):
    volume = np.zeros(np.add(other, (1, 2, 2)), bool)
    volume[0, 0, 0] = volume[other] = True
    found = separate_lesions(lesion_in(volume), np.array(spacing))
    assert len(found.extents) + found.specks == lesions
    assert len(brute(volume, spacing)) == lesions


@pytest.mark.parametrize("corner", [(1, 1, 1), (1, 1, 0), (0, 1, 1), (1, 0, 0)])
def test_what_touches_by_a_corner_hangs_together(corner):
    """Pixels of 20 mm: by distance alone these would be apart."""
    volume = np.zeros((4, 5, 5), bool)
    volume[1, 1, 1] = volume[tuple(np.add((1, 1, 1), corner))] = True
    assert check(volume, (20.0, 20.0, 20.0)).specks == 0
    volume[:] = False
    volume[1, 1, 1] = volume[tuple(np.add((1, 1, 1), np.multiply(corner, 2)))] = True
    assert check(volume, (20.0, 20.0, 20.0)).specks == 1  # a voxel apart


def test_a_chain_of_parts_is_one_lesion_whose_ends_are_far_apart():
    volume = np.zeros((1, 4, 100), bool)
    for column in range(0, 100, 10):
        volume[0, :4, column] = True
    assert len(check(volume, (1.0, 1.0, 1.0)).extents) == 1
    volume[0, :, 50] = False  # the chain breaks
    assert len(check(volume, (1.0, 1.0, 1.0)).extents) == 2


def test_the_largest_is_the_one_of_the_largest_volume_and_of_equal_ones_the_upper():
    volume = np.zeros((40, 60, 60), bool)
    volume[30:34, 0:5, 40:45] = True  # 100 voxels, in many slices
    volume[2, 0:9, 0:9] = True  # 81, wider
    found = check(volume, (1.0, 1.0, 1.0))
    assert [(one.first, one.last, one.largest) for one in found.extents] == [
        (30, 33, 30),
        (2, 2, 2),
    ]
    assert [one.max_diameter_mm for one in found.extents] == pytest.approx(
        [np.hypot(5, 4), np.hypot(9, 8)]
    )
    volume[2, 9, 0:9] = volume[2, 10, 0:9] = True  # 99
    volume[2, 11, 0] = True  # 100, and nearer to the head
    assert check(volume, (1.0, 1.0, 1.0)).extents[0].first == 2


def test_specks_are_no_lesions_unless_nothing_else_is_there():
    volume = np.zeros((3, 40, 80), bool)
    volume[1, 5:12, 5:12] = True
    volume[0, 30, 30] = volume[2, 30:32, 60] = True
    lesions = check(volume, (2.0, 1.0, 1.0))
    assert (len(lesions.extents), lesions.specks) == (1, 2)
    assert volume_of(lesions.largest, volume.shape).sum() == 49
    [said] = lesion_count_findings(lesions, "largest")
    assert said.code is Code.MASK_SPECKS
    assert (
        "more than 10 mm from any lesion: 2; roi and rbr show them "
        "only where a slice has nothing else"
    ) in said.message
    assert "reaches to them" in lesion_count_findings(lesions, "all")[0].message
    volume[0, 30, 30:33] = True  # 3 mm
    assert check(volume, (2.0, 1.0, 1.0)).specks == 1
    volume[:2] = False
    volume[0, 30, 30] = True
    lesions = check(volume, (2.0, 1.0, 1.0))
    assert (len(lesions.extents), lesions.specks) == (1, 1)
    assert volume_of(lesions.largest, volume.shape).sum() == 2


blobs = st.tuples(
    st.integers(0, 7),
    st.integers(0, 29),
    st.integers(0, 29),
    st.integers(1, 3),
    st.integers(1, 6),
    st.integers(1, 6),
)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(blobs, min_size=1, max_size=7),
    st.sampled_from(
        [
            (1.0, 1.0, 1.0),
            (5.0, 0.7, 0.8),
            (2.5, 2.0, 1.5),
            (12.0, 1.0, 1.0),
            (0.5, 0.3, 0.9),
            (10.0, 3.0, 3.0),
        ]
    ),
)
def test_lesions_are_those_of_every_pair_of_voxels(boxes, spacing):
    volume = np.zeros((10, 36, 36), bool)
    for k, row, column, deep, high, wide in boxes:
        volume[k : k + deep, row : row + high, column : column + wide] = True
    check(volume, spacing)


@settings(deadline=None, max_examples=60)
@given(
    arrays(bool, (5, 9, 11), elements=st.sampled_from([False] * 14 + [True])),
    st.sampled_from([(4.0, 3.0, 3.5), (6.0, 2.0, 2.0), (11.0, 7.0, 7.0)]),
)
def test_lesions_of_noise_are_those_of_every_pair_of_voxels(volume, spacing):
    volume = volume.copy()
    volume[2, 4, 4] = True
    check(volume, spacing)


def test_a_lesion_drawn_on_some_slices_only_is_told_so():
    volume = np.zeros((10, 20, 20), bool)
    volume[::4, 3:12, 3:12] = True
    [said] = lesion_count_findings(
        separate_lesions(lesion_in(volume), np.array((3.0, 1.0, 1.0))), "largest"
    )
    assert "3 lesions" in said.message
    assert (
        "each lies on one slice: if one lesion was drawn on some slices only, use all"
        in said.message
    )
    volume[1, 5, 5] = True
    [said] = lesion_count_findings(
        separate_lesions(lesion_in(volume), np.array((3.0, 1.0, 1.0))), "largest"
    )
    assert "each lies" not in said.message


def test_of_one_lesion_the_mask_is_the_very_same():
    volume = np.zeros((5, 30, 30), bool)
    volume[1:4, 5:20, 6:22] = True
    volume[2, 10, 10] = False
    lesion = lesion_in(volume)
    found = separate_lesions(lesion, np.array((2.0, 0.7, 0.7)))
    assert found.largest is lesion
    assert found.specks == 0
    assert found.extents[0].max_diameter_mm == max_diameter_mm(lesion, (0.7, 0.7))
    assert lesion_count_findings(found, "largest") == []


def test_a_message_names_the_first_sizes():
    volume = np.zeros((1, 10, 200), bool)
    for number in range(8):
        volume[0, 0 : number + 3, number * 25 : number * 25 + 4] = True
    said = lesion_count_findings(separate_lesions(lesion_in(volume), np.ones(3)), "largest")[0]
    assert (
        said.code,
        said.message.startswith("8 lesions more than 10 mm apart, 10, 9, 9, 8, 7, 6 ... mm across"),
    ) == (Code.SEVERAL_LESIONS, True), said


SPACING = (0.8, 0.8)
LEFT, RIGHT = (
    np.s_[:, 40:60, 10:36],
    np.s_[:, 44:54, 300:312],
)  # 212 mm apart: columns 35 and 300, 265 pixels of 0.8 mm


@pytest.fixture(scope="module")
def bilateral(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray, np.ndarray]:
    """Tumours of both kidneys: slices 3 to 8 have the larger one, 6 to 11 the smaller, 14 the
    smaller again after a gap of 7.5 mm, 20 a third one."""
    folder = tmp_path_factory.mktemp("bilateral")
    rng = np.random.default_rng(4)
    volume = rng.integers(-120, 200, (24, 100, 330)).astype(np.int16)
    lesion = np.zeros(volume.shape, bool)
    lesion[3:9][LEFT] = lesion[6:12][RIGHT] = lesion[14:15][RIGHT] = True
    lesion[20, 10:20, 200:210] = True
    slices = write_series(folder / "ct", volume, spacing=SPACING)
    write_seg(
        folder / "seg.dcm",
        [(1, slices[k], lesion[k]) for k in range(len(volume)) if lesion[k].any()],
    )
    return folder, volume, lesion


def read(folder: Path, selection: Selection = LARGEST):
    return read_patient(folder / "ct", folder / "seg.dcm", cohort=COHORT, selection=selection)


def test_of_two_tumours_in_a_slice_the_largest_is_shown(bilateral):
    folder, volume, lesion = bilateral
    found = read(folder)
    assert found.slice_index.tolist() == [3, 4, 5, 6, 7, 8]
    assert np.array_equal(found.hu, volume[3:9])
    assert np.array_equal(found.mask, lesion[3:9])
    assert found.shown.sum() == 6 * 20 * 26
    assert found.shown[LEFT].all()
    assert found.lesion_area_mm2 == pytest.approx(
        [20 * 26 * 0.64] * 3 + [(20 * 26 + 120) * 0.64] * 3
    )  # of all lesions
    assert found.max_diameter_mm == pytest.approx(0.8 * np.hypot(26, 19))
    assert [(one.first, one.last, one.largest) for one in found.lesions] == [
        (3, 8, 3),
        (6, 14, 6),
        (20, 20, 20),
    ]
    assert [one.volume_mm3 for one in found.lesions] == pytest.approx(
        [6 * 520 * 1.6, 7 * 120 * 1.6, 100 * 1.6]
    )
    several = [one for one in found.findings if one.code is Code.SEVERAL_LESIONS]
    assert len(several) == 1
    assert several[0].message.startswith(
        "3 lesions more than 10 mm apart, 26, 12, 11 mm across; roi "
        "and rbr show the largest that a slice has"
    )
    assert not [
        one for one in found.findings if one.code in (Code.LESION_TOO_LARGE, Code.MASK_SPECKS)
    ]


def test_roi_and_rbr_are_the_largest_lesion_and_slice_is_the_whole_image(bilateral):
    folder, volume, _ = bilateral
    made = dataset_images(read(folder), images=Images(size=75))
    box = np.s_[40:60, 10:36]
    for n, k in enumerate(range(3, 9)):
        rgb = three_windows(volume[k])
        assert np.array_equal(made[Dataset.SLICE][n], fit_square(rgb, SPACING, 75))
        assert np.array_equal(made[Dataset.RBR][n], fit_square(rgb[box], SPACING, 75))
        assert np.array_equal(made[Dataset.ROI][n], made[Dataset.RBR][n])  # a rectangle


def test_all_lesions_in_one_box_is_what_the_mask_says(bilateral):
    """Areas, boxes and slices of the mask as it stands, whatever hangs together in it."""
    folder, volume, lesion = bilateral
    found = read(folder, ALL)
    areas = lesion.sum(axis=(1, 2))
    kept = np.flatnonzero(areas >= 0.25 * areas.max())
    assert found.slice_index.tolist() == kept.tolist() == [3, 4, 5, 6, 7, 8]
    assert np.array_equal(found.mask, lesion[kept])
    assert found.shown is found.mask
    assert found.lesion_area_mm2.tolist() == (areas[kept] * 0.8 * 0.8).astype(np.float32).tolist()
    assert found.max_diameter_mm == max_diameter_mm(lesion_in(lesion), SPACING) > 230
    made = dataset_images(found, images=Images(size=75))
    for n, k in enumerate(kept):
        rgb, box = three_windows(volume[k]), lesion_box(lesion[k])
        assert np.array_equal(made[Dataset.RBR][n], fit_square(rgb[box], SPACING, 75))
        assert np.array_equal(
            made[Dataset.ROI][n],
            fit_square(np.where(lesion[k][box][..., None], rgb[box], 0), SPACING, 75),
        )
    assert found.lesions == read(folder).lesions
    assert "one box round all" in next(
        one.message for one in found.findings if one.code is Code.SEVERAL_LESIONS
    )


def test_slices_are_kept_for_every_lesion_and_each_shows_its_largest(bilateral):
    """No slice with a lesion is lost: where the largest has ended, roi and rbr show the largest of
    those that go on."""
    folder, _, lesion = bilateral
    with_lesion = [*range(3, 12), 14, 20]
    for which in ("largest", "all"):
        found = read(folder, Selection(min_area_fraction=0, lesions=which))
        assert found.slice_index.tolist() == with_lesion
        assert np.array_equal(found.mask, lesion[with_lesion])
    found = read(folder, Selection(min_area_fraction=0))
    for k, mask, shown in zip(found.slice_index, found.mask, found.shown, strict=True):
        parts, n = label(mask, np.ones((3, 3)))
        sizes = [(parts == part).sum() for part in range(1, n + 1)]
        assert shown.sum() == max(sizes), k
        assert not (shown & ~mask).any()


def test_some_of_the_kept_slices(bilateral):
    found = read(bilateral[0])
    some = found.take([1, 4])
    assert some.slice_index.tolist() == [4, 7]
    assert np.array_equal(some.hu, found.hu[[1, 4]])
    assert np.array_equal(some.mask, found.mask[[1, 4]])
    assert np.array_equal(some.shown, found.shown[[1, 4]])
    assert (
        some.lesions,
        some.n_slices_total,
        len(some.position_mm),
        len(some.lesion_area_mm2),
    ) == (found.lesions, 24, 2, 2)


def test_whatever_looks_at_the_lesion_looks_at_the_one_that_is_shown(bilateral):
    found = read(bilateral[0])
    images = Images(size=75, crop=False)
    same, made = perturbed(found, ORIGINAL), dataset_images(found, images=images)
    assert same is not None
    again = dataset_images(same, images=images)
    assert all(np.array_equal(made[dataset], again[dataset]) for dataset in made)
    columns = (
        np.flatnonzero(dataset_masks(found, images=images)[Dataset.SLICE].any(axis=(0, 1)))
        * 330
        / 75
    )
    assert 5 < columns.min() < columns.max() < 40
    in_air = replace(
        found, hu=np.where(found.shown, 40, -1000).astype(np.int16)
    )  # where the other tumour lies
    assert in_air.hu[in_air.shown].mean() == 40
    assert lesion_findings(in_air) == []
    assert [
        one.code for one in lesion_findings(replace(in_air, largest=in_air.mask & ~in_air.shown))
    ] == [Code.MASK_OUTSIDE_BODY]


REAL = {
    "case_00041": [39, 37],
    "case_00529": [42, 27, 22],
    "case_00565": [115, 22],
}  # mm across; every other one of the 25 has one tumour


def test_tumours_of_real_patients(real_data: Path):
    """Held against a distance transform of each part."""
    several = {}
    for file in sorted((real_data / "kits23").glob("case_*/segmentation.nii.gz")):
        image = nib.load(file)
        spacing = np.array(image.header.get_zooms(), float)
        volume = np.asanyarray(image.dataobj) == 2
        found = separate_lesions(lesion_in(volume), spacing)
        assert found.specks == 0
        parts, n = label(volume[find_objects(volume.astype(np.uint8))[0]], np.ones((3, 3, 3)))
        reached = {
            part: set(
                np.unique(parts[distance_transform_edt(parts != part, sampling=spacing) <= 10.001])
            )
            - {0}
            for part in range(1, n + 1)
            if n > 1
        }
        groups = []
        for near in reached.values():
            groups = [
                near.union(*(one for one in groups if one & near)),
                *(one for one in groups if not one & near),
            ]
        sizes = sorted((np.isin(parts, list(one)).sum() for one in groups or [{1}]), reverse=True)
        assert [round(one.volume_mm3 / spacing.prod()) for one in found.extents] == sizes
        if len(sizes) > 1:
            several[file.parent.name] = [round(one.max_diameter_mm) for one in found.extents]
    assert several == REAL
