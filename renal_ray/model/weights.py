"""Where a backbone's weights come from: ImageNet, a file, or a seed."""

import socket
from collections.abc import Iterable
from pathlib import Path

import keras
import numpy as np

from renal_ray.model.backbone import scaled
from renal_ray.model.initial import redraw, set_weights_by_name
from renal_ray.model.statistics import reestimate_batch_norm
from renal_ray.model.weight_files import read_inception
from renal_ray.problems import StudyError, reason

IMAGENET = "imagenet"
RANDOM = "random"
PATIENCE_S = 20.0  # a network that swallows packets would hold Keras's download for minutes


def load_weights(
    backbone: keras.Model,
    weights: str,
    *,
    seed: int = 0,
    calibration: Iterable[np.ndarray] | None = None,
) -> None:
    """Sets a backbone's weights.

    Args:
        backbone: as `build_backbone` gives it.
        weights: "imagenet" (Keras's own file, downloaded once to Keras's cache), "random", or the
            path of a file, see `read_inception`.
        seed: of random weights; not used otherwise.
        calibration: uint8 RGB images (n, size, size, 3) a batch, of the training patients; needed
            by, and only read for, random weights.

    Raises:
        StudyError: the weights cannot be had or are not InceptionV3's.
        ValueError: random weights without calibration images.
    """
    if weights == IMAGENET:
        _imagenet(backbone)
    elif weights == RANDOM:
        if calibration is None:
            raise ValueError("random weights need images to set the batch-normalisation statistics")
        redraw(backbone, seed=seed)
        calibrate(backbone, calibration)
    else:
        set_weights_by_name(backbone, read_inception(Path(weights).expanduser(), backbone))


def _imagenet(backbone: keras.Model) -> None:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE_S)
    try:
        pretrained = keras.applications.InceptionV3(
            include_top=False, weights=IMAGENET, input_shape=backbone.input_shape[1:]
        )
    except Exception as error:  # noqa: BLE001 - Keras raises a bare Exception when the download fails
        raise StudyError(
            "weights: imagenet: Keras's InceptionV3 file cannot be had here "
            f"({reason(error)}); on a connected machine run "
            "python -c \"import keras; keras.applications.InceptionV3(weights='imagenet', "
            'include_top=False)", copy the .h5 file that it leaves in '
            "~/.keras/models, and give its path as weights:"
        ) from None
    finally:
        socket.setdefaulttimeout(before)
    backbone.set_weights(pretrained.get_weights())


def calibrate(backbone: keras.Model, images: Iterable[np.ndarray]) -> int:
    """Sets all batch-normalisation statistics of a backbone by one pass over images.

    Without it the signal of a random network dies: its standard deviation at mixed10 is
    thousandths, and every head learns from noise.

    Args:
        backbone: as `build_backbone` gives it; its `trainable` flags are as before afterwards.
        images: uint8 RGB (n, size, size, 3) a batch.

    Returns:
        Number of images.

    Raises:
        ValueError: there are no images.
    """
    flags = [layer.trainable for layer in backbone.layers]
    try:
        for layer in backbone.layers:
            layer.trainable = True
        return reestimate_batch_norm(backbone, map(scaled, images))
    finally:
        for layer, flag in zip(backbone.layers, flags, strict=True):
            layer.trainable = flag
