"""pictures.arrow: the slices that are shown, with attention and lesion."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa

from renal_ray.store.arrow import BatchFile, tensor_column, tensor_type, write_batches
from renal_ray.store.place import Place
from renal_ray.trial.explain import Look
from renal_ray.trial.lesions import Lesion
from renal_ray.trial.subjects import Subject

PICTURES = "explain/pictures.arrow"
KEY = ("dataset", "part", "kind", "patient_id")
MOST = 255  # of a picture's attention


@dataclass(frozen=True)
class Picture:
    """One patient's slice with its map.

    Args:
        dataset: what of the image the model saw.
        part: validation or test.
        kind: why it is shown, see `renal_ray.trial.subjects.Subject`.
        patient_id: who.
        slice_index: the slice's number in the series.
        image: uint8 (size, size, 3), as the model saw it: the renal, the high and the low window.
        attention: uint8 (size, size), 255 at the map's maximum.
        lesion: bool (size, size); all False where there is no contour.
    """

    dataset: str
    part: str
    kind: str
    patient_id: str
    slice_index: int
    image: np.ndarray
    attention: np.ndarray
    lesion: np.ndarray

    @classmethod
    def of(
        cls, subject: Subject, seen: Look, image: np.ndarray, attention: np.ndarray, lesion: Lesion
    ) -> Self:
        """A subject's picture; attention float32 (size, size) in 0..1."""
        mask = lesion.masks.get(subject.dataset, np.zeros(attention.shape, bool))
        shown = np.rint(attention * MOST).astype(np.uint8)
        return cls(
            str(subject.dataset),
            subject.part,
            subject.kind,
            subject.patient_id,
            seen.slice_index,
            image,
            shown,
            mask,
        )


def write_pictures(work: Place, pictures: Iterable[Picture], *, size: int) -> None:
    """Writes explain/pictures.arrow, a record batch a picture, by dataset, part, kind and
    patient."""
    ordered = sorted(pictures, key=lambda one: tuple(getattr(one, name) for name in KEY))
    write_batches(work, PICTURES, map(_columns, ordered), _schema(size))


def read_pictures(work: Place) -> Iterator[Picture]:
    """The pictures, by dataset, part, kind and patient.

    Raises:
        DamagedFileError: a picture is not what was written.
    """
    file = BatchFile(work.local(PICTURES))
    for number in range(len(file)):
        batch = file.batch(number)
        words = {name: batch.column(name)[0].as_py() for name in (*KEY, "slice_index")}
        image, attention, lesion = (
            file.tensor(number, name)[0] for name in ("image", "attention", "lesion")
        )
        yield Picture(**words, image=image, attention=attention, lesion=lesion.astype(bool))


def _schema(size: int) -> pa.Schema:
    words = {name: pa.string() for name in KEY} | {"slice_index": pa.int32()}
    pixels = {"image": (size, size, 3), "attention": (size, size), "lesion": (size, size)}
    return pa.schema(words | {name: tensor_type(np.uint8, shape) for name, shape in pixels.items()})


def _columns(one: Picture) -> dict[str, pa.Array]:
    words = {name: pa.array([getattr(one, name)], pa.string()) for name in KEY}
    pixels = {"image": one.image, "attention": one.attention, "lesion": one.lesion.astype(np.uint8)}
    return (
        words
        | {"slice_index": pa.array([one.slice_index], pa.int32())}
        | {name: tensor_column(values[None]) for name, values in pixels.items()}
    )
