"""Attention maps of a whole small study: who is explained, the contour from the source, the seal,
and nothing twice."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from renal_ray.cli import app
from renal_ray.protocol.splits import SplitSet
from renal_ray.report import page
from renal_ray.store.place import Place
from renal_ray.store.seal import Seal
from renal_ray.store.slices import Slices
from renal_ray.study_file import load_study
from renal_ray.sweep import explain as explain_module
from renal_ray.trial.attended import read_explained
from renal_ray.trial.explain import Look
from renal_ray.trial.lesions import largest_slice
from renal_ray.trial.pictures import read_pictures
from renal_ray.trial.plan import Plan
from renal_ray.trial.subjects import BEST, ERROR, OTHER, TEST, UNCERTAIN, VALIDATION, WORST, Subject

pytestmark = pytest.mark.usefixtures("local_ray")

SIZE = 139  # 3 x 3 places
SETTINGS = {
    "name": "seen",
    "datasets": ["slice", "roi"],
    "freeze_points": ["mixed10"],
    "images": {"size": SIZE},
    "folds": {"n": 2, "method": "stratified"},
    "heads": {"use": ["image"]},
    "weights": "random",
    "training": {"epochs": {"image": 8, "fc": 1, "gru": 1}, "batch_size": 8, "embedding": 16},
    "resources": {"cpus": 2},
    "explain": {"patients": 2},
}


def command(name: str, file: Path, *overrides: str, work: Path | None = None) -> Result:
    given = [*overrides, *([f"work={work}"] if work else [])]
    return CliRunner().invoke(
        app, [name, str(file), *(word for one in given for word in ("--set", one))]
    )


@pytest.fixture(scope="module")
def study_file(phantom_manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("seen")
    file = folder / "seen.yaml"
    file.write_text(
        yaml.safe_dump(
            SETTINGS | {"work": str(folder / "work"), "cohort": {"manifest": str(phantom_manifest)}}
        ),
        encoding="utf-8",
    )
    return file


@pytest.fixture(scope="module")
def finished(study_file: Path) -> Place:
    """The work directory after `renal-ray run`. To be read, not to be changed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "draw_all", lambda evidence: iter(()))
        done = command("run", study_file)
    assert done.exit_code == 0, done.output
    assert "explained the image models" in done.output
    assert "slice at mixed10: " in done.output
    return Place(load_study(study_file).work)


@pytest.fixture
def work_copy(finished: Place, tmp_path: Path) -> Path:
    """The same study before the test and the explanation."""
    shutil.copytree(
        finished.uri, tmp_path / "work", ignore=shutil.ignore_patterns("test", "explain", "report")
    )
    return tmp_path / "work"


@pytest.fixture
def drawn_looks(monkeypatch: pytest.MonkeyPatch) -> list[Seal | None]:
    """The models' looks are drawn, where a test is on something else; the seals that they were
    asked with."""
    seals = []

    def draw(
        study: object,
        work: Place,
        plan: Plan,
        models: object,
        asked: Sequence[Subject],
        seal: Seal | None,
    ) -> list[Look]:
        seals.append(seal)
        slices = {
            dataset: Slices(work, dataset, sealed=plan.splits.test, seal=seal)
            for dataset in plan.study.datasets
        }
        at = [largest_slice(slices[one.dataset], one.patient_id) for one in asked]
        numbers = [
            int(slices[one.dataset].slice_index(one.patient_id)[row])
            for one, row in zip(asked, at, strict=True)
        ]
        values = np.random.default_rng(0).random((1, 3, 3), np.float32)
        return [
            Look(row, number, values.repeat(len(one.folds), 0), values.repeat(len(one.folds), 0))
            for one, row, number in zip(asked, at, numbers, strict=True)
        ]

    monkeypatch.setattr(explain_module, "_looks", draw)
    return seals


def rows(work: Place | Path) -> pd.DataFrame:
    found = read_explained(work if isinstance(work, Place) else Place(str(work)))
    assert found is not None
    return found.attention


def test_every_validation_patient_is_measured_once_by_the_model_that_never_saw_them(
    finished: Place,
) -> None:
    splits, table = SplitSet.from_json(finished.read_json("splits.json")), rows(finished)
    for dataset in ("slice", "roi"):
        mine = table[(table["dataset"] == dataset) & (table["part"] == VALIDATION)]
        assert sorted(mine["patient_id"]) == sorted(splits.training)
        for fold in (0, 1):
            assert set(mine[mine["fold"] == fold]["patient_id"]) == set(
                splits.fold(fold).validation
            )
        assert mine["share_inside"].notna().equals(~mine["is_empty"])
        assert mine["area_share"].between(0, 1, inclusive="neither").all()
        assert (mine["contour"] == "").all()
        assert set(zip(mine["rows"], mine["columns"], strict=True)) == {(3, 3)}
        [trial0, trial1] = (
            finished.read_parquet(f"trials/{name}/predictions.parquet")
            for name in finished.entries("trials")
            if name.startswith(dataset)
        )
        scores = (
            pd.concat([trial0, trial1])
            .query("part == 'validation'")
            .groupby("patient_id")["score"]
            .mean()
        )
        np.testing.assert_allclose(
            mine.set_index("patient_id")["score"].astype(float).sort_index(),
            scores.sort_index(),
            atol=1e-6,
        )
        assert mine["kind"].value_counts().to_dict().keys() >= {BEST, UNCERTAIN, OTHER}
    whole = table[table["dataset"] == "slice"]["area_share"].mean()
    assert whole < 0.3 < table[table["dataset"] == "roi"]["area_share"].mean()


def test_who_is_wrong_in_the_vote_is_explained_by_all_models_and_nobody_else_of_the_test(
    finished: Place,
) -> None:
    table, votes = (
        rows(finished),
        finished.read_parquet("test/votes.parquet").query("level == 'patient'"),
    )
    wrong = votes[votes["decision"] != votes["label"]]
    assert len(wrong) > 0, "choose a seed with an error"
    found = table[table["part"] == TEST]
    assert sorted(zip(found["dataset"], found["patient_id"], strict=True)) == sorted(
        zip(wrong["dataset"], wrong["patient_id"], strict=True)
    )
    assert set(found["kind"]) == {ERROR}
    assert set(found["n_models"]) == {2}
    assert found["threshold"].isna().all()
    assert found["fold"].isna().all()
    assert (
        len(
            json.loads("[" + ",".join(finished.read("test/seal.jsonl").decode().splitlines()) + "]")
        )
        == 1
    )


def test_pictures_are_the_stored_slices_with_the_lesion_where_it_is(finished: Place) -> None:
    import pyarrow as pa

    table = rows(finished).set_index(["dataset", "part", "kind", "patient_id"])
    stored = {}
    for dataset in ("slice", "roi"):
        for file in finished.path(f"slices/{dataset}").glob("*.arrow"):
            with pa.memory_map(str(file)) as source:
                read = pa.ipc.open_file(source).read_all()
            images = np.concatenate(
                [chunk.to_numpy_ndarray() for chunk in read.column("image").chunks]
            )
            keys = zip(
                read.column("patient_id").to_pylist(),
                read.column("slice_index").to_pylist(),
                strict=True,
            )
            areas = read.column("lesion_area_mm2").to_pylist()
            stored |= {
                (dataset, *key): (image, area)
                for key, image, area in zip(keys, images, areas, strict=True)
            }
    pictures = list(read_pictures(finished))
    assert len(pictures) == (table.index.get_level_values("kind") != OTHER).sum()
    for one in pictures:
        image, area = stored[one.dataset, one.patient_id, one.slice_index]
        np.testing.assert_array_equal(one.image, image)
        assert area == max(
            found for key, (_, found) in stored.items() if key[:2] == (one.dataset, one.patient_id)
        )
        row = table.loc[one.dataset, one.part, one.kind, one.patient_id]
        assert one.lesion.mean() == pytest.approx(row["area_share"])
        assert one.attention.max() == (0 if row["is_empty"] else 255)
        if not row["is_empty"]:
            share = one.attention[one.lesion].sum() / one.attention.sum()
            assert share == pytest.approx(row["share_inside"], abs=0.01)
        # Outside the lesion all is black but for the interpolation's edge, wide here: crops of
        # a dozen pixels were enlarged.
        if one.dataset == "roi":
            assert (one.image[one.lesion] > 0).any(axis=-1).mean() > 0.99
            assert one.image[~one.lesion].mean() < 0.4 * one.image[one.lesion].mean()


def test_explaining_again_does_nothing(
    finished: Place, study_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("there is nothing to do")

    monkeypatch.setattr(explain_module, "_looks", never)
    files = {
        path: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in finished.path("explain").iterdir()
    }
    assert {path.name for path in files} == {
        "attention.parquet",
        "pictures.arrow",
        "explained.json",
    }
    done = command("explain", study_file)
    assert done.exit_code == 0, done.output
    assert "had been explained before" in done.output
    assert {
        path: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in finished.path("explain").iterdir()
    } == files


def test_before_the_test_no_sealed_patient_is_looked_at(
    finished: Place, work_copy: Path, study_file: Path
) -> None:
    sealed = SplitSet.from_json(finished.read_json("splits.json")).test
    done = command("explain", study_file, "explain.measure=shown", work=work_copy)
    assert done.exit_code == 0, done.output
    table = rows(work_copy)
    assert not set(table["patient_id"]) & sealed
    assert set(table["part"]) == {VALIDATION}
    assert set(table["kind"]) <= {BEST, WORST, UNCERTAIN}
    pictures = (work_copy / "explain" / "pictures.arrow").read_bytes()
    assert not any(patient.encode() in pictures for patient in sealed)
    assert not (work_copy / "test").exists()
    # the same patients as in the whole run, with the same numbers
    whole = rows(finished)
    mine = whole[(whole["part"] == VALIDATION) & (whole["kind"] != OTHER)].reset_index(drop=True)
    pd.testing.assert_frame_equal(table, mine, check_exact=False, rtol=1e-4)


def test_a_seal_that_was_opened_for_other_models_stays_closed(
    finished: Place, work_copy: Path, study_file: Path, drawn_looks: list[Seal | None]
) -> None:
    shutil.copytree(finished.path("test"), work_copy / "test")
    log = work_copy / "test" / "seal.jsonl"
    last = json.loads(log.read_text(encoding="utf-8").splitlines()[-1])
    log.write_text(
        log.read_text(encoding="utf-8") + json.dumps(last | {"models_sha256": "0" * 64}) + "\n",
        encoding="utf-8",
    )
    done = command("explain", study_file, "explain.measure=shown", work=work_copy)
    assert done.exit_code == 0, done.output
    assert set(rows(work_copy)["part"]) == {VALIDATION}
    log.write_text(
        log.read_text(encoding="utf-8").splitlines()[0] + "\n", encoding="utf-8"
    )  # and for these: the maps that stand are not enough any more
    assert (
        "explained the image models"
        in command("explain", study_file, "explain.measure=shown", work=work_copy).output
    )
    assert set(rows(work_copy)["part"]) == {VALIDATION, TEST}
    assert [seal is None for seal in drawn_looks] == [True, False]
    assert len(log.read_text(encoding="utf-8").splitlines()) == 1


@pytest.mark.usefixtures("drawn_looks")
def test_where_the_source_is_gone_or_differs_there_is_no_contour_and_it_is_said(
    work_copy: Path, study_file: Path, tmp_path: Path
) -> None:
    """Two patients of those shown: one's mask is gone, another's image is somebody else's."""
    settings = yaml.safe_load(study_file.read_text(encoding="utf-8"))
    manifest = Path(settings["cohort"]["manifest"])
    people = pd.read_csv(manifest)
    people[["image", "mask"]] = people[["image", "mask"]].map(
        lambda name: str(manifest.parent / name)
    )
    splits = SplitSet.from_json(json.loads((work_copy / "splits.json").read_text(encoding="utf-8")))
    gone, swapped, other = sorted(splits.training)[:3]
    by_id = people.set_index("patient_id")
    by_id.loc[gone, "mask"] = str(tmp_path / "gone.dcm")
    by_id.loc[swapped, ["image", "mask"]] = by_id.loc[other, ["image", "mask"]]
    by_id.reset_index().to_csv(tmp_path / "people.csv", index=False)
    word = json.loads((work_copy / "slices" / "prepared.json").read_text(encoding="utf-8"))
    word["settings"]["cohort"]["manifest"] = str(tmp_path / "people.csv")
    (work_copy / "slices" / "prepared.json").write_text(json.dumps(word), encoding="utf-8")
    done = command(
        "explain", study_file, f"cohort.manifest={tmp_path / 'people.csv'}", work=work_copy
    )
    assert done.exit_code == 0, done.output
    table = rows(work_copy).set_index("patient_id")
    assert set(table.loc[gone, "contour"]) == {"the cohort no longer lists the patient"}
    assert set(table.loc[swapped, "contour"]) == {"the files give other pixels than those stored"}
    assert table.loc[[gone, swapped], "share_inside"].isna().all()
    assert (table.drop([gone, swapped])["contour"] == "").all()
    assert (
        "1 patients are shown without the lesion's contour and not "
        "measured: the files give other pixels"
    ) in done.output
    (tmp_path / "people.csv").unlink()
    done = command(
        "explain",
        study_file,
        f"cohort.manifest={tmp_path / 'people.csv'}",
        "explain.measure=shown",
        work=work_copy,
    )
    assert done.exit_code == 0, done.output
    assert set(rows(work_copy)["contour"]) == {"the cohort's files cannot be read here"}


def test_a_study_that_is_not_swept_is_refused(work_copy: Path, study_file: Path) -> None:
    shutil.rmtree(next(work_copy.glob("trials/roi-*")))
    done = command("explain", study_file, work=work_copy)
    assert done.exit_code == 2, done.output
    assert "image trials of roi are missing" in done.stderr
    assert "Traceback" not in done.output
    assert not (work_copy / "explain").exists()
