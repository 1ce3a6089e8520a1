"""What the commands do with an opened study, and what they say of it; heavy imports inside."""

from datetime import datetime
from time import monotonic, sleep
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from renal_ray.apply.predict import Predicted
    from renal_ray.config import Study
    from renal_ray.store.place import Place
    from renal_ray.sweep.run import Swept
    from renal_ray.trial.standing import Look, Standing
    from renal_ray.types import Dataset, Head

DONE, PARTLY, UNUSABLE, INTERRUPTED = 0, 1, 2, 130  # exit codes
WATCH_EVERY_S = 5.0


def prepare_study(study: "Study", *, strict: bool, address: str | None = None) -> int:
    """Prepares, and says who was left out and why."""
    from renal_ray.store.place import Place
    from renal_ray.sweep.cluster import cluster, where_ray_is
    from renal_ray.sweep.prepare import prepare
    from renal_ray.trial.prepared import stamp_of
    from renal_ray.trial.record import keep_study

    with cluster(study.resources, address):
        found = where_ray_is(prepare, study, strict=strict)
    keep_study(study, Place(study.work), stamp_of(study, Place(study.work)))
    print(
        f"prepared {found.patients} patients, {found.images} images in each "
        f"dataset; {len(found.quarantined)} patients left out"
    )
    if found.no_split:
        print(
            "note: the slices are written, but no split can be drawn, and "
            f"without one nothing trains: {found.no_split}"
        )
    if revision := found.revised.revision:
        print(f"since the last prepare: {revision.counted()}")
    if found.revised.finished:
        print(
            f"{found.revised.anew} of {found.revised.finished} "
            "finished trials are to be trained anew"
        )
    for code in sorted({str(one.code) for one in found.quarantined}):
        print(f"  {code}: {sum(one.code == code for one in found.quarantined)}, see quarantine.csv")
    for code in sorted({str(one.code) for one in found.warnings}):
        print(
            f"  warning, {code}: "
            f"{len({one.patient_id for one in found.warnings if one.code == code})} patients "
            "kept; look at them with `renal-ray inspect`"
        )
    return DONE


def probe_study(study: "Study", address: str | None) -> None:
    """Measures one step of each kind of trial, and shows them."""
    from renal_ray.sweep.probing import probe_study as measure

    found = measure(study, address)
    print(
        f"probed {found.device}: "
        f"{', '.join(f'{name} {rate:,.0f} GFLOP/s' for name, rate in found.matrix_gflops.items())}"
    )
    for kind, cost in found.kinds.items():
        memory = f"{cost.memory_mib:,.0f} MiB" + (
            f", {cost.gpu_memory_mib:,.0f} MiB of the card" if cost.gpu_memory_mib else ""
        )
        print(
            f"  {kind}: {cost.step_s * 1e3:,.1f} ms a step of {cost.batch}, "
            f"the first {cost.first_s:.1f} s; {memory}"
        )


def plan_study(study: "Study") -> int:
    """Shows the plan."""
    from renal_ray.store.place import Place
    from renal_ray.trial.changed import cohort_state
    from renal_ray.trial.status import describe_plan

    for line in (
        *describe_plan(study, Place(study.work)),
        *cohort_state(study, Place(study.work)).lines,
    ):
        print(line)
    return DONE


def _refuse_changed(study: "Study") -> None:
    """Stops before Ray starts where the cohort is another one than was prepared."""
    from renal_ray.store.place import Place
    from renal_ray.trial.changed import refuse_changed

    for line in refuse_changed(study, Place(study.work)).lines:
        print(line)


def _warn_changed(study: "Study", work: "Place") -> None:
    """Says that the models come from a cohort that is another one by now; who uses them need not
    have its sources."""
    from renal_ray.trial.changed import cohort_state

    if changed := cohort_state(study, work).changed:
        print(f"WARNING: {changed}")


def sweep_study(
    study: "Study", *, address: str | None = None, dashboard: bool = False
) -> "tuple[int, Swept]":
    """Sweeps, and says what failed, and what learnt nothing."""
    from renal_ray.sweep.cluster import cluster, where_ray_is
    from renal_ray.sweep.run import sweep
    from renal_ray.trial.collapse import summary

    _refuse_changed(study)
    with cluster(study.resources, address, dashboard=dashboard):
        swept = where_ray_is(sweep, study)
    print(f"{swept.finished} of {swept.total} trials are finished")
    if swept.failed:
        print(
            f"{len(swept.failed)} trials failed, see error.txt in "
            f"{', '.join(f'trials/{one}' for one in swept.failed[:3])}; the next sweep tries "
            "them again"
        )
    if swept.collapsed:
        print(f"WARNING: {summary(swept.collapsed)}")
    return DONE if swept.finished == swept.total else PARTLY, swept


def search_study(study: "Study", *, address: str | None = None, dashboard: bool = False) -> int:
    """Searches over training settings, and says what came out."""
    from renal_ray.sweep.cluster import cluster, where_ray_is
    from renal_ray.sweep.search import search
    from renal_ray.trial.search.configurations import make_bench

    make_bench(study)  # a study without a search, or not prepared, is refused before Ray starts
    _refuse_changed(study)
    with cluster(study.resources, address, dashboard=dashboard):
        searched = where_ray_is(search, study)
    found = searched.outcome
    rows = found["configurations"]
    print(
        f"{len(rows)} configurations, "
        f"{sum(row['state'] == 'complete' for row in rows)} complete; "
        f"{found['trials']} trials are finished"
    )
    for row in [rows[0], *([] if found["best"] in (None, 0) else [rows[found["best"]]])]:
        if row["state"] == "complete":
            name = (
                "the study file's own settings"
                if row["number"] == 0
                else f"the best, configuration {row['number']}"
            )
            print(f"{name}: mean validation AUC {row['mean']:.3f} over {len(row['aucs'])} folds")
    judged = [one["auc"] for one in found["nested"] or [] if one["auc"] is not None]
    if found["nested"] and len(judged) == len(found["nested"]):
        print(
            f"nested cross-validation: mean AUC {sum(judged) / len(judged):.3f} of what the "
            "search chooses, on folds it did not see; report this one"
        )
    if searched.best is not None:
        print(f"wrote {searched.best}")
    if searched.failed:
        where = ", ".join(f"trials/{one}" for one in searched.failed[:3])
        print(
            f"{len(searched.failed)} trials failed, see error.txt in "
            f"{where}; the next search tries them again"
        )
    return DONE if found["is_over"] and not searched.failed else PARTLY


def test_study(study: "Study", *, address: str | None = None) -> int:
    """Opens the seal, or says that it had been for the same models."""
    from renal_ray.sweep.cluster import cluster, where_ray_is
    from renal_ray.sweep.vote import test

    _refuse_changed(study)
    with cluster(study.resources, address):
        tested = where_ray_is(test, study)
    if tested.opened:
        print(f"opened the seal: {tested.models} models voted on {tested.patients} test patients")
    elif tested.revised:
        print(
            "test patients were withdrawn or relabelled: the votes of the same "
            f"{tested.models} models are counted anew on the {tested.patients} there are"
        )
    elif tested.recounted:
        again = "are counted anew, which is written down as one more opening of the seal"
        print(
            f"another rule decides: the votes of the same {tested.models} "
            f"models on {tested.patients} test patients {again}"
        )
    else:
        print(
            f"the same {tested.models} models had voted on the {tested.patients} "
            "test patients before; the seal stays closed"
        )
    return DONE


def test_externally(study: "Study", file: "Path", *, same_ids: bool, workers: int | None) -> int:
    """Tests the models on an external cohort, and says the headline."""
    import os

    from renal_ray.apply.chosen import open_run
    from renal_ray.apply.external.evaluate import evaluate_external
    from renal_ray.store.place import Place
    from renal_ray.study_file import load_external

    external, work = load_external(file, study), Place(study.work)
    _warn_changed(study, work)
    done = evaluate_external(
        open_run(study, work), external, same_ids=same_ids, workers=workers or os.cpu_count() or 1
    )
    if done.opened:
        print(
            f"opened the seal of {external.name}: {done.models} models voted on "
            f"{done.patients} patients; {done.left_out} left out"
        )
    else:
        print(
            f"the same {done.models} models had voted on the same {done.patients} "
            f"patients of {external.name} before; its seal stays closed"
        )
    if done.twins:
        print(
            f"warning: {done.twins} patients share an image with the study's own: "
            "they are no external patients, see the report"
        )
    if not done.compared:
        print(
            "warning: the study's work directory holds no fingerprints of its images; "
            "whether its patients are in this cohort is unknown"
        )
    print("\n".join(done.headline))
    print(f"report: {done.page}")
    return DONE


def explain_study(study: "Study", *, address: str | None = None) -> int:
    """Makes the attention maps, or says that they stand; then the share of attention inside the
    lesion, and whose contour lacks."""
    from renal_ray.store.place import Place
    from renal_ray.sweep.cluster import cluster, where_ray_is
    from renal_ray.sweep.explain import explain
    from renal_ray.trial.attended import summary
    from renal_ray.trial.changed import cohort_state

    for line in cohort_state(study, Place(study.work)).lines:
        print(line)
    with cluster(study.resources, address):
        found, made = where_ray_is(explain, study)
    print(
        "explained the image models" if made else "the same image models had been explained before"
    )
    for one in summary(found.attention):
        measured = (
            (
                f"{one.share[0]:.2f} of the attention lies inside the lesion, "
                f"which has {one.area[0]:.2f} of the area"
            )
            if one.n
            else "nobody measured"
        )
        print(f"  {one.dataset} at {one.freeze_point}: {measured} ({one.n} validation patients)")
    for why, patients in found.without_contour.items():
        print(
            f"note: {patients} patients are shown without the "
            f"lesion's contour and not measured: {why}"
        )
    return DONE


def report_study(study: "Study", *, paper: bool = False) -> int:
    """Writes the report, and says the headline."""
    from renal_ray.report.page import write_report

    headline = write_report(study, paper=paper)
    print("\n".join((*headline.lines, *(f"note: {caveat}" for caveat in headline.caveats))))
    print(f"report: {headline.page}")
    if headline.paper:
        made = headline.paper
        print(
            f"for an article: {made.tables} tables and {made.figures} figures, "
            f"{made.narrow} of them one column wide too, in {made.folder}"
        )
    return DONE


def predict_patients(
    study: "Study",
    work: "Place",
    patients: "Sequence[Path]",
    out: "Path",
    *,
    mask: "Path | None",
    lesion: str,
    name: str,
    dataset: "Dataset | None",
    head: "Head | None",
    strict: bool,
    progress: "Callable[[int, int], None] | None" = None,
) -> "Predicted":
    """Lets the fold models vote on patients."""
    from renal_ray.apply.case import find_cases
    from renal_ray.apply.chosen import choose, open_run
    from renal_ray.apply.predict import predict

    _warn_changed(study, work)
    chosen = choose(open_run(study, work), dataset, head)
    cases, refused = find_cases(
        patients, mask=mask, lesion=lesion, name=name, phase=study.cohort.phase
    )
    return predict(chosen, cases, refused, out, strict=strict, progress=progress)


def say_predicted(done: "Predicted", out: "Path") -> int:
    """Says what the fold models said, and who could not be read."""
    from renal_ray.report.text import counted

    for row in done.rows:
        unusual = "; UNLIKE THE TRAINING COHORT, see its page" if row["unusual"] else ""
        unusual += "; NOT A NEW PATIENT: the image is the study's own" if row["seen_before"] else ""
        said = (
            f"{row['votes_malignant']} of {row['n_models']} models malignant, score "
            f"{row['score']:.3f} ({row['lowest']:.3f} to {row['highest']:.3f})"
        )
        print(
            f"{row['patient_id']}: {row['decision']}, "
            f"{said}{unusual}{'' if row['dicom'] else '; no DICOM written, its page says why'}"
        )
    for one in done.refused:
        print(f"{one.patient_id}: left out, {one.code}: {one.message}")
    print(
        f"wrote {counted(len(done.rows), 'patient')} to {out}; "
        f"{len(done.refused)} left out. Not for clinical use."
    )
    return DONE


def export_models(study: "Study", work: "Place", out: "Path", *, dataset: "Dataset | None") -> int:
    """Writes the fold models of one dataset for other programs."""
    from renal_ray.apply.chosen import choose, open_run
    from renal_ray.apply.exported.export import export

    _warn_changed(study, work)
    chosen = choose(open_run(study, work), dataset)
    print(
        f"writing the {chosen.dataset} models at "
        f"{chosen.freeze_point} as ONNX takes about a minute a fold"
    )
    done = export(chosen, out)
    print(
        f"exported {done.models} ONNX models of {chosen.dataset} at "
        f"{chosen.freeze_point} to {out}, {done.mib:.0f} MiB in all"
    )
    print(
        f"they ran in onnxruntime: scores of {done.checked.slices} slices of "
        f"{done.checked.patients} patients are Keras's to {done.checked.difference:.1e}"
    )
    print(f"check them on any machine: python {out}/predict_onnx.py")
    print(
        "licence and what only you know of the cohort are marked "
        "in README.md. Not for clinical use."
    )
    return DONE


def status_study(study: "Study", work: "Place", *, watch: bool) -> int:
    """Says where the study stands; with `watch` again and again, until nothing runs any more or
    Ctrl-C, which only ends the looking."""
    from renal_ray.trial.standing import Standing

    standing = Standing(study, work)
    if not watch:
        print("\n".join(standing.look().lines))
        return DONE
    try:
        _watch(standing)
    except KeyboardInterrupt:
        print()
    return DONE


def _watch(standing: "Standing") -> None:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console()
    if not console.is_terminal:
        _watch_in_lines(standing)
        return
    with Live(console=console, auto_refresh=False) as live:
        while True:
            look, pause = _timed_look(standing)
            live.update(Text("\n".join(look.lines)), refresh=True)
            if look.is_over:
                return
            sleep(pause)


def _watch_in_lines(standing: "Standing") -> None:
    said = ""
    while True:
        look, pause = _timed_look(standing)
        if look.counts != said:
            said = look.counts
            print(f"{datetime.now():%H:%M:%S} {look.summary}", flush=True)
        if look.is_over:
            print("\n".join(look.lines[1:]), flush=True)
            return
        sleep(pause)


def _timed_look(standing: "Standing") -> "tuple[Look, float]":
    """A look, and how long to wait for the next: a slow work directory is not asked all the
    time."""
    begun = monotonic()
    look = standing.look()
    return look, max(WATCH_EVERY_S, 4 * (monotonic() - begun))
