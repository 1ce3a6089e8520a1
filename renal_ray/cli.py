"""renal-ray on the command line: one function a command, heavy imports inside."""

import errno
import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ParamSpec

import typer

from renal_ray import __version__, commands
from renal_ray.commands import DONE, INTERRUPTED, PARTLY, UNUSABLE
from renal_ray.problems import StrictError, StudyError

if TYPE_CHECKING:
    from renal_ray.config import Study
    from renal_ray.store.place import Place

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False, rich_markup_mode=None)
P = ParamSpec("P")
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE)  # the disk's trouble, not ours

StudyFile = Annotated[str, typer.Argument(metavar="STUDY", help="Study file (YAML), or a work directory that holds study.yaml: a path or s3://BUCKET/PREFIX.")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key, e.g. training.batch_size=16. May be repeated.")]
Address = Annotated[str | None, typer.Option(help="Address of a running Ray cluster: auto or ray://HOST:PORT. A local Ray is started when omitted.")]
ProbeSteps = Annotated[bool, typer.Option("--probe", help="Measure one step of each kind of trial first; sweep then packs and orders by it.")]
Dashboard = Annotated[bool, typer.Option("--dashboard", help="Show Ray's dashboard, on this machine only, and say its address.")]
Strict = Annotated[bool, typer.Option("--strict", help="Stop at the first patient who cannot be read.")]


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


def _command(function: Callable[P, int]) -> Callable[P, None]:
    """Registers a command that returns its exit code, and turns what can go wrong into one sentence."""

    @app.command()
    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            code = function(*args, **kwargs)
        except StudyError as error:
            print(f"renal-ray: {error}", file=sys.stderr)
            code = PARTLY if isinstance(error, StrictError) else UNUSABLE
        except OSError as error:
            if error.errno not in DISK:
                raise
            where = f"{error.filename}: " if error.filename else ""
            print(f"renal-ray: {where}{error.strerror}; what was finished is kept, the same command continues when the disk can be written", file=sys.stderr)
            code = UNUSABLE
        except KeyboardInterrupt:
            print("\nrenal-ray: interrupted; what was finished is kept, the same command continues from there", file=sys.stderr)
            code = INTERRUPTED
        raise typer.Exit(code)

    return wrapped


@_command
def phantom(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Directory to write the cohort to.")],
    patients: Annotated[int, typer.Option(min=1, help="Number of patients.")] = 40,
    seed: Annotated[int, typer.Option(min=0, help="Seed; the same seed gives the same pixels.")] = 17,
    format: Annotated[PhantomFormat, typer.Option(help="DICOM CT series with DICOM SEG masks, or the KiTS layout.")] = PhantomFormat.DICOM_SEG,
    anatomy: Annotated[Path | None, typer.Option(metavar="KITS_DIR", help="Paint into these real KiTS segmentations instead of drawn anatomy.")] = None,
    image: Annotated[PhantomImage, typer.Option(help="Kind of the images, to try its reader.")] = PhantomImage.DICOM,
    mask: Annotated[PhantomMask, typer.Option(help="Kind of the masks, to try its reader.")] = PhantomMask.SEG,
) -> int:
    """Write a phantom cohort: abdominal CT with benign and malignant renal tumours."""
    from renal_ray.cohort.phantom import write_phantom
    from renal_ray.progress import progress

    with progress("phantoms") as report:
        manifest = write_phantom(out, patients=patients, seed=seed, format=format.value, anatomy=anatomy, image=image.value, mask=mask.value, progress=report)
    print(f"wrote {manifest}")
    return DONE


@_command
def scan(
    folders: Annotated[list[Path], typer.Argument(metavar="FOLDER...", help="Folders of DICOM, NIfTI, NRRD or MetaImage files, in any arrangement.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Manifest to write: .csv or .parquet.")],
    labels: Annotated[Path | None, typer.Option(help="Table with patient_id (the DICOM PatientID) and label, joined before ids are hashed.")] = None,
    phase: Annotated[str, typer.Option(help="Contrast phase that is proposed where a patient has several series.")] = "corticomedullary",
    rules: Annotated[Path | None, typer.Option(help="YAML with your own rules for phases: name: {description: [patterns], delay_s: [from, to]}.")] = None,
    keep_ids: Annotated[bool, typer.Option("--keep-ids", help="Keep PatientIDs; otherwise they become keyed hashes.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a manifest that is there.")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; one a core when omitted.")] = None,
) -> int:
    """Find patients, CT series and masks in folders of files, and write a manifest to be labelled."""
    import os

    from renal_ray.cohort.scan.scan import scan as scan_folders
    from renal_ray.progress import progress
    from renal_ray.study_file import load_phase

    chosen = load_phase(phase, rules)
    with progress("scan: files") as show:
        found = scan_folders(
            folders, out, labels=labels, phase=chosen, keep_ids=keep_ids, overwrite=overwrite, workers=workers or os.cpu_count() or 1, progress=show
        )
    print(f"{found.files} files, {found.patients} patients, {found.complete} of them with image and mask")
    for what, counts in (("passed over", found.passed_over), ("problem", found.problems)):
        for code, count in counts.items():
            print(f"  {what}, {code}: {count}")
    print(f"wrote {out}; see {out.stem}.problems.csv and {out.stem}.passed-over.csv beside it, enter the labels, then look at it: renal-ray inspect {out}")
    return DONE


@_command
def inspect(
    what: Annotated[str, typer.Argument(metavar="MANIFEST|WORK|STUDY", help="Manifest, work directory or study file.")],
    patients: Annotated[str | None, typer.Option(help="Only these patients, separated by commas.")] = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Page to write; inspect.html beside the manifest or the study file when omitted.")] = None,
    set: Set = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; one a core when omitted.")] = None,
) -> int:
    """Write contact sheets of every patient as one HTML page: slices, lesion outline, windows, datasets, warnings."""
    import os

    from renal_ray.progress import progress
    from renal_ray.report.inspect.page import write_page
    from renal_ray.study_file import study_of_manifest

    path = Path(what)
    loaded = study_of_manifest(path, set) if path.suffix.lower() in (".csv", ".parquet") else _load(what, set)
    page = out or ((path if path.is_dir() else path.parent) if "://" not in what else Path()) / "inspect.html"
    chosen = [one.strip() for one in patients.split(",") if one.strip()] if patients else None
    with progress("inspect: patients") as show:
        seen = write_page(loaded, page, patients=chosen, workers=workers or os.cpu_count() or 1, progress=show)
    print(f"{seen.patients} patients, {seen.refused} cannot be read")
    for code, count in seen.codes.items():
        print(f"  {code}: {count}")
    print(f"wrote {page}")
    return DONE


@_command
def prepare(study: StudyFile, set: Set = None, strict: Strict = False, address: Address = None) -> int:
    """Read every patient's files once and write the slices of all datasets."""
    with _working(study, set) as loaded:
        return commands.prepare_study(loaded, strict=strict, address=address)


@_command
def plan(study: StudyFile, set: Set = None, probe: ProbeSteps = False, address: Address = None) -> int:
    """Show who trains and who is sealed, which trials there are, and what they cost."""
    if probe:
        with _working(study, set, keep=False) as loaded:
            commands.probe_study(loaded, address)
    else:
        loaded, _ = _open(study, set)
    return commands.plan_study(loaded)


@_command
def bench(
    study: StudyFile,
    set: Set = None,
    probe: ProbeSteps = False,
    address: Address = None,
    patients: Annotated[int, typer.Option(min=1, help="Training patients, where the study is not prepared; the paper's when omitted.")] = 153,
    malignant: Annotated[int, typer.Option(min=1, help="How many of them have a malignant tumour.")] = 109,
    slices: Annotated[int, typer.Option(min=1, help="Slices of each of them.")] = 20,
) -> int:
    """Write the paper's Table 4 for this machine: minutes of training by dataset and freeze point, measured or extrapolated from a probe."""
    from renal_ray.report.bench import Cohort, write_bench
    from renal_ray.store.place import Place

    with _working(study, set, keep=False) as loaded:
        if probe:
            commands.probe_study(loaded, address)
        print(write_bench(loaded, Cohort(patients=patients, malignant=malignant, slices=slices)))
    print(f"wrote {Place(loaded.work).shown('bench/table4.md')}, .csv and .json")
    return DONE


@_command
def sweep(study: StudyFile, set: Set = None, address: Address = None, dashboard: Dashboard = False) -> int:
    """Train every trial that is not finished yet."""
    with _working(study, set) as loaded:
        return commands.sweep_study(loaded, address=address, dashboard=dashboard)


@_command
def test(study: StudyFile, set: Set = None, address: Address = None) -> int:
    """Open the seal: let the fold models vote on the test patients."""
    with _working(study, set, keep=False) as loaded:
        return commands.test_study(loaded, address=address)


@_command
def report(study: StudyFile, set: Set = None) -> int:
    """Write the report: one HTML page, tables as CSV, figures as SVG and PNG."""
    loaded, _ = _open(study, set, show=False)
    return commands.report_study(loaded)


@_command
def run(
    study: StudyFile,
    set: Set = None,
    strict: Strict = False,
    address: Address = None,
    dashboard: Dashboard = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="One batch of each distinct kind of trial, on phantoms, in a temporary directory.")] = False,
) -> int:
    """Do all of it in order: prepare, plan, sweep, test, report."""
    if dry_run:
        from renal_ray.sweep.rehearse import rehearse

        for line in rehearse(_load(study, set)):
            print(line, flush=True)
        return DONE
    from renal_ray.sweep.cluster import cluster, where_ray_is
    from renal_ray.sweep.preflight import preflight

    with _working(study, set) as loaded, cluster(loaded.resources, address, dashboard=dashboard):
        where_ray_is(preflight, loaded)
        codes = [commands.prepare_study(loaded, strict=strict), commands.plan_study(loaded), commands.sweep_study(loaded)]
        if loaded.fold_numbers != list(range(loaded.folds.n)):
            print("folds.run leaves folds out: the seal stays closed; `renal-ray test` lets the folds that there are vote")
        elif max(codes) == DONE:
            codes.append(commands.test_study(loaded))
        codes.append(commands.report_study(loaded))
    return max(codes)


@_command
def status(
    study: StudyFile,
    set: Set = None,
    watch: Annotated[bool, typer.Option("--watch", help="Look again every few seconds, until nothing runs any more or Ctrl-C.")] = False,
) -> int:
    """Show which trials are finished, running, waiting or failed, and on which node; from any machine that sees the work directory."""
    from renal_ray.store.place import Place

    loaded, work = _open(study, set, show=False)
    # Where this machine has mounted it under another name than the one that sweeps.
    return commands.status_study(loaded, Place(study) if Path(study).is_dir() and not _sets_work(set) else work, watch=watch)


@app.callback(invoke_without_command=True)
def _main(version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False) -> None:
    """From DICOM, tumour masks and pathology to every table of a renal-tumour CT study, on Ray. Not for clinical use."""
    if version:
        print(__version__)
        raise typer.Exit


def _load(file: str, overrides: list[str] | None) -> "Study":
    """The study of a file or of a work directory, here or in object storage."""
    from renal_ray.study_file import load_study, parse_study

    if "://" not in file:
        return load_study(Path(file), overrides)
    from renal_ray.store.place import Place

    work = Place(file)
    try:
        return parse_study(work.read("study.yaml"), work.shown("study.yaml"), overrides)
    except FileNotFoundError:
        raise StudyError(f"{work.shown('study.yaml')}: no such file; give a work directory that a study has written to, or the study file") from None
    except OSError as error:
        raise StudyError(f"{work.shown('study.yaml')} cannot be read: {' '.join(str(error).split())[:300]}") from None


def _open(file: str, overrides: list[str] | None, *, show: bool = True) -> "tuple[Study, Place]":
    from renal_ray.store.place import Place
    from renal_ray.study_file import dump_study

    study = _load(file, overrides)
    work = Place(study.work)
    if show:
        print(dump_study(study))
    return study, work


def _sets_work(overrides: list[str] | None) -> bool:
    return any(one.partition("=")[0].strip() == "work" for one in overrides or [])


@contextmanager
def _working(file: str, overrides: list[str] | None, *, keep: bool = True) -> "Iterator[Study]":
    """Opens a study to write into its work directory, which no other run may do meanwhile; `keep` records it there as study.yaml."""
    from renal_ray.store.lock import held
    from renal_ray.trial.record import keep_study

    study, work = _open(file, overrides)
    with held(work):
        if keep:
            keep_study(study, work)
        yield study


def main() -> None:
    """Entry point of the console script."""
    app(prog_name="renal-ray")
