"""The contact sheets of a cohort on one self-contained page, written patient by patient."""

import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from renal_ray.cohort.manifest import read_manifest
from renal_ray.cohort.source import load_cohort
from renal_ray.config import Study
from renal_ray.problems import Quarantined, StudyError
from renal_ray.report.inspect.sheet import Request, Sheet, draw

FOLDER = Path(__file__).parent
AHEAD = 4  # sheets a process may be ahead of the page


@dataclass(frozen=True)
class Inspected:
    """What the page shows: sheets, those of patients who cannot be read, and findings by code."""

    patients: int
    refused: int
    codes: dict[str, int]


def write_page(
    study: Study,
    out: Path,
    *,
    patients: Sequence[str] | None = None,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Inspected:
    """Reads every patient anew and writes the page; it appears whole or not at all. Labels are not
    shown: the test patients' are sealed.

    Args:
        study: its cohort and how it is read.
        out: file to write.
        patients: only these; all when None.
        workers: processes.
        progress: called with sheets done and sheets in all.

    Returns:
        Counts.

    Raises:
        StudyError: the cohort cannot be read, or a patient asked for is not in it.
    """
    table, left_out = _cohort(study)
    if patients is not None:
        unknown = sorted(
            set(patients) - set(table["patient_id"]) - {one.patient_id for one in left_out}
        )
        if unknown:
            raise StudyError(
                f"--patients: {', '.join(unknown)} not in the cohort; "
                "give ids as the manifest has them"
            )
        table = table[table["patient_id"].isin(patients)]
        left_out = [one for one in left_out if one.patient_id in patients]
    requests = [_request(study, row) for row in table.to_dict("records")]
    codes: Counter[str] = Counter(str(one.code) for one in left_out)
    refused = len({one.patient_id for one in left_out if one.left_out})
    loader = jinja2.FileSystemLoader(FOLDER)
    templates = jinja2.Environment(
        loader=loader,
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    head, sheet_of, foot = (
        templates.get_template(name) for name in ("head.html", "sheet.html", "foot.html")
    )
    temporary = out.with_name(f".tmp-{out.name}")
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        with temporary.open("w", encoding="utf-8") as page:
            style = (FOLDER.parent / "style.css").read_text(encoding="utf-8")
            page.write(
                head.render(name=study.name, patients=len(requests), left_out=left_out, style=style)
            )
            for done, sheet in enumerate(_sheets(requests, workers), 1):
                page.write(sheet_of.render(sheet=sheet, number=done))
                codes.update(str(one.code) for one in sheet.findings)
                refused += not sheet.thumbs
                if progress:
                    progress(done, len(requests))
            page.write(foot.render())
        temporary.replace(out)
    finally:
        temporary.unlink(missing_ok=True)
    return Inspected(len(requests), refused, dict(sorted(codes.items())))


def _cohort(study: Study) -> tuple[pd.DataFrame, list[Quarantined]]:
    """Everybody who has files; a manifest's labels may still be missing."""
    if study.cohort.manifest is not None:
        return read_manifest(study.cohort.manifest), []
    return load_cohort(study.cohort)


def _request(study: Study, row: dict[str, Any]) -> Request:
    text = {
        name: str(row[name]) if not pd.isna(row.get(name)) else ""
        for name in ("patient_id", "image", "mask", "series", "lesion")
    }
    return Request(
        text["patient_id"],
        Path(text["image"]),
        Path(text["mask"]),
        text["series"],
        text["lesion"],
        study.cohort,
        study.selection,
    )


def _sheets(requests: list[Request], workers: int) -> Iterator[Sheet]:
    """Sheets in order; no more are in memory than the processes are ahead."""
    if workers <= 1 or len(requests) < 2:
        yield from map(draw, requests)
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        waiting = [pool.submit(draw, request) for request in requests[: workers * AHEAD]]
        for following in [*requests[workers * AHEAD :], *([None] * len(waiting))]:
            yield waiting.pop(0).result()
            if following is not None:
                waiting.append(pool.submit(draw, following))
