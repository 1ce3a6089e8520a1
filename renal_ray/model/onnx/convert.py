"""Fold models as ONNX files, by a child process: Keras writes ONNX from TensorFlow alone, whatever
the study computes with."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from renal_ray.model.onnx.models import Architecture
from renal_ray.problems import StudyError

CHILD = "renal_ray.model.onnx.child"
ASKED = "models.json"
# No card: a GRU would be traced as cuDNN's own operation, which ONNX does not have.
SURROUNDINGS = {
    "KERAS_BACKEND": "tensorflow",
    "CUDA_VISIBLE_DEVICES": "-1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}


@dataclass(frozen=True)
class Model:
    """A model to be written as ONNX.

    Args:
        architecture: what it is built from.
        weights: all of its weights, as `renal_ray.model.weight_files.save_weights_h5` writes them.
        about: what it is, for a person.
    """

    architecture: Architecture
    weights: bytes
    about: str


def to_onnx(models: Mapping[str, Model]) -> dict[str, bytes]:
    """Writes models as ONNX, see `renal_ray.model.onnx.models.served` for their inputs and outputs.
    A whole image model takes about a minute.

    Args:
        models: by name.

    Returns:
        ONNX files by name.

    Raises:
        StudyError: the weights are not those of the architecture, or Keras cannot write it.
    """
    with TemporaryDirectory() as made:
        folder = Path(made)
        asked = [
            {"name": name, "architecture": asdict(one.architecture), "about": one.about}
            for name, one in models.items()
        ]
        (folder / ASKED).write_text(json.dumps(asked), encoding="utf-8")
        for name, one in models.items():
            (folder / f"{name}.h5").write_bytes(one.weights)
        environment = (
            os.environ
            | SURROUNDINGS
            | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        )
        done = subprocess.run(
            [sys.executable, "-m", CHILD, made],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        if done.returncode:
            raise StudyError(
                f"export: Keras did not write {', '.join(models)} as ONNX: "
                f"{_why(done.returncode, done.stderr)}"
            )
        return {name: (folder / f"{name}.onnx").read_bytes() for name in models}


def _why(code: int, said: str) -> str:
    if code < 0:
        return f"its process was ended by signal {signal.Signals(-code).name}" + (
            ": out of memory?" if -code == signal.SIGKILL else ""
        )
    return (said.strip().splitlines() or [f"its process ended with code {code}"])[-1]
