"""Studies side by side, against arithmetic on their files."""

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score
from test_report_page import visible
from test_report_trials import Synthetic, study_at
from typer.testing import CliRunner

from renal_ray.cli import app
from renal_ray.config import Training
from renal_ray.problems import StudyError
from renal_ray.protocol.delong import compare_aucs
from renal_ray.protocol.splits import PatientRole, SplitSet
from renal_ray.report.compare.page import write_comparison
from renal_ray.report.compare.patients import overlaps, same, warnings
from renal_ray.report.compare.studies import Compared
from renal_ray.store.place import Place
from renal_ray.types import Head


def made_at(work: Path, *, seed: int = 1, **changes) -> Synthetic:
    made = Synthetic(study_at(work, **changes), seed=seed)
    made.train()
    made.test()
    return made


@pytest.fixture(scope="module")
def compared(tmp_path_factory) -> tuple[Synthetic, Synthetic, Path, str, object]:
    """Two studies of the same patients on the same sides, with other learning rates; the second's
    scores and votes are its own."""
    folder = tmp_path_factory.mktemp("compared")
    first = made_at(folder / "first", name="first")
    second = Synthetic(
        study_at(
            folder / "second",
            name="second",
            training=Training(epochs={"image": 4, "fc": 3, "gru": 3}, learning_rate=0.1),
        )
    )
    second.rng = np.random.default_rng(7)
    second.train()
    second.test()
    said = write_comparison([first.study, second.study], Place(str(folder)), "both.html")
    return first, second, folder, (folder / "both.html").read_text(encoding="utf-8"), said


def csv(folder: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(folder / "both.tables" / f"{name}.csv")


def out_of_fold(made: Synthetic, dataset: str, head: str) -> pd.DataFrame:
    """Patient scores of the models that had not seen the patient, from the trials' own files."""
    folders = sorted((Path(made.study.work) / "trials").glob(f"{dataset}-mixed6-{head}-fold*"))
    tables = [
        pd.read_parquet(folder / "predictions.parquet").query("part == 'validation'")
        for folder in folders
    ]
    assert len(tables) == 5
    return (
        pd.concat(tables)
        .groupby("patient_id")
        .agg(label=("label", "first"), score=("score", "mean"))
    )


def test_only_settings_that_differ_are_shown(compared):
    _, _, folder, html, _ = compared
    table = csv(folder, "settings").set_index("setting")
    assert table.index.tolist() == ["training.learning_rate"]
    assert table.loc["training.learning_rate"].astype(float).tolist() == [0.01, 0.1]
    assert "training.momentum" not in html


def test_the_same_patients_are_said_to_be_the_same(compared):
    *_, html, said = compared
    assert said.warnings == ()
    assert (
        said.same == "All studies have the same 60 patients, the same 12 sealed and the same folds."
    )
    assert said.same in visible(html)
    assert 'role="alert"' not in html


def test_paired_tests_of_aucs_equal_those_on_the_files(compared):
    first, second, folder, _, _ = compared
    tests = csv(folder, "paired-tests").query("family == 'validation'")
    assert set(zip(tests["dataset"], tests["head"], strict=True)) == {
        (d, str(h)) for d in ("roi", "slice") for h in Head
    }
    for row in tests.itertuples():
        both = out_of_fold(first, row.dataset, row.head).join(
            out_of_fold(second, row.dataset, row.head), suffixes=("", "_b")
        )
        assert row.n == len(both) == 48
        assert row.value_first == pytest.approx(
            roc_auc_score(both["label"], both["score"]), abs=1e-5
        )
        assert row.value_second == pytest.approx(
            roc_auc_score(both["label"], both["score_b"]), abs=1e-5
        )
        expected = compare_aucs(both["label"], both["score"], both["score_b"])
        assert (row.difference, row.difference_lower_95, row.p) == pytest.approx(
            (expected.difference, expected.lower, expected.p), abs=1e-5
        )
    order = tests["p"].to_numpy().argsort()
    holm = np.maximum.accumulate(
        [min(1, (len(order) - k) * tests["p"].to_numpy()[place]) for k, place in enumerate(order)]
    )
    assert tests["p_holm"].to_numpy()[order] == pytest.approx(holm, abs=1e-5)


def test_paired_tests_of_votes_equal_the_binomial_test(compared):
    first, second, folder, _, _ = compared
    tests = csv(folder, "paired-tests").query("family == 'votes'")
    assert len(tests) == 6
    keys = ["dataset", "head", "patient_id"]
    both = first.votes.query("level == 'patient'").merge(
        second.votes.query("level == 'patient'"), on=keys, suffixes=("_a", "_b")
    )
    for row in tests.itertuples():
        one = both[(both["dataset"] == row.dataset) & (both["head"] == row.head)]
        a, b = one["decision_a"] == one["label_a"], one["decision_b"] == one["label_b"]
        differ = int((a != b).sum())
        assert row.p == pytest.approx(
            binomtest(int((a & ~b).sum()), differ).pvalue if differ else 1.0, abs=1e-5
        )
        assert row.difference == pytest.approx(a.mean() - b.mean(), abs=1e-5)


def test_tables_beside_each_other_have_both_studies(compared):
    first, second, folder, _, _ = compared
    validation = (
        csv(folder, "validation")
        .query("level == 'patient'")
        .set_index(["study", "dataset", "head"])
    )
    for made, name in ((first, "A first"), (second, "B second")):
        scores = out_of_fold(made, "roi", "gru")
        assert validation.loc[(name, "roi", "gru"), "auc_oof"] == pytest.approx(
            roc_auc_score(scores["label"], scores["score"]), abs=1e-5
        )
        assert validation.loc[(name, "roi", "gru"), "n_folds"] == 5
    test = csv(folder, "test").set_index(["study", "dataset", "head"])
    votes = second.votes.query("dataset == 'roi' and head == 'fc'")
    assert test.loc[("B second", "roi", "fc"), "acc"] == pytest.approx(
        (votes["decision"] == votes["label"]).mean(), abs=1e-5
    )
    times = csv(folder, "training-minutes").set_index(["study", "dataset", "freeze_point", "head"])
    assert times.loc[("A first", "roi", "mixed6", "image"), "minutes"] == pytest.approx(
        (5 * 60 + 10) / 60, abs=1e-4
    )


def test_the_page_stands_alone_and_names_no_machine(compared):
    first, _, folder, html, _ = compared
    assert html.count("<script") == 1
    assert all(value.startswith("#") for value in re.findall(r'\b(?:src|href)="([^"]+)"', html))
    ids = re.findall(r'\sid="([^"]+)"', html)
    assert all(ids.count(anchor) == 1 for anchor in re.findall(r'<a href="#([^"]+)"', html))
    assert str(folder) not in html
    assert str(first.study.work) not in html


def test_same_files_give_the_same_bytes(compared):
    first, second, folder, _, _ = compared
    before = {path: path.read_bytes() for path in folder.rglob("both*/*") if path.is_file()} | {
        folder / "both.html": (folder / "both.html").read_bytes()
    }
    write_comparison([first.study, second.study], Place(str(folder)), "both.html")
    assert {path: path.read_bytes() for path in before} == before


def test_other_sealed_patients_are_said_loudly(tmp_path):
    source = {"cohort": {"manifest": str(tmp_path / "manifest.csv")}}
    first, third = (
        made_at(tmp_path / "first", name="first", **source),
        made_at(tmp_path / "third", name="third", seed=3, **source),
    )
    assert (
        first.cohort["label"].tolist() != third.cohort["label"].tolist()
    )  # another seed: the same ids, other labels, another split
    result = CliRunner().invoke(
        app, ["compare", first.study.work, third.study.work, "-o", str(tmp_path / "both.html")]
    )
    assert result.exit_code == 0, result.output
    sealed = first.splits.test & third.splits.test
    crossed = len(first.splits.test ^ third.splits.test)
    assert (
        f"WARNING: A and B do not have the same sealed patients: {len(sealed)} "
        f"are sealed in both; {crossed} patients sealed in one"
    ) in result.output
    labels = {
        patient: (first.splits.labels[patient], third.splits.labels[patient])
        for patient in first.splits.labels
    }
    assert (
        f"{sum(a != b for a, b in labels.values())} common patients another label" in result.output
    )
    html = (tmp_path / "both.html").read_text(encoding="utf-8")
    assert 'role="alert"' in html
    assert "cannot simply be set side by side" in html
    tests = csv(tmp_path, "paired-tests")
    alike = {patient for patient, (a, b) in labels.items() if a == b}
    assert set(tests.query("family == 'validation'")["n"]) == {
        len(alike - first.splits.test - third.splits.test)
    }
    assert set(tests.query("family == 'test'")["n"]) == {len(alike & sealed)}


def fake(letter: str, roles: str, labels: str, *, opened: bool = True) -> Compared:
    """A study of patients a, b, c, ...: in each place the fold, t for sealed or a blank for
    somebody who is not in it."""
    people = tuple(
        PatientRole(
            name,
            role="test" if role == "t" else "train",
            fold=None if role == "t" else int(role),
            n_images=1,
            label=int(label),
        )
        for name, role, label in zip("abcdefghij", roles, labels, strict=False)
        if role != " "
    )
    evidence = SimpleNamespace(
        study=SimpleNamespace(name="s", datasets=[]),
        splits=SplitSet(1, "approximate", people),
        test=SimpleNamespace(opened=opened),
        trials=SimpleNamespace(true=()),
    )
    return Compared(letter, evidence)


def test_overlaps_by_hand():
    (one,) = overlaps([fake("A", "0011tt ", "0101010"), fake("B", "11001tt", "0101110")])
    assert (len(one.both), one.only_a, one.only_b) == (6, 0, 1)
    assert one.sealed == {"f"}
    assert one.crossed == 1  # e
    assert one.relabelled == 1  # e
    assert one.same_folds  # a, b and c, d, whatever the numbers of the folds
    assert not one.same_test
    said = " ".join(warnings([one]))
    assert "6 in both, 0 only in A, 1 only in B" in said
    assert "1 are sealed in both; 1 patient sealed in one was trained on in the other" in said
    assert same([one]) == ""


def test_sealed_labels_are_not_told_by_comparison():
    (one,) = overlaps([fake("A", "0011tt", "010101", opened=False), fake("B", "0011tt", "010110")])
    assert one.relabelled == 0
    (one,) = overlaps([fake("A", "0011tt", "010101"), fake("B", "0101tt", "010110")])
    assert one.relabelled == 2
    assert not one.same_folds
    assert "another label" in " ".join(warnings([one]))


def test_nobody_in_common():
    (one,) = overlaps([fake("A", "01t", "010"), fake("B", "   01t", "010010")])
    assert list(warnings([one])) == [
        (
            "A and B have no patient in common: their numbers differ by the "
            "patients too, and nothing can be tested in pairs."
        )
    ]


def test_what_cannot_be_compared_is_refused(tmp_path):
    made = Synthetic(study_at(tmp_path / "work"))
    runner = CliRunner()
    for arguments, message in (
        ([made.study.work], "1 work directories given; give two"),
        ([made.study.work, made.study.work], "is given twice"),
        ([made.study.work, f"{made.study.work}/"], "is given twice"),
        ([made.study.work, f"{made.study.work}/../work"], "is given twice"),
        ([made.study.work, str(tmp_path / "nowhere")], "nowhere"),
        ([made.study.work, made.study.work, "-o", str(tmp_path / "page.pdf")], "ends in .html"),
    ):
        result = runner.invoke(app, ["compare", *arguments])
        assert result.exit_code == 2
        assert message in result.output
    with pytest.raises(StudyError, match="prepare"):
        write_comparison(
            [made.study, study_at(tmp_path / "empty")], Place(str(tmp_path)), "both.html"
        )


def test_studies_without_a_test_say_why(tmp_path):
    first, second = (
        Synthetic(study_at(tmp_path / "a", name="first")),
        Synthetic(study_at(tmp_path / "b", name="second")),
    )
    first.train(heads=[Head.IMAGE])
    write_comparison([first.study, second.study], Place(str(tmp_path)), "both.html")
    text = visible((tmp_path / "both.html").read_text(encoding="utf-8"))
    assert "A first is not in this table: its seal is closed." in text
    assert "No model of one study scored a patient" in text
    assert "No setting differs." in text
    assert csv(tmp_path, "cohorts")["malignant"].tolist() == [
        sum(made.splits.labels[p] for p in made.splits.training) for made in (first, second)
    ]
