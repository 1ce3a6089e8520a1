"""WORK/explain/: attention.parquet, a row a patient and dataset; pictures.arrow, those that are
shown; explained.json, written last."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from renal_ray.problems import DamagedFileError
from renal_ray.protocol.attention import attention_map, rank_correlation, share_inside
from renal_ray.protocol.metrics import mean_sd
from renal_ray.store.place import Place
from renal_ray.trial.explain import Look
from renal_ray.trial.lesions import DRAWN, Lesion
from renal_ray.trial.pictures import KEY, PICTURES, Picture, write_pictures
from renal_ray.trial.subjects import VALIDATION, Subject
from renal_ray.types import FreezePoint

ATTENTION, DONE = "explain/attention.parquet", "explain/explained.json"
COLUMNS = {
    "dataset": "str",
    "freeze_point": "str",
    "part": "str",
    "kind": "str",
    "patient_id": "str",
    "slice_index": "Int32",
    "label": "Int8",
    "score": "Float64",
    "threshold": "Float64",
    "decision": "Int8",
    "fold": "Int32",
    "votes": "Int32",
    "n_models": "Int32",
    "rows": "Int32",
    "columns": "Int32",
    "share_inside": "Float64",
    "area_share": "Float64",
    "is_empty": "bool",
    "redrawn_correlation": "Float64",
    "contour": "str",
}


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


@dataclass(frozen=True)
class Summary:
    """The attention of one dataset's models over its validation patients.

    Args:
        dataset: which dataset.
        freeze_point: of the models.
        n: patients with a contour and a map that is not empty: those that the shares are means of.
        n_empty: patients for whom no place speaks for malignant, and so no share is defined.
        n_without_contour: patients whose lesion could not be read again.
        share: mean and SD (ddof = 1) of the share of attention inside the lesion.
        area: mean and SD of the lesion's share of the image: what chance would give.
        redrawn: mean and SD of the rank correlation with the maps of the same model with a head of
            random weights.
        places: rows and columns of the last convolutional layer.
    """

    dataset: str
    freeze_point: str
    n: int
    n_empty: int
    n_without_contour: int
    share: tuple[float | None, float | None]
    area: tuple[float | None, float | None]
    redrawn: tuple[float | None, float | None]
    places: tuple[int, int]


def summary(attention: pd.DataFrame) -> list[Summary]:
    """One line a dataset, over the validation patients of attention.parquet."""
    found = []
    for dataset, rows in attention[attention["part"] == VALIDATION].groupby("dataset", sort=True):
        counted = rows[rows["share_inside"].notna()]
        share, area = (mean_sd(counted[name].tolist()) for name in ("share_inside", "area_share"))
        redrawn = mean_sd(rows["redrawn_correlation"].dropna().tolist())
        empty, lacking = int(rows["is_empty"].sum()), int((rows["contour"] != DRAWN).sum())
        first = rows.iloc[0]
        places = int(first["rows"]), int(first["columns"])
        found.append(
            Summary(
                str(dataset),
                str(first["freeze_point"]),
                len(counted),
                empty,
                lacking,
                share,
                area,
                redrawn,
                places,
            )
        )
    return found


def measured(
    subject: Subject, seen: Look, lesion: Lesion, *, size: int, point: FreezePoint
) -> tuple[dict[str, Any], np.ndarray]:
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
    correlations = [
        one for pair in zip(*places, strict=True) if (one := rank_correlation(*pair)) is not None
    ]
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


def write_explained(
    work: Place,
    rows: Sequence[Mapping[str, Any]],
    pictures: Sequence[Picture],
    state: Mapping[str, str],
    *,
    size: int,
) -> Explained:
    """Writes WORK/explain/, explained.json last."""
    work.remove(DONE)
    table = (
        pd.DataFrame(rows, columns=list(COLUMNS))
        .astype(COLUMNS)
        .sort_values(list(KEY), ignore_index=True)
    )
    work.write_parquet(ATTENTION, table)
    write_pictures(work, pictures, size=size)
    files = {name: hashlib.sha256(work.read(name)).hexdigest() for name in (ATTENTION, PICTURES)}
    work.write_checked_json(DONE, {"state": dict(state), "files": files})
    return Explained(dict(state), table)


def read_explained(work: Place) -> Explained | None:
    """What was explained; None where nothing was, or where a file is not what was written."""
    try:
        told = work.read_checked_json(DONE)
        if any(
            hashlib.sha256(work.read(name)).hexdigest() != checksum
            for name, checksum in told["files"].items()
        ):
            return None
    except (FileNotFoundError, DamagedFileError):
        return None
    return Explained(told["state"], work.read_parquet(ATTENTION))
