"""A kidney in the corticomedullary phase: bright cortex and columns, dark pyramids, a sinus of fat,
vessels and pelvis."""

import numpy as np

from renal_ray.cohort.phantom.anatomy import Kidney
from renal_ray.cohort.phantom.fields import EDGE_MM, Array, Axes, SmoothField, open_axes, soft_step

SINUS_FAT_HU, URINE_HU = -85.0, 8.0


def own_axes(kidney: Kidney, axes: Axes) -> tuple[Array, Array, Array]:
    """Coordinates along the kidney's own axes (lateral, front to back, long axis), mm, over the
    outer product of z, y, x."""
    z, y, x = (
        axis - np.float32(middle)
        for axis, middle in zip(open_axes(axes), kidney.centre, strict=True)
    )
    u, v, w = (row[0] * z + row[1] * y + row[2] * x for row in kidney.axes)
    return u, v, w


def outline(kidney: Kidney, own: tuple[Array, Array, Array], bumps: Array | float = 0.0) -> Array:
    """Signed distance to the capsule, mm: an ellipsoid whose poles bend towards the spine, with
    shallow fetal lobes."""
    u, v, w = own
    a, b, c = (np.float32(r) for r in kidney.radii)
    bent = u + np.float32(7) * (w / c) ** 2
    unit = np.sqrt((bent / a) ** 2 + (v / b) ** 2 + (w / c) ** 2)
    slope = np.sqrt((bent / a**2) ** 2 + (v / b**2) ** 2 + (w / c**2) ** 2)
    return np.asarray(
        (unit - 1) * unit / (slope + np.float32(1e-6)) + np.float32(1.1) * bumps, np.float32
    )


def sinus(kidney: Kidney, own: tuple[Array, Array, Array], bumps: Array | float = 0.0) -> Array:
    """Signed distance, mm, to the renal sinus: an ellipsoid open to the medial side."""
    u, v, w = own
    a, b, c = (np.float32(r) for r in kidney.radii)
    unit = np.sqrt(
        ((u + 0.75 * a) / (0.75 * a)) ** 2 + (v / (0.36 * b)) ** 2 + (w / (0.46 * c)) ** 2
    )
    return np.asarray((unit - 1) * np.float32(0.4) * b + np.float32(2.4) * bumps, np.float32)


def paint_kidney(
    values: Array,
    axes: Axes,
    kidney: Kidney,
    rng: np.random.Generator,
    distance: Array,
    fields: tuple[SmoothField, SmoothField],
) -> Array:
    """Paints one kidney into a box of sub-voxels.

    Args:
        values: HU of the box, changed in place.
        axes: z, y, x of the box, mm.
        kidney: its measures.
        rng: random stream of the pyramids.
        distance: signed distance to the capsule, mm (with what a lesion adds to it).
        fields: broad and fine textures.

    Returns:
        Share of parenchyma in each sub-voxel; the sinus is none.
    """
    own = own_axes(kidney, axes)
    broad, fine = fields[0](axes), fields[1](axes)
    hollow = sinus(kidney, own, broad)
    flesh = np.full(values.shape, np.float32(kidney.cortex_hu), np.float32) + np.float32(5) * fine
    inner = (distance < -kidney.cortex_mm + 2) & (hollow > -2)
    pyramids = _pyramids(
        kidney, tuple(np.broadcast_to(axis, values.shape)[inner] for axis in own), rng
    )
    dark = pyramids * soft_step(-distance[inner] - np.float32(kidney.cortex_mm) + broad[inner], 2.5)
    flesh[inner] += dark * (
        np.float32(kidney.medulla_hu - kidney.cortex_hu) + np.float32(4) * fine[inner]
    )
    cover = soft_step(-distance, EDGE_MM)
    values += cover * (flesh - values)
    u, v, w = own
    a, b, c = (np.float32(r) for r in kidney.radii)
    parenchyma = cover * soft_step(hollow, EDGE_MM)
    cover = soft_step(-hollow, EDGE_MM) * soft_step(-(distance - 6), EDGE_MM)
    values += cover * (np.float32(SINUS_FAT_HU) + np.float32(8) * broad - values)
    pelvis = (
        (
            np.sqrt(
                ((u + 0.6 * a) / (0.5 * a)) ** 2
                + ((v - 0.07 * b) / (0.15 * b)) ** 2
                + (w / (0.27 * c)) ** 2
            )
            - 1
        )
        * np.float32(0.2)
        * b
    )
    values += soft_step(-(pelvis + 1.5 * fine), EDGE_MM) * cover * (np.float32(URINE_HU) - values)
    tubes = np.hypot(broad - 0.2, fine * 0.5 + 0.1)
    values += soft_step(0.34 - tubes, 0.25) * cover * (np.float32(175) - values)
    return parenchyma


def _pyramids(kidney: Kidney, own: tuple[Array, ...], rng: np.random.Generator) -> Array:
    """Share of medulla, 0 to 1, from directions of the pyramids seen from the sinus; the rest are
    cortical columns."""
    a, b, c = (np.float32(r) for r in kidney.radii)
    u, v, w = (own[0] + 0.25 * a) / a, own[1] / b, own[2] / c
    length = np.sqrt(u * u + v * v + w * w) + np.float32(1e-3)
    u, v, w = u / length, v / length, w / length
    best = np.full(len(u), -1, np.float32)
    for height in (-68, -42, -15, 12, 40, 66):
        for turn in (-100, -52, -2, 50, 98):
            elevation, azimuth = (
                np.radians(height + rng.normal(0, 4)),
                np.radians(turn + rng.normal(0, 7) + (12 if height % 2 else -12)),
            )
            width = np.float32(rng.uniform(0, 0.012))
            towards = np.array(
                [
                    np.cos(elevation) * np.cos(azimuth),
                    np.cos(elevation) * np.sin(azimuth),
                    np.sin(elevation),
                ],
                np.float32,
            )
            np.maximum(best, towards[0] * u + towards[1] * v + towards[2] * w + width, out=best)
    return soft_step(best - np.float32(0.945), 0.035)
