"""Commands on what finished studies show."""

from typing import Annotated

import typer

from renal_ray.cli.app import command
from renal_ray.cli.opening import load
from renal_ray.commands import DONE


@command
def compare(
    works: Annotated[
        list[str],
        typer.Argument(
            metavar="WORK...",
            help="Work directories or study files, two or more: paths or s3://BUCKET/PREFIX.",
        ),
    ],
    out: Annotated[
        str,
        typer.Option(
            "-o",
            "--out",
            help="Page to write: a path or s3://BUCKET/PREFIX/NAME.html; its tables go beside it.",
        ),
    ] = "compare.html",
) -> int:
    """Set studies side by side: settings, patients, validation, test, paired tests and time, as one
    HTML page and CSV."""
    from renal_ray.problems import StudyError
    from renal_ray.report.compare.page import write_comparison
    from renal_ray.store.place import Place

    base, mark, options = out.partition("?") if "://" in out else (out, "", "")
    folder, _, name = base.rpartition("/")
    if not name.endswith(".html") or name == ".html":
        raise StudyError(f"-o {out}: the page is HTML; give a name that ends in .html")
    written = write_comparison(
        [load(work, None) for work in works],
        Place(f"{folder or ('/' if base.startswith('/') else '.')}{mark}{options}"),
        name,
    )
    print(
        "\n".join(
            (
                *([written.same] if written.same else []),
                *(f"WARNING: {warning}" for warning in written.warnings),
            )
        )
    )
    print(f"comparison: {written.page}")
    return DONE
