"""The volume in the making: organs are painted into it from signed distances, with edges as wide as
the scanner's point spread."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from renal_ray.cohort.phantom.fields import EDGE_MM, Array, Axes, Grid, linear_weights, nodes

Limits = tuple[float, float]


@dataclass(frozen=True)
class Patch:
    """A box of the coarse node grid: `axes` are its coordinates (z, y, x) in mm, `slices` its index
    ranges."""

    axes: Axes
    slices: tuple[slice, slice, slice]

    def part(self, box: tuple[slice, slice, slice]) -> "Patch":
        """A smaller box, its index ranges given within this one."""
        z, y, x = (axis[cut] for axis, cut in zip(self.axes, box, strict=True))
        zs, ys, xs = (
            slice(whole.start + cut.start, whole.start + cut.stop)
            for whole, cut in zip(self.slices, box, strict=True)
        )
        return Patch((z, y, x), (zs, ys, xs))


@dataclass(frozen=True)
class FinePatch:
    """A box of the pixel grid with each slice divided in sub-slices: `axes` are the coordinates of
    the sub-voxels in mm."""

    axes: Axes
    slices: tuple[slice, slice, slice]
    sub: int


class Canvas:
    """A volume of Hounsfield units over a grid.

    Args:
        grid: the voxel grid.
        hu: what to start from, HU.
    """

    def __init__(self, grid: Grid, hu: float = -1000.0) -> None:
        self.grid = grid
        self.hu: Array = np.full(grid.shape, hu, np.float32)
        self._y, self._x = nodes(grid.y), nodes(grid.x)
        self._to_y, self._to_x = linear_weights(grid.y, self._y), linear_weights(grid.x, self._x)

    def patch(
        self,
        z: Limits = (-np.inf, np.inf),
        y: Limits = (-np.inf, np.inf),
        x: Limits = (-np.inf, np.inf),
    ) -> Patch | None:
        """The coarse box that covers the limits, mm; None where the grid has no voxel there."""
        ranges = (
            _within(self.grid.z, z, self.grid.slice_mm),
            _within(self._y, y, 3.5),
            _within(self._x, x, 3.5),
        )
        if any(r is None for r in ranges):
            return None
        zs, ys, xs = (r for r in ranges if r is not None)
        return Patch((self.grid.z[zs], self._y[ys], self._x[xs]), (zs, ys, xs))

    def whole(self) -> Patch:
        """The coarse box of the whole volume."""
        return Patch(
            (self.grid.z, self._y, self._x),
            (slice(0, len(self.grid.z)), slice(0, len(self._y)), slice(0, len(self._x))),
        )

    def to_pixels(self, patch: Patch, values: Array) -> tuple[Array, tuple[slice, slice, slice]]:
        """Coarse values of a patch on the pixels that it covers, and the index ranges of these."""
        zs, ys, xs = patch.slices
        rows = _inside(self.grid.y, self._y[ys])
        columns = _inside(self.grid.x, self._x[xs])
        fine = (
            self._to_y[rows, ys]
            @ np.broadcast_to(values, tuple(len(a) for a in patch.axes))
            @ self._to_x[columns, xs].T
        )
        return fine, (zs, rows, columns)

    def paint(
        self, patch: Patch | None, distance: Array, hu: float | Array, *, edge_mm: float = EDGE_MM
    ) -> None:
        """Paints a body over what is there.

        A slice averages over its thickness: an edge that leans against the axis is as much wider as
        it moves from one slice to the next.

        Args:
            patch: where; nothing is painted for None.
            distance: signed distance on the patch's nodes, mm, negative inside.
            hu: one value, or values on the patch's nodes.
            edge_mm: width of an edge that runs along the axis.
        """
        if patch is None:
            return
        distance = np.broadcast_to(
            np.asarray(distance, np.float32), tuple(len(a) for a in patch.axes)
        )
        step = np.gradient(distance, axis=0) if distance.shape[0] > 1 else np.float32(0)
        filled = np.float32(0.5) - distance / np.sqrt(np.float32(edge_mm**2) + step * step)
        touched = _touched(filled > 0)
        if touched is None:
            return
        part = patch.part(touched)
        cover, box = self.to_pixels(part, filled[touched])
        np.clip(cover, 0, 1, out=cover)
        target = self.hu[box]
        value = (
            self.to_pixels(
                part, np.broadcast_to(np.asarray(hu, np.float32), distance.shape)[touched]
            )[0]
            if isinstance(hu, np.ndarray)
            else np.float32(hu)
        )
        cover *= value - target
        target += cover

    def fine(
        self, z: Limits, y: Limits, x: Limits, *, most_voxels: float = 2.5e6
    ) -> FinePatch | None:
        """The pixel box that covers the limits, its slices divided in four sub-slices, or fewer
        where the box is large."""
        ranges = (
            _within(self.grid.z, z, self.grid.slice_mm),
            _within(self.grid.y, y, 1.0),
            _within(self.grid.x, x, 1.0),
        )
        if any(r is None for r in ranges):
            return None
        zs, ys, xs = (r for r in ranges if r is not None)
        voxels = (zs.stop - zs.start) * (ys.stop - ys.start) * (xs.stop - xs.start)
        sub = max(1, min(4, int(most_voxels / voxels), int(np.ceil(self.grid.slice_mm / 1.2))))
        offsets = -(np.arange(sub) - (sub - 1) / 2) / sub * self.grid.slice_mm
        deep = (self.grid.z[zs][:, None] + offsets[None, :]).ravel().astype(np.float32)
        return FinePatch((deep, self.grid.y[ys], self.grid.x[xs]), (zs, ys, xs), sub)

    def lift(self, fine: FinePatch) -> Array:
        """A copy of the volume in a fine patch, each slice repeated for its sub-slices."""
        return np.repeat(self.hu[fine.slices], fine.sub, axis=0)

    def settle(self, fine: FinePatch, values: Array) -> None:
        """Writes the mean over sub-slices back: the partial volume of a thick slice."""
        self.hu[fine.slices] = slice_mean(fine, values)

    def coarse_at(self, fine: FinePatch, values: Array) -> Array:
        """Coarse values of the whole volume on a fine patch's sub-voxels."""
        zs, ys, xs = fine.slices
        plane = (
            self._to_y[ys]
            @ np.broadcast_to(values, (len(self.grid.z), len(self._y), len(self._x)))[zs]
            @ self._to_x[xs].T
        )
        return np.repeat(plane, fine.sub, axis=0)


def slice_mean(fine: FinePatch, values: Array) -> Array:
    """The mean over each slice's sub-slices, (slices, rows, columns)."""
    return np.asarray(values.reshape(-1, fine.sub, *values.shape[1:]).mean(axis=1), np.float32)


def _within(points: Array, limits: Limits, margin: float) -> slice | None:
    found = np.flatnonzero((points >= limits[0] - margin) & (points <= limits[1] + margin))
    return (
        slice(int(found[0]), int(found[-1]) + 1)
        if len(found) > 1 or (len(found) == 1 and len(points) == 1)
        else None
    )


def _touched(filled: NDArray[np.bool_]) -> tuple[slice, slice, slice] | None:
    """Box around the nodes that a body fills, one node wider in the plane, where interpolation
    still carries it."""
    if not filled.any():
        return None
    cuts = []
    for axis, margin in enumerate((0, 1, 1)):
        found = np.flatnonzero(filled.any(axis=tuple(other for other in range(3) if other != axis)))
        cuts.append(
            slice(
                max(0, int(found[0]) - margin), min(filled.shape[axis], int(found[-1]) + 1 + margin)
            )
        )
    return cuts[0], cuts[1], cuts[2]


def _inside(points: Array, covered: Array) -> slice:
    found = np.flatnonzero((points >= covered[0] - 1e-3) & (points <= covered[-1] + 1e-3))
    return slice(int(found[0]), int(found[-1]) + 1) if len(found) else slice(0, 0)
