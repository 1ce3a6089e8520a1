"""The frozen layers as a trial and the cache see them."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from renal_ray.store.slices import Slices
from renal_ray.types import FreezePoint

if TYPE_CHECKING:
    import keras


class Prefix:
    """The frozen layers up to several freeze points, in one forward pass.

    Args:
        weights: backbone weights by name.
        size: edge of the images in pixels.
        freeze_points: which activations are wanted.
        batch_size: images a step; the last step is padded, so that one compiled shape serves all.
        pooled: whether mixed10's activations are averaged over their places, as the image head
            reads them.
    """

    def __init__(
        self,
        weights: Mapping[str, np.ndarray],
        *,
        size: int,
        freeze_points: Sequence[FreezePoint],
        batch_size: int,
        pooled: bool = True,
    ) -> None:
        from renal_ray.model.backbone import build_backbone, multi_prefix

        self._backbone: keras.Model = build_backbone(size)
        self._model: keras.Model = multi_prefix(self._backbone, freeze_points, pooled=pooled)
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
                batch = np.concatenate(
                    [batch, np.zeros((self._batch_size - rows, *batch.shape[1:]), batch.dtype)]
                )
            outputs.append(
                {
                    name: values[:rows]
                    for name, values in self._model.predict_on_batch(batch).items()
                }
            )
        return {
            FreezePoint(name): np.concatenate([output[name] for output in outputs])
            for name in outputs[0]
        }


class ComputedActivations:
    """Activations of some patients computed whenever they are asked for: what
    `renal_ray.store.activations.Activations` reads from disk.

    Args:
        slices: of the dataset, sealed.
        prefix: with the dataset's weights.
        freeze_point: whose activations.
        patients: whose rows, in this order.
        dtype: float16 or float32, so that the numbers are those that a cache would hold.
    """

    def __init__(
        self,
        slices: Slices,
        prefix: Prefix,
        freeze_point: FreezePoint,
        patients: Sequence[str],
        dtype: str,
    ) -> None:
        self.patients = tuple(patients)
        self._prefix = prefix
        self._freeze_point = freeze_point
        self._dtype = dtype
        self._images = [slices.images(patient) for patient in patients]
        self.counts = np.array([len(images) for images in self._images])
        self.slice_index = np.concatenate(
            [slices.slice_index(patient) for patient in patients]
        ).astype(np.int32)
        self._where = [
            (patient, row) for patient, count in enumerate(self.counts) for row in range(count)
        ]

    def __len__(self) -> int:
        return len(self.slice_index)

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """Reads the images of rows and computes their activations, (rows, ...)."""
        images = np.stack(
            [
                self._images[patient][row]
                for patient, row in (self._where[number] for number in np.arange(len(self))[rows])
            ]
        )
        return self._prefix(images)[self._freeze_point].astype(self._dtype)
