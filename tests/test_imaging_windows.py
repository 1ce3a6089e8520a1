"""The three windows, value by value."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from renal_ray.imaging.windows import WINDOWS, three_windows


def by_hand(hu: float) -> list[int]:
    """Exact arithmetic; Python's round is half to even."""
    value = Fraction(hu)
    return [
        round(
            (min(max(value, Fraction(low)), Fraction(high)) - Fraction(low))
            * 255
            / Fraction(high - low)
        )
        for low, high in WINDOWS
    ]


@pytest.mark.parametrize(
    ("hu", "rgb"),
    [
        (-2000, (0, 0, 0)),
        (-110, (0, 0, 0)),
        (-109, (1, 0, 0)),  # 0.85
        (-100, (8, 0, 0)),  # 8.5: half to even goes down
        (-80, (26, 0, 0)),  # 25.5: half to even goes up
        (-40, (60, 0, 0)),  # 59.5
        (-30, (68, 0, 26)),  # blue 25.5
        (20, (110, 0, 153)),  # red 110.5
        (30, (119, 26, 178)),  # green 25.5, blue 178.5
        (40, (128, 51, 204)),  # red 127.5
        (60, (144, 102, 255)),  # red 144.5
        (120, (196, 255, 255)),  # red 195.5
        (190, (255, 255, 255)),
        (32767, (255, 255, 255)),
    ],
)
def test_values_worked_out_by_hand(hu, rgb):
    assert tuple(three_windows(np.array(hu, np.int16))) == rgb
    assert tuple(three_windows(np.array(hu, np.float32))) == rgb
    assert tuple(three_windows(np.array(hu, np.int32))) == rgb


def test_every_int16_agrees_with_exact_arithmetic():
    hu = np.arange(-32768, 32768).astype(np.int16)
    rgb = three_windows(hu)
    inside = (hu >= -120) & (hu <= 200)
    assert rgb[inside].tolist() == [by_hand(int(value)) for value in hu[inside]]
    assert (rgb[hu < -120] == 0).all()
    assert (rgb[hu > 200] == 255).all()


@given(st.integers(-300 * 1024, 300 * 1024))
def test_fractional_hu_agree_with_exact_arithmetic(n):
    hu = n / 1024  # exact in float32
    assert three_windows(np.array([hu], np.float32)).tolist() == [by_hand(hu)]


def test_shape_and_type_and_views():
    hu = np.arange(-500, 500).astype(np.int16).reshape(5, 10, 20)
    rgb = three_windows(hu)
    assert rgb.shape == (5, 10, 20, 3)
    assert rgb.dtype == np.uint8
    assert np.array_equal(three_windows(hu[:, ::-1, ::2]), rgb[:, ::-1, ::2])
