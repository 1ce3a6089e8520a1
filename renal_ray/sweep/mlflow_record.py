"""The runs of a study in MLflow: a parent for each configuration, a child for each of its folds."""

import os
from collections.abc import Iterator, Mapping
from math import isfinite
from time import time
from typing import TYPE_CHECKING, Any

from renal_ray.config import Study
from renal_ray.protocol.metrics import mean_sd
from renal_ray.store.place import Place, digest
from renal_ray.trial.spec import TrialSpec

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

TRIAL, CONFIGURATION = (
    "renal_ray.trial_id",
    "renal_ray.configuration",
)  # tags by which a later sweep finds its runs
PARENT = "mlflow.parentRunId"
BATCH = 1000  # metrics in a request, MLflow's limit
EPOCH_METRICS = ("loss", "accuracy", "val_loss", "val_accuracy", "val_auc")
# MLflow's own patience is minutes, and it reports its use to its makers.
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}


class Record:
    """Finds, makes, fills and ends the runs. To be used by one thread.

    Args:
        study: its `tracking.mlflow` says where to.
        work: its work directory.
    """

    def __init__(self, study: Study, work: Place) -> None:
        self._study, self._work = study, work
        self._client: MlflowClient | None = None
        self._experiment = ""
        self._runs: dict[str, str] = {}  # by trial id or configuration
        self._finished: set[str] = set()  # keys of the runs that have ended well
        self._open: dict[str, TrialSpec] = {}
        self._steps: dict[str, set[int]] = {}
        self._folds: dict[str, dict[int, dict[str, float]]] = {}
        self._without_folds: set[str] = (
            set()
        )  # configurations of one trial, which leave a scanner out

    def begin(self, spec: TrialSpec) -> str:
        """Finds or creates the run of a trial, and its parent; returns its id."""
        client, key = self._connected(), spec.trial_id
        if key not in self._runs:
            tags = {TRIAL: key, PARENT: self._parent(client, spec)}
            run = client.create_run(self._experiment, run_name=key.rpartition("-")[0], tags=tags)
            self._runs[key], self._steps[key] = run.info.run_id, set()
            self._log_params(
                client, run.info.run_id, _params(spec) | {"fold": spec.fold, "seed": spec.seed}
            )
        elif key not in self._steps:
            self._steps[key] = {
                metric.step for metric in client.get_metric_history(self._runs[key], "loss")
            }
        if key not in self._finished:
            client.update_run(self._runs[key], status="RUNNING")
            self._open[key] = spec
        return self._runs[key]

    def epoch(self, spec: TrialSpec, epoch: int, values: Mapping[str, float]) -> None:
        """Metrics of one epoch of a running trial."""
        if epoch not in self._steps[spec.trial_id]:
            self._steps[spec.trial_id].add(epoch)
            self._log(self._runs[spec.trial_id], _metrics(values, epoch))

    def finish(self, spec: TrialSpec, result: Mapping[str, Any]) -> None:
        """Everything that a finished trial left; nothing where it had been told before."""
        final = _final(result)
        configuration = _configuration(spec)
        self._connected()
        self._folds.setdefault(configuration, {})[spec.fold] = final
        if spec.sides is not None and spec.sides.scanner is not None:
            self._without_folds.add(configuration)
        if spec.trial_id not in self._finished:
            run = self.begin(spec)
            self._log(run, [*self._epochs(spec), *_metrics(final, spec.epochs)])
            self.end(spec, "FINISHED")
        self._sum_up(configuration)

    def end(self, spec: TrialSpec, status: str) -> None:
        """Ends a trial's run."""
        run = self.begin(spec)
        self._connected().set_terminated(run, status)
        self._open.pop(spec.trial_id, None)
        if status == "FINISHED":
            self._finished.add(spec.trial_id)

    def leave(self) -> None:
        """Ends the runs of trials that were cut off."""
        for spec in list(self._open.values()):
            self.end(spec, "KILLED")

    def _connected(self) -> "MlflowClient":
        if self._client is None:
            for name, value in ENVIRONMENT.items():
                os.environ.setdefault(name, value)
            from mlflow import MlflowClient

            client = MlflowClient(tracking_uri=self._study.tracking.mlflow)
            found = client.get_experiment_by_name(self._study.name)
            self._experiment = (
                found.experiment_id if found else client.create_experiment(self._study.name)
            )
            for run in self._all_runs(client):
                key = run.data.tags.get(TRIAL) or run.data.tags.get(CONFIGURATION)
                if key:
                    self._runs[key] = run.info.run_id
                    if run.info.status == "FINISHED":
                        self._finished.add(key)
            self._client = client
        return self._client

    def _all_runs(self, client: "MlflowClient") -> "Iterator[Run]":
        token = None
        while True:
            page = client.search_runs([self._experiment], max_results=BATCH, page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def _parent(self, client: "MlflowClient", spec: TrialSpec) -> str:
        key = _configuration(spec)
        if key not in self._runs:
            name = f"{spec.dataset}-{spec.freeze_point}-{spec.head}" + (
                f"-{spec.apart}" if spec.apart else ""
            )
            run = client.create_run(self._experiment, run_name=name, tags={CONFIGURATION: key})
            self._runs[key] = run.info.run_id
            self._log_params(client, run.info.run_id, _params(spec))
        elif key in self._finished:  # a fold more than there were
            self._finished.remove(key)
            client.update_run(self._runs[key], status="RUNNING")
        return self._runs[key]

    def _epochs(self, spec: TrialSpec) -> "list[Metric]":
        history = self._work.read_parquet(f"trials/{spec.trial_id}/history.parquet")
        metrics = []
        for row in history.to_dict("records"):
            told = {"loss", "val_auc"} if row["epoch"] in self._steps[spec.trial_id] else set()
            values = {name: row[name] for name in EPOCH_METRICS if name not in told} | {
                "epoch_seconds": row["seconds"]
            }
            metrics += _metrics(values, int(row["epoch"]))
        return metrics

    def _sum_up(self, configuration: str) -> None:
        """Ends the parent when all its folds are there: mean and standard deviation of their final
        metrics."""
        folds = self._folds[configuration]
        if configuration in self._finished or folds.keys() != self._wanted(configuration):
            return
        values: dict[str, float | None] = {}
        for name in sorted({name for one in folds.values() for name in one}):
            values[f"mean_{name}"], values[f"sd_{name}"] = mean_sd(
                [one.get(name) for one in folds.values()]
            )
        self._log(self._runs[configuration], _metrics(values, 0))
        self._connected().set_terminated(self._runs[configuration], "FINISHED")
        self._finished.add(configuration)

    def _wanted(self, configuration: str) -> set[int]:
        """The folds that a configuration has when it is complete."""
        return {0} if configuration in self._without_folds else set(self._study.fold_numbers)

    def _log(self, run: str, metrics: "list[Metric]") -> None:
        for start in range(0, len(metrics), BATCH):
            self._connected().log_batch(run, metrics=metrics[start : start + BATCH])

    def _log_params(self, client: "MlflowClient", run: str, params: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        client.log_batch(run, params=[Param(name, str(value)) for name, value in params.items()])


def _configuration(spec: TrialSpec) -> str:
    """Names what the folds of one configuration have in common."""
    own = {
        "fold": True,
        "seed": True,
        "image_trial": True,
        "sides": True if spec.sides is None else {"patients"},
    }
    return digest([spec.model_dump_json(exclude=own)])[:16]


def _params(spec: TrialSpec) -> dict[str, Any]:
    """The settings of a trial without its fold."""
    plain = spec.model_dump(
        mode="json", exclude={"fold", "seed", "image_trial", "inputs", "training", "sides"}
    ) | ({"apart": spec.apart} if spec.apart else {})
    return (
        plain
        | spec.training.model_dump(mode="json", exclude={"epochs"})
        | {"code": spec.inputs.code}
    )


def _final(result: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a finished trial, each with its level in front."""
    found = {
        "total_seconds": result["seconds"]["total"],
        "images_per_second": result["images_per_second"],
    }
    for level, values in result["levels"].items():
        found |= {
            f"{level}_{name}": value
            for name, value in values["metrics"].items()
            if isinstance(value, int | float)
        }
        found[f"{level}_threshold"] = values["threshold"]
    return found


def _metrics(values: Mapping[str, float | None], step: int) -> "list[Metric]":
    from mlflow.entities import Metric

    now = int(time() * 1000)
    return [
        Metric(name, float(value), now, step)
        for name, value in values.items()
        if value is not None and isfinite(value)
    ]
