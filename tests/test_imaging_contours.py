"""RTSTRUCT: contours of a plane, of several planes on a slice, and beyond the image."""

import numpy as np
import pytest
from contours import VOLUME, box, code_of, findings, in_mm, pixels, read, refusal, square
from dicom_files import save, write_rtstruct, write_series
from matplotlib.path import Path

from renal_ray.problems import Code


def raster(points: np.ndarray) -> np.ndarray:
    """Pixels of an outline (n, 2) in pixels, by matplotlib."""
    rows, columns = np.mgrid[:20, :24]
    return (
        Path(points)
        .contains_points(np.stack([rows.ravel(), columns.ravel()], axis=1))
        .reshape(20, 24)
    )


def circle(radius: float, centre: tuple[float, float] = (9.7, 11.2)) -> np.ndarray:
    """A circle (90, 2), row and column in pixels."""
    angle = np.linspace(0, 2 * np.pi, 90, endpoint=False)
    return np.array(centre) + radius * np.stack([np.sin(angle), np.cos(angle)], axis=1)


def write(folder, contours, kinds=None, **options):
    """Writes the series and an RTSTRUCT with one ROI; kinds are the types of its contours."""
    slices = write_series(folder / "ct", VOLUME)
    rt = write_rtstruct(folder / "rt.dcm", [("GTV", one) for one in contours], **options)
    for item, kind in zip(
        rt.ROIContourSequence[0].ContourSequence if kinds else [], kinds or [], strict=True
    ):
        item.ContourGeometricType = kind
    save(rt)
    return slices


@pytest.mark.parametrize("step_mm", [0.5, 1.0, 1.25, 2.0])
@pytest.mark.parametrize("shift", [0.0, 0.4, 1.25])
def test_a_cylinder_drawn_at_other_heights_is_one(tmp_path, step_mm, shift):
    """Contours closer than the slices, on a reconstruction of its own."""
    levels = np.arange(1 * 2.5 + shift, 4 * 2.5 + shift + 1e-6, step_mm) / 2.5
    write(tmp_path, [in_mm(circle(5.3), level) for level in levels])
    assert code_of(tmp_path) is Code.MASK_OFF_GRID
    got = read(tmp_path, mask_resample=True)
    first, last = (int(np.floor(level + 0.5)) for level in levels[[0, -1]])
    assert got.slice_index.tolist() == list(range(first, last + 1))
    assert all(np.array_equal(mask, raster(circle(5.3))) for mask in got.mask)
    assert findings(got, Code.MASK_RESAMPLED)


def test_each_slice_of_a_cone_takes_the_plane_nearest_to_it(tmp_path):
    levels = np.arange(0.9, 4.2, 0.4)  # 0.9 1.3 1.7 2.1 2.5 2.9 3.3 3.7 4.1
    radii = 2.1 + 1.3 * levels
    write(
        tmp_path,
        [in_mm(circle(radius), level) for level, radius in zip(levels, radii, strict=True)],
    )
    got = read(tmp_path, mask_resample=True)
    nearest = [radii[np.abs(levels - k).argmin()] for k in (1, 2, 3, 4)]
    assert got.slice_index.tolist() == [1, 2, 3, 4]
    assert np.array_equal(got.mask, np.stack([raster(circle(radius)) for radius in nearest]))
    (message,) = findings(got, Code.MASK_RESAMPLED)
    assert "contours in 9 planes lie up to 0.50 of a slice beside" in message
    assert "planes that are nearest to no slice and were not taken: 5" in message


def test_planes_as_near_to_a_slice_are_united(tmp_path):
    left, right = circle(3.3, (9.7, 8.2)), circle(3.3, (9.7, 12.2))
    write(tmp_path, [in_mm(left, 1.7), in_mm(right, 2.3)])
    got = read(tmp_path, mask_resample=True)
    assert got.slice_index.tolist() == [2]
    assert np.array_equal(got.mask[0], raster(left) | raster(right))
    assert not findings(got, Code.CONTOURS_CROSS)


def test_planes_half_way_between_slices_go_to_one_slice_each(tmp_path):
    write(
        tmp_path,
        [in_mm(circle(radius), level) for level, radius in ((1.5, 3.1), (2.5, 4.2), (3.5, 5.3))],
    )
    got = read(tmp_path, mask_resample=True)
    assert got.slice_index.tolist() == [2, 3, 4]
    assert np.array_equal(
        got.mask, np.stack([raster(circle(radius)) for radius in (3.1, 4.2, 5.3)])
    )


def test_a_plane_on_the_outer_edge_of_the_last_slice_belongs_to_it(tmp_path):
    write(tmp_path, [square(5.5, 3), square(4.5, 2)])
    assert pixels(read(tmp_path, mask_resample=True)) == {5: 36}


def test_contours_a_little_further_apart_than_the_slices_leave_no_gap(tmp_path):
    """No plane lies within half a slice of slice 1."""
    levels, radii = np.array([0.3, 1.6, 2.9, 4.2]), np.array([3.1, 4.2, 5.3, 6.4])
    write(
        tmp_path,
        [in_mm(circle(radius), level) for level, radius in zip(levels, radii, strict=True)],
    )
    got = read(tmp_path, mask_resample=True)
    nearest = [radii[np.abs(levels - k).argmin()] for k in range(5)]
    assert np.array_equal(got.mask, np.stack([raster(circle(radius)) for radius in nearest]))
    assert (
        "slices between planes that took the nearer one: 1" in findings(got, Code.MASK_RESAMPLED)[0]
    )


def test_where_planes_are_missing_none_is_invented_and_that_is_said(tmp_path):
    write(tmp_path, [square(level, 3) for level in (0.4, 1.4, 4.4, 5.4)])
    got = read(tmp_path, mask_resample=True)
    assert got.slice_index.tolist() == [0, 1, 4, 5]
    assert (
        "slices between planes that took none, as planes are missing there: 2"
        in findings(got, Code.MASK_RESAMPLED)[0]
    )


def test_contours_of_several_heights_on_one_slice_are_no_rings(tmp_path):
    """Within the tolerance of one slice, but not of one plane: nested as in a cone."""
    write(tmp_path, [square(1.9, 5), square(2.0, 4), square(2.1, 3)])
    assert "several heights" in refusal(tmp_path).message
    assert pixels(read(tmp_path, mask_resample=True)) == {2: 64}


@pytest.mark.parametrize("off_mm", [0.02, 0.05, 0.12, 0.3, 0.45, -0.3])
@pytest.mark.parametrize("resample", [False, True])
def test_a_hole_a_little_beside_its_plane_stays_one(tmp_path, off_mm, resample):
    outer, hole = circle(6.3), circle(3.3)
    write(
        tmp_path,
        [one for k in (1, 2, 3) for one in (in_mm(outer, k), in_mm(hole, k + off_mm / 2.5))],
    )
    got = read(tmp_path, mask_resample=resample)
    assert got.slice_index.tolist() == [1, 2, 3]
    assert all(np.array_equal(mask, raster(outer) & ~raster(hole)) for mask in got.mask)
    assert not findings(got, Code.MASK_RESAMPLED)


@pytest.mark.parametrize("step", [0.06, 0.125, 0.18, 0.2, 0.25, 0.4])
def test_dense_planes_that_narrow_are_never_rings(tmp_path, step):
    """However near to each other they are: the next ones are as near."""
    levels = np.arange(1, 4 + 1e-6, step)
    radii = 2.1 + 1.3 * levels
    write(
        tmp_path,
        [in_mm(circle(radius), level) for level, radius in zip(levels, radii, strict=True)],
    )
    got = read(tmp_path, mask_resample=True)
    last = int(np.floor(levels[-1] + 0.5))
    nearest = [radii[np.abs(levels - k).argmin()] for k in range(1, last + 1)]
    assert np.array_equal(got.mask, np.stack([raster(circle(radius)) for radius in nearest]))


@pytest.mark.parametrize(
    "change",
    [
        lambda p: p,
        lambda p: p[::-1],
        lambda p: np.roll(p, 7, axis=0),
        lambda p: p[::-1] + 0.04,
        lambda p: p.round(1),
        lambda p: p[::2],
    ],
    ids=["identical", "reversed", "begun elsewhere", "a little off", "rounded", "of fewer points"],
)
def test_a_contour_that_is_stored_twice_is_one(tmp_path, change):
    one = circle(5.3)
    write(tmp_path, [*(in_mm(one, k) for k in (1, 2, 3)), in_mm(change(one), 2)])
    got = read(tmp_path)
    assert np.array_equal(
        got.mask, np.stack([raster(one), raster(one) | raster(change(one)), raster(one)])
    )
    assert not findings(got, Code.CONTOURS_CROSS)


def test_all_contours_stored_three_times_with_a_hole(tmp_path):
    write(tmp_path, [square(2, 5), square(2, 3), square(3, 5)] * 3)
    assert pixels(read(tmp_path)) == {2: 100 - 36, 3: 100}


def test_contours_that_cross_are_united_and_reported(tmp_path):
    write(tmp_path, [square(1, 5), square(2, 3), box(2, (9.5, 15.5), (11.5, 17.5))])
    got = read(tmp_path)
    assert pixels(got) == {1: 100, 2: 36 + 36 - 9}
    (message,) = findings(got, Code.CONTOURS_CROSS)
    assert message.startswith("in 1 of 2 planes contours cross each other, 2 together")


@pytest.mark.parametrize(
    "kind",
    [
        "INTERPOLATED_PLANAR",
        "closed_planar",
        " Closed_Planar ",
        "CLOSED PLANAR",
        "CLOSEDPLANAR_XOR",
        "interpolated_planar",
    ],
)
def test_types_that_are_areas(tmp_path, kind):
    write(tmp_path, [square(k, 3) for k in (1, 2, 3, 4)], ["CLOSED_PLANAR", kind] * 2)
    got = read(tmp_path)
    assert pixels(got) == dict.fromkeys((1, 2, 3, 4), 36)
    assert not findings(got, Code.CONTOURS_LEFT_OUT)


@pytest.mark.parametrize(
    ("kind", "shown"),
    [
        *(("OPEN_PLANAR", "OPEN_PLANAR"), ("open_nonplanar", "OPEN_NONPLANAR"), ("POINT", "POINT")),
        *(("SECRET_NAME", "of an unknown type"), ("", "of no type"), (None, "of no type")),
    ],
)
def test_types_that_are_none_are_left_out_and_counted(tmp_path, kind, shown):
    write(
        tmp_path,
        [square(k, 3) for k in (1, 2, 2, 3)],
        ["CLOSED_PLANAR", kind, "CLOSED_PLANAR", kind],
    )
    got = read(tmp_path)
    assert pixels(got) == {1: 36, 2: 36}
    (message,) = findings(got, Code.CONTOURS_LEFT_OUT)
    assert f"2 of 4 contours enclose no area and were left out (2 {shown})" in message
    assert "slices on which nothing else is drawn: 1" in message
    assert "SECRET" not in message


@pytest.mark.parametrize("points", [0, 1, 2])
def test_contours_of_too_few_points_are_left_out(tmp_path, points):
    write(tmp_path, [square(1, 3), square(2, 3)[:points], np.repeat(square(3, 3)[:1], 4, axis=0)])
    got = read(tmp_path)
    assert pixels(got) == {1: 36}
    assert (
        "2 of 3 contours enclose no area and were left out (2 of fewer than 3 points)"
        in findings(got, Code.CONTOURS_LEFT_OUT)[0]
    )


def test_where_nothing_is_left_it_says_why(tmp_path):
    write(tmp_path, [square(k, 3) for k in (1, 2, 3)], ["OPEN_PLANAR", "POINT", "OPEN_PLANAR"])
    error = refusal(tmp_path)
    assert error.code is Code.MASK_EMPTY
    assert "2 OPEN_PLANAR, 1 POINT" in error.message


def test_what_toggles_and_what_does_not_are_combined_in_one_plane(tmp_path):
    halves = [6, 4, 2]
    kinds = ["CLOSED_PLANAR", "CLOSEDPLANAR_XOR", "CLOSED_PLANAR"]
    write(
        tmp_path,
        [square(k, half) for k in (1, 2, 3) for half in halves],
        [*kinds, *kinds[::-1], *["CLOSEDPLANAR_XOR"] * 3],
    )
    assert pixels(read(tmp_path)) == dict.fromkeys((1, 2, 3), 144 - 64 + 16)


def test_copies_that_toggle_cancel_as_their_type_says_and_that_is_said(tmp_path):
    write(tmp_path, [square(1, 3), square(2, 3), square(2, 3)], ["CLOSEDPLANAR_XOR"] * 3)
    got = read(tmp_path)
    assert pixels(got) == {1: 36}
    assert (
        "2 contours of type CLOSEDPLANAR_XOR are copies" in findings(got, Code.CONTOURS_LEFT_OUT)[0]
    )


def cut_short(folder, contours, keep, **options):
    """Writes a series of which only some slices are there, and contours that name its slices."""
    slices = write_series(folder / "whole", VOLUME)
    (folder / "ct").mkdir()
    for k in keep:
        slices[k].filename = folder / f"ct/{k}.dcm"
        save(slices[k])
    names = [str(slices[k].SOPInstanceUID) for k, _ in contours]
    write_rtstruct(
        folder / "rt.dcm",
        [("GTV", one) for _, one in contours],
        series=str(slices[0].SeriesInstanceUID),
        sources=names,
        **options,
    )


def test_a_series_cut_short_is_said_to_be(tmp_path):
    cut_short(tmp_path, [(k, square(k, 3)) for k in range(6)], [2, 3])
    error = refusal(tmp_path)
    assert error.code is Code.MASK_OFF_GRID
    assert "slices are missing of the series that the RTSTRUCT was drawn on" in error.message
    assert (
        "2 contours at 2 heights lie up to 5.0 mm beyond its last slice towards the head"
        in error.message
    )
    assert (
        "2 contours at 2 heights lie up to 5.0 mm beyond its last slice towards the foot"
        in error.message
    )


def test_every_second_slice_lost_is_said_too(tmp_path):
    cut_short(tmp_path, [(k, square(k, 3)) for k in range(5)], [0, 2, 4])
    assert "slices are missing of the series" in refusal(tmp_path).message
    assert (
        "2 contours at 2 heights lie between its slices and name images that are not there"
        in refusal(tmp_path).message
    )


def test_contours_beyond_a_series_that_may_be_another(tmp_path):
    write(tmp_path, [square(k, 3) for k in (4, 5, 6)])
    assert (
        "1 contour at 1 height lies up to 2.5 mm beyond its last slice towards the "
        "foot: slices are missing there, or it is another series"
    ) in refusal(tmp_path).message


def test_a_lesion_that_reaches_beyond_the_ends_is_cut_only_where_that_is_little(tmp_path):
    write(tmp_path, [square(k, 5) for k in (3, 4, 5)] + [square(6, 1)])
    assert code_of(tmp_path) is Code.MASK_OFF_GRID
    error = refusal(tmp_path, mask_resample=True)
    assert error.code is Code.MASK_BEYOND_IMAGE
    assert "1.32 % of the lesion lies outside of the image (foot)" in error.message
    write(tmp_path, [square(k, 6) for k in (2, 3, 4, 5)] + [square(6, 1)])
    got = read(tmp_path, mask_resample=True)
    assert pixels(got) == dict.fromkeys((2, 3, 4, 5), 144)
    assert "0.69 % of the lesion lies outside of the image (foot) and was cut off" in findings(
        got, Code.CONTOURS_LEFT_OUT
    )


@pytest.mark.parametrize("resample", [False, True])
def test_a_lesion_that_reaches_beyond_the_field_of_view(tmp_path, resample):
    write(tmp_path, [box(2, (2.5, 12.5), (-4.5, 5.5))])
    error = refusal(tmp_path, mask_resample=resample)
    assert error.code is Code.MASK_BEYOND_IMAGE
    assert "40 % of the lesion lies outside of the image (right)" in error.message
    write(tmp_path, [box(2, (2.5, 12.5), (-0.5, 19.5)), box(3, (5.5, 6.5), (-1.5, 2.5))])
    got = read(tmp_path, mask_resample=resample)
    assert pixels(got) == {2: 200, 3: 3}
    assert findings(got, Code.CONTOURS_LEFT_OUT) == [
        "0.49 % of the lesion lies outside of the image (right) and was cut off"
    ]
