"""Attention maps as numbers."""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata


def attention_map(evidence: NDArray[np.floating], size: int) -> NDArray[np.float32]:
    """The map that is shown: what speaks for malignant, brought to the image's pixels and scaled to
    its maximum.

    Args:
        evidence: (rows, columns), see `renal_ray.model.gradcam.GradCam`; what is negative counts as
            nothing (the ReLU of Grad-CAM).
        size: edge of the image in pixels.

    Returns:
        float32 (size, size) in 0..1, bilinearly interpolated between the places' centres and flat
        beyond the outermost; all zero where no place speaks for malignant.
    """
    places = np.maximum(evidence, 0).astype(np.float64)
    if not places.any():
        return np.zeros((size, size), np.float32)
    along_rows, along_columns = (_interpolation(n, size) for n in places.shape)
    found = along_rows @ (places / places.max()) @ along_columns.T
    return np.asarray(found / found.max(), np.float32)


def _interpolation(places: int, size: int) -> NDArray[np.float64]:
    """Weights (size, places) of the places along one axis in each pixel."""
    at = np.clip((np.arange(size) + 0.5) * places / size - 0.5, 0, places - 1)
    return np.asarray(np.maximum(1 - np.abs(at[:, None] - np.arange(places)), 0))


def share_inside(attention: NDArray[np.floating], lesion: NDArray[np.bool_]) -> float | None:
    """The share of a map that lies inside the lesion.

    Args:
        attention: (rows, columns), not negative.
        lesion: (rows, columns), the lesion's mask in the same pixels.

    Returns:
        Sum inside over sum of all, 0..1; None for a map that is zero everywhere. By chance it is
        the lesion's share of the area.

    Raises:
        ValueError: the shapes differ, or a value is negative.
    """
    if attention.shape != lesion.shape or attention.min() < 0:
        raise ValueError(
            f"attention {attention.shape} and lesion {lesion.shape}: maps of "
            "one shape without negative values are needed"
        )
    total = attention.sum(dtype=np.float64)
    return float(attention[lesion].sum(dtype=np.float64) / total) if total > 0 else None


def rank_correlation(one: NDArray[np.floating], other: NDArray[np.floating]) -> float | None:
    """Spearman's rank correlation of two maps, place by place, ties at their mean rank.

    Args:
        one: values of any shape.
        other: values of the same shape.

    Returns:
        -1..1; None where a map has one value only.

    Raises:
        ValueError: the shapes differ.
    """
    if one.shape != other.shape:
        raise ValueError(f"maps of {one.shape} and {other.shape} places cannot be compared")
    ranks = [rankdata(values.reshape(-1)) for values in (one, other)]
    if min(np.ptp(rank) for rank in ranks) == 0:
        return None
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])
