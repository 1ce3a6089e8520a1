"""export: a directory that runs without this program, and says what it is."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from conftest import SmallWork
from typer.testing import CliRunner

from renal_ray.apply.chosen import choose, open_run
from renal_ray.apply.exported.check import some_slices
from renal_ray.apply.voters import vote
from renal_ray.cli import app
from renal_ray.config import Study
from renal_ray.imaging.windows import three_windows
from renal_ray.model.weight_files import load_weights_h5, save_weights_h5
from renal_ray.problems import StudyError
from renal_ray.store.place import Place
from renal_ray.store.slices import Slices
from renal_ray.trial.plan import make_plan
from renal_ray.trial.record import keep_study
from renal_ray.trial.workshop import Workshop
from renal_ray.types import Dataset, Head

CLOSE = 1e-4


@pytest.fixture(scope="module")
def exported(finished: SmallWork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("export") / "models"
    done = CliRunner().invoke(app, ["export", finished.work.uri, "-o", str(out)])
    assert done.exit_code == 0, done.output
    assert "exported 6 ONNX models of roi" in done.output
    assert re.search(
        r"they ran in onnxruntime: scores of \d+ slices of 4 patients are Keras's to \d\.\de-\d\d",
        done.output,
    )
    return out


@pytest.fixture
def converted(exported: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """The ONNX files that the next export takes for those of its converter, which takes a minute:
    as they are, to be changed by a test."""
    from renal_ray.model.onnx import convert

    files = {path.stem: path.read_bytes() for path in exported.glob("onnx/*.onnx")}
    monkeypatch.setattr(convert, "to_onnx", lambda models: {name: files[name] for name in models})
    return files


@pytest.fixture(scope="module")
def images(finished: SmallWork) -> dict[str, np.ndarray]:
    """Slices that prepare wrote, of every training patient."""
    slices = Slices(finished.work, Dataset.ROI, sealed=finished.splits.test)
    return {
        patient: np.array(slices.images(patient)) for patient in sorted(finished.splits.training)
    }


def config(exported: Path) -> dict:
    return json.loads((exported / "config.json").read_text(encoding="utf-8"))


def test_files_and_their_checksums(exported: Path) -> None:
    said = config(exported)
    there = {str(path.relative_to(exported)) for path in exported.rglob("*") if path.is_file()} - {
        "config.json"
    }
    assert set(said["sha256"]) == there
    for name, expected in said["sha256"].items():
        assert hashlib.sha256((exported / name).read_bytes()).hexdigest() == expected
    assert (
        sum(name.endswith(".onnx") for name in there)
        == sum(name.endswith(".h5") for name in there)
        == 6
    )
    for path in exported.glob("onnx/*.onnx"):
        model = onnx.load(str(path))
        onnx.checker.check_model(model, full_check=True)
        assert "Not for clinical use" in model.doc_string


def test_the_exported_vote_is_the_study_vote_on_real_slices(
    exported: Path, finished: SmallWork, images: dict[str, np.ndarray], monkeypatch
) -> None:
    """By the exported directory's own program, and slice by slice against what the trials wrote
    down on their validation folds."""
    monkeypatch.syspath_prepend(str(exported))
    monkeypatch.delitem(sys.modules, "predict_onnx", raising=False)
    import predict_onnx

    assert Path(predict_onnx.__file__).parent == exported
    patients = list(images)[:3]
    for head in Head:
        chosen = choose(open_run(finished.study, finished.work), head=head)
        for patient, said in zip(
            patients,
            vote(chosen, [images[one] for one in patients], finished.workshop),
            strict=True,
        ):
            found = predict_onnx.score(images[patient])[head]
            np.testing.assert_allclose(
                [one["score"] for one in found["by_fold"]],
                [one.score for one in said.voters],
                atol=CLOSE,
            )
            assert [one["threshold"] for one in found["by_fold"]] == [
                one.threshold for one in said.voters
            ]
            assert found["score"] == pytest.approx(said.score, abs=CLOSE)
            if min(abs(one.score - one.threshold) for one in said.voters) > CLOSE:
                assert (found["votes_malignant"], found["decision"] == "malignant") == (
                    said.votes,
                    bool(said.decision),
                )
    apart: list[float] = []
    for fold in config(exported)["folds"]:
        own = finished.work.read_parquet(f"trials/{fold['image']['trial_id']}/predictions.parquet")
        for patient in finished.splits.fold(fold["fold"]).validation:
            expected = (
                own[own["patient_id"] == patient].sort_values("slice_index")["score"].to_numpy()
            )
            apart += np.abs(
                predict_onnx.run(fold["image"]["onnx"], images=images[patient])[0][:, 1] - expected
            ).tolist()
    # This study's logits are large, and in a logit float32's last digits are thousandths: a rare
    # slice is a little farther away than a patient's mean.
    assert np.mean(np.array(apart) <= CLOSE) > 0.9
    assert max(apart) < 10 * CLOSE


def test_weights_make_the_same_keras_model(
    exported: Path, images: dict[str, np.ndarray], finished: SmallWork
) -> None:
    from renal_ray.model.backbone import scaled
    from renal_ray.model.initial import set_weights_by_name
    from renal_ray.model.onnx.models import Architecture, whole_model

    said = config(exported)
    fold = said["folds"][1]
    model = whole_model(
        Architecture(Head.IMAGE, said["size"], said["embedding"], gru_units=8, gru_layers=2)
    )
    set_weights_by_name(model, load_weights_h5(exported / "weights" / fold["image"]["weights"]))
    patient = finished.splits.fold(fold["fold"]).validation[0]
    own = finished.work.read_parquet(f"trials/{fold['image']['trial_id']}/predictions.parquet")
    expected = own[own["patient_id"] == patient].sort_values("slice_index")["score"].to_numpy()
    np.testing.assert_allclose(
        model.predict_on_batch(scaled(images[patient]))[:, 1], expected, atol=CLOSE
    )


def test_the_directory_checks_itself_with_numpy_and_onnxruntime_alone(
    exported: Path, tmp_path: Path
) -> None:
    blocked = (
        "import sys\nfor name in ('renal_ray', 'keras', 'tensorflow', 'jax', "
        "'onnx', 'pandas'):\n    sys.modules[name] = None\n"
    )
    code = blocked + (
        "import runpy\nsys.argv = sys.argv[1:]\nrunpy.run_path(sys.argv[0], run_name='__main__')\n"
    )

    def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", code, str(folder / "predict_onnx.py"), *arguments]
        return subprocess.run(
            command, capture_output=True, encoding="utf-8", check=False, cwd=tmp_path
        )

    good = run(exported)
    assert good.returncode == 0, good.stdout + good.stderr
    assert "as expected" in good.stdout
    np.save(tmp_path / "one.npy", np.zeros((2, 75, 75, 3), np.uint8))
    scored = run(exported, "one.npy")
    assert scored.returncode == 0, scored.stderr
    assert set(json.loads(scored.stdout)) == {"not_for_clinical_use", "image", "fc", "gru"}
    spoilt = tmp_path / "spoilt"
    shutil.copytree(exported, spoilt)
    shutil.copy(spoilt / "onnx" / "image-fold0.onnx", spoilt / "onnx" / "image-fold1.onnx")
    bad = run(spoilt)
    assert bad.returncode == 1
    assert "NOT as expected" in bad.stdout


def test_its_windows_and_calibrators_are_ours() -> None:
    from renal_ray.apply.exported.predict_onnx import calibrated
    from renal_ray.apply.exported.predict_onnx import three_windows as theirs
    from renal_ray.protocol.calibration import fit_calibrator
    from renal_ray.trial.decide import Decision

    hu = np.arange(-1200, 1500)
    assert np.array_equal(theirs(hu), three_windows(hu))
    assert np.array_equal(theirs(hu + 0.37), three_windows(hu + 0.37))
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 2, 60), rng.random(60).astype(np.float32)
    for kind in ("none", "platt", "isotonic", "temperature"):
        decision = Decision(0.5, fit_calibrator(kind, labels, scores))
        for raw in (0.0, 1e-30, 0.2, 0.5, 0.999999, 1.0):
            expected = decision.probabilities(np.array([raw], np.float32))[0]
            assert calibrated(raw, decision.calibrator.to_json()) == pytest.approx(
                expected, abs=1e-7
            )


def test_thresholds_and_preprocessing(exported: Path, finished: SmallWork) -> None:
    said = config(exported)
    for fold in said["folds"]:
        for head in Head:
            levels = finished.results[fold[head]["trial_id"]]["levels"]
            assert fold[head]["threshold"] == {
                level: found["threshold"] for level, found in levels.items()
            }
            assert set(fold[head]["calibrator"].values().__iter__().__next__()) == {"kind"}
    made = json.loads((exported / "preprocessing.json").read_text(encoding="utf-8"))
    against = said["onnx_against_keras"]
    assert against["difference"] <= against["tolerance"] == 1e-4
    card = (exported / "README.md").read_text(encoding="utf-8")
    assert f"ran in onnxruntime on {against['slices']} slices of 4 training patients" in card
    assert (
        "differ from those of the same models in Keras by at most "
        f"{against['difference']:.1e}; 0.0001 is let pass"
    ) in card
    assert made["windows_hu"] == {"R": [-110, 190], "G": [20, 120], "B": [-40, 60]}
    assert made["resize"]["size"] == finished.study.images.size
    assert made["selection"]["min_area_fraction"] == finished.study.selection.min_area_fraction


@pytest.mark.parametrize("name", ["image-fold1", "fc-fold0", "gru-fold1"])
def test_a_model_that_is_not_its_keras_model_is_refused_and_nothing_is_written(
    name: str, finished: SmallWork, converted: dict[str, bytes], tmp_path: Path
) -> None:
    """The converter errs by a bias of the last layer: scores shift by some hundredths and look like
    any others."""
    model = onnx.load_from_string(converted[name])
    bias = next(
        one
        for one in model.graph.initializer
        if one.dims == [2] and one.data_type == onnx.TensorProto.FLOAT
    )
    bias.CopyFrom(
        onnx.numpy_helper.from_array(
            onnx.numpy_helper.to_array(bias) + np.array([0, 0.1], np.float32), bias.name
        )
    )
    converted[name] = model.SerializeToString()
    out = tmp_path / "models"
    done = CliRunner().invoke(app, ["export", finished.work.uri, "-o", str(out)])
    assert done.exit_code == 2
    said = " ".join(done.output.split())
    assert re.search(
        rf"export: {name}\.onnx gives scores that differ by [\de.-]+ from "
        r"Keras's on \d+ slices of 4 training patients",
        said,
    ), said
    assert "at most 0.0001 is let pass. Nothing was written" in said
    assert list(tmp_path.iterdir()) == []


def test_slices_are_those_of_training_patients_with_few_to_many(finished: SmallWork) -> None:
    slices = Slices(finished.work, Dataset.ROI, sealed=finished.splits.test)
    counts = sorted(slices.counts()[patient] for patient in finished.splits.training)
    for training in (sorted(finished.splits.training), sorted(finished.splits.training)[:2]):
        found = [len(one) for one in some_slices(slices, training)]
        assert len(found) == min(4, len(training))
        assert found == sorted(found)
    assert counts[0] < counts[-1]
    whole = [len(one) for one in some_slices(slices, sorted(finished.splits.training))]
    assert (whole[0], whole[-1]) == (counts[0], counts[-1])


def with_gru_layers(finished: SmallWork, layers: int, folder: Path) -> SmallWork:
    """The finished study with gru heads of another number of layers, trained anew on the same image
    models."""
    shutil.copytree(finished.work.path(), folder)
    settings = finished.study.model_dump()
    study = Study.model_validate(
        settings | {"work": str(folder), "training": settings["training"] | {"gru_layers": layers}}
    )
    work = Place(str(folder))
    keep_study(study, work)
    small = replace(
        finished, study=study, work=work, plan=make_plan(study, work), workshop=Workshop(work)
    )
    for spec in small.plan.head_specs(Dataset.ROI, small.plan.selected(Dataset.ROI, small.results)):
        if spec.head is Head.GRU:
            small.run(spec)
    return small


def test_a_gru_head_of_three_layers_is_exported_as_it_is(
    finished: SmallWork,
    exported: Path,
    images: dict[str, np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From training to the vote of the exported program; the image and fc models are those of the
    other tests."""
    from renal_ray.model.onnx import convert

    to_onnx = convert.to_onnx

    def gru_only(models: dict[str, convert.Model]) -> dict[str, bytes]:
        known = {
            name: (exported / "onnx" / f"{name}.onnx").read_bytes()
            for name in models
            if not name.startswith("gru")
        }
        return known | to_onnx({name: model for name, model in models.items() if name not in known})

    monkeypatch.setattr(convert, "to_onnx", gru_only)
    small, out = with_gru_layers(finished, 3, tmp_path / "work"), tmp_path / "models"
    done = CliRunner().invoke(app, ["export", small.work.uri, "-o", str(out)])
    assert done.exit_code == 0, done.output
    assert "3 GRU layers over the slices' embeddings" in (out / "README.md").read_text(
        encoding="utf-8"
    )
    chosen = choose(open_run(small.study, small.work), head=Head.GRU)
    longest = max(images.values(), key=len)
    scores = {
        voter.fold: voter.score for voter in vote(chosen, [longest], small.workshop)[0].voters
    }
    monkeypatch.syspath_prepend(str(out))
    monkeypatch.delitem(sys.modules, "predict_onnx", raising=False)
    import predict_onnx

    found = {one["fold"]: one["score"] for one in predict_onnx.score(longest)[Head.GRU]["by_fold"]}
    assert found == pytest.approx(scores, abs=CLOSE)


def test_a_gru_head_of_one_layer_is_asked_for_as_it_is(finished: SmallWork, tmp_path: Path) -> None:
    from renal_ray.apply.exported.export import _model

    small = with_gru_layers(finished, 1, tmp_path / "work")
    chosen = choose(open_run(small.study, small.work), head=Head.GRU)
    model = _model(chosen, chosen.voters[0], small.workshop)
    assert model.architecture.gru_layers == 1
    (tmp_path / "weights.h5").write_bytes(model.weights)
    assert {name.partition("/")[0] for name in load_weights_h5(tmp_path / "weights.h5")} == {
        "scores",
        "gru_1",
    }


@pytest.mark.parametrize(
    ("head", "name"), [(Head.GRU, "gru_3/gru_cell/bias"), (Head.IMAGE, "conv2d/kernel")]
)
def test_surplus_weights_of_a_trial_are_refused_by_name(
    head: Head, name: str, finished: SmallWork, tmp_path: Path
) -> None:
    """Weights that a frozen layer or a further GRU layer would have, in a file whose checksums
    agree: by whatever command uses the trial."""
    from renal_ray.trial.workshop import with_weights

    work = Place(str(tmp_path / "work"))
    shutil.copytree(finished.work.path(), work.path())
    chosen = choose(open_run(finished.study, work), head=head)
    spec = chosen.voters[0]
    for change, said in (({name: np.zeros(3, np.float32)}, "surplus"), (None, "missing")):
        weights = load_weights_h5(finished.work.read(f"trials/{spec.trial_id}/weights.h5"))
        weights = (
            weights | change
            if change
            else {key: one for key, one in weights.items() if key != "scores/bias"}
        )
        data = save_weights_h5(weights)
        work.write(f"trials/{spec.trial_id}/weights.h5", data)
        result = work.read_checked_json(f"trials/{spec.trial_id}/result.json")
        work.write_checked_json(
            f"trials/{spec.trial_id}/result.json",
            result | {"files": result["files"] | {"weights.h5": hashlib.sha256(data).hexdigest()}},
        )
        with pytest.raises(
            StudyError,
            match=(
                rf"{spec.trial_id}/weights\.h5: weights: "
                rf"{name if change else 'scores/bias'} is {said}"
            ),
        ):
            with_weights(spec, work, finished.workshop)


def test_model_card(exported: Path, finished: SmallWork) -> None:
    text = (exported / "README.md").read_text(encoding="utf-8")
    _, front, body = text.split("---\n", 2)
    card = yaml.safe_load(front)
    assert card["license"] == "other"
    assert "not-for-clinical-use" in card["tags"]
    chosen = choose(open_run(finished.study, finished.work))
    first = card["model-index"][0]["results"][0]
    assert {one["type"]: one["value"] for one in first["metrics"]}["roc_auc"] == pytest.approx(
        chosen.validation("auc")[0], abs=1e-4
    )
    for words in (
        "Not for clinical use",
        "random weights",
        "not calibrated",
        "for the authors to write",
        "## Limitations",
        "The sealed test has not been opened",
    ):
        assert words in body
    n = len(finished.splits.training)
    assert f"| cross-validation | {n} |" in body
    assert (
        f"| sealed test | {len(finished.splits.test)} | sealed |" in body
    )  # nobody has opened the seal
    assert not re.search(r"(?<![\w.])/[a-z]+/[a-z]", text)  # no path of the machine
    for patient in finished.splits.labels:
        assert patient not in text


def test_hugging_face_reads_every_result_by_itself(exported: Path, finished: SmallWork) -> None:
    """Each head and split with its own value of every metric; what it takes for the same model and
    data it would join in silence."""
    hub = pytest.importorskip("huggingface_hub")
    results = hub.ModelCard.load(exported / "README.md").data.eval_results
    front = yaml.safe_load(
        (exported / "README.md").read_text(encoding="utf-8").split("---\n", 2)[1]
    )["model-index"][0]["results"]
    assert len(results) == sum(len(one["metrics"]) for one in front)
    assert {(one.dataset_config, one.dataset_split) for one in results} == {
        (str(head), "validation") for head in finished.study.heads.use
    }
    found = {(one.dataset_config, one.metric_type): one.metric_value for one in results}
    assert len(found) == len(results)
    run = open_run(finished.study, finished.work)
    for head in finished.study.heads.use:
        assert found[head, "roc_auc"] == pytest.approx(
            choose(run, head=head).validation("auc")[0], abs=1e-4
        )


def test_an_export_is_replaced_and_nothing_else_is(
    exported: Path, finished: SmallWork, tmp_path: Path
) -> None:
    (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")
    done = CliRunner().invoke(app, ["export", finished.work.uri, "-o", str(tmp_path)])
    assert done.exit_code == 2
    assert "holds no config.json" in done.output
    done = CliRunner().invoke(
        app, ["export", finished.work.uri, "-o", str(tmp_path / "x"), "--dataset", "slice"]
    )
    assert done.exit_code == 2
    assert "the study has roi" in done.output
