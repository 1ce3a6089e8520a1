"""Whether a node has room for a trial: as it is now, as it would be if it were idle, or as one that
an autoscaler starts."""

from collections.abc import Mapping, Sequence
from time import monotonic, sleep

from renal_ray.config import Study
from renal_ray.problems import StudyError
from renal_ray.sweep.nodes import alive_nodes
from renal_ray.sweep.scaling import bundle, keeper, scaling
from renal_ray.trial.packing import Share

IDLE_WITHIN_S = 20.0  # what the step before this one held is given back, and the cluster told of it
SCALES_WITHIN_S = 60.0  # until an autoscaler has looked at a request and says which nodes it starts


def promised(study: Study) -> Share:
    """What the study file promises a trial."""
    return Share(study.resources.cpus_per_trial, study.resources.gpus_per_trial)


def check_fits(study: Study, shares: Sequence[Share] = ()) -> None:
    """Refuses a study whose trials no node can host as it is now; Tune would only warn, after a
    while, against cluster totals.

    A node that is busy is waited for, shortly, and so is one that an autoscaler is about to start.

    Args:
        study: the study.
        shares: what its trials are promised; what the study file says when omitted.

    Raises:
        StudyError: every node is too small, or too busy.
    """
    for one in shares or [promised(study)]:
        need = {"CPU": one.cpu, "GPU": one.gpu}
        if not _fits(need) and not _is_coming(one, need):
            raise StudyError(_too_small(need))


def _fits(need: dict[str, float]) -> bool:
    """Whether a node has room now; where one would have if it were idle, a little later."""
    until = monotonic() + IDLE_WITHIN_S
    while True:
        nodes = alive_nodes()
        if any(node.holds(need, now=True) for node in nodes):
            return True
        if monotonic() >= until or not any(node.holds(need, now=False) for node in nodes):
            return False
        sleep(0.5)


def _is_coming(one: Share, need: dict[str, float]) -> bool:
    """Asks an autoscaler, where there is one, for a node with room."""
    if not scaling().runs:
        return False
    with keeper() as actor:
        actor.ask.remote([bundle(one)])
        until = monotonic() + SCALES_WITHIN_S
        while monotonic() < until:
            if any(node.holds(need, now=True) for node in alive_nodes()):
                return True
            if coming := scaling().coming:
                started = ", ".join(f"{count} x {kind}" for kind, count in coming.items())
                print(
                    f"no node has room for a trial of {_said(need)} yet; "
                    f"the autoscaler starts {started}",
                    flush=True,
                )
                return True
            sleep(1)
    return False


def _too_small(need: dict[str, float]) -> str:
    nodes = alive_nodes()
    could = [node for node in nodes if node.holds(need, now=False)]
    few = f"0 of {len(nodes)} nodes can host a trial of {_said(need)}"
    if could:
        best = max(nodes, key=lambda node: _part(need, node.free))
        return (
            f"{few} now: the largest free is {_said(need, best.free)}, on "
            f"{best.name}; {len(could)} could if nothing else ran there: "
            "wait for what does (`ray status` shows it), or lower "
            "resources.cpus_per_trial or resources.gpus_per_trial"
        )
    have = max((node.total for node in nodes), key=lambda total: _part(need, total), default={})
    grows = ", and the autoscaler starts none that can" if scaling().runs else ""
    return (
        f"{few}: the largest has {_said(need, have)}{grows}; lower "
        "resources.cpus_per_trial or resources.gpus_per_trial, or add a node"
    )


def _part(need: Mapping[str, float], have: Mapping[str, float]) -> tuple[float, float]:
    """How much of what is needed is there: of the scarcest, then of all."""
    parts = [min(1, have.get(name, 0) / amount) for name, amount in need.items() if amount]
    return min(parts, default=1), sum(parts)


def _said(need: Mapping[str, float], have: Mapping[str, float] | None = None) -> str:
    """What is needed, or of it what is there."""
    return (
        "{"
        + ", ".join(f"{name}: {(need if have is None else have).get(name, 0):g}" for name in need)
        + "}"
    )
