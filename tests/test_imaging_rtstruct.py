"""RTSTRUCT: which pixels a contour encloses, and where it may lie."""

import numpy as np
import pytest
from dicom_files import write_rtstruct, write_series
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.path import Path as Outline

from renal_ray.config import Cohort, Selection
from renal_ray.imaging.masks.polygons import fill
from renal_ray.imaging.patient import read_patient
from renal_ray.problems import Code, PatientError

EVERYTHING = Selection(min_area_fraction=0)
VOLUME = np.random.default_rng(0).integers(-100, 200, (6, 20, 24)).astype(np.int16)
ORIGIN, SPACING, STEP = (-10.0, -20.0, 100.0), 0.5, 2.5


def by_hand(points: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Even-odd, pixel by pixel: crossings of the row at columns up to and including the centre's."""
    inside = np.zeros(shape, bool)
    for row in range(shape[0]):
        for column in range(shape[1]):
            for (r0, c0), (r1, c1) in zip(points, np.roll(points, -1, axis=0), strict=True):
                if (min(r0, r1) <= row < max(r0, r1)) and c0 + (row - r0) / (r1 - r0) * (c1 - c0) <= column:
                    inside[row, column] ^= True
    return inside


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.floats(-4, 14), st.floats(-4, 14)), min_size=3, max_size=12))
def test_any_polygon_is_filled_as_by_hand(corners):
    points = np.array(corners)
    assert np.array_equal(fill(points, (9, 11)), by_hand(points, (9, 11)))


def test_a_smooth_outline_is_filled_as_matplotlib_does():
    angle = np.linspace(0, 2 * np.pi, 997, endpoint=False)
    points = np.stack([31.3 + 17.9 * np.sin(angle) + 3.1 * np.cos(5 * angle), 40.7 + 25.2 * np.cos(angle)], axis=1)
    rows, columns = np.mgrid[:64, :80]
    expected = Outline(points).contains_points(np.stack([rows.ravel(), columns.ravel()], axis=1)).reshape(64, 80)
    assert np.array_equal(fill(points, (64, 80)), expected)


def test_two_polygons_with_a_common_edge_share_no_pixel():
    left, right = (np.array([[2, a], [8, a], [8, b], [2, b]], float) for a, b in ((1, 5), (5, 9)))
    assert not (fill(left, (10, 10)) & fill(right, (10, 10))).any()
    assert np.array_equal(fill(left, (10, 10)) | fill(right, (10, 10)), fill(np.array([[2, 1], [8, 1], [8, 9], [2, 9]], float), (10, 10)))


def box(k: float, rows: tuple[float, float], columns: tuple[float, float]) -> np.ndarray:
    """A rectangle in slice k, in mm; row and column bounds in pixels."""
    corners = [(rows[0], columns[0]), (rows[0], columns[1]), (rows[1], columns[1]), (rows[1], columns[0])]
    return np.array([(ORIGIN[0] + c * SPACING, ORIGIN[1] + r * SPACING, ORIGIN[2] - k * STEP) for r, c in corners])


def read(folder, **cohort):
    return read_patient(folder / "ct", folder / "rt.dcm", cohort=Cohort(manifest="unused.csv", **cohort), selection=EVERYTHING)


def code_of(folder, **cohort) -> Code:
    with pytest.raises(PatientError) as caught:
        read(folder, **cohort)
    return caught.value.code


def test_holes_islands_and_gaps_between_contours(tmp_path):
    slices = write_series(tmp_path / "ct", VOLUME)
    outer, hole, island = box(1, (2.5, 12.5), (3.5, 13.5)), box(1, (5.5, 8.5), (6.5, 9.5)), box(4, (1.5, 3.5), (18.5, 21.5))
    write_rtstruct(tmp_path / "rt.dcm", [("Tumour", one) for one in (outer, hole, island)], series=str(slices[0].SeriesInstanceUID))
    got = read(tmp_path)
    expected = np.zeros((2, 20, 24), bool)
    expected[0, 3:13, 4:14] = True
    expected[0, 6:9, 7:10] = False
    expected[1, 2:4, 19:22] = True
    assert got.slice_index.tolist() == [1, 4]  # nothing is invented in slices 2 and 3
    assert np.array_equal(got.mask, expected)


def test_keyhole_contours_need_no_rule_of_their_own(tmp_path):
    write_series(tmp_path / "ct", VOLUME)
    outer, hole = box(2, (2.5, 12.5), (3.5, 13.5)), box(2, (5.5, 8.5), (6.5, 9.5))
    write_rtstruct(tmp_path / "rt.dcm", [("T", np.concatenate([outer, outer[:1], hole, hole[:1]]))])
    mask = read(tmp_path).mask[0]
    assert not mask[6:9, 7:10].any()
    assert mask.sum() == 100 - 9


def test_rois_are_chosen_by_name_or_pattern_and_united(tmp_path):
    write_series(tmp_path / "ct", VOLUME)
    contours = [("GTV 1", box(1, (1.5, 3.5), (1.5, 3.5))), ("gtv 2", box(1, (2.5, 4.5), (2.5, 4.5))), ("Kidney", box(1, (8.5, 18.5), (1.5, 9.5)))]
    write_rtstruct(tmp_path / "rt.dcm", contours)
    assert read(tmp_path, lesion_rois=["GTV*"]).mask.sum() == 4 + 4 - 1
    assert read(tmp_path, lesion_rois=["kidney"]).mask.sum() == 80
    with pytest.raises(PatientError, match="GTV 1, Kidney, gtv 2") as caught:
        read(tmp_path)
    assert caught.value.code is Code.LESION_UNNAMED
    assert code_of(tmp_path, lesion_rois=["liver"]) is Code.MASK_EMPTY
    chosen = read_patient(tmp_path / "ct", tmp_path / "rt.dcm", cohort=Cohort(manifest="unused.csv"), selection=EVERYTHING, lesion="GTV 1")
    assert chosen.mask.sum() == 4


@pytest.mark.parametrize(
    ("contour", "code"),
    [
        (box(1.5, (2, 5), (2, 5)), Code.MASK_OFF_GRID),
        (box(-3, (2, 5), (2, 5)), Code.MASK_OFF_GRID),
        (box(1, (-30, -25), (2, 5)), Code.MASK_OFF_GRID),
        (box(1, (2, 5), (2, 5)) + np.array([[0, 0, 0], [0, 0, 0], [0, 0, 3], [0, 0, 3]]), Code.MASK_OFF_GRID),
        (box(1, (2.1, 2.4), (2.1, 2.4)), Code.MASK_EMPTY),
        (box(1, (2, 5), (2, 5)) * 1e30, Code.MASK_OFF_GRID),
    ],
    ids=["between slices", "beyond the ends", "beside the image", "not planar", "between pixel centres", "absurd"],
)
def test_contours_that_are_not_of_this_image(tmp_path, contour, code):
    write_series(tmp_path / "ct", VOLUME)
    write_rtstruct(tmp_path / "rt.dcm", [("T", contour)])
    assert code_of(tmp_path) is code


def test_contours_between_slices_go_to_the_nearest_when_asked(tmp_path):
    write_series(tmp_path / "ct", VOLUME)
    write_rtstruct(tmp_path / "rt.dcm", [("T", box(1.4, (2.5, 5.5), (2.5, 5.5)))])
    got = read(tmp_path, mask_resample=True)
    assert got.slice_index.tolist() == [1]
    assert Code.MASK_RESAMPLED in {finding.code for finding in got.findings}


def test_references_decide_where_they_exist(tmp_path):
    slices = write_series(tmp_path / "ct", VOLUME)
    contour = box(1, (2.5, 5.5), (2.5, 5.5))
    right, wrong = str(slices[1].SOPInstanceUID), str(slices[3].SOPInstanceUID)
    write_rtstruct(tmp_path / "rt.dcm", [("T", contour)], sources=[right])
    assert not read(tmp_path).findings or Code.REFERENCES_ABSENT not in {one.code for one in read(tmp_path).findings}
    write_rtstruct(tmp_path / "rt.dcm", [("T", contour)], sources=["1.2.3.4.5.6"])
    assert Code.REFERENCES_ABSENT in {one.code for one in read(tmp_path).findings}
    write_rtstruct(tmp_path / "rt.dcm", [("T", contour)], sources=[wrong])
    assert code_of(tmp_path) is Code.MASK_OFF_GRID
    write_rtstruct(tmp_path / "rt.dcm", [("T", contour)], series="9.9.9")
    assert code_of(tmp_path) is Code.MASK_WITHOUT_SERIES
    write_rtstruct(tmp_path / "rt.dcm", [("T", contour)], frame_of_reference="9.9")
    assert code_of(tmp_path) is Code.MASK_OFF_GRID


def test_points_and_open_lines_enclose_nothing(tmp_path):
    write_series(tmp_path / "ct", VOLUME)
    write_rtstruct(tmp_path / "rt.dcm", [("T", box(1, (2, 9), (2, 9)))], kind="OPEN_PLANAR")
    assert code_of(tmp_path) is Code.MASK_EMPTY


@pytest.mark.parametrize(("orientation", "columns"), [((1, 0, 0, 0, 1, 0), (0.5, 6.5)), ((0, 1, 0, 1, 0, 0), (0.5, 6.5)), ((-1, 0, 0, 0, 1, 0), (-6.5, -0.5))])
def test_contours_follow_the_image_into_any_storage(tmp_path, orientation, columns):
    """Points are millimetres: however rows and columns are stored, they enclose the pixels that lie there."""
    write_series(tmp_path / "ct", VOLUME, orientation=orientation)
    write_rtstruct(tmp_path / "rt.dcm", [("T", box(1, (0.5, 3.5), columns))])
    assert read(tmp_path).mask.sum() == 18
