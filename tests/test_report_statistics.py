"""The numbers of the report's statistics, against scikit-learn, scipy and the protocol on the same
predictions read from the files."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest, chi2_contingency, ttest_ind, ttest_rel
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    brier_score_loss,
    confusion_matrix,
    matthews_corrcoef,
    precision_recall_curve,
    precision_score,
    recall_score,
    roc_auc_score,
)
from test_report_trials import BEST, Synthetic, study_at

from renal_ray.protocol.bootstrap import bootstrap_interval, rank_auc
from renal_ray.protocol.comparisons import blocked_lsd, holm
from renal_ray.protocol.cross_validation import corrected_mean
from renal_ray.protocol.delong import auc_interval, compare_aucs
from renal_ray.protocol.thresholds import RULES, choose_threshold
from renal_ray.report.evidence import read_evidence
from renal_ray.report.statistics.sections import Statistics, statistics
from renal_ray.trial import prepared
from renal_ray.types import Dataset, FreezePoint, Head

DATASETS = [Dataset.SLICE, Dataset.ROI, Dataset.RBR]
SKILLS = {Dataset.SLICE: 0.3, Dataset.ROI: 0.8, Dataset.RBR: 0.6}
HEAD_SKILL = {Head.IMAGE: 0.0, Head.FC: 0.7, Head.GRU: 1.0}
POINTS = [FreezePoint.MIXED0, BEST]


def train(made: Synthetic, datasets=DATASETS, heads=tuple(Head), without=()) -> None:
    """Models that are right more often than not, so that every number differs from 0 and 1."""
    for dataset in datasets:
        for head in heads:
            for point in made.study.freeze_points if head is Head.IMAGE else [BEST]:
                for fold in range(5):
                    if (dataset, point, head, fold) not in without:
                        skill = (
                            SKILLS[dataset] + HEAD_SKILL[head] - (0.25 if point is not BEST else 0)
                        )
                        made.trial(made.spec(dataset, point, head, fold), skill=skill)


def with_columns(made: Synthetic, **columns) -> Synthetic:
    """Other columns in the cohort; None takes one away."""
    kept = {name: values for name, values in columns.items() if values is not None}
    made.cohort = made.cohort.drop(
        columns=[name for name in columns if name in made.cohort]
    ).assign(**kept)
    made.work.write_parquet("cohort.parquet", made.cohort)
    prepared.declare(made.study, made.work)
    return made


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Synthetic:
    work = Synthetic(
        study_at(tmp_path_factory.mktemp("work"), datasets=DATASETS, freeze_points=POINTS)
    )
    malignant = work.cohort["label"].to_numpy(int) == 1
    stage = np.where(malignant, np.where(np.arange(len(malignant)) % 2 == 0, "I", "II"), None)
    with_columns(
        work, stage=stage, scanner=np.where(np.arange(len(malignant)) % 2 == 0, "alpha", "beta")
    )
    train(work)
    work.test()
    return work


@pytest.fixture(scope="module")
def measured(made) -> Statistics:
    return statistics(read_evidence(made.study))


@pytest.fixture(scope="module")
def tables(measured) -> dict[str, pd.DataFrame]:
    return {table.name: table.data for table in measured.tables()}


def folds(made: Synthetic, dataset, point, head, level: str) -> list[pd.DataFrame]:
    """Validation predictions of each fold straight from the files, decided at Youden's threshold of
    that fold."""
    found = []
    for folder in sorted(
        (Path(made.study.work) / "trials").glob(f"{dataset}-{point}-{head}-fold*")
    ):
        table = (
            pd.read_parquet(folder / "predictions.parquet")
            .query("part == 'validation'")
            .astype({"score": "float64"})
        )
        if head == "image" and level == "patient":
            table = (
                table.astype({"score": "float32"})
                .groupby("patient_id", as_index=False)
                .agg(label=("label", "first"), score=("score", "mean"))
            )
            table = table.astype({"score": "float64"})
        found.append(
            table.assign(
                decision=table["score"]
                >= choose_threshold("youden", table["label"], table["score"])
            )
        )
    return found


def pooled(made: Synthetic, dataset, point, head, level: str) -> pd.DataFrame:
    return pd.concat(folds(made, dataset, point, head, level)).sort_values(
        "patient_id", kind="stable", ignore_index=True
    )


CELLS = [
    ("roi", "image", "slice"),
    ("roi", "image", "patient"),
    ("slice", "fc", "patient"),
    ("rbr", "gru", "patient"),
]


@pytest.mark.parametrize(("dataset", "head", "level"), CELLS)
def test_pooled_values_are_those_of_scikit_learn(made, tables, dataset, head, level):
    row = (
        tables["validation-intervals"]
        .set_index(["dataset", "head", "level"])
        .loc[(dataset, head, level)]
    )
    truth = pooled(made, dataset, BEST, head, level)
    label, called = truth["label"], truth["decision"]
    assert (row["n"], row["n_patients"], row["n_malignant"]) == (
        len(truth),
        truth["patient_id"].nunique(),
        label.sum(),
    )
    assert (row["tp"], row["fn"], row["fp"], row["tn"]) == tuple(
        confusion_matrix(label, called)[i, j] for i, j in ((1, 1), (1, 0), (0, 1), (0, 0))
    )
    expected = {
        "auc": roc_auc_score(label, truth["score"]),
        "sen": recall_score(label, called),
        "spec": recall_score(label, called, pos_label=0),
        "ppv": precision_score(label, called),
        "npv": precision_score(label, called, pos_label=0),
        "mcc": matthews_corrcoef(label, called),
    }
    for name, value in expected.items():
        assert row[name] == pytest.approx(value), name
        assert row[f"{name}_lower_95"] < value < row[f"{name}_upper_95"], name


@pytest.mark.parametrize(("dataset", "head", "level"), CELLS)
def test_auc_intervals_are_delongs_per_patient_and_clustered_per_slice(
    made, tables, dataset, head, level
):
    row = (
        tables["validation-intervals"]
        .set_index(["dataset", "head", "level"])
        .loc[(dataset, head, level)]
    )
    truth = pooled(made, dataset, BEST, head, level)
    if level == "patient":
        found = auc_interval(truth["label"], truth["score"])
        assert (row["auc_lower_95"], row["auc_upper_95"]) == pytest.approx(
            (found.lower, found.upper)
        )
        return
    drawn = bootstrap_interval(
        rank_auc, truth["label"], truth["score"], patients=truth["patient_id"], n=2000, seed=4
    )
    assert (row["auc_lower_95"], row["auc_upper_95"]) == (
        pytest.approx(drawn.lower, abs=0.02),
        pytest.approx(drawn.upper, abs=0.02),
    )
    assert row["auc_method"] == "patient bootstrap, BCa"


def test_mean_over_folds_has_the_corrected_interval(made, tables):
    row = (
        tables["validation-intervals"]
        .set_index(["dataset", "head", "level"])
        .loc[("roi", "image", "slice")]
    )
    aucs = [
        roc_auc_score(fold["label"], fold["score"])
        for fold in folds(made, "roi", BEST, "image", "slice")
    ]
    sides = [made.splits.fold(k) for k in range(5)]
    found = corrected_mean(
        aucs, [len(side.train) for side in sides], [len(side.validation) for side in sides]
    )
    assert row["fold_auc_mean"] == pytest.approx(np.mean(aucs))
    assert (row["fold_auc_lower_95"], row["fold_auc_upper_95"]) == pytest.approx(
        (max(0, found.lower), min(1, found.upper))
    )
    assert row["fold_auc_corrected_se"] > np.std(aucs, ddof=1) / np.sqrt(5)


def test_the_tests_proportions_have_wilsons_interval(made, tables):
    found = tables["test-intervals"]
    per_patient = found[found["level"] == "patient"]
    assert (
        per_patient["acc"] < 1
    ).any()  # where every decision is right, Wilson's interval stands in validation too
    for row in per_patient.itertuples():
        votes = made.votes.query(
            "dataset == @row.dataset and head == @row.head and level == 'patient'"
        )
        right = int((votes["label"] == votes["decision"]).sum())
        expected = binomtest(right, len(votes)).proportion_ci(method="wilson")
        assert (row.n, row.acc) == (len(votes), pytest.approx(right / len(votes)))
        assert (row.acc_lower_95, row.acc_upper_95) == pytest.approx(
            (expected.low, expected.high), abs=1e-6
        )
        assert row.acc_method == row.sen_method == "Wilson"
    assert not (found[found["level"] == "slice"]["acc_method"] == "Wilson").any()


def test_comparisons_are_paired_by_patient(made, tables):
    found = tables["auc-comparisons"]
    assert found.groupby("family").size().to_dict() == {
        "datasets": 9,
        "freeze points": 3,
        "heads": 9,
    }
    for row in found.itertuples():
        first = pooled(made, row.first_dataset, row.first_freeze_point, row.first_head, "patient")
        second = pooled(
            made, row.second_dataset, row.second_freeze_point, row.second_head, "patient"
        )
        both = first.merge(second, on=["patient_id", "label"], validate="one_to_one")
        expected = compare_aucs(both["label"], both["score_x"], both["score_y"])
        assert (row.n, row.difference, row.p) == (
            len(both),
            pytest.approx(expected.difference),
            pytest.approx(expected.p),
        )
        assert (row.difference_lower_95, row.difference_upper_95) == pytest.approx(
            (expected.lower, expected.upper)
        )
    for _, family in found.groupby("family"):
        assert family["p_holm"].tolist() == pytest.approx(holm(family["p"].tolist()))
        assert (family["p_holm"] >= family["p"]).all()


def test_the_papers_comparison_is_the_plain_t_test_beside_its_p_values(made, tables):
    found = tables["auc-comparisons-over-folds"].set_index(
        ["first_dataset", "second_dataset", "over"]
    )
    for (first, second), theirs in {
        ("roi", "slice"): 0.001,
        ("rbr", "slice"): 0.008,
        ("roi", "rbr"): 0.101,
    }.items():
        a, b = (
            [
                roc_auc_score(f["label"], f["score"])
                for f in folds(made, dataset, BEST, "image", "slice")
            ]
            for dataset in (first, second)
        )
        row = found.loc[(first, second, "folds")]
        assert row["p_paired_t"] == pytest.approx(ttest_rel(a, b).pvalue)
        assert row["p_welch"] == pytest.approx(ttest_ind(a, b, equal_var=False).pvalue)
        assert row["p_corrected"] > row["p_paired_t"]
        values = {
            str(d): [
                roc_auc_score(f["label"], f["score"])
                for f in folds(made, d, BEST, "image", "slice")
            ]
            for d in ("roi", "rbr", "slice")
        }
        assert row["p_lsd"] == pytest.approx(blocked_lsd(values)[first, second].p)
        assert row["zhou2019_p"] == theirs
        assert (row["n"], found.loc[(first, second, "freeze points"), "n"]) == (5, 2)


def test_votes_are_compared_by_mcnemar(made, tables):
    found = tables["vote-comparisons"]
    assert found.groupby("family").size().to_dict() == {"datasets": 9, "heads": 9}
    per_patient = made.votes.query("level == 'patient'").assign(
        right=lambda votes: votes["label"] == votes["decision"]
    )
    for row in found.itertuples():
        first, second = (
            per_patient[
                (per_patient["dataset"] == dataset) & (per_patient["head"] == head)
            ].set_index("patient_id")["right"]
            for dataset, head in (
                (row.first_dataset, row.first_head),
                (row.second_dataset, row.second_head),
            )
        )
        alone = int((first & ~second).sum()), int((~first & second).sum())
        assert (row.first_alone, row.second_alone) == alone
        assert row.difference == pytest.approx(first.mean() - second.mean())
        assert row.p == pytest.approx(binomtest(alone[0], sum(alone)).pvalue if sum(alone) else 1.0)
        assert row.difference_lower_95 <= row.difference <= row.difference_upper_95


@pytest.mark.parametrize("head", ["image", "fc"])
def test_calibration_is_that_of_scikit_learn(made, tables, head):
    rows = tables["calibration"].set_index(["dataset", "head", "part"])
    truth = pooled(made, "rbr", BEST, head, "patient")
    row = rows.loc[("rbr", head, "validation")]
    assert row["brier"] == pytest.approx(brier_score_loss(truth["label"], truth["score"]))
    logit = np.log(truth["score"] / (1 - truth["score"])).to_numpy()[:, None]
    line = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(logit, truth["label"])
    assert (row["slope"], row["intercept"]) == pytest.approx(
        (line.coef_[0, 0], line.intercept_[0]), abs=1e-4
    )
    votes = made.votes.query("dataset == 'rbr' and head == @head and level == 'patient'")
    assert rows.loc[("rbr", head, "test"), "brier"] == pytest.approx(
        brier_score_loss(votes["label"], votes["score"])
    )


def test_decision_curve_and_reliability_points(made, tables):
    truth = pooled(made, "roi", BEST, "gru", "patient")
    curve = (
        tables["decision-curves"]
        .query("dataset == 'roi' and head == 'gru' and part == 'validation'")
        .set_index("threshold_probability")
    )
    at = curve.loc[0.5]
    called = truth["score"] >= 0.5
    assert at["net_benefit"] == pytest.approx(
        ((called & (truth["label"] == 1)).sum() - (called & (truth["label"] == 0)).sum())
        / len(truth)
    )
    assert (at["treat_all"], at["treat_none"]) == (pytest.approx(2 * truth["label"].mean() - 1), 0)
    points = tables["reliability"].query(
        "dataset == 'roi' and head == 'gru' and part == 'validation'"
    )
    assert points["n"].sum() == len(truth)
    assert (points["n"] * points["observed"]).sum() == pytest.approx(truth["label"].sum())


def test_precision_recall_points_are_scikit_learns(made, tables):
    votes = made.votes.query("dataset == 'slice' and head == 'fc' and level == 'patient'")
    points = tables["roc-and-pr-points"].query(
        "dataset == 'slice' and head == 'fc' and part == 'test' and curve == 'precision-recall'"
    )
    precision, recall, _ = precision_recall_curve(votes["label"], votes["score"])
    assert points["x"].to_numpy() == pytest.approx(recall[::-1])
    assert points["y"].to_numpy() == pytest.approx(precision[::-1])


def test_rules_fix_thresholds_on_validation_and_vote_anew(made, tables):
    found = tables["thresholds-by-rule"].query("dataset == 'slice' and head == 'fc'")
    predictions = pd.read_parquet(Path(made.study.work) / "test/predictions.parquet").query(
        "dataset == 'slice' and head == 'fc'"
    )
    assert set(found["rule"]) == set(RULES)
    assert (
        found.query("part == 'validation'").groupby("fold")["threshold"].nunique().max() > 2
    )  # or the rules could not be told apart
    assert set(found.query("used")["rule"]) == {"youden"}
    for rule in RULES:
        votes = pd.Series(0, index=sorted(made.splits.test))
        for k, fold in enumerate(folds(made, "slice", BEST, "fc", "patient")):
            threshold = choose_threshold(rule, fold["label"], fold["score"])
            row = found.query("rule == @rule and part == 'validation' and fold == @k").iloc[0]
            assert row["threshold"] == threshold
            assert row["sen"] == pytest.approx(
                recall_score(fold["label"], fold["score"] >= threshold)
            )
            said = predictions[predictions["fold"] == k].set_index("patient_id")["score"]
            votes += (said >= threshold).astype(int)
        truth = pd.Series(made.splits.labels)[votes.index]
        row = found.query("rule == @rule and part == 'test'").iloc[0]
        assert row["acc"] == pytest.approx(((votes >= 3).astype(int) == truth).mean())
    assert (found.query("rule == 'sensitivity' and part == 'validation'")["sen"] >= 0.95).all()


def test_subgroups_of_both_classes_and_of_one(made, tables):
    found = (
        tables["subgroups"]
        .query("dataset == 'slice' and head == 'fc'")
        .set_index(["characteristic", "subgroup"])
    )
    truth = pooled(made, "slice", BEST, "fc", "patient").merge(
        made.cohort.drop(columns="label"), on="patient_id"
    )
    women = truth[truth["sex"] == "female"]
    row = found.loc[("Sex", "female")]
    assert (row["n"], row["n_malignant"], row["measure"]) == (
        len(women),
        women["label"].sum(),
        "auc",
    )
    assert row["value"] == pytest.approx(roc_auc_score(women["label"], women["score"]))
    small = truth[truth["max_diameter_mm"] < 40]
    assert found.loc[("Size", "under 4 cm"), "n"] == len(small)
    assert found.loc[("Age", "65 years and over"), "n"] == (truth["age"] >= 65).sum()
    assert (
        found.loc[("Age", "50 to 64 years"), "n"]
        == ((truth["age"] >= 50) & (truth["age"] < 65)).sum()
    )
    staged = truth[truth["stage"].notna()]
    first = staged[staged["stage"] == "I"]
    row = found.loc[("Stage", "I")]
    assert (row["measure"], row["value"]) == ("sen", pytest.approx(first["decision"].mean()))
    counts = pd.crosstab(staged["stage"], staged["decision"])
    assert row["p_interaction"] == pytest.approx(chi2_contingency(counts, correction=False).pvalue)
    expected = binomtest(int(first["decision"].sum()), len(first)).proportion_ci(method="wilson")
    assert (row["value_lower_95"], row["value_upper_95"]) == pytest.approx(
        (expected.low, expected.high), abs=1e-6
    )


def test_subgroups_too_small_to_say_are_marked(tables):
    found = tables["subgroups"]
    of_auc = found[found["measure"] == "auc"]
    few = np.minimum(of_auc["n_malignant"], of_auc["n"] - of_auc["n_malignant"]) < 10
    assert (of_auc["too_few"] == few).all()
    assert few.any()
    assert not few.all()


def test_agreement_is_counted_over_all_pairs_of_voters(made, tables):
    predictions = pd.read_parquet(Path(made.study.work) / "test/predictions.parquet")
    for row in tables["voter-agreement"].itertuples():
        chosen = (
            (predictions["dataset"] == row.dataset)
            & (predictions["head"] == row.head)
            & (predictions["level"] == "patient")
        )
        said = predictions[chosen].pivot(index="patient_id", columns="fold", values="decision")
        pairs = [(said[a] == said[b]).mean() for a in said for b in said if a < b]
        assert row.pairwise_mean == pytest.approx(np.mean(pairs))
        assert (row.pairwise_min, row.pairwise_max) == pytest.approx((min(pairs), max(pairs)))
        assert row.agree_fold1_fold3 == pytest.approx((said[1] == said[3]).mean())
        assert row.unanimous == (said.nunique(axis=1) == 1).sum()
        malignant = said.to_numpy().mean()
        chance = malignant**2 + (1 - malignant) ** 2
        assert row.fleiss_kappa == pytest.approx((np.mean(pairs) - chance) / (1 - chance))


def test_scores_by_patient_are_those_of_the_files(made, tables):
    found = (
        tables["test-scores-by-patient"]
        .query("dataset == 'roi' and head == 'fc'")
        .set_index("patient_id")
    )
    predictions = pd.read_parquet(Path(made.study.work) / "test/predictions.parquet").query(
        "dataset == 'roi' and head == 'fc'"
    )
    for row in predictions.itertuples():
        assert found.loc[row.patient_id, f"score_fold{row.fold}"] == pytest.approx(row.score)
    votes = made.votes.query("dataset == 'roi' and head == 'fc'").set_index("patient_id")
    assert (found["vote"] == votes["decision"]).all()
    assert found["mean_score"].to_numpy() == pytest.approx(votes["score"].to_numpy())
