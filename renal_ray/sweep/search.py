"""search: a study's search on Ray Tune, from wherever the last run stopped."""

from dataclasses import dataclass
from typing import Any

from renal_ray.config import Study
from renal_ray.store.ledger import Ledger
from renal_ray.store.place import Place
from renal_ray.sweep.activate import fill_activations
from renal_ray.sweep.attempts import Attempts
from renal_ray.sweep.caching import computed_freeze_points
from renal_ray.sweep.demand import Demand
from renal_ray.sweep.hunt_console import HuntConsole
from renal_ray.sweep.hunt_searcher import HuntSearcher
from renal_ray.sweep.preflight import preflight
from renal_ray.sweep.run import cluster_room, run_trials
from renal_ray.trial.packing import share
from renal_ray.trial.plan import finished_results
from renal_ray.trial.probe import read_probe
from renal_ray.trial.search.configurations import make_bench
from renal_ray.trial.search.hunt import Hunt
from renal_ray.trial.search.outcome import BEST, keep_outcome


@dataclass(frozen=True)
class Searched:
    """Where a search stands.

    Args:
        outcome: as in WORK/search/search.json.
        failed: ids of trials that failed in this run; each has its error.txt.
        best: where the best configuration's study file lies; None where no configuration is
            complete.
    """

    outcome: dict[str, Any]
    failed: tuple[str, ...]
    best: str | None


def search(study: Study) -> Searched:
    """Trains what the search wants, until nothing is left.

    Args:
        study: a prepared study with a search.

    Raises:
        StudyError: the study has no search or is not prepared, the weights cannot be had, or no
            node can host a trial.
    """
    work = Place(study.work)
    bench = make_bench(study)
    hunt = Hunt(bench, work)
    results = finished_results(work)
    failed: set[str] = set()
    if hunt.next(results, failed, ()) is not None:
        failed = _run(study, work, hunt)
        results = finished_results(work)
    found = keep_outcome(hunt, work, results, failed)
    return Searched(
        found, tuple(sorted(failed)), None if found["best"] is None else work.shown(BEST)
    )


def _run(study: Study, work: Place, hunt: Hunt) -> set[str]:
    plan = hunt.bench.plan
    nodes = preflight(plan.study)
    for trial_id, state in Ledger(work).survey().others.items():
        if state == "damaged" and trial_id in hunt.places():
            print(
                f"{trial_id}: finished before, but a file of it is damaged; it is trained anew",
                flush=True,
            )
    computed, reasons = computed_freeze_points(
        plan.study, work, plan, [report for _, report in nodes]
    )
    for reason in reasons:
        print(reason, flush=True)
    probe = read_probe(work, study)
    longest = hunt.bench.chain(hunt.main.entries[0].values, hunt.main.folds[0])[0]
    with Demand(share(study.resources, longest, probe), hunt.most()) as demand:
        for _ in range(
            study.resources.attempts
        ):  # damaged activations are made anew, and the trials that need them named again
            fill_activations(plan.study, work, plan, computed=computed)
            attempts = Attempts(work, most=study.resources.attempts, computed=frozenset(computed))
            searcher = HuntSearcher(
                hunt,
                work,
                share=lambda spec: share(study.resources, spec, probe),
                room=cluster_room(),
                attempts=attempts,
            )
            run_trials(study, work, searcher, computed, [HuntConsole(hunt, work, searcher), demand])
            if not attempts.postponed:
                break
    return searcher.failed | attempts.postponed
