"""The compiled steps on JAX."""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
from keras import StatelessScope

from renal_ray.model.steps import Batch

State = tuple[
    list[jax.Array], list[jax.Array], list[jax.Array]
]  # trainable, non-trainable, optimizer


class JaxSteps:
    """See `renal_ray.model.steps.Steps`."""

    def __init__(
        self,
        model: keras.Model,
        outputs: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        *,
        smoothing: keras.Variable,
    ) -> None:
        self._model = model
        self._outputs = outputs
        self._optimizer = optimizer
        self._smoothing = smoothing
        self._step = jax.jit(self._train_step, donate_argnums=0)
        self._epoch = jax.jit(self._train_steps, donate_argnums=0)
        self._infer = jax.jit(self._infer_step)
        self._infer_all = jax.jit(self._infer_steps)
        self._forward = jax.jit(self._forward_step)

    def put(self, values: np.ndarray) -> jax.Array:
        return jnp.asarray(values)

    def train(self, batches: Iterable[Batch]) -> np.ndarray:
        state, told = self._state(), []
        for inputs, labels in batches:
            state, one = self._step(state, inputs, np.asarray(labels, np.int32))
            told.append(one)
        self._keep(state)
        return np.array([np.asarray(one) for one in told], np.float64).reshape(-1, 2)

    def train_resident(self, inputs: jax.Array, labels: jax.Array, order: np.ndarray) -> np.ndarray:
        state, told = self._epoch(self._state(), inputs, labels, _roomy(order), len(order))
        self._keep(state)
        return np.asarray(told, np.float64)[: len(order)]

    def outputs(self, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        embedding, probabilities = self._infer(*self._weights(), inputs)
        return np.asarray(embedding.astype(jnp.float32)), np.asarray(probabilities)

    def outputs_resident(self, inputs: jax.Array, order: np.ndarray) -> np.ndarray:
        return np.asarray(self._infer_all(*self._weights(), inputs, _roomy(order), len(order)))[
            : len(order)
        ]

    def forward(self, inputs: np.ndarray) -> None:
        for variable, value in zip(
            self._model.non_trainable_variables,
            self._forward(*self._weights(), inputs),
            strict=True,
        ):
            variable.assign(value)

    def _weights(self) -> tuple[list[jax.Array], list[jax.Array]]:
        return [v.value for v in self._model.trainable_variables], [
            v.value for v in self._model.non_trainable_variables
        ]

    def _state(self) -> State:
        return (*self._weights(), [v.value for v in self._optimizer.variables])

    def _keep(self, state: State) -> None:
        kept = (
            self._model.trainable_variables,
            self._model.non_trainable_variables,
            self._optimizer.variables,
        )
        for variables, values in zip(kept, state, strict=True):
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)

    def _train_step(self, state: State, inputs: Any, labels: Any) -> tuple[State, jax.Array]:
        trainable, fixed, optimizer = state

        def loss_of(
            trainable: list[jax.Array],
        ) -> tuple[jax.Array, tuple[jax.Array, jax.Array, list[jax.Array]]]:
            probabilities, after, penalties = self._model.stateless_call(
                trainable, fixed, inputs.astype(jnp.float32), training=True, return_losses=True
            )
            classes = probabilities.shape[-1]
            with StatelessScope(
                state_mapping=list(zip(self._optimizer.variables, optimizer, strict=True))
            ):
                smoothing = self._smoothing.value
                targets = jax.nn.one_hot(labels, classes) * (1 - smoothing) + smoothing / classes
                loss = keras.losses.categorical_crossentropy(targets, probabilities).mean() + sum(
                    penalties
                )
                scaled = self._optimizer.scale_loss(loss)
            return scaled, (loss, probabilities, after)

        gradients, (loss, probabilities, after) = jax.grad(loss_of, has_aux=True)(trainable)
        trainable, optimizer = self._optimizer.stateless_apply(optimizer, gradients, trainable)
        right = (probabilities.argmax(axis=-1) == labels).mean()
        return (trainable, after, optimizer), jnp.stack([loss, right])

    def _train_steps(
        self, state: State, inputs: jax.Array, labels: jax.Array, order: jax.Array, steps: int
    ) -> tuple[State, jax.Array]:
        def body(number: int, carry: tuple[State, jax.Array]) -> tuple[State, jax.Array]:
            state, told = carry
            rows = order[number]
            state, one = self._train_step(state, inputs[rows], labels[rows])
            return state, told.at[number].set(one)

        start = state, jnp.zeros((len(order), 2))
        done: tuple[State, jax.Array] = jax.lax.fori_loop(0, steps, body, start)
        return done

    def _infer_step(
        self, trainable: list[jax.Array], fixed: list[jax.Array], inputs: Any
    ) -> list[jax.Array]:
        outputs: list[jax.Array] = self._outputs.stateless_call(
            *self._for_outputs(trainable, fixed), inputs.astype(jnp.float32), training=False
        )[0]
        return outputs

    def _for_outputs(
        self, trainable: list[jax.Array], fixed: list[jax.Array]
    ) -> tuple[list[jax.Array], list[jax.Array]]:
        values = {
            id(v): value
            for v, value in zip(
                self._model.trainable_variables + self._model.non_trainable_variables,
                trainable + fixed,
                strict=True,
            )
        }
        return [values[id(v)] for v in self._outputs.trainable_variables], [
            values[id(v)] for v in self._outputs.non_trainable_variables
        ]

    def _infer_steps(
        self,
        trainable: list[jax.Array],
        fixed: list[jax.Array],
        inputs: jax.Array,
        order: jax.Array,
        steps: int,
    ) -> jax.Array:
        def body(number: int, out: jax.Array) -> jax.Array:
            return out.at[number].set(self._infer_step(trainable, fixed, inputs[order[number]])[1])

        start = jnp.zeros((*order.shape, self._model.output_shape[-1]))
        scores: jax.Array = jax.lax.fori_loop(0, steps, body, start)
        return scores

    def _forward_step(
        self, trainable: list[jax.Array], fixed: list[jax.Array], inputs: Any
    ) -> list[jax.Array]:
        after: list[jax.Array] = self._model.stateless_call(
            trainable, fixed, inputs.astype(jnp.float32), training=True
        )[1]
        return after


def input_gradient(model: keras.Model) -> Callable[[np.ndarray], np.ndarray]:
    """See `renal_ray.model.steps.make_input_gradient`."""

    def total(inputs: Any, trainable: list[jax.Array], fixed: list[jax.Array]) -> jax.Array:
        # samples do not meet in inference mode: the gradient of each is that of their sum
        values: jax.Array = model.stateless_call(trainable, fixed, inputs, training=False)[0]
        return values.sum()

    gradient = jax.jit(jax.grad(total))

    def of(inputs: np.ndarray) -> np.ndarray:
        weights = [
            [v.value for v in variables]
            for variables in (model.trainable_variables, model.non_trainable_variables)
        ]
        return np.asarray(gradient(jnp.asarray(inputs, jnp.float32), *weights))

    return of


def _roomy(order: np.ndarray) -> jax.Array:
    """The order with room up to the next power of two: folds differ by a few batches, and would
    each be compiled anew."""
    steps = 1 << max(0, len(order) - 1).bit_length()
    return jnp.asarray(
        np.concatenate([order, np.zeros((steps - len(order), order.shape[1]), order.dtype)]).astype(
            np.int32
        )
    )


def cards() -> list[tuple[str, float]]:
    """Name of each card that JAX sees, and the memory in MiB that it may take of it."""
    return [
        (one.device_kind, (one.memory_stats() or {}).get("bytes_limit", 0) / 2**20)
        for one in jax.devices()
        if one.platform != "cpu"
    ]


def peak_memory_mib() -> float | None:
    """Peak memory on the first card in MiB, None without one."""
    stats = jax.devices()[0].memory_stats()
    return stats["peak_bytes_in_use"] / 2**20 if stats else None
