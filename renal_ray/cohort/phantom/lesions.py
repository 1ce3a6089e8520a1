"""Lesions: where they sit on a kidney, how their surface runs, and what is in them.

Attenuation in the corticomedullary phase after the usual descriptions: simple cysts 0-20 HU without
enhancement, angiomyolipomas with macroscopic fat or, fat-poor, homogeneous; clear-cell carcinomas
strongly and unevenly enhancing, larger ones necrotic; papillary ones weakly and evenly; chromophobe
between.
"""

from dataclasses import dataclass, replace

import numpy as np

from renal_ray.cohort.phantom.anatomy import Kidney, Point
from renal_ray.cohort.phantom.fields import EDGE_MM, Array, Axes, SmoothField, open_axes, soft_step
from renal_ray.cohort.phantom.plan import Kind, Place, Variant


@dataclass(frozen=True)
class Recipe:
    """What a lesion is made of.

    Args:
        hu: attenuation of its solid or fluid bulk, HU.
        lumps_hu: standard deviation of the coarse unevenness, HU.
        grain_hu: standard deviation of the fine unevenness, HU.
        core_share: share of the volume that is necrosis, fluid or fat.
        core_hu: attenuation of that share, HU.
        core_central: how much the share keeps to the middle; 0 spreads it evenly.
        wall_mm: thickness of a wall of its own; 0 none.
        wall_hu: attenuation of wall and septa, HU.
        septa: half the thickness of septa in units of their field; 0 none.
        lobes: height of the surface's lobes as a share of the radius.
        rim: whether cortex grows over it (growth within the kidney).
    """

    hu: float
    lumps_hu: float = 0.0
    grain_hu: float = 0.0
    core_share: float = 0.0
    core_hu: float = 20.0
    core_central: float = 1.0
    wall_mm: float = 0.0
    wall_hu: float = 0.0
    septa: float = 0.0
    lobes: float = 0.05
    rim: bool = False


@dataclass(frozen=True)
class Lesion:
    """A lesion in place; radii run along `axes`, whose rows are unit vectors in (z, y, x)."""

    centre: Point
    radii: tuple[float, float, float]
    axes: np.ndarray
    recipe: Recipe
    fields: tuple[SmoothField, SmoothField, SmoothField, SmoothField]  # surface, lumps, core, grain

    @property
    def reach(self) -> float:
        """No part of the lesion is farther from its centre, mm."""
        return max(self.radii) * (1 + 2.5 * self.recipe.lobes) + 2


def draw_recipe(
    kind: Kind,
    variant: Variant,
    size_mm: float,
    rng: np.random.Generator,
    *,
    grade: str | None = None,
) -> Recipe:
    """What a lesion of that histology is made of; one draw of the many looks it can have."""
    if kind == "cyst":
        return _cyst(variant, rng)
    lobes = float(rng.uniform(0.03, 0.09))
    if kind == "angiomyolipoma":
        if variant == "fat_poor":
            return Recipe(float(rng.normal(72, 15)), lumps_hu=6, grain_hu=4, lobes=lobes)
        share = float(rng.uniform(0.35, 0.8))
        return Recipe(
            float(rng.uniform(40, 100)),
            lumps_hu=22,
            grain_hu=12,
            core_share=share,
            core_hu=-85,
            core_central=0.1,
            lobes=lobes,
        )
    if kind == "papillary_rcc":
        return Recipe(
            float(rng.uniform(42, 80)),
            lumps_hu=5,
            grain_hu=3,
            core_share=_necrosis(size_mm, 0.5, rng),
            lobes=lobes,
        )
    if kind == "chromophobe_rcc":
        return Recipe(
            float(rng.uniform(78, 125)),
            lumps_hu=9,
            grain_hu=5,
            core_share=_necrosis(size_mm, 0.5, rng),
            core_hu=45,
            lobes=lobes,
        )
    return _clear_cell(variant, size_mm, rng, grade)


def _cyst(variant: Variant, rng: np.random.Generator) -> Recipe:
    fluid, lobes = float(np.clip(rng.normal(9, 5), -3, 20)), float(rng.uniform(0.01, 0.04))
    if variant == "dense":  # haemorrhagic or proteinaceous
        return Recipe(float(rng.uniform(40, 118)), lumps_hu=float(rng.uniform(2, 7)), lobes=lobes)
    if variant == "septated":
        wall = float(rng.uniform(55, 110))
        return Recipe(
            fluid + float(rng.uniform(5, 30)),
            lumps_hu=5,
            wall_mm=float(rng.uniform(1.2, 3)),
            wall_hu=wall,
            septa=float(rng.uniform(0.06, 0.14)),
            lobes=0.06,
        )
    return Recipe(fluid, lumps_hu=1.5, wall_mm=0.6, wall_hu=35, lobes=lobes)


def _clear_cell(
    variant: Variant, size_mm: float, rng: np.random.Generator, grade: str | None
) -> Recipe:
    lobes = float(rng.uniform(0.05, 0.13))
    if variant == "cystic":
        wall, septa = float(rng.uniform(80, 150)), float(rng.uniform(0.06, 0.16))
        return Recipe(
            float(rng.uniform(12, 32)),
            lumps_hu=6,
            wall_mm=float(rng.uniform(1.5, 3.5)),
            wall_hu=wall,
            septa=septa,
            lobes=lobes,
        )
    if variant == "hypoenhancing":
        return Recipe(
            float(rng.uniform(52, 88)),
            lumps_hu=10,
            grain_hu=6,
            core_share=_necrosis(size_mm, 0.6, rng),
            lobes=lobes,
        )
    eager = 1.3 if grade in ("III", "IV") else 1.0
    hu = float(np.clip(rng.normal(130, 27), 85, 195))
    lumps, core = float(rng.uniform(14, 30)), float(rng.uniform(12, 38))
    return Recipe(
        hu,
        lumps_hu=lumps,
        grain_hu=9,
        core_share=_necrosis(size_mm, eager, rng),
        core_hu=core,
        lobes=lobes,
    )


def _necrosis(size_mm: float, eager: float, rng: np.random.Generator) -> float:
    """Share of necrosis: rare below 25 mm, up to most of the mass in the largest."""
    typical = eager * float(np.clip((size_mm - 22) / 130, 0, 0.6))
    return float(np.clip(typical * rng.uniform(0.3, 1.7), 0, 0.75))


def place_lesion(
    kidney: Kidney,
    recipe: Recipe,
    *,
    size_mm: float,
    place: Place,
    rng: np.random.Generator,
    elevation: float | None = None,
    round_mm: float | None = None,
) -> Lesion:
    """Puts a lesion on a kidney.

    Args:
        kidney: the bearer.
        recipe: what it is made of.
        size_mm: largest diameter, in the axial plane, mm.
        place: exophytic (more than half outside), mesophytic or endophytic (covered by parenchyma).
        rng: the patient's random stream.
        elevation: angle above the kidney's equator, radians; drawn when omitted.
        round_mm: slice distance; a lesion smaller than two slices is centred near one so that some
            slice shows it.
    """
    radius = size_mm / 2
    turn = rng.normal(-0.5, 0.7)  # 0 lateral, negative to the front
    rise = rng.uniform(-0.9, 0.9) * (1 if size_mm < 60 else 0.4) if elevation is None else elevation
    u, v, w = np.cos(rise) * np.cos(turn), np.cos(rise) * np.sin(turn), np.sin(rise)
    a, b, c = kidney.radii
    to_surface = 1 / np.sqrt((u / a) ** 2 + (v / b) ** 2 + (w / c) ** 2)
    outward = {
        "exophytic": rng.uniform(0.15, 0.5),
        "mesophytic": rng.uniform(-0.3, 0.1),
        "endophytic": -1.0,
    }[place]
    distance = to_surface + outward * radius - (2.0 if place == "endophytic" else 0.0)
    distance = max(distance, 0.25 * to_surface)
    centre = np.array(kidney.centre) + distance * (
        u * kidney.axes[0] + v * kidney.axes[1] + w * kidney.axes[2]
    )
    if round_mm is not None and size_mm < 2 * round_mm:
        centre[0] = round(centre[0] / round_mm) * round_mm
    spin = rng.uniform(0, np.pi)
    axes = np.array(
        [[0, np.sin(spin), np.cos(spin)], [0, np.cos(spin), -np.sin(spin)], [1, 0, 0]], np.float32
    )
    flat = 0.97 if recipe.lobes < 0.045 else rng.uniform(0.72, 0.95)
    radii = (0.99 * radius, 0.99 * radius * flat, 0.99 * radius * rng.uniform(0.8, 1.0))
    scales = (max(4.0, 0.42 * size_mm), max(3.0, 0.14 * size_mm), max(4.0, 0.2 * size_mm), 3.0)
    fields = tuple(SmoothField(rng, scale) for scale in scales)
    spot = (float(centre[0]), float(centre[1]), float(centre[2]))
    return Lesion(spot, radii, axes, replace(recipe, rim=place == "endophytic"), fields)  # type: ignore[arg-type]


def surface(lesion: Lesion, axes: Axes) -> Array:
    """Signed distance to the lesion's lobed surface, mm, over the outer product of z, y, x."""
    z, y, x = (
        axis - np.float32(middle)
        for axis, middle in zip(open_axes(axes), lesion.centre, strict=True)
    )
    unit, slope = np.float32(0), np.float32(0)
    for row, radius in zip(lesion.axes, lesion.radii, strict=True):
        along = (row[0] * z + row[1] * y + row[2] * x) / np.float32(radius)
        unit = unit + along * along
        slope = slope + (along / np.float32(radius)) ** 2
    root = np.sqrt(unit)
    distance = (root - 1) * root / np.sqrt(slope + np.float32(1e-9))
    lobes = lesion.recipe.lobes * min(lesion.radii)
    return np.asarray(
        distance + np.float32(lobes) * np.clip(lesion.fields[0](axes), -2, 2), np.float32
    )


def paint_lesion(values: Array, axes: Axes, lesion: Lesion, distance: Array) -> Array:
    """Paints a lesion into a box of sub-voxels.

    Args:
        values: HU of the box, changed in place.
        axes: z, y, x of the box, mm.
        lesion: what and where.
        distance: signed distance to its surface as it is to be drawn, mm.

    Returns:
        Share of lesion in each sub-voxel.
    """
    flesh = texture(
        lesion.recipe,
        distance,
        tuple(field(axes) for field in lesion.fields[1:]),
        reach=max(lesion.radii),
    )
    cover = soft_step(-distance, EDGE_MM)
    values += cover * (flesh - values)
    return cover


def texture(recipe: Recipe, distance: Array, fields: tuple[Array, ...], *, reach: float) -> Array:
    """HU of a lesion's inside.

    Args:
        recipe: what it is made of.
        distance: signed distance to its surface, mm.
        fields: coarse lumps, core and grain: unit-variance fields of distance's shape.
        reach: distance of the surface from the deepest point, mm.
    """
    lumps, core, grain = fields
    flesh = (
        np.float32(recipe.hu)
        + np.float32(recipe.lumps_hu) * lumps
        + np.float32(recipe.grain_hu) * grain
    )
    if recipe.core_share > 0.01:
        depth = np.float32(recipe.core_central * 2.5 / reach) * -distance + core
        inside = depth[distance < -EDGE_MM]
        if inside.size:
            level = np.quantile(inside[:: max(1, inside.size // 20000)], 1 - recipe.core_share)
            cover = soft_step(depth - np.float32(level), 0.35)
            flesh += cover * (
                np.float32(recipe.core_hu) + np.float32(0.25 * recipe.lumps_hu) * grain - flesh
            )
    if recipe.septa > 0:
        flesh += soft_step(np.float32(recipe.septa) - np.abs(core), 0.12) * (
            np.float32(recipe.wall_hu) - flesh
        )
    if recipe.wall_mm > 0:
        flesh += soft_step(
            distance + np.float32(recipe.wall_mm) * (1 + 0.5 * np.clip(core, -1, 2)), 1.0
        ) * (np.float32(recipe.wall_hu) - flesh)
    return np.asarray(flesh, np.float32)
