"""The slices of a study: slices/<dataset>/*.arrow, keyed by patient, the test patients under
seal."""

import hashlib
from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from renal_ray.problems import StudyError
from renal_ray.store.arrow import BatchFiles, read_index, tensor_column, tensor_type, write_batches
from renal_ray.store.place import Place, digest
from renal_ray.store.seal import Seal, SealError
from renal_ray.types import Dataset


class PatientRows(NamedTuple):
    """One patient's rows of one dataset, in slice order, head to foot."""

    patient_id: str
    label: int
    slice_index: np.ndarray  # int32 (n,)
    position_mm: np.ndarray  # float32 (n,)
    lesion_area_mm2: np.ndarray  # float32 (n,)
    image: np.ndarray  # uint8 (n, size, size, 3)


def schema(size: int) -> pa.Schema:
    """Columns of a slices file for square images of `size` pixels."""
    return pa.schema(
        {
            "patient_id": pa.string(),
            "slice_index": pa.int32(),
            "position_mm": pa.float32(),
            "label": pa.int8(),
            "lesion_area_mm2": pa.float32(),
            "image": tensor_type(np.uint8, (size, size, 3)),
        }
    )


def write_shard(
    work: Place, dataset: Dataset, shard: str, patients: Iterable[PatientRows], *, size: int
) -> list[dict[str, Any]]:
    """Writes one Arrow file of a dataset, a record batch a patient.

    Args:
        work: the study's work directory.
        dataset: which dataset.
        shard: what the file's name begins with; a hash of its content follows.
        patients: their rows.
        size: edge of the images in pixels.

    Returns:
        The rows of index.parquet for these patients: patient_id, file, batch, rows, label, sha256
        of the pixels.
    """
    patients = list(patients)
    hashes = [
        hashlib.sha256(
            np.ascontiguousarray(rows.image).tobytes() + rows.slice_index.astype("<i4").tobytes()
        ).hexdigest()
        for rows in patients
    ]
    # Named by content: a file that an index points to is never overwritten by another.
    file = f"{shard}-{digest([*(rows.patient_id for rows in patients), *hashes])[:8]}.arrow"
    write_batches(
        work.at(f"slices/{dataset}"), file, (_columns(rows) for rows in patients), schema(size)
    )
    return [
        {
            "patient_id": rows.patient_id,
            "file": file,
            "batch": batch,
            "rows": len(rows.image),
            "label": int(rows.label),
            "sha256": hashes[batch],
        }
        for batch, rows in enumerate(patients)
    ]


def _columns(rows: PatientRows) -> dict[str, pa.Array]:
    n = len(rows.image)
    return {
        "patient_id": pa.array([rows.patient_id] * n, pa.string()),
        "slice_index": pa.array(rows.slice_index, pa.int32()),
        "position_mm": pa.array(rows.position_mm, pa.float32()),
        "label": pa.array(np.full(n, rows.label), pa.int8()),
        "lesion_area_mm2": pa.array(rows.lesion_area_mm2, pa.float32()),
        "image": tensor_column(rows.image),
    }


def write_index(work: Place, dataset: Dataset, rows: list[dict[str, Any]]) -> None:
    """Writes index.parquet of a dataset from the rows that `write_shard` returned."""
    table = pd.DataFrame(rows).sort_values("patient_id", ignore_index=True)
    work.write_parquet(
        f"slices/{dataset}/index.parquet",
        table.astype({"batch": "int32", "rows": "int32", "label": "int8"}),
    )


class Slices:
    """Reads the slices of one dataset; a test patient's only with the seal opened.

    Args:
        work: the study's work directory.
        dataset: which dataset.
        sealed: the test patients.
        seal: proof that the seal was opened, from `renal_ray.store.seal.open_seal`.
    """

    def __init__(
        self, work: Place, dataset: Dataset, *, sealed: Collection[str], seal: Seal | None = None
    ) -> None:
        name = f"slices/{dataset}/index.parquet"
        if not work.exists(name):
            raise StudyError(f"{work.shown(name)} is missing: run `renal-ray prepare` first")
        folder = work.at(f"slices/{dataset}")
        self.where = read_index(folder)
        self._hashes = dict(
            work.read_parquet(name, ["patient_id", "sha256"]).itertuples(index=False, name=None)
        )
        self._sealed = frozenset(sealed) if seal is None else frozenset()
        self._files = BatchFiles(
            folder, self.where, remedy="run `renal-ray prepare`, then the same command again"
        )

    def images(self, patient_id: str) -> np.ndarray:
        """One patient's images in slice order, uint8 (n, size, size, 3), memory-mapped and
        read-only.

        Raises:
            SealError: the patient is sealed away for the test.
        """
        self._refuse(patient_id)
        return self._files.tensor(patient_id, "image")

    def slice_index(self, patient_id: str) -> np.ndarray:
        """One patient's slice numbers, head to foot, int32 (n,)."""
        self._refuse(patient_id)
        return self._files.column(patient_id, "slice_index")

    def lesion_area_mm2(self, patient_id: str) -> np.ndarray:
        """The lesion's area in each of one patient's slices, float32 (n,)."""
        self._refuse(patient_id)
        return self._files.column(patient_id, "lesion_area_mm2")

    def counts(self) -> dict[str, int]:
        """Number of images per patient."""
        return {patient: where.rows for patient, where in self.where.items()}

    def digest(self, patients: Iterable[str]) -> str:
        """Hash over the pixels of some patients, as recorded when they were written."""
        return digest(f"{patient}:{self._hashes[patient]}" for patient in sorted(patients))

    def _refuse(self, patient_id: str) -> None:
        if patient_id in self._sealed:
            raise SealError(
                f"patient {patient_id} belongs to the sealed test set: only "
                "`renal-ray test` reads test patients"
            )
