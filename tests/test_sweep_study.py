"""A whole small study on a local Ray: from DICOM to votes, again, extended, failing, and under
seal."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from renal_ray.cli import app
from renal_ray.protocol.splits import SplitSet
from renal_ray.store.ledger import Ledger
from renal_ray.store.place import Place
from renal_ray.study_file import load_study
from renal_ray.sweep import activate as activate_module
from renal_ray.sweep import run as run_module
from renal_ray.sweep import vote as vote_module
from renal_ray.trial.plan import finished_results, make_plan
from renal_ray.types import Dataset, Head

pytestmark = pytest.mark.usefixtures("local_ray")


def command(name: str, file: Path, *overrides: str, work: Path | None = None) -> Result:
    given = [*overrides, *([f"work={work}"] if work else [])]
    return CliRunner().invoke(
        app, [name, str(file), *(word for one in given for word in ("--set", one))]
    )


@pytest.fixture(scope="module")
def study_file(whole_study_file: Path) -> Path:
    return whole_study_file


@pytest.fixture(scope="module")
def finished(whole_study: Path) -> Place:
    """The work directory after `renal-ray run`. To be read, not to be changed."""
    return Place(str(whole_study))


@pytest.fixture
def work_copy(finished: Place, tmp_path: Path) -> Path:
    """The same study with its trials, before the test."""
    shutil.copytree(
        finished.uri, tmp_path / "work", ignore=shutil.ignore_patterns("test", "report")
    )
    return tmp_path / "work"


def results(work: Path) -> dict[str, bytes]:
    return {
        path.parent.name: path.read_bytes() for path in sorted(work.glob("trials/*/result.json"))
    }


def state(work: Path) -> dict[str, object]:
    """Bytes of everything but the report, and when what is long in the making was written."""
    files = [
        path
        for path in work.rglob("*")
        if path.is_file() and "report" not in path.relative_to(work).parts
    ]
    late = [
        path
        for path in files
        if path.suffix == ".arrow"
        or {"trials", "activations", "test"} & set(path.relative_to(work).parts)
    ]
    return {str(path): path.read_bytes() for path in files} | {
        f"{path} written": path.stat().st_mtime_ns for path in late
    }


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may be trained, activated or opened."""

    def never(*_: object, **__: object) -> None:
        raise AssertionError("there is nothing to do")

    monkeypatch.setattr(run_module, "_tune", never)
    monkeypatch.setattr(activate_module, "_make_backbones", never)
    monkeypatch.setattr(vote_module, "open_seal", never)


def test_the_work_directory_is_as_the_design_says(finished: Place) -> None:
    for name in (
        "study.yaml",
        "cohort.parquet",
        "quarantine.csv",
        "splits.json",
        "test/seal.jsonl",
        "test/votes.parquet",
        "test/predictions.parquet",
    ):
        assert finished.exists(name), name
    assert finished.exists("report/index.html")
    assert finished.entries("activations/roi") == ["mixed10"]
    names = [one.rsplit("-", 1)[0] for one in finished.entries("trials")]
    assert names == sorted(f"roi-mixed10-{head}-fold{fold}" for head in Head for fold in (0, 1))
    assert not list(finished.path().rglob(".tmp-*"))
    assert yaml.safe_load(finished.read("study.yaml"))["provenance"]["versions"]["ray"]


def test_no_trial_ever_saw_a_test_patient(finished: Place) -> None:
    sealed = SplitSet.from_json(finished.read_json("splits.json")).test
    assert len(sealed) == 4
    index = finished.read_parquet(
        next(
            f"activations/roi/mixed10/{key}/index.parquet"
            for key in finished.entries("activations/roi/mixed10")
        )
    )
    assert not set(index["patient_id"]) & sealed
    for trial in finished.entries("trials"):
        assert (
            not set(finished.read_parquet(f"trials/{trial}/predictions.parquet")["patient_id"])
            & sealed
        )
        for patient in sealed:
            assert patient.encode() not in finished.read(f"trials/{trial}/embeddings.arrow")


def test_the_test_s_files_are_of_the_test_patients_and_count_right(finished: Place) -> None:
    splits = SplitSet.from_json(finished.read_json("splits.json"))
    predictions, votes = (
        finished.read_parquet("test/predictions.parquet"),
        finished.read_parquet("test/votes.parquet"),
    )
    assert set(predictions["patient_id"]) == set(votes["patient_id"]) == set(splits.test)
    assert (predictions["label"] == predictions["patient_id"].map(splits.labels)).all()
    assert set(predictions["trial_id"]) == set(finished.entries("trials"))
    assert set(zip(predictions["head"], predictions["level"], strict=True)) == {
        ("image", "slice"),
        ("image", "patient"),
        ("fc", "patient"),
        ("gru", "patient"),
    }
    for trial, rows in predictions.groupby("trial_id"):
        levels = finished.read_json(f"trials/{trial}/result.json")["levels"]
        for level, part in rows.groupby("level"):
            assert set(part["threshold"]) == {levels[level]["threshold"]}
    assert (
        predictions["decision"] == (predictions["score"].astype(float) >= predictions["threshold"])
    ).all()
    keys = ["head", "level", "patient_id", "slice_index"]
    grouped = (
        predictions.groupby(keys, dropna=False)
        .agg(votes=("decision", "sum"), score=("score", "mean"), n=("fold", "size"))
        .reset_index()
    )
    merged = votes.merge(grouped, on=keys, suffixes=("", "_hand"))
    assert len(merged) == len(votes) == len(grouped)
    assert (merged["n_models"] == 2).all()
    assert (merged["votes"] == merged["votes_hand"]).all()
    np.testing.assert_allclose(merged["score"], merged["score_hand"], atol=1e-6)
    assert (
        merged["decision"]
        == ((merged["votes"] == 2) | ((merged["votes"] == 1) & (merged["score"] >= 0.5))).astype(
            int
        )
    ).all()
    [opened] = [json.loads(line) for line in finished.read("test/seal.jsonl").decode().splitlines()]
    assert (opened["patients"], opened["models"]) == (4, 6)
    assert opened["slices"] == int(
        (predictions[(predictions["level"] == "slice") & (predictions["fold"] == 0)]).shape[0]
    )


def test_running_again_does_nothing(finished: Place, study_file: Path, no_work: None) -> None:
    before = state(finished.path())
    done = command("run", study_file)
    assert done.exit_code == 0, done.output
    assert state(finished.path()) == before
    assert "the seal stays closed" in done.output
    assert command("sweep", study_file).exit_code == 0
    assert command("test", finished.path()).exit_code == 0  # the work directory serves as the study
    assert state(finished.path()) == before


def test_the_seal_holds_the_split(finished: Place, study_file: Path, no_work: None) -> None:
    before = state(finished.path())
    for name, said in (
        ("run", "seal"),
        ("prepare", "seal"),
        ("sweep", "seal"),
        ("test", "another seed"),
        ("plan", "another seed"),
    ):
        done = command(name, study_file, "seed=18")
        assert done.exit_code == 2, done.output
        assert said in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    assert state(finished.path()) == before


def test_what_is_added_later_is_all_that_is_trained(work_copy: Path, study_file: Path) -> None:
    """A study whose first run had `folds.run: [0]`, then a fold and a freeze point more."""
    for trial in work_copy.glob("trials/*-fold1-*"):
        shutil.rmtree(trial)
    old = results(work_copy)
    overrides = ("freeze_points=[mixed9,mixed10]", "heads.use=[image,fc]")
    begun = command("sweep", study_file, "folds.run=[0]", work=work_copy)
    assert "3 of 3 trials are finished" in begun.output
    assert results(work_copy) == old
    done = command("sweep", study_file, *overrides, work=work_copy)
    assert done.exit_code == 0, done.output
    study = load_study(study_file, [*overrides, f"work={work_copy}"])
    work = Place(study.work)
    plan, found = make_plan(study, work), finished_results(work)
    wanted = {spec.trial_id for spec in plan.specs(found)}
    assert len(wanted) == plan.total() == 2 * 2 + 2
    now = results(work_copy)
    assert wanted <= now.keys()
    assert now.keys() == wanted | old.keys()
    assert {name: now[name] for name in old} == old
    assert len([name for name in wanted & old.keys() if "-image-" in name]) == 1
    selected = plan.selected(Dataset.ROI, found)
    assert {spec.freeze_point for spec in plan.specs(found) if spec.head is Head.FC} == {selected}


def test_another_learning_rate_makes_new_trials_beside_the_old(
    work_copy: Path, study_file: Path
) -> None:
    old = results(work_copy)
    activations = state(work_copy / "activations")
    done = command(
        "sweep", study_file, "training.learning_rate=0.02", "heads.use=[image]", work=work_copy
    )
    assert done.exit_code == 0, done.output
    now = results(work_copy)
    assert {name: now[name] for name in old} == old
    new = now.keys() - old.keys()
    assert {name.rsplit("-", 1)[0] for name in new} == {
        "roi-mixed10-image-fold0",
        "roi-mixed10-image-fold1",
    }
    assert state(work_copy / "activations") == activations
    # and back: the first study's trials are still its own
    assert "6 of 6 trials are finished" in command("sweep", study_file, work=work_copy).output


def test_a_trial_fails_alone_and_is_tried_again(work_copy: Path, study_file: Path) -> None:
    """The image trial of fold 0 is said to be of fold 1: the new fc trial of fold 0 must fail, that
    of fold 1 must not."""
    for trial in work_copy.glob("trials/roi-mixed10-fc-*"):
        shutil.rmtree(trial)
    [spec] = work_copy.glob("trials/roi-mixed10-image-fold0-*/spec.json")
    good = spec.read_text(encoding="utf-8")
    spec.write_text(good.replace('"fold": 0', '"fold": 1'), encoding="utf-8")
    old = results(work_copy)
    done = command("run", study_file, work=work_copy)
    assert done.exit_code == 1, done.output
    assert "5 of 6 trials are finished" in done.output
    assert "1 trials failed" in done.output
    assert not (work_copy / "test").exists()  # the seal stays closed over an unfinished study
    now = results(work_copy)
    [added] = now.keys() - old.keys()
    assert added.startswith("roi-mixed10-fc-fold1")
    [error] = work_copy.glob("trials/*/error.txt")
    assert error.parent.name.startswith("roi-mixed10-fc-fold0")
    assert "LeakError" in error.read_text(encoding="utf-8")
    assert f"{error.parent.name}: " in (told := command("status", work_copy).output)
    assert "1 failed" in told
    unfinished = command("test", study_file, work=work_copy)
    assert unfinished.exit_code == 2
    assert "run `renal-ray sweep` first" in unfinished.stderr
    spec.write_text(good, encoding="utf-8")
    done = command("sweep", study_file, work=work_copy)
    assert done.exit_code == 0, done.output
    assert not list(work_copy.glob("trials/*/error.txt"))
    assert {name: results(work_copy)[name] for name in now} == now


def test_a_damaged_file_is_found_by_who_reads_it_and_its_trial_trained_anew(
    work_copy: Path, study_file: Path
) -> None:
    for trial in work_copy.glob("trials/roi-mixed10-fc-*"):
        shutil.rmtree(trial)
    [embeddings] = work_copy.glob("trials/roi-mixed10-image-fold0-*/embeddings.arrow")
    good, old = embeddings.read_bytes(), results(work_copy)
    embeddings.write_bytes(good[:-100] + bytes(100))
    done = command("sweep", study_file, work=work_copy)
    assert done.exit_code == 0, done.output
    assert "embeddings.arrow is damaged" in done.output
    assert embeddings.read_bytes() == good
    now = results(work_copy)
    assert len(now) == 6
    assert {name: now[name] for name in old if name != embeddings.parent.name} == {
        name: old[name] for name in old if name != embeddings.parent.name
    }


def test_trials_that_no_node_can_host_are_refused_at_once(
    work_copy: Path, study_file: Path, no_work: None
) -> None:
    done = command(
        "sweep",
        study_file,
        "resources.cpus_per_trial=64",
        "training.learning_rate=0.05",
        work=work_copy,
    )
    assert done.exit_code == 2, done.output
    assert (
        "0 of 1 nodes can host a trial of {CPU: 64, GPU: 0}: the largest has {CPU: 2, GPU: 0}"
        in done.stderr
    )
    done = command("test", study_file, "resources.gpus_per_trial=9", work=work_copy)
    assert done.exit_code == 2, done.output
    assert "GPU: 9" in done.stderr
    assert not (work_copy / "test").exists()


def test_damaged_weights_are_found_before_the_seal_is_opened(
    work_copy: Path, study_file: Path
) -> None:
    [weights] = work_copy.glob("trials/roi-mixed10-gru-fold1-*/weights.h5")
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    done = command("test", study_file, work=work_copy)
    assert done.exit_code == 2, done.output
    assert (
        "weights.h5 is damaged: its trial counts as unfinished now; run `renal-ray sweep`"
        in done.stderr
    )
    assert "Traceback" not in done.output
    assert not (work_copy / "test").exists()


def test_votes_of_other_models_do_not_stand(
    work_copy: Path, study_file: Path, finished: Place
) -> None:
    """The same trial ids with other weights, as after a trial was deleted and trained on another
    machine."""
    shutil.copytree(finished.path("test"), work_copy / "test")
    [trial] = work_copy.glob("trials/roi-mixed10-fc-fold1-*")
    folder = Place(str(trial))
    result = folder.read_checked_json("result.json")
    result["files"]["weights.h5"] = "0" * 64
    folder.write_checked_json("result.json", result)
    done = command("test", study_file, work=work_copy)
    assert done.exit_code == 2, done.output
    assert "damaged" in done.stderr
    assert len((work_copy / "test" / "seal.jsonl").read_text(encoding="utf-8").splitlines()) == 1


def test_a_test_that_was_cut_off_between_its_two_files_is_done_again(
    work_copy: Path, study_file: Path, finished: Place
) -> None:
    shutil.copytree(finished.path("test"), work_copy / "test")
    (work_copy / "test" / "votes.parquet").unlink()
    done = command("test", study_file, work=work_copy)
    assert done.exit_code == 0, done.output
    assert (
        len((work_copy / "test" / "seal.jsonl").read_text(encoding="utf-8").splitlines()) == 1
    )  # the scores stand: nobody need be looked at again
    pd.testing.assert_frame_equal(
        pd.read_parquet(work_copy / "test" / "votes.parquet"),
        finished.read_parquet("test/votes.parquet"),
    )


def test_a_lost_trial_is_tried_again_and_fails_with_a_reason_when_it_is_lost_too_often(
    finished: Place, study_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from renal_ray.sweep.attempts import Attempts
    from renal_ray.sweep.console import SweepConsole
    from renal_ray.sweep.searcher import StudySearcher
    from renal_ray.trial.packing import Share

    shutil.copytree(
        finished.uri, tmp_path / "work", ignore=shutil.ignore_patterns("test", "report", "trials")
    )
    study = load_study(study_file, [f"work={tmp_path / 'work'}"])
    work = Place(study.work)
    plan = make_plan(study, work)
    ledger = Ledger(work)
    attempts = Attempts(work, most=2, pause_s=0)
    searcher = StudySearcher(
        plan, work, share=lambda spec: Share(1, 0), room=lambda one: 1, attempts=attempts
    )
    console = SweepConsole(plan, work, searcher)
    for number, state in enumerate(["unfinished", "failed"]):
        named = searcher.suggest(f"t{number}")
        assert isinstance(named, dict)
        spec = named["spec"]
        assert spec["trial_id"] == plan.specs({})[0].trial_id
        ledger.begin(spec["trial_id"], spec)
        trial = SimpleNamespace(config=named, error_file=None)
        searcher.on_trial_complete(f"t{number}", error=True)
        console.on_trial_error(0, [], trial)  # type: ignore[arg-type]
        assert ledger.state(spec["trial_id"]) == state
    assert "ended before the trial did" in ledger.error(spec["trial_id"])
    assert searcher.failed == {spec["trial_id"]}
    said = capsys.readouterr().out
    assert "lost (its worker ended before it did); is tried again, attempt 2" in said
    assert "failed (its worker ended before it did)" in said
