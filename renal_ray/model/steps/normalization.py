"""Batch normalisation in one fused operation on TensorFlow, with the numbers of Keras's own
layer."""

from typing import Any

import keras

FUSED = keras.backend.backend() == "tensorflow"  # on JAX, XLA fuses Keras's own layer


class FusedBatchNormalization(keras.layers.BatchNormalization):
    """Keras's layer for images with channels last, computed by FusedBatchNormV3.

    Keras composes it of moments and a dozen elementwise operations, each a pass over memory: at
    mixed3, 299 px and mixed_bfloat16 on a CPU a training step took twice as long.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalises by the batch's statistics in training and moves the averages, else by the
        averages; (n, rows, columns, channels)."""
        import tensorflow as tf

        learning = bool(training and self.trainable)
        ones = tf.ones([inputs.shape[-1]], tf.float32)
        fused = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=tf.cast(self.gamma, tf.float32) if self.scale else ones,
            offset=tf.cast(self.beta, tf.float32) if self.center else tf.zeros_like(ones),
            mean=tf.zeros([0]) if learning else tf.cast(self.moving_mean, tf.float32),
            variance=tf.zeros([0]) if learning else tf.cast(self.moving_variance, tf.float32),
            epsilon=self.epsilon,
            exponential_avg_factor=1.0,
            data_format="NHWC",
            is_training=learning,
        )
        if learning:
            count = tf.cast(tf.reduce_prod(tf.shape(inputs)[:3]), tf.float32)
            variance = fused.batch_variance * (
                (count - 1) / count
            )  # the operation gives the unbiased one, Keras keeps the plain one
            for moving, new in (
                (self.moving_mean, fused.batch_mean),
                (self.moving_variance, variance),
            ):
                moving.assign(moving * self.momentum + new * (1 - self.momentum))
        return fused.y


def fused(layer: keras.Layer) -> keras.Layer:
    """A copy of a layer for `keras.models.clone_model`, its batch normalisation fused where that
    helps."""
    kind = (
        FusedBatchNormalization
        if FUSED and isinstance(layer, keras.layers.BatchNormalization)
        else type(layer)
    )
    return kind.from_config(layer.get_config())
