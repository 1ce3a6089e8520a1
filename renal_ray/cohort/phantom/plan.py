"""Who the phantom patients are: the composition of the cohort of Zhou et al. 2019, Table 1 and
"General Information", for any number of patients."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np

from renal_ray.types import Label

Kind = Literal["cyst", "angiomyolipoma", "clear_cell_rcc", "papillary_rcc", "chromophobe_rcc"]
Variant = Literal[
    "simple", "dense", "septated", "classic", "fat_poor", "typical", "hypoenhancing", "cystic"
]
Place = Literal["exophytic", "mesophytic", "endophytic"]
Scanner = Literal["siemens", "philips"]

Name = TypeVar("Name", bound=str)

BENIGN: Mapping[Kind, float] = {"cyst": 50, "angiomyolipoma": 8}
MALIGNANT: Mapping[Kind, float] = {"clear_cell_rcc": 117, "papillary_rcc": 8, "chromophobe_rcc": 9}
# the second and later variants are the hard cases, whose attenuation overlaps with that of the
# other class
VARIANTS: Mapping[Kind, Mapping[Variant, float]] = {
    "cyst": {"simple": 0.68, "dense": 0.2, "septated": 0.12},
    "angiomyolipoma": {"classic": 0.625, "fat_poor": 0.375},
    "clear_cell_rcc": {"typical": 0.8, "hypoenhancing": 0.12, "cystic": 0.08},
    "papillary_rcc": {"typical": 1.0},
    "chromophobe_rcc": {"typical": 1.0},
}
_PLACES: Mapping[Label, Mapping[Place, float]] = {
    Label.BENIGN: {"exophytic": 33, "mesophytic": 21, "endophytic": 4},
    Label.MALIGNANT: {"exophytic": 45, "mesophytic": 56, "endophytic": 33},
}
_MALE: Mapping[Label, float] = {Label.BENIGN: 36 / 58, Label.MALIGNANT: 91 / 134}
_AGE: Mapping[Label, tuple[float, float]] = {
    Label.BENIGN: (62.40, 13.83),
    Label.MALIGNANT: (62.22, 11.57),
}
_GRADES: Mapping[str, float] = {"I": 20, "II": 68, "III": 24, "IV": 5}
_SIZE_MEDIAN_MM, _SIZE_LOG_SD = 41.5, 0.60  # mean 48 mm, as in the paper
_LARGEST_ENDOPHYTIC_MM = 55.0


@dataclass(frozen=True)
class PatientPlan:
    """One phantom patient before anything is drawn.

    Args:
        number: 1-based; also the index of the patient's random stream.
        label: pathology.
        kind: histology.
        variant: how the lesion looks; the overlap of the classes lies here.
        place: relation of the lesion to the kidney's surface.
        side: -1 the patient's right kidney, 1 the left one.
        size_mm: largest diameter that the lesion is drawn with, mm.
        sex: "male" or "female".
        age: years.
        stage: AJCC stage of a carcinoma, else None.
        grade: Fuhrman grade of a clear-cell carcinoma, else None.
        scanner: whose conventions the headers follow.
    """

    number: int
    label: Label
    kind: Kind
    variant: Variant
    place: Place
    side: int
    size_mm: float
    sex: str
    age: int
    stage: str | None
    grade: str | None
    scanner: Scanner


def plan_cohort(patients: int, seed: int) -> list[PatientPlan]:
    """A cohort with the paper's composition; every share is met to within one patient, and both
    classes appear from two patients on.

    Args:
        patients: how many.
        seed: of the whole cohort.

    Returns:
        The patients in random order, numbered from 1.
    """
    rng = np.random.default_rng([seed, 0x9E3779B9])
    n_benign = 0 if patients < 2 else min(patients - 1, max(1, round(patients * 58 / 192)))
    people = _class_plans(Label.BENIGN, n_benign, rng) + _class_plans(
        Label.MALIGNANT, patients - n_benign, rng
    )
    order = rng.permutation(patients)
    return [PatientPlan(number=number, **people[index]) for number, index in enumerate(order, 1)]


def systematic(shares: Mapping[Name, float], n: int, rng: np.random.Generator) -> list[Name]:
    """n draws whose counts differ by less than one from their expectation, in random order."""
    names = list(shares)
    edges = np.cumsum(list(shares.values())) / sum(shares.values())
    found = np.searchsorted(edges, (rng.random() + np.arange(n)) / max(n, 1), side="right")
    drawn = [names[min(int(i), len(names) - 1)] for i in found]
    return [drawn[i] for i in rng.permutation(n)]


def _class_plans(label: Label, n: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    shares = MALIGNANT if label else BENIGN
    kinds = _kinds(shares, n, rng)
    variants = _variants(kinds, rng)
    sizes = _sizes(n, rng)
    places = _fit_places(systematic(_PLACES[label], n, rng), sizes)
    sexes = systematic({"male": _MALE[label], "female": 1 - _MALE[label]}, n, rng)
    scanners = systematic({"siemens": 0.5, "philips": 0.5}, n, rng)
    sides = rng.permutation(np.resize([-1, 1], n))
    ages = np.clip(np.rint(rng.normal(*_AGE[label], n)), 20, 92).astype(int)
    grades = iter(systematic(_GRADES, n, rng))
    return [
        {
            "label": label,
            "kind": kinds[i],
            "variant": variants[i],
            "place": places[i],
            "side": int(sides[i]),
            "size_mm": float(sizes[i]),
            "sex": sexes[i],
            "age": int(ages[i]),
            "stage": _stage(float(sizes[i]), rng) if label else None,
            "grade": next(grades) if kinds[i] == "clear_cell_rcc" else None,
            "scanner": scanners[i],
        }
        for i in range(n)
    ]


def _kinds(shares: Mapping[Kind, float], n: int, rng: np.random.Generator) -> list[Kind]:
    """Histologies in the paper's proportions; each appears at least once as soon as there are as
    many patients as histologies."""
    kinds = sorted(shares, key=lambda kind: -shares[kind])
    counts = dict.fromkeys(kinds[:n], 1)
    for _ in range(n - len(counts)):  # largest shortfall first
        counts[
            max(kinds, key=lambda kind: shares[kind] / sum(shares.values()) * n - counts[kind])
        ] += 1
    drawn = [kind for kind in counts for _ in range(counts[kind])]
    return [drawn[i] for i in rng.permutation(n)]


def _variants(kinds: Sequence[Kind], rng: np.random.Generator) -> list[Variant]:
    drawn = {kind: iter(systematic(VARIANTS[kind], kinds.count(kind), rng)) for kind in VARIANTS}
    return [next(drawn[kind]) for kind in kinds]


def _sizes(n: int, rng: np.random.Generator) -> np.ndarray:
    """Stratified log-normal diameters, mm, within the paper's range of 5 to 160."""
    from scipy.special import ndtri

    levels = (rng.permutation(n) + rng.random(n)) / max(n, 1)
    sizes = _SIZE_MEDIAN_MM * np.exp(_SIZE_LOG_SD * ndtri(np.clip(levels, 1e-4, 1 - 1e-4)))
    return np.asarray(np.clip(sizes, 5.5, 158.0))


def _fit_places(places: Sequence[Place], sizes: np.ndarray) -> list[Place]:
    """Gives the endophytic places to lesions that a kidney can hold, by exchange, so that the
    counts stay."""
    fitted = list(places)
    too_large = [
        i
        for i, place in enumerate(fitted)
        if place == "endophytic" and sizes[i] > _LARGEST_ENDOPHYTIC_MM
    ]
    free = [
        i
        for i, place in enumerate(fitted)
        if place != "endophytic" and sizes[i] <= _LARGEST_ENDOPHYTIC_MM
    ]
    for large, small in zip(too_large, free, strict=False):
        fitted[large], fitted[small] = fitted[small], fitted[large]
    return fitted


def _stage(size_mm: float, rng: np.random.Generator) -> str:
    """AJCC stage: II above 70 mm, and a share that has grown into the vein or the fat (III) rising
    with size."""
    if rng.random() < (0.33 if size_mm > 70 else 0.12):
        return "III"
    return "II" if size_mm > 70 else "I"
