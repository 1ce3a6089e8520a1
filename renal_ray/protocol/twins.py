"""Patients who have an image in common: they stand on one side of every split, and cannot have two
labels."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from renal_ray.problems import Code, Quarantined

HOW_MANY = 5  # ids in a message


@dataclass(frozen=True)
class Twins:
    """Who shares an image with whom.

    Args:
        units: of those who are kept and share an image with another, directly or by way of a third,
            the first of them all by id.
        conflicting: those who share an image with somebody of the other label, and are left out:
            one of the labels is wrong, and nobody knows which.
        problems: a row for each of both.
    """

    units: Mapping[str, str]
    conflicting: frozenset[str]
    problems: list[Quarantined]


def same_pixels(fingerprints: Mapping[str, Iterable[str]], labels: Mapping[str, int]) -> Twins:
    """Finds patients who have an image in common.

    Args:
        fingerprints: digests of each patient's slices, see `renal_ray.imaging.survey.fingerprint`.
        labels: of each patient.
    """
    owners: dict[str, set[str]] = {}
    for patient, digests in fingerprints.items():
        for one in digests:
            owners.setdefault(one, set()).add(patient)
    others: dict[str, set[str]] = {}
    for patients in owners.values():
        if len(patients) > 1:
            for patient in patients:
                others.setdefault(patient, set()).update(patients - {patient})
    conflicting = frozenset(
        one
        for one, shared in others.items()
        if any(labels[other] != labels[one] for other in shared)
    )
    kept = {one: shared - conflicting for one, shared in others.items() if one not in conflicting}
    units: dict[str, str] = {}
    for first in sorted(one for one, shared in kept.items() if shared):
        waiting = [] if first in units else [first]
        while waiting:
            one = waiting.pop()
            units[one] = first
            waiting += [other for other in kept[one] if other not in units]
    return Twins(
        units,
        conflicting,
        [_problem(one, others[one], labels) for one in sorted(conflicting | units.keys())],
    )


def _problem(patient: str, others: set[str], labels: Mapping[str, int]) -> Quarantined:
    against = sorted(other for other in others if labels[other] != labels[patient])
    if against:
        message = (
            f"the same image as {_listed(against)}, who has the other label; correct "
            "the label or take the wrong one out of the cohort"
        )
        return Quarantined(patient, "", Code.LABEL_CONFLICT, message)
    return Quarantined(
        patient,
        "",
        Code.SAME_PIXELS,
        f"the same image as {_listed(sorted(others))}: one person counts twice, though never on "
        "two sides of a split; keep one of them",
    )


def _listed(ids: list[str]) -> str:
    return ", ".join(ids[:HOW_MANY]) + (
        f" and {len(ids) - HOW_MANY} more" if len(ids) > HOW_MANY else ""
    )
