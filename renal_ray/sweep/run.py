"""sweep: all trials of a study on Ray Tune, from wherever the last run stopped."""

import logging
import tempfile
from dataclasses import dataclass

from renal_ray.config import Study
from renal_ray.store.place import Place
from renal_ray.sweep.activate import fill_activations
from renal_ray.sweep.console import SweepConsole
from renal_ray.sweep.preflight import check_disk, preflight
from renal_ray.sweep.searcher import StudySearcher
from renal_ray.sweep.worker import StudyWorker
from renal_ray.trial.plan import Plan, finished_results, make_plan


@dataclass(frozen=True)
class Swept:
    """Where a sweep stands.

    Args:
        finished: finished trials of the study.
        failed: ids of trials that failed in this run; each has its error.txt.
        total: trials of the whole study.
    """

    finished: int
    failed: tuple[str, ...]
    total: int


def sweep(study: Study) -> Swept:
    """Trains every trial that is not finished yet.

    Args:
        study: a prepared study.

    Returns:
        Counts, and the trials that failed.

    Raises:
        StudyError: the study is not prepared, the weights cannot be had, or no node can host a trial.
    """
    work = Place(study.work)
    plan = make_plan(study, work)
    results = finished_results(work)
    if sum(spec.trial_id in results for spec in plan.specs(results)) == plan.total():
        return Swept(plan.total(), (), plan.total())
    preflight(study)
    check_disk(study, work, plan)
    fill_activations(study, work, plan)
    searcher = StudySearcher(plan, work)
    _tune(study, work, plan, searcher)
    results = finished_results(work)
    finished = sum(spec.trial_id in results for spec in plan.specs(results))
    return Swept(finished, tuple(sorted(searcher.failed)), plan.total())


def _tune(study: Study, work: Place, plan: Plan, searcher: StudySearcher) -> None:
    from ray import tune

    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # a failed trial's traceback is kept in its directory and named on the console
    share = {"cpu": study.resources.cpus_per_trial, "gpu": study.resources.gpus_per_trial}
    worker = tune.with_parameters(StudyWorker, study=study, work=work, splits=plan.splits)
    # Tune's own experiment state is not needed: the ledger is what a next run starts from.
    with tempfile.TemporaryDirectory(prefix="renal-ray-tune-") as scratch, SweepConsole(plan, work) as console:
        tuner = tune.Tuner(
            tune.with_resources(worker, share),
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
                callbacks=[console],
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            ),
        )
        tuner.fit()
