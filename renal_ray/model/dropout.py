"""Dropout whose rate and random state are variables: another rate needs no new compilation, and a
seed gives the same masks again."""

from typing import Any

import keras

NAME = "dropout"


class ResettableDropout(keras.layers.Layer):
    """Inverted dropout (Srivastava et al. 2014): in training a share of the inputs is set to 0 and
    the others are divided by the share that is kept.

    Its rate is a setting of the training and no weight of the model:
    `renal_ray.model.backbone.named_variables` leaves it out.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seed_generator = keras.random.SeedGenerator(0)

    def build(self, input_shape: Any) -> None:
        """Makes the rate, 0 at first."""
        self.rate = self.add_weight(
            shape=(),
            initializer="zeros",
            trainable=False,
            dtype="float32",
            autocast=False,
            name="rate",
        )

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Drops in training, else nothing; (n, width)."""
        if not training:
            return inputs
        rate = keras.ops.cast(self.rate, inputs.dtype)
        kept = (
            keras.random.uniform(keras.ops.shape(inputs), dtype="float32", seed=self.seed_generator)
            >= self.rate
        )
        return inputs * keras.ops.cast(kept, inputs.dtype) / (1 - rate)

    def reset(self, rate: float, seed: int) -> None:
        """Sets the rate, and the random state as at the beginning of a training."""
        self.rate.assign(rate)
        self.restore([seed, 0])

    @property
    def state(self) -> Any:
        """The random state, integers (2,)."""
        return keras.ops.convert_to_numpy(self.seed_generator.state)

    def restore(self, state: Any) -> None:
        """Sets what `state` gave."""
        self.seed_generator.state.assign(
            keras.ops.convert_to_tensor(state, dtype=self.seed_generator.state.dtype)
        )


def dropout_of(model: keras.Model) -> ResettableDropout | None:
    """A model's dropout layer, None where it has none."""
    return next((layer for layer in model.layers if isinstance(layer, ResettableDropout)), None)
