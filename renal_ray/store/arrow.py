"""Arrow IPC files whose record batches each hold one patient's rows."""

import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from isal import isal_zlib

from renal_ray.problems import DamagedFileError, reason
from renal_ray.store.place import Place

CHECKSUM = "crc32"  # key of each record batch's metadata


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


def write_batches(
    place: Place, name: str, batches: Iterable[Mapping[str, pa.Array]], schema: pa.Schema
) -> None:
    """Writes an uncompressed Arrow IPC file, one record batch for each mapping of columns, each
    with its checksum; whole or not at all."""
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, schema) as writer:
        for columns in batches:
            batch = pa.RecordBatch.from_arrays(
                [columns[field] for field in schema.names], schema=schema
            )
            writer.write_batch(batch, custom_metadata={CHECKSUM: _checksum(batch)})
    place.write(name, sink.getvalue())


def _checksum(batch: pa.RecordBatch) -> str:
    """CRC-32 over the values of all columns, as 8 hexadecimal digits."""
    value = 0
    for column in batch.columns:
        if isinstance(column, pa.FixedShapeTensorArray):
            value = isal_zlib.crc32(np.ascontiguousarray(column.to_numpy_ndarray()), value)
        else:
            value = isal_zlib.crc32("\n".join(map(str, column.to_pylist())).encode(), value)
    return f"{value:08x}"


def read_index(place: Place) -> dict[str, Where]:
    """The index of a folder of Arrow files: patient -> where the rows lie, in the order of patient
    ids."""
    index = place.read_parquet("index.parquet", ["patient_id", "file", "batch", "rows"])
    patients, *where = (index[name].tolist() for name in ("patient_id", "file", "batch", "rows"))
    return dict(zip(patients, map(Where, *where), strict=True))


class BatchFile:
    """A memory-mapped Arrow IPC file; what is taken from it shares its pages, without a copy.

    Args:
        path: a local Arrow IPC file.

    Raises:
        DamagedFileError: it is no Arrow IPC file any more.
    """

    def __init__(self, path: Path) -> None:
        try:
            with pa.memory_map(str(path)) as mapped:
                # Keeps the mapping, not the file's handle: a large cohort has more files than a
                # process may hold open.
                content = mapped.read_buffer()
            self._reader = pa.ipc.open_file(content)
        except (pa.ArrowInvalid, OSError) as error:
            if isinstance(error, FileNotFoundError):
                raise
            raise DamagedFileError(f"{path.name}: {reason(error)}") from None
        self._sound: set[int] = set()

    def batch(self, index: int) -> pa.RecordBatch:
        """One record batch, held against its checksum when it is first asked for.

        Raises:
            DamagedFileError: the values are not those that were written.
        """
        try:
            batch, metadata = self._reader.get_batch_with_custom_metadata(index)
            if index not in self._sound and (
                metadata is None or metadata[CHECKSUM].decode() != _checksum(batch)
            ):
                raise DamagedFileError(
                    f"record batch {index} has another checksum than it was written with"
                )
        except (pa.ArrowInvalid, OSError, KeyError, UnicodeDecodeError) as error:
            raise DamagedFileError(f"record batch {index}: {reason(error)}") from None
        self._sound.add(index)
        return batch

    def tensor(self, index: int, column: str) -> np.ndarray:
        """A tensor column of one record batch as a read-only (rows, ...) array."""
        values: np.ndarray = self.batch(index).column(column).to_numpy_ndarray()
        return values

    def __len__(self) -> int:
        return int(self._reader.num_record_batches)


class BatchFiles:
    """The Arrow files of one folder, each opened once when first asked for.

    Args:
        place: the folder.
        index: patient -> where the rows lie.
        remedy: what makes a file anew.
        without: files that are deleted with a damaged one, so that it is missed: those that say
            that the folder is complete.
    """

    def __init__(
        self, place: Place, index: Mapping[str, Where], *, remedy: str, without: Iterable[str] = ()
    ) -> None:
        self._place = place
        self._index = index
        self._remedy = remedy
        self._without = tuple(without)
        self._open: dict[str, BatchFile] = {}

    def _batch(self, patient_id: str) -> tuple[BatchFile, int]:
        where = self._index[patient_id]
        try:
            try:
                return self._checked(patient_id, where), where.batch
            except DamagedFileError:
                if self._place.is_local:
                    raise
                self._open.pop(where.file, None)
                self._place.local(
                    where.file
                ).unlink()  # this node's copy may be all that is damaged
                return self._checked(patient_id, where), where.batch
        except (DamagedFileError, FileNotFoundError) as error:
            for name in (*self._without, where.file):
                self._place.remove(name)
            what = (
                "is missing"
                if isinstance(error, FileNotFoundError)
                else f"is damaged ({error}) and was deleted"
            )
            raise DamagedFileError(
                f"{self._place.shown(where.file)} {what}: {self._remedy}"
            ) from None

    def _checked(self, patient_id: str, where: Where) -> BatchFile:
        if where.file not in self._open:
            self._open[where.file] = BatchFile(self._place.local(where.file))
        file = self._open[where.file]
        owners = file.batch(where.batch).column("patient_id") if where.batch < len(file) else []
        if len(owners) != where.rows or any(
            owner.as_py() != patient_id for owner in (owners[:1], owners[-1:]) for owner in owner
        ):
            raise DamagedFileError("it does not hold what its index says")
        return file

    def tensor(self, patient_id: str, column: str) -> np.ndarray:
        """A tensor column of one patient's rows as a read-only (rows, ...) array.

        Raises:
            DamagedFileError: the file is not what was written; it is deleted, so that the same
                command makes it anew.
        """
        file, batch = self._batch(patient_id)
        return file.tensor(batch, column)

    def column(self, patient_id: str, column: str) -> np.ndarray:
        """A plain column of one patient's rows, as `tensor`."""
        file, batch = self._batch(patient_id)
        values: np.ndarray = file.batch(batch).column(column).to_numpy(zero_copy_only=False)
        return values
