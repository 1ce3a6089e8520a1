"""What preflight says of nodes that would stop a study: on several raylets of this machine, and of
cards that are not here."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest
from conftest import small_study
from scenarios import play

from renal_ray.problems import StudyError
from renal_ray.store.place import Place
from renal_ray.sweep import cards as cards_module
from renal_ray.sweep.cards import Card, check_cards, read_cards
from renal_ray.sweep.node_checks import Question, Report, look
from renal_ray.sweep.nodes import Node
from renal_ray.sweep.preflight import _check_report

GIB = 1024.0


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What was said in each case, on a head without CPUs, a node with 2 and one with 4 CPUs and a
    logical card."""
    return play("refused", tmp_path_factory.mktemp("refused"))


def test_sound_nodes_pass_and_nothing_is_left_behind(said: dict[str, Any]) -> None:
    assert said["sound"] == ""
    assert said["left behind"] == []
    assert said["idle again"] == ""


def test_a_directory_that_each_node_has_for_itself_is_refused(said: dict[str, Any]) -> None:
    assert said["not shared"].startswith("work: /proc/self/cwd/work is not shared: node ")
    assert said["not shared"].endswith("give a shared file system or s3://bucket/prefix")


def test_files_that_a_node_lacks_or_has_otherwise_are_named(said: dict[str, Any]) -> None:
    assert said["other weights"].startswith(
        "weights: /proc/self/cwd/weights.h5 has other bytes on node "
    )
    assert said["no weights"].startswith(
        "weights: /proc/self/cwd/weights.h5 cannot be read (No such file or directory) on node "
    )
    assert said["no cohort"].startswith("cohort: /proc/self/cwd/weights.h5 is not on node ")


def test_trials_are_held_against_each_node_as_it_is(said: dict[str, Any]) -> None:
    assert said["too small"].startswith(
        "0 of 3 nodes can host a trial of {CPU: 4, GPU: 2}: the "
        "largest has {CPU: 4, GPU: 1}; lower "
    )
    assert (
        "0 of 3 nodes can host a trial of {CPU: 3, GPU: 0} now: the "
        "largest free is {CPU: 2, GPU: 0}, on "
    ) in said["busy"]
    assert "1 could if nothing else ran there: wait" in said["busy"]


def test_a_node_that_does_not_answer_is_named(said: dict[str, Any]) -> None:
    assert "did not answer within 3 s" in said["stuck"]
    assert said["stuck"].startswith("node ")


def test_a_card_that_the_framework_does_not_see_is_refused_before_any_trial_unless_allowed(
    tmp_path: Path,
) -> None:
    if Path("/dev/nvidiactl").exists():
        pytest.skip("this machine has NVIDIA's driver: the framework may see a card")
    found = play("blind", tmp_path)
    for backend, extra in (("tensorflow", "gpu"), ("jax", "gpu-jax")):
        assert found[backend].startswith("node "), found
        assert (
            f": {backend} sees no card where one is promised (NVIDIA's driver "
            "550.54.15 runs CUDA up to 12.4; CUDA's libraries: "
        ) in found[backend]
        assert f"run `pip install 'renal-ray[{extra}]'` on every node" in found[backend]
    assert found["begun"] is False
    assert len(found["seen"]) == 2
    assert (
        "jax sees no card: trials compute on the processor, as resources.allow_cpu says"
        in found["said"]
    )
    assert found["test"] == found["jax"]
    assert found["opened"] is False, "the seal was opened although nothing could be scored"


def test_another_keras_and_another_checkout_are_named_with_both_versions(tmp_path: Path) -> None:
    found = play("versions", tmp_path)
    assert (
        f"runs keras 0.0.1 (here {found['keras here']}): install the same environment"
        in found["older"]
    )
    assert "runs renal-ray's files " in found["changed"]
    assert "keras" not in found["changed"]


def test_a_directory_that_cannot_be_written_is_told_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "nonce").write_bytes(b"nonce")
    sound = look(Question(Place(str(tmp_path)), "nonce"))
    assert (sound.sees_driver, sound.write_error) == (True, "")
    assert [path.name for path in tmp_path.iterdir()] == ["nonce"]
    full = Report(True, "No space left on device", "", "", (), 0, 0, None)
    with pytest.raises(
        StudyError, match=r"cannot be written from node n1 \(No space left on device\)"
    ):
        _check_report(small_study(tmp_path), Place(str(tmp_path)), Node("1", "n1", {}, {}), full)


def test_a_write_that_fails_on_the_node_is_reported_not_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nonce").write_bytes(b"nonce")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Place, "write", full)
    assert look(Question(Place(str(tmp_path)), "nonce")).write_error == "No space left on device"


def node(gpus: float) -> Node:
    return Node("1", "n1", {"CPU": 8, "GPU": gpus}, {})


def card(
    number: int = 0, *, free: float = 80, holders: tuple[str, ...] = (), **changes: Any
) -> Card:
    return Card(number, "H100", 80 * GIB, free * GIB, holders, **changes)


def test_cards_that_are_promised_but_not_there() -> None:
    assert list(check_cards([(node(2), (card(0), card(1)))], 1.0)) == []
    assert list(check_cards([(node(0), None)], 1.0)) == []
    assert list(check_cards([(node(2), None)], 1.0)) == []  # the framework is asked
    with pytest.raises(StudyError, match=r"node n1 promises 4 GPUs, but has 2: .*--num-gpus=2"):
        list(check_cards([(node(4), (card(0), card(1)))], 1.0))
    assert list(check_cards([(node(7), (card(0, parts=7),))], 1.0)) == []
    with pytest.raises(StudyError, match="card 1 does not answer its driver \\(GPU is lost\\)"):
        list(check_cards([(node(2), (card(0), card(1, fault="GPU is lost")))], 1.0))


def test_strangers_on_a_card_are_named_and_refused_where_nothing_has_room() -> None:
    held = card(1, free=20, holders=("process 7 (python)",))
    [line] = check_cards([(node(2), (card(0), held))], 1.0)
    assert line == "node n1: card 1 (H100): process 7 (python) holds 60.0 of 80.0 GiB"
    with pytest.raises(
        StudyError,
        match=(
            r"0 of 1 cards have the memory of a trial free, 50% of a "
            r"card; .* holds 60.0 of 80.0 GiB: wait"
        ),
    ):
        list(check_cards([(node(1), (held,))], 0.5))
    assert len(list(check_cards([(node(1), (held,))], 0.25))) == 1


def nvml(monkeypatch: pytest.MonkeyPatch, cards: int, *, lost: int | None = None) -> None:
    """Stands for a driver with so many cards."""
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlShutdown", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: cards)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", lambda number: number)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetUUID", lambda number: f"GPU-{number}abc")
    monkeypatch.setattr(pynvml, "nvmlDeviceGetName", lambda number: "H100")
    monkeypatch.setattr(
        pynvml,
        "nvmlDeviceGetComputeRunningProcesses",
        lambda number: [SimpleNamespace(pid=os.getpid())],
    )
    monkeypatch.setattr(pynvml, "nvmlDeviceGetMigMode", lambda number: [0, 0])

    def memory(number: int) -> SimpleNamespace:
        if number == lost:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
        return SimpleNamespace(total=80 * 2**30, free=60 * 2**30)

    monkeypatch.setattr(pynvml, "nvmlDeviceGetMemoryInfo", memory)


def test_cards_are_read_from_their_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml(monkeypatch, 3, lost=2)
    monkeypatch.setattr(cards_module, "_visible", lambda: None)
    first, _, last = read_cards() or ()
    assert (first.number, first.total_mib, first.free) == (0, 80 * GIB, 0.75)
    assert first.holders[0].startswith(f"process {os.getpid()} (")
    assert last.fault != ""


@pytest.mark.parametrize(
    ("visible", "mine"),
    [("0,2", [0, 2]), ("GPU-1abc", [1]), ("", []), ("MIG-xyz", [0, 1, 2]), (None, [0, 1, 2])],
)
def test_a_node_s_cards_are_those_that_it_was_started_with(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, mine: list[int]
) -> None:
    nvml(monkeypatch, 3)
    monkeypatch.setattr(cards_module, "_visible", lambda: visible)
    assert [one.number for one in read_cards() or ()] == mine


def test_a_machine_without_the_driver_has_no_cards_to_show(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", absent)
    assert read_cards() is None
