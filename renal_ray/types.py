"""The words of the field, as types: every other room speaks in these."""

from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, NewType, Protocol

if TYPE_CHECKING:
    import numpy as np

PatientId = NewType("PatientId", str)


class Label(IntEnum):
    """Pathology of the lesion; malignant is the positive class everywhere."""

    BENIGN = 0
    MALIGNANT = 1


class Dataset(StrEnum):
    """What of an axial image the network sees."""

    SLICE = "slice"
    ROI = "roi"
    RBR = "rbr"


class FreezePoint(StrEnum):
    """InceptionV3 layer up to and including which the weights are frozen; the order is shallow to
    deep."""

    MIXED0 = "mixed0"
    MIXED3 = "mixed3"
    MIXED6 = "mixed6"
    MIXED9 = "mixed9"
    MIXED10 = "mixed10"


class Head(StrEnum):
    """What sits on the features: one image at a time, or a patient's whole sequence."""

    IMAGE = "image"
    FC = "fc"
    GRU = "gru"


DATASETS = tuple(Dataset)
FREEZE_POINTS = tuple(FreezePoint)
HEADS = tuple(Head)


class Rows(Protocol):
    """Samples of one shape, in memory or memory-mapped: an array is one."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: "slice | np.ndarray", /) -> "np.ndarray":
        """Copies rows out as one (rows, ...) array, float16 or float32."""
