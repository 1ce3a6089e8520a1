"""A look at a few slices of an image before it is proposed as a patient's CT."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from renal_ray.dicom.headers import read_header, readable
from renal_ray.dicom.pixels import load
from renal_ray.imaging.images.dicom_hu import attenuation
from renal_ray.imaging.images.dicom_series import TAGS, frames_of, slices_of
from renal_ray.imaging.images.volume import open_voxels
from renal_ray.imaging.survey import no_ct

SLICES = 3
FIRST_BYTES = (
    64 << 20
)  # of voxels: a packed file is unpacked no further while what lies there can be a CT


def volume_no_ct(path: Path) -> str | None:
    """Why a volume file cannot be a CT by its values.

    Args:
        path: .nii, .nii.gz, .nrrd, .nhdr, .mha or .mhd.

    Returns:
        As `survey.no_ct`.

    Raises:
        PatientError: it cannot be read.
    """
    voxels = open_voxels(path)
    depth = voxels.grid.shape[2]
    first = max(1, FIRST_BYTES // (int(np.prod(voxels.grid.shape[:2])) * voxels.dtype.itemsize))
    if voxels.packing == "deflated" and first < depth and no_ct(voxels.sample(_few(first))) is None:
        return None
    return no_ct(voxels.sample(_few(depth)))


def series_no_ct(files: Sequence[Path]) -> str | None:
    """Why a DICOM series cannot be a CT by its values.

    Args:
        files: of the series, in any order; a few are decoded, of multi-frame ones a few frames.

    Returns:
        As `survey.no_ct`.

    Raises:
        PatientError: one of them cannot be read as a CT image.
    """
    chosen = [files[k] for k in _few(len(files))]
    return no_ct(
        np.concatenate(
            [part for path in chosen for part in map(np.ravel, _frames(path))] or [np.empty(0)]
        )
    )


def _frames(path: Path) -> list[np.ndarray]:
    """Attenuation in a few frames of a file, each (rows, cols) in HU; none where it is no DICOM."""
    header = read_header(path, TAGS)
    if header is None:
        return []
    with readable(f"file {header.number} by name"):
        frames = [number for number, _ in frames_of(header)]
    slices = slices_of(header, {frames[k] for k in _few(len(frames))})
    whole = load(path)
    return [attenuation(item, whole, None) for item in slices]


def _few(count: int) -> np.ndarray:
    """A few places among so many, ascending, none at the ends where there are others."""
    return np.unique(((np.arange(SLICES) + 0.5) * count / SLICES).astype(int))[:count]
