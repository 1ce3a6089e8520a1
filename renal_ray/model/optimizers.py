"""Optimizers whose settings are variables beside their state: another value needs no new
compilation."""

from typing import Any, NamedTuple

import keras
from keras import ops


class Rates(NamedTuple):
    """The settings of a training that a compiled step reads as variables.

    Args:
        learning_rate: of the optimizer.
        momentum: of stochastic gradient descent; of Adam beta 1.
        weight_decay: penalty on kernels; read only by an optimizer made with `decays`.
        label_smoothing: share of the label's weight that is spread over all classes (Szegedy et al.
            2016).
        dropout: share of the softmax layer's inputs that is dropped; read only by a model that has
            a dropout layer.
    """

    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    dropout: float = 0.0


class Settings:
    """What an optimizer reads at each step beside its learning rate; the last of its variables,
    which a checkpoint leaves out."""

    def __init__(self, optimizer: keras.optimizers.Optimizer, rates: Rates) -> None:
        def variable(name: str, value: float) -> keras.Variable:
            return optimizer.add_variable(
                shape=(), initializer=keras.initializers.Constant(value), name=name
            )

        self.momentum = variable("setting_momentum", rates.momentum)
        self.weight_decay = variable("setting_weight_decay", rates.weight_decay)
        self.label_smoothing = variable("setting_label_smoothing", rates.label_smoothing)

    def assign(self, rates: Rates) -> None:
        """Takes other values."""
        self.momentum.assign(rates.momentum)
        self.weight_decay.assign(rates.weight_decay)
        self.label_smoothing.assign(rates.label_smoothing)

    @property
    def variables(self) -> list[keras.Variable]:
        """All of them."""
        return [self.momentum, self.weight_decay, self.label_smoothing]


class _Sgd(keras.optimizers.SGD):
    """Keras's stochastic gradient descent, to the last digit, with momentum as a variable; decay is
    added to the gradient."""

    def __init__(self, rates: Rates, *, decays: bool) -> None:
        super().__init__(
            learning_rate=rates.learning_rate, momentum=0.9, name="sgd"
        )  # any that is not 0: Keras then keeps the moving mean
        self._rates, self._decays = rates, decays

    def build(self, variables: list[keras.Variable]) -> None:
        super().build(variables)
        self.settings = Settings(self, self._rates)
        self._kernels = _kernels(variables) if self._decays else frozenset()

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        index = self._get_variable_index(variable)
        gradient = ops.cast(gradient, variable.dtype)
        if index in self._kernels:
            gradient = ops.add(
                gradient,
                ops.multiply(variable, ops.cast(self.settings.weight_decay, variable.dtype)),
            )
        mean = self.momentums[index]
        kept = ops.multiply(mean, ops.cast(self.settings.momentum, variable.dtype))
        self.assign(
            mean,
            ops.subtract(kept, ops.multiply(gradient, ops.cast(learning_rate, variable.dtype))),
        )
        self.assign_add(variable, mean)


class _Adam(keras.optimizers.Adam):
    """Keras's Adam (Kingma and Ba 2015) with beta 1 as a variable; decay is added to the gradient,
    or decoupled from it (Loshchilov and Hutter 2019)."""

    def __init__(self, rates: Rates, *, decays: bool, decoupled: bool) -> None:
        super().__init__(learning_rate=rates.learning_rate, name="adam")
        self._rates, self._decays, self._decoupled = rates, decays, decoupled

    def build(self, variables: list[keras.Variable]) -> None:
        super().build(variables)
        self.settings = Settings(self, self._rates)
        self.beta_1 = self.settings.momentum  # Keras's own step reads it
        self._kernels = _kernels(variables) if self._decays else frozenset()

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        if self._get_variable_index(variable) in self._kernels:
            decay = ops.multiply(variable, ops.cast(self.settings.weight_decay, variable.dtype))
            if self._decoupled:
                self.assign_sub(
                    variable, ops.multiply(decay, ops.cast(learning_rate, variable.dtype))
                )
            else:
                gradient = ops.add(ops.cast(gradient, variable.dtype), decay)
        super().update_step(gradient, variable, learning_rate)


def make_optimizer(kind: str, rates: Rates, *, decays: bool) -> keras.optimizers.Optimizer:
    """An optimizer whose settings can be changed by `settings.assign` once it is built.

    Args:
        kind: sgd, adam or adamw.
        rates: its first settings.
        decays: whether it reads the weight decay; one that does not costs no pass over the weights.

    Raises:
        ValueError: another kind.
    """
    if kind == "sgd":
        return _Sgd(rates, decays=decays)
    if kind in ("adam", "adamw"):
        return _Adam(rates, decays=decays, decoupled=kind == "adamw")
    raise ValueError(f"optimizer {kind}: sgd, adam or adamw is needed")


def _kernels(variables: list[keras.Variable]) -> frozenset[int]:
    """Which variables decay: kernels, not biases or batch normalisation's offsets."""
    return frozenset(
        index for index, variable in enumerate(variables) if variable.name.endswith("kernel")
    )
