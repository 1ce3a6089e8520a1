"""A model compiled once and trained many times: reset gives the numbers of a fresh one."""

from collections.abc import Iterable, Mapping
from typing import Literal

import keras
import numpy as np

from renal_ray.model import initial
from renal_ray.model.backbone import XLA, variable_names
from renal_ray.model.heads import HEAD_LAYERS, SCORES
from renal_ray.types import Label, Rows

Jit = bool | Literal["auto"]


class CompiledModel:
    """A Keras model with its optimizer and compiled steps, to be reset between trials.

    Args:
        model: from `image_model`, `fc_model` or `gru_model`; owned by this object from now on.
        learning_rate: of stochastic gradient descent.
        momentum: of stochastic gradient descent.
        jit: compile the steps with XLA. "auto" means no on TensorFlow, where XLA made a mixed9 suffix half as fast on a CPU
            (a bare mixed10 head a fifth faster), and yes on JAX, which knows nothing else.
    """

    def __init__(self, model: keras.Model, *, learning_rate: float = 0.01, momentum: float = 0.9, jit: Jit = "auto") -> None:
        self.model = model
        self.names = variable_names(model)
        self.body_layers = frozenset(layer.name for layer in model.layers) - HEAD_LAYERS
        self.optimizer = keras.optimizers.SGD(learning_rate=learning_rate, momentum=momentum)
        xla = XLA if jit == "auto" else jit
        model.compile(optimizer=self.optimizer, loss="categorical_crossentropy", metrics=["accuracy"], jit_compile=xla)
        self.optimizer.build(model.trainable_variables)  # the slots exist before the first step, so that reset can clear them
        self._outputs = keras.Model(model.input, [model.get_layer(SCORES).input, model.output])
        self._outputs.compile(jit_compile=xla)

    def reset(self, *, seed: int, weights: Mapping[str, np.ndarray] | None = None, learning_rate: float | None = None) -> None:
        """Starts anew: body weights as given, head drawn by seed, optimizer and metrics as never used.

        Args:
            seed: of the head's initial weights, and of the body's where `weights` is omitted.
            weights: at least every body weight by name; more names, such as a whole backbone's, do no harm.
            learning_rate: another one for the next training; unchanged when omitted.

        Raises:
            StudyError: a body weight is missing or has another shape.
        """
        if weights is None:
            initial.redraw(self.model, seed=seed)
        else:
            initial.set_weights_by_name(self.model, weights, layers=self.body_layers)
            initial.redraw(self.model, seed=seed, layers=HEAD_LAYERS)
        rate = float(keras.ops.convert_to_numpy(self.optimizer.learning_rate)) if learning_rate is None else learning_rate
        for variable in self.optimizer.variables:
            variable.assign(keras.ops.zeros(variable.shape, dtype=variable.dtype))
        self.optimizer.learning_rate = rate
        self.model.reset_metrics()

    def train_epoch(self, batches: Iterable[tuple[np.ndarray, np.ndarray]]) -> tuple[float, float]:
        """One pass of gradient steps.

        Args:
            batches: pairs of inputs (n, ...) and labels int (n,), 0 benign, 1 malignant.

        Returns:
            Loss (with the L2 penalty, if any) and accuracy, averaged over the samples as they were met.

        Raises:
            ValueError: there are no batches.
        """
        count, loss, accuracy = 0, 0.0, 0.0
        for inputs, labels in batches:
            self.model.reset_metrics()  # some versions of Keras do it in train_on_batch, some go on summing
            logs = self.model.train_on_batch(inputs, one_hot(labels), return_dict=True)
            count += len(inputs)
            loss += len(inputs) * float(logs["loss"])
            accuracy += len(inputs) * float(logs["accuracy"])
        if count == 0:
            raise ValueError("an epoch needs at least one batch")
        return loss / count, accuracy / count

    @property
    def penalty(self) -> float:
        """The L2 penalty of the weights as they are, which the training loss includes."""
        return float(sum(keras.ops.convert_to_numpy(loss) for loss in self.model.losses))

    def embedding_and_scores(self, inputs: Rows, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
        """Embedding and P(malignant) of every sample, in one forward pass in inference mode.

        Args:
            inputs: (n, ...); may be a memory map, read batch by batch.
            batch_size: samples a step; the last batch is padded, so that one compiled shape serves all.

        Returns:
            Embeddings (what the softmax layer reads) float32 (n, width), and scores float32 (n,).
        """
        embeddings, scores = [], []
        for start in range(0, len(inputs), batch_size):
            batch = inputs[start : start + batch_size]
            rows = len(batch)
            if rows < batch_size:
                batch = np.concatenate([batch, np.zeros((batch_size - rows, *batch.shape[1:]), batch.dtype)])
            embedding, probabilities = self._outputs.predict_on_batch(batch)
            embeddings.append(embedding[:rows])
            scores.append(probabilities[:rows, Label.MALIGNANT])
        if not scores:
            return np.zeros((0, self._outputs.output_shape[0][-1]), np.float32), np.zeros(0, np.float32)
        return np.concatenate(embeddings).astype(np.float32), np.concatenate(scores).astype(np.float32)

    def get_weights_by_name(self) -> dict[str, np.ndarray]:
        """Copies of all weights, body and head, by name."""
        return initial.weights_by_name(self.model)

    def set_weights_by_name(self, weights: Mapping[str, np.ndarray]) -> None:
        """Sets all weights, body and head.

        Raises:
            StudyError: a weight is missing or has another shape.
        """
        initial.set_weights_by_name(self.model, weights)


def one_hot(labels: np.ndarray) -> np.ndarray:
    """Labels int (n,) as float32 (n, 2)."""
    return np.eye(len(Label), dtype=np.float32)[np.asarray(labels)]
