"""What `plan` and `status` say of a running sweep."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from conftest import SmallWork

from renal_ray.store.ledger import Ledger
from renal_ray.store.lock import held, is_held
from renal_ray.trial import workshop
from renal_ray.trial.standing import describe
from renal_ray.trial.workshop import configure_keras


def test_status_tells_of_a_running_trial_and_of_the_time_that_is_left(trained: SmallWork, tmp_path: Path) -> None:
    small = trained.copy(tmp_path / "work")
    first, second, *_ = small.specs()
    small.run(first)
    folder = Ledger(small.work).begin(second.trial_id, second.to_json())
    seen = datetime.now(UTC) - timedelta(seconds=4)
    told = {"epoch": 3, "epochs": 150, "loss": 0.5, "val_auc": None, "images_per_second": 41.23, "eta_s": 752.0, "time": seen.isoformat(timespec="seconds")}
    folder.write_json("progress.json", told)
    dead = "\n".join(describe(small.study, small.work))
    assert "no sweep is running here" in dead
    assert "epoch 3/150" not in dead
    with held(small.work):
        assert is_held(small.work)
        alive = "\n".join(describe(small.study, small.work))
    assert not is_held(small.work)
    assert f"{second.trial_id}: epoch 3/150, 41.2 samples/s, 0:12:32 left (seen " in alive
    assert "no sweep is running here" not in alive
    assert "1 of " in alive
    assert "1 begun" in alive


def test_a_lock_of_a_dead_process_is_not_a_running_sweep(tmp_path: Path) -> None:
    from renal_ray.store.place import Place

    work = Place(str(tmp_path))
    assert not is_held(work)
    with held(work):
        told = work.read_json(".lock")
    work.write_json(".lock", told | {"pid": 2**22 + 1})
    assert not is_held(work)
    work.write_json(".lock", told | {"pid": 2**22 + 1, "host": "elsewhere"})
    assert is_held(work)


def test_threads_and_memory_are_settled_in_the_environment_before_keras_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    found: dict[str, str] = {}
    monkeypatch.setattr(workshop, "os", type("Os", (), {"environ": found, "getuid": os.getuid}))
    configure_keras("jax", 3, gpu_share=0.25)
    assert {found[name] for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "NPROC")} == {"3"}
    assert found["XLA_PYTHON_CLIENT_MEM_FRACTION"] == "0.250"
    assert found["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false"
    assert found["KERAS_BACKEND"] == "jax"
    found.clear()
    configure_keras("tensorflow", 1)
    assert "XLA_PYTHON_CLIENT_MEM_FRACTION" not in found
    assert found["TF_FORCE_GPU_ALLOW_GROWTH"] == "true"
