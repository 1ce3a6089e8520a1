"""study.yaml, the plan and the status of a work directory."""

import re
from pathlib import Path

import pytest
import yaml
from conftest import SIZE, SmallWork, draw_patients, small_study, write_small_work

from renal_ray.config import Study
from renal_ray.problems import StudyError
from renal_ray.store.ledger import Ledger
from renal_ray.store.place import Place
from renal_ray.store.seal import open_seal
from renal_ray.study_file import load_study
from renal_ray.trial import prepared
from renal_ray.trial.plan import make_plan, weights_hash
from renal_ray.trial.record import keep_study, versions
from renal_ray.trial.standing import describe
from renal_ray.trial.status import describe_plan
from renal_ray.types import Dataset, FreezePoint, Head


def changed(study: Study, **changes: object) -> Study:
    return Study.model_validate(study.model_dump() | changes)


def test_the_resolved_study_is_kept_with_what_it_was_run_with(tmp_path: Path) -> None:
    manifest = tmp_path / "people.csv"
    manifest.write_text("patient_id,label,image,mask\n", encoding="utf-8")
    study = small_study(tmp_path / "work", cohort={"manifest": str(manifest)})
    work = Place(study.work)
    keep_study(study, work)
    kept = yaml.safe_load(work.read("study.yaml"))
    assert load_study(tmp_path / "work") == study
    assert kept["provenance"]["versions"] == versions()
    assert {"python", "ray", "keras", "numpy", "scikit-learn"} <= set(versions())
    assert len(kept["provenance"]["hashes"]["cohort"]) == 64
    assert kept["provenance"]["created"]


def test_the_same_study_is_left_alone_and_a_changed_one_written_anew(tmp_path: Path) -> None:
    study = small_study(tmp_path)
    work = Place(study.work)
    keep_study(study, work)
    kept = yaml.safe_load(work.read("study.yaml"))
    kept["provenance"]["created"] = "long ago"
    work.write("study.yaml", yaml.safe_dump(kept).encode())
    keep_study(study, work)
    assert yaml.safe_load(work.read("study.yaml"))["provenance"]["created"] == "long ago"
    keep_study(changed(study, seed=18), work)
    again = yaml.safe_load(work.read("study.yaml"))
    assert again["seed"] == 18
    assert again["provenance"]["created"] != "long ago"


def test_other_versions_are_written_anew(tmp_path: Path) -> None:
    study = small_study(tmp_path)
    work = Place(study.work)
    keep_study(study, work)
    kept = yaml.safe_load(work.read("study.yaml"))
    kept["provenance"]["versions"]["keras"] = "0.1"
    work.write("study.yaml", yaml.safe_dump(kept).encode())
    keep_study(study, work)
    assert yaml.safe_load(work.read("study.yaml"))["provenance"]["versions"] == versions()


def test_another_study_may_not_use_the_same_work_directory(tmp_path: Path) -> None:
    study = small_study(tmp_path)
    work = Place(study.work)
    keep_study(study, work)
    before = work.read("study.yaml")
    with pytest.raises(
        StudyError, match=r"holds the study 'small'; give 'other' a work directory of its own"
    ):
        keep_study(changed(study, name="other"), work)
    assert work.read("study.yaml") == before


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 18},
        {"split": {"test_fraction": 0.3}},
        {"folds": {"n": 3}},
        {"folds": {"n": 2, "method": "stratified"}},
    ],
)
def test_once_the_seal_was_opened_the_draw_stands(tmp_path: Path, change: dict) -> None:
    study = small_study(tmp_path)
    work = Place(study.work)
    keep_study(study, work)
    keep_study(changed(study, **change), work)
    keep_study(study, work)
    open_seal(work, patients=1, slices=1, models=[])
    before = work.read("study.yaml")
    with pytest.raises(StudyError, match="seal"):
        keep_study(changed(study, **change), work)
    assert work.read("study.yaml") == before
    keep_study(changed(study, folds={"n": 2, "run": [0]}, freeze_points=["mixed0"]), work)


@pytest.mark.parametrize(
    "text", [b"name: a\nwork: [x", b"- a\n", b"said", b"\xff\xfe\0", b"name: a\nprovenance: [1]\n"]
)
def test_a_damaged_record_is_told_and_left_alone(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "study.yaml").write_bytes(text)
    study = small_study(tmp_path)
    with pytest.raises(StudyError, match=r"study\.yaml is damaged: delete it"):
        keep_study(study, Place(study.work))
    assert (tmp_path / "study.yaml").read_bytes() == text


def test_a_work_directory_that_cannot_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    study = small_study(tmp_path / "file" / "work")
    with pytest.raises(StudyError, match=r"work: .* cannot be written"):
        keep_study(study, Place(study.work))


def test_weights_are_named_by_what_decides_them(tmp_path: Path) -> None:
    study = small_study(tmp_path)
    work = Place(study.work)
    assert weights_hash(study, work, "a") != weights_hash(study, work, "b")
    assert weights_hash(study, work, "a") != weights_hash(changed(study, seed=18), work, "a")
    assert weights_hash(study, work, "a") != weights_hash(
        changed(study, images={"size": 76}), work, "a"
    )
    assert weights_hash(changed(study, weights="imagenet"), work, "a") == weights_hash(
        changed(study, weights="imagenet", seed=18), work, "b"
    )
    file = tmp_path / "w.h5"
    file.write_bytes(b"one")
    own = changed(study, weights=str(file))
    first = weights_hash(own, work, "a")
    keep_study(own, work)
    file.write_bytes(b"two")
    assert weights_hash(own, work, "a") != first
    file.unlink()
    assert (
        weights_hash(own, work, "a") == first
    )  # from study.yaml: the file need not travel with the work directory
    with pytest.raises(StudyError, match=r"weights: .* is no file"):
        weights_hash(changed(study, weights=str(tmp_path / "other.h5")), work, "a")


def test_a_plan_counts_what_it_will_name(trained: SmallWork) -> None:
    plan, results = trained.plan, trained.results
    assert plan.total() == len(plan.specs(results)) == len(results) == 12
    assert len({spec.trial_id for spec in plan.specs(results)}) == 12
    first = plan.specs({})
    assert [spec.head for spec in first] == [Head.IMAGE] * 4
    assert plan.selected(Dataset.ROI, {}) is None
    means = {
        point: sum(
            results[spec.trial_id]["levels"]["slice"]["metrics"]["auc"]
            for spec in plan.image_specs(Dataset.ROI, point)
        )
        for point in trained.study.freeze_points
    }
    best = max(means.values())
    assert plan.selected(Dataset.ROI, results) == max(
        (point for point in means if means[point] == best), key=list(FreezePoint).index
    )
    for spec in plan.head_specs(Dataset.ROI, FreezePoint.MIXED9):
        assert (
            spec.image_trial
            == plan.image_specs(Dataset.ROI, FreezePoint.MIXED9)[spec.fold].trial_id
        )


def test_heads_on_all_freeze_points_are_named_at_once(trained: SmallWork) -> None:
    plan = make_plan(changed(trained.study, heads={"freeze_points": "all"}), trained.work)
    assert plan.total() == 2 * (2 + 2 * 2 + 2)
    assert len(plan.specs({})) == 2 * (2 + 2 * 2)
    assert len(plan.specs(trained.results)) == plan.total()


def test_a_fold_less_or_a_freeze_point_more_keeps_the_other_trials_names(
    trained: SmallWork,
) -> None:
    names = {spec.trial_id for spec in trained.plan.specs({})}
    fewer = {
        spec.trial_id
        for spec in make_plan(
            changed(trained.study, folds={"n": 2, "run": [1]}), trained.work
        ).specs({})
    }
    more = {
        spec.trial_id
        for spec in make_plan(
            changed(trained.study, freeze_points=["mixed6", "mixed9", "mixed10"]), trained.work
        ).specs({})
    }
    assert fewer < names < more
    units = trained.study.training.model_dump() | {"gru_units": 9}
    assert {
        spec.trial_id
        for spec in make_plan(changed(trained.study, training=units), trained.work).specs({})
    } == names
    rate = trained.study.training.model_dump() | {"learning_rate": 0.02}
    assert (
        not {
            spec.trial_id
            for spec in make_plan(changed(trained.study, training=rate), trained.work).specs({})
        }
        & names
    )


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 18},
        {"folds": {"n": 3}},
        {"folds": {"n": 2, "method": "stratified"}},
        {"split": {"test_fraction": 0.3}},
        {"split": {"stratify": False}},
        {"images": {"size": SIZE, "crop": False}},
        {"selection": {"max_slices": 3}},
        {"cohort": {"manifest": "another.csv"}},
    ],
)
def test_what_was_prepared_with_other_settings_is_not_used(
    trained: SmallWork, change: dict
) -> None:
    with pytest.raises(
        StudyError,
        match=(
            rf"was prepared with another {next(iter(change))} than the "
            r"study asks for: run `renal-ray prepare`"
        ),
    ):
        make_plan(changed(trained.study, **change), trained.work)


@pytest.mark.parametrize("name", ["splits.json", "cohort.parquet", "slices/roi/index.parquet"])
def test_what_was_changed_after_prepare_is_not_used(
    trained: SmallWork, tmp_path: Path, name: str
) -> None:
    small = trained.copy(tmp_path / "work")
    small.work.write(name, small.work.read(name) + b" ")
    with pytest.raises(StudyError, match="were changed after prepare wrote them"):
        make_plan(small.study, small.work)
    small.work.remove(name)
    with pytest.raises(StudyError, match="were changed after prepare wrote them"):
        make_plan(small.study, small.work)


def test_a_prepare_that_did_not_finish_is_not_used(trained: SmallWork, tmp_path: Path) -> None:
    small = trained.copy(tmp_path / "work")
    prepared.withdraw(small.work)
    with pytest.raises(StudyError, match="an earlier prepare did not finish"):
        make_plan(small.study, small.work)


def test_an_unprepared_study_has_no_plan(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="renal-ray prepare"):
        make_plan(small_study(tmp_path), Place(str(tmp_path)))


def test_status_of_an_unprepared_study(tmp_path: Path) -> None:
    assert list(describe(small_study(tmp_path), Place(str(tmp_path)))) == [
        "small: not prepared yet; run `renal-ray prepare`"
    ]


def test_status_counts_every_state_and_ends_with_the_seal(
    trained: SmallWork, tmp_path: Path
) -> None:
    small = trained.copy(tmp_path / "work")
    assert (
        next(iter(describe(small.study, small.work)))
        == "small: 0 of 12 trials finished, 0 failed, 0 running, 12 waiting"
    )
    ledger = Ledger(small.work)
    first, second, *_ = specs = small.plan.specs({})
    small.run(
        next(spec for spec in specs if spec.freeze_point is FreezePoint.MIXED10), trained.workshop
    )
    ledger.begin(first.trial_id, first.to_json())
    ledger.begin(second.trial_id, second.to_json())
    ledger.fail(
        second.trial_id, "Traceback (most recent call last):\n  ...\nValueError: it broke\n"
    )
    lines = list(describe(small.study, small.work))
    assert lines[0] == (
        "small: 1 of 12 trials finished, 1 failed, 0 running, 9 waiting, 1 begun and not heard of"
    )
    assert "  roi mixed10 image: 1 of 2 folds finished" in lines
    assert f"{second.trial_id}: failed: ValueError: it broke" in lines
    assert lines[-1] == "the seal on the test patients is closed"
    for openings in (1, 2):
        open_seal(small.work, patients=1, slices=1, models=[])
        assert re.search(
            rf"the seal on the test patients was opened\b.*\b{openings}\b",
            list(describe(small.study, small.work))[-1],
        )


def test_status_of_a_finished_study_shows_the_controls_apart(trained: SmallWork) -> None:
    lines = list(describe(trained.study, trained.work))
    assert lines[0] == "small: 12 of 12 trials finished, 0 failed, 0 running, 0 waiting"
    for index in range(2):
        assert any(f"image permuted-{index}: 2 of 2 folds" in line for line in lines)


def test_the_plan_in_words_counts_patients_and_images(trained: SmallWork) -> None:
    lines = list(describe_plan(trained.study, trained.work))
    people = trained.splits.patients
    for fold in range(2):
        inside = [one for one in people if one.fold == fold]
        malignant = sum(one.label for one in inside)
        images = sum(one.n_images for one in inside)
        assert lines[fold] == (
            f"fold {fold}: {len(inside)} patients ({len(inside) - malignant} "
            f"benign, {malignant} malignant), {images} images"
        )
    assert lines[2].startswith(f"sealed for the test: {len(trained.splits.test)} patients")
    assert lines[3].startswith(
        "12 trials (roi x mixed9, mixed10 x 2 folds; heads image, fc, gru), 12 of them finished"
    )


def test_the_split_is_the_same_for_the_same_cohort(tmp_path: Path) -> None:
    one = write_small_work(small_study(tmp_path / "a"), draw_patients(24))[0]
    other = write_small_work(small_study(tmp_path / "b"), draw_patients(24))[0]
    assert one.read("splits.json") == other.read("splits.json")
