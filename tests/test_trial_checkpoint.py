"""A trial that is cut off continues from its checkpoint, with the numbers of one that was not."""

import errno
from pathlib import Path

import pytest
from conftest import SmallWork

from renal_ray.store.ledger import FILES, Ledger
from renal_ray.store.place import Place
from renal_ray.trial.run import attempt_trial
from renal_ray.trial.spec import TrialSpec
from renal_ray.trial.workshop import Workshop
from renal_ray.types import FreezePoint, Head

EPOCHS = 7


def spec_of(
    trained: SmallWork, head: Head, freeze_point: FreezePoint, **training: object
) -> TrialSpec:
    found = next(
        spec
        for spec in trained.specs(head)
        if spec.freeze_point is freeze_point or head is not Head.IMAGE
    )
    return found.model_copy(
        update={"epochs": EPOCHS, "training": found.training.model_copy(update=training)}
    )


def attempt(
    small: SmallWork,
    spec: TrialSpec,
    *,
    epochs: int = EPOCHS,
    workshop: Workshop | None = None,
    said: list[str] | None = None,
) -> list[int]:
    """Runs a trial with a checkpoint after every epoch, and cuts it off after so many."""
    trial = attempt_trial(
        spec,
        small.work,
        small.splits,
        workshop or small.workshop,
        checkpoint_s=0.0,
        say=(said if said is not None else []).append,
    )
    done = [epoch.epoch for _, epoch in zip(range(epochs), trial, strict=False)]
    if epochs == EPOCHS:
        assert list(trial) == []
    else:
        trial.close()  # type: ignore[attr-defined]
    return done


def numbers(small: SmallWork, spec: TrialSpec) -> dict[str, object]:
    """All files without times; the history without its seconds."""
    folder = Ledger(small.work).folder(spec.trial_id)
    history = folder.read_parquet("history.parquet").drop(columns="seconds")
    return {name: folder.read(name) for name in set(FILES) - {"history.parquet"}} | {
        "history": history.to_csv()
    }


@pytest.fixture
def cut(trained: SmallWork, tmp_path: Path) -> SmallWork:
    return trained.copy(tmp_path / "cut")


@pytest.mark.parametrize(
    ("head", "freeze_point", "keep"),
    [
        (Head.IMAGE, FreezePoint.MIXED9, "last"),
        (Head.IMAGE, FreezePoint.MIXED9, "best_val_auc"),
        (Head.IMAGE, FreezePoint.MIXED10, "last"),
        (Head.GRU, FreezePoint.MIXED10, "best_val_auc"),
    ],
)
def test_a_trial_cut_off_twice_gives_the_numbers_of_an_uninterrupted_one(
    trained: SmallWork,
    cut: SmallWork,
    tmp_path: Path,
    head: Head,
    freeze_point: FreezePoint,
    keep: str,
) -> None:
    whole = trained.copy(tmp_path / "whole")
    spec = spec_of(trained, head, freeze_point, keep=keep)
    for small in (whole, cut):
        if spec.image_trial is not None:
            small.run(
                next(one for one in trained.specs(Head.IMAGE) if one.trial_id == spec.image_trial),
                trained.workshop,
            )
    assert attempt(whole, spec, workshop=trained.workshop) == list(range(1, EPOCHS + 1))
    said: list[str] = []
    # The model is left as another trial made it, so that what is not restored shows.
    assert attempt(cut, spec, epochs=3, workshop=trained.workshop) == [1, 2, 3]
    assert Ledger(cut.work).state(spec.trial_id) == "unfinished"
    assert attempt(cut, spec, epochs=2, said=said) == [4, 5]
    assert attempt(cut, spec, said=said) == [6, 7]
    assert [one.rpartition(": ")[2] for one in said] == [
        "continues after epoch 3",
        "continues after epoch 5",
    ]
    assert numbers(cut, spec) == numbers(whole, spec)
    assert Ledger(cut.work).folder(spec.trial_id).entries(hidden=True) == sorted(
        [*FILES, "result.json"]
    )


def test_a_damaged_checkpoint_is_told_and_the_trial_begins_anew(
    trained: SmallWork, cut: SmallWork
) -> None:
    spec = spec_of(trained, Head.IMAGE, FreezePoint.MIXED10)
    folder = Ledger(cut.work).folder(spec.trial_id)
    for damage in ("file", "json"):
        attempt(cut, spec, epochs=3, workshop=trained.workshop)
        assert folder.entries() == ["checkpoint-3.h5", "checkpoint.json", "claim.txt", "spec.json"]
        name = "checkpoint-3.h5" if damage == "file" else "checkpoint.json"
        data = bytearray(folder.read(name))
        data[len(data) // 2] ^= 0xFF
        folder.write(name, bytes(data) if damage == "file" else bytes(data)[:50])
        said: list[str] = []
        assert attempt(cut, spec, epochs=1, workshop=trained.workshop, said=said) == [1]
        assert "checkpoint is damaged" in said[0]
        assert "first epoch" in said[0]
        folder.remove("checkpoint.json")


def test_a_full_disk_costs_a_checkpoint_and_not_the_trial(
    trained: SmallWork, cut: SmallWork, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_of(trained, Head.IMAGE, FreezePoint.MIXED10)
    write = Place.write

    def full(place: Place, name: str, data: bytes) -> None:
        if name.startswith("checkpoint"):
            raise OSError(errno.ENOSPC, "No space left on device")
        write(place, name, data)

    monkeypatch.setattr(Place, "write", full)
    said: list[str] = []
    assert attempt(cut, spec, workshop=trained.workshop, said=said) == list(range(1, EPOCHS + 1))
    assert len(said) == EPOCHS - 1  # none is due after the last epoch
    assert "No space left" in said[0]
    assert Ledger(cut.work).state(spec.trial_id) == "finished"


def test_a_loss_leaves_no_error_and_the_trial_s_own_failure_does(
    trained: SmallWork, cut: SmallWork, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_of(trained, Head.IMAGE, FreezePoint.MIXED10)
    for error, state in (
        (OSError(errno.EROFS, "Read-only file system"), "unfinished"),
        (ValueError("no such thing"), "failed"),
    ):

        def broken(self: Place, name: str, table: object, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(Place, "write_parquet", broken)
        with pytest.raises(type(error)):
            attempt(cut, spec, workshop=trained.workshop)
        assert Ledger(cut.work).state(spec.trial_id) == state
