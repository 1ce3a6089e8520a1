"""Arrow IPC files whose record batches each hold one patient's rows."""

import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from renal_ray.problems import StudyError
from renal_ray.store.place import Place


class Where(NamedTuple):
    """Where a patient's rows lie: Arrow file, record batch in it, number of rows."""

    file: str
    batch: int
    rows: int


def tensor_type(dtype: np.dtype | type, shape: tuple[int, ...]) -> pa.DataType:
    """Arrow's canonical fixed-shape tensor, which any Arrow reader opens."""
    return pa.fixed_shape_tensor(pa.from_numpy_dtype(dtype), shape)


def tensor_column(values: np.ndarray) -> pa.Array:
    """An array of equal tensors, one a row, over the memory of a contiguous (rows, ...) array."""
    values = np.ascontiguousarray(values)
    flat = pa.array(values.reshape(-1), type=pa.from_numpy_dtype(values.dtype))
    width = int(np.prod(values.shape[1:]))
    kind = tensor_type(values.dtype, values.shape[1:])
    return pa.ExtensionArray.from_storage(kind, pa.FixedSizeListArray.from_arrays(flat, width))


def write_batches(place: Place, name: str, batches: Iterable[Mapping[str, pa.Array]], schema: pa.Schema) -> None:
    """Writes an uncompressed Arrow IPC file, one record batch for each mapping of columns, whole or not at all."""
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, schema) as writer:
        for columns in batches:
            writer.write_batch(pa.RecordBatch.from_arrays([columns[field] for field in schema.names], schema=schema))
    place.write(name, sink.getvalue())


def read_index(place: Place) -> dict[str, Where]:
    """The index of a folder of Arrow files: patient -> where the rows lie, in the order of patient ids."""
    index = place.read_parquet("index.parquet", ["patient_id", "file", "batch", "rows"])
    patients, *where = (index[name].tolist() for name in ("patient_id", "file", "batch", "rows"))
    return dict(zip(patients, map(Where, *where), strict=True))


class BatchFile:
    """A memory-mapped Arrow IPC file; what is taken from it shares its pages, without a copy.

    Args:
        path: a local Arrow IPC file.
    """

    def __init__(self, path: Path) -> None:
        with pa.memory_map(str(path)) as mapped:
            content = mapped.read_buffer()  # keeps the mapping without the file's handle: a cohort has more files than a process may hold open
        self._reader = pa.ipc.open_file(content)

    def batch(self, index: int) -> pa.RecordBatch:
        """One record batch."""
        return self._reader.get_batch(index)

    def tensor(self, index: int, column: str) -> np.ndarray:
        """A tensor column of one record batch as a read-only (rows, ...) array."""
        return self.batch(index).column(column).to_numpy_ndarray()

    def __len__(self) -> int:
        return self._reader.num_record_batches


class BatchFiles:
    """The Arrow files of one folder, each opened once when first asked for.

    Args:
        place: the folder.
        index: patient -> where the rows lie.
    """

    def __init__(self, place: Place, index: Mapping[str, Where]) -> None:
        self._place = place
        self._index = index
        self._open: dict[str, BatchFile] = {}

    def _find(self, patient_id: str) -> tuple[BatchFile, int]:
        where = self._index[patient_id]
        if where.file not in self._open:
            self._open[where.file] = BatchFile(self._place.local(where.file))
        file = self._open[where.file]
        owners = file.batch(where.batch).column("patient_id") if where.batch < len(file) else []
        if len(owners) != where.rows or any(owner.as_py() != patient_id for owner in (owners[:1], owners[-1:]) for owner in owner):
            raise StudyError(f"{self._place.uri}/{where.file} does not hold what its index says: run `renal-ray prepare`, then the same command again")
        return file, where.batch

    def tensor(self, patient_id: str, column: str) -> np.ndarray:
        """A tensor column of one patient's rows as a read-only (rows, ...) array."""
        file, batch = self._find(patient_id)
        return file.tensor(batch, column)

    def column(self, patient_id: str, column: str) -> np.ndarray:
        """A plain column of one patient's rows."""
        file, batch = self._find(patient_id)
        return file.batch(batch).column(column).to_numpy(zero_copy_only=False)
