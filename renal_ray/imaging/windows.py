"""HU to RGB by three CT windows (Zhou et al. 2019, image preprocessing)."""

from functools import cache

import numpy as np

WINDOWS = ((-110.0, 190.0), (20.0, 120.0), (-40.0, 60.0))
"""Lower and upper bound in HU of red (renal), green (high) and blue (low attenuation)."""


def three_windows(hu: np.ndarray) -> np.ndarray:
    """Maps attenuation to the red, green and blue windows.

    Each channel is clipped to its window, scaled linearly to 0..255 and rounded half to even.

    Args:
        hu: attenuation in HU, any shape, integer or floating point, finite.

    Returns:
        uint8 of shape (*hu.shape, 3).

    Example:
        >>> three_windows(np.array([-110, 40, 190], np.int16)).tolist()
        [[0, 0, 0], [128, 51, 204], [255, 255, 255]]
    """
    return np.ascontiguousarray(packed_windows(hu)[..., :3])


def packed_windows(hu: np.ndarray) -> np.ndarray:
    """The three windows with a fourth, empty byte: as Pillow keeps an RGB image, so that it takes
    them over without a copy.

    Args:
        hu: as for `three_windows`.

    Returns:
        uint8 of shape (*hu.shape, 4); the last channel is 0.
    """
    packed = (
        np.take(_lookup_table(), hu.view(np.uint16))
        if hu.dtype == np.int16
        else _pack(_compute(hu))
    )
    return np.asarray(packed)[..., None].view(np.uint8)


def _compute(hu: np.ndarray) -> np.ndarray:
    rgb = np.empty((*hu.shape, 3), np.uint8)
    values = hu.astype(np.float64)
    for channel, (low, high) in enumerate(WINDOWS):
        # times 255 before the one division: an exact half stays an exact half, so that half to even
        # is decided rightly
        rgb[..., channel] = np.rint((np.clip(values, low, high) - low) * 255.0 / (high - low))
    return rgb


def _pack(rgb: np.ndarray) -> np.ndarray:
    """uint32 (...) whose bytes in memory are red, green, blue and 0."""
    padded = np.zeros((*rgb.shape[:-1], 4), np.uint8)
    padded[..., :3] = rgb
    return padded.view(np.uint32)[..., 0]


@cache
def _lookup_table() -> np.ndarray:
    """Packed colours (65536,), indexed by the bits of an int16 read as uint16."""
    return _pack(_compute(np.arange(65536, dtype=np.uint16).view(np.int16)))
