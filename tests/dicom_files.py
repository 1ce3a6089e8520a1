"""Small synthetic DICOM series and SEG objects for tests, written with pydicom alone."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.pixels import pack_bits
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, SegmentationStorage, generate_uid

NAME = "CANARY^NAME"
BIRTH_DATE = "19010203"
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def _file(path: Path, sop_class: str, modality: str, patient_id: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, meta.MediaStorageSOPInstanceUID
    dataset.Modality, dataset.PatientID, dataset.PatientName, dataset.PatientBirthDate = (
        modality,
        patient_id,
        f"{NAME} {patient_id}",
        BIRTH_DATE,
    )
    dataset.PatientSex, dataset.StudyID, dataset.AccessionNumber, dataset.ReferringPhysicianName = (
        "O",
        "1",
        "",
        "",
    )
    dataset.StudyDate, dataset.StudyTime, dataset.SeriesNumber, dataset.InstanceNumber = (
        "20200101",
        "000000",
        1,
        1,
    )
    return dataset


def ct_slice(
    path: Path,
    stored: np.ndarray,
    position: Sequence[float],
    *,
    series: str,
    frame_of_reference: str = "1.2.3",
    orientation: Sequence[float] = AXIAL,
    spacing: Sequence[float] = (0.5, 0.5),
    slope: float = 1,
    intercept: float = -1024,
    padding: int | None = None,
    patient_id: str = "P1",
) -> FileDataset:
    """A CT image with the stored values; not written yet. SliceThickness is wrong on purpose."""
    dataset = _file(path, CTImageStorage, "CT", patient_id)
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = (
        generate_uid(entropy_srcs=["study", patient_id]),
        series,
        frame_of_reference,
    )
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.ImagePositionPatient, dataset.ImageOrientationPatient = (
        [float(v) for v in position],
        [float(v) for v in orientation],
    )
    dataset.PixelSpacing, dataset.SliceThickness = [float(v) for v in spacing], 99.0
    dataset.RescaleSlope, dataset.RescaleIntercept = slope, intercept
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = stored.shape
    signed = bool(np.issubdtype(stored.dtype, np.signedinteger))
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = (
        16,
        16,
        15,
        int(signed),
    )
    if padding is not None:
        dataset.add_new("PixelPaddingValue", "SS" if signed else "US", padding)
    dataset.PixelData = stored.astype("<i2" if signed else "<u2").tobytes()
    return dataset


def write_series(
    folder: Path,
    volume: np.ndarray,
    *,
    step: float = 2.5,
    origin: Sequence[float] = (-10.0, -20.0, 100.0),
    shuffle: int = 0,
    series: str | None = None,
    **options,
) -> list[FileDataset]:
    """Writes an axial series whose file names do not follow the position.

    Args:
        folder: made when absent.
        volume: HU (slices, rows, cols), slice 0 the most superior one.
        step: distance between slices in mm.
        origin: position of the first pixel of slice 0.
        shuffle: seed of the order of the names.
        series: SeriesInstanceUID; a new one when None.
        options: for `ct_slice`.

    Returns:
        The datasets, slice 0 first, as written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    uid = generate_uid() if series is None else series
    names = np.random.default_rng(shuffle).permutation(len(volume))
    written = []
    for k, hu in enumerate(volume):
        slope, intercept = options.get("slope", 1), options.get("intercept", -1024)
        stored = np.rint((hu - intercept) / slope).astype(np.int16)
        position = (origin[0], origin[1], origin[2] - k * step)
        dataset = ct_slice(folder / f"I{names[k]:04d}.dcm", stored, position, series=uid, **options)
        save(dataset)
        written.append(dataset)
    return written


def save(dataset: FileDataset) -> Path:
    """Writes a dataset to the path that it was made for."""
    path = Path(str(dataset.filename))
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def _item(**values) -> DicomSequence:
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return DicomSequence([item])


def write_seg(
    path: Path,
    frames: Sequence[tuple[int, Dataset, np.ndarray]],
    *,
    labels: Sequence[str] = ("Lesion",),
    kind: str = "BINARY",
    series: str | None = "same",
    orientation: Sequence[float] = AXIAL,
    positions: Sequence[Sequence[float]] | None = None,
    sources: bool = True,
    patient_id: str = "P1",
) -> FileDataset:
    """Writes a SEG.

    Args:
        path: file.
        frames: (segment number, CT slice that it was drawn on, values (rows, cols) in the frame's
            own orientation).
        labels: of the segments, from number 1.
        kind: BINARY, or FRACTIONAL with a maximum of 200.
        series: SeriesInstanceUID that it refers to; "same" takes that of the slices, None leaves
            the reference out.
        orientation: of the frames.
        positions: of the frames; those of the slices when None.
        sources: name the slice that a frame was derived from.
        patient_id: PatientID.

    Returns:
        The dataset as written.
    """
    first = frames[0][1]
    seg = _file(path, SegmentationStorage, "SEG", patient_id)
    seg.StudyInstanceUID, seg.SeriesInstanceUID, seg.FrameOfReferenceUID = (
        first.StudyInstanceUID,
        generate_uid(),
        first.FrameOfReferenceUID,
    )
    if series is not None:
        seg.ReferencedSeriesSequence = _item(
            SeriesInstanceUID=first.SeriesInstanceUID if series == "same" else series
        )
    (
        seg.SegmentationType,
        seg.SamplesPerPixel,
        seg.PhotometricInterpretation,
        seg.PixelRepresentation,
    ) = kind, 1, "MONOCHROME2", 0
    bits = 1 if kind == "BINARY" else 8
    seg.BitsAllocated, seg.BitsStored, seg.HighBit = bits, bits, bits - 1
    if kind == "FRACTIONAL":
        seg.MaximumFractionalValue, seg.SegmentationFractionalType = 200, "PROBABILITY"
    seg.Rows, seg.Columns = frames[0][2].shape
    seg.NumberOfFrames = len(frames)
    seg.SegmentSequence = DicomSequence(
        [_item(SegmentNumber=n, SegmentLabel=label)[0] for n, label in enumerate(labels, 1)]
    )
    shared = Dataset()
    shared.PixelMeasuresSequence = _item(PixelSpacing=first.PixelSpacing, SliceThickness=99.0)
    shared.PlaneOrientationSequence = _item(ImageOrientationPatient=[float(v) for v in orientation])
    seg.SharedFunctionalGroupsSequence = DicomSequence([shared])
    groups = []
    for n, (segment, ct, _) in enumerate(frames):
        group = Dataset()
        position = (
            ct.ImagePositionPatient if positions is None else [float(v) for v in positions[n]]
        )
        group.PlanePositionSequence = _item(ImagePositionPatient=position)
        group.SegmentIdentificationSequence = _item(ReferencedSegmentNumber=segment)
        if sources:
            group.DerivationImageSequence = _item(
                SourceImageSequence=_item(ReferencedSOPInstanceUID=ct.SOPInstanceUID)
            )
        groups.append(group)
    seg.PerFrameFunctionalGroupsSequence = DicomSequence(groups)
    values = np.stack([frame for *_, frame in frames]).astype(np.uint8)
    seg.PixelData = pack_bits(values.ravel()) if kind == "BINARY" else values.tobytes()
    if len(seg.PixelData) % 2:
        seg.PixelData += b"\0"
    save(seg)
    return seg


def write_rtstruct(
    path: Path,
    contours: Sequence[tuple[str, np.ndarray]],
    *,
    series: str = "",
    frame_of_reference: str = "1.2.3",
    sources: Sequence[str] = (),
    kind: str = "CLOSED_PLANAR",
) -> FileDataset:
    """Writes an RTSTRUCT.

    Args:
        path: file.
        contours: name of the ROI and points (n, 3) in mm of each contour.
        series: SeriesInstanceUID that it refers to; none when empty.
        frame_of_reference: that it refers to.
        sources: SOPInstanceUID that each contour refers to; none when empty.
        kind: ContourGeometricType.
    """
    dataset = _file(path, "1.2.840.10008.5.1.4.1.1.481.3", "RTSTRUCT", "P1")
    frame = Dataset()
    frame.FrameOfReferenceUID = frame_of_reference
    if series:
        frame.RTReferencedStudySequence = _item(
            ReferencedSOPClassUID="1.2.840.10008.3.1.2.3.1",
            RTReferencedSeriesSequence=_item(SeriesInstanceUID=series),
        )
    dataset.ReferencedFrameOfReferenceSequence = DicomSequence([frame])
    names = list(dict.fromkeys(name for name, _ in contours))
    dataset.StructureSetROISequence = DicomSequence(
        [_item(ROINumber=n, ROIName=name)[0] for n, name in enumerate(names, 1)]
    )
    rois = []
    for number, name in enumerate(names, 1):
        items = []
        for place, (owner, points) in enumerate(contours):
            if owner == name:
                item = _item(
                    ContourGeometricType=kind,
                    NumberOfContourPoints=len(points),
                    ContourData=[f"{v:.4f}" for v in np.ravel(points)],
                )[0]
                if sources:
                    item.ContourImageSequence = _item(ReferencedSOPInstanceUID=sources[place])
                items.append(item)
        rois.append(_item(ReferencedROINumber=number, ContourSequence=DicomSequence(items))[0])
    dataset.ROIContourSequence = DicomSequence(rois)
    save(dataset)
    return dataset
