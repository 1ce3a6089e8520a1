"""The report's robustness section on a synthetic work directory, against independent arithmetic."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, roc_auc_score
from test_report_page import csv, visible
from test_report_trials import BEST, N_PATIENTS, Synthetic, study_at

from renal_ray.config import Study
from renal_ray.report import canvas, page
from renal_ray.report.evidence import read_evidence
from renal_ray.report.page import write_report
from renal_ray.report.robustness.repeats import spread
from renal_ray.store.ledger import Ledger
from renal_ray.store.place import Place
from renal_ray.trial import prepared
from renal_ray.trial.masks import COLUMNS, mask_parts
from renal_ray.trial.plan import Plan, family, finished_results, make_plan
from renal_ray.trial.sides import sides_of
from renal_ray.trial.spec import TrialSpec
from renal_ray.types import Dataset, Head

ROBUSTNESS = {"leave_scanner_out": True, "learning_curve": [0.25, 0.5], "mask_mm": [2]}
SKILL_OF = {"repeats": 1.7, "learning curve": 2.0, "leave-one-scanner-out": 0.8, "study": 2.0}
SCANNERS = ("Aquilion & <b>", "Brilliance", "Rare")


@pytest.fixture(scope="module", autouse=True)
def _coarse_png() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(canvas, "PNG_DPI", 40)
        yield


@pytest.fixture
def _no_figures(monkeypatch) -> None:
    """Drawing is most of the time of a report: left out where a test asks for words and numbers
    only."""
    monkeypatch.setattr(page, "draw_all", lambda evidence: iter(()))


class Robust(Synthetic):
    """The same, with scanners, and trials and masks beside the study's own folds."""

    def name_scanners(self) -> None:
        names = [SCANNERS[2] if i % 20 == 0 else SCANNERS[i % 2] for i in range(N_PATIENTS)]
        self.work.write_parquet("cohort.parquet", self.cohort.assign(scanner=names))
        prepared.declare(self.study, self.work)

    def beside(self, plan: Plan, *, repeats: bool = True) -> None:
        """Every trial that the plan still lacks; more patients, more skill."""
        while waiting := [
            spec
            for spec in plan.specs(finished_results(self.work))
            if Ledger(self.work).result(spec.trial_id) is None
        ]:
            for spec in waiting if repeats else [one for one in waiting if not one.is_repeat]:
                self.sided(
                    spec,
                    plan,
                    skill=SKILL_OF[family(spec)] * (spec.sides.share if spec.sides else 1),
                )
            if not repeats:
                return

    def sided(self, spec: TrialSpec, plan: Plan, *, skill: float) -> None:
        """A trial whose validation side is its own."""
        whole, fold = self.splits, sides_of(spec, self.splits, plan.scanners)
        try:
            self.splits = _Only(whole, fold)  # type: ignore[assignment]
            self.trial(spec, skill=skill)
        finally:
            self.splits = whole
        folder = Ledger(self.work).folder(spec.trial_id)
        result = folder.read_checked_json("result.json")
        folder.write_checked_json(
            "result.json", result | {"n": {"train_patients": len(fold.train)}}
        )

    def masks(self, plan: Plan) -> None:
        """Scores under two perturbations: one changes nothing, the other loses a slice and turns
        the scores round."""
        for part in mask_parts(plan, finished_results(self.work)):
            tables = []
            for spec in part.specs:
                own = (
                    self.work.read_parquet(f"trials/{spec.trial_id}/predictions.parquet")
                    .query("part == 'validation'")
                    .drop(columns="part")
                )
                named = {
                    "dataset": str(spec.dataset),
                    "freeze_point": str(spec.freeze_point),
                    "head": str(spec.head),
                    "fold": np.int32(spec.fold),
                }
                same = {
                    "original": own,
                    "dilate 2 mm": own,
                    "erode 2 mm": own.iloc[1:].assign(score=1 - own["score"].iloc[1:]),
                }
                for name, table in same.items():
                    kind, mm = (name, 0.0) if name == "original" else (name.split()[0], 2.0)
                    tables.append(
                        table.assign(**named, perturbation=name, kind=kind, mm=mm, direction="")[
                            list(COLUMNS)
                        ]
                    )
            self.work.write_parquet(part.file, pd.concat(tables, ignore_index=True))


class _Only:
    """A split with one fold, whatever its number."""

    def __init__(self, whole, fold) -> None:
        self.labels, self._fold = whole.labels, fold

    def fold(self, _: int):
        return self._fold


def asked(work: Path, **changes: object) -> Study:
    given: dict = {
        "datasets": [Dataset.ROI],
        "repeats": 3,
        "robustness": ROBUSTNESS,
        "controls": {"permuted_labels": False},
    }
    return study_at(work, **given | changes)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Robust, Plan, str]:
    made = Robust(asked(tmp_path_factory.mktemp("work")))
    made.name_scanners()
    made.train()
    plan = make_plan(made.study, made.work)
    made.beside(plan)
    made.masks(plan)
    write_report(made.study)
    return made, plan, (made.work.path("report/index.html")).read_text(encoding="utf-8")


def validated(made: Synthetic, spec: TrialSpec) -> pd.DataFrame:
    return made.work.read_parquet(f"trials/{spec.trial_id}/predictions.parquet").query(
        "part == 'validation'"
    )


def fold_auc(made: Synthetic, spec: TrialSpec) -> float:
    table = validated(made, spec)
    return float(roc_auc_score(table["label"], table["score"]))


def test_repeats_tell_their_spread_apart_from_that_of_folds(whole):
    made, plan, html = whole
    table = csv(made.work.path(), "repeats").set_index(["head", "level"])
    point = plan.selected(Dataset.ROI, finished_results(made.work))
    means, variances = [], []
    for repeat in range(3):
        aucs = [
            fold_auc(made, spec) for spec in plan.image_specs(Dataset.ROI, point, repeat=repeat)
        ]
        means.append(np.mean(aucs))
        variances.append(np.var(aucs, ddof=1))
    row = table.loc[("image", "slice")]
    assert row["n_repeats"] == 3
    assert row["auc_mean"] == pytest.approx(np.mean(means), abs=1e-5)
    assert row["auc_sd_repeats"] == pytest.approx(np.std(means, ddof=1), abs=1e-5)
    assert row["auc_sd_folds"] == pytest.approx(np.sqrt(np.mean(variances)), abs=1e-5)
    assert [row[f"auc_repeat{repeat}"] for repeat in range(3)] == pytest.approx(means, abs=1e-5)
    assert {head for head, _ in table.index} == {"image", "fc", "gru"}
    assert "SD repeats: between those means" in visible(html)


def test_the_study_s_own_tables_hold_the_study_s_own_folds_alone(whole):
    made, plan, _ = whole
    table = csv(made.work.path(), "table2-validation").query("level == 'slice'").iloc[0]
    aucs = [
        fold_auc(made, spec)
        for spec in plan.image_specs(
            Dataset.ROI, plan.selected(Dataset.ROI, finished_results(made.work))
        )
    ]
    assert (table["n_folds"], table["auc_mean"]) == (5, pytest.approx(np.mean(aucs), abs=1e-5))
    evidence = read_evidence(made.study)
    counted = sum(
        len(group)
        for group in (
            evidence.trials.true,
            evidence.trials.repeats,
            evidence.trials.beside,
            evidence.trials.controls,
        )
    )
    assert counted == plan.total() == len(evidence.trials.finished)
    assert evidence.trials.set_aside == 0
    assert all(trial.spec.sides is None for trial in evidence.trials.true)


def test_spread_by_hand() -> None:
    told = spread({0: [0.8, 0.9], 1: [0.6, 0.8], 2: [0.7, 0.7]})
    assert told["mean"] == pytest.approx((0.85 + 0.7 + 0.7) / 3)
    assert told["sd_repeats"] == pytest.approx(np.std([0.85, 0.7, 0.7], ddof=1))
    assert told["sd_folds"] == pytest.approx(np.sqrt((0.005 + 0.02 + 0) / 3))
    assert spread({0: [0.8]}) == {"mean": 0.8, "sd_repeats": None, "sd_folds": None}


def test_a_scanner_left_out_is_shown_beside_cross_validation_on_the_same_patients(whole):
    made, plan, html = whole
    table = csv(made.work.path(), "leave-one-scanner-out").set_index("scanner")
    assert set(table.index) == set(SCANNERS[:2])
    point = plan.selected(Dataset.ROI, finished_results(made.work))
    own = pd.concat([validated(made, spec) for spec in plan.image_specs(Dataset.ROI, point)])
    for spec in plan.scanner_specs(Dataset.ROI, point):
        row, slices = table.loc[spec.sides.scanner], validated(made, spec)
        patients = slices.groupby("patient_id").agg(
            label=("label", "first"), score=("score", "mean")
        )
        assert (row["n"], row["malignant"], row["n_train"]) == (
            len(patients),
            patients["label"].sum(),
            len(sides_of(spec, made.splits, plan.scanners).train),
        )
        assert row["auc_slice"] == pytest.approx(
            roc_auc_score(slices["label"], slices["score"]), abs=1e-5
        )
        assert row["auc"] == pytest.approx(
            roc_auc_score(patients["label"], patients["score"]), abs=1e-5
        )
        assert row["auc_lower_95"] < row["auc"] < row["auc_upper_95"]
        same = (
            own[own["patient_id"].isin(patients.index)]
            .groupby("patient_id")
            .agg(label=("label", "first"), score=("score", "mean"))
        )
        assert len(same) == len(patients)
        assert row["auc_within"] == pytest.approx(
            roc_auc_score(same["label"], same["score"]), abs=1e-5
        )
        assert spec.sides.scanner in visible(html)
    assert "<b>" not in html
    assert re.search(
        r"Not left out: Rare \(\d benign, \d malignant\); it, and all others "
        r"together, need 5 training patients of each class\.",
        visible(html),
    )


def test_the_learning_curve_ends_with_the_study_s_own_trials(whole):
    made, plan, html = whole
    table = csv(made.work.path(), "learning-curve")
    assert table["share"].tolist() == [0.25, 0.5, 1.0]
    assert table["train_patients"].is_monotonic_increasing
    point = plan.selected(Dataset.ROI, finished_results(made.work))
    by_share = {1.0: plan.image_specs(Dataset.ROI, point)}
    for spec in plan.learning_specs(Dataset.ROI, point):
        by_share.setdefault(spec.sides.share, []).append(spec)
    for row in table.itertuples():
        aucs = [fold_auc(made, spec) for spec in by_share[row.share]]
        assert (row.auc_slice_mean, row.auc_slice_sd) == pytest.approx(
            (np.mean(aucs), np.std(aucs, ddof=1)), abs=1e-5
        )
        sizes = [len(sides_of(spec, made.splits).train) for spec in by_share[row.share]]
        assert row.train_patients == pytest.approx(np.mean(sizes), abs=1e-3)
    assert 'id="figure-learning-curve"' in html
    assert made.work.exists("report/figures/figure-learning-curve.png")


def test_masks_are_compared_on_the_samples_that_both_have(whole):
    made, plan, html = whole
    table = csv(made.work.path(), "mask-sensitivity").set_index(["head", "level", "perturbation"])
    assert len(table) == 4 * 2
    same = table.xs("dilate 2 mm", level="perturbation")
    assert (same["change_mean"] == 0).all()
    assert (same["calls_changed"] == 0).all()
    assert (same["n"] == same["n_original"]).all()
    point = plan.selected(Dataset.ROI, finished_results(made.work))
    turned, changes, calls = [], [], 0
    for spec in plan.image_specs(Dataset.ROI, point):
        own = validated(made, spec)
        rest = own.iloc[1:]
        turned.append(roc_auc_score(rest["label"], 1 - rest["score"]))
        changes.append(turned[-1] - roc_auc_score(rest["label"], rest["score"]))
        threshold = made.work.read_json(f"trials/{spec.trial_id}/result.json")["levels"]["slice"][
            "threshold"
        ]
        calls += int(
            (
                ((1 - rest["score"]).to_numpy(float) >= threshold)
                != (rest["score"].to_numpy(float) >= threshold)
            ).sum()
        )
    row = table.loc[("image", "slice", "erode 2 mm")]
    assert row["n"] == row["n_original"] - 5
    assert (row["auc_mean"], row["change_mean"], row["change_sd"]) == pytest.approx(
        (np.mean(turned), np.mean(changes), np.std(changes, ddof=1)), abs=1e-5
    )
    assert row["calls_changed"] == calls
    text = visible(html)
    assert f"{int(row['n'])} of {int(row['n_original'])}" in text
    assert 'id="figure-mask-sensitivity"' in html


@pytest.mark.usefixtures("_no_figures")
def test_what_was_not_asked_for_or_is_not_finished_is_said(tmp_path):
    made = Robust(asked(tmp_path, heads={"use": ["image"]}, repeats=2))
    made.name_scanners()
    made.train(heads=[Head.IMAGE])
    plan = make_plan(made.study, made.work)
    write_report(made.study)
    text = visible((tmp_path / "report/index.html").read_text(encoding="utf-8"))
    assert (
        "Not finished yet: 10 trials of 10 (repeats), 10 trials of 10 (learning "
        "curve) and 2 trials of 2 (leave-one-scanner-out)"
    ) in text
    assert "Masks of 0 of 5 folds are measured" in text
    assert csv(tmp_path, "repeats").empty
    assert csv(tmp_path, "learning-curve").empty
    plain = study_at(
        tmp_path,
        datasets=[Dataset.ROI],
        heads={"use": ["image"]},
        controls={"permuted_labels": False},
    )
    write_report(plain)
    text = visible((tmp_path / "report/index.html").read_text(encoding="utf-8"))
    assert (
        "Not asked for, so that nothing here says how far the results hold for "
        "other seeds and folds (repeats), another scanner"
    ) in text
    assert "Not finished yet" not in text
    assert plan.total() == 10 + 10 + 10 + 2


@pytest.mark.usefixtures("_no_figures")
def test_another_rule_decides_in_every_table_and_the_old_votes_are_left_out(tmp_path):
    made = Synthetic(study_at(tmp_path, datasets=[Dataset.ROI]))
    made.train()
    made.test()
    write_report(made.study)
    before = {name: csv(tmp_path, name) for name in ("table2-validation", "thresholds")}
    assert "calibrate none, threshold youden" in visible(
        (tmp_path / "report/index.html").read_text(encoding="utf-8")
    )
    asked_for = study_at(
        tmp_path,
        datasets=[Dataset.ROI],
        calibrate="platt",
        threshold={"rule": "sensitivity", "sensitivity": 1},
    )
    headline = write_report(asked_for)
    after = {name: csv(tmp_path, name) for name in before}
    assert (after["table2-validation"]["sen_mean"] == 1).all()
    assert (
        after["table2-validation"]["auc_mean"].tolist()
        == before["table2-validation"]["auc_mean"].tolist()
    )
    assert (after["thresholds"]["threshold"] != before["thresholds"]["threshold"]).any()
    # By hand: sensitivity 1 is the lowest calibrated score of a malignant slice, and calibration
    # keeps the order.
    accuracies = []
    for fold in range(5):
        table = validated(made, made.specs[Dataset.ROI, BEST, Head.IMAGE, fold])
        lowest = table.loc[table["label"] == 1, "score"].min()
        accuracies.append(accuracy_score(table["label"], table["score"] >= lowest))
    assert after["table2-validation"].query("level == 'slice'")["acc_mean"].iloc[
        0
    ] == pytest.approx(np.mean(accuracies), abs=1e-5)
    text = visible((tmp_path / "report/index.html").read_text(encoding="utf-8"))
    assert "a sensitivity of at least 1" in text
    assert "Platt's logistic curve" in text
    assert any(
        "counted under another rule than the study's" in caveat for caveat in headline.caveats
    )
    assert any(
        "Calibrators were fitted on the validation folds themselves" in caveat
        for caveat in headline.caveats
    )
    assert csv(tmp_path, "table3-test")["acc"].isna().all()
    assert Place(asked_for.work).exists("test/votes.parquet")
