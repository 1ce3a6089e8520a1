"""Where an image trial's model looks: Grad-CAM through the frozen layers, the trained ones and the head."""

import numpy as np

from renal_ray.store.ledger import Ledger
from renal_ray.store.place import Place, digest
from renal_ray.trial.spec import TrialSpec
from renal_ray.trial.workshop import Workshop
from renal_ray.types import FreezePoint


def attention_maps(spec: TrialSpec, images: np.ndarray, work: Place, workshop: Workshop) -> np.ndarray:
    """Grad-CAM of one fold's image model for P(malignant), see `renal_ray.model.gradcam.GradCam`.

    Args:
        spec: a finished image trial.
        images: uint8 RGB (n, size, size, 3) as the trial's dataset shows them.
        work: the study's work directory.
        workshop: compiled models.

    Returns:
        float32 (n, size, size) in 0..1, each scaled to its maximum; all zero where no place speaks for malignant.

    Raises:
        DamagedFileError: the weights are not those that the trial wrote.
    """
    from renal_ray.model.gradcam import attention

    return attention(evidence(spec, images, work, workshop)[0], spec.size)


def evidence(spec: TrialSpec, images: np.ndarray, work: Place, workshop: Workshop, *, redrawn: bool = False) -> tuple[np.ndarray, ...]:
    """Evidence for malignant at each place of the last convolutional layer, as `attention_maps` scales it.

    Args:
        spec: a finished image trial.
        images: uint8 RGB (n, size, size, 3).
        work: the study's work directory.
        workshop: compiled models.
        redrawn: also that of the same model with a head of random weights: a map that stays as it was does not come from what the head
            learned (J. Adebayo et al., Sanity checks for saliency maps, NeurIPS 2018; their cascading randomisation, of the head only).

    Returns:
        float32 (n, rows, columns), negative where a place speaks for benign; and the same with the head drawn anew, if asked for.
    """
    from renal_ray.model.heads import HEAD_LAYERS
    from renal_ray.model.initial import redraw
    from renal_ray.model.weight_files import load_weights_h5

    prefix = workshop.prefix(spec, pooled=spec.freeze_point is not FreezePoint.MIXED10)
    # Through the cache's number format, so that the model sees what it was trained on.
    activations = prefix(images)[spec.freeze_point].astype(spec.activation_dtype).astype(np.float32)
    model, gradcam, batch_size = workshop.model(spec), workshop.gradcam(spec), spec.training.batch_size
    model.set_weights_by_name(load_weights_h5(Ledger(work).read_checked(spec.trial_id, "weights.h5")))
    found = (gradcam(activations, batch_size),)
    if redrawn:
        redraw(model.model, seed=int(digest([str(spec.seed), "redrawn"])[:8], 16), layers=HEAD_LAYERS)
        found += (gradcam(activations, batch_size),)
    return found
