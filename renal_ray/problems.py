"""What can be wrong: a study that cannot run, and a patient who cannot be read."""

import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Self


class StudyError(Exception):
    """The study cannot run: one sentence for a person with what, where and what to do; the program
    exits with 2."""


class StrictError(StudyError):
    """--strict stopped at a patient who cannot be read: a sentence as above, but the study could
    run; the program exits with 1."""


class DamagedFileError(StudyError):
    """A file does not have the bytes that were written; the message says what makes it anew."""


def reason(error: Exception) -> str:
    """What an exception says, on one line and short; of a file system's error only the reason,
    since its text holds the whole path."""
    return (isinstance(error, OSError) and error.strerror) or " ".join(str(error).split())[:300]


DISK = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EIO,
    errno.ESTALE,
)  # the disk's trouble, not ours


def disk_trouble(error: BaseException) -> str | None:
    """What to say of a disk that is full, read-only or broken; None where the error is another."""
    if not isinstance(error, OSError) or error.errno not in DISK:
        return None
    where = f"{error.filename}: " if error.filename else ""
    return (
        f"{where}{error.strerror}; what was finished is kept, the same "
        "command continues when the disk can be written"
    )


class Severity(StrEnum):
    """What a finding does to the patient."""

    ERROR = "error"  # left out
    WARNING = "warning"  # kept, and reported
    NOTE = "note"  # a file that is no part of the study, passed over


class Code(StrEnum):
    """Stable reason codes, each with its severity and what it means: the one place where they are
    explained."""

    severity: Severity
    meaning: str

    def __new__(cls, value: str, severity: Severity, meaning: str) -> Self:
        code = str.__new__(cls, value)
        code._value_, code.severity, code.meaning = value, severity, meaning
        return code

    UNEXPECTED = (
        "unexpected",
        Severity.ERROR,
        "Reading failed in a way that has no code of its own.",
    )
    SEALED = (
        "sealed",
        Severity.ERROR,
        "The patient is of the study's sealed test set, and the seal is closed.",
    )
    LABEL_MISSING = "label-missing", Severity.ERROR, "No pathology is given for the patient."
    LABEL_CONFLICT = (
        "label-conflict",
        Severity.ERROR,
        "The patient is given both labels, or has the same image as one of the other label.",
    )
    DIFFERENT_PERSONS = (
        "different-persons",
        Severity.ERROR,
        "Two persons have one PatientID: name, sex or birth date differ.",
    )
    FILE_MISSING = "file-missing", Severity.ERROR, "A file or folder that is named does not exist."
    FILE_UNREADABLE = (
        "file-unreadable",
        Severity.ERROR,
        "A file is damaged, closed to the reader or not of its kind.",
    )
    FILE_TRUNCATED = "file-truncated", Severity.ERROR, "A file ends before its pixels do."
    TOO_LARGE = (
        "too-large",
        Severity.ERROR,
        "A file declares more than it can hold or than any CT series has.",
    )
    PATH_OUTSIDE = "path-outside", Severity.ERROR, "A relative path leads out of its root folder."
    NOT_CT = "not-ct", Severity.ERROR, "The images are no CT, or their values are no HU."
    HU_OUT_OF_RANGE = (
        "hu-out-of-range",
        Severity.ERROR,
        (
            "Values beyond -20,000 to 20,000 HU, which no CT has, or "
            "no number (NaN) within the lesion."
        ),
    )
    NO_PIXEL_DATA = "no-pixel-data", Severity.ERROR, "An image has no pixels."
    NO_PIXEL_SPACING = (
        "no-pixel-spacing",
        Severity.ERROR,
        "The distance between pixels is not given.",
    )
    NO_POSITION = (
        "no-position",
        Severity.ERROR,
        "Position or orientation in the patient is not given.",
    )
    NO_RESCALE = (
        "no-rescale",
        Severity.ERROR,
        "Slope and intercept are not given, so the HU are unknown.",
    )
    UNDECODABLE_SYNTAX = (
        "undecodable-syntax",
        Severity.ERROR,
        "Nothing installed decodes the pixels' transfer syntax.",
    )
    MISSING_SLICE = "missing-slice", Severity.ERROR, "Slices are missing inside the series."
    NON_UNIFORM_SPACING = (
        "non-uniform-spacing",
        Severity.ERROR,
        "Neighbouring slices lie at different distances.",
    )
    DUPLICATE_POSITION = "duplicate-position", Severity.ERROR, "Several slices lie at one position."
    MIXED_ORIENTATION = (
        "mixed-orientation",
        Severity.ERROR,
        "The slices of a series have different orientations.",
    )
    MIXED_GRID = (
        "mixed-grid",
        Severity.ERROR,
        "The slices of a series differ in matrix, pixel spacing or sideways position.",
    )
    NOT_AXIAL = "not-axial", Severity.ERROR, "The slices are oblique, coronal or sagittal."
    TILT = "tilt", Severity.ERROR, "The gantry was tilted: slices are shifted against their normal."
    SEVERAL_SERIES = (
        "several-series",
        Severity.ERROR,
        "Several CT series are candidates and nothing decides between them.",
    )
    MIXED_ACQUISITIONS = (
        "mixed-acquisitions",
        Severity.ERROR,
        "One series holds several acquisitions: phases, kernels or stacks that are no one volume.",
    )
    SERIES_WITHOUT_MASK = "series-without-mask", Severity.ERROR, "A CT series has no lesion mask."
    MASK_WITHOUT_SERIES = (
        "mask-without-series",
        Severity.ERROR,
        "The series that a mask was drawn on is not there.",
    )
    SEVERAL_MASKS = "several-masks", Severity.ERROR, "Several masks belong to one series."
    MASK_UNSUPPORTED = (
        "mask-unsupported",
        Severity.ERROR,
        "The mask is of a kind that cannot be read.",
    )
    MASK_OFF_GRID = "mask-off-grid", Severity.ERROR, "The mask does not lie on the image's voxels."
    MASK_EMPTY = "mask-empty", Severity.ERROR, "The mask holds no lesion."
    MASK_INTERPOLATED = (
        "mask-interpolated",
        Severity.ERROR,
        "A label map holds fractions: it was interpolated, so its labels cannot be told.",
    )
    MASK_BEYOND_IMAGE = (
        "mask-beyond-image",
        Severity.ERROR,
        "More than 1 % of the lesion lies outside of the image.",
    )
    LESION_UNNAMED = (
        "lesion-unnamed",
        Severity.ERROR,
        "A mask holds several segments or ROIs, and the study does not say which is the lesion.",
    )
    IMAGE_RESAMPLED = (
        "image-resampled",
        Severity.WARNING,
        "A tilted or oblique series was resampled to straight axial slices, as asked for.",
    )
    MASK_RESAMPLED = (
        "mask-resampled",
        Severity.WARNING,
        "A mask off the image's voxels was resampled to them, as asked for.",
    )
    RESCALE_IGNORED = (
        "rescale-ignored",
        Severity.WARNING,
        (
            "A mask's images carry a rescale that makes no labels of "
            "them; their stored values were taken."
        ),
    )
    CONTOURS_CROSS = (
        "contours-cross",
        Severity.WARNING,
        "Closed contours of one plane cross each other; they were united.",
    )
    CONTOURS_LEFT_OUT = (
        "contours-left-out",
        Severity.WARNING,
        "Contours that enclose no area, or parts of them outside of the image, were left out.",
    )
    REFERENCES_ABSENT = (
        "references-absent",
        Severity.WARNING,
        "The mask refers to images that are not there; it was matched by geometry.",
    )
    FRAME_CONTRADICTS = (
        "frame-contradicts",
        Severity.WARNING,
        "The frames of reference differ, but the mask names the series and its images.",
    )
    MASK_UNPAIRED = (
        "mask-unpaired",
        Severity.WARNING,
        "A mask that belongs to no image by reference, id or folder.",
    )
    ID_MISSING = (
        "id-missing",
        Severity.WARNING,
        "The files have no PatientID; the id is a keyed hash.",
    )
    DERIVED_IMAGE = (
        "derived-image",
        Severity.WARNING,
        "The images are derived ones, or their unit is not said to be HU; they were read as HU.",
    )
    FILE_LEFT_OUT = (
        "file-left-out",
        Severity.WARNING,
        "A damaged file of the series was left out; the other slices are complete without it.",
    )
    ACQUISITION_PAUSE = (
        "acquisition-pause",
        Severity.WARNING,
        "The scanner paused within the series; its parts may be of different contrast phases.",
    )
    LOSSY_COMPRESSION = (
        "lossy-compression",
        Severity.WARNING,
        "The images were compressed with loss.",
    )
    INTERCEPT_SUSPECTED = (
        "intercept-suspected",
        Severity.WARNING,
        "The histogram looks as if the rescale intercept were missing.",
    )
    IMAGE_HU_IMPLAUSIBLE = (
        "image-hu-implausible",
        Severity.WARNING,
        (
            "Air, fat and soft tissue are not at the HU where they "
            "belong, or the body holds no numbers (NaN)."
        ),
    )
    MASK_OUTSIDE_BODY = "mask-outside-body", Severity.WARNING, "Most of the lesion lies in air."
    LESION_HU_IMPLAUSIBLE = (
        "lesion-hu-implausible",
        Severity.WARNING,
        "The lesion's mean attenuation is that of no renal mass.",
    )
    FLIP_SUSPECTED = (
        "flip-suspected",
        Severity.WARNING,
        "The anatomy looks flipped left to right, front to back or head to foot.",
    )
    LESION_TOO_LARGE = "lesion-too-large", Severity.WARNING, "The lesion is larger than 160 mm."
    LESION_TOO_SMALL = "lesion-too-small", Severity.WARNING, "The lesion is smaller than 3 mm."
    SEVERAL_LESIONS = (
        "several-lesions",
        Severity.WARNING,
        "The mask holds lesions that are more than 10 mm apart.",
    )
    MASK_SPECKS = (
        "mask-specks",
        Severity.WARNING,
        (
            "The mask has specks, smaller than 3 mm or of one or two "
            "voxels, more than 10 mm from any lesion."
        ),
    )
    SAME_PIXELS = (
        "same-pixels",
        Severity.WARNING,
        "Two patients have the same image; they stand on one side of every split.",
    )
    SAME_PERSON = "same-person", Severity.WARNING, "Two ids seem to be one person."
    DICOMDIR_INCOMPLETE = (
        "dicomdir-incomplete",
        Severity.WARNING,
        "A DICOMDIR names files that are not there.",
    )
    NOT_DICOM = "not-dicom", Severity.NOTE, "Not a DICOM file, and no volume that is read."
    PACKED = "packed", Severity.NOTE, "A packed file or archive; unpack it to have it read."
    LOCALIZER = "localizer", Severity.NOTE, "A scout view."
    DOSE_REPORT = "dose-report", Severity.NOTE, "A dose report or another structured report."
    SECONDARY_CAPTURE = (
        "secondary-capture",
        Severity.NOTE,
        "A screen shot, or an image derived from the series.",
    )
    NOT_AN_IMAGE = (
        "not-an-image",
        Severity.NOTE,
        "A DICOM object that is neither a CT image nor a mask.",
    )


@dataclass(frozen=True)
class Finding:
    """Something to report of a patient who is kept.

    Args:
        code: the stable reason; of severity warning.
        message: what was seen and what to look at, with nothing of the patient in it.
        file: the file concerned, as the manifest names it; empty when no single file is.
    """

    code: Code
    message: str
    file: str = ""


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
    """One row of quarantine.csv: a patient who is left out, or by a code of severity warning one
    who is kept.

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

    @classmethod
    def read(cls, row: Mapping[str, str]) -> Self:
        """From a row as `row` gives it."""
        return cls(
            row["patient_id"],
            row["file"],
            next(code for code in Code if code == row["code"]),
            row["message"],
        )

    @property
    def left_out(self) -> bool:
        """Whether the patient is left out."""
        return self.code.severity is Severity.ERROR

    def row(self) -> dict[str, str]:
        """As written to quarantine.csv and problems.csv."""
        return {
            "patient_id": self.patient_id,
            "file": self.file,
            "code": str(self.code),
            "message": self.message,
            "severity": str(self.code.severity),
        }


def trouble(path: Path) -> tuple[Code, str] | None:
    """Why a file or folder cannot be opened; a path that no file system takes, or behind a closed
    folder, counts as absent.

    Args:
        path: any path, as a table or a study file names it.

    Returns:
        FILE_MISSING or FILE_UNREADABLE with a message; None when it can be opened.
    """
    if not os.path.exists(
        path
        # Unlike Path.exists of Python 3.11, False where a name is too long or a folder above is
        # closed.
    ):
        return (
            Code.FILE_MISSING,
            "there is no such file or folder, or a folder above it is closed; correct the path",
        )
    if not os.access(path, os.R_OK | os.X_OK if os.path.isdir(path) else os.R_OK):
        return Code.FILE_UNREADABLE, "the file or folder may not be read; change its permissions"
    return None


PROBLEM_COLUMNS = ("patient_id", "file", "code", "message", "severity")


def codes_page() -> str:
    """docs/codes.md: every code in one Markdown table."""
    head = [
        "# Codes",
        "",
        (
            "What `scan`, `prepare` and `inspect` report of files and patients. *error*: the "
            "patient is left out. *warning*: the patient is kept, look at the"
        ),
        (
            "images. *note*: a file that is no part of the study was "
            "passed over. Written by `make codes`."
        ),
        "",
        "| code | severity | meaning |",
        "|---|---|---|",
    ]
    return (
        "\n".join([*head, *(f"| `{code}` | {code.severity} | {code.meaning} |" for code in Code)])
        + "\n"
    )
