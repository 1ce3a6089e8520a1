"""What a trial is: everything that decides its numbers, and the name that follows from it."""

import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from pydantic import Field

from renal_ray import __version__
from renal_ray.config import NAMED_WEIGHTS, Section, Study, Training
from renal_ray.store.activations import ActivationSet, activation_key
from renal_ray.store.place import digest
from renal_ray.types import FREEZE_POINTS, HEADS, Dataset, FreezePoint, Head

TRUE_LABELS = "true"
SLUG = re.compile(r"[^a-z0-9]")  # what of a scanner's name does not belong into that of a folder


def permuted_name(index: int) -> str:
    """Name of the label set of one permutation."""
    return f"permuted-{index}"


def main_level(head: Head) -> str:
    """Level at which the paper's tables give a head: slices for the image head, patients for the
    others."""
    return "slice" if head is Head.IMAGE else "patient"


# Fields that came later: at their defaults they name nothing.
LATER = {"outer", "sides"}
LATER_TRAINING = {
    "optimizer",
    "weight_decay",
    "dropout",
    "label_smoothing",
    "gru_layers",
    "augmentation",
}


class Inputs(Section):
    """Hashes of what a trial reads."""

    slices: str = Field(description="pixels of the training patients' slices of the dataset")
    splits: str = Field(description="splits.json")
    weights: str = Field(description="weights of the backbone")
    code: str = Field(__version__, description="version of renal-ray")


class Sides(Section):
    """Who trains and validates in a trial, where that is not the study's own fold; only one of the
    first three is not at its default."""

    repeat: int = Field(
        0, ge=0, description="which dealing of the training patients to folds; 0 is the study's own"
    )
    share: float = Field(
        1, gt=0, le=1, description="share of the fold's training patients that is trained on"
    )
    scanner: str | None = Field(
        None,
        description="scanner whose training patients validate, while those of all others train",
    )
    patients: str = Field(
        description="hash of the patients on both sides, held against them when the trial is fed"
    )

    @property
    def name(self) -> str:
        """Repeat-1, share-0.25 or without-<scanner>, the scanner's name cut down to letters and
        digits."""
        if self.scanner is not None:
            return f"without-{SLUG.sub('', self.scanner.lower())[:24] or 'scanner'}"
        return f"repeat-{self.repeat}" if self.repeat else f"share-{self.share:g}"


class TrialSpec(Section):
    """One model trained on one fold."""

    dataset: Dataset = Field(description="what of an axial image the network sees")
    freeze_point: FreezePoint = Field(description="last frozen layer")
    head: Head = Field(description="image, fc or gru")
    fold: int = Field(ge=0, description="validation fold")
    labels: str = Field(TRUE_LABELS, description="true, or permuted-<n> for a negative control")
    sides: Sides | None = Field(
        None,
        description=(
            "who trains and validates, where it is not the study's "
            "own fold; a fold is then the repeat's"
        ),
    )
    seed: int = Field(description="seed of head weights and sampling, its own for every trial")
    size: int = Field(description="edge of the images in pixels")
    epochs: int = Field(ge=1, description="passes over the balanced training set")
    training: Training = Field(description="how the model is trained")
    weights: str = Field(description="imagenet, random or the name of the weights file")
    backend: str = Field(description="Keras backend")
    precision: str = Field(
        "float32",
        description=(
            "numbers that the layers compute with; the patient-level "
            "heads, which cost nothing, stay at float32"
        ),
    )
    activation_dtype: str = Field(description="number format of the cached activations")
    outer: int | None = Field(
        None,
        description="fold that is left out altogether: the outer one of a nested cross-validation",
    )
    image_trial: str | None = Field(
        None, description="trial whose embeddings an fc or gru head reads"
    )
    inputs: Inputs = Field(description="hashes of what the trial reads")

    @cached_property
    def trial_id(self) -> str:
        """Readable name and a hash of everything above, e.g. roi-mixed6-gru-fold2-1a2b3c4d."""
        apart = f"-{self.apart.replace('-', '')}" if self.apart else ""
        short = digest([self._named_by()])[:8]
        return f"{self.dataset}-{self.freeze_point}-{self.head}{apart}-fold{self.fold}-{short}"

    def _named_by(self) -> str:
        """JSON of what the name follows from: settings that came later are left out at their
        defaults, so that older trials keep their names."""
        unset = {
            name
            for name in LATER_TRAINING
            if getattr(self.training, name) == Training.model_fields[name].default
        }
        return self.model_dump_json(
            exclude={"training": unset, **dict.fromkeys(self._absent, True)}
        )

    @property
    def _absent(self) -> set[str]:
        """What is not said where it says nothing: trials of the study's own folds keep the names
        that they had before there were others."""
        return {
            name for name in LATER if getattr(self, name) == type(self).model_fields[name].default
        }

    @property
    def apart(self) -> str:
        """What sets a trial apart from those of the study's tables: permuted-0, repeat-1,
        share-0.25, without-<scanner> or outer-2; empty for the others."""
        if self.sides is not None:
            return self.sides.name
        if self.outer is not None:
            return f"outer-{self.outer}"
        return "" if self.labels == TRUE_LABELS else self.labels

    @property
    def selects(self) -> bool:
        """Whether the selection of its dataset's freeze point waits for it: image trials of the
        study and of its repeats."""
        return self.head is Head.IMAGE and (not self.apart or self.is_repeat)

    @property
    def is_repeat(self) -> bool:
        """Whether it is of another dealing of the training patients to folds than the study's
        own."""
        return self.sides is not None and self.sides.repeat > 0

    def __copy__(self) -> Self:
        """A copy without the name: `model_copy` may change what the name follows from."""
        copied = super().__copy__()
        copied.__dict__.pop("trial_id", None)
        return copied

    @property
    def is_short(self) -> bool:
        """Whether its steps, and their compilation, are nothing beside those of a convolutional
        suffix."""
        return self.head is not Head.IMAGE or self.freeze_point is FreezePoint.MIXED10

    @property
    def activations(self) -> ActivationSet:
        """The cached activations that the image trial reads."""
        key = activation_key(
            slices=self.inputs.slices,
            weights=self.inputs.weights,
            size=self.size,
            dtype=self.activation_dtype,
        )
        return ActivationSet(self.dataset, self.freeze_point, key)

    def to_json(self) -> dict[str, Any]:
        """The specification with its trial_id, as in spec.json: of `training` only the settings
        that
        the head reads, and no epochs, which stand above it. `from_json` gives the same trial."""
        written = self.model_dump(mode="json", exclude=self._absent)
        read = read_by(self.head, self.training)
        return {
            "trial_id": self.trial_id,
            **written,
            "training": {
                name: value for name, value in written["training"].items() if name in read
            },
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "TrialSpec":
        """Reads what `to_json` wrote."""
        return cls.model_validate({key: value for key, value in data.items() if key != "trial_id"})


def make_spec(
    study: Study,
    *,
    dataset: Dataset,
    freeze_point: FreezePoint,
    head: Head,
    fold: int,
    inputs: Inputs,
    labels: str = TRUE_LABELS,
    outer: int | None = None,
    image_trial: str | None = None,
    sides: Sides | None = None,
) -> TrialSpec:
    """The specification of one trial of a study.

    Args:
        study: the study.
        dataset: what of an axial image the network sees.
        freeze_point: last frozen layer.
        head: image, fc or gru.
        fold: validation fold.
        inputs: hashes of what the dataset's trials read.
        labels: true, or permuted-<n>.
        outer: fold that is left out altogether.
        image_trial: for fc and gru, the image trial of the same dataset, freeze point and fold.
        sides: who trains and validates, where it is not the study's own fold.
    """
    drawn = [] if sides is None else [sides.model_dump_json(exclude={"patients"})]
    seed = (
        int(
            digest([str(study.seed), dataset, freeze_point, head, str(fold), labels, *drawn])[:8],
            16,
        )
        % 2**31
    )
    return TrialSpec(
        dataset=dataset,
        freeze_point=freeze_point,
        head=head,
        fold=fold,
        labels=labels,
        sides=sides,
        seed=seed,
        size=study.images.size,
        epochs=getattr(study.training.epochs, head),
        training=_relevant(study.training, head),
        weights=study.weights if study.weights in NAMED_WEIGHTS else Path(study.weights).name,
        backend=study.backend,
        precision=study.precision if head is Head.IMAGE else "float32",
        activation_dtype=study.activation_dtype,
        outer=outer,
        image_trial=image_trial,
        inputs=inputs,
    )


def kinds(study: Study) -> Iterator[TrialSpec]:
    """One trial of every kind that a study has, for what does not depend on data: its inputs are
    empty."""
    heads = [(Head.IMAGE, freeze_point) for freeze_point in study.freeze_points]
    heads += [(head, study.freeze_points[-1]) for head in study.heads.use if head is not Head.IMAGE]
    for head, freeze_point in heads:
        inputs = Inputs(slices="", splits="", weights="")
        yield make_spec(
            study,
            dataset=study.datasets[0],
            freeze_point=freeze_point,
            head=head,
            fold=0,
            inputs=inputs,
        )


def read_by(head: Head, training: Training) -> set[str]:
    """Names of the settings of `training` that a head reads, besides its epochs."""
    read = {
        "batch_size",
        "learning_rate",
        "momentum",
        "keep",
        "embedding",
        "optimizer",
        "weight_decay",
        "dropout",
        "label_smoothing",
    }
    read |= {
        Head.IMAGE: {"bn_statistics", "augmentation"},
        Head.FC: set(),
        Head.GRU: {"gru_units", "gru_layers", "gru_l2"},
    }[head]
    if not training.augmentation.is_on:
        read.discard("augmentation")  # copies of what is not varied are none
    return read


def _relevant(training: Training, head: Head) -> Training:
    """The settings that this head reads, all others at their defaults: a changed GRU width must not
    name new image trials."""
    return Training(**{name: getattr(training, name) for name in read_by(head, training)})


def cost_rank(spec: TrialSpec) -> tuple[int, int]:
    """Sort key that puts the longest trials first: shallow freeze points train the most layers."""
    return (HEADS.index(spec.head), FREEZE_POINTS.index(spec.freeze_point))
