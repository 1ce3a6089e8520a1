"""What would stop a study later stops it before any work, in seconds."""

from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

from renal_ray.config import NAMED_WEIGHTS, Study
from renal_ray.problems import StudyError, reason
from renal_ray.store.place import Place
from renal_ray.sweep.cards import check_cards
from renal_ray.sweep.cluster import study_errors
from renal_ray.sweep.devices import check_devices
from renal_ray.sweep.fits import check_fits, promised
from renal_ray.sweep.mlflow_runs import require_mlflow
from renal_ray.sweep.node_checks import Question, Report, asker, look
from renal_ray.sweep.nodes import Node, alive_nodes, ask_all
from renal_ray.trial.cards import EXTRA, settle
from renal_ray.trial.packing import share
from renal_ray.trial.plan import weights_hash
from renal_ray.trial.probe import read_probe
from renal_ray.trial.spec import kinds
from renal_ray.trial.workshop import backbone_file

Checked = list[tuple[Node, Report]]


def preflight(study: Study) -> Checked:
    """Checks that the study's trials can run: versions, work directory, weights and cards of every
    node, whether the framework sees these, and room for trials.

    What need not stop the study is printed.

    Returns:
        The nodes on which something can run, with what they say of themselves.

    Raises:
        StudyError: something would stop the study; the message names the node, or MLflow where it
            is asked for and not installed.
    """
    require_mlflow(study)
    work = Place(study.work)
    checked = check_nodes(study, weights=_weights_file(study, work))
    probe = read_probe(work, study)
    shares = {promised(study), *(share(study.resources, spec, probe) for spec in kinds(study))}
    check_fits(study, sorted(shares, reverse=True))
    if least := min((one.gpu for one in shares if one.gpu), default=0):
        for line in check_cards([(node, report.cards) for node, report in checked], min(1, least)):
            print(line, flush=True)
        check_devices(study, min(one for one in shares if one.gpu))
    if study.weights == "random" or work.exists(backbone_file(weights_hash(study, work, ""))):
        return checked
    import ray

    with study_errors():
        ray.get(ray.remote(**_ray_share(study), max_calls=1)(_load_weights).remote(study))
    return checked


def _ray_share(study: Study) -> dict[str, float]:
    return {"num_cpus": study.resources.cpus_per_trial, "num_gpus": study.resources.gpus_per_trial}


def _weights_file(study: Study, work: Place) -> str | None:
    """The weights file that every node must have; none once the work directory holds the
    backbone."""
    if study.weights in NAMED_WEIGHTS or work.exists(backbone_file(weights_hash(study, work, ""))):
        return None
    return study.weights


def _load_weights(study: Study) -> None:
    settle(study)
    from renal_ray.model.backbone import build_backbone
    from renal_ray.model.weights import load_weights

    load_weights(build_backbone(study.images.size), study.weights)


def check_nodes(
    study: Study, *, weights: str | None = None, inputs: Sequence[Path] = ()
) -> Checked:
    """Asks every node for its versions, and those that can run anything for the work directory and
    files.

    Args:
        study: the study.
        weights: path of a weights file that they must have.
        inputs: paths of the cohort that they must have.

    Returns:
        The nodes that can run anything, with their reports.

    Raises:
        StudyError: a node differs from this machine, does not answer, or lacks something.
    """
    nodes = alive_nodes()
    _check_versions(study, nodes)
    work = Place(study.work)
    nonce = f".tmp-preflight-{uuid4().hex}"
    try:
        work.write(nonce, nonce.encode())
    except OSError as error:
        raise StudyError(
            f"work: {work.shown()} cannot be written ({reason(error)}); give a directory that can"
        ) from None
    try:
        question = Question(work, nonce, weights, tuple(str(path) for path in inputs))
        checked = list(ask_all([node for node in nodes if node.hosts_work], look, question))
    finally:
        work.remove(nonce)
    for node, report in checked:
        _check_report(study, work, node, report)
    return checked


def _check_versions(study: Study, nodes: Sequence[Node]) -> None:
    ask = asker(("ray", "keras", study.backend, "renal-ray"))
    here = ask()
    if study.backend == "jax" and here["jax"] == "none":
        extra = EXTRA["jax"] if study.resources.gpus_per_trial else "jax"
        raise StudyError(
            "backend: jax is not installed here; run `pip install "
            f"'renal-ray[{extra}]'` on every node, or choose tensorflow"
        )
    for node, there in ask_all(nodes, ask):
        differing = [
            f"{name} {there[name]} (here {here[name]})"
            for name in here
            if there[name] != here[name]
        ]
        if differing:
            raise StudyError(
                f"node {node.name} runs {', '.join(differing)}: install the same "
                "environment on every node, then start Ray there again"
            )


def _check_report(study: Study, work: Place, node: Node, report: Report) -> None:
    if not report.sees_driver:
        what = (
            "give a shared file system or s3://bucket/prefix"
            if work.is_local
            else "check its endpoint, its credentials and its clock"
        )
        raise StudyError(
            f"work: {work.shown()} is not shared: node {node.name} does not "
            f"see what this machine wrote there; {what}"
        )
    if report.write_error:
        raise StudyError(
            f"work: {work.shown()} cannot be written from node {node.name} "
            f"({report.write_error}); give a directory that every node can write"
        )
    if report.missing_inputs:
        raise StudyError(
            f"cohort: {report.missing_inputs[0]} is not on node {node.name}; put "
            "it where every node sees it under the same path"
        )
    if report.weights_error or (report.weights and report.weights != weights_hash(study, work, "")):
        why = (
            f"cannot be read ({report.weights_error})"
            if report.weights_error
            else "has other bytes"
        )
        raise StudyError(
            f"weights: {study.weights} {why} on node {node.name}; put the "
            "same file under the same path on every node"
        )
