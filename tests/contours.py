"""What the tests of RTSTRUCTs share: a small series, and contours on its slices."""

from pathlib import Path

import numpy as np
import pytest

from renal_ray.config import Cohort, Selection
from renal_ray.imaging.geometry.grid import PatientSlices
from renal_ray.imaging.patient import read_patient
from renal_ray.problems import Code, PatientError

VOLUME = np.random.default_rng(0).integers(-100, 200, (6, 20, 24)).astype(np.int16)
ORIGIN, SPACING, STEP = (-10.0, -20.0, 100.0), 0.5, 2.5  # of what `dicom_files.write_series` writes
FRAME = "1.2.3"


def in_mm(points: np.ndarray, k: float) -> np.ndarray:
    """Points (n, 2), row and column in pixels of slice k, in mm (n, 3)."""
    rows, columns = points.T
    return np.stack(
        [
            ORIGIN[0] + columns * SPACING,
            ORIGIN[1] + rows * SPACING,
            np.full(len(points), ORIGIN[2] - k * STEP),
        ],
        axis=1,
    )


def box(k: float, rows: tuple[float, float], columns: tuple[float, float]) -> np.ndarray:
    """A rectangle in slice k, in mm; row and column bounds in pixels."""
    return in_mm(
        np.array(
            [
                (rows[0], columns[0]),
                (rows[0], columns[1]),
                (rows[1], columns[1]),
                (rows[1], columns[0]),
            ],
            float,
        ),
        k,
    )


def square(k: float, half: float) -> np.ndarray:
    """A square about the middle between four pixels of slice k; half its edge in pixels."""
    return box(k, (9.5 - half, 9.5 + half), (11.5 - half, 11.5 + half))


def read(folder: Path, **cohort) -> PatientSlices:
    """Reads ct and rt.dcm of a folder; all slices of the lesion."""
    study = Cohort(manifest="unused.csv", **cohort)
    return read_patient(
        folder / "ct", folder / "rt.dcm", cohort=study, selection=Selection(min_area_fraction=0)
    )


def refusal(folder: Path, **cohort) -> PatientError:
    """Why the same is refused."""
    with pytest.raises(PatientError) as caught:
        read(folder, **cohort)
    return caught.value


def code_of(folder: Path, **cohort) -> Code:
    """The code with which it is."""
    return refusal(folder, **cohort).code


def findings(got: PatientSlices, code: Code) -> list[str]:
    """Messages of the findings of one code."""
    return [finding.message for finding in got.findings if finding.code is code]


def pixels(got: PatientSlices) -> dict[int, int]:
    """Pixels of the lesion in each of its slices."""
    return {int(k): int(mask.sum()) for k, mask in zip(got.slice_index, got.mask, strict=True)}
