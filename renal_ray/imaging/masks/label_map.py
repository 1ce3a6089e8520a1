"""Label maps in volume files: they lie on the image where their geometry says so."""

from itertools import repeat

import numpy as np

from renal_ray.imaging.geometry.grid import Grid, Turn, nearest_turn, turn_onto
from renal_ray.imaging.geometry.resample import resample_nearest
from renal_ray.imaging.images.source import ImageSource, References, sized
from renal_ray.imaging.images.voxels import Voxels
from renal_ray.imaging.masks.beyond import require_inside
from renal_ray.imaging.masks.lesion import Lesion, lesion_of
from renal_ray.imaging.masks.placing import compared, resampled
from renal_ray.problems import Code, Finding, PatientError


class LabelMap:
    """A label map with the values that are the lesion.

    Args:
        voxels: the file.
        labels: values that are the lesion; the map's own are whole to within a rounding error.
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
            PatientError: MASK_OFF_GRID, MASK_BEYOND_IMAGE, MASK_EMPTY, MASK_UNSUPPORTED,
                MASK_INTERPOLATED or what stops the reading.
        """
        stored = self._voxels.grid
        turn = _turn(stored, image.grid)
        turned = turn.grid(stored)
        matches = turned.shape == image.grid.shape and image.grid.matches(turned)
        if not matches and not self._resample:
            raise PatientError(
                Code.MASK_OFF_GRID,
                f"{compared(turned, image.grid)}; use the mask that was drawn on "
                "this image, or set cohort.mask_resample",
            )
        axis = turn.axes[0] if matches else 0
        places, mask = self._voxels.hits(axis, self._labels)
        if not len(places):
            raise self._empty()
        if matches:
            flipped = turn.flips[0]
            return Lesion(
                stored.shape[axis] - 1 - places[::-1] if flipped else places,
                np.ascontiguousarray(turn.apply(mask)),
            )
        origins = stored.origin + places[:, None] * stored.steps[0]
        beyond = require_inside(
            zip(mask, origins, repeat(1.0), strict=False), stored.steps[1:], image.grid
        )
        self.findings = (
            Finding(Code.MASK_RESAMPLED, resampled(sized(turned), image.grid, beyond)),
        )
        frames = resample_nearest(mask, places, stored, image.grid)
        return lesion_of(
            frames,
            "no voxel of the image lies in the lesion, which is smaller "
            "than one; use the mask that was drawn on it",
        )

    def _empty(self) -> PatientError:
        values = self._voxels.values()
        other = [value for value in values if value != 0]
        advice = (
            f"set cohort.lesion_labels: [{other[0]}]"
            if len(other) == 1
            else "name the lesion's value there"
        )
        held = (
            f"the label map holds the values {values} and none of "
            f"cohort.lesion_labels {self._labels}"
        )
        return PatientError(
            Code.MASK_EMPTY,
            f"{held}; {advice}"
            if other
            else "the label map holds nothing but 0; use the mask of the lesion",
        )


def _turn(stored: Grid, image: Grid) -> Turn:
    """The turn to the image's axes, or to the patient's where the two are oblique to each other."""
    try:
        return turn_onto(stored, image)
    except PatientError:
        return nearest_turn(stored)
