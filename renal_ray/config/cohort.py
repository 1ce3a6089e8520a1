"""Who is in the study, and what is seen of them."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from renal_ray.config.section import Section


class PhaseRule(Section):
    """How a series of one contrast phase is recognised."""

    description: list[str] = Field(
        min_length=1,
        description=(
            "regular expressions, without regard to case; one found "
            "in the series description is enough"
        ),
    )
    delay_s: tuple[float, float] | None = Field(
        None,
        description=(
            "seconds from the start of the contrast injection to the acquisition, from and to"
        ),
    )


PHASE_RULES = {
    "unenhanced": PhaseRule(
        description=[
            r"\bnative?\b",
            r"\bnon[- ]?(contrast|enhanced)",
            r"\bun-?enhanced",
            r"\bplain\b",
            r"\bw/?o\b",
            r"without",
        ]
    ),
    "corticomedullary": PhaseRule(
        description=[r"cortico", r"\bcmp?\b", r"\bart(erial?)?\b", r"late art"], delay_s=(25, 50)
    ),
    "nephrographic": PhaseRule(
        description=[r"nephro", r"\bport(al|o)?\b", r"\b[pv]v?p?\b", r"\bven(ous|a)?\b"],
        delay_s=(60, 130),
    ),
    "excretory": PhaseRule(
        description=[r"excret", r"delay", r"urogra", r"pyelo", r"\blate\b(?! art)"],
        delay_s=(150, 1200),
    ),
}


class Phase(Section):
    """Which CT series of a patient is proposed where there are several."""

    use: str = Field(
        "corticomedullary",
        min_length=1,
        description="contrast phase that the study is on: one of the rules",
    )
    rules: dict[str, PhaseRule] = Field(PHASE_RULES, description="how each phase is recognised")

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.use not in self.rules:
            raise ValueError(
                f"phase.use: {self.use!r} is none of the phases that "
                f"have rules: {sorted(self.rules)}"
            )
        return self


class Cohort(Section):
    """Where the patients come from: exactly one of manifest, dicom and kits."""

    manifest: Path | None = Field(
        None,
        description=(
            "CSV or Parquet with patient_id, label, image, mask; paths relative to the manifest"
        ),
    )
    dicom: Path | None = Field(
        None, description="folder of DICOM CT series with their masks; needs labels"
    )
    labels: Path | None = Field(
        None,
        description="CSV or Parquet with patient_id, label and optional columns; goes with dicom",
    )
    kits: Path | None = Field(
        None,
        description=(
            "clone of KiTS23, KiTS21 or KiTS19, or its folder of "
            "case_NNNNN/{imaging,segmentation}.nii.gz and kits23.json"
        ),
    )
    lesion_labels: list[int] = Field(
        [2],
        min_length=1,
        description="values of a label map that are the lesion (KiTS: 2 tumour, 3 cyst)",
    )
    lesion_segments: list[str | int] | None = Field(
        None,
        description=(
            "segments of a DICOM SEG that are the lesion, each by label, code "
            "(SCHEME:VALUE) or number; the only one when omitted"
        ),
    )
    lesion_rois: list[str] | None = Field(
        None,
        description=(
            "ROIs of an RTSTRUCT that are the lesion, by name or "
            "pattern (GTV*); the only one when omitted"
        ),
    )
    fractional_threshold: float = Field(
        0.5,
        gt=0,
        le=1,
        description="share of the maximum from which a voxel of a fractional SEG is lesion",
    )
    mask_resample: bool = Field(
        False,
        description=(
            "resample a mask that is off the image's grid by nearest "
            "neighbour; otherwise its patient is left out"
        ),
    )
    tilt: Literal["refuse", "resample"] = Field(
        "refuse",
        description="series with a tilted gantry: leave out, or resample to straight axial slices",
    )
    oblique: Literal["refuse", "resample"] = Field(
        "refuse", description="oblique series: leave out, or resample to straight axial slices"
    )
    phase: Phase = Field(
        Phase(), description="which series is proposed where a patient has several"
    )
    keep_ids: bool = Field(
        True, description="use DICOM PatientID as patient_id; false replaces it by a keyed hash"
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = [name for name in ("manifest", "dicom", "kits") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of manifest, dicom, kits; got {given or 'none'}")
        if (self.labels is not None) != (self.dicom is not None):
            raise ValueError("labels goes with dicom, and dicom needs labels")
        return self


class Selection(Section):
    """Which axial slices of a patient are kept, and which lesion they are kept for."""

    min_area_fraction: float = Field(
        0.25,
        ge=0,
        le=1,
        description="lesion area, as a share of the patient's largest, from which a slice is kept",
    )
    max_slices: int | None = Field(
        None, ge=1, description="keep at most this many, those with the largest lesion area"
    )
    lesions: Literal["largest", "all"] = Field(
        "largest",
        description=(
            "which of several lesions, more than 10 mm apart, roi and rbr show: "
            "the largest that a slice has, or all in one box"
        ),
    )


class Images(Section):
    """What the network sees of a slice."""

    size: int = Field(
        299, ge=75, description="edge of the square image in pixels; InceptionV3 takes 75 or more"
    )
    crop: bool = Field(
        True,
        description=(
            "crop roi and rbr to the lesion's box; false keeps the full frame, black outside"
        ),
    )


class Split(Section):
    """Who is sealed away for the test."""

    test_fraction: float = Field(
        0.2, gt=0, lt=1, description="share of the patients in the sealed test set"
    )
    stratify: bool = Field(
        True, description="keep the share of malignant patients equal in training and test"
    )
