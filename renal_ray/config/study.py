"""The study file as one validated object."""

from typing import Literal, Self

from pydantic import Field, model_validator

from renal_ray.config.cohort import Cohort, Images, Selection, Split
from renal_ray.config.explain import Explain
from renal_ray.config.running import Resources, Tracking
from renal_ray.config.search import Search
from renal_ray.config.section import Section
from renal_ray.config.statistics import Statistics
from renal_ray.config.training import Controls, Folds, Heads, Robustness, Threshold, Training
from renal_ray.types import DATASETS, FREEZE_POINTS, Dataset, FreezePoint

NAMED_WEIGHTS = ("imagenet", "random")  # any other value of weights is a path


PROVENANCE = (
    "provenance"  # key of the resolved study.yaml that says with what it was run; not configuration
)


class Study(Section):
    """A whole study."""

    name: str = Field(
        min_length=1, pattern=r"^[\w.-]+$", description="name of the study, for the report"
    )
    work: str = Field(
        min_length=1,
        description=(
            "work directory: a local or NFS path, "
            "s3://bucket/prefix[?endpoint_override=URL] or "
            "gs://bucket/prefix"
        ),
    )
    seed: int = Field(
        17,
        ge=0,
        lt=2**31,
        description="seed of the split, the folds, the sampling and random weights",
    )
    cohort: Cohort = Field(description="where the patients come from")
    datasets: list[Dataset] = Field(
        list(DATASETS), min_length=1, description="datasets to train on"
    )
    freeze_points: list[FreezePoint] = Field(
        list(FREEZE_POINTS), min_length=1, description="freeze points to train at"
    )
    selection: Selection = Field(Selection(), description="which slices are kept")
    images: Images = Field(Images(), description="what the network sees of a slice")
    split: Split = Field(Split(), description="who is sealed away")
    folds: Folds = Field(Folds(), description="cross-validation")
    heads: Heads = Field(Heads(), description="models on the features")
    weights: str = Field(
        "imagenet",
        min_length=1,
        description=(
            "imagenet, random, or the path of an InceptionV3 weights file (.h5, .weights.h5)"
        ),
    )
    training: Training = Field(Training(), description="how one model is trained")
    activation_dtype: Literal["float16", "float32"] = Field(
        "float32", description="number format of the cached activations"
    )
    cache: Literal["auto", "always", "never"] = Field(
        "auto",
        description=(
            "keep the activations on disk: where they fit and reading them "
            "costs less than computing, or always, or never"
        ),
    )
    backend: Literal["tensorflow", "jax"] = Field(
        "tensorflow", description="what Keras computes with"
    )
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = Field(
        "float32", description="numbers that the image head's layers compute with"
    )
    calibrate: Literal["none", "platt", "isotonic", "temperature"] = Field(
        "none",
        description=(
            "how a fold model's scores become probabilities; fitted on its own validation fold"
        ),
    )
    threshold: Threshold = Field(Threshold(), description="from probabilities to decisions")
    repeats: int = Field(
        1,
        ge=1,
        description=(
            "times that the study is run, each with other seeds and with "
            "the training patients dealt to other folds"
        ),
    )
    robustness: Robustness = Field(Robustness(), description="other patients, scanners and masks")
    search: Search | None = Field(
        None, description="search over training settings, for `renal-ray search`; null: none"
    )
    controls: Controls = Field(Controls(), description="negative controls")
    explain: Explain = Field(Explain(), description="where the image models look")
    resources: Resources = Field(Resources(), description="what the machine lends")
    statistics: Statistics = Field(
        Statistics(), description="how the report says that its numbers are uncertain"
    )
    tracking: Tracking = Field(Tracking(), description="where progress is written too")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for name in ("datasets", "freeze_points"):
            values = getattr(self, name)
            if len(set(values)) != len(values):
                raise ValueError(f"{name}: a value is listed twice in {[str(v) for v in values]}")
        if self.folds.run is not None and not set(self.folds.run) <= set(range(self.folds.n)):
            raise ValueError(
                f"folds.run: {self.folds.run} names folds outside 0..{self.folds.n - 1}"
            )
        return self

    @model_validator(mode="after")
    def _searchable(self) -> Self:
        search = self.search
        if search is None:
            return self
        if search.dataset is not None and search.dataset not in self.datasets:
            raise ValueError(
                f"search.dataset: {search.dataset} is none of the study's "
                f"datasets {[str(one) for one in self.datasets]}"
            )
        if search.head not in self.heads.use:
            raise ValueError(
                f"search.head: {search.head} is none of the study's heads "
                f"{[str(one) for one in self.heads.use]}"
            )
        if (
            search.screen is not None
            and search.screen.fold is not None
            and search.screen.fold not in self.fold_numbers
        ):
            raise ValueError(
                f"search.screen.fold: {search.screen.fold} is none of the "
                f"folds that are run, {self.fold_numbers}"
            )
        if search.nested and self.training.keep != "last":
            raise ValueError(
                "search.nested: training.keep must be last, or the fold that judges "
                "would choose the epoch; leave one of them out"
            )
        if search.nested and (self.folds.n < 3 or len(self.fold_numbers) < 3):
            raise ValueError(
                "search.nested: at least 3 folds are needed, one outside and two "
                "within; raise folds.n, or leave folds.run out"
            )
        return self

    @property
    def fold_numbers(self) -> list[int]:
        """The folds to train, ascending."""
        return (
            sorted(set(self.folds.run)) if self.folds.run is not None else list(range(self.folds.n))
        )
