"""The compiled steps on TensorFlow."""

from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from renal_ray.model.steps import Batch


class TensorFlowSteps:
    """See `renal_ray.model.steps.Steps`."""

    def __init__(
        self,
        model: keras.Model,
        outputs: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        *,
        smoothing: keras.Variable,
        xla: bool,
    ) -> None:
        self._model = model
        self._outputs = outputs
        self._optimizer = optimizer
        self._smoothing = smoothing
        self._step = tf.function(self._train_step, jit_compile=xla, reduce_retracing=True)
        self._epoch = tf.function(self._train_steps, jit_compile=xla, reduce_retracing=True)
        self._infer = tf.function(
            lambda inputs: self._outputs(tf.cast(inputs, tf.float32), training=False),
            jit_compile=xla,
            reduce_retracing=True,
        )
        self._infer_all = tf.function(self._infer_steps, jit_compile=xla, reduce_retracing=True)
        self._forward = tf.function(
            lambda inputs: self._model(tf.cast(inputs, tf.float32), training=True),
            jit_compile=xla,
            reduce_retracing=True,
        )

    def put(self, values: np.ndarray) -> tf.Tensor:
        return tf.convert_to_tensor(values)

    def train(self, batches: Iterable[Batch]) -> np.ndarray:
        # Read only at the end: a card computes on while the next batch is gathered.
        told = [
            self._step(tf.convert_to_tensor(inputs), tf.convert_to_tensor(labels, tf.int32))
            for inputs, labels in batches
        ]
        return np.array([one.numpy() for one in told], np.float64).reshape(-1, 2)

    def train_resident(self, inputs: tf.Tensor, labels: tf.Tensor, order: np.ndarray) -> np.ndarray:
        return np.asarray(
            self._epoch(inputs, labels, tf.convert_to_tensor(order, tf.int32)), np.float64
        )

    def outputs(self, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        embedding, probabilities = self._infer(tf.convert_to_tensor(inputs))
        return tf.cast(embedding, tf.float32).numpy(), probabilities.numpy()

    def outputs_resident(self, inputs: tf.Tensor, order: np.ndarray) -> np.ndarray:
        scores: np.ndarray = self._infer_all(inputs, tf.convert_to_tensor(order, tf.int32)).numpy()
        return scores

    def forward(self, inputs: np.ndarray) -> None:
        self._forward(tf.convert_to_tensor(inputs))

    def _train_step(self, inputs: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        variables = self._model.trainable_variables
        with tf.GradientTape() as tape:
            probabilities = self._model(tf.cast(inputs, tf.float32), training=True)
            classes = probabilities.shape[-1]
            targets = (
                tf.one_hot(labels, classes) * (1 - self._smoothing) + self._smoothing / classes
            )
            loss = tf.reduce_mean(keras.losses.categorical_crossentropy(targets, probabilities))
            loss += sum(self._model.losses)
            scaled = self._optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, [variable.value for variable in variables])
        self._optimizer.apply(gradients, variables)
        right = tf.argmax(probabilities, axis=-1, output_type=tf.int32) == labels
        return tf.stack([loss, tf.reduce_mean(tf.cast(right, tf.float32))])

    def _train_steps(self, inputs: tf.Tensor, labels: tf.Tensor, order: tf.Tensor) -> tf.Tensor:
        def body(rows: tf.Tensor) -> tf.Tensor:
            return self._train_step(tf.gather(inputs, rows), tf.gather(labels, rows))

        return tf.map_fn(
            body, order, fn_output_signature=tf.TensorSpec([2], tf.float32), parallel_iterations=1
        )

    def _infer_steps(self, inputs: tf.Tensor, order: tf.Tensor) -> tf.Tensor:
        def body(rows: tf.Tensor) -> tf.Tensor:
            return self._outputs(tf.cast(tf.gather(inputs, rows), tf.float32), training=False)[1]

        return tf.map_fn(
            body,
            order,
            fn_output_signature=tf.TensorSpec([None, 2], tf.float32),
            parallel_iterations=1,
        )


def input_gradient(model: keras.Model) -> Callable[[np.ndarray], np.ndarray]:
    """See `renal_ray.model.steps.make_input_gradient`."""

    def gradient(inputs: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            values = model(
                inputs, training=False
            )  # samples do not meet in inference mode: the gradient of each is that of their sum
        return tape.gradient(values, inputs)

    compiled = tf.function(gradient, reduce_retracing=True)
    return lambda inputs: compiled(tf.convert_to_tensor(inputs, tf.float32)).numpy()


def cards() -> list[tuple[str, float]]:
    """Name of each card that TensorFlow sees, and its memory in MiB, of which TensorFlow itself
    tells nothing."""
    from renal_ray.model.nvidia import card

    own = card()
    found: list[Any] = tf.config.list_physical_devices("GPU")
    return [
        (
            tf.config.experimental.get_device_details(one).get("device_name", one.name),
            own.memory_mib if own else 0.0,
        )
        for one in found
    ]


def peak_memory_mib() -> float | None:
    """Peak memory on the first card in MiB, None without one."""
    cards: list[Any] = tf.config.list_physical_devices("GPU")
    return tf.config.experimental.get_memory_info("GPU:0")["peak"] / 2**20 if cards else None


def limit_memory(mib: int) -> None:
    """Takes at most this much of the first card; before anything is computed."""
    for card in tf.config.list_physical_devices("GPU")[:1]:
        tf.config.set_logical_device_configuration(
            card, [tf.config.LogicalDeviceConfiguration(memory_limit=mib)]
        )
