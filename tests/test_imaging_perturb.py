"""Perturbed masks, against distances counted pixel by pixel."""

from itertools import product

import numpy as np
import pytest

from renal_ray.imaging.geometry.grid import PatientSlices
from renal_ray.imaging.masks.perturb import (
    ORIGINAL,
    Perturbation,
    perturb,
    perturbations,
    perturbed,
)

SPACING = (0.7, 0.9)


def blob(seed: int, shape: tuple[int, int] = (17, 21)) -> np.ndarray:
    mask = np.zeros(shape, bool)
    rng = np.random.default_rng(seed)
    for _ in range(4):
        row, column, size = (
            rng.integers(0, shape[0] - 4),
            rng.integers(0, shape[1] - 4),
            rng.integers(2, 7),
        )
        mask[row : row + size, column : column + size] = True
    return mask


def brute(mask: np.ndarray, kind: str, mm: float) -> np.ndarray:
    """Dilation and erosion by the distance of every pair of pixels; beyond the image all is
    outside."""
    wide = np.pad(mask, 12)
    points = [
        (row * SPACING[0], column * SPACING[1], wide[row, column])
        for row, column in product(*map(range, wide.shape))
    ]
    out = np.zeros_like(wide)
    for (row, column), (y, x, inside) in zip(product(*map(range, wide.shape)), points, strict=True):
        near = [other for v, u, other in points if (y - v) ** 2 + (x - u) ** 2 <= (mm + 1e-6) ** 2]
        out[row, column] = any(near) if kind == "dilate" else inside and all(near)
    return out[12:-12, 12:-12]


@pytest.mark.parametrize("mm", [0.5, 0.9, 2.0])
@pytest.mark.parametrize("kind", ["dilate", "erode"])
def test_dilation_and_erosion_are_by_millimetres(kind: str, mm: float) -> None:
    mask = blob(int(10 * mm))
    found = perturb(mask, Perturbation(kind, mm), SPACING)  # type: ignore[arg-type]
    assert np.array_equal(found, brute(mask, kind, mm))
    assert (found >= mask).all() if kind == "dilate" else (found <= mask).all()


def test_anisotropic_spacing_is_respected() -> None:
    mask = np.zeros((9, 9), bool)
    mask[4, 4] = True
    wide = perturb(mask, Perturbation("dilate", 1.0), (1.0, 0.25))
    assert wide.any(axis=1).sum() == 3
    assert wide.any(axis=0).sum() == 9


@pytest.mark.parametrize(
    ("direction", "moved"),
    [("anterior", (-3, 0)), ("posterior", (3, 0)), ("right", (0, -2)), ("left", (0, 2))],
)
def test_a_shift_is_in_the_patient_s_directions(direction: str, moved: tuple[int, int]) -> None:
    """Rows run anterior to posterior, columns from the patient's right to left; 2 mm are 3 rows of
    0.7 and 2 columns of 0.9."""
    mask = np.zeros((11, 11), bool)
    mask[5, 5] = True
    found = perturb(mask, Perturbation("shift", 2.0, direction), SPACING)
    assert np.argwhere(found).tolist() == [[5 + moved[0], 5 + moved[1]]]
    assert not perturb(
        mask, Perturbation("shift", 50.0, direction), SPACING
    ).any()  # out of the image
    assert not perturb(mask, Perturbation("shift", 5.0, direction), SPACING).any()


def test_each_distance_has_six_perturbations_with_names_of_their_own() -> None:
    found = perturbations([2, 4.5])
    assert found[0] == ORIGINAL
    assert len(found) == len({one.name for one in found}) == 13
    assert [one.name for one in found[:4]] == [
        "original",
        "dilate 2 mm",
        "erode 2 mm",
        "shift 2 mm anterior",
    ]
    assert found[-1].name == "shift 4.5 mm left"


def test_slices_without_a_lesion_are_dropped_and_the_rest_stay_in_step() -> None:
    masks = np.zeros((3, 20, 20), bool)
    masks[0, 5:15, 5:15] = masks[2, 4:16, 4:16] = True
    masks[1, 9, 9] = True
    rows = np.arange(3)
    patient = PatientSlices(
        slice_index=(10 + rows).astype(np.int32),
        position_mm=(-5.0 * rows).astype(np.float32),
        lesion_area_mm2=np.array([100, 1, 144], np.float32),
        hu=np.broadcast_to(rows[:, None, None], (3, 20, 20)).astype(np.int16),
        mask=masks,
        spacing_mm=(1.0, 1.0),
        n_slices_total=40,
        max_diameter_mm=12.0,
    )
    found = perturbed(patient, Perturbation("erode", 1.0))
    assert found is not None
    assert found.slice_index.tolist() == [10, 12]
    assert found.position_mm.tolist() == [0, -10]
    assert found.hu[:, 0, 0].tolist() == [0, 2]
    assert found.lesion_area_mm2.tolist() == [64, 100]
    assert np.array_equal(found.mask.sum(axis=(1, 2)), [64, 100])
    assert perturbed(patient, Perturbation("erode", 10.0)) is None
    same = perturbed(patient, ORIGINAL)
    assert same is not None
    assert np.array_equal(same.mask, masks)
