"""What MLflow's own client reads back of a sweep: a parent for each configuration, a child for each
fold, each trial once."""

from pathlib import Path

import pytest
from conftest import SmallWork
from mlflow import MlflowClient
from mlflow.entities import Run

from renal_ray.config import Study, Tracking
from renal_ray.problems import StudyError
from renal_ray.sweep import mlflow_runs
from renal_ray.sweep.mlflow_record import CONFIGURATION, PARENT, TRIAL
from renal_ray.sweep.mlflow_runs import MlflowRuns, hand_in, require_mlflow
from renal_ray.trial.epoch import Epoch
from renal_ray.trial.progress import Pace
from renal_ray.trial.spec import TrialSpec
from renal_ray.types import Head

DEAD = "http://someone@127.0.0.1:9/secret"  # nobody answers at the discard port


@pytest.fixture
def study(trained: SmallWork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return trained.study.model_copy(
        update={"tracking": Tracking(mlflow=f"file://{tmp_path}/mlruns")}
    )


@pytest.fixture
def said() -> list[str]:
    return []


def client(study: Study) -> MlflowClient:
    return MlflowClient(tracking_uri=study.tracking.mlflow)


def runs(study: Study) -> dict[str, Run]:
    """Trial id or configuration -> run."""
    mlflow = client(study)
    experiment = mlflow.get_experiment_by_name(study.name)
    found = mlflow.search_runs([experiment.experiment_id], max_results=1000)
    keyed = {run.data.tags.get(TRIAL) or run.data.tags[CONFIGURATION]: run for run in found}
    assert len(keyed) == len(found)
    return keyed


def progress(spec: TrialSpec, number: int) -> dict:
    return Pace(spec.epochs).after(Epoch(number, 0.25, 0.5, 0.6, 0.5, 0.9, 2.0, 64))


def history(study: Study, run: Run, name: str) -> list[tuple[int, float]]:
    return sorted(
        (metric.step, metric.value)
        for metric in client(study).get_metric_history(run.info.run_id, name)
    )


def sweep(study: Study, trained: SmallWork, said: list[str], specs: list[TrialSpec]) -> None:
    follower = MlflowRuns(study, trained.work, said.append)
    for spec in specs:
        follower.started(spec)
        follower.told(spec, progress(spec, 1))
        follower.finished(spec, trained.results[spec.trial_id])
    follower.close()


def test_parents_children_parameters_and_metrics(
    study: Study, trained: SmallWork, said: list[str]
) -> None:
    specs = trained.specs()
    sweep(study, trained, said, specs)
    assert said == []
    found = runs(study)
    parents = {key: run for key, run in found.items() if CONFIGURATION in run.data.tags}
    assert len(found) - len(parents) == len(specs)
    assert len(parents) == len(specs) / 2  # two folds each
    assert {run.info.status for run in found.values()} == {"FINISHED"}
    for spec in specs:
        run, result = found[spec.trial_id], trained.results[spec.trial_id]
        [parent] = [one for one in parents.values() if one.info.run_id == run.data.tags[PARENT]]
        assert parent.info.run_name.startswith(f"{spec.dataset}-{spec.freeze_point}-{spec.head}")
        assert parent.data.params.items() <= run.data.params.items()
        assert (run.data.params["fold"], run.data.params["labels"]) == (str(spec.fold), spec.labels)
        assert float(run.data.params["learning_rate"]) == spec.training.learning_rate
        assert "fold" not in parent.data.params
        table = trained.work.read_parquet(f"trials/{spec.trial_id}/history.parquet")
        for name in ("accuracy", "val_loss", "val_accuracy"):
            assert history(study, run, name) == [
                (row["epoch"], pytest.approx(row[name])) for row in table.to_dict("records")
            ]
        assert [step for step, _ in history(study, run, "loss")] == list(
            table["epoch"]
        )  # the first one told live, and not again
        assert history(study, run, "loss")[0] == (1, 0.25)
        for level, values in result["levels"].items():
            assert run.data.metrics[f"{level}_auc"] == pytest.approx(values["metrics"]["auc"])
            assert run.data.metrics[f"{level}_threshold"] == pytest.approx(values["threshold"])
    pair = [spec for spec in specs if spec.head is Head.IMAGE and spec.labels == "true"][:2]
    aucs = [trained.results[spec.trial_id]["levels"]["slice"]["metrics"]["auc"] for spec in pair]
    [parent] = {found[spec.trial_id].data.tags[PARENT] for spec in pair}
    metrics = client(study).get_run(parent).data.metrics
    assert metrics["mean_slice_auc"] == pytest.approx(sum(aucs) / 2)
    assert metrics["sd_slice_auc"] == pytest.approx(abs(aucs[0] - aucs[1]) / 2**0.5)


def test_running_again_continues_and_duplicates_nothing(
    study: Study, trained: SmallWork, said: list[str]
) -> None:
    first, second, *others = trained.specs()
    sweep(study, trained, said, [first])
    follower = MlflowRuns(study, trained.work, said.append)
    follower.started(second)
    follower.told(second, progress(second, 2))
    follower.close()  # cut off
    before = runs(study)
    assert before[second.trial_id].info.status == "KILLED"
    hand_in(study, trained.work, [first, second, *others], trained.results)
    after = runs(study)
    assert {key: run.info.run_id for key, run in after.items() if key in before} == {
        key: run.info.run_id for key, run in before.items()
    }
    assert {run.info.status for run in after.values()} == {"FINISHED"}
    for spec in (first, second):
        assert [step for step, _ in history(study, after[spec.trial_id], "loss")] == list(
            range(1, spec.epochs + 1)
        )
        assert len(history(study, after[spec.trial_id], "accuracy")) == spec.epochs
    hand_in(study, trained.work, trained.specs(), trained.results)
    again = runs(study)
    assert again.keys() == after.keys()
    assert all(again[key].data.metrics == run.data.metrics for key, run in after.items())
    assert all(
        len(history(study, again[spec.trial_id], "accuracy")) == spec.epochs
        for spec in trained.specs()
    )


def test_a_failed_trial_is_shown_as_failed_and_continues(
    study: Study, trained: SmallWork, said: list[str]
) -> None:
    spec = trained.specs()[0]
    follower = MlflowRuns(study, trained.work, said.append)
    follower.started(spec)
    follower.failed(spec)
    follower.close()
    assert runs(study)[spec.trial_id].info.status == "FAILED"
    sweep(study, trained, said, [spec])
    assert runs(study)[spec.trial_id].info.status == "FINISHED"


def test_a_server_that_does_not_answer_is_told_of_once_without_its_secrets(
    trained: SmallWork, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    study = trained.study.model_copy(update={"tracking": Tracking(mlflow=DEAD)})
    sweep(study, trained, said, trained.specs())
    [line] = said
    assert "MLflow at http://127.0.0.1 does not take the runs (" in line
    assert "the next one hands in what is missing" in line
    assert "someone" not in line


def test_a_missing_package_is_said_before_any_work(
    study: Study, trained: SmallWork, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_mlflow(study)
    monkeypatch.setattr(mlflow_runs, "find_spec", lambda name: None)
    with pytest.raises(StudyError, match=r"pip install 'renal-ray\[mlflow\]'"):
        require_mlflow(study)
    require_mlflow(trained.study)  # does not want it


def test_a_password_in_the_address_is_refused() -> None:
    with pytest.raises(ValueError, match="MLFLOW_TRACKING_PASSWORD") as told:
        Tracking(mlflow="https://me:hunter2@example.org")
    assert "hunter2" not in told.value.errors(include_input=False, include_url=False)[0]["msg"]
