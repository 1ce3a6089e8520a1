"""Volume files: which are images and which masks, and on which image each mask was drawn."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from renal_ray.cohort.scan.best import best
from renal_ray.cohort.scan.grids import Fit, fit, fit_series, volume_grid
from renal_ray.cohort.scan.names import (
    ENDING,
    IMAGE_WORDS,
    MASK_WORDS,
    case_words,
    id_words,
    is_called_mask,
    is_of_organ,
    is_surely_mask,
    named_in,
    role_words,
)
from renal_ray.cohort.scan.others import OtherIds
from renal_ray.cohort.scan.people import Mask, Person
from renal_ray.cohort.scan.walk import Found
from renal_ray.imaging.geometry.grid import Grid
from renal_ray.problems import Code, PatientError

ROLES = (
    IMAGE_WORDS | MASK_WORDS | frozenset({"tr", "ts", "va", "train", "test", "val"})
)  # of folders that hold many patients
DEPTH = 2  # folders between a patient's folder and the image, or the mask


@dataclass
class VolumeImage:
    """A CT image in a volume file.

    Args:
        path: the file.
        grid: None where its header cannot be read.
        names: what its patient may be called: the file's name without what says image, the
            folder's.
        is_alone: whether its folder holds no other image.
        masks: drawn on it.
    """

    path: Path
    grid: Grid | None
    names: tuple[str, ...]
    is_alone: bool
    masks: list[Mask] = field(default_factory=list)

    @property
    def pair(self) -> "VolumePair":
        """The image with the one mask that is the lesion's."""
        masks, aside = best(self.masks, self.path.parent, self.path.name)
        if len(masks) == 1:
            together = (
                self.is_alone
                and masks[0].path.parent == self.path.parent
                and self.path.parent.name in self.names
            )
            return VolumePair(self.names[:: -1 if together else 1], self.path, masks[0].path, aside)
        code, what = (
            (Code.SEVERAL_MASKS, f"{len(masks)} masks")
            if masks
            else (Code.SERIES_WITHOUT_MASK, "no mask")
        )
        problem = PatientError(
            code,
            f"{what} of the image's name or folder and size; enter the right one in the manifest",
            str(self.path),
        )
        return VolumePair(self.names, self.path, None, [problem, *aside])


@dataclass(frozen=True)
class VolumePair:
    """An image and its mask.

    Args:
        names: what the patient may be called, the likeliest first.
        image: the file.
        mask: None where it is not clear which.
        problems: what stands in the way, and what is to be looked at.
    """

    names: tuple[str, ...]
    image: Path
    mask: Path | None
    problems: list[PatientError]


@dataclass(frozen=True)
class _Target:
    """What a mask may have been drawn on: a volume file, or the series of a patient."""

    owner: VolumeImage | Person
    folders: frozenset[Path]

    def fit(self, mask: Grid | None) -> Fit:
        if isinstance(self.owner, VolumeImage):
            return fit(self.owner.grid, mask)
        return max(fit_series(series, mask) for series in self.owner.series.values())


def sort_volumes(
    found: Sequence[Found],
) -> tuple[list[VolumeImage], list[Path], list[PatientError]]:
    """Parts volume files into images and masks, by names that say mask, else by values.

    Args:
        found: volume files, as from `walk.sampled`.

    Returns:
        Images, masks, and what can be neither.
    """
    images, masks, problems = [], [], []
    for one in found:
        path = Path(one.path)
        if is_surely_mask(path):
            masks.append(path)
        elif one.code:
            problems.append(PatientError(one.code, one.remark, one.path))
        elif not one.remark:
            images.append(path)
        elif is_called_mask(path.name) or _may_be_mask(path):
            masks.append(path)
        else:
            problems.append(
                PatientError(
                    Code.NOT_CT,
                    f"not proposed as an image: {one.remark}; if it is a "
                    "mask, enter it in the manifest",
                    one.path,
                )
            )
    images_in = Counter(path.parent for path in images)
    return (
        [
            VolumeImage(path, volume_grid(path), _names(path), is_alone=images_in[path.parent] == 1)
            for path in images
        ],
        masks,
        problems,
    )


def _may_be_mask(path: Path) -> bool:
    """Whether a file that is no CT is a mask by its folder, or called after an organ."""
    own = role_words(path.name)
    return IMAGE_WORDS.isdisjoint(own) and (is_of_organ(own) or is_called_mask(path.parent.name))


def _names(path: Path) -> tuple[str, ...]:
    """What says who it is: the file's name, and the nearest folder's that says more than its
    role."""
    folders = [
        folder.name
        for folder in path.parents
        if folder.name and not role_words(folder.name) <= ROLES
    ]
    return tuple(name for name in ("_".join(_case(path)), *folders[:1]) if name) or (path.name,)


def _case(path: Path) -> list[str]:
    """The words of `case_words` as they are written."""
    wanted = list(case_words(path))
    parts = [part for part in re.split(r"[\W_]+", ENDING.sub("", path.name)) if part]
    return [part for part in parts if set(id_words(part)) <= set(wanted)]


def pair_masks(
    masks: Sequence[Path],
    images: Sequence[VolumeImage],
    people: Sequence[Person],
    roots: Sequence[Path],
    labelled: Iterable[str],
) -> list[PatientError]:
    """Gives each mask to the image or patient that it belongs to.

    A mask belongs where its name or a folder's says so, or to the only patient of its own folder,
    and in any case by its grid; nowhere if its name or a folder's holds the id of another. Mask
    objects of patients without DICOM images go to the volume file that is called by their
    PatientID, or lies alone in their folder.

    Args:
        masks: volume files.
        images, people: given their masks here.
        roots: the folders that were scanned.
        labelled: ids of the table of labels.

    Returns:
        MASK_UNPAIRED for each mask that belongs to none.
    """
    search = _Search(images, people, roots, labelled)
    unpaired = []
    for path in masks:
        target = search.target(path)
        if isinstance(target, str):
            unpaired.append(
                PatientError(
                    Code.MASK_UNPAIRED,
                    f"{target}; enter it in the manifest beside its image",
                    str(path),
                )
            )
        else:
            target.masks.append(Mask(path, "volume file"))
    for person in people:
        homes = (
            []
            if person.series or person.derived
            else [(mask, search.image_of(mask, person.patient)) for mask in person.masks]
        )
        for mask, home in homes:
            if home:
                home.masks.append(mask)
                person.masks.remove(mask)
    return unpaired


class _Search:
    """Finds what a mask was drawn on.

    Args:
        images, people: what there is.
        roots: above them no folder's name says anything.
        labelled: ids of patients who need not be there.
    """

    def __init__(
        self,
        images: Sequence[VolumeImage],
        people: Sequence[Person],
        roots: Sequence[Path],
        labelled: Iterable[str],
    ) -> None:
        targets = [_Target(image, frozenset({image.path.parent})) for image in images]
        targets += [
            _Target(one, frozenset(series.folder for series in one.series.values()))
            for one in people
            if one.series
        ]
        self._roots = set(roots)
        self._ids: dict[tuple[str, ...], list[_Target]] = defaultdict(list)
        self._near: dict[Path, list[_Target]] = defaultdict(list)
        for target in targets:
            for words in _ids(target.owner):
                self._ids[words].append(target)
            for near in {
                above for folder in target.folders for above in self._above(folder)[: DEPTH + 1]
            }:
                self._near[near].append(target)
        self._others = OtherIds(self._ids, filter(None, map(_id, labelled)))

    def target(self, path: Path) -> VolumeImage | Person | str:
        """The image or patient, or why there is none."""
        grid = volume_grid(path)
        own = id_words(path.name)
        if named := self._named(own) or self._named_in_part(own):
            return self._chosen(named, grid, path, "the name is that of an image or patient")
        for depth, folder in enumerate(self._above(path.parent)):
            if depth <= DEPTH and (near := self._near.get(folder, [])):
                close = [one for one in near if folder in one.folders] if depth == 0 else []
                if close:
                    return self._own(close, folder, grid, path, "an image lies beside it")
                if len(near) == 1 and near[0].fit(grid) is Fit.SAME:
                    return self._own(near, folder, grid, path, "an image lies near")
            if named := self._named(id_words(folder.name)):
                return self._own(
                    named, folder, grid, path, "a folder above has the name of an image or patient"
                )
        beside = self._near.get(path.parent) or self._near.get(path.parent.parent)
        if beside and len(beside) > 1:
            return f"a mask of which no image has the name, and {len(beside)} lie near it"
        return (
            "a mask whose grid is not that of the image beside it"
            if beside
            else "a mask of which no image has the name, and none lies beside it"
        )

    def _own(
        self, targets: list[_Target], common: Path, grid: Grid | None, path: Path, why: str
    ) -> VolumeImage | Person | str:
        """The one of `_chosen`, unless the mask's name, or a folder's below the common one, is
        another's."""
        names = [
            path.name,
            *(
                folder.name
                for folder in self._above(path.parent)
                if folder != common and folder.is_relative_to(common)
            ),
        ]
        homes = [folder for folder in self._above(path.parent) if folder not in self._roots]
        own = []
        for target in targets:
            ids = _ids(target.owner)
            is_home = any(named_in(id_words(folder.name), ids) for folder in homes)
            if not any(self._others.stand_in(name, ids, is_home=is_home) for name in names):
                own.append(target)
        return (
            self._chosen(own, grid, path, why)
            if own
            else f"{why}, but the mask's name or folder is that of another patient or image"
        )

    def image_of(self, mask: Mask, patient: str) -> VolumeImage | None:
        """The volume file that a mask object belongs to."""
        named = [
            one.owner
            for one in self._ids.get(id_words(patient), [])
            if isinstance(one.owner, VolumeImage)
        ]
        beside = [
            one.owner
            for one in self._near.get(mask.path.parent, [])
            if mask.path.parent in one.folders
        ]
        found = named or [
            owner for owner in beside if isinstance(owner, VolumeImage) and len(beside) == 1
        ]
        return found[0] if len(found) == 1 else None

    def _above(self, folder: Path) -> list[Path]:
        """A folder and those above it, up to the one that was scanned."""
        folders = [folder]
        while folders[-1] not in self._roots and folders[-1] != folders[-1].parent:
            folders.append(folders[-1].parent)
        return folders

    def _named(self, words: Sequence[str]) -> list[_Target]:
        """Those whose id stands in a name, where it is one id alone."""
        ids = named_in(words, self._ids)
        return self._ids[ids.pop()] if len(ids) == 1 else []

    def _named_in_part(self, words: Sequence[str]) -> list[_Target]:
        """Those whose id begins with a mask's: case_1_mask beside case_1_arterial."""
        case = case_words(Path("_".join(word for word in words if not is_called_mask(word))))
        found = {words for words in self._ids if len(case) > 1 and words[: len(case)] == case}
        return [target for one in sorted(found) for target in self._ids[one]]

    @staticmethod
    def _chosen(
        targets: list[_Target], grid: Grid | None, path: Path, why: str
    ) -> VolumeImage | Person | str:
        """The one that the mask's grid fits best; of several equal ones that whose folder is
        nearest."""
        fits = {id(target): target.fit(grid) for target in targets}
        best = max(fits.values())
        if best is Fit.OTHER:
            return f"{why}, but the mask is of another size than the image"
        fitting = [target for target in targets if fits[id(target)] == best]
        if len(fitting) > 1:
            steps = {
                id(target): min(_steps(folder, path.parent) for folder in target.folders)
                for target in fitting
            }
            fitting = [target for target in fitting if steps[id(target)] == min(steps.values())]
        return (
            fitting[0].owner
            if len(fitting) == 1
            else f"{why}, but {len(fitting)} images fit the mask"
        )


def _ids(owner: VolumeImage | Person) -> set[tuple[str, ...]]:
    names = [owner.patient] if isinstance(owner, Person) else owner.names
    return set(filter(None, map(_id, names)))


def _id(name: str) -> tuple[str, ...]:
    """The words of an id; none where they say image or mask alone."""
    words = id_words(name)
    return () if set(words) <= IMAGE_WORDS | MASK_WORDS else words


def _steps(one: Path, other: Path) -> int:
    """Folders to go from one to the other."""
    common = sum(a == b for a, b in zip(one.parts, other.parts, strict=False))
    return len(one.parts) + len(other.parts) - 2 * common
