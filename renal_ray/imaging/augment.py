"""Training images varied: mirrored, turned, and with another attenuation - on the stored RGB
images, whose three channels are three CT windows."""

from typing import NamedTuple

import numpy as np
from PIL import Image

from renal_ray.imaging.windows import WINDOWS

WIDEST = 0  # the renal window, which holds the other two


class Variations(NamedTuple):
    """How each of n images is varied.

    Args:
        mirrored: whether it is mirrored left to right, bool (n,).
        turned_deg: angle that it is turned by, anticlockwise, degrees (n,).
        shifted_hu: shift of its attenuation, HU (n,).
    """

    mirrored: np.ndarray
    turned_deg: np.ndarray
    shifted_hu: np.ndarray

    def take(self, rows: slice) -> "Variations":
        """Those of some images."""
        return Variations(self.mirrored[rows], self.turned_deg[rows], self.shifted_hu[rows])


def draw(
    n: int, rng: np.random.Generator, *, flip: bool, rotate_deg: float, hu_jitter: float
) -> Variations:
    """Draws variations: mirrored with probability 1/2, angles and shifts uniform.

    Args:
        n: number of images.
        rng: where random numbers come from; the same number of them whatever the settings.
        flip: whether images are mirrored at all.
        rotate_deg: largest angle either way, degrees.
        hu_jitter: largest shift either way, HU.
    """
    numbers = rng.random((3, n))
    return Variations(
        (numbers[0] < 0.5) & flip,
        (2 * numbers[1] - 1) * rotate_deg,
        (2 * numbers[2] - 1) * hu_jitter,
    )


def varied(images: np.ndarray, variations: Variations) -> np.ndarray:
    """Varies images.

    An image is mirrored, then turned about its centre (bilinear, black where nothing is known),
    then shifted, see `shifted`.

    Args:
        images: uint8 RGB (n, size, size, 3).
        variations: one for each image.

    Returns:
        uint8 of the same shape; the input is not changed.
    """
    out = np.empty_like(images)
    for number, image in enumerate(images):
        if variations.mirrored[number]:
            image = image[:, ::-1]
        if variations.turned_deg[number]:
            turned = Image.fromarray(np.ascontiguousarray(image)).rotate(
                float(variations.turned_deg[number]), resample=Image.Resampling.BILINEAR
            )
            image = np.asarray(turned)
        out[number] = (
            shifted(image, float(variations.shifted_hu[number]))
            if variations.shifted_hu[number]
            else image
        )
    return out


def shifted(image: np.ndarray, hu: float) -> np.ndarray:
    """The image as it would be if every voxel's attenuation were larger by some HU, as far as three
    8-bit windows tell.

    Where a channel is inside its window, it tells the attenuation itself. Where it is clipped, the
    widest window does, which reaches 20 HU and more beyond the others. Where that one is clipped
    too, the channel stays as it is: how far beyond the window the voxel lay is not stored. So black
    stays black, outside the lesion and beside the image.

    Args:
        image: uint8 RGB (..., 3), channels as in `renal_ray.imaging.windows.WINDOWS`.
        hu: shift.

    Returns:
        uint8 of the same shape.
    """
    values = image.astype(np.float32)
    low, high = WINDOWS[WIDEST]
    widest = image[..., WIDEST]
    told = (widest > 0) & (widest < 255)
    attenuation = low + values[..., WIDEST] * np.float32((high - low) / 255)
    out = image.copy()
    for channel, (low, high) in enumerate(WINDOWS):
        own = image[..., channel]
        inside = (own > 0) & (own < 255)
        scale = np.float32(255 / (high - low))
        level = np.where(inside, values[..., channel], (attenuation - low) * scale)
        moved = np.rint(np.clip(level + np.float32(hu) * scale, 0, 255)).astype(np.uint8)
        out[..., channel] = np.where(inside | told, moved, own)
    return out
