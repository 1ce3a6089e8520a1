"""The frozen layers' work, done once: a dataset's backbone weights, and the activations of every
training slice."""

from collections.abc import Iterator, Sequence

import numpy as np

from renal_ray.protocol.balance import even_batches
from renal_ray.protocol.splits import SplitSet
from renal_ray.store import activations
from renal_ray.store.activations import ActivationSet
from renal_ray.store.place import Place
from renal_ray.store.slices import Slices
from renal_ray.trial.prefix import Prefix
from renal_ray.trial.workshop import backbone_file
from renal_ray.types import Dataset

CALIBRATION_BATCH = (
    32  # not the study's batch size: the random weights of a seed must not change with it
)


def make_backbone(
    work: Place,
    dataset: Dataset,
    splits: SplitSet,
    *,
    weights: str,
    weights_hash: str,
    size: int,
    seed: int,
) -> None:
    """Writes the weights that all trials of a dataset start from; nothing happens where they are
    already there.

    Args:
        work: the study's work directory.
        dataset: whose training images set the batch-normalisation statistics of random weights.
        splits: who trains; sealed patients are not read.
        weights: imagenet, random or a path.
        weights_hash: names the file.
        size: edge of the images in pixels.
        seed: of random weights.

    Raises:
        StudyError: the weights cannot be had.
    """
    name = backbone_file(weights_hash)
    if work.exists(name):
        return
    from renal_ray.model.backbone import build_backbone
    from renal_ray.model.initial import weights_by_name
    from renal_ray.model.weight_files import save_weights_h5
    from renal_ray.model.weights import load_weights

    slices = Slices(work, dataset, sealed=splits.test)
    backbone = build_backbone(size)
    load_weights(
        backbone, weights, seed=seed, calibration=_mixed_batches(slices, splits.training, seed=seed)
    )
    work.write(name, save_weights_h5(weights_by_name(backbone)))


def _mixed_batches(slices: Slices, patients: Sequence[str], *, seed: int) -> Iterator[np.ndarray]:
    """All images in random order: a batch of one patient's slices has statistics of its own, unlike
    any that training sees."""
    images = [slices.images(patient) for patient in patients]
    rows = [(patient, row) for patient, values in enumerate(images) for row in range(len(values))]
    order = np.random.default_rng(seed).permutation(len(rows))
    for batch in even_batches(order, CALIBRATION_BATCH):
        yield np.stack([images[rows[one][0]][rows[one][1]] for one in batch])


def activate(
    work: Place,
    slices: Slices,
    prefix: Prefix,
    sets: Sequence[ActivationSet],
    *,
    part: str,
    patients: Sequence[str],
    dtype: str,
) -> None:
    """Writes the activations of some patients: one Arrow file in each set. A part that is already
    there is kept.

    Args:
        work: the study's work directory.
        slices: of the dataset, sealed.
        prefix: with the dataset's weights.
        sets: what to write, one for each freeze point.
        part: name of the Arrow files without ending.
        patients: training patients.
        dtype: float16 or float32.
    """
    missing = [which for which in sets if not activations.has_part(work, which, part)]
    if not missing:
        return
    counts = [len(slices.slice_index(patient)) for patient in patients]
    outputs = prefix(np.concatenate([slices.images(patient) for patient in patients]))
    for which in missing:
        values = np.split(outputs[which.freeze_point].astype(dtype), np.cumsum(counts)[:-1])
        rows = [
            (patient, slices.slice_index(patient), one)
            for patient, one in zip(patients, values, strict=True)
        ]
        activations.write_part(work, which, part, rows)
