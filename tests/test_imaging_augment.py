"""Varied images: mirrored, turned and shifted as they should be, and black where nothing is
known."""

import numpy as np
import pytest

from renal_ray.imaging.augment import Variations, draw, shifted, varied
from renal_ray.imaging.windows import three_windows


def one(mirrored: bool = False, turned: float = 0.0, hu: float = 0.0) -> Variations:
    return Variations(np.array([mirrored]), np.array([turned]), np.array([hu]))


@pytest.fixture
def image() -> np.ndarray:
    """A smooth lesion of 20 to 70 HU in the middle of black, with a bright corner so that left and
    right, up and down differ."""
    rows, columns = np.mgrid[0:40, 0:40]
    hu = 45 + 25 * np.sin(rows / 6) * np.cos(columns / 9)
    rgb = three_windows(hu)
    rgb[(rows - 20) ** 2 + (columns - 20) ** 2 > 15**2] = 0
    rgb[8:14, 20:26] = (200, 150, 250)
    return rgb


def test_nothing_asked_is_nothing_done(image: np.ndarray) -> None:
    before = image.copy()
    assert np.array_equal(varied(image[None], one())[0], image)
    assert np.array_equal(image, before)


def test_mirrored_is_left_to_right(image: np.ndarray) -> None:
    assert np.array_equal(varied(image[None], one(mirrored=True))[0], image[:, ::-1])


def test_a_quarter_turn_is_numpy_s(image: np.ndarray) -> None:
    """The edge of 45 degrees is the configuration's; the function takes any angle, and a right one
    has an exact oracle."""
    assert np.array_equal(varied(image[None], one(turned=90))[0], np.rot90(image))


def test_turned_about_the_centre_and_black_beyond(image: np.ndarray) -> None:
    white = np.full((41, 41, 3), 255, np.uint8)
    turned = varied(white[None], one(turned=45))[0]
    assert turned[20, 20].tolist() == [255, 255, 255]
    assert turned[0, 0].tolist() == [0, 0, 0]
    back = varied(varied(image[None], one(turned=10)), one(turned=-10))[0].astype(int)
    inner = (slice(14, 27), slice(12, 20))
    assert np.abs(back[inner] - image[inner]).mean() < 8
    assert (
        np.abs(varied(image[None], one(turned=10))[0].astype(int)[inner] - image[inner]).mean()
        > np.abs(back[inner] - image[inner]).mean()
    )


@pytest.mark.parametrize("hu_shift", [-30.0, -7.5, 4.0, 25.0])
def test_a_shift_is_what_the_windows_would_show_of_the_shifted_attenuation(hu_shift: float) -> None:
    hu = np.arange(-60, 150, 0.25)  # the widest window tells all of these
    found, wanted = (
        shifted(three_windows(hu), hu_shift).astype(int),
        three_windows(hu + hu_shift).astype(int),
    )
    error = np.abs(found - wanted)
    assert error[:, 0].max() <= 1
    assert error[:, 1:].max() <= 3  # where only the widest window told: it is three times as coarse
    assert np.abs(three_windows(hu).astype(int) - wanted).max() > 3 * abs(hu_shift) / 2


def test_what_is_clipped_everywhere_stays_as_it_is() -> None:
    black, white = np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 255, np.uint8)
    for shift in (-50.0, 50.0):
        assert np.array_equal(shifted(black, shift), black)
        assert np.array_equal(shifted(white, shift), white)


def test_the_draw_is_seeded_and_within_its_bounds() -> None:
    found = draw(4000, np.random.default_rng(3), flip=True, rotate_deg=10, hu_jitter=20)
    again = draw(4000, np.random.default_rng(3), flip=True, rotate_deg=10, hu_jitter=20)
    assert all(np.array_equal(a, b) for a, b in zip(found, again, strict=True))
    assert 0.45 < found.mirrored.mean() < 0.55
    for values, most in ((found.turned_deg, 10), (found.shifted_hu, 20)):
        assert np.abs(values).max() <= most
        assert values.min() < -0.95 * most
        assert values.max() > 0.95 * most
    off = draw(4000, np.random.default_rng(3), flip=False, rotate_deg=0, hu_jitter=20)
    assert not off.mirrored.any()
    assert not off.turned_deg.any()
    assert np.array_equal(
        off.shifted_hu, found.shifted_hu
    )  # one setting does not change what another draws
