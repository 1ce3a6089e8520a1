"""Sensitivity to the mask: finished fold models score their own validation patients again, with the
lesion drawn otherwise. Nothing is trained."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from renal_ray.config import Images, Study
from renal_ray.imaging.geometry.grid import PatientSlices
from renal_ray.imaging.masks.perturb import ORIGINAL, Perturbation, perturbations, perturbed
from renal_ray.imaging.regions import dataset_images
from renal_ray.problems import StudyError
from renal_ray.protocol.splits import SplitSet
from renal_ray.store.place import Place, digest
from renal_ray.store.slices import Slices
from renal_ray.trial.feed import patient_inputs
from renal_ray.trial.plan import Plan, Results
from renal_ray.trial.spec import TrialSpec
from renal_ray.trial.workshop import Workshop, with_weights
from renal_ray.types import Dataset, PatientId

MASKED = (Dataset.ROI, Dataset.RBR)  # the whole slice is the same whatever the mask
FOLDER = "robustness/masks"
COLUMNS = (
    "dataset",
    "freeze_point",
    "head",
    "fold",
    "perturbation",
    "kind",
    "mm",
    "direction",
    "patient_id",
    "slice_index",
    "label",
    "score",
)


@dataclass(frozen=True)
class MaskPart:
    """What one process measures: the models of one dataset and fold at the selected freeze point.

    Args:
        specs: the image trial, then the patient-level heads on it.
        file: name of its table in the work directory.
    """

    specs: tuple[TrialSpec, ...]
    file: str


def mask_parts(plan: Plan, results: Results) -> list[MaskPart]:
    """Every part whose models are finished; empty where the study does not ask for it.

    A table is named by the models, their weights and the perturbations: of other ones it is another
    file.
    """
    study, parts = plan.study, []
    for dataset in (one for one in MASKED if one in study.datasets and study.robustness.mask_mm):
        selected = plan.selected(dataset, results)
        if selected is None:
            continue
        heads = plan.head_specs(dataset, selected)
        for image in plan.image_specs(dataset, selected):
            specs = (image, *(head for head in heads if head.image_trial == image.trial_id))
            if all(spec.trial_id in results for spec in specs):
                weights = [
                    f"{spec.trial_id}:{results[spec.trial_id]['files']['weights.h5']}"
                    for spec in specs
                ]
                key = digest(
                    [*weights, *(how.name for how in perturbations(study.robustness.mask_mm))]
                )[:8]
                parts.append(
                    MaskPart(specs, f"{FOLDER}/{dataset}-{selected}-fold{image.fold}-{key}.parquet")
                )
    return parts


def masks_wanted(study: Study) -> int:
    """Number of parts of a finished study."""
    return (
        len(study.fold_numbers) * sum(dataset in study.datasets for dataset in MASKED)
        if study.robustness.mask_mm
        else 0
    )


def score_masks(
    specs: Sequence[TrialSpec],
    read: Callable[[PatientId], PatientSlices],
    work: Place,
    splits: SplitSet,
    workshop: Workshop,
    *,
    study: Study,
) -> pd.DataFrame:
    """Lets the models of one fold score the fold's validation patients under every perturbation of
    the mask.

    Args:
        specs: a finished image trial, then the patient-level heads on it.
        read: reads a patient's kept slices from the source files; asked for validation patients
            only.
        work: the study's work directory.
        splits: who validates.
        workshop: compiled models.
        study: its perturbations, and what its images are.

    Returns:
        Rows with COLUMNS: a slice each for the image head, a patient each for the others. A slice,
        or a patient, of whose lesion an erosion or a shift leaves nothing has no row there.

    Raises:
        StudyError: a patient's files do not give the slices that were prepared.
        DamagedFileError: the weights of a trial are not those that it wrote.
    """
    image, heads = specs[0], specs[1:]
    stored = Slices(work, image.dataset, sealed=splits.test)
    hows = perturbations(study.robustness.mask_mm)
    embedder = _Embedder(image, work, workshop)
    tables = []
    embedded: dict[Perturbation, dict[PatientId, np.ndarray]] = {how: {} for how in hows}
    for patient in splits.fold(image.fold).validation:
        for how, found, pixels in _perturbed_images(
            read(patient), hows, image.dataset, study.images
        ):
            if how == ORIGINAL and not np.array_equal(pixels, stored.images(patient)):
                raise StudyError(
                    f"robustness.mask_mm: patient {patient}: the image or mask file no "
                    "longer gives the slices that were prepared; "
                    "restore it, or run `renal-ray prepare` again"
                )
            embedded[how][patient], scores = embedder(pixels)
            tables.append(
                _rows(image, how, [patient] * len(scores), found.slice_index, splits, scores)
            )
    for head in heads:
        model = with_weights(head, work, workshop)
        for how, sequences in embedded.items():
            if sequences:
                inputs = patient_inputs(head.head, list(sequences.values()), steps=1)
                scores = model.embedding_and_scores(inputs, head.training.batch_size)[1]
                tables.append(_rows(head, how, list(sequences), None, splits, scores))
    return pd.concat(tables, ignore_index=True)


class _Embedder:
    """The frozen layers and one fold's image model behind them.

    Args:
        spec: the image trial.
        work: the study's work directory.
        workshop: compiled models.
    """

    def __init__(self, spec: TrialSpec, work: Place, workshop: Workshop) -> None:
        self._spec = spec
        self._prefix = workshop.prefix(spec)
        self._model = with_weights(spec, work, workshop)

    def __call__(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Embeddings (n, width) and scores (n,) of images, through the cache's number format as in
        training."""
        activations = (
            self._prefix(pixels)[self._spec.freeze_point]
            .astype(self._spec.activation_dtype)
            .astype(np.float32)
        )
        embeddings, scores = self._model.embedding_and_scores(
            activations, self._spec.training.batch_size
        )
        return embeddings, scores


def _perturbed_images(
    slices: PatientSlices, hows: Sequence[Perturbation], dataset: Dataset, images: Images
) -> Iterator[tuple[Perturbation, PatientSlices, np.ndarray]]:
    for how in hows:
        found = perturbed(slices, how)
        if found is not None:
            yield how, found, dataset_images(found, images=images, datasets=[dataset])[dataset]


def _rows(
    spec: TrialSpec,
    how: Perturbation,
    patients: Sequence[PatientId],
    slice_index: np.ndarray | None,
    splits: SplitSet,
    scores: np.ndarray,
) -> pd.DataFrame:
    named = {
        "dataset": str(spec.dataset),
        "freeze_point": str(spec.freeze_point),
        "head": str(spec.head),
        "fold": np.int32(spec.fold),
    }
    asked = {
        "perturbation": how.name,
        "kind": how.kind,
        "mm": float(how.mm),
        "direction": how.direction,
    }
    columns = {
        "patient_id": list(patients),
        "slice_index": pd.array(
            [pd.NA] * len(scores) if slice_index is None else slice_index, dtype="Int32"
        ),
        "label": np.array([splits.labels[patient] for patient in patients], np.int8),
        "score": scores.astype(np.float32),
    }
    return pd.DataFrame(columns).assign(**named, **asked)[list(COLUMNS)]
