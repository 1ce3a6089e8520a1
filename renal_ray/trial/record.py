"""study.yaml: the resolved study with what it was run with."""

import hashlib
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
from renal_ray.study_file import dump_study
from renal_ray.trial.plan import weights_hash

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


def keep_study(study: Study, work: Place) -> None:
    """Writes study.yaml into the work directory; where the same study stands there already with the same versions, it is left alone.

    Raises:
        StudyError: the weights file is missing, the work directory cannot be written or holds another study's results, or the split would
            change after the seal was opened.
    """
    try:
        before = yaml.safe_load(work.read(NAME)) if work.exists(NAME) else None
    except OSError as error:
        raise StudyError(f"work: {work.shown()} cannot be read ({' '.join(str(error).split())[:300]}); give a directory that can") from None
    provenance: dict[str, Any] = {"versions": versions(), "hashes": _hashes(study, work)}
    if before is not None and before.get("name") != study.name:
        raise StudyError(f"work: {work.shown()} holds the study {before.get('name')!r}; give {study.name!r} a work directory of its own")
    if before is not None and work.exists(SEAL_LOG) and _draw(before) != _draw(study.model_dump(mode="json")):
        raise StudyError(
            f"work: the seal on the test patients of {work.shown()} was opened; another seed, split or number of folds needs a work directory of its own"
        )
    if before is not None:
        kept = before.pop(PROVENANCE, {})
        if before == study.model_dump(mode="json") and {key: kept.get(key) for key in provenance} == provenance:
            return
    provenance["created"] = datetime.now(UTC).isoformat(timespec="seconds")
    try:
        work.write(NAME, dump_study(study, provenance).encode())
    except OSError as error:
        raise StudyError(
            f"work: {work.shown()} cannot be written ({error.strerror or ' '.join(str(error).split())[:300]}); give a directory that can"
        ) from None


def _draw(study: dict[str, Any]) -> tuple[Any, ...]:
    """What the draw of the test patients and folds follows from, beside the cohort."""
    return study["seed"], study["split"], study["folds"]["n"], study["folds"]["method"]


@cache
def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide numbers; those that are not installed are left out."""
    found = {"python": python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _hashes(study: Study, work: Place) -> dict[str, str]:
    hashes = {}
    for file in (study.cohort.manifest, study.cohort.labels):
        if file is not None and file.is_file():
            hashes["cohort"] = hashlib.sha256(file.read_bytes()).hexdigest()
    if study.weights not in NAMED_WEIGHTS:
        hashes["weights"] = weights_hash(study, work, "")
    return hashes
