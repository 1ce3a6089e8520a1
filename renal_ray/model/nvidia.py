"""NVIDIA's driver (NVML): its versions, and the card, or part of a card (MIG), that this process
has."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

MIB = 2**20
Handle = Any  # NVML's, of a card or of a part of one


class Card(NamedTuple):
    """A graphics card or a part of one: its name, and its memory in MiB."""

    name: str
    memory_mib: float


class Driver(NamedTuple):
    """The driver of a machine.

    Args:
        version: its own, as 550.54.15.
        cuda: the newest CUDA that it runs, major and minor.
        cards: how many cards it shows.
    """

    version: str
    cuda: tuple[int, int]
    cards: int


@contextmanager
def driver_asked() -> Iterator[bool]:
    """Opens NVML and closes it again; gives whether NVIDIA's driver answers."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        yield False
        return
    try:
        yield True
    finally:
        pynvml.nvmlShutdown()


def driver() -> Driver | None:
    """The driver of this machine, None without one."""
    import pynvml

    with driver_asked() as answers:
        if not answers:
            return None
        cuda = pynvml.nvmlSystemGetCudaDriverVersion()  # 12040 is 12.4
        return Driver(
            pynvml.nvmlSystemGetDriverVersion(),
            (cuda // 1000, cuda % 1000 // 10),
            pynvml.nvmlDeviceGetCount(),
        )


def card() -> Card | None:
    """The card, or part of a card, that this process computes on: the first of
    CUDA_VISIBLE_DEVICES; None without one."""
    import pynvml

    with driver_asked() as answers:
        if not answers:
            return None
        try:
            handle = _first(os.environ.get("CUDA_VISIBLE_DEVICES", "0"))
            return (
                None
                if handle is None
                else Card(
                    pynvml.nvmlDeviceGetName(handle),
                    pynvml.nvmlDeviceGetMemoryInfo(handle).total / MIB,
                )
            )
        except pynvml.NVMLError:  # a card that fell off the bus answers to nothing
            return None


def _first(visible: str) -> Handle | None:
    """What CUDA counts as its first device: a number in the driver's order, a card's UUID or the
    beginning of it, or a part's."""
    name = visible.split(",")[0].strip()
    if name.startswith("MIG-"):
        return next(
            (
                part
                for _, handle in _cards()
                for part in parts(handle)
                if _uuid(part).startswith(name)
            ),
            None,
        )
    for number, handle in _cards():
        if name == str(number) or (name.startswith("GPU-") and _uuid(handle).startswith(name)):
            # Of a divided card CUDA takes the first part.
            return next(parts(handle), None) if is_divided(handle) else handle
    return None


def _cards() -> Iterator[tuple[int, Handle]]:
    import pynvml

    for number in range(pynvml.nvmlDeviceGetCount()):
        try:
            yield number, pynvml.nvmlDeviceGetHandleByIndex(number)
        except pynvml.NVMLError:  # it fell off the bus, and keeps its number
            continue


def _uuid(handle: Handle) -> str:
    import pynvml

    return str(pynvml.nvmlDeviceGetUUID(handle))


def is_divided(handle: Handle) -> bool:
    """Whether a card is divided into parts (MIG)."""
    import pynvml

    try:
        return bool(pynvml.nvmlDeviceGetMigMode(handle)[0] == pynvml.NVML_DEVICE_MIG_ENABLE)
    except pynvml.NVMLError_NotSupported:
        return False


def parts(handle: Handle) -> Iterator[Handle]:
    """The parts of a card that is divided (MIG); none of a whole one."""
    import pynvml

    if not is_divided(handle):
        return
    for number in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            yield pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number)
        except pynvml.NVMLError_NotFound:  # numbers are not given without gaps
            continue
