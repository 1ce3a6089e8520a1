"""Seeded initial weights that depend on nothing but seed, name and initializer."""

import math
from collections.abc import Collection, Iterable, Mapping

import keras
import numpy as np

from renal_ray.model.backbone import named_variables, variable_name
from renal_ray.model.dropout import ResettableDropout
from renal_ray.problems import StudyError
from renal_ray.store.place import digest

INITIALIZER = {
    "recurrent_kernel": "recurrent_initializer"
}  # where Keras does not call it <variable>_initializer


def redraw(model: keras.Model, *, seed: int, layers: Collection[str] | None = None) -> None:
    """Draws weights anew as their layers' own initializers would, with the same numbers on every
    backend.

    Args:
        model: any model of this package.
        seed: same seed, same weights, in any process, on any backend and after any other drawing.
        layers: names of the layers to draw; all when omitted.

    Raises:
        ValueError: an initializer that this package's models do not have.
    """
    for layer in model.layers:
        if (layers is None or layer.name in layers) and not isinstance(layer, ResettableDropout):
            for variable in layer.weights:
                rng = np.random.default_rng(
                    int(digest([str(seed), variable_name(layer, variable)]), 16)
                )
                variable.assign(drawn(_initializer(layer, variable), tuple(variable.shape), rng))


def _initializer(layer: keras.Layer, variable: keras.Variable) -> keras.initializers.Initializer:
    return getattr(
        getattr(layer, "cell", layer),
        INITIALIZER.get(variable.name, f"{variable.name}_initializer"),
    )


def drawn(
    initializer: keras.initializers.Initializer, shape: tuple[int, ...], rng: np.random.Generator
) -> np.ndarray:
    """Draws an array as a Keras initializer would, with NumPy: the generators of TensorFlow and JAX
    give different numbers.

    Args:
        initializer: Zeros, Ones, GlorotUniform or Orthogonal.
        shape: of the array; (..., inputs, outputs) for a kernel.
        rng: where random numbers come from.

    Returns:
        float32 of that shape.

    Raises:
        ValueError: another initializer.
    """
    kind = type(initializer)
    if kind is keras.initializers.Zeros:
        return np.zeros(shape, np.float32)
    if kind is keras.initializers.Ones:
        return np.ones(shape, np.float32)
    if kind is keras.initializers.GlorotUniform:
        return _glorot_uniform(shape, rng)
    if kind is keras.initializers.Orthogonal:
        return _orthogonal(shape, initializer.gain, rng)
    raise ValueError(
        f"initializer {kind.__name__}: weights are drawn for Zeros, "
        "Ones, GlorotUniform and Orthogonal only"
    )


def _glorot_uniform(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    *window, fan_in, fan_out = shape
    limit = np.sqrt(6 / (math.prod(window) * (fan_in + fan_out)))
    return rng.uniform(-limit, limit, shape).astype(np.float32)


def _orthogonal(shape: tuple[int, ...], gain: float, rng: np.random.Generator) -> np.ndarray:
    rows, columns = math.prod(shape[:-1]), shape[-1]
    q, r = np.linalg.qr(
        rng.normal(size=(max(rows, columns), min(rows, columns)))
    )  # in float64: what LAPACKs differ in is rounded away below
    q *= np.sign(np.diag(r))  # without it QR prefers some orthogonal matrices
    return (gain * (q.T if rows < columns else q)).reshape(shape).astype(np.float32)


def weights_by_name(model: keras.Model) -> dict[str, np.ndarray]:
    """Copies of a model's weights by name, see `variable_names`."""
    return {
        name: np.array(keras.ops.convert_to_numpy(variable))
        for name, variable in named_variables(model).items()
    }


def set_weights_by_name(
    model: keras.Model, weights: Mapping[str, np.ndarray], *, layers: Collection[str] | None = None
) -> None:
    """Sets a model's weights by name, all or none.

    Args:
        model: any model of this package.
        weights: array by name, those of the layers that are set and no others.
        layers: names of the layers to set; all when omitted. Weights of other layers may be there:
            a whole backbone's serve any suffix.

    Raises:
        StudyError: a weight is missing or surplus, or a shape differs.
    """

    def is_set(name: str) -> bool:
        return layers is None or name.partition("/")[0] in layers

    wanted = {name: variable for name, variable in named_variables(model).items() if is_set(name)}
    require_names(wanted, filter(is_set, weights))
    for name, variable in wanted.items():
        if tuple(variable.shape) != weights[name].shape:
            raise StudyError(
                f"weights: {name} has shape {weights[name].shape}, the model needs "
                f"{tuple(variable.shape)}; give weights of the same architecture"
            )
    for name, variable in wanted.items():
        variable.assign(weights[name])


def require_names(wanted: Collection[str], given: Iterable[str]) -> None:
    """Makes sure that weights are those of a model, whole and nothing beside.

    Args:
        wanted: names of the model's weights.
        given: names of the weights that there are.

    Raises:
        StudyError: one is missing or surplus.
    """
    there = set(given)
    for fault, names in (
        ("missing", [name for name in wanted if name not in there]),
        ("surplus", sorted(there.difference(wanted))),
    ):
        if names:
            more = f" and {len(names) - 1} more are" if len(names) > 1 else " is"
            raise StudyError(
                f"weights: {names[0]}{more} {fault}: these weights belong to another "
                "model (freeze point, head, number of layers)"
            )
