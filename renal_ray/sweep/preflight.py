"""What would stop a study later stops it before any work."""

import shutil
from importlib.util import find_spec
from math import prod

import numpy as np

from renal_ray.config import Study
from renal_ray.model.shapes import activation_shape
from renal_ray.problems import StudyError
from renal_ray.store.place import Place
from renal_ray.sweep.cluster import study_errors
from renal_ray.trial.plan import Plan
from renal_ray.trial.workshop import configure_keras


def preflight(study: Study) -> None:
    """Checks nodes, backend and weights.

    Raises:
        StudyError: no node can host a trial, the backend is not installed, or the weights cannot be had.
    """
    import ray

    check_fits(study)
    if study.backend == "jax" and find_spec("jax") is None:
        raise StudyError("backend: jax is not installed here; run `pip install 'renal-ray[jax]'` on every node, or choose tensorflow")
    if study.weights != "random":
        share = {"num_cpus": study.resources.cpus_per_trial, "num_gpus": study.resources.gpus_per_trial}
        with study_errors():
            ray.get(ray.remote(**share, max_calls=1)(_load_weights).remote(study))


def _load_weights(study: Study) -> None:
    configure_keras(study.backend, int(study.resources.cpus_per_trial))
    from renal_ray.model.backbone import build_backbone
    from renal_ray.model.weights import load_weights

    load_weights(build_backbone(study.images.size), study.weights)


def check_fits(study: Study) -> None:
    """Refuses a study whose trials no node can host; Tune would only warn, after a while, against cluster totals.

    Raises:
        StudyError: every node is too small.
    """
    import ray

    need = {"CPU": study.resources.cpus_per_trial, "GPU": study.resources.gpus_per_trial}
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(all(node.get(name, 0) >= amount for name, amount in need.items()) for node in nodes):
        largest: dict[str, float] = max(nodes, key=lambda node: (node.get("GPU", 0), node.get("CPU", 0)), default={})
        have = ", ".join(f"{name}: {largest.get(name, 0):g}" for name in need)
        wanted = ", ".join(f"{name}: {amount:g}" for name, amount in need.items())
        raise StudyError(
            f"0 of {len(nodes)} nodes can host a trial of {{{wanted}}}: the largest has {{{have}}}; "
            "lower resources.cpus_per_trial or resources.gpus_per_trial, or add a node"
        )


def check_disk(study: Study, work: Place, plan: Plan) -> None:
    """Refuses activations that the work directory's disk would not hold; object storage is not asked.

    Raises:
        StudyError: they would not fit.
    """
    if not work.is_local:
        return
    images = sum(person.n_images for person in plan.splits.patients if person.role == "train")
    width = np.dtype(study.activation_dtype).itemsize
    need = 0
    for dataset in study.datasets:
        missing = [which for which in plan.activation_sets(dataset) if not which.exists(work)]
        need += sum(images * width * prod(activation_shape(study.images.size, which.freeze_point)) for which in missing)
    free = shutil.disk_usage(work.path()).free
    if need > free:
        raise StudyError(
            f"{work.uri}: the activations of {images} images need {need / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; "
            "use activation_dtype: float16, fewer freeze_points or datasets, selection.max_slices, or a larger disk"
        )
