"""Commands of a study, in its order: prepare, plan, search, sweep, test, explain, report; and those
that do it all or watch."""

from pathlib import Path
from typing import Annotated

import typer

from renal_ray import commands
from renal_ray.cli.app import Address, Dashboard, ProbeSteps, Set, Strict, StudyFile, command
from renal_ray.cli.opening import load, open_study, working
from renal_ray.commands import DONE, PARTLY


@command
def prepare(
    study: StudyFile, set: Set = None, strict: Strict = False, address: Address = None
) -> int:
    """Read every patient's files once and write the slices of all datasets."""
    with working(study, set) as loaded:
        return commands.prepare_study(loaded, strict=strict, address=address)


@command
def plan(
    study: StudyFile, set: Set = None, probe: ProbeSteps = False, address: Address = None
) -> int:
    """Show who trains and who is sealed, which trials there are, and what they cost."""
    if probe:
        with working(study, set, keep=False) as loaded:
            commands.probe_study(loaded, address)
    else:
        loaded, _ = open_study(study, set)
    return commands.plan_study(loaded)


@command
def bench(
    study: StudyFile,
    set: Set = None,
    probe: ProbeSteps = False,
    address: Address = None,
    patients: Annotated[
        int,
        typer.Option(
            min=1,
            help="Training patients, where the study is not prepared; the paper's when omitted.",
        ),
    ] = 153,
    malignant: Annotated[
        int, typer.Option(min=1, help="How many of them have a malignant tumour.")
    ] = 109,
    slices: Annotated[int, typer.Option(min=1, help="Slices of each of them.")] = 20,
) -> int:
    """Write the paper's Table 4 for this machine: minutes of training by dataset and freeze point,
    measured or extrapolated from a probe."""
    from renal_ray.report.bench import Cohort, write_bench
    from renal_ray.store.place import Place

    with working(study, set, keep=False) as loaded:
        if probe:
            commands.probe_study(loaded, address)
        print(write_bench(loaded, Cohort(patients=patients, malignant=malignant, slices=slices)))
    print(f"wrote {Place(loaded.work).shown('bench/table4.md')}, .csv and .json")
    return DONE


@command
def sweep(
    study: StudyFile, set: Set = None, address: Address = None, dashboard: Dashboard = False
) -> int:
    """Train every trial that is not finished yet."""
    with working(study, set) as loaded:
        code, _ = commands.sweep_study(loaded, address=address, dashboard=dashboard)
        return code


@command
def search(
    study: StudyFile, set: Set = None, address: Address = None, dashboard: Dashboard = False
) -> int:
    """Search over training settings, by cross-validation, from wherever the last run stopped; write
    the best as a study file."""
    from renal_ray.trial.search.configurations import searched

    searched(load(study, set))  # a study without a search is refused before it is recorded
    with working(study, set) as loaded:
        return commands.search_study(loaded, address=address, dashboard=dashboard)


@command
def test(
    study: StudyFile,
    set: Set = None,
    address: Address = None,
    cohort: Annotated[
        Path | None,
        typer.Option(
            help=(
                "Test on another hospital's patients instead: a "
                "manifest, or YAML with name and cohort."
            )
        ),
    ] = None,
    same_ids: Annotated[
        bool,
        typer.Option(
            "--same-ids",
            help="With --cohort: allow ids that the study has too, where they are other people's.",
        ),
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, help="With --cohort: processes that read the patients; one a core when omitted."
        ),
    ] = None,
) -> int:
    """Open the seal: let the fold models vote on the test patients, or with --cohort on an external
    cohort."""
    with working(study, set, keep=False) as loaded:
        if cohort is not None:
            return commands.test_externally(loaded, cohort, same_ids=same_ids, workers=workers)
        return commands.test_study(loaded, address=address)


@command
def explain(study: StudyFile, set: Set = None, address: Address = None) -> int:
    """Show where the image models look: attention maps, and the share of attention inside the
    lesion."""
    with working(study, set, keep=False) as loaded:
        return commands.explain_study(loaded, address=address)


@command
def report(
    study: StudyFile,
    set: Set = None,
    paper: Annotated[
        bool,
        typer.Option(
            "--paper",
            help=(
                "Also for an article: tables as LaTeX and Word, figures of "
                "one and two columns as PNG, PDF, SVG."
            ),
        ),
    ] = False,
) -> int:
    """Write the report: one HTML page, tables as CSV, figures as SVG and PNG."""
    loaded, _ = open_study(study, set, show=False)
    return commands.report_study(loaded, paper=paper)


@command
def run(
    study: StudyFile,
    set: Set = None,
    strict: Strict = False,
    address: Address = None,
    dashboard: Dashboard = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="One batch of each distinct kind of trial, on phantoms, in a temporary directory.",
        ),
    ] = False,
) -> int:
    """Do all of it in order: prepare, plan, sweep, test, explain, report."""
    if dry_run:
        from renal_ray.sweep.rehearse import rehearse

        for line in rehearse(load(study, set)):
            print(line, flush=True)
        return DONE
    from renal_ray.sweep.cluster import cluster, where_ray_is
    from renal_ray.sweep.preflight import preflight

    with working(study, set) as loaded, cluster(loaded.resources, address, dashboard=dashboard):
        where_ray_is(preflight, loaded)
        codes = [commands.prepare_study(loaded, strict=strict), commands.plan_study(loaded)]
        code, swept = commands.sweep_study(loaded)
        codes.append(code)
        if swept.dead:
            cells = ", ".join(" ".join(cell) for cell in swept.dead)
            print(
                f"most models of {cells} learnt nothing: the seal stays closed; "
                "`renal-ray test` opens it all the same"
            )
            codes.append(PARTLY)
        elif loaded.fold_numbers != list(range(loaded.folds.n)):
            print(
                "folds.run leaves folds out: the seal stays closed; `renal-ray "
                "test` lets the folds that there are vote"
            )
        elif max(codes) == DONE:
            codes.append(commands.test_study(loaded))
        if max(codes) == DONE:
            codes.append(commands.explain_study(loaded, address=address))
        codes.append(commands.report_study(loaded))
    return max(codes)


@command
def status(
    study: StudyFile,
    set: Set = None,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch", help="Look again every few seconds, until nothing runs any more or Ctrl-C."
        ),
    ] = False,
) -> int:
    """Show which trials are finished, running, waiting or failed, and on which node; from any
    machine that sees the work directory."""
    loaded, work = open_study(study, set, show=False)
    return commands.status_study(loaded, work, watch=watch)
