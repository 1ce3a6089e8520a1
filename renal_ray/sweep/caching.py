"""Which activations are kept on disk, and which are computed anew in every epoch."""

import shutil
from math import prod

import numpy as np
import psutil

from renal_ray.config import Study
from renal_ray.model.flops import prefix_gflops
from renal_ray.model.shapes import activation_shape
from renal_ray.problems import StudyError
from renal_ray.store.place import Place
from renal_ray.trial.plan import Plan
from renal_ray.trial.probe import Probe, read_probe
from renal_ray.types import FreezePoint

MEMORY_SHARE = 0.6  # of this machine's free memory, up to which activations are expected to stay in it once read


def computed_freeze_points(study: Study, work: Place, plan: Plan) -> tuple[list[FreezePoint], list[str]]:
    """Chooses the freeze points whose activations are not cached.

    Args:
        study: its `cache` says auto, always or never.
        work: its work directory; sets that are complete there cost nothing more.
        plan: the study's trials.

    Returns:
        The freeze points, and a sentence a reason for a person.

    Raises:
        StudyError: `cache: always`, and the disk would not hold them.
    """
    if study.cache == "never":
        return list(study.freeze_points), ["cache: never: the frozen layers are computed anew in every epoch"]
    sizes = {point: _missing_bytes(study, work, plan, point) for point in study.freeze_points}
    if study.cache == "always":
        free = _free(work)
        if (need := sum(sizes.values())) > free:
            raise StudyError(
                f"{work.uri}: the activations of {_images(plan)} images need {need / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; "
                "use cache: auto, activation_dtype: float16, fewer freeze_points or datasets, selection.max_slices, or a larger disk"
            )
        return [], []
    return _weighed(study, work, sizes, read_probe(work, study))


def _weighed(study: Study, work: Place, sizes: dict[FreezePoint, int], probe: Probe | None) -> tuple[list[FreezePoint], list[str]]:
    computed, said = [], []
    left, memory = _free(work), psutil.virtual_memory().available * MEMORY_SHARE
    for point in sorted(sizes, key=lambda point: sizes[point]):  # the small ones save the most work for each byte
        size = sizes[point]
        if size > left:
            computed.append(point)
            said.append(
                f"{point}: its activations need {size / 1e9:.1f} GB, {left / 1e9:.1f} GB of {work.uri} are free: "
                "not cached, the frozen layers are computed anew in every epoch"
            )
        elif size > memory and probe is not None and _read_s(study, point, probe) > (compute := _compute_s(study, point, probe)):
            computed.append(point)
            said.append(
                f"{point}: reading an image's activations takes {_read_s(study, point, probe) * 1e3:.1f} ms at {probe.read_mib_s:.0f} MiB/s, "
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
    """Seconds of computing one image's activations, from the measured pass through all requested freeze points."""
    deepest = max(prefix_gflops(study.images.size, one) for one in study.freeze_points)
    return probe.prefix_s_per_image * prefix_gflops(study.images.size, point) / deepest


def _missing_bytes(study: Study, work: Place, plan: Plan, point: FreezePoint) -> int:
    missing = sum(not plan.image_specs(dataset, point)[0].activations.exists(work) for dataset in study.datasets)
    return missing * _images(plan) * _image_bytes(study, point)


def _image_bytes(study: Study, point: FreezePoint) -> int:
    return int(np.dtype(study.activation_dtype).itemsize * prod(activation_shape(study.images.size, point)))


def _images(plan: Plan) -> int:
    return sum(person.n_images for person in plan.splits.patients if person.role == "train")


def _free(work: Place) -> float:
    """Bytes free where the work directory lies; object storage is not asked."""
    return shutil.disk_usage(work.path()).free if work.is_local else float("inf")
