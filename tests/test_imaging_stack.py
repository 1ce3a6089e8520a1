"""Order and spacing from positions, and every refusal of a stack."""

import re

import numpy as np
import pytest

from renal_ray.imaging.geometry.grid import turn_to_axial
from renal_ray.imaging.geometry.stack import Plane, stack
from renal_ray.problems import Code, PatientError

AXIAL = np.array([1.0, 0, 0, 0, 1, 0])


def planes(
    z, *, x=None, y=None, orientation=AXIAL, spacing=(0.7, 0.7), shape=(4, 5)
) -> list[Plane]:
    xs, ys = (np.zeros(len(z)) if v is None else v for v in (x, y))
    return [
        Plane(np.array([a, b, c], float), np.array(orientation, float), spacing, shape)
        for a, b, c in zip(xs, ys, z, strict=True)
    ]


def code_of(items) -> Code:
    with pytest.raises(PatientError) as caught:
        turn_to_axial(stack(items)[1])
    return caught.value.code


def test_order_is_by_position_along_the_normal():
    order, grid = stack(planes([30.0, 10.0, 20.0]))
    assert order.tolist() == [1, 2, 0]
    assert grid.steps[0].tolist() == [0, 0, 10]
    assert grid.origin.tolist() == [0, 0, 10]


def test_normal_of_a_flipped_row_points_the_other_way():
    order, grid = stack(planes([30.0, 10.0, 20.0], orientation=[1, 0, 0, 0, -1, 0]))
    assert order.tolist() == [0, 2, 1]
    assert grid.steps[0].tolist() == [0, 0, -10]


def test_single_slice_is_a_volume():
    order, grid = stack(planes([5.0]))
    assert order.tolist() == [0]
    assert grid.shape == (1, 4, 5)


def test_rounded_positions_are_uniform():
    z = np.round(np.arange(40) * 1.25, 1)
    _, grid = stack(planes(z))
    assert grid.spacing[0] == pytest.approx(1.25, abs=0.01)


@pytest.mark.parametrize(
    "z", [[0, 5, 10, 20], [0, 5, 15], [0, 10, 15, 20, 25], [0, 1.25, 2.5, 205], [0, 2, 4, 10, 12]]
)
def test_missing_slice(z):
    assert code_of(planes(z)) is Code.MISSING_SLICE


@pytest.mark.parametrize(
    ("z", "orientation", "where"),
    [
        ([0, 5, 10, 20, 25], AXIAL, "after slice 2 of 5 (between 20.00 and 10.00 mm along z)"),
        (
            [25, 20, 10, 5, 0],
            [1, 0, 0, 0, -1, 0],
            "after slice 2 of 5 (between 20.00 and 10.00 mm along z)",
        ),
        (
            [0, 10, 15, 20, 30],
            AXIAL,
            (
                "after slice 1 of 5 (between 30.00 and 20.00 mm along z), after "
                "slice 4 of 5 (between 10.00 and 0.00 mm along z)"
            ),
        ),
        (
            [-5, 0, 10],
            [1, 0, 0, 0, 0.98, 0.199],
            "after slice 1 of 3 (between 10.00 and 0.00 mm along z)",
        ),
    ],
)
def test_where_slices_are_missing_is_told_from_the_head_down(z, orientation, where):
    with pytest.raises(PatientError) as caught:
        stack(planes(z, orientation=orientation))
    assert where in caught.value.message


def test_where_slices_are_missing_along_another_axis():
    items = planes([0.0] * 3, y=[0, 5, 15], orientation=[1, 0, 0, 0, 0, -1])
    with pytest.raises(
        PatientError,
        match=re.escape("after slice 2 of 3 (between 5.00 and 15.00 mm along the slices' normal)"),
    ):
        stack(items)
    many = planes([0.0, 1, 3, 4, 6, 7, 9, 10, 12, 13])
    with pytest.raises(PatientError, match=r"about 4 slices are missing.*and elsewhere"):
        stack(many)


@pytest.mark.parametrize("z", [[0, 5, 12], [0, 5, 10, 11], [0, 5, 10, 15, 17.5], [0, 5, 10.4, 15]])
def test_non_uniform_spacing(z):
    assert code_of(planes(z)) is Code.NON_UNIFORM_SPACING


@pytest.mark.parametrize("z", [[0, 0], [0, 5, 5, 10], [0, 5, 5.005, 10]])
def test_duplicate_position(z):
    assert code_of(planes(z)) is Code.DUPLICATE_POSITION


@pytest.mark.parametrize("degrees", [-20, -2, 2, 14])
def test_tilted_gantry_seen_in_positions_alone(degrees):
    """The gantry tilts, the table moves along z: the planes are parallel but shifted."""
    a = np.deg2rad(degrees)
    assert (
        code_of(planes(np.arange(10) * 5.0, orientation=[1, 0, 0, 0, np.cos(a), -np.sin(a)]))
        is Code.TILT
    )


def test_sheared_stack_is_tilt_too():
    assert code_of(planes(np.arange(10) * 5.0, y=np.arange(10) * 1.0)) is Code.TILT


@pytest.mark.parametrize("degrees", [-20, 2, 14])
def test_the_grid_of_a_tilted_gantry_meets_every_slice(degrees):
    """In any order; the angle that is reported is the gantry's."""
    a = np.deg2rad(degrees)
    items = planes(np.arange(10) * 5.0, orientation=[1, 0, 0, 0, np.cos(a), -np.sin(a)])[::-1]
    order, grid = stack(items)
    assert np.allclose(
        [items[i].position for i in order], grid.origin + np.arange(10)[:, None] * grid.steps[0]
    )
    with pytest.raises(PatientError, match=f"by {abs(degrees)}.0 degrees"):
        turn_to_axial(grid)


def test_a_drift_that_is_no_tilt_is_in_the_grid_all_the_same():
    """A quarter of a degree: 1.7 mm over the series, two pixels that a mask on the grid would be
    off."""
    items = planes(np.arange(101) * 4.0, y=np.arange(101) * 0.017)
    _, grid = stack(items)
    assert turn_to_axial(grid) is not None
    assert np.allclose(grid.origin + 100 * grid.steps[0], items[100].position)


def test_rounding_of_few_slices_is_no_tilt():
    """A tenth of a millimetre sideways between two slices a millimetre apart would be six
    degrees."""
    _, grid = stack(planes([0.0, 1.0], x=[0, 0.1]))
    assert grid.steps[0].tolist() == [0, 0, 1]


def test_field_of_view_that_jumps():
    assert code_of(planes(np.arange(6) * 5.0, x=[0, 0, 0, 8, 8, 8])) is Code.MIXED_GRID


def test_mixed_orientation_comes_before_all_else():
    items = planes([0.0, 5, 10]) + planes([15.0], orientation=[0, 1, 0, 0, 0, -1])
    assert code_of(items) is Code.MIXED_ORIENTATION


@pytest.mark.parametrize("other", [{"spacing": (0.7, 0.8)}, {"shape": (4, 6)}])
def test_mixed_grid(other):
    assert code_of(planes([0.0, 5]) + planes([10.0], **other)) is Code.MIXED_GRID
