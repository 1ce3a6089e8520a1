"""A real sweep with everything that can be watched switched on, and nobody there to take it."""

import platform
from pathlib import Path

import pytest
from conftest import draw_patients, small_study, write_small_work
from typer.testing import CliRunner

from renal_ray.cli import app
from renal_ray.store.ledger import Ledger
from renal_ray.study_file import dump_study
from renal_ray.trial.plan import finished_results

DEAD = "http://127.0.0.1:9"  # nobody answers at the discard port


def test_a_sweep_loses_nothing_when_its_tracking_server_is_away(
    local_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    study = small_study(
        tmp_path / "work",
        heads={"use": ["image", "fc"]},
        tracking={"tensorboard": True, "mlflow": DEAD},
    )
    work, _ = write_small_work(study, draw_patients(20))
    (tmp_path / "study.yaml").write_text(dump_study(study), encoding="utf-8")
    for _ in range(2):  # the second time there is nothing to train, and still something to hand in
        done = CliRunner().invoke(app, ["sweep", str(tmp_path / "study.yaml")])
        assert done.exit_code == 0, done.output
        assert "4 of 4 trials are finished" in done.output
        assert done.output.count("does not take the runs") == 1, done.output
    results = finished_results(work)
    assert len(results) == 4
    for trial_id, result in results.items():
        assert result["node"]["host"] == platform.node()
        assert result["node"]["address"]
        assert work.entries(f"tensorboard/{trial_id}")
        assert "progress.json" not in Ledger(work).folder(trial_id).entries()
    told = CliRunner().invoke(app, ["status", str(tmp_path / "study.yaml"), "--watch"])
    assert told.exit_code == 0
    assert "small: 4 of 4 trials finished, 0 failed, 0 running, 0 waiting" in told.output
    assert f"  {platform.node()}: 0 running, 4 finished" in told.output
