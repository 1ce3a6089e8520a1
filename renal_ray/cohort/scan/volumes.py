"""Volume files: which are images and which masks, and on which image each mask was drawn."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from renal_ray.cohort.scan.grids import Fit, fit, fit_series, volume_grid
from renal_ray.cohort.scan.names import IMAGE_WORDS, MASK_WORDS, case_words, id_words, is_called_mask, is_of_organ, is_surely_mask, named_in, role_words
from renal_ray.cohort.scan.people import Mask, Person
from renal_ray.cohort.scan.walk import Found
from renal_ray.imaging.geometry.grid import Grid
from renal_ray.problems import Code, PatientError

DEPTH = 2  # folders between a patient's folder and the image, or the mask


@dataclass
class VolumeImage:
    """A CT image in a volume file.

    Args:
        path: the file.
        grid: None where its header cannot be read.
        names: what its patient may be called: its folder, the file's name without what says image; the likeliest first.
        masks: drawn on it.
    """

    path: Path
    grid: Grid | None
    names: tuple[str, ...]
    masks: list[Mask] = field(default_factory=list)


@dataclass(frozen=True)
class _Target:
    """What a mask may have been drawn on: a volume file, or the series of a patient."""

    owner: VolumeImage | Person
    folders: frozenset[Path]

    def fit(self, mask: Grid | None) -> Fit:
        if isinstance(self.owner, VolumeImage):
            return fit(self.owner.grid, mask)
        return max(fit_series(series, mask) for series in self.owner.series.values())


def sort_volumes(found: Sequence[Found]) -> tuple[list[VolumeImage], list[Path], list[PatientError]]:
    """Parts volume files into images and masks, by their names where these say mask, else by their values.

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
        elif (is_called_mask(path.name) or is_of_organ(path) or is_called_mask(path.parent.name)) and IMAGE_WORDS.isdisjoint(role_words(path.name)):
            masks.append(path)
        else:
            problems.append(PatientError(Code.NOT_CT, f"not proposed as an image: {one.remark}; if it is a mask, enter it in the manifest", one.path))
    alone = {folder for folder, count in _counted(path.parent for path in images).items() if count == 1}
    return [VolumeImage(path, volume_grid(path), _names(path, alone=path.parent in alone)) for path in images], masks, problems


def _counted(folders: Iterable[Path]) -> dict[Path, int]:
    counts: dict[Path, int] = defaultdict(int)
    for folder in folders:
        counts[folder] += 1
    return counts


def _names(path: Path, *, alone: bool) -> tuple[str, ...]:
    folders = [folder.name for folder in path.parents if folder.name and not role_words(folder.name) <= IMAGE_WORDS | MASK_WORDS | {"tr", "ts", "va"}]
    own, folder = "_".join(case_words(path)), folders[0] if folders else ""
    names = (folder, own) if alone and folder == path.parent.name else (own, folder)
    return tuple(name for name in names if name) or (path.name,)


def pair_masks(masks: Sequence[Path], images: Sequence[VolumeImage], people: Sequence[Person], roots: Sequence[Path]) -> list[PatientError]:
    """Gives each mask to the image or patient that it belongs to: by a name that says whose it is, or as the only one in its own
    patient's or study's folder, and in any case by its grid.

    Args:
        masks: volume files.
        images, people: given their masks here.
        roots: the folders that were scanned.

    Returns:
        MASK_UNPAIRED for each mask that belongs to none.
    """
    search = _Search(images, people, roots)
    unpaired = []
    for path in masks:
        target = search.target(path)
        if isinstance(target, str):
            unpaired.append(PatientError(Code.MASK_UNPAIRED, f"{target}; enter it in the manifest beside its image", str(path)))
        else:
            target.masks.append(Mask(path, "volume file"))
    return unpaired


class _Search:
    """Finds what a mask was drawn on.

    Args:
        images, people: what there is.
        roots: above them no folder's name says anything.
    """

    def __init__(self, images: Sequence[VolumeImage], people: Sequence[Person], roots: Sequence[Path]) -> None:
        targets = [_Target(image, frozenset({image.path.parent})) for image in images]
        targets += [_Target(one, frozenset(series.folder for series in one.series.values())) for one in people if one.series]
        self._roots = set(roots)
        self._ids: dict[tuple[str, ...], list[_Target]] = defaultdict(list)
        self._near: dict[Path, list[_Target]] = defaultdict(list)
        for target in targets:
            for words in _ids(target.owner):
                self._ids[words].append(target)
            for folder in {above for folder in target.folders for above in self._above(folder)[: DEPTH + 1]}:
                self._near[folder].append(target)

    def target(self, path: Path) -> VolumeImage | Person | str:
        """The image or patient, or why there is none."""
        grid = volume_grid(path)
        own = id_words(path.name)
        if named := self._named(own) or self._named_in_part(own):
            return self._chosen(named, grid, path, "the name is that of an image or patient")
        for depth, folder in enumerate(self._above(path.parent)):
            if depth <= DEPTH and (near := self._near[folder] if folder in self._near else []):
                close = [one for one in near if folder in one.folders] if depth == 0 else []
                if close:
                    return self._chosen(close, grid, path, "an image lies beside it")
                if len(near) == 1 and near[0].fit(grid) in (Fit.SAME, Fit.UNKNOWN):
                    return near[0].owner
            if named := self._named(id_words(folder.name)):
                return self._chosen(named, grid, path, "a folder above has the name of an image or patient")
        return "a mask that belongs to no image by reference, name or folder, or whose grid is not that of the image beside it"

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
        """Those whose id begins with all that a mask's name says of whose it is, two words and more: case_1_mask beside case_1_arterial."""
        case = case_words(Path("_".join(word for word in words if not is_called_mask(word))))
        found = {words for words in self._ids if len(case) > 1 and words[: len(case)] == case}
        return [target for one in sorted(found) for target in self._ids[one]]

    @staticmethod
    def _chosen(targets: list[_Target], grid: Grid | None, path: Path, why: str) -> VolumeImage | Person | str:
        """The one that the mask's grid fits best; of several equal ones that whose folder is nearest."""
        fits = {id(target): target.fit(grid) for target in targets}
        best = max(fits.values())
        if best is Fit.OTHER:
            return f"{why}, but the mask is of another size than the image"
        fitting = [target for target in targets if fits[id(target)] == best]
        if len(fitting) > 1:
            steps = {id(target): min(_steps(folder, path.parent) for folder in target.folders) for target in fitting}
            fitting = [target for target in fitting if steps[id(target)] == min(steps.values())]
        return fitting[0].owner if len(fitting) == 1 else f"{why}, but {len(fitting)} images fit the mask"


def _ids(owner: VolumeImage | Person) -> set[tuple[str, ...]]:
    names = [owner.patient] if isinstance(owner, Person) else owner.names
    return {words for name in names if not set(words := id_words(name)) <= IMAGE_WORDS | MASK_WORDS}


def _steps(one: Path, other: Path) -> int:
    """Folders to go from one to the other."""
    common = sum(a == b for a, b in zip(one.parts, other.parts, strict=False))
    return len(one.parts) + len(other.parts) - 2 * common
