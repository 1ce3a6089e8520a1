"""A sweep as MLflow runs: told by the driver, from a thread of its own."""

import queue
import threading
from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

from renal_ray.config import Study
from renal_ray.problems import StudyError, reason
from renal_ray.store.place import Place
from renal_ray.sweep.mlflow_record import Record
from renal_ray.trial.spec import TrialSpec

TELL_EVERY_S = 10.0  # of a running trial; what falls between is handed in at its end
FAREWELL_S = 60.0  # for what is still to be told when the sweep ends


def require_mlflow(study: Study) -> None:
    """Refuses a study that wants MLflow where it is not installed.

    Raises:
        StudyError: it is not.
    """
    if study.tracking.mlflow is not None and find_spec("mlflow") is None:
        raise StudyError(
            "tracking.mlflow: MLflow is not installed here; run `pip install "
            "'renal-ray[mlflow]'`, or leave tracking.mlflow out"
        )


class MlflowRuns:
    """Follows a sweep, see `renal_ray.sweep.metrics.Follower`.

    A trial's run is found again by its trial id: finished ones are left alone, others continue.
    What goes wrong is said once and ends the following, never a trial; the next sweep hands in what
    is missing.

    Args:
        study: its `tracking.mlflow` says where to.
        work: its work directory.
        say: says a sentence to a person.
    """

    def __init__(self, study: Study, work: Place, say: Callable[[str], None]) -> None:
        self._uri = study.tracking.mlflow or ""
        self._say = say
        self._record = Record(study, work)
        self._tasks: queue.Queue[Callable[[], object] | None] = queue.Queue()
        self._next: dict[str, float] = {}
        self._thread = threading.Thread(target=self._work_off, daemon=True)
        self._thread.start()

    def started(self, spec: TrialSpec) -> None:
        """Opens or continues the trial's run."""
        self._tasks.put(lambda: self._record.begin(spec))

    def told(self, spec: TrialSpec, progress: Mapping[str, Any]) -> None:
        """Metrics of an epoch, now and then."""
        if monotonic() >= self._next.get(spec.trial_id, 0.0):
            self._next[spec.trial_id] = monotonic() + TELL_EVERY_S
            values = {
                name: progress[name]
                for name in ("loss", "val_auc", "images_per_second")
                if progress.get(name) is not None
            }
            self._tasks.put(lambda: self._record.epoch(spec, progress["epoch"], values))

    def finished(self, spec: TrialSpec, result: Mapping[str, Any]) -> None:
        """All epochs, the final metrics, and the mean over the folds when they are all there."""
        self._tasks.put(lambda: self._record.finish(spec, result))

    def failed(self, spec: TrialSpec) -> None:
        """Marks the run as failed; the next sweep continues it."""
        self._tasks.put(lambda: self._record.end(spec, "FAILED"))

    def lost(self, spec: TrialSpec) -> None:
        """Marks the run as cut off; the next attempt continues it."""
        self._tasks.put(lambda: self._record.end(spec, "KILLED"))

    def close(self) -> None:
        """Waits until all has been told, a minute at most."""
        self._tasks.put(self._record.leave)
        self._tasks.put(None)
        self._thread.join(FAREWELL_S)
        if self._thread.is_alive():
            self._say(
                f"MLflow at {self._where} is slow: some of this sweep is "
                "not handed in; the next one does it"
            )

    @property
    def _where(self) -> str:
        """The server without what may be secret in its address."""
        parts = urlsplit(self._uri)
        return f"{parts.scheme}://{parts.hostname}" if parts.hostname else self._uri

    def _work_off(self) -> None:
        broken = False
        while (task := self._tasks.get()) is not None:
            if broken:
                continue
            try:
                task()
            except Exception as error:  # noqa: BLE001 - a server can fail in any way, and no trial may be lost for it
                broken = True
                said = reason(error).replace(self._uri, self._where)
                self._say(
                    f"MLflow at {self._where} does not take the runs "
                    f"({type(error).__name__}: {said}); "
                    "the sweep goes on without it, the next one hands in what is missing"
                )


def hand_in(
    study: Study, work: Place, specs: Iterable[TrialSpec], results: Mapping[str, Mapping[str, Any]]
) -> None:
    """Tells MLflow of finished trials that it has not been told of; nothing where the study has no
    `tracking.mlflow`.

    Args:
        study: the study.
        work: its work directory.
        specs: its trials.
        results: results of finished trials.

    Raises:
        StudyError: MLflow is not installed.
    """
    if study.tracking.mlflow is None:
        return
    require_mlflow(study)
    runs = MlflowRuns(study, work, print)
    for spec in specs:
        if spec.trial_id in results:
            runs.finished(spec, results[spec.trial_id])
    runs.close()
