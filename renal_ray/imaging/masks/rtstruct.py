"""RTSTRUCT: contours of a region of interest, rasterised on the image's own grid."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from pydicom import Dataset

from renal_ray.dicom.headers import readable
from renal_ray.dicom.pixels import load
from renal_ray.imaging.geometry.grid import GRID_TOLERANCE, Grid
from renal_ray.imaging.images.source import ImageSource, References
from renal_ray.imaging.masks.contours import (
    RoiPlanes,
    paste,
    placed,
    planes_of,
    require_on_slices,
    require_within,
)
from renal_ray.imaging.masks.heights import nearest_planes
from renal_ray.imaging.masks.lesion import Lesion, lesion_of
from renal_ray.imaging.masks.placing import require_same_place
from renal_ray.imaging.masks.rois import (
    Contour,
    contours_of,
    lesion_rois,
    roi_references,
    rtstruct_references,
)
from renal_ray.problems import Code, Finding, PatientError


class RtStruct:
    """An RTSTRUCT with the ROIs that are the lesion.

    Args:
        dataset: the object.
        references: the series that it was drawn on.
        rois: names or patterns, without regard to case; the only ROI when None.
        resample: bring contours between slices to the slices nearest to them, and report it.
    """

    def __init__(
        self, dataset: Dataset, references: References, *, rois: list[str] | None, resample: bool
    ) -> None:
        self._dataset, self.references, self._rois, self._resample = (
            dataset,
            references,
            rois,
            resample,
        )
        self.findings: tuple[Finding, ...] = ()
        self.facts = "RTSTRUCT"

    def lesion(self, image: ImageSource) -> Lesion:
        """Rasterises the lesion's contours; ROIs are united.

        A pixel belongs where its centre lies inside (`polygons.enclosed`). Slices between contours
        are not invented. Only where contours lie between slices, and are to be resampled, each
        slice takes the plane nearest to it (`heights.nearest_planes`).

        Raises:
            PatientError: LESION_UNNAMED, MASK_OFF_GRID, MASK_BEYOND_IMAGE, MASK_WITHOUT_SERIES,
                MASK_EMPTY, FILE_UNREADABLE.
        """
        with readable("the RTSTRUCT"):
            chosen = lesion_rois(self._dataset, self._rois)
            names = ", ".join(chosen.values())
            by_roi = [list(contours_of(self._dataset, number)) for number in chosen]
            contours = [one for roi in by_roi for one in roi]
            areas = [one for one in contours if not one.no_area]
            if not areas:
                drawn = (
                    f"of its {len(contours)} contours {_counted(contours)}"
                    if contours
                    else "none was drawn"
                )
                raise PatientError(
                    Code.MASK_EMPTY,
                    f"no contour of {names} encloses an area ({drawn}); name "
                    "the lesion's ROI in cohort.lesion_rois",
                )
            findings = self._placed_by(dict(zip(chosen.items(), by_roi, strict=True)), image)
            on_grid = [
                [placed(one, image.grid) for one in roi if not one.no_area] for roi in by_roi
            ]
            ends = require_on_slices(
                [one for roi in on_grid for one in roi],
                self.references,
                image,
                resample=self._resample,
            )
            rois = [planes_of(roi, image.grid) for roi in on_grid if roi]
            cut = require_within(rois, image.grid, ends)
            frames: dict[int, np.ndarray] = {}
            for roi in rois:
                findings += self._put(roi, image.grid, frames)
        self.facts = f"RTSTRUCT, {names}, {len(areas)} contours"
        sources = {uid for one in areas for uid in one.sources}
        if sources and image.references.series and not image.slices_named(sources):
            message = (
                "the RTSTRUCT refers to images that are not in the series; "
                "it was matched by series and position"
            )
            findings.append(Finding(Code.REFERENCES_ABSENT, message))
        self.findings = (*findings, *_crossing(rois), *_left_out(contours, cut, rois, image.grid))
        return lesion_of(frames, f"the contours of {names} enclose no pixel of the image")

    def _placed_by(
        self, rois: dict[tuple[int, str], list[Contour]], image: ImageSource
    ) -> list[Finding]:
        """Refuses each ROI that was drawn in another place; those that enclose nothing do not
        count."""
        findings = require_same_place(
            "RTSTRUCT", replace(self.references, frame_of_reference=""), image
        )
        for (number, name), contours in rois.items():
            areas = [one for one in contours if not one.no_area]
            sources = frozenset(uid for one in areas for uid in one.sources)
            for references in roi_references(self._dataset, number, sources) if areas else ():
                findings += require_same_place(f"ROI {name} of the RTSTRUCT", references, image)
        return findings

    def _put(self, roi: RoiPlanes, grid: Grid, frames: dict[int, np.ndarray]) -> list[Finding]:
        """Adds an ROI to the slices, and says where it was resampled."""
        own = np.rint(roi.levels).astype(int)
        off = float(np.abs(roi.levels - own).max())
        resampled = off > GRID_TOLERANCE or len(set(own)) < len(own)
        if resampled and not self._resample:
            raise PatientError(
                Code.MASK_OFF_GRID,
                "contours of several heights lie on one slice of the image; use the "
                "series that they were drawn on, or cohort.mask_resample",
            )
        taken = (
            nearest_planes(roi.levels, grid.shape[0], float(grid.spacing[0]))
            if resampled
            else {int(k): [n] for n, k in enumerate(own)}
        )
        for k, planes in taken.items():
            if 0 <= k < grid.shape[0]:
                frame = frames.setdefault(k, np.zeros(grid.shape[1:], bool))
                for n in planes:
                    paste(roi.areas[n], frame)
        return [_resampled(roi.levels, taken, off)] if resampled else []


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


def _resampled(levels: np.ndarray, taken: dict[int, list[int]], off: float) -> Finding:
    """Says how an ROI's planes came to the slices."""
    used = {n for planes in taken.values() for n in planes}
    lent = sum(1 for k, planes in taken.items() if np.abs(levels[planes] - k).max() > 0.5 + 1e-3)
    empty = max(taken) - min(taken) + 1 - len(taken)
    said = (
        f"contours in {len(levels)} planes lie up to {off:.2f} of a slice beside the "
        "image's slices, and each slice took the nearest plane"
    )
    counts = {
        "planes that are nearest to no slice and were not taken": len(levels) - len(used),
        "slices between planes that took the nearer one": lent,
        "slices between planes that took none, as planes are missing there": empty,
    }
    parts = [f"{what}: {count}" for what, count in counts.items() if count]
    return Finding(Code.MASK_RESAMPLED, "; ".join([said, *parts]))


def _crossing(rois: Sequence[RoiPlanes]) -> Iterator[Finding]:
    areas = [area for roi in rois for area in roi.areas]
    crossing = [area.crossing for area in areas if area.crossing]
    if crossing:
        yield Finding(
            Code.CONTOURS_CROSS,
            f"in {len(crossing)} of {len(areas)} planes contours cross each other, "
            f"{sum(crossing)} together; they were united, look at them",
        )


def _left_out(
    contours: Sequence[Contour], cut: str, rois: Sequence[RoiPlanes], grid: Grid
) -> Iterator[Finding]:
    """Says which contours, or parts of them, are not in the mask."""
    lines = [one for one in contours if one.no_area]
    if lines:
        levels = [grid.index_of(one.points)[:, 0].mean() for one in lines if len(one.points)]
        inside = {round(float(level)) for level in levels if -0.5 <= level < grid.shape[0] - 0.5}
        alone = inside - {round(float(level)) for roi in rois for level in roi.levels}
        nothing = f"; slices on which nothing else is drawn: {len(alone)}" if alone else ""
        yield Finding(
            Code.CONTOURS_LEFT_OUT,
            f"{len(lines)} of {len(contours)} contours enclose no area and "
            f"were left out ({_counted(lines)}){nothing}",
        )
    if copies := sum(area.cancelling for roi in rois for area in roi.areas):
        yield Finding(
            Code.CONTOURS_LEFT_OUT,
            f"{copies} contours of type CLOSEDPLANAR_XOR are copies of "
            "each other, so that they enclose nothing",
        )
    if cut:
        yield Finding(Code.CONTOURS_LEFT_OUT, f"{cut} and was cut off")


def _counted(contours: Sequence[Contour]) -> str:
    """How many contours enclose no area, and why."""
    found = Counter(one.no_area for one in contours if one.no_area)
    return ", ".join(f"{count} {why}" for why, count in sorted(found.items()))
