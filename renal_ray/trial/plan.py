"""Which trials a study has, as a function of the study file, the prepared slices and the trials
that are finished."""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from renal_ray.config import PROVENANCE, Study
from renal_ray.problems import StudyError
from renal_ray.protocol.redraw import redraw
from renal_ray.protocol.scanners import Scanner, scanners_of
from renal_ray.protocol.selection import select_freeze_point
from renal_ray.protocol.splits import SplitSet
from renal_ray.store.activations import ActivationSet
from renal_ray.store.ledger import Ledger
from renal_ray.store.place import Place, digest
from renal_ray.store.slices import Slices
from renal_ray.trial import prepared
from renal_ray.trial.sides import Scanners, make_sides, read_scanners
from renal_ray.trial.spec import (
    TRUE_LABELS,
    Inputs,
    Sides,
    TrialSpec,
    cost_rank,
    make_spec,
    permuted_name,
)
from renal_ray.types import Dataset, FreezePoint, Head

WEIGHTS_RECIPE = "2"  # raised whenever the same seed gives other random weights
Results = Mapping[str, Mapping[str, Any]]  # trial_id -> result.json


@dataclass(frozen=True)
class Plan:
    """The trials of a study.

    Args:
        study: the study.
        splits: who trains, validates and is sealed.
        inputs: per dataset, the hashes of what its trials read.
        scanners: scanner of each training patient who has one named; read only where one is to be
            left out.
    """

    study: Study
    splits: SplitSet
    inputs: Mapping[Dataset, Inputs]
    scanners: Scanners = field(default_factory=dict)
    _made: dict[tuple[Any, ...], TrialSpec] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )  # each is made and named once
    _sides: dict[tuple[Any, ...], Sides] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __getstate__(self) -> dict[str, Any]:
        """Travels without the specifications made so far: they can be thousands, and follow from
        the rest."""
        return {**self.__dict__, "_made": {}}

    @property
    def repeats(self) -> range:
        """Numbers of the repeats; 0 is the study itself."""
        return range(self.study.repeats)

    @cached_property
    def scanner_levels(self) -> list[Scanner]:
        """The scanners of the training patients, where one is to be left out in turn; each says
        whether it can be."""
        robustness = self.study.robustness
        return (
            scanners_of(self.splits, self.scanners, least=robustness.scanner_patients)
            if robustness.leave_scanner_out
            else []
        )

    def image_specs(
        self,
        dataset: Dataset,
        freeze_point: FreezePoint,
        labels: str = TRUE_LABELS,
        *,
        repeat: int = 0,
    ) -> list[TrialSpec]:
        """The image trials of one dataset and freeze point, fold by fold, in the study itself or a
        repeat of it."""
        return [
            self._spec(
                dataset,
                freeze_point,
                Head.IMAGE,
                fold,
                labels=labels,
                sides=self._sides_of(fold, repeat=repeat) if repeat else None,
            )
            for fold in self.study.fold_numbers
        ]

    def head_specs(
        self, dataset: Dataset, freeze_point: FreezePoint, *, repeat: int = 0
    ) -> list[TrialSpec]:
        """The fc and gru trials on the image trials of one dataset and freeze point, in the study
        itself or a repeat of it."""
        heads = [head for head in self.study.heads.use if head is not Head.IMAGE]
        images = self.image_specs(dataset, freeze_point, repeat=repeat)
        return [
            self._spec(
                dataset,
                freeze_point,
                head,
                image.fold,
                image_trial=image.trial_id,
                sides=image.sides,
            )
            for head in heads
            for image in images
        ]

    def selecting_specs(self, dataset: Dataset, freeze_point: FreezePoint) -> list[TrialSpec]:
        """The image trials whose mean validation AUC a freeze point is judged by: those of the
        study and of all repeats."""
        return [
            spec
            for repeat in self.repeats
            for spec in self.image_specs(dataset, freeze_point, repeat=repeat)
        ]

    def learning_specs(self, dataset: Dataset, freeze_point: FreezePoint) -> list[TrialSpec]:
        """The image trials on shares of each fold's training patients."""
        shares = self.study.robustness.learning_curve
        return [
            self._image(dataset, freeze_point, fold, self._sides_of(fold, share=share))
            for share in shares
            for fold in self.study.fold_numbers
        ]

    def scanner_specs(self, dataset: Dataset, freeze_point: FreezePoint) -> list[TrialSpec]:
        """The image trials that leave one scanner out, which have no folds: theirs is called 0."""
        return [
            self._image(dataset, freeze_point, 0, self._sides_of(0, scanner=one.name))
            for one in self.scanner_levels
            if one.is_left_out
        ]

    def activation_sets(
        self, dataset: Dataset, *, computed: Collection[FreezePoint] = ()
    ) -> list[ActivationSet]:
        """The activations that a dataset's image trials read, one set for each freeze point that is
        not `computed` anew in every epoch."""
        return [
            self.image_specs(dataset, freeze_point)[0].activations
            for freeze_point in self.study.freeze_points
            if freeze_point not in computed
        ]

    def selected(self, dataset: Dataset, results: Results) -> FreezePoint | None:
        """The freeze point with the highest mean validation AUC of the image head over folds and
        repeats; None until all of them are finished."""
        aucs: dict[FreezePoint, list[float | None]] = {}
        for freeze_point in self.study.freeze_points:
            specs = self.selecting_specs(dataset, freeze_point)
            if any(spec.trial_id not in results for spec in specs):
                return None
            aucs[freeze_point] = [
                results[spec.trial_id]["levels"]["slice"]["metrics"]["auc"] for spec in specs
            ]
        return select_freeze_point(aucs)

    def specs(self, results: Results) -> list[TrialSpec]:
        """Every trial that can be named now, the longest first; more can be named once the freeze
        points are selected.

        Args:
            results: results of finished trials; those of other studies do no harm.
        """
        specs = [
            spec for dataset in self.study.datasets for spec in self._of_dataset(dataset, results)
        ]
        return sorted(specs, key=cost_rank)

    def total(self) -> int:
        """Number of trials in the whole study."""
        point, everywhere = self.study.freeze_points[0], len(self.study.freeze_points)
        each = len(self.study.fold_numbers) * self.study.repeats * everywhere + sum(
            1 for _ in self.following(self.study.datasets[0], point)
        )
        if self.study.heads.freeze_points == "all":
            each += (
                (len(self.study.heads.use) - 1)
                * len(self.study.fold_numbers)
                * self.study.repeats
                * everywhere
            )
        return len(self.study.datasets) * each

    def beside(self) -> dict[str, int]:
        """Numbers of the trials that are in none of the study's main tables, by family: repeats,
        learning curve, leave-one-scanner-out; those there are."""
        study, point = self.study, self.study.freeze_points[0]
        specs = [
            spec
            for repeat in self.repeats[1:]
            for one in study.freeze_points
            for spec in self.image_specs(study.datasets[0], one, repeat=repeat)
        ]
        if study.heads.freeze_points == "all":
            specs += [
                spec
                for repeat in self.repeats[1:]
                for one in study.freeze_points
                for spec in self.head_specs(study.datasets[0], one, repeat=repeat)
            ]
        counts = Counter(
            family(spec)
            for spec in (*specs, *self.following(study.datasets[0], point))
            if spec.sides is not None
        )
        return {name: count * len(study.datasets) for name, count in counts.items()}

    def following(self, dataset: Dataset, selected: FreezePoint) -> Iterator[TrialSpec]:
        """The trials that can be named once a dataset's freeze point is selected."""
        if self.study.heads.freeze_points == "selected":
            for repeat in self.repeats:
                yield from self.head_specs(dataset, selected, repeat=repeat)
        if self.study.controls.permuted_labels:
            for index in range(self.study.controls.permutations):
                yield from self.image_specs(dataset, selected, permuted_name(index))
        yield from self.learning_specs(dataset, selected)
        yield from self.scanner_specs(dataset, selected)

    def _of_dataset(self, dataset: Dataset, results: Results) -> Iterator[TrialSpec]:
        for freeze_point in self.study.freeze_points:
            yield from self.selecting_specs(dataset, freeze_point)
        if self.study.heads.freeze_points == "all":
            for freeze_point in self.study.freeze_points:
                for repeat in self.repeats:
                    yield from self.head_specs(dataset, freeze_point, repeat=repeat)
        if (selected := self.selected(dataset, results)) is not None:
            yield from self.following(dataset, selected)

    def _sides_of(self, fold: int, **which: Any) -> Sides:
        key = (fold, *which.items())
        if key not in self._sides:
            self._sides[key] = make_sides(self.splits, fold, scanners=self.scanners, **which)
        return self._sides[key]

    def _image(
        self, dataset: Dataset, freeze_point: FreezePoint, fold: int, sides: Sides
    ) -> TrialSpec:
        return self._spec(dataset, freeze_point, Head.IMAGE, fold, sides=sides)

    def _spec(
        self, dataset: Dataset, freeze_point: FreezePoint, head: Head, fold: int, **more: Any
    ) -> TrialSpec:
        """A trial; `more` is what `make_spec` takes: labels, image_trial, sides."""
        key = (dataset, freeze_point, head, fold, *more.items())
        if key not in self._made:
            inputs = self.inputs[dataset]
            self._made[key] = make_spec(
                self.study,
                dataset=dataset,
                freeze_point=freeze_point,
                head=head,
                fold=fold,
                inputs=inputs,
                **more,
            )
        return self._made[key]


def family(spec: TrialSpec) -> str:
    """What a trial beside the study's own folds is for."""
    if spec.sides is None:
        return "study" if not spec.apart else "permuted labels"
    if spec.sides.scanner is not None:
        return "leave-one-scanner-out"
    return "repeats" if spec.sides.repeat else "learning curve"


def keep_repeats(plan: Plan, work: Place) -> None:
    """Writes the folds of each repeat beside splits.json, in its format, for whoever wants to read
    them; here they follow from splits.json itself."""
    wanted = {
        f"splits-repeat{repeat}.json": redraw(plan.splits, repeat).to_json()
        for repeat in plan.repeats[1:]
    }
    for name in work.entries():
        if name.startswith("splits-repeat") and name not in wanted:
            work.remove(name)
    for name, value in wanted.items():
        if not work.exists(name) or work.read_json(name) != value:
            work.write_json(name, value)


def make_plan(study: Study, work: Place) -> Plan:
    """The plan of a prepared study.

    Raises:
        StudyError: the study is not prepared, or with other settings, or a weights file is missing.
    """
    prepared.require(study, work)
    splits = prepared.read_splits(work)
    scanners = read_scanners(work, splits.training) if study.robustness.leave_scanner_out else {}
    named = prepared.split_hash(work, splits)
    inputs = {}
    for dataset in study.datasets:
        slices = Slices(work, dataset, sealed=splits.test).digest(splits.training)
        inputs[dataset] = Inputs(
            slices=slices, splits=named, weights=weights_hash(study, work, slices)
        )
    return Plan(study, splits, inputs, scanners)


def weights_hash(study: Study, work: Place, slices: str) -> str:
    """Names the backbone's weights.

    Random weights follow from seed, size and the slices that set their statistics; ImageNet's from
    Keras; a file's from its bytes, or, where only the work directory is at hand, from the hash that
    study.yaml recorded.

    Raises:
        StudyError: the file is neither here nor recorded.
    """
    if study.weights == "random":
        return digest(
            [
                "random",
                WEIGHTS_RECIPE,
                study.backend,
                str(study.seed),
                str(study.images.size),
                slices,
            ]
        )
    if study.weights == "imagenet":
        return digest(["imagenet", "keras.applications.InceptionV3"])
    file = Path(study.weights)
    if file.is_file():
        return hashlib.sha256(file.read_bytes()).hexdigest()
    recorded = yaml.safe_load(work.read("study.yaml")) if work.exists("study.yaml") else {}
    if recorded.get("weights") == study.weights and "weights" in recorded.get(PROVENANCE, {}).get(
        "hashes", {}
    ):
        return str(recorded[PROVENANCE]["hashes"]["weights"])
    raise StudyError(
        f"weights: {study.weights} is no file; give imagenet, random or "
        "the path of an InceptionV3 weights file"
    )


def finished_results(work: Place) -> dict[str, dict[str, Any]]:
    """Results of all finished trials in a work directory, of this and of earlier settings."""
    return Ledger(work).survey().results
