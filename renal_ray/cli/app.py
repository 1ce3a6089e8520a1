"""The command-line program: what all its commands share."""

import functools
import signal
import sys
from collections.abc import Callable
from typing import Annotated, ParamSpec

import typer

from renal_ray import __version__
from renal_ray.commands import INTERRUPTED, PARTLY, UNUSABLE
from renal_ray.problems import StrictError, StudyError, disk_trouble

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)
P = ParamSpec("P")

StudyFile = Annotated[
    str,
    typer.Argument(
        metavar="STUDY",
        help="Study file (YAML), or a work directory that holds study.yaml: a path or s3://BUCKET/PREFIX.",
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a key, e.g. training.batch_size=16. May be repeated.",
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        help=(
            "Address of a running Ray cluster: auto or ray://HOST:PORT. "
            "A local Ray is started when omitted."
        )
    ),
]
ProbeSteps = Annotated[
    bool,
    typer.Option(
        "--probe",
        help="Measure one step of each kind of trial first; sweep then packs and orders by it.",
    ),
]
Dashboard = Annotated[
    bool,
    typer.Option(
        "--dashboard", help="Show Ray's dashboard, on this machine only, and say its address."
    ),
]
Strict = Annotated[
    bool, typer.Option("--strict", help="Stop at the first patient who cannot be read.")
]


def command(function: Callable[P, int]) -> Callable[P, None]:
    """Registers a command that returns its exit code, and turns what can go wrong into one
    sentence."""

    @app.command()
    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        # Slurm, `timeout` and `kill` end a program so: for a sweep that is Ctrl-C. Ray asks for the
        # signal itself.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            code = function(*args, **kwargs)
        except StudyError as error:
            print(f"renal-ray: {error}", file=sys.stderr)
            code = PARTLY if isinstance(error, StrictError) else UNUSABLE
        except OSError as error:
            if (trouble := disk_trouble(error)) is None:
                raise
            print(f"renal-ray: {trouble}", file=sys.stderr)
            code = UNUSABLE
        except KeyboardInterrupt:
            print(
                "\nrenal-ray: interrupted; what was finished is kept, the "
                "same command continues from there",
                file=sys.stderr,
            )
            code = INTERRUPTED
        raise typer.Exit(code)

    return wrapped


@app.callback(invoke_without_command=True)
def _main(
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    """From DICOM, tumour masks and pathology to every table of a renal-tumour CT study, on Ray. Not
    for clinical use."""
    if version:
        print(__version__)
        raise typer.Exit
