"""Who is to be scored: folders, volume files and manifests as named on the command line, as
patients with an image and a mask."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from renal_ray.cohort.kits import IMAGE, mask_names, mask_of
from renal_ray.cohort.manifest import UNSAFE_ID, read_manifest
from renal_ray.cohort.source import file_problem
from renal_ray.config import Phase
from renal_ray.imaging.images.volume import is_volume
from renal_ray.problems import Code, PatientError, Quarantined, Severity, StudyError, trouble

TABLES = (".csv", ".parquet")


@dataclass(frozen=True)
class Case:
    """A patient to be scored.

    Args:
        patient_id: the manifest's, or the name of the folder or file.
        image, mask: as in a manifest.
        series: which CT series of the image's folder; empty where mask or folder decide.
        lesion: what of the mask is the lesion; empty where the study's setting says.
    """

    patient_id: str
    image: Path
    mask: Path
    series: str = ""
    lesion: str = ""


def find_cases(
    patients: Sequence[Path],
    *,
    mask: Path | None = None,
    lesion: str = "",
    name: str = "",
    phase: Phase | None = None,
) -> tuple[list[Case], list[Quarantined]]:
    """The patients that are named.

    Args:
        patients: each a folder of one patient's DICOM with the mask in it, a folder in the KiTS
            layout (imaging.nii.gz, segmentation.nii.gz) or with one other pair of volume files, a
            volume file, or a manifest.
        mask: of the only patient, where it lies elsewhere.
        lesion: what of the masks is the lesion, in place of the study's setting; a manifest's own
            column goes before.
        name: patient_id of the only patient, in place of the folder's name.
        phase: which series is taken where a folder has several.

    Returns:
        Those whose files are found, and those of whom they are not.

    Raises:
        StudyError: a manifest cannot be read, two patients have one id, or an option goes with a
            single patient only.
    """
    tables = [path for path in patients if path.suffix.lower() in TABLES]
    if (mask or name) and (len(patients) != 1 or tables):
        raise StudyError(
            "--mask and --id go with a single patient's folder or file; "
            "name several patients in a manifest"
        )
    cases: list[Case] = []
    refused: list[Quarantined] = []
    for path in patients:
        if path in tables:
            found, left = _of_manifest(path, lesion)
            cases += found
            refused += left
            continue
        patient_id = name or _name(path)
        if not patient_id or UNSAFE_ID.search(patient_id):
            raise StudyError(f"{path}: gives no name that a patient's folder could have; give --id")
        try:
            cases.append(_of_files(path, patient_id, mask, lesion, phase or Phase()))
        except PatientError as error:
            refused.append(Quarantined(patient_id, "", error.code, error.message))
    ids = [one.patient_id for one in cases] + [one.patient_id for one in refused]
    if twice := sorted({one for one in ids if ids.count(one) > 1}):
        raise StudyError(
            f"two patients are called {twice[0]}; name them apart in a manifest, or "
            "run the command for one after the other with --id"
        )
    return cases, refused


def _name(path: Path) -> str:
    """A folder's name, or a volume file's without its ending."""
    name = path.absolute().resolve().name
    lowered = name.lower()
    ending = next(
        (
            one
            for one in (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".dcm")
            if lowered.endswith(one)
        ),
        "",
    )
    return name[: len(name) - len(ending)]


def _of_manifest(path: Path, lesion: str) -> tuple[list[Case], list[Quarantined]]:
    table = read_manifest(path, labelled=False)
    cases, refused = [], []
    for row in table.to_dict("records"):
        if problem := file_problem(row["patient_id"], row["image"], row["mask"]):
            refused.append(
                Quarantined(
                    problem.patient_id, _below(problem.file, path), problem.code, problem.message
                )
            )
        else:
            cases.append(
                Case(
                    row["patient_id"],
                    Path(row["image"]),
                    Path(row["mask"]),
                    _text(row.get("series")),
                    _text(row.get("lesion")) or lesion,
                )
            )
    return cases, refused


def _below(file: str, manifest: Path) -> str:
    """A file relative to its manifest's folder; nothing of one elsewhere, whose name may tell who
    somebody is."""
    base = manifest.absolute().parent.resolve()
    return str(Path(file).relative_to(base)) if file and Path(file).is_relative_to(base) else ""


def _text(value: object) -> str:
    return "" if value is None or pd.isna(value) else str(value)


def _of_files(path: Path, patient_id: str, mask: Path | None, lesion: str, phase: Phase) -> Case:
    for one in (path, mask):
        if one is not None and (found := trouble(one)):
            raise PatientError(*found)
    if mask is not None:
        return Case(patient_id, path.resolve(), mask.resolve(), lesion=lesion)
    if is_volume(path) or path.is_file():
        raise PatientError(
            Code.SERIES_WITHOUT_MASK, "a file without a lesion mask; give it by --mask"
        )
    if (path / IMAGE).is_file() and (outline := mask_of(path, mask_names([path]))):
        return Case(patient_id, (path / IMAGE).resolve(), outline.resolve(), lesion=lesion)
    return _scanned(path, patient_id, lesion, phase)


def _scanned(folder: Path, patient_id: str, lesion: str, phase: Phase) -> Case:
    """The one patient in a folder of any files, found as `scan` does."""
    from renal_ray.cohort.scan.look import look  # pydicom loads slowly

    seen = look([folder], phase)
    people = len(seen.proposals) + len(seen.pairs)
    if people > 1:
        message = (
            f"the folder holds images of {people} patients, or several kinds of one; give one "
            "patient's folder, or make a manifest with `renal-ray scan`"
        )
        raise PatientError(Code.SEVERAL_SERIES, message)
    if seen.proposals:
        proposal = seen.proposals[0]
        for error in [*proposal.obstacles, *proposal.damaged]:
            raise error
        assert (
            proposal.image is not None and proposal.mask is not None and proposal.series is not None
        )
        return Case(
            patient_id,
            proposal.image.resolve(),
            proposal.mask.resolve(),
            proposal.series.key,
            lesion,
        )
    if seen.pairs:
        pair = seen.pairs[0]
        for error in pair.problems:
            if error.code.severity is Severity.ERROR:
                raise error
        assert pair.mask is not None
        return Case(patient_id, pair.image.resolve(), pair.mask.resolve(), lesion=lesion)
    nothing = PatientError(
        Code.FILE_MISSING,
        "the folder holds no CT series and no volume file; give a patient's folder",
    )
    raise next((error for _, error in [*seen.no_images, *seen.broken]), nothing)
