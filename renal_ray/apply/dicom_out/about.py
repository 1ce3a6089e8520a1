"""What the Structured Report and the Secondary Capture have in common: who made them, from which
images, and that they are for research."""

from typing import Any

from pydicom import Dataset
from pydicom.uid import generate_uid

from renal_ray import __version__
from renal_ray.apply.dicom_out.sources import MAY_BE_EMPTY
from renal_ray.apply.prediction import Prediction
from renal_ray.store.place import digest

DESCRIPTION = "renal-ray, research only, NOT FOR CLINICAL USE"  # a long string: 64 characters
MANUFACTURER = "renal-ray"
UTF_8 = "ISO_IR 192"
OF_STUDY = (
    "StudyDescription",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
)  # type 3 elements of the study's modules
SIDES = ("Laterality", "ImageLaterality")
OF_IMAGES = ("BodyPartExamined", *SIDES)
UNPAIRED = (  # what a CT of the trunk calls its body part (PS3.16, Annex L)
    *("ABDOMEN", "ABDOMENPELVIS", "CHEST", "CHESTABDOMEN", "CHESTABDPELVIS", "NECKCHESTABDOMEN"),
    *("NECKCHESTABDPELV", "PELVIS", "WHOLEBODY", "SPINE", "TSPINE", "LSPINE", "AORTA", "LIVER"),
    *("PANCREAS", "SPLEEN", "STOMACH", "COLON", "BLADDER"),
)
REPORT_SERIES, CAPTURE_SERIES = 9901, 9902  # beyond the numbers that scanners give


def models_digest(prediction: Prediction) -> str:
    """Names the set of models: a hash over the checksums of their weights."""
    return digest(
        sorted(prediction.chosen.weights_sha256(spec) for spec in prediction.chosen.trials)
    )


def device_uid(prediction: Prediction) -> str:
    """A UID of program and models: the same for all patients whom they score."""
    return str(generate_uid(entropy_srcs=["renal-ray", __version__, models_digest(prediction)]))


def equipment(prediction: Prediction) -> dict[str, Any]:
    """What both objects say of the program."""
    return {
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": prediction.model_name[:64],
        "software_versions": __version__,
        "device_serial_number": models_digest(prediction)[:32],
        "series_description": DESCRIPTION,
        "specific_character_set": UTF_8,
    }


def describe_study(written: Dataset, header: Dataset) -> None:
    """Says of patient, study and body part what the source says, so that all objects of the study
    agree (PS3.3, C.7.2 and C.7.3.1).

    Args:
        written: the object; of an image with a body part, and a side where that is one of a pair.
        header: of a source image.
    """
    for keyword in (*OF_STUDY, *(OF_IMAGES if "Rows" in written else ())):
        if str(header.get(keyword) or ""):
            setattr(written, keyword, header[keyword].value)
    may_be_paired = "Rows" in written and written.get("BodyPartExamined") not in UNPAIRED
    if may_be_paired and not any(keyword in written for keyword in SIDES):
        written.Laterality = ""  # type 2C: which one of the pair the source does not say


def filed(header: Dataset) -> Dataset:
    """Who the patient is and in which study, as the source says it; values that DICOM does not
    allow there are left empty.

    Args:
        header: of a source image.

    Returns:
        A copy with the elements that an object of the same study takes over.
    """
    from pydicom.valuerep import DA, TM

    out = Dataset()
    for keyword in (
        "SOPClassUID",
        "SOPInstanceUID",
        "SeriesInstanceUID",
        "StudyInstanceUID",
        *MAY_BE_EMPTY,
    ):
        setattr(out, keyword, header.get(keyword, ""))
    if out.PatientSex not in ("M", "F", "O"):
        out.PatientSex = ""
    for keyword, kind in (("PatientBirthDate", DA), ("StudyDate", DA), ("StudyTime", TM)):
        try:
            value = kind(getattr(out, keyword) or None)
        except (ValueError, TypeError):
            value = None
        setattr(out, keyword, value)
    return out
