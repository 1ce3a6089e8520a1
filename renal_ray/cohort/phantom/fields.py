"""Where voxels lie, smooth random fields over them, and the signed distances from which organs are
painted.

Axes run as an axial image is shown: slices head to foot, rows anterior to posterior, columns from
the patient's right to the left. Coordinates are DICOM patient coordinates in mm: x to the left, y
to the back, z to the head.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
Axes = tuple[Array, Array, Array]  # z, y, x in mm, each one-dimensional
EDGE_MM = 2.2  # width over which an in-plane edge rises: the point spread of a soft-tissue kernel
# Distance of the nodes at which large organs are computed before they are brought to the pixel
# grid.
_NODE_MM = 3.0
_LATTICE = 32
_SPLINE_GAIN = (
    315 / 151
) ** 1.5  # a cubic B-spline keeps 151/315 of white noise's variance along each axis


@dataclass(frozen=True)
class Grid:
    """A voxel grid.

    Args:
        z: slice positions (n,), mm, descending.
        y: row positions (rows,), mm.
        x: column positions (cols,), mm.
        slice_mm: slice thickness and distance, mm.
    """

    z: Array
    y: Array
    x: Array
    slice_mm: float

    @property
    def shape(self) -> tuple[int, int, int]:
        """(slices, rows, columns)."""
        return len(self.z), len(self.y), len(self.x)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Slice, row and column distance, mm."""
        return self.slice_mm, float(self.y[1] - self.y[0]), float(self.x[1] - self.x[0])


def centred_grid(
    n_slices: int, rows: int, columns: int, *, slice_mm: float, pixel_mm: tuple[float, float]
) -> Grid:
    """A grid whose middle is the origin of the coordinates; pixel_mm is (row distance, column
    distance)."""
    z = (np.arange(n_slices)[::-1] - (n_slices - 1) / 2) * slice_mm
    y = (np.arange(rows) - (rows - 1) / 2) * pixel_mm[0]
    x = (np.arange(columns) - (columns - 1) / 2) * pixel_mm[1]
    return Grid(z.astype(np.float32), y.astype(np.float32), x.astype(np.float32), slice_mm)


def nodes(points: Array) -> Array:
    """Evenly spaced nodes over an axis, about 3 mm apart and never closer than its points."""
    span = float(points[-1] - points[0])
    count = min(len(points), max(2, round(span / _NODE_MM) + 1))
    return np.linspace(points[0], points[-1], count, dtype=np.float32)


def linear_weights(at: Array, source: Array) -> Array:
    """Matrix (len(at), len(source)) that interpolates linearly between evenly spaced nodes."""
    position = (at - source[0]) / (source[1] - source[0])
    low = np.clip(np.floor(position).astype(int), 0, len(source) - 2)
    share = np.clip(position - low, 0, 1).astype(np.float32)
    weights = np.zeros((len(at), len(source)), np.float32)
    rows = np.arange(len(at))
    weights[rows, low] = 1 - share
    weights[rows, low + 1] += share
    return weights


class SmoothField:
    """A Gaussian random field of unit variance, a function of the place alone, so that any piece of
    a volume can be computed by itself.

    Args:
        rng: source of the lattice values.
        scale_mm: distance of the lattice nodes, about the size of the field's lumps.
    """

    def __init__(self, rng: np.random.Generator, scale_mm: float) -> None:
        self.scale_mm = scale_mm
        self._lattice = rng.standard_normal((_LATTICE,) * 3, dtype=np.float32) * np.float32(
            _SPLINE_GAIN
        )

    def _weights(self, points: Array) -> Array:
        position = points.astype(np.float64) / self.scale_mm
        low = np.floor(position).astype(int)
        t = position - low
        basis = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
        weights = np.zeros((len(points), _LATTICE), np.float32)
        rows = np.arange(len(points))
        for shift, values in enumerate(basis):
            weights[rows, (low - 1 + shift) % _LATTICE] = values / 6
        return weights

    def __call__(self, axes: Axes) -> Array:
        """Values (len(z), len(y), len(x)) over the outer product of three axes in mm."""
        z, y, x = (self._weights(axis) for axis in axes)
        along_z = (z @ self._lattice.reshape(_LATTICE, -1)).reshape(-1, _LATTICE, _LATTICE)
        return np.asarray(y @ along_z @ x.T, np.float32)


def open_axes(axes: Axes) -> Axes:
    """The axes shaped (n, 1, 1), (1, rows, 1), (1, 1, cols) for broadcasting."""
    z, y, x = axes
    return z[:, None, None], y[None, :, None], x[None, None, :]


def ellipsoid(
    axes: Axes, centre: tuple[float, float, float], radii: tuple[float, float, float]
) -> Array:
    """First-order signed distance to an ellipsoid, mm, negative inside; centre and radii in the
    order z, y, x."""
    scaled = [
        (axis - np.float32(middle)) / np.float32(radius)
        for axis, middle, radius in zip(open_axes(axes), centre, radii, strict=True)
    ]
    unit = scaled[0] ** 2 + scaled[1] ** 2 + scaled[2] ** 2
    gradient = (
        (scaled[0] / np.float32(radii[0])) ** 2
        + (scaled[1] / np.float32(radii[1])) ** 2
        + (scaled[2] / np.float32(radii[2])) ** 2
    )
    root = np.sqrt(unit)
    return np.asarray((root - 1) * root / np.sqrt(gradient + np.float32(1e-9)), np.float32)


def capsule(
    axes: Axes, start: tuple[float, float, float], end: tuple[float, float, float], radius: float
) -> Array:
    """Signed distance, mm, to a straight tube with round ends; points in the order z, y, x."""
    z, y, x = open_axes(axes)
    dz, dy, dx = (np.float32(b - a) for a, b in zip(start, end, strict=True))
    pz, py, px = z - np.float32(start[0]), y - np.float32(start[1]), x - np.float32(start[2])
    along = np.clip((pz * dz + py * dy + px * dx) / (dz * dz + dy * dy + dx * dx), 0, 1)
    return np.asarray(
        np.sqrt((pz - along * dz) ** 2 + (py - along * dy) ** 2 + (px - along * dx) ** 2)
        - np.float32(radius),
        np.float32,
    )


def superellipse(
    y: Array, x: Array, *, half_y: Array | float, half_x: Array | float, power: float = 2.4
) -> Array:
    """Signed distance along the ray from the origin, mm, to a superellipse in the axial plane."""
    unit = ((np.abs(x) / half_x) ** power + (np.abs(y) / half_y) ** power) ** np.float32(1 / power)
    return np.asarray(np.hypot(x, y) * (1 - 1 / np.maximum(unit, 1e-3)), np.float32)


def smooth_union(first: Array, second: Array, blend_mm: float = 8.0) -> Array:
    """Signed distance of two bodies grown together."""
    h = np.maximum(blend_mm - np.abs(first - second), 0) / blend_mm
    return np.asarray(np.minimum(first, second) - h * h * np.float32(blend_mm / 4), np.float32)


def soft_step(value: Array, width: float) -> Array:
    """0 well below zero, 1 well above it, linear over `width` between."""
    return np.asarray(np.clip(value * np.float32(1 / width) + np.float32(0.5), 0, 1))
