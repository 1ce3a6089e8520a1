"""Object storage over a real connection: every operation of a place, and a whole study whose work
directory lies there."""

import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import yaml
from conftest import SIZE
from s3_server import BUCKET, S3Server, s3_server

from renal_ray.problems import StudyError
from renal_ray.store import place as place_module
from renal_ray.store.arrow import BatchFile, tensor_column, tensor_type, write_batches
from renal_ray.store.place import Place, node_copies


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with s3_server() as found:
        yield found


@pytest.fixture
def work(server: S3Server, request: pytest.FixtureRequest) -> Place:
    """An empty place of the test's own."""
    return Place(server.uri(f"some-where/{request.node.name}"))


def test_files_are_written_read_replaced_and_listed(work: Place) -> None:
    for name in ("b/two", "b/one", "b/inner/three", "b/.tmp-half"):
        work.write(name, name.encode())
    work.write("b/one", b"new")
    assert work.read("b/one") == b"new"
    assert work.entries("b") == ["inner", "one", "two"]
    assert work.entries("b", recursive=True) == ["inner/three", "one", "two"]
    assert work.at("b").entries() == ["inner", "one", "two"]
    assert work.at("b").at("inner").read("three") == b"b/inner/three"
    assert work.entries("nowhere") == []
    assert [work.exists(name) for name in ("b", "b/one", "b/inner", "b/on", "nowhere")] == [
        True,
        True,
        True,
        False,
        False,
    ]
    with pytest.raises(FileNotFoundError):
        work.read("nowhere")


def test_remove_takes_files_and_directories_and_minds_nothing_else(work: Place) -> None:
    for name in ("keep", "folder/inner/file", "folder-beside", "file"):
        work.write(name, b"1")
    for name in ("folder", "file", "nowhere"):
        work.remove(name)
    assert work.entries(recursive=True) == ["folder-beside", "keep"]
    assert not work.exists("folder")


def test_lines_are_added_and_earlier_ones_kept(work: Place) -> None:
    work.append_line("test/log", "first")
    work.append_line("test/log", "second, with é")
    assert work.read("test/log") == "first\nsecond, with é\n".encode()


def test_json_and_parquet_come_back(work: Place) -> None:
    work.write_json("a.json", {"b": 1, "a": None})
    assert work.read_json("a.json") == {"b": 1, "a": None}
    work.write_parquet(
        "t.parquet",
        pd.DataFrame(
            {"patient_id": ["a", "b"], "slice_index": pd.array([3, pd.NA], dtype="Int32")}
        ),
    )
    assert work.read_parquet("t.parquet")["slice_index"].isna().to_list() == [False, True]


def test_arrow_is_mapped_from_a_copy_that_is_fetched_once_and_again_when_it_changed(
    work: Place, server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    schema = pa.schema({"activation": tensor_type(np.float32, (3, 4))})
    for factor in (1, 2):
        write_batches(work, "a.arrow", [{"activation": tensor_column(values * factor)}], schema)
        with ThreadPoolExecutor(4) as processes:
            [path] = set(processes.map(lambda _: work.local("a.arrow"), range(4)))
        assert path.is_relative_to(tmp_path)
        np.testing.assert_array_equal(BatchFile(path).tensor(0, "activation"), values * factor)
        assert (
            len(
                [
                    one
                    for one in server.reads("a.arrow")
                    if work.uri.split("/")[4].split("?")[0] in one
                ]
            )
            == factor
        )
    with pytest.raises(FileNotFoundError, match="some-where"):
        work.local("b.arrow")


def test_a_write_that_fails_leaves_the_old_bytes(work: Place, server: S3Server) -> None:
    work.write("file", b"old")
    with pytest.raises(OSError, match=r"NoSuchBucket|bucket"):
        Place(server.uri("x").replace(f"s3://{BUCKET}", "s3://no-such-bucket")).write(
            "file", b"new"
        )
    assert work.read("file") == b"old"


def test_copies_are_nobody_elses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert node_copies().path().stat().st_mode & 0o777 == 0o700
    node_copies().path().rmdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"renal-ray-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StudyError, match="belongs to another user"):
        node_copies()


def test_a_place_travels_and_is_told_without_its_options(work: Place) -> None:
    assert pickle.loads(pickle.dumps(work)) == work  # noqa: S301 - as Ray carries it to a worker
    assert work.shown("a/b").startswith(f"s3://{BUCKET}/some-where/test_a_place")
    assert work.shown("a/b").endswith("/a/b")
    assert "endpoint" not in work.at("inner").shown()


def test_keys_in_a_uri_are_refused_and_not_repeated() -> None:
    with pytest.raises(StudyError, match="AWS_ACCESS_KEY_ID") as refused:
        Place("s3://AKIA:hidden@bucket/prefix")
    assert "hidden" not in str(refused.value)


def test_the_endpoint_may_come_from_the_environment(
    work: Place, server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    work.write("file", b"1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    place_module._storage.cache_clear()
    assert Place(work.uri.partition("?")[0]).read("file") == b"1"


SETTINGS = {
    "name": "remote",
    "datasets": ["roi"],
    "freeze_points": ["mixed10"],
    "images": {"size": SIZE},
    "folds": {"n": 2, "method": "stratified"},
    "heads": {"use": ["image"]},
    "weights": "random",
    "training": {
        "epochs": {"image": 2, "fc": 2, "gru": 2},
        "batch_size": 8,
        "embedding": 16,
        "gru_units": 8,
    },
    "resources": {"cpus": 2, "object_store_mb": 100},
}


def command(*words: str) -> subprocess.CompletedProcess[str]:
    """renal-ray in a process of its own: its Ray then starts with the storage's keys."""
    return subprocess.run(
        [sys.executable, "-c", "from renal_ray.cli import main; main()", *words],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


@pytest.mark.cluster
def test_a_whole_study_in_object_storage(
    phantom_manifest: Path, server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "node").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "node"))
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")  # the names of Ray's sockets must be short
    work = Place(server.uri("whole/study"))
    file = tmp_path / "remote.yaml"
    file.write_text(
        yaml.safe_dump(
            SETTINGS | {"work": work.uri, "cohort": {"manifest": str(phantom_manifest)}}
        ),
        encoding="utf-8",
    )
    before = command("status", work.uri)
    assert (before.returncode, before.stdout) == (2, "")
    assert "study.yaml: no such file" in before.stderr
    done = command("run", str(file))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 of 2 trials are finished" in done.stdout
    assert f"report: s3://{BUCKET}/whole/study/report/index.html" in done.stdout
    for name in (
        "study.yaml",
        "cohort.parquet",
        "splits.json",
        "test/seal.jsonl",
        "test/votes.parquet",
        "report/index.html",
    ):
        assert work.exists(name), name
    assert work.entries("report/tables")
    assert not [name for name in work.entries(recursive=True) if ".tmp-" in name]
    assert server.reads(".arrow")
    results = {trial: work.read(f"trials/{trial}/result.json") for trial in work.entries("trials")}
    assert len(results) == 2
    said = command("status", work.uri)
    assert said.returncode == 0, said.stderr
    assert "remote: 2 of 2 trials finished, 0 failed" in said.stdout
    again = command("run", work.uri)  # the work directory serves as the study
    assert again.returncode == 0, again.stdout + again.stderr
    assert "the seal stays closed" in again.stdout
    assert {
        trial: work.read(f"trials/{trial}/result.json") for trial in work.entries("trials")
    } == results


def test_storage_that_cannot_be_reached_is_said_in_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "remote.yaml"
    work = "s3://studies/x?endpoint_override=http://127.0.0.1:9&region=us-east-1"
    file.write_text(
        yaml.safe_dump(
            SETTINGS | {"work": work, "cohort": {"manifest": str(tmp_path / "none.csv")}}
        ),
        encoding="utf-8",
    )
    for words in (("status", work), ("sweep", str(file))):
        done = command(*words)
        assert done.returncode == 2, done.stdout + done.stderr
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
        assert "s3://studies/x" in done.stderr
