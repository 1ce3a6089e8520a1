"""What a trial is fed: the two sides of a fold, checked once more where the numbers go in."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa

from renal_ray.protocol.permutation import permuted_labels
from renal_ray.protocol.splits import SplitSet
from renal_ray.store.arrow import tensor_column, tensor_type, write_batches
from renal_ray.store.ledger import Ledger
from renal_ray.store.place import Place
from renal_ray.trial.augment import CopiedRows
from renal_ray.trial.sides import LeakError as LeakError
from renal_ray.trial.sides import Scanners, sides_of
from renal_ray.trial.spec import TRUE_LABELS, TrialSpec
from renal_ray.types import Head, PatientId, Rows


@dataclass(frozen=True)
class Picked:
    """Some rows of a source that both sides of a fold share.

    Args:
        source: all samples.
        rows: which of them, int (n,).
    """

    source: Rows
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """Copies rows out as one (rows, ...) array."""
        return self.source[self.rows[rows]]

    @classmethod
    def whole(cls, source: Rows) -> "Picked":
        """All rows of a source."""
        return cls(source, np.arange(len(source)))


@dataclass(frozen=True)
class Samples:
    """One side of a fold as a head sees it: a sample is a slice for the image head, a patient for
    fc and gru.

    Args:
        inputs: samples, (n, ...).
        labels: int8 (n,).
        patients: patient id of each sample.
        slice_index: slice number of each sample, int32 (n,); None where a sample is a patient.
    """

    inputs: Picked
    labels: np.ndarray
    patients: tuple[str, ...]
    slice_index: np.ndarray | None

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Feed:
    """Both sides of a fold.

    Args:
        train: what is fitted on.
        validation: what fixes threshold and freeze point.
        sealed: the test patients.
        outer: patients of the outer fold, where the trial is one of a nested cross-validation.

    Raises:
        LeakError: a patient is on both sides, sealed or of the outer fold.
    """

    train: Samples
    validation: Samples
    sealed: frozenset[str]
    outer: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        train, validation = set(self.train.patients), set(self.validation.patients)
        if both := train & validation:
            raise LeakError(f"patient {min(both)} would be trained and validated on")
        if sealed := (train | validation) & self.sealed:
            raise LeakError(f"test patient {min(sealed)} would enter a trial")
        if outer := (train | validation) & self.outer:
            raise LeakError(
                f"patient {min(outer)} of the outer fold would enter the "
                "search that is judged on that fold"
            )

    @property
    def source(self) -> Rows:
        """The samples that both sides are picked from; the same for every fold of a dataset."""
        return self.train.inputs.source

    @property
    def images(self) -> int:
        """Rows of the source that are samples as they are; varied copies of all of them, if any,
        come after."""
        return (
            int(self.source.counts.sum())
            if isinstance(self.source, CopiedRows)
            else len(self.source)
        )

    @property
    def labels(self) -> np.ndarray:
        """int32 label of every row of the source."""
        labels = np.zeros(self.images, np.int32)
        for side in (self.train, self.validation):
            labels[side.inputs.rows] = side.labels
        return np.tile(labels, len(self.source) // self.images)


def fold_labels(spec: TrialSpec, splits: SplitSet) -> Mapping[PatientId, int]:
    """Label of every training patient: the true one, or the permuted one of a negative control."""
    if spec.labels == TRUE_LABELS:
        return {patient: splits.labels[patient] for patient in splits.training}
    return permuted_labels(splits, seed=splits.seed, index=int(spec.labels.rsplit("-", 1)[1]))


class ImageRows(Rows, Protocol):
    """Activations of whole patients, a row a slice: read from the cache, or computed."""

    @property
    def patients(self) -> tuple[str, ...]:
        """The patients, in the order of their rows."""

    @property
    def counts(self) -> np.ndarray:
        """Number of each patient's rows."""

    @property
    def slice_index(self) -> np.ndarray:
        """Slice number of each row, int32 (n,)."""


def image_feed(
    spec: TrialSpec, rows: ImageRows, splits: SplitSet, scanners: Scanners | None = None
) -> Feed:
    """The activations of both sides of the fold, a sample a slice.

    Args:
        spec: an image trial.
        rows: activations of all training patients of its dataset.
        splits: who trains and who validates.
        scanners: scanner of each training patient who has one named; for a trial that leaves one
            out.

    Raises:
        LeakError: a patient is on both sides or sealed, or others are there than those whom the
            trial was planned with.
    """
    labels = fold_labels(spec, splits)
    fold = sides_of(spec, splits, scanners)
    starts = np.cumsum(rows.counts) - rows.counts
    where = {
        patient: np.arange(start, start + count)
        for patient, start, count in zip(rows.patients, starts, rows.counts, strict=True)
    }

    def side(patients: Sequence[PatientId]) -> Samples:
        owners = tuple(
            np.repeat(
                np.array(patients, dtype=object), [len(where[patient]) for patient in patients]
            )
        )
        picked = np.concatenate([where[patient] for patient in patients])
        return Samples(
            Picked(rows, picked),
            np.array([labels[patient] for patient in owners], np.int8),
            owners,
            rows.slice_index[picked],
        )

    return Feed(side(fold.train), side(fold.validation), splits.test, splits.of_fold(spec.outer))


def patient_feed(spec: TrialSpec, work: Place, splits: SplitSet) -> Feed:
    """The embeddings that the fold's own image model gave, a sample a patient: their maximum for
    fc, their sequence for gru.

    Raises:
        LeakError: the embeddings are those of another dataset, freeze point, fold, split or labels.
    """
    if spec.image_trial is None:
        raise LeakError(
            f"{spec.trial_id}: a patient-level head needs the image trial of its own fold"
        )
    ledger = Ledger(work)
    image = TrialSpec.from_json(ledger.folder(spec.image_trial).read_json("spec.json"))
    shared = (
        "dataset",
        "freeze_point",
        "fold",
        "outer",
        "labels",
        "sides",
        "inputs",
    )  # inputs: the same fold number of another split holds other patients
    if image.head is not Head.IMAGE or any(
        getattr(image, name) != getattr(spec, name) for name in shared
    ):
        raise LeakError(
            f"{spec.trial_id}: the embeddings of {spec.image_trial} are of "
            "another dataset, freeze point, fold, split or labels"
        )
    embeddings = read_embeddings(ledger.read_checked(spec.image_trial, "embeddings.arrow"))
    labels = fold_labels(spec, splits)
    fold = sides_of(spec, splits)
    everyone = sorted((*fold.train, *fold.validation))
    steps = max(len(embeddings[patient]) for patient in everyone)
    source = patient_inputs(spec.head, [embeddings[patient] for patient in everyone], steps)

    def side(patients: Sequence[PatientId]) -> Samples:
        inputs = Picked(source, np.searchsorted(everyone, patients))
        return Samples(
            inputs,
            np.array([labels[patient] for patient in patients], np.int8),
            tuple(patients),
            None,
        )

    return Feed(side(fold.train), side(fold.validation), splits.test, splits.of_fold(spec.outer))


def patient_inputs(head: Head, embeddings: Sequence[np.ndarray], steps: int) -> np.ndarray:
    """What a patient-level head reads of each patient's embeddings.

    Args:
        head: fc or gru.
        embeddings: per patient float32 (slices, width), in slice order.
        steps: length of the padded sequences; grown to the longest patient's.

    Returns:
        float32 (patients, width) for fc, (patients, steps, width) for gru.
    """
    from renal_ray.model.heads import padded, strongest

    if head is Head.FC:
        return strongest(embeddings)
    return padded(embeddings, max(steps, *(len(one) for one in embeddings)))


def write_embeddings(
    folder: Place, patients: Sequence[str], slice_index: np.ndarray | None, embeddings: np.ndarray
) -> None:
    """Writes embeddings.arrow: patient_id, slice_index (null for patient-level heads), embedding; a
    record batch a patient, in slice order.

    Args:
        folder: the trial's directory.
        patients: patient id of each row; a patient's rows stand together.
        slice_index: int32 (n,) or None.
        embeddings: float32 (n, width).
    """
    schema = pa.schema(
        {
            "patient_id": pa.string(),
            "slice_index": pa.int32(),
            "embedding": tensor_type(np.float32, embeddings.shape[1:]),
        }
    )
    owners = np.array(patients, dtype=object)
    starts = np.flatnonzero(np.r_[True, owners[1:] != owners[:-1]])
    ends = np.r_[starts[1:], len(owners)]
    batches = (
        {
            "patient_id": pa.array(owners[start:end].tolist(), pa.string()),
            "slice_index": pa.nulls(end - start, pa.int32())
            if slice_index is None
            else pa.array(slice_index[start:end], pa.int32()),
            "embedding": tensor_column(embeddings[start:end]),
        }
        for start, end in zip(starts, ends, strict=True)
    )
    write_batches(folder, "embeddings.arrow", batches, schema)


def read_embeddings(data: bytes) -> dict[str, np.ndarray]:
    """Embeddings by patient, float32 (slices, width) in slice order, from the bytes of an
    embeddings.arrow."""
    reader = pa.ipc.open_file(io.BytesIO(data))
    batches = (reader.get_batch(number) for number in range(reader.num_record_batches))
    return {
        batch.column("patient_id")[0].as_py(): batch.column("embedding").to_numpy_ndarray()
        for batch in batches
    }
