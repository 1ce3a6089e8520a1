"""What the device that computes can do, and how much of it is used."""

import importlib
import platform
from pathlib import Path
from time import perf_counter
from types import ModuleType

import keras
import numpy as np

from renal_ray.model.nvidia import Card, card

EDGE = {False: 1024, True: 8192}  # of the square matrices, by whether there is a card
REPEATS = 5


def devices() -> list[Card]:
    """The cards that the framework computes on, as it names them, with their memory in MiB; none
    where it computes on the processor."""
    return [Card(name, memory_mib) for name, memory_mib in _backend().cards()]


def device_name() -> str:
    """Name of the card, or of the processor where there is none."""
    found = card()
    if found:
        return found.name
    told = (
        Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").is_file() else ""
    )
    models = [
        line.partition(":")[2].strip()
        for line in told.splitlines()
        if line.startswith("model name")
    ]
    return (
        f"{models[0]}, {len(models)} cores"
        if models
        else platform.processor() or platform.machine()
    )


def matrix_gflops(precision: str, edge: int | None = None) -> float:
    """Rate of a large matrix product, multiply and add counted apart, the best of a few.

    Args:
        precision: float32, mixed_bfloat16 or mixed_float16.
        edge: rows and columns of the matrices; 1024, or 8192 on a card, when omitted.

    Returns:
        GFLOP/s in that precision with the threads that this process computes with.
    """
    kind = precision.removeprefix("mixed_")
    edge = edge or EDGE[peak_memory_mib() is not None]
    matrix = keras.ops.cast(
        keras.ops.convert_to_tensor(np.random.default_rng(0).random((edge, edge), np.float32)), kind
    )
    times = []
    for _ in range(REPEATS):
        begun = perf_counter()
        # One number is brought back: a card returns before it has computed.
        keras.ops.convert_to_numpy(
            keras.ops.cast(keras.ops.matmul(matrix, matrix)[0, 0], "float32")
        )
        times.append(perf_counter() - begun)
    return 2 * edge**3 / min(times) / 1e9


def peak_memory_mib() -> float | None:
    """Peak memory of this process on its card in MiB, None without one."""
    peak: float | None = _backend().peak_memory_mib()
    return peak


def limit_memory(mib: int) -> None:
    """Lets this process take at most this much of its card; before it computes. JAX reads its share
    from the environment instead."""
    if keras.backend.backend() == "tensorflow":
        _backend().limit_memory(mib)


def _backend() -> ModuleType:
    return importlib.import_module(f"renal_ray.model.steps.on_{keras.backend.backend()}")
