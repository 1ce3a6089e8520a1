"""How an image came about: when, with which kernel, voltage and contrast, as its header says."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date
from functools import lru_cache
from typing import Any

from pydicom import Dataset

from renal_ray.dicom.headers import Header, readable

IN_GROUPS = (  # of a frame of a multi-frame image, wherever in its functional groups
    *(
        "KVP",
        "ConvolutionKernel",
        "AcquisitionNumber",
        "FrameAcquisitionNumber",
        "AcquisitionDate",
        "AcquisitionTime",
    ),
    *(
        "FrameAcquisitionDateTime",
        "ContrastBolusAgent",
        "ContrastBolusStartTime",
        "ContrastBolusAgentAdministered",
    ),
    *(
        "TemporalPositionIdentifier",
        "TemporalPositionIndex",
        "StackID",
        "ImagePositionPatient",
        "ImageOrientationPatient",
    ),
)
ACQUISITION_TAGS = (
    *(
        "AcquisitionNumber",
        "AcquisitionDate",
        "AcquisitionTime",
        "AcquisitionDateTime",
        "ConvolutionKernel",
        "KVP",
    ),
    *(
        "ContrastBolusAgent",
        "ContrastBolusStartTime",
        "TemporalPositionIdentifier",
        "TemporalPositionIndex",
        "StackID",
    ),
    *(
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "SharedFunctionalGroupsSequence",
        "PerFrameFunctionalGroupsSequence",
    ),
    *("SOPInstanceUID", "ConcatenationUID"),
)
DAY_S = 86400.0
MOST = 2.0**53  # what no number of a header comes near


@dataclass(frozen=True)
class Acquired:
    """How one image, or one frame of a multi-frame image, came about; empty or None where its
    header says nothing.

    Args:
        number: acquisition number.
        time_s: when, in seconds: of the day, or from a common beginning where the date is given.
        kernel, kvp, agent, bolus, temporal, stack: convolution kernel, tube voltage, contrast
            agent, start of its injection, temporal position and stack; text that is compared and
            never shown.
        along_mm: position along the normal of the slice.
        height_mm: towards the head.
        whole: the multi-frame image, or concatenation of them, that a frame is of.
    """

    number: int | None = None
    time_s: float | None = None
    kernel: str = ""
    kvp: str = ""
    agent: str = ""
    bolus: str = ""
    temporal: str = ""
    stack: str = ""
    along_mm: float = 0.0
    height_mm: float = 0.0
    whole: str = ""


def acquired(header: Header) -> list[Acquired]:
    """How the image of a file came about: one answer, or one for each frame of a multi-frame image.

    Args:
        header: with the elements of `ACQUISITION_TAGS`.

    Raises:
        PatientError: FILE_UNREADABLE.
    """
    with readable(f"file {header.number} by name"):
        top = header.dataset
        frames = top.get("PerFrameFunctionalGroupsSequence") or []
        if not frames:
            return [_acquired(top.get)]
        shared = {
            keyword: value
            for item in top.get("SharedFunctionalGroupsSequence") or []
            for keyword, value in _elements(item)
        }
        given = {key: top.get(key) for key in ACQUISITION_TAGS} | shared
        whole = header.text("ConcatenationUID") or header.text("SOPInstanceUID")
        return [
            replace(_acquired((given | dict(_elements(frame))).get), whole=whole)
            for frame in frames
        ]


def _elements(groups: Dataset) -> Iterator[tuple[str, Any]]:
    """The elements of a frame's functional groups that tell how it came about, with their keywords
    (PS3.3, C.7.6.16)."""
    for group in groups:
        if group.VR == "SQ":
            for item in group.value:
                yield from (
                    (keyword, item[keyword].value)
                    for keyword in IN_GROUPS
                    if item.get(keyword) not in (None, "")
                )


def _acquired(get: Callable[[str], Any]) -> Acquired:
    number, voltage = (_numbers(get(keyword)) for keyword in ("AcquisitionNumber", "KVP"))
    number = number or _numbers(get("FrameAcquisitionNumber"))
    position = _numbers(get("ImagePositionPatient"))
    x, y, z = position if len(position) == 3 else (0.0, 0.0, 0.0)
    cosines = _numbers(get("ImageOrientationPatient"))
    a, b, c, d, e, f = cosines if len(cosines) == 6 else (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    agent = _text(get("ContrastBolusAgent")) or (
        "yes" if _text(get("ContrastBolusAgentAdministered")) == "yes" else ""
    )
    moment = _text(get("FrameAcquisitionDateTime")) or _text(get("AcquisitionDateTime"))
    return Acquired(
        number=round(number[0]) if number else None,
        time_s=_seconds(
            _text(get("AcquisitionDate")) or moment[:8], _text(get("AcquisitionTime")) or moment[8:]
        ),
        kernel=_text(get("ConvolutionKernel")),
        kvp=str(round(voltage[0])) if voltage else "",
        agent="" if agent in ("none", "no") else agent,
        bolus=_moment(_text(get("ContrastBolusStartTime"))),
        temporal=_text(get("TemporalPositionIdentifier")) or _text(get("TemporalPositionIndex")),
        stack=_text(get("StackID")),
        along_mm=x * (b * f - c * e) + y * (c * d - a * f) + z * (a * e - b * d),
        height_mm=z,
    )


def _text(value: Any) -> str:
    if value is None or value == "":
        return ""
    values = [value] if isinstance(value, (str, int, float)) else list(value)
    return "\\".join(" ".join(str(one).casefold().split()) for one in values)


def _numbers(value: Any) -> list[float]:
    """Numbers of an element; none where it is absent or holds anything else."""
    if value is None or value == "":
        return []
    try:
        numbers = [
            float(one) for one in ([value] if isinstance(value, (str, int, float)) else value)
        ]
    except (TypeError, ValueError):
        return []
    return numbers if all(abs(number) < MOST for number in numbers) else []


def _moment(time: str) -> str:
    """A time of day as seconds, so that 101010 is 101010.000; what is no time as it stands."""
    seconds = _seconds("", time)
    return time if seconds is None else str(seconds)


def _seconds(day: str, time: str) -> float | None:
    """Seconds at a date YYYYMMDD and a time HHMM, HHMMSS or HHMMSS.FFFFFF; with colons in files of
    before 1993. Of the day where the date is no date."""
    digits, _, fraction = time.replace(":", "").partition(".")
    if not digits.isdecimal() or len(digits) not in (4, 6):
        return None
    seconds = (
        int(digits[:2]) * 3600
        + int(digits[2:4]) * 60
        + int(digits[4:] or 0)
        + (float(f"0.{fraction}") if fraction.isdecimal() else 0.0)
    )
    return seconds + DAY_S * _ordinal(day)


@lru_cache(maxsize=256)
def _ordinal(day: str) -> int:
    try:
        return date.fromisoformat(day).toordinal()
    except ValueError:
        return 0
