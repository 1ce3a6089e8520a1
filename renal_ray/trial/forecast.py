"""What a sweep costs: the floor that arithmetic sets, and the time that measured steps predict."""

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import ceil
from statistics import median

from renal_ray.model.flops import TRAINED_PASSES, prefix_gflops, suffix_gflops
from renal_ray.protocol.splits import TRAIN
from renal_ray.trial.packing import share
from renal_ray.trial.plan import Plan, Results
from renal_ray.trial.probe import Probe, kind_name
from renal_ray.trial.sides import sides_of
from renal_ray.trial.spec import Sides, TrialSpec
from renal_ray.types import FREEZE_POINTS, FreezePoint, Head, Label


@dataclass(frozen=True)
class Load:
    """Samples of one trial: slices for the image head, patients for fc and gru.

    Args:
        train: balanced samples of an epoch.
        validation: samples scored after each epoch.
    """

    train: int
    validation: int


def trial_load(plan: Plan, head: Head, fold: int) -> Load:
    """How much a trial of a head on a fold trains on and scores."""
    validation, classes = 0, dict.fromkeys(Label, 0)
    for person in plan.splits.patients:
        samples = person.n_images if head is Head.IMAGE else 1
        if person.fold == fold:
            validation += samples
        elif person.role == TRAIN:
            classes[Label(person.label)] += samples
    return Load(train=2 * max(classes.values()), validation=validation)


def load_of(plan: Plan, spec: TrialSpec) -> Load:
    """How much a trial trains on and scores, whoever its sides are."""
    if spec.sides is None:
        return trial_load(plan, spec.head, spec.fold)
    fold = sides_of(spec, plan.splits, plan.scanners)
    samples = {
        person.patient_id: person.n_images if spec.head is Head.IMAGE else 1
        for person in plan.splits.patients
    }
    classes = dict.fromkeys(Label, 0)
    for patient in fold.train:
        classes[Label(plan.splits.labels[patient])] += samples[patient]
    return Load(
        train=2 * max(classes.values()),
        validation=sum(samples[patient] for patient in fold.validation),
    )


@dataclass(frozen=True)
class Floor:
    """The arithmetic that no sweep can do without, GFLOP.

    Args:
        suffixes: training of the image trials that select a freeze point, of all repeats, by freeze
            point: three forward passes of the suffix for each image.
        prefix: one pass of every training image of every dataset through the frozen layers.
    """

    suffixes: Mapping[FreezePoint, float]
    prefix: float

    @property
    def total(self) -> float:
        return self.prefix + sum(self.suffixes.values())


def floor_of(plan: Plan) -> Floor:
    """The floor of a study's image trials, multiply and add counted apart."""
    study = plan.study
    selecting = plan.selecting_specs(study.datasets[0], study.freeze_points[0])
    images = (
        sum(load_of(plan, spec).train for spec in selecting)
        * study.training.epochs.image
        * len(study.datasets)
    )
    each = {
        point: TRAINED_PASSES * suffix_gflops(study.images.size, point)
        for point in study.freeze_points
    }
    seen = sum(person.n_images for person in plan.splits.patients if person.role == "train") * len(
        study.datasets
    )
    deepest = max(prefix_gflops(study.images.size, point) for point in study.freeze_points)
    return Floor({point: images * cost for point, cost in each.items()}, seen * deepest)


class Forecast:
    """Seconds of a study's trials, from those that are finished, else from the probe.

    Args:
        plan: the study's trials.
        results: results of finished trials.
        probe: measured steps, where there are some for the study's setting.
    """

    def __init__(self, plan: Plan, results: Results, probe: Probe | None) -> None:
        self._plan = plan
        self._probe = probe
        self._results = results
        self._loads: dict[tuple[Head, int, Sides | None], Load] = {}
        self.specs = list(_all_specs(plan, results))
        seen: dict[str, list[float]] = {}
        for spec in self.specs:
            if spec.trial_id in results:
                seen.setdefault(kind_name(spec.head, spec.freeze_point), []).append(
                    results[spec.trial_id]["seconds"]["total"] / self._steps(spec)
                )
        self._per_step = {kind: median(values) for kind, values in seen.items()}

    def _load(self, spec: TrialSpec) -> Load:
        # Counted once for each head and both sides: the console asks for all trials whenever one of
        # them ends.
        key = spec.head, spec.fold, spec.sides
        if key not in self._loads:
            self._loads[key] = load_of(self._plan, spec)
        return self._loads[key]

    def _steps(self, spec: TrialSpec) -> int:
        return spec.epochs * ceil(self._load(spec).train / spec.training.batch_size)

    def seconds(self, spec: TrialSpec) -> float | None:
        """How long one trial takes without compilation; None where nothing tells."""
        kind = kind_name(spec.head, spec.freeze_point)
        if kind in self._per_step:
            return self._per_step[kind] * self._steps(spec)
        cost = self._probe.kinds.get(kind) if self._probe else None
        if cost is None:
            return None
        scored = spec.epochs * ceil(self._load(spec).validation / spec.training.batch_size)
        # The steps were measured alone. Trials that share a card are taken to wait for each other:
        # what they gain by sharing is not known.
        gpu = share(self._plan.study.resources, spec, self._probe).gpu
        # Where images are varied anew in every epoch, the frozen layers are no work done once.
        frozen = (
            spec.epochs * self._load(spec).train * self._probe.prefix_s_per_image
            if self._probe and spec.training.augmentation.bypasses
            else 0.0
        )
        return (self._steps(spec) * cost.step_s + scored * cost.score_s + frozen) / (
            gpu if 0 < gpu < 1 else 1
        )

    def remaining(self, slots: int) -> float | None:
        """Seconds until the last trial ends, with so many trials at once; None where nothing tells
        of some kind."""
        waiting = [spec for spec in self.specs if spec.trial_id not in self._results]
        durations = [self.seconds(spec) for spec in waiting]
        if any(one is None for one in durations):
            return None
        compiled = 0.0
        if self._probe:
            kinds = {kind_name(spec.head, spec.freeze_point) for spec in waiting}
            compiled = sum(
                cost.first_s for kind, cost in self._probe.kinds.items() if kind in kinds
            )  # every worker compiles, all at once
        return (
            self._prefix_seconds() / slots
            + compiled
            + makespan([one for one in durations if one is not None], slots)
        )

    def _prefix_seconds(self) -> float:
        study = self._plan.study
        fresh = [
            dataset
            for dataset in study.datasets
            if not any(
                spec.trial_id in self._results for spec in self.specs if spec.dataset == dataset
            )
        ]
        images = sum(
            person.n_images for person in self._plan.splits.patients if person.role == "train"
        )
        return len(fresh) * images * self._probe.prefix_s_per_image if self._probe else 0.0


def _all_specs(plan: Plan, results: Results) -> Iterable[TrialSpec]:
    """Every trial of the study; where a freeze point is not selected yet, the middle one stands for
    it."""
    named = plan.specs(results)
    yield from named
    points = sorted(plan.study.freeze_points, key=FREEZE_POINTS.index)
    middle = points[len(points) // 2]
    for dataset in plan.study.datasets:
        if plan.selected(dataset, results) is None:
            yield from plan.following(dataset, middle)


def makespan(durations: list[float], slots: int) -> float:
    """End of the last trial when the longest waiting one always goes to the first free place
    (Graham 1969).

    Args:
        durations: seconds of each trial.
        slots: places.
    """
    ends = [0.0] * max(1, slots)
    for one in sorted(durations, reverse=True):
        heapq.heapreplace(ends, ends[0] + one)
    return max(ends)
