"""The three datasets on slices small enough to check by hand."""

import numpy as np
import pytest

from renal_ray.config import Images
from renal_ray.imaging.geometry.grid import PatientSlices
from renal_ray.imaging.regions import dataset_images, dataset_masks, fit_square, lesion_box, region
from renal_ray.imaging.windows import three_windows
from renal_ray.types import DATASETS, Dataset


def slices_of(hu: np.ndarray, mask: np.ndarray, spacing=(0.8, 0.8)) -> PatientSlices:
    n = len(hu)
    return PatientSlices(
        np.arange(n, dtype=np.int32),
        -np.arange(n, dtype=np.float32),
        mask.sum((1, 2)).astype(np.float32),
        hu,
        mask,
        spacing,
        n,
        1.0,
    )


@pytest.fixture
def one_slice():
    hu = np.arange(6 * 8).reshape(1, 6, 8).astype(np.int16)
    mask = np.zeros((1, 6, 8), bool)
    mask[0, 1, 3] = mask[0, 2, 2:5] = mask[0, 3, 4] = True
    return hu, mask


def test_box_is_the_smallest_rectangle(one_slice):
    assert lesion_box(one_slice[1][0]) == (slice(1, 4), slice(2, 5))


def test_regions_before_resizing(one_slice):
    hu, mask = one_slice[0][0], one_slice[1][0]
    rgb, box = three_windows(hu), lesion_box(mask)
    assert np.array_equal(region(rgb, mask, box, dataset=Dataset.SLICE, crop=True), rgb)
    assert np.array_equal(region(rgb, mask, box, dataset=Dataset.RBR, crop=True), rgb[1:4, 2:5])
    roi = region(rgb, mask, box, dataset=Dataset.ROI, crop=True)
    assert np.array_equal(roi, np.where(mask[1:4, 2:5, None], rgb[1:4, 2:5], 0))
    assert (roi[0, 0] == 0).all()
    assert (roi[0, 1] == rgb[1, 3]).all()
    full = region(rgb, mask, box, dataset=Dataset.RBR, crop=False)
    assert full.shape == rgb.shape
    assert np.array_equal(full[1:4, 2:5], rgb[1:4, 2:5])
    full[1:4, 2:5] = 0
    assert not full.any()
    assert np.array_equal(
        region(rgb, mask, box, dataset=Dataset.ROI, crop=False), np.where(mask[..., None], rgb, 0)
    )


def test_square_of_the_right_size_is_left_as_it_is():
    image = np.random.default_rng(0).integers(0, 256, (75, 75, 3), np.uint8)
    assert np.array_equal(fit_square(image, (0.7, 0.7), 75), image)


@pytest.mark.parametrize(
    ("shape", "rows", "columns"),
    [
        ((3, 8), slice(2, 5), slice(0, 8)),
        ((8, 4), slice(0, 8), slice(2, 6)),
        ((8, 5), slice(0, 8), slice(1, 6)),
    ],
)
def test_padding_is_black_and_centred(shape, rows, columns):
    image = np.full((*shape, 3), 200, np.uint8)
    square = fit_square(image, (0.7, 0.7), 8).copy()
    assert (square[rows, columns] == 200).all()
    square[rows, columns] = 0
    assert not square.any()


def test_shrinking_averages_and_never_leaves_the_range():
    image = np.zeros((64, 64, 3), np.uint8)
    image[::2] = 255
    small = fit_square(image, (1, 1), 16)
    assert small[2:-2].min() > 110
    assert small[2:-2].max() < 145


def test_pixels_that_are_not_square_become_square():
    """A disc of 40 mm, sampled at 0.5 x 1.0 mm, is round in the result."""
    y, x = np.mgrid[0:100, 0:50]
    disc = (((y - 49.5) * 0.5) ** 2 + (x - 24.5) ** 2 <= 20**2).astype(np.uint8) * 255
    result = fit_square(np.repeat(disc[..., None], 3, axis=2), (0.5, 1.0), 200)[..., 0] > 127
    height, width = result.any(1).sum(), result.any(0).sum()
    assert height == pytest.approx(160, abs=2)
    assert width == pytest.approx(160, abs=4)  # half a source pixel of 4 at each end


def test_uneven_spacing_of_a_narrow_crop_keeps_its_aspect():
    image = np.full((4, 20, 3), 255, np.uint8)  # 4 rows of 3 mm, 20 columns of 1 mm: 12 x 20 mm
    square = fit_square(image, (3.0, 1.0), 200)[..., 0]
    assert (square > 127).any(1).sum() == pytest.approx(120, abs=1)
    assert (square > 127).any(0).sum() == 200


@pytest.mark.parametrize("crop", [True, False])
def test_shapes_types_and_repeatability(one_slice, crop):
    images = Images(size=75, crop=crop)
    first, second = (dataset_images(slices_of(*one_slice), images=images) for _ in range(2))
    assert set(first) == set(DATASETS)
    for dataset in DATASETS:
        assert first[dataset].shape == (1, 75, 75, 3)
        assert first[dataset].dtype == np.uint8
        assert np.array_equal(first[dataset], second[dataset])


def test_only_the_datasets_asked_for(one_slice):
    assert set(
        dataset_images(slices_of(*one_slice), images=Images(size=75), datasets=[Dataset.ROI])
    ) == {Dataset.ROI}


def test_int16_and_float32_give_the_same_images(one_slice):
    hu, mask = one_slice
    whole, fractional = (
        dataset_images(slices_of(h, mask), images=Images(size=75))
        for h in (hu, hu.astype(np.float32))
    )
    assert all(np.array_equal(whole[dataset], fractional[dataset]) for dataset in DATASETS)


@pytest.mark.parametrize("crop", [True, False])
@pytest.mark.parametrize("spacing", [(0.8, 0.8), (0.5, 1.0)])
def test_masks_lie_where_the_images_have_the_lesion(
    crop: bool, spacing: tuple[float, float]
) -> None:
    """HU that fill the renal window inside the lesion and leave it empty outside: the red channel
    then is the mask as the image was resized."""
    y, x = np.mgrid[:40, :60]
    mask = np.stack(
        [(y - 15) ** 2 / 60 + (x - 38) ** 2 / 150 < 1, (y - 25) ** 2 + (x - 10) ** 2 < 30]
    )
    slices = slices_of(np.where(mask, 190, -110).astype(np.int16), mask, spacing)
    images = Images(size=75, crop=crop)
    made, masks = dataset_images(slices, images=images), dataset_masks(slices, images=images)
    assert masks.keys() == set(DATASETS)
    for dataset in DATASETS:
        assert masks[dataset].dtype == bool
        assert 0.01 < masks[dataset].mean() < 0.99
        assert np.array_equal(masks[dataset], made[dataset][..., 0] > 127)
    assert np.array_equal(masks[Dataset.ROI], masks[Dataset.RBR])
    assert masks.keys() - dataset_masks(slices, images=images, datasets=[Dataset.ROI]).keys() == {
        Dataset.SLICE,
        Dataset.RBR,
    }
