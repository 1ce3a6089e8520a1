"""Label maps in volume files: they lie on the image where their geometry says so."""

import numpy as np

from renal_ray.imaging.geometry.grid import turn_onto
from renal_ray.imaging.geometry.resample import resample_nearest
from renal_ray.imaging.images.source import ImageSource, References
from renal_ray.imaging.images.volume import Voxels
from renal_ray.imaging.masks.lesion import Lesion, lesion_of
from renal_ray.imaging.masks.placing import resampled
from renal_ray.problems import Code, Finding, PatientError


class LabelMap:
    """A label map with the values that are the lesion.

    Args:
        voxels: the file.
        labels: values that are the lesion; the map's own are rounded first.
        resample: bring a map off the image's grid to it by nearest neighbour, and report it.
    """

    references = References()

    def __init__(self, voxels: Voxels, labels: list[int], *, resample: bool) -> None:
        self._voxels, self._labels, self._resample = voxels, labels, resample
        self.findings: tuple[Finding, ...] = ()
        self.facts = f"{voxels.kind}, label {', '.join(map(str, labels))}"

    def lesion(self, image: ImageSource) -> Lesion:
        """The voxels whose rounded value is one of the lesion's.

        Raises:
            PatientError: MASK_OFF_GRID, MASK_EMPTY, MASK_UNSUPPORTED or what stops the reading.
        """
        stored = self._voxels.grid
        off_grid = PatientError(
            Code.MASK_OFF_GRID,
            f"the label map's grid {stored.shape} is not the image's {image.grid.shape} in size, spacing and position; "
            "use the mask that was drawn on this image, or set cohort.mask_resample",
        )
        try:
            turn = turn_onto(stored, image.grid)
            matches = turn.grid(stored).shape == image.grid.shape and image.grid.matches(turn.grid(stored))
        except PatientError:
            matches = False
        if not matches and not self._resample:
            raise off_grid
        axis = turn.axes[0] if matches else 0
        places, mask = self._voxels.hits(axis, self._labels)
        if not len(places):
            raise PatientError(
                Code.MASK_EMPTY,
                f"the label map holds the values {self._voxels.values()} and none of cohort.lesion_labels {self._labels}; name the lesion's value there",
            )
        if matches:
            flipped = turn.flips[0]
            return Lesion(stored.shape[axis] - 1 - places[::-1] if flipped else places, np.ascontiguousarray(turn.apply(mask)))
        self.findings = (Finding(Code.MASK_RESAMPLED, resampled(stored, image.grid)),)
        frames = resample_nearest(mask, places, stored, image.grid)
        if not frames:
            raise off_grid
        return lesion_of(frames, "nothing of the lesion lies on the image")
