"""The exported models against Keras, on slices of the study, before anybody is told that they are
the same."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from renal_ray.problems import StudyError
from renal_ray.store.slices import Slices
from renal_ray.types import Head, Label

if TYPE_CHECKING:
    from renal_ray.model.onnx.convert import Model

TOLERANCE = 1e-4  # of P(malignant)
PATIENTS, SLICES = 4, 16  # looked at, and of each of them at most


@dataclass(frozen=True)
class Checked:
    """How far the exported models are from Keras.

    Args:
        difference: the largest, of P(malignant) of any slice, sequence or patient by any model.
        patients: training patients whose slices were looked at.
        slices: of these patients.
    """

    difference: float
    patients: int
    slices: int


@dataclass(frozen=True)
class Pair:
    """An exported model and what it was made from.

    Args:
        name: of the ONNX file.
        onnx: its content.
        model: architecture and weights for Keras.
    """

    name: str
    onnx: bytes
    model: "Model"


def some_slices(slices: Slices, training: Sequence[str]) -> list[np.ndarray]:
    """Slices of some training patients, from the one with the fewest to the one with the most,
    uint8 (n, size, size, 3) each."""
    counts = slices.counts()
    ranked = sorted(training, key=lambda patient: (counts[patient], patient))
    rows = np.unique(np.linspace(0, len(ranked) - 1, PATIENTS).round().astype(int))
    return [np.array(slices.images(ranked[row])[:SLICES]) for row in rows]


class Comparison:
    """Holds the exported models of one fold after the other against Keras's.

    Args:
        images: each patient's slices.
    """

    def __init__(self, images: Sequence[np.ndarray]) -> None:
        self._pixels = np.concatenate(images)
        self._ends = np.cumsum([len(one) for one in images])[:-1]
        self._models: dict[Head, Any] = {}
        self.checked = Checked(0.0, len(images), len(self._pixels))

    def hold(self, pairs: Mapping[Head, Pair]) -> None:
        """Compares the models of one fold, each head on the embeddings of its own side's image
        model.

        Args:
            pairs: by head, the image head among them.

        Raises:
            StudyError: scores differ by more than TOLERANCE, or are no numbers.
        """
        self._set(pairs)
        ours, theirs = dict(self._keras(pairs)), dict(self._onnx(pairs))
        for head, pair in pairs.items():
            difference = float(np.abs(ours[head].astype(np.float64) - theirs[head]).max())
            if not difference <= TOLERANCE:
                raise StudyError(
                    f"export: {pair.name} gives scores that differ by {difference:.2g} "
                    f"from Keras's on {self.checked.slices} slices of "
                    f"{self.checked.patients} training patients; at most {TOLERANCE:g} is let "
                    "pass. Nothing was written. Install the versions of tf2onnx, onnx "
                    "and onnxruntime in requirements.lock and export again"
                )
            self.checked = Checked(
                max(self.checked.difference, difference), self.checked.patients, self.checked.slices
            )

    def _set(self, pairs: Mapping[Head, Pair]) -> None:
        """Gives the Keras models, built once for all folds, this fold's weights."""
        from renal_ray.model.initial import set_weights_by_name
        from renal_ray.model.onnx.models import embedded, whole_model
        from renal_ray.model.weight_files import load_weights_h5

        for head, pair in pairs.items():
            if head not in self._models:
                whole = whole_model(pair.model.architecture)
                self._models[head] = embedded(whole) if head is Head.IMAGE else whole
            set_weights_by_name(self._models[head], load_weights_h5(pair.model.weights))

    def _keras(self, pairs: Mapping[Head, Pair]) -> Iterator[tuple[Head, np.ndarray]]:
        from renal_ray.model.backbone import scaled
        from renal_ray.trial.feed import patient_inputs

        embedding, scores = self._models[Head.IMAGE].predict(
            scaled(self._pixels), batch_size=SLICES, verbose=0
        )
        yield Head.IMAGE, scores[:, Label.MALIGNANT]
        sequences = self._sequences(embedding)
        for head in (head for head in pairs if head is not Head.IMAGE):
            yield (
                head,
                self._models[head].predict_on_batch(patient_inputs(head, sequences, steps=SLICES))[
                    :, Label.MALIGNANT
                ],
            )

    def _onnx(self, pairs: Mapping[Head, Pair]) -> Iterator[tuple[Head, np.ndarray]]:
        batches = range(0, len(self._pixels), SLICES)
        found = [
            _run(pairs[Head.IMAGE].onnx, images=self._pixels[start : start + SLICES])
            for start in batches
        ]
        yield (
            Head.IMAGE,
            np.concatenate([one["probabilities"] for one in found])[:, Label.MALIGNANT],
        )
        sequences = self._sequences(np.concatenate([one["embedding"] for one in found]))
        if Head.FC in pairs:
            highest = np.stack([one.max(axis=0) for one in sequences])
            yield (
                Head.FC,
                _run(pairs[Head.FC].onnx, strongest=highest)["probabilities"][:, Label.MALIGNANT],
            )
        if Head.GRU in pairs:
            lengths = np.array([len(one) for one in sequences], np.int32)
            # What lies behind a sequence's end must change nothing: zeros would be seen by a model
            # that heeds no lengths.
            steps = np.zeros((len(sequences), lengths.max(), sequences[0].shape[1]), np.float32)
            for row, one in zip(steps, sequences, strict=True):
                row[: len(one)] = one
            yield (
                Head.GRU,
                _run(pairs[Head.GRU].onnx, sequence=steps, lengths=lengths)["probabilities"][
                    :, Label.MALIGNANT
                ],
            )

    def _sequences(self, embedding: np.ndarray) -> list[np.ndarray]:
        """Every patient's embeddings, and the first half of them, so that a batch has several
        lengths."""
        whole = np.split(embedding, self._ends)
        return [*whole, *(one[: -(-len(one) // 2)] for one in whole)]


def _run(model: bytes, **inputs: np.ndarray) -> dict[str, np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))
