"""Decisions as a function of stored validation predictions and the study file, and votes counted
anew under another rule."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import SmallWork, small_study
from pydantic import ValidationError
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import matthews_corrcoef, recall_score, roc_auc_score

from renal_ray.config import Study
from renal_ray.store.ledger import Ledger
from renal_ray.store.place import Place
from renal_ray.store.seal import last_rule, open_seal
from renal_ray.sweep import vote
from renal_ray.trial.decide import at_level, decision, decisions_of, rule_of, scored_levels
from renal_ray.trial.plan import make_plan
from renal_ray.trial.score import COLUMNS, decide_again
from renal_ray.trial.spec import Inputs, TrialSpec, make_spec
from renal_ray.types import Dataset, FreezePoint, Head

RULES = ("youden", "closest", "mcc", "sensitivity", "cost")
KINDS = ("none", "platt", "isotonic", "temperature")
SPEC = make_spec(
    small_study(Path("work")),
    dataset=Dataset.ROI,
    freeze_point=FreezePoint.MIXED10,
    head=Head.IMAGE,
    fold=0,
    inputs=Inputs(slices="", splits="", weights=""),
)


def study(**changes: object) -> Study:
    return small_study(Path("work"), **changes)


def validation(seed: int = 0, *, patients: int = 24, skill: float = 1.2) -> pd.DataFrame:
    """Slices of patients with scores as a network gives them: float32, and some of them equal."""
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(patients), rng.integers(2, 7, patients))
    label = (owner % 3 > 0).astype(np.int8)
    score = 1 / (1 + np.exp(-rng.normal(skill * (2 * label - 1), 1.5)))
    table = {
        "patient_id": [f"P{one:02d}" for one in owner],
        "slice_index": range(len(owner)),
        "label": label,
    }
    return pd.DataFrame(table).assign(
        score=np.round(score, 2).astype(np.float32), part="validation"
    )


def test_by_default_every_trial_decides_as_its_result_says(trained: SmallWork) -> None:
    for spec in trained.specs():
        result = trained.results[spec.trial_id]
        decisions = decisions_of(spec, trained.work, trained.study)
        assert decisions.keys() == result["levels"].keys()
        predictions = trained.work.read_parquet(
            f"trials/{spec.trial_id}/predictions.parquet"
        ).query("part == 'validation'")
        for level, one in decisions.items():
            assert one.threshold == result["levels"][level]["threshold"]
            table = at_level(spec, predictions, level)
            assert (
                one.evaluate(table["label"], table["score"]) == result["levels"][level]["metrics"]
            )
    assert rule_of(trained.study) == {"calibrate": "none", "threshold": "youden"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("level", ["slice", "patient"])
def test_a_rule_does_what_it_says_on_the_calibrated_scores(
    kind: str, rule: str, level: str
) -> None:
    """Against every threshold that there is, by brute force."""
    table = validation()
    asked = study(calibrate=kind, threshold={"rule": rule, "sensitivity": 0.9, "cost_ratio": 3})
    one = decision(SPEC, table, asked, level)
    samples = (
        table
        if level == "slice"
        else table.groupby("patient_id", as_index=False).agg(
            label=("label", "first"), score=("score", "mean")
        )
    )
    labels, scores = samples["label"].to_numpy(), samples["score"].to_numpy()
    shown = one.probabilities(scores)
    assert one.threshold in shown
    assert ((shown >= 0) & (shown <= 1)).all()

    def merit(threshold: float) -> float:
        called = shown >= threshold
        tn, fp, fn, tp = (
            int((called[labels == label] == malignant).sum())
            for label, malignant in ((0, False), (0, True), (1, False), (1, True))
        )
        sen, spec = tp / (tp + fn), tn / (tn + fp)
        told = {
            "youden": sen + spec,
            "closest": -((1 - sen) ** 2) - (1 - spec) ** 2,
            "cost": -(3 * fn + fp),
            "sensitivity": float(sen >= 0.9),
        }
        return told[rule] if rule != "mcc" else matthews_corrcoef(labels, called)

    every = {threshold: merit(threshold) for threshold in np.unique(shown)}
    best = max(every.values())
    assert merit(one.threshold) == pytest.approx(best, abs=1e-12)
    assert one.threshold == max(
        threshold for threshold, value in every.items() if value > best - 1e-9
    )
    turned = decision(SPEC, table.sample(frac=1, random_state=1), asked, level)
    assert turned.threshold == pytest.approx(
        one.threshold, abs=1e-6
    )  # of the rows, not of their order, but for the order of sums
    evaluated = one.evaluate(labels, scores)
    assert evaluated["sen"] == pytest.approx(recall_score(labels, one.malignant(scores)))
    assert evaluated["auc"] == pytest.approx(
        roc_auc_score(labels, scores)
    )  # of the model's own scores, which isotonic regression would tie


@pytest.mark.parametrize("seed", range(5))
def test_what_isotonic_regression_ties_is_decided_alike_also_when_it_was_kept_as_float32(
    seed: int,
) -> None:
    """0.7 as float32 is below 0.7: a threshold on a step of the curve must hold for all that stand
    on the step."""
    table = validation(seed, skill=0.6)
    one = decision(SPEC, table, study(calibrate="isotonic"), "slice")
    oracle = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(
        table["score"].astype(float), table["label"]
    )
    new = np.linspace(0, 1, 501).astype(np.float32)
    np.testing.assert_allclose(one.probabilities(new), oracle.predict(new.astype(float)), atol=1e-6)
    kept = one.probabilities(new).astype(np.float32)
    assert np.array_equal(kept.astype(float) >= one.threshold, one.malignant(new).astype(bool))
    assert one.malignant(table["score"])[one.probabilities(table["score"]) == one.threshold].all()
    assert len(np.unique(one.probabilities(table["score"]))) < table["score"].nunique()


def test_a_fold_that_ranks_upside_down_is_calibrated_to_a_constant_and_still_decided() -> None:
    table = validation()
    wrong = table.assign(score=1 - table["score"])
    one = decision(SPEC, wrong, study(calibrate="isotonic"), "slice")
    assert len(np.unique(one.probabilities(wrong["score"]))) <= 3
    assert set(one.malignant(wrong["score"])) <= {0, 1}
    with pytest.raises(ValueError, match="both classes"):
        decision(SPEC, table[table["label"] == 1], study(), "slice")


def test_the_study_file_says_which_rule_and_refuses_what_is_none() -> None:
    assert rule_of(study(threshold={"rule": "sensitivity"})) == {
        "calibrate": "none",
        "threshold": "sensitivity",
        "sensitivity": 0.95,
    }
    assert rule_of(study(calibrate="platt", threshold={"rule": "cost", "cost_ratio": 4})) == {
        "calibrate": "platt",
        "threshold": "cost",
        "cost_ratio": 4,
    }
    assert rule_of(study(threshold={"sensitivity": 0.5})) == rule_of(study())  # not what decides
    for wrong in (
        {"threshold": {"rule": "guess"}},
        {"threshold": {"sensitivity": 0}},
        {"threshold": {"cost_ratio": -1}},
        {"calibrate": "beta"},
        {"repeats": 0},
        {"robustness": {"learning_curve": [0.5, 1]}},
        {"robustness": {"learning_curve": [0.5, 0.5]}},
        {"robustness": {"mask_mm": [0]}},
    ):
        with pytest.raises(ValidationError):
            study(**wrong)
    assert study(robustness={"learning_curve": [0.75, 0.25]}).robustness.learning_curve == [
        0.25,
        0.75,
    ]


def scored(specs: list[TrialSpec], patients: list[str], work: Place, asked: Study) -> pd.DataFrame:
    """Rows of test/predictions.parquet as the models would have left them under a rule, from drawn
    scores."""
    tables = []
    for spec in specs:
        for level in scored_levels(spec.head):
            one = decisions_of(spec, work, asked)[level]
            rng = np.random.default_rng([spec.fold, len(level), len(spec.head)])
            raw = rng.random(2 * len(patients)).astype(np.float32)
            named = {
                "dataset": "roi",
                "freeze_point": str(spec.freeze_point),
                "head": str(spec.head),
                "level": level,
                "trial_id": spec.trial_id,
            }
            table = pd.DataFrame(
                {
                    "patient_id": sorted(patients * 2),
                    "slice_index": pd.array([0, 1] * len(patients), "Int32"),
                    "raw_score": raw,
                }
            )
            table = (
                table
                if level == "slice"
                else table.iloc[::2].assign(slice_index=pd.array([pd.NA] * len(patients), "Int32"))
            )
            raw = table["raw_score"].to_numpy()
            label = np.array([int(one[-1]) % 2 for one in table["patient_id"]], np.int8)
            table = table.assign(
                **named, fold=np.int32(spec.fold), label=label, threshold=one.threshold
            )
            tables.append(
                table.assign(
                    score=one.probabilities(raw).astype(np.float32), decision=one.malignant(raw)
                )[list(COLUMNS)]
            )
    return pd.concat(tables, ignore_index=True)


@pytest.fixture
def tested(trained: SmallWork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SmallWork:
    """The trained study whose seal was opened under the default rule; models can no longer be
    run."""
    small = trained.copy(tmp_path / "work", controls={})
    point = trained.plan.selected(Dataset.ROI, trained.results)
    assert point is not None
    specs = [
        *small.plan.image_specs(Dataset.ROI, point),
        *small.plan.head_specs(Dataset.ROI, point),
    ]
    for spec in [*small.plan.specs({}), *specs]:
        target = Ledger(small.work).folder(spec.trial_id).path()
        if not target.exists():
            target.mkdir(parents=True)
            for file in trained.work.path(f"trials/{spec.trial_id}").iterdir():
                (target / file.name).write_bytes(file.read_bytes())
    weights = [trained.results[spec.trial_id]["files"]["weights.h5"] for spec in specs]
    open_seal(small.work, patients=len(small.splits.test), slices=9, models=weights)
    predictions = scored(specs, sorted(small.splits.test), small.work, small.study)
    small.work.write_parquet(vote.PREDICTIONS, predictions)
    small.work.write_parquet(vote.VOTES, vote.count_votes(predictions))

    def never(*_: object, **__: object) -> None:
        raise AssertionError("no model may be run, and no room be asked for")

    for name in ("check_fits", "_score_all"):
        monkeypatch.setattr(vote, name, never)
    return small


def openings(small: SmallWork) -> list[dict]:
    return [json.loads(line) for line in small.work.read("test/seal.jsonl").decode().splitlines()]


def with_rule(small: SmallWork, **changes: object) -> Study:
    return Study.model_validate(small.study.model_dump() | changes)


def test_another_rule_counts_the_votes_anew_and_is_one_more_opening(tested: SmallWork) -> None:
    before = {name: tested.work.read(name) for name in (vote.PREDICTIONS, vote.VOTES)}
    same = vote.test(tested.study)
    assert (same.opened, same.recounted, len(openings(tested))) == (False, False, 1)
    assert {name: tested.work.read(name) for name in before} == before
    trials = {
        path: path.read_bytes() for path in tested.work.path("trials").rglob("*") if path.is_file()
    }

    asked = with_rule(
        tested, calibrate="isotonic", threshold={"rule": "sensitivity", "sensitivity": 0.9}
    )
    again = vote.test(asked)
    assert (again.opened, again.recounted) == (False, True)
    first, second = openings(tested)
    assert (first["rule"], second["rule"]) == (
        {"calibrate": "none", "threshold": "youden"},
        rule_of(asked),
    )
    assert first["models_sha256"] == second["models_sha256"]
    predictions = tested.work.read_parquet(vote.PREDICTIONS)
    for (trial_id, level), rows in predictions.groupby(["trial_id", "level"]):
        spec = TrialSpec.from_json(tested.work.read_json(f"trials/{trial_id}/spec.json"))
        one = decisions_of(spec, tested.work, asked)[level]
        assert set(rows["threshold"]) == {one.threshold}
        np.testing.assert_array_equal(
            rows["score"].to_numpy(float), one.probabilities(rows["raw_score"])
        )
        assert (
            rows["decision"].tolist()
            == (rows["score"].to_numpy(float) >= one.threshold).astype(int).tolist()
        )
    old = pd.read_parquet(tested.work.path(vote.PREDICTIONS))
    assert old["raw_score"].tolist() == predictions["raw_score"].tolist()
    by_hand = (
        predictions.query("head == 'fc'")
        .groupby("patient_id")
        .agg(votes=("decision", "sum"), score=("score", "mean"))
    )
    votes = tested.work.read_parquet(vote.VOTES).query("head == 'fc'").set_index("patient_id")
    assert votes["votes"].to_dict() == by_hand["votes"].to_dict()
    np.testing.assert_allclose(votes["score"], by_hand["score"].reindex(votes.index), atol=1e-6)
    assert {
        path: path.read_bytes() for path in tested.work.path("trials").rglob("*") if path.is_file()
    } == trials  # nothing is trained
    assert [spec.trial_id for spec in make_plan(asked, tested.work).specs({})] == [
        spec.trial_id for spec in tested.plan.specs({})
    ]

    assert not vote.test(asked).recounted
    assert len(openings(tested)) == 2
    back = vote.test(tested.study)  # somebody looks again
    assert (back.recounted, len(openings(tested))) == (True, 3)
    assert {name: tested.work.read(name) for name in before} == before
    assert tested.work.exists(vote.VOTES)


@pytest.mark.parametrize("where", ["open_seal", "_keep", "count_votes"])
def test_a_recount_that_was_cut_off_is_done_again(
    tested: SmallWork, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    asked = with_rule(tested, calibrate="platt", threshold={"rule": "mcc"})

    def cut(*_: object, **__: object) -> None:
        raise OSError("the disk is gone")

    with monkeypatch.context() as patch:
        patch.setattr(vote, where, cut)
        with pytest.raises(OSError, match="gone"):
            vote.test(asked)
    assert vote.test(asked).recounted == (where == "open_seal")
    assert [one["rule"]["threshold"] for one in openings(tested)] == ["youden", "mcc"]
    predictions = tested.work.read_parquet(vote.PREDICTIONS)
    pd.testing.assert_frame_equal(
        tested.work.read_parquet(vote.VOTES), vote.count_votes(predictions)
    )
    spec = TrialSpec.from_json(
        tested.work.read_json(f"trials/{predictions['trial_id'].iloc[0]}/spec.json")
    )
    assert (
        predictions["threshold"].iloc[0]
        == decisions_of(spec, tested.work, asked)[predictions["level"].iloc[0]].threshold
    )


def test_an_opening_that_names_no_rule_was_under_the_default(tested: SmallWork) -> None:
    """As written by versions without a choice, whose predictions have no raw score either."""
    [line] = openings(tested)
    del line["rule"]
    tested.work.write("test/seal.jsonl", json.dumps(line).encode() + b"\n")
    old = tested.work.read_parquet(vote.PREDICTIONS)
    tested.work.write_parquet(vote.PREDICTIONS, old.drop(columns="raw_score"))
    assert last_rule(tested.work) == rule_of(tested.study)
    assert not vote.test(tested.study).recounted
    assert vote.test(with_rule(tested, threshold={"rule": "mcc"})).recounted
    found = tested.work.read_parquet(vote.PREDICTIONS)
    assert found["raw_score"].tolist() == old["score"].tolist()


def test_deciding_again_under_the_same_rule_changes_nothing(tested: SmallWork) -> None:
    predictions = tested.work.read_parquet(vote.PREDICTIONS)
    specs = [
        TrialSpec.from_json(tested.work.read_json(f"trials/{one}/spec.json"))
        for one in predictions["trial_id"].unique()
    ]
    decisions = {spec.trial_id: decisions_of(spec, tested.work, tested.study) for spec in specs}
    pd.testing.assert_frame_equal(decide_again(predictions, decisions), predictions)
