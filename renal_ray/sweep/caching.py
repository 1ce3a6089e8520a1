"""Which activations are kept on disk, and which are computed anew in every epoch."""

import shutil
from collections.abc import Sequence
from math import prod

import numpy as np
import psutil

from renal_ray.config import Study
from renal_ray.model.flops import prefix_gflops
from renal_ray.model.shapes import activation_shape
from renal_ray.problems import StudyError
from renal_ray.store.place import Place, node_copies
from renal_ray.sweep.node_checks import Report
from renal_ray.trial.plan import Plan
from renal_ray.trial.probe import Probe, read_probe
from renal_ray.types import FreezePoint

MEMORY_SHARE = (
    0.6  # of a node's free memory, up to which activations are expected to stay in it once read
)


def computed_freeze_points(
    study: Study, work: Place, plan: Plan, nodes: Sequence[Report] = ()
) -> tuple[list[FreezePoint], list[str]]:
    """Chooses the freeze points whose activations are not cached.

    Args:
        study: its `cache` says auto, always or never.
        work: its work directory; sets that are complete there cost nothing more.
        plan: the study's trials.
        nodes: what the nodes say of themselves; without, this machine stands for them.

    Returns:
        The freeze points, and a sentence a reason for a person.

    Raises:
        StudyError: `cache: always`, and the disk would not hold them.
    """
    if study.cache == "never":
        return list(study.freeze_points), [
            "cache: never: the frozen layers are computed anew in every epoch"
        ]
    sizes = {point: _missing_bytes(study, work, plan, point) for point in study.freeze_points}
    if study.cache == "always":
        free = _free(work, nodes)
        if (need := sum(sizes.values())) > free:
            raise StudyError(
                f"{work.shown()}: the activations of {_images(plan)} images need "
                f"{need / 1e9:.1f} GB, {free / 1e9:.1f} GB are free{_where(work)}; "
                "use cache: auto, activation_dtype: float16, fewer freeze_points or "
                "datasets, selection.max_slices, or a larger disk"
            )
        return [], []
    return _weighed(study, work, sizes, read_probe(work, study), nodes)


def _weighed(
    study: Study,
    work: Place,
    sizes: dict[FreezePoint, int],
    probe: Probe | None,
    nodes: Sequence[Report],
) -> tuple[list[FreezePoint], list[str]]:
    computed, said = [], []
    left, memory = _free(work, nodes), _memory(nodes) * MEMORY_SHARE
    for point in sorted(
        sizes, key=lambda point: sizes[point]
    ):  # the small ones save the most work for each byte
        size = sizes[point]
        if size > left:
            computed.append(point)
            said.append(
                f"{point}: its activations need {size / 1e9:.1f} GB, "
                f"{left / 1e9:.1f} GB are free{_where(work)}: "
                "not cached, the frozen layers are computed anew in every epoch"
            )
        elif (
            size > memory
            and probe is not None
            and _read_s(study, point, probe) > (compute := _compute_s(study, point, probe))
        ):
            computed.append(point)
            said.append(
                f"{point}: reading an image's activations takes "
                f"{_read_s(study, point, probe) * 1e3:.1f} ms at {probe.read_mib_s:.0f} "
                "MiB/s, "
                f"computing them {compute * 1e3:.1f} ms: not cached"
            )
        else:
            left -= size
            memory -= size
    return computed, said


def _read_s(study: Study, point: FreezePoint, probe: Probe) -> float:
    """Seconds of reading one image's activations from the disk."""
    return _image_bytes(study, point) / 2**20 / probe.read_mib_s


def _compute_s(study: Study, point: FreezePoint, probe: Probe) -> float:
    """Seconds of computing one image's activations, from the measured pass through all requested
    freeze points."""
    deepest = max(prefix_gflops(study.images.size, one) for one in study.freeze_points)
    return probe.prefix_s_per_image * prefix_gflops(study.images.size, point) / deepest


def _missing_bytes(study: Study, work: Place, plan: Plan, point: FreezePoint) -> int:
    missing = sum(
        not plan.image_specs(dataset, point)[0].activations.exists(work)
        for dataset in study.datasets
    )
    return missing * _images(plan) * _image_bytes(study, point)


def _image_bytes(study: Study, point: FreezePoint) -> int:
    return int(
        np.dtype(study.activation_dtype).itemsize * prod(activation_shape(study.images.size, point))
    )


def _images(plan: Plan) -> int:
    return sum(person.n_images for person in plan.splits.patients if person.role == "train")


def _free(work: Place, nodes: Sequence[Report]) -> float:
    """Bytes free where activations are read: in the work directory, or, where that is remote, for
    the copies on the node that has the least."""
    if work.is_local:
        return shutil.disk_usage(work.path()).free
    return min(
        (node.copies_free for node in nodes), default=shutil.disk_usage(node_copies().path()).free
    )


def _where(work: Place) -> str:
    return (
        f" in {work.uri}"
        if work.is_local
        else " for a node's copies of them, below TMPDIR on the node that has the least"
    )


def _memory(nodes: Sequence[Report]) -> float:
    """Bytes of memory that are available on the node that has the least."""
    return min((node.memory_free for node in nodes), default=psutil.virtual_memory().available)
