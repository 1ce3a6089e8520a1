"""The process that writes ONNX files: `python -m renal_ray.model.onnx.child FOLDER`, started by
`renal_ray.model.onnx.convert`."""

import json
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx

from renal_ray.model.initial import set_weights_by_name
from renal_ray.model.onnx.convert import ASKED
from renal_ray.model.onnx.models import Architecture, served, whole_model
from renal_ray.model.weight_files import load_weights_h5
from renal_ray.problems import StudyError
from renal_ray.types import Head

OPSET = 13  # read by every ONNX runtime since 2020
DIMENSIONS = {
    "sequence": ("n", "steps")
}  # names of the dimensions of any size; n alone where nothing is said
ORDER = ("probabilities", "embedding")


def write(folder: Path, name: str, architecture: Architecture, about: str) -> None:
    """Writes one model beside its weights.

    Args:
        folder: holds the weights.
        name: of both files.
        architecture: of the model.
        about: what it is, for a person.
    """
    plain = whole_model(architecture)
    set_weights_by_name(plain, load_weights_h5(folder / f"{name}.h5"))
    model = served(plain, architecture)
    # Keras exports what has been called; two of everything, so that nothing is taken for a
    # constant.
    model(
        [np.zeros((2, *(edge or 2 for edge in one.shape[1:])), one.dtype) for one in model.inputs]
    )
    file = folder / f"{name}.onnx"
    model.export(str(file), format="onnx", opset_version=OPSET, verbose=False)
    described = _described(onnx.load(str(file)), str(architecture.head), about)
    onnx.checker.check_model(described, full_check=True)
    file.write_bytes(described.SerializeToString(deterministic=True))


def _described(model: onnx.ModelProto, name: str, about: str) -> onnx.ModelProto:
    """The same model with names that a person reads, and its outputs in the order that is
    promised."""
    model.doc_string, model.graph.doc_string, model.graph.name = about, "", name
    outputs = sorted(model.graph.output, key=lambda one: ORDER.index(one.name))
    del model.graph.output[:]
    model.graph.output.extend(outputs)
    for one in (*model.graph.input, *model.graph.output):
        for dimension, said in zip(
            one.type.tensor_type.shape.dim, DIMENSIONS.get(one.name, ("n",)), strict=False
        ):
            dimension.dim_param = said
    return model


def main(arguments: list[str]) -> None:
    """Writes all models of a folder."""
    folder = Path(arguments[0])
    asked: list[dict[str, Any]] = json.loads((folder / ASKED).read_text(encoding="utf-8"))
    for one in asked:
        fields = one["architecture"]
        try:
            write(
                folder,
                one["name"],
                Architecture(**fields | {"head": Head(fields["head"])}),
                one["about"],
            )
        except StudyError as error:
            sys.exit(f"{one['name']}: {error}")
        keras.utils.clear_session()


if __name__ == "__main__":
    main(sys.argv[1:])
