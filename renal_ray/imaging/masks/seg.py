"""DICOM SEG: frames placed on the image by where they lie, not by their order."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom import Dataset

from renal_ray.dicom.headers import readable
from renal_ray.dicom.pixels import load, pixels
from renal_ray.imaging.geometry.grid import GRID_TOLERANCE, Grid, Turn, turn_to_axial
from renal_ray.imaging.geometry.stack import Plane, plane_steps
from renal_ray.imaging.images.source import ImageSource, References
from renal_ray.imaging.masks.lesion import Lesion, lesion_of
from renal_ray.problems import Code, PatientError


@dataclass(frozen=True)
class DicomSeg:
    """A DICOM SEG, read whole but not yet decoded.

    Args:
        dataset: the object.
        references: the series that it was drawn on.
    """

    dataset: Dataset
    references: References

    def lesion(self, image: ImageSource, *, segments: list[str] | None) -> Lesion:
        """Places the lesion's frames on the image and merges them.

        A slice without a frame has no lesion. Fractional masks count from one half.

        Args:
            image: the image.
            segments: labels of the segments that are the lesion; all when None.

        Raises:
            PatientError: MASK_OFF_GRID, MASK_WITHOUT_SERIES, MASK_EMPTY, MASK_UNSUPPORTED, NO_POSITION, NO_PIXEL_SPACING or what stops the decoding.
        """
        self._require_same_series(image)
        with readable("the SEG"):
            labels = {int(item.SegmentNumber): str(item.get("SegmentLabel") or "").strip() for item in self.dataset.SegmentSequence}
            chosen = _chosen(labels, segments)
            frames: dict[int, np.ndarray] = {}
            for frame, mask in self._frames(chosen):
                if mask.any():
                    k, turn = self._place(frame, image)
                    turned = turn.apply(mask[None])[0]
                    frames[k] = frames[k] | turned if k in frames else turned
        return lesion_of(frames, f"all frames of the segments {_listed(labels[n] for n in sorted(chosen))} are empty")

    def _require_same_series(self, image: ImageSource) -> None:
        ours, theirs = self.references, image.references
        if ours.series and theirs.series and not ours.series & theirs.series:
            raise PatientError(Code.MASK_WITHOUT_SERIES, "the SEG was drawn on another series than the image; pair it with its own series")
        if ours.frame_of_reference and theirs.frame_of_reference and ours.frame_of_reference != theirs.frame_of_reference:
            raise PatientError(Code.MASK_OFF_GRID, "the SEG has another frame of reference than the image, so their positions do not compare")

    def _frames(self, chosen: set[int]) -> Iterator[tuple[int, np.ndarray]]:
        """The frames of the chosen segments as bool (rows, cols)."""
        seg = self.dataset
        groups = seg.PerFrameFunctionalGroupsSequence
        stored = pixels(seg)
        stored = stored[None] if stored.ndim == 2 else stored
        if stored.shape != (len(groups), int(seg.Rows), int(seg.Columns)):
            raise PatientError(Code.FILE_UNREADABLE, "the SEG has another number of frames than it describes; export it again")
        kind = str(seg.get("SegmentationType") or "")
        if kind not in ("BINARY", "FRACTIONAL", "LABELMAP"):
            raise PatientError(Code.MASK_UNSUPPORTED, f"SEG of type {kind or 'unknown'}; BINARY, FRACTIONAL and LABELMAP are read")
        for frame, values in enumerate(stored):
            if kind == "LABELMAP":
                yield frame, np.isin(values, list(chosen))
            elif int(self._group(frame, "SegmentIdentificationSequence").ReferencedSegmentNumber) in chosen:
                yield frame, values * 2.0 >= float(seg.MaximumFractionalValue) if kind == "FRACTIONAL" else values > 0

    def _group(self, frame: int, name: str) -> Dataset:
        """A functional group of a frame, its own or the shared one; empty where there is none."""
        shared = self.dataset.get("SharedFunctionalGroupsSequence") or [Dataset()]
        for group in (self.dataset.PerFrameFunctionalGroupsSequence[frame], shared[0]):
            if group.get(name):
                return group[name][0]
        return Dataset()

    def _place(self, frame: int, image: ImageSource) -> tuple[int, Turn]:
        """The slice of the image where a frame lies, and the turn that brings it there."""
        plane = self._plane(frame)
        stored = Grid((1, *plane.shape), plane.position, plane_steps(plane))
        turn = turn_to_axial(stored)
        grid = turn.grid(stored)
        corners, points = grid.corners()
        found = image.grid.index_of(points)
        k = round(float(found[0, 0]))
        off = np.abs(found - corners - [k, 0, 0]).max()
        if turn.axes[0] != 0 or grid.shape[1:] != image.grid.shape[1:] or off > GRID_TOLERANCE or not 0 <= k < image.grid.shape[0]:
            raise PatientError(Code.MASK_OFF_GRID, f"frame {frame + 1} of the SEG lies on no slice of the image; use the series that it was drawn on")
        named = image.slices_named(self._sources(frame))
        if named and k not in named:
            raise PatientError(Code.MASK_OFF_GRID, f"frame {frame + 1} of the SEG refers to one slice and lies on another; export it again")
        return k, turn

    def _plane(self, frame: int) -> Plane:
        position = self._group(frame, "PlanePositionSequence").get("ImagePositionPatient")
        orientation = self._group(frame, "PlaneOrientationSequence").get("ImageOrientationPatient")
        spacing = self._group(frame, "PixelMeasuresSequence").get("PixelSpacing")
        if position is None or orientation is None:
            raise PatientError(Code.NO_POSITION, f"frame {frame + 1} of the SEG has no position in the patient; export it again")
        if spacing is None:
            raise PatientError(Code.NO_PIXEL_SPACING, f"frame {frame + 1} of the SEG has no pixel spacing; export it again")
        shape = (int(self.dataset.Rows), int(self.dataset.Columns))
        return Plane(np.array(position, float), np.array(orientation, float), (float(spacing[0]), float(spacing[1])), shape)

    def _sources(self, frame: int) -> set[str]:
        """SOPInstanceUIDs that a frame says it was derived from."""
        sources = self._group(frame, "DerivationImageSequence").get("SourceImageSequence") or []
        return {str(source.get("ReferencedSOPInstanceUID")) for source in sources}


def open_seg(path: Path) -> DicomSeg:
    """Reads a DICOM SEG.

    Args:
        path: the file.

    Raises:
        PatientError: FILE_UNREADABLE.
    """
    with readable("the SEG"):
        dataset = load(path)
        series = {str(item.get("SeriesInstanceUID") or "") for item in dataset.get("ReferencedSeriesSequence") or []} - {""}
        return DicomSeg(dataset, References(frozenset(series), str(dataset.get("FrameOfReferenceUID") or "")))


def _chosen(labels: dict[int, str], segments: list[str] | None) -> set[int]:
    if segments is None:
        return set(labels)
    wanted = {label.strip().casefold() for label in segments}
    chosen = {number for number, label in labels.items() if label.casefold() in wanted}
    if not chosen:
        raise PatientError(
            Code.MASK_EMPTY, f"the SEG has the segments {_listed(labels.values())}, none of cohort.lesion_segments {segments}; name the lesion's there"
        )
    return chosen


def _listed(labels: Iterable[str]) -> str:
    return ", ".join(sorted(set(labels))) or "(none)"
