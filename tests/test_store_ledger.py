"""The ledger of trials: what counts as finished, failed, unfinished."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from renal_ray.problems import DamagedFileError, StudyError
from renal_ray.store.ledger import FILES, Ledger, SupersededError
from renal_ray.store.place import Place

SPEC = {"trial_id": "t"}


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(Place(str(tmp_path)))


def write_files(folder: Place) -> None:
    for name in set(FILES) - {"spec.json"}:
        folder.write(name, name.partition(".")[0].encode())


def finished(ledger: Ledger, trial_id: str = "t") -> Place:
    folder = ledger.begin(trial_id, SPEC)
    write_files(folder)
    ledger.finish(trial_id, {"trial_id": trial_id, "levels": {}})
    return folder


def test_a_trial_from_nothing_to_finished(ledger: Ledger) -> None:
    assert (ledger.state("t"), ledger.trial_ids()) == ("absent", [])
    assert ledger.result("t") is None
    folder = ledger.begin("t", SPEC)
    assert ledger.state("t") == "unfinished"
    with pytest.raises(FileNotFoundError):
        ledger.finish("t", {"trial_id": "t"})
    write_files(folder)
    folder.write("stray.bin", b"of no trial")
    assert (ledger.state("t"), ledger.result("t")) == ("unfinished", None)
    written = ledger.finish("t", {"trial_id": "t"})
    assert ledger.state("t") == "finished"
    assert ledger.result("t") == written
    assert written["files"] == {
        name: hashlib.sha256(folder.read(name)).hexdigest() for name in FILES
    }
    assert ledger.trial_ids() == ["t"]


@pytest.mark.parametrize("missing", [*FILES, "result.json"])
def test_a_trial_without_one_of_its_files_is_not_finished(ledger: Ledger, missing: str) -> None:
    finished(ledger).remove(missing)
    assert ledger.result("t") is None
    assert ledger.state("t") != "finished"


def test_a_failed_trial_keeps_its_traceback_until_it_is_begun_again(ledger: Ledger) -> None:
    ledger.begin("t", SPEC)
    ledger.fail("t", "Traceback\nValueError: é\n")
    assert ledger.state("t") == "failed"
    assert ledger.error("t") == "Traceback\nValueError: é\n"
    assert ledger.result("t") is None
    ledger.begin("t", SPEC)
    assert ledger.state("t") == "unfinished"
    finished(ledger)
    assert ledger.state("t") == "finished"


def test_begin_clears_what_was_left(ledger: Ledger) -> None:
    folder = finished(ledger)
    folder.write("leftover.bin", b"x")
    other = finished(ledger, "other")
    ledger.begin("t", SPEC)
    assert folder.entries() == ["claim.txt", "spec.json"]
    assert folder.read_json("spec.json") == SPEC
    assert other.exists("result.json")


def test_a_damaged_file_is_told_with_what_to_do(ledger: Ledger) -> None:
    folder = finished(ledger)
    assert ledger.read_checked("t", "weights.h5") == b"weights"
    folder.write("weights.h5", b"Weights")
    with pytest.raises(
        DamagedFileError,
        match=r"trials/t/weights\.h5 is damaged: its trial counts as unfinished now",
    ):
        ledger.read_checked("t", "weights.h5")
    assert issubclass(DamagedFileError, StudyError)
    assert (ledger.state("t"), ledger.result("t")) == ("damaged", None)
    assert folder.exists("damaged.json")
    with pytest.raises(DamagedFileError, match="not finished any more"):
        ledger.read_checked("t", "spec.json")
    finished(ledger)
    assert folder.entries() == sorted([*FILES, "result.json"])


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: data.replace(b"0.25", b"0.75"),
        lambda data: b"[]",
        lambda data: b"",
    ],
)
def test_a_half_written_or_altered_result_is_none(
    ledger: Ledger, damage: Callable[[bytes], bytes]
) -> None:
    folder = ledger.begin("t", SPEC)
    write_files(folder)
    ledger.finish("t", {"trial_id": "t", "levels": {"auc": 0.25}})
    assert ledger.result("t") is not None
    folder.write("result.json", damage(folder.read("result.json")))
    assert (ledger.state("t"), ledger.result("t")) == ("damaged", None)


def test_a_worker_that_was_believed_dead_does_not_finish_beside_its_successor(
    ledger: Ledger, tmp_path: Path
) -> None:
    write_files(ledger.begin("t", SPEC))
    successor = Ledger(Place(str(tmp_path)))
    write_files(successor.begin("t", SPEC))
    with pytest.raises(SupersededError, match="another worker"):
        ledger.finish("t", {"trial_id": "t"})
    assert ledger.state("t") == "unfinished"
    successor.finish("t", {"trial_id": "t"})
    write_files(ledger.begin("u", SPEC))
    finished(successor, "u")
    with pytest.raises(SupersededError):
        ledger.finish("u", {"trial_id": "u"})
    assert ledger.state("u") == "finished"


def test_begin_keeps_checkpoints_and_nothing_else(ledger: Ledger) -> None:
    folder = ledger.begin("t", SPEC)
    for name in ("checkpoint.json", "checkpoint-3.h5", "weights.h5", "progress.json", ".tmp-0123"):
        folder.write(name, b"x")
    ledger.begin("t", SPEC)
    assert folder.entries(hidden=True) == [
        "checkpoint-3.h5",
        "checkpoint.json",
        "claim.txt",
        "spec.json",
    ]


def test_a_file_that_the_result_does_not_list_is_not_believed(ledger: Ledger) -> None:
    finished(ledger).write("extra.bin", b"x")
    with pytest.raises(DamagedFileError):
        ledger.read_checked("t", "extra.bin")
