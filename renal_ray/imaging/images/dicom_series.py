"""One DICOM CT series: headers first, geometry verified, pixels decoded only for the slices that
are wanted."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSNearLossless,
)

from renal_ray.config import Cohort
from renal_ray.dicom.acquired import ACQUISITION_TAGS, Acquired
from renal_ray.dicom.acquisitions import longest_pause_s
from renal_ray.dicom.flat import FlatDataset
from renal_ray.dicom.headers import Header, Pixels, read_headers, readable, syntax_of
from renal_ray.dicom.pixels import declared, load, native_pixels, require_decoder
from renal_ray.dicom.series import KEY_TAGS
from renal_ray.imaging.geometry.grid import AS_STORED, Grid, Turn, nearest_turn, turn_to_axial
from renal_ray.imaging.geometry.stack import Plane, stack
from renal_ray.imaging.images.dicom_choice import PERSON_TAGS, Image, choose, without_pixels
from renal_ray.imaging.images.dicom_hu import CtSlice, attenuation, is_hounsfield, looks_like_ct
from renal_ray.imaging.images.sizes import FARTHEST_MM, MOST_PLANE, SPACING_MM
from renal_ray.imaging.images.source import HuStack, References, sized
from renal_ray.imaging.survey import survey_slices
from renal_ray.problems import Code, Finding, PatientError

TAGS = [
    *dict.fromkeys(
        (
            *KEY_TAGS,
            *ACQUISITION_TAGS,
            *PERSON_TAGS,
            *(
                "SOPClassUID",
                "SOPInstanceUID",
                "Modality",
                "ImageType",
                "RescaleSlope",
                "RescaleIntercept",
                "RescaleType",
            ),
            *(
                "ConcatenationUID",
                "InConcatenationTotalNumber",
                "BitsStored",
                "HighBit",
                "PixelRepresentation",
            ),
            *(
                "PixelPaddingValue",
                "PixelPaddingRangeLimit",
                "LossyImageCompression",
                "LossyImageCompressionRatio",
            ),
        )
    )
]
GROUPS = {  # functional group of an enhanced CT: the elements of a single-frame one that it holds
    "PlanePositionSequence": ("ImagePositionPatient",),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
    "PixelMeasuresSequence": ("PixelSpacing",),
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept", "RescaleType"),
}
LOSSY = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless)
EITHER = (JPEG2000, HTJ2K)
UPRIGHT = np.eye(2)


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
        """Decodes some slices, int16 or float32 (n, rows, cols) in HU, in the standard axial
        display."""
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


def open_series(
    folder: Path, wanted: References, cohort: Cohort, *, series: str = ""
) -> DicomSeries:
    """Finds the CT series of a folder and verifies that it is a volume of axial slices.

    Objects that are no images (SEG, RTSTRUCT, reports) and scout views in a series of their own are
    passed over.

    Args:
        folder: folder of one series, or one DICOM file; of several CT series the one that the mask
            refers to is taken.
        wanted: what the mask refers to.
        cohort: what to do with tilted and oblique series.
        series: key of the one to take, or of one of its acquisitions (`dicom.series`); empty where
            mask or folder decide.

    Returns:
        The series, its slices head to foot.

    Raises:
        PatientError: with the code of what is wrong.
    """
    chosen = choose(read_headers(folder, TAGS, keep_broken=True), wanted, series, folder)
    headers = chosen.headers
    slices = _slices(chosen.images)
    try:
        _require_whole(headers)
        order, stored = stack([item.plane for item in slices])
    except PatientError as error:
        raise chosen.explained(error, folder) from None
    if nearest_turn(stored).axes[0] != 0 and cohort.oblique == "refuse":
        raise PatientError(
            Code.NOT_AXIAL,
            "the series is coronal or sagittal; use the axial one, or set cohort.oblique: resample",
        )
    turn = turn_to_axial(stored, tilt=cohort.tilt, oblique=cohort.oblique)
    straight = turn is not None and turn.axes[0] == 0
    turn = turn if turn is not None and straight else AS_STORED
    if turn.flips[0]:
        order = order[::-1]
    in_order = replace(turn, flips=(False, *turn.flips[1:]))
    grid = turn.grid(stored)
    series_uid, frames = (
        headers[0].text("SeriesInstanceUID"),
        {header.text("FrameOfReferenceUID") for header in headers},
    )
    references = References(
        frozenset({series_uid} - {""}), frames.pop() if len(frames) == 1 else ""
    )
    facts = f"DICOM series of {sized(grid)}, {UID(syntax_of(headers[0].dataset)).name}"
    found = DicomSeries(
        grid, references, tuple(slices[i] for i in order), in_order, straight, facts
    )
    seen = [
        *chosen.findings(),
        *_pause([chosen.images[i].acquired for i in order]),
        *_lossy(headers),
        *_derived(found),
    ]
    return replace(found, findings=tuple(seen))


def _pause(images: Sequence[Acquired]) -> list[Finding]:
    """A pause within the series, in which the contrast goes on."""
    if not (pause := longest_pause_s(images)):
        return []
    message = (
        f"neighbouring slices were scanned {pause:.0f} s apart, under two acquisition "
        "numbers; look whether the lesion lies in two contrast phases"
    )
    return [Finding(Code.ACQUISITION_PAUSE, message)]


def _lossy(headers: Sequence[Header]) -> list[Finding]:
    """Compression with loss, by header or transfer syntax (PS3.3, C.7.6.1.1.5), else by the
    codestream of the first image."""
    ratios: list[float] = []
    lossy = []
    for header in headers:
        with readable(f"file {header.number} by name"):
            ratio = header.dataset.get("LossyImageCompressionRatio")
            ratios.append(
                max(
                    map(
                        float,
                        ratio
                        if isinstance(ratio, Sequence) and not isinstance(ratio, str)
                        else [ratio],
                    ),
                    default=0.0,
                )
                if ratio
                else 0.0
            )
        if (
            header.text("LossyImageCompression") == "01"
            or ratios[-1] > 1
            or syntax_of(header.dataset) in LOSSY
        ):
            lossy.append(header)
    if (
        not lossy
        and syntax_of(headers[0].dataset) in EITHER
        and not headers[0].text("LossyImageCompression")
    ):
        coded = declared(load(headers[0].path, number=headers[0].number))
        lossy = list(headers) if coded and coded.lossy else []
    if not lossy:
        return []
    ratio = max(ratios)
    said = (
        f"up to {ratio:.3g} : 1"
        if np.isfinite(ratio) and ratio > 1
        else "by a ratio that the header does not give"
    )
    message = (
        f"{len(lossy)} of {len(headers)} images were compressed with loss, {said}; fine "
        "texture is gone: use the original images if there are any"
    )
    return [Finding(Code.LOSSY_COMPRESSION, message)]


def _derived(series: DicomSeries) -> list[Finding]:
    """Derived images that leave their unit open are read as HU where their values are those of a
    body in HU.

    Raises:
        PatientError: NOT_CT.
    """
    unsaid = [item for item in series.slices if not item.hounsfield]
    if not unsaid:
        return []
    if not looks_like_ct(series.read(survey_slices(len(series.slices)))):
        where = f"file {unsaid[0].header.number} by name"
        raise PatientError(
            Code.NOT_CT,
            f"{where} is a derived image in a unit that it does not say, with "
            "values that are no HU; use the original series",
        )
    return [
        Finding(
            Code.DERIVED_IMAGE,
            "the images are derived ones and do not say their unit; their values "
            "look like HU: compare with the original series",
        )
    ]


def _require_whole(headers: list[Header]) -> None:
    """Refuses a concatenation - an enhanced object in several files - of which files are missing
    (PS3.3, C.7.6.16.2.2.4)."""
    parts = Counter(header.text("ConcatenationUID") for header in headers)
    for header in headers:
        there, total = (
            parts[header.text("ConcatenationUID")],
            header.text("InConcatenationTotalNumber"),
        )
        if header.text("ConcatenationUID") and total.isdigit() and int(total) != there:
            raise PatientError(
                Code.MISSING_SLICE,
                f"{there} of the {int(total)} files that make up a multi-frame "
                "image are there; export it again, complete",
            )


def _slices(images: Sequence[Image]) -> list[CtSlice]:
    """The slices of images: one of a file, or those of an enhanced CT."""
    for syntax in {syntax_of(image.header.dataset) for image in images}:
        require_decoder(syntax)
    files: dict[int, list[Image]] = defaultdict(list)
    for image in images:
        files[id(image.header)].append(image)
    return [
        item
        for group in files.values()
        for item in slices_of(group[0].header, {image.frame for image in group})
    ]


def slices_of(header: Header, wanted: set[int | None]) -> list[CtSlice]:
    """The slices of one file.

    Args:
        header: of the file, with `TAGS`.
        wanted: which of its frames, by number; None for a single-frame image.

    Raises:
        PatientError: it cannot be a slice of a CT.
    """
    if header.pixels is not Pixels.PRESENT:
        raise without_pixels(header)
    with readable(f"file {header.number} by name"):
        if int(header.dataset.get("SamplesPerPixel") or 1) != 1:
            raise PatientError(
                Code.NOT_CT,
                f"file {header.number} by name is a colour image; give the original CT series",
            )
        if (
            int(header.dataset.get("Rows") or 0) * int(header.dataset.get("Columns") or 0)
            > MOST_PLANE
        ):
            raise PatientError(
                Code.TOO_LARGE,
                f"file {header.number} by name declares more pixels than "
                "any CT image has; export it again",
            )
        return [
            _slice(header, frame, number) for number, frame in frames_of(header) if number in wanted
        ]


def frames_of(header: Header) -> list[tuple[int | None, Dataset | FlatDataset]]:
    """Each frame of an image with its number and its attributes as a single-frame image has them;
    one frame, number None, for a single-frame image.

    Raises:
        PatientError: NO_POSITION where a multi-frame image does not describe each frame (PS3.3
            C.7.6.16).
    """
    per_frame = header.dataset.get("PerFrameFunctionalGroupsSequence") or []
    where = f"file {header.number} by name"
    if int(header.dataset.get("NumberOfFrames") or 1) != max(1, len(per_frame)):
        raise PatientError(
            Code.NO_POSITION,
            f"{where} holds other than the frames that it describes, so it "
            "is unknown where they lie; export it again",
        )
    if not per_frame:
        return [(None, header.dataset)]
    shared = header.dataset.get("SharedFunctionalGroupsSequence") or [Dataset()]
    return [(number, _flat([shared[0], group])) for number, group in enumerate(per_frame)]


def _flat(groups: Sequence[Dataset]) -> Dataset:
    """The functional groups of one frame as the flat dataset of a single-frame CT; later groups
    win."""
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
        raise PatientError(
            Code.NO_PIXEL_SPACING,
            f"{where} has no pixel spacing, or one that no scanner has; use the original series",
        )
    position, orientation = (
        numbers(frame, "ImagePositionPatient", 3),
        numbers(frame, "ImageOrientationPatient", 6),
    )
    if position is None or orientation is None or np.abs(position).max() > FARTHEST_MM:
        raise PatientError(
            Code.NO_POSITION,
            f"{where} has no position or orientation in the patient; use the original series",
        )
    axes = orientation.reshape(2, 3)
    if np.abs(axes @ axes.T - UPRIGHT).max() > 0.01:
        raise PatientError(
            Code.NO_POSITION,
            f"{where} has an orientation that is not two unit vectors "
            "at right angles; export it again",
        )
    return Plane(
        position,
        orientation,
        (float(spacing[0]), float(spacing[1])),
        (int(header.dataset.Rows), int(header.dataset.Columns)),
    )


def _slice(header: Header, frame: Dataset | FlatDataset, number: int | None) -> CtSlice:
    place = plane_of(header, frame)
    slope, intercept = numbers(frame, "RescaleSlope", 1), numbers(frame, "RescaleIntercept", 1)
    if slope is None or intercept is None or slope[0] == 0:
        raise PatientError(
            Code.NO_RESCALE,
            f"file {header.number} by name has no rescale slope and intercept, "
            "so its HU are unknown; use the original series",
        )
    hounsfield = is_hounsfield(header, str(frame.get("RescaleType") or ""))
    return CtSlice(header, number, place, float(slope[0]), float(intercept[0]), hounsfield)


def numbers(plane: Dataset | FlatDataset, keyword: str, count: int) -> np.ndarray | None:
    """An element's numbers, float64 (count,); None where they are absent, of another count or not
    finite."""
    value = plane.get(keyword)
    if value is None or value == "":
        return None
    numbers = np.array([float(item) for item in np.atleast_1d(np.array(value, dtype=object))])
    return numbers if numbers.shape == (count,) and np.isfinite(numbers).all() else None
