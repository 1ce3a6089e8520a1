"""The page of pictures as a DICOM Secondary Capture that names the images it was made from."""

import highdicom as hd
import numpy as np
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from renal_ray.apply.dicom_out.about import CAPTURE_SERIES, describe_study, equipment, filed
from renal_ray.apply.dicom_out.sources import Source, Sources
from renal_ray.apply.prediction import DISCLAIMER, Prediction

STANDARD_DISPLAY = ("L", "P")  # of every tile: columns to the patient's left, rows to the back


def secondary_capture(
    prediction: Prediction, sources: Sources, picture: np.ndarray
) -> hd.sc.SCImage:
    """Writes a picture as a Secondary Capture.

    Args:
        prediction: what the picture shows.
        sources: the images that it was made from, at least one; it takes over their patient and
            study.
        picture: uint8 (rows, columns, 3); nothing in it tells who the patient is.

    Returns:
        The object, to be saved.
    """
    first = filed(sources.images[0].header)
    capture = hd.sc.SCImage(
        pixel_array=picture,
        photometric_interpretation=hd.PhotometricInterpretationValues.RGB,
        bits_allocated=8,
        coordinate_system=hd.CoordinateSystemNames.PATIENT,
        patient_orientation=STANDARD_DISPLAY,
        study_instance_uid=first.StudyInstanceUID,
        series_instance_uid=hd.UID(),
        series_number=CAPTURE_SERIES,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        patient_id=first.PatientID,
        patient_name=first.PatientName,
        patient_birth_date=first.PatientBirthDate,
        patient_sex=first.PatientSex,
        accession_number=first.AccessionNumber,
        study_id=first.StudyID,
        study_date=first.StudyDate,
        study_time=first.StudyTime,
        referring_physician_name=first.ReferringPhysicianName,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        **equipment(prediction),
    )
    capture.ImageComments = DISCLAIMER
    capture.DerivationDescription = f"{prediction.model_name}: {prediction.map_note}; {DISCLAIMER}"[
        :1024
    ]
    describe_study(capture, sources.images[0].header)
    capture.BurnedInAnnotation = "NO"  # of who the patient is
    capture.ConversionType = "WSD"
    capture.SourceImageSequence = [_reference(one) for one in sources.images]
    return capture


def _reference(source: Source) -> Dataset:
    item, purpose = Dataset(), Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = (
        source.header.SOPClassUID,
        source.header.SOPInstanceUID,
    )
    if source.frames:
        item.ReferencedFrameNumber = list(source.frames)
    purpose.CodeValue, purpose.CodingSchemeDesignator, purpose.CodeMeaning = (
        "121322",
        "DCM",
        "Source image for image processing operation",
    )
    item.PurposeOfReferenceCodeSequence = [purpose]
    return item
