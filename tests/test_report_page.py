"""The report on a synthetic work directory, against independent arithmetic."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, matthews_corrcoef, roc_auc_score
from test_report_trials import HOSTILE, N_PATIENTS, Synthetic, study_at

from renal_ray.config import Folds, Heads, Training
from renal_ray.model.flops import suffix_gflops
from renal_ray.report import canvas, page, patients
from renal_ray.report.page import write_report
from renal_ray.report.render import commands, policy
from renal_ray.types import Dataset, FreezePoint, Head

PACKAGE = Path(page.__file__).resolve().parents[1]
DONE = (Dataset.ROI, Dataset.SLICE)


@pytest.fixture(scope="module", autouse=True)
def _coarse_png() -> Iterator[None]:
    """PNG at 40 dots per inch: the drawing is the same, the rendering ten times as fast."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(canvas, "PNG_DPI", 40)
        yield


@pytest.fixture
def _no_figures(monkeypatch) -> None:
    """Drawing is most of the time of a report: left out where a test asks for words and numbers
    only."""
    monkeypatch.setattr(page, "draw_all", lambda evidence: iter(()))
    monkeypatch.setattr(page.Statistics, "draw", lambda statistics: iter(()))


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Synthetic, Path, str, object]:
    """A study with two datasets trained, controlled and tested twice, a third that waits for one
    failed trial; and its report."""
    work = tmp_path_factory.mktemp("work")
    weights = tmp_path_factory.mktemp("somewhere") / "renal.weights.h5"
    weights.write_bytes(b"weights")
    made = Synthetic(
        study_at(
            work,
            datasets=[*DONE, Dataset.RBR],
            weights=str(weights),
            cohort={"manifest": str(work / "hospital" / "manifest.csv")},
        )
    )
    made.train(datasets=DONE)
    made.train(
        heads=[Head.IMAGE],
        datasets=[Dataset.RBR],
        without={(Dataset.RBR, FreezePoint.MIXED0, Head.IMAGE, 3)},
    )
    made.control(DONE)
    error = (
        'Traceback (most recent call last):\n  File "x.py", line 1\n    secret '
        f"frame\nMemoryError: /data/hospital/x.arrow {HOSTILE}\n"
    )
    made.fail(made.spec(Dataset.RBR, FreezePoint.MIXED0, Head.IMAGE, 3), error)
    made.test(openings=2, datasets=DONE)
    headline = write_report(made.study)
    return made, work, (work / "report/index.html").read_text(encoding="utf-8"), headline


def csv(work: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(work / "report/tables" / f"{name}.csv")


def visible(html: str) -> str:
    """The text of a page as a reader sees it, white space evened out."""
    words: list[str] = []

    class Reader(HTMLParser):
        hidden = 0

        def handle_starttag(self, tag, attributes):
            self.hidden += tag in ("style", "script")

        def handle_endtag(self, tag):
            self.hidden -= tag in ("style", "script")

        def handle_data(self, data):
            if not self.hidden:
                words.append(data)

    Reader().feed(html)
    return re.sub(r"\s+", " ", " ".join(words))


def fold_aucs(made: Synthetic, dataset, point, head) -> list[float]:
    """AUC of each fold straight from the files, by trial name."""
    found = []
    for folder in sorted(
        (Path(made.study.work) / "trials").glob(f"{dataset}-{point}-{head}-fold*")
    ):
        if (folder / "result.json").exists():
            table = pd.read_parquet(folder / "predictions.parquet").query("part == 'validation'")
            found.append(roc_auc_score(table["label"], table["score"]))
    return found


def test_table_1_has_the_papers_values_beside_ours(whole):
    made, _, html, _ = whole
    text = visible(html)
    benign = int((made.cohort["label"] == 0).sum())
    assert f"Number of samples (n %) {benign} ({100 * benign / N_PATIENTS:.2f})" in text
    assert "58 (30.21) 134 (69.79)" in text
    for level, printed in (
        ("endophytic", "4 (10.81) 33 (89.19)"),
        ("male", "36 (28.35) 91 (71.65)"),
    ):
        assert re.search(rf"{level} \d+ \(\d+\.\d\d\) \d+ \(\d+\.\d\d\) {re.escape(printed)}", text)
    assert re.search(
        r"Age \(mean ± SD, years\) [\d.]+ ± [\d.]+ [\d.]+ ± [\d.]+ "
        r"0\.\d{3} 62\.40 ± 13\.83 62\.22 ± 11\.57 0\.926",
        text,
    )


def test_table_2_equals_independent_arithmetic(whole):
    made, work, html, _ = whole
    table = csv(work, "table2-validation")
    assert len(table) == 3 * 4
    waiting = table.query("dataset == 'rbr'").set_index(["head", "level"])["n_folds"]
    assert waiting.to_dict() == {
        ("image", "slice"): 5,
        ("image", "patient"): 5,
        ("fc", "patient"): 0,
        ("gru", "patient"): 0,
    }
    for row in table[table["n_folds"] > 0].itertuples():
        if (row.head, row.level) == ("image", "patient"):
            continue
        aucs = fold_aucs(made, row.dataset, row.freeze_point, row.head)
        assert row.n_folds == len(aucs) == 5
        assert row.auc_mean == pytest.approx(np.mean(aucs), abs=1e-5)
        assert row.auc_sd == pytest.approx(np.std(aucs, ddof=1), abs=1e-5)
        assert f"{np.mean(aucs):.2f} ± {np.std(aucs, ddof=1):.2f}" in html
    theirs = table.query("dataset == 'roi' and head == 'gru'").iloc[0]
    assert (theirs["zhou2019_spec_mean"], theirs["zhou2019_spec_sd"]) == (0.91, 0.09)
    assert "0.91 ± 0.09" in html


def test_table_3_equals_independent_arithmetic(whole):
    made, work, _, _ = whole
    table = csv(work, "table3-test")
    assert set(table[table["n"] > 0]["dataset"]) == set(DONE)
    for row in table[table["n"] > 0].itertuples():
        votes = made.votes.query(
            "dataset == @row.dataset and head == @row.head and level == @row.level"
        )
        assert row.n == len(votes)
        assert row.acc == pytest.approx(accuracy_score(votes["label"], votes["decision"]), abs=1e-5)
        assert row.mcc == pytest.approx(
            matthews_corrcoef(votes["label"], votes["decision"]), abs=1e-5
        )
        assert row.auc == pytest.approx(roc_auc_score(votes["label"], votes["score"]), abs=1e-5)
        assert pd.isna(row.acc_lower_95) == (row.level == "slice")


def test_table_4_adds_the_folds_that_are_there(whole):
    _, work, html, _ = whole
    times = csv(work, "table4-training-minutes").set_index(["dataset", "freeze_point"])
    assert times.loc[("roi", "mixed6"), "minutes_sum"] == pytest.approx(
        (5 * 60 + 10) / 60, abs=1e-4
    )
    assert times.loc[("rbr", "mixed0"), "minutes_sum"] == pytest.approx((4 * 60 + 7) / 60, abs=1e-4)
    assert times.loc[("rbr", "mixed0"), "n_folds"] == 4
    assert times.loc[("roi", "mixed0"), "zhou2019_minutes"] == 97.3
    assert "Sums over fewer folds than planned: RBR mixed0." in visible(html)


def test_speed_is_that_of_the_trained_layers_over_the_measured_rate(whole):
    made, work, html, _ = whole
    speed = csv(work, "speed").set_index(["dataset", "freeze_point"])
    step = 3 * suffix_gflops(made.study.images.size, FreezePoint.MIXED6)
    found = speed.loc[("roi", "mixed6")]
    assert found["images_per_second"] == pytest.approx(10)
    assert found["gflops"] == pytest.approx(10 * step, rel=1e-4)
    assert found["matrix_gflops"] == pytest.approx(42)  # the mean of five folds
    assert found["achieved_over_floor"] == pytest.approx(10 * step / 42, rel=1e-4)
    assert (found["minutes_trained"], found["minutes_floor"]) == pytest.approx(
        (5 * 57 / 60, 5 * 570 * step / 42 / 60), rel=1e-4
    )
    assert pd.isna(speed.loc[("rbr", "mixed6"), "images_per_second"])
    assert "Speed: achieved over floor" in visible(html)


def test_sizes_are_counted_at_4_cm(whole):
    made, work, _, _ = whole
    sizes = csv(work, "small-and-large-masses").set_index(["dataset", "head"])
    votes = made.votes.query("dataset == 'roi' and head == 'gru'").merge(
        made.cohort[["patient_id", "max_diameter_mm"]]
    )
    small = votes[votes["max_diameter_mm"] < 40]
    assert sizes.loc[("roi", "gru"), "small_n"] == len(small)
    assert sizes.loc[("roi", "gru"), "small_acc"] == pytest.approx(
        accuracy_score(small["label"], small["decision"]), abs=1e-5
    )
    assert sizes.loc[("roi", "gru"), "large_n"] == len(votes) - len(small)


def test_selection_and_headline(whole):
    made, _, html, headline = whole
    for result in headline.datasets:
        means = {
            point: np.mean(fold_aucs(made, result.dataset, point, "image"))
            for point in ("mixed0", "mixed6")
        }
        assert result.freeze_point == max(means, key=means.get) == "mixed6"
        assert f"{means['mixed6']:.2f}" in next(
            line for line in headline.lines if line.lower().startswith(result.dataset)
        )
    assert "provisional" in visible(html)  # rbr mixed0 lacks a fold
    assert [result.provisional for result in headline.datasets] == [False, False, True]


def test_permuted_trials_never_mix(whole):
    made, work, html, headline = whole
    control = csv(work, "negative-control")
    assert len(control) == 4
    for row in control.itertuples():
        aucs = fold_aucs(
            made, row.dataset, row.freeze_point, f"image-{row.labels.replace('-', '')}"
        )
        assert row.auc_mean == pytest.approx(np.mean(aucs), abs=1e-5)
    assert control.query("dataset == 'slice'")["auc_mean"].min() > 0.99
    assert not control.query("dataset == 'slice'")["inside"].any()
    assert csv(work, "table2-validation").query("level == 'slice'")["auc_mean"].max() < 0.98
    assert any(
        "The negative control left its range on" in caveat and "Slice" in caveat
        for caveat in headline.caveats
    )
    assert "outside it: Slice 1.00, Slice 1.00" in visible(html)


def test_every_value_is_escaped_and_readable(whole):
    _, _, html, _ = whole
    assert html.count("<script") == 1
    assert re.search(r"<script>(.*?)</script>", html, re.DOTALL)[1] == (
        PACKAGE / "report/page.js"
    ).read_text(encoding="utf-8")
    text = visible(html)
    for place in (
        f"tilted {HOSTILE}",
        f"MemoryError: x.arrow {HOSTILE}",
        f"numpy {HOSTILE}",
        f"{HOSTILE}.dcm",
    ):
        assert place in text
    assert "secret frame" not in text


def test_page_names_files_and_not_where_they_lie(whole):
    made, work, html, _ = whole
    assert "Weights renal.weights.h5" in visible(html)
    assert "weights: renal.weights.h5" in html
    assert "x.arrow" in html
    written = [
        html,
        *(
            path.read_text(encoding="utf-8")
            for path in (work / "report").rglob("*")
            if path.suffix in (".csv", ".svg")
        ),
    ]
    for folder in (
        str(work),
        str(work.parent),
        str(Path(made.study.weights).parent),
        "/hospital/",
        "/data/",
    ):
        assert not any(folder in text for text in written)


def test_page_stands_alone(whole):
    _, _, html, _ = whole

    class Loads(HTMLParser):
        found: list[str] = []  # noqa: RUF012

        def handle_starttag(self, tag, attributes):
            named = dict(attributes)
            assert tag not in ("link", "iframe", "object", "img")
            assert tag != "script" or not attributes
            self.found += [
                value
                for name in ("src", "href", "xlink:href", "data", "srcset")
                if (value := named.get(name))
            ]

    reader = Loads()
    reader.feed(html)
    assert reader.found
    assert all(value.startswith(("#", "data:image/png;base64,")) for value in reader.found)
    assert not re.search(r"url\(['\"]?(?!#)|@import", html)
    ids = re.findall(r'\sid="([^"]+)"', html)
    for anchor in re.findall(r'<a href="#([^"]+)"', html):
        assert ids.count(anchor) == 1
    assert html.count("<svg") == html.count("</svg>") >= 5
    assert "<style type" not in html
    assert (
        f'content="{policy((PACKAGE / "report/page.js").read_text(encoding="utf-8"))}"'.replace(
            "'", "&#39;"
        )
        in html
    )
    assert len(html) < 15e6


def test_caveats_and_footer(whole):
    _, _, html, headline = whole
    text = visible(html)
    for sentence in (
        "1 trial failed",
        "RBR: mixed0 Image-level has 4 of 5 folds",
        "0 of other settings, data, splits or selected freeze points set aside",
        "The seal was opened 2 times",
        "not for clinical use",
        "1 patient could not be used and is quarantined",
        "re-estimated over the training images after the last epoch",
    ):
        assert sentence in text
    assert any("provisional" in caveat for caveat in headline.caveats)


def test_files_beside_the_page(whole):
    _, work, _, _ = whole
    figures = {path.name for path in (work / "report/figures").iterdir()}
    names = (
        "figure3-traces",
        "figure4-roc",
        "figure5-metrics",
        "figure6-test-roc",
        "figure7-scores",
    )
    assert figures >= {f"{name}.{kind}" for name in names for kind in ("svg", "png")}
    assert {name.removesuffix(".svg") for name in figures if name.endswith(".svg")} == {
        name.removesuffix(".png") for name in figures if name.endswith(".png")
    }
    assert all(
        (work / "report/figures" / f"{name}.png").read_bytes()[:4] == b"\x89PNG" for name in names
    )
    assert b">AUC<" in (work / "report/figures/figure4-roc.svg").read_bytes()  # text stays text


def test_same_files_give_the_same_bytes(whole):
    made, work, _, _ = whole
    before = {path: path.read_bytes() for path in (work / "report").rglob("*") if path.is_file()}
    write_report(made.study)
    assert {
        path: path.read_bytes() for path in (work / "report").rglob("*") if path.is_file()
    } == before


def test_nothing_trained_keeps_the_seal(tmp_path):
    made = Synthetic(study_at(tmp_path))
    headline = write_report(made.study)
    text = visible((tmp_path / "report/index.html").read_text(encoding="utf-8"))
    assert headline.lines == (
        "ROI: no finished image-level trial",
        "Slice: no finished image-level trial",
    )
    assert "No image-level model has finished yet" in text
    assert "The seal has not been opened" in text
    assert "sealed sealed" in text
    malignant = sum(made.splits.labels[p] for p in made.splits.training)
    assert (
        f"{malignant} malignant, "
        f"{len(made.splits.training) - malignant} benign among "
        "those not sealed"
    ) in text
    assert (
        csv(tmp_path, "split")
        .set_index("part")
        .loc["Sealed test", ["malignant", "benign"]]
        .isna()
        .all()
    )
    assert not (tmp_path / "report/figures").exists()


@pytest.mark.usefixtures("_no_figures")
def test_image_head_alone_without_a_test(tmp_path):
    study = study_at(
        tmp_path,
        heads=Heads(use=[Head.IMAGE]),
        weights="random",
        training=Training(epochs={"image": 1}, keep="best_val_auc"),
    )
    made = Synthetic(study)
    made.train(heads=[Head.IMAGE])
    headline = write_report(study)
    text = visible((tmp_path / "report/index.html").read_text(encoding="utf-8"))
    for sentence in (
        "Not in this study: FC and GRU models",
        "random weights",
        "are optimistic",
        "The sealed test has not been run",
        "Not run (controls.permuted_labels",
    ):
        assert sentence in text
    assert all(head.test is None for result in headline.datasets for head in result.heads)
    assert set(csv(tmp_path, "table2-validation")["head"]) == {"image"}


@pytest.mark.usefixtures("_no_figures")
def test_test_results_of_other_models_are_left_out(tmp_path):
    made = Synthetic(study_at(tmp_path))
    made.train()
    made.test()
    study = study_at(
        tmp_path, training=Training(epochs={"image": 4, "fc": 3, "gru": 3}, gru_units=8)
    )  # no such gru trial was trained
    headline = write_report(study)
    assert any(
        "no longer the study's are left out (ROI mixed6 GRU and Slice mixed6 GRU)" in caveat
        for caveat in headline.caveats
    )
    table = csv(tmp_path, "table3-test").set_index(["dataset", "head", "level"])
    assert pd.isna(table.loc[("roi", "gru", "patient"), "acc"])
    assert not pd.isna(table.loc[("roi", "fc", "patient"), "acc"])


@pytest.mark.usefixtures("_no_figures")
def test_fewer_folds_and_moving_statistics_are_said(tmp_path):
    training = Training(epochs={"image": 2}, bn_statistics="moving")
    study = study_at(
        tmp_path,
        folds=Folds(run=[0, 1]),
        heads=Heads(use=[Head.IMAGE]),
        training=training,
        freeze_points=[FreezePoint.MIXED6],
    )
    made = Synthetic(study)
    made.train(heads=[Head.IMAGE])
    headline = write_report(study)
    assert "Only folds 0 and 1 of 5 were to be run (folds.run)." in headline.caveats
    assert any("moving averages" in caveat for caveat in headline.caveats)
    assert csv(tmp_path, "table2-validation")["n_folds"].tolist() == [2, 2, 2, 2]
    assert not any(result.provisional for result in headline.datasets)


def test_commands_in_sentences_are_set_as_code_after_escaping():
    assert (
        commands("run `renal-ray test` on <b>`<i>`</b>")
        == "run <code>renal-ray test</code> on &lt;b&gt;<code>&lt;i&gt;</code>&lt;/b&gt;"
    )


def test_patients_are_scored_out_of_fold_and_by_vote(whole):
    made, work, html, _ = whole
    table = csv(work, "by-patient")
    roi = table.query("dataset == 'roi' and head == 'gru'").set_index("patient_id")
    assert sorted(roi.index) == sorted(made.cohort["patient_id"])
    for person in made.splits.patients:
        assert roi.loc[person.patient_id, "part"] == (
            "test" if person.role == "test" else f"fold {person.fold}"
        )
    votes = made.votes.query("dataset == 'roi' and head == 'gru'").set_index("patient_id")
    for name in ("label", "votes", "n_models", "decision"):
        assert (roi.loc[votes.index, name] == votes[name]).all()
    assert roi.loc[votes.index, "score"].to_numpy() == pytest.approx(
        votes["score"].to_numpy(), abs=1e-5
    )
    assert (table["right"] == (table["label"] == table["decision"])).all()
    for (dataset, head), one in table[table["part"] != "test"].groupby(["dataset", "head"]):
        accuracy = one.groupby("part")["right"].mean().mean()
        expected = (
            csv(work, "table2-validation")
            .set_index(["dataset", "head", "level"])
            .loc[(dataset, head, "patient"), "acc_mean"]
        )
        assert accuracy == pytest.approx(expected, abs=1e-5)
    assert set(table[table["dataset"] == "rbr"]["part"]) == {
        f"fold {k}" for k in range(5)
    }  # not tested
    person = roi.loc[min(made.splits.test)]
    assert (
        f"{person['score']:.3f} {person['votes']}/5 {'✓' if person['right'] else '✗'}"
        in visible(html)
    )


@pytest.mark.usefixtures("_no_figures")
def test_sealed_patients_are_in_no_table_before_the_test(tmp_path):
    made = Synthetic(study_at(tmp_path))
    made.train(heads=[Head.IMAGE])
    write_report(made.study)
    assert set(csv(tmp_path, "by-patient")["patient_id"]) == set(made.splits.training)
    html = (tmp_path / "report/index.html").read_text(encoding="utf-8")
    assert not any(patient in html for patient in made.splits.test)
    assert "The 12 sealed test patients are not in this table" in visible(html)


@pytest.mark.usefixtures("_no_figures")
def test_a_page_of_too_many_patients_keeps_those_misjudged_most(tmp_path, monkeypatch):
    made = Synthetic(study_at(tmp_path))
    made.train()
    monkeypatch.setattr(patients, "MOST_ROWS", 7)
    write_report(made.study)
    table = csv(tmp_path, "by-patient")
    wrong = (~table["right"]).groupby(table["patient_id"]).sum().sort_values(ascending=False)
    shown = re.search(
        r'id="by-patient".*?</figure>',
        (tmp_path / "report/index.html").read_text(encoding="utf-8"),
        re.DOTALL,
    )[0]
    missed = [int(n) for n in re.findall(r"<td>(\d+) of 6</td>", shown)]
    assert sorted(missed, reverse=True) == wrong.iloc[:7].tolist()
    assert "Of 48 patients the 7 that most models got wrong are shown" in shown


def test_trials_are_listed_once_each(whole):
    _, work, html, _ = whole
    table = csv(work, "all-trials")
    assert len(table) == table["trial_id"].nunique() == 2 * (2 + 1 + 1) * 5 + 9 + 2 * 2 * 5
    assert table["apart"].fillna("").value_counts().to_dict() == {
        "": 49,
        "permuted-0": 10,
        "permuted-1": 10,
    }
    assert table["trial_id"].iloc[0] in html
