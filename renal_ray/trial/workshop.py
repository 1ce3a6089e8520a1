"""What a worker keeps from trial to trial: compiled models, one for each shape, and the backbone's weights."""

import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from renal_ray.store.place import Place
from renal_ray.trial.spec import TrialSpec
from renal_ray.types import Head

if TYPE_CHECKING:
    from renal_ray.model.compiled import CompiledModel


def configure_keras(backend: str, threads: int) -> None:
    """Settles backend and CPU threads; must run before Keras is first imported in the process.

    Args:
        backend: tensorflow or jax.
        threads: threads that one operation computes with; fixed, so that sums come out in one order.
    """
    os.environ["KERAS_BACKEND"] = backend
    for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"):
        os.environ[name] = str(max(1, threads))
    os.environ["TF_NUM_INTEROP_THREADS"] = "1"
    # Trials may share a card: nobody takes all of its memory at once.
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # what fails also raises; the rest is talk about absent GPUs
    logging.getLogger("tensorflow").setLevel(logging.ERROR)


def backbone_file(weights_hash: str) -> str:
    """Name of a backbone's weights in the work directory."""
    return f"activations/backbones/{weights_hash[:16]}.h5"


class Workshop:
    """Models that are compiled once and reset for every trial.

    Args:
        work: the study's work directory.
    """

    def __init__(self, work: Place) -> None:
        self.work = work
        self._models: dict[tuple, CompiledModel] = {}
        self._backbones: dict[str, Mapping[str, np.ndarray]] = {}

    def backbone(self, weights_hash: str) -> Mapping[str, np.ndarray]:
        """A backbone's weights by name; the last one asked for is kept."""
        from renal_ray.model.weight_files import load_weights_h5

        if weights_hash not in self._backbones:
            self._backbones = {weights_hash: load_weights_h5(self.work.read(backbone_file(weights_hash)))}
        return self._backbones[weights_hash]

    def model(self, spec: TrialSpec) -> "CompiledModel":
        """The compiled model for a trial's head, freeze point and widths, in whatever state the last trial left it.

        Returns:
            The model; reset it or set its weights before use.
        """
        from renal_ray.model.backbone import build_suffix
        from renal_ray.model.compiled import CompiledModel
        from renal_ray.model.heads import fc_model, gru_model, image_model

        training = spec.training
        shape = (spec.size, spec.freeze_point) if spec.head is Head.IMAGE else ()
        key = (spec.head, *shape, training.embedding, training.gru_units, training.gru_l2, training.momentum)
        if key not in self._models:
            if spec.head is Head.IMAGE:
                network = image_model(build_suffix(spec.size, spec.freeze_point), embedding=training.embedding)
            elif spec.head is Head.FC:
                network = fc_model(training.embedding, width=training.embedding)
            else:
                network = gru_model(training.embedding, units=training.gru_units, l2=training.gru_l2)
            self._models[key] = CompiledModel(network, momentum=training.momentum)
        return self._models[key]
