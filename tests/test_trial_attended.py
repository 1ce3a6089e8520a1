"""WORK/explain/ written and read back, on disk and in object storage; numbers by hand; damage
found."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from s3_server import S3Server, s3_server

from renal_ray.store.place import Place
from renal_ray.trial.attended import (
    ATTENTION,
    DONE,
    Explained,
    measured,
    read_explained,
    summary,
    write_explained,
)
from renal_ray.trial.explain import Look
from renal_ray.trial.lesions import GONE, Lesion
from renal_ray.trial.pictures import PICTURES, Picture, read_pictures
from renal_ray.trial.subjects import BEST, ERROR, TEST, VALIDATION, Subject
from renal_ray.types import Dataset, FreezePoint

SIZE = 8
LEFT = np.zeros((SIZE, SIZE), bool)
LEFT[:, :4] = True
FIRST = Subject(Dataset.ROI, "P1", VALIDATION, BEST, (1,), 1, 0.9, 0.4, 1, None)
SECOND = Subject(Dataset.ROI, "P2", VALIDATION, BEST, (0,), 0, 0.1, 0.5, 0, None)
WRONG = Subject(Dataset.ROI, "P3", TEST, ERROR, (0, 1), 0, 0.7, None, 1, 2)


def look(*evidence: list[list[float]], redrawn: list[list[float]] | None = None) -> Look:
    values = np.array(evidence, np.float32)
    return Look(
        1, 12, values, values if redrawn is None else np.array([redrawn] * len(values), np.float32)
    )


LOOKS = {
    "P1": look([[3, 1], [3, 1]], redrawn=[[1, 3], [1, 3]]),
    "P2": look([[-1, -1], [-1, -1]]),
    "P3": look([[2, 0], [2, 0]], [[0, 5], [0, 5]]),
}
LESIONS = {
    "P1": Lesion({Dataset.ROI: LEFT}),
    "P2": Lesion({Dataset.ROI: LEFT}),
    "P3": Lesion({}, GONE),
}


def row_of(subject: Subject) -> tuple[dict, np.ndarray]:
    return measured(
        subject,
        LOOKS[subject.patient_id],
        LESIONS[subject.patient_id],
        size=SIZE,
        point=FreezePoint.MIXED6,
    )


def write(work: Place, *asked: Subject) -> tuple[Explained, list[Picture]]:
    rows, pictures = [], []
    for subject in asked:
        row, attention = row_of(subject)
        rows.append(row)
        image = np.random.default_rng(int(subject.patient_id[1])).integers(
            0, 256, (SIZE, SIZE, 3), np.uint8
        )
        pictures.append(
            Picture.of(
                subject, LOOKS[subject.patient_id], image, attention, LESIONS[subject.patient_id]
            )
        )
    return write_explained(
        work, rows, pictures, {"models": "m", "votes": "", "settings": "s"}, size=SIZE
    ), pictures


def test_a_row_by_hand() -> None:
    row, attention = row_of(FIRST)
    # 3 1 along each row, interpolated to eight pixels: 3 3 2.75 2.25 | 1.75 1.25 1 1, of which the
    # left half is the lesion
    line = np.array([3, 3, 2.75, 2.25, 1.75, 1.25, 1, 1])
    np.testing.assert_allclose(attention, np.tile(line / 3, (SIZE, 1)), atol=1e-6)
    assert row["share_inside"] == pytest.approx(11 / 16)
    assert row["area_share"] == 0.5
    assert row["redrawn_correlation"] == pytest.approx(-1)
    assert (
        row["fold"],
        row["votes"],
        row["n_models"],
        row["rows"],
        row["columns"],
        row["is_empty"],
    ) == (1, None, 1, 2, 2, False)


def test_a_map_without_evidence_has_no_share() -> None:
    row, attention = row_of(SECOND)
    assert row["is_empty"]
    assert row["share_inside"] is None
    assert row["redrawn_correlation"] is None
    assert not attention.any()


def test_several_models_give_the_mean_of_their_maps() -> None:
    row, attention = row_of(WRONG)
    # 1 to 0 and 0 to 1, each scaled to its own maximum: the louder model counts no more than the
    # other
    np.testing.assert_allclose(attention, np.ones((SIZE, SIZE)), atol=1e-6)
    assert (row["fold"], row["votes"], row["n_models"], row["threshold"]) == (None, 2, 2, None)
    assert (row["share_inside"], row["area_share"], row["contour"]) == (None, None, GONE)


def test_the_summary_is_of_validation_patients_who_can_be_measured() -> None:
    table = pd.DataFrame([row_of(one)[0] for one in (FIRST, SECOND, WRONG)])
    [one] = summary(table)
    assert (one.dataset, one.freeze_point, one.places) == ("roi", "mixed6", (2, 2))
    assert (one.n, one.n_empty, one.n_without_contour) == (1, 1, 0)
    assert one.share == (pytest.approx(11 / 16), None)
    assert one.area == (0.5, None)
    assert summary(table[table["part"] == TEST]) == []


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with s3_server() as found:
        yield found


@pytest.mark.parametrize("where", ["disk", "storage"])
def test_what_is_written_is_read_back(where: str, server: S3Server, tmp_path: Path) -> None:
    work = Place(str(tmp_path) if where == "disk" else server.uri("explained"))
    assert read_explained(work) is None
    written, pictures = write(work, WRONG, SECOND, FIRST)
    found = read_explained(work)
    assert found is not None
    assert found.state == {"models": "m", "votes": "", "settings": "s"}
    pd.testing.assert_frame_equal(found.attention, written.attention)
    assert found.attention["patient_id"].tolist() == [
        "P3",
        "P1",
        "P2",
    ]  # by dataset, part, kind and patient
    assert found.without_contour == {GONE: 1}
    back = list(read_pictures(work))
    assert [one.patient_id for one in back] == ["P3", "P1", "P2"]
    for one in back:
        given = next(picture for picture in pictures if picture.patient_id == one.patient_id)
        assert (one.dataset, one.part, one.kind, one.slice_index) == (
            given.dataset,
            given.part,
            given.kind,
            12,
        )
        for name in ("image", "attention", "lesion"):
            np.testing.assert_array_equal(getattr(one, name), getattr(given, name))
        assert one.lesion.dtype == bool
    assert not next(one for one in back if one.patient_id == "P3").lesion.any()
    before = {name: work.read(name) for name in (ATTENTION, PICTURES, DONE)}
    write(work, FIRST, WRONG, SECOND)
    assert {name: work.read(name) for name in before} == before


@pytest.mark.parametrize("name", [ATTENTION, PICTURES, DONE])
def test_damage_is_found_and_counts_as_not_explained(name: str, tmp_path: Path) -> None:
    work = Place(str(tmp_path))
    write(work, FIRST)
    data = bytearray(work.read(name))
    data[len(data) // 2] ^= 1
    work.write(name, bytes(data))
    assert read_explained(work) is None
    work.remove(name)
    assert read_explained(work) is None


def test_nobody_is_shown(tmp_path: Path) -> None:
    work = Place(str(tmp_path))
    row, _ = row_of(FIRST)
    for rows in ([row], []):
        write_explained(work, rows, [], {}, size=SIZE)
        assert list(read_pictures(work)) == []
        found = read_explained(work)
        assert found is not None
        assert len(found.attention) == len(summary(found.attention)) == len(rows)
        assert found.without_contour == {}
