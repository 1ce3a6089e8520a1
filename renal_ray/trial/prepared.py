"""The word of prepare that slices, cohort and split on disk belong together, and to which
settings."""

from collections.abc import Mapping
from typing import Any

from renal_ray.config import Selection, Study
from renal_ray.problems import StudyError
from renal_ray.protocol.splits import SplitSet
from renal_ray.store.place import Place, digest
from renal_ray.store.stamp import CohortStamp
from renal_ray.types import DATASETS

MARKER = "slices/prepared.json"
BEFORE = (
    "slices/prepared-before.json"  # the last word, while prepare exchanges what it was given for
)
TOGETHER = (
    "cohort.parquet",
    "splits.json",
    *(f"slices/{dataset}/index.parquet" for dataset in DATASETS),
)


def _settings(study: Study) -> dict[str, Any]:
    """What decides slices and split; the folds to run now do not."""
    said = study.model_dump(
        mode="json", include={"seed", "cohort", "selection", "images", "split", "folds"}
    )
    del said["folds"]["run"]
    if said["selection"]["lesions"] == Selection.model_fields["lesions"].default:
        del said["selection"]["lesions"]  # came later: what was prepared before it keeps its word
    return said


def draw_of(said: Mapping[str, Any]) -> tuple[Any, ...]:
    """What the draw of the test patients and folds follows from, beside the cohort, of a study's
    settings."""
    return said["seed"], said["split"], said["folds"]["n"], said["folds"]["method"]


def withdraw(work: Place) -> None:
    """Takes the word back, before the first of the files changes."""
    if work.exists(MARKER):
        work.write(BEFORE, work.read(MARKER))
    work.remove(MARKER)


def declare(study: Study, work: Place, stamp: CohortStamp | None = None) -> None:
    """Gives the word, after the last of the files is written; `stamp` says what they were made
    from."""
    stamped = {} if stamp is None else {"cohort": stamp.to_json()}
    work.write_json(MARKER, {"settings": _settings(study), "files": _hashes(work)} | stamped)
    work.remove(BEFORE)


def stamp_of(study: Study, work: Place) -> CohortStamp | None:
    """What the slices were made from; None where a version prepared them that did not stamp, or
    where another cohort than the study's was."""
    word = work.read_json(MARKER) if work.exists(MARKER) else {}
    if "cohort" not in word or word["settings"]["cohort"] != _settings(study)["cohort"]:
        return None
    return CohortStamp.from_json(word["cohort"])


def kept_splits(study: Study, work: Place) -> SplitSet | None:
    """The split that stands, as prepare wrote it; None where there is none, it was altered, or the
    study asks for another draw."""
    name = next((name for name in (MARKER, BEFORE) if work.exists(name)), None)
    if name is None or not work.exists("splits.json"):
        return None
    word = work.read_json(name)
    whole = name == BEFORE or word["files"].get("splits.json") == _hashes(work)["splits.json"]
    return (
        read_splits(work)
        if whole and draw_of(word["settings"]) == draw_of(_settings(study))
        else None
    )


def read_splits(work: Place) -> SplitSet:
    """The split that prepare drew."""
    return SplitSet.from_json(work.read_json("splits.json"))


def split_hash(work: Place, splits: SplitSet) -> str:
    """Names the split that stands in its trials; the same while the training patients are, whoever
    of the sealed ones leaves or is corrected."""
    return splits.same_trials_as or digest([work.read("splits.json")])


def require(study: Study, work: Place) -> None:
    """Makes sure that what is prepared is whole and is what the study file asks for.

    Raises:
        StudyError: it is not; the message names the setting that differs.
    """
    again = "run `renal-ray prepare` first"
    if not work.exists(MARKER):
        raise StudyError(
            f"{work.shown()} is not prepared, or an earlier prepare did not finish: {again}"
        )
    word = work.read_json(MARKER)
    asked = _settings(study)
    differing = [key for key in asked if word["settings"].get(key) != asked[key]]
    if differing:
        raise StudyError(
            f"{work.shown()} was prepared with another {' and '.join(differing)} than "
            f"the study asks for: {again}, or restore the setting"
        )
    if word["files"] != _hashes(work):
        raise StudyError(
            f"{work.shown()}: cohort, split or slices were changed "
            f"after prepare wrote them: {again}"
        )
    if not work.exists("splits.json"):
        raise StudyError(
            f"{work.shown('splits.json')} is missing: no split could be drawn "
            "from this cohort; `renal-ray prepare` says why"
        )


def _hashes(work: Place) -> dict[str, str]:
    return {name: digest([work.read(name)]) for name in TOGETHER if work.exists(name)}
