"""What the scanner adds: noise with the grain of filtered back-projection, streaks along the
longest paths, and the cast to whole numbers."""

import numpy as np
from numpy.typing import NDArray

from renal_ray.cohort.phantom.fields import Array, Grid

_PLATES = 6


def add_noise(
    hu: Array, grid: Grid, rng: np.random.Generator, *, sigma: float, sharpness: float
) -> None:
    """Adds noise in place.

    The noise power rises with frequency and falls off with the kernel, as filtered back-projection
    leaves it. Slices mix two of a few plates, each rolled at random, which costs a tenth of a fresh
    field a slice.

    Args:
        hu: volume (slices, rows, columns), HU.
        grid: its grid.
        rng: the patient's random stream.
        sigma: standard deviation in the middle of the body, HU.
        sharpness: frequency at which the kernel falls to 1/e, cycles per mm.
    """
    _, rows, columns = grid.shape
    plates = _noise_plates(rows, columns, grid.spacing[1:], rng, sharpness)
    y, x = grid.y[:, None] / 110, grid.x[None, :] / 160
    level = np.asarray(sigma * (0.6 + 0.45 * np.exp(-(y * y + x * x))), np.float32)
    for plane in hu:
        first, second = rng.choice(_PLATES, 2, replace=False)
        angle = rng.uniform(0, 2 * np.pi)
        noise = np.float32(np.cos(angle)) * np.roll(
            plates[first], rng.integers(0, (rows, columns)), (0, 1)
        )
        noise += np.float32(np.sin(angle)) * np.roll(
            plates[second], rng.integers(0, (rows, columns)), (0, 1)
        )
        noise *= level
        plane += noise


def to_int16(hu: Array) -> NDArray[np.int16]:
    """Whole Hounsfield units within what 12 bits hold."""
    return np.clip(np.rint(hu), -1024, 3071).astype(np.int16)


def _noise_plates(
    rows: int,
    columns: int,
    pixel_mm: tuple[float, float],
    rng: np.random.Generator,
    sharpness: float,
) -> Array:
    from scipy import fft

    fy = fft.fftfreq(rows, pixel_mm[0]).astype(np.float32)[:, None]
    fx = fft.rfftfreq(columns, pixel_mm[1]).astype(np.float32)[None, :]
    f = np.hypot(fy, fx)
    grain = np.sqrt(f + 0.02) * np.exp(-((f / sharpness) ** 2))
    streaks = np.exp(-((fx / 0.012) ** 2)) * np.exp(
        -((fy / (1.2 * sharpness)) ** 2)
    )  # long from side to side
    plates = np.empty((_PLATES, rows, columns), np.float32)
    for plate in plates:
        parts = []
        for power in (grain, streaks):
            part = fft.irfft2(
                fft.rfft2(rng.standard_normal((rows, columns), dtype=np.float32)) * power,
                s=(rows, columns),
            )
            parts.append(part / part.std())
        plate[:] = 0.96 * parts[0] + 0.28 * parts[1]
    return plates
