"""The ledger of trials: what is on disk is the truth, and result.json is written last.

trials/<trial_id>/ holds spec.json, history.parquet, weights.h5, embeddings.arrow, predictions.parquet and result.json. A trial is
finished if and only if result.json is there and lists the checksums of the others, which are there too; `read_checked` holds them against it.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, Literal

from renal_ray.problems import StudyError
from renal_ray.store.place import Place

RESULT = "result.json"
ERROR = "error.txt"
PROGRESS = "progress.json"  # of a running trial; never of a finished one
FILES = ("spec.json", "history.parquet", "weights.h5", "embeddings.arrow", "predictions.parquet")
State = Literal["finished", "failed", "unfinished", "absent"]


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
        if not folder.exists(RESULT):
            return None
        result: dict[str, Any] = folder.read_json(RESULT)
        return result if set(FILES) <= result["files"].keys() and all(folder.exists(name) for name in FILES) else None

    def state(self, trial_id: str) -> State:
        """How far a trial got."""
        if self.result(trial_id) is not None:
            return "finished"
        folder = self.folder(trial_id)
        if folder.exists(ERROR):
            return "failed"
        return "unfinished" if folder.exists("spec.json") else "absent"

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


class DamagedFileError(StudyError):
    """A file of a finished trial does not have the bytes that were written."""
