"""Cached activations: every row where it belongs."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from renal_ray.problems import DamagedFileError
from renal_ray.store.activations import (
    Activations,
    ActivationSet,
    activation_key,
    has_part,
    write_index,
    write_part,
)
from renal_ray.store.place import Place
from renal_ray.types import Dataset, FreezePoint

WHICH = ActivationSet(Dataset.ROI, FreezePoint.MIXED9, "0123456789abcdef")
COUNTS = {"p3": 4, "p1": 1, "p2": 3, "p0": 2, "p4": 5}
SHAPE = (3, 2, 4)


def written(work: Place, dtype: str) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    values = {
        patient: rng.normal(size=(count, *SHAPE)).astype(dtype) for patient, count in COUNTS.items()
    }
    parts = {"one": ["p3", "p1"], "two": ["p2", "p0", "p4"]}
    for part, patients in parts.items():
        assert not has_part(work, WHICH, part)
        write_part(
            work,
            WHICH,
            part,
            [(patient, 10 * np.arange(COUNTS[patient]), values[patient]) for patient in patients],
        )
        assert has_part(work, WHICH, part)
    assert not WHICH.exists(work)
    write_index(
        work,
        WHICH,
        {
            part: [(patient, COUNTS[patient]) for patient in patients]
            for part, patients in parts.items()
        },
    )
    assert WHICH.exists(work)
    return values


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_round_trip(tmp_path: Path, dtype: str) -> None:
    work = Place(str(tmp_path))
    values = written(work, dtype)
    order = ["p4", "p0", "p3", "p1", "p2"]
    rows = Activations(work, WHICH, order)
    truth = np.concatenate([values[patient] for patient in order]).astype(np.float32)
    assert rows.patients == tuple(order)
    assert rows.counts.tolist() == [COUNTS[patient] for patient in order]
    assert rows.slice_index.dtype == np.int32
    assert rows.slice_index.tolist() == [
        10 * n for patient in order for n in range(COUNTS[patient])
    ]
    assert len(rows) == len(truth)
    everything = rows[:]
    assert everything.dtype == dtype
    assert np.array_equal(
        everything, truth
    )  # float16 widens exactly: what was stored is what comes back
    rng = np.random.default_rng(1)
    for chosen in (
        rng.integers(0, len(truth), 40),
        rng.permutation(len(truth)),
        np.array([0]),
        np.array([], int),
        rng.random(len(truth)) < 0.5,
    ):
        assert np.array_equal(rows[chosen], truth[chosen])
    for part in (slice(2, 9), slice(None, None, 3), slice(5, 5), slice(-4, None)):
        assert np.array_equal(rows[part], truth[part])


def test_half_precision_is_near_the_truth(tmp_path: Path) -> None:
    exact = np.random.default_rng(0).normal(size=(4, *SHAPE)).astype(np.float32)
    work = Place(str(tmp_path))
    write_part(work, WHICH, "only", [("p", np.arange(4), exact.astype(np.float16))])
    write_index(work, WHICH, {"only": [("p", 4)]})
    np.testing.assert_allclose(Activations(work, WHICH, ["p"])[:], exact, rtol=1e-3, atol=1e-4)


def test_some_patients_only(tmp_path: Path) -> None:
    work = Place(str(tmp_path))
    values = written(work, "float32")
    assert np.array_equal(Activations(work, WHICH, ["p2"])[:], values["p2"])
    with pytest.raises(KeyError, match="p9"):
        Activations(work, WHICH, ["p2", "p9"])


@pytest.mark.parametrize("damage", ["a bit", "half", "missing", "no index"])
def test_a_damaged_file_is_named_and_deleted_so_that_it_is_made_anew(
    tmp_path: Path, damage: str
) -> None:
    work = Place(str(tmp_path))
    written(work, "float32")
    file = tmp_path / WHICH.folder / "two.arrow"
    data = bytearray(file.read_bytes())
    if damage == "a bit":
        values = Activations(work, WHICH, ["p0"])[:]
        data[bytes(data).index(values.tobytes()) + 5] ^= 1
    if damage in ("a bit", "half"):
        file.write_bytes(data if damage == "a bit" else data[: len(data) // 2])
    if damage == "missing":
        file.unlink()
    if damage == "no index":
        (tmp_path / WHICH.folder / "index.parquet").unlink()
    with pytest.raises(DamagedFileError, match="next `renal-ray sweep`"):
        Activations(work, WHICH, ["p3", "p0"])
    assert not WHICH.exists(work)
    assert has_part(work, WHICH, "one")
    assert has_part(work, WHICH, "two") == (damage == "no index")


def test_rows_are_copies_and_the_file_stays(tmp_path: Path) -> None:
    work = Place(str(tmp_path))
    values = written(work, "float32")
    rows = Activations(work, WHICH, ["p0"])
    rows[:][:] = 0
    assert np.array_equal(rows[:], values["p0"])


def test_the_file_is_plain_arrow(tmp_path: Path) -> None:
    work = Place(str(tmp_path))
    written(work, "float16")
    assert work.entries(WHICH.folder) == ["index.parquet", "one.arrow", "two.arrow"]
    reader = pa.ipc.open_file(pa.memory_map(str(work.path(f"{WHICH.folder}/one.arrow"))))
    assert reader.schema.field("activation").type == pa.fixed_shape_tensor(pa.float16(), SHAPE)
    assert [
        reader.get_batch(n).column("patient_id")[0].as_py()
        for n in range(reader.num_record_batches)
    ] == ["p3", "p1"]


def test_the_key_follows_all_that_decides_the_numbers() -> None:
    base = {"slices": "a", "weights": "b", "size": 75, "dtype": "float32"}
    keys = {activation_key(**base)} | {
        activation_key(**base | change)
        for change in (
            {"slices": "x"},
            {"weights": "x"},
            {"size": 76},
            {"dtype": "float16"},
            {"slices": "b", "weights": "a"},
        )
    }
    assert len(keys) == 6
    assert {len(key) for key in keys} == {16}
