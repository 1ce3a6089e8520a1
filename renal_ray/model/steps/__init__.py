"""The compiled steps of a model: what Keras has no call for, once for each backend."""

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import keras
import numpy as np

Batch = tuple[np.ndarray, np.ndarray]  # inputs (n, ...) of any float type, labels int (n,)


class Steps(Protocol):
    """One model's compiled steps; all shapes are fixed, so each is compiled once.

    Losses include the model's penalties; accuracies are shares of samples whose larger probability
    is the label's.
    """

    def put(self, values: np.ndarray) -> Any:
        """The values on the device."""

    def train(self, batches: Iterable[Batch]) -> np.ndarray:
        """A gradient step a batch; float (steps, 2): loss and accuracy of each."""

    def train_resident(self, inputs: Any, labels: Any, order: np.ndarray) -> np.ndarray:
        """The same in one call, without Python between the steps: int order (steps, batch) says
        which rows of `put` inputs make each batch."""

    def outputs(self, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Embeddings (n, width) and probabilities (n, 2) in inference mode."""

    def outputs_resident(self, inputs: Any, order: np.ndarray) -> np.ndarray:
        """Probabilities (steps, batch, 2) of resident rows in inference mode, in one call."""

    def forward(self, inputs: np.ndarray) -> None:
        """One pass in training mode, without a gradient: only batch normalisation's moving
        statistics change."""


def make_steps(
    model: keras.Model,
    outputs: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    *,
    smoothing: keras.Variable,
    xla: bool,
) -> Steps:
    """The steps on the backend that Keras runs on.

    Args:
        model: from inputs to probabilities (n, 2).
        outputs: the same layers, from inputs to embedding and probabilities.
        optimizer: built for the model's trainable variables.
        smoothing: share of the label's weight that the loss spreads over all classes; one of the
            optimizer's variables.
        xla: compile with XLA on TensorFlow; JAX always does.

    Raises:
        ValueError: another backend.
    """
    if keras.backend.backend() == "tensorflow":
        from renal_ray.model.steps.on_tensorflow import TensorFlowSteps

        return TensorFlowSteps(model, outputs, optimizer, smoothing=smoothing, xla=xla)
    if keras.backend.backend() == "jax":
        from renal_ray.model.steps.on_jax import JaxSteps

        return JaxSteps(model, outputs, optimizer, smoothing=smoothing)
    raise ValueError(f"backend {keras.backend.backend()}: tensorflow or jax is needed")


def make_input_gradient(model: keras.Model) -> Callable[[np.ndarray], np.ndarray]:
    """The gradient of a model's output, a number a sample, with respect to its input, in inference
    mode.

    Args:
        model: from (n, ...) to (n,); its weights are read at each call.

    Returns:
        Function from float32 inputs (n, ...) to the gradients, float32 of the same shape.

    Raises:
        ValueError: another backend.
    """
    if keras.backend.backend() == "tensorflow":
        from renal_ray.model.steps.on_tensorflow import input_gradient

        return input_gradient(model)
    if keras.backend.backend() == "jax":
        from renal_ray.model.steps.on_jax import input_gradient as input_gradient_on_jax

        return input_gradient_on_jax(model)
    raise ValueError(f"backend {keras.backend.backend()}: tensorflow or jax is needed")
