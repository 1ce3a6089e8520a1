"""A model compiled once and trained many times: reset gives the numbers of a fresh one."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np

from renal_ray.model import initial
from renal_ray.model.backbone import XLA, variable_names
from renal_ray.model.dropout import NAME as DROPOUT
from renal_ray.model.dropout import dropout_of
from renal_ray.model.heads import HEAD_LAYERS, SCORES
from renal_ray.model.optimizers import Rates, make_optimizer
from renal_ray.model.precision import FLOAT32
from renal_ray.model.statistics import reestimate_batch_norm
from renal_ray.model.steps import Batch, make_steps
from renal_ray.problems import StudyError
from renal_ray.types import Label, Rows

Jit = bool | Literal["auto"]
OPTIMIZER = "optimizer/"
DROPOUT_STATE = f"{DROPOUT}/state"


@dataclass(frozen=True)
class Resident:
    """Samples that lie on the device, to be trained on without Python between the steps.

    Args:
        inputs: (n, ...) of any float type, a tensor of the backend.
        labels: int32 (n,), a tensor of the backend.
    """

    inputs: Any
    labels: Any


class CompiledModel:
    """A Keras model with its optimizer and compiled steps, to be reset between trials.

    Args:
        model: from `image_model`, `fc_model` or `gru_model`; owned by this object from now on.
        learning_rate: of the optimizer.
        momentum: of the optimizer, see `renal_ray.model.optimizers.Rates`.
        optimizer: sgd, adam or adamw.
        decays: whether the optimizer reads the weight decay given to `reset`.
        precision: that the model was built in; mixed_float16 scales the loss, so that small
            gradients do not vanish.
        jit: compile the steps with XLA. "auto" means no on TensorFlow, where XLA made a mixed9
            suffix half as fast on a CPU, and yes on JAX, which knows nothing else.
    """

    def __init__(
        self,
        model: keras.Model,
        *,
        learning_rate: float = 0.01,
        momentum: float = 0.9,
        optimizer: str = "sgd",
        decays: bool = False,
        precision: str = FLOAT32,
        jit: Jit = "auto",
    ) -> None:
        self.model = model
        self.names = variable_names(model)
        self.body_layers = frozenset(layer.name for layer in model.layers) - HEAD_LAYERS - {DROPOUT}
        self._rates = Rates(learning_rate, momentum)
        self._decays = decays
        self._dropout = dropout_of(model)
        inner = make_optimizer(optimizer, self._rates, decays=decays)
        self.optimizer = (
            keras.optimizers.LossScaleOptimizer(inner) if precision == "mixed_float16" else inner
        )
        self.optimizer.build(
            model.trainable_variables
        )  # the slots exist before the first step, so that reset can clear them
        self._settings = inner.settings
        settings = {id(variable) for variable in self._settings.variables}
        self._optimizer_state = [
            variable for variable in self.optimizer.variables if id(variable) not in settings
        ]
        self._unused = [keras.ops.convert_to_numpy(variable) for variable in self._optimizer_state]
        outputs = keras.Model(model.input, [model.get_layer(SCORES).input, model.output])
        self._steps = make_steps(
            model,
            outputs,
            self.optimizer,
            smoothing=self._settings.label_smoothing,
            xla=XLA if jit == "auto" else jit,
        )

    def reset(
        self,
        *,
        seed: int,
        weights: Mapping[str, np.ndarray] | None = None,
        learning_rate: float | None = None,
        rates: Rates | None = None,
    ) -> None:
        """Starts anew: body weights as given, head drawn by seed, optimizer as never used.

        Args:
            seed: of the head's initial weights and of dropout, and of the body's weights where
                `weights` is omitted.
            weights: every body weight by name; those of other layers, such as a whole backbone's,
                may be there.
            learning_rate: another one for the next training; unchanged when omitted.
            rates: all settings of the next training; unchanged when omitted. Nothing is compiled
                anew.

        Raises:
            StudyError: a body weight is missing, surplus, or has another shape.
            ValueError: dropout or weight decay is asked of a model that was made without.
        """
        if weights is None:
            initial.redraw(self.model, seed=seed)
        else:
            initial.set_weights_by_name(self.model, weights, layers=self.body_layers)
            initial.redraw(self.model, seed=seed, layers=HEAD_LAYERS)
        self._rates = rates or self._rates
        if learning_rate is not None:
            self._rates = self._rates._replace(learning_rate=learning_rate)
        for variable, value in zip(self._optimizer_state, self._unused, strict=True):
            variable.assign(value)
        self.optimizer.learning_rate = self._rates.learning_rate
        self._settings.assign(self._rates)
        if self._dropout is not None:
            self._dropout.reset(self._rates.dropout, seed)
        elif self._rates.dropout:
            raise ValueError("this model was made without a dropout layer")
        if self._rates.weight_decay and not self._decays:
            raise ValueError("this model's optimizer was made without weight decay")

    def train_epoch(self, batches: Iterable[Batch]) -> tuple[float, float]:
        """One pass of gradient steps.

        Args:
            batches: pairs of inputs (n, ...) and labels int (n,), 0 benign, 1 malignant; each new n
                is compiled anew.

        Returns:
            Loss (with the L2 penalty, if any) and accuracy, averaged over the samples as they were
            met.

        Raises:
            ValueError: there are no batches.
        """
        counts: list[int] = []

        def counted() -> Iterable[Batch]:
            for inputs, labels in batches:
                counts.append(len(labels))
                yield inputs, labels

        return _averaged(self._steps.train(counted()), counts)

    def put(self, values: np.ndarray) -> Any:
        """Brings values to the device, as a tensor of the backend."""
        return self._steps.put(values)

    def train_resident(self, data: Resident, order: np.ndarray) -> tuple[float, float]:
        """As `train_epoch`, in one call.

        Args:
            data: samples on the device.
            order: rows of each batch, int (steps, batch).

        Returns:
            Loss and accuracy as `train_epoch` gives them.

        Raises:
            ValueError: there are no batches.
        """
        return _averaged(
            self._steps.train_resident(data.inputs, data.labels, order),
            [order.shape[1]] * len(order),
        )

    def scores_resident(self, data: Resident, order: np.ndarray) -> np.ndarray:
        """P(malignant) of resident rows, in one call.

        Args:
            data: samples on the device.
            order: rows of each batch, int (steps, batch).

        Returns:
            float32 (steps, batch).
        """
        return self._steps.outputs_resident(data.inputs, order)[..., Label.MALIGNANT].astype(
            np.float32
        )

    @property
    def penalty(self) -> float:
        """The L2 penalty of the weights as they are, which the training loss includes."""
        return float(sum(keras.ops.convert_to_numpy(loss) for loss in self.model.losses))

    def embedding_and_scores(self, inputs: Rows, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
        """Embedding and P(malignant) of every sample, in one forward pass in inference mode.

        Args:
            inputs: (n, ...); may be a memory map, read batch by batch.
            batch_size: samples a step; the last batch is padded, so that one compiled shape serves
                all.

        Returns:
            Embeddings (what the softmax layer reads) float32 (n, width), and scores float32 (n,).
        """
        embeddings, scores = [], []
        for start in range(0, len(inputs), batch_size):
            batch = inputs[start : start + batch_size]
            rows = len(batch)
            if rows < batch_size:
                batch = np.concatenate(
                    [batch, np.zeros((batch_size - rows, *batch.shape[1:]), batch.dtype)]
                )
            embedding, probabilities = self._steps.outputs(batch)
            embeddings.append(embedding[:rows])
            scores.append(probabilities[:rows, Label.MALIGNANT])
        if not scores:
            return np.zeros(
                (0, self.model.get_layer(SCORES).input.shape[-1]), np.float32
            ), np.zeros(0, np.float32)
        return np.concatenate(embeddings).astype(np.float32), np.concatenate(scores).astype(
            np.float32
        )

    def reestimate(self, batches: Iterable[np.ndarray]) -> int:
        """Sets the trained batch normalisations' statistics to those over one pass, see
        `reestimate_batch_norm`; returns the number of samples."""
        return reestimate_batch_norm(self.model, batches, self._steps.forward)

    def get_weights_by_name(self) -> dict[str, np.ndarray]:
        """Copies of all weights, body and head, by name."""
        return initial.weights_by_name(self.model)

    def state(self) -> dict[str, np.ndarray]:
        """Copies of all weights by name, and of the optimizer's variables by number: what the next
        step follows from."""
        state = {
            f"{OPTIMIZER}{number}": keras.ops.convert_to_numpy(variable)
            for number, variable in enumerate(self._optimizer_state)
        }
        if self._dropout is not None:
            state[DROPOUT_STATE] = self._dropout.state
        return self.get_weights_by_name() | {name: np.array(value) for name, value in state.items()}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Sets what `state` gave.

        Raises:
            StudyError: a weight or a variable of the optimizer is missing, surplus, or has another
                shape.
        """
        slots = {
            f"{OPTIMIZER}{number}": variable
            for number, variable in enumerate(self._optimizer_state)
        }
        drops = [] if self._dropout is None else [DROPOUT_STATE]
        initial.require_names([*self.names, *slots, *drops], state)
        for name, variable in slots.items():
            if tuple(variable.shape) != state[name].shape:
                raise StudyError(
                    f"checkpoint: {name} has shape {state[name].shape}, the "
                    f"optimizer needs {tuple(variable.shape)}"
                )
        self.set_weights_by_name({name: state[name] for name in self.names})
        for name, variable in slots.items():
            variable.assign(state[name])
        if self._dropout is not None:
            self._dropout.restore(state[DROPOUT_STATE])

    def set_weights_by_name(self, weights: Mapping[str, np.ndarray]) -> None:
        """Sets all weights, body and head.

        Raises:
            StudyError: a weight is missing, surplus, or has another shape.
        """
        initial.set_weights_by_name(self.model, weights)


def _averaged(told: np.ndarray, counts: list[int]) -> tuple[float, float]:
    if not counts:
        raise ValueError("an epoch needs at least one batch")
    loss, accuracy = np.average(told, axis=0, weights=counts)
    return float(loss), float(accuracy)
