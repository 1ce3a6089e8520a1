"""Nested shares of a fold's training patients, for the learning curve."""

from collections.abc import Mapping
from fractions import Fraction
from math import floor

import numpy as np

from renal_ray.protocol.splits import FoldSplit
from renal_ray.types import Label, PatientId


def nested_share(
    fold: FoldSplit,
    share: float,
    *,
    labels: Mapping[PatientId, int],
    sealed: frozenset[PatientId],
    seed: int,
    number: int,
    units: Mapping[PatientId, str] | None = None,
) -> FoldSplit:
    """A share of the patients that a fold trains on, of each class alike; whoever validates stays.

    Nested: who is in a small share is in every larger one, so that a curve over shares adds
        patients and exchanges none. Each class is ordered once
    by a seeded shuffle, and the first of it are taken: the share of their number, rounded half up,
    at least one.

    Args:
        fold: both sides of the fold.
        share: above 0, at most 1.
        labels: label of every patient.
        sealed: the test patients.
        seed: the study's seed.
        number: which fold.
        units: who is taken or left in one piece, because they have the same image; everybody for
            themselves when None.

    Returns:
        The fold with fewer to train on.
    """
    rng = np.random.default_rng(
        np.random.SeedSequence(seed, spawn_key=(0, number))
    )  # repeats have keys from 1
    unit: Mapping[PatientId, str] = units or {patient: patient for patient in fold.train}
    kept: set[str] = set()
    for label in Label:
        those = sorted({unit[patient] for patient in fold.train if labels[patient] == label})
        wanted = max(1, floor(Fraction(str(share)) * len(those) + Fraction(1, 2)))
        kept.update(those[place] for place in rng.permutation(len(those))[:wanted])
    return FoldSplit(
        train=tuple(patient for patient in fold.train if unit[patient] in kept),
        validation=fold.validation,
        sealed=sealed,
    )
