"""CT series as scan knows them: which acquisitions they hold, and on which grid they lie."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from renal_ray.cohort.scan.walk import ACQUIRED, PLANE, Found
from renal_ray.dicom.acquired import ACQUISITION_TAGS, Acquired, acquired
from renal_ray.dicom.acquisitions import PAUSE_S, acquisitions
from renal_ray.dicom.flat import FlatDataset
from renal_ray.dicom.headers import Header, Pixels, read_header
from renal_ray.dicom.series import acquisition_key, without_acquisition
from renal_ray.imaging.geometry.grid import Grid
from renal_ray.imaging.geometry.stack import Plane, stack
from renal_ray.imaging.images.dicom_series import TAGS, frames_of, plane_of
from renal_ray.problems import PatientError


@dataclass
class CtSeries:
    """One CT series of a patient, or one acquisition of a series that holds several.

    Args:
        key: names it in a manifest.
        files: its files.
        n_images: slices.
        is_part: whether it is one acquisition of several.
    """

    key: str
    files: list[Found] = field(default_factory=list)
    n_images: int = 0
    is_part: bool = False

    @property
    def series_key(self) -> str:
        """The key of the whole series."""
        return without_acquisition(self.key)[0]

    @cached_property
    def folder(self) -> Path:
        """The folder that holds all files of the series."""
        return common_folder(self.files)

    @property
    def first(self) -> Found:
        """One of its files: they agree in what is asked of the series."""
        return self.files[0]

    @cached_property
    def sops(self) -> frozenset[bytes]:
        """Digests of its images' SOPInstanceUIDs."""
        return frozenset(one.sop for one in self.files) - {b""}

    @cached_property
    def planes(self) -> list[Plane]:
        """Where its images lie; none where a header does not say so."""
        try:
            planes = [_planes(one) for one in self.files]
        except PatientError:
            return []
        return [plane for of_file in planes for plane in of_file] if all(planes) else []

    @cached_property
    def grid(self) -> Grid | None:
        """Its grid; None where its images are no volume, or some frames of their files alone."""
        try:
            return (
                stack(self.planes)[1] if self.planes and len(self.planes) == self.n_images else None
            )
        except PatientError:
            return None


def common_folder(files: Iterable[Found]) -> Path:
    """The folder that holds all of some files."""
    return Path(os.path.commonpath({one.folder for one in files}))


def split(key: str, files: list[Found]) -> list[CtSeries]:
    """Parts a series into its acquisitions.

    Args:
        key: of the series.
        files: its files.

    Returns:
        The series, or a candidate an acquisition, whose keys are the series' with the acquisition's
        number.
    """
    if len(files) > 1 and not any(one.frames > 1 for one in files) and not _may_be_mixed(files):
        return [CtSeries(key, files, len(files))]
    try:
        images = [(one, image) for one in files for image in _acquired(one)]
    except PatientError:
        return [CtSeries(key, files, len(files))]
    groups = acquisitions([image for _, image in images])
    if len(groups) == 1:
        return [CtSeries(key, files, len(images))]
    parts = [list(dict.fromkeys(images[place][0] for place in group)) for group in groups]
    return [
        CtSeries(acquisition_key(key, n), part, len(group), is_part=True)
        for n, (part, group) in enumerate(zip(parts, groups, strict=True), 1)
    ]


def _may_be_mixed(files: list[Found]) -> bool:
    times = sorted(one.acquired_at[:6] for one in files)
    return (
        len({one.acquired for one in files}) > 1
        or _seconds(times[-1]) - _seconds(times[0]) > PAUSE_S
    )


def _seconds(time: str) -> float:
    digits = time if len(time) == 6 and time.isdecimal() else "000000"
    return int(digits[:2]) * 3600 + int(digits[2:4]) * 60 + int(digits[4:])


def _acquired(one: Found) -> list[Acquired]:
    """How the images of a file came about: by what was kept of its header, or by its frames."""
    path = Path(one.path)
    if one.frames > 1:
        header = read_header(path, [*ACQUISITION_TAGS])
        return acquired(header) if header else []
    texts = dict(zip(ACQUIRED, one.acquired, strict=True)) if one.acquired else {}
    place = PLANE.unpack(one.plane) if one.plane else ()
    dataset = FlatDataset(
        texts
        | {
            "AcquisitionTime": one.acquired_at,
            "ImagePositionPatient": place[:3],
            "ImageOrientationPatient": place[3:9],
        }
    )
    return acquired(Header(path, 1, dataset, Pixels.PRESENT))


def _planes(one: Found) -> list[Plane]:
    if one.frames > 1:
        header = read_header(Path(one.path), TAGS)
        return [plane_of(header, frame) for _, frame in frames_of(header)] if header else []
    if not one.plane:
        return []
    numbers = np.array(PLANE.unpack(one.plane))
    return [
        Plane(
            numbers[:3],
            numbers[3:9],
            (float(numbers[9]), float(numbers[10])),
            (int(numbers[11]), int(numbers[12])),
        )
    ]
