"""A phantom patient in every kind of file that is read: the same voxels, so that each reader can be
tried on them."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from renal_ray.cohort.phantom.fields import Grid
from renal_ray.cohort.phantom.patient import LESION, Scan

if TYPE_CHECKING:
    from pydicom import Dataset

ImageKind = Literal["dicom", "enhanced", "nifti", "nrrd", "mha"]
MaskKind = Literal["seg", "seg-fractional", "seg-labelmap", "rtstruct", "nifti", "nrrd", "series"]
ENDINGS = {"nifti": ".nii.gz", "nrrd": ".nrrd", "mha": ".mha"}
LABELMAP_VALUE = LESION  # of the lesion in a label map
SERIES_VALUE = 255  # of the lesion in a mask kept as images


def write_volume(path: Path, values: NDArray[np.integer], grid: Grid) -> None:
    """Writes a NIfTI, NRRD or MetaImage file by its ending.

    Args:
        path: ends in .nii.gz, .nrrd or .mha.
        values: (slices head to foot, rows front to back, columns right to left).
        grid: their places.
    """
    dz, dy, dx = grid.spacing
    origin = grid.x[0], grid.y[0], grid.z[0]
    if path.name.endswith(".nii.gz"):
        import nibabel as nib

        affine = np.array(
            [
                [0, 0, -dx, -origin[0]],
                [0, -dy, 0, -origin[1]],
                [-dz, 0, 0, origin[2]],
                [0, 0, 0, 1],
            ],
            float,
        )
        nib.save(nib.Nifti1Image(values, affine), path)
        return
    import SimpleITK

    image = SimpleITK.GetImageFromArray(values)
    image.SetSpacing((float(dx), float(dy), float(dz)))
    image.SetOrigin([float(one) for one in origin])
    image.SetDirection((1.0, 0, 0, 0, 1, 0, 0, 0, -1))
    SimpleITK.WriteImage(image, str(path), useCompression=True)


def write_enhanced(path: Path, slices: list["Dataset"], uid: str) -> None:
    """Writes single-frame CT slices as one Legacy Converted Enhanced CT, in the series that masks
    refer to.

    Args:
        path: file.
        slices: of the series.
        uid: of the new object.
    """
    import highdicom as hd

    series = str(slices[0].SeriesInstanceUID)
    hd.legacy.LegacyConvertedEnhancedCTImage(
        slices, series_instance_uid=series, series_number=5, sop_instance_uid=uid, instance_number=1
    ).save_as(path)


def write_mask_series(
    folder: Path, slices: list["Dataset"], mask: NDArray[np.bool_], uids: list[str]
) -> None:
    """Writes a mask as images of 0 and 255, one a slice that has any lesion.

    Args:
        folder: made when absent.
        slices: CT slices, head to foot; geometry and references come from them.
        mask: (slices, rows, columns).
        uids: of the new series, then one for each slice.
    """
    from copy import deepcopy

    folder.mkdir(parents=True, exist_ok=True)
    for k in np.flatnonzero(mask.any(axis=(1, 2))):
        item = deepcopy(slices[k])
        for keyword in (
            "RescaleSlope",
            "RescaleIntercept",
            "RescaleType",
            "PixelPaddingValue",
            "WindowCenter",
            "WindowWidth",
        ):
            if keyword in item:
                delattr(item, keyword)
        item.Modality, item.SOPClassUID, item.SeriesDescription, item.ImageType = (
            "OT",
            "1.2.840.10008.5.1.4.1.1.7.2",
            "Lesion mask",
            ["DERIVED", "SECONDARY"],
        )
        item.SeriesInstanceUID, item.SOPInstanceUID = uids[0], uids[1 + k]
        item.file_meta.MediaStorageSOPClassUID, item.file_meta.MediaStorageSOPInstanceUID = (
            item.SOPClassUID,
            item.SOPInstanceUID,
        )
        item.BitsAllocated, item.BitsStored, item.HighBit, item.PixelRepresentation = 8, 8, 7, 0
        item.PixelData = (mask[k] * np.uint8(SERIES_VALUE)).tobytes()
        item["PixelData"].VR = "OB"
        item.save_as(folder / f"{k:04d}.dcm", enforce_file_format=True)


def write_rtstruct(
    path: Path, slices: list["Dataset"], mask: NDArray[np.bool_], grid: Grid, uids: list[str]
) -> None:
    """Writes a mask as contours half-way between the pixel centres inside and outside: rasterised,
    they give the same voxels.

    Args:
        path: file.
        slices: CT slices, head to foot.
        mask: (slices, rows, columns).
        grid: its places.
        uids: of the new series and object.
    """
    from contourpy import contour_generator
    from pydicom import Dataset
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage

    item, first = Dataset(), slices[0]
    for keyword in (
        "PatientName",
        "PatientID",
        "PatientBirthDate",
        "PatientSex",
        "StudyInstanceUID",
        "StudyDate",
        "StudyTime",
        "StudyID",
        "AccessionNumber",
    ):
        setattr(item, keyword, first.get(keyword, ""))
    item.SOPClassUID, item.SOPInstanceUID, item.Modality = (
        RTStructureSetStorage,
        uids[1],
        "RTSTRUCT",
    )
    item.SeriesInstanceUID, item.SeriesNumber, item.StructureSetLabel = uids[0], "101", "Lesion"
    series = Dataset()
    series.SeriesInstanceUID = first.SeriesInstanceUID
    study = Dataset()
    (
        study.ReferencedSOPClassUID,
        study.ReferencedSOPInstanceUID,
        study.RTReferencedSeriesSequence,
    ) = "1.2.840.10008.3.1.2.3.1", first.StudyInstanceUID, [series]
    frame = Dataset()
    frame.FrameOfReferenceUID, frame.RTReferencedStudySequence = first.FrameOfReferenceUID, [study]
    item.ReferencedFrameOfReferenceSequence = [frame]
    roi = Dataset()
    roi.ROINumber, roi.ROIName, roi.ReferencedFrameOfReferenceUID, roi.ROIGenerationAlgorithm = (
        1,
        "Lesion",
        first.FrameOfReferenceUID,
        "MANUAL",
    )
    item.StructureSetROISequence = [roi]
    contours = []
    for k in np.flatnonzero(mask.any(axis=(1, 2))):
        for line in contour_generator(z=np.pad(mask[k], 1).astype(float)).lines(0.5):
            points = np.asarray(line)[:-1] - 1  # column, row; closed by repetition of the first
            contour, image = Dataset(), Dataset()
            image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID = (
                slices[k].SOPClassUID,
                slices[k].SOPInstanceUID,
            )
            (
                contour.ContourImageSequence,
                contour.ContourGeometricType,
                contour.NumberOfContourPoints,
            ) = [image], "CLOSED_PLANAR", len(points)
            x, y = (
                grid.x[0] + points[:, 0] * grid.spacing[2],
                grid.y[0] + points[:, 1] * grid.spacing[1],
            )
            contour.ContourData = [
                f"{value:.10g}"
                for value in np.column_stack([x, y, np.full(len(points), grid.z[k])]).ravel()
            ]
            contours.append(contour)
    drawn = Dataset()
    drawn.ReferencedROINumber, drawn.ContourSequence = 1, contours
    item.ROIContourSequence = [drawn]
    item.file_meta = FileMetaDataset()
    item.file_meta.TransferSyntaxUID, item.file_meta.MediaStorageSOPClassUID = (
        ExplicitVRLittleEndian,
        item.SOPClassUID,
    )
    item.file_meta.MediaStorageSOPInstanceUID = item.SOPInstanceUID
    item.save_as(path, enforce_file_format=True)


def lesion_of(scan: Scan) -> NDArray[np.bool_]:
    """The lesion under study."""
    return np.asarray(scan.labels == LESION)
