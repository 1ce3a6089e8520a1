"""Which images of a folder are the one CT series, or the one acquisition, that is meant."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from renal_ray.dicom.acquired import Acquired, acquired
from renal_ray.dicom.acquisitions import acquisitions, described
from renal_ray.dicom.files import files_below, is_packed, require_unpacked
from renal_ray.dicom.headers import COMPANIONS, Header, Pixels, shown_modality
from renal_ray.dicom.series import (
    acquisition_key,
    by_series,
    named,
    series_key,
    shortest,
    without_acquisition,
)
from renal_ray.imaging.images.source import References
from renal_ray.problems import Code, Finding, PatientError

PERSON_TAGS = ("PatientBirthDate", "PatientSex")
MOST_LISTED = 8


@dataclass(frozen=True)
class Image:
    """An image of a series: a file, or a frame of a multi-frame one, counted from 0."""

    header: Header
    frame: int | None
    acquired: Acquired


@dataclass(frozen=True)
class Chosen:
    """The images of one volume.

    Args:
        images: in the order of the files.
        damaged: files of the series that cannot be used.
        unknown: files that cannot be used, of which it is not known what they are.
        alone: whether the folder holds no other series.
    """

    images: list[Image]
    damaged: list[Header] = field(default_factory=list)
    unknown: list[Header] = field(default_factory=list)
    alone: bool = True

    @property
    def headers(self) -> list[Header]:
        """Of its files."""
        return list({id(image.header): image.header for image in self.images}.values())

    def findings(self) -> list[Finding]:
        """What was left out of a series that is complete without it."""
        left_out = [*self.damaged, *(self.unknown if self.alone else ())]
        if not left_out:
            return []
        listed = ", ".join(str(header.number) for header in left_out[:MOST_LISTED])
        return [
            Finding(
                Code.FILE_LEFT_OUT,
                f"{_counted(left_out)} (by name: {listed}) cannot be read and was "
                "left out; look whether the lesion goes on there",
            )
        ]

    def explained(self, error: PatientError, folder: Path) -> PatientError:
        """Why slices are missing: a file that is damaged or packed may be one of them.

        Args:
            error: what is wrong with the slices that are there.
            folder: where they lie.
        """
        if error.code is not Code.MISSING_SLICE:
            return error
        if self.damaged and self.damaged[0].fault:
            fault = self.damaged[0].fault
            return replace(
                fault, message=f"{fault.message} (without it, {error.message.partition(';')[0]})"
            )
        if self.unknown:
            listed = ", ".join(str(header.number) for header in self.unknown[:MOST_LISTED])
            return replace(
                error,
                message=(
                    f"{error.message}; {_counted(self.unknown)} (by "
                    f"name: {listed}) may be among them"
                ),
            )
        packed = sum(map(is_packed, files_below(folder)))
        return (
            replace(error, message=f"{error.message}; {packed} packed files lie there: unpack them")
            if packed
            else error
        )


def _counted(files: Sequence[Header]) -> str:
    return "1 damaged file" if len(files) == 1 else f"{len(files)} damaged files"


def choose(headers: Sequence[Header], wanted: References, key: str, folder: Path) -> Chosen:
    """Finds the images that are meant.

    Files of other series and modalities, sound or damaged, are passed over, as are objects that are
    no images, and scout views.

    Args:
        headers: of all DICOM files of a folder, broken ones with their faults.
        wanted: what the mask refers to.
        key: from a manifest, shortened or not, with or without an acquisition; empty where mask or
            folder decide.
        folder: theirs.

    Raises:
        PatientError: SEVERAL_SERIES, MIXED_ACQUISITIONS, FILE_MISSING, NOT_CT, or why the only
            files are no use.
    """
    keyed = [_keyed(header) for header in headers]
    images = [(header, series) for header, series in keyed if series]
    places = by_series([series for _, series in images])
    groups = {series: [images[place][0] for place in group] for series, group in places.items()}
    broken = [header for header, _ in keyed if header.fault]
    series, number = without_acquisition(key)
    if series:
        candidates = named(series, groups)
        for header in () if candidates else broken:
            if (
                header.fault
                and header.text("SeriesInstanceUID")
                and named(series, [series_key(header)])
            ):
                raise header.fault
        if not candidates:
            raise PatientError(
                Code.FILE_MISSING,
                f"the image's folder holds no CT series with the key {series} "
                "that the manifest names; scan it again",
            )
    else:
        _require_some(groups, [header for header, _ in keyed], wanted, folder)
        candidates = _meant(groups, wanted)
    if len(candidates) > 1:
        candidates = _narrowed(candidates, groups, wanted)
    if len(candidates) != 1:
        short = shortest(groups)
        listed = ", ".join(
            f"{short[one]} ({len(groups[one])} files)" for one in candidates[:MOST_LISTED]
        )
        message = (
            f"the folder holds {len(candidates)} CT series and the mask does not say which; "
            f"give the folder of one, or enter one under series: {listed}"
        )
        raise PatientError(Code.SEVERAL_SERIES, message)
    group = groups[candidates[0]]
    if not _hold(group, wanted) and any(_hold(other, wanted) for other in groups.values()):
        raise PatientError(
            Code.MASK_WITHOUT_SERIES,
            "the mask names slices of another series of the folder; pair it with its own",
        )
    _require_one_modality(group, headers)
    _require_one_person(group)
    group = [header for header in group if not header.is_localizer] or group
    mine = [header for header in broken if _is_of(header, group)]
    owners = ("", group[0].text("PatientID"))
    unknown = [
        one
        for one in broken
        if not one.text("SeriesInstanceUID")
        and one.text("Modality") in ("", "CT")
        and one.text("PatientID") in owners
    ]
    chosen = _acquisition(group, wanted, shortest(groups)[candidates[0]], number)
    _require_ends(chosen, mine)
    return Chosen(chosen, mine, unknown, len(groups) == 1)


def _keyed(header: Header) -> tuple[Header, str]:
    """A header with the key of its series; none where it is no CT image, or cannot be used."""
    if header.fault or not header.is_ct:
        return header, ""
    if header.pixels is not Pixels.PRESENT and not header.is_localizer:
        return replace(header, fault=without_pixels(header)), ""
    try:
        return header, series_key(header)
    except PatientError as error:
        return replace(header, fault=error), ""


def without_pixels(header: Header) -> PatientError:
    """Why an image whose pixels are absent or cut off cannot be used."""
    code = Code.NO_PIXEL_DATA if header.pixels is Pixels.ABSENT else Code.FILE_TRUNCATED
    return PatientError(
        code,
        f"file {header.number} by name: its pixel data are "
        f"{header.pixels.value}; copy or export it again",
    )


def _require_some(
    groups: dict[str, list[Header]], headers: Sequence[Header], wanted: References, folder: Path
) -> None:
    """Refuses a folder without the series that the mask names, or without any, for the reason that
    it has none."""
    sound = {header.text("SeriesInstanceUID") for group in groups.values() for header in group}
    for header in headers:
        may_be = not groups and header.text("Modality") in ("", "CT")
        if header.fault and (may_be or header.text("SeriesInstanceUID") in wanted.series - sound):
            raise header.fault
    if groups:
        return
    strangers = sorted(
        {
            shown_modality(header.text("Modality"))
            for header in headers
            if header.text("Modality") not in COMPANIONS | {"CT", ""}
        }
    )
    if strangers:
        raise PatientError(
            Code.NOT_CT,
            "the folder holds images that are no CT (modality "
            f"{', '.join(strangers)}); give the folder of one CT series",
        )
    if not headers:
        require_unpacked(folder)
    code, what = (
        (Code.NOT_CT, "no CT image among its DICOM files")
        if headers
        else (Code.FILE_UNREADABLE, "no DICOM file")
    )
    raise PatientError(code, f"the folder holds {what}; give the folder of one CT series")


def _meant(groups: dict[str, list[Header]], wanted: References) -> list[str]:
    """The series that a mask names, else all that are more than scout views."""
    by_mask = [
        key for key, group in groups.items() if group[0].text("SeriesInstanceUID") in wanted.series
    ]
    return (
        by_mask
        or [
            key for key, group in groups.items() if not all(header.is_localizer for header in group)
        ]
        or list(groups)
    )


def _narrowed(
    candidates: list[str], groups: dict[str, list[Header]], wanted: References
) -> list[str]:
    """Those of several series that hold the images which a mask names, or that lie in its frame of
    reference."""

    def texts(key: str, keyword: str) -> set[str]:
        return {header.text(keyword) for header in groups[key]}

    by_series = [key for key in candidates if texts(key, "SeriesInstanceUID") & wanted.series]
    kept = by_series or candidates
    kept = [key for key in kept if texts(key, "SOPInstanceUID") & wanted.images] or kept
    if len(kept) > 1 and wanted.frame_of_reference and (by_series or not wanted.series):
        kept = [
            key for key in kept if wanted.frame_of_reference in texts(key, "FrameOfReferenceUID")
        ] or kept
    return kept


def _hold(group: list[Header], wanted: References) -> bool:
    """Whether any of these images is among those that a mask names."""
    return any(header.text("SOPInstanceUID") in wanted.images for header in group)


def _require_one_modality(group: list[Header], headers: Sequence[Header]) -> None:
    """Refuses a series of which some images are of another modality."""
    series = group[0].text("SeriesInstanceUID")
    for header in headers:
        modality = header.text("Modality")
        if (
            series
            and header.text("SeriesInstanceUID") == series
            and modality not in COMPANIONS | {"CT", ""}
            and _is_of(header, group)
        ):
            what = f"the series holds images that are no CT (modality {shown_modality(modality)})"
            raise PatientError(Code.NOT_CT, f"{what}; give the folder of one CT series")


def _require_one_person(group: list[Header]) -> None:
    """Refuses images of two persons whom no identifier tells apart."""
    for keyword in PERSON_TAGS:
        if len({header.text(keyword) for header in group} - {""}) > 1:
            message = (
                "the series holds images of two persons under one PatientID (sex "
                "or birth date differ); give the folder of one"
            )
            raise PatientError(Code.DIFFERENT_PERSONS, message)


def _require_ends(images: Sequence[Image], damaged: Sequence[Header]) -> None:
    """Refuses a damaged file whose place no other file has: at an end, nothing else tells that a
    slice is missing."""
    places = {_place(image.header) for image in images}
    numbers = {image.header.text("AcquisitionNumber") for image in images}
    for header in damaged:
        other = header.text("AcquisitionNumber") not in numbers | {""}
        if (
            header.fault
            and not header.is_localizer
            and not other
            and _place(header) not in places | {()}
        ):
            raise header.fault


def _place(header: Header) -> tuple[float, ...]:
    """Where the image lies, in mm; empty where its header does not say."""
    given = header.text("ImagePositionPatient").strip("[]").replace("\\", ",").split(",")
    try:
        return tuple(map(float, given))
    except ValueError:  # nothing, or no numbers
        return ()


def _is_of(header: Header, group: list[Header]) -> bool:
    """Whether a file names the series and patient of a group."""
    ours, theirs = header.text("PatientID"), group[0].text("PatientID")
    return (
        bool(header.text("SeriesInstanceUID"))
        and header.text("SeriesInstanceUID") == group[0].text("SeriesInstanceUID")
        and ours in ("", theirs)
    )


def _acquisition(group: list[Header], wanted: References, key: str, number: int) -> list[Image]:
    """The images of a series, or of the one of its acquisitions that the manifest or the mask
    names."""
    images = [image for header in group for image in _images(header)]
    parts = acquisitions([image.acquired for image in images])
    if number > (len(parts) if len(parts) > 1 else 0):
        raise PatientError(
            Code.FILE_MISSING,
            "the series holds no acquisition "
            f"{acquisition_key(key, number)} that the manifest names; scan "
            "it again",
        )
    if number:
        return [images[place] for place in parts[number - 1]]
    if len(parts) > 1 and wanted.images:
        hit = [
            part
            for part in parts
            if any(images[place].header.text("SOPInstanceUID") in wanted.images for place in part)
        ]
        parts = hit if len(hit) == 1 else parts
    if len(parts) == 1:
        return [images[place] for place in parts[0]]
    listed = ", ".join(
        f"{acquisition_key(key, n)} ({len(part)} images)"
        for n, part in enumerate(parts[:MOST_LISTED], 1)
    )
    what = (
        f"the series holds {len(parts)} acquisitions, which differ in "
        f"{described(parts, [image.acquired for image in images])}"
    )
    raise PatientError(Code.MIXED_ACQUISITIONS, f"{what}; enter one of them under series: {listed}")


def _images(header: Header) -> list[Image]:
    facts = acquired(header)
    single = not header.dataset.get("PerFrameFunctionalGroupsSequence")
    return [Image(header, None if single else frame, one) for frame, one in enumerate(facts)]
