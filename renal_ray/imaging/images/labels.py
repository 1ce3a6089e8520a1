"""The numbers of label maps: whole ones, to within what storing them cost."""

import numpy as np

from renal_ray.problems import Code, PatientError

LEAST_LABEL = (
    -100
)  # label maps may use a few negative values for what is not labelled; air and fat lie below
WHOLE = 1e-3  # from a whole number: rounding of floating-point numbers, and of slope and intercept
COARSEST = 0.25


def whole_within(dtype: np.dtype, slope: float) -> float:
    """How far from a whole number a scaled label may lie: whole numbers that were scaled into
    integers are off by up to half a step of the slope.

    Args:
        dtype: of the stored values.
        slope: of the scaling.
    """
    return max(WHOLE, min(abs(slope) / 2, COARSEST)) if dtype.kind in "iu" else WHOLE


def fractions(values: np.ndarray, within: float) -> np.ndarray:
    """bool, of any shape: which values are no whole numbers; what is not finite is none."""
    with np.errstate(invalid="ignore"):  # infinite - infinite
        return np.asarray(~(np.abs(values - np.rint(values)) <= within))


def refuse_fractions(share: float, low: float, high: float, *, finite: bool) -> PatientError:
    """The error for a label map whose values are no whole numbers.

    Args:
        share: such voxels among those that are not 0.
        low, high: least and greatest of the values that are finite.
        finite: whether all of them are.
    """
    percent = f"{100 * share:.3g} % of the label map's voxels other than 0"
    if low < LEAST_LABEL:
        return PatientError(
            Code.MASK_UNSUPPORTED,
            f"the mask holds values down to {low:.0f}, as a CT image "
            "does; name the label map as the mask",
        )
    if not finite:
        return PatientError(
            Code.MASK_UNSUPPORTED,
            f"{percent} are not a number or infinite, so it is unknown "
            "what they mean; export whole numbers",
        )
    if low >= 0 and high <= 1:
        return PatientError(
            Code.MASK_INTERPOLATED,
            f"{percent} are fractions and none is above 1: it is a map of probabilities, or "
            "an interpolated mask; set a threshold and save the labels",
        )
    return PatientError(
        Code.MASK_INTERPOLATED,
        f"{percent} are no whole numbers: it was interpolated, which "
        "makes labels of the rim between others; "
        "use the map as it was drawn, or resample it by nearest neighbour",
    )
