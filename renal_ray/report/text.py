"""How numbers and names are written on the page."""

import re
from collections.abc import Iterable
from pathlib import PurePath

from renal_ray.types import Dataset, Head

DASH = "–"
DATASET_NAMES = {Dataset.SLICE: "Slice", Dataset.ROI: "ROI", Dataset.RBR: "RBR"}
HEAD_NAMES = {Head.IMAGE: "Image-level", Head.FC: "FC", Head.GRU: "GRU"}
FOLDERS = re.compile(
    r"""(?<![\w./~-])~?/(?:[^\s/'"<>:]+/)+"""
)  # all of an absolute path but its last name
METRIC_NAMES = {
    "auc": "AUC",
    "acc": "ACC",
    "sen": "SEN",
    "spec": "SPEC",
    "ppv": "PPV",
    "npv": "NPV",
    "mcc": "MCC",
}

POOLED = (
    "The scores of different fold models share no scale, so that a pooled AUC can lie below "
    "the mean over folds (Airola et al., Comput Stat Data Anal 2011), "
    "and offsets between folds enter comparisons."
)


def two(value: float | None, digits: int = 2) -> str:
    """A number with two decimals as in the paper, a true minus sign, and a dash where it is
    undefined."""
    if value is None or value != value:
        return DASH
    written = f"{value:.{digits}f}"
    if float(written) == 0:
        written = written.removeprefix("-")
    return written.replace("-", "−")


def plus_minus(mean: float | None, sd: float | None) -> str:
    """Mean ± SD; the mean alone where there is a single fold."""
    if mean is None or sd is None:
        return two(mean)
    return f"{two(mean)} ± {two(sd)}"


def percent(part: int, whole: int) -> str:
    """A count with its percentage."""
    return f"{part} ({100 * part / whole:.1f} %)" if whole else f"{part}"


def counted(n: int, noun: str, plural: str | None = None) -> str:
    """A count with its noun."""
    return f"{n} {noun if n == 1 else plural or noun + 's'}"


def listed(words: Iterable[str]) -> str:
    """Words joined as in a sentence."""
    *first, last = list(words) or [""]
    return f"{', '.join(first)} and {last}" if first else last


def dataset_name(dataset: str) -> str:
    """The paper's name of a dataset."""
    return DATASET_NAMES[Dataset(dataset)]


def head_name(head: str) -> str:
    """The paper's name of a model."""
    return HEAD_NAMES[Head(head)]


def level_name(level: str) -> str:
    """A level of histology or location as a reader writes it: clear_cell_rcc is clear cell RCC."""
    return re.sub(r"\brcc\b", "RCC", level.replace("_", " "), flags=re.IGNORECASE)


def probability(value: float | None) -> str:
    """A probability or threshold with three decimals, never rounded to 0 or 1 that it is not."""
    if value is not None and 0 < value < 0.0005:
        return "< 0.001"
    if value is not None and 0.9995 <= value < 1:
        return "> 0.999"
    return two(value, 3)


def moment(written: str) -> str:
    """A time in UTC without the letter T; any other text as it is."""
    return re.sub(
        r"^(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:\.\d+)?(?:\+00:00|Z)$", r"\1 \2 UTC", written
    )


def unbroken(sentence: str) -> str:
    """A sentence in which no line ends beside a ±."""
    return sentence.replace(" ± ", "\u00a0±\u00a0")


def without_folders(sentence: str) -> str:
    """A sentence with absolute paths cut to their last name: a page that is passed on says nothing
    of the machine it was made on."""
    return FOLDERS.sub("", sentence)


def weights_name(weights: str) -> str:
    """The backbone's weights: imagenet, random or the name of the weights file."""
    return PurePath(weights).name


def p_value(p: float | None) -> str:
    """A P value with three decimals; a dash where there is none."""
    return "< 0.001" if p is not None and p < 0.001 else two(p, 3)
