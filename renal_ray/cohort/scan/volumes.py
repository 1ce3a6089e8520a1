"""Patients whose image and mask are volume files: two in a folder, or two of one name."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from renal_ray.cohort.scan.people import MASK_WORDS, is_mask_name, stem
from renal_ray.cohort.scan.walk import Found
from renal_ray.problems import Code, PatientError


@dataclass(frozen=True)
class VolumePair:
    """An image and its mask.

    Args:
        name: what they have in common: their folder's name, or the files'.
        image, mask: the files; None where it is not clear which.
        problem: why.
    """

    name: str
    image: Path | None
    mask: Path | None
    problem: PatientError | None = None


def pair_volumes(left: Sequence[Found]) -> list[VolumePair]:
    """Pairs volume files by folder and name.

    Args:
        left: volume files that belong to no DICOM.

    Returns:
        A pair a patient; a folder with one image and one mask is one patient, otherwise files of one name are.
    """
    folders: dict[Path, list[Path]] = defaultdict(list)
    for one in left:
        folders[Path(one.path).parent].append(Path(one.path))
    return [pair for folder, files in sorted(folders.items()) for pair in _in_folder(folder, files)]


def _in_folder(folder: Path, files: list[Path]) -> list[VolumePair]:
    masks = [path for path in files if is_mask_name(path)]
    images = [path for path in files if path not in masks]
    if len(images) == 1 and len(masks) == 1 and _same_shape(images[0], masks[0]):
        return [VolumePair(folder.name, images[0], masks[0])]
    if not images:
        return [VolumePair(folder.name, None, None, PatientError(Code.MASK_WITHOUT_SERIES, f"{len(masks)} masks but no image", str(folder)))]
    return [_named(image, masks) for image in images]


def _named(image: Path, masks: list[Path]) -> VolumePair:
    name = _core(image)
    own = [mask for mask in masks if _core(mask) == name and _same_shape(image, mask)]
    if len(own) == 1:
        return VolumePair(name, image, own[0])
    code = Code.SEVERAL_MASKS if own else Code.SERIES_WITHOUT_MASK
    return VolumePair(name, image, None, PatientError(code, f"{len(own)} masks of the image's name and size; enter the right one in the manifest", str(image)))


def _same_shape(image: Path, mask: Path) -> bool:
    """Whether two NIfTI files have as many voxels along their axes, in any order; other files are compared when they are prepared."""
    import nibabel as nib

    try:
        shapes = [sorted(nib.load(path).shape[:3]) for path in (image, mask) if ".nii" in path.name.lower()]
    except (nib.filebasedimages.ImageFileError, OSError, ValueError, EOFError):
        return False
    return len(shapes) < 2 or shapes[0] == shapes[1]


def _core(path: Path) -> str:
    """A file's name without what says image or mask."""
    words = MASK_WORDS.sub(" ", stem(path))
    return "_".join(word for word in words.replace("-", " ").split() if word.lower() not in ("image", "img", "ct", "imaging", "volume", "0000"))
