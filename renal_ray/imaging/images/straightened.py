"""A tilted or oblique image as straight axial slices."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from renal_ray.imaging.geometry.grid import Grid
from renal_ray.imaging.geometry.resample import resample_linear, resample_nearest, straight_grid
from renal_ray.imaging.images.sizes import MOST_PIXELS
from renal_ray.imaging.images.source import ImageSource, References, compact_hu, sized
from renal_ray.imaging.masks.lesion import Lesion, lesion_of
from renal_ray.problems import Code, Finding, PatientError

# Pixels of a straight slice; a header with voxels of very unlike edges would ask for many more.
MOST_EDGE = 2048


@dataclass(frozen=True)
class Straightened:
    """An ImageSource whose slices are interpolated from another's.

    Args:
        native: the image as it was taken.
    """

    native: ImageSource

    @cached_property
    def grid(self) -> Grid:
        """The straight grid that covers the native one.

        Raises:
            PatientError: TOO_LARGE.
        """
        grid = straight_grid(self.native.grid)
        if max(grid.shape[1:]) > MOST_EDGE or grid.shape[0] > MOST_PIXELS:
            raise PatientError(
                Code.TOO_LARGE,
                f"as straight axial slices the image would have {sized(grid)}, "
                "more than any CT series has; leave it out",
            )
        return grid

    @property
    def straight(self) -> bool:
        """It is."""
        return True

    @property
    def references(self) -> References:
        """Those of the native image."""
        return self.native.references

    @property
    def facts(self) -> str:
        """Those of the native image, and what became of it."""
        return f"{self.native.facts}; resampled to straight axial ones: {sized(self.grid)}"

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Those of the native image, and that it was resampled."""
        message = (
            "the tilted or oblique series was resampled to straight axial slices by "
            "trilinear interpolation, the mask by nearest neighbour"
        )
        return (*self.native.findings, Finding(Code.IMAGE_RESAMPLED, message))

    def slices_named(self, sop_uids: set[str]) -> set[int]:
        """A resampled slice is no DICOM object."""
        return set()

    def read(self, slices: np.ndarray) -> np.ndarray:
        """Attenuation of some slices, int16 (n, rows, cols) in whole HU."""
        return compact_hu(
            np.rint(resample_linear(self.native.read, self.native.grid, self.grid, slices))
        )

    def carry(self, lesion: Lesion) -> Lesion:
        """A lesion on the native image's grid, brought to this one's by nearest neighbour."""
        frames = resample_nearest(lesion.mask, lesion.slices, self.native.grid, self.grid)
        return lesion_of(
            frames, "nothing of the lesion is left on the straight grid; it is smaller than a voxel"
        )
