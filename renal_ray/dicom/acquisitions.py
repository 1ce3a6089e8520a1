"""Which images of one series belong together: a series may hold several phases, kernels or
stacks."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import pairwise
from statistics import median

from renal_ray.dicom.acquired import DAY_S, Acquired

ATTRIBUTES = {  # what differs between acquisitions, in words
    "kernel": "kernel",
    "kvp": "kVp",
    "agent": "contrast agent",
    "bolus": "start of the contrast injection",
    "temporal": "temporal position",
    "stack": "stack",
}
COUNTERS = ("bolus", "temporal", "stack")  # that some programs count up from image to image
OF_THE_TABLE = ("temporal", "stack")  # and from one table position to the next
SAME_MM = 0.01  # between two positions
PAUSE_S = 20.0  # longer than from one breath to the next image of a scan
USUAL_PAUSES = 5.0  # times the usual time from image to image
OTHER_SCAN_S = 600.0  # pause after which nobody lies where they lay
PASS_S = 300.0  # no scan of an abdomen takes longer
MOST_PASSES = 8
FEWEST_TURNS, MOSTLY, USUAL_TURN = (
    6,
    0.9,
    3.0,
)  # images, share of the steps that turn back, step over that within a scan
FEWEST_SILENT = 3  # images without a value that may be a scan of their own
# Share of images that may lack a number or a time without being taken for a phase that lacks it.
MOST_SILENT = 0.25


def acquisitions(images: Sequence[Acquired]) -> list[list[int]]:
    """Parts the images of one series that are no one volume.

    Images belong apart where kernel, tube voltage, contrast, temporal position or stack differ;
    where the stretches that acquisition numbers, or several multi-frame images, cover overlap; and
    where scans with a pause between cover the same stretch, or minutes lie between. Scanners give
    sound scans many acquisition numbers - one an image, one a table position - which follow each
    other along the body: these belong together, as do images of which a header says nothing, and
    images at one position alone, which are no volumes.

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
    groups = [part for group in groups for part in _by_turns(group, images, times)]
    if max(map(len, groups), default=0) < 2:
        return [list(range(len(images)))]

    def order(group: list[int]) -> tuple[float, float, float, list[str]]:
        numbers = [number for place in group if (number := images[place].number) is not None]
        known = [time for place in group if (time := times[place]) is not None]
        heights = [-images[place].height_mm for place in group]
        return (
            min(numbers, default=0),
            min(known, default=0.0),
            min(heights),
            [getattr(images[group[0]], name) for name in ATTRIBUTES],
        )

    return sorted((sorted(group) for group in groups), key=order)


def _of_one_day(times: list[float | None]) -> list[float | None]:
    """Times without dates of a scan that midnight may have come between."""
    known = [time for time in times if time is not None]
    if known and DAY_S / 2 < max(known) - min(known) < DAY_S:
        return [time if time is None or time > DAY_S / 2 else time + DAY_S for time in times]
    return times


def _by_attributes(images: Sequence[Acquired]) -> list[list[int]]:
    groups = [list(range(len(images)))]
    for name in differences(images):
        groups = [part for group in groups for part in _by_attribute(group, images, name)]
    return groups


def _by_attribute(group: list[int], images: Sequence[Acquired], name: str) -> list[list[int]]:
    places = _places(group, images, name)
    silent = places.get("", [])
    if not silent or len(places) == 1 or _is_scan(silent, group, images):
        return list(places.values())
    del places[""]
    return _joined(list(places.values()), silent, images)


def _places(group: Sequence[int], images: Sequence[Acquired], name: str) -> dict[str, list[int]]:
    places: dict[str, list[int]] = defaultdict(list)
    for place in group:
        places[getattr(images[place], name)].append(place)
    return places


def _is_scan(silent: list[int], group: Sequence[int], images: Sequence[Acquired]) -> bool:
    """Whether images that lack a value are a scan without one: at least three, and one block of
    neighbours or many of the images."""
    if min(len(silent), len(group) - len(silent)) < FEWEST_SILENT:
        return False
    low, high = _stretch(silent, images)
    within = sum(low <= images[place].along_mm <= high for place in group)
    return within == len(silent) or len(silent) >= MOST_SILENT * len(group)


def differences(images: Sequence[Acquired]) -> list[str]:
    """Which of `ATTRIBUTES` differ between images.

    What is missing differs from nothing, but images without a contrast agent are a scan of their
    own where they are no few: see `_is_scan`. A temporal position or stack that changes with the
    table, no two of which share a stretch, differs neither.
    """
    differing = []
    for name in ATTRIBUTES:
        places = _places(range(len(images)), images, name)
        silent = places.pop("", [])
        counts_up = name in COUNTERS and len(places) > len(images) / 2
        if name in OF_THE_TABLE:
            stretches = sorted(_stretch(part, images) for part in places.values())
            counts_up = counts_up or not any(
                _overlap(one, other) for one, other in pairwise(stretches)
            )
        without = name == "agent" and _is_scan(silent, range(len(images)), images)
        if (len(places) > 1 or (places and without)) and not counts_up:
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
    """Parts images whose acquisition numbers cover stretches that overlap; later numbers begin a
    new pass where they meet an earlier one."""
    places: dict[int, list[int]] = defaultdict(list)
    for place in group:
        if (number := images[place].number) is not None:
            places[number].append(place)
    if silent := [place for place in group if images[place].number is None]:
        few = min(len(silent), len(group) - len(silent)) < FEWEST_SILENT
        if len(silent) < len(group) and (few or len(silent) < MOST_SILENT * len(group)):
            told = _by_number(
                [place for place in group if images[place].number is not None], images
            )
            return _joined(told, silent, images)
        places[min(places, default=0) - 1] = silent  # a whole phase without a number
    if len(places) < 2:
        return [group]
    stretches = {number: _stretch(places[number], images) for number in sorted(places)}
    if any(_overlap(one, other) for one, other in pairwise(sorted(stretches.values()))):
        passes = _passes(
            stretches, lambda covered, one: any(_overlap(one, other) for other in covered)
        )
        return [[place for number in numbers for place in places[number]] for numbers in passes]
    if (
        len(places) > len(group) / 2
    ):  # a number an image: no stretches, but a second pass begins inside of the first
        passes = _passes(
            stretches,
            lambda covered, one: _overlap(one, (min(covered)[0], max(high for _, high in covered))),
        )
        parts = [[place for number in numbers for place in places[number]] for numbers in passes]
        if 2 <= len(parts) <= MOST_PASSES and min(map(len, parts)) >= 3:
            return parts
    return [group]


def _passes(
    stretches: dict[int, tuple[float, float]],
    meets: Callable[[list[tuple[float, float]], tuple[float, float]], bool],
) -> list[list[int]]:
    passes: list[list[int]] = []
    covered: list[tuple[float, float]] = []
    for number, stretch in stretches.items():
        if not passes or meets(covered, stretch):
            passes.append([])
            covered = []
        passes[-1].append(number)
        covered.append(stretch)
    return passes


def _by_time(
    group: list[int], images: Sequence[Acquired], times: list[float | None]
) -> list[list[int]]:
    """Parts images at pauses between scans that cover the same stretch, or of which nothing says
    that they are one."""
    timed = sorted((time, place) for place in group if (time := times[place]) is not None)
    if len(timed) < 2 or len(group) - len(timed) >= MOST_SILENT * len(group):
        return [group]
    if len(timed) < len(group):
        told = _by_time([place for _, place in timed], images, times)
        return _joined(told, [place for place in group if times[place] is None], images)
    steps = [later[0] - earlier[0] for earlier, later in pairwise(timed)]
    pause = max(PAUSE_S, USUAL_PAUSES * median(steps))
    parts = [[timed[0]]]
    for step, image in zip(steps, timed[1:], strict=True):
        if step > pause:
            parts.append([])
        parts[-1].append(image)
    if not 2 <= len(parts) <= MOST_PASSES or any(
        part[-1][0] - part[0][0] > PASS_S for part in parts
    ):
        return [group]
    scans = [[place for _, place in part] for part in parts]
    stretches = sorted(_stretch(scan, images) for scan in scans)
    apart = max(steps) > OTHER_SCAN_S or any(
        _overlap(one, other) for one, other in pairwise(stretches)
    )
    return scans if apart else [group]


def _by_turns(
    group: list[int], images: Sequence[Acquired], times: list[float | None]
) -> list[list[int]]:
    """Parts two scans whose images take turns along the body: their times go to and fro, by far
    more than within either scan."""
    ordered = sorted(
        (place for place in group if times[place] is not None),
        key=lambda place: images[place].along_mm,
    )
    if len(ordered) < max(FEWEST_TURNS, len(group)):
        return [group]
    steps = _steps(ordered, times)
    turns = sum(one * other < 0 for one, other in pairwise(steps))
    scans = [ordered[::2], ordered[1::2]]
    within = max(median(map(abs, _steps(scan, times))) for scan in scans)
    takes_turns = turns >= MOSTLY * (len(steps) - 1) and median(map(abs, steps)) > max(
        1.0, USUAL_TURN * within
    )
    return scans if takes_turns else [group]


def _steps(places: Sequence[int], times: list[float | None]) -> list[float]:
    known = [time for place in places if (time := times[place]) is not None]
    return [later - earlier for earlier, later in pairwise(known)]


def _joined(
    parts: list[list[int]], silent: list[int], images: Sequence[Acquired]
) -> list[list[int]]:
    """Parts with the images of which nothing is said, each in the part of its nearest neighbour: in
    time where both have one, then in space."""
    part_of = {place: part for part in parts for place in part}
    told = list(part_of)
    for place in silent:
        part_of[min(told, key=lambda other: _distance(images[place], images[other]))].append(place)
    return parts


def _distance(one: Acquired, other: Acquired) -> tuple[float, float]:
    apart_s = 0.0 if one.time_s is None or other.time_s is None else abs(one.time_s - other.time_s)
    return apart_s, abs(one.along_mm - other.along_mm)


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
    longest = max(
        (
            step
            for step, (one, other) in zip(steps, pairwise(images), strict=True)
            if one.number != other.number
        ),
        default=0.0,
    )
    return longest if longest > max(PAUSE_S, USUAL_PAUSES * median(steps)) else 0.0


def described(groups: Sequence[Sequence[int]], images: Sequence[Acquired]) -> str:
    """What differs between the acquisitions of a series, in words: numbers alone, since a text of a
    header may hold anything."""
    numbers = [
        sorted({number for place in group if (number := images[place].number) is not None})
        for group in groups
    ]
    words = []
    if all(numbers) and len(set(map(tuple, numbers))) > 1:
        shown = [str(one[0]) if len(one) == 1 else f"{one[0]} to {one[-1]}" for one in numbers]
        words.append(f"acquisition number ({', '.join(shown)})")
    for name in differences(images):
        voltages = sorted({image.kvp for image in images} - {""}, key=int) if name == "kvp" else []
        words.append(ATTRIBUTES[name] + (f" ({', '.join(voltages)})" if voltages else ""))
    return ", ".join(words) or "time of acquisition"
