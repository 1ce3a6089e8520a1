"""RTSTRUCT: which contours are the lesion, and where they may lie."""

import numpy as np
import pytest
from contours import VOLUME, box, code_of, read
from dicom_files import write_rtstruct, write_series

from renal_ray.config import Cohort, Selection
from renal_ray.imaging.patient import read_patient
from renal_ray.problems import Code, PatientError


def test_holes_islands_and_gaps_between_contours(tmp_path):
    slices = write_series(tmp_path / "ct", VOLUME)
    outer, hole, island = (
        box(1, (2.5, 12.5), (3.5, 13.5)),
        box(1, (5.5, 8.5), (6.5, 9.5)),
        box(4, (1.5, 3.5), (18.5, 21.5)),
    )
    write_rtstruct(
        tmp_path / "rt.dcm",
        [("Tumour", one) for one in (outer, hole, island)],
        series=str(slices[0].SeriesInstanceUID),
    )
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
    contours = [
        ("GTV 1", box(1, (1.5, 3.5), (1.5, 3.5))),
        ("gtv 2", box(1, (2.5, 4.5), (2.5, 4.5))),
        ("Kidney", box(1, (8.5, 18.5), (1.5, 9.5))),
    ]
    write_rtstruct(tmp_path / "rt.dcm", contours)
    assert read(tmp_path, lesion_rois=["GTV*"]).mask.sum() == 4 + 4 - 1
    assert read(tmp_path, lesion_rois=["kidney"]).mask.sum() == 80
    with pytest.raises(PatientError, match="GTV 1, Kidney, gtv 2") as caught:
        read(tmp_path)
    assert caught.value.code is Code.LESION_UNNAMED
    assert code_of(tmp_path, lesion_rois=["liver"]) is Code.MASK_EMPTY
    chosen = read_patient(
        tmp_path / "ct",
        tmp_path / "rt.dcm",
        cohort=Cohort(manifest="unused.csv"),
        selection=Selection(min_area_fraction=0),
        lesion="GTV 1",
    )
    assert chosen.mask.sum() == 4


@pytest.mark.parametrize(
    ("contour", "code"),
    [
        (box(1.5, (2, 5), (2, 5)), Code.MASK_OFF_GRID),
        (box(-3, (2, 5), (2, 5)), Code.MASK_OFF_GRID),
        (box(1, (-30, -25), (2, 5)), Code.MASK_OFF_GRID),
        (
            box(1, (2, 5), (2, 5)) + np.array([[0, 0, 0], [0, 0, 0], [0, 0, 3], [0, 0, 3]]),
            Code.MASK_OFF_GRID,
        ),
        (box(1, (2.1, 2.4), (2.1, 2.4)), Code.MASK_EMPTY),
        (box(1, (2, 5), (2, 5)) * 1e30, Code.MASK_OFF_GRID),
    ],
    ids=[
        "between slices",
        "beyond the ends",
        "beside the image",
        "not planar",
        "between pixel centres",
        "absurd",
    ],
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
    assert not read(tmp_path).findings or Code.REFERENCES_ABSENT not in {
        one.code for one in read(tmp_path).findings
    }
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


@pytest.mark.parametrize(
    ("orientation", "columns"),
    [
        ((1, 0, 0, 0, 1, 0), (0.5, 6.5)),
        ((0, 1, 0, 1, 0, 0), (0.5, 6.5)),
        ((-1, 0, 0, 0, 1, 0), (-6.5, -0.5)),
    ],
)
def test_contours_follow_the_image_into_any_storage(tmp_path, orientation, columns):
    """Points are millimetres: however pixels are stored, they enclose those that lie there."""
    write_series(tmp_path / "ct", VOLUME, orientation=orientation)
    write_rtstruct(tmp_path / "rt.dcm", [("T", box(1, (0.5, 3.5), columns))])
    assert read(tmp_path).mask.sum() == 18
