"""The prediction as a DICOM Structured Report: a measurement report by template TID 1500
(PS3.16)."""

import highdicom as hd
from highdicom.sr import CodedConcept, ContentSequence, RelationshipTypeValues
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian

from renal_ray import __version__
from renal_ray.apply.dicom_out.about import (
    MANUFACTURER,
    REPORT_SERIES,
    describe_study,
    device_uid,
    equipment,
    filed,
)
from renal_ray.apply.dicom_out.sources import Sources
from renal_ray.apply.prediction import DISCLAIMER, PLACED_NOTE, VOTERS_NOTE, Prediction
from renal_ray.types import Label

KIDNEY = CodedConcept("64033007", "SCT", "Kidney")
CT_STUDY = CodedConcept("77477000", "SCT", "Computerized axial tomography")
DECISIONS = {
    Label.BENIGN: CodedConcept("30807003", "SCT", "Benign"),
    Label.MALIGNANT: CodedConcept("21594007", "SCT", "Malignant"),
}
PERCENT, ONE = CodedConcept("%", "UCUM", "Percent"), CodedConcept("1", "UCUM", "no units")


def own(value: str, meaning: str) -> CodedConcept:
    """A concept that no public scheme has, in a private one."""
    return CodedConcept(value, "99RENALRAY", meaning)


PROBABILITY = CodedConcept("111047", "DCM", "Probability of cancer")
SCORE = own(
    "score", "Model score, not calibrated"
)  # a share of no patients: DICOM's code for a probability is not its name
VOTES = own("votes", "Fold models that say malignant")
MODELS = own("models", "Fold models that voted")
LOWEST, HIGHEST, SPREAD = (
    own("lowest", "Lowest score of the fold models"),
    own("highest", "Highest score of the fold models"),
    own("sd", "SD of the scores"),
)
DECISION = own("decision", "Majority decision of the fold models")
DISTANCE = own("distance", "Percentile of the embedding distance")
LIKENESS = own("likeness", "Likeness to the training cohort")
UNUSUAL, USUAL = (
    own("unusual", "Unlike most training patients"),
    own("usual", "Within the range of the training cohort"),
)
NOVELTY = own("novelty", "Whether the models had seen the patient")
SEEN = {
    "": own("new", "Image is none of the study's"),
    "train": own("seen-in-training", "Image is of a patient that the models were trained on"),
    "test": own("seen-in-test", "Image is of a patient of the study's sealed test"),
}


def structured_report(prediction: Prediction, sources: Sources) -> hd.sr.ComprehensiveSR:
    """Writes a prediction as a Comprehensive SR, preliminary and unverified.

    Args:
        prediction: what is said of the patient.
        sources: the images that it was said from, at least one; the report takes over their patient
            and study, and refers to each of them.

    Returns:
        The object, to be saved.
    """
    content = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer_device_context=_observer(prediction)),
        procedure_reported=CT_STUDY,
        imaging_measurements=[_lesion(prediction, sources)],
        title=codes.DCM.ImagingMeasurementReport,
    )
    root = content[0].ContentSequence
    root.insert(
        len(root) - 1, _library(sources)
    )  # the order counts: the library stands before the measurements
    warnings = ([prediction.seen_before] if prediction.known else []) + list(prediction.warnings)
    for text in (
        DISCLAIMER,
        prediction.score_note,
        VOTERS_NOTE,
        PLACED_NOTE,
        *(f"Warning: {one}." for one in warnings),
    ):
        root.append(
            hd.sr.TextContentItem(
                codes.DCM.Comment, text, relationship_type=RelationshipTypeValues.CONTAINS
            )
        )
    evidence = [filed(one.header) for one in sources.images]
    report = hd.sr.ComprehensiveSR(
        evidence=evidence,
        content=content,
        series_instance_uid=hd.UID(),
        series_number=REPORT_SERIES,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        is_complete=True,
        is_final=False,
        is_verified=False,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        **equipment(prediction),
    )
    describe_study(report, sources.images[0].header)
    return report


def _observer(prediction: Prediction) -> hd.sr.ObserverContext:
    device = hd.sr.DeviceObserverIdentifyingAttributes(
        uid=device_uid(prediction),
        name="renal-ray (research only)",
        manufacturer_name=MANUFACTURER,
        model_name=prediction.model_name,
        serial_number=__version__,
    )
    return hd.sr.ObserverContext(
        observer_type=codes.DCM.Device, observer_identifying_attributes=device
    )


def _lesion(
    prediction: Prediction, sources: Sources
) -> hd.sr.MeasurementsAndQualitativeEvaluations:
    vote = prediction.vote
    values: list[tuple[CodedConcept, float, CodedConcept]] = [
        (PROBABILITY, 100 * vote.score, PERCENT)
        if prediction.is_calibrated
        else (SCORE, vote.score, ONE),
        (VOTES, vote.votes, ONE),
        (MODELS, len(vote.voters), ONE),
        (LOWEST, vote.lowest, ONE),
        (HIGHEST, vote.highest, ONE),
    ]
    if vote.sd is not None:
        values.append((SPREAD, vote.sd, ONE))
    values += [
        (own(f"score-{one.fold}", f"Score of fold model {one.fold}"), one.score, ONE)
        for one in vote.voters
    ]
    values += [
        (DISTANCE, one.percentile, PERCENT)
        for one in prediction.placed
        if one.name == "embedding distance" and one.percentile is not None
    ]
    return hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(uid=hd.UID(), identifier="renal lesion"),
        finding_type=codes.SCT.Mass,
        finding_sites=[hd.sr.FindingSite(KIDNEY)],
        algorithm_id=hd.sr.AlgorithmIdentification(
            name=f"renal-ray {prediction.model_name}",
            version=__version__,
            parameters=[f"{one.trial_id}, threshold {one.threshold:.6g}" for one in vote.voters],
        ),
        measurements=[
            hd.sr.Measurement(name, float(f"{value:.6g}"), unit) for name, value, unit in values
        ],
        qualitative_evaluations=[
            hd.sr.QualitativeEvaluation(DECISION, DECISIONS[Label(vote.decision)]),
            hd.sr.QualitativeEvaluation(LIKENESS, UNUSUAL if prediction.warnings else USUAL),
            hd.sr.QualitativeEvaluation(NOVELTY, SEEN[prediction.known]),
        ],
        source_images=[
            hd.sr.SourceImageForMeasurementGroup(
                one.header.SOPClassUID, one.header.SOPInstanceUID, list(one.frames) or None
            )
            for one in sources.images
        ],
    )


def _library(sources: Sources) -> hd.sr.ContainerContentItem:
    """The images that the report refers to (TID 1600), without the descriptors that not every image
    has."""
    library = hd.sr.ContainerContentItem(
        codes.DCM.ImageLibrary, relationship_type=RelationshipTypeValues.CONTAINS
    )
    group = hd.sr.ContainerContentItem(
        codes.DCM.ImageLibraryGroup, relationship_type=RelationshipTypeValues.CONTAINS
    )
    group.ContentSequence = ContentSequence(
        [
            hd.sr.ImageContentItem(
                CodedConcept("260753009", "SCT", "Source"),
                one.header.SOPClassUID,
                one.header.SOPInstanceUID,
                list(one.frames) or None,
                relationship_type=RelationshipTypeValues.CONTAINS,
            )
            for one in sources.images
        ]
    )
    library.ContentSequence = ContentSequence([group])
    return library
