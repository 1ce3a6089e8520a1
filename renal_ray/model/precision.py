"""The numbers that layers compute with."""

from collections.abc import Iterator
from contextlib import contextmanager

import keras

FLOAT32 = "float32"


@contextmanager
def computing_in(precision: str) -> Iterator[None]:
    """Layers built inside compute in this precision; their weights stay float32.

    Args:
        precision: float32, mixed_bfloat16 or mixed_float16.
    """
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
