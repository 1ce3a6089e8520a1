"""One DICOM CT series: headers first, geometry verified, pixels decoded only for the slices that are wanted."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.uid import UID

from renal_ray.config import Cohort
from renal_ray.dicom.flat import FlatDataset
from renal_ray.dicom.headers import COMPANIONS, Header, Pixels, read_headers, readable, shown_modality, syntax_of
from renal_ray.dicom.pixels import load, native_pixels, pixels, require_decoder, within_bits
from renal_ray.dicom.series import series_key
from renal_ray.imaging.geometry.grid import AS_STORED, Grid, Turn, nearest_turn, turn_to_axial
from renal_ray.imaging.geometry.stack import Plane, stack
from renal_ray.imaging.images.sizes import FARTHEST_MM, MOST_PLANE, SPACING_MM
from renal_ray.imaging.images.source import OUTSIDE_HU, HuStack, References, sized
from renal_ray.problems import Code, Finding, PatientError

TAGS = [
    *("PatientID", "StudyInstanceUID", "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "Modality", "ImageType"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept", "RescaleType"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "ConcatenationUID", "InConcatenationTotalNumber"),
    *("BitsStored", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit"),
]
GROUPS = {  # functional group of an enhanced CT: the elements of a single-frame one that it holds
    "PlanePositionSequence": ("ImagePositionPatient",),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
    "PixelMeasuresSequence": ("PixelSpacing",),
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept", "RescaleType"),
}
MOST_WHOLE = 2**14  # slope or intercept with which 16-bit pixels stay within 32 bits


@dataclass(frozen=True)
class CtSlice:
    """One slice of a series before its pixels are read."""

    header: Header
    frame: int | None  # of an enhanced CT
    plane: Plane
    slope: float
    intercept: float


@dataclass(frozen=True)
class DicomSeries:
    """A CT series with verified geometry; an ImageSource."""

    grid: Grid
    references: References
    slices: tuple[CtSlice, ...]  # head to foot, or along the normal where it is not straight
    turn: Turn
    straight: bool
    facts: str
    findings: tuple[Finding, ...] = ()

    @cached_property
    def _slice_of_sop(self) -> dict[str, int]:
        uids = [item.header.text("SOPInstanceUID") for item in self.slices]
        return {uid: k for k, uid in enumerate(uids) if uid} if len(set(uids)) == len(uids) else {}

    def slices_named(self, sop_uids: set[str]) -> set[int]:
        """Slices with these SOPInstanceUIDs."""
        return {self._slice_of_sop[uid] for uid in sop_uids if uid in self._slice_of_sop}

    def read(self, slices: np.ndarray) -> np.ndarray:
        """Decodes some slices, int16 or float32 (n, rows, cols) in HU, in the standard axial display."""
        stack = HuStack((len(slices), *self.slices[0].plane.shape))
        files: dict[Path, list[int]] = defaultdict(list)
        for n, k in enumerate(slices):
            files[self.slices[k].header.path].append(n)
        for path, places in files.items():
            first = self.slices[slices[places[0]]]
            native = native_pixels(first.header) if first.frame is None else None
            # parsed once, however many frames are wanted of it; plain pixels need no parsing
            dataset = load(path, number=first.header.number) if native is None else None
            for n in places:
                stack.put(n, attenuation(self.slices[slices[n]], dataset, native))
        return np.ascontiguousarray(self.turn.apply(stack.array))


def open_series(folder: Path, wanted: References, cohort: Cohort, *, series: str = "") -> DicomSeries:
    """Finds the CT series of a folder and verifies that it is a volume of axial slices.

    Objects that are no images (SEG, RTSTRUCT, reports) and scout views in a series of their own are passed over.

    Args:
        folder: folder of one series, or one DICOM file; of several CT series the one that the mask refers to is taken.
        wanted: what the mask refers to.
        cohort: what to do with tilted and oblique series.
        series: `series_key` of the one to take; empty where mask or folder decide.

    Returns:
        The series, its slices head to foot.

    Raises:
        PatientError: with the code of what is wrong.
    """
    headers = _one_series(read_headers(folder, TAGS), wanted, series)
    _require_whole(headers)
    slices = [item for header in headers for item in slices_of(header)]
    order, stored = stack([item.plane for item in slices])
    if nearest_turn(stored).axes[0] != 0 and cohort.oblique == "refuse":
        raise PatientError(Code.NOT_AXIAL, "the series is coronal or sagittal; use the axial one, or set cohort.oblique: resample")
    turn = turn_to_axial(stored, tilt=cohort.tilt, oblique=cohort.oblique)
    straight = turn is not None and turn.axes[0] == 0
    turn = turn if turn is not None and straight else AS_STORED
    if turn.flips[0]:
        order = order[::-1]
    in_order = replace(turn, flips=(False, *turn.flips[1:]))
    grid = turn.grid(stored)
    uid, frame = (headers[0].text(keyword) for keyword in ("SeriesInstanceUID", "FrameOfReferenceUID"))
    facts = f"DICOM series of {sized(grid)}, {UID(syntax_of(headers[0].dataset)).name}"
    return DicomSeries(grid, References(frozenset({uid} - {""}), frame), tuple(slices[i] for i in order), in_order, straight, facts)


def _one_series(headers: list[Header], wanted: References, key: str) -> list[Header]:
    """The headers of the one CT series among those of a folder; other images are in the way unless the mask names the series."""
    groups: dict[str, list[Header]] = defaultdict(list)
    for header in headers:
        if header.is_ct:
            groups[series_key(header)].append(header)
    if key:
        if key not in groups:
            raise PatientError(Code.FILE_MISSING, f"the image's folder holds no CT series with the key {key} that the manifest names; scan it again")
        return _without_scouts(groups[key])
    named = [group for group in groups.values() if group[0].text("SeriesInstanceUID") in wanted.series]
    if len(named) == 1:
        return _without_scouts(named[0])
    strangers = sorted({shown_modality(header.text("Modality")) for header in headers if header.text("Modality") not in COMPANIONS | {"CT", ""}})
    if strangers:
        raise PatientError(Code.NOT_CT, f"the folder holds images that are no CT (modality {', '.join(strangers)}); give the folder of one CT series")
    if not groups:
        code, what = (Code.NOT_CT, "no CT image among its DICOM files") if headers else (Code.FILE_UNREADABLE, "no DICOM file")
        raise PatientError(code, f"the folder holds {what}; give the folder of one CT series")
    series = [group for group in groups.values() if not all(header.is_localizer for header in group)] or list(groups.values())
    if len(series) > 1 and not wanted.series and wanted.frame_of_reference:
        series = [group for group in series if group[0].text("FrameOfReferenceUID") == wanted.frame_of_reference]
    if len(series) != 1:
        raise PatientError(Code.SEVERAL_SERIES, f"the folder holds {len(groups)} CT series and the mask does not say which; give the folder of one")
    return _without_scouts(series[0])


def _without_scouts(headers: list[Header]) -> list[Header]:
    """Passes over scout views among the images of a series; a series of nothing else stays, to be refused for what it is."""
    return [header for header in headers if not header.is_localizer] or headers


def _require_whole(headers: list[Header]) -> None:
    """Refuses a concatenation - an enhanced object in several files - of which files are missing (PS3.3, C.7.6.16.2.2.4)."""
    parts = Counter(header.text("ConcatenationUID") for header in headers)
    for header in headers:
        there, total = parts[header.text("ConcatenationUID")], header.text("InConcatenationTotalNumber")
        if header.text("ConcatenationUID") and total.isdigit() and int(total) != there:
            raise PatientError(Code.MISSING_SLICE, f"{there} of the {int(total)} files that make up a multi-frame image are there; export it again, complete")


def slices_of(header: Header) -> list[CtSlice]:
    """The slices of one file: one, or those of an enhanced CT."""
    if header.pixels is not Pixels.PRESENT:
        code = Code.NO_PIXEL_DATA if header.pixels is Pixels.ABSENT else Code.FILE_TRUNCATED
        raise PatientError(code, f"file {header.number} by name: its pixel data are {header.pixels.value}; copy or export it again")
    require_decoder(syntax_of(header.dataset))
    with readable(f"file {header.number} by name"):
        if int(header.dataset.get("SamplesPerPixel") or 1) != 1:
            raise PatientError(Code.NOT_CT, f"file {header.number} by name is a colour image; give the original CT series")
        if int(header.dataset.get("Rows") or 0) * int(header.dataset.get("Columns") or 0) > MOST_PLANE:
            raise PatientError(Code.TOO_LARGE, f"file {header.number} by name declares more pixels than any CT image has; export it again")
        return [_slice(header, frame, number) for number, frame in frames_of(header)]


def frames_of(header: Header) -> list[tuple[int | None, Dataset | FlatDataset]]:
    """Each frame of an image with its number and its attributes as a single-frame image has them; one frame, number None, for a single-frame image.

    Raises:
        PatientError: NO_POSITION where a multi-frame image does not describe each frame (PS3.3 C.7.6.16).
    """
    per_frame = header.dataset.get("PerFrameFunctionalGroupsSequence") or []
    where = f"file {header.number} by name"
    if int(header.dataset.get("NumberOfFrames") or 1) != max(1, len(per_frame)):
        raise PatientError(Code.NO_POSITION, f"{where} holds other than the frames that it describes, so it is unknown where they lie; export it again")
    if not per_frame:
        return [(None, header.dataset)]
    shared = header.dataset.get("SharedFunctionalGroupsSequence") or [Dataset()]
    return [(number, _flat([shared[0], group])) for number, group in enumerate(per_frame)]


def _flat(groups: Sequence[Dataset]) -> Dataset:
    """The functional groups of one frame as the flat dataset of a single-frame CT; later groups win."""
    flat = Dataset()
    for group in groups:
        for sequence, keywords in GROUPS.items():
            for keyword in keywords if group.get(sequence) else ():
                setattr(flat, keyword, group[sequence][0].get(keyword))
    return flat


def plane_of(header: Header, frame: Dataset | FlatDataset) -> Plane:
    """Where a frame lies.

    Raises:
        PatientError: NO_PIXEL_SPACING or NO_POSITION.
    """
    where = f"file {header.number} by name"
    spacing = numbers(frame, "PixelSpacing", 2)
    if spacing is None or not SPACING_MM[0] <= spacing.min() <= spacing.max() <= SPACING_MM[1]:
        raise PatientError(Code.NO_PIXEL_SPACING, f"{where} has no pixel spacing, or one that no scanner has; use the original series")
    position, orientation = numbers(frame, "ImagePositionPatient", 3), numbers(frame, "ImageOrientationPatient", 6)
    if position is None or orientation is None or np.abs(position).max() > FARTHEST_MM:
        raise PatientError(Code.NO_POSITION, f"{where} has no position or orientation in the patient; use the original series")
    axes = orientation.reshape(2, 3)
    if np.abs(axes @ axes.T - np.eye(2)).max() > 0.01:
        raise PatientError(Code.NO_POSITION, f"{where} has an orientation that is not two unit vectors at right angles; export it again")
    return Plane(position, orientation, (float(spacing[0]), float(spacing[1])), (int(header.dataset.Rows), int(header.dataset.Columns)))


def _slice(header: Header, frame: Dataset | FlatDataset, number: int | None) -> CtSlice:
    place = plane_of(header, frame)
    slope, intercept = numbers(frame, "RescaleSlope", 1), numbers(frame, "RescaleIntercept", 1)
    if slope is None or intercept is None or slope[0] == 0:
        raise PatientError(Code.NO_RESCALE, f"file {header.number} by name has no rescale slope and intercept, so its HU are unknown; use the original series")
    _require_hu(header, str(frame.get("RescaleType") or ""))
    return CtSlice(header, number, place, float(slope[0]), float(intercept[0]))


def numbers(plane: Dataset | FlatDataset, keyword: str, count: int) -> np.ndarray | None:
    """An element's numbers, float64 (count,); None where they are absent, of another count or not finite."""
    value = plane.get(keyword)
    if value is None or value == "":
        return None
    numbers = np.array([float(item) for item in np.atleast_1d(np.array(value, dtype=object))])
    return numbers if numbers.shape == (count,) and np.isfinite(numbers).all() else None


def _require_hu(header: Header, rescale_type: str) -> None:
    """Rescaled values are HU where the type says so or is absent, and in original images, for which PS3.3 C.8.2.1.1.2 fixes HU."""
    original = header.text("ImageType").strip("[]'").startswith("ORIGINAL")
    if rescale_type not in ("", "HU", "HU_MOD") and not (rescale_type == "US" and original):
        raise PatientError(Code.NOT_CT, f"file {header.number} by name holds values in another unit than HU (a derived map); use the original series")


def _whole_hu(stored: np.ndarray, slope: int, intercept: int) -> np.ndarray:
    """stored * slope + intercept: in 16 bits where neither stored values nor what becomes of them need more, as in nearly every CT."""
    ends = [int(stored.min()), int(stored.max())]
    steps = (*ends, *(end * slope for end in ends), *(end * slope + intercept for end in ends), slope, intercept)
    if min(steps) >= -(2**15) and max(steps) < 2**15:
        hu = stored.astype(np.int16)
        if slope != 1:
            hu *= np.int16(slope)
        hu += np.int16(intercept)
        return hu
    return stored.astype(np.int64 if stored.dtype.itemsize > 2 else np.int32) * slope + intercept


def attenuation(item: CtSlice, whole: Dataset | None, native: np.ndarray | None) -> np.ndarray:
    """HU of one slice as stored, (rows, cols), integer where slope and intercept are; padding becomes air."""
    dataset: Dataset | FlatDataset = item.header.dataset if whole is None else whole
    stored = native if whole is None else pixels(whole, frame=item.frame, number=item.header.number)
    assert stored is not None
    if stored.shape != item.plane.shape:
        raise PatientError(Code.FILE_UNREADABLE, f"file {item.header.number} by name has pixels of another matrix than its header says; export it again")
    hu: np.ndarray
    if item.slope.is_integer() and item.intercept.is_integer() and abs(item.slope) < MOST_WHOLE and abs(item.intercept) < MOST_WHOLE:
        hu = _whole_hu(stored, int(item.slope), int(item.intercept))
    else:
        hu = stored * item.slope + item.intercept
    with readable(f"file {item.header.number} by name"):
        padding = [dataset.get(keyword) for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
        bits = int(dataset.get("BitsStored") or 8 * stored.dtype.itemsize)
    # a wrong sign in the header wraps right, and so does a value that needs more bits than are stored
    ends = [within_bits(np.array(int(value)).astype(stored.dtype), bits) for value in padding if isinstance(value, int)]
    if ends:
        hu[(stored >= min(ends)) & (stored <= max(ends))] = OUTSIDE_HU
    return hu
