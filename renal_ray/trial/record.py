"""study.yaml: the resolved study with what it was run with."""

from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from platform import python_version
from typing import Any

import yaml

from renal_ray.config import NAMED_WEIGHTS, PROVENANCE, Study
from renal_ray.problems import StudyError
from renal_ray.store.place import Place
from renal_ray.store.seal import LOG as SEAL_LOG
from renal_ray.store.stamp import CohortStamp, begin_stamp
from renal_ray.study_file import dump_study
from renal_ray.trial.plan import weights_hash
from renal_ray.trial.prepared import MARKER, draw_of

PACKAGES = (
    "renal-ray",
    "ray",
    "keras",
    "tensorflow",
    "jax",
    "optuna",
    "numpy",
    "scikit-learn",
    "scipy",
    "pandas",
    "pyarrow",
    "pydicom",
    "highdicom",
    "nibabel",
)
NAME = "study.yaml"


def keep_study(study: Study, work: Place, stamp: CohortStamp | None = None) -> None:
    """Writes study.yaml into the work directory; where the same study stands there already with the
    same versions, it is left alone.

    Args:
        study: the study.
        work: its work directory.
        stamp: the cohort as it was just prepared, which is recorded with the time; what is recorded
            of it already is kept when None.

    Raises:
        StudyError: the weights file is missing, the work directory cannot be written or holds
            another study's results, or the split would change after the seal was opened.
    """
    try:
        before = _record(work)
    except OSError as error:
        raise StudyError(
            f"work: {work.shown()} cannot be read "
            f"({' '.join(str(error).split())[:300]}); give a directory that "
            "can"
        ) from None
    kept: dict[str, Any] = before.pop(PROVENANCE, None) or {} if before is not None else {}
    provenance: dict[str, Any] = {
        "versions": versions(),
        "hashes": _hashes(study, work, kept.get("hashes") or {}, stamp),
    }
    if prepared := _prepared(kept, provenance["hashes"], stamp):
        provenance["prepared"] = prepared
    if before is not None and before.get("name") != study.name:
        raise StudyError(
            f"work: {work.shown()} holds the study {before.get('name')!r}; give "
            f"{study.name!r} a work directory of its own"
        )
    if (
        before is not None
        and work.exists(SEAL_LOG)
        and draw_of(before) != draw_of(study.model_dump(mode="json"))
    ):
        raise StudyError(
            f"work: the seal on the test patients of {work.shown()} was opened; another seed, "
            "split or number of folds needs a work directory of its own"
        )
    if (
        before == study.model_dump(mode="json")
        and {key: kept.get(key) for key in provenance} == provenance
    ):
        return
    provenance["created"] = datetime.now(UTC).isoformat(timespec="seconds")
    try:
        work.write(NAME, dump_study(study, provenance).encode())
    except OSError as error:
        raise StudyError(
            f"work: {work.shown()} cannot be written "
            f"({error.strerror or ' '.join(str(error).split())[:300]}); give a "
            "directory that can"
        ) from None


def _record(work: Place) -> dict[str, Any] | None:
    """What study.yaml says; None where there is none, or an empty one."""
    if not work.exists(NAME):
        return None
    try:
        said = yaml.safe_load(work.read(NAME))
    except yaml.YAMLError:
        said = "damaged"
    if not isinstance(said, dict | None) or not isinstance(
        (said or {}).get(PROVENANCE), dict | None
    ):
        raise StudyError(
            f"{work.shown(NAME)} is damaged: delete it and run the same command again, "
            "with the study file"
        )
    return said


@cache
def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide numbers; those that are not installed are
    left out."""
    found = {"python": python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _hashes(
    study: Study, work: Place, kept: dict[str, str], stamp: CohortStamp | None
) -> dict[str, str]:
    if stamp is not None:
        hashes = stamp.hashes()
    elif (
        work.exists(MARKER) or "cohort" in kept
    ):  # only prepare may say that the slices are of another cohort
        hashes = {name: value for name, value in kept.items() if name in ("cohort", "files")}
    else:
        table = begin_stamp(study.cohort, files=False).table
        hashes = {"cohort": table} if table else {}
    if study.weights not in NAMED_WEIGHTS:
        hashes["weights"] = weights_hash(study, work, "")
    return hashes


def _prepared(
    kept: dict[str, Any], hashes: dict[str, str], stamp: CohortStamp | None
) -> str | None:
    """When the cohort was prepared: now, where it is another than the one recorded."""
    before = kept.get("hashes") or {}
    same = stamp is None or all(before.get(name) == hashes[name] for name in stamp.hashes())
    return kept.get("prepared") if same else datetime.now(UTC).isoformat(timespec="seconds")
