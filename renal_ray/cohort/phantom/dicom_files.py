"""A phantom patient as DICOM: one CT series with the habits of one of two scanners, and the lesion
as a DICOM SEG."""

from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from renal_ray.cohort.phantom.formats import (
    ENDINGS,
    ImageKind,
    MaskKind,
    lesion_of,
    write_enhanced,
    write_mask_series,
    write_rtstruct,
    write_volume,
)
from renal_ray.cohort.phantom.patient import LESION, Scan
from renal_ray.cohort.phantom.plan import PatientPlan

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.dataelem import DataElement
    from pydicom.uid import UID

_UID_ROOT = "1.2.826.0.1.3680043.8.498."  # pydicom's own root for generated identifiers
_PADDING = -2000
SEG_KINDS = {"seg": "BINARY", "seg-fractional": "FRACTIONAL", "seg-labelmap": "LABELMAP"}


def write_dicom(
    folder: Path,
    plan: PatientPlan,
    scan: Scan,
    *,
    patient_id: str,
    seed: int,
    image: ImageKind = "dicom",
    mask: MaskKind = "seg",
) -> tuple[str, str]:
    """Writes a patient's image and mask: folder/ct/*.dcm and folder/seg.dcm, or in other kinds of
    file.

    Args:
        folder: the patient's folder; made anew.
        plan: who, and on which scanner.
        scan: the volume.
        patient_id: the DICOM PatientID.
        seed: all identifiers follow from it and the patient's number.
        image: kind of the image.
        mask: kind of the mask.

    Returns:
        Names of image and mask in the folder.
    """
    folder.mkdir(parents=True)
    style = _siemens if plan.scanner == "siemens" else _philips
    slices = [
        _ct_slice(plan, scan, index, patient_id=patient_id, seed=seed)
        for index in range(len(scan.hu))
    ]
    rng = np.random.default_rng([seed, plan.number, 1])
    named = style(slices, scan, rng)

    def uids(what: str, count: int = 2) -> list[str]:
        return [_uid(seed, plan.number, what, number) for number in range(count)]

    if image == "dicom":
        (folder / "ct").mkdir()
        for name, dataset in named:
            dataset.save_as(folder / "ct" / name, enforce_file_format=True)
    elif image == "enhanced":
        write_enhanced(folder / "ct.dcm", slices, uids("enhanced", 1)[0])
    else:
        write_volume(folder / f"ct{ENDINGS[image]}", scan.hu, scan.grid)
    lesion = lesion_of(scan)
    if mask in SEG_KINDS:
        _segmentation(slices, scan, plan, seed=seed, kind=SEG_KINDS[mask]).save_as(
            folder / "seg.dcm"
        )
    elif mask == "rtstruct":
        write_rtstruct(folder / "rtstruct.dcm", slices, lesion, scan.grid, uids("rtstruct"))
    elif mask == "series":
        write_mask_series(folder / "mask", slices, lesion, uids("mask series", len(slices) + 1))
    else:
        write_volume(folder / f"mask{ENDINGS[mask]}", scan.labels, scan.grid)
    images = {"dicom": "ct", "enhanced": "ct.dcm"}
    masks = {"rtstruct": "rtstruct.dcm", "series": "mask"} | dict.fromkeys(SEG_KINDS, "seg.dcm")
    return images.get(image) or f"ct{ENDINGS[image]}", masks.get(mask) or f"mask{ENDINGS[mask]}"


def _uid(seed: int, *parts: object) -> "UID":
    from pydicom.uid import generate_uid

    return generate_uid(
        prefix=_UID_ROOT, entropy_srcs=["renal-ray phantom", str(seed), *map(str, parts)]
    )


def _study_date(plan: PatientPlan, seed: int) -> date:
    """A day in the paper's period, January 2013 to September 2018."""
    return date(2013, 1, 7) + timedelta(
        days=int(np.random.default_rng([seed, plan.number, 2]).integers(0, 2060))
    )


def _ct_slice(
    plan: PatientPlan, scan: Scan, index: int, *, patient_id: str, seed: int
) -> "Dataset":
    """The attributes that both scanners share, in CT Image IOD order; index counts from the
    head."""
    from pydicom import Dataset
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    grid, day = scan.grid, _study_date(plan, seed)
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, _uid(seed, plan.number, "slice", index)
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = day.strftime("%Y%m%d")
    ds.StudyTime, ds.SeriesTime, ds.AcquisitionTime, ds.ContentTime = (
        "101500",
        "102130",
        f"1022{index % 60:02d}",
        "102300",
    )
    ds.AccessionNumber, ds.Modality, ds.ReferringPhysicianName = "", "CT", ""
    ds.StudyDescription, ds.BodyPartExamined = "CT ABDOMEN CONTRAST", "ABDOMEN"
    ds.PatientName, ds.PatientID = f"Phantom^{plan.number:04d}", patient_id
    ds.PatientBirthDate = f"{day.year - plan.age - 1:04d}0701"
    ds.PatientSex, ds.PatientAge, ds.PatientPosition = (
        plan.sex[0].upper(),
        f"{plan.age:03d}Y",
        "HFS",
    )
    ds.ContrastBolusAgent, ds.ContrastBolusRoute = "Iohexol 350", "IV"
    ds.SliceThickness, ds.KVP, ds.XRayTubeCurrent, ds.SpiralPitchFactor = (
        f"{grid.slice_mm:g}",
        "120",
        "260",
        1.0,
    )
    ds.StudyInstanceUID, ds.SeriesInstanceUID = (
        _uid(seed, plan.number, "study"),
        _uid(seed, plan.number, "series"),
    )
    ds.StudyID, ds.SeriesNumber, ds.AcquisitionNumber = "1", "4", "1"
    ds.ImagePositionPatient = [f"{value:.6g}" for value in (grid.x[0], grid.y[0], grid.z[index])]
    ds.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    ds.FrameOfReferenceUID, ds.PositionReferenceIndicator = _uid(seed, plan.number, "frame"), ""
    ds.SliceLocation = f"{grid.z[index]:.6g}"
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = scan.hu.shape[1:]
    ds.PixelSpacing = [f"{value:.8g}" for value in grid.spacing[1:]]
    ds.BitsAllocated = 16
    ds.WindowCenter, ds.WindowWidth, ds.RescaleType = "40", "300", "HU"
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = (
        ds.SOPClassUID,
        ds.SOPInstanceUID,
    )
    ds.file_meta.ImplementationClassUID = _uid(0, "implementation")
    return ds


def _store(
    ds: "Dataset", stored: NDArray[np.integer], *, slope: str, intercept: str, bits: int
) -> None:
    signed = np.issubdtype(stored.dtype, np.signedinteger)
    ds.BitsStored, ds.HighBit, ds.PixelRepresentation = bits, bits - 1, int(signed)
    ds.RescaleIntercept, ds.RescaleSlope = intercept, slope
    ds["PixelData"] = _pixel_element(stored)


def _pixel_element(stored: NDArray[np.integer]) -> "DataElement":
    from pydicom.dataelem import DataElement

    return DataElement("PixelData", "OW", stored.astype(stored.dtype.newbyteorder("<")).tobytes())


def _siemens(
    slices: list["Dataset"], scan: Scan, rng: np.random.Generator
) -> list[tuple[str, "Dataset"]]:
    """Unsigned 12 bits around -1024, numbered from the head down, the whole square filled."""
    named = []
    for index, ds in enumerate(slices):
        ds.Manufacturer, ds.ManufacturerModelName, ds.SoftwareVersions = (
            "SIEMENS",
            "SOMATOM Definition Flash",
            "syngo CT 2012B",
        )
        ds.SeriesDescription, ds.ProtocolName, ds.ConvolutionKernel = (
            "Abdomen Arterial 5.0 B30f",
            "Abdomen_3Phase",
            "B30f",
        )
        ds.InstanceNumber = index + 1
        _store(
            ds,
            (scan.hu[index].astype(np.int32) + 1024).astype(np.uint16),
            slope="1",
            intercept="-1024",
            bits=12,
        )
        named.append((f"IM-{index + 1:04d}.dcm", ds))
    return named


def _philips(
    slices: list["Dataset"], scan: Scan, rng: np.random.Generator
) -> list[tuple[str, "Dataset"]]:
    """Signed 16 bits, padding outside the round field of view, numbered from the feet up, file
    names in no order.

    The rescale is one of three that occur: whole Hounsfield units, half units above -1000, or a
    slope of its own for each slice.
    """
    habit, total = int(rng.integers(3)), len(slices)
    names = rng.permutation(total)
    outside = np.hypot(scan.grid.y[:, None], scan.grid.x[None, :]) > max(
        float(scan.grid.x[-1]), float(scan.grid.y[-1])
    )
    named = []
    for step in range(total):
        index = total - 1 - step
        ds = slices[index]
        ds.Manufacturer, ds.ManufacturerModelName, ds.SoftwareVersions = (
            "Philips",
            "Ingenuity CT",
            "4.1.7",
        )
        ds.SeriesDescription, ds.ProtocolName, ds.ConvolutionKernel = (
            "ARTERIAL 5mm",
            "ABDOMEN 3 PHASE",
            "B",
        )
        ds.InstanceNumber = step + 1
        slope = ("1", "0.5", f"{rng.uniform(0.4, 0.9):.6f}")[habit]
        intercept = ("0", "-1000", "-1000")[habit]
        stored = np.rint((scan.hu[index] - float(intercept)) / float(slope)).astype(np.int16)
        stored[outside] = _PADDING
        ds.add_new("PixelPaddingValue", "SS", _PADDING)
        _store(ds, stored, slope=slope, intercept=intercept, bits=16)
        named.append((f"{names[step]:08x}.dcm", ds))
    return named


def _segmentation(
    slices: list["Dataset"], scan: Scan, plan: PatientPlan, *, seed: int, kind: str
) -> "Dataset":
    import highdicom as hd
    from pydicom.sr.codedict import codes
    from pydicom.uid import ExplicitVRLittleEndian

    mask = scan.labels == LESION
    shown = np.flatnonzero(mask.any(axis=(1, 2)))
    description = hd.seg.SegmentDescription(
        segment_number=1,
        segment_label="Lesion",
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=codes.SCT.Mass,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
        anatomic_regions=[codes.SCT.Kidney],
    )
    seg = hd.seg.Segmentation(
        source_images=[slices[index] for index in shown],
        pixel_array=mask[shown].astype(np.uint8),
        segmentation_type=hd.seg.SegmentationTypeValues[kind],
        segment_descriptions=[description],
        series_instance_uid=_uid(seed, plan.number, "seg series"),
        series_number=100,
        sop_instance_uid=_uid(seed, plan.number, "seg"),
        instance_number=1,
        manufacturer="renal-ray",
        manufacturer_model_name="phantom",
        software_versions="1",
        device_serial_number="1",
        transfer_syntax_uid=ExplicitVRLittleEndian,
        series_description="Lesion",
    )
    _without_clock(seg, slices[0], _uid(seed, plan.number, "dimensions"))
    return seg


def _without_clock(seg: "Dataset", source: "Dataset", dimension_uid: str) -> None:
    """Replaces what depends on the moment of writing, so that the same seed gives the same file."""
    seg.ContentDate = seg.InstanceCreationDate = seg.SeriesDate = source.ContentDate
    seg.ContentTime = seg.InstanceCreationTime = seg.SeriesTime = source.ContentTime
    for element in seg.iterall():
        if element.keyword == "DimensionOrganizationUID":
            element.value = dimension_uid
        elif element.keyword == "ContributionDateTime":
            element.value = f"{source.ContentDate}{source.ContentTime}"
