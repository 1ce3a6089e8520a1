"""Cards as their driver (NVML) sees them, held against what Ray was promised."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import psutil

from renal_ray.model.nvidia import MIB, driver_asked, is_divided
from renal_ray.problems import StudyError
from renal_ray.sweep.nodes import Node

HELD = 0.1  # share of a card that strangers may hold unmentioned: a desktop, a driver's own


@dataclass(frozen=True)
class Card:
    """A card as its driver (NVML) sees it.

    Args:
        number: the driver's.
        name: the maker's.
        total_mib: its memory.
        free_mib: what nobody holds.
        holders: processes that hold memory of it, for a person.
        fault: what the driver says of a card that does not answer; empty for a sound one.
        parts: how many devices it is divided into (MIG); 1 for a whole card.
    """

    number: int
    name: str
    total_mib: float = 0
    free_mib: float = 0
    holders: tuple[str, ...] = ()
    fault: str = ""
    parts: int = 1

    @property
    def free(self) -> float:
        """Share of its memory that nobody holds."""
        return self.free_mib / self.total_mib if self.total_mib else 0


def read_cards() -> tuple[Card, ...] | None:
    """The cards that this node was started with; None where NVIDIA's driver is not. Runs on the
    node."""
    import pynvml

    with driver_asked() as answers:
        if not answers:
            return None
        visible = _visible()
        handles = [
            (number, pynvml.nvmlDeviceGetHandleByIndex(number))
            for number in range(pynvml.nvmlDeviceGetCount())
        ]
        return tuple(
            _card(number, handle)
            for number, handle in handles
            if _is_mine(visible, number, pynvml.nvmlDeviceGetUUID(handle))
        )


def _card(number: int, handle: object) -> Card:
    import pynvml

    try:
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        holders = tuple(
            _process_name(one.pid) for one in pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
        )
        return Card(
            number,
            pynvml.nvmlDeviceGetName(handle),
            memory.total / MIB,
            memory.free / MIB,
            holders,
            parts=_parts(handle),
        )
    except pynvml.NVMLError as error:  # a card that fell off the bus answers to nothing
        return Card(number, "card", fault=str(error))


def _parts(handle: object) -> int:
    import pynvml

    return int(pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)) if is_divided(handle) else 1


def _process_name(pid: int) -> str:
    try:
        return f"process {pid} ({psutil.Process(pid).name()})"
    except psutil.Error:  # of another container
        return f"process {pid}"


def _visible() -> str | None:
    """The cards that this node was started with: in this worker, promised none, Ray has emptied the
    variable; the raylet above it has it still."""
    try:
        environment: dict[str, str] = psutil.Process(os.getppid()).environ()
    except psutil.Error:
        return None
    return environment.get("CUDA_VISIBLE_DEVICES")


def _is_mine(visible: str | None, number: int, uuid: str) -> bool:
    if visible is None or "MIG-" in visible:  # parts of cards have ids of their own
        return True
    return any(
        one == str(number) or (one.startswith("GPU-") and uuid.startswith(one))
        for one in visible.replace(" ", "").split(",")
    )


def check_cards(
    nodes: Sequence[tuple[Node, tuple[Card, ...] | None]], need: float
) -> Iterator[str]:
    """Holds the cards against the promises.

    Args:
        nodes: each with its cards.
        need: share of a card's memory that the smallest trial fills.

    Yields:
        What a person should know, though it need not stop the study.

    Raises:
        StudyError: a node promises cards that it does not have, one does not answer, or none has
            room.
    """
    usable: list[Card] = []
    logical = 0
    for node, cards in nodes:
        promised = node.total.get("GPU", 0)
        if not promised:
            continue
        if not cards:
            # Whether the framework sees cards all the same, of another maker, is asked by
            # `devices`.
            logical += 1
            continue
        if promised > (has := sum(card.parts for card in cards)):
            raise StudyError(
                f"node {node.name} promises {promised:g} GPUs, but has {has}: "
                f"start Ray there again with --num-gpus={has}"
            )
        for card in cards:
            if card.fault:
                raise StudyError(
                    f"node {node.name}: card {card.number} does not answer its driver "
                    f"({card.fault}): start Ray there without it"
                )
            if card.free < 1 - HELD:
                yield f"node {node.name}: {_held(card)}"
        usable += cards
    if usable and not logical and not any(card.free >= need for card in usable):
        freest = max(usable, key=lambda card: card.free)
        raise StudyError(
            f"0 of {len(usable)} cards have the memory of a trial free, "
            f"{need:.0%} of a card; of the freest, {_held(freest)}: "
            "wait for what computes there, or end it"
        )


def _held(card: Card) -> str:
    who = ", ".join(card.holders) or "somebody"
    return (
        f"card {card.number} ({card.name}): {who} holds "
        f"{(card.total_mib - card.free_mib) / 1024:.1f} of "
        f"{card.total_mib / 1024:.1f} GiB"
    )
