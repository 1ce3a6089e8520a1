"""test --cohort: a seal of its own, the study's models and rules, and what must not be an external
patient."""

import json
import shutil
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pytest
import yaml
from click.testing import Result
from conftest import SmallWork
from sklearn.metrics import brier_score_loss, matthews_corrcoef, recall_score, roc_auc_score
from typer.testing import CliRunner

from renal_ray.apply.case import Case
from renal_ray.apply.chosen import choose, open_run
from renal_ray.apply.external.cohort import read_external
from renal_ray.apply.external.numbers import results
from renal_ray.apply.reading import read_case
from renal_ray.apply.voters import vote
from renal_ray.cli import app
from renal_ray.cohort.manifest import read_manifest
from renal_ray.config import Statistics
from renal_ray.problems import StudyError
from renal_ray.protocol.calibration import expected_calibration_error
from renal_ray.report.statistics.estimates import BOOTSTRAP, estimates
from renal_ray.report.statistics.samples import samples_of
from renal_ray.store.place import Place
from renal_ray.store.seal import open_seal
from renal_ray.study_file import load_external
from renal_ray.trial.plan import finished_results, make_plan
from renal_ray.trial.subjects import voters
from renal_ray.types import Dataset, Head

N = 6


def external(work: Path, *arguments: object) -> Result:
    return CliRunner().invoke(app, ["test", str(work), *map(str, arguments), "--workers", "1"])


@pytest.fixture(scope="module")
def manifest(phantom_manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six phantoms of both kinds, one more without its image, one more without a label."""
    table = read_manifest(phantom_manifest).sort_values("label", kind="stable")
    table = pd.concat([table.head(N // 2 + 1), table.tail(N // 2 + 1)]).reset_index(drop=True)
    table["patient_id"] = [f"X{k}" for k in range(len(table))]
    table.loc[0, "image"] = str(Path(table.loc[0, "image"]).with_name("nowhere"))
    table.loc[len(table) - 1, "label"] = pd.NA
    path = tmp_path_factory.mktemp("elsewhere") / "elsewhere.csv"
    table.to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def tested(finished: SmallWork, manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the external cohort in a copy of the study's work directory."""
    work = tmp_path_factory.mktemp("study") / "work"
    shutil.copytree(finished.work.path(), work)
    _move(work)
    # The study's own fingerprints: as if its patient P000 had the image of X1, and a sealed one
    # that of X2.
    from renal_ray.imaging.patient import read_patient

    table = read_manifest(manifest)
    prints = [
        sorted(
            read_patient(
                Path(row.image),
                Path(row.mask),
                cohort=finished.study.cohort,
                selection=finished.study.selection,
            ).fingerprint
        )
        for row in table.iloc[1:3].itertuples()
    ]
    owners = [sorted(finished.splits.training)[0], sorted(finished.splits.test)[0]]
    Place(str(work)).write_checked_json(
        "slices/shards/shard-00000.json", {"fingerprints": dict(zip(owners, prints, strict=True))}
    )
    refused = external(work, "--cohort", manifest)
    assert refused.exit_code == 2, refused.output
    assert (
        "elsewhere: 1 of its patients share an image with sealed test "
        "patients of the study, whose seal is closed"
    ) in refused.stderr
    assert not (work / "external/elsewhere/seal.jsonl").exists()
    open_the_seal(Place(str(work)), finished)
    done = external(work, "--cohort", manifest)
    assert done.exit_code == 0, done.output
    assert (
        f"opened the seal of elsewhere: 6 models voted on {N} patients; 2 left out" in done.output
    )
    assert "warning: 2 patients share an image with the study's own" in done.output
    assert "roi image: AUC" in done.output
    return work / "external" / "elsewhere"


def open_the_seal(work: Place, finished: SmallWork) -> None:
    """As `renal-ray test` leaves the work directory, so far as others ask."""
    plan = make_plan(finished.study.model_copy(update={"work": work.uri}), work)
    open_seal(work, patients=1, slices=1, models=voters(plan, finished_results(work)))
    work.write_parquet("test/votes.parquet", pd.DataFrame())


def _move(work: Path) -> None:
    raw = yaml.safe_load((work / "study.yaml").read_text(encoding="utf-8"))
    raw["work"] = str(work)
    (work / "study.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")


def openings(folder: Path) -> list[dict]:
    return [
        json.loads(line)
        for line in (folder / "seal.jsonl").read_text(encoding="utf-8").splitlines()
    ]


def test_what_is_written(tested: Path, finished: SmallWork) -> None:
    assert {path.name for path in tested.iterdir()} == {
        "cohort.parquet",
        "cohort.yaml",
        "predictions.parquet",
        "quarantine.csv",
        "report",
        "seal.jsonl",
        "slices",
        "votes.parquet",
    }
    (opening,) = openings(tested)
    assert (opening["patients"], opening["models"], opening["rule"]) == (
        N,
        6,
        {"calibrate": "none", "threshold": "youden"},
    )
    quarantine = pd.read_csv(tested / "quarantine.csv")
    left_out = quarantine[quarantine["severity"] == "error"]
    assert left_out[["patient_id", "code"]].to_numpy().tolist() == [
        ["X0", "file-missing"],
        ["X7", "label-missing"],
    ]
    same = quarantine[quarantine["code"] == "same-pixels"].set_index("patient_id")["message"]
    assert "a training patient" in same["X1"]
    assert "a sealed test patient" in same["X2"]
    assert set(pd.read_parquet(tested / "cohort.parquet")["patient_id"]) == {
        f"X{k}" for k in range(1, N + 1)
    }
    assert (
        len((tested.parent.parent / "test/seal.jsonl").read_text(encoding="utf-8").splitlines())
        == 1
    )  # nothing was added to the study's own


def test_predictions_are_those_of_the_study_models(
    tested: Path, finished: SmallWork, manifest: Path
) -> None:
    predictions = pd.read_parquet(tested / "predictions.parquet")
    table = read_manifest(manifest).set_index("patient_id")
    for head in Head:
        chosen = choose(open_run(finished.study, finished.work), head=head)
        rows = predictions[
            (predictions["head"] == head) & (predictions["level"] == "patient")
        ].set_index(["trial_id", "patient_id"])
        seen = [
            read_case(
                Case(one, Path(table.loc[one, "image"]), Path(table.loc[one, "mask"])),
                finished.study,
                Dataset.ROI,
            )
            for one in ("X1", "X6")
        ]
        for one, said in zip(
            seen,
            vote(chosen, [one.images[Dataset.ROI] for one in seen], finished.workshop),
            strict=True,
        ):
            for voter in said.voters:
                row = rows.loc[(voter.trial_id, one.case.patient_id)]
                assert row["score"] == pytest.approx(voter.score, abs=1e-5)
                assert row["threshold"] == voter.threshold
    votes = pd.read_parquet(tested / "votes.parquet")
    assert set(votes["n_models"]) == {2}
    assert len(votes[(votes["level"] == "patient") & (votes["head"] == "gru")]) == N
    assert votes.groupby("patient_id")["label"].nunique().max() == 1


def test_numbers_against_scikit_learn(tested: Path, finished: SmallWork) -> None:
    votes = pd.read_parquet(tested / "votes.parquet")
    found = {one.head: one for one in results(votes, finished.study)}
    assert set(found) == set(Head)
    for head, one in found.items():
        rows = votes[(votes["head"] == head) & (votes["level"] == "patient")]
        truth, called, scores = (
            rows["label"].to_numpy(),
            rows["decision"].to_numpy(),
            rows["score"].to_numpy(),
        )
        assert (one.n, one.malignant) == (N, truth.sum())
        values = {metric: estimate.value for metric, estimate in one.estimates.items()}
        assert values["auc"] == pytest.approx(roc_auc_score(truth, scores))
        assert values["sen"] == pytest.approx(recall_score(truth, called))
        assert values["spec"] == pytest.approx(recall_score(truth, called, pos_label=0))
        assert values["mcc"] == pytest.approx(matthews_corrcoef(truth, called))
        assert one.brier == pytest.approx(brier_score_loss(truth, scores))
        for estimate in one.estimates.values():
            if estimate.interval:
                assert estimate.lower - 1e-9 <= estimate.value <= estimate.upper + 1e-9


@pytest.mark.parametrize("interval", ["bca", "percentile"])
def test_intervals_are_those_of_the_report(
    interval: Literal["bca", "percentile"], finished: SmallWork
) -> None:
    """Thirty patients whose vote is right in 24 of them: every number as the report's own functions
    give it."""
    rng = np.random.default_rng(3)
    truth = np.arange(30) % 2
    called = np.where(np.arange(30) % 5 == 0, 1 - truth, truth)
    scores = np.clip(0.5 + 0.2 * (truth - 0.5) + rng.normal(0, 0.2, 30), 0, 1)
    rows = pd.DataFrame(
        {
            "patient_id": [f"X{k:02d}" for k in range(30)],
            "label": truth,
            "decision": called,
            "score": scores,
        }
    )
    votes = rows.assign(dataset="roi", freeze_point="mixed10", head="image", level="patient")
    study = finished.study.model_copy(
        update={"statistics": Statistics(bootstrap=400, interval=interval)}
    )
    [one] = results(votes, study)
    assert dict(one.estimates) == estimates(
        samples_of(rows), study.statistics, seed=study.seed, per_patient=True, independent=True
    )
    assert one.estimates["mcc"].method == BOOTSTRAP[interval]
    assert one.estimates["auc"].method == "DeLong, logit"
    assert {one.estimates[name].method for name in ("acc", "sen", "spec", "ppv", "npv")} == {
        "Wilson"
    }
    assert one.ece == expected_calibration_error(truth, scores)
    assert len(one.curve.bins) == 3


def test_the_same_command_again_does_nothing_new(tested: Path, manifest: Path) -> None:
    before = {path: path.read_bytes() for path in tested.rglob("*") if path.is_file()}
    done = external(tested.parent.parent, "--cohort", manifest)
    assert done.exit_code == 0, done.output
    assert "its seal stays closed" in done.output
    assert {path: path.read_bytes() for path in tested.rglob("*") if path.is_file()} == before


def test_page(tested: Path) -> None:
    page = (tested / "report" / "index.html").read_text(encoding="utf-8")
    for words in (
        "Not for clinical use",
        "2 patients share an image",
        "Seal",
        "file-missing",
        "label-missing",
        "Population",
        "Confusion",
        "Calibration",
    ):
        assert words in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "src=" not in page
    assert str(tested) not in page
    table = pd.read_csv(tested / "report" / "results.csv")
    assert table["tp"].add(table["fn"]).tolist() == [N // 2] * 3
    assert np.isfinite(table["auc"]).all()


def test_another_rule_is_an_opening_and_another_cohort_too(
    tested: Path, manifest: Path, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    shutil.copytree(tested.parent.parent, work)
    _move(work)
    folder = work / "external" / "elsewhere"
    before = pd.read_parquet(folder / "predictions.parquet")
    done = external(work, "--cohort", manifest, "--set", "threshold.rule=mcc")
    assert done.exit_code == 0, done.output
    after = pd.read_parquet(folder / "predictions.parquet")
    assert [one["rule"]["threshold"] for one in openings(folder)] == ["youden", "mcc"]
    assert np.array_equal(before["raw_score"], after["raw_score"])  # decided anew, not scored anew
    table = read_manifest(manifest)
    table.loc[table["patient_id"] == "X3", "label"] = (
        1 - table.loc[table["patient_id"] == "X3", "label"]
    )
    table.to_csv(tmp_path / "elsewhere.csv", index=False)
    done = external(work, "--cohort", tmp_path / "elsewhere.csv", "--set", "threshold.rule=mcc")
    assert done.exit_code == 0, done.output
    assert len({one["content_sha256"] for one in openings(folder)}) == 2
    assert len(openings(folder)) == 3


def test_who_trained_cannot_test(
    tested: Path, manifest: Path, finished: SmallWork, tmp_path: Path
) -> None:
    table = read_manifest(manifest)
    table.loc[3, "patient_id"] = sorted(finished.splits.training)[0]
    table.to_csv(tmp_path / "overlap.csv", index=False)
    done = external(tested.parent.parent, "--cohort", tmp_path / "overlap.csv")
    assert done.exit_code == 2
    assert "patient ids that the study has too: 1, the first" in done.output
    assert not (tested.parent / "overlap").exists()


def test_an_external_cohort_has_name_and_cohort_alone(finished: SmallWork, tmp_path: Path) -> None:
    study = finished.study.model_copy(
        update={
            "cohort": finished.study.cohort.model_copy(
                update={"lesion_labels": [7], "tilt": "resample"}
            )
        }
    )
    file = tmp_path / "other.yaml"

    def load(value: object) -> object:
        file.write_text(yaml.safe_dump(value), encoding="utf-8")
        return load_external(file, study)

    found = load({"name": "other", "cohort": {"manifest": "m.csv", "lesion_segments": ["Tumor"]}})
    assert (
        found.name,
        found.cohort.lesion_labels,
        found.cohort.tilt,
        found.cohort.lesion_segments,
    ) == ("other", [7], "resample", ["Tumor"])
    assert found.cohort.manifest == Path.cwd() / "m.csv"
    assert load_external(tmp_path / "x.y z.csv", study).name == "x.y_z"
    for value, words in (
        (
            {"name": "other", "cohort": {"manifest": "m.csv"}, "images": {"size": 99}},
            "images: models, thresholds and preprocessing are the study's",
        ),
        ({"name": "../up", "cohort": {"manifest": "m.csv"}}, "name"),
        ({"name": "other", "cohort": {}}, "exactly one of manifest, dicom, kits"),
        ({"name": "other"}, "a mapping with `name` and `cohort`"),
        ([1], "a mapping"),
    ):
        with pytest.raises(StudyError, match=words):
            load(value)


def test_one_image_with_two_labels_is_left_out(
    finished: SmallWork, manifest: Path, tmp_path: Path
) -> None:
    """With one label it counts, and is told."""
    table = read_manifest(manifest).dropna(subset="label").iloc[1:4]
    other = table.iloc[[0]].assign(patient_id="other", label=1 - int(table.iloc[0]["label"]))
    again = table.iloc[[1]].assign(patient_id="again")
    pd.concat([table, other, again]).to_csv(tmp_path / "two.csv", index=False)
    place = Place(str(tmp_path / "work"))
    read = read_external(
        open_run(finished.study, finished.work),
        load_external(tmp_path / "two.csv", finished.study),
        place,
        same_ids=False,
    )
    first, second, third = table["patient_id"]
    assert set(read.labels) == {second, third, "again"}
    found = pd.read_csv(tmp_path / "work" / "quarantine.csv")
    codes = found.groupby("code")["patient_id"].apply(set).to_dict()
    assert codes == {"label-conflict": {first, "other"}, "same-pixels": {second, "again"}}
    for dataset in Dataset:
        index = place.read_parquet(f"slices/{dataset}/index.parquet")
        assert set(index["patient_id"]) == {second, third, "again"}
