"""Is one model better than another: on the same patients, effect first."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from renal_ray.protocol.comparisons import holm, mcnemar
from renal_ray.protocol.delong import compare_aucs
from renal_ray.report.evidence import Evidence
from renal_ray.report.statistics.estimates import Estimate
from renal_ray.report.statistics.samples import Model, Samples, Scored, paired, scored
from renal_ray.report.text import dataset_name, head_name
from renal_ray.types import Dataset, Head

# The better first, as the paper compares them: differences are then above 0.
RANK = {Dataset.ROI: 0, Dataset.RBR: 1, Dataset.SLICE: 2}
FAMILIES = {
    "datasets": "Between datasets",
    "freeze points": "Between freeze points",
    "heads": "Between heads",
}


@dataclass(frozen=True)
class Comparison:
    """Two models on the same patients.

    Args:
        family: datasets, freeze points or heads; P values are adjusted within it.
        first: one model.
        second: the other.
        n: patients whom both scored.
        values: what is compared, of first and second; undefined where a class or a model is
            missing.
        difference: first - second with its 95 % interval.
        p: two-sided P value; None where there is none.
        p_holm: adjusted within the family.
        alone: patients that first alone, and second alone, decided rightly; for McNemar's test.
    """

    family: str
    first: Model
    second: Model
    n: int
    values: tuple[float | None, float | None]
    difference: Estimate
    p: float | None
    p_holm: float | None = None
    alone: tuple[int, int] | None = None

    @property
    def label(self) -> str:
        """What is compared, in words."""
        if self.family == "datasets":
            return (
                f"{dataset_name(self.first.dataset)} − "
                f"{dataset_name(self.second.dataset)}, "
                f"{head_name(self.first.head)}"
            )
        if self.family == "freeze points":
            return (
                f"{dataset_name(self.first.dataset)}, "
                f"{self.first.freeze_point} − {self.second.freeze_point}"
            )
        return (
            f"{dataset_name(self.first.dataset)}, "
            f"{head_name(self.first.head)} − {head_name(self.second.head)}"
        )


Compare = Callable[[str, Scored, Scored], Comparison]


def auc_comparisons(evidence: Evidence, models: Sequence[Scored]) -> list[Comparison]:
    """Paired DeLong tests of out-of-fold patient scores: datasets, freeze points, heads; Holm's
    adjustment within each family.

    Args:
        evidence: what the work directory says.
        models: the models at the selected freeze points.
    """
    chosen = [model for model in models if model.model.level == "patient" and len(model.validation)]
    found = [
        _delong(*pair)
        for pair in (
            *_between_datasets(chosen),
            *_between_points(evidence, chosen),
            *_between_heads(chosen),
        )
    ]
    return _adjusted(found)


def vote_comparisons(models: Sequence[Scored]) -> list[Comparison]:
    """McNemar's exact tests of the votes on the sealed test, between datasets and between heads.

    Args:
        models: the models at the selected freeze points.
    """
    chosen = [model for model in models if model.model.level == "patient" and len(model.test)]
    return _adjusted(
        [_mcnemar(*pair) for pair in (*_between_datasets(chosen), *_between_heads(chosen))]
    )


def _between_datasets(models: Sequence[Scored]) -> Iterator[tuple[str, Scored, Scored]]:
    for head in Head:
        of_head = sorted(
            (m for m in models if m.model.head is head), key=lambda m: RANK[m.model.dataset]
        )
        yield from (("datasets", a, b) for a, b in combinations(of_head, 2))


def _between_points(
    evidence: Evidence, models: Sequence[Scored]
) -> Iterator[tuple[str, Scored, Scored]]:
    """The selected freeze point against every other, image-level models per patient."""
    for selected in (model for model in models if model.model.head is Head.IMAGE):
        for point in evidence.freeze_points:
            other = scored(evidence, selected.model.dataset, point, Head.IMAGE, "patient")
            if point is not selected.model.freeze_point and len(other.validation):
                yield "freeze points", selected, other


def _between_heads(models: Sequence[Scored]) -> Iterator[tuple[str, Scored, Scored]]:
    for dataset in dict.fromkeys(model.model.dataset for model in models):
        of_dataset = [model for model in models if model.model.dataset is dataset]
        yield from (
            ("heads", b, a) for a, b in combinations(of_dataset, 2)
        )  # the patient-level head first


def _delong(family: str, first: Scored, second: Scored) -> Comparison:
    a, b = first.validation, second.validation
    here, there = paired(a, b)
    found = compare_aucs(a.labels[here], a.scores[here], b.scores[there]) if len(here) else None
    if found is None:
        return Comparison(
            family, first.model, second.model, len(here), (None, None), Estimate(None), None
        )
    difference = Estimate(found.difference, found.lower, found.upper, found.method)
    return Comparison(
        family, first.model, second.model, len(here), (found.a, found.b), difference, found.p
    )


def _mcnemar(family: str, first: Scored, second: Scored) -> Comparison:
    a, b = first.test, second.test
    here, there = paired(a, b)
    right_a, right_b = _right(a)[here], _right(b)[there]
    found = mcnemar(right_a, right_b)
    difference = Estimate(found.difference, found.lower, found.upper, "Newcombe, paired")
    values = (float(right_a.mean()), float(right_b.mean()))
    return Comparison(
        family,
        first.model,
        second.model,
        len(here),
        values,
        difference,
        found.p,
        alone=(found.only_a, found.only_b),
    )


def _right(samples: Samples) -> NDArray[np.bool_]:
    return np.asarray(samples.decisions == samples.labels)


def _adjusted(found: Sequence[Comparison]) -> list[Comparison]:
    adjusted: dict[int, float | None] = {}
    for family in FAMILIES:
        places = [place for place, one in enumerate(found) if one.family == family]
        adjusted |= dict(zip(places, holm([found[place].p for place in places]), strict=True))
    return [replace(one, p_holm=adjusted[place]) for place, one in enumerate(found)]
