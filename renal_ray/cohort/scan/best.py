"""Which of several masks on one image is the lesion's."""

from collections.abc import Sequence
from pathlib import Path

from renal_ray.cohort.scan.names import LESION_WORDS, is_of_organ, role_words
from renal_ray.cohort.scan.people import Mask
from renal_ray.problems import Code, PatientError

MAJORITY = frozenset({"aggregated", "maj"})  # KiTS21: the voxels that most annotators chose
PIECES = frozenset({"instance", "annotation"})  # KiTS21, KiTS23: what one annotator drew


def best(masks: Sequence[Mask], folder: Path, called: str) -> tuple[list[Mask], list[PatientError]]:
    """Sets aside masks of organs, those of single annotators, and those farther from the image.

    Args:
        masks: drawn on one image.
        folder: the image's.
        called: the image's name, or the patient's: an organ in it does not say what a mask of that
            name holds.

    Returns:
        Those that are left: none where all are of organs; and MASK_UNPAIRED for each that was set
            aside.
    """
    ranks = [_rank(mask, role_words(called)) for mask in masks]
    top = [mask for mask, rank in zip(masks, ranks, strict=True) if rank == max(ranks) > 0]
    if len(top) > 1 and all(mask.found is None for mask in top):
        beside = [mask for mask in top if mask.path.parent == folder]
        top = beside if len(beside) == 1 else top
    aside = [mask for mask in masks if mask not in top]
    others = (
        "another mask of this image is proposed"
        if len(top) == 1
        else f"{len(top)} other masks of this image go before it, and none of them is proposed"
    )
    why = others if top else "called after an organ, and not proposed as a lesion"
    return top, [
        PatientError(
            Code.MASK_UNPAIRED,
            f"{why}; enter this one in the manifest if it is the lesion's",
            str(mask.path),
        )
        for mask in aside
    ]


def _rank(mask: Mask, called: frozenset[str]) -> int:
    words = role_words(mask.path.name)
    if mask.found is not None:
        return 2
    if words >= MAJORITY:
        return 3
    if is_of_organ(words - called) or words & PIECES:
        return 0
    return 2 if words & LESION_WORDS else 1
