"""What every model said of every patient: out of fold while training, and by vote on the sealed
test once it was opened."""

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from renal_ray.report.evidence import Evidence
from renal_ray.report.statistics.samples import fold_samples
from renal_ray.report.tables import Row, Table
from renal_ray.report.text import DASH, counted, dataset_name, head_name, probability
from renal_ray.types import Dataset, FreezePoint, Head, Label

COLUMNS = (
    "patient_id",
    "label",
    "part",
    "dataset",
    "freeze_point",
    "head",
    "score",
    "votes",
    "n_models",
    "decision",
    "right",
)
MOST_ROWS = 2000  # on the page; the CSV has everybody
RIGHT, WRONG = "✓", "✗"


@dataclass(frozen=True)
class Model:
    """One model of the report's tables: a dataset and a head at the dataset's selected freeze
    point."""

    dataset: Dataset
    freeze_point: FreezePoint
    head: Head


def models(evidence: Evidence) -> Iterator[Model]:
    """The models of the report in the order of its tables; those without a finished trial left
    out."""
    for dataset in evidence.study.datasets:
        for head in Head:
            if (
                head in evidence.study.heads.use
                and (point := evidence.selected.get(dataset))
                and evidence.cell(dataset, point, head)
            ):
                yield Model(dataset, point, head)


def out_of_fold(evidence: Evidence, model: Model) -> pd.DataFrame:
    """What the model that had not trained on a patient said of that patient.

    Args:
        evidence: the evidence.
        model: dataset, freeze point and head. The image head scores a patient by the mean over the
            slices.

    Returns:
        patient_id, label, part (fold 0, ...), score, votes, n_models, decision; a row a training
        patient with a finished trial, by patient_id.
    """
    folds = []
    for trial in evidence.cell(model.dataset, model.freeze_point, model.head):
        said = fold_samples(trial, "patient", evidence.study)[
            ["patient_id", "label", "score", "decision"]
        ]
        folds.append(
            said.assign(part=f"fold {trial.spec.fold}", votes=said["decision"], n_models=1)
        )
    return pd.concat(folds, ignore_index=True).sort_values("patient_id", ignore_index=True)


def by_patient(evidence: Evidence) -> pd.DataFrame:
    """Every patient and model, tidy: `COLUMNS`; the sealed patients only where the seal was opened
    for these models."""
    tables = []
    for model in models(evidence):
        voted = evidence.votes(model.dataset, model.head, "patient").assign(part="test")
        both = [out_of_fold(evidence, model), *([voted] if len(voted) else [])]
        table = pd.concat(both, ignore_index=True)
        tables.append(
            table.assign(
                dataset=str(model.dataset),
                freeze_point=str(model.freeze_point),
                head=str(model.head),
            )
        )
    if not tables:
        return pd.DataFrame(columns=list(COLUMNS))
    joined = pd.concat(tables, ignore_index=True)
    joined["right"] = joined["decision"] == joined["label"]
    return joined[list(COLUMNS)].astype(
        {"label": int, "votes": int, "n_models": int, "decision": int}
    )


def patient_table(evidence: Evidence) -> Table:
    """A row a patient, a column a model; the most often misjudged are kept where there are too many
    for a page."""
    data = by_patient(evidence)
    shown = list(models(evidence))
    wrong = (~data["right"].astype(bool)).groupby(data["patient_id"]).sum()
    kept, note = _kept(wrong)
    cells = {
        (row.patient_id, row.dataset, row.head): _cell(
            row.score, row.votes, row.n_models, right=bool(row.right)
        )
        for row in data.itertuples()
    }
    people = data.drop_duplicates("patient_id").sort_values("patient_id")
    counts = data["patient_id"].value_counts()
    rows = []
    for person in people.itertuples():
        if person.patient_id in kept:
            judged = (
                cells.get((person.patient_id, str(model.dataset), str(model.head)), DASH)
                for model in shown
            )
            missed = f"{wrong[person.patient_id]} of {counts[person.patient_id]}"
            rows.append(
                Row(
                    (
                        person.patient_id,
                        Label(person.label).name.lower(),
                        person.part,
                        *judged,
                        missed,
                    )
                )
            )
    sealed = counted(len(evidence.splits.test), "sealed test patient")
    return Table(
        name="by-patient",
        title="Patients: what the models said of each",
        columns=(
            "Patient",
            "Label",
            "Part",
            *(f"{dataset_name(m.dataset)} {head_name(m.head)}" for m in shown),
            "Models wrong",
        ),
        rows=tuple(rows),
        data=data,
        left=3,
        notes=(
            f"P(malignant) at each dataset's selected freeze point; {RIGHT} right, {WRONG} "
            "wrong. Fold: by the model that had not trained on the patient, "
            "at its own threshold, which was chosen on these same patients. Test: mean over the "
            "fold models, with the votes for malignant. The image-level "
            "models score a patient by the mean over the slices.",
            *(
                (
                    (
                        "Fold scores stand before calibration, test scores after "
                        "it; decisions are made after it."
                    ),
                )
                if evidence.study.calibrate != "none"
                else ()
            ),
            *(
                ()
                if "test" in set(data["part"])
                else (
                    (
                        f"The {sealed} are not in this table: the seal was "
                        "not opened for these models."
                    ),
                )
            ),
            *note,
        ),
    )


def _kept(wrong: pd.Series) -> tuple[set[str], tuple[str, ...]]:
    if len(wrong) <= MOST_ROWS:
        return set(wrong.index), ()
    most = wrong.sort_values(ascending=False, kind="stable").index[:MOST_ROWS]
    return set(most), (
        (
            f"Of {len(wrong)} patients the {MOST_ROWS} that most models got "
            "wrong are shown; by-patient.csv has all of them."
        ),
    )


def _cell(score: float, votes: int, n_models: int, *, right: bool) -> str:
    voted = f" {votes}/{n_models}" if n_models > 1 else ""
    return f"{probability(score)}{voted} {RIGHT if right else WRONG}"
