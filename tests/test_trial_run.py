"""A trial's directory: what is in it, what is not, and that it is the same each time."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from conftest import SmallWork
from sklearn import metrics as sk

from renal_ray.store.ledger import Ledger
from renal_ray.store.slices import Slices
from renal_ray.trial.run import attempt_trial
from renal_ray.trial.spec import TrialSpec
from renal_ray.trial.workshop import Workshop
from renal_ray.types import Dataset, FreezePoint, Head

FILES = [
    "embeddings.arrow",
    "history.parquet",
    "predictions.parquet",
    "result.json",
    "spec.json",
    "weights.h5",
]


def predictions(small: SmallWork, spec: TrialSpec) -> pd.DataFrame:
    return small.work.read_parquet(f"trials/{spec.trial_id}/predictions.parquet")


def test_a_trial_leaves_exactly_its_files(trained: SmallWork) -> None:
    ledger = Ledger(trained.work)
    assert ledger.trial_ids() == sorted(trained.results)
    for spec in trained.specs():
        assert ledger.folder(spec.trial_id).entries() == FILES
        assert TrialSpec.from_json(ledger.folder(spec.trial_id).read_json("spec.json")) == spec
        assert ledger.state(spec.trial_id) == "finished"
        for name in set(FILES) - {"result.json"}:
            ledger.read_checked(spec.trial_id, name)


def test_the_history_has_its_columns(trained: SmallWork) -> None:
    for spec in trained.specs():
        table = trained.work.read_parquet(f"trials/{spec.trial_id}/history.parquet")
        assert {name: str(kind) for name, kind in table.dtypes.items()} == {
            "epoch": "int32",
            **dict.fromkeys(
                ("loss", "accuracy", "val_loss", "val_accuracy", "val_auc", "seconds"), "float32"
            ),
        }
        assert table["epoch"].tolist() == list(range(1, spec.epochs + 1))
        assert np.isfinite(table.to_numpy(np.float64)).all()


def test_the_predictions_have_their_columns_and_patients(trained: SmallWork) -> None:
    for spec in trained.specs():
        table = pa.parquet.read_table(
            trained.work.path(f"trials/{spec.trial_id}/predictions.parquet")
        )
        kinds = {field.name: str(field.type).removeprefix("large_") for field in table.schema}
        assert kinds == {
            "patient_id": "string",
            "slice_index": "int32",
            "label": "int8",
            "score": "float",
            "part": "string",
        }
        frame = predictions(trained, spec)
        fold = trained.splits.fold(spec.fold)
        for part, patients in (("train", fold.train), ("validation", fold.validation)):
            rows = frame[frame["part"] == part]
            assert set(rows["patient_id"]) == set(patients)
            if spec.head is not Head.IMAGE:
                assert len(rows) == len(patients)
        assert set(frame["part"]) == {"train", "validation"}
        assert not set(frame["patient_id"]) & trained.splits.test
        assert (frame["slice_index"].isna() == (spec.head is not Head.IMAGE)).all()
        assert frame["score"].between(0, 1).all()


def test_embeddings_are_of_every_training_and_validation_patient_in_slice_order(
    trained: SmallWork,
) -> None:
    slices = Slices(trained.work, Dataset.ROI, sealed=trained.splits.test)
    for spec in trained.specs():
        reader = pa.ipc.open_file(
            trained.work.path(f"trials/{spec.trial_id}/embeddings.arrow").read_bytes()
        )
        width = {
            Head.IMAGE: trained.study.training.embedding,
            Head.FC: trained.study.training.embedding,
            Head.GRU: trained.study.training.gru_units,
        }[spec.head]
        assert reader.schema.field("embedding").type == pa.fixed_shape_tensor(pa.float32(), [width])
        seen = []
        for number in range(reader.num_record_batches):
            batch = reader.get_batch(number)
            [patient] = set(batch.column("patient_id").to_pylist())
            seen.append(patient)
            index = batch.column("slice_index").to_pylist()
            assert index == (
                slices.slice_index(patient).tolist() if spec.head is Head.IMAGE else [None]
            )
        assert sorted(seen) == sorted(trained.splits.training)
        assert not set(seen) & trained.splits.test


def by_level(frame: pd.DataFrame, head: Head) -> dict[str, pd.DataFrame]:
    validation = frame[frame["part"] == "validation"].astype({"score": "float64"})
    if head is not Head.IMAGE:
        return {"patient": validation}
    return {
        "slice": validation,
        "patient": validation.astype({"score": "float32"})
        .groupby("patient_id")
        .agg(label=("label", "first"), score=("score", "mean")),
    }


def test_thresholds_and_metrics_are_scikit_learn_s_on_validation_alone(trained: SmallWork) -> None:
    for spec in trained.specs():
        levels = trained.results[spec.trial_id]["levels"]
        tables = by_level(predictions(trained, spec), spec.head)
        assert levels.keys() == tables.keys()
        for level, table in tables.items():
            labels, scores = table["label"].to_numpy(), table["score"].to_numpy(np.float64)
            candidates = sorted(set(scores))
            j = [
                ((scores >= t) & (labels == 1)).sum() / (labels == 1).sum()
                + ((scores < t) & (labels == 0)).sum() / (labels == 0).sum()
                for t in candidates
            ]
            best = max(
                t
                for t, value in zip(candidates, j, strict=True)
                if np.isclose(value, max(j), atol=1e-9)
            )
            assert levels[level]["threshold"] == best
            decided = (scores >= best).astype(int)
            found = levels[level]["metrics"]
            assert found["auc"] == pytest.approx(sk.roc_auc_score(labels, scores), abs=1e-12)
            assert found["acc"] == pytest.approx(sk.accuracy_score(labels, decided))
            assert found["sen"] == pytest.approx(sk.recall_score(labels, decided))
            assert found["spec"] == pytest.approx(sk.recall_score(labels, decided, pos_label=0))
            for name, value in (
                ("ppv", sk.precision_score(labels, decided, zero_division=np.nan)),
            ):
                assert (
                    found[name] is None if np.isnan(value) else found[name] == pytest.approx(value)
                )
            assert found["mcc"] is None or found["mcc"] == pytest.approx(
                sk.matthews_corrcoef(labels, decided)
            )


def test_the_result_counts_and_names_what_it_was_made_with(trained: SmallWork) -> None:
    counts = Slices(trained.work, Dataset.ROI, sealed=trained.splits.test).counts()
    for spec in trained.specs():
        result = trained.results[spec.trial_id]
        fold = trained.splits.fold(spec.fold)
        assert result.keys() == {
            "trial_id",
            "levels",
            "n",
            "epoch_kept",
            "seconds",
            "samples",
            "images_per_second",
            "matrix_gflops",
            "trained_parameters",
            "versions",
            "node",
            "finished",
            "files",
        }
        assert result == trained.work.read_checked_json(f"trials/{spec.trial_id}/result.json")
        images = {
            side: sum(counts[one] for one in people)
            for side, people in (("train", fold.train), ("validation", fold.validation))
        }
        assert result["n"] == {
            "train_patients": len(fold.train),
            "validation_patients": len(fold.validation),
            "train_images": images["train"] if spec.head is Head.IMAGE else None,
            "validation_images": images["validation"] if spec.head is Head.IMAGE else None,
        }
        assert result["epoch_kept"] == spec.epochs
        assert result["seconds"].keys() == {"data", "setup", "train", "total"}
        assert result["trained_parameters"] > 0
        assert set(result["files"]) == set(FILES) - {"result.json"}


def test_the_last_epoch_s_numbers_are_those_of_the_kept_model(trained: SmallWork) -> None:
    """At mixed10 there are no statistics to estimate anew: the trace's last validation AUC is the
    result's."""
    for spec in trained.specs(Head.IMAGE):
        last = trained.work.read_parquet(f"trials/{spec.trial_id}/history.parquet")["val_auc"].iloc[
            -1
        ]
        if spec.freeze_point is FreezePoint.MIXED10:
            assert last == pytest.approx(
                trained.results[spec.trial_id]["levels"]["slice"]["metrics"]["auc"], abs=1e-6
            )


def test_what_carries_a_signal_is_learnt(trained: SmallWork) -> None:
    aucs = [
        trained.results[spec.trial_id]["levels"]["slice"]["metrics"]["auc"]
        for spec in trained.specs(Head.IMAGE)
    ]
    assert np.mean(aucs) > 0.75


def bytes_of(small: SmallWork, spec: TrialSpec) -> dict[str, bytes]:
    folder = Ledger(small.work).folder(spec.trial_id)
    history = folder.read_parquet("history.parquet").drop(columns="seconds").to_csv().encode()
    return {
        name: folder.read(name)
        for name in ("weights.h5", "predictions.parquet", "embeddings.arrow", "spec.json")
    } | {"history": history}


def test_a_replayed_trial_is_the_same_to_the_last_byte(trained: SmallWork, tmp_path: Path) -> None:
    """The session's workshop had trained other trials before these; a fresh one, trial by trial,
    must give the same."""
    small = trained.copy(tmp_path / "work")
    image = trained.specs(Head.IMAGE)
    chosen = [
        next(spec for spec in reversed(image) if spec.freeze_point == point)
        for point in (FreezePoint.MIXED9, FreezePoint.MIXED10)
    ]
    chosen += [
        spec
        for head in (Head.FC, Head.GRU)
        for spec in trained.specs(head)
        if spec.image_trial in {one.trial_id for one in chosen}
    ]
    assert {spec.head for spec in chosen} == set(Head)
    for spec in chosen:
        small.run(spec, Workshop(small.work))
        assert bytes_of(small, spec) == bytes_of(trained, spec), spec.trial_id
        assert (
            Ledger(small.work).result(spec.trial_id)["levels"]
            == trained.results[spec.trial_id]["levels"]
        )  # type: ignore[index]


def test_moving_statistics_change_the_statistics_of_image_heads_and_nothing_else(
    trained: SmallWork, tmp_path: Path
) -> None:
    from renal_ray.model.weight_files import load_weights_h5

    moving = trained.copy(
        tmp_path / "work",
        training=trained.study.training.model_dump() | {"bn_statistics": "moving"},
    )
    for point, differs in ((FreezePoint.MIXED9, True), (FreezePoint.MIXED10, False)):
        spec, other = (
            moving.plan.image_specs(Dataset.ROI, point)[0],
            trained.plan.image_specs(Dataset.ROI, point)[0],
        )
        assert spec.trial_id != other.trial_id
        moving.run(spec, trained.workshop)
        kept, estimated = (
            load_weights_h5(one.work.read(f"trials/{named.trial_id}/weights.h5"))
            for one, named in ((moving, spec), (trained, other))
        )
        changed = {name for name in kept if not np.array_equal(kept[name], estimated[name])}
        assert all("moving_" in name for name in changed)
        assert bool(changed) == differs
        assert (
            bytes_of(moving, spec)["predictions.parquet"]
            != bytes_of(trained, other)["predictions.parquet"]
        ) == differs


def test_a_permuted_trial_is_judged_by_its_own_labels_and_selects_nothing(
    trained: SmallWork,
) -> None:
    controls = [spec for spec in trained.specs() if spec.labels != "true"]
    assert len(controls) == 4
    differing = 0
    for spec in controls:
        frame = predictions(trained, spec)
        true = frame["patient_id"].map(trained.splits.labels)
        differing += int((frame["label"] != true).sum())
        for _, rows in frame.groupby("patient_id"):
            assert rows["label"].nunique() == 1
    assert differing > 0
    without = {name: result for name, result in trained.results.items() if "permuted" not in name}
    assert trained.plan.selected(Dataset.ROI, without) == trained.plan.selected(
        Dataset.ROI, trained.results
    )
    assert not {spec.image_trial for spec in trained.specs()} & {spec.trial_id for spec in controls}


def test_a_trial_that_fails_keeps_why_and_nothing_of_a_result(
    trained: SmallWork, tmp_path: Path
) -> None:
    small = trained.copy(tmp_path / "work")
    spec = trained.specs(Head.FC)[0]
    with pytest.raises(FileNotFoundError):
        list(attempt_trial(spec, small.work, small.splits, trained.workshop))
    ledger = Ledger(small.work)
    assert ledger.state(spec.trial_id) == "failed"
    assert ledger.folder(spec.trial_id).entries() == ["claim.txt", "error.txt", "spec.json"]
    assert "FileNotFoundError" in ledger.error(spec.trial_id)
    image = next(one for one in trained.specs(Head.IMAGE) if one.trial_id == spec.image_trial)
    small.run(image, trained.workshop)
    epochs = list(attempt_trial(spec, small.work, small.splits, trained.workshop))
    assert [epoch.epoch for epoch in epochs] == [1, 2, 3]
    assert ledger.folder(spec.trial_id).entries() == FILES


def test_best_val_auc_keeps_the_weights_of_the_epoch_it_names(
    trained: SmallWork, tmp_path: Path
) -> None:
    best = trained.copy(
        tmp_path / "work",
        training=trained.study.training.model_dump()
        | {"keep": "best_val_auc", "learning_rate": 0.05},
    )
    spec = best.plan.image_specs(Dataset.ROI, FreezePoint.MIXED10)[0]
    result = best.run(spec, trained.workshop)
    history = best.work.read_parquet(f"trials/{spec.trial_id}/history.parquet")
    assert result["epoch_kept"] == int(history["val_auc"].idxmax()) + 1
    assert result["levels"]["slice"]["metrics"]["auc"] == pytest.approx(
        history["val_auc"].max(), abs=1e-6
    )
