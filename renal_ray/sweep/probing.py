"""plan --probe: one step of each distinct kind of trial, measured where trials would run."""

import os
from pathlib import Path
from time import perf_counter
from typing import Any

from renal_ray.config import Study
from renal_ray.problems import StudyError
from renal_ray.progress import progress
from renal_ray.store.place import Place
from renal_ray.sweep.cluster import cluster, study_errors
from renal_ray.sweep.devices import check_devices
from renal_ray.sweep.fits import check_fits, promised
from renal_ray.trial.probe import KindCost, Probe, kind_name, setting, write_probe
from renal_ray.trial.process import Setup, TrialProcess
from renal_ray.trial.spec import TrialSpec, kinds

READ_BYTES = 256 * 2**20


def probe_study(study: Study, address: str | None = None) -> Probe:
    """Measures what a study's steps cost and keeps it in its work directory; the study need not be
    prepared.

    Args:
        study: the study.
        address: of a running Ray cluster; None starts a local one.

    Returns:
        The costs.

    Raises:
        StudyError: no node can host a trial, or a kind of trial cannot be run at all; the message
            names it.
    """
    import ray

    with (
        cluster(study.resources, address),
        study_errors(),
        progress("probe: kinds of trial") as show,
    ):
        check_fits(study)
        check_devices(study)
        share = {
            "num_cpus": study.resources.cpus_per_trial,
            "num_gpus": study.resources.gpus_per_trial,
        }
        # One after the other: costs of trials side by side are another measurement.
        task = ray.remote(**share)(_measure)
        specs = list(kinds(study))
        machine = ray.get(task.remote(study, None))
        costs = {}
        for done, spec in enumerate(specs, start=1):
            costs[kind_name(spec.head, spec.freeze_point)] = KindCost.model_validate(
                ray.get(task.remote(study, spec))
            )
            show(done, len(specs))
    probe = Probe(setting=setting(study), kinds=costs, **machine)
    write_probe(Place(study.work), probe)
    return probe


def _measure(study: Study, spec: TrialSpec | None) -> dict[str, Any]:
    """One kind, or without one the machine, in a process of its own: its memory is that kind's
    alone."""
    process = TrialProcess(Setup.of(study, promised(study)), most_tasks=1, most_mib=float("inf"))
    try:
        if spec is not None:
            return process.measure({"spec": spec.to_json()})
        prefix = {
            "size": study.images.size,
            "freeze_points": [str(one) for one in study.freeze_points],
            "batch_size": study.training.batch_size,
        }
        return process.measure({"prefix": prefix, "precision": study.precision}) | {
            "read_mib_s": _read_mib_s(Place(study.work))
        }
    except RuntimeError as error:
        what = f"{spec.head} at {spec.freeze_point}" if spec else "the frozen layers"
        raise StudyError(
            f"plan --probe: {what} cannot be run here: {error}; lower "
            "training.batch_size or give trials more with resources"
        ) from None
    finally:
        process.close()


def _read_mib_s(work: Place) -> float:
    """Bandwidth of reading from the work directory what is not in memory."""
    name = ".tmp-read-probe"
    work.write(name, os.urandom(2**20) * (READ_BYTES // 2**20))
    try:
        if work.is_local:
            _forget(work.path(name))
        begun = perf_counter()
        work.read(name)
        return READ_BYTES / 2**20 / (perf_counter() - begun)
    finally:
        work.remove(name)


def _forget(path: Path) -> None:
    """Drops a file from the page cache; it was flushed when it was written."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
