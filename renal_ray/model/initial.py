"""Seeded initial weights that depend on nothing but seed, name and initializer."""

from collections.abc import Collection, Mapping
from typing import Any

import keras
import numpy as np

from renal_ray.model.backbone import named_variables, variable_name
from renal_ray.problems import StudyError
from renal_ray.store.place import digest

INITIALIZER = {"recurrent_kernel": "recurrent_initializer"}  # where Keras does not call it <variable>_initializer


def redraw(model: keras.Model, *, seed: int, layers: Collection[str] | None = None) -> None:
    """Draws weights anew from their layers' own initializers.

    Args:
        model: any model of this package.
        seed: same seed, same weights, in any process and after any other drawing.
        layers: names of the layers to draw; all when omitted.
    """
    for layer in model.layers:
        if layers is None or layer.name in layers:
            for variable in layer.weights:
                variable.assign(_initializer(layer, variable, seed)(variable.shape, dtype=variable.dtype))


def _initializer(layer: keras.Layer, variable: keras.Variable, seed: int) -> Any:
    attribute = INITIALIZER.get(variable.name, f"{variable.name}_initializer")
    initializer = getattr(getattr(layer, "cell", layer), attribute)
    config = initializer.get_config()
    if "seed" in config:
        config["seed"] = int(digest([str(seed), variable_name(layer, variable)])[:8], 16) >> 1
    return type(initializer).from_config(config)


def weights_by_name(model: keras.Model) -> dict[str, np.ndarray]:
    """Copies of a model's weights by name, see `variable_names`."""
    return {name: np.array(keras.ops.convert_to_numpy(variable)) for name, variable in named_variables(model).items()}


def set_weights_by_name(model: keras.Model, weights: Mapping[str, np.ndarray], *, layers: Collection[str] | None = None) -> None:
    """Sets a model's weights by name, all or none.

    Args:
        model: any model of this package.
        weights: array by name; names that the model lacks are left alone, so that a whole backbone's weights serve any suffix.
        layers: names of the layers to set; all when omitted.

    Raises:
        StudyError: a name of the model is missing, or a shape differs.
    """
    wanted = {name: variable for name, variable in named_variables(model).items() if layers is None or name.partition("/")[0] in layers}
    missing = [name for name in wanted if name not in weights]
    if missing:
        raise StudyError(f"weights: {missing[0]} and {len(missing) - 1} more are missing; these weights belong to another freeze point or head")
    for name, variable in wanted.items():
        if tuple(variable.shape) != weights[name].shape:
            raise StudyError(f"weights: {name} has shape {weights[name].shape}, the model needs {tuple(variable.shape)}; give weights of the same architecture")
    for name, variable in wanted.items():
        variable.assign(weights[name])
