"""Masks that were kept as ordinary DICOM images: 0 and 255, or a few labels."""

from dataclasses import dataclass

import numpy as np
from pydicom import Dataset

from renal_ray.dicom.flat import FlatDataset
from renal_ray.dicom.headers import Header, Pixels, readable
from renal_ray.dicom.pixels import load, pixels
from renal_ray.dicom.series import by_series, series_key
from renal_ray.imaging.geometry.stack import Plane
from renal_ray.imaging.images.dicom_series import frames_of, numbers, plane_of
from renal_ray.imaging.images.labels import LEAST_LABEL, fractions, refuse_fractions, whole_within
from renal_ray.imaging.images.source import ImageSource, References
from renal_ray.imaging.masks.lesion import Lesion, lesion_of
from renal_ray.imaging.masks.placing import MaskPlane, place
from renal_ray.problems import Code, Finding, PatientError

MOST_LABELS = 10


@dataclass(frozen=True)
class LabelImage:
    """One image of a mask.

    Args:
        plane: where it lies.
        which: uint8 (rows, cols), places in `stored` and `scaled`; empty where there are more than
            labels.
        counts: int (n,), pixels of each value.
        stored: integer (n,), its values without the rescale, ascending.
        scaled: (n,), its values.
        odd: bool (n,), which of them are no whole numbers.
        name: names it in messages.
    """

    plane: Plane
    which: np.ndarray
    counts: np.ndarray
    stored: np.ndarray
    scaled: np.ndarray
    odd: np.ndarray
    name: str


class ImageSeriesMask:
    """Images whose values are labels.

    Args:
        headers: of the images.
        labels: values that are the lesion where there are more than one beside 0.
        resample: bring images off the CT's slices to them by nearest neighbour, and report it.
    """

    def __init__(self, headers: list[Header], labels: list[int], *, resample: bool) -> None:
        if len(by_series([series_key(header) for header in headers])) != 1:
            raise PatientError(
                Code.SEVERAL_MASKS,
                "the mask's folder holds images of several series; give the folder of one",
            )
        self._headers, self._labels, self._resample = headers, labels, resample
        self.references = References(frame_of_reference=headers[0].text("FrameOfReferenceUID"))
        self.findings: tuple[Finding, ...] = ()
        self.facts = f"DICOM image series of {len(headers)} files as a mask"

    def lesion(self, image: ImageSource) -> Lesion:
        """Every voxel that is not 0 where there is one value beside 0, else those whose value is
        one of the lesion's.

        Raises:
            PatientError: MASK_UNSUPPORTED when the values are those of an image, MASK_INTERPOLATED,
                MASK_OFF_GRID, MASK_BEYOND_IMAGE, MASK_EMPTY, or what stops the reading.
        """
        ours, theirs = self.references.frame_of_reference, image.references.frame_of_reference
        if ours and theirs and ours != theirs:
            raise PatientError(
                Code.MASK_OFF_GRID,
                "the mask's images have another frame of reference than the "
                "CT, so their positions do not compare",
            )
        images = self._images()
        values, ignored = _labels_of(images)
        found = {int(value) for its in values for value in its}
        others = found - {0}
        lesion = sorted(others if len(others) == 1 else others & set(self._labels))
        if not lesion:
            raise PatientError(
                Code.MASK_EMPTY,
                f"the mask's images hold the values {sorted(found)} and none "
                f"of cohort.lesion_labels {self._labels}",
            )
        planes = [
            MaskPlane(one.plane, np.isin(its, lesion)[one.which], frozenset(), one.name)
            for one, its in zip(images, values, strict=True)
        ]
        frames, findings = place(
            [one for one in planes if one.mask.any()], image, resample=self._resample
        )
        self.findings = (*ignored, *findings)
        return lesion_of(frames, "nothing of the mask lies on the image")

    def _images(self) -> list[LabelImage]:
        images = []
        for header in self._headers:
            for number, frame in _frames(header):
                with readable(f"file {header.number} by name of the mask"):
                    one = _read(header, number, frame)
                if len(one.stored) > MOST_LABELS and (
                    not one.odd.any() or one.scaled.min() < LEAST_LABEL
                ):
                    raise _no_labels()  # at once: a CT series that was named by mistake is long
                images.append(one)
        return images


def _frames(header: Header) -> list[tuple[int | None, Dataset | FlatDataset]]:
    if header.pixels is not Pixels.PRESENT:
        code = Code.NO_PIXEL_DATA if header.pixels is Pixels.ABSENT else Code.FILE_TRUNCATED
        raise PatientError(
            code,
            f"file {header.number} by name of the mask: its pixel data are "
            f"{header.pixels.value}; copy or export it again",
        )
    with readable(f"file {header.number} by name of the mask"):
        if int(header.dataset.get("SamplesPerPixel") or 1) != 1:
            raise PatientError(
                Code.MASK_UNSUPPORTED, "the mask's images are colour images; export the labels"
            )
        return frames_of(header)


def _read(header: Header, number: int | None, frame: Dataset | FlatDataset) -> LabelImage:
    name = f"file {header.number} by name of the mask"
    plane = plane_of(header, frame)
    values = pixels(load(header.path, number=header.number), frame=number, number=header.number)
    if values.shape != plane.shape:
        raise PatientError(
            Code.FILE_UNREADABLE,
            f"{name} has pixels of another matrix than its header says; export it again",
        )
    stored, counts = np.unique(values, return_counts=True)
    which = (
        np.searchsorted(stored, values).astype(np.uint8)
        if len(stored) <= MOST_LABELS
        else np.zeros((0, 0), np.uint8)
    )
    slope, intercept = (
        numbers(frame, keyword, 1) for keyword in ("RescaleSlope", "RescaleIntercept")
    )
    if slope is None or intercept is None:
        return LabelImage(plane, which, counts, stored, stored, np.zeros(stored.shape, bool), name)
    scaled = stored * slope[0] + intercept[0]
    return LabelImage(
        plane,
        which,
        counts,
        stored,
        scaled,
        fractions(scaled, whole_within(values.dtype, slope[0])),
        name,
    )


def _labels_of(images: list[LabelImage]) -> tuple[list[np.ndarray], tuple[Finding, ...]]:
    """What the values of each image are as labels, and what is to be reported.

    Masks are written over the pixels of copied CT or PET images, whose rescale stays behind: it
    makes -1024 of the background, or a fraction of the one label.

    Raises:
        PatientError: MASK_INTERPOLATED or MASK_UNSUPPORTED.
    """
    odd = any(one.odd.any() for one in images)
    values = np.unique(np.concatenate([one.scaled for one in images]))
    if not odd and _few(np.unique(np.rint(values))):
        return [np.rint(one.scaled) for one in images], ()
    stored = np.unique(np.concatenate([one.stored for one in images]))
    if _few(stored) and stored[0] == 0 and (values[0] < LEAST_LABEL or (odd and len(stored) == 2)):
        message = (
            f"the rescale of the mask's images makes {values[0]:.6g} to {values[-1]:.6g} of "
            f"their values; those stored, {stored.tolist()}, were taken"
        )
        return [one.stored for one in images], (Finding(Code.RESCALE_IGNORED, message),)
    if not odd:
        raise _no_labels()
    held = sum(int(one.counts[one.scaled != 0].sum()) for one in images)
    raise refuse_fractions(
        sum(int(one.counts[one.odd].sum()) for one in images) / held,
        values[0],
        values[-1],
        finite=True,
    )


def _few(values: np.ndarray) -> bool:
    """Whether ascending values are as few as labels are, from 0 on."""
    return len(values) <= MOST_LABELS and values[0] >= 0


def _no_labels() -> PatientError:
    message = (
        f"the mask's images hold more than {MOST_LABELS} values, or negative ones, as "
        "a CT image does; name the images that hold the labels"
    )
    return PatientError(Code.MASK_UNSUPPORTED, message)
