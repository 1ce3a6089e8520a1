"""What a trial trains on when its images are varied: the frozen layers' output of varied images,
computed in every epoch or held in copies.

Validation, the statistics after the training, and all that is written down read the images as they
are.
"""

from collections.abc import Iterator
from math import prod
from typing import TYPE_CHECKING, Protocol

import numpy as np

from renal_ray.config import Augmentation, Study
from renal_ray.imaging.augment import Variations, draw, varied
from renal_ray.model.shapes import activation_shape
from renal_ray.store.place import digest
from renal_ray.types import Rows

if TYPE_CHECKING:
    from renal_ray.store.slices import Slices
    from renal_ray.trial.feed import ImageRows
    from renal_ray.trial.prefix import Prefix
    from renal_ray.trial.spec import TrialSpec


class Frozen(Protocol):
    """Turns varied images into what the suffix reads."""

    def __call__(self, rows: np.ndarray, variations: Variations) -> np.ndarray:
        """Activations (n, ...) of the images of some rows, each varied."""


class FrozenLayers:
    """The frozen layers on varied images of a dataset's training patients.

    Args:
        slices: of the dataset, sealed.
        prefix: the frozen layers, with the dataset's weights.
        spec: a trial on them: freeze point and number format.
        patients: whose images, in the order of the rows.
    """

    def __init__(
        self, slices: "Slices", prefix: "Prefix", spec: "TrialSpec", patients: tuple[str, ...]
    ) -> None:
        self._prefix, self._freeze_point, self._dtype = (
            prefix,
            spec.freeze_point,
            spec.activation_dtype,
        )
        self._images = [
            image for patient in patients for image in slices.images(patient)
        ]  # views of memory-mapped files

    def __call__(self, rows: np.ndarray, variations: Variations) -> np.ndarray:
        images = np.stack([self._images[row] for row in rows])
        return self._prefix(varied(images, variations))[self._freeze_point].astype(self._dtype)


class CopiedRows:
    """A dataset's activations, and after them those of varied copies of every image: a row of copy
    c of image i is (c + 1) n + i of n images.

    Held in memory, because every fold of a dataset, freeze point and augmentation reads the same.
    Settings draw the copies, not the trial's seed.

    Args:
        plain: activations of the images as they are.
        frozen: computes those of varied images.
        augmentation: how images are varied.
        seed: of the draw.
        batch: images that are computed at once.
    """

    def __init__(
        self,
        plain: "ImageRows",
        frozen: Frozen,
        augmentation: Augmentation,
        *,
        seed: int,
        batch: int,
    ) -> None:
        self.patients, self.counts, self.slice_index = (
            plain.patients,
            plain.counts,
            plain.slice_index,
        )
        images = len(plain)
        first = plain[:1]
        self._values = np.empty((images * (1 + augmentation.copies), *first.shape[1:]), first.dtype)
        self._values[:images] = plain[:]
        rng = np.random.default_rng(seed)
        for copy in range(1, 1 + augmentation.copies):
            variations = _drawn(images, rng, augmentation)
            for start in range(0, images, batch):
                rows = np.arange(start, min(start + batch, images))
                self._values[copy * images + rows] = frozen(
                    rows, variations.take(slice(start, start + batch))
                )

    def __len__(self) -> int:
        return len(self._values)

    @property
    def nbytes(self) -> int:
        """Bytes of all rows."""
        return self._values.nbytes

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """Copies rows out as one (rows, ...) array."""
        return self._values[rows]


class ComputedRows:
    """A dataset's activations, with the frozen layers beside them: `vary` computes what the cache
    cannot hold.

    Args:
        plain: activations of the images as they are, cached or computed.
        frozen: computes those of varied images.
    """

    def __init__(self, plain: "ImageRows", frozen: Frozen) -> None:
        self.patients, self.counts, self.slice_index = (
            plain.patients,
            plain.counts,
            plain.slice_index,
        )
        self._plain, self.vary = plain, frozen

    def __len__(self) -> int:
        return len(self._plain)

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """Activations of the images as they are."""
        return self._plain[rows]


class Varied:
    """The training side of a fold, varied epoch by epoch.

    What an epoch draws follows from the trial's seed and the epoch's number alone, so that a
    continued trial draws what an uninterrupted one does.

    Args:
        spec: the trial.
        source: what both sides of its fold are picked from.
        images: number of images.
    """

    def __init__(self, spec: "TrialSpec", source: Rows, images: int) -> None:
        self._augmentation, self._seed, self._source, self._images = (
            spec.training.augmentation,
            spec.seed,
            source,
            images,
        )

    def rows(self, rows: np.ndarray, epoch: int) -> np.ndarray:
        """Rows of the source to train on, in place of those of the plain images.

        Args:
            rows: (steps, batch) of plain images.
            epoch: from 1.
        """
        if not self._augmentation.is_on or self._augmentation.bypasses:
            return rows
        copies = self._rng(epoch).integers(1, 1 + self._augmentation.copies, size=rows.shape)
        return rows + copies * self._images

    def batches(self, rows: np.ndarray, epoch: int) -> Iterator[np.ndarray]:
        """Inputs of each batch, (batch, ...); `rows` as the method `rows` gives them."""
        if not self._augmentation.bypasses:
            yield from (self._source[one] for one in rows)
            return
        assert isinstance(self._source, ComputedRows)
        drawn = _drawn(rows.size, self._rng(epoch), self._augmentation)
        for number, one in enumerate(rows):
            yield self._source.vary(
                one, drawn.take(slice(number * len(one), (number + 1) * len(one)))
            )

    def _rng(self, epoch: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, epoch])


def copies_seed(spec: "TrialSpec") -> int:
    """Seed of the varied copies: of what they are copies of, so that all folds and configurations
    with this augmentation share them."""
    return int(
        digest([spec.activations.folder, spec.training.augmentation.model_dump_json()])[:8], 16
    )


def augmentation_line(study: Study, images: int) -> str | None:
    """Whether augmentation bypasses or multiplies the activation cache, in a line for a person;
    None without any.

    Args:
        study: its training, and what its search tries.
        images: training images of a dataset.
    """
    own, search = study.training.augmentation, study.search
    space = search.space.augmentation if search is not None else None
    tried = space is not None and any(
        getattr(space, name) is not None for name in ("flip", "rotate_deg", "hu_jitter")
    )
    if not own.is_on and not tried:
        return None
    numbers = set(space.copies) if space is not None and space.copies is not None else {own.copies}
    said = (
        [
            (
                "bypasses the activation cache: the frozen layers are "
                "computed in every epoch, on images varied anew"
            )
        ]
        if 0 in numbers
        else []
    )
    if most := max(numbers):
        points = {
            *study.freeze_points,
            *(search.space.freeze_point or [] if search is not None else []),
        }
        size = (
            max(prod(activation_shape(study.images.size, point)) for point in points)
            * np.dtype(study.activation_dtype).itemsize
        )
        copies = " or ".join(str(one) for one in sorted(numbers) if one)
        room = f"at most {(1 + most) * images * size / 2**20:,.0f} MiB in each worker's memory"
        said.append(
            f"multiplies the activation cache: {copies} varied copies of "
            f"every training image beside it, {room}"
        )
    return f"augmentation {', or '.join(said)}; validation and test read the images as they are"


def _drawn(n: int, rng: np.random.Generator, augmentation: Augmentation) -> Variations:
    return draw(
        n,
        rng,
        flip=augmentation.flip,
        rotate_deg=augmentation.rotate_deg,
        hu_jitter=augmentation.hu_jitter,
    )
