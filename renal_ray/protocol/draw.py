"""The seeded draw behind a split: who is sealed, and in which fold everyone else validates."""

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from renal_ray.config import Folds, Split
from renal_ray.problems import StudyError
from renal_ray.protocol.folds import approximate_equal_folds
from renal_ray.types import Label


def draw_roles(
    labels: Sequence[int], image_counts: Sequence[int], *, seed: int, split: Split, folds: Folds
) -> list[int | None]:
    """Draws the sealed patients, then deals the others to folds, all in one seeded shuffle.

    Args:
        labels: (n,) 0 or 1, patients in an order that does not depend on the source (sorted by id).
        image_counts: (n,) images of each patient.
        seed: seed of the shuffle and of StratifiedGroupKFold.
        split: size of the test set, and whether it is stratified.
        folds: number and method of the folds.

    Returns:
        (n,) the fold of each patient; None for a sealed one.

    Raises:
        StudyError: a class has fewer training patients than there are folds.
    """
    order = [int(i) for i in np.random.default_rng(seed).permutation(len(labels))]
    sealed = _sealed([labels[i] for i in order], split)
    training = [i for i, away in zip(order, sealed, strict=True) if not away]
    for label in Label:
        if (there := sum(labels[i] == label for i in training)) < folds.n:
            raise StudyError(
                f"cohort: {there} {label.name.lower()} patients outside the test set are "
                f"too few for {folds.n} folds, each with both classes; "
                "use fewer folds (folds.n) or add patients"
            )
    dealt = deal_folds(
        [labels[i] for i in training], [image_counts[i] for i in training], seed=seed, folds=folds
    )
    roles: list[int | None] = [None] * len(labels)
    for patient, fold in zip(training, dealt, strict=True):
        roles[patient] = fold
    return roles


def deal_folds(
    labels: Sequence[int], image_counts: Sequence[int], *, seed: int, folds: Folds
) -> list[int]:
    """Deals training patients to folds.

    Args:
        labels: (n,) 0 or 1, patients in an order already shuffled.
        image_counts: (n,) images of each patient.
        seed: seed of StratifiedGroupKFold.
        folds: number and method of the folds.

    Returns:
        (n,) the fold of each patient.
    """
    if folds.method == "approximate":
        return approximate_equal_folds(image_counts, folds.n)
    return _stratified_folds(labels, image_counts, seed=seed, n_folds=folds.n)


def _sealed(labels: Sequence[int], split: Split) -> list[bool]:
    """Marks the test patients: the first of the shuffled order, or the first of each class."""
    # Fraction of the decimal as written: 0.2 of 195 is 39, not 39.000000000000004. 192 patients
    # give 153 / 39, as in the paper.
    n_test = math.ceil(Fraction(str(split.test_fraction)) * len(labels))
    if not split.stratify:
        return [place < n_test for place in range(len(labels))]
    malignant = list(labels).count(Label.MALIGNANT)
    share = Fraction(n_test * malignant, len(labels))
    wanted = math.floor(share + Fraction(1, 2))
    wanted = min(
        max(wanted, 1), max(n_test - 1, 1)
    )  # a test set of both classes has at least one of each
    left = {Label.MALIGNANT: wanted, Label.BENIGN: max(n_test - wanted, 1)}
    sealed = []
    for label in labels:
        sealed.append(left[Label(label)] > 0)
        left[Label(label)] -= 1
    return sealed


def _stratified_folds(
    labels: Sequence[int], image_counts: Sequence[int], *, seed: int, n_folds: int
) -> list[int]:
    """StratifiedGroupKFold over images, a patient being a group."""
    from sklearn.model_selection import (
        StratifiedGroupKFold,
    )  # half of what `renal-ray status` would import, and does not need

    y = np.repeat(labels, image_counts)
    groups = np.repeat(np.arange(len(labels)), image_counts)
    folds = [0] * len(labels)
    splitter = StratifiedGroupKFold(n_splits=n_folds, shuffle=True, random_state=seed)
    for fold, (_, validation) in enumerate(splitter.split(np.zeros(len(y)), y, groups)):
        for patient in np.unique(groups[validation]):
            folds[patient] = fold
    return folds
