"""predict on phantoms in DICOM, by the command line: what is written, that it is the study's own
models that speak, and who is left out."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import Result
from conftest import SmallWork
from test_apply_external import open_the_seal
from typer.testing import CliRunner

from renal_ray.apply.case import Case, find_cases
from renal_ray.apply.chosen import choose, open_run
from renal_ray.apply.reading import lesion_masks, read_case
from renal_ray.apply.voters import vote
from renal_ray.cli import app
from renal_ray.cohort.manifest import read_manifest
from renal_ray.imaging.patient import read_patient
from renal_ray.problems import Code, StudyError
from renal_ray.store.place import Place
from renal_ray.store.slices import Slices
from renal_ray.sweep.shards import Sharder, make_shards
from renal_ray.types import DATASETS, Dataset, Head

HOSTILE = "<script>alert(1)</script>&"


def predict(run: Path, *arguments: object) -> Result:
    return CliRunner().invoke(app, ["predict", str(run), *map(str, arguments)])


@pytest.fixture(scope="module")
def manifest(phantom_manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two phantoms without labels, one of them with a name that a page must not run, and one whose
    mask is not there."""
    table = read_manifest(phantom_manifest).head(3).drop(columns="label")
    table["patient_id"] = ["first", HOSTILE.replace("/", "|"), "gone"]
    table.loc[2, "mask"] = str(Path(table.loc[2, "mask"]).with_name("nothing.dcm"))
    path = tmp_path_factory.mktemp("next") / "next.csv"
    table.to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def predicted(
    finished: SmallWork, manifest: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """What the command writes for them."""
    out = tmp_path_factory.mktemp("out") / "predictions"
    done = predict(finished.work.path(), manifest, "-o", out)
    assert done.exit_code == 0, done.output
    assert "wrote 2 patients" in done.output
    assert "gone: left out, file-missing: mask" in done.output
    return out


def found(predicted: Path, patient: str = "first") -> dict:
    return json.loads((predicted / patient / "prediction.json").read_text(encoding="utf-8"))


def test_a_folder_a_patient(predicted: Path) -> None:
    folders = sorted(path.name for path in predicted.iterdir() if path.is_dir())
    assert folders == sorted(["first", HOSTILE.replace("/", "|")])
    assert sorted(path.name for path in predicted.iterdir() if path.is_file()) == [
        "quarantine.csv",
        "summary.csv",
    ]
    for folder in folders:
        assert sorted(path.name for path in (predicted / folder).iterdir()) == [
            "attention.dcm",
            "index.html",
            "prediction.json",
            "report.dcm",
        ]
    quarantine = pd.read_csv(predicted / "quarantine.csv")
    assert quarantine[["patient_id", "code", "severity"]].to_numpy().tolist() == [
        ["gone", "file-missing", "error"]
    ]
    summary = pd.read_csv(predicted / "summary.csv").set_index("patient_id")
    assert summary.loc["first", "score"] == pytest.approx(found(predicted)["score"], rel=1e-5)


def test_scores_and_vote_of_the_json_fit_together(predicted: Path, finished: SmallWork) -> None:
    said = found(predicted)
    scores = [one["score"] for one in said["by_fold"]]
    assert [one["fold"] for one in said["by_fold"]] == [0, 1]
    assert said["score"] == pytest.approx(np.mean(scores))
    assert (said["voters"]["lowest"], said["voters"]["highest"]) == (min(scores), max(scores))
    assert said["voters"]["sd"] == pytest.approx(np.std(scores, ddof=1))
    assert "no confidence interval" in said["voters"]["note"]
    assert "Not for clinical use" in said["not_for_clinical_use"]
    for one in said["by_fold"]:
        assert (
            one["threshold"] == finished.results[one["trial_id"]]["levels"]["patient"]["threshold"]
        )
        assert one["decision"] == ("malignant" if one["score"] >= one["threshold"] else "benign")
    votes = sum(one["decision"] == "malignant" for one in said["by_fold"])
    assert said["votes_malignant"] == votes
    assert said["decision"] == (
        "malignant" if votes == 2 or (votes == 1 and said["score"] >= 0.5) else "benign"
    )
    assert np.mean([one["score"] for one in said["slices"]]) == pytest.approx(
        said["score"], abs=1e-6
    )
    assert {one["trial_id"] for one in said["model"]["folds"]} <= set(finished.results)


@pytest.mark.parametrize("head", list(Head))
def test_the_fold_models_say_what_they_said_in_the_study(finished: SmallWork, head: Head) -> None:
    """Validation patients of each fold, by the images that prepare wrote: the scores that their own
    trials wrote down."""
    chosen = choose(open_run(finished.study, finished.work), head=head)
    slices = Slices(finished.work, Dataset.ROI, sealed=finished.splits.test)
    patients = sorted(finished.splits.training)
    votes = dict(
        zip(
            patients,
            vote(chosen, [np.array(slices.images(one)) for one in patients], finished.workshop),
            strict=True,
        )
    )
    for k, spec in enumerate(chosen.voters):
        own = finished.work.read_parquet(f"trials/{spec.trial_id}/predictions.parquet")
        expected = own[own["part"] == "validation"].groupby("patient_id")["score"].mean()
        assert set(expected.index) == set(finished.splits.fold(spec.fold).validation)
        for patient, score in expected.items():
            voter = votes[patient].voters[k]
            assert (voter.fold, voter.trial_id) == (spec.fold, spec.trial_id)
            assert voter.score == pytest.approx(score, abs=2e-5)
            assert (
                voter.threshold == finished.results[spec.trial_id]["levels"]["patient"]["threshold"]
            )
            assert voter.decision == (voter.score >= voter.threshold)


def test_patients_are_read_exactly_as_prepare_reads_them(
    finished: SmallWork, phantom_manifest: Path, tmp_path: Path
) -> None:
    table = read_manifest(phantom_manifest).head(1)
    study = finished.study
    work = Place(str(tmp_path))
    part = json.loads(Sharder(study, work)(make_shards(study, table)[0])["part"])
    assert not part["quarantined"]
    row = table.iloc[0]
    for dataset in DATASETS:
        from renal_ray.store.slices import write_index

        write_index(work, dataset, part["index"][dataset])
        seen = read_case(
            Case(row["patient_id"], Path(row["image"]), Path(row["mask"])), study, dataset
        )
        prepared = Slices(work, dataset, sealed=())
        assert np.array_equal(seen.images[dataset], prepared.images(row["patient_id"]))
        assert np.array_equal(seen.slices.slice_index, prepared.slice_index(row["patient_id"]))
    inside = lesion_masks(seen, study, Dataset.ROI)
    roi = seen.images[Dataset.ROI].any(axis=-1)
    assert (inside & roi).sum() > 0.95 * inside.sum()
    assert (inside & roi).sum() > 0.8 * roi.sum()


def test_a_page_of_its_own(predicted: Path) -> None:
    name = HOSTILE.replace("/", "|")
    page = (predicted / name / "index.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "Not for clinical use" in page
    assert not re.search(r"""(?:src|href)=["'](?!data:)""", page)
    assert "http" not in page
    assert page.count("data:image/png;base64,") >= 4
    assert "file-missing" not in page
    assert len(page) < 2_000_000


def test_nobody_is_named_outside_dicom(predicted: Path, manifest: Path) -> None:
    import pydicom

    source = next(
        path
        for path in Path(read_manifest(manifest, labelled=False).iloc[0]["image"]).iterdir()
        if path.suffix == ".dcm"
    )
    header = pydicom.dcmread(source, stop_before_pixels=True)
    assert str(header.PatientName)
    for name in ("prediction.json", "index.html"):
        text = (predicted / "first" / name).read_text(encoding="utf-8")
        for secret in (
            str(header.PatientName),
            header.PatientID,
            header.StudyInstanceUID,
            header.SOPInstanceUID,
            str(source.parent),
            str(predicted),
        ):
            assert secret not in text


def test_the_same_command_again_changes_nothing(
    finished: SmallWork, manifest: Path, predicted: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(predicted, out)
    before = {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    (out / "first" / "index.html").write_text("spoilt", encoding="utf-8")
    assert predict(finished.work.path(), manifest, "-o", out).exit_code == 0
    after = {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert set(before) == set(after)
    written = {
        Path("first/report.dcm"),
        Path("first/attention.dcm"),
    }  # made anew, under new UIDs: the spoilt folder was not what was asked for
    assert {name for name in before if before[name] != after[name]} == written
    assert not [path for path in out.iterdir() if path.name.startswith(".")]


def test_one_patient_by_folder_and_mask(
    finished: SmallWork, phantom_manifest: Path, tmp_path: Path
) -> None:
    row = read_manifest(phantom_manifest).iloc[0]
    done = predict(
        finished.work.path(),
        row["image"],
        "--mask",
        row["mask"],
        "--id",
        "someone",
        "-o",
        tmp_path / "a",
        "--head",
        "gru",
    )
    assert done.exit_code == 0, done.output
    assert found(tmp_path / "a", "someone")["model"]["head"] == "gru"
    folder = tmp_path / "patient"
    shutil.copytree(row["image"], folder / "ct")
    shutil.copy(row["mask"], folder / "mask.dcm")
    done = predict(finished.work.path(), folder, "-o", tmp_path / "b", "--head", "gru")
    assert done.exit_code == 0, done.output
    one, other = found(tmp_path / "a", "someone"), found(tmp_path / "b", "patient")
    assert other["patient_id"] == "patient"
    assert {**one, "patient_id": ""} == {**other, "patient_id": ""}


def test_who_cannot_be_read(finished: SmallWork, phantom_manifest: Path, tmp_path: Path) -> None:
    row = read_manifest(phantom_manifest).iloc[0]
    alone = predict(finished.work.path(), row["image"], "-o", tmp_path / "out")
    assert alone.exit_code == 2
    assert "no patient can be read" in alone.output
    assert "mask" in alone.output
    missing = predict(finished.work.path(), tmp_path / "nobody", "-o", tmp_path / "out")
    assert missing.exit_code == 2
    assert "file-missing" in missing.output
    strict = predict(finished.work.path(), tmp_path / "nobody", "-o", tmp_path / "out", "--strict")
    assert strict.exit_code == 1
    assert "Traceback" not in alone.output + missing.output + strict.output


def test_a_sealed_patient_has_no_score_before_the_seal_is_opened(
    finished: SmallWork, phantom_manifest: Path, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    shutil.copytree(finished.work.path(), work)
    row = read_manifest(phantom_manifest).iloc[0]
    image = read_patient(
        Path(row["image"]),
        Path(row["mask"]),
        cohort=finished.study.cohort,
        selection=finished.study.selection,
    )
    sealed = {sorted(finished.splits.test)[0]: sorted(image.fingerprint)}
    Place(str(work)).write_checked_json("slices/shards/shard-00000.json", {"fingerprints": sealed})
    refused = predict(work, row["image"], "--mask", row["mask"], "-o", tmp_path / "out")
    assert refused.exit_code == 2
    assert (
        "sealed: a sealed test patient of the study, whose score nobody may see yet"
        in refused.output
    )
    assert not list((tmp_path / "out").glob("*/prediction.json"))
    open_the_seal(Place(str(work)), finished)
    done = predict(work, row["image"], "--mask", row["mask"], "-o", tmp_path / "out")
    assert done.exit_code == 0, done.output
    [written] = (tmp_path / "out").glob("*/prediction.json")
    assert (
        "it counts in the study's own test already"
        in json.loads(written.read_text(encoding="utf-8"))["seen_before"]
    )


def test_what_cannot_be_asked_for(
    finished: SmallWork, phantom_manifest: Path, tmp_path: Path
) -> None:
    work = finished.work.path()
    row = read_manifest(phantom_manifest).iloc[0]
    for arguments, words in (
        (["--dataset", "rbr"], "--dataset rbr: the study has roi"),
        (["--id", "a/b"], "give --id"),
    ):
        done = predict(work, row["image"], "--mask", row["mask"], "-o", tmp_path, *arguments)
        assert done.exit_code == 2
        assert words in done.output
    done = predict(work, phantom_manifest, "--mask", row["mask"], "-o", tmp_path)
    assert done.exit_code == 2
    assert "--mask and --id go with a single patient" in done.output
    (tmp_path / "taken" / "P").mkdir(parents=True)
    (tmp_path / "taken" / "P" / "thesis.txt").write_text("mine", encoding="utf-8")
    done = predict(work, row["image"], "--mask", row["mask"], "--id", "P", "-o", tmp_path / "taken")
    assert done.exit_code == 2
    assert "holds no prediction.json" in done.output
    assert (tmp_path / "taken" / "P" / "thesis.txt").read_text(encoding="utf-8") == "mine"


def test_cases_and_their_names(phantom_manifest: Path, tmp_path: Path) -> None:
    row = read_manifest(phantom_manifest).iloc[0]
    (tmp_path / "case_00001").mkdir()
    for name in ("imaging.nii.gz", "segmentation.nii.gz"):
        (tmp_path / "case_00001" / name).write_bytes(b"")
    cases, refused = find_cases([tmp_path / "case_00001", Path(row["image"])])
    assert [(one.patient_id, one.mask.name) for one in cases] == [
        ("case_00001", "segmentation.nii.gz")
    ]
    assert [one.code for one in refused] == [Code.SERIES_WITHOUT_MASK]
    cases, _ = find_cases(
        [tmp_path / "case_00001" / "imaging.nii.gz"],
        mask=tmp_path / "case_00001" / "segmentation.nii.gz",
        lesion="2;3",
    )
    assert (cases[0].patient_id, cases[0].lesion) == ("imaging", "2;3")
    (tmp_path / "case_00001" / "segmentation.nii.gz").rename(
        tmp_path / "case_00001" / "aggregated_MAJ_seg.nii.gz"
    )
    cases, _ = find_cases([tmp_path / "case_00001"])
    assert cases[0].mask.name == "aggregated_MAJ_seg.nii.gz"
    _, refused = find_cases([phantom_manifest.parent])
    assert refused[0].code is Code.SEVERAL_SERIES
    assert "18 patients" in refused[0].message
    with pytest.raises(StudyError, match="two patients are called case_00001"):
        find_cases([tmp_path / "case_00001", tmp_path / "case_00001"])


def test_the_dataset_with_the_best_validation_is_the_default(finished: SmallWork) -> None:
    run = open_run(finished.study, finished.work)
    both = finished.study.model_copy(update={"datasets": [Dataset.SLICE, Dataset.ROI]})
    worse = {}
    plan = type(run.plan)(
        both,
        run.plan.splits,
        {Dataset.SLICE: run.plan.inputs[Dataset.ROI], Dataset.ROI: run.plan.inputs[Dataset.ROI]},
    )
    for spec in (
        *plan.image_specs(Dataset.SLICE, both.freeze_points[0]),
        *plan.image_specs(Dataset.SLICE, both.freeze_points[1]),
    ):
        levels = {
            level: {"threshold": 0.5, "metrics": {"auc": 0.1}} for level in ("slice", "patient")
        }
        worse[spec.trial_id] = {"levels": levels}
    pair = type(run)(both, run.work, plan, {**run.results, **worse})
    assert choose(pair).dataset is Dataset.ROI
    assert choose(pair, Dataset.SLICE).dataset is Dataset.SLICE
    best = {
        trial_id: {
            "levels": {
                level: {"threshold": 0.5, "metrics": {"auc": 1.1}} for level in ("slice", "patient")
            }
        }
        for trial_id in worse
    }
    assert choose(type(run)(both, run.work, plan, {**run.results, **best})).dataset is Dataset.SLICE
    with pytest.raises(StudyError, match="image trials of slice are missing"):
        choose(type(run)(both, run.work, plan, run.results))
