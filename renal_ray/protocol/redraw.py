"""The training patients dealt to other folds, for the repeats of a study."""

from dataclasses import replace
from itertools import groupby

import numpy as np

from renal_ray.config import Folds
from renal_ray.problems import StudyError
from renal_ray.protocol.draw import deal_folds
from renal_ray.protocol.splits import TRAIN, SplitSet
from renal_ray.types import Label

DRAWS = 1000  # of a cohort in which so many leave a fold without a class, repeats are not to be had


def redraw(splits: SplitSet, repeat: int) -> SplitSet:
    """Deals the same training patients to other folds, by the study's own method; the sealed
    patients stay who they are.

    Repeated cross-validation: J.-H. Kim, Estimating classification error rate: repeated
    cross-validation, repeated hold-out and bootstrap, Comput Stat Data Anal 53 (2009) 3735-3745. A
    draw that leaves a fold without one of the classes is drawn again: no threshold could be found
    there.

    Args:
        splits: the study's own split, which is repeat 0.
        repeat: which repeat, from 0.

    Returns:
        The split of the repeat; a function of the study's own split and the number alone.

    Raises:
        StudyError: no draw gives every fold both classes.
    """
    if repeat == 0:
        return splits
    folds = Folds.model_validate({"n": splits.n_folds, "method": splits.method})
    everyone = sorted(
        (one for one in splits.patients if one.role == TRAIN),
        key=lambda one: (one.unit, one.patient_id),
    )
    training = [
        list(twins) for _, twins in groupby(everyone, key=lambda one: one.unit)
    ]  # patients with the same image are dealt in one piece
    for attempt in range(DRAWS):
        rng = np.random.default_rng(
            np.random.SeedSequence(splits.seed, spawn_key=(repeat, attempt))
        )
        shuffled = [training[place] for place in rng.permutation(len(training))]
        labels, counts = (
            [one[0].label for one in shuffled],
            [sum(twin.n_images for twin in one) for one in shuffled],
        )
        dealt = deal_folds(labels, counts, seed=int(rng.integers(2**31)), folds=folds)
        if all(
            {(fold, label) for label in Label} <= set(zip(dealt, labels, strict=True))
            for fold in range(folds.n)
        ):
            fold_of = {
                one.patient_id: fold
                for twins, fold in zip(shuffled, dealt, strict=True)
                for one in twins
            }
            return SplitSet(
                splits.seed,
                splits.method,
                tuple(replace(one, fold=fold_of.get(one.patient_id)) for one in splits.patients),
            )
    raise StudyError(
        f"repeats: repeat {repeat}: none of {DRAWS} draws gives each of "
        f"{folds.n} folds patients of both classes; "
        "use fewer folds (folds.n), folds.method: stratified, or repeats: 1"
    )
