"""Files in a work directory: whole or not at all, and nothing that is not asked for."""

import errno
import os
import pickle
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import sleep

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import fs

from renal_ray.problems import StudyError
from renal_ray.store.place import Place, digest


def everything(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_bytes_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    work = Place(str(tmp_path))
    work.write("deep/file.json", b"old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if step == "fsync":
        monkeypatch.setattr(os, "fsync", full)
    else:
        monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space"):
        work.write("deep/file.json", b"new, and longer")
    with pytest.raises(OSError, match="No space"):
        work.write("deep/other.json", b"new")
    assert work.read("deep/file.json") == b"old"
    assert everything(tmp_path) == ["deep/file.json"]


def test_a_reader_never_meets_half_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = Place(str(tmp_path))
    work.write("file", b"old")
    seen: list[bytes] = []
    real = os.fsync

    def look(descriptor: int) -> None:
        seen.append(work.read("file"))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", look)
    work.write("file", b"new")
    assert seen == [b"old"]
    assert work.read("file") == b"new"


def test_entries_hide_what_unfinished_writes_left(tmp_path: Path) -> None:
    work = Place(str(tmp_path))
    for name in ("b/two", "b/one", "b/inner/three"):
        work.write(name, b"")
    (tmp_path / "b" / ".tmp-0123").write_bytes(b"half")
    (tmp_path / "b" / "inner" / ".tmp-4567").write_bytes(b"half")
    assert work.entries("b") == ["inner", "one", "two"]
    assert work.entries("b", recursive=True) == ["inner/three", "one", "two"]
    assert work.at("b").entries() == ["inner", "one", "two"]
    assert work.entries("nowhere") == []


def test_lines_are_added_and_earlier_ones_kept(tmp_path: Path) -> None:
    work = Place(str(tmp_path))
    work.append_line("test/log", "first")
    work.append_line("test/log", "second, with é")
    assert work.read("test/log") == "first\nsecond, with é\n".encode()


def test_remove_takes_files_and_directories_and_minds_nothing_else(tmp_path: Path) -> None:
    work = Place(str(tmp_path))
    work.write("keep", b"1")
    work.write("folder/inner/file", b"1")
    work.write("file", b"1")
    for name in ("folder", "file", "nowhere"):
        work.remove(name)
    assert everything(tmp_path) == ["keep"]
    assert not work.exists("folder")
    with pytest.raises(FileNotFoundError):
        work.read("file")


def test_a_relative_place_is_settled_where_it_was_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    work = Place("some/work")
    monkeypatch.chdir("/")
    work.write("file", b"1")
    assert everything(tmp_path) == ["some/work/file"]
    assert pickle.loads(pickle.dumps(work)) == work  # noqa: S301 - as Ray carries it to a worker
    assert Place(f"file://{tmp_path}/some/work").read("file") == b"1"


def test_json_refuses_numbers_that_json_has_not(tmp_path: Path) -> None:
    work = Place(str(tmp_path))
    work.write_json("a.json", {"b": 1, "a": None})
    assert work.read("a.json") == b'{\n "b": 1,\n "a": null\n}\n'
    with pytest.raises(ValueError, match="JSON compliant"):
        work.write_json("a.json", {"auc": float("nan")})
    assert work.read_json("a.json") == {"b": 1, "a": None}


def test_parquet_round_trip(tmp_path: Path) -> None:
    work = Place(str(tmp_path))
    table = pd.DataFrame(
        {"patient_id": ["a", "b"], "slice_index": pd.array([3, pd.NA], dtype="Int32")}
    )
    work.write_parquet("t.parquet", table)
    back = work.read_parquet("t.parquet")
    assert back["patient_id"].to_list() == ["a", "b"]
    assert back["slice_index"].isna().to_list() == [False, True]
    assert list(work.read_parquet("t.parquet", ["patient_id"])) == ["patient_id"]


def test_a_place_of_no_known_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="cannot be opened"):
        Place("ftp://somewhere/else").exists("file")


@given(st.lists(st.text(max_size=4), max_size=4), st.lists(st.text(max_size=4), max_size=4))
def test_a_digest_tells_how_its_parts_are_cut(one: list[str], other: list[str]) -> None:
    assert (digest(one) == digest(other)) == (one == other)
    assert digest(one) == digest([part.encode() for part in one])


def test_a_digest_is_what_it_was() -> None:
    assert digest(["ab", "c"]) != digest(["a", "bc"])
    assert digest([]) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_processes_of_a_node_fetch_a_remote_file_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Place(str(tmp_path / "bucket"))
    source.write("activations/a.arrow", b"rows")
    here = Place._open
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path / "node"))
    monkeypatch.setattr(
        Place,
        "_open",
        lambda self: (
            (fs.LocalFileSystem(), self.uri.replace("s3://bucket", source.uri))
            if "s3://" in self.uri
            else here(self)
        ),
    )
    fetched: list[str] = []
    reading = Place.read

    def slow_read(self: Place, name: str) -> bytes:
        fetched.append(name)
        sleep(0.2)
        return reading(self, name)

    monkeypatch.setattr(Place, "read", slow_read)
    remote = Place("s3://bucket")
    with ThreadPoolExecutor(4) as processes:
        paths = set(processes.map(lambda _: remote.local("activations/a.arrow"), range(4)))
    [path] = paths
    assert path.read_bytes() == b"rows"
    assert path.is_relative_to(tmp_path / "node")
    assert fetched == ["activations/a.arrow"]
