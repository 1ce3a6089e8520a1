"""Which parts of a mask are one lesion, and which are lesions of their own."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.ndimage import find_objects, label
from scipy.spatial import KDTree

from renal_ray.imaging.checks import SMALLEST_MM
from renal_ray.imaging.geometry.grid import LesionExtent
from renal_ray.imaging.masks.lesion import Lesion, max_diameter_mm
from renal_ray.problems import Code, Finding

APART_MM = 10.0
SPECK_VOXELS = 2
ROUNDING_MM = 1e-3  # spacings come from headers, as decimals or 32-bit floats
MOST_NAMED = 6  # sizes in a message
TOUCHING = np.ones((3, 3, 3), bool)


@dataclass(frozen=True)
class Lesions:
    """The separate lesions of a mask.

    Args:
        largest: the lesion of the largest volume; of several, the one that begins nearest to the
            head. The mask itself where it is one lesion.
        shown: bool, as the mask: in each slice the largest of the lesions that it has.
        extents: size and place of every lesion, the largest volume first.
        specks: how many parts are too small to be lesions; they belong to none.
    """

    largest: Lesion
    shown: np.ndarray
    extents: tuple[LesionExtent, ...]
    specks: int = 0


def separate_lesions(lesion: Lesion, spacing_mm: np.ndarray) -> Lesions:
    """Tells the separate lesions of a mask apart.

    Parts are what hangs together by faces, edges or corners of voxels (26 neighbours). Parts
    whose voxels come within 10 mm of each other, middle to middle and in three dimensions, are
    one lesion, and so is a chain of such parts. What then is less than 3 mm across, or one or two
    voxels, is a speck, no lesion, unless there is nothing larger.

    Args:
        lesion: the mask on the image's grid.
        spacing_mm: (3,), distance between slices, rows and columns.
    """
    window = np.s_[:, *lesion.box]
    inside, first = lesion.mask[window], int(lesion.slices[0])
    filled = np.zeros((int(lesion.slices[-1]) - first + 1, *inside.shape[1:]), bool)
    filled[lesion.slices - first] = inside
    ranked = _ranked(filled, spacing_mm)
    if ranked is None:
        return Lesions(lesion, lesion.mask, (_extent(lesion, spacing_mm),))
    ranks, mask, shown = (
        ranked[lesion.slices - first],
        np.zeros_like(lesion.mask),
        np.zeros_like(lesion.mask),
    )
    mask[window] = ranks == 1
    shown[window] = ranks == np.where(ranks, ranks, ranks.max()).min(axis=(1, 2), keepdims=True)
    largest = _not_empty(lesion.slices, mask)
    places = find_objects(ranked)
    others = [
        _not_empty(np.arange(place[0].start, place[0].stop) + first, ranked[place] == n)
        for n, place in enumerate(places[1:], 2)
    ]
    counted = [_extent(one, spacing_mm) for one in others if one.pixels.sum() > SPECK_VOXELS]
    extents = (
        _extent(largest, spacing_mm),
        *(one for one in counted if one.max_diameter_mm >= SMALLEST_MM),
    )
    return Lesions(largest, shown, extents, specks=len(places) - len(extents))


def lesion_count_findings(lesions: Lesions, shown: Literal["largest", "all"]) -> list[Finding]:
    """That a mask holds several lesions, or specks far from them.

    Args:
        lesions: of the mask.
        shown: which of them roi and rbr show.

    Returns:
        SEVERAL_LESIONS, MASK_SPECKS, as far as they apply.
    """
    found, n = [], len(lesions.extents)
    if n > 1:
        sizes = ", ".join(f"{one.max_diameter_mm:.0f}" for one in lesions.extents[:MOST_NAMED]) + (
            " ..." if n > MOST_NAMED else ""
        )
        do = {
            "largest": (
                "roi and rbr show the largest that a slice has; where the label is of "
                "another, name that one; selection.lesions: all shows one box"
            ),
            "all": (
                "roi and rbr show one box round all; selection.lesions: "
                "largest shows the largest of each slice"
            ),
        }
        said = f"{n} lesions more than {APART_MM:g} mm apart, {sizes} mm across; {do[shown]}"
        if all(one.first == one.last for one in lesions.extents):
            said += "; each lies on one slice: if one lesion was drawn on some slices only, use all"
        found.append(Finding(Code.SEVERAL_LESIONS, said))
    if lesions.specks:
        what = (
            f"specks in the mask, smaller than {SMALLEST_MM:g} mm or of one or two voxels, "
            f"more than {APART_MM:g} mm from any lesion: {lesions.specks}"
        )
        do = {
            "largest": (
                "roi and rbr show them only where a slice has nothing "
                "else; look whether they are lesions"
            ),
            "all": "the box of roi and rbr reaches to them; erase them",
        }
        found.append(Finding(Code.MASK_SPECKS, f"{what}; {do[shown]}"))
    return found


def _ranked(filled: np.ndarray, spacing_mm: np.ndarray) -> np.ndarray | None:
    """The lesion of each voxel, by volume: 0 outside, 1 the largest; None where all is one lesion.

    Args:
        filled: bool (slices, rows, cols), the mask in its box.
        spacing_mm: (3,).

    Returns:
        Unsigned whole numbers, shape as `filled`.
    """
    edge = _block_edge(spacing_mm)
    blocks, n_parts = label(_blocks(filled, edge), TOUCHING)
    if n_parts == 1:
        return None
    small = np.min_scalar_type(n_parts)  # as wide as the mask itself, most often
    parts = (
        blocks.astype(small)
        .repeat(edge, axis=1)
        .repeat(edge, axis=2)[:, : filled.shape[1], : filled.shape[2]]
        * filled
    )
    belongs = _linked(parts, n_parts, spacing_mm)
    if belongs.max() == 0:
        return None
    voxels = np.bincount(belongs[parts[filled].astype(int) - 1])
    rank = np.empty(len(voxels), small)
    rank[np.argsort(-voxels, kind="stable")] = np.arange(1, len(voxels) + 1)
    return np.asarray(np.concatenate([np.zeros(1, small), rank[belongs]])[parts])


def _block_edge(spacing_mm: np.ndarray) -> int:
    """Pixels along the edge of square blocks, so small that 10 mm span two that touch.

    Blocks that hang together thus are of one lesion, and there are far fewer of them than voxels.
    1 where the slices are too far apart for that.
    """
    room = np.sqrt(max(0.0, APART_MM**2 - spacing_mm[0] ** 2))
    return max(1, int((room / np.hypot(*spacing_mm[1:]) + 1) / 2))


def _blocks(filled: np.ndarray, edge: int) -> np.ndarray:
    """Which blocks of edge x edge pixels hold a voxel: bool (slices, rows / edge, cols / edge)."""
    over_rows = np.logical_or.reduceat(filled, np.arange(0, filled.shape[1], edge), axis=1)
    return np.asarray(
        np.logical_or.reduceat(over_rows, np.arange(0, filled.shape[2], edge), axis=2)
    )


def _linked(parts: np.ndarray, n_parts: int, spacing_mm: np.ndarray) -> np.ndarray:
    """Number of the lesion of each part, int (parts,), in the order of their first parts.

    From one part after the other, everything in reach joins. Of two parts the voxels that are
    nearest to each other lie on their surfaces.
    """
    surface = _surface(parts > 0)
    owner, points = parts[surface].astype(int) - 1, np.argwhere(surface) * spacing_mm
    reach = APART_MM + ROUNDING_MM
    belongs = np.full(n_parts, -1)
    number = 0
    while (belongs < 0).any():
        joining = [int(belongs.argmin())]  # the first that belongs nowhere
        while joining:
            belongs[joining] = number
            front = points[np.isin(owner, joining)]
            apart = np.flatnonzero(belongs[owner] < 0)
            apart = apart[
                (
                    (points[apart] >= front.min(axis=0) - reach)
                    & (points[apart] <= front.max(axis=0) + reach)
                ).all(axis=1)
            ]
            near = np.isfinite(KDTree(front).query(points[apart], distance_upper_bound=reach)[0])
            joining = np.unique(owner[apart[near]]).tolist()
        number += 1
    return belongs


def _surface(filled: np.ndarray) -> np.ndarray:
    """The voxels of a mask that have a neighbour across a face outside of it, bool as the mask.

    What lies beyond the array is no neighbour: no other part is there.
    """
    inside = filled.copy()
    for axis in range(3):
        here, there = np.moveaxis(inside, axis, 0), np.moveaxis(filled, axis, 0)
        here[1:] &= there[:-1]
        here[:-1] &= there[1:]
    return np.asarray(filled & ~inside)


def _not_empty(slices: np.ndarray, mask: np.ndarray) -> Lesion:
    some = mask.any(axis=(1, 2))
    return Lesion(slices[some], mask[some])


def _extent(lesion: Lesion, spacing_mm: np.ndarray) -> LesionExtent:
    pixels = lesion.pixels
    return LesionExtent(
        max_diameter_mm=max_diameter_mm(lesion, (float(spacing_mm[1]), float(spacing_mm[2]))),
        volume_mm3=float(pixels.sum() * spacing_mm.prod()),
        first=int(lesion.slices[0]),
        last=int(lesion.slices[-1]),
        largest=int(lesion.slices[pixels.argmax()]),
    )
