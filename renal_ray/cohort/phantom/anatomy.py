"""The build of one patient: the measures in mm from which wall, organs and kidneys are placed."""

from dataclasses import dataclass

import numpy as np

Point = tuple[float, float, float]  # z, y, x in mm


@dataclass(frozen=True)
class Kidney:
    """One kidney.

    Args:
        side: -1 the patient's right, 1 the left.
        centre: z, y, x, mm.
        radii: along its own axes: lateral, front to back, long axis, mm.
        axes: rows are the unit vectors of these axes in (z, y, x).
        cortex_mm: thickness of the cortex.
        cortex_hu: cortical attenuation in the corticomedullary phase, HU.
        medulla_hu: medullary attenuation, HU.
        fat_mm: thickness of the perirenal fat.
    """

    side: int
    centre: Point
    radii: tuple[float, float, float]
    axes: np.ndarray
    cortex_mm: float
    cortex_hu: float
    medulla_hu: float
    fat_mm: float


@dataclass(frozen=True)
class Build:
    """A body.

    Args:
        half_width: half the width of the body, mm.
        half_depth: half its depth front to back, mm.
        power: exponent of the outline: 2 an ellipse, higher ones boxier.
        fat_mm: thickness of the subcutaneous fat at the sides.
        wall_mm: thickness of the muscular wall.
        spine: y and x of the middle of the vertebral bodies, mm.
        aorta: y and x of the aorta, mm.
        kidneys: right, left.
        aorta_hu: enhancement, HU.
        liver_hu: attenuation, HU.
        spleen_hu: attenuation, HU.
        visceral_fat: 0 lean, 1 obese: how much fat there is between the loops of bowel.
    """

    half_width: float
    half_depth: float
    power: float
    fat_mm: float
    wall_mm: float
    spine: tuple[float, float]
    aorta: tuple[float, float]
    kidneys: tuple[Kidney, ...]
    aorta_hu: float
    liver_hu: float
    spleen_hu: float
    visceral_fat: float


def draw_build(
    rng: np.random.Generator, *, sex: str, field_of_view_mm: float, largest_lesion_mm: float
) -> Build:
    """A patient's build; bodies that hold very large lesions are not drawn small.

    Args:
        rng: the patient's random stream.
        sex: "male" or "female".
        field_of_view_mm: the body stays within it.
        largest_lesion_mm: diameter of the index lesion, mm.
    """
    fatness = float(rng.beta(2, 2.2))
    half_width = rng.normal(168 if sex == "male" else 158, 9) + 30 * (fatness - 0.5)
    half_width = float(
        np.clip(max(half_width, 120 + 0.32 * largest_lesion_mm), 128, field_of_view_mm / 2 - 10)
    )
    half_depth = float(
        half_width * np.clip(rng.normal(0.68, 0.04) + 0.05 * (fatness - 0.5), 0.6, 0.8)
    )
    fat_mm = (8 if sex == "male" else 12) + 20 * fatness * rng.uniform(0.7, 1.2)
    visceral = float(
        np.clip(fatness + (0.2 if sex == "male" else -0.1) + rng.normal(0, 0.15), 0, 1)
    )
    spine = (0.37 * half_depth + rng.normal(0, 2), rng.normal(0, 2))
    aorta = (spine[0] - rng.uniform(27, 32), spine[1] + rng.uniform(5, 13))
    phase = rng.normal(
        0, 1
    )  # one bolus for all organs: early ones have a brighter cortex and a darker medulla
    kidneys = tuple(
        _draw_kidney(
            rng, side=side, spine=spine, half_width=half_width, visceral=visceral, phase=phase
        )
        for side in (-1, 1)
    )
    return Build(
        half_width=half_width,
        half_depth=half_depth,
        power=float(rng.uniform(2.05, 2.5)),
        fat_mm=float(fat_mm),
        wall_mm=float(rng.uniform(9, 15)),
        spine=spine,
        aorta=aorta,
        kidneys=kidneys,
        aorta_hu=float(rng.normal(305 - 8 * phase, 15)),
        liver_hu=float(rng.normal(100 + 4 * phase, 8)),
        spleen_hu=float(rng.normal(135, 8)),
        visceral_fat=visceral,
    )


def _draw_kidney(
    rng: np.random.Generator,
    *,
    side: int,
    spine: tuple[float, float],
    half_width: float,
    visceral: float,
    phase: float,
) -> Kidney:
    scale = rng.normal(1, 0.06)
    radii = (
        27 * scale * rng.normal(1, 0.05),
        25 * scale * rng.normal(1, 0.05),
        54 * scale * rng.normal(1, 0.05),
    )
    lateral = (62 + 10 * visceral) * (half_width / 155) ** 0.5 + rng.normal(0, 4)
    centre = (
        rng.normal(0, 7) + (8 if side > 0 else -6),
        spine[0] - 4 + rng.normal(0, 4),
        spine[1] + side * lateral,
    )
    return Kidney(
        side=side,
        centre=(float(centre[0]), float(centre[1]), float(centre[2])),
        radii=radii,
        axes=_kidney_axes(rng, side),
        cortex_mm=float(rng.uniform(6, 9)),
        cortex_hu=float(np.clip(rng.normal(200 - 8 * phase, 9), 175, 225)),
        medulla_hu=float(np.clip(rng.normal(76 + 8 * phase, 7), 55, 105)),
        fat_mm=float(3 + 16 * visceral * rng.uniform(0.6, 1.2)),
    )


def _kidney_axes(rng: np.random.Generator, side: int) -> np.ndarray:
    """Upper pole medial and to the back, the hilum turned to the front: the usual lie along the
    psoas."""
    tilt, lean, turn = np.radians([rng.normal(14, 5), rng.normal(8, 4), rng.normal(28, 9)])
    long_axis = np.array([np.cos(tilt) * np.cos(lean), np.sin(lean), -side * np.sin(tilt)])
    long_axis /= np.linalg.norm(long_axis)
    lateral = np.array([0.0, np.sin(turn), side * np.cos(turn)])
    lateral -= long_axis * (lateral @ long_axis)
    lateral /= np.linalg.norm(lateral)
    return np.stack([lateral, -side * np.cross(long_axis, lateral), long_axis]).astype(np.float32)
