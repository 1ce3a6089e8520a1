"""Masks that were kept as ordinary DICOM images: 0 and 255, or a few labels."""

import numpy as np

from renal_ray.dicom.headers import Header, Pixels, readable
from renal_ray.dicom.pixels import load, pixels
from renal_ray.dicom.series import by_series, series_key
from renal_ray.imaging.images.dicom_series import frames_of, numbers, plane_of
from renal_ray.imaging.images.source import ImageSource, References
from renal_ray.imaging.masks.lesion import Lesion, lesion_of
from renal_ray.imaging.masks.placing import MaskPlane, place
from renal_ray.problems import Code, Finding, PatientError

MOST_LABELS = 10


class ImageSeriesMask:
    """Images whose values are labels.

    Args:
        headers: of the images.
        labels: values that are the lesion where there are more than one beside 0.
        resample: bring images off the CT's slices to them by nearest neighbour, and report it.
    """

    def __init__(self, headers: list[Header], labels: list[int], *, resample: bool) -> None:
        if len(by_series([series_key(header) for header in headers])) != 1:
            raise PatientError(Code.SEVERAL_MASKS, "the mask's folder holds images of several series; give the folder of one")
        self._headers, self._labels, self._resample = headers, labels, resample
        self.references = References(frame_of_reference=headers[0].text("FrameOfReferenceUID"))
        self.findings: tuple[Finding, ...] = ()
        self.facts = f"DICOM image series of {len(headers)} files as a mask"

    def lesion(self, image: ImageSource) -> Lesion:
        """Every voxel that is not 0 where only two values occur, else those whose value is one of the lesion's.

        Raises:
            PatientError: MASK_UNSUPPORTED when the values are those of an image, MASK_OFF_GRID, MASK_EMPTY, or what stops the reading.
        """
        ours, theirs = self.references.frame_of_reference, image.references.frame_of_reference
        if ours and theirs and ours != theirs:
            raise PatientError(Code.MASK_OFF_GRID, "the mask's images have another frame of reference than the CT, so their positions do not compare")
        stored, found = [], set[int]()
        for header in self._headers:
            for number, frame in _frames(header):
                with readable(f"file {header.number} by name of the mask"):
                    plane = plane_of(header, frame)
                    values = pixels(load(header.path, number=header.number), frame=number, number=header.number)
                    slope, intercept = numbers(frame, "RescaleSlope", 1), numbers(frame, "RescaleIntercept", 1)
                    if slope is not None and intercept is not None:
                        values = np.rint(values * slope[0] + intercept[0]).astype(np.int64)
                found |= set(np.unique(values)[: MOST_LABELS + 1].tolist())
                if len(found) > MOST_LABELS or min(found) < 0 or values.shape != plane.shape:
                    raise PatientError(Code.MASK_UNSUPPORTED, "the mask's images hold more values than labels do, as a CT image does; name the mask")
                if values.any():
                    stored.append((plane, values, f"file {header.number} by name of the mask"))
        lesion = found - {0} if len(found) <= 2 else found & set(self._labels)
        if not lesion - {0}:
            raise PatientError(Code.MASK_EMPTY, f"the mask's images hold the values {sorted(found)} and none of cohort.lesion_labels {self._labels}")
        planes = [MaskPlane(plane, np.isin(values, sorted(lesion)), frozenset(), name) for plane, values, name in stored]
        frames, findings = place([one for one in planes if one.mask.any()], image, resample=self._resample)
        self.findings = tuple(findings)
        return lesion_of(frames, "nothing of the mask lies on the image")


def _frames(header: Header) -> list:
    if header.pixels is not Pixels.PRESENT:
        code = Code.NO_PIXEL_DATA if header.pixels is Pixels.ABSENT else Code.FILE_TRUNCATED
        raise PatientError(code, f"file {header.number} by name of the mask: its pixel data are {header.pixels.value}; copy or export it again")
    with readable(f"file {header.number} by name of the mask"):
        if int(header.dataset.get("SamplesPerPixel") or 1) != 1:
            raise PatientError(Code.MASK_UNSUPPORTED, "the mask's images are colour images; export the labels")
        return frames_of(header)
