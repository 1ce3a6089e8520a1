"""Polygons to pixels, by the even-odd rule; and what the outlines of one plane enclose together."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

CROSSINGS = 1 << 20  # handled at once, so that memory does not grow with the number of points
NEAR = 0.5  # pixels: outlines that lie no further apart are one, or touch each other
SAMPLES = 4  # along the edge of a pixel, where outlines are compared
MOST_SAMPLES = 1 << 24


@dataclass(frozen=True)
class Outline:
    """A closed contour in its plane.

    Args:
        points: (n, 2), row and column in pixels; pixel centres are whole numbers.
        toggles: its inside is exchanged with what the other outlines enclose (CLOSEDPLANAR_XOR).
    """

    points: np.ndarray
    toggles: bool = False


@dataclass(frozen=True)
class Enclosed:
    """What the outlines of a plane enclose.

    Args:
        mask: bool (rows, cols), no larger than the outlines need.
        corner: row and column of its first pixel; may lie outside of the image.
        crossing: how many outlines cross another one.
        cancelling: how many outlines that toggle are copies of others: both enclose nothing.
    """

    mask: np.ndarray
    corner: tuple[int, int]
    crossing: int
    cancelling: int


class Relation(Enum):
    """How one outline lies to another."""

    APART = auto()  # or they touch
    SAME = auto()
    WITHIN = auto()  # the first within the second
    AROUND = auto()
    CROSSING = auto()


def fill(
    points: np.ndarray, shape: tuple[int, int], corner: tuple[int, int] = (0, 0)
) -> np.ndarray:
    """The pixels whose centre lies in a closed polygon.

    A centre is inside where a ray along its row towards smaller columns crosses the outline an odd
    number of times. Both intervals are half-open, so that of two polygons with a common edge
    exactly one holds a centre on it.

    Args:
        points: (n, 2), row and column in pixels; pixel centres are whole numbers.
        shape: rows, columns.
        corner: row and column of the first pixel.

    Returns:
        bool of that shape.
    """
    start, end = points, np.roll(points, -1, axis=0)
    low, high = np.minimum(start[:, 0], end[:, 0]), np.maximum(start[:, 0], end[:, 0])
    # rows first .. last - 1 are crossed
    first = np.clip(np.ceil(low) - corner[0], 0, shape[0]).astype(int)
    last = np.clip(np.ceil(high) - corner[0], 0, shape[0]).astype(int)
    crossed = np.flatnonzero(last > first)
    toggles = np.zeros(shape[0] * (shape[1] + 1), np.int64)
    counts = (last - first)[crossed]
    for edges in np.split(crossed, np.flatnonzero(np.diff(np.cumsum(counts) // CROSSINGS)) + 1):
        rows_of = last[edges] - first[edges]
        edge = np.repeat(edges, rows_of)
        within = np.arange(rows_of.sum()) - np.repeat(np.cumsum(rows_of) - rows_of, rows_of)
        row = first[edge] + within
        share = (row + corner[0] - start[edge, 0]) / (end[edge, 0] - start[edge, 0])
        column = start[edge, 1] + share * (end[edge, 1] - start[edge, 1])
        place = np.clip(np.ceil(column) - corner[1], 0, shape[1]).astype(int)
        toggles += np.bincount(row * (shape[1] + 1) + place, minlength=len(toggles))
    inside = np.cumsum(toggles.reshape(shape[0], shape[1] + 1), axis=1)[:, : shape[1]]
    return np.asarray(inside % 2 == 1)


def enclosed(outlines: Sequence[Outline]) -> Enclosed:
    """What the outlines of one plane enclose together.

    An outline within another one is a hole in it, one within a hole an island. Outlines that are
    one but for rounding count once, those that cross are united, and touching is neither. Those
    that toggle are combined by exclusive disjunction with all the rest (PS3.3 C.8.8.6.3).

    Args:
        outlines: at least one.
    """
    corner, shape = _window(np.concatenate([one.points for one in outlines]))
    mask = np.zeros(shape, bool)
    plain = [one.points for one in outlines if not one.toggles]
    holes, crossing = _holes(plain)
    order = np.argsort(holes, kind="stable")
    for points, depth in ((plain[n], holes[n]) for n in order):
        part, inside = _part(points, corner)
        mask[part] = mask[part] & ~inside if depth % 2 else mask[part] | inside
    toggling = [one.points for one in outlines if one.toggles]
    for points in toggling:
        part, inside = _part(points, corner)
        mask[part] ^= inside
    copies = {
        n
        for first, second in _near(toggling)
        if relation(toggling[first], toggling[second]) is Relation.SAME
        for n in (first, second)
    }
    return Enclosed(mask, corner, crossing, len(copies))


def _window(points: np.ndarray) -> tuple[tuple[int, int], tuple[int, int]]:
    """Corner and shape of the window that holds all pixels which points (n, 2) may enclose."""
    low, high = np.floor(points.min(axis=0)).astype(int), np.ceil(points.max(axis=0)).astype(int)
    return (int(low[0]), int(low[1])), (int(high[0] - low[0]) + 1, int(high[1] - low[1]) + 1)


def _part(points: np.ndarray, corner: tuple[int, int]) -> tuple[tuple[slice, slice], np.ndarray]:
    """Which part of a window that begins at a corner an outline needs, and the pixels inside."""
    own, shape = _window(points)
    row, column = own[0] - corner[0], own[1] - corner[1]
    return (slice(row, row + shape[0]), slice(column, column + shape[1])), fill(points, shape, own)


def _holes(outlines: list[np.ndarray]) -> tuple[np.ndarray, int]:
    """In how many others each outline lies, int (n,), and how many cross others.

    Outlines that are one or cross each other count as one.
    """
    joined, within, crossing = list[tuple[int, int]](), list[tuple[int, int]](), set[int]()
    for first, second in _near(outlines):
        found = relation(outlines[first], outlines[second])
        if found in (Relation.SAME, Relation.CROSSING):
            joined.append((first, second))
            crossing |= {first, second} if found is Relation.CROSSING else set()
        elif found is not Relation.APART:
            within.append((first, second) if found is Relation.WITHIN else (second, first))
    pairs = np.array(joined, int).reshape(-1, 2)
    graph = coo_array(
        (np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(outlines), len(outlines))
    )
    group = connected_components(graph, directed=False)[1] if outlines else np.zeros(0, int)
    nested = {
        (group[inner], group[outer]) for inner, outer in within if group[inner] != group[outer]
    }
    depth = (
        np.bincount([inner for inner, _ in nested], minlength=len(outlines))
        if nested
        else np.zeros(len(outlines), int)
    )
    return depth[group], len(crossing)


def _near(outlines: list[np.ndarray]) -> list[tuple[int, int]]:
    """Pairs of outlines whose boxes overlap."""
    low, high = (np.array([end(points, axis=0) for points in outlines]) for end in (np.min, np.max))
    return [
        (n, int(m))
        for n in range(len(outlines))
        for m in n
        + 1
        + np.flatnonzero(((low[n] < high[n + 1 :]) & (low[n + 1 :] < high[n])).all(axis=1))
    ]


def relation(first: np.ndarray, second: np.ndarray) -> Relation:
    """How an outline lies to another, to within half a pixel.

    Both are looked at on a grid finer than the pixels. One lies within the other where no part of
    it sticks out; both are one where neither does. Outlines that run along each other but for a
    lobe, less than half a pixel apart on average, are neither: they count as crossing.

    Args:
        first, second: (n, 2), row and column in pixels.
    """
    points = np.concatenate([first, second])
    samples = min(SAMPLES, float(np.sqrt(MOST_SAMPLES / (np.ptp(points, axis=0) + 1).prod())))
    near = max(1, round(NEAR * samples))
    corner, shape = _window(points * samples)
    corner, shape = (
        (corner[0] - near - 1, corner[1] - near - 1),
        (shape[0] + 2 * near + 2, shape[1] + 2 * near + 2),
    )
    one, other = (fill(each * samples, shape, corner) for each in (first, second))
    common = one & other
    sticks_out = (one & ~_grown(other, near)).any(), (other & ~_grown(one, near)).any()
    if not any(sticks_out):
        return Relation.SAME
    if all(sticks_out):
        return Relation.CROSSING if (~_grown(~common, near)).any() else Relation.APART
    inner = other if sticks_out[0] else one
    # beside the other, and thinner than what counts as near
    if 2 * np.count_nonzero(common) <= np.count_nonzero(inner):
        return Relation.APART
    if np.count_nonzero(one ^ other) <= NEAR * samples**2 * min(_length(first), _length(second)):
        return Relation.CROSSING
    return Relation.AROUND if sticks_out[0] else Relation.WITHIN


def _length(points: np.ndarray) -> float:
    """Length of a closed outline."""
    return float(np.linalg.norm(points - np.roll(points, 1, axis=0), axis=1).sum())


def _grown(mask: np.ndarray, by: int) -> np.ndarray:
    """A mask (rows, cols) and all that lies up to so many rows and columns from it."""
    for axis in (0, 1):
        moved = np.moveaxis(mask, axis, 0)
        grown = moved.copy()
        for step in range(1, by + 1):
            grown[step:] |= moved[:-step]
            grown[:-step] |= moved[step:]
        mask = np.moveaxis(grown, 0, axis)
    return mask
