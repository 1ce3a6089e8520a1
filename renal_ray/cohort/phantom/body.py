"""Everything around the kidneys that an axial image shows: wall, spine, vessels, liver, spleen,
stomach and bowel."""

from dataclasses import dataclass

import numpy as np

from renal_ray.cohort.phantom.anatomy import Build
from renal_ray.cohort.phantom.canvas import Canvas, Patch
from renal_ray.cohort.phantom.fields import (
    Array,
    SmoothField,
    capsule,
    ellipsoid,
    open_axes,
    smooth_union,
    soft_step,
    superellipse,
)

FAT_HU, MUSCLE_HU, GAS_HU, LUNG_HU = -104.0, 56.0, -930.0, -840.0


@dataclass(frozen=True)
class Textures:
    """A patient's smooth random fields, by the size of their lumps."""

    broad: SmoothField
    organ: SmoothField
    vessel: tuple[SmoothField, SmoothField]
    folds: SmoothField
    fine: SmoothField


def draw_textures(rng: np.random.Generator) -> Textures:
    """The fields of one patient."""
    return Textures(
        SmoothField(rng, 55),
        SmoothField(rng, 24),
        (SmoothField(rng, 26), SmoothField(rng, 26)),
        SmoothField(rng, 12),
        SmoothField(rng, 7),
    )


def paint_body(
    canvas: Canvas, build: Build, rng: np.random.Generator, *, top_mm: float = 100.0
) -> Array:
    """Paints a body without its kidneys.

    Args:
        canvas: air.
        build: the patient's measures.
        rng: the patient's random stream; the number of draws does not depend on the grid.
        top_mm: z of the right diaphragm's dome.

    Returns:
        Signed distance to the room that a renal mass can grow into, on the canvas's coarse nodes,
        mm, negative inside.
    """
    textures = draw_textures(rng)
    whole = canvas.whole()
    cavity = _wall(canvas, whole, build, textures)
    _lungs(canvas, whole, cavity, top_mm)
    _bowel(canvas, build, rng, textures.folds)
    _liver_and_spleen(canvas, whole, build, textures, cavity, top_mm, rng)
    _stomach(canvas, build, rng, textures.folds)
    spine = _spine(canvas, build, rng)
    _great_vessels(canvas, build, rng)
    return np.maximum(cavity, -spine)


def _wall(canvas: Canvas, whole: Patch, build: Build, textures: Textures) -> Array:
    z, y, x = open_axes(whole.axes)
    broad = textures.broad(whole.axes)
    waist = 1 + 0.04 * np.tanh(z / 80) + 0.018 * broad
    groove = (
        1 - 0.07 * soft_step(y, 60.0) - 0.04 * np.exp(-((x / 16) ** 2)) * soft_step(y, 60.0)
    )  # the back is flatter than the belly
    body = superellipse(
        y,
        x,
        half_y=build.half_depth * waist * groove,
        half_x=build.half_width * waist,
        power=build.power,
    )
    canvas.paint(whole, body, 5.0)  # skin
    fat_depth = build.fat_mm * (1 + 0.35 * np.abs(y) / build.half_depth + 0.15 * broad)
    canvas.paint(whole, body + 2.0, FAT_HU)
    canvas.paint(whole, body + fat_depth, MUSCLE_HU + 7 * textures.organ(whole.axes))
    rear = np.clip((y - 0.3 * build.half_depth) / (0.5 * build.half_depth), 0, 1)
    cavity = body + fat_depth + build.wall_mm * (1 + 0.1 * broad)
    back_wall = y - (
        build.spine[0] + 24 - 10 * np.exp(-(((np.abs(x - build.spine[1]) - 40) / 26) ** 2))
    )
    cavity = np.asarray(np.maximum(cavity, back_wall), np.float32)
    _linea_and_back(canvas, whole, build, body + fat_depth, rear)
    vessels = np.hypot(*(field(whole.axes) for field in textures.vessel))
    mesentery = FAT_HU + 5 * textures.organ(whole.axes) + 150 * np.exp(-(vessels**2) / 0.012)
    canvas.paint(whole, cavity, mesentery)
    _ribs(canvas, whole, body + fat_depth + 0.5 * build.wall_mm, build)
    return cavity


def _linea_and_back(canvas: Canvas, whole: Patch, build: Build, muscle: Array, rear: Array) -> None:
    """Fat between the muscles: around the spinous processes and between the layers of the back."""
    _, y, x = open_axes(whole.axes)
    furrow = np.maximum(muscle - 2, np.abs(x - build.spine[1]) - 1.5 - 3 * rear)
    canvas.paint(whole, np.where(y > build.spine[0] + 30, furrow, 20).astype(np.float32), -70.0)
    layer = (
        np.abs(np.hypot((np.abs(x - build.spine[1]) - 34) / 30, (y - build.spine[0] - 34) / 17) - 1)
        * 18
        - 0.6
    )
    canvas.paint(whole, np.maximum(layer, muscle + 3).astype(np.float32), -30.0)


def _ribs(canvas: Canvas, whole: Patch, middle_of_wall: Array, build: Build) -> None:
    """Ribs run through the wall, falling to the front; the lowest ends about the middle of the
    kidneys."""
    z, y, _ = open_axes(whole.axes)
    along = z - 0.62 * y + 0.3 * build.half_depth
    to_rib = np.abs((along % 31.0) - 15.5) * 0.85
    distance = np.hypot(middle_of_wall, to_rib) - np.float32(5.4)
    distance = np.where(
        (along > 20) & (y < 0.75 * build.half_depth) & (y > -0.62 * build.half_depth), distance, 20
    ).astype(np.float32)
    canvas.paint(whole, distance, 420.0)
    canvas.paint(whole, distance + 2.6, 190.0)


def _lungs(canvas: Canvas, whole: Patch, cavity: Array, top_mm: float) -> None:
    z, y, x = open_axes(whole.axes)
    dome = top_mm - 0.006 * ((np.abs(x) - 55) ** 2 + (y + 5) ** 2)
    canvas.paint(whole, np.maximum(cavity - 2, (dome - z) * 0.45).astype(np.float32), LUNG_HU)


def _liver_and_spleen(
    canvas: Canvas,
    whole: Patch,
    build: Build,
    textures: Textures,
    cavity: Array,
    top_mm: float,
    rng: np.random.Generator,
) -> None:
    scale = build.half_width / 155
    z, y, x = open_axes(whole.axes)
    dome = (z - (top_mm - 3 - 0.006 * ((np.abs(x) - 55) ** 2 + (y + 5) ** 2))) * 0.45
    low, deep, reach, left_down = (
        rng.normal(0, 12),
        rng.normal(0, 7),
        rng.normal(1, 0.08),
        rng.normal(0, 10),
    )
    right = ellipsoid(
        whole.axes, (62 + low, -8 + deep, -84 * scale), (92, 88 * scale, 72 * scale * reach)
    )
    left = ellipsoid(
        whole.axes, (78 + left_down, -48 * scale, -5 + deep), (48, 36 * scale, 82 * scale * reach)
    )
    liver = (
        smooth_union(right, left, 22)
        + 5 * textures.broad(whole.axes)
        + 2.5 * textures.organ(whole.axes)
    )
    liver = np.maximum(np.maximum(liver, cavity + 2.5), dome)
    veins = np.hypot(*(field(whole.axes) for field in reversed(textures.vessel)))
    canvas.paint(
        whole,
        liver,
        build.liver_hu + 3 * textures.organ(whole.axes) + 38 * np.exp(-(veins**2) / 0.03),
    )
    large = rng.normal(1, 0.1)
    spleen = ellipsoid(
        whole.axes,
        (66, 22 + rng.normal(0, 6), 108 * scale),
        (50 * large, 50 * scale * large, 27 * scale * large),
    )
    spleen = spleen + 3 * textures.organ(whole.axes)
    spleen = np.maximum(np.maximum(spleen, cavity + 2.5), dome)
    bands = np.sin(2.2 * textures.fine(whole.axes) + 3 * textures.organ(whole.axes))
    canvas.paint(whole, spleen, build.spleen_hu + 16 * bands)


def _stomach(canvas: Canvas, build: Build, rng: np.random.Generator, folds: SmoothField) -> None:
    scale = build.half_width / 155
    centre = (75 + rng.normal(0, 5), -42 * scale + rng.normal(0, 4), 58 * scale + rng.normal(0, 5))
    radii = (48.0, 32 * scale, 40 * scale)
    _hollow(
        canvas,
        centre,
        radii,
        wall_mm=4.5,
        wall_hu=85.0,
        content_hu=float(rng.uniform(0, 35)),
        gas_from=float(rng.uniform(-0.6, 0.3)),
        folds=folds,
    )


def _hollow(
    canvas: Canvas,
    centre: tuple[float, float, float],
    radii: tuple[float, ...],
    *,
    wall_mm: float,
    wall_hu: float,
    content_hu: float,
    gas_from: float,
    folds: SmoothField,
) -> None:
    """A hollow organ: enhancing wall, content, and gas in front of an air-fluid level at gas_from
    (in radii behind the middle; below -1 no gas)."""
    limits = [
        (middle - radius - 8, middle + radius + 8)
        for middle, radius in zip(centre, radii, strict=True)
    ]
    patch = canvas.patch(*limits)
    if patch is None:
        return
    distance = ellipsoid(patch.axes, centre, (radii[0], radii[1], radii[2])) + 2 * folds(patch.axes)
    canvas.paint(patch, distance, wall_hu)
    canvas.paint(patch, distance + wall_mm, content_hu)
    if gas_from > -1:
        level = open_axes(patch.axes)[1] - np.float32(centre[1] + gas_from * radii[1])
        canvas.paint(patch, np.maximum(distance + wall_mm, level), GAS_HU)


def _bowel(canvas: Canvas, build: Build, rng: np.random.Generator, folds: SmoothField) -> None:
    """Loops of small bowel in front, fewer where there is much fat, and the colon on both sides."""
    wide, deep = build.half_width - build.fat_mm - 34, build.half_depth - build.fat_mm - 30
    for _ in range(80):
        angle, reach, z = rng.uniform(0, 2 * np.pi), np.sqrt(rng.random()), rng.uniform(-125, 60)
        radius, stretch, gas = rng.uniform(9, 16), rng.uniform(0.9, 2.8), rng.uniform(-3.2, 0.2)
        content, wall_hu, kept = rng.uniform(5, 45), rng.uniform(75, 115), rng.random()
        if kept < 0.15 + 0.55 * build.visceral_fat:
            continue
        centre = (
            float(z),
            float(-0.25 * deep + 0.62 * deep * reach * np.sin(angle)),
            float(0.85 * wide * reach * np.cos(angle)),
        )
        radii = (float(radius), float(radius), float(radius * stretch))
        _hollow(
            canvas,
            centre,
            radii,
            wall_mm=2.4,
            wall_hu=float(wall_hu),
            content_hu=float(content),
            gas_from=float(gas),
            folds=folds,
        )
    for side in (-1, 1):
        for z in range(-120, 40 if side < 0 else 70, 24):
            shift, width, gas = rng.normal(0, 4, 2), rng.uniform(15, 22), rng.uniform(-1.6, 0.5)
            centre = (float(z), float(-0.12 * deep + shift[0]), float(side * (wide - 2) + shift[1]))
            radii, content = (16.0, float(width), float(width)), float(rng.uniform(-40, 40))
            _hollow(
                canvas,
                centre,
                radii,
                wall_mm=2.2,
                wall_hu=70.0,
                content_hu=content,
                gas_from=float(gas),
                folds=folds,
            )


def _spine(canvas: Canvas, build: Build, rng: np.random.Generator) -> Array:
    """Vertebrae with cortical shells, discs, canal, arches, and the psoas and back muscles beside
    them; returns the distance to all of it."""
    y0, x0 = build.spine
    patch = canvas.whole()
    z, y, x = open_axes(patch.axes)
    spongy, offset = float(rng.normal(165, 25)), float(rng.uniform(0, 36))
    psoas_radius = 13 + 10 / (1 + np.exp(np.clip((z + 10) / 22, -20, 20)))
    psoas = np.hypot((np.abs(x - x0) - 30 - 0.10 * (40 - z)) / 0.85, y - y0 - 4) - psoas_radius
    canvas.paint(patch, psoas.astype(np.float32), MUSCLE_HU + 4)
    body = superellipse(y - y0, x - x0, half_y=17.0, half_x=23.0, power=2.2)
    disc = np.abs(((z + offset) % 36.0) - 18) - 4.0  # negative within a disc
    vertebra = np.maximum(body + 0 * z, -disc)
    canvas.paint(patch, body + 0 * z, 85.0)
    canvas.paint(patch, vertebra, 420.0)
    canvas.paint(patch, vertebra + 2.0, spongy)
    arch = np.minimum(
        np.hypot(x - x0, y - y0 - 27) - 13.5,
        np.maximum(np.abs(x - x0) - 3.2, np.abs(y - y0 - 47) - 14),
    )
    processes = np.maximum(
        np.maximum(np.abs(y - y0 - 26 - 0.12 * np.abs(x - x0)) - 3.2, np.abs(x - x0) - 34),
        np.abs(((z + offset + 14) % 36.0) - 18) - 6,
    )
    arch = np.minimum(arch + np.where(np.abs(disc) > 11, 2.0, 0.0), processes)
    canvas.paint(patch, arch.astype(np.float32), 400.0)
    canvas.paint(patch, (arch + 2.4).astype(np.float32), spongy + 60)
    canvas.paint(
        patch, (np.hypot((x - x0) / 1.15, y - y0 - 25) - 8.5 + 0 * z).astype(np.float32), 28.0
    )
    return np.asarray(np.minimum(np.minimum(body, psoas + 3), arch), np.float32)


def _great_vessels(canvas: Canvas, build: Build, rng: np.random.Generator) -> None:
    y0, x0 = build.aorta
    radius, fork = float(rng.uniform(8.5, 11)), -78.0
    patch = canvas.patch(y=(y0 - 30, y0 + 30), x=(x0 - 60, x0 + 50))
    if patch is None:
        return
    trunk = capsule(patch.axes, (260.0, y0, x0), (fork, y0, x0), radius)
    iliac = np.minimum(
        *(
            capsule(patch.axes, (fork, y0, x0), (fork - 120, y0 + 6, x0 + side * 42), radius * 0.62)
            for side in (-1, 1)
        )
    )
    cava_x, cava_y = x0 - float(rng.uniform(27, 33)), y0 + 6
    z, y, x = open_axes(patch.axes)
    cava = np.hypot((x - cava_x) / 1.25, (y - cava_y) / 0.85) - float(rng.uniform(8, 10.5)) + 0 * z
    mixing = 70 + 75 / (
        1 + np.exp(-np.clip((z - 8) / 10, -20, 20))
    )  # unenhanced blood of the legs below, renal venous return above
    canvas.paint(patch, cava.astype(np.float32), mixing + 0 * y + 0 * x)
    canvas.paint(patch, smooth_union(trunk, iliac, 4), build.aorta_hu)
    if rng.random() < 0.5:
        centre = (float(rng.uniform(-70, 40)), y0 + radius * 0.9, x0 + float(rng.normal(0, 3)))
        canvas.paint(patch, ellipsoid(patch.axes, centre, (12.0, 1.8, 3.5)), 700.0)
    for kidney in build.kidneys:
        hilum = tuple(np.array(kidney.centre) - kidney.axes[0] * kidney.radii[0] * 0.55)
        near = canvas.patch(
            (hilum[0] - 25, hilum[0] + 25),
            (min(y0, hilum[1]) - 20, max(y0, hilum[1]) + 20),
            (min(x0, hilum[2]) - 20, max(x0, hilum[2]) + 20),
        )
        if near is not None:
            start = cava_x if kidney.side < 0 else x0 + 4
            canvas.paint(
                near,
                capsule(
                    near.axes,
                    (hilum[0] + 4, y0 - 4, start),
                    (hilum[0], hilum[1] - 6, hilum[2]),
                    4.6,
                ),
                165.0,
            )
            canvas.paint(
                near,
                capsule(near.axes, (hilum[0] + 8, y0, x0), (hilum[0] + 2, hilum[1], hilum[2]), 2.6),
                build.aorta_hu - 10,
            )
