"""One phantom patient, from plan to voxels."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from renal_ray.cohort.phantom import kidney as kidneys
from renal_ray.cohort.phantom.acquisition import add_noise, to_int16
from renal_ray.cohort.phantom.anatomy import Build, Kidney, draw_build
from renal_ray.cohort.phantom.body import paint_body
from renal_ray.cohort.phantom.canvas import Canvas, FinePatch, slice_mean
from renal_ray.cohort.phantom.fields import Array, Grid, SmoothField, centred_grid, ellipsoid
from renal_ray.cohort.phantom.lesions import (
    Lesion,
    Recipe,
    draw_recipe,
    paint_lesion,
    place_lesion,
    surface,
)
from renal_ray.cohort.phantom.plan import PatientPlan

KIDNEY, LESION, CYST = 1, 2, 3  # the labels of KiTS


@dataclass(frozen=True)
class Scan:
    """A patient's volume.

    Args:
        grid: the voxels' places.
        hu: int16 (slices head to foot, rows front to back, columns right to left), HU.
        labels: uint8 of the same shape: 1 kidney, 2 the lesion under study, 3 other cysts.
        max_diameter_mm: largest in-plane diameter of the lesion, mm.
    """

    grid: Grid
    hu: NDArray[np.int16]
    labels: NDArray[np.uint8]
    max_diameter_mm: float


def build_scan(plan: PatientPlan, *, seed: int, matrix: int, slice_mm: float) -> Scan:
    """Draws a patient.

    Args:
        plan: who.
        seed: of the cohort; the patient's own stream is (seed, number), whoever draws it.
        matrix: rows and columns.
        slice_mm: slice thickness and distance, mm.
    """
    # Sums of products, and so a HU here and there, depend on the number of threads.
    with threadpool_limits(1):
        rng = np.random.default_rng([seed, plan.number])
        field_of_view = float(np.clip(rng.normal(385, 14), 360, 420))
        grid = centred_grid(
            max(8, round(rng.uniform(200, 225) / slice_mm)),
            matrix,
            matrix,
            slice_mm=slice_mm,
            pixel_mm=(field_of_view / matrix, field_of_view / matrix),
        )
        build = draw_build(
            rng, sex=plan.sex, field_of_view_mm=field_of_view, largest_lesion_mm=plan.size_mm
        )
        canvas = Canvas(grid)
        room = paint_body(canvas, build, rng)
        recipe = draw_recipe(plan.kind, plan.variant, plan.size_mm, rng, grade=plan.grade)
        labels = np.zeros(grid.shape, np.uint8)
        for kidney in build.kidneys:
            index = None
            if kidney.side == plan.side:
                index = place_lesion(
                    kidney,
                    recipe,
                    size_mm=plan.size_mm,
                    place=plan.place,
                    rng=rng,
                    round_mm=slice_mm,
                )
                index = _into_room(canvas, room, index)
            _draw_kidney(canvas, labels, kidney, index, _incidental_cysts(kidney, rng), room, rng)
        _table(canvas, build)
        sharp = plan.scanner == "siemens"
        add_noise(
            canvas.hu,
            grid,
            rng,
            sigma=float(rng.uniform(12, 17)),
            sharpness=0.34 if sharp else 0.28,
        )
        return Scan(
            grid, to_int16(canvas.hu), labels, largest_diameter(labels == LESION, grid.spacing)
        )


def _incidental_cysts(kidney: Kidney, rng: np.random.Generator) -> list[Lesion]:
    """Simple cysts that nobody operates on: common at the age of the cohort, and what makes a whole
    slice hard to judge."""
    found = []
    for _ in range(int(rng.choice([0, 1, 2, 3], p=[0.62, 0.22, 0.11, 0.05]))):
        size = float(np.clip(11 * np.exp(0.6 * rng.normal()), 5, 45))
        recipe = Recipe(float(np.clip(rng.normal(9, 6), -5, 22)), lumps_hu=1.5, lobes=0.02)
        found.append(
            place_lesion(
                kidney,
                recipe,
                size_mm=size,
                place="mesophytic" if rng.random() < 0.6 else "exophytic",
                rng=rng,
            )
        )
    return found


def _into_room(canvas: Canvas, room: Array, lesion: Lesion) -> Lesion:
    """Shifts a large mass away from spine and wall, down the slope of the distance to them, as far
    as a few steps bring it."""
    centre = np.array(lesion.centre)
    whole = canvas.whole()
    z, y, x = whole.axes
    wanted = -0.8 * min(lesion.radii)
    plane = np.broadcast_to(room, (len(z), len(y), len(x)))[int(np.argmin(np.abs(z - centre[0])))]
    slope_y, slope_x = np.gradient(plane, y, x)
    for _ in range(12):
        at = int(np.argmin(np.abs(y - centre[1]))), int(np.argmin(np.abs(x - centre[2])))
        excess = float(plane[at]) - wanted
        slope = np.array([slope_y[at], slope_x[at]])
        if excess <= 0 or np.hypot(*slope) < 0.05:
            break
        centre[1:] -= min(excess, 6.0) * slope / np.hypot(*slope)
    return replace(lesion, centre=(float(centre[0]), float(centre[1]), float(centre[2])))


def _draw_kidney(
    canvas: Canvas,
    labels: NDArray[np.uint8],
    kidney: Kidney,
    index: Lesion | None,
    cysts: list[Lesion],
    room: Array,
    rng: np.random.Generator,
) -> None:
    fields = SmoothField(rng, 14), SmoothField(rng, 3.5)
    pyramid_rng = rng.spawn(1)[0]
    lesions = cysts + ([index] if index else [])
    spans = [(middle - max(kidney.radii), middle + max(kidney.radii)) for middle in kidney.centre]
    for lesion in lesions:
        spans = [
            (min(low, middle - lesion.reach), max(high, middle + lesion.reach))
            for (low, high), middle in zip(spans, lesion.centre, strict=True)
        ]
    _perirenal_fat(canvas, kidney, room)
    fine = canvas.fine(*((a - 5, b + 5) for a, b in spans))
    if fine is None:
        return
    values = canvas.lift(fine)
    limit = canvas.coarse_at(fine, room)
    surfaces = [np.maximum(surface(lesion, fine.axes), limit + 2) for lesion in lesions]
    capsule = np.maximum(
        kidneys.outline(kidney, kidneys.own_axes(kidney, fine.axes), fields[0](fine.axes)),
        limit - 2,
    )
    for lesion, distance in zip(lesions, surfaces, strict=True):
        if lesion.recipe.rim:
            capsule = np.minimum(capsule, distance - 3.5)
    parenchyma = kidneys.paint_kidney(values, fine.axes, kidney, pyramid_rng, capsule, fields)
    _mark(labels, fine, parenchyma, KIDNEY)
    for lesion, distance in zip(lesions, surfaces, strict=True):
        cover = paint_lesion(values, fine.axes, lesion, distance)
        _mark(labels, fine, cover, LESION if lesion is index else CYST)
    canvas.settle(fine, values)


def _mark(labels: NDArray[np.uint8], fine: FinePatch, cover: Array, label: int) -> None:
    """Labels the voxels that a body fills by more than half; the smallest lesions, which fill none,
    where they fill most."""
    share = slice_mean(fine, np.asarray(cover, np.float32))
    labels[fine.slices][share > min(0.5, 0.6 * float(share.max()))] = label


def _perirenal_fat(canvas: Canvas, kidney: Kidney, room: Array) -> None:
    radii = tuple(max(r, 30) + kidney.fat_mm for r in kidney.radii)
    patch = canvas.patch(
        *(
            (middle - radius - 4, middle + radius + 4)
            for middle, radius in zip(kidney.centre, (radii[2], radii[1], radii[0]), strict=True)
        )
    )
    if patch is None:
        return
    fat = np.maximum(
        ellipsoid(patch.axes, kidney.centre, (radii[2], radii[1], radii[0])), room[patch.slices]
    )
    canvas.paint(patch, np.abs(fat) - np.float32(0.5), 0.0)  # the renal fascia
    canvas.paint(patch, fat, -102.0)


def _table(canvas: Canvas, build: Build) -> None:
    """The couch under the patient: a thin shell, out of the body."""
    whole = canvas.whole()
    _, y, x = whole.axes
    bowl = (
        y[None, :, None]
        + np.float32(0.0011) * (x[None, None, :] ** 2)
        - np.float32(build.half_depth * 1.06 + 12)
    )
    shell = np.maximum(np.abs(bowl) - 1.6, np.abs(x[None, None, :]) - 190)
    canvas.paint(
        whole, np.broadcast_to(shell, tuple(len(a) for a in whole.axes)).astype(np.float32), -250.0
    )


def largest_diameter(mask: NDArray[np.bool_], spacing: tuple[float, float, float]) -> float:
    """Largest in-plane Feret diameter of a mask's pieces over its slices, outer edge to outer edge,
    mm; 0 for an empty mask."""
    from scipy import ndimage
    from scipy.spatial.distance import pdist

    largest = 0.0
    for plane in mask[mask.any(axis=(1, 2))]:
        parts, count = ndimage.label(plane)
        for part in range(1, count + 1):
            rows, columns = np.nonzero(parts == part)
            firsts = np.unique(rows, return_index=True)[1]
            ends = np.concatenate(
                [firsts, np.append(firsts[1:], len(rows)) - 1]
            )  # in each row only the ends can be farthest apart
            points = np.stack([rows[ends] * spacing[1], columns[ends] * spacing[2]], axis=1)
            largest = max(largest, float(pdist(points).max()) + (spacing[1] + spacing[2]) / 2)
    return largest
