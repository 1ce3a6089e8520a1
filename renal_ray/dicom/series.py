"""What a series is called in a manifest: a key that tells series, patients and acquisitions apart,
and tells nothing of them."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache

from renal_ray.dicom.headers import Header, readable

KEY_TAGS = (
    *("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"),
    *("ImageOrientationPatient", "PixelSpacing", "Rows", "Columns"),
)
BORDER, ACQUISITION = "-", "."


def series_key(header: Header) -> str:
    """Names the series of an image without its UID.

    Args:
        header: with the elements of `KEY_TAGS`.

    Returns:
        Three parts with `-` between: 12 hexadecimal digits of SHA-256 of the SeriesInstanceUID, or,
        where de-identification emptied it, of plane, spacing and matrix; 6 of this and the
        PatientID, because copies of a UID are not rare; 6 of these, study and frame of reference.
    """
    series: object = header.text("SeriesInstanceUID")
    if not series:
        with readable(f"file {header.number} by name"):
            orientation = tuple(
                round(float(value), 2) + 0.0
                for value in header.dataset.get("ImageOrientationPatient") or ()
            )
            spacing = tuple(
                round(float(value), 3) for value in header.dataset.get("PixelSpacing") or ()
            )
            series = (orientation, spacing, header.text("Rows"), header.text("Columns"))
    owner = (series, header.text("PatientID"))
    frame = (owner, header.text("StudyInstanceUID"), header.text("FrameOfReferenceUID"))
    return BORDER.join((_digest(series, 12), _digest(owner, 6), _digest(frame, 6)))


@lru_cache(maxsize=256)  # the images of a series follow each other
def _digest(what: object, digits: int) -> str:
    return hashlib.sha256(str(what).encode()).hexdigest()[:digits]


def by_series(keys: Sequence[str]) -> dict[str, list[int]]:
    """Gathers images to series.

    Args:
        keys: `series_key` of each image.

    Returns:
        Key -> places in `keys`. Some programs give every image a study or a frame of reference of
        its
        own: such images stay one series, whose key has no third part.
    """
    groups: dict[str, list[int]] = defaultdict(list)
    for place, key in enumerate(keys):
        groups[key].append(place)
    frames: dict[str, list[str]] = defaultdict(list)
    for key in groups:
        frames[key.rpartition(BORDER)[0]].append(key)
    series: dict[str, list[int]] = {}
    for owner, full in frames.items():
        if len(full) > 1 and all(len(groups[key]) == 1 for key in full):
            series[owner] = sorted(groups[key][0] for key in full)
        else:
            series |= {key: groups[key] for key in full}
    return series


def named(key: str, keys: Iterable[str]) -> list[str]:
    """Which series a manifest names.

    Args:
        key: from a manifest; shortened where a part ends, it names all that begin with it.
        keys: of the series that are there.
    """
    return sorted(one for one in keys if one == key or one.startswith(key + BORDER))


def shortest(keys: Iterable[str]) -> dict[str, str]:
    """Key -> the shortest form that names this series alone among them all."""
    full = set(keys)
    short = {}
    for key in full:
        parts = key.split(BORDER)
        forms = [BORDER.join(parts[:count]) for count in range(1, len(parts) + 1)]
        short[key] = next(form for form in forms if named(form, full) == [key])
    return short


def acquisition_key(key: str, number: int) -> str:
    """The key of one acquisition of a series that holds several; number counts from 1."""
    return f"{key}{ACQUISITION}{number}"


def without_acquisition(key: str) -> tuple[str, int]:
    """A manifest's key as the series' key and the number of the acquisition; 0 where it names
    none."""
    series, _, number = key.partition(ACQUISITION)
    return (series, int(number)) if number.isdecimal() else (key, 0)
