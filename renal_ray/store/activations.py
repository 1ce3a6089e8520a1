"""What the frozen layers make of every training slice:
activations/<dataset>/<freeze>/<key>/*.arrow.

Computed once per dataset and freeze point, read by all folds. Test patients never get in.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from renal_ray.problems import DamagedFileError
from renal_ray.store.arrow import BatchFiles, read_index, tensor_column, tensor_type, write_batches
from renal_ray.store.place import Place, digest
from renal_ray.types import Dataset, FreezePoint


@dataclass(frozen=True)
class ActivationSet:
    """Names the activations of one dataset at one freeze point.

    Args:
        dataset: which dataset.
        freeze_point: last frozen layer.
        key: hash of slices, prefix weights, input size and dtype.
    """

    dataset: Dataset
    freeze_point: FreezePoint
    key: str

    @property
    def folder(self) -> str:
        return f"activations/{self.dataset}/{self.freeze_point}/{self.key}"

    def exists(self, work: Place) -> bool:
        """Whether all of it was written."""
        return work.exists(f"{self.folder}/index.parquet")


def activation_key(*, slices: str, weights: str, size: int, dtype: str) -> str:
    """Key of a set of activations: a hash of everything that they depend on, 16 hexadecimal
    digits."""
    return digest([slices, weights, str(size), dtype])[:16]


def has_part(work: Place, which: ActivationSet, part: str) -> bool:
    """Whether one Arrow file of a set was written; it appears whole or not at all."""
    return work.exists(f"{which.folder}/{part}.arrow")


def write_part(
    work: Place, which: ActivationSet, part: str, rows: Sequence[tuple[str, np.ndarray, np.ndarray]]
) -> None:
    """Writes one Arrow file of activations, a record batch a patient.

    Args:
        work: the study's work directory.
        which: the set it belongs to.
        part: name of the file without its ending.
        rows: patient id, slice numbers (n,), activations (n, ...) each.
    """
    first = rows[0][2]
    kind = pa.schema(
        {
            "patient_id": pa.string(),
            "slice_index": pa.int32(),
            "activation": tensor_type(first.dtype, first.shape[1:]),
        }
    )
    batches = (
        {
            "patient_id": pa.array([patient] * len(values), pa.string()),
            "slice_index": pa.array(index, pa.int32()),
            "activation": tensor_column(values),
        }
        for patient, index, values in rows
    )
    write_batches(work.at(which.folder), f"{part}.arrow", batches, kind)


def write_index(
    work: Place, which: ActivationSet, parts: Mapping[str, Sequence[tuple[str, int]]]
) -> None:
    """Declares a set complete: its index is written last.

    Args:
        work: the study's work directory.
        which: the set.
        parts: part -> patients in the order of its record batches, each with the number of rows.
    """
    rows = [
        {"patient_id": patient, "file": f"{part}.arrow", "batch": batch, "rows": count}
        for part, patients in parts.items()
        for batch, (patient, count) in enumerate(patients)
    ]
    work.write_parquet(
        f"{which.folder}/index.parquet",
        pd.DataFrame(rows).sort_values("patient_id", ignore_index=True),
    )


class Activations:
    """Rows of some patients, in their order, taken from memory-mapped files.

    Args:
        work: the study's work directory.
        which: the set.
        patients: whose rows, in this order.

    Raises:
        DamagedFileError: a file is missing or is not what was written; the damaged one is deleted,
            so that the next sweep computes it anew.
    """

    def __init__(self, work: Place, which: ActivationSet, patients: Sequence[str]) -> None:
        folder = work.at(which.folder)
        if not which.exists(work):
            raise DamagedFileError(
                f"{folder.shown()} is not complete: the next `renal-ray sweep` completes it"
            )
        files = BatchFiles(
            folder,
            read_index(folder),
            remedy="the next `renal-ray sweep` computes it anew",
            without=["index.parquet"],
        )
        self.patients = tuple(patients)
        self._values = [files.tensor(patient, "activation") for patient in patients]
        self.slice_index = np.concatenate(
            [files.column(patient, "slice_index") for patient in patients]
        ).astype(np.int32)
        self.counts = np.array([len(values) for values in self._values])
        self._patient_of_row = np.repeat(np.arange(len(patients)), self.counts)
        self._row_in_patient = np.concatenate([np.arange(count) for count in self.counts])

    def __len__(self) -> int:
        return len(self.slice_index)

    @property
    def nbytes(self) -> int:
        """Bytes of all rows."""
        return sum(values.nbytes for values in self._values)

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """Copies rows out as one (rows, ...) array, in the number format of the file."""
        chosen = np.arange(len(self))[rows]
        out = np.empty((len(chosen), *self._values[0].shape[1:]), self._values[0].dtype)
        for position, row in enumerate(chosen):
            out[position] = self._values[self._patient_of_row[row]][self._row_in_patient[row]]
        return out
