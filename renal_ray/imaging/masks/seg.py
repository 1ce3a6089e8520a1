"""DICOM SEG: frames placed on the image by where they lie, not by their order."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.sr.coding import Code as CodedConcept

from renal_ray.dicom.headers import readable
from renal_ray.dicom.pixels import load, pixels, require_decoder
from renal_ray.imaging.geometry.stack import Plane
from renal_ray.imaging.images.dicom_series import numbers
from renal_ray.imaging.images.source import ImageSource, References
from renal_ray.imaging.masks.lesion import Lesion, lesion_of
from renal_ray.imaging.masks.names import folded_name
from renal_ray.imaging.masks.placing import MaskPlane, place, require_same_place
from renal_ray.problems import Code, Finding, PatientError

KINDS = ("BINARY", "FRACTIONAL", "LABELMAP")
BACKGROUND = 0  # of a label map SEG
SNOMED_RT = (
    "SRT",
    "SNM3",
    "99SDM",
)  # its name today and those before it (PS3.16, 8): each code has a twin in SNOMED CT


@dataclass(frozen=True)
class Segment:
    """A segment of a SEG: its number, label, and property type as SCHEME:VALUE and in words."""

    number: int
    label: str
    code: str
    meaning: str

    def is_called(self, name: str | int) -> bool:
        """Whether a study file means this segment; a code of SNOMED RT is the same as its twin in
        SNOMED CT."""
        if isinstance(name, int) or name.strip().isdecimal():
            return int(name) == self.number
        if folded_name(name) in {folded_name(text) for text in (self.label, self.meaning) if text}:
            return True
        return bool(self.code) and _concept(name) == _concept(self.code)

    @property
    def is_background(self) -> bool:
        """Whether it is what is no segment."""
        return self.number == BACKGROUND or "background" in {
            folded_name(self.label),
            folded_name(self.meaning),
        }

    def __str__(self) -> str:
        return (
            f"{self.number} {self.label} "
            f"({', '.join(text for text in (self.code, self.meaning) if text) or 'no code'})"
        )


class SegMask:
    """A DICOM SEG with the segments that are the lesion.

    Args:
        dataset: the object, read whole but not yet decoded.
        references: the series that it was drawn on.
        segments: the lesion's, by label, code or number; the only one when None.
        threshold: share of the maximum from which a fractional voxel counts.
        resample: bring frames off the image's slices to them by nearest neighbour, and report it.
    """

    def __init__(
        self,
        dataset: Dataset,
        references: References,
        *,
        segments: list[str | int] | None,
        threshold: float,
        resample: bool,
    ) -> None:
        self._dataset, self.references = dataset, references
        self._segments, self._threshold, self._resample = segments, threshold, resample
        self.findings: tuple[Finding, ...] = ()
        self.facts = "DICOM SEG"

    def lesion(self, image: ImageSource) -> Lesion:
        """Places the lesion's frames on the image and merges them; a slice without a frame has no
        lesion.

        Raises:
            PatientError: LESION_UNNAMED, MASK_OFF_GRID, MASK_BEYOND_IMAGE, MASK_WITHOUT_SERIES,
                MASK_EMPTY, MASK_UNSUPPORTED, NO_POSITION, NO_PIXEL_SPACING or what stops the
                decoding.
        """
        contradictions = require_same_place("SEG", self.references, image)
        require_decoder(self._dataset.file_meta.TransferSyntaxUID)
        with readable("the SEG"):
            chosen = _chosen(
                [_segment(item) for item in self._dataset.SegmentSequence], self._segments
            )
            kind = str(self._dataset.get("SegmentationType") or "")
            if kind not in KINDS:
                raise PatientError(
                    Code.MASK_UNSUPPORTED,
                    f"a SEG of another type than {', '.join(KINDS)}; export it as one of them",
                )
            groups = self._dataset.get("PerFrameFunctionalGroupsSequence")
            if not groups or len(groups) != int(self._dataset.get("NumberOfFrames") or 1):
                raise PatientError(
                    Code.FILE_UNREADABLE,
                    "the SEG has another number of frames than it describes; export it again",
                )
            planes = [
                self._plane(frame, mask) for frame, mask in self._frames(kind, chosen) if mask.any()
            ]
            named = ", ".join(segment.label for segment in chosen) or "(none)"
            self.facts = f"DICOM SEG ({kind}), {named}, {len(planes)} frames with lesion"
            if not planes:
                raise PatientError(Code.MASK_EMPTY, f"all frames of the segments {named} are empty")
            frames, findings = place(planes, image, resample=self._resample)
        self.findings = (*contradictions, *findings)
        return lesion_of(frames, f"nothing of the segments {named} lies on the image")

    def _frames(self, kind: str, chosen: list[Segment]) -> Iterator[tuple[int, np.ndarray]]:
        """The frames of the chosen segments as bool (rows, cols), decoded one at a time."""
        wanted = {segment.number for segment in chosen}
        for frame in range(len(self._dataset.PerFrameFunctionalGroupsSequence)):
            if kind == "LABELMAP":
                yield frame, np.isin(self._values(frame), sorted(wanted - {BACKGROUND}))
            elif (
                int(self._group(frame, "SegmentIdentificationSequence").ReferencedSegmentNumber)
                in wanted
            ):
                least = (
                    self._threshold * float(self._dataset.MaximumFractionalValue)
                    if kind == "FRACTIONAL"
                    else 1
                )
                yield frame, self._values(frame) >= least

    def _values(self, frame: int) -> np.ndarray:
        """Stored values of one frame, (rows, cols)."""
        seg = self._dataset
        rows, columns = int(seg.Rows), int(seg.Columns)
        if int(seg.BitsAllocated) == 1 and not seg.file_meta.TransferSyntaxUID.is_encapsulated:
            first = (
                frame * rows * columns
            )  # frames follow each other without gaps, not on whole bytes
            data = seg.get("PixelData") or b""
            if len(data) * 8 < first + rows * columns:
                raise PatientError(
                    Code.FILE_TRUNCATED,
                    "the SEG has fewer pixels than its header says; copy or export it again",
                )
            piece = np.frombuffer(data, np.uint8)[first // 8 : (first + rows * columns + 7) // 8]
            bits = np.unpackbits(piece, bitorder="little")[first % 8 : first % 8 + rows * columns]
            return bits.reshape(rows, columns)
        values = pixels(seg, frame=frame)
        if values.shape != (rows, columns):
            raise PatientError(
                Code.FILE_UNREADABLE,
                "the SEG has frames of another matrix than its header says; export it again",
            )
        return values

    def _group(self, frame: int, name: str) -> Dataset:
        """A functional group of a frame, its own or the shared one; empty where there is none."""
        shared = self._dataset.get("SharedFunctionalGroupsSequence") or [Dataset()]
        for group in (self._dataset.PerFrameFunctionalGroupsSequence[frame], shared[0]):
            if group.get(name):
                first: Dataset = group[name][0]
                return first
        return Dataset()

    def _plane(self, frame: int, mask: np.ndarray) -> MaskPlane:
        position = numbers(self._group(frame, "PlanePositionSequence"), "ImagePositionPatient", 3)
        orientation = numbers(
            self._group(frame, "PlaneOrientationSequence"), "ImageOrientationPatient", 6
        )
        measures = self._group(frame, "PixelMeasuresSequence")
        spacing, step = (
            numbers(measures, "PixelSpacing", 2),
            numbers(measures, "SpacingBetweenSlices", 1),
        )
        if position is None or orientation is None or abs(np.linalg.det(_axes(orientation))) < 0.9:
            raise PatientError(
                Code.NO_POSITION,
                f"frame {frame + 1} of the SEG has no position in the patient; export it again",
            )
        if spacing is None or spacing.min() <= 0:
            raise PatientError(
                Code.NO_PIXEL_SPACING,
                f"frame {frame + 1} of the SEG has no pixel spacing; export it again",
            )
        plane = Plane(position, orientation, (float(spacing[0]), float(spacing[1])), mask.shape)
        sources = frozenset(_sources(self._group(frame, "DerivationImageSequence")))
        return MaskPlane(
            plane,
            mask,
            sources,
            f"frame {frame + 1} of the SEG",
            0.0 if step is None else abs(float(step[0])),
        )


def open_seg(
    path: Path, *, segments: list[str | int] | None, threshold: float, resample: bool
) -> SegMask:
    """Reads a DICOM SEG.

    Args:
        path: the file.
        segments, threshold, resample: as for `SegMask`.

    Raises:
        PatientError: FILE_UNREADABLE.
    """
    with readable("the SEG"):
        dataset = load(path)
        series = {
            str(item.get("SeriesInstanceUID") or "")
            for item in dataset.get("ReferencedSeriesSequence") or []
        } - {""}
        references = References(
            frozenset(series),
            str(dataset.get("FrameOfReferenceUID") or ""),
            frozenset(_images(dataset)),
        )
        return SegMask(
            dataset, references, segments=segments, threshold=threshold, resample=resample
        )


def _images(dataset: Dataset) -> Iterator[str]:
    """SOPInstanceUIDs of the slices on which the frames were drawn."""
    for groups in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for group in dataset.get(groups) or []:
            for derivation in group.get("DerivationImageSequence") or []:
                yield from _sources(derivation)


def _sources(derivation: Dataset) -> Iterator[str]:
    for source in derivation.get("SourceImageSequence") or []:
        if uid := str(source.get("ReferencedSOPInstanceUID") or ""):
            yield uid


def _axes(orientation: np.ndarray) -> np.ndarray:
    row, column = orientation.reshape(2, 3)
    return np.stack([row, column, np.cross(row, column)])


def _concept(code: str) -> CodedConcept:
    """A code SCHEME:VALUE, to be compared: equal ones are equal, and so are twins of SNOMED RT and
    SNOMED CT."""
    scheme, _, value = (part.strip().upper() for part in code.partition(":"))
    return CodedConcept(value, "SRT" if scheme in SNOMED_RT else scheme, "")


def _segment(item: Dataset) -> Segment:
    code = (item.get("SegmentedPropertyTypeCodeSequence") or [Dataset()])[0]
    value = code.get("CodeValue") or code.get("LongCodeValue") or ""
    value = f"{code.get('CodingSchemeDesignator')}:{value}" if value else ""
    return Segment(
        int(item.SegmentNumber),
        str(item.get("SegmentLabel") or "").strip(),
        value,
        str(code.get("CodeMeaning") or "").strip(),
    )


def _chosen(segments: list[Segment], names: list[str | int] | None) -> list[Segment]:
    """The segments that are the lesion.

    Raises:
        PatientError: LESION_UNNAMED where it has several and none is named, MASK_EMPTY where it has
            none of those that are, FILE_UNREADABLE where several segments have one number.
    """
    lesions = [segment for segment in segments if not segment.is_background]
    listed = "; ".join(map(str, segments)) or "(none)"
    if len({segment.number for segment in segments}) < len(set(segments)):
        raise PatientError(
            Code.FILE_UNREADABLE,
            "the SEG has two segments of one number, so whose frames are "
            f"whose is unknown: {listed}; export it again",
        )
    advice = "name the lesion's there by label, code or number"
    if names is None:
        if len(lesions) > 1:
            raise PatientError(
                Code.LESION_UNNAMED,
                "the SEG has several segments and "
                f"cohort.lesion_segments names none: {listed}; {advice}",
            )
        return lesions
    chosen = [
        segment
        for segment in segments
        if segment.number != BACKGROUND and any(segment.is_called(name) for name in names)
    ]
    if not chosen:
        raise PatientError(
            Code.MASK_EMPTY,
            "the SEG has none of the segments of "
            f"cohort.lesion_segments {names}: {listed}; {advice}",
        )
    return chosen
