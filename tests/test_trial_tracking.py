"""TensorBoard's own reader finds in a trial's event files what its history says."""

from pathlib import Path

import pytest
from conftest import SmallWork
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from renal_ray.store.ledger import Ledger
from renal_ray.store.place import Place
from renal_ray.trial import tracking
from renal_ray.trial.epoch import Epoch
from renal_ray.trial.process import Setup, TrialProcess
from renal_ray.trial.tracking import event_log
from renal_ray.types import Head

SCALARS = {"loss", "accuracy", "val_loss", "val_accuracy", "val_auc", "images_per_second"}


def read(folder: Path) -> dict[str, dict[int, float]]:
    """Scalar name -> step -> value; a step told twice would show in the lengths."""
    found = EventAccumulator(str(folder)).Reload()
    scalars = {name: found.Scalars(name) for name in found.Tags()["scalars"]}
    for events in scalars.values():
        assert len({event.step for event in events}) == len(events)
    return {name: {event.step: event.value for event in events} for name, events in scalars.items()}


def epoch(number: int, val_auc: float | None = 0.75) -> Epoch:
    return Epoch(number, 1.0 / number, 0.5, 0.7, 0.6, val_auc, 0.1, 32)


def test_the_files_of_a_process_tell_every_epoch_of_the_history(
    trained: SmallWork, tmp_path: Path
) -> None:
    small = trained.copy(tmp_path / "work")
    first, second, *_ = trained.specs(Head.IMAGE)
    setup = Setup(work=small.work.uri, backend=small.study.backend, threads=1, tensorboard=True)
    process = TrialProcess(setup, most_tasks=9, most_mib=9999)
    try:
        for spec in (first, second, first):  # the last one is an attempt more at the first
            told = list(process.run(spec))
            assert told[-1]["epoch"] == spec.epochs
            assert told[-1]["notes"] == []
    finally:
        process.close()
    for spec in (first, second):
        found = read(tmp_path / "work" / "tensorboard" / spec.trial_id)
        history = (
            Ledger(small.work)
            .folder(spec.trial_id)
            .read_parquet("history.parquet")
            .set_index("epoch")
        )
        assert found.keys() == SCALARS
        for name in SCALARS - {"images_per_second"}:
            assert found[name] == pytest.approx(history[name].to_dict(), rel=1e-6)
        assert all(rate > 0 for rate in found["images_per_second"].values())


def test_nothing_is_written_where_it_is_not_wanted(trained: SmallWork, tmp_path: Path) -> None:
    with event_log(Place(str(tmp_path)), trained.specs()[0], wanted=False, say=print) as log:
        assert log is None
    assert not list(tmp_path.iterdir())
    assert not trained.work.exists("tensorboard")


def test_a_trial_that_continues_adds_to_its_files_and_takes_back_what_it_does_again(
    trained: SmallWork, tmp_path: Path
) -> None:
    spec, work = trained.specs()[0], Place(str(tmp_path))
    for numbers, auc in ((range(1, 8), 0.5), (range(5, 10), 0.9)):
        with event_log(work, spec, wanted=True, say=print) as log:
            assert log is not None
            for number in numbers:
                log.add(epoch(number, auc), 10.0)
    found = read(tmp_path / "tensorboard" / spec.trial_id)
    assert found["val_auc"] == pytest.approx(
        dict.fromkeys(range(1, 5), 0.5) | dict.fromkeys(range(5, 10), 0.9)
    )
    assert found["loss"] == pytest.approx({number: 1.0 / number for number in range(1, 10)})


def test_undefined_values_are_left_out(trained: SmallWork, tmp_path: Path) -> None:
    spec = trained.specs()[0]
    with event_log(Place(str(tmp_path)), spec, wanted=True, say=print) as log:
        assert log is not None
        log.add(epoch(1, None), 10.0)
        log.add(Epoch(2, float("nan"), 0.5, 0.7, 0.6, 0.8, 0.1, 32), 10.0)
    found = read(tmp_path / "tensorboard" / spec.trial_id)
    assert found["val_auc"] == pytest.approx({2: 0.8})
    assert found["loss"] == pytest.approx({1: 1.0})


def test_a_remote_work_directory_gets_copies(
    trained: SmallWork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Place, "is_local", property(lambda self: False))
    monkeypatch.setattr(tracking, "COPY_EVERY_S", 0.0)
    monkeypatch.setattr(
        Place, "write", lambda self, name, data: (tmp_path / name).write_bytes(data)
    )  # folders are nothing there
    monkeypatch.setattr(Place, "remove", lambda self, name: None)
    work, spec = Place(f"file://{tmp_path}"), trained.specs()[0]
    (tmp_path / "tensorboard" / spec.trial_id).mkdir(parents=True)
    folder = tmp_path / "tensorboard" / spec.trial_id
    said: list[str] = []
    with event_log(work, spec, wanted=True, say=said.append) as log:
        assert log is not None
        for number in (1, 2):
            log.add(epoch(number), 10.0)
        assert read(folder)["loss"] == pytest.approx({1: 1.0, 2: 0.5})
        log.add(epoch(3), 10.0)
    assert said == []
    assert read(folder)["val_auc"].keys() == {1, 2, 3}


def test_a_disk_that_takes_no_files_is_told_of_and_costs_no_trial(
    trained: SmallWork, tmp_path: Path
) -> None:
    (tmp_path / "tensorboard").write_text("in the way", encoding="utf-8")
    said: list[str] = []
    with event_log(Place(str(tmp_path)), trained.specs()[0], wanted=True, say=said.append) as log:
        assert log is not None
        for number in (1, 2):
            log.add(epoch(number), 10.0)
    assert len(said) == 1
    assert "cannot be written (" in said[0]
    assert "the trials go on without them" in said[0]
