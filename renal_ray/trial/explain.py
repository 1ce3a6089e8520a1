"""Where an image trial's model looks: Grad-CAM through the frozen layers, the trained ones and the
head."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from renal_ray.protocol.attention import attention_map
from renal_ray.store.place import Place, digest
from renal_ray.store.slices import Slices
from renal_ray.trial.lesions import largest_slice
from renal_ray.trial.spec import TrialSpec
from renal_ray.trial.subjects import Subject
from renal_ray.trial.workshop import Workshop, with_weights
from renal_ray.types import FreezePoint

AT_ONCE = 64  # images whose activations are in memory together


def attention_maps(
    spec: TrialSpec, images: np.ndarray, work: Place, workshop: Workshop
) -> np.ndarray:
    """Grad-CAM of one fold's image model for P(malignant), see `renal_ray.model.gradcam.GradCam`.

    Args:
        spec: a finished image trial.
        images: uint8 RGB (n, size, size, 3) as the trial's dataset shows them.
        work: the study's work directory.
        workshop: compiled models.

    Returns:
        float32 (n, size, size) in 0..1, each scaled to its maximum; all zero where no place speaks
        for malignant.

    Raises:
        DamagedFileError: the weights are not those that the trial wrote.
    """
    return np.stack(
        [attention_map(one, spec.size) for one in evidence(spec, images, work, workshop)[0]]
    )


def evidence(
    spec: TrialSpec, images: np.ndarray, work: Place, workshop: Workshop, *, redrawn: bool = False
) -> tuple[np.ndarray, ...]:
    """Evidence for malignant at each place of the last convolutional layer, as `attention_maps`
    scales it.

    Args:
        spec: a finished image trial.
        images: uint8 RGB (n, size, size, 3).
        work: the study's work directory.
        workshop: compiled models.
        redrawn: also that of the same model with a head of random weights: a map that stays as it
            was does not come from what the head learned (J. Adebayo et al., Sanity checks for
            saliency maps, NeurIPS 2018; their cascading randomisation, of the head only).

    Returns:
        float32 (n, rows, columns), negative where a place speaks for benign; and the same with the
        head drawn anew, if asked for.
    """
    from renal_ray.model.heads import HEAD_LAYERS
    from renal_ray.model.initial import redraw

    prefix = workshop.prefix(spec, pooled=spec.freeze_point is not FreezePoint.MIXED10)
    # Through the cache's number format, so that the model sees what it was trained on.
    activations = prefix(images)[spec.freeze_point].astype(spec.activation_dtype).astype(np.float32)
    model, gradcam, batch_size = (
        with_weights(spec, work, workshop),
        workshop.gradcam(spec),
        spec.training.batch_size,
    )
    own = gradcam(activations, batch_size)
    if not redrawn:
        return (own,)
    redraw(model.model, seed=int(digest([str(spec.seed), "redrawn"])[:8], 16), layers=HEAD_LAYERS)
    return own, gradcam(activations, batch_size)


@dataclass(frozen=True)
class Look:
    """What the models asked see in one patient's slice with the largest lesion.

    Args:
        row: the slice's row among the patient's.
        slice_index: its number in the series, from the head.
        evidence: for malignant, float32 (models, rows, columns), see `evidence`.
        redrawn: the same with the heads drawn anew.
    """

    row: int
    slice_index: int
    evidence: np.ndarray
    redrawn: np.ndarray


def look(
    asked: Sequence[Subject], specs: Sequence[TrialSpec], slices: Slices, work: Place
) -> list[Look]:
    """Lets the models of one dataset and freeze point look at the largest slice of each subject.

    Args:
        asked: subjects of the dataset.
        specs: finished image trials, one a fold.
        slices: of the dataset.
        work: the study's work directory.

    Returns:
        A look for each subject.

    Raises:
        SealError: a subject is sealed away for the test.
    """
    workshop = Workshop(work)
    rows = [largest_slice(slices, subject.patient_id) for subject in asked]
    seen: dict[int, list[tuple[np.ndarray, ...]]] = {number: [] for number in range(len(asked))}
    for spec in specs:
        mine = [number for number, subject in enumerate(asked) if spec.fold in subject.folds]
        for first in range(0, len(mine), AT_ONCE):
            some = mine[first : first + AT_ONCE]
            images = np.stack(
                [slices.images(asked[number].patient_id)[rows[number]] for number in some]
            )
            for number, *both in zip(
                some, *evidence(spec, images, work, workshop, redrawn=True), strict=True
            ):
                seen[number].append(tuple(both))
    return [
        Look(
            row,
            int(slices.slice_index(subject.patient_id)[row]),
            *(np.stack(values) for values in zip(*seen[number], strict=True)),
        )
        for number, (subject, row) in enumerate(zip(asked, rows, strict=True))
    ]
