"""Slices on disk: the format that others read, and the seal that they are under."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from conftest import SIZE, draw_patients, small_study, write_small_work

from renal_ray.problems import StudyError
from renal_ray.protocol.splits import SplitSet
from renal_ray.store.place import Place, digest
from renal_ray.store.seal import Seal, SealError, open_seal
from renal_ray.store.slices import PatientRows, Slices, write_index, write_shard
from renal_ray.types import DATASETS, Dataset

PATIENTS = draw_patients(12)
FOLDS = {"n": 2, "method": "stratified"}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Place, SplitSet]:
    return write_small_work(small_study(tmp_path_factory.mktemp("slices"), folds=FOLDS), PATIENTS)


# Read by Arrow alone, as someone without this program would.
READER = """
import hashlib, json, sys
from pathlib import Path
import numpy as np
import pyarrow as pa, pyarrow.parquet as pq
folder = Path(sys.argv[1])
index = pq.read_table(folder / "index.parquet").to_pylist()
found, kinds, compressed = {}, set(), set()
for row in index:
    file = pa.ipc.open_file(pa.memory_map(str(folder / row["file"])))
    kinds.add(tuple((field.name, str(field.type)) for field in file.schema))
    batch = file.get_batch(row["batch"])
    assert batch.num_rows == row["rows"]
    assert set(batch.column("patient_id").to_pylist()) == {row["patient_id"]}
    images = batch.column("image").to_numpy_ndarray()
    found[row["patient_id"]] = {
        "label": batch.column("label").to_pylist(),
        "slice_index": batch.column("slice_index").to_pylist(),
        "position_mm": batch.column("position_mm").to_pylist(),
        "area": batch.column("lesion_area_mm2").to_pylist(),
        "shape": images.shape, "dtype": str(images.dtype),
        "sha256": hashlib.sha256(images.tobytes()).hexdigest(),
    }
batches = {}
for name in sorted({row["file"] for row in index}):
    file = pa.ipc.open_file(pa.memory_map(str(folder / name)))
    batches[name] = file.num_record_batches
    rows = sum(file.get_batch(n).num_rows for n in range(file.num_record_batches))
    kept = [file.get_batch(n) for n in range(file.num_record_batches)]
    image_bytes = sum(batch.column("image").nbytes for batch in kept)
    compressed.add((folder / name).stat().st_size < image_bytes)
assert not [name for name in sys.modules if name.startswith("renal_ray")]
told = {"found": found, "kinds": sorted(kinds), "batches": batches, "index": sorted(index[0])}
print(json.dumps(told | {"compressed": sorted(compressed)}))
"""


def test_any_arrow_reader_opens_them(prepared: tuple[Place, SplitSet]) -> None:
    work, _ = prepared
    done = subprocess.run(
        [sys.executable, "-I", "-c", READER, str(work.path("slices/roi"))],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    read = json.loads(done.stdout)
    [kinds] = read["kinds"]
    assert [name for name, _ in kinds] == [
        "patient_id",
        "slice_index",
        "position_mm",
        "label",
        "lesion_area_mm2",
        "image",
    ]
    types = dict(kinds)
    assert (types["patient_id"], types["slice_index"], types["position_mm"]) == (
        "string",
        "int32",
        "float",
    )
    assert (types["label"], types["lesion_area_mm2"]) == ("int8", "float")
    assert types["image"].startswith("extension<arrow.fixed_shape_tensor")
    assert "uint8" in types["image"]
    assert f"shape=[{SIZE},{SIZE},3]" in types["image"]
    assert read["compressed"] == [False]
    assert [(name[:12], batches) for name, batches in read["batches"].items()] == [
        ("shard-00000-", 6),
        ("shard-00001-", 6),
    ]
    assert {"patient_id", "file", "batch", "rows"} <= set(read["index"])
    assert read["found"].keys() == {patient.patient_id for patient in PATIENTS}
    for patient in PATIENTS:
        found = read["found"][patient.patient_id]
        assert found["label"] == [patient.label] * len(patient.image)
        assert found["slice_index"] == patient.slice_index.tolist()
        assert found["position_mm"] == patient.position_mm.tolist()
        assert found["area"] == patient.lesion_area_mm2.tolist()
        assert (found["shape"], found["dtype"]) == (list(patient.image.shape), "uint8")
        assert found["sha256"] == hashlib.sha256(patient.image.tobytes()).hexdigest()


def test_the_schema_is_written_into_the_file(prepared: tuple[Place, SplitSet]) -> None:
    work, _ = prepared
    for dataset in DATASETS:
        [file] = work.path(f"slices/{dataset}").glob("shard-00000-*.arrow")
        reader = pa.ipc.open_file(pa.memory_map(str(file)))
        image = reader.schema.field("image").type
        assert isinstance(image, pa.FixedShapeTensorType)
        assert (image.shape, image.value_type, image.extension_name) == (
            [SIZE, SIZE, 3],
            pa.uint8(),
            "arrow.fixed_shape_tensor",
        )


def test_pixels_come_back_as_written(prepared: tuple[Place, SplitSet]) -> None:
    work, _ = prepared
    slices = Slices(work, Dataset.RBR, sealed=())
    for patient in PATIENTS:
        images = slices.images(patient.patient_id)
        assert np.array_equal(images, patient.image)
        assert images.dtype == np.uint8
        assert not images.flags.writeable
        assert np.array_equal(slices.slice_index(patient.patient_id), patient.slice_index)
    assert slices.counts() == {patient.patient_id: len(patient.image) for patient in PATIENTS}


def test_sealed_patients_are_refused(prepared: tuple[Place, SplitSet]) -> None:
    work, splits = prepared
    slices = Slices(work, Dataset.ROI, sealed=splits.test)
    for patient in splits.test:
        for read in (slices.images, slices.slice_index):
            with pytest.raises(SealError, match="sealed"):
                read(patient)
    assert not work.exists("test/seal.jsonl")
    slices.images(splits.training[0])


def test_opening_the_seal_is_written_down_first(tmp_path: Path) -> None:
    study = small_study(tmp_path, folds=FOLDS)
    work, splits = write_small_work(study, PATIENTS)
    for number in range(2):
        seal = open_seal(work, patients=len(splits.test), slices=7, models=["b", "a"])
        lines = [json.loads(line) for line in work.read("test/seal.jsonl").decode().splitlines()]
        assert len(lines) == number + 1
        assert lines[-1] == {
            "opened": seal.opened,
            "patients": len(splits.test),
            "slices": 7,
            "models": 2,
            "models_sha256": digest(["a", "b"]),
            "rule": {"calibrate": "none", "threshold": "youden"},
            "program": lines[-1]["program"],
        }
        assert lines[-1]["program"].startswith("renal-ray ")
    opened = Slices(work, Dataset.ROI, sealed=splits.test, seal=seal)
    assert all(len(opened.images(patient)) for patient in splits.test)


def test_no_seal_is_handed_out_that_could_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "test").write_text("a file in the directory's place", encoding="utf-8")
    with pytest.raises(OSError, match="test"):
        open_seal(Place(str(tmp_path)), patients=1, slices=1, models=[])


def test_a_seal_is_an_answer_not_a_flag() -> None:
    with pytest.raises(TypeError):
        Seal()  # type: ignore[call-arg]


def test_the_digest_follows_pixels_patients_and_slice_numbers(tmp_path: Path) -> None:
    def written(patients: list[PatientRows]) -> Slices:
        work = Place(str(tmp_path / str(len(list(tmp_path.iterdir())))))
        write_index(
            work, Dataset.ROI, write_shard(work, Dataset.ROI, "shard-00000", patients, size=SIZE)
        )
        return Slices(work, Dataset.ROI, sealed=())

    one, two, *_ = PATIENTS
    plain = written([one, two])
    ids = [one.patient_id, two.patient_id]
    assert plain.digest(ids) == plain.digest(ids[::-1]) == written([two, one]).digest(ids)
    assert plain.digest(ids) != plain.digest(ids[:1])
    changed = one.image.copy()
    changed[0, 0, 0, 0] ^= 1
    assert written([one._replace(image=changed), two]).digest(ids) != plain.digest(ids)
    assert written([one._replace(slice_index=one.slice_index + 1), two]).digest(
        ids
    ) != plain.digest(ids)
    assert written(
        [one._replace(patient_id=two.patient_id), two._replace(patient_id=one.patient_id)]
    ).digest(ids) != plain.digest(ids)


def test_slices_that_were_never_written_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="renal-ray prepare"):
        Slices(Place(str(tmp_path)), Dataset.ROI, sealed=())


def test_a_file_that_an_index_points_to_is_never_overwritten(tmp_path: Path) -> None:
    work = Place(str(tmp_path))
    one, two, *_ = PATIENTS
    first = {
        row["file"] for row in write_shard(work, Dataset.ROI, "shard-00000", [one, two], size=SIZE)
    }
    again = {
        row["file"] for row in write_shard(work, Dataset.ROI, "shard-00000", [one, two], size=SIZE)
    }
    other = {
        row["file"] for row in write_shard(work, Dataset.ROI, "shard-00000", [two, one], size=SIZE)
    }
    assert first == again
    assert not first & other
    assert set(work.entries("slices/roi")) == first | other


def test_an_index_of_other_files_is_found_out(tmp_path: Path) -> None:
    work = Place(str(tmp_path))
    one, two, *_ = PATIENTS
    rows = write_shard(work, Dataset.ROI, "shard-00000", [one, two], size=SIZE)
    swapped = [row | {"batch": 1 - row["batch"]} for row in rows]
    write_index(work, Dataset.ROI, swapped)
    with pytest.raises(
        StudyError,
        match=r"does not hold what its index says\) and was deleted: run `renal-ray prepare`",
    ):
        Slices(work, Dataset.ROI, sealed=()).images(one.patient_id)
    assert write_shard(work, Dataset.ROI, "shard-00000", [one, two], size=SIZE) == rows
    write_index(work, Dataset.ROI, [row | {"batch": 7} for row in rows])
    with pytest.raises(StudyError, match="does not hold"):
        Slices(work, Dataset.ROI, sealed=()).images(one.patient_id)
