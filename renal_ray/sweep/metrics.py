"""What Prometheus sees of a sweep: Ray's agent on every node serves it, each name with `ray_` in
front.

Ray reports a gauge once for each time it is set, and its agent drops what has not been reported for
twenty seconds. So what stands is said again every few seconds, and a trial that has ended is
forgotten by saying nothing more: its series end within half a minute, and at one time there are as
many as trials run. Counters and histograms stay, and so have no trial among their tags. No tag
holds anything of a patient.
"""

import threading
from collections import Counter as Tally
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from ray.util.metrics import Counter, Gauge, Histogram

from renal_ray.trial.plan import Plan
from renal_ray.trial.spec import TRUE_LABELS, TrialSpec

REPEAT_S = 4.0  # well within Ray's reporting interval of ten seconds

KIND_TAGS = ("study", "dataset", "freeze_point", "head", "labels")
TRIAL_TAGS = (*KIND_TAGS, "fold", "trial")
GAUGES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "renal_trial_running": ("1 while a trial runs, 0 for a moment when it has ended.", TRIAL_TAGS),
    "renal_trial_epoch": ("Epochs that a running trial has done.", TRIAL_TAGS),
    "renal_trial_epochs": ("Epochs that a running trial will do.", TRIAL_TAGS),
    "renal_trial_loss": ("Training loss of a running trial's last epoch.", TRIAL_TAGS),
    "renal_trial_val_auc": ("Validation AUC after a running trial's last epoch.", TRIAL_TAGS),
    "renal_trial_images_per_second": (
        "Training images, or patients for fc and gru, a second in a running trial's last epoch.",
        TRIAL_TAGS,
    ),
    "renal_trial_eta_seconds": ("Seconds until a running trial has done its epochs.", TRIAL_TAGS),
    "renal_trials": (
        "Trials of a study by state: finished, failed, running, waiting.",
        (*KIND_TAGS, "state"),
    ),
    "renal_sweep_eta_seconds": (
        "Predicted seconds until the last trial of a study ends.",
        ("study",),
    ),
}
ENDED = "renal_trials_ended"  # Prometheus sees it as ray_renal_trials_ended_total
SECONDS = "renal_trial_seconds"
SECONDS_BOUNDS = [1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 4 * 3600.0, 12 * 3600.0]
# Freeze point of patient-level trials and controls until the image trials have chosen it.
NOT_SELECTED = "not selected yet"

Tags = Mapping[str, str]


class Follower(Protocol):
    """Is told of every trial of a sweep, in the driver."""

    def started(self, spec: TrialSpec) -> None: ...

    def told(self, spec: TrialSpec, progress: Mapping[str, Any]) -> None: ...

    def finished(self, spec: TrialSpec, result: Mapping[str, Any]) -> None: ...

    def failed(self, spec: TrialSpec) -> None: ...

    def lost(self, spec: TrialSpec) -> None: ...

    def close(self) -> None: ...


def kind_tags(study: str, spec: TrialSpec) -> dict[str, str]:
    """Tags of a trial's dataset, freeze point and head."""
    return dict(
        zip(
            KIND_TAGS,
            (
                study,
                str(spec.dataset),
                str(spec.freeze_point),
                str(spec.head),
                spec.apart or TRUE_LABELS,
            ),
            strict=True,
        )
    )


class Standing:
    """Gauges that are said again until they are dropped."""

    def __init__(self) -> None:
        self._gauges = {name: Gauge(name, about, tags) for name, (about, tags) in GAUGES.items()}
        self._standing: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._repeat, daemon=True)
        self._thread.start()

    def set(self, name: str, value: float | None, tags: Tags) -> None:
        """Sets a gauge; None says that there is nothing to say of it."""
        key = name, frozenset(tags.items())
        with self._lock:
            if value is None:
                self._standing.pop(key, None)
            else:
                self._standing[key] = value
                self._gauges[name].set(value, dict(tags))

    def drop(self, tags: Tags) -> None:
        """Forgets all gauges of these tags."""
        dropped = frozenset(tags.items())
        with self._lock:
            self._standing = {
                key: value for key, value in self._standing.items() if key[1] != dropped
            }

    def close(self) -> None:
        """Says nothing more."""
        self._over.set()
        self._thread.join()

    def _repeat(self) -> None:
        while not self._over.wait(REPEAT_S):
            with self._lock:
                for (name, tags), value in self._standing.items():
                    self._gauges[name].set(value, dict(tags))


class TrialMetrics:
    """What a worker tells of the trial that it runs, one trial after another.

    Args:
        study: name of the study.
    """

    def __init__(self, study: str) -> None:
        self._study = study
        self._standing = Standing()
        self._tags: Tags = {}

    def begin(self, spec: TrialSpec) -> None:
        """A trial starts."""
        self.end()
        self._tags = kind_tags(self._study, spec) | {"fold": str(spec.fold), "trial": spec.trial_id}
        self._standing.set("renal_trial_running", 1, self._tags)
        self._standing.set("renal_trial_epochs", spec.epochs, self._tags)
        self._standing.set("renal_trial_epoch", 0, self._tags)

    def tell(self, told: Mapping[str, Any]) -> None:
        """The trial has told how far it is, see `renal_ray.trial.progress.Pace`."""
        for name in ("epoch", "epochs", "loss", "val_auc", "images_per_second"):
            self._standing.set(f"renal_trial_{name}", told[name], self._tags)
        self._standing.set("renal_trial_eta_seconds", told["eta_s"], self._tags)

    def end(self) -> None:
        """The trial has ended, however."""
        if self._tags:
            self._standing.set("renal_trial_running", 0, self._tags)
            self._standing.drop(self._tags)
            self._tags = {}

    def close(self) -> None:
        """The worker ends."""
        self.end()
        self._standing.close()


class SweepMetrics:
    """What the driver tells of a sweep: trials by state, what has ended, the time that is left. A
    `Follower`.

    Args:
        plan: the study's trials.
        results: results of finished trials.
        specs: every trial that can be named, by id.
    """

    def __init__(
        self, plan: Plan, results: Mapping[str, Any], specs: Mapping[str, TrialSpec]
    ) -> None:
        self._study = plan.study.name
        self._standing = Standing()
        self._ended = Counter(
            ENDED, "Trials that have ended in this sweep, by outcome.", (*KIND_TAGS, "outcome")
        )
        self._seconds = Histogram(
            SECONDS, "Seconds that finished trials took.", SECONDS_BOUNDS, KIND_TAGS
        )
        self._states = {trial_id: "finished" for trial_id in specs if trial_id in results}
        self._count: Tally[tuple[tuple[str, ...], str]] = Tally()
        for trial_id, spec in specs.items():
            self._count[self._kind(spec), self._states.get(trial_id, "waiting")] += 1
        for spec in _unnamed(plan, results):
            study, dataset, _, head, labels = self._kind(spec)
            self._count[(study, dataset, NOT_SELECTED, head, labels), "waiting"] += 1
        for (kind, _), _ in list(self._count.items()):
            self._show(kind)

    def started(self, spec: TrialSpec) -> None:
        """A trial runs."""
        self._move(spec, "running")

    def told(self, spec: TrialSpec, progress: Mapping[str, Any]) -> None:
        """Nothing: the worker's own gauges say it."""

    def finished(self, spec: TrialSpec, result: Mapping[str, Any]) -> None:
        """A trial has its result."""
        self._move(spec, "finished")
        self._ended.inc(1, kind_tags(self._study, spec) | {"outcome": "finished"})
        self._seconds.observe(result["seconds"]["total"], kind_tags(self._study, spec))

    def failed(self, spec: TrialSpec) -> None:
        """A trial has ended without one."""
        self._move(spec, "failed")
        self._ended.inc(1, kind_tags(self._study, spec) | {"outcome": "failed"})

    def lost(self, spec: TrialSpec) -> None:
        """A trial has lost its process or node, and waits to be tried again."""
        self._move(spec, "waiting")
        self._ended.inc(1, kind_tags(self._study, spec) | {"outcome": "lost"})

    def left(self, seconds: float | None) -> None:
        """The time that is left, None where nothing tells."""
        self._standing.set("renal_sweep_eta_seconds", seconds, {"study": self._study})

    def close(self) -> None:
        """The sweep ends."""
        self._standing.close()

    def _kind(self, spec: TrialSpec) -> tuple[str, ...]:
        return tuple(kind_tags(self._study, spec).values())

    def _move(self, spec: TrialSpec, state: str) -> None:
        kind, before = self._kind(spec), self._states.get(spec.trial_id, "waiting")
        origin = kind
        if not self._count[kind, before]:  # its freeze point has been selected meanwhile
            origin = (*kind[:2], NOT_SELECTED, *kind[3:])
        self._count[origin, before] -= 1
        self._count[kind, state] += 1
        self._states[spec.trial_id] = state
        self._show(origin)
        self._show(kind)

    def _show(self, kind: tuple[str, ...]) -> None:
        for state in ("finished", "failed", "running", "waiting"):
            self._standing.set(
                "renal_trials",
                self._count[kind, state],
                dict(zip(KIND_TAGS, kind, strict=True)) | {"state": state},
            )


def _unnamed(plan: Plan, results: Mapping[str, Any]) -> Iterator[TrialSpec]:
    """Trials whose freeze point is not selected yet; any one stands for it."""
    for dataset in plan.study.datasets:
        if plan.selected(dataset, results) is None:
            yield from plan.following(dataset, plan.study.freeze_points[0])
