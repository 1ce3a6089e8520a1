"""Clusters that grow: what the autoscaler is asked for, what it brings, and that it is told when
the sweep needs less or is gone."""

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from threading import Thread
from time import sleep
from typing import Any, NamedTuple

from renal_ray.trial.packing import Share

KEEPER = "renal-ray-demand"
WATCH_EVERY_S = 10.0


class Scaling(NamedTuple):
    """What the autoscaler says.

    Args:
        runs: whether one manages the nodes of this cluster.
        coming: nodes that are being started, by type.
    """

    runs: bool
    coming: Mapping[str, int]


def scaling() -> Scaling:
    """Asks, inside the cluster, whether an autoscaler runs and which nodes it is starting."""
    import ray

    answer: Scaling = ray.get(ray.remote(num_cpus=0)(_read).remote())
    return answer


def _read() -> Scaling:
    from ray._private.ray_constants import DEBUG_AUTOSCALING_STATUS
    from ray.autoscaler.v2.sdk import get_cluster_status
    from ray.autoscaler.v2.utils import is_autoscaler_v2
    from ray.experimental.internal_kv import _internal_kv_get, internal_kv_get_gcs_client

    if is_autoscaler_v2():
        status = get_cluster_status(internal_kv_get_gcs_client().address)
        coming = Counter(node.ray_node_type_name for node in status.pending_nodes)
        coming.update(
            {launch.ray_node_type_name: launch.count for launch in status.pending_launches}
        )
        return Scaling(
            _managed(
                node.ray_node_type_name for node in [*status.active_nodes, *status.idle_nodes]
            ),
            dict(coming),
        )
    told = json.loads(_internal_kv_get(DEBUG_AUTOSCALING_STATUS) or "{}").get("autoscaler_report")
    if not told:
        return Scaling(False, {})
    coming = Counter(kind for _, kind, _ in told["pending_nodes"])
    coming.update(told["pending_launches"])
    return Scaling(_managed({*told["active_nodes"], *(told["idle_nodes"] or {})}), dict(coming))


def _managed(types: Iterable[str]) -> bool:
    """Whether nodes have types: without an autoscaler Ray's monitor runs all the same, and calls
    each node `node_` and its id."""
    return any(not kind.startswith("node_") for kind in types)


def bundle(share: Share) -> dict[str, float]:
    """A share in Ray's words; what is not asked for is left out."""
    return {name: amount for name, amount in (("CPU", share.cpu), ("GPU", share.gpu)) if amount}


@contextmanager
def keeper() -> Iterator[Any]:
    """An actor with a method `ask`, which asks the autoscaler for room for some bundles of
    resources, each at once.

    The request stands until the block ends. Where the driver is killed, the actor takes it back: it
    would keep nodes alive that somebody pays for.
    """
    import ray

    job = ray.get_runtime_context().get_job_id()
    # Detached: one that belonged to the driver would die with it, and the request would stay.
    actor = (
        ray.remote(num_cpus=0)(_Keeper)
        .options(name=f"{KEEPER}-{job}", namespace=KEEPER, lifetime="detached", get_if_exists=True)
        .remote(job)
    )
    try:
        yield actor
    finally:
        ray.get(actor.ask.remote([]))
        ray.kill(actor)


class _Keeper:
    def __init__(self, job: str) -> None:
        Thread(target=self._watch, args=(job,), daemon=True).start()

    def ask(self, bundles: list[dict[str, float]]) -> None:
        from ray.autoscaler.sdk import request_resources

        request_resources(bundles=bundles)

    def _watch(self, job: str) -> None:
        while _lives(job):
            sleep(WATCH_EVERY_S)
        self.ask([])
        os._exit(0)


def _lives(job: str) -> bool:
    from ray._private.state import jobs  # the public list of jobs needs a dashboard

    return any(one["JobID"] == job and not one["IsDead"] for one in jobs())
