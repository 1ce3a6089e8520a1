"""Both classes equally often in an epoch."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from renal_ray.types import Label


def balanced_epoch(labels: ArrayLike, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draws the samples of one balanced epoch; call it anew for each.

    Every sample is there at least once, and the smaller class is filled up with replacement to the
    size of the larger one.

    Args:
        labels: (n,) 0 or 1 of the samples: images for the image head, patients for fc and gru.
        rng: source of the draw.

    Returns:
        (2 x size of the larger class,) indices into labels, shuffled.

    Raises:
        ValueError: only one class is there.
    """
    values = np.asarray(labels)
    classes = sorted((np.flatnonzero(values == label) for label in Label), key=len)
    smaller, larger = classes
    if len(smaller) == 0:
        raise ValueError(
            f"labels: {len(larger)} samples of a single class; nothing can be balanced"
        )
    extra = rng.choice(smaller, size=len(larger) - len(smaller), replace=True)
    return rng.permutation(np.concatenate([larger, smaller, extra]).astype(np.int64))


def full_batches(rows: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Divides rows, in order, into batches of exactly `size`; the last is filled up with the first
    rows.

    One shape for all batches of all folds is compiled once, and a small last batch would have
    batch-normalisation statistics unlike any other.

    Args:
        rows: (n,), shuffled.
        size: rows of a batch.

    Returns:
        (steps, size) with the fewest steps that hold every row.
    """
    steps = -(-len(rows) // size)
    return np.resize(rows, steps * size).reshape(steps, size)


def even_batches(rows: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    """Divides rows, in order, into the fewest batches of at most `size`, as even as they can be.

    A last batch of one image, which plain slicing can leave, has no statistics to normalise by.
    """
    return np.array_split(rows, -(-len(rows) // size)) if len(rows) else []
