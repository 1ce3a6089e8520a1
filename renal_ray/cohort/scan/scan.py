"""scan: folders to a manifest whose labels wait to be filled."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from renal_ray.cohort.manifest import (
    COLUMNS,
    LABEL_COLUMNS,
    MAX_ID,
    UNSAFE_ID,
    normal_id,
    read_table,
    refuse_duplicates,
    write_manifest,
)
from renal_ray.cohort.scan.hashing import KEY_FILE, keyed_hash
from renal_ray.cohort.scan.look import Scanned, look, not_found, same_person
from renal_ray.cohort.scan.propose import Proposal
from renal_ray.config import Phase
from renal_ray.problems import PROBLEM_COLUMNS, Code, PatientError, Quarantined, StudyError, trouble


@dataclass(frozen=True)
class Summary:
    """What scan wrote.

    Args:
        files: looked at.
        patients: rows of the manifest.
        complete: rows with image and mask, of which nothing stands in the way.
        unpaired: masks that belong to no row.
        not_found: labelled patients of whom there is nothing in the folders.
        passed_over: files, by code.
        problems: rows of the list of problems, by code.
    """

    files: int
    patients: int
    complete: int
    unpaired: int
    not_found: int
    passed_over: dict[str, int]
    problems: dict[str, int]


def scan(
    folders: Sequence[Path],
    out: Path,
    *,
    labels: Path | None = None,
    phase: Phase | None = None,
    keep_ids: bool = False,
    overwrite: bool = False,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Summary:
    """Writes a manifest, and beside it what stands in the way and what was passed over.

    Args:
        folders: where to look.
        out: manifest to write, .csv or .parquet; OUT's stem names the other two: .problems.csv and
            .passed-over.csv.
        labels: table with patient_id (the DICOM PatientID), label and optional columns, joined
            before ids are hashed.
        phase: which series is proposed where a patient has several.
        keep_ids: use PatientIDs; otherwise keyed hashes, the key beside the manifest.
        overwrite: replace a manifest that is there.
        workers: processes.
        progress: called with files done and files in all.

    Returns:
        Counts.

    Raises:
        StudyError: a folder or the labels cannot be read, nothing was found, or the manifest is
            there already.
    """
    for folder in folders:
        if folder.is_file():
            raise StudyError(
                f"{folder}: a file, a DICOMDIR or any other; give the folder "
                f"that holds it: {folder.absolute().parent}"
            )
        if trouble(folder) or not folder.is_dir():
            raise StudyError(
                f"{folder}: no such folder, or it may not be read; give "
                "folders of DICOM or volume files"
            )
    if out.exists() and not overwrite:
        raise StudyError(
            f"{out}: there already; it may hold labels entered by "
            "hand: give another name, or --overwrite"
        )
    if out.suffix.lower() not in (".csv", ".parquet") or not out.absolute().parent.is_dir():
        raise StudyError(
            f"{out}: a manifest ends in .csv or .parquet and lies in a folder that is there"
        )
    table = _labels(labels, keep_ids=keep_ids)
    counted: list[int] = [0]

    def count(done: int, total: int) -> None:
        counted[0] = total
        if progress:
            progress(done, total)

    seen = look(folders, phase or Phase(), labelled=table, workers=workers, progress=count)
    rows, problems = _Rows(
        table, keyed_hash(out.absolute().parent / KEY_FILE), keep_ids=keep_ids
    ).of(seen)
    if not rows:
        codes = ", ".join(
            f"{code}: {count}"
            for code, count in sorted(Counter(one.code for one in problems).items())
        )
        found = (
            f"no CT series, and no image with a mask, among {counted[0]} "
            f"files{f' ({codes})' if codes else ''}"
        )
        raise StudyError(
            f"{', '.join(map(str, folders))}: {found}; give the folders that hold them"
        )
    manifest = pd.DataFrame(
        rows,
        columns=[
            column
            for column in COLUMNS
            if any(row.get(column) is not None for row in rows) or column == "label"
        ],
    )
    write_manifest(manifest.astype({"label": "Int8"}), out)
    problem_rows = [one.row() | {"file": _placed(one.file, out)} for one in problems]
    pd.DataFrame(problem_rows, columns=list(PROBLEM_COLUMNS)).to_csv(
        _beside(out, "problems"), index=False, lineterminator="\n"
    )
    passed = [
        {"file": _placed(file, out), "code": str(code), "message": code.meaning}
        for code, files in sorted(seen.passed_over.items())
        for file in sorted(files)
    ]
    pd.DataFrame(passed, columns=["file", "code", "message"]).to_csv(
        _beside(out, "passed-over"), index=False, lineterminator="\n"
    )
    by_code = Counter(row["code"] for row in problem_rows)
    return Summary(
        files=counted[0],
        patients=len(rows),
        complete=sum(bool(row["image"] and row["mask"]) for row in rows)
        - sum(bool(proposal.mask and proposal.damaged) for proposal in seen.proposals),
        unpaired=by_code[str(Code.MASK_UNPAIRED)],
        not_found=len(not_found(table, _present(seen))),
        passed_over={str(code): len(files) for code, files in sorted(seen.passed_over.items())},
        problems=dict(sorted(by_code.items())),
    )


def _placed(file: str, out: Path) -> str:
    """A file relative to the manifest's folder, where it lies below it."""
    base = out.absolute().parent.resolve()
    return str(Path(file).relative_to(base)) if file and Path(file).is_relative_to(base) else file


def _present(seen: Scanned) -> set[str]:
    """Ids of whom there is anything in the folders."""
    return {proposal.person.patient for proposal in seen.proposals} | {
        normal_id(name) for pair in seen.pairs for name in pair.names
    }


def _labels(path: Path | None, *, keep_ids: bool) -> dict[str, dict[str, Any]]:
    if path is None:
        return {}
    table = read_table(
        path, required=("patient_id", "label"), known=LABEL_COLUMNS, safe_ids=keep_ids
    )
    refuse_duplicates(table, path, show_id=keep_ids)
    return {normal_id(str(record["patient_id"])): record for record in table.to_dict("records")}


class _Rows:
    """What is written of each patient.

    Args:
        labels: by patient_id.
        hidden: keyed hash of an id.
        keep_ids: whether PatientIDs are written.
    """

    def __init__(
        self, labels: dict[str, dict[str, Any]], hidden: Callable[[str], str], *, keep_ids: bool
    ) -> None:
        self._labels, self._hidden, self._keep_ids = labels, hidden, keep_ids

    def of(self, seen: Scanned) -> tuple[list[dict[str, Any]], list[Quarantined]]:
        """The manifest's rows, and the problems."""
        rows, problems = [], [_problem("", one) for one in seen.problems]
        problems += [
            _problem(self._shown(patient) if patient else "", one)
            for patient, one in [*seen.broken, *seen.no_images]
        ]
        for proposal in seen.proposals:
            row, found = self._of_proposal(proposal)
            rows.append(row)
            problems += found
        for pair in seen.pairs:
            called = next(
                (name for name in pair.names if normal_id(name) in self._labels), pair.names[0]
            )
            record, name = self._labels.get(normal_id(called), {}), self._shown(called)
            rows.append(
                {
                    **record,
                    "patient_id": name,
                    "label": record.get("label"),
                    "image": str(pair.image),
                    "mask": str(pair.mask or ""),
                }
            )
            problems += [_problem(name, one) for one in pair.problems]
        for patient, others in sorted(
            same_person([proposal.person for proposal in seen.proposals]).items()
        ):
            named = ", ".join(sorted(self._shown(other) for other in others))
            message = (
                f"seems to be the same person as {named} (a study, or "
                "name and birth date); keep one id"
            )
            problems.append(Quarantined(self._shown(patient), "", Code.SAME_PERSON, message))
        problems += [
            _problem(self._shown(patient), error)
            for patient, error in not_found(self._labels, _present(seen)).items()
        ]
        twice = [
            name for name, count in Counter(row["patient_id"] for row in rows).items() if count > 1
        ]
        for row in rows:
            if row["patient_id"] in twice:  # volume files of one name in several folders
                row["patient_id"] = self._hidden(f"{row['patient_id']} {row['image']}")
        return rows, problems

    def _shown(self, patient: str) -> str:
        plain = self._keep_ids and len(patient) <= MAX_ID and not UNSAFE_ID.search(patient)
        return patient if plain else self._hidden(patient)

    def _of_proposal(self, proposal: Proposal) -> tuple[dict[str, Any], list[Quarantined]]:
        person = proposal.person
        name = self._shown(person.patient) if person.patient else self._hidden(person.owner)
        problems = [_problem(name, one) for one in [*proposal.problems, *proposal.damaged]]
        if not person.patient:
            message = (
                "the files have no PatientID: patient_id is a keyed hash of the study, "
                "or of the series; enter an id that joins the labels"
            )
            problems.append(Quarantined(name, "", Code.ID_MISSING, message))
        if self._labels and person.patient not in self._labels:
            problems.append(
                Quarantined(
                    name,
                    "",
                    Code.LABEL_MISSING,
                    "the table of labels has no row for this patient; "
                    "enter the label in the manifest",
                )
            )
        return _row(name, proposal, self._labels.get(person.patient, {})), problems


def _problem(patient: str, error: PatientError) -> Quarantined:
    return Quarantined(patient, error.file, error.code, error.message)


def _row(name: str, proposal: Proposal, record: dict[str, Any]) -> dict[str, Any]:
    first = proposal.series.first if proposal.series else None
    header = (
        {"sex": first.sex or None, "age": first.age, "scanner": first.scanner or None}
        if first
        else {}
    )
    given = {column: value for column, value in record.items() if not pd.isna(value)}
    files = {
        "image": str(proposal.image or ""),
        "mask": str(proposal.mask or ""),
        "series": proposal.series.key if proposal.series else None,
    }
    return {
        "label": None,
        "phase": proposal.phase or None,
        **header,
        **given,
        "patient_id": name,
        **files,
    }


def _beside(out: Path, what: str) -> Path:
    return out.with_name(f"{out.stem}.{what}.csv")
