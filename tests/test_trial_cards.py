"""Whether the framework sees the card that was promised: asked in a process as under a trial, and
told with what helps."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest
from conftest import SmallWork

from renal_ray.model import nvidia
from renal_ray.model.nvidia import Card, Driver, card, driver
from renal_ray.problems import StudyError
from renal_ray.store.ledger import Ledger
from renal_ray.trial import cards
from renal_ray.trial.cards import Seen, require_card
from renal_ray.trial.process import Setup, TrialProcess
from renal_ray.types import Head

STUB = Path(__file__).resolve().parent / "nvml_stub"
SOUND = Driver("550.54.15", (12, 4), 2)


def started(small: SmallWork, backend: str, **more: Any) -> TrialProcess:
    return TrialProcess(
        Setup(work=small.work.uri, backend=backend, threads=1, gpu_share=1, **more),
        most_tasks=9,
        most_mib=1e6,
    )


@pytest.fixture
def blind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Surroundings of a process in which NVML shows a card and no framework sees one."""
    if Path("/dev/nvidiactl").exists():
        pytest.skip("this machine has NVIDIA's driver: the framework may see a card")
    monkeypatch.syspath_prepend(str(STUB))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")


@pytest.mark.usefixtures("blind")
@pytest.mark.parametrize(("backend", "extra"), [("tensorflow", "gpu"), ("jax", "gpu-jax")])
def test_a_process_whose_framework_sees_no_card_says_why_and_what_helps(
    trained: SmallWork, tmp_path: Path, backend: str, extra: str
) -> None:
    """The process that preflight starts and the one under a trial say the same."""
    small = trained.copy(tmp_path / "work")
    process = started(small, backend)
    seen = process.cards()
    assert seen.cards == []
    assert seen.fault.startswith(
        f"{backend} sees no card where one is promised (NVIDIA's driver "
        "550.54.15 runs CUDA up to 12.4; CUDA's libraries: "
    )
    assert (
        f"run `pip install 'renal-ray[{extra}]'` on every node, or let trials "
        "compute on the processor with resources.allow_cpu: true"
    ) in seen.fault
    if backend == "tensorflow":
        assert (
            "Could not load dynamic library 'libcuda.so.1'"
            in seen.fault.partition("tensorflow said: ")[2]
        )
    spec = small.specs(Head.IMAGE)[0]
    with pytest.raises(RuntimeError) as caught:
        list(process.run(spec))
    assert str(caught.value) == seen.fault
    assert Ledger(small.work).state(spec.trial_id) == "failed"
    assert Ledger(small.work).error(spec.trial_id) == f"{seen.fault}\n"
    process.close()


@pytest.mark.usefixtures("blind")
def test_a_trial_that_may_go_on_without_a_card_does(trained: SmallWork, tmp_path: Path) -> None:
    small = trained.copy(tmp_path / "work")
    process = started(small, small.study.backend, allow_cpu=True)
    spec = small.specs(Head.IMAGE)[0]
    list(process.run(spec))
    process.close()
    assert Ledger(small.work).state(spec.trial_id) == "finished"


def test_a_card_that_is_seen_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cards, "look", lambda backend: Seen(cards=["H100, 80 GiB"]))
    assert require_card("jax", allow_cpu=False)
    monkeypatch.setattr(cards, "look", lambda backend: Seen(fault="jax sees none"))
    assert not require_card("jax", allow_cpu=True)
    with pytest.raises(StudyError, match="jax sees none"):
        require_card("jax", allow_cpu=False)


@pytest.mark.parametrize(
    ("here", "lacking", "said", "helps"),
    [
        (
            None,
            ["nvidia-cudnn-cu12"],
            "",
            "install NVIDIA's driver there, or start Ray there with --num-gpus=0",
        ),
        (
            Driver("470.1", (11, 4), 1),
            ["nvidia-cudnn-cu12"],
            "",
            "update NVIDIA's driver there, to 525 at least",
        ),
        (
            SOUND,
            [],
            "CUDA driver version is insufficient for CUDA runtime version",
            "update NVIDIA's driver there, to 525 at least",
        ),
        (
            SOUND,
            ["nvidia-cudnn-cu12"],
            "Cannot dlopen some GPU libraries.",
            "run `pip install 'renal-ray[gpu]'` on every node",
        ),
        (
            SOUND,
            [],
            "",
            (
                "CUDA_VISIBLE_DEVICES=7 names none of its 2 cards: start "
                "Ray there with those that it has"
            ),
        ),
    ],
    ids=[
        "no driver",
        "old driver",
        "driver too old for the libraries",
        "no libraries",
        "another card",
    ],
)
def test_what_helps_fits_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch, here: Driver | None, lacking: list[str], said: str, helps: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    monkeypatch.setattr(cards, "card", lambda: None)
    assert cards._remedy("tensorflow", here, lacking, said) == helps


def test_where_all_is_there_the_machine_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cards, "card", lambda: Card("H100", 80))
    assert "nvidia-smi" in cards._remedy("jax", SOUND, [], "")


def test_libraries_that_are_absent_or_of_another_version_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = [
        "keras>=3",
        'nvidia-cudnn-cu12<10,>=9.3; extra == "and-cuda"',
        'nvidia-nccl-cu12>=2.25; extra == "and-cuda"',
        'x; extra == "other"',
    ]
    monkeypatch.setattr(cards, "requires", lambda name: asked)
    monkeypatch.setattr(
        cards, "_installed", {"nvidia-cudnn-cu12": "9.5.1", "nvidia-nccl-cu12": "2.30"}.get
    )
    assert cards._lacking("tensorflow") == []
    monkeypatch.setattr(cards, "_installed", {"nvidia-cudnn-cu12": "8.9.7"}.get)
    assert cards._lacking("tensorflow") == ["nvidia-cudnn-cu12", "nvidia-nccl-cu12"]
    assert "nvidia-cudnn-cu12 and 1 more missing or too old" in cards._versions(
        "tensorflow", SOUND, cards._lacking("tensorflow")
    )


def test_of_what_a_framework_says_that_of_cards_is_kept_without_time_and_place() -> None:
    said = [
        "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
        (
            "I0000 00:00:1795887159.418761   17383 cudart_stub.cc:31] Could not find "
            "cuda drivers on your machine, GPU will not be used."
        ),
        (
            "I0000 00:00:1795887160.453302   17383 cpu_feature_guard.cc:227] This "
            "TensorFlow binary is optimized to use available CPU instructions."
        ),
        (
            "2026-11-28 10:00:00.123456: W "
            "tensorflow/core/common_runtime/gpu/gpu_device.cc:2342] Cannot dlopen "
            "some GPU libraries."
        ),
        (
            "2026-11-28 10:00:00.123457: W "
            "tensorflow/core/common_runtime/gpu/gpu_device.cc:2342] Cannot dlopen "
            "some GPU libraries."
        ),
        "Unable to initialize backend 'cuda': no supported devices found for platform CUDA.",
        "Unable to initialize backend 'tpu': libtpu.so: cannot open shared object file",
    ]
    assert cards._about_cards("\n".join(said)) == [
        "Could not find cuda drivers on your machine, GPU will not be used.",
        "Cannot dlopen some GPU libraries.",
        "Unable to initialize backend 'cuda': no supported devices found for platform CUDA.",
    ]


def divided_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver with a whole card, one that is lost, and one divided into two parts, the second of
    which has number 3."""
    names = {
        "whole": "A100",
        "divided": "A100",
        "part-1": "A100 MIG 1g.5gb",
        "part-3": "A100 MIG 2g.10gb",
    }
    uuids = {"whole": "GPU-aa11", "divided": "GPU-bb22", "part-1": "MIG-c1", "part-3": "MIG-d3"}
    gib = {"whole": 40, "divided": 40, "part-1": 5, "part-3": 10}

    def handle(number: int) -> str:
        if number == 1:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
        return ("whole", "", "divided")[number]

    def mode(one: str) -> list[int]:
        if one == "whole":
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return [1, 1]

    def part(one: str, number: int) -> str:
        if f"part-{number}" not in names:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return f"part-{number}"

    answers = {
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlSystemGetDriverVersion": lambda: "550.54.15",
        "nvmlSystemGetCudaDriverVersion": lambda: 12040,
        "nvmlDeviceGetCount": lambda: 3,
        "nvmlDeviceGetHandleByIndex": handle,
        "nvmlDeviceGetUUID": uuids.get,
        "nvmlDeviceGetName": names.get,
        "nvmlDeviceGetMemoryInfo": lambda one: SimpleNamespace(total=gib[one] * 2**30),
        "nvmlDeviceGetMigMode": mode,
        "nvmlDeviceGetMaxMigDeviceCount": lambda one: 7,
        "nvmlDeviceGetMigDeviceHandleByIndex": part,
    }
    for name, answer in answers.items():
        monkeypatch.setattr(pynvml, name, answer)


WHOLE, FIRST, SECOND = (
    Card("A100", 40 * 1024),
    Card("A100 MIG 1g.5gb", 5 * 1024),
    Card("A100 MIG 2g.10gb", 10 * 1024),
)


@pytest.mark.parametrize(
    ("visible", "own"),
    [
        (None, WHOLE),
        ("0", WHOLE),
        ("2", FIRST),
        ("2,0", FIRST),
        ("0, 2", WHOLE),
        ("GPU-aa11", WHOLE),
        ("GPU-aa", WHOLE),
        ("GPU-bb22", FIRST),
        ("MIG-d3", SECOND),
        ("MIG-c1,MIG-d3", FIRST),
        ("1", None),
        ("7", None),
        ("MIG-ee", None),
        ("", None),
        ("-1", None),
        ("NoDevFiles", None),
    ],
)
def test_the_card_is_the_one_that_this_process_has(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, own: Card | None
) -> None:
    divided_machine(monkeypatch)
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert card() == own
    assert driver() == Driver("550.54.15", (12, 4), 3)


def test_without_a_driver_there_is_no_card(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", absent)
    assert (nvidia.card(), driver()) == (None, None)


def test_cards_are_counted_as_their_driver_does(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "KERAS_BACKEND",
        "OMP_NUM_THREADS",
        "TF_NUM_INTRAOP_THREADS",
        "NPROC",
        "TF_NUM_INTEROP_THREADS",
        "TF_CPP_MIN_LOG_LEVEL",
        "TF_CPP_VMODULE",
    ):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    from renal_ray.trial.workshop import configure_keras

    configure_keras(os.environ.get("KERAS_BACKEND") or "tensorflow", 2, on_card=True)
    assert os.environ["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "0"
