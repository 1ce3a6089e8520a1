"""Commands before there is a study: phantoms, manifests, contact sheets."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from renal_ray.cli.app import Set, command
from renal_ray.cli.opening import load
from renal_ray.commands import DONE


class PhantomFormat(StrEnum):
    DICOM_SEG = "dicom-seg"
    KITS = "kits"


class PhantomImage(StrEnum):
    DICOM = "dicom"
    ENHANCED = "enhanced"
    NIFTI = "nifti"
    NRRD = "nrrd"
    MHA = "mha"


class PhantomMask(StrEnum):
    SEG = "seg"
    SEG_FRACTIONAL = "seg-fractional"
    SEG_LABELMAP = "seg-labelmap"
    RTSTRUCT = "rtstruct"
    NIFTI = "nifti"
    NRRD = "nrrd"
    SERIES = "series"


@command
def phantom(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Directory to write the cohort to.")],
    patients: Annotated[int, typer.Option(min=1, help="Number of patients.")] = 40,
    seed: Annotated[
        int, typer.Option(min=0, help="Seed; the same seed gives the same pixels.")
    ] = 17,
    format: Annotated[
        PhantomFormat,
        typer.Option(help="DICOM CT series with DICOM SEG masks, or the KiTS layout."),
    ] = PhantomFormat.DICOM_SEG,
    anatomy: Annotated[
        Path | None,
        typer.Option(
            metavar="KITS_DIR",
            help="Paint into these real KiTS segmentations instead of drawn anatomy.",
        ),
    ] = None,
    image: Annotated[
        PhantomImage, typer.Option(help="Kind of the images, to try its reader.")
    ] = PhantomImage.DICOM,
    mask: Annotated[
        PhantomMask, typer.Option(help="Kind of the masks, to try its reader.")
    ] = PhantomMask.SEG,
) -> int:
    """Write a phantom cohort: abdominal CT with benign and malignant renal tumours."""
    from renal_ray.cohort.phantom import write_phantom
    from renal_ray.progress import progress

    with progress("phantoms") as report:
        manifest = write_phantom(
            out,
            patients=patients,
            seed=seed,
            format=format.value,
            anatomy=anatomy,
            image=image.value,
            mask=mask.value,
            progress=report,
        )
    print(f"wrote {manifest}")
    return DONE


@command
def scan(
    folders: Annotated[
        list[Path],
        typer.Argument(
            metavar="FOLDER...",
            help="Folders of DICOM, NIfTI, NRRD or MetaImage files, in any arrangement.",
        ),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Manifest to write: .csv or .parquet.")],
    labels: Annotated[
        Path | None,
        typer.Option(
            help=(
                "Table with patient_id (the DICOM PatientID) and "
                "label, joined before ids are hashed."
            )
        ),
    ] = None,
    phase: Annotated[
        str,
        typer.Option(help="Contrast phase that is proposed where a patient has several series."),
    ] = "corticomedullary",
    rules: Annotated[
        Path | None,
        typer.Option(
            help=(
                "YAML with your own rules for phases: name: {description: "
                "[patterns], delay_s: [from, to]}."
            )
        ),
    ] = None,
    keep_ids: Annotated[
        bool,
        typer.Option("--keep-ids", help="Keep PatientIDs; otherwise they become keyed hashes."),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a manifest that is there.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; one a core when omitted.")
    ] = None,
) -> int:
    """Find patients, CT series and masks in folders of files, and write a manifest to be
    labelled."""
    import os

    from renal_ray.cohort.scan.scan import scan as scan_folders
    from renal_ray.progress import progress
    from renal_ray.study_file import load_phase

    chosen = load_phase(phase, rules)
    with progress("scan: files") as show:
        found = scan_folders(
            folders,
            out,
            labels=labels,
            phase=chosen,
            keep_ids=keep_ids,
            overwrite=overwrite,
            workers=workers or os.cpu_count() or 1,
            progress=show,
        )
    print(
        f"{found.files} files, {found.patients} patients, "
        f"{found.complete} of them with image and mask"
    )
    if found.unpaired:
        print(f"{found.unpaired} masks without a row; the list of problems names them")
    if found.not_found:
        print(f"{found.not_found} patients of {labels} were not found in the folders")
    for what, counts in (("passed over", found.passed_over), ("problem", found.problems)):
        for code, count in counts.items():
            print(f"  {what}, {code}: {count}")
    print(
        f"wrote {out}; see {out.stem}.problems.csv and {out.stem}.passed-over.csv beside "
        f"it, enter the labels, then look at it: renal-ray inspect {out}"
    )
    return DONE


@command
def inspect(
    what: Annotated[
        str,
        typer.Argument(
            metavar="MANIFEST|WORK|STUDY", help="Manifest, work directory or study file."
        ),
    ],
    patients: Annotated[
        str | None, typer.Option(help="Only these patients, separated by commas.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            help="Page to write; inspect.html beside the manifest or the study file when omitted.",
        ),
    ] = None,
    set: Set = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; one a core when omitted.")
    ] = None,
) -> int:
    """Write contact sheets of every patient as one HTML page: slices, lesion outline, windows,
    datasets, warnings."""
    import os

    from renal_ray.progress import progress
    from renal_ray.report.inspect.page import write_page
    from renal_ray.study_file import study_of_manifest

    path = Path(what)
    loaded = (
        study_of_manifest(path, set)
        if path.suffix.lower() in (".csv", ".parquet")
        else load(what, set)
    )
    page = (
        out
        or ((path if path.is_dir() else path.parent) if "://" not in what else Path())
        / "inspect.html"
    )
    chosen = [one.strip() for one in patients.split(",") if one.strip()] if patients else None
    with progress("inspect: patients") as show:
        seen = write_page(
            loaded, page, patients=chosen, workers=workers or os.cpu_count() or 1, progress=show
        )
    print(f"{seen.patients} patients, {seen.refused} cannot be read")
    for code, count in seen.codes.items():
        print(f"  {code}: {count}")
    print(f"wrote {page}")
    return DONE
