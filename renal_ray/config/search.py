"""What a search over settings tries, and when it stops trying."""

from math import prod
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from renal_ray.config.section import Section
from renal_ray.config.training import Training
from renal_ray.types import Dataset, FreezePoint, Head

Value = str | bool | int | float
MOST_COMBINATIONS = 10_000  # of a grid


class Span(Section):
    """All numbers from one to another."""

    low: float = Field(description="smallest number that is tried")
    high: float = Field(description="largest number that is tried")
    log: bool = Field(False, description="draw the logarithm evenly, not the number itself")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low {self.low:g} is not below high {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"low {self.low:g} has no logarithm; give one above 0, or log: false")
        return self


class WholeSpan(Span):
    """All whole numbers from one to another."""

    low: int = Field(description="smallest number that is tried")
    high: int = Field(description="largest number that is tried")


class AugmentationSpace(Section):
    """Which variations of training images are tried."""

    flip: list[bool] | None = Field(None, min_length=1, description="whether images are mirrored")
    rotate_deg: Span | list[float] | None = Field(None, description="largest angle, degrees")
    hu_jitter: Span | list[float] | None = Field(
        None, description="largest shift of the attenuation, HU"
    )
    copies: list[int] | None = Field(
        None,
        min_length=1,
        description="0: varied in every epoch, past the cache; n: n copies in memory",
    )


class Space(Section):
    """Which settings are tried: each a list of values, or low and high; what is left out stays as
    in the study file."""

    learning_rate: Span | list[float] | None = Field(
        None, description="learning rate of the optimizer"
    )
    momentum: Span | list[float] | None = Field(
        None, description="momentum of sgd, beta 1 of adam and adamw"
    )
    optimizer: list[Literal["sgd", "adam", "adamw"]] | None = Field(
        None, min_length=1, description="kinds of optimizer"
    )
    batch_size: WholeSpan | list[int] | None = Field(None, description="samples in a step")
    weight_decay: Span | list[float] | None = Field(None, description="penalty on kernels")
    dropout: Span | list[float] | None = Field(
        None, description="share of the softmax layer's inputs that is dropped"
    )
    embedding: WholeSpan | list[int] | None = Field(None, description="width of the embedding")
    label_smoothing: Span | list[float] | None = Field(
        None, description="share of the label's weight that is spread over both classes"
    )
    gru_units: WholeSpan | list[int] | None = Field(
        None, description="width of each GRU layer; for head: gru"
    )
    gru_layers: WholeSpan | list[int] | None = Field(
        None, description="number of GRU layers; for head: gru"
    )
    gru_l2: Span | list[float] | None = Field(
        None, description="L2 penalty on the GRU kernels; for head: gru"
    )
    freeze_point: list[FreezePoint] | None = Field(
        None, min_length=1, description="last frozen layer"
    )
    augmentation: AugmentationSpace = Field(
        AugmentationSpace(), description="variations of training images"
    )

    @property
    def dimensions(self) -> dict[str, "Span | list[Any]"]:
        """What is tried, by name; variations of images as augmentation.flip and so on."""
        own = {
            name: getattr(self, name) for name in type(self).model_fields if name != "augmentation"
        }
        own |= {
            f"augmentation.{name}": getattr(self.augmentation, name)
            for name in AugmentationSpace.model_fields
        }
        return {name: tried for name, tried in own.items() if tried is not None}

    @model_validator(mode="after")
    def _legal(self) -> Self:
        for name, tried in self.dimensions.items():
            values = [tried.low, tried.high] if isinstance(tried, Span) else tried
            if not values:
                raise ValueError(f"{name}: no value is listed")
            if len(set(values)) != len(values):
                raise ValueError(f"{name}: a value is listed twice in {values}")
            for value in values if name != "freeze_point" else ():
                try:
                    Training.model_validate(nested({name: value}))
                except ValidationError as error:
                    raise ValueError(
                        f"{name}: {value} cannot be tried: "
                        f"{error.errors(include_url=False)[0]['msg']}"
                    ) from None
        return self


class Screening(Section):
    """Asynchronous successive halving on one fold before the others are trained."""

    fold: int | None = Field(
        None, ge=0, description="fold that screens; the first of those that are run when omitted"
    )
    min_epochs: int = Field(
        2,
        ge=1,
        description=(
            "epochs of the first rung; each further rung has `eta` "
            "times as many, the last one all of them"
        ),
    )
    eta: int = Field(3, ge=2, description="one of so many goes on from each rung to the next")


class Stopping(Section):
    """When a configuration is given up before all its folds are trained."""

    folds: int = Field(
        2,
        ge=2,
        description=(
            "folds that are compared with the best configuration's before the first decision"
        ),
    )
    alpha: float = Field(0.1, gt=0, lt=0.5, description="one-sided level of the paired comparison")


class Search(Section):
    """A search over training settings; each configuration is judged by its mean validation AUC over
    folds."""

    space: Space = Field(description="which settings are tried")
    sampler: Literal["tpe", "random", "grid"] = Field(
        "tpe", description="Tree-structured Parzen estimator, random, or all combinations of lists"
    )
    configurations: int = Field(
        30,
        ge=1,
        description="how many are tried, the study file's own among them; a grid tries all",
    )
    startup: int = Field(
        8, ge=1, description="configurations drawn at random before tpe learns from them"
    )
    dataset: Dataset | None = Field(
        None, description="dataset that is searched on; the study's first when omitted"
    )
    head: Head = Field(
        Head.IMAGE,
        description="whose validation AUC judges: image per slice, fc and gru per patient",
    )
    freeze_point: FreezePoint | None = Field(
        None,
        description=(
            "last frozen layer of the study file's own settings; the study's deepest when omitted"
        ),
    )
    stop: Stopping | None = Field(
        Stopping(),
        description=(
            "early stopping on paired fold scores; null trains every fold of every configuration"
        ),
    )
    screen: Screening | None = Field(None, description="screening on one fold before; null: none")
    nested: bool = Field(
        False,
        description=(
            "repeat the search without each fold, and judge its "
            "winner on that fold: the AUC to report"
        ),
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        tried = self.space.dimensions
        if not tried:
            raise ValueError(
                "space: nothing is to be searched; give at least one setting, e.g. "
                "learning_rate: {low: 0.001, high: 0.1, log: true}"
            )
        if self.sampler == "grid" and (
            spans := [name for name, one in tried.items() if isinstance(one, Span)]
        ):
            raise ValueError(
                f"space.{spans[0]}: sampler: grid needs lists of values; "
                "list some, or use sampler: random or tpe"
            )
        if (
            self.sampler == "grid"
            and (size := prod(len(one) for one in tried.values() if isinstance(one, list)))
            > MOST_COMBINATIONS
        ):
            raise ValueError(
                f"space: {size:,} combinations are more than {MOST_COMBINATIONS:,}; "
                "list fewer values, or use sampler: random or tpe"
            )
        if self.head is not Head.GRU and (
            unread := [name for name in tried if name.startswith("gru_")]
        ):
            raise ValueError(
                f"space.{unread[0]}: the {self.head} head does not read it; search with head: gru"
            )
        if self.freeze_point is not None and "freeze_point" in tried:
            raise ValueError("freeze_point: it is searched over in space; give it in one place")
        return self


def nested(values: dict[str, Any]) -> dict[str, Any]:
    """Settings by name, augmentation.flip and so on gathered under augmentation; as the section
    `training` takes them.

    Args:
        values: by the names of `Space.dimensions`, without freeze_point.
    """
    own = {name: value for name, value in values.items() if "." not in name}
    augmentation = {name.partition(".")[2]: value for name, value in values.items() if "." in name}
    return own | ({"augmentation": augmentation} if augmentation else {})
