"""The nodes of the cluster, and how all of them are asked something at once."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from renal_ray.problems import StudyError

Answer = TypeVar("Answer")
PATIENCE_S = (
    60.0  # for an answer of every node; starting a worker takes seconds, ten on a busy machine
)


class Node(NamedTuple):
    """A node that Ray believes alive.

    Args:
        id: Ray's.
        name: its address, for a person; where several nodes have one address, with the beginning of
            the id.
        total: what it was started with, by resource.
        free: what nobody holds at this moment.
    """

    id: str
    name: str
    total: Mapping[str, float]
    free: Mapping[str, float]

    @property
    def hosts_work(self) -> bool:
        """Whether anything of a study can run there; the head of a cluster is often started without
        CPUs."""
        return self.total.get("CPU", 0) > 0

    def holds(self, need: Mapping[str, float], *, now: bool) -> bool:
        """Whether a trial fits: beside what runs there now, or on the node as a whole."""
        have = self.free if now else self.total
        return all(have.get(name, 0) + 1e-9 >= amount for name, amount in need.items())


def alive_nodes() -> list[Node]:
    """The nodes that are alive, with what is free on each; sorted by name."""
    import ray

    alive = [node for node in ray.nodes() if node["Alive"]]
    # Asked inside the cluster: a driver that came by ray:// has no eyes for it.
    free = ray.get(ray.remote(num_cpus=0)(_free).remote())
    shared = Counter(node["NodeManagerAddress"] for node in alive)
    nodes = []
    for node in alive:
        address, key = node["NodeManagerAddress"], node["NodeID"]
        name = f"{address} ({key[:8]})" if shared[address] > 1 else address
        nodes.append(Node(key, name, node["Resources"], free.get(key, {})))
    return sorted(nodes, key=lambda node: node.name)


def _free() -> dict[str, dict[str, float]]:
    from ray._private.state import (
        available_resources_per_node,
    )  # what ray.util.tpu uses; the public call gives the cluster's total alone

    free: dict[str, dict[str, float]] = available_resources_per_node()
    return free


def ask_all(
    nodes: Sequence[Node],
    question: Callable[..., Answer],
    *args: Any,
    patience_s: float | None = None,
    options: Mapping[str, float] | None = None,
) -> Iterator[tuple[Node, Answer]]:
    """Runs a function on every node, side by side, whatever else runs there unless it needs room.

    Args:
        nodes: whom to ask.
        question: the function.
        args: its arguments.
        patience_s: how long to wait for all answers; PATIENCE_S when omitted.
        options: what the function is promised there, as Ray names it; nothing when omitted.

    Yields:
        Node and answer; a node that was lost meanwhile is left out.

    Raises:
        StudyError: a node does not answer in time, or cannot run the function; the message names
            it.
    """
    import ray
    from ray.exceptions import RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    patience = PATIENCE_S if patience_s is None else patience_s
    task = ray.remote(**(options or {"num_cpus": 0}), max_retries=0)(question)
    asked = [
        task.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False)
        ).remote(*args)
        for node in nodes
    ]
    _, silent = ray.wait(asked, num_returns=len(asked), timeout=patience) if asked else ([], [])
    here = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
    if late := [
        node.name
        for node, one in zip(nodes, asked, strict=True)
        if one in silent and node.id in here
    ]:
        for one in silent:
            ray.cancel(one, force=True)
        raise StudyError(
            f"{_named(late)} did not answer within {patience:.0f} s, though the cluster "
            "believes it alive: look at its disk and its network, "
            "or take it out of the cluster with `ray stop` there"
        )
    for node, one in zip(nodes, asked, strict=True):
        if one in silent:
            continue
        try:
            answer = ray.get(one)
        except RayError as error:
            if node.id not in {other["NodeID"] for other in ray.nodes() if other["Alive"]}:
                continue
            raise StudyError(
                f"node {node.name} cannot run renal-ray ({_last_line(error)}); "
                "install the same environment on every node"
            ) from None
        yield node, answer


def _named(names: Sequence[str]) -> str:
    return f"node {names[0]}" + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__
