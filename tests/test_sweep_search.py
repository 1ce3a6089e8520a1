"""`renal-ray search` on a local Ray: a nested search from slices to report, again, longer, damaged,
cut off and continued."""

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest
from click.testing import Result
from conftest import activated, draw_patients, small_study, write_small_work
from searches import hunt_of
from test_sweep_interrupted import PATIENCE_S, end, results, start, wait_for
from typer.testing import CliRunner

from renal_ray.cli import app
from renal_ray.config import Study
from renal_ray.store.place import Place
from renal_ray.study_file import dump_study, load_study
from renal_ray.sweep import search as search_module
from renal_ray.trial.feed import read_embeddings
from renal_ray.trial.plan import finished_results, make_plan
from renal_ray.trial.search.outcome import read_outcome
from renal_ray.trial.spec import TrialSpec
from renal_ray.types import Head

SEARCH = {
    "space": {
        "learning_rate": {"low": 0.001, "high": 0.3, "log": True},
        "optimizer": ["sgd", "adamw"],
        "dropout": [0.0, 0.3],
    },
    "configurations": 4,
    "startup": 2,
    "nested": True,
}
TRAINING = {
    "epochs": {"image": 3, "fc": 3, "gru": 3},
    "batch_size": 8,
    "embedding": 16,
    "gru_units": 8,
    "learning_rate": 0.0001,
}


def searchable(work: Path, **changes: Any) -> Study:
    study = small_study(
        work,
        **{
            "folds": {"n": 3},
            "seed": 5,
            "training": TRAINING,
            "search": SEARCH,
            "heads": {"use": ["image", "fc"]},
        }
        | changes,
    )
    write_small_work(study, draw_patients(30, overlap=0.3))
    return study


def command(name: str, file: Path, *overrides: str) -> Result:
    return CliRunner().invoke(
        app, [name, str(file), *(word for one in overrides for word in ("--set", one))]
    )


@pytest.fixture(scope="module")
def study_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("search")
    study = searchable(folder / "work")
    (folder / "small.yaml").write_text(dump_study(study), encoding="utf-8")
    return folder / "small.yaml"


@pytest.fixture(scope="module")
def found(study_file: Path, local_ray: None) -> tuple[Place, str]:
    """The work directory after a whole nested search, and what was said. To be read, not to be
    changed."""
    done = command("search", study_file)
    assert done.exit_code == 0, done.output
    return Place(load_study(study_file).work), done.output


def specs(work: Place) -> list[TrialSpec]:
    return [
        TrialSpec.from_json(work.read_json(f"trials/{name}/spec.json"))
        for name in work.entries("trials")
    ]


def test_it_says_what_it_does_and_what_came_out(found: tuple[Place, str]) -> None:
    work, said = found
    outcome = read_outcome(work)
    assert outcome is not None
    assert outcome["is_over"]
    assert (
        "4 configurations, "
        f"{sum(row['state'] == 'complete' for row in outcome['configurations'])} "
        "complete"
    ) in said
    assert "configuration 1, fold 0 (roi-mixed10-image-fold0-" in said
    assert "configuration 0 is complete: mean AUC" in said
    assert "without fold 2" in said
    assert "report this one" in said
    assert f"wrote {work.shown('search/best.yaml')}" in said
    assert outcome["trials"] <= len(work.entries("trials"))


def test_the_best_beats_settings_that_learn_nothing(found: tuple[Place, str]) -> None:
    outcome = read_outcome(found[0])
    assert outcome is not None
    best, own = outcome["configurations"][outcome["best"]], outcome["configurations"][0]
    assert best["number"] > 0
    assert best["mean"] > own["mean"]


def test_no_inner_trial_saw_its_outer_fold_and_none_a_sealed_patient(
    found: tuple[Place, str], study_file: Path
) -> None:
    work, _ = found
    splits = make_plan(load_study(study_file), work).splits
    inner = [spec for spec in specs(work) if spec.outer is not None]
    assert len(inner) >= 12
    for spec in specs(work):
        forbidden = splits.test | splits.of_fold(spec.outer)
        seen = set(work.read_parquet(f"trials/{spec.trial_id}/predictions.parquet")["patient_id"])
        seen |= read_embeddings(work.read(f"trials/{spec.trial_id}/embeddings.arrow")).keys()
        assert not seen & forbidden
        assert seen == {*splits.training} - splits.of_fold(spec.outer)


def test_the_numbers_are_the_ledger_s(found: tuple[Place, str], study_file: Path) -> None:
    work, _ = found
    outcome, ledger, hunt = (
        read_outcome(work),
        finished_results(work),
        hunt_of(load_study(study_file)),
    )
    assert outcome is not None
    for row in outcome["configurations"]:
        aucs = [
            ledger[hunt.bench.chain(row["values"], int(fold))[-1].trial_id]["levels"]["slice"][
                "metrics"
            ]["auc"]
            for fold in row["aucs"]
        ]
        assert list(row["aucs"].values()) == aucs
        assert row["mean"] == pytest.approx(sum(aucs) / len(aucs))


def test_the_same_command_again_does_nothing(
    found: tuple[Place, str], study_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, _ = found

    def never(*_: object, **__: object) -> None:
        raise AssertionError("there is nothing to do")

    monkeypatch.setattr(search_module, "run_trials", never)
    before = {path: path.read_bytes() for path in work.path("search").rglob("*.json")} | {
        path: path.read_bytes() for path in work.path().glob("search/best.yaml")
    }
    done = command("search", study_file)
    assert done.exit_code == 0, done.output
    assert {path: path.read_bytes() for path in before} == before


def test_status_and_plan_count_its_trials(found: tuple[Place, str], study_file: Path) -> None:
    said = command("status", study_file).output
    assert "search: 4 configurations, " in said
    assert "search without fold 1: 4 configurations, " in said
    assert "trials named so far are finished" in said
    said = command("plan", study_file).output
    assert "search: 4 configurations by TPE over learning_rate, optimizer, dropout" in said
    assert "search: nested, 3 times more" in said


def test_a_longer_search_trains_only_what_is_new(
    found: tuple[Place, str], study_file: Path, tmp_path: Path
) -> None:
    shutil.copytree(found[0].uri, tmp_path / "work")
    before = results(tmp_path / "work")
    done = command(
        "search",
        study_file,
        f"work={tmp_path / 'work'}",
        "search.configurations=5",
        "search.nested=false",
    )
    assert done.exit_code == 0, done.output
    assert "5 configurations, " in done.output
    after = results(tmp_path / "work")
    assert {name: after[name] for name in before} == before
    assert len(before) < len(after) <= len(before) + 3


def test_the_best_study_file_runs_as_it_is_and_uses_what_is_trained(
    found: tuple[Place, str], tmp_path: Path
) -> None:
    work = tmp_path / "work"
    shutil.copytree(found[0].uri, work)
    before = results(work)
    best = work / "search" / "best.yaml"
    done = command("sweep", best, f"work={work}")
    assert done.exit_code == 0, done.output
    assert "6 of 6 trials are finished" in done.output
    after = results(work)
    assert {name: after[name] for name in before} == before
    assert {name.split("-")[2] for name in after.keys() - before.keys()} == {"fc"}
    done = command("report", best, f"work={work}")
    assert done.exit_code == 0, done.output
    page = (work / "report" / "index.html").read_text(encoding="utf-8")
    assert (
        "The training settings were chosen by a search over 4 configurations on these folds" in page
    )


def test_a_study_without_a_search_is_refused_before_ray_starts(
    study_file: Path, tmp_path: Path
) -> None:
    done = command("search", study_file, "search=null", f"work={tmp_path / 'none'}")
    assert done.exit_code == 2
    assert "no section `search`" in done.stderr
    assert not (tmp_path / "none" / "study.yaml").exists()
    done = command("search", study_file, f"work={tmp_path / 'none'}")
    assert done.exit_code == 2
    assert "run `renal-ray prepare` first" in done.stderr


def test_a_search_survives_ctrl_c(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "folds": {"n": 3},
        "seed": 5,
        "resources": {"cpus": 1},
        "heads": {"use": ["image"]},
    }
    settings |= {
        "search": SEARCH | {"nested": False, "configurations": 3},
        "training": TRAINING | {"epochs": {"image": 40, "fc": 3, "gru": 3}},
    }
    small = activated(small_study(tmp_path / "work", **settings), draw_patients(30, overlap=0.3))
    study, file, work = small.study, tmp_path / "cut.yaml", tmp_path / "work"
    file.write_text(dump_study(study), encoding="utf-8")
    first = start(file, "search")
    children: list[psutil.Process] = []
    try:
        wait_for(work, 2, first)
        children = psutil.Process(first.pid).children(recursive=True)
        os.killpg(first.pid, signal.SIGINT)
        _, errors = first.communicate(timeout=PATIENCE_S)
    finally:
        first.kill()
        end(children)
    assert first.returncode == 130, errors
    assert "the same command continues from there" in errors
    before, hunt = results(work), hunt_of(study)
    asked = [dict(entry.values) for entry in hunt.main.entries]
    assert not hunt.is_over(finished_results(small.work), ())
    second = start(file, "search")
    out, errors = second.communicate(timeout=PATIENCE_S)
    assert second.returncode == 0, errors
    after = results(work)
    assert {name: after[name] for name in before} == before
    assert len(after) > len(before)
    entries = hunt_of(study).main.entries
    assert [dict(entry.values) for entry in entries][: len(asked)] == asked
    assert len(entries) == 3
    assert "wrote " in out
    assert {spec.trial_id for spec in small.specs(Head.IMAGE)} <= after.keys()
