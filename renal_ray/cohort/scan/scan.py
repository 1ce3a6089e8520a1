"""scan: folders to a manifest whose labels wait to be filled."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from renal_ray.cohort.manifest import COLUMNS, LABEL_COLUMNS, MAX_ID, UNSAFE_ID, read_table, refuse_duplicates, write_manifest
from renal_ray.cohort.scan.dicomdir import check_dicomdir
from renal_ray.cohort.scan.hashing import KEY_FILE, keyed_hash
from renal_ray.cohort.scan.people import Person, gather
from renal_ray.cohort.scan.propose import Proposal, propose
from renal_ray.cohort.scan.volumes import VolumePair, pair_volumes
from renal_ray.cohort.scan.walk import Found, Kind, walk
from renal_ray.config import Phase
from renal_ray.problems import PROBLEM_COLUMNS, Code, PatientError, Quarantined, StudyError, trouble


@dataclass(frozen=True)
class Scanned:
    """What lies in some folders.

    Args:
        proposals: a patient each, by PatientID.
        pairs: image and mask in volume files, beside any DICOM.
        problems: of files and of no patient.
        passed_over: code -> files.
    """

    proposals: list[Proposal]
    pairs: list[VolumePair]
    problems: list[PatientError]
    passed_over: dict[Code, list[str]]


@dataclass(frozen=True)
class Summary:
    """What scan wrote.

    Args:
        files: looked at.
        patients: rows of the manifest.
        complete: rows with image and mask.
        passed_over: files, by code.
        problems: rows of the list of problems, by code.
    """

    files: int
    patients: int
    complete: int
    passed_over: dict[str, int]
    problems: dict[str, int]


def look(folders: Sequence[Path], phase: Phase, *, workers: int = 1, progress: Callable[[int, int], None] | None = None) -> Scanned:
    """Finds patients, series and masks by headers alone.

    Args:
        folders: where to look.
        phase: which series is proposed where a patient has several.
        workers: processes.
        progress: called with files done and files in all.
    """
    found = walk([folder.resolve() for folder in folders], workers=workers, progress=progress)
    people, left = gather(found)
    problems = [problem for one in found if one.kind is Kind.DICOMDIR for problem in check_dicomdir(Path(one.path))]
    broken: dict[tuple[Path, Code], int] = Counter((Path(one.path).parent, one.code) for one in found if one.kind is Kind.BROKEN and one.code)
    problems += [
        PatientError(code, f"{count} DICOM file{'s' * (count > 1)} in this folder with a header that cannot be read; export again", str(folder))
        for (folder, code), count in sorted(broken.items())
    ]
    passed: dict[Code, list[str]] = defaultdict(list)
    for one in found:
        if one.kind is Kind.PASSED_OVER and one.code:
            passed[one.code].append(one.path)
        elif one.kind is Kind.DICOMDIR:
            passed[Code.NOT_AN_IMAGE].append(one.path)
    masks = {mask.path for person in people for mask in person.masks}
    for one in found:
        if one.kind is Kind.IMAGE and not {Path(one.path), Path(one.path).parent} & masks:
            passed[Code.NOT_AN_IMAGE].append(one.path)
    return Scanned([propose(person, phase) for person in people if person.series or person.masks], pair_volumes(left), problems, passed)


def same_person(people: Sequence[Person]) -> dict[str, set[str]]:
    """PatientIDs that share a study, or a name and birth date: each with the others."""
    owners: dict[str, set[str]] = defaultdict(set)
    for person in people:
        for mark in person.studies | person.digests:
            if person.patient:
                owners[mark].add(person.patient)
    twins: dict[str, set[str]] = defaultdict(set)
    for patients in owners.values():
        for patient in patients if len(patients) > 1 else ():
            twins[patient] |= patients - {patient}
    return twins


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
        out: manifest to write, .csv or .parquet; OUT's stem names the other two: .problems.csv and .passed-over.csv.
        labels: table with patient_id (the DICOM PatientID), label and optional columns, joined before ids are hashed.
        phase: which series is proposed where a patient has several.
        keep_ids: use PatientIDs; otherwise keyed hashes, the key beside the manifest.
        overwrite: replace a manifest that is there.
        workers: processes.
        progress: called with files done and files in all.

    Returns:
        Counts.

    Raises:
        StudyError: a folder or the labels cannot be read, nothing was found, or the manifest is there already.
    """
    for folder in folders:
        if trouble(folder) or not folder.is_dir():
            raise StudyError(f"{folder}: no such folder, or it may not be read; give folders of DICOM or volume files")
    if out.exists() and not overwrite:
        raise StudyError(f"{out}: there already; it may hold labels entered by hand: give another name, or --overwrite")
    if out.suffix.lower() not in (".csv", ".parquet") or not out.absolute().parent.is_dir():
        raise StudyError(f"{out}: a manifest ends in .csv or .parquet and lies in a folder that is there")
    table = _labels(labels, keep_ids=keep_ids)
    counted: list[int] = [0]

    def count(done: int, total: int) -> None:
        counted[0] = total
        if progress:
            progress(done, total)

    seen = look(folders, phase or Phase(), workers=workers, progress=count)
    hidden = keyed_hash(out.absolute().parent / KEY_FILE)

    def shown(patient: str) -> str:
        plain = keep_ids and patient and len(patient) <= MAX_ID and not UNSAFE_ID.search(patient)
        return patient if plain else hidden(patient)

    rows, problems = _rows(seen, table, shown)
    if not rows:
        raise StudyError(f"{', '.join(map(str, folders))}: no CT series, and no image with a mask, among {counted[0]} files; give the folders that hold them")
    manifest = pd.DataFrame(rows, columns=[column for column in COLUMNS if any(row.get(column) is not None for row in rows) or column == "label"])
    write_manifest(manifest.astype({"label": "Int8"}), out)
    problem_rows = [one.row() for one in problems]
    pd.DataFrame(problem_rows, columns=list(PROBLEM_COLUMNS)).to_csv(_beside(out, "problems"), index=False, lineterminator="\n")
    passed = [{"file": file, "code": str(code), "message": code.meaning} for code, files in sorted(seen.passed_over.items()) for file in sorted(files)]
    pd.DataFrame(passed, columns=["file", "code", "message"]).to_csv(_beside(out, "passed-over"), index=False, lineterminator="\n")
    complete = sum(bool(row["image"] and row["mask"]) for row in rows)
    by_code = Counter(row["code"] for row in problem_rows)
    return Summary(counted[0], len(rows), complete, {str(code): len(files) for code, files in sorted(seen.passed_over.items())}, dict(sorted(by_code.items())))


def _labels(path: Path | None, *, keep_ids: bool) -> dict[str, dict[str, Any]]:
    if path is None:
        return {}
    table = read_table(path, required=("patient_id", "label"), known=LABEL_COLUMNS, safe_ids=keep_ids)
    refuse_duplicates(table, path, show_id=keep_ids)
    return {str(record["patient_id"]): record for record in table.to_dict("records")}


def _rows(seen: Scanned, labels: dict[str, dict[str, Any]], shown: Callable[[str], str]) -> tuple[list[dict[str, Any]], list[Quarantined]]:
    rows, problems = [], [Quarantined("", one.file, one.code, one.message) for one in seen.problems]
    for proposal in seen.proposals:
        person = proposal.person
        name = shown(person.patient or f"study {sorted(person.studies)} {sorted(person.series)}")
        rows.append(_row(name, proposal, labels.get(person.patient, {})))
        problems += [Quarantined(name, one.file, one.code, one.message) for one in proposal.problems]
        if labels and person.patient not in labels:
            problems.append(Quarantined(name, "", Code.LABEL_MISSING, "the table of labels has no row for this patient; enter the label in the manifest"))
    for pair in seen.pairs:
        name = shown(pair.name)
        record = labels.get(pair.name, {})
        if pair.image is not None:
            rows.append({**record, "patient_id": name, "label": record.get("label"), "image": str(pair.image), "mask": str(pair.mask or "")})
        if pair.problem:
            problems.append(Quarantined(name, pair.problem.file, pair.problem.code, pair.problem.message))
    for patient, others in sorted(same_person([proposal.person for proposal in seen.proposals]).items()):
        named = ", ".join(sorted(shown(other) for other in others))
        problems.append(
            Quarantined(shown(patient), "", Code.SAME_PERSON, f"seems to be the same person as {named} (a study, or name and birth date); keep one id")
        )
    twice = [name for name, count in Counter(row["patient_id"] for row in rows).items() if count > 1]
    for row in rows:
        if row["patient_id"] in twice:  # volume files of one name in several folders
            row["patient_id"] = shown(f"{row['patient_id']} {row['image']}")
    return rows, problems


def _row(name: str, proposal: Proposal, record: dict[str, Any]) -> dict[str, Any]:
    first: Found | None = proposal.person.series[proposal.series].first if proposal.series else None
    header = {"sex": first.sex or None, "age": first.age, "scanner": first.scanner or None} if first else {}
    given = {column: value for column, value in record.items() if not pd.isna(value)}
    files = {"image": str(proposal.image or ""), "mask": str(proposal.mask or ""), "series": proposal.series or None}
    return {"label": None, "phase": proposal.phase or None, **header, **given, "patient_id": name, **files}


def _beside(out: Path, what: str) -> Path:
    return out.with_name(f"{out.stem}.{what}.csv")
