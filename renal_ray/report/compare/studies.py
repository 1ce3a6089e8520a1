"""The studies that are compared: their names, and in which settings they differ."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from string import ascii_uppercase
from typing import Any

import pandas as pd

from renal_ray.config import Study
from renal_ray.problems import StudyError
from renal_ray.report.evidence import Evidence, read_evidence
from renal_ray.report.tables import Row, Table
from renal_ray.report.text import DASH
from renal_ray.store.place import Place

PATHS = (
    "cohort.manifest",
    "cohort.dicom",
    "cohort.labels",
    "cohort.kits",
    "weights",
)  # shown by their last name: a page tells nothing of a machine
NO_SETTING = ("name", "work")  # who it is and where it lies
MOST = len(ascii_uppercase)


@dataclass(frozen=True)
class Compared:
    """A study among others.

    Args:
        letter: A, B, ..., in the order given.
        evidence: what its work directory says.
    """

    letter: str
    evidence: Evidence

    @property
    def name(self) -> str:
        """Letter and the study's own name."""
        return f"{self.letter} {self.evidence.study.name}"


def read_studies(studies: Sequence[Study]) -> list[Compared]:
    """Reads the work directories of the studies.

    Args:
        studies: as opened; `work` says where each lies.

    Raises:
        StudyError: there are fewer than two or too many, one is given twice, or one cannot be read.
    """
    places = [
        str(Place(study.work).path().resolve()) if Place(study.work).is_local else study.work
        for study in studies
    ]
    if not 2 <= len(places) <= MOST:
        raise StudyError(f"compare: {len(places)} work directories given; give two to {MOST}")
    if repeated := sorted({place for place in places if places.count(place) > 1}):
        raise StudyError(f"compare: {repeated[0]} is given twice; give different work directories")
    return [
        Compared(letter, read_evidence(study))
        for letter, study in zip(ascii_uppercase, studies, strict=False)
    ]


def changed_sources(studies: Sequence[Compared]) -> Iterator[str]:
    """Whose cohort is another one now than when it was prepared."""
    for one in studies:
        if one.evidence.sources.changed:
            yield f"{one.name}: {one.evidence.sources.changed}."


def settings_table(studies: Sequence[Compared]) -> Table:
    """The settings that differ, and only those: a row a key of the study file, a column a study."""
    flat = [dict(_flat(one.evidence.study)) for one in studies]
    rows, data = [], []
    for key in dict.fromkeys(key for values in flat for key in values):
        values = [_words(key, found.get(key)) for found in flat]
        if len(set(values)) > 1:
            rows.append(Row((key, *values)))
            data.append(
                {
                    "setting": key,
                    **{one.name: value for one, value in zip(studies, values, strict=True)},
                }
            )
    programs = [
        ", ".join(sorted({trial.spec.inputs.code for trial in one.evidence.trials.true})) or DASH
        for one in studies
    ]
    if len(set(programs) - {DASH}) > 1:
        rows.append(Row(("program that trained", *programs)))
        data.append(
            {
                "setting": "program that trained",
                **{one.name: value for one, value in zip(studies, programs, strict=True)},
            }
        )
    return Table(
        name="settings",
        title="Settings that differ",
        columns=("Setting", *(one.name for one in studies)),
        rows=tuple(rows),
        data=pd.DataFrame(data, columns=["setting", *(one.name for one in studies)]),
        left=1 + len(studies),
        notes=(
            (
                "Keys of the study file. What is not listed is the same in all of them. Of "
                "a path the last name alone is shown, and compared."
            ),
        ),
    )


def _flat(study: Study) -> Iterator[tuple[str, Any]]:
    def walk(value: Any, key: str) -> Iterator[tuple[str, Any]]:
        if isinstance(value, dict):
            for name, below in value.items():
                yield from walk(below, f"{key}.{name}" if key else str(name))
        elif key not in NO_SETTING:
            yield key, value

    yield from walk(study.model_dump(mode="json"), "")


def _words(key: str, value: Any) -> str:
    if value is None:
        return DASH
    if key in PATHS:
        return PurePath(str(value)).name
    if isinstance(value, bool):
        return str(value).lower()
    return ", ".join(str(one) for one in value) if isinstance(value, list) else str(value)
