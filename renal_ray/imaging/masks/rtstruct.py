"""RTSTRUCT: contours of a region of interest, rasterised on the image's own grid."""

from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
from pydicom import Dataset

from renal_ray.dicom.headers import readable
from renal_ray.dicom.pixels import load
from renal_ray.imaging.geometry.grid import GRID_TOLERANCE
from renal_ray.imaging.images.source import ImageSource, References
from renal_ray.imaging.masks.lesion import Lesion, lesion_of
from renal_ray.imaging.masks.placing import require_same_place
from renal_ray.imaging.masks.polygons import fill
from renal_ray.problems import Code, Finding, PatientError

AREAS = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR", "")  # points and open lines enclose nothing (PS3.3 C.8.8.6)
FURTHEST = 1e6  # pixels from the image at which a coordinate is no place any more


class RtStruct:
    """An RTSTRUCT with the ROIs that are the lesion.

    Args:
        dataset: the object.
        references: the series that it was drawn on.
        rois: names or patterns, without regard to case; the only ROI when None.
        resample: take contours between slices to the nearest one, and report it.
    """

    def __init__(self, dataset: Dataset, references: References, *, rois: list[str] | None, resample: bool) -> None:
        self._dataset, self.references, self._rois, self._resample = dataset, references, rois, resample
        self.findings: tuple[Finding, ...] = ()
        self.facts = "RTSTRUCT"

    def lesion(self, image: ImageSource) -> Lesion:
        """Rasterises the lesion's contours: a pixel belongs where its centre lies inside; contours of one ROI in one slice cut holes into each other.

        Slices between contours are not invented.

        Raises:
            PatientError: MASK_OFF_GRID, MASK_WITHOUT_SERIES, MASK_EMPTY, FILE_UNREADABLE.
        """
        require_same_place("RTSTRUCT", self.references, image.references)
        with readable("the RTSTRUCT"):
            chosen = self._chosen()
            frames: dict[int, np.ndarray] = {}
            furthest, sources, contours = 0.0, set[str](), 0
            for number in chosen:
                planes: dict[int, np.ndarray] = {}
                for points, uids in self._contours(number):
                    k, off = self._slice(image.grid.index_of(points), image, uids)
                    outline = fill(image.grid.index_of(points)[:, 1:], image.grid.shape[1:])
                    planes[k] = planes[k] ^ outline if k in planes else outline
                    furthest, contours = max(furthest, off), contours + 1
                    sources |= uids
                for k, plane in planes.items():
                    frames[k] = frames[k] | plane if k in frames else plane
        names = ", ".join(chosen.values())
        self.facts = f"RTSTRUCT, {names}, {contours} contours"
        self.findings = tuple(self._report(image, sources, furthest))
        return lesion_of(frames, f"the contours of {names} enclose no pixel of the image")

    def _chosen(self) -> dict[int, str]:
        """Number and name of the lesion's ROIs."""
        names = {int(item.ROINumber): str(item.get("ROIName") or "").strip() for item in self._dataset.get("StructureSetROISequence") or []}
        if self._rois is None:
            if len(names) != 1:
                raise PatientError(Code.MASK_EMPTY, f"the RTSTRUCT has the ROIs {_listed(names.values())}; name the lesion's in cohort.lesion_rois")
            return names
        patterns = [pattern.strip().casefold() for pattern in self._rois]
        chosen = {number: name for number, name in names.items() if any(fnmatchcase(name.casefold(), pattern) for pattern in patterns)}
        if not chosen:
            raise PatientError(
                Code.MASK_EMPTY, f"the RTSTRUCT has the ROIs {_listed(names.values())}, none of cohort.lesion_rois {self._rois}; name the lesion's there"
            )
        return chosen

    def _contours(self, number: int) -> Iterator[tuple[np.ndarray, set[str]]]:
        """Points (n, 3) in mm of an ROI's closed contours, each with the SOPInstanceUIDs that it refers to."""
        for roi in self._dataset.get("ROIContourSequence") or []:
            if int(roi.ReferencedROINumber) != number:
                continue
            for contour in roi.get("ContourSequence") or []:
                if str(contour.get("ContourGeometricType") or "") not in AREAS:
                    continue
                data = contour.get("ContourData")
                points = np.array([] if data is None else data, float).reshape(-1)
                if len(points) % 3 or not np.isfinite(points).all():
                    raise PatientError(Code.FILE_UNREADABLE, "a contour of the RTSTRUCT has coordinates that are no points in space; export it again")
                if len(points) >= 9:
                    images = contour.get("ContourImageSequence") or []
                    yield points.reshape(-1, 3), {str(item.get("ReferencedSOPInstanceUID")) for item in images}

    def _slice(self, index: np.ndarray, image: ImageSource, uids: set[str]) -> tuple[int, float]:
        """The slice of a contour, and how far off it lies, in slices."""
        if np.abs(index).max() > FURTHEST:
            raise PatientError(Code.MASK_OFF_GRID, "a contour of the RTSTRUCT lies far outside of the image; use the series that it was drawn on")
        if np.ptp(index[:, 0]) > 2 * GRID_TOLERANCE:
            raise PatientError(Code.MASK_OFF_GRID, "a contour of the RTSTRUCT is not in the plane of a slice; use the series that it was drawn on")
        level = float(index[:, 0].mean())
        k = round(level)
        off = abs(level - k)
        if off > GRID_TOLERANCE and not self._resample:
            raise PatientError(Code.MASK_OFF_GRID, "a contour of the RTSTRUCT lies between two slices; use its own series, or cohort.mask_resample")
        beside = (index[:, 1:].max(axis=0) < -0.5).any() or (index[:, 1:].min(axis=0) > np.array(image.grid.shape[1:]) - 0.5).any()
        if not 0 <= k < image.grid.shape[0] or beside:
            raise PatientError(Code.MASK_OFF_GRID, "a contour of the RTSTRUCT lies outside of the image; use the series that it was drawn on")
        named = image.slices_named(uids)
        if named and k not in named:
            raise PatientError(Code.MASK_OFF_GRID, "a contour of the RTSTRUCT refers to one slice and lies on another; export it again")
        return k, off

    def _report(self, image: ImageSource, sources: set[str], furthest: float) -> Iterator[Finding]:
        if sources and image.references.series and not image.slices_named(sources):
            yield Finding(Code.REFERENCES_ABSENT, "the RTSTRUCT refers to images that are not in the series; it was matched by series and position")
        if furthest > GRID_TOLERANCE:
            yield Finding(Code.MASK_RESAMPLED, f"contours lie up to {furthest:.2f} of a slice beside the image's slices; each was taken to the nearest")


def open_rtstruct(path: Path, *, rois: list[str] | None, resample: bool) -> RtStruct:
    """Reads an RTSTRUCT.

    Args:
        path: the file.
        rois, resample: as for `RtStruct`.

    Raises:
        PatientError: FILE_UNREADABLE.
    """
    with readable("the RTSTRUCT"):
        dataset = load(path)
        return RtStruct(dataset, rtstruct_references(dataset), rois=rois, resample=resample)


def rtstruct_references(dataset: Dataset) -> References:
    """The series and the frame of reference that an RTSTRUCT was drawn on."""
    frames = dataset.get("ReferencedFrameOfReferenceSequence") or []
    studies = [study for frame in frames for study in frame.get("RTReferencedStudySequence") or []]
    series = [item for study in studies for item in study.get("RTReferencedSeriesSequence") or []]
    uids = {str(item.get("SeriesInstanceUID") or "") for item in series} - {""}
    places = {str(frame.get("FrameOfReferenceUID") or "") for frame in frames} - {""}
    return References(frozenset(uids), places.pop() if len(places) == 1 else "")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "(none)"
