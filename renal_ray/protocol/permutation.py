"""Labels that mean nothing, for the negative control."""

import numpy as np

from renal_ray.protocol.splits import SplitSet
from renal_ray.types import PatientId


def permuted_labels(splits: SplitSet, *, seed: int, index: int) -> dict[PatientId, int]:
    """Permutes the labels of the training patients within each fold.

    Within, so that every fold keeps its patients of both classes. A model trained on these labels
    that validates well above an AUC of 0.5 has seen its validation patients: something leaks.

    Args:
        splits: the study's split.
        seed: the study's seed.
        index: which permutation, from 0.

    Returns:
        A label for every training patient; no test patient is in it.
    """
    rng = np.random.default_rng([seed, index])
    permuted: dict[PatientId, int] = {}
    for k in range(splits.n_folds):
        patients = sorted(splits.fold(k).validation)
        labels = [splits.labels[patient] for patient in patients]
        permuted.update(
            zip(patients, (int(label) for label in rng.permutation(labels)), strict=True)
        )
    return permuted
