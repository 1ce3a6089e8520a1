"""WORK/explain/: attention.parquet, a row a patient and dataset; pictures.arrow, those that are shown; explained.json, written last."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
import pyarrow as pa

from renal_ray.problems import DamagedFileError
from renal_ray.protocol.attention import attention_map, rank_correlation, share_inside
from renal_ray.store.arrow import BatchFile, tensor_column, tensor_type, write_batches
from renal_ray.store.place import Place
from renal_ray.trial.explain import Look
from renal_ray.trial.lesions import DRAWN, Lesion
from renal_ray.trial.subjects import Subject
from renal_ray.types import FreezePoint

FOLDER = "explain"
ATTENTION, PICTURES, DONE = "attention.parquet", "pictures.arrow", "explained.json"
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
    def of(cls, subject: Subject, seen: Look, image: np.ndarray, attention: np.ndarray, lesion: Lesion) -> Self:
        """A subject's picture; attention float32 (size, size) in 0..1."""
        mask = lesion.masks.get(subject.dataset, np.zeros(attention.shape, bool))
        shown = np.rint(attention * MOST).astype(np.uint8)
        return cls(str(subject.dataset), subject.part, subject.kind, subject.patient_id, seen.slice_index, image, shown, mask)


@dataclass(frozen=True)
class Explained:
    """What stands in WORK/explain/.

    Args:
        state: what it follows from, see `renal_ray.trial.subjects.state`.
        attention: rows of attention.parquet.
    """

    state: Mapping[str, str]
    attention: pd.DataFrame

    @property
    def without_contour(self) -> dict[str, int]:
        """Number of patients without contour by reason."""
        lacking = self.attention[self.attention["contour"] != DRAWN]
        return dict(sorted(Counter(lacking.drop_duplicates("patient_id")["contour"]).items()))


def measured(subject: Subject, seen: Look, lesion: Lesion, *, size: int, point: FreezePoint) -> tuple[dict[str, Any], np.ndarray]:
    """A subject's row of attention.parquet, and the map: of several models the mean of their maps.

    Args:
        subject: who.
        seen: what the models see.
        lesion: where the lesion lies.
        size: edge of the images in pixels.
        point: the models' freeze point.

    Returns:
        The row, and float32 (size, size), scaled to its maximum.
    """
    found = np.mean([attention_map(one, size) for one in seen.evidence], axis=0)
    places = [np.maximum(values, 0) for values in (seen.evidence, seen.redrawn)]
    correlations = [one for pair in zip(*places, strict=True) if (one := rank_correlation(*pair)) is not None]
    mask = lesion.masks.get(subject.dataset)
    row = {
        "dataset": str(subject.dataset),
        "freeze_point": str(point),
        "part": subject.part,
        "kind": subject.kind,
        "patient_id": subject.patient_id,
        "slice_index": seen.slice_index,
        "label": subject.label,
        "score": subject.score,
        "threshold": subject.threshold,
        "decision": subject.decision,
        "fold": subject.folds[0] if subject.votes is None else None,
        "votes": subject.votes,
        "n_models": len(subject.folds),
        "rows": seen.evidence.shape[1],
        "columns": seen.evidence.shape[2],
        "share_inside": None if mask is None else share_inside(found, mask),
        "area_share": None if mask is None else float(mask.mean()),
        "is_empty": not found.any(),
        "redrawn_correlation": float(np.mean(correlations)) if correlations else None,
        "contour": lesion.trouble,
    }
    return row, found / found.max() if found.any() else found


    "slice_index": "Int32",
    "label": "Int8",
    "decision": "Int8",
    "fold": "Int32",
    "votes": "Int32",
    "n_models": "Int32",
    "rows": "Int32",
    "columns": "Int32",
}
WHOLE = {"label": "Int8", "decision": "Int8"} | dict.fromkeys(("slice_index", "fold", "votes", "n_models", "rows", "columns"), "Int32")
REAL = ("score", "threshold", "share_inside", "area_share", "redrawn_correlation")


def write_explained(work: Place, rows: Sequence[Mapping[str, Any]], pictures: Sequence[Picture], state: Mapping[str, str], *, size: int) -> Explained:
    """Writes WORK/explain/, explained.json last."""
    folder = work.at(FOLDER)
    folder.remove(DONE)
    table = pd.DataFrame(rows).astype(WHOLE | dict.fromkeys(REAL, "Float64"))
    table = table.sort_values(list(KEY), ignore_index=True)
    folder.write_parquet(ATTENTION, table)
    write_batches(folder, PICTURES, map(_columns, sorted(pictures, key=lambda one: tuple(getattr(one, name) for name in KEY))), _schema(size))
    files = {name: hashlib.sha256(folder.read(name)).hexdigest() for name in (ATTENTION, PICTURES)}
    folder.write_checked_json(DONE, {"state": dict(state), "files": files})
    return Explained(dict(state), table)


def read_explained(work: Place) -> Explained | None:
    """What was explained; None where nothing was, or where a file is not what was written."""
    folder = work.at(FOLDER)
    try:
        told = folder.read_checked_json(DONE)
        if any(hashlib.sha256(folder.read(name)).hexdigest() != checksum for name, checksum in told["files"].items()):
            return None
    except (FileNotFoundError, DamagedFileError):
        return None
    return Explained(told["state"], folder.read_parquet(ATTENTION))


def read_pictures(work: Place) -> Iterator[Picture]:
    """The pictures, by dataset, part, kind and patient.

    Raises:
        DamagedFileError: a picture is not what was written.
    """
    file = BatchFile(work.at(FOLDER).local(PICTURES))
    for number in range(len(file)):
        batch = file.batch(number)
        words = {name: batch.column(name)[0].as_py() for name in (*KEY, "slice_index")}
        image, attention, lesion = (file.tensor(number, name)[0] for name in ("image", "attention", "lesion"))
        yield Picture(**words, image=image, attention=attention, lesion=lesion.astype(bool))


def _schema(size: int) -> pa.Schema:
    words = {name: pa.string() for name in KEY} | {"slice_index": pa.int32()}
    pixels = {"image": (size, size, 3), "attention": (size, size), "lesion": (size, size)}
    return pa.schema(words | {name: tensor_type(np.uint8, shape) for name, shape in pixels.items()})


def _columns(one: Picture) -> dict[str, pa.Array]:
    words = {name: pa.array([getattr(one, name)], pa.string()) for name in KEY}
    pixels = {"image": one.image, "attention": one.attention, "lesion": one.lesion.astype(np.uint8)}
    return words | {"slice_index": pa.array([one.slice_index], pa.int32())} | {name: tensor_column(values[None]) for name, values in pixels.items()}
