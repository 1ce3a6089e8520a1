"""Whether the study's framework sees the cards that nodes promise: asked in a process as trials are
started."""

from time import monotonic, sleep

from renal_ray.config import Study
from renal_ray.problems import StudyError, reason
from renal_ray.sweep.fits import IDLE_WITHIN_S, promised
from renal_ray.sweep.nodes import Node, alive_nodes, ask_all
from renal_ray.trial.cards import Seen
from renal_ray.trial.packing import Share
from renal_ray.trial.process import Setup, TrialProcess

ANSWERS_WITHIN_S = 180.0  # importing a framework takes seconds, a minute from a cold shared disk


def check_devices(study: Study, share: Share | None = None) -> None:
    """Asks the framework of every node that promises cards and could host a trial. Says which nodes
    were too busy to be asked; their trials ask themselves.

    Args:
        study: the study.
        share: what the smallest trial is promised; what the study file says when omitted.

    Raises:
        StudyError: a framework sees no card, and resources.allow_cpu does not say to go on; the
            message names the node.
    """
    one = share or promised(study)
    if not one.gpu:
        return
    need = {"CPU": one.cpu, "GPU": one.gpu}
    free, busy = _with_room(need)
    for node in busy:
        print(
            f"node {node.name} is busy: whether {study.backend} sees its "
            "cards is asked when a trial starts there",
            flush=True,
        )
    options = {"num_cpus": one.cpu, "num_gpus": one.gpu}
    for node, seen in ask_all(
        free, _ask, study, one, patience_s=ANSWERS_WITHIN_S + IDLE_WITHIN_S, options=options
    ):
        if seen.fault and not study.resources.allow_cpu:
            raise StudyError(f"node {node.name}: {seen.fault}")
        if seen.fault:
            print(
                f"node {node.name}: {study.backend} sees no card: trials compute on "
                "the processor, as resources.allow_cpu says",
                flush=True,
            )


def _with_room(need: dict[str, float]) -> tuple[list[Node], list[Node]]:
    """The nodes that can host a trial now, and those that could if nothing else ran there; what the
    step before held is waited for."""
    until = monotonic() + IDLE_WITHIN_S
    while True:
        could = [node for node in alive_nodes() if node.holds(need, now=False)]
        busy = [node for node in could if not node.holds(need, now=True)]
        if not busy or monotonic() >= until:
            return [node for node in could if node not in busy], busy
        sleep(0.5)


def _ask(study: Study, share: Share) -> Seen:
    """On the node, with the card that Ray gives: a process as under a trial's worker."""
    process = TrialProcess(
        Setup.of(study, share), most_tasks=1, most_mib=float("inf"), silence_s=ANSWERS_WITHIN_S
    )
    try:
        return process.cards()
    except RuntimeError as error:
        return Seen(fault=f"{study.backend} could not be asked for its cards: {reason(error)}")
    finally:
        process.close()
