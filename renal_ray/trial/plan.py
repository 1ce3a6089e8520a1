"""Which trials a study has, as a function of the study file, the prepared slices and the trials that are finished."""

import hashlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from renal_ray.config import PROVENANCE, Study
from renal_ray.problems import StudyError
from renal_ray.protocol.selection import select_freeze_point
from renal_ray.protocol.splits import SplitSet
from renal_ray.store.activations import ActivationSet
from renal_ray.store.ledger import Ledger
from renal_ray.store.place import Place, digest
from renal_ray.store.slices import Slices
from renal_ray.trial import prepared
from renal_ray.trial.spec import TRUE_LABELS, Inputs, TrialSpec, cost_rank, make_spec, permuted_name
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
    """

    study: Study
    splits: SplitSet
    inputs: Mapping[Dataset, Inputs]
    _made: dict[tuple[str | int | None, ...], TrialSpec] = field(default_factory=dict, init=False, repr=False, compare=False)  # each is made and named once

    def __getstate__(self) -> dict[str, Any]:
        """Travels without the specifications made so far: they can be thousands, and follow from the rest."""
        return {**self.__dict__, "_made": {}}

    def image_specs(self, dataset: Dataset, freeze_point: FreezePoint, labels: str = TRUE_LABELS) -> list[TrialSpec]:
        """The image trials of one dataset and freeze point, fold by fold."""
        return [self._spec(dataset, freeze_point, Head.IMAGE, fold, labels=labels) for fold in self.study.fold_numbers]

    def head_specs(self, dataset: Dataset, freeze_point: FreezePoint) -> list[TrialSpec]:
        """The fc and gru trials on the image trials of one dataset and freeze point."""
        heads = [head for head in self.study.heads.use if head is not Head.IMAGE]
        images = self.image_specs(dataset, freeze_point)
        return [self._spec(dataset, freeze_point, head, image.fold, image_trial=image.trial_id) for head in heads for image in images]

    def activation_sets(self, dataset: Dataset, *, computed: Collection[FreezePoint] = ()) -> list[ActivationSet]:
        """The activations that a dataset's image trials read, one set for each freeze point that is not `computed` anew in every epoch."""
        return [self.image_specs(dataset, freeze_point)[0].activations for freeze_point in self.study.freeze_points if freeze_point not in computed]

    def selected(self, dataset: Dataset, results: Results) -> FreezePoint | None:
        """The freeze point with the highest mean validation AUC of the image head; None until all of them are finished."""
        aucs: dict[FreezePoint, list[float | None]] = {}
        for freeze_point in self.study.freeze_points:
            specs = self.image_specs(dataset, freeze_point)
            if any(spec.trial_id not in results for spec in specs):
                return None
            aucs[freeze_point] = [results[spec.trial_id]["levels"]["slice"]["metrics"]["auc"] for spec in specs]
        return select_freeze_point(aucs)

    def specs(self, results: Results) -> list[TrialSpec]:
        """Every trial that can be named now, the longest first; more can be named once the freeze points are selected.

        Args:
            results: results of finished trials; those of other studies do no harm.
        """
        specs = [spec for dataset in self.study.datasets for spec in self._of_dataset(dataset, results)]
        return sorted(specs, key=cost_rank)

    def total(self) -> int:
        """Number of trials in the whole study."""
        folds, freeze_points = len(self.study.fold_numbers), len(self.study.freeze_points)
        heads = len(self.study.heads.use) - 1
        controls = self.study.controls.permutations if self.study.controls.permuted_labels else 0
        per_dataset = freeze_points + heads * (1 if self.study.heads.freeze_points == "selected" else freeze_points) + controls
        return len(self.study.datasets) * folds * per_dataset

    def _of_dataset(self, dataset: Dataset, results: Results) -> Iterator[TrialSpec]:
        for freeze_point in self.study.freeze_points:
            yield from self.image_specs(dataset, freeze_point)
        selected = self.selected(dataset, results)
        if self.study.heads.freeze_points == "all":
            for freeze_point in self.study.freeze_points:
                yield from self.head_specs(dataset, freeze_point)
        elif selected is not None:
            yield from self.head_specs(dataset, selected)
        if selected is not None and self.study.controls.permuted_labels:
            for index in range(self.study.controls.permutations):
                yield from self.image_specs(dataset, selected, permuted_name(index))

    def _spec(
        self, dataset: Dataset, freeze_point: FreezePoint, head: Head, fold: int, *, labels: str = TRUE_LABELS, image_trial: str | None = None
    ) -> TrialSpec:
        key = (dataset, freeze_point, head, fold, labels, image_trial)
        if key not in self._made:
            self._made[key] = make_spec(
                self.study,
                dataset=dataset,
                freeze_point=freeze_point,
                head=head,
                fold=fold,
                inputs=self.inputs[dataset],
                labels=labels,
                image_trial=image_trial,
            )
        return self._made[key]


def read_splits(work: Place) -> SplitSet:
    """The split that prepare drew."""
    return SplitSet.from_json(work.read_json("splits.json"))


def make_plan(study: Study, work: Place) -> Plan:
    """The plan of a prepared study.

    Raises:
        StudyError: the study is not prepared, or with other settings, or a weights file is missing.
    """
    prepared.require(study, work)
    splits = read_splits(work)
    split_hash = digest([work.read("splits.json")])
    inputs = {}
    for dataset in study.datasets:
        slices = Slices(work, dataset, sealed=splits.test).digest(splits.training)
        inputs[dataset] = Inputs(slices=slices, splits=split_hash, weights=weights_hash(study, work, slices))
    return Plan(study, splits, inputs)


def weights_hash(study: Study, work: Place, slices: str) -> str:
    """Names the backbone's weights.

    Random weights follow from seed, size and the slices that set their statistics; ImageNet's from Keras; a file's from its bytes,
    or, where only the work directory is at hand, from the hash that study.yaml recorded.

    Raises:
        StudyError: the file is neither here nor recorded.
    """
    if study.weights == "random":
        return digest(["random", WEIGHTS_RECIPE, study.backend, str(study.seed), str(study.images.size), slices])
    if study.weights == "imagenet":
        return digest(["imagenet", "keras.applications.InceptionV3"])
    file = Path(study.weights)
    if file.is_file():
        return hashlib.sha256(file.read_bytes()).hexdigest()
    recorded = yaml.safe_load(work.read("study.yaml")) if work.exists("study.yaml") else {}
    if recorded.get("weights") == study.weights and "weights" in recorded.get(PROVENANCE, {}).get("hashes", {}):
        return str(recorded[PROVENANCE]["hashes"]["weights"])
    raise StudyError(f"weights: {study.weights} is no file; give imagenet, random or the path of an InceptionV3 weights file")


def finished_results(work: Place) -> dict[str, dict[str, Any]]:
    """Results of all finished trials in a work directory, of this and of earlier settings."""
    return Ledger(work).survey().results
