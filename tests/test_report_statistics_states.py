"""The report's statistics of studies that are not finished, or that lack what others have: a
sentence in the place of what cannot be shown."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
from test_report_page import visible
from test_report_statistics import DATASETS, POINTS, train, with_columns
from test_report_trials import BEST, Synthetic, study_at

from renal_ray.config import Heads
from renal_ray.config import Statistics as Settings
from renal_ray.protocol.calibration import fit_calibrator
from renal_ray.report import canvas
from renal_ray.report.evidence import read_evidence
from renal_ray.report.page import write_report
from renal_ray.report.statistics.groups import groupings
from renal_ray.report.statistics.samples import Samples
from renal_ray.report.statistics.sections import Block, Statistics, statistics
from renal_ray.report.statistics.subgroups import subgroups
from renal_ray.study_file import load_study
from renal_ray.types import Dataset, Head


@pytest.fixture(scope="module", autouse=True)
def _coarse_png() -> Iterator[None]:
    """PNG at 40 dots per inch: the drawing is the same, the rendering ten times as fast."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(canvas, "PNG_DPI", 40)
        yield


def measured(made: Synthetic) -> Statistics:
    return statistics(read_evidence(made.study))


def said(blocks: list[Block]) -> str:
    return " ".join(sentence for block in blocks for sentence in block.sentences)


def table(found: Statistics, name: str) -> pd.DataFrame:
    return next(table.data for table in found.tables() if table.name == name)


def drawn(found: Statistics) -> list[str]:
    return [drawing.name for drawing in found.draw()]


def test_a_study_without_a_finished_trial_says_so(tmp_path):
    found = measured(Synthetic(study_at(tmp_path)))
    assert (
        said(found.validation_blocks())
        == "No fold has finished yet: there is nothing to compute an interval of."
    )
    assert found.test_blocks() == found.tables() == drawn(found) == []


def test_a_single_fold_has_values_and_no_interval_over_folds(tmp_path):
    made = Synthetic(study_at(tmp_path, datasets=[Dataset.ROI, Dataset.SLICE]))
    made.trial(made.spec(Dataset.ROI, BEST, Head.IMAGE, 2), skill=1.0)
    found = measured(made)
    row = table(found, "validation-intervals").query("level == 'slice'").iloc[0]
    assert set(made.splits.fold(2).validation) == set(found.scored[0].validation.patients)
    assert row["fold_auc_mean"] == pytest.approx(row["auc"])
    assert pd.isna(row["fold_auc_lower_95"])
    text = said(found.validation_blocks())
    assert "some are missing of ROI" in text
    assert "Nothing is trained yet of Slice" in text
    assert "Between datasets: nothing to compare, a single dataset has been scored." in text
    assert "figure-s3-differences" not in drawn(found)


def test_missing_folds_are_left_out_of_both_sides_of_a_comparison(tmp_path):
    made = Synthetic(
        study_at(tmp_path, datasets=[Dataset.ROI, Dataset.SLICE], heads=Heads(use=[Head.IMAGE]))
    )
    train(
        made,
        datasets=made.study.datasets,
        heads=[Head.IMAGE],
        without={(Dataset.SLICE, BEST, Head.IMAGE, 1), (Dataset.SLICE, BEST, Head.IMAGE, 3)},
    )
    found = measured(made)
    there = {patient for fold in (0, 2, 4) for patient in made.splits.fold(fold).validation}
    row = table(found, "auc-comparisons").query("family == 'datasets'").iloc[0]
    assert row["n"] == len(there)
    assert table(found, "auc-comparisons-over-folds").iloc[0]["n"] == 3
    subgroup = next(table for table in found.tables() if table.name == "subgroups")
    sizes = [row.cells for row in subgroup.rows if row.kind == "level"][:2]
    assert sum(int(cells[1]) for cells in sizes) == len(
        made.splits.training
    )  # of the dataset that has all folds
    of_slice = subgroup.data.query("dataset == 'slice' and characteristic == 'Size'")
    assert of_slice["n"].sum() == len(there)
    assert "some are missing of Slice" in said(found.validation_blocks())
    assert "figure-s6-subgroups" in drawn(found)


def test_one_dataset_one_head_one_freeze_point(tmp_path):
    made = Synthetic(
        study_at(
            tmp_path, datasets=[Dataset.ROI], freeze_points=[BEST], heads=Heads(use=[Head.IMAGE])
        )
    )
    train(made, datasets=[Dataset.ROI], heads=[Head.IMAGE])
    text = said(measured(made).validation_blocks())
    for family, why in {
        "datasets": "dataset has been scored",
        "freeze points": "freeze point has been trained",
        "heads": "kind of model has been scored",
    }.items():
        assert f"Between {family}: nothing to compare, a single {why}." in text
    assert "The test follows once the seal is opened." in text
    write_report(made.study)
    page = visible((tmp_path / "report/index.html").read_text(encoding="utf-8"))
    assert "Table S1." in page
    assert "Table S2." not in page
    assert not list((tmp_path / "report/tables").glob("auc-comparisons*"))


def test_a_cohort_without_columns_says_so(tmp_path):
    made = with_columns(
        Synthetic(study_at(tmp_path, datasets=[Dataset.ROI])),
        sex=None,
        age=None,
        location=None,
        max_diameter_mm=None,
    )
    train(made, datasets=[Dataset.ROI])
    found = measured(made)
    assert "The cohort has none of the columns to divide it by" in said(found.validation_blocks())
    assert "figure-s6-subgroups" not in drawn(found)


def test_columns_that_are_missing_or_unknown_are_named(tmp_path):
    made = Synthetic(study_at(tmp_path, datasets=[Dataset.ROI]))
    sex = made.cohort["sex"].where(np.arange(len(made.cohort)) % 4 > 0, None)
    with_columns(made, sex=sex)
    train(made, datasets=[Dataset.ROI], heads=[Head.IMAGE])
    found = measured(made)
    assert "The cohort does not give: stage, grade, histology and scanner." in said(
        found.validation_blocks()
    )
    unknown = int(sex[made.cohort["patient_id"].isin(made.splits.training)].isna().sum())
    notes = next(table for table in found.tables() if table.name == "subgroups").notes
    assert f"Not known, and in no level: sex of {unknown} patients." in notes


def test_levels_of_one_class_have_a_share_and_not_an_auc():
    samples = Samples(
        patients=np.array([f"P{n}" for n in range(8)], object),
        labels=np.array([1, 1, 1, 0, 0, 1, 0, 0]),
        scores=np.array([0.9, 0.2, 0.8, 0.4, 0.6, 0.7, 0.1, 0.3]),
        decisions=np.array([1, 0, 1, 0, 1, 1, 0, 0]),
    )
    cohort = pd.DataFrame(
        {"patient_id": samples.patients, "histology": ["a", "a", "a", "b", "b", "c", "c", None]}
    )
    (grouping,) = groupings(cohort)
    found = subgroups(samples, grouping)
    assert [(level.name, level.measure, level.estimate.value) for level in found.levels] == [
        ("a", "sen", 2 / 3),
        ("b", "spec", 0.5),
        ("c", "auc", 1.0),
    ]
    assert all(level.few for level in found.levels)
    assert (found.unknown, found.p) == (1, None)


def test_rare_values_of_a_column_stand_together():
    scanner = [f"s{n}" for n in range(20)] + ["s1"] * 5 + ["s2"] * 4
    (grouping,) = groupings(
        pd.DataFrame({"patient_id": [f"P{n}" for n in range(29)], "scanner": scanner})
    )
    assert len(grouping.levels) == 8
    assert grouping.levels[-1] == "other"
    assert grouping.level_of["P1"] == "s1"
    assert set(grouping.level_of) == {f"P{n}" for n in range(29)}


def test_bands_begin_at_their_edge():
    cohort = pd.DataFrame(
        {
            "patient_id": list("abcd"),
            "max_diameter_mm": [39.9, 40.0, None, 90.0],
            "age": [49.0, 50.0, 64.9, 65.0],
        }
    )
    size, age = groupings(cohort)
    assert size.level_of == {"a": "under 4 cm", "b": "4 cm and over", "d": "4 cm and over"}
    assert list(age.level_of.values()) == [
        "under 50 years",
        "50 to 64 years",
        "50 to 64 years",
        "65 years and over",
    ]


def test_calibration_shows_the_test_before_and_after(tmp_path):
    made = Synthetic(
        study_at(tmp_path, datasets=[Dataset.ROI], heads=Heads(use=[Head.IMAGE]), calibrate="platt")
    )
    train(made, datasets=[Dataset.ROI], heads=[Head.IMAGE])
    made.specs |= {
        (Dataset.ROI, BEST, head, fold): made.specs[Dataset.ROI, BEST, Head.IMAGE, fold]
        for head in (Head.FC, Head.GRU)
        for fold in range(5)
    }
    made.test(datasets=[Dataset.ROI])
    predictions = made.work.read_parquet("test/predictions.parquet")
    raw = (predictions["score"] ** 2).astype("float64")
    made.work.write_parquet("test/predictions.parquet", predictions.assign(raw_score=raw))
    made.work.write(
        "test/seal.jsonl",
        (
            b'{"opened": "2026", "patients": 12, "slices": 1, "models": 5, '
            b'"models_sha256": "x", "program": "p", "rule": RULE}\n'
        ).replace(b"RULE", b'{"calibrate": "platt", "threshold": "youden"}'),
    )
    found = measured(made)
    rows = table(found, "calibration").query("head == 'image'")
    assert rows["part"].tolist() == ["validation", "test-raw", "test"]
    votes = made.votes.query("head == 'image' and level == 'patient'")
    chosen = (
        predictions.assign(raw=raw)
        .query("head == 'image' and level == 'patient'")
        .groupby("patient_id")["raw"]
        .mean()
    )
    labels = pd.Series(made.splits.labels)[chosen.index]
    assert rows["brier"].tolist()[1:] == pytest.approx(
        [np.mean((chosen - labels) ** 2), np.mean((votes["score"] - votes["label"]) ** 2)]
    )
    assert "Calibrated by platt, fitted by each fold model on its own validation fold." in said(
        found.validation_blocks()
    )
    one = found.scored[1].validation
    trial = found.evidence.cell(Dataset.ROI, BEST, Head.IMAGE)[0]
    first = trial.validation.groupby("patient_id", as_index=False).agg(
        label=("label", "first"), score=("score", "mean")
    )
    uncalibrated = dict(zip(one.patients, one.scores, strict=True))
    assert [uncalibrated[patient] for patient in first["patient_id"]] == pytest.approx(
        first["score"].tolist()
    )
    decided = dict(zip(one.patients, one.decisions, strict=True))
    cut = trial.threshold("patient")
    calibrated = fit_calibrator("platt", first["label"], first["score"].astype("float64"))(
        first["score"].astype("float64")
    ).astype("float32")
    assert [decided[patient] for patient in first["patient_id"]] == (
        calibrated >= np.float32(cut)
    ).astype(int).tolist()


def test_percentile_intervals_and_few_resamples_are_the_study_files(tmp_path):
    made = Synthetic(
        study_at(
            tmp_path,
            datasets=[Dataset.ROI],
            heads=Heads(use=[Head.IMAGE]),
            statistics=Settings(bootstrap=300, interval="percentile"),
        )
    )
    train(made, datasets=[Dataset.ROI], heads=[Head.IMAGE])
    found = next(table for table in measured(made).tables() if table.name == "validation-intervals")
    assert set(found.data["mcc_method"]) == {"patient bootstrap, percentile"}
    assert "300 resamples of patients within each class, percentile" in " ".join(found.notes)


def test_study_file_takes_the_settings(tmp_path):
    file = tmp_path / "study.yaml"
    file.write_text(
        "name: a\nwork: w\ncohort: {manifest: m.csv}\nstatistics: "
        "{bootstrap: 500, interval: percentile}\n",
        encoding="utf-8",
    )
    assert load_study(file).statistics == Settings(bootstrap=500, interval="percentile")
    with pytest.raises(Exception, match=r"statistics\.bootstrap"):
        load_study(file, ["statistics.bootstrap=3"])


def test_the_same_files_give_the_same_bytes(tmp_path):
    made = Synthetic(study_at(tmp_path, datasets=DATASETS, freeze_points=POINTS))
    train(made)
    made.test()

    def written() -> dict[str, bytes]:
        write_report(made.study)
        return {
            str(file.relative_to(tmp_path)): file.read_bytes()
            for file in sorted(Path(tmp_path / "report").rglob("*"))
            if file.is_file()
        }

    first = written()
    assert first == written()
    for name in (
        "s1-forest",
        "s2-roc-and-pr",
        "s3-differences",
        "s4-calibration",
        "s5-decision-curves",
        "s6-subgroups",
        "s7-test-pr",
        "s8-test-confusion",
    ):
        assert f"report/figures/figure-{name}.svg" in first
    page = visible(first["report/index.html"].decode())
    places = [page.index(f"Table S{number}.") for number in range(1, 11)]
    assert places == sorted(places)
    assert page.index("Table 2.") < places[0] < page.index("Table 3.") < places[6]
    pooled = measured(made).scored[0].validation
    assert f"{roc_auc_score(pooled.labels, pooled.scores):.2f}" in page
