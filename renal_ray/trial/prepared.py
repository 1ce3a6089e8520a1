"""The word of prepare that slices, cohort and split on disk belong together, and to which settings."""

from typing import Any

from renal_ray.config import Selection, Study
from renal_ray.problems import StudyError
from renal_ray.store.place import Place, digest
from renal_ray.types import DATASETS

MARKER = "slices/prepared.json"
TOGETHER = ("cohort.parquet", "splits.json", *(f"slices/{dataset}/index.parquet" for dataset in DATASETS))


def _settings(study: Study) -> dict[str, Any]:
    """What decides slices and split; the folds to run now do not."""
    said = study.model_dump(mode="json", include={"seed", "cohort", "selection", "images", "split", "folds"})
    del said["folds"]["run"]
    if said["selection"]["lesions"] == Selection.model_fields["lesions"].default:
        del said["selection"]["lesions"]  # came later: what was prepared before it keeps its word
    return said


def withdraw(work: Place) -> None:
    """Takes the word back, before the first of the files changes."""
    work.remove(MARKER)


def declare(study: Study, work: Place) -> None:
    """Gives the word, after the last of the files is written."""
    work.write_json(MARKER, {"settings": _settings(study), "files": _hashes(work)})


def require(study: Study, work: Place) -> None:
    """Makes sure that what is prepared is whole and is what the study file asks for.

    Raises:
        StudyError: it is not; the message names the setting that differs.
    """
    again = "run `renal-ray prepare` first"
    if not work.exists(MARKER):
        raise StudyError(f"{work.shown()} is not prepared, or an earlier prepare did not finish: {again}")
    word = work.read_json(MARKER)
    asked = _settings(study)
    differing = [key for key in asked if word["settings"].get(key) != asked[key]]
    if differing:
        raise StudyError(f"{work.shown()} was prepared with another {' and '.join(differing)} than the study asks for: {again}, or restore the setting")
    if word["files"] != _hashes(work):
        raise StudyError(f"{work.shown()}: cohort, split or slices were changed after prepare wrote them: {again}")
    if not work.exists("splits.json"):
        raise StudyError(f"{work.shown('splits.json')} is missing: no split could be drawn from this cohort; `renal-ray prepare` says why")


def _hashes(work: Place) -> dict[str, str]:
    return {name: digest([work.read(name)]) for name in TOGETHER if work.exists(name)}
