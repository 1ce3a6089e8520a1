"""A process that measures one way to train, round by round, when its parent says so: `python
benchmarks/stepping.py '{"way": "ours", ...}'`.

It says {"at": ...} when the framework is imported, {"first_s": ...} after its first steps, then for
every line on its standard input seconds an image. Needs neither Ray nor, with backend jax,
TensorFlow.
"""

import json
import os
import sys
import types
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter, time
from typing import Any

import numpy as np

MOST_STEPS = 128
MATRIX_EDGE = {False: 3072, True: 16384}  # by whether there is a card

Round = Callable[[int], None]  # trains this many steps


def main(asked: dict[str, Any]) -> None:
    import keras

    # A bare machine with a card: modules of ours name its tables and make none; Keras has
    # looked for it already.
    if find_spec("pandas") is None:
        sys.modules["pandas"] = types.ModuleType("pandas")
        sys.modules["pandas"].DataFrame = object  # type: ignore[attr-defined]
    keras.utils.set_random_seed(0)
    _say({"at": time(), "backend": keras.backend.backend()})
    if asked["way"] == "matrix":
        _serve(lambda: {"gflops": _matrix_gflops(asked["precision"], asked.get("edge"))})
        return
    begun = perf_counter()
    run = WAYS[asked["way"]](asked)
    run(1)
    first = perf_counter() - begun
    run(2)  # another length may be compiled anew: it is timed the second time
    steps = max(2, min(MOST_STEPS, round(asked["round_s"] / (_seconds(run, 2) / 2))))
    run(steps)
    _say({"first_s": first, "steps": steps} | _memory())
    _serve(lambda: {"s_per_image": _seconds(run, steps) / steps / asked["batch"]} | _memory())


def _seconds(run: Round, steps: int) -> float:
    begun = perf_counter()
    run(steps)
    return perf_counter() - begun


def _memory() -> dict[str, float | None]:
    from renal_ray.model.device import peak_memory_mib

    status = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    resident = next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))
    return {"memory_mib": round(resident), "gpu_memory_mib": peak_memory_mib()}


def _serve(answer: Callable[[], dict[str, Any]]) -> None:
    for _ in sys.stdin:
        _say(answer())


def _say(told: dict[str, Any]) -> None:
    print(json.dumps(told), flush=True)


def _usual(asked: dict[str, Any]) -> Round:
    """Epochs of model.fit over all layers."""
    from usual import build_usual

    from renal_ray.types import FreezePoint

    model = build_usual(
        asked["size"], FreezePoint(asked["freeze"]), precision=asked["precision"]
    ).model
    rng, batch = np.random.default_rng(0), asked["batch"]
    images = rng.integers(0, 256, (4 * batch, asked["size"], asked["size"], 3), dtype=np.uint8)
    labels = rng.integers(0, 2, len(images))

    def run(steps: int) -> None:
        rows = np.resize(np.arange(len(images)), steps * batch)
        data = _fed(images, labels, rows, batch)
        model.fit(*data[:-1], epochs=1, verbose=0, shuffle=False, **data[-1])

    return run


def _fed(images: np.ndarray, labels: np.ndarray, rows: np.ndarray, batch: int) -> tuple[Any, ...]:
    """What fit is given: tf.data from memory, or arrays where TensorFlow does not compute."""
    import keras

    if keras.backend.backend() != "tensorflow":
        return images[rows], labels[rows], {"batch_size": batch}
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices(rows.reshape(-1, batch))
    gathered = data.map(
        lambda one: (tf.gather(images, one), tf.gather(labels, one)),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    return gathered.prefetch(tf.data.AUTOTUNE), {}


def _bare(asked: dict[str, Any]) -> Round:
    """Keras's train_on_batch on the layers after the freeze point, on one batch in memory."""
    from usual import compile_usual

    from renal_ray.model.backbone import build_backbone, cut
    from renal_ray.model.heads import image_model
    from renal_ray.model.precision import computing_in
    from renal_ray.types import FreezePoint

    with computing_in(asked["precision"]):
        model = image_model(cut(build_backbone(asked["size"]), FreezePoint(asked["freeze"])).suffix)
    compile_usual(model)
    inputs, labels = _activations(model, asked["batch"])

    def run(steps: int) -> None:
        for _ in range(steps):
            model.train_on_batch(inputs, labels)

    return run


def _ours(asked: dict[str, Any]) -> Round:
    """Steps of renal-ray: batches gathered from memory, or, resident, all in one call."""
    from renal_ray.model.backbone import build_suffix
    from renal_ray.model.compiled import CompiledModel, Resident
    from renal_ray.model.heads import image_model
    from renal_ray.model.precision import computing_in
    from renal_ray.types import FreezePoint

    with computing_in(asked["precision"]):
        model = CompiledModel(
            image_model(build_suffix(asked["size"], FreezePoint(asked["freeze"]))),
            precision=asked["precision"],
        )
    batch = asked["batch"]
    inputs, labels = _activations(model.model, 4 * batch)
    resident = Resident(model.put(inputs), model.put(labels)) if asked["resident"] else None

    def run(steps: int) -> None:
        order = np.resize(np.arange(len(inputs)), (steps, batch))
        if resident is None:
            model.train_epoch((inputs[rows], labels[rows]) for rows in order)
        else:
            model.train_resident(resident, order)

    return run


def _prefix(asked: dict[str, Any]) -> Round:
    """The frozen layers, all freeze points in one pass."""
    from renal_ray.model.backbone import build_backbone, multi_prefix
    from renal_ray.types import FREEZE_POINTS

    model = multi_prefix(build_backbone(asked["size"]), FREEZE_POINTS)
    images = np.random.default_rng(0).integers(
        0, 256, (asked["batch"], asked["size"], asked["size"], 3), dtype=np.uint8
    )

    def run(steps: int) -> None:
        for _ in range(steps):
            model.predict_on_batch(images)

    return run


def _heads(asked: dict[str, Any]) -> Round:
    """A patient-level head, fc or gru, resident; an image here is a patient."""
    from renal_ray.model.compiled import CompiledModel, Resident
    from renal_ray.model.heads import fc_model, gru_model

    model = CompiledModel(fc_model(1024) if asked["way"] == "fc" else gru_model(1024))
    patients = 4 * asked["batch"]
    shape = (patients, 1024) if asked["way"] == "fc" else (patients, 20, 1024)
    resident = Resident(
        model.put(np.random.default_rng(0).random(shape, np.float32)),
        model.put((np.arange(patients) % 2).astype(np.int32)),
    )

    def run(steps: int) -> None:
        model.train_resident(resident, np.resize(np.arange(patients), (steps, asked["batch"])))

    return run


WAYS: dict[str, Callable[[dict[str, Any]], Round]] = {
    "usual": _usual,
    "bare": _bare,
    "ours": _ours,
    "prefix": _prefix,
    "fc": _heads,
    "gru": _heads,
}


def _activations(model: Any, count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.random((count, *model.input_shape[1:]), np.float32), rng.integers(
        0, 2, count
    ).astype(np.int32)


def _matrix_gflops(precision: str, edge: int | None) -> float:
    from renal_ray.model.device import matrix_gflops, peak_memory_mib

    return matrix_gflops(precision, edge or MATRIX_EDGE[peak_memory_mib() is not None])


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    main(json.loads(sys.argv[1]))
