"""One step of one kind of trial, measured in a process of its own on values that mean nothing."""

from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

from renal_ray.model.shapes import activation_shape
from renal_ray.trial.spec import TrialSpec
from renal_ray.trial.workshop import Workshop
from renal_ray.types import FreezePoint, Head

if TYPE_CHECKING:
    from renal_ray.model.compiled import CompiledModel

STEPS = 5
RESIDENT_STEPS = 50  # of a small head: one step alone is mostly the call
SEQUENCE = 20  # slices of a patient, for the gru head


def measure(what: dict[str, Any], workshop: Workshop) -> dict[str, Any]:
    """Measures.

    Args:
        what: {"spec": a trial's specification} for a KindCost, or {"prefix": {"size",
            "freeze_points", "batch_size"}, "precision"} for the frozen layers and the machine's
            matrix rates.
        workshop: of this process.

    Returns:
        Fields of `renal_ray.trial.probe.KindCost`, or device, gpu_memory_mib, matrix_gflops,
        prefix_first_s and prefix_s_per_image of `Probe`.
    """
    return (
        _kind(TrialSpec.from_json(what["spec"]), workshop)
        if "spec" in what
        else _machine(what["prefix"], what["precision"])
    )


def _kind(spec: TrialSpec, workshop: Workshop) -> dict[str, Any]:
    from renal_ray.model.device import peak_memory_mib

    model, batch = workshop.model(spec), spec.training.batch_size
    model.reset(seed=0)
    inputs = np.random.default_rng(0).random((batch, *_shape(spec)), np.float32)
    labels = (np.arange(batch) % 2).astype(np.int32)
    resident = workshop.resident(spec, inputs)
    train, score, steps = (
        _streamed(model, inputs, labels) if resident is None else _resident(model, resident, labels)
    )
    first = _seconds(train)
    step = median(_seconds(train) for _ in range(STEPS)) / steps
    score()
    return {
        "first_s": first,
        "step_s": step,
        "score_s": median(_seconds(score) for _ in range(STEPS)) / steps,
        "batch": batch,
        "memory_mib": psutil.Process().memory_info().rss / 2**20,
        "gpu_memory_mib": peak_memory_mib(),
    }


def _shape(spec: TrialSpec) -> tuple[int, ...]:
    width = spec.training.embedding
    return {
        Head.IMAGE: activation_shape(spec.size, spec.freeze_point),
        Head.FC: (width,),
        Head.GRU: (SEQUENCE, width),
    }[spec.head]


Measured = tuple[
    Callable[[], Any], Callable[[], Any], int
]  # a call that trains, one that scores, steps in each


def _streamed(model: "CompiledModel", inputs: np.ndarray, labels: np.ndarray) -> Measured:
    return (
        lambda: model.train_epoch([(inputs, labels)]),
        lambda: model.embedding_and_scores(inputs, len(inputs)),
        1,
    )


def _resident(model: "CompiledModel", inputs: Any, labels: np.ndarray) -> Measured:
    from renal_ray.model.compiled import Resident

    data = Resident(inputs, model.put(labels))
    order = np.tile(np.arange(len(labels)), (RESIDENT_STEPS, 1))
    return (
        lambda: model.train_resident(data, order),
        lambda: model.scores_resident(data, order),
        RESIDENT_STEPS,
    )


def _machine(prefix: dict[str, Any], precision: str) -> dict[str, Any]:
    from renal_ray.model.backbone import build_backbone, multi_prefix
    from renal_ray.model.device import device_name, matrix_gflops
    from renal_ray.model.nvidia import card

    size, batch = prefix["size"], prefix["batch_size"]
    model = multi_prefix(
        build_backbone(size), [FreezePoint(name) for name in prefix["freeze_points"]]
    )
    images = np.random.default_rng(0).integers(0, 256, (batch, size, size, 3), np.uint8)
    first = _seconds(lambda: model.predict_on_batch(images))
    found = card()
    return {
        "device": device_name(),
        "gpu_memory_mib": found.memory_mib if found else None,
        "matrix_gflops": {one: matrix_gflops(one) for one in sorted({"float32", precision})},
        "prefix_first_s": first,
        "prefix_s_per_image": median(
            _seconds(lambda: model.predict_on_batch(images)) for _ in range(STEPS)
        )
        / batch,
    }


def _seconds(call: Callable[[], Any]) -> float:
    begun = perf_counter()
    call()
    return perf_counter() - begun
