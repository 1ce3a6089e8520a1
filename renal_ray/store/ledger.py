"""The ledger of trials: what is on disk is the truth, and result.json is written last.

trials/<trial_id>/ holds spec.json, history.parquet, weights.h5, embeddings.arrow,
predictions.parquet and result.json. A trial is finished if and only if result.json is there, has
its own checksum, and lists those of the others, which are there too; `read_checked` holds them
against it. While a trial runs, its directory also holds progress.json, checkpoints and the claim of
the worker that runs it.
"""

import hashlib
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from renal_ray.problems import DamagedFileError
from renal_ray.store.place import Place, checked_json

RESULT = "result.json"
ERROR = "error.txt"
PROGRESS = "progress.json"  # of a running trial; never of a finished one
CHECKPOINT = "checkpoint"  # what the names of a running trial's checkpoints begin with
# Whose attempt this is: a worker that was believed dead must not finish beside its successor.
CLAIM = "claim.txt"
WITHDRAWN = "damaged.json"  # the result of a trial one of whose files turned out to be damaged
FILES = ("spec.json", "history.parquet", "weights.h5", "embeddings.arrow", "predictions.parquet")
State = Literal["finished", "damaged", "failed", "unfinished", "absent"]


@dataclass(frozen=True)
class Survey:
    """All trials of a work directory at one moment.

    Args:
        results: of the finished trials, by trial_id.
        others: states of the other trials that left anything.
    """

    results: dict[str, dict[str, Any]]
    others: Mapping[str, State]


class Ledger:
    """The trials of a work directory.

    Args:
        work: the study's work directory.
    """

    def __init__(self, work: Place) -> None:
        self._trials = work.at("trials")
        self._claims: dict[str, str] = {}

    def folder(self, trial_id: str) -> Place:
        """The directory of one trial."""
        return self._trials.at(trial_id)

    def trial_ids(self) -> list[str]:
        """Every trial that left anything, sorted."""
        return self._trials.entries()

    def result(self, trial_id: str) -> dict[str, Any] | None:
        """The result of a finished trial, None for any other: absent, unfinished, with a file
        missing or with a damaged result.json."""
        folder = self.folder(trial_id)
        return _whole_result(folder.read(RESULT)) if _is_complete(folder.entries()) else None

    def survey(self) -> Survey:
        """What `result` and `state` say of each trial, for thousands of them: from one listing, and
        one reading of each result."""
        names: dict[str, list[str]] = {}
        for path in self._trials.entries(recursive=True):
            trial_id, _, name = path.partition("/")
            names.setdefault(trial_id, []).append(name)
        complete = [trial_id for trial_id, found in names.items() if _is_complete(found)]
        results = {}
        for trial_id, data in zip(
            complete,
            self._trials.read_all(f"{trial_id}/{RESULT}" for trial_id in complete),
            strict=True,
        ):
            if data is not None and (result := _whole_result(data)) is not None:
                results[trial_id] = result
        return Survey(
            results,
            {
                trial_id: _state_of_other(found)
                for trial_id, found in names.items()
                if trial_id not in results
            },
        )

    def state(self, trial_id: str) -> State:
        """How far a trial got."""
        if self.result(trial_id) is not None:
            return "finished"
        return _state_of_other(self.folder(trial_id).entries())

    def begin(self, trial_id: str, spec: Mapping[str, Any]) -> Place:
        """Claims a trial: clears what an unfinished attempt left, but for its checkpoints, and
        writes the specification.

        Returns:
            The trial's directory, for its other files.
        """
        folder = self.folder(trial_id)
        names = folder.entries(hidden=True)
        if any(name.startswith(CHECKPOINT) for name in names):
            for name in sorted(names, key=lambda name: name != RESULT):
                if not name.startswith(CHECKPOINT):
                    folder.remove(name)
        else:
            self._trials.remove(trial_id)
        self._claims[trial_id] = uuid.uuid4().hex
        folder.write(CLAIM, self._claims[trial_id].encode())
        folder.write_json("spec.json", spec)
        return folder

    def finish(self, trial_id: str, result: Mapping[str, Any]) -> dict[str, Any]:
        """Declares a trial finished: adds the checksum of each of its files and writes result.json.

        Returns:
            The result as written.

        Raises:
            SupersededError: another worker has begun the trial meanwhile.
        """
        folder = self.folder(trial_id)
        claim = self._claims.pop(trial_id, None)
        if claim is not None and (not folder.exists(CLAIM) or folder.read(CLAIM).decode() != claim):
            raise SupersededError(
                f"{trial_id}: another worker has begun this trial meanwhile; this one stops"
            )
        files = {name: hashlib.sha256(folder.read(name)).hexdigest() for name in FILES}
        complete = {**result, "files": files}
        for name in folder.entries(hidden=True):
            if name not in FILES and name != CLAIM:
                folder.remove(name)
        folder.write_checked_json(RESULT, complete)
        folder.remove(CLAIM)
        return complete

    def fail(self, trial_id: str, traceback: str) -> None:
        """Keeps the traceback of a failed trial; the next run tries it again."""
        self.folder(trial_id).write(ERROR, traceback.encode())

    def error(self, trial_id: str) -> str:
        """The traceback of a failed trial."""
        return self.folder(trial_id).read(ERROR).decode()

    def read_checked(self, trial_id: str, name: str) -> bytes:
        """The bytes of a finished trial's file, held against its checksum; where they differ, the
        trial counts as unfinished from now on.

        Raises:
            DamagedFileError: the bytes are not those that the trial wrote.
        """
        folder = self.folder(trial_id)
        try:
            expected = folder.read_checked_json(RESULT)["files"].get(name)
        except FileNotFoundError:
            raise DamagedFileError(
                f"trials/{trial_id} is not finished any more: run "
                "`renal-ray sweep` to train it anew"
            ) from None
        for _ in range(2):  # a file system that answers wrongly once must not cost a trial
            if (
                folder.exists(name)
                and hashlib.sha256(data := folder.read(name)).hexdigest() == expected
            ):
                return data
        folder.write(WITHDRAWN, folder.read(RESULT))
        folder.remove(RESULT)
        raise DamagedFileError(
            f"trials/{trial_id}/{name} is damaged: its trial counts as "
            "unfinished now; run `renal-ray sweep` to train it anew"
        )


def _is_complete(names: Collection[str]) -> bool:
    """Whether a trial's directory holds all that a finished one has."""
    return RESULT in names and all(name in names for name in FILES)


def _whole_result(data: bytes) -> dict[str, Any] | None:
    """The content of a result.json; None where it is damaged, or does not list the trial's
    files."""
    result = checked_json(data)
    return result if result is not None and set(FILES) <= result["files"].keys() else None


def _state_of_other(names: Collection[str]) -> State:
    """State of a trial that is not finished, from the names in its directory."""
    if ERROR in names:
        return "failed"
    if RESULT in names or WITHDRAWN in names:
        return "damaged"
    return "unfinished" if "spec.json" in names else "absent"


class SupersededError(RuntimeError):
    """A worker that was believed dead has a successor."""
