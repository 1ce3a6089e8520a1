"""predict: patients in, a folder for each out: JSON, a page, and DICOM where the images are
DICOM."""

import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd

from renal_ray.apply.case import Case
from renal_ray.apply.chosen import Chosen, check_weights
from renal_ray.apply.familiar import Reference, attenuation, read_reference
from renal_ray.apply.folder import holds, require_ours, require_writable, write_folder
from renal_ray.apply.known import owners_of_images, role_of
from renal_ray.apply.page import patient_page
from renal_ray.apply.pictures import Tile, sheet, tiles
from renal_ray.apply.prediction import DISCLAIMER, Prediction
from renal_ray.apply.reading import Seen, read_case
from renal_ray.apply.voters import Vote, attention, vote
from renal_ray.problems import (
    PROBLEM_COLUMNS,
    Code,
    PatientError,
    Quarantined,
    StrictError,
    StudyError,
)
from renal_ray.store.place import Place
from renal_ray.trial.subjects import seal_is_open
from renal_ray.trial.workshop import Workshop, start_keras
from renal_ray.types import Dataset

AT_ONCE = 16  # patients in memory
FOUND, PAGE, REPORT, CAPTURE = "prediction.json", "index.html", "report.dcm", "attention.dcm"
SUMMARY = (
    "patient_id",
    "decision",
    "votes_malignant",
    "n_models",
    "score",
    "lowest",
    "highest",
    "sd",
    "unusual",
    "seen_before",
    "dicom",
)


@dataclass(frozen=True)
class Predicted:
    """What predict did.

    Args:
        rows: a row a patient: SUMMARY.
        refused: who could not be read, and why.
    """

    rows: tuple[dict[str, Any], ...]
    refused: tuple[Quarantined, ...]


def predict(
    chosen: Chosen,
    cases: Sequence[Case],
    refused: Sequence[Quarantined],
    out: Path,
    *,
    strict: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Predicted:
    """Lets the fold models vote on patients, and writes what they say.

    A patient's folder appears whole, and one that says the same already is left alone, DICOM
    objects and their UIDs too.

    Args:
        chosen: the models.
        cases: who is to be scored.
        refused: who is not, since their files were not found.
        out: folder of the patients' folders; summary.csv and quarantine.csv are of this call.
        strict: stop at the first patient who cannot be read.
        progress: called with patients done and patients in all.

    Raises:
        StudyError: nobody can be read, a trial's weights are damaged, `out` cannot be written to,
            or something else stands where a patient's folder goes.
        StrictError: strict, and somebody cannot be read.
    """
    left = list(refused)
    _stop(left, strict)
    check_weights(chosen)
    for case in cases:
        require_ours(out / case.patient_id, marker=FOUND)
    require_writable(out)
    study = chosen.run.study
    start_keras(study.backend, int(study.resources.cpus_per_trial))
    workshop, reference, owners = (
        Workshop(chosen.run.work),
        read_reference(chosen),
        owners_of_images(chosen.run),
    )
    hidden = {} if seal_is_open(chosen.run.work, chosen.run.plan, chosen.run.results) else owners
    rows: list[dict[str, Any]] = []
    remaining = iter(cases)
    while group := list(islice(remaining, AT_ONCE)):
        seen = list(_read(group, chosen, left, strict, hidden))
        votes = vote(chosen, [one.images[chosen.dataset] for one in seen], workshop) if seen else []
        for one, said in zip(seen, votes, strict=True):
            prediction = _prediction(chosen, one, said, reference, owners, workshop)
            rows.append(_write(prediction, out))
        if progress:
            progress(len(rows) + len(left) - len(refused), len(cases))
    place = Place(str(out))
    if cases or refused:
        place.write(
            "quarantine.csv",
            pd.DataFrame([one.row() for one in left], columns=list(PROBLEM_COLUMNS))
            .to_csv(index=False)
            .encode(),
        )
    if not rows:
        raise StudyError(
            (
                "no patient can be read; see "
                f"{place.shown('quarantine.csv')}; the first: "
                f"{_say(left[0])}"
            )
            if left
            else "no patient is named"
        )
    place.write(
        "summary.csv",
        pd.DataFrame(rows, columns=list(SUMMARY)).to_csv(index=False, float_format="%.6g").encode(),
    )
    return Predicted(tuple(rows), tuple(left))


def _read(
    group: Sequence[Case],
    chosen: Chosen,
    left: list[Quarantined],
    strict: bool,
    hidden: dict[str, str],
) -> Iterator[Seen]:
    """Reads patients, but for those whose images, by `hidden`, are of the study's sealed test
    patients."""
    for case in group:
        try:
            seen = read_case(case, chosen.run.study, chosen.dataset)
            if role_of(seen.slices.fingerprint, hidden) == "test":
                raise PatientError(
                    Code.SEALED,
                    "a sealed test patient of the study, whose score nobody may "
                    "see yet; run `renal-ray test` first",
                )
            yield seen
        except PatientError as error:
            left.append(Quarantined(case.patient_id, "", error.code, error.message))
            _stop(left, strict)


def _stop(left: Sequence[Quarantined], strict: bool) -> None:
    if strict and left:
        raise StrictError(f"--strict: {_say(left[0])}")


def _say(one: Quarantined) -> str:
    return f"patient {one.patient_id}: {one.code}: {one.message}"


def _prediction(
    chosen: Chosen,
    seen: Seen,
    said: Vote,
    reference: Reference,
    owners: dict[str, str],
    workshop: Workshop,
) -> Prediction:
    placed = reference.place(attenuation(seen.images[Dataset.ROI]), said.embeddings)
    looked = attention(chosen, seen.images[chosen.dataset], workshop)
    return Prediction(
        chosen, seen, said, tuple(placed), looked, role_of(seen.slices.fingerprint, owners)
    )


def _write(prediction: Prediction, out: Path) -> dict[str, Any]:
    shown = tiles(prediction)
    objects, why_none = _dicom(prediction, shown)
    dicom = (
        (
            f"{REPORT} (Structured Report) and {CAPTURE} (Secondary "
            "Capture), which bear the patient's identity"
        )
        if objects
        else f"none: {why_none}"
    )
    found = prediction.to_json() | {
        "dicom": {"written": sorted(objects), "why_none": why_none or None}
    }
    page = patient_page(prediction, found, shown, dicom)
    files = {
        FOUND: json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n",
        PAGE: page.encode(),
    }
    folder = out / prediction.patient_id
    if not holds(folder, files, {*files, *objects}):
        write_folder(folder, files | objects, marker=FOUND)
    said = prediction.vote
    values = (
        prediction.patient_id,
        prediction.decision,
        said.votes,
        len(said.voters),
        said.score,
        said.lowest,
        said.highest,
        said.sd,
    )
    return dict(
        zip(
            SUMMARY,
            (*values, bool(prediction.warnings), bool(prediction.known), bool(objects)),
            strict=True,
        )
    )


def _dicom(prediction: Prediction, shown: Sequence[Tile]) -> tuple[dict[str, bytes], str]:
    """The DICOM objects by the names of their files, or why there are none."""
    from renal_ray.apply.dicom_out.sources import read_sources
    from renal_ray.dicom.headers import DICOM_FAULTS, quiet

    sources = read_sources(
        prediction.seen.case, prediction.seen.slices.slice_index, prediction.chosen.run.study.cohort
    )
    if not sources.images:
        return {}, sources.why_none
    from renal_ray.apply.dicom_out.capture import secondary_capture
    from renal_ray.apply.dicom_out.report import structured_report

    picture = sheet(prediction, shown, DISCLAIMER)
    try:
        with quiet():  # what is wrong with a name or a date is said with the name and the date
            return {
                REPORT: _saved(structured_report(prediction, sources)),
                CAPTURE: _saved(secondary_capture(prediction, sources, picture)),
            }, ""
    except DICOM_FAULTS:
        return (
            {},
            (
                "the images' headers hold values of patient or study "
                "that DICOM does not allow in a report"
            ),
        )


def _saved(dataset: Any) -> bytes:
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
