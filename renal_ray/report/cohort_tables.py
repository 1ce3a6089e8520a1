"""Who was studied: the split, the sizes, the negative control, the ones left out."""

import pandas as pd

from renal_ray.cohort.summary import table_one
from renal_ray.problems import Code
from renal_ray.protocol.metrics import mean_sd
from renal_ray.report import paper
from renal_ray.report.evidence import Evidence
from renal_ray.report.tables import Row, Table, model_name
from renal_ray.report.text import DASH, counted, dataset_name, level_name, percent, plus_minus, two
from renal_ray.trial.spec import main_level
from renal_ray.types import Head, Label

SMALL_BELOW_MM = 40.0
CONTROL_RANGE = (0.35, 0.65)


def cohort_table(evidence: Evidence) -> Table:
    """Table 1: who was studied. Until the seal was opened, the training patients only: the others'
    labels are sealed."""
    opened = evidence.test.opened
    cohort = (
        evidence.cohort
        if opened
        else evidence.cohort[evidence.cohort["patient_id"].isin(evidence.splits.training)]
    )
    ours = table_one(cohort.reset_index(drop=True))
    theirs = _papers_table_one()
    rows, seen = [], set()
    for row in ours.itertuples():
        key = row.characteristic.partition(" (")[0]
        p = (_p_value(row.p), theirs.get((key, ""), ("", "", DASH))[2])
        if row.level:
            if key not in seen:
                rows.append(Row((_sentence_case(row.characteristic), "", "", p[0], "", "", p[1])))
            printed = theirs.get((key, row.level), (DASH, DASH, ""))
            rows.append(
                Row(
                    (level_name(row.level), row.benign, row.malignant, "", *printed[:2], ""),
                    "level",
                )
            )
        else:
            printed = theirs.get((key, ""), (DASH, DASH, DASH))
            rows.append(
                Row(
                    (
                        _sentence_case(row.characteristic),
                        row.benign,
                        row.malignant,
                        p[0],
                        *printed[:2],
                        p[1],
                    )
                )
            )
        seen.add(key)
    sealed = counted(len(evidence.splits.test), "sealed test patient")
    note = (
        ()
        if opened
        else (f"The {sealed} are not in this table: their labels stay sealed until the test.",)
    )
    return Table(
        name="table1-cohort",
        title="Table 1. Patients" if opened else "Table 1. Training patients",
        columns=(
            "Characteristic",
            "Benign",
            "Malignant",
            "P",
            "Benign, paper",
            "Malignant, paper",
            "P, paper",
        ),
        rows=tuple(rows),
        data=ours,
        notes=(
            "n (% of the patients in that row) or mean ± SD. P: Pearson's χ² test for "
            "location and sex, one-way ANOVA for age and diameter; "
            f"histology decides the label and is not tested. Paper: {paper.NAME}.",
            *note,
        ),
    )


def _papers_table_one() -> dict[tuple[str, str], tuple[str, str, str]]:
    """Characteristic and level -> benign, malignant and P as the paper prints them; the P of a
    group stands at the level ""."""
    facts = paper.facts()["cohort"]
    samples = (
        _share(facts["benign"], facts["patients"]),
        _share(facts["malignant"], facts["patients"]),
        DASH,
    )
    printed = {("number of samples", ""): samples}
    for group in ("location", "sex"):
        for level, value in facts[group].items():
            if level == "p":
                printed[group, ""] = ("", "", _p_value(value))
            else:
                printed[group, level] = (
                    _share(value[0], sum(value)),
                    _share(value[1], sum(value)),
                    "",
                )
    printed["age", ""] = (
        plus_minus(*facts["age"]["benign"]),
        plus_minus(*facts["age"]["malignant"]),
        _p_value(facts["age"]["p"]),
    )
    return printed


def _share(part: int, whole: int) -> str:
    return f"{part} ({100 * part / whole:.2f})"


def _sentence_case(text: str) -> str:
    return text[:1].upper() + text[1:]


def _p_value(p: float | None) -> str:
    return "< 0.001" if p is not None and p < 0.001 else two(p, 3)


def split_table(evidence: Evidence) -> Table:
    """Patients and images of every fold and of the sealed test; its labels only once the seal was
    opened."""
    parts = [
        (f"Fold {k}", [p for p in evidence.splits.patients if p.fold == k])
        for k in range(evidence.splits.n_folds)
    ]
    parts.append(
        ("Training, all folds", [p for p in evidence.splits.patients if p.fold is not None])
    )
    parts.append(("Sealed test", [p for p in evidence.splits.patients if p.role == "test"]))
    rows, data = [], []
    for name, patients in parts:
        malignant = sum(p.label == Label.MALIGNANT for p in patients)
        images = sum(p.n_images for p in patients)
        hidden = name == "Sealed test" and not evidence.test.opened
        classes = (
            ("sealed", "sealed")
            if hidden
            else (
                percent(malignant, len(patients)),
                percent(len(patients) - malignant, len(patients)),
            )
        )
        rows.append(Row((name, str(len(patients)), *classes, str(images))))
        data.append(
            {
                "part": name,
                "patients": len(patients),
                "malignant": None if hidden else malignant,
                "benign": None if hidden else len(patients) - malignant,
                "images": images,
            }
        )
    return Table(
        name="split",
        title="The split",
        columns=("Part", "Patients", "Malignant", "Benign", "Slices"),
        rows=tuple(rows),
        data=pd.DataFrame(data),
        notes=("A patient is in one part only. Folds are equalised by slices, not by patients.",),
    )


def size_table(evidence: Evidence) -> Table:
    """Accuracy of the votes for masses below 4 cm and from 4 cm, per patient."""
    diameter = (
        evidence.cohort.set_index("patient_id")["max_diameter_mm"].astype(float)
        if "max_diameter_mm" in evidence.cohort
        else pd.Series(dtype=float)
    )
    theirs = paper.facts()["size_accuracy"]
    rows, data, unknown = [], [], 0
    for dataset in evidence.study.datasets:
        for head in evidence.study.heads.use:
            votes = evidence.votes(dataset, head, "patient")
            if votes.empty:
                continue
            size = votes["patient_id"].map(diameter)
            unknown = int(size.isna().sum())
            right = votes["decision"] == votes["label"]
            cells: list[str] = []
            numbers: dict[str, float | int | None] = {}
            for group, chosen in (
                ("small", size < SMALL_BELOW_MM),
                ("large", size >= SMALL_BELOW_MM),
            ):
                n = int(chosen.sum())
                accuracy = float(right[chosen].mean()) if n else None
                cells += [two(accuracy), str(n)]
                numbers |= {f"{group}_acc": accuracy, f"{group}_n": n}
            rows.append(Row((dataset_name(dataset), model_name(head, "patient"), *cells)))
            data.append(
                {
                    "dataset": str(dataset),
                    "head": str(head),
                    "freeze_point": str(evidence.selected[dataset]),
                    **numbers,
                }
            )
    if rows:
        printed = [
            cell
            for size in ("small", "large")
            for cell in (two(theirs[size]["accuracy"]), str(theirs[size]["patients"]))
        ]
        rows.append(Row(("ROI, RBR", f"FC and GRU, {paper.NAME}", *printed), "paper"))
    without = (
        (f"{counted(unknown, 'test patient')} without a known diameter left out.",)
        if unknown
        else ()
    )
    return Table(
        name="small-and-large-masses",
        title=(
            "Small (< 4 cm) and large (≥ 4 cm) masses: accuracy of "
            "the vote on the sealed test patients"
        ),
        columns=("Dataset", "Model", "ACC, < 4 cm", "n", "ACC, ≥ 4 cm", "n"),
        rows=tuple(rows),
        data=pd.DataFrame(
            data,
            columns=[
                "dataset",
                "head",
                "freeze_point",
                "small_acc",
                "small_n",
                "large_acc",
                "large_n",
            ],
        ),
        left=2,
        notes=(
            (
                "Maximum diameter as the manifest gives it, else "
                "measured in the axial plane on the mask."
            ),
            *without,
        ),
    )


def control_table(evidence: Evidence) -> Table:
    """Validation AUC of image-level models trained on permuted labels."""
    groups: dict[tuple[str, str, str], list[float | None]] = {}
    for trial in evidence.trials.controls:
        key = (str(trial.spec.dataset), str(trial.spec.freeze_point), trial.spec.labels)
        groups.setdefault(key, []).append(trial.metrics(main_level(Head.IMAGE))["auc"])
    order = {str(dataset): place for place, dataset in enumerate(evidence.study.datasets)}
    rows, data = [], []
    for (dataset, point, labels), aucs in sorted(
        groups.items(),
        key=lambda item: (order[item[0][0]], item[0][1], int(item[0][2].rpartition("-")[2])),
    ):
        mean, sd = mean_sd(aucs)
        inside = mean is not None and CONTROL_RANGE[0] <= mean <= CONTROL_RANGE[1]
        rows.append(
            Row(
                (
                    dataset_name(dataset),
                    point,
                    labels,
                    str(len(aucs)),
                    plus_minus(mean, sd),
                    DASH if mean is None else "yes" if inside else "no",
                )
            )
        )
        data.append(
            {
                "dataset": dataset,
                "freeze_point": point,
                "labels": labels,
                "n_folds": len(aucs),
                "auc_mean": mean,
                "auc_sd": sd,
                "inside": inside,
            }
        )
    return Table(
        name="negative-control",
        title="Negative control: permuted labels, validation AUC per slice",
        columns=(
            "Dataset",
            "Frozen up to",
            "Labels",
            "Folds",
            "AUC",
            f"Within {CONTROL_RANGE[0]:.2f} to {CONTROL_RANGE[1]:.2f}",
        ),
        rows=tuple(rows),
        data=pd.DataFrame(
            data,
            columns=[
                "dataset",
                "freeze_point",
                "labels",
                "n_folds",
                "auc_mean",
                "auc_sd",
                "inside",
            ],
        ),
        left=3,
    )


def quarantine_table(evidence: Evidence) -> Table:
    """Patients who could not be used, and warnings about the others, each with its code, what the
    code means and the reason."""
    meanings = {str(code): code.meaning for code in Code}
    found = evidence.quarantine.itertuples()
    return Table(
        name="quarantine",
        title="Quarantined patients (error) and warnings",
        columns=("Patient", "Code", "Severity", "Meaning", "Reason", "File"),
        rows=tuple(
            Row(
                (
                    row.patient_id,
                    row.code,
                    row.severity,
                    meanings.get(row.code, DASH),
                    row.message,
                    row.file or DASH,
                )
            )
            for row in found
        ),
        data=evidence.quarantine,
        left=6,
    )
