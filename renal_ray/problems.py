"""What can be wrong: a study that cannot run, and a patient who cannot be read."""

from dataclasses import dataclass
from enum import StrEnum


class StudyError(Exception):
    """The study cannot run: one sentence for a person with what, where and what to do; the program exits with 2."""


class StrictError(StudyError):
    """--strict stopped at a patient who cannot be read: a sentence as above, but the study could run; the program exits with 1."""


class Code(StrEnum):
    """Stable reason codes of quarantine.csv."""

    UNEXPECTED = "unexpected"
    LABEL_MISSING = "label-missing"
    LABEL_CONFLICT = "label-conflict"
    FILE_MISSING = "file-missing"
    FILE_UNREADABLE = "file-unreadable"
    FILE_TRUNCATED = "file-truncated"
    NOT_CT = "not-ct"
    NO_PIXEL_DATA = "no-pixel-data"
    NO_PIXEL_SPACING = "no-pixel-spacing"
    NO_POSITION = "no-position"
    UNDECODABLE_SYNTAX = "undecodable-syntax"
    MISSING_SLICE = "missing-slice"
    NON_UNIFORM_SPACING = "non-uniform-spacing"
    DUPLICATE_POSITION = "duplicate-position"
    MIXED_ORIENTATION = "mixed-orientation"
    MIXED_GRID = "mixed-grid"
    NOT_AXIAL = "not-axial"
    TILT = "tilt"
    SEVERAL_SERIES = "several-series"
    SERIES_WITHOUT_MASK = "series-without-mask"
    MASK_WITHOUT_SERIES = "mask-without-series"
    MASK_UNSUPPORTED = "mask-unsupported"
    MASK_OFF_GRID = "mask-off-grid"
    MASK_EMPTY = "mask-empty"
    SEVERAL_MASKS = "several-masks"
    NO_RESCALE = "no-rescale"


@dataclass
class PatientError(Exception):
    """One patient cannot be read; the run goes on without them.

    Args:
        code: the stable reason.
        message: what was wrong and what to do, with nothing of the patient in it.
        file: the file at fault, as the manifest names it; empty when no single file is.
    """

    code: Code
    message: str
    file: str = ""

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


@dataclass(frozen=True)
class Quarantined:
    """One row of quarantine.csv.

    Args:
        patient_id: as in the manifest.
        file: the file at fault as the manifest names it; empty when no single file is.
        code: the stable reason.
        message: one sentence for a person.
    """

    patient_id: str
    file: str
    code: Code
    message: str
