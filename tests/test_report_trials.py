"""Which trials of a work directory enter the report; and a synthetic work directory to ask that of."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from renal_ray.config import Controls, Folds, Split, Study, Training, dump_study
from renal_ray.problems import StudyError
from renal_ray.protocol.metrics import evaluate
from renal_ray.protocol.permutation import permuted_labels
from renal_ray.protocol.splits import SplitSet, make_splits
from renal_ray.protocol.thresholds import youden_threshold
from renal_ray.protocol.vote import majority
from renal_ray.report.evidence import read_evidence
from renal_ray.store.ledger import Ledger
from renal_ray.store.place import Place
from renal_ray.trial.spec import Inputs, TrialSpec, make_spec
from renal_ray.types import Dataset, FreezePoint, Head

N_PATIENTS = 60
HOSTILE = "<script>alert('x')</script> & \"quoted\""
INPUTS = Inputs(slices="s" * 64, splits="p" * 64, weights="w" * 64)
SKILL = {FreezePoint.MIXED0: 0.8, FreezePoint.MIXED6: 1.6, FreezePoint.MIXED3: 1.0, FreezePoint.MIXED9: 0.7, FreezePoint.MIXED10: 0.4}


def study_at(work: Path, **changes) -> Study:
    settings = {
        "name": "synthetic",
        "work": str(work),
        "cohort": {"manifest": "manifest.csv"},
        "datasets": [Dataset.ROI, Dataset.SLICE],
        "freeze_points": [FreezePoint.MIXED0, FreezePoint.MIXED6],
        "training": Training(epochs={"image": 4, "fc": 3, "gru": 3}),
        "controls": Controls(permuted_labels=True, permutations=2),
    }
    return Study.model_validate({**settings, **changes})


class Synthetic:
    """A work directory with the files of a finished study, of random predictions."""

    def __init__(self, study: Study, seed: int = 1) -> None:
        self.study, self.rng, self.work = study, np.random.default_rng(seed), Place(study.work)
        labels = self.rng.permutation([1] * 36 + [0] * 24)
        self.cohort = pd.DataFrame(
            {
                "patient_id": [f"case{i:03d}" for i in range(N_PATIENTS)],
                "label": labels.astype("int8"),
                "image": "i",
                "mask": "m",
                "sex": self.rng.choice(["male", "female"], N_PATIENTS),
                "age": self.rng.normal(62, 12, N_PATIENTS).round(),
                "location": self.rng.choice(["exophytic", "mesophytic", "endophytic"], N_PATIENTS),
                "max_diameter_mm": self.rng.uniform(10, 90, N_PATIENTS),
                "n_images": self.rng.integers(3, 9, N_PATIENTS),
                "n_slices_total": 60,
            }
        )
        self.splits = make_splits(self.cohort, seed=study.seed, split=Split(), folds=Folds())
        self.specs: dict[tuple, TrialSpec] = {}
        self.work.write_parquet("cohort.parquet", self.cohort)
        self.work.write_json("splits.json", self.splits.to_json())
        rows = pd.DataFrame([{"patient_id": HOSTILE, "file": f"{HOSTILE}.dcm", "code": "tilt", "message": f"tilted {HOSTILE}"}])
        self.work.write("quarantine.csv", rows.to_csv(index=False).encode())
        provenance = {"versions": {"numpy": HOSTILE}, "created": "2026-01-02T03:04:05+00:00"}
        self.work.write("study.yaml", dump_study(study, provenance).encode())

    def spec(self, dataset, point, head, fold, labels="true", study=None, inputs=INPUTS) -> TrialSpec:
        image = None if head is Head.IMAGE else self.specs[dataset, point, Head.IMAGE, fold].trial_id
        return make_spec(study or self.study, dataset=dataset, freeze_point=point, head=head, fold=fold, inputs=inputs, labels=labels, image_trial=image)

    def trial(self, spec: TrialSpec, *, skill: float, finished: str = "2026-02-01T00:00:00+00:00", truth: dict | None = None) -> None:
        """Writes one finished trial."""
        truth = truth or dict(self.splits.labels)
        validation = self._rows(self.splits.fold(spec.fold).validation, spec.head, truth, skill).assign(part="validation")
        train = self._rows(self.splits.fold(spec.fold).train, spec.head, truth, 3.0).assign(part="train")
        levels = {}
        if spec.head is Head.IMAGE:
            levels["slice"] = self._scored(validation)
            levels["patient"] = self._scored(validation.groupby("patient_id", as_index=False).agg(label=("label", "first"), score=("score", "mean")))
        else:
            levels["patient"] = self._scored(validation)
        ledger = Ledger(self.work)
        folder = ledger.begin(spec.trial_id, spec.to_json())
        epochs = np.arange(1, spec.epochs + 1, dtype=np.int32)
        history = {name: self.rng.random(spec.epochs, dtype=np.float32) for name in ("loss", "accuracy", "val_loss", "val_accuracy", "seconds")}
        folder.write_parquet("history.parquet", pd.DataFrame({"epoch": epochs, **history, "val_auc": np.full(spec.epochs, np.nan, np.float32)}))
        folder.write_parquet("predictions.parquet", pd.concat([validation, train], ignore_index=True))
        seconds = {"data": 1.0, "setup": 2.0, "train": 57.0, "total": 60.0 + spec.fold}
        result = {
            "trial_id": spec.trial_id,
            "levels": levels,
            "seconds": seconds,
            "versions": {"keras": "3.15"},
            "finished": finished,
            "epoch_kept": spec.epochs,
        }
        ledger.finish(spec.trial_id, result)
        if spec.labels == "true":
            self.specs[spec.dataset, spec.freeze_point, spec.head, spec.fold] = spec

    def _rows(self, patients, head: Head, truth: dict, skill: float) -> pd.DataFrame:
        counts = self.cohort.set_index("patient_id")["n_images"]
        times = [int(counts[p]) if head is Head.IMAGE else 1 for p in patients]
        ids = np.repeat(list(patients), times)
        labels = np.array([truth[p] for p in ids], dtype=np.int8)
        score = 1 / (1 + np.exp(-(skill * (2 * labels - 1) / 2 + self.rng.normal(0, 1, len(ids)))))
        index = [i if head is Head.IMAGE else None for n in times for i in range(n)]
        return pd.DataFrame({"patient_id": ids, "slice_index": pd.array(index, dtype="Int32"), "label": labels, "score": score.astype(np.float32)})

    def _scored(self, table: pd.DataFrame) -> dict:
        threshold = youden_threshold(table["label"], table["score"])
        return {"threshold": threshold, "metrics": evaluate(table["label"], table["score"], threshold)}

    def train(self, heads=tuple(Head), points=None, without=()) -> None:
        for dataset in self.study.datasets:
            for head in heads:
                for point in points or self.study.freeze_points:
                    for fold in range(5):
                        if (dataset, point, head, fold) not in without:
                            self.trial(self.spec(dataset, point, head, fold), skill=SKILL[point] + (0.8 if head is not Head.IMAGE else 0))

    def control(self) -> None:
        """Permuted trials with scores that would look perfect, to see them if they ever mixed with the others."""
        for dataset in self.study.datasets:
            for index in range(2):
                truth = {**self.splits.labels, **permuted_labels(self.splits, seed=self.study.seed, index=index)}
                for fold in range(5):
                    skill = 40.0 if dataset is Dataset.SLICE else 0.0
                    self.trial(self.spec(dataset, FreezePoint.MIXED6, Head.IMAGE, fold, f"permuted-{index}"), skill=skill, truth=truth)

    def fail(self, spec: TrialSpec, error: str) -> None:
        ledger = Ledger(self.work)
        ledger.begin(spec.trial_id, spec.to_json())
        ledger.fail(spec.trial_id, error)

    def test(self, openings: int = 1, points=(FreezePoint.MIXED6,)) -> None:
        votes, predictions = [], []
        patients = sorted(self.splits.test)
        for dataset in self.study.datasets:
            for point in points:
                for head in Head:
                    for level in ("slice", "patient") if head is Head.IMAGE else ("patient",):
                        base = self._rows(patients, Head.IMAGE if level == "slice" else Head.FC, dict(self.splits.labels), 0)
                        keys = base[["patient_id", "slice_index", "label"]].assign(dataset=str(dataset), freeze_point=str(point), head=str(head), level=level)
                        scores = np.clip(self.rng.normal(0.35 + 0.3 * base["label"].to_numpy(), 0.2, (5, len(base))), 0, 1)
                        decisions = (scores >= 0.5).astype(int)
                        for fold in range(5):
                            trial_id = self.specs[dataset, point, head, fold].trial_id
                            predictions.append(keys.assign(fold=fold, trial_id=trial_id, score=scores[fold], threshold=0.5, decision=decisions[fold]))
                        result = majority(decisions, scores)
                        votes.append(keys.assign(votes=result.votes, n_models=5, decision=result.decision, score=result.score))
        self.votes = pd.concat(votes, ignore_index=True)
        self.work.write_parquet("test/votes.parquet", self.votes)
        self.work.write_parquet("test/predictions.parquet", pd.concat(predictions, ignore_index=True))
        for number in range(openings):
            line = {"opened": f"2026-03-0{number + 1}T00:00:00+00:00", "patients": len(patients), "slices": 9, "models": 30, "models_sha256": "ab" * 32}
            self.work.append_line("test/seal.jsonl", json.dumps({**line, "program": HOSTILE}))


def test_trials_of_other_settings_data_or_split_enter_nothing(tmp_path):
    made = Synthetic(study_at(tmp_path))
    made.train(heads=[Head.IMAGE])
    before = read_evidence(made.study)
    faster = study_at(tmp_path, training=Training(epochs={"image": 4}, learning_rate=0.1))
    made.trial(made.spec(Dataset.ROI, FreezePoint.MIXED0, Head.IMAGE, 0, study=faster), skill=9)
    older = INPUTS.model_copy(update={"slices": "o" * 64})
    made.trial(made.spec(Dataset.ROI, FreezePoint.MIXED0, Head.IMAGE, 1, inputs=older), skill=9, finished="2025-01-01T00:00:00+00:00")
    made.splits = make_splits(made.cohort, seed=99, split=Split(), folds=Folds(method="stratified"))
    other = INPUTS.model_copy(update={"splits": "q" * 64})
    made.trial(made.spec(Dataset.ROI, FreezePoint.MIXED0, Head.IMAGE, 2, inputs=other), skill=9, finished="2027-01-01T00:00:00+00:00")
    after = read_evidence(made.study)
    assert [t.spec for t in after.trials.true] == [t.spec for t in before.trials.true]
    assert (before.trials.set_aside, after.trials.set_aside) == (0, 3)


def test_newer_inputs_replace_older_ones_whole(tmp_path):
    made = Synthetic(study_at(tmp_path))
    made.train(heads=[Head.IMAGE], points=[FreezePoint.MIXED0])
    newer = INPUTS.model_copy(update={"weights": "n" * 64})
    made.trial(made.spec(Dataset.ROI, FreezePoint.MIXED0, Head.IMAGE, 2, inputs=newer), skill=1, finished="2027-01-01T00:00:00+00:00")
    evidence = read_evidence(made.study)
    assert [t.spec.fold for t in evidence.cell(Dataset.ROI, FreezePoint.MIXED0, Head.IMAGE)] == [2]
    assert len(evidence.cell(Dataset.SLICE, FreezePoint.MIXED0, Head.IMAGE)) == 5


def test_unprepared_and_damaged_studies_say_so(tmp_path):
    with pytest.raises(StudyError, match=r"cohort\.parquet is missing: run `renal-ray prepare` first"):
        read_evidence(study_at(tmp_path))
    made = Synthetic(study_at(tmp_path))
    made.train(heads=[Head.IMAGE], points=[FreezePoint.MIXED0])
    victim = next((tmp_path / "trials").glob("*/predictions.parquet"))
    victim.write_bytes(victim.read_bytes()[:-1] + b"X")
    with pytest.raises(StudyError, match="is damaged"):
        read_evidence(made.study)


def test_split_file_is_the_contract(tmp_path):
    made = Synthetic(study_at(tmp_path))
    assert SplitSet.from_json(json.loads((tmp_path / "splits.json").read_text())) == made.splits
