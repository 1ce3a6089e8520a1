"""What would stop a study later stops it before any work."""

from importlib.util import find_spec

from renal_ray.config import Study
from renal_ray.problems import StudyError
from renal_ray.sweep.cluster import study_errors
from renal_ray.sweep.mlflow_runs import require_mlflow
from renal_ray.trial.workshop import configure_keras


def preflight(study: Study) -> None:
    """Checks nodes, backend and weights.

    Raises:
        StudyError: no node can host a trial, the backend or MLflow is not installed, or the weights cannot be had.
    """
    import ray

    check_fits(study)
    require_mlflow(study)
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
