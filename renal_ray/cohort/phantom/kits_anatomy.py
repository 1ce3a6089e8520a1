"""Attenuation painted into real KiTS segmentations: the shapes and the pathology are a patient's,
the rest is drawn."""

import shutil
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from renal_ray.cohort.kits import SIZE_CM, number_in
from renal_ray.cohort.phantom.acquisition import add_noise, to_int16
from renal_ray.cohort.phantom.anatomy import Build, draw_build
from renal_ray.cohort.phantom.body import FAT_HU, paint_body
from renal_ray.cohort.phantom.canvas import Canvas
from renal_ray.cohort.phantom.fields import EDGE_MM, Array, Axes, Grid, SmoothField, soft_step
from renal_ray.cohort.phantom.lesions import Recipe, draw_recipe, texture
from renal_ray.cohort.phantom.patient import CYST, LESION, largest_diameter
from renal_ray.cohort.phantom.plan import VARIANTS, Kind, systematic
from renal_ray.problems import StudyError

_BEYOND_MM = (
    25.0  # slices painted above and below the kidneys; farther ones repeat the last painted one
)
_CHUNK = 48  # slices whose body is painted at a time
_DISTANCE_STEP_MM = 2.5  # distances to a surface are computed on slices no closer than this
_LIKE: dict[str, Kind] = {
    "clear_cell_rcc": "clear_cell_rcc",
    "multilocular_cystic_rcc": "clear_cell_rcc",
    "papillary_rcc": "papillary_rcc",
    "clear_cell_papillary": "papillary_rcc",
    "transitional_cell_carcinoma": "papillary_rcc",
    "angiomyolipoma": "angiomyolipoma",
    "cyst": "cyst",
}


def write_case(folder: Path, source: Path, pathology: dict[str, Any], *, seed: int) -> float:
    """Writes folder/imaging.nii.gz on the grid of a real segmentation, and that as
    folder/segmentation.nii.gz, byte for byte.

    Args:
        folder: the new case; made anew.
        source: the segmentation (1 kidney, 2 tumour, 3 cyst) in its case's folder, its axes along
            those of the patient in any order.
        pathology: the case's entry of the pathology file, which may hold its case_id alone.
        seed: of the cohort; the case's own stream is (seed, its name).

    Returns:
        Largest in-plane diameter of the tumour, mm.

    Raises:
        StudyError: the segmentation cannot be read, is none of KiTS or labels nothing.
    """
    import nibabel as nib
    from nibabel import affines, filebasedimages, orientations

    try:
        image = nib.load(source)
        values = np.asanyarray(image.dataobj)
    except (OSError, EOFError, zlib.error, filebasedimages.ImageFileError) as error:
        raise StudyError(
            f"phantom: {source} cannot be read as NIfTI "
            f"({type(error).__name__}); fetch it again or leave the case out"
        ) from None
    stored = np.rint(values).astype(np.uint8)
    if not all(
        np.abs(part.astype(np.float32) - mark).max() < 0.01 and mark.max() <= CYST
        for part, mark in zip(values, stored, strict=True)
    ):
        raise StudyError(
            f"phantom: {source} holds other values than 0 to {CYST}; give a "
            "segmentation of KiTS as it was published"
        )
    if not (image.header["sform_code"] or image.header["qform_code"]):
        raise StudyError(
            f"phantom: {source} does not say how it lies in the patient; give "
            "a segmentation of KiTS as it was published"
        )
    ours, there = (
        orientations.axcodes2ornt(("I", "P", "L")),
        orientations.io_orientation(image.affine),
    )
    labels: NDArray[np.uint8] = orientations.apply_orientation(
        stored, orientations.ornt_transform(there, ours)
    )
    if not np.any(labels):
        raise StudyError(f"phantom: {source} labels nothing; leave the case out")
    sizes = affines.voxel_sizes(image.affine)
    spacing = tuple(float(sizes[np.flatnonzero(there[:, 0] == world)[0]]) for world in (2, 1, 0))
    hu = paint_case(
        labels,
        (spacing[0], spacing[1], spacing[2]),
        pathology,
        [seed, zlib.crc32(source.parent.name.encode())],
    )
    folder.mkdir(parents=True)
    back = orientations.apply_orientation(hu, orientations.ornt_transform(ours, there))
    nib.save(nib.Nifti1Image(np.ascontiguousarray(back), image.affine), folder / "imaging.nii.gz")
    shutil.copyfile(source, folder / "segmentation.nii.gz")
    return largest_diameter(labels == LESION, (spacing[0], spacing[1], spacing[2]))


def paint_case(
    labels: NDArray[np.uint8],
    spacing: tuple[float, float, float],
    pathology: dict[str, Any],
    stream: list[int],
) -> NDArray[np.int16]:
    """The volume that a segmentation could have been drawn on.

    Args:
        labels: (slices head to foot, rows front to back, columns right to left); 1 kidney, 2
            tumour, 3 cyst.
        spacing: slice, row and column distance, mm.
        pathology: the case's entry of the pathology file; an unknown histology is painted as a
            moderately enhancing mass.
        stream: entropy of the case's random streams.

    Returns:
        int16 HU of labels' shape.
    """
    shown = np.flatnonzero(labels.any(axis=(1, 2)))
    beyond = int(np.ceil(_BEYOND_MM / spacing[0]))
    first, last = max(0, int(shown[0]) - beyond), min(len(labels), int(shown[-1]) + 1 + beyond)
    slab = labels[first:last]
    rng = np.random.default_rng([*stream, 0])
    grid, build = _placed(slab, spacing, pathology, rng)
    hu = np.empty(slab.shape, np.float32)
    for start in range(0, len(slab), _CHUNK):
        canvas = Canvas(Grid(grid.z[start : start + _CHUNK], grid.y, grid.x, grid.slice_mm))
        paint_body(
            canvas, build, np.random.default_rng([*stream, 1])
        )  # the same draws for each chunk: one body
        hu[start : start + _CHUNK] = canvas.hu
    for side in _sides(slab, grid):
        _paint_side(hu, slab, grid, side, build, pathology, rng)
    add_noise(hu, grid, rng, sigma=float(rng.uniform(12, 17)), sharpness=0.32)
    painted = to_int16(hu)
    return np.concatenate(
        [
            np.repeat(painted[:1], first, axis=0),
            painted,
            np.repeat(painted[-1:], len(labels) - last, axis=0),
        ]
    )


def _placed(
    slab: NDArray[np.uint8],
    spacing: tuple[float, float, float],
    pathology: dict[str, Any],
    rng: np.random.Generator,
) -> tuple[Grid, Build]:
    """Coordinates and a build that fit together: the kidneys lie beside the spine, all that is
    labelled lies within the wall."""
    sex = "female" if pathology.get("gender") == "female" else "male"
    build = draw_build(
        rng,
        sex=sex,
        field_of_view_mm=max(340.0, slab.shape[2] * spacing[2]),
        largest_lesion_mm=40.0,
    )
    shell = build.fat_mm + build.wall_mm + 8
    per_row, per_slice = slab.sum(axis=(0, 2), dtype=float), slab.sum(axis=(1, 2), dtype=float)
    front, rear = np.searchsorted(np.cumsum(per_row) / per_row.sum(), (0.005, 0.985))
    half_depth = max(build.half_depth, ((rear - front) * spacing[1] + shell - 20) / 1.37)
    spine = 0.37 * half_depth
    columns = np.flatnonzero(slab.any(axis=(0, 1)))
    z = (np.average(np.arange(len(slab)), weights=per_slice) - np.arange(len(slab))) * spacing[0]
    y = (np.arange(slab.shape[1]) - rear) * spacing[1] + spine + 20
    x = (np.arange(slab.shape[2]) - _middle_column(slab, spacing[2])) * spacing[2]
    reach = float(np.abs(x[columns]).max())
    kidneys = tuple(
        replace(kidney, centre=(0.0, spine - 4, kidney.side * min(70.0, reach - 30)))
        for kidney in build.kidneys
    )
    build = replace(
        build,
        half_width=max(build.half_width, reach + shell),
        half_depth=half_depth,
        spine=(spine, 0.0),
        aorta=(spine - 30, 8.0),
        kidneys=kidneys,
    )
    return Grid(z.astype(np.float32), y.astype(np.float32), x.astype(np.float32), spacing[0]), build


def _middle_column(slab: NDArray[np.uint8], column_mm: float) -> float:
    """The column of the spine: midway between the two kidneys, or medial of a single one."""
    from scipy import ndimage

    thin = slab[:, ::4, ::4] > 0
    parts, count = ndimage.label(thin)
    sizes = ndimage.sum_labels(thin, parts, range(1, count + 1))
    centres = [
        ndimage.center_of_mass(thin, parts, i + 1)[2] * 4
        for i in np.argsort(sizes)[::-1][:2]
        if sizes[i] > 0.15 * sizes.max()
    ]
    if len(centres) == 2 and abs(centres[0] - centres[1]) * column_mm > 60:
        return float(sum(centres) / 2)
    return float(centres[0] + np.sign(slab.shape[2] / 2 - centres[0]) * 65 / column_mm)


def _sides(slab: NDArray[np.uint8], grid: Grid) -> list[tuple[slice, slice, slice]]:
    """A box with a margin around what is labelled on either side of the spine."""
    boxes = []
    half = int(np.searchsorted(grid.x, 0.0))
    for columns in (slice(0, half), slice(half, slab.shape[2])):
        part = slab[:, :, columns] > 0
        if not part.any():
            continue
        box = []
        for axis, (size, step) in enumerate(zip(slab.shape, grid.spacing, strict=True)):
            found = np.flatnonzero(
                part.any(axis=tuple(other for other in range(3) if other != axis))
            )
            start, margin = (columns.start or 0) if axis == 2 else 0, int(np.ceil(14 / step))
            low, high = (
                max(0, start + int(found[0]) - margin),
                min(size, start + int(found[-1]) + 1 + margin),
            )
            box.append(
                slice(low, high)
                if axis < 2
                else slice(max(low, columns.start), min(high, columns.stop))
            )
        boxes.append((box[0], box[1], box[2]))
    return boxes


def _paint_side(
    hu: Array,
    slab: NDArray[np.uint8],
    grid: Grid,
    box: tuple[slice, slice, slice],
    build: Build,
    pathology: dict[str, Any],
    rng: np.random.Generator,
) -> None:
    labels, values = slab[box], hu[box]
    axes: Axes = (grid.z[box[0]], grid.y[box[1]], grid.x[box[2]])
    kidney = build.kidneys[0 if float(axes[2].mean()) < 0 else 1]
    union = signed_distance(labels > 0, grid.spacing)
    values += soft_step(np.float32(7) - union, 3.0) * (np.float32(FAT_HU) - values)
    fields = [SmoothField(rng, scale)(axes) for scale in (9.0, 3.5)]
    flesh = np.float32(kidney.cortex_hu) + np.float32(5) * fields[1]
    dark = soft_step(-union - np.float32(kidney.cortex_mm - 1), 2.5) * soft_step(
        fields[0] + np.float32(0.5), 0.5
    )
    flesh += dark * np.float32(kidney.medulla_hu - kidney.cortex_hu)
    values += soft_step(-union, EDGE_MM) * (flesh - values)
    for label, recipe in (
        (CYST, Recipe(float(rng.uniform(2, 18)), lumps_hu=1.5)),
        (LESION, _recipe(pathology, rng)),
    ):
        mask = labels == label
        seeds = rng.spawn(1)[0]
        if mask.any():
            distance = signed_distance(mask, grid.spacing)
            reach = max(3.0, -float(distance.min()))
            scales = (max(3.0, 0.28 * reach), max(4.0, 0.4 * reach), 3.0)
            flesh = texture(
                recipe,
                distance,
                tuple(SmoothField(seeds, scale)(axes) for scale in scales),
                reach=reach,
            )
            values += soft_step(-distance, EDGE_MM) * (flesh - values)


def _recipe(pathology: dict[str, Any], rng: np.random.Generator) -> Recipe:
    subtype = pathology.get("tumor_histologic_subtype") or "unknown"
    if subtype == "oncocytoma":  # bright and even, with a central scar
        return Recipe(
            float(rng.normal(135, 18)), lumps_hu=7, grain_hu=4, core_share=0.05, core_hu=60
        )
    kind = _LIKE.get(subtype, "chromophobe_rcc")
    variant = systematic(VARIANTS[kind], 1, rng)[0]
    grade = {"3": "III", "4": "IV"}.get(str(pathology.get("tumor_isup_grade")))
    size_mm = 10 * (number_in(pathology, SIZE_CM) or 4.0)
    return draw_recipe(
        kind,
        "cystic" if subtype == "multilocular_cystic_rcc" else variant,
        size_mm,
        rng,
        grade=grade,
    )


def signed_distance(mask: NDArray[np.bool_], spacing: tuple[float, float, float]) -> Array:
    """Signed distance to the surface of a mask, mm, negative inside; thin slices share the distance
    of their neighbour."""
    from scipy import ndimage

    step = max(1, round(_DISTANCE_STEP_MM / spacing[0]))
    thin = mask[::step]
    sampling = (spacing[0] * step, spacing[1], spacing[2])
    half = np.float32(min(spacing[1:]) / 2)
    outside = ndimage.distance_transform_edt(~thin, sampling=sampling).astype(np.float32)
    inside = ndimage.distance_transform_edt(thin, sampling=sampling).astype(np.float32)
    distance = np.where(thin, half - inside, outside - half)
    return np.repeat(distance, step, axis=0)[: len(mask)] if step > 1 else distance
