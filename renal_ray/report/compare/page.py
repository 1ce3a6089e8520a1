"""compare: several studies on one self-contained page, its tables as CSV beside it."""

from collections.abc import Sequence
from dataclasses import dataclass

from renal_ray.config import Study
from renal_ray.report.compare.figure import forest_of_studies
from renal_ray.report.compare.paired import paired_tests, tests_table
from renal_ray.report.compare.patients import cohort_table, overlap_table, overlaps, same, warnings
from renal_ray.report.compare.results import test_table, time_table, validation_table
from renal_ray.report.compare.studies import changed_sources, read_studies, settings_table
from renal_ray.report.render import in_page, render
from renal_ray.store.place import Place

CONTENTS = (
    ("studies", "Studies"),
    ("settings-section", "Settings"),
    ("validation-section", "Validation"),
    ("test-section", "Sealed test"),
    ("paired", "Paired tests"),
    ("time", "Training time"),
)


@dataclass(frozen=True)
class Comparison:
    """What the terminal says of a comparison.

    Args:
        page: where it lies.
        warnings: what forbids a naive comparison.
        same: what the studies have in common.
    """

    page: str
    warnings: tuple[str, ...]
    same: str


def write_comparison(studies: Sequence[Study], folder: Place, name: str) -> Comparison:
    """Writes the page, and its tables as CSV into NAME.tables/ beside it; the same files give the
    same bytes.

    Args:
        studies: two or more; `work` says where each lies. Nothing is written there.
        folder: where the page goes.
        name: file name of the page.

    Raises:
        StudyError: a study is not prepared, given twice, or a file of it is damaged.
    """
    compared = read_studies(studies)
    found = overlaps(compared)
    tests = paired_tests(found)
    made = [
        settings_table(compared),
        cohort_table(compared),
        overlap_table(found),
        validation_table(compared),
    ]
    made += [test_table(compared), tests_table(tests), time_table(compared)]
    drawing = forest_of_studies(compared)
    said, beside = (
        (*changed_sources(compared), *warnings(found)),
        f"{name.removesuffix('.html')}.tables",
    )
    html = render(
        "compare.html",
        title=" and ".join(one.evidence.study.name for one in compared)
        if len(compared) == 2
        else f"{len(compared)} studies",
        studies=compared,
        contents=CONTENTS,
        warnings=said,
        same=same(found),
        tables={table.name: table for table in made},
        drawings={drawing.name: in_page(drawing)} if drawing else {},
        beside=beside,
    )
    for table in made:
        folder.write(
            f"{beside}/{table.name}.csv",
            table.data.to_csv(index=False, float_format="%.6g", lineterminator="\n").encode(),
        )
    if drawing:
        folder.write(f"{beside}/{drawing.name}.svg", drawing.svg)
        folder.write(f"{beside}/{drawing.name}.png", drawing.png)
    folder.write(name, html.encode())
    return Comparison(page=folder.shown(name), warnings=said, same=same(found))
