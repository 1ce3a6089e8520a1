"""What trials are called in Ray's dashboard and by `ray list`.

Ray asks an actor for its name once, when it is made, and a worker outlives many trials. So the
actor is named for all of them, and each call that Tune makes of it is named for the trial and the
stage of that moment: the actor's running task is what it does now.
"""

from collections.abc import Mapping
from typing import Any

from ray.tune.experiment import Trial

from renal_ray.trial.spec import TrialSpec


def readable(spec: TrialSpec) -> str:
    """A trial's id without its hash, e.g. roi-mixed6-image-fold2."""
    return spec.trial_id.rpartition("-")[0]


def worker_name(first: TrialSpec) -> str:
    """Name of a worker's actor, from its first trial."""
    return f"trials from {readable(first)} on"


def name_call(trial: Trial, spec: TrialSpec, told: Mapping[str, Any] | None = None) -> None:
    """Names the next call that Tune makes of a trial's actor.

    Args:
        trial: Tune's trial; nothing happens while it has no actor.
        spec: what it runs.
        told: what it told last, see `renal_ray.trial.progress.Pace`.
    """
    actor = trial.temporary_state.ray_actor
    if actor is None:
        return
    stage = f"{told['stage']} {told['epoch']}/{told['epochs']}" if told else "starting"
    # A handle has each method as an attribute; the one with a name takes the place of the plain
    # one, which makes the next.
    plain = vars(actor).setdefault("plain_train", actor.train)
    actor.train = plain.options(name=f"{readable(spec)} ({stage})")
