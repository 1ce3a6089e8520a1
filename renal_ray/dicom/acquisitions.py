"""Which images of one series belong together: a series may hold several phases, kernels or stacks."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import lru_cache
from itertools import pairwise
from statistics import median
from typing import Any

from pydicom import Dataset

from renal_ray.dicom.headers import Header, readable

IN_GROUPS = (  # of a frame of a multi-frame image, wherever in its functional groups
    *("KVP", "ConvolutionKernel", "AcquisitionNumber", "FrameAcquisitionNumber", "AcquisitionDate", "AcquisitionTime"),
    *("FrameAcquisitionDateTime", "ContrastBolusAgent", "ContrastBolusStartTime", "ContrastBolusAgentAdministered"),
    *("TemporalPositionIdentifier", "TemporalPositionIndex", "StackID", "ImagePositionPatient", "ImageOrientationPatient"),
)
ACQUISITION_TAGS = (
    *("AcquisitionNumber", "AcquisitionDate", "AcquisitionTime", "AcquisitionDateTime", "ConvolutionKernel", "KVP"),
    *("ContrastBolusAgent", "ContrastBolusStartTime", "TemporalPositionIdentifier", "TemporalPositionIndex", "StackID"),
    *("ImagePositionPatient", "ImageOrientationPatient", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *("SOPInstanceUID", "ConcatenationUID"),
)
ATTRIBUTES = {  # what differs between acquisitions, in words
    "kernel": "kernel",
    "kvp": "kVp",
    "agent": "contrast agent",
    "bolus": "start of the contrast injection",
    "temporal": "temporal position",
    "stack": "stack",
}
COUNTERS = ("bolus", "temporal", "stack")  # that some programs count up from image to image
SAME_MM = 0.01  # between two positions
PAUSE_S = 20.0  # longer than from one breath to the next image of a scan
USUAL_PAUSES = 5.0  # times the usual time from image to image
OTHER_SCAN_S = 600.0  # pause after which nobody lies where they lay
PASS_S = 300.0  # no scan of an abdomen takes longer
MOST_PASSES = 8
DAY_S = 86400.0
MOST = 2.0**53  # what no number of a header comes near


@dataclass(frozen=True)
class Acquired:
    """How one image, or one frame of a multi-frame image, came about; empty or None where its header says nothing.

    Args:
        number: acquisition number.
        time_s: when, in seconds: of the day, or from a common beginning where the date is given.
        kernel, kvp, agent, bolus, temporal, stack: convolution kernel, tube voltage, contrast agent, start of its injection, temporal
            position and stack; text that is compared and never shown.
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
        shared = {keyword: value for item in top.get("SharedFunctionalGroupsSequence") or [] for keyword, value in _elements(item)}
        given = {key: top.get(key) for key in ACQUISITION_TAGS} | shared
        whole = header.text("ConcatenationUID") or header.text("SOPInstanceUID")
        return [replace(_acquired((given | dict(_elements(frame))).get), whole=whole) for frame in frames]


def _elements(groups: Dataset) -> Iterator[tuple[str, Any]]:
    """The elements of a frame's functional groups that tell how it came about, with their keywords (PS3.3, C.7.6.16)."""
    for group in groups:
        if group.VR == "SQ":
            for item in group.value:
                yield from ((keyword, item[keyword].value) for keyword in IN_GROUPS if item.get(keyword) not in (None, ""))


def _acquired(get: Callable[[str], Any]) -> Acquired:
    number, voltage = (_numbers(get(keyword)) for keyword in ("AcquisitionNumber", "KVP"))
    number = number or _numbers(get("FrameAcquisitionNumber"))
    position = _numbers(get("ImagePositionPatient"))
    x, y, z = position if len(position) == 3 else (0.0, 0.0, 0.0)
    cosines = _numbers(get("ImageOrientationPatient"))
    a, b, c, d, e, f = cosines if len(cosines) == 6 else (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    agent = _text(get("ContrastBolusAgent")) or ("yes" if _text(get("ContrastBolusAgentAdministered")) == "yes" else "")
    moment = _text(get("FrameAcquisitionDateTime")) or _text(get("AcquisitionDateTime"))
    return Acquired(
        number=round(number[0]) if number else None,
        time_s=_seconds(_text(get("AcquisitionDate")) or moment[:8], _text(get("AcquisitionTime")) or moment[8:]),
        kernel=_text(get("ConvolutionKernel")),
        kvp=str(round(voltage[0])) if voltage else "",
        agent="" if agent in ("none", "no") else agent,
        bolus=_text(get("ContrastBolusStartTime")),
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
        numbers = [float(one) for one in ([value] if isinstance(value, (str, int, float)) else value)]
    except (TypeError, ValueError):
        return []
    return numbers if all(abs(number) < MOST for number in numbers) else []


def _seconds(day: str, time: str) -> float | None:
    """Seconds at a date YYYYMMDD and a time HHMM, HHMMSS or HHMMSS.FFFFFF; with colons in files of before 1993. Of the day where the date is no date."""
    digits, _, fraction = time.replace(":", "").partition(".")
    if not digits.isdecimal() or len(digits) not in (4, 6):
        return None
    seconds = int(digits[:2]) * 3600 + int(digits[2:4]) * 60 + int(digits[4:] or 0) + (float(f"0.{fraction}") if fraction.isdecimal() else 0.0)
    return seconds + DAY_S * _ordinal(day)


@lru_cache(maxsize=256)
def _ordinal(day: str) -> int:
    try:
        return date.fromisoformat(day).toordinal()
    except ValueError:
        return 0


def acquisitions(images: Sequence[Acquired]) -> list[list[int]]:
    """Parts the images of one series that are no one volume.

    Images belong apart where kernel, tube voltage, contrast, temporal position or stack differ; where
    the stretches that acquisition numbers, or several multi-frame images, cover overlap; and where
    scans with a pause between cover the same stretch, or minutes lie between. Scanners give sound
    scans many acquisition numbers - one an image, one a table position - which follow each other along
    the body: these belong together, as do images of which a header says nothing, and images at one
    position alone, which are no volumes.

    Args:
        images: of one series, in any order.

    Returns:
        Places in `images`, a list an acquisition: ordered by number, time, from the head
        down, and by what differs; one list where all belong together.
    """
    times = _of_one_day([image.time_s for image in images])
    groups = _by_attributes(images)
    groups = [part for group in groups for part in _by_whole(group, images)]
    groups = [part for group in groups for part in _by_number(group, images)]
    groups = [part for group in groups for part in _by_time(group, images, times)]
    if max(map(len, groups), default=0) < 2:
        return [list(range(len(images)))]

    def order(group: list[int]) -> tuple[float, float, float, list[str]]:
        numbers = [number for place in group if (number := images[place].number) is not None]
        known = [time for place in group if (time := times[place]) is not None]
        heights = [-images[place].height_mm for place in group]
        return min(numbers, default=0), min(known, default=0.0), min(heights), [getattr(images[group[0]], name) for name in ATTRIBUTES]

    return sorted((sorted(group) for group in groups), key=order)


def _of_one_day(times: list[float | None]) -> list[float | None]:
    """Times without dates of a scan that midnight may have come between."""
    known = [time for time in times if time is not None]
    if known and DAY_S / 2 < max(known) - min(known) < DAY_S:
        return [time if time is None or time > DAY_S / 2 else time + DAY_S for time in times]
    return times


def _by_attributes(images: Sequence[Acquired]) -> list[list[int]]:
    groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
    differing = differences(images)
    for place, image in enumerate(images):
        groups[tuple(getattr(image, name) for name in differing)].append(place)
    return list(groups.values())


def differences(images: Sequence[Acquired]) -> list[str]:
    """Which of `ATTRIBUTES` differ between images; what is missing differs from nothing, but that no contrast agent is named counts."""
    differing = []
    for name in ATTRIBUTES:
        values = {getattr(image, name) for image in images}
        given = values - {""}
        counts_up = name in COUNTERS and len(given) > len(images) / 2
        if (len(given) > 1 or (name == "agent" and len(values) > 1)) and not counts_up:
            differing.append(name)
    return differing


def _by_whole(group: list[int], images: Sequence[Acquired]) -> list[list[int]]:
    """Parts the frames of several multi-frame images that cover stretches which overlap."""
    places: dict[str, list[int]] = defaultdict(list)
    for place in group:
        places[images[place].whole].append(place)
    parts = list(places.values())
    stretches = sorted(_stretch(part, images) for part in parts) if len(parts) > 1 else []
    return parts if any(_overlap(one, other) for one, other in pairwise(stretches)) else [group]


def _by_number(group: list[int], images: Sequence[Acquired]) -> list[list[int]]:
    """Parts images whose acquisition numbers cover stretches that overlap; later numbers begin a new pass where they meet an earlier one."""
    places: dict[int, list[int]] = defaultdict(list)
    for place in group:
        if (number := images[place].number) is not None:
            places[number].append(place)
    if len(places) < 2 or sum(map(len, places.values())) < len(group):
        return [group]
    stretches = {number: _stretch(places[number], images) for number in sorted(places)}
    if any(_overlap(one, other) for one, other in pairwise(sorted(stretches.values()))):
        passes = _passes(stretches, lambda covered, one: any(_overlap(one, other) for other in covered))
        return [[place for number in numbers for place in places[number]] for numbers in passes]
    if len(places) > len(group) / 2:  # a number an image: no stretches, but a second pass begins inside of the first
        passes = _passes(stretches, lambda covered, one: _overlap(one, (min(covered)[0], max(high for _, high in covered))))
        parts = [[place for number in numbers for place in places[number]] for numbers in passes]
        if 2 <= len(parts) <= MOST_PASSES and min(map(len, parts)) >= 3:
            return parts
    return [group]


def _passes(stretches: dict[int, tuple[float, float]], meets: Callable[[list[tuple[float, float]], tuple[float, float]], bool]) -> list[list[int]]:
    passes: list[list[int]] = []
    covered: list[tuple[float, float]] = []
    for number, stretch in stretches.items():
        if not passes or meets(covered, stretch):
            passes.append([])
            covered = []
        passes[-1].append(number)
        covered.append(stretch)
    return passes


def _by_time(group: list[int], images: Sequence[Acquired], times: list[float | None]) -> list[list[int]]:
    """Parts images at pauses between scans that cover the same stretch, or of which nothing says that they are one."""
    timed = sorted((time, place) for place in group if (time := times[place]) is not None)
    if len(timed) < max(2, len(group)):
        return [group]
    steps = [later[0] - earlier[0] for earlier, later in pairwise(timed)]
    pause = max(PAUSE_S, USUAL_PAUSES * median(steps))
    parts = [[timed[0]]]
    for step, image in zip(steps, timed[1:], strict=True):
        if step > pause:
            parts.append([])
        parts[-1].append(image)
    if not 2 <= len(parts) <= MOST_PASSES or any(part[-1][0] - part[0][0] > PASS_S for part in parts):
        return [group]
    scans = [[place for _, place in part] for part in parts]
    stretches = sorted(_stretch(scan, images) for scan in scans)
    apart = max(steps) > OTHER_SCAN_S or any(_overlap(one, other) for one, other in pairwise(stretches))
    return scans if apart else [group]


def _stretch(places: list[int], images: Sequence[Acquired]) -> tuple[float, float]:
    along = [images[place].along_mm for place in places]
    return min(along), max(along)


def _overlap(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one[0] <= other[1] + SAME_MM and other[0] <= one[1] + SAME_MM


def longest_pause_s(images: Sequence[Acquired]) -> float:
    """The longest pause between two neighbouring images of different acquisition numbers.

    Args:
        images: of one volume, in the order of their positions.

    Returns:
        Seconds; 0 where no pause stands out, or the images do not say when they were acquired.
    """
    times = _of_one_day([image.time_s for image in images])
    known = [time for time in times if time is not None]
    if len(images) < 3 or len(known) < len(images):
        return 0.0
    steps = [abs(later - earlier) for earlier, later in pairwise(known)]
    longest = max((step for step, (one, other) in zip(steps, pairwise(images), strict=True) if one.number != other.number), default=0.0)
    return longest if longest > max(PAUSE_S, USUAL_PAUSES * median(steps)) else 0.0


def described(groups: Sequence[Sequence[int]], images: Sequence[Acquired]) -> str:
    """What differs between the acquisitions of a series, in words: numbers alone, since a text of a header may hold anything."""
    numbers = [sorted({number for place in group if (number := images[place].number) is not None}) for group in groups]
    words = []
    if all(numbers) and len(set(map(tuple, numbers))) > 1:
        shown = [str(one[0]) if len(one) == 1 else f"{one[0]} to {one[-1]}" for one in numbers]
        words.append(f"acquisition number ({', '.join(shown)})")
    for name in differences(images):
        voltages = sorted({image.kvp for image in images} - {""}, key=int) if name == "kvp" else []
        words.append(ATTRIBUTES[name] + (f" ({', '.join(voltages)})" if voltages else ""))
    return ", ".join(words) or "time of acquisition"
