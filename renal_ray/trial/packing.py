"""How much of a node each kind of trial is promised."""

from math import ceil, floor
from typing import NamedTuple

from renal_ray.config import Resources
from renal_ray.trial.probe import Probe, kind_name
from renal_ray.trial.spec import TrialSpec

# Of a trial's measured peak: allocators round up, and validation batches come beside training ones.
ROOM = 1.25
# Shares of a card are rounded up to these, so that few distinct requests exist: workers are reused
# only for equal ones.
SIXTEENTHS = 16


class Share(NamedTuple):
    """What one trial is promised: CPUs, and GPUs or a share of one."""

    cpu: float
    gpu: float


def share(resources: Resources, spec: TrialSpec, probe: Probe | None) -> Share:
    """What a trial is promised.

    Args:
        resources: of the study.
        spec: the trial.
        probe: measured costs; without them every trial is promised what the study file says.

    Returns:
        The study file's CPUs; and of a card that a trial would have for itself, the part that its
        measured memory needs.
    """
    cost = probe.kinds.get(kind_name(spec.head, spec.freeze_point)) if probe else None
    if (
        not 0 < resources.gpus_per_trial <= 1
        or probe is None
        or cost is None
        or not cost.gpu_memory_mib
        or not probe.gpu_memory_mib
    ):
        return Share(resources.cpus_per_trial, resources.gpus_per_trial)
    need = max(cost.gpu_memory_mib * ROOM / probe.gpu_memory_mib, 1 / resources.trials_per_gpu)
    return Share(
        resources.cpus_per_trial,
        min(resources.gpus_per_trial, ceil(need * SIXTEENTHS) / SIXTEENTHS),
    )


def room(nodes: list[dict[str, float]], share: Share) -> int:
    """How many trials of one share fit on nodes at once.

    Args:
        nodes: each node's resources: CPU, GPU.
        share: of one trial.
    """
    return sum(
        min(
            floor(node.get(name, 0) / amount + 1e-9)
            for name, amount in (("CPU", share.cpu), ("GPU", share.gpu))
            if amount
        )
        for node in nodes
    )
