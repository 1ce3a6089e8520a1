"""Every file below some folders, its header read in parallel; nothing of a header is kept but what grouping and pairing need."""

import hashlib
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from renal_ray.dicom.headers import CT_STORAGE, Header, quiet, read_header
from renal_ray.dicom.series import series_key
from renal_ray.problems import Code, PatientError

TAGS = [
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "PatientAge", "Manufacturer", "Modality", "SOPClassUID", "SOPInstanceUID", "ImageType"),
    *("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "SeriesDescription", "ProtocolName", "ImageOrientationPatient", "PixelSpacing"),
    *("AcquisitionTime", "ContrastBolusStartTime", "ReferencedSeriesSequence", "ReferencedFrameOfReferenceSequence", "BitsStored"),
]
VOLUMES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")
DICOMDIR = "1.2.840.10008.1.3.10"
SECONDARY = "1.2.840.10008.5.1.4.1.1.7"  # and its multi-frame kinds
DERIVED = ("MPR", "MIP", "MINIP", "PROJECTION", "REFORMATTED", "SCREEN SAVE", "SUMMED", "VRT", "CSA")
CHUNK = 128  # files that a process is given at once
FEW = 512  # files for which processes of their own do not pay


class Kind(Enum):
    """What a file is to a study."""

    CT = "CT image"
    OBJECT = "mask object"
    IMAGE = "image of another kind"
    VOLUME = "volume file"
    DICOMDIR = "DICOMDIR"
    PASSED_OVER = "passed over"
    BROKEN = "broken"


@dataclass(frozen=True)
class Found:
    """One file, as far as it matters. Empty where the header says nothing.

    Args:
        path: the file.
        kind: what it is.
        code: why it is passed over or broken.
        patient: PatientID.
        person: digest of name and birth date; lives in memory alone.
        study, series, frame_of_reference: UIDs; series_key names the series without its UID.
        modality: of a mask object.
        description: of the series, and the protocol.
        refers_to: series UIDs that a mask object names.
        delay_s: from the start of the contrast injection.
        axial: whether rows and columns lie in the axial plane, to within 45 degrees.
        bits: BitsStored.
        sex, age, scanner: as a manifest has them.
    """

    path: str
    kind: Kind
    code: Code | None = None
    patient: str = ""
    person: str = ""
    study: str = ""
    series: str = ""
    series_key: str = ""
    frame_of_reference: str = ""
    modality: str = ""
    description: str = ""
    refers_to: frozenset[str] = frozenset()
    delay_s: float | None = None
    axial: bool = True
    bits: int = 0
    sex: str = ""
    age: float | None = None
    scanner: str = ""


def walk(folders: Iterable[Path], *, workers: int = 1, progress: Callable[[int, int], None] | None = None) -> list[Found]:
    """Reads the header of every file in and below some folders; links are not followed, hidden files not looked at.

    Args:
        folders: where to look.
        workers: processes.
        progress: called with files done and files in all.

    Returns:
        What was found, in the order of the paths.
    """
    paths = sorted({path for folder in folders for path in _files(folder)})
    chunks = [paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK)]
    found: list[Found] = []
    for part in _mapped(chunks, workers if len(paths) > FEW else 1):
        found += part
        if progress:
            progress(len(found), len(paths))
    return found


def _mapped(chunks: list[list[str]], workers: int) -> Iterator[list[Found]]:
    if workers <= 1:
        yield from map(_look_at_all, chunks)
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(_look_at_all, chunks)


def _files(folder: Path) -> Iterator[str]:
    for base, names, files in os.walk(folder):
        names[:] = [name for name in names if not name.startswith(".")]
        yield from (f"{base}{os.sep}{name}" for name in files if not name.startswith("."))


def _look_at_all(paths: list[str]) -> list[Found]:
    with quiet():
        return [look_at(path) for path in paths]


def look_at(path: str) -> Found:
    """What one file is."""
    if path.lower().endswith(VOLUMES):
        return Found(path, Kind.VOLUME)
    if not Path(path).is_file():  # a socket, or a link to nowhere
        return Found(path, Kind.PASSED_OVER, Code.NOT_DICOM)
    try:
        header = read_header(Path(path), TAGS)
        if header is None:
            return Found(path, Kind.PASSED_OVER, Code.NOT_DICOM)
        return _found(path, header)
    except PatientError as error:
        return Found(path, Kind.BROKEN, error.code)


def _found(path: str, header: Header) -> Found:
    storage, image_type = header.text("SOPClassUID"), header.text("ImageType").upper()
    if str(getattr(header.dataset, "file_meta", {}).get("MediaStorageSOPClassUID")) == DICOMDIR:
        return Found(path, Kind.DICOMDIR)
    kind, code = Kind.PASSED_OVER, Code.NOT_AN_IMAGE
    if header.text("Modality") in ("SEG", "RTSTRUCT"):
        kind = Kind.OBJECT
    elif header.text("Modality") == "SR":
        code = Code.DOSE_REPORT
    elif storage.startswith(SECONDARY) or any(word in image_type for word in DERIVED):
        code = Code.SECONDARY_CAPTURE
    elif header.is_localizer:
        code = Code.LOCALIZER
    elif header.text("Modality") == "CT" and (not storage or storage in CT_STORAGE):
        kind = Kind.CT
    elif header.text("Rows") and header.text("ImageOrientationPatient"):
        kind = Kind.IMAGE
    return Found(path, kind, code if kind is Kind.PASSED_OVER else None, **_facts(header))


def _facts(header: Header) -> dict[str, Any]:
    text = header.text
    name, born = text("PatientName").upper(), text("PatientBirthDate")
    orientation = header.dataset.get("ImageOrientationPatient")
    cosines = [float(value) for value in orientation] if orientation is not None and len(orientation) == 6 else [1.0, 0, 0, 0, 1, 0]
    normal = abs(cosines[0] * cosines[4] - cosines[1] * cosines[3])
    return {
        "patient": text("PatientID"),
        "person": hashlib.sha256(f"{name}|{born}".encode()).hexdigest() if name and born else "",
        "study": text("StudyInstanceUID"),
        "series": text("SeriesInstanceUID"),
        "series_key": series_key(header),
        "frame_of_reference": text("FrameOfReferenceUID"),
        "modality": text("Modality"),
        "description": f"{text('SeriesDescription')} {text('ProtocolName')}".strip(),
        "refers_to": _references(header),
        "delay_s": _delay(text("ContrastBolusStartTime"), text("AcquisitionTime")),
        "axial": normal > 0.7,
        "bits": int(text("BitsStored") or 0) if text("BitsStored").isdecimal() else 0,
        "sex": {"M": "male", "F": "female"}.get(text("PatientSex"), ""),
        "age": float(text("PatientAge")[:3]) if text("PatientAge")[:3].isdecimal() and text("PatientAge").endswith("Y") else None,
        "scanner": text("Manufacturer").split()[0].lower() if text("Manufacturer") else "",
    }


def _references(header: Header) -> frozenset[str]:
    items = list(header.dataset.get("ReferencedSeriesSequence") or [])
    for frame in header.dataset.get("ReferencedFrameOfReferenceSequence") or []:
        for study in frame.get("RTReferencedStudySequence") or []:
            items += study.get("RTReferencedSeriesSequence") or []
    return frozenset(str(item.get("SeriesInstanceUID") or "") for item in items) - {""}


def _delay(start: str, acquired: str) -> float | None:
    """Seconds between two DICOM times (HHMMSS.F) of one day; None where one is missing or they do not follow each other."""
    if len(start) < 6 or len(acquired) < 6 or not (start[:6] + acquired[:6]).isdecimal():
        return None
    seconds = [int(one[:2]) * 3600 + int(one[2:4]) * 60 + float(one[4:]) for one in (start, acquired)]
    return seconds[1] - seconds[0] if 0 <= seconds[1] - seconds[0] < 3600 else None
