"""The ledger of trials: what is on disk is the truth, and result.json is written last.

trials/<trial_id>/ holds spec.json, history.parquet, weights.h5, embeddings.arrow, predictions.parquet and result.json. A trial is
finished if and only if result.json is there and lists the checksums of the others, which are there too; `read_checked` holds them against it.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from renal_ray.problems import StudyError
from renal_ray.store.place import Place

RESULT = "result.json"
ERROR = "error.txt"
PROGRESS = "progress.json"  # of a running trial; never of a finished one
FILES = ("spec.json", "history.parquet", "weights.h5", "embeddings.arrow", "predictions.parquet")
State = Literal["finished", "failed", "unfinished", "absent"]


@dataclass(frozen=True)
class Standing:
    """Where all trials of a work directory stand.

    Args:
        results: of the finished trials, by trial_id.
        others: states of the other trials that left anything.
    """

    results: Mapping[str, dict[str, Any]]
    others: Mapping[str, State]

    def state(self, trial_id: str) -> State:
        """How far a trial got."""
        return "finished" if trial_id in self.results else self.others.get(trial_id, "absent")


class Ledger:
    """The trials of a work directory.

    Args:
        work: the study's work directory.
    """

    def __init__(self, work: Place) -> None:
        self._trials = work.at("trials")

    def folder(self, trial_id: str) -> Place:
        """The directory of one trial."""
        return self._trials.at(trial_id)

    def trial_ids(self) -> list[str]:
        """Every trial that left anything, sorted."""
        return self._trials.entries()

    def result(self, trial_id: str) -> dict[str, Any] | None:
        """The result of a finished trial, None for any other: absent, unfinished or with a file missing."""
        folder = self.folder(trial_id)
        return _whole_result(folder.read(RESULT)) if _is_complete(folder.entries()) else None

    def standing(self) -> Standing:
        """All trials at once, from one listing and one reading of each result: what `result` and `state` say of each, for thousands."""
        names: dict[str, list[str]] = {}
        for path in self._trials.entries(recursive=True):
            trial_id, _, name = path.partition("/")
            names.setdefault(trial_id, []).append(name)
        complete = sorted(trial_id for trial_id, found in names.items() if _is_complete(found))
        results = {}
        for trial_id, data in zip(complete, self._trials.read_all(f"{trial_id}/{RESULT}" for trial_id in complete), strict=True):
            if data is not None and (result := _whole_result(data)) is not None:
                results[trial_id] = result
        return Standing(results, {trial_id: _state_of_unfinished(found) for trial_id, found in names.items() if trial_id not in results})

    def state(self, trial_id: str) -> State:
        """How far a trial got."""
        if self.result(trial_id) is not None:
            return "finished"
        return _state_of_unfinished(self.folder(trial_id).entries())

    def begin(self, trial_id: str, spec: Mapping[str, Any]) -> Place:
        """Clears what an unfinished attempt left and writes the specification.

        Returns:
            The trial's directory, for its other files.
        """
        self._trials.remove(trial_id)
        folder = self.folder(trial_id)
        folder.write_json("spec.json", spec)
        return folder

    def finish(self, trial_id: str, result: Mapping[str, Any]) -> dict[str, Any]:
        """Declares a trial finished: adds the checksum of each of its files and writes result.json.

        Returns:
            The result as written.
        """
        folder = self.folder(trial_id)
        files = {name: hashlib.sha256(folder.read(name)).hexdigest() for name in FILES}
        complete = {**result, "files": files}
        folder.remove(PROGRESS)
        folder.write_json(RESULT, complete)
        return complete

    def fail(self, trial_id: str, traceback: str) -> None:
        """Keeps the traceback of a failed trial; the next run tries it again."""
        self.folder(trial_id).write(ERROR, traceback.encode())

    def error(self, trial_id: str) -> str:
        """The traceback of a failed trial."""
        return self.folder(trial_id).read(ERROR).decode()

    def read_checked(self, trial_id: str, name: str) -> bytes:
        """The bytes of a finished trial's file, held against its checksum.

        Raises:
            DamagedFileError: the bytes are not those that the trial wrote.
        """
        data = self.folder(trial_id).read(name)
        expected = self.folder(trial_id).read_json(RESULT)["files"].get(name)
        if hashlib.sha256(data).hexdigest() != expected:
            raise DamagedFileError(f"trials/{trial_id}/{name} is damaged: delete trials/{trial_id} and run `renal-ray sweep` again to train this trial anew")
        return data


def _is_complete(names: Collection[str]) -> bool:
    """Whether a trial's directory holds all that a finished one has."""
    return RESULT in names and all(name in names for name in FILES)


def _whole_result(data: bytes) -> dict[str, Any] | None:
    """The content of a result.json; None where it is damaged, or does not list the trial's files."""
    try:
        result = json.loads(data)
    except ValueError:
        return None
    listed = result.get("files") if isinstance(result, dict) else None
    return result if isinstance(listed, dict) and set(FILES) <= listed.keys() else None


def _state_of_unfinished(names: Collection[str]) -> State:
    if ERROR in names:
        return "failed"
    return "unfinished" if "spec.json" in names else "absent"


class DamagedFileError(StudyError):
    """A file of a finished trial does not have the bytes that were written."""
