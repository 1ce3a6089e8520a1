"""Commands that use a finished study's models: on the next patient, and in other programs."""

from pathlib import Path
from typing import Annotated

import typer

from renal_ray import commands
from renal_ray.cli.app import Strict, command
from renal_ray.cli.opening import open_study
from renal_ray.types import Dataset, Head

RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="A finished study: its file, or its work directory.")
]
DatasetOption = Annotated[
    Dataset | None,
    typer.Option(
        help="Whose models; those with the highest mean validation AUC per patient when omitted."
    ),
]
HeadOption = Annotated[Head | None, typer.Option(help="Which scores count; image when omitted.")]


@command
def predict(
    run: RunArgument,
    patients: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATIENT...",
            help="A patient's folder (DICOM, KiTS case) or volume file, or a manifest.",
        ),
    ],
    out: Annotated[
        Path, typer.Option("-o", "--out", help="Folder to write to, a folder a patient.")
    ] = Path("predictions"),
    mask: Annotated[
        Path | None, typer.Option(help="Lesion mask of a single patient, where it lies elsewhere.")
    ] = None,
    lesion: Annotated[
        str,
        typer.Option(
            help=(
                "What of the masks is the lesion: segments, ROIs or "
                "label values, separated by semicolons."
            )
        ),
    ] = "",
    id: Annotated[
        str,
        typer.Option(
            "--id", help="What a single patient is called; the folder's name when omitted."
        ),
    ] = "",
    dataset: DatasetOption = None,
    head: HeadOption = None,
    strict: Strict = False,
) -> int:
    """Let a finished study's fold models vote on patients: JSON, a page and DICOM for each. Not for
    clinical use."""
    from renal_ray.progress import progress

    study, work = open_study(run, None, show=False)
    with progress("predict: patients") as show:
        done = commands.predict_patients(
            study,
            work,
            patients,
            out,
            mask=mask,
            lesion=lesion,
            name=id,
            dataset=dataset,
            head=head,
            strict=strict,
            progress=show,
        )
    return commands.say_predicted(done, out)


@command
def export(
    run: RunArgument,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder to write.")],
    dataset: DatasetOption = None,
) -> int:
    """Write a finished study's fold models for other programs: weights, ONNX, thresholds,
    preprocessing, model card."""
    study, work = open_study(run, None, show=False)
    return commands.export_models(study, work, out, dataset=dataset)
