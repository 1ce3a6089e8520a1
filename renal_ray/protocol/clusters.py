"""Samples of one patient belong together: the unit of every interval is the patient."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Clusters:
    """Whose each sample is.

    Args:
        of: (n,) patient of each sample, 0 to patients - 1, in the sorted order of their ids.
        labels: (patients,) whether the patient's lesion is malignant.
    """

    of: NDArray[np.intp]
    labels: NDArray[np.bool_]

    @property
    def malignant(self) -> int:
        """Malignant patients."""
        return int(self.labels.sum())

    @property
    def benign(self) -> int:
        """Benign patients."""
        return len(self.labels) - self.malignant

    def rows(self) -> list[NDArray[np.intp]]:
        """The samples of each patient, in their order."""
        order = np.argsort(self.of, kind="stable")
        return np.split(order, np.cumsum(np.bincount(self.of, minlength=len(self.labels)))[:-1])


def as_clusters(truth: NDArray[np.bool_], patients: ArrayLike | None) -> Clusters:
    """Groups samples by patient.

    Args:
        truth: (n,) label of each sample.
        patients: (n,) ids; None when every sample is a patient of its own.

    Raises:
        ValueError: the lengths differ, or a patient has two labels.
    """
    if patients is None:
        return Clusters(np.arange(len(truth)), truth)
    ids = np.asarray(patients)
    if ids.shape != truth.shape:
        raise ValueError(
            f"{len(truth)} labels and patients of shape {ids.shape}; one patient a label is needed"
        )
    names, of = np.unique(ids, return_inverse=True)
    share = np.bincount(of, weights=truth, minlength=len(names)) / np.bincount(
        of, minlength=len(names)
    )
    if mixed := int(((share > 0) & (share < 1)).sum()):
        raise ValueError(
            f"patients: {mixed} of {len(names)} have samples of both labels; a patient has one"
        )
    return Clusters(of, share > 0)
