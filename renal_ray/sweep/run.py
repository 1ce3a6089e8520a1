"""sweep: all trials of a study on Ray Tune, from wherever the last run stopped."""

import logging
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from renal_ray.config import Study
from renal_ray.store.ledger import Ledger, Survey
from renal_ray.store.place import Place
from renal_ray.sweep.activate import fill_activations
from renal_ray.sweep.attempts import Attempts
from renal_ray.sweep.caching import computed_freeze_points
from renal_ray.sweep.console import SweepConsole
from renal_ray.sweep.demand import Demand
from renal_ray.sweep.mlflow_runs import hand_in
from renal_ray.sweep.preflight import preflight
from renal_ray.sweep.robustness import measure_masks
from renal_ray.sweep.searcher import StudySearcher
from renal_ray.sweep.worker import StudyWorker
from renal_ray.trial.collapse import Cell, collapsed, dead_cells
from renal_ray.trial.packing import Share, room, share
from renal_ray.trial.plan import Plan, Results, finished_results, keep_repeats, make_plan
from renal_ray.trial.probe import read_probe
from renal_ray.types import FreezePoint

if TYPE_CHECKING:
    from ray.tune import Callback
    from ray.tune.search import Searcher


@dataclass(frozen=True)
class Swept:
    """Where a sweep stands.

    Args:
        finished: finished trials of the study.
        failed: ids of trials that failed in this run; each has its error.txt.
        total: trials of the whole study.
        collapsed: trial_id -> why, of finished trials that learnt nothing.
        dead: cells that would vote on the sealed patients, and most of whose models learnt nothing.
    """

    finished: int
    failed: tuple[str, ...]
    total: int
    collapsed: Mapping[str, str]
    dead: tuple[Cell, ...]


def sweep(study: Study) -> Swept:
    """Trains every trial that is not finished yet.

    Args:
        study: a prepared study.

    Returns:
        Counts, and the trials that failed.

    Raises:
        StudyError: the study is not prepared, the weights cannot be had, or no node can host a
            trial.
    """
    work = Place(study.work)
    plan = make_plan(study, work)
    survey = Ledger(work).survey()
    results = survey.results
    done = sum(spec.trial_id in results for spec in plan.specs(results))
    if done == plan.total():
        hand_in(study, work, plan.specs(results), results)
        measure_masks(study, work, plan, results)
        return _swept(plan, work, results, failed=())
    keep_repeats(plan, work)
    nodes = preflight(study)
    _name_damage(plan, survey)
    computed, reasons = computed_freeze_points(study, work, plan, [report for _, report in nodes])
    for reason in reasons:
        print(reason, flush=True)
    longest = next(spec for spec in plan.specs(results) if spec.trial_id not in results)
    with Demand(
        share(study.resources, longest, read_probe(work, study)), plan.total() - done
    ) as demand:
        for _ in range(
            study.resources.attempts
        ):  # damaged activations are made anew, and the trials that need them named again
            fill_activations(study, work, plan, computed=computed)
            searcher = _searcher(study, work, plan, computed)
            _tune(study, work, plan, searcher, computed, demand)
            if not searcher.attempts.postponed:
                break
    results = finished_results(work)
    measure_masks(study, work, plan, results)
    return _swept(plan, work, results, failed=sorted(searcher.failed | searcher.attempts.postponed))


def _swept(plan: Plan, work: Place, results: Results, *, failed: Sequence[str]) -> Swept:
    finished = sum(spec.trial_id in results for spec in plan.specs(results))
    reasons = collapsed(plan, results, work)
    return Swept(
        finished, tuple(failed), plan.total(), reasons, tuple(dead_cells(plan, results, reasons))
    )


def _name_damage(plan: Plan, survey: Survey) -> None:
    for spec in plan.specs(survey.results):
        if survey.others.get(spec.trial_id) == "damaged":
            print(
                f"{spec.trial_id}: finished before, but a file of it "
                "is damaged; it is trained anew",
                flush=True,
            )


def _searcher(study: Study, work: Place, plan: Plan, computed: list[FreezePoint]) -> StudySearcher:
    probe = read_probe(work, study)
    attempts = Attempts(work, most=study.resources.attempts, computed=frozenset(computed))
    return StudySearcher(
        plan,
        work,
        share=lambda spec: share(study.resources, spec, probe),
        room=cluster_room(),
        attempts=attempts,
    )


def cluster_room() -> Callable[[Share], int]:
    """How many trials of a share fit on the cluster's nodes at once, whenever it is asked."""
    import ray

    return lambda one: room([node["Resources"] for node in ray.nodes() if node["Alive"]], one)


def _tune(
    study: Study,
    work: Place,
    plan: Plan,
    searcher: StudySearcher,
    computed: list[FreezePoint],
    demand: Demand,
) -> None:
    with SweepConsole(plan, work, searcher) as console:
        run_trials(study, work, searcher, computed, [console, demand])


def run_trials(
    study: Study,
    work: Place,
    searcher: "Searcher",
    computed: Collection[FreezePoint],
    callbacks: "Sequence[Callback]",
) -> None:
    """Lets Tune run what a searcher names: each suggestion has the trial's specification under
    `spec` and what it is promised under `share`.

    Args:
        study: resources and tracking.
        work: its work directory.
        searcher: names trials, and says when there are no more.
        computed: freeze points whose activations are not cached.
        callbacks: told of every trial.
    """
    from ray import tune

    logging.getLogger("ray.tune").setLevel(
        logging.CRITICAL
    )  # a failed trial's traceback is kept in its directory and named on the console
    worker = tune.with_parameters(
        StudyWorker, study=study, work=work, computed=[str(one) for one in computed]
    )
    worker = tune.with_resources(
        worker,
        lambda config: tune.PlacementGroupFactory(
            [{key.upper(): value for key, value in config["share"].items() if value}]
        ),
    )
    worker.__qualname__ = StudyWorker.__name__  # as Ray's dashboard calls it
    # Tune's own experiment state is not needed: the ledger is what a next run starts from.
    with tempfile.TemporaryDirectory(prefix="renal-ray-tune-") as scratch:
        tuner = tune.Tuner(
            worker,
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                num_samples=-1,
                reuse_actors=True,
                trial_name_creator=lambda trial: trial.config["spec"]["trial_id"],
                trial_dirname_creator=lambda trial: trial.config["spec"]["trial_id"],
            ),
            run_config=tune.RunConfig(
                name=study.name,
                storage_path=scratch,
                verbose=0,
                callbacks=list(callbacks),
                checkpoint_config=tune.CheckpointConfig(
                    checkpoint_frequency=0, checkpoint_at_end=False
                ),
            ),
        )
        tuner.fit()
