"""What came out of a search, as numbers: kept in WORK/search/search.json, from which the report and
a person read it, and the best as a study file."""

from collections.abc import Collection
from statistics import fmean
from typing import Any

from renal_ray.config import Study
from renal_ray.protocol.metrics import mean_sd
from renal_ray.store.ledger import Ledger
from renal_ray.store.place import Place
from renal_ray.study_file import dump_study
from renal_ray.trial.plan import Results
from renal_ray.trial.search.configurations import Values, configured, make_bench
from renal_ray.trial.search.hunt import FOLDER, Hunt
from renal_ray.trial.search.race import Entry, Race
from renal_ray.trial.spec import main_level

SUMMARY = f"{FOLDER}/search.json"
BEST = f"{FOLDER}/best.yaml"


def outcome(hunt: Hunt, results: Results, failed: Collection[str]) -> dict[str, Any]:
    """A search as it stands, for JSON.

    Args:
        hunt: the search.
        results: of finished trials.
        failed: ids of trials that raised.

    Returns:
        What was searched (study, dataset, head, level, space, sampler, stop, screen), the split's
        hash and sizes, every configuration with its AUC by fold and where it stands, the number of
        the best, and under nested, per outer fold, the inner winner and the AUC of it and of the
        own settings there.
    """
    bench, search = hunt.bench, hunt.bench.search
    sizes = [bench.plan.splits.fold(fold) for fold in hunt.main.folds]
    best = hunt.main.best(results)
    return {
        "study": bench.study.name,
        "dataset": str(bench.dataset),
        "head": str(search.head),
        "level": main_level(search.head),
        "sampler": search.sampler,
        "space": {
            name: tried if isinstance(tried, list) else tried.model_dump(mode="json")
            for name, tried in search.space.dimensions.items()
        },
        "stop": None if search.stop is None else search.stop.model_dump(mode="json"),
        "screen": None
        if search.screen is None
        else {**search.screen.model_dump(mode="json"), "rungs": hunt.main.rungs},
        "splits": bench.plan.inputs[bench.dataset].splits,
        "folds": hunt.main.folds,
        "n_train": fmean(len(one.train) for one in sizes),
        "n_validation": fmean(len(one.validation) for one in sizes),
        "is_over": hunt.is_over(results, failed),
        "trials": sum(trial_id in results for trial_id in hunt.places()),
        "configurations": [_row(hunt.main, entry, results, failed) for entry in hunt.main.entries],
        "best": None if best is None else best.number,
        "training": None
        if best is None
        else configured(bench.study, best.values).training.model_dump(mode="json"),
        "nested": _nested(hunt, results, failed) if search.nested else None,
    }


def _row(race: Race, entry: Entry, results: Results, failed: Collection[str]) -> dict[str, Any]:
    scores = race.scores(entry, results)
    mean, sd = mean_sd(list(scores.values()))
    rungs = [
        (epochs, race.rung_auc(entry, rung, results))
        for rung, epochs in enumerate(race.rungs)
        if entry.number and rung <= entry.rung
    ]
    return {
        **entry.to_json(),
        "state": race.state(entry, results, failed),
        "aucs": {str(fold): auc for fold, auc in scores.items()},
        "mean": mean,
        "sd": sd,
        "screened": [{"epochs": epochs, "auc": auc} for epochs, auc in rungs if auc is not None],
    }


def _nested(hunt: Hunt, results: Results, failed: Collection[str]) -> list[dict[str, Any]]:
    rows = []
    for one in hunt.outer:
        best = one.race.best(results)
        chains = hunt.judged_chains(one, results, failed)
        auc, own = (hunt.bench.auc(chain, results) for chain in chains) if chains else (None, None)
        rows.append(
            {
                "fold": one.fold,
                "tried": len(one.race.entries),
                "number": best.number if best and chains else None,
                "values": dict(best.values) if best and chains else None,
                "inner_mean": one.race.mean(best, results) if best and chains else None,
                "auc": auc,
                "own_auc": own,
            }
        )
    return rows


def keep_outcome(
    hunt: Hunt, work: Place, results: Results, failed: Collection[str]
) -> dict[str, Any]:
    """Writes search.json, and best.yaml where a configuration is complete; returns what was
    written."""
    found = outcome(hunt, results, failed)
    work.write_checked_json(SUMMARY, found)
    best = hunt.main.best(results)
    if best is not None:
        work.write(BEST, best_file(hunt.bench.study, best.values, found).encode())
    return found


def best_study(study: Study, values: Values) -> Study:
    """The study with a configuration's settings and without the search; its other freeze points are
    left out where one was searched for."""
    return configured(study, values).model_copy(update={"search": None})


def best_file(study: Study, values: Values, found: dict[str, Any]) -> str:
    """A configuration as a study file that runs as it is, in the same work directory: what is
    prepared and trained there is used again."""
    row = found["configurations"][found["best"]]
    told = "; the report says by how much" if found["nested"] else ""
    said = ", ".join(f"{name} {value}" for name, value in values.items())
    lines = (
        (
            f"configuration {row['number']} of the search of "
            f"{study.name} on {found['dataset']}: {said}"
        ),
        (
            f"mean validation AUC {row['mean']:.3f} over {len(row['aucs'])} folds: "
            f"chosen on these folds, so it is optimistic{told}"
        ),
    )
    return "".join(f"# {line}\n" for line in lines) + dump_study(best_study(study, values))


def read_outcome(work: Place) -> dict[str, Any] | None:
    """search.json of a work directory, None where nothing was searched.

    Raises:
        DamagedFileError: it is not what was written.
    """
    return work.read_checked_json(SUMMARY) if work.exists(SUMMARY) else None


def describe_search(study: Study) -> list[str]:
    """What the search of a prepared study will do, in lines for a person."""
    hunt = Hunt(make_bench(study), Place(study.work), record=False)
    search = hunt.bench.search
    how = {
        "tpe": f"{search.configurations} configurations by TPE",
        "random": f"{search.configurations} random configurations",
    }
    tried = how.get(search.sampler, f"a grid of {hunt.main.limit} configurations")
    lines = [
        (
            f"search: {tried} over {', '.join(search.space.dimensions)}; {search.head} on "
            f"{hunt.bench.dataset}, mean AUC over {len(hunt.main.folds)} folds"
        )
    ]
    if hunt.main.rungs:
        epochs = ", ".join(str(one) for one in hunt.main.rungs)
        lines.append(
            f"search: screened on one fold with {epochs} epochs; one of "
            f"{search.screen.eta if search.screen else 0} goes on each time"
        )
    if search.nested:
        lines.append(
            f"search: nested, {len(hunt.outer)} times more among the patients of the other folds"
        )
    lines.append(
        f"search: at most {hunt.most()} trials of its own, fewer where configurations are given up"
    )
    return lines


def search_status(study: Study, work: Place) -> list[str]:
    """Where the search of a prepared study stands, in lines for a person; none before it has
    begun."""
    hunt = Hunt(make_bench(study), work, record=False)
    if not work.exists(f"{hunt.folder}/race.json"):
        return []
    survey = Ledger(work).survey()
    failed = {trial_id for trial_id, state in survey.others.items() if state == "failed"}
    lines = []
    for race in hunt.races:
        states = [race.state(entry, survey.results, failed) for entry in race.entries]
        counts = {
            name: states.count(name)
            for name in ("complete", "beaten", "hopeless", "screened", "failed", "running")
        }
        best = race.best(survey.results)
        mean = race.mean(best, survey.results) if best else None
        name = "search" if race.outer is None else f"search without fold {race.outer}"
        said = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
        leader = (
            ""
            if best is None or mean is None
            else f"; the best is {best.number} with a mean AUC of {mean:.3f}"
        )
        lines.append(
            f"{name}: {len(race.entries)} "
            f"configuration{'s' if len(race.entries) > 1 else ''}, "
            f"{said}{leader}"
        )
    places = hunt.places()
    lines.append(
        f"search: {sum(one in survey.results for one in places)} of the "
        f"{len(places)} trials named so far are finished"
    )
    return lines
