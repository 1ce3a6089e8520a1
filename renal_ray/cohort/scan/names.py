"""What the names of files, folders and series say: image, mask, lesion, organ, and whose."""

import re
from collections.abc import Container, Sequence
from pathlib import Path

ENDING = re.compile(r"\.(nii|nii\.gz|nrrd|nhdr|mha|mhd)$", re.IGNORECASE)
WORD = re.compile(r"[^\W\d_]+|\d+")
WORD_WITHIN = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[^\W\d_A-Z]+|[A-Z]+")  # TumorMask, CTimage


def _set(*words: str) -> frozenset[str]:
    return frozenset(" ".join(words).split())


MASK_WORDS = _set(
    "mask masks msk msks seg segs segmentation segmentations segmented "
    "label labels labelmap labelmaps dseg gt groundtruth",
    "annotation annotations contour contours delineation delineations maske masken masque masques",
)
LESION_WORDS = _set(
    "lesion lesions tumor tumors tumour tumours gtv ctv mass masses "
    "cancer neoplasm nodule rcc ccrcc carcinoma",
    "metastasis metastases roi rois",
)
ORGAN_WORDS = _set(
    "liver spleen pancreas stomach gallbladder bladder duodenum bowel "
    "colon rectum esophagus oesophagus trachea lung",
    "lungs heart atrium ventricle myocardium aorta vena cava vein veins "
    "artery arteries vessel vessels brain brainstem",
    "skull spine cord vertebra vertebrae rib ribs sternum sacrum femur "
    "hip hips humerus scapula clavicula clavicle",
    "pelvis bone bones muscle muscles gluteus autochthon iliopsoas "
    "thyroid parotid mandible eye eyes lens prostate",
    "uterus adrenal adrenals body skin fat leber milz lunge herz foie rate poumon coeur",
)
KIDNEY_WORDS = _set("kidney kidneys renal niere nieren rein reins")
IMAGE_WORDS = _set("image images img imgs imaging ct cect volume vol scan orig original")
CHANNEL = "0000"  # nnU-Net's name for the first channel of an image


def id_words(name: str) -> tuple[str, ...]:
    """The words of a name in small letters, numbers apart: what ids are compared by."""
    return tuple(WORD.findall(ENDING.sub("", name).lower()))


def role_words(name: str) -> frozenset[str]:
    """The words of a name in small letters, also those that only a capital parts."""
    plain = ENDING.sub("", name)
    return frozenset(WORD.findall(plain.lower())) | {
        word.lower() for word in WORD_WITHIN.findall(plain)
    }


def is_called_mask(name: str) -> bool:
    """Whether a name says mask, or lesion."""
    return not role_words(name).isdisjoint(MASK_WORDS | LESION_WORDS)


def is_surely_mask(path: Path) -> bool:
    """Whether a volume file's own name says mask, and nothing in it says image."""
    own = role_words(path.name)
    return not own.isdisjoint(MASK_WORDS) and own.isdisjoint(IMAGE_WORDS)


def is_of_organ(words: frozenset[str]) -> bool:
    """Whether the words of a name are those of an organ other than the kidney, and of no lesion."""
    return not words.isdisjoint(ORGAN_WORDS) and words.isdisjoint(LESION_WORDS | KIDNEY_WORDS)


def case_words(path: Path) -> tuple[str, ...]:
    """What an image's name says of whose it is: its words without those that say image."""
    own = id_words(path.name)
    if len(own) > 1 and own[-1] == CHANNEL:
        own = own[:-1]
    return tuple(word for word in own if word not in IMAGE_WORDS)


def named_in(name: Sequence[str], ids: Container[tuple[str, ...]]) -> set[tuple[str, ...]]:
    """The ids that stand in a name word by word; an id within a longer one does not count."""
    places = [
        (start, end)
        for end in range(1, len(name) + 1)
        for start in range(end)
        if tuple(name[start:end]) in ids
    ]
    longest = [
        (a, b)
        for a, b in places
        if not any((c, d) != (a, b) and c <= a and b <= d for c, d in places)
    ]
    return {tuple(name[start:end]) for start, end in longest}
