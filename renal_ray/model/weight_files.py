"""Weights as HDF5: our own files by name, and the InceptionV3 files that others publish. Nothing in
a file is ever executed."""

import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import count, takewhile
from pathlib import Path

import h5py
import keras
import numpy as np

from renal_ray.model.backbone import variable_name
from renal_ray.model.heads import HEAD_LAYERS
from renal_ray.problems import DamagedFileError, StudyError, reason
from renal_ray.store.place import digest

FORMAT = "renal-ray weights"
VERSION = 2
CLASSIFIER = re.compile(r"dense(_\d+)?")
REMEDY = (
    "give a whole InceptionV3 weights file for Keras (.h5 or .weights.h5, "
    "with or without its classifier), imagenet or random"
)


def save_weights_h5(weights: Mapping[str, np.ndarray]) -> bytes:
    """Weights by name as an HDF5 file: one dataset a name; equal weights give equal bytes.

    Args:
        weights: arrays by name, see `variable_names`.
    """
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.attrs["format"] = FORMAT
        file.attrs["version"] = VERSION
        file.attrs["sha256"] = weights_digest(weights)
        for name, array in weights.items():
            file.create_dataset(name, data=array, track_times=False)
    return buffer.getvalue()


def load_weights_h5(source: bytes | Path) -> dict[str, np.ndarray]:
    """Reads what `save_weights_h5` wrote.

    Args:
        source: the file's bytes, or its path.

    Raises:
        DamagedFileError: the file is absent, damaged, or of another kind.
    """
    name = str(source) if isinstance(source, Path) else "weights.h5"
    try:
        with h5py.File(source if isinstance(source, Path) else io.BytesIO(source), "r") as file:
            if file.attrs.get("format") != FORMAT or int(file.attrs["version"]) != VERSION:
                raise DamagedFileError(
                    f"{name}: not a weights file of this program's version; "
                    "delete it and run the same command again"
                )
            weights, expected = dict(_datasets(file)), file.attrs["sha256"]
            if weights_digest(weights) != expected:
                raise ValueError("another checksum than it was written with")
            return weights
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        raise DamagedFileError(
            f"{name}: damaged or absent ({reason(error)}); delete it and run the same command again"
        ) from None


def _datasets(group: h5py.Group, prefix: str = "") -> Iterator[tuple[str, np.ndarray]]:
    for key, item in group.items():
        if isinstance(item, h5py.Group):
            yield from _datasets(item, f"{prefix}{key}/")
        else:
            yield f"{prefix}{key}", item[()]


def weights_digest(weights: Mapping[str, np.ndarray]) -> str:
    """SHA-256 over weights, by name, type, shape and bytes, whatever their order; 64 hexadecimal
    digits."""
    ordered = [(name, np.ascontiguousarray(weights[name])) for name in sorted(weights)]
    return digest(
        part
        for name, array in ordered
        for part in (name, array.dtype.str, str(array.shape), array.tobytes())
    )


def read_inception(path: Path, backbone: keras.Model) -> dict[str, np.ndarray]:
    """InceptionV3 weights from a file, by the backbone's names.

    Args:
        path: what `save_weights_h5` wrote; a Keras 3 .weights.h5; or an .h5 of Keras 1 or 2,
            weights alone (as the ImageNet files) or a whole saved model (as RadImageNet's). A
            classifier at the end is left out; anything else that InceptionV3 has not is refused.
        backbone: as `build_backbone` gives it; says which names and shapes are needed.

    Raises:
        StudyError: the file is absent, damaged, of another architecture, or holds values that are
            not numbers.
    """
    if not path.is_file():
        raise StudyError(f"weights: {path} is not a file; {REMEDY}")
    try:
        with h5py.File(path, "r") as file:
            layers = [layer for layer in backbone.layers if layer.weights]
            if file.attrs.get("format") == FORMAT:
                found = {
                    name: array
                    for name, array in _datasets(file)
                    if name.partition("/")[0] not in HEAD_LAYERS
                }
            elif "layers" in file:
                found = _keras3(file["layers"], layers)
            else:
                found = _keras2(file.get("model_weights", file), layers)
    except (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise StudyError(
            f"weights: {path} is damaged or not InceptionV3 weights ({reason(error)}); {REMEDY}"
        ) from None
    _check(path, found, layers)
    return found


def _keras3(group: h5py.Group, layers: list[keras.Layer]) -> dict[str, np.ndarray]:
    """Keras 3: layers are counted by class, in the order of the model; a layer's variables by
    number."""
    seen: Counter[str] = Counter()
    used: set[str] = set()
    found = {}
    for layer in layers:
        kind = "conv2d" if isinstance(layer, keras.layers.Conv2D) else "batch_normalization"
        key = f"{kind}_{seen[kind]}" if seen[kind] else kind
        seen[kind] += 1
        used.add(key)
        stored = group[key]["vars"]
        if len(stored) != len(layer.weights):
            raise ValueError(f"{key} has {len(stored)} arrays, not {len(layer.weights)}")
        for number, variable in enumerate(layer.weights):
            found[variable_name(layer, variable)] = stored[str(number)][()]
    others = (key for key in group if key not in used and not CLASSIFIER.fullmatch(key))
    left = sorted(
        key
        for key in others
        if any("seed_generator" not in name for name, _ in _datasets(group[key]))
    )
    if left:
        raise ValueError(f"{left[0]} is no layer of InceptionV3")
    return found


def _keras2(group: h5py.Group, layers: list[keras.Layer]) -> dict[str, np.ndarray]:
    """Keras 1 and 2: layers in the order of the model, under whatever names; a layer's arrays by
    name."""
    stored = [(name, _names(group[name], "weight_names")) for name in _names(group, "layer_names")]
    stored = [(name, arrays) for name, arrays in stored if arrays]
    if len(stored) == len(layers) + 1 and len(stored[-1][1]) == 2:
        stored.pop()  # the classifier
    if len(stored) != len(layers):
        raise ValueError(f"{len(stored)} layers with weights, not {len(layers)}")
    found = {}
    for layer, (name, arrays) in zip(layers, stored, strict=True):
        for array in arrays:
            variable = array.rpartition("/")[2].partition(":")[0]
            found[f"{layer.name}/{variable}"] = group[name][array][()]
    return found


def _names(group: h5py.Group, attribute: str) -> list[str]:
    """A list of names kept as one attribute, or in numbered pieces where it was too long for
    one."""
    numbered = takewhile(
        lambda piece: piece in group.attrs, (f"{attribute}{number}" for number in count())
    )
    pieces = [attribute] if attribute in group.attrs else list(numbered)
    if not pieces:
        raise KeyError(f"no {attribute}")
    return [
        name.decode() if isinstance(name, bytes) else str(name)
        for piece in pieces
        for name in group.attrs[piece]
    ]


def _check(path: Path, found: Mapping[str, np.ndarray], layers: list[keras.Layer]) -> None:
    surplus = sorted(
        set(found)
        - {variable_name(layer, variable) for layer in layers for variable in layer.weights}
    )
    if surplus:
        raise StudyError(
            f"weights: {path} has {surplus[0]}, which InceptionV3 has "
            f"not: it is another architecture; {REMEDY}"
        )
    for layer in layers:
        for variable in layer.weights:
            name = variable_name(layer, variable)
            if name not in found:
                raise StudyError(
                    f"weights: {path} has no {name}: it is not whole InceptionV3; {REMEDY}"
                )
            if found[name].shape != tuple(variable.shape):
                raise StudyError(
                    f"weights: {path}: {name} has shape {found[name].shape}, "
                    f"InceptionV3 needs {tuple(variable.shape)}; {REMEDY}"
                )
            if not np.isfinite(found[name]).all():
                raise StudyError(
                    f"weights: {path}: {name} holds values that are not finite "
                    "numbers; fetch or save the file again"
                )
