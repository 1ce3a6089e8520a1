"""Which freeze point a dataset goes on with."""

from collections.abc import Mapping, Sequence

from renal_ray.problems import StudyError
from renal_ray.protocol.metrics import mean_sd
from renal_ray.types import FREEZE_POINTS, FreezePoint


def select_freeze_point(aucs: Mapping[FreezePoint, Sequence[float | None]]) -> FreezePoint:
    """The freeze point with the highest mean validation AUC; of several, the deepest, which trains
    fewest layers.

    Args:
        aucs: validation AUC of the image head, one a fold; an undefined one (None) is left out.

    Returns:
        The selected freeze point.

    Raises:
        StudyError: no freeze point has an AUC.
    """
    means = {
        point: mean for point, values in aucs.items() if (mean := mean_sd(values)[0]) is not None
    }
    if not means:
        raise StudyError(
            "no freeze point has a validation AUC yet; finish the trials "
            "of the image head with `renal-ray sweep`"
        )
    return max(means, key=lambda point: (means[point], FREEZE_POINTS.index(point)))
