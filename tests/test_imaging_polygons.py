"""Polygons: which pixels one encloses, and what several of one plane enclose together."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from matplotlib.path import Path
from scipy.ndimage import binary_erosion

from renal_ray.imaging.masks.contours import paste
from renal_ray.imaging.masks.polygons import Enclosed, Outline, Relation, enclosed, fill, relation

SHAPE = (48, 56)
SEEDS = st.integers(0, 2**32 - 1)


def by_hand(points: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Even-odd, pixel by pixel: crossings of the row at columns up to the centre's."""
    inside = np.zeros(shape, bool)
    for row in range(shape[0]):
        for column in range(shape[1]):
            for (r0, c0), (r1, c1) in zip(points, np.roll(points, -1, axis=0), strict=True):
                if (min(r0, r1) <= row < max(r0, r1)) and c0 + (row - r0) / (r1 - r0) * (
                    c1 - c0
                ) <= column:
                    inside[row, column] ^= True
    return inside


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.floats(-4, 14), st.floats(-4, 14)), min_size=3, max_size=12))
def test_any_polygon_is_filled_as_by_hand(corners):
    points = np.array(corners)
    assert np.array_equal(fill(points, (9, 11)), by_hand(points, (9, 11)))


def test_a_smooth_outline_is_filled_as_matplotlib_does():
    angle = np.linspace(0, 2 * np.pi, 997, endpoint=False)
    points = np.stack(
        [31.3 + 17.9 * np.sin(angle) + 3.1 * np.cos(5 * angle), 40.7 + 25.2 * np.cos(angle)], axis=1
    )
    rows, columns = np.mgrid[:64, :80]
    expected = (
        Path(points)
        .contains_points(np.stack([rows.ravel(), columns.ravel()], axis=1))
        .reshape(64, 80)
    )
    assert np.array_equal(fill(points, (64, 80)), expected)


def test_two_polygons_with_a_common_edge_share_no_pixel():
    left, right = (np.array([[2, a], [8, a], [8, b], [2, b]], float) for a, b in ((1, 5), (5, 9)))
    assert not (fill(left, (10, 10)) & fill(right, (10, 10))).any()
    assert np.array_equal(
        fill(left, (10, 10)) | fill(right, (10, 10)),
        fill(np.array([[2, 1], [8, 1], [8, 9], [2, 9]], float), (10, 10)),
    )


def raster(points: np.ndarray) -> np.ndarray:
    """The pixels of a simple polygon, by matplotlib."""
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return (
        Path(points)
        .contains_points(np.stack([rows.ravel(), columns.ravel()], axis=1))
        .reshape(SHAPE)
    )


def star(
    rng: np.random.Generator, centre: tuple[float, float], low: float, high: float, most: int = 60
) -> np.ndarray:
    """A simple polygon, star-shaped about its centre, whose radius stays between two bounds."""
    count = int(rng.integers(5, most + 1))
    angle = (np.arange(count) + rng.uniform(0.05, 0.95, count)) * 2 * np.pi / count
    radius = rng.uniform(low, high, count)
    return np.array(centre) + radius[:, None] * np.stack([np.sin(angle), np.cos(angle)], axis=1)


def copy_of(rng: np.random.Generator, points: np.ndarray) -> np.ndarray:
    """The same outline begun elsewhere, perhaps backwards, perhaps closed by its first point."""
    points = np.roll(points, int(rng.integers(len(points))), axis=0)[:: int(rng.choice([-1, 1]))]
    return np.concatenate([points, points[:1]]) if rng.random() < 0.5 else points


def together(
    outlines: list[np.ndarray], toggles: list[bool] | None = None
) -> tuple[np.ndarray, Enclosed]:
    """What outlines enclose, on an image, and as it was found."""
    found = enclosed(
        [
            Outline(points, toggle)
            for points, toggle in zip(outlines, toggles or [False] * len(outlines), strict=True)
        ]
    )
    frame = np.zeros(SHAPE, bool)
    paste(found, frame)
    return frame, found


def deep(mask: np.ndarray) -> bool:
    """Whether a mask holds more than a rim."""
    return bool(binary_erosion(mask, np.ones((3, 3))).any())


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.integers(1, 4), st.integers(0, 5))
def test_nested_outlines_are_holes_and_islands_however_often_they_are_stored(seed, rings, copies):
    rng = np.random.default_rng(seed)
    outer = star(rng, (23.3, 27.6), 12, 22)
    nested = [
        (23.3, 27.6) + (outer - (23.3, 27.6)) * share for share in (1, 0.7, 0.45, 0.25)[:rings]
    ]
    expected = np.logical_xor.reduce([raster(points) for points in nested])
    stored = [*nested, *(copy_of(rng, nested[int(rng.integers(rings))]) for _ in range(copies))]
    mask, found = together([stored[n] for n in rng.permutation(len(stored))])
    assert np.array_equal(mask, expected)
    assert not found.crossing


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.floats(0.001, 0.2))
def test_a_copy_that_is_a_little_off_makes_no_ring(seed, off):
    rng = np.random.default_rng(seed)
    points = star(rng, (23.3, 27.6), 12, 20, most=16)
    moved = [
        points + rng.uniform(-off, off, points.shape),
        points + off,
        (23.3, 27.6) + (points - (23.3, 27.6)) * (1 - off / 20),
    ]
    mask, found = together([points, *moved])
    assert np.array_equal(mask, np.logical_or.reduce([raster(one) for one in (points, *moved)]))
    assert not found.crossing


@settings(max_examples=100, deadline=None)
@given(SEEDS, st.floats(-20, 20), st.floats(-20, 20))
def test_outlines_that_cross_are_united_and_counted(seed, down, right):
    rng = np.random.default_rng(seed)
    first, second = star(rng, (23.3, 27.6), 7, 14), star(rng, (23.3 + down, 27.6 + right), 7, 14)
    one, other = raster(first), raster(second)
    assume(deep(one & other) and deep(one & ~other) and deep(other & ~one))
    mask, found = together([first, second])
    assert np.array_equal(mask, one | other)
    assert found.crossing == 2


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.integers(1, 5))
def test_outlines_that_toggle_are_combined_by_exclusive_disjunction_whatever_they_do(seed, count):
    rng = np.random.default_rng(seed)
    outlines = [star(rng, (rng.uniform(15, 33), rng.uniform(15, 41)), 3, 14) for _ in range(count)]
    mask, found = together(outlines, [True] * count)
    assert np.array_equal(mask, np.logical_xor.reduce([raster(points) for points in outlines]))
    assert not found.crossing
    assert not found.cancelling


@pytest.mark.parametrize(
    "toggles",
    [
        (False, True, False),
        (True, False, False),
        (False, False, True),
        (True, True, False),
        (True, True, True),
    ],
)
def test_types_of_one_plane_are_combined(toggles):
    """Outline, hole and island, whichever of them toggle."""
    outlines = [box(4.5, 40.5), box(10.5, 30.5), box(15.5, 20.5)]
    expected = np.logical_xor.reduce([raster(points) for points in outlines])
    assert np.array_equal(together(outlines, list(toggles))[0], expected)


def test_what_toggles_is_taken_out_of_what_it_crosses():
    plain, toggling = box(4.5, 20.5), box(10.5, 30.5)
    mask, found = together([plain, toggling], [False, True])
    assert np.array_equal(mask, raster(plain) ^ raster(toggling))
    assert not found.crossing


def test_copies_that_toggle_enclose_nothing_and_are_counted():
    mask, found = together([box(4.5, 20.5), box(25.5, 30.5), box(4.5, 20.5)[::-1]], [True] * 3)
    assert np.array_equal(mask, raster(box(25.5, 30.5)))
    assert found.cancelling == 2


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.floats(0.001, 0.4))
def test_a_copy_of_a_jagged_outline_makes_no_ring_either(seed, off):
    """Spikes thinner than a pixel may count as crossing: it is said, and united all the same."""
    rng = np.random.default_rng(seed)
    points = star(rng, (23.3, 27.6), 6, 20)
    moved = (23.3, 27.6) + (points - (23.3, 27.6)) * (1 - off / 20)
    assert np.array_equal(together([points, moved])[0], raster(points) | raster(moved))


def test_an_edited_copy_is_united_with_what_it_was_made_of_and_counted():
    one = box(4.5, 40.5)
    lobe = np.array(
        [
            [4.5, 4.5],
            [4.5, 40.5],
            [40.5, 40.5],
            [40.5, 22.5],
            [44.5, 22.5],
            [44.5, 18.5],
            [40.5, 18.5],
            [40.5, 4.5],
        ]
    )
    mask, found = together([one, lobe])
    assert np.array_equal(mask, raster(lobe))
    assert found.crossing == 2


def test_a_hole_in_united_outlines_stays_one():
    hole = box(14.5, 17.5)
    first, second = box(4.5, 20.5), box(12.5, 30.5)
    mask, found = together([first, second, hole])
    assert np.array_equal(mask, (raster(first) | raster(second)) & ~raster(hole))
    assert found.crossing == 2


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (lambda one: one, Relation.SAME),
        (lambda one: one[::-1] + 0.1, Relation.SAME),
        (lambda one: box(5.5, 19.5), Relation.AROUND),
        (lambda one: box(4.5, 8.5), Relation.AROUND),  # a hole that touches the outline
        (lambda one: box(2.5, 30.5), Relation.WITHIN),
        (lambda one: box(10.5, 30.5), Relation.CROSSING),
        (lambda one: box(20.5, 30.5), Relation.APART),
        (lambda one: box(20.3, 30.5), Relation.APART),  # they touch
        (lambda one: one + np.array([16.0, 0]), Relation.APART),
        (lambda one: one + np.array([15.7, 0]), Relation.APART),
        (lambda one: box(31.5, 40.5), Relation.APART),
    ],
)
def test_how_an_outline_lies_to_another(other, expected):
    one = box(4.5, 20.5)
    assert relation(one, other(one)) is expected


def box(low: float, high: float) -> np.ndarray:
    """A square, row and column bounds in pixels."""
    return np.array([[low, low], [low, high], [high, high], [high, low]])


def test_a_keyhole_and_what_lies_in_its_hole():
    outer, hole, island = box(4.5, 30.5), box(9.5, 25.5), box(14.5, 20.5)
    keyhole = np.concatenate([outer, outer[:1], hole, hole[:1]])
    mask, _ = together([keyhole, island])
    assert np.array_equal(mask, raster(outer) ^ raster(hole) ^ raster(island))


def test_fragments_that_share_edges_are_all_there():
    """Masks exported pixel by pixel: each outline touches its neighbours."""
    mask = np.random.default_rng(0).random((10, 12)) < 0.5
    outlines = [
        np.array([[r, c], [r, c + 1], [r + 1, c + 1], [r + 1, c]]) - 0.5
        for r, c in np.argwhere(mask)
    ]
    found, _ = together(outlines)
    assert np.array_equal(found[:10, :12], mask)


def test_an_outline_that_leaves_the_image_is_cut():
    mask, found = together([box(-6.5, 10.5)])
    assert mask.sum() == 11 * 11
    assert found.mask.sum() == 17 * 17
    assert found.corner == (-7, -7)
