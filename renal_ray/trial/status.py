"""Where a study stands, in lines for a person."""

from collections import Counter
from collections.abc import Iterator, Mapping

from renal_ray.config import Study
from renal_ray.store.ledger import Ledger
from renal_ray.store.place import Place
from renal_ray.store.seal import LOG as SEAL_LOG
from renal_ray.trial import prepared
from renal_ray.trial.plan import Plan, finished_results, make_plan
from renal_ray.trial.spec import TRUE_LABELS, TrialSpec
from renal_ray.types import Label


def describe_plan(study: Study, work: Place) -> Iterator[str]:
    """Who trains, who is sealed, and how many trials of each kind there are.

    Args:
        study: a prepared study.
        work: its work directory.
    """
    plan = make_plan(study, work)
    people = plan.splits.patients
    for k in range(plan.splits.n_folds):
        inside = [person for person in people if person.fold == k]
        yield f"fold {k}: {_counted([person.label for person in inside])}, {sum(person.n_images for person in inside)} images"
    sealed = [person for person in people if person.role == "test"]
    yield f"sealed for the test: {len(sealed)} patients, {sum(person.n_images for person in sealed)} images"  # and not their labels
    results = finished_results(work)
    specs = plan.specs(results)
    done = sum(spec.trial_id in results for spec in specs)
    kinds = f"{', '.join(study.datasets)} x {', '.join(study.freeze_points)} x {len(study.fold_numbers)} folds; heads {', '.join(study.heads.use)}"
    yield f"{plan.total()} trials ({kinds}), {done} of them finished"
    for dataset in study.datasets:
        yield f"{dataset}: freeze point {plan.selected(dataset, results) or 'selected once its image trials are finished'}"


def describe(study: Study, work: Place) -> Iterator[str]:
    """What is finished, waiting and failed, with the last line of every error.

    Args:
        study: the study.
        work: its work directory.
    """
    if not work.exists(prepared.MARKER):
        yield f"{study.name}: not prepared yet; run `renal-ray prepare`"
        return
    plan = make_plan(study, work)
    results = finished_results(work)
    ledger = Ledger(work)
    states = {spec: "finished" if spec.trial_id in results else ledger.state(spec.trial_id) for spec in plan.specs(results)}
    count = Counter(states.values())
    waiting = count["absent"] + plan.total() - len(states)
    yield f"{study.name}: {count['finished']} of {plan.total()} trials finished, {count['failed']} failed, {count['unfinished']} begun, {waiting} waiting"
    yield from _by_kind(plan, states)
    for spec, state in states.items():
        if state == "failed":
            yield f"{spec.trial_id}: {ledger.error(spec.trial_id).strip().splitlines()[-1]}"
    openings = work.read(SEAL_LOG).count(b"\n") if work.exists(SEAL_LOG) else 0
    yield "the seal on the test patients is closed" if not openings else f"the seal on the test patients was opened, {openings} x"


def _by_kind(plan: Plan, states: Mapping[TrialSpec, str]) -> Iterator[str]:
    kinds: dict[str, list[str]] = {}
    for spec, state in states.items():
        head = spec.head if spec.labels == TRUE_LABELS else f"{spec.head} {spec.labels}"
        kinds.setdefault(f"{spec.dataset} {spec.freeze_point} {head}", []).append(state)
    for kind, found in kinds.items():
        yield f"  {kind}: {found.count('finished')} of {len(plan.study.fold_numbers)} folds finished"


def _counted(labels: list[int]) -> str:
    count = Counter(labels)
    return f"{len(labels)} patients ({count[Label.BENIGN]} benign, {count[Label.MALIGNANT]} malignant)"
