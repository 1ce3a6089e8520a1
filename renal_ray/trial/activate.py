"""The frozen layers' work, done once: a dataset's backbone weights, and the activations of every training slice."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from renal_ray.protocol.balance import even_batches
from renal_ray.protocol.splits import SplitSet
from renal_ray.store import activations
from renal_ray.store.activations import ActivationSet
from renal_ray.store.place import Place
from renal_ray.store.slices import Slices
from renal_ray.trial.workshop import backbone_file
from renal_ray.types import Dataset, FreezePoint

if TYPE_CHECKING:
    import keras

CALIBRATION_BATCH = 32  # not the study's batch size: the random weights of a seed must not change with it


def make_backbone(work: Place, dataset: Dataset, splits: SplitSet, *, weights: str, weights_hash: str, size: int, seed: int) -> None:
    """Writes the weights that all trials of a dataset start from; nothing happens where they are already there.

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
    load_weights(backbone, weights, seed=seed, calibration=_mixed_batches(slices, splits.training, seed=seed))
    work.write(name, save_weights_h5(weights_by_name(backbone)))


def _mixed_batches(slices: Slices, patients: Sequence[str], *, seed: int) -> Iterator[np.ndarray]:
    """All images in random order: a batch of one patient's slices has statistics of its own, unlike any that training sees."""
    images = [slices.images(patient) for patient in patients]
    rows = [(patient, row) for patient, values in enumerate(images) for row in range(len(values))]
    order = np.random.default_rng(seed).permutation(len(rows))
    for batch in even_batches(order, CALIBRATION_BATCH):
        yield np.stack([images[rows[one][0]][rows[one][1]] for one in batch])


class Prefix:
    """The frozen layers up to several freeze points, in one forward pass.

    Args:
        weights: backbone weights by name.
        size: edge of the images in pixels.
        freeze_points: which activations are wanted.
        batch_size: images a step; the last step is padded, so that one compiled shape serves all.
    """

    def __init__(self, weights: Mapping[str, np.ndarray], *, size: int, freeze_points: Sequence[FreezePoint], batch_size: int) -> None:
        from renal_ray.model.backbone import build_backbone, multi_prefix

        self._backbone: keras.Model = build_backbone(size)
        self._model: keras.Model = multi_prefix(self._backbone, freeze_points)
        self._batch_size = batch_size
        self.load(weights)

    def load(self, weights: Mapping[str, np.ndarray]) -> None:
        """Exchanges the weights, for another dataset; what is compiled stays."""
        from renal_ray.model.initial import set_weights_by_name

        set_weights_by_name(self._backbone, weights)

    def __call__(self, images: np.ndarray) -> dict[FreezePoint, np.ndarray]:
        """Activations of uint8 RGB images (n, size, size, 3), float32 (n, ...) per freeze point."""
        outputs = []
        for start in range(0, len(images), self._batch_size):
            batch = images[start : start + self._batch_size]
            rows = len(batch)
            if rows < self._batch_size:
                batch = np.concatenate([batch, np.zeros((self._batch_size - rows, *batch.shape[1:]), batch.dtype)])
            outputs.append({name: values[:rows] for name, values in self._model.predict_on_batch(batch).items()})
        return {FreezePoint(name): np.concatenate([output[name] for output in outputs]) for name in outputs[0]}


def activate(work: Place, slices: Slices, prefix: Prefix, sets: Sequence[ActivationSet], *, part: str, patients: Sequence[str], dtype: str) -> None:
    """Writes the activations of some patients: one Arrow file in each set. A part that is already there is kept.

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
        rows = [(patient, slices.slice_index(patient), one) for patient, one in zip(patients, values, strict=True)]
        activations.write_part(work, which, part, rows)
