"""Every file below some folders: of its header what grouping and pairing need is kept."""

import hashlib
import multiprocessing
import os
import re
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from renal_ray.cohort.scan.identity import NOBODY, Identity, identity
from renal_ray.cohort.scan.names import is_called_mask, is_surely_mask
from renal_ray.dicom.files import is_packed
from renal_ray.dicom.headers import CT_STORAGE, Header, Pixels, quiet, read_header, readable
from renal_ray.dicom.series import series_key
from renal_ray.imaging.sample import volume_no_ct
from renal_ray.problems import Code, PatientError

ACQUIRED = (  # what differs between the acquisitions of a series
    *(
        "AcquisitionNumber",
        "ConvolutionKernel",
        "KVP",
        "ContrastBolusAgent",
        "ContrastBolusStartTime",
    ),
    *("TemporalPositionIdentifier", "TemporalPositionIndex", "StackID", "AcquisitionDate"),
)
TAGS = [
    *(
        "PatientID",
        "PatientName",
        "PatientBirthDate",
        "PatientSex",
        "PatientAge",
        "Manufacturer",
        "Modality",
        "SOPClassUID",
        "SOPInstanceUID",
        "ImageType",
    ),
    *(
        "StudyInstanceUID",
        "SeriesInstanceUID",
        "FrameOfReferenceUID",
        "SeriesDescription",
        "ProtocolName",
        "ImageOrientationPatient",
        "PixelSpacing",
    ),
    *(
        "ImagePositionPatient",
        "AcquisitionTime",
        "AcquisitionDateTime",
        "ReferencedSeriesSequence",
        "ReferencedFrameOfReferenceSequence",
    ),
    *ACQUIRED,
]
VOLUMES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")
PACKED = (".zip", ".gz", ".tgz", ".tar", ".7z", ".rar", ".bz2", ".xz", ".zst", ".lz4")
IMAGE_ENDINGS = ("", ".dcm", ".dicom", ".ima", ".img")  # of files that were expected to be DICOM
DICOMDIR = "1.2.840.10008.1.3.10"
SECONDARY = "1.2.840.10008.5.1.4.1.1.7"  # and its multi-frame kinds
DERIVED = (
    "MPR",
    "MIP",
    "MINIP",
    "PROJECTION",
    "REFORMATTED",
    "SCREEN SAVE",
    "SUMMED",
    "VRT",
    "CSA",
)
OBJECTS = ("SEG", "RTSTRUCT")
FAULTS = {Pixels.ABSENT: Code.NO_PIXEL_DATA, Pixels.CUT_OFF: Code.FILE_TRUNCATED}
PLANE = struct.Struct("13d")
CHUNK = 128  # files that a process is given at once
FEW = 512  # files for which processes of their own do not pay
FEW_VOLUMES = 4


class Kind(Enum):
    """What a file is to a study."""

    CT = "CT image"
    DERIVED = "derived CT image"
    OBJECT = "mask object"
    LABELS = "image of a mask"
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
        code: why it is passed over, derived or broken, or what its pixels lack.
        patient: PatientID.
        identity: what is said of the person.
        study, series, frame_of_reference: UIDs; series_key names the series without its UID.
        sop: digest of the SOPInstanceUID.
        modality: of a mask object.
        description: of the series, and the protocol.
        refers_to: series UIDs that a mask object names.
        delay_s: from the start of the contrast injection.
        axial: whether rows and columns lie in the axial plane, to within 45 degrees.
        derived: whether the image says that it was computed from others (PS3.3, C.7.6.1.1.2).
        plane: position, orientation, pixel spacing and matrix of a single-frame image, 13 numbers.
        frames: of a multi-frame image.
        acquired: values of `ACQUIRED`, the date also from the moment; acquired_at is the time,
            HHMMSS and fraction.
        sex, age, scanner: as a manifest has them.
        remark: why a volume file cannot be a CT by its values, or cannot be read.
    """

    path: str
    kind: Kind
    code: Code | None = None
    patient: str = ""
    identity: Identity = NOBODY
    study: str = ""
    series: str = ""
    series_key: str = ""
    frame_of_reference: str = ""
    sop: bytes = b""
    modality: str = ""
    description: str = ""
    refers_to: frozenset[str] = frozenset()
    delay_s: float | None = None
    axial: bool = True
    derived: bool = False
    plane: bytes = b""
    frames: int = 1
    acquired: tuple[str, ...] = ()
    acquired_at: str = ""
    sex: str = ""
    age: float | None = None
    scanner: str = ""
    remark: str = ""

    @property
    def folder(self) -> str:
        """The folder that it lies in."""
        return self.path.rpartition(os.sep)[0] or os.sep


def walk(
    folders: Iterable[Path], *, workers: int = 1, progress: Callable[[int, int], None] | None = None
) -> list[Found]:
    """Reads the header of every file below some folders; links and hidden files are left alone.

    Args:
        folders: where to look.
        workers: processes.
        progress: called with files done and files in all.

    Returns:
        What was found, in the order of the paths.
    """
    paths = sorted({path for folder in folders for path in _files(folder)})
    found: list[Found] = []
    for part in _mapped(_look_at_all, paths, CHUNK, workers if len(paths) > FEW else 1):
        found += part
        if progress:
            progress(len(found), len(paths))
    return found


def sampled(volumes: Sequence[Found], *, workers: int = 1) -> list[Found]:
    """Looks at the values of volume files, those aside whose name says mask.

    Args:
        volumes: of kind VOLUME.
        workers: processes.

    Returns:
        The same, with a remark on those that cannot be a CT, and a code too on those that cannot be
        read.
    """
    asked = [one.path for one in volumes if not is_surely_mask(Path(one.path))]
    looked = [
        one
        for part in _mapped(
            _sample_all, asked, FEW_VOLUMES, workers if len(asked) > FEW_VOLUMES else 1
        )
        for one in part
    ]
    by_path = {one.path: one for one in looked}
    return [by_path.get(one.path, one) for one in volumes]


def _mapped(
    function: Callable[[list[str]], list[Found]], paths: list[str], size: int, workers: int
) -> Iterator[list[Found]]:
    chunks = [paths[start : start + size] for start in range(0, len(paths), size)]
    if workers <= 1:
        yield from map(function, chunks)
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(function, chunks)


def _sample_all(paths: list[str]) -> list[Found]:
    return [_sample(path) for path in paths]


def _sample(path: str) -> Found:
    try:
        with quiet():
            return Found(path, Kind.VOLUME, remark=volume_no_ct(Path(path)) or "")
    except PatientError as error:
        return Found(path, Kind.VOLUME, error.code, remark=error.message)


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
    header = read_header(Path(path), TAGS, keep_broken=True)
    if header is None:
        return Found(path, Kind.PASSED_OVER, Code.PACKED if _packed(path) else Code.NOT_DICOM)
    if header.fault:
        return (
            _large(path, header)
            if header.fault.code is Code.TOO_LARGE
            else _broken(path, header, header.fault.code)
        )
    try:
        with readable("the file"):
            return _found(path, header)
    except PatientError as error:
        return _broken(path, header, error.code)


def sop_digest(uid: str) -> bytes:
    """What is kept of a SOPInstanceUID; empty where there is none."""
    return hashlib.blake2b(uid.encode(), digest_size=8).digest() if uid else b""


def _packed(path: str) -> bool:
    """Whether a file is packed: by its ending, or its first bytes where an image was expected."""
    ending = Path(path).suffix.lower()
    expected = ending in IMAGE_ENDINGS or ending[1:].isdecimal()
    return ending in PACKED or (expected and is_packed(Path(path)))


def _large(path: str, header: Header) -> Found:
    """A file larger than any CT image: no fault of a radiograph or a picture of a screen."""
    modality, storage = header.text("Modality"), header.text("SOPClassUID")
    if modality in OBJECTS or (modality in ("CT", "") and (not storage or storage in CT_STORAGE)):
        return _broken(path, header, Code.TOO_LARGE)
    code = Code.SECONDARY_CAPTURE if storage.startswith(SECONDARY) else Code.NOT_AN_IMAGE
    return Found(path, Kind.PASSED_OVER, code, **_whose(header))


def _broken(path: str, header: Header, code: Code) -> Found:
    """A damaged file, and whose it is as far as its header says so."""
    return Found(path, Kind.BROKEN, code, **_whose(header))


def _whose(header: Header) -> dict[str, Any]:
    text = header.text
    return {
        "patient": text("PatientID"),
        "study": text("StudyInstanceUID"),
        "series": text("SeriesInstanceUID"),
        "modality": text("Modality"),
    }


def _found(path: str, header: Header) -> Found:
    meta = str(getattr(header.dataset, "file_meta", {}).get("MediaStorageSOPClassUID") or "")
    storage, image_type, modality = (
        header.text("SOPClassUID"),
        header.text("ImageType").upper(),
        header.text("Modality"),
    )
    if meta == DICOMDIR:
        return Found(path, Kind.DICOMDIR)
    kind, code = Kind.PASSED_OVER, Code.NOT_AN_IMAGE
    if modality in OBJECTS:
        return Found(path, Kind.OBJECT, **_facts(header))
    is_ct = modality == "CT" and (not storage or storage in CT_STORAGE)
    if is_ct and header.text("Rows") in ("", "0"):
        return _broken(path, header, Code.FILE_UNREADABLE)
    is_derived = any(word in image_type for word in DERIVED)
    if modality == "SR":
        code = Code.DOSE_REPORT
    elif not is_ct and _holds_labels(path, header):
        return Found(path, Kind.LABELS, **_facts(header))
    elif storage.startswith(SECONDARY) or is_derived:
        kind, code = (
            Kind.DERIVED if is_ct and not header.is_localizer else kind,
            Code.SECONDARY_CAPTURE,
        )
    elif header.is_localizer:
        code = Code.LOCALIZER
    elif is_ct:
        return Found(path, Kind.CT, FAULTS.get(header.pixels), **_facts(header))
    return Found(path, kind, code, **_facts(header))


def _holds_labels(path: str, header: Header) -> bool:
    """Whether images that are no CT are called a mask, lie in the patient, and come from no
    scanner."""
    placed = header.text("ImageOrientationPatient") or header.text("NumberOfFrames") not in (
        "",
        "0",
        "1",
    )
    if (
        header.text("Modality") not in ("OT", "CT", "")
        or not placed
        or header.text("SamplesPerPixel") not in ("", "1")
    ):
        return False
    return is_called_mask(f"{header.text('SeriesDescription')} {Path(path).parent.name}")


def _facts(header: Header) -> dict[str, Any]:
    text = header.text
    orientation = header.dataset.get("ImageOrientationPatient")
    cosines = (
        [float(value) for value in orientation]
        if orientation is not None and len(orientation) == 6
        else [1.0, 0, 0, 0, 1, 0]
    )
    normal = abs(cosines[0] * cosines[4] - cosines[1] * cosines[3])
    who = identity(
        text("PatientName"), text("PatientBirthDate"), text("PatientSex"), text("PatientID")
    )
    return {
        "patient": text("PatientID"),
        "identity": who,
        "study": text("StudyInstanceUID"),
        "series": text("SeriesInstanceUID"),
        "series_key": series_key(header),
        "frame_of_reference": text("FrameOfReferenceUID"),
        "sop": sop_digest(text("SOPInstanceUID")),
        "modality": text("Modality"),
        "description": f"{text('SeriesDescription')} {text('ProtocolName')}".strip(),
        "refers_to": _references(header),
        "delay_s": _delay(text("ContrastBolusStartTime"), text("AcquisitionTime")),
        "axial": normal > 0.7,
        "derived": text("ImageType").strip("[]'").startswith("DERIVED"),
        "plane": _plane(header),
        "frames": int(text("NumberOfFrames") or 1) if text("NumberOfFrames").isdecimal() else 1,
        "acquired": (
            *map(text, ACQUIRED[:-1]),
            text("AcquisitionDate") or text("AcquisitionDateTime")[:8],
        ),
        "acquired_at": text("AcquisitionTime") or text("AcquisitionDateTime")[8:],
        "sex": who.sex,
        "age": float(text("PatientAge")[:3])
        if text("PatientAge")[:3].isdecimal() and text("PatientAge").endswith("Y")
        else None,
        "scanner": _scanner(text("Manufacturer")),
    }


def _plane(header: Header) -> bytes:
    """Where a single-frame image lies; empty where that is not said."""
    values: list[float] = []
    for keyword, count in (
        ("ImagePositionPatient", 3),
        ("ImageOrientationPatient", 6),
        ("PixelSpacing", 2),
    ):
        numbers = header.dataset.get(keyword)
        if numbers is None or isinstance(numbers, str) or len(numbers) != count:
            return b""
        values += numbers
    return PLANE.pack(
        *values, int(header.dataset.get("Rows") or 0), int(header.dataset.get("Columns") or 0)
    )


def _scanner(manufacturer: str) -> str:
    """The first word of a manufacturer's name."""
    words = [word for word in re.split(r"[\W_]+", manufacturer.lower()) if word]
    return words[0] if words else ""


def _references(header: Header) -> frozenset[str]:
    items = list(header.dataset.get("ReferencedSeriesSequence") or [])
    for frame in header.dataset.get("ReferencedFrameOfReferenceSequence") or []:
        for study in frame.get("RTReferencedStudySequence") or []:
            items += study.get("RTReferencedSeriesSequence") or []
    return frozenset(str(item.get("SeriesInstanceUID") or "") for item in items) - {""}


def _delay(start: str, acquired: str) -> float | None:
    """Seconds between two DICOM times (HHMMSS.F) of one day; None where one is missing or they do
    not follow each other."""
    if len(start) < 6 or len(acquired) < 6 or not (start[:6] + acquired[:6]).isdecimal():
        return None
    seconds = [
        int(one[:2]) * 3600 + int(one[2:4]) * 60 + float(one[4:]) for one in (start, acquired)
    ]
    return seconds[1] - seconds[0] if 0 <= seconds[1] - seconds[0] < 3600 else None
