"""What caching the frozen layers saves: an epoch of the usual loop against an epoch on cached activations, in one run.

    python benchmarks/bench_frozen_layers.py [--size 128] [--images 64] [--batch 16] [--repeats 5]

The usual loop runs prefix and suffix for every image of every epoch; renal-ray runs the prefix once and then the suffix alone. Both take the same
gradient steps on the same images, interleaved, and the ratio of their medians is kept in benchmarks/results/ under machine and versions.
"""

import argparse
import os
from collections.abc import Callable
from statistics import median
from time import perf_counter

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from keeping import keep

from renal_ray.model.backbone import build_backbone, build_suffix, cut
from renal_ray.model.compiled import CompiledModel
from renal_ray.model.heads import image_model
from renal_ray.types import FREEZE_POINTS, FreezePoint


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("size", 128), ("images", 64), ("batch", 16), ("repeats", 5)):
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (options.images, options.size, options.size, 3), dtype=np.uint8)
    labels = rng.integers(0, 2, options.images)
    rows = [measure(freeze, images, labels, batch=options.batch, repeats=options.repeats) for freeze in FREEZE_POINTS]
    keep("frozen_layers", ("renal-ray", "keras", "tensorflow", "numpy"), vars(options), freeze_points=rows)
    for row in rows:
        seconds = f"usual {row['usual_s']:.2f} s an epoch, cached {row['cached_s']:.3f} s, {row['ratio']:.1f} x"
        print(f"{row['freeze_point']}: {seconds}; filling the cache {row['fill_s']:.2f} s, once")


def measure(freeze: FreezePoint, images: np.ndarray, labels: np.ndarray, *, batch: int, repeats: int) -> dict[str, float | str]:
    """Times epochs of both loops at one freeze point, in turn."""
    keras.utils.clear_session()
    size = images.shape[1]
    pieces = cut(build_backbone(size), freeze)
    usual = _usual_model(pieces.prefix, image_model(pieces.suffix))
    cached = CompiledModel(image_model(build_suffix(size, freeze)))
    pieces.prefix.predict_on_batch(images[:batch])
    begun = perf_counter()
    activations = np.concatenate([pieces.prefix.predict_on_batch(images[start : start + batch]) for start in range(0, len(images), batch)])
    fill = perf_counter() - begun
    loops: dict[str, Callable[[], float]] = {"usual": lambda: _fit(usual, images, labels, batch), "cached": lambda: _epoch(cached, activations, labels, batch)}
    for loop in loops.values():
        loop()  # compiles
    times: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(repeats):
        for name, loop in loops.items():
            times[name].append(loop())
    seconds = {name: median(values) for name, values in times.items()}
    return {
        "freeze_point": str(freeze),
        "usual_s": round(seconds["usual"], 4),
        "cached_s": round(seconds["cached"], 4),
        "ratio": round(seconds["usual"] / seconds["cached"], 2),
        "fill_s": round(fill, 4),
    }


def _usual_model(prefix: keras.Model, rest: keras.Model) -> keras.Model:
    model = keras.Model(prefix.input, rest(prefix.output))
    # Without XLA, which is the faster of the two on a CPU here.
    model.compile(optimizer=keras.optimizers.SGD(0.01, momentum=0.9), loss="sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=False)
    return model


def _fit(model: keras.Model, inputs: np.ndarray, labels: np.ndarray, batch: int) -> float:
    begun = perf_counter()
    model.fit(inputs, labels, batch_size=batch, epochs=1, verbose=0)
    return perf_counter() - begun


def _epoch(model: CompiledModel, inputs: np.ndarray, labels: np.ndarray, batch: int) -> float:
    begun = perf_counter()
    model.train_epoch((inputs[start : start + batch], labels[start : start + batch]) for start in range(0, len(inputs), batch))
    return perf_counter() - begun


if __name__ == "__main__":
    main()
