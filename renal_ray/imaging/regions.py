"""HU slices and lesion masks to the images of the three datasets (Zhou et al. 2019, datasets
setting)."""

from collections.abc import Collection
from math import ceil, isclose

import numpy as np
from PIL import Image

from renal_ray.config import Images
from renal_ray.imaging.geometry.grid import PatientSlices
from renal_ray.imaging.windows import packed_windows
from renal_ray.types import DATASETS, Dataset

Box = tuple[slice, slice]
WHITE = 255


def dataset_images(
    slices: PatientSlices, *, images: Images, datasets: Collection[Dataset] = DATASETS
) -> dict[Dataset, np.ndarray]:
    """Makes the images of a patient for each dataset.

    slice is the whole axial image; roi is black outside the lesion mask and cropped to the lesion's
    box; rbr is the lesion's bounding rectangle with nothing masked. Of several lesions it is the
    one that is shown. The windows come first, so that interpolation works on what the network sees.

    Args:
        slices: the patient's kept slices.
        images: edge of the square images, and whether roi and rbr are cropped or keep the full
            frame, black outside.
        datasets: which datasets to make.

    Returns:
        uint8 (n, size, size, 3) for each dataset, slices in the given order.
    """
    made = {
        dataset: np.zeros((len(slices.hu), images.size, images.size, 3), np.uint8)
        for dataset in datasets
    }
    for n, (hu, mask) in enumerate(zip(slices.hu, slices.shown, strict=True)):
        rgb = packed_windows(hu)
        box = lesion_box(mask)
        for dataset, stack in made.items():
            stack[n] = fit_square(
                region(rgb, mask, box, dataset=dataset, crop=images.crop),
                slices.spacing_mm,
                images.size,
            )
    return made


def dataset_masks(
    slices: PatientSlices, *, images: Images, datasets: Collection[Dataset] = DATASETS
) -> dict[Dataset, np.ndarray]:
    """Where the lesion lies in the images that `dataset_images` makes: its mask cut, padded and
    resized exactly as they are.

    Args:
        slices: the patient's kept slices.
        images: as for `dataset_images`.
        datasets: which datasets.

    Returns:
        bool (n, size, size) for each dataset: a pixel of which at least half is lesion.
    """
    made = {
        dataset: np.zeros((len(slices.hu), images.size, images.size), bool) for dataset in datasets
    }
    for n, mask in enumerate(slices.shown):
        white = np.repeat(mask[..., None] * np.uint8(WHITE), 3, axis=2)
        box = lesion_box(mask)
        for dataset, stack in made.items():
            fitted = fit_square(
                region(white, mask, box, dataset=dataset, crop=images.crop),
                slices.spacing_mm,
                images.size,
            )
            stack[n] = fitted[..., 0] > WHITE / 2
    return made


def lesion_box(mask: np.ndarray) -> Box:
    """The smallest rectangle that holds every lesion pixel of a mask (rows, cols), as two slices;
    the mask is not empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def region(
    rgb: np.ndarray, mask: np.ndarray, box: Box, *, dataset: Dataset, crop: bool
) -> np.ndarray:
    """What a dataset shows of one slice, at the slice's own resolution.

    Args:
        rgb: uint8 (rows, cols, channels).
        mask: bool (rows, cols).
        box: the lesion's bounding rectangle.
        dataset: slice, roi or rbr.
        crop: cut roi and rbr to the box; otherwise they keep the full frame.

    Returns:
        uint8 (rows, cols, channels), or the shape of the box.
    """
    if dataset is Dataset.SLICE:
        return rgb
    inside = np.where(mask[box][..., None], rgb[box], 0) if dataset is Dataset.ROI else rgb[box]
    if crop:
        return inside
    frame = np.zeros_like(rgb)
    frame[box] = inside
    return frame


def fit_square(image: np.ndarray, spacing_mm: tuple[float, float], size: int) -> np.ndarray:
    """Pads an image with black to a square of patient space, centred, and resizes it; anatomy is
    never stretched.

    The square is one in millimetres: where the row and the column spacing differ, the two axes are
    resampled by different factors, so that a pixel of the result is square. An odd line of padding
    goes to the bottom or the right. Resizing is Pillow's bilinear filter, which averages over all
    source pixels when it shrinks and works in integers, so that every machine gives the same bytes.

    Args:
        image: uint8 (rows, cols, 3), or 4 with an empty last channel, which spares a copy.
        spacing_mm: distance between rows and between columns.
        size: edge of the result in pixels.

    Returns:
        uint8 (size, size, 3).
    """
    rows, columns = image.shape[:2]
    edge_mm = max(rows * spacing_mm[0], columns * spacing_mm[1])
    if isclose(*spacing_mm, rel_tol=1e-3):
        height = width = float(max(rows, columns))
    else:
        height, width = max(rows, edge_mm / spacing_mm[0]), max(columns, edge_mm / spacing_mm[1])
    shape = ceil(height), ceil(width)
    canvas = (
        np.ascontiguousarray(image)
        if shape == (rows, columns)
        else np.zeros((*shape, image.shape[2]), np.uint8)
    )
    if canvas.shape[:2] != (rows, columns):
        top, left = (shape[0] - rows) // 2, (shape[1] - columns) // 2
        canvas[top : top + rows, left : left + columns] = image
    y, x = (shape[0] - height) / 2, (shape[1] - width) / 2
    box = (x, y, x + width, y + height)
    # Pillow keeps RGB in four bytes a pixel: taken over as they are, they need no unpacking
    whole = (
        Image.frombytes("RGB", shape[::-1], canvas.data, "raw", "RGBX")
        if image.shape[2] == 4
        else Image.fromarray(canvas)
    )
    return np.asarray(whole.resize((size, size), Image.Resampling.BILINEAR, box=box))
