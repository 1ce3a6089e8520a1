"""Trials beside the study's own folds: what names them, how many there are, what they select, and
who is in them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import SmallWork, draw_patients, small_study, write_small_work

from renal_ray.config import Study
from renal_ray.problems import StudyError
from renal_ray.protocol.redraw import redraw
from renal_ray.protocol.splits import FoldSplit, SplitSet
from renal_ray.store.place import Place
from renal_ray.trial import prepared, sides
from renal_ray.trial.feed import image_feed, patient_feed
from renal_ray.trial.forecast import Forecast, Load, load_of, trial_load
from renal_ray.trial.plan import Plan, family, keep_repeats, make_plan
from renal_ray.trial.sides import LeakError, read_scanners, sides_of
from renal_ray.trial.spec import Inputs, TrialSpec, make_spec, permuted_name
from renal_ray.trial.standing import describe
from renal_ray.trial.status import describe_plan
from renal_ray.types import Dataset, FreezePoint, Head

EVERYTHING = {
    "leave_scanner_out": True,
    "scanner_patients": 2,
    "learning_curve": [0.5, 0.25],
    "mask_mm": [2],
}
SCANNERS = ("Siemens Force", "GE", None)


def study_at(work: Path, **changes: object) -> Study:
    return small_study(
        work,
        **{
            "datasets": ["roi", "slice"],
            "freeze_points": ["mixed9", "mixed10"],
            "backend": "tensorflow",
        }
        | changes,
    )


def prepare(study: Study) -> tuple[Place, SplitSet]:
    """Forty patients, every third without a scanner."""
    work, splits = write_small_work(study, draw_patients(40))
    name_scanners(study, work, SCANNERS)
    return work, splits


def name_scanners(study: Study, work: Place, names: tuple[str | None, ...]) -> None:
    cohort = work.read_parquet("cohort.parquet")
    work.write_parquet(
        "cohort.parquet",
        cohort.assign(scanner=[names[i // 2 % len(names)] for i in range(len(cohort))]),
    )
    prepared.declare(study, work)


def finished(plan: Plan, auc: dict[tuple[str, int], float] | None = None) -> dict:
    """Results of every trial; `auc` of image trials by freeze point and repeat."""
    results: dict = {}
    while waiting := [spec for spec in plan.specs(results) if spec.trial_id not in results]:
        for spec in waiting:
            repeat = spec.sides.repeat if spec.sides else 0
            value = (auc or {}).get((str(spec.freeze_point), repeat), 0.5)
            results[spec.trial_id] = {
                "levels": {"slice": {"metrics": {"auc": value}}},
                "seconds": {"total": 2.0},
                "files": {"weights.h5": "w"},
            }
    return results


def test_trials_of_the_study_s_own_folds_keep_their_names() -> None:
    """Names that an earlier version gave: whatever is added to a specification must not enter
    them."""
    study = small_study(Path("work"), backend="tensorflow")
    given = {
        "freeze_point": FreezePoint.MIXED6,
        "fold": 1,
        "inputs": Inputs(slices="s", splits="p", weights="w", code="0"),
    }
    made = [
        make_spec(
            study,
            dataset=Dataset.ROI,
            head=head,
            image_trial=None if head is Head.IMAGE else "x",
            **given,
        )
        for head in Head
    ]
    control = make_spec(
        study,
        dataset=Dataset.SLICE,
        head=Head.IMAGE,
        labels=permuted_name(1),
        **given | {"freeze_point": FreezePoint.MIXED0, "fold": 0},
    )
    assert [spec.trial_id for spec in (*made, control)] == [
        "roi-mixed6-image-fold1-9b716ddf",
        "roi-mixed6-fc-fold1-ef2a1d16",
        "roi-mixed6-gru-fold1-b7e49c8b",
        "slice-mixed0-image-permuted1-fold0-ba96363e",
    ]
    assert all("sides" not in spec.to_json() for spec in (*made, control))


def test_repeats_and_robustness_are_added_to_the_study_and_change_none_of_its_trials(
    tmp_path: Path,
) -> None:
    study = study_at(tmp_path, controls={"permuted_labels": True})
    work, _ = prepare(study)
    plain = make_plan(study, work)
    whole = make_plan(
        study_at(
            tmp_path,
            controls={"permuted_labels": True},
            repeats=3,
            robustness=EVERYTHING,
            calibrate="platt",
        ),
        work,
    )
    before, after = (
        {spec.trial_id: spec for spec in plan.specs(finished(plan))} for plan in (plain, whole)
    )
    assert before.keys() < after.keys()
    assert {name for name, spec in after.items() if spec.sides is None} == before.keys()
    added = [spec for name, spec in after.items() if name not in before]
    # 2 datasets x 2 folds: 2 more repeats of 2 freeze points and 2 heads; 2 shares; and 2 scanners
    # once a dataset
    assert len(added) == 2 * (2 * 2 * (2 + 2) + 2 * 2 + 2)
    assert {family(spec) for spec in added} == {
        "repeats",
        "learning curve",
        "leave-one-scanner-out",
    }
    assert len({spec.seed for spec in after.values()}) == len(after)
    for spec in added:
        assert TrialSpec.from_json(json.loads(json.dumps(spec.to_json()))).trial_id == spec.trial_id
    shown = {
        spec.trial_id.rsplit("-", 1)[0]
        for spec in added
        if spec.dataset is Dataset.ROI
        and spec.head is Head.IMAGE
        and spec.freeze_point == "mixed10"
    }
    assert {
        "roi-mixed10-image-repeat1-fold0",
        "roi-mixed10-image-share0.25-fold1",
        "roi-mixed10-image-withoutge-fold0",
    } <= shown
    assert "roi-mixed10-image-withoutsiemensforce-fold0" in shown


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"repeats": 3},
        {"repeats": 2, "heads": {"use": ["image", "gru"], "freeze_points": "all"}},
        {"robustness": EVERYTHING, "controls": {"permuted_labels": True, "permutations": 3}},
        {
            "repeats": 2,
            "robustness": EVERYTHING,
            "heads": {"use": ["image"]},
            "folds": {"n": 2, "run": [1]},
        },
    ],
)
def test_the_total_counts_what_is_planned(tmp_path: Path, changes: dict) -> None:
    study = study_at(tmp_path, **changes)
    work, _ = prepare(study)
    plan = make_plan(study, work)
    specs = plan.specs(finished(plan))
    assert plan.total() == len(specs) == len({spec.trial_id for spec in specs})
    assert sum(plan.beside().values()) == sum(spec.sides is not None for spec in specs)
    assert len(Forecast(plan, {}, None).specs) == plan.total()  # before anything is selected
    assert len(plan.specs({})) < plan.total() or not plan.study.robustness.learning_curve


def test_the_freeze_point_is_selected_on_all_repeats(tmp_path: Path) -> None:
    study = study_at(tmp_path, repeats=2)
    work, _ = prepare(study)
    plan = make_plan(study, work)
    auc = {("mixed9", 0): 0.8, ("mixed10", 0): 0.7, ("mixed9", 1): 0.6, ("mixed10", 1): 0.9}
    results = finished(plan, auc)
    assert plan.selected(Dataset.ROI, results) is FreezePoint.MIXED10
    alone = make_plan(study_at(tmp_path), work)
    assert alone.selected(Dataset.ROI, results) is FreezePoint.MIXED9
    last = plan.image_specs(Dataset.ROI, FreezePoint.MIXED9, repeat=1)[-1]
    assert (
        plan.selected(
            Dataset.ROI, {name: one for name, one in results.items() if name != last.trial_id}
        )
        is None
    )
    # The vote's models are the study's own.
    assert all(
        spec.sides is None
        for spec in plan.image_specs(Dataset.ROI, FreezePoint.MIXED10)
        + plan.head_specs(Dataset.ROI, FreezePoint.MIXED10)
    )


def test_every_trial_has_the_sides_that_it_says_and_nobody_sealed(tmp_path: Path) -> None:
    study = study_at(tmp_path, repeats=3, robustness=EVERYTHING)
    work, splits = prepare(study)
    plan = make_plan(study, work)
    scanners = read_scanners(work, splits.training)
    assert plan.scanners == scanners
    assert set(scanners) < set(splits.training)
    for spec in plan.specs(finished(plan)):
        fold = sides_of(spec, splits, scanners)
        assert not set(fold.train) & set(fold.validation)
        assert not {*fold.train, *fold.validation} & splits.test
        own = splits.fold(spec.fold)
        if spec.sides is None:
            assert fold == own
        elif spec.sides.scanner is not None:
            assert {scanners[patient] for patient in fold.validation} == {spec.sides.scanner}
            assert {scanners[patient] for patient in fold.train} == set(scanners.values()) - {
                spec.sides.scanner
            }
        elif spec.sides.repeat:
            assert fold == redraw(splits, spec.sides.repeat).fold(spec.fold)
            assert {*fold.train, *fold.validation} == set(splits.training)
        else:
            assert fold.validation == own.validation
            assert set(fold.train) < set(own.train)
            assert len(fold.train) == pytest.approx(spec.sides.share * len(own.train), abs=1)


def test_a_trial_that_would_be_fed_others_than_it_was_planned_with_is_a_leak(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = study_at(tmp_path, repeats=2, robustness=EVERYTHING)
    work, splits = prepare(study)
    plan = make_plan(study, work)
    specs = [
        spec
        for spec in plan.specs(finished(plan))
        if spec.sides is not None and spec.head is Head.IMAGE
    ]
    # One of its training patients was on another scanner after all, or one is in another fold.
    people = list(splits.patients)
    first = next(i for i, one in enumerate(people) if one.fold == 0)
    people[first] = replace(people[first], fold=1)
    other = replace(splits, patients=tuple(people))
    for spec in specs:
        assert spec.sides is not None
        sides_of(spec, splits, plan.scanners)
        if spec.sides.scanner:
            one = next(
                patient for patient, name in plan.scanners.items() if name == spec.sides.scanner
            )
            with pytest.raises(LeakError, match="others would train and validate"):
                sides_of(spec, splits, {**plan.scanners, one: "Elsewhere"})
            with pytest.raises(StudyError, match="nobody to train on"):
                sides_of(spec, splits, {})  # the cohort lost its column
            continue
        for changed in (
            (replace(splits, seed=18), other)
            if spec.sides.share < 1
            else (replace(splits, seed=18),)
        ):
            with pytest.raises(LeakError, match="others would train and validate"):
                sides_of(spec, changed, plan.scanners)
    # A defect in how a side is found does not get past its name.
    spec = specs[0]

    def swapped(sides: object, number: int, *arguments: object) -> FoldSplit:
        fold = splits.fold(number)
        return FoldSplit(train=fold.validation, validation=fold.train, sealed=splits.test)

    monkeypatch.setattr(sides, "_found", swapped)
    with pytest.raises(LeakError, match="others would train and validate"):
        sides_of(spec, splits, plan.scanners)


def test_another_scanner_column_names_other_trials_that_leave_one_out_and_no_others(
    tmp_path: Path,
) -> None:
    study = study_at(tmp_path, robustness=EVERYTHING)
    work, _ = prepare(study)
    old = {
        spec.trial_id: spec
        for spec in make_plan(study, work).specs(finished(make_plan(study, work)))
    }
    name_scanners(study, work, ("Siemens Force", None, "GE"))
    plan = make_plan(study, work)
    new = {spec.trial_id: spec for spec in plan.specs(finished(plan))}
    assert {family(old[name]) for name in old.keys() - new.keys()} == {"leave-one-scanner-out"}
    assert {family(new[name]) for name in new.keys() - old.keys()} == {"leave-one-scanner-out"}
    assert len(old.keys() & new.keys()) == plan.total() - 4


def test_plan_and_status_count_them_briefly_and_say_what_cannot_be_done(tmp_path: Path) -> None:
    study = study_at(tmp_path, repeats=3, robustness=EVERYTHING)
    work, _ = prepare(study)
    said = list(describe_plan(study, work))
    assert (
        "of them beside the study's own folds: 32 repeats, 8 "
        "learning curve, 4 leave-one-scanner-out"
    ) in said
    assert "every scanner is left out in turn" in said
    assert (
        "after the trials: masks of validation patients dilated, eroded and shifted by 2 mm" in said
    )
    lines = describe(study, work)
    assert lines[0].startswith("small: 0 of 60 trials finished")
    assert "  repeats: 0 of 32 trials finished" in lines
    assert (
        "  masks drawn otherwise: 0 of 2 folds measured" in lines
    )  # roi alone: the whole slice is the same whatever the mask
    assert sum("repeat" in line for line in lines) == 1
    strict = study_at(tmp_path, robustness=EVERYTHING | {"scanner_patients": 9})
    assert any(line.startswith("not left out: GE (") for line in describe_plan(strict, work))
    name_scanners(study, work, (None,))
    assert any("no column `scanner`" in line for line in describe_plan(study, work))
    plain = list(describe_plan(study_at(tmp_path), work))
    assert not any("beside" in line or "scanner" in line or "masks" in line for line in plain)


def test_the_folds_of_repeats_are_written_beside_the_study_s(tmp_path: Path) -> None:
    study = study_at(tmp_path, repeats=3)
    work, splits = prepare(study)
    own = work.read("splits.json")
    keep_repeats(make_plan(study, work), work)
    for repeat in (1, 2):
        assert SplitSet.from_json(work.read_json(f"splits-repeat{repeat}.json")) == redraw(
            splits, repeat
        )
    keep_repeats(make_plan(study_at(tmp_path, repeats=2), work), work)
    assert [name for name in work.entries() if name.startswith("splits")] == [
        "splits-repeat1.json",
        "splits.json",
    ]
    assert work.read("splits.json") == own


def test_a_share_is_forecast_by_what_it_trains_on(tmp_path: Path) -> None:
    study = study_at(tmp_path, repeats=2, robustness=EVERYTHING)
    work, splits = prepare(study)
    plan = make_plan(study, work)
    images = {one.patient_id: one.n_images for one in splits.patients}
    whole = trial_load(plan, Head.IMAGE, 0)
    assert load_of(plan, plan.image_specs(Dataset.ROI, FreezePoint.MIXED9)[0]) == whole
    for spec in (
        *plan.learning_specs(Dataset.ROI, FreezePoint.MIXED9),
        *plan.scanner_specs(Dataset.ROI, FreezePoint.MIXED9),
    ):
        fold = sides_of(spec, splits, plan.scanners)
        counts = [
            sum(images[patient] for patient in fold.train if splits.labels[patient] == label)
            for label in (0, 1)
        ]
        assert load_of(plan, spec) == Load(
            train=2 * max(counts), validation=sum(images[patient] for patient in fold.validation)
        )


def test_what_is_fed_is_the_sides_and_heads_read_their_own_repeat(
    trained: SmallWork, tmp_path: Path
) -> None:
    """On real activations, with the checks where the numbers go in."""
    small = trained.copy(
        tmp_path / "work", repeats=2, robustness={"learning_curve": [0.5]}, controls={}
    )
    plan, splits = small.plan, small.splits
    point = FreezePoint.MIXED10
    repeat, share = (
        plan.image_specs(Dataset.ROI, point, repeat=1)[0],
        plan.learning_specs(Dataset.ROI, point)[0],
    )
    for spec in (repeat, share):
        feed = image_feed(spec, small.workshop.rows(spec, splits), splits)
        fold = sides_of(spec, splits)
        for samples, patients in ((feed.train, fold.train), (feed.validation, fold.validation)):
            assert list(dict.fromkeys(samples.patients)) == list(patients)
            assert samples.labels.tolist() == [
                splits.labels[patient] for patient in samples.patients
            ]
        assert feed.sealed == splits.test
        assert not set(feed.train.inputs.rows) & set(feed.validation.inputs.rows)
    result = small.run(share)
    assert (
        result["n"]["train_patients"]
        == len(sides_of(share, splits).train)
        < len(splits.fold(0).train)
    )
    small.run(repeat)
    own = small.run(plan.image_specs(Dataset.ROI, point)[0])
    head = next(
        spec
        for spec in plan.head_specs(Dataset.ROI, point, repeat=1)
        if spec.head is Head.FC and spec.fold == 0
    )
    assert head.image_trial == repeat.trial_id
    feed = patient_feed(head, small.work, splits)
    assert feed.train.patients == sides_of(repeat, splits).train
    with pytest.raises(
        LeakError, match="another dataset, freeze point, fold"
    ):  # the study's own image model saw this repeat's validation patients
        patient_feed(head.model_copy(update={"image_trial": own["trial_id"]}), small.work, splits)
    with pytest.raises(LeakError, match="another dataset, freeze point, fold"):
        patient_feed(
            plan.head_specs(Dataset.ROI, point)[0].model_copy(
                update={"image_trial": repeat.trial_id}
            ),
            small.work,
            splits,
        )
    predictions = small.work.read_parquet(f"trials/{repeat.trial_id}/predictions.parquet")
    validated = predictions[predictions["part"] == "validation"]
    assert (
        set(validated["patient_id"])
        == set(sides_of(repeat, splits).validation)
        != set(splits.fold(0).validation)
    )
    assert np.isfinite(validated["score"]).all()
