"""Which trials of a work directory enter the report; and a synthetic work directory to ask that
of."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from renal_ray.config import Controls, Folds, Split, Study, Training
from renal_ray.problems import StudyError
from renal_ray.protocol.metrics import evaluate
from renal_ray.protocol.permutation import permuted_labels
from renal_ray.protocol.splits import SplitSet, make_splits
from renal_ray.protocol.thresholds import youden_threshold
from renal_ray.protocol.vote import majority
from renal_ray.report.evidence import read_evidence
from renal_ray.report.page import write_report
from renal_ray.store.ledger import Ledger
from renal_ray.store.place import Place, digest
from renal_ray.store.slices import write_index
from renal_ray.study_file import dump_study
from renal_ray.trial import prepared
from renal_ray.trial.plan import make_plan
from renal_ray.trial.spec import Inputs, TrialSpec, make_spec
from renal_ray.types import DATASETS, Dataset, FreezePoint, Head

N_PATIENTS = 60
HOSTILE = "<script>alert('x')</script> & \"quoted\""
SKILL = {
    FreezePoint.MIXED0: 0.8,
    FreezePoint.MIXED6: 1.6,
    FreezePoint.MIXED3: 1.0,
    FreezePoint.MIXED9: 0.7,
    FreezePoint.MIXED10: 0.4,
}
BEST = FreezePoint.MIXED6


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
        self.splits = make_splits(
            self.cohort, seed=study.seed, split=study.split, folds=study.folds
        )
        self.specs: dict[tuple, TrialSpec] = {}
        self.work.write_parquet("cohort.parquet", self.cohort)
        self.work.write_json("splits.json", self.splits.to_json())
        rows = pd.DataFrame(
            [
                {
                    "patient_id": HOSTILE,
                    "file": f"{HOSTILE}.dcm",
                    "code": "tilt",
                    "message": f"tilted {HOSTILE}",
                    "severity": "error",
                }
            ]
        )
        self.work.write("quarantine.csv", rows.to_csv(index=False).encode())
        provenance = {"versions": {"numpy": HOSTILE}, "created": "2026-01-02T03:04:05+00:00"}
        self.work.write("study.yaml", dump_study(study, provenance).encode())
        self.prepare(DATASETS)

    def prepare(self, datasets, pixels: str = "") -> None:
        """Writes the indexes of some datasets, with pixels named by a word, and declares the study
        prepared; a trial reads nothing else here."""
        for dataset in datasets:
            hashes = [digest([pixels, dataset, patient]) for patient in self.cohort["patient_id"]]
            rows = self.cohort[["patient_id", "label"]].assign(
                file="shard.arrow",
                batch=range(N_PATIENTS),
                rows=self.cohort["n_images"],
                sha256=hashes,
            )
            write_index(self.work, dataset, rows.to_dict("records"))
        prepared.declare(self.study, self.work)
        self.inputs: Mapping[Dataset, Inputs] = make_plan(self.study, self.work).inputs

    def spec(self, dataset, point, head, fold, labels="true", study=None, inputs=None) -> TrialSpec:
        image = (
            None if head is Head.IMAGE else self.specs[dataset, point, Head.IMAGE, fold].trial_id
        )
        inputs = inputs or self.inputs[dataset]
        return make_spec(
            study or self.study,
            dataset=dataset,
            freeze_point=point,
            head=head,
            fold=fold,
            inputs=inputs,
            labels=labels,
            image_trial=image,
        )

    def trial(
        self,
        spec: TrialSpec,
        *,
        skill: float,
        finished: str = "2026-02-01T00:00:00+00:00",
        truth: dict | None = None,
    ) -> None:
        """Writes one finished trial."""
        truth = truth or dict(self.splits.labels)
        validation = self._rows(
            self.splits.fold(spec.fold).validation, spec.head, truth, skill
        ).assign(part="validation")
        train = self._rows(self.splits.fold(spec.fold).train, spec.head, truth, 3.0).assign(
            part="train"
        )
        levels = {}
        if spec.head is Head.IMAGE:
            levels["slice"] = self._scored(validation)
            levels["patient"] = self._scored(
                validation.groupby("patient_id", as_index=False).agg(
                    label=("label", "first"), score=("score", "mean")
                )
            )
        else:
            levels["patient"] = self._scored(validation)
        ledger = Ledger(self.work)
        folder = ledger.begin(spec.trial_id, spec.to_json())
        epochs = np.arange(1, spec.epochs + 1, dtype=np.int32)
        history = {
            name: self.rng.random(spec.epochs, dtype=np.float32)
            for name in ("loss", "accuracy", "val_loss", "val_accuracy", "seconds")
        }
        folder.write_parquet(
            "history.parquet",
            pd.DataFrame(
                {"epoch": epochs, **history, "val_auc": np.full(spec.epochs, np.nan, np.float32)}
            ),
        )
        folder.write_parquet(
            "predictions.parquet", pd.concat([validation, train], ignore_index=True)
        )
        folder.write("weights.h5", b"weights")
        folder.write("embeddings.arrow", b"embeddings")
        seconds = {"data": 1.0, "setup": 2.0, "train": 57.0, "total": 60.0 + spec.fold}
        result = {
            "trial_id": spec.trial_id,
            "levels": levels,
            "seconds": seconds,
            "versions": {"keras": "3.15"},
            "finished": finished,
            "epoch_kept": spec.epochs,
        }
        if spec.dataset is not Dataset.RBR:  # results of earlier versions tell less
            result |= {"samples": 570, "images_per_second": 10.0, "matrix_gflops": 40.0 + spec.fold}
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
        return pd.DataFrame(
            {
                "patient_id": ids,
                "slice_index": pd.array(index, dtype="Int32"),
                "label": labels,
                "score": score.astype(np.float32),
            }
        )

    def _scored(self, table: pd.DataFrame) -> dict:
        threshold = youden_threshold(table["label"], table["score"])
        return {
            "threshold": threshold,
            "metrics": evaluate(table["label"], table["score"], threshold),
        }

    def train(self, heads=tuple(Head), points=None, without=(), datasets=None) -> None:
        """Image trials of every freeze point, then heads on the image trials of the freeze point
        that wins."""
        for dataset in datasets or self.study.datasets:
            for head in heads:
                for point in points or (self.study.freeze_points if head is Head.IMAGE else [BEST]):
                    for fold in range(5):
                        if (dataset, point, head, fold) not in without:
                            self.trial(
                                self.spec(dataset, point, head, fold),
                                skill=SKILL[point] + (0.8 if head is not Head.IMAGE else 0),
                            )

    def control(self, datasets=None) -> None:
        """Permuted trials with scores that would look perfect, to see them if they ever mixed with
        the others."""
        for dataset in datasets or self.study.datasets:
            for index in range(2):
                truth = {
                    **self.splits.labels,
                    **permuted_labels(self.splits, seed=self.study.seed, index=index),
                }
                for fold in range(5):
                    skill = 40.0 if dataset is Dataset.SLICE else 0.0
                    self.trial(
                        self.spec(dataset, BEST, Head.IMAGE, fold, f"permuted-{index}"),
                        skill=skill,
                        truth=truth,
                    )

    def fail(self, spec: TrialSpec, error: str) -> None:
        ledger = Ledger(self.work)
        ledger.begin(spec.trial_id, spec.to_json())
        ledger.fail(spec.trial_id, error)

    def test(self, openings: int = 1, points=(BEST,), datasets=None) -> None:
        votes, predictions = [], []
        patients = sorted(self.splits.test)
        for dataset in datasets or self.study.datasets:
            for point in points:
                for head in Head:
                    for level in ("slice", "patient") if head is Head.IMAGE else ("patient",):
                        base = self._rows(
                            patients,
                            Head.IMAGE if level == "slice" else Head.FC,
                            dict(self.splits.labels),
                            0,
                        )
                        keys = base[["patient_id", "slice_index", "label"]].assign(
                            dataset=str(dataset),
                            freeze_point=str(point),
                            head=str(head),
                            level=level,
                        )
                        scores = np.clip(
                            self.rng.normal(
                                0.35 + 0.3 * base["label"].to_numpy(), 0.2, (5, len(base))
                            ),
                            0,
                            1,
                        )
                        decisions = (scores >= 0.5).astype(int)
                        for fold in range(5):
                            trial_id = self.specs[dataset, point, head, fold].trial_id
                            predictions.append(
                                keys.assign(
                                    fold=fold,
                                    trial_id=trial_id,
                                    score=scores[fold],
                                    threshold=0.5,
                                    decision=decisions[fold],
                                )
                            )
                        result = majority(decisions, scores)
                        votes.append(
                            keys.assign(
                                votes=result.votes,
                                n_models=5,
                                decision=result.decision,
                                score=result.score,
                            )
                        )
        self.votes = pd.concat(votes, ignore_index=True)
        self.work.write_parquet("test/votes.parquet", self.votes)
        self.work.write_parquet(
            "test/predictions.parquet", pd.concat(predictions, ignore_index=True)
        )
        for number in range(openings):
            line = {
                "opened": f"2026-03-0{number + 1}T00:00:00+00:00",
                "patients": len(patients),
                "slices": 9,
                "models": 30,
                "models_sha256": "ab" * 32,
            }
            self.work.append_line("test/seal.jsonl", json.dumps({**line, "program": HOSTILE}))


def test_trials_of_other_settings_data_or_split_enter_nothing(tmp_path):
    made = Synthetic(study_at(tmp_path))
    made.train(heads=[Head.IMAGE])
    before = read_evidence(made.study)
    ours = made.inputs[Dataset.ROI]
    faster = study_at(tmp_path, training=Training(epochs={"image": 4}, learning_rate=0.1))
    made.trial(made.spec(Dataset.ROI, FreezePoint.MIXED0, Head.IMAGE, 0, study=faster), skill=9)
    older = ours.model_copy(update={"slices": "o" * 64})
    made.trial(
        made.spec(Dataset.ROI, FreezePoint.MIXED0, Head.IMAGE, 1, inputs=older),
        skill=9,
        finished="2025-01-01T00:00:00+00:00",
    )
    made.splits = make_splits(made.cohort, seed=99, split=Split(), folds=Folds(method="stratified"))
    other = ours.model_copy(update={"splits": "q" * 64})
    made.trial(
        made.spec(Dataset.ROI, FreezePoint.MIXED0, Head.IMAGE, 2, inputs=other),
        skill=9,
        finished="2027-01-01T00:00:00+00:00",
    )
    after = read_evidence(made.study)
    assert [t.spec for t in after.trials.true] == [t.spec for t in before.trials.true]
    assert len(after.trials.true) == 2 * 2 * 5
    assert (before.trials.set_aside, after.trials.set_aside) == (0, 3)


def test_trials_on_the_slices_of_now_enter_and_not_the_last_finished(tmp_path):
    made = Synthetic(study_at(tmp_path))
    made.train(heads=[Head.IMAGE], points=[FreezePoint.MIXED0])
    made.prepare([Dataset.ROI], pixels="cropped otherwise")
    evidence = read_evidence(made.study)
    assert not evidence.cell(Dataset.ROI, FreezePoint.MIXED0, Head.IMAGE)
    assert Dataset.ROI not in evidence.selected
    assert (
        len(evidence.cell(Dataset.SLICE, FreezePoint.MIXED0, Head.IMAGE)),
        evidence.trials.set_aside,
    ) == (5, 5)
    made.trial(
        made.spec(Dataset.ROI, FreezePoint.MIXED0, Head.IMAGE, 2),
        skill=1,
        finished="2025-01-01T00:00:00+00:00",
    )
    evidence = read_evidence(made.study)
    assert [t.spec.fold for t in evidence.cell(Dataset.ROI, FreezePoint.MIXED0, Head.IMAGE)] == [2]
    assert evidence.trials.set_aside == 5
    made.prepare([Dataset.ROI])  # as it was: the earlier trials are the study's again
    evidence = read_evidence(made.study)
    assert (
        len(evidence.cell(Dataset.ROI, FreezePoint.MIXED0, Head.IMAGE)),
        evidence.trials.set_aside,
    ) == (5, 1)


def test_controls_of_a_removed_permutation_are_set_aside(tmp_path):
    made = Synthetic(study_at(tmp_path))
    made.train(heads=[Head.IMAGE])
    made.control()
    everything = read_evidence(made.study).trials
    assert (len(everything.controls), everything.set_aside) == (2 * 2 * 5, 0)
    fewer = read_evidence(
        study_at(tmp_path, controls=Controls(permuted_labels=True, permutations=1))
    ).trials
    assert ({t.spec.labels for t in fewer.controls}, len(fewer.controls), fewer.set_aside) == (
        {"permuted-0"},
        10,
        10,
    )
    none = read_evidence(study_at(tmp_path, controls=Controls())).trials
    assert (none.controls, none.set_aside) == ((), 20)
    assert [t.spec for t in none.true] == [t.spec for t in everything.true]


def test_head_trials_follow_the_selected_freeze_point(tmp_path):
    made = Synthetic(study_at(tmp_path, datasets=[Dataset.ROI]))
    made.train()
    evidence = read_evidence(made.study)
    assert (evidence.selected, evidence.trials.set_aside) == ({Dataset.ROI: BEST}, 0)
    wider = study_at(
        tmp_path,
        datasets=[Dataset.ROI],
        freeze_points=[*made.study.freeze_points, FreezePoint.MIXED3],
    )
    evidence = read_evidence(wider)  # nothing is selected until the new freeze point is trained
    assert (evidence.selected, evidence.trials.set_aside) == ({Dataset.ROI: BEST}, 10)
    assert not evidence.cell(Dataset.ROI, BEST, Head.GRU)
    made.train(heads=[Head.IMAGE], points=[FreezePoint.MIXED3])
    evidence = read_evidence(wider)  # the new one is no better
    assert (evidence.selected, evidence.trials.set_aside) == ({Dataset.ROI: BEST}, 0)
    for fold in range(5):
        made.trial(made.spec(Dataset.ROI, FreezePoint.MIXED3, Head.IMAGE, fold), skill=6)
    evidence = read_evidence(wider)  # and now it is
    assert (evidence.selected, evidence.trials.set_aside) == ({Dataset.ROI: FreezePoint.MIXED3}, 10)
    assert {t.spec.head for t in evidence.trials.true} == {Head.IMAGE}


def test_unfinished_trials_are_those_begun_of_the_plan(tmp_path):
    made = Synthetic(study_at(tmp_path))
    made.train(heads=[Head.IMAGE], points=[FreezePoint.MIXED0])
    lost, failed = (made.spec(Dataset.ROI, FreezePoint.MIXED0, Head.IMAGE, fold) for fold in (0, 1))
    made.work.remove(f"trials/{lost.trial_id}/embeddings.arrow")
    made.fail(
        failed,
        "Traceback\nOSError: [Errno 28] No space left on device: "
        "'/data/of somebody/work/x.arrow'\n\n",
    )
    made.fail(
        made.spec(Dataset.ROI, FreezePoint.MIXED0, Head.IMAGE, 1, study=study_at(tmp_path, seed=3)),
        "of another study",
    )
    trials = read_evidence(made.study).trials
    assert {t.trial_id: t.reason for t in trials.unfinished} == {
        lost.trial_id: "",
        failed.trial_id: "OSError: [Errno 28] No space left on device: 'of somebody/work/x.arrow'",
    }
    assert (len(trials.true), trials.set_aside) == (8, 0)


def test_unprepared_and_damaged_studies_say_so(tmp_path):
    with pytest.raises(StudyError, match=r"is not prepared.*: run `renal-ray prepare` first"):
        read_evidence(study_at(tmp_path))
    made = Synthetic(study_at(tmp_path))
    made.train(heads=[Head.IMAGE], points=[FreezePoint.MIXED0])
    victim = next((tmp_path / "trials").glob("*/predictions.parquet"))
    victim.write_bytes(victim.read_bytes()[:-1] + b"X")
    with pytest.raises(StudyError, match="is damaged"):
        read_evidence(made.study)
    made.work.remove("cohort.parquet")
    with pytest.raises(
        StudyError, match=r"were changed after prepare wrote them: run `renal-ray prepare` first"
    ):
        read_evidence(made.study)


@pytest.mark.parametrize(
    ("setting", "change"),
    [
        ("images", {"crop": False}),
        ("split", {"test_fraction": 0.3}),
        ("selection", {"max_slices": 5}),
    ],
)
def test_study_prepared_with_another_setting_is_refused(tmp_path, setting, change):
    made = Synthetic(study_at(tmp_path))
    made.train(heads=[Head.IMAGE], points=[FreezePoint.MIXED0])
    with pytest.raises(
        StudyError, match=f"was prepared with another {setting} than the study asks for"
    ):
        write_report(study_at(tmp_path, **{setting: change}))
    assert not (tmp_path / "report").exists()


def test_split_file_is_the_contract(tmp_path):
    made = Synthetic(study_at(tmp_path))
    assert (
        SplitSet.from_json(json.loads((tmp_path / "splits.json").read_text(encoding="utf-8")))
        == made.splits
    )
